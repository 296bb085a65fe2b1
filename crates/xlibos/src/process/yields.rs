//! Who gives the processor away again and again waits for somebody: sched_yield(2). The host has no such call for us and lets others run when
//! it likes, so after a while such a thread sleeps, for as short as the host can: whoever it waits for gets the processor. It sleeps
//! again at once where others sleep for the same reason, who may wait for it; else after the same while.

use core::sync::atomic::{AtomicU64, Ordering};

/// Yields that follow each other faster than this, in nanoseconds, have nothing in between.
const IN_TURN: u64 = 10_000;
/// How long a thread yields in turn before it sleeps: most wait for somebody who runs, and not for long.
const PATIENCE: u64 = 20_000;

/// Who slept last.
static LAST: AtomicU64 = AtomicU64::new(0);

/// When a thread began to do nothing but yield, and when it last did, in nanoseconds of CLOCK_MONOTONIC. Its own.
#[derive(Debug, Default)]
pub struct Yields {
    since: AtomicU64,
    last: AtomicU64,
}

impl Yields {
    /// The thread yields. Answers whether it had better sleep.
    pub fn note(&self, now: u64) -> bool {
        if now.saturating_sub(self.last.load(Ordering::Relaxed)) > IN_TURN {
            self.since.store(now, Ordering::Relaxed);
        }
        self.last.store(now, Ordering::Relaxed);
        now.saturating_sub(self.since.load(Ordering::Relaxed)) >= PATIENCE
    }

    /// The thread of this identity is about to sleep.
    pub fn sleeps(identity: u64) {
        LAST.store(identity, Ordering::Relaxed);
    }

    /// It has slept.
    pub fn slept(&self, identity: u64, now: u64) {
        if LAST.load(Ordering::Relaxed) == identity {
            self.since.store(now, Ordering::Relaxed);
        }
        self.last.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{IN_TURN, PATIENCE, Yields};

    #[test]
    fn who_only_yields_sleeps_after_a_while_and_is_patient_again() {
        let yields = Yields::default();
        let start = 1 << 40;
        let mut times = (start..).step_by(100);
        let first = times.find(|now| yields.note(*now));
        assert_eq!(first, Some(start + PATIENCE));
        assert!(!yields.note(start + PATIENCE + IN_TURN + 1));
    }

    #[test]
    fn who_does_something_between_yields_never_sleeps() {
        let yields = Yields::default();
        assert!(!(1..1000).any(|turn| yields.note((1 << 40) + turn * (IN_TURN + 1))));
    }
}
