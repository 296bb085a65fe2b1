//! CPU time of a task or process that runs in one host process, or thread, after the other.

use crate::Result;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What it has used, by the host's clock of where it runs. Only the task itself moves; others read meanwhile.
#[derive(Debug, Default)]
pub struct CpuClock {
    /// What that clock showed when it came there, in nanoseconds.
    base_ns: AtomicU64,
    /// What it had used before it came there, or where it is to come: in turn, by [`CpuClock::moves`].
    carried_ns: [AtomicU64; 2],
    /// Steps of moves: odd while it is on its way.
    moves: AtomicU32,
}

impl CpuClock {
    fn carried(&self, moves: u32) -> &AtomicU64 {
        // An odd step and the next one, its arrival, carry the same.
        &self.carried_ns[usize::from(moves.wrapping_add(1) / 2 % 2 == 1)]
    }

    /// What it has used, `clock` being the host's clock of where it runs.
    ///
    /// # Errors
    /// Those of `clock`, unless it is on its way.
    pub fn used_ns(&self, clock: impl Fn() -> Result<u64>) -> Result<u64> {
        loop {
            let moves = self.moves.load(Ordering::SeqCst);
            let carried = self.carried(moves).load(Ordering::Relaxed);
            if moves % 2 == 1 {
                return Ok(carried);
            }
            let here = clock().map(|now| now.saturating_sub(self.base_ns.load(Ordering::Acquire)));
            // Another one's clock, if it has moved meanwhile.
            if self.moves.load(Ordering::SeqCst) == moves {
                return here.map(|here| here.saturating_add(carried));
            }
        }
    }

    /// It leaves where it runs, and has used so much.
    pub fn leaves(&self, used_ns: u64) {
        let step = self.moves.load(Ordering::Relaxed).wrapping_add(1);
        self.carried(step).store(used_ns, Ordering::Relaxed);
        self.moves.store(step, Ordering::SeqCst);
    }

    /// It runs where the host's clock shows `now_ns` for others.
    pub fn arrives(&self, now_ns: u64) {
        self.base_ns.store(now_ns, Ordering::Relaxed);
        if self.is_moving() {
            self.moves.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether it is on its way.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.moves.load(Ordering::Relaxed) % 2 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::CpuClock;
    use crate::Errno;

    #[test]
    fn what_was_used_goes_along_and_never_back() {
        let time = CpuClock::default();
        assert_eq!(time.used_ns(|| Ok(7)), Ok(7));
        time.arrives(5);
        assert_eq!(time.used_ns(|| Ok(7)), Ok(2));
        for used in [2, 12, 22] {
            time.leaves(used);
            // No clock is asked meanwhile.
            assert_eq!((time.used_ns(|| Err(Errno::EINVAL)), time.is_moving()), (Ok(used), true));
            time.arrives(1000 * used);
            assert_eq!((time.used_ns(|| Ok(1000 * used + 10)), time.is_moving()), (Ok(used + 10), false));
        }
        assert_eq!(time.used_ns(|| Err(Errno::EINVAL)), Err(Errno::EINVAL));
    }

    #[test]
    fn a_clock_that_was_read_before_a_move_is_not_taken_for_that_after_it() {
        let time = CpuClock::default();
        let is_first = std::cell::Cell::new(true);
        let read = time.used_ns(|| {
            if is_first.replace(false) {
                time.leaves(10);
                time.arrives(1_000_000);
                return Ok(11);
            }
            Ok(1_000_003)
        });
        assert_eq!(read, Ok(13));
    }
}
