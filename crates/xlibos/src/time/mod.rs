//! Time: clocks, timers that the service process runs, and what a process has of them.

pub mod alarm;
pub mod clock;
pub mod timer;
