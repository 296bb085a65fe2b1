//! Whether a process runs, in one word.

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It runs.
    Running,
    /// Stopped by a signal.
    Stopped(i32),
    /// Ended, with its wait status.
    Zombie(i32),
}

impl RunState {
    const STOPPED: u64 = 1 << 32;
    const ZOMBIE: u64 = 2 << 32;

    pub(super) fn to_bits(self) -> u64 {
        match self {
            RunState::Running => 0,
            RunState::Stopped(signal) => RunState::STOPPED | u64::from(signal.cast_unsigned()),
            RunState::Zombie(status) => RunState::ZOMBIE | u64::from(status.cast_unsigned()),
        }
    }

    pub(super) fn from_bits(bits: u64) -> RunState {
        let value = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0).cast_signed();
        match bits & !u64::from(u32::MAX) {
            RunState::STOPPED => RunState::Stopped(value),
            RunState::ZOMBIE => RunState::Zombie(value),
            _ => RunState::Running,
        }
    }
}
