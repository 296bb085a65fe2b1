//! Signals: signal(7). Sets and per-task state here; delivery to guest code in `deliver`.

use machine::sync::Mutex;

/// A set of signals: bit n-1 is signal n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigSet(pub u64);

/// What a signal carries: the fields of siginfo_t that its kind has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigInfo {
    /// Signal number.
    pub signal: i32,
    /// si_code.
    pub code: i32,
    /// si_pid, or the timer id.
    pub pid: i32,
    /// si_uid, or the overrun count.
    pub uid: u32,
    /// si_value, si_status, or si_addr.
    pub value: u64,
}

/// Signal state of a task.
#[derive(Debug, Default)]
pub struct TaskSignals {
    /// Blocked.
    pub mask: Mutex<SigSet>,
}
