//! Time: clocks, timers that the service process runs, and what a process has of them.

pub mod alarm;
pub mod clock;
pub mod cpu_clock;
pub mod timer;

/// What a timer is set to or what is left of it, in nanoseconds; 0 is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Until the next expiry.
    pub first_ns: u64,
    /// Between expiries.
    pub interval_ns: u64,
}
