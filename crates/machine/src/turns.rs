//! Whose a thread area is.

use core::sync::atomic::{AtomicU32, Ordering};

/// How often something was taken and given back: odd while somebody has it.
#[derive(Debug)]
pub(crate) struct Turns(AtomicU32);

impl Turns {
    /// Of what nobody has.
    pub(crate) const fn new() -> Turns {
        Turns(AtomicU32::new(0))
    }

    #[inline]
    pub(crate) fn is_taken(&self) -> bool {
        self.0.load(Ordering::SeqCst) % 2 == 1
    }

    /// Takes what nobody has, if `may_be_taken` finds it so and nobody has had it meanwhile.
    pub(crate) fn take(&self, may_be_taken: impl FnOnce() -> bool) -> bool {
        let seen = self.0.load(Ordering::SeqCst);
        let next = seen.wrapping_add(1);
        seen.is_multiple_of(2)
            && may_be_taken()
            && self.0.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// By who has it; by another, in the place of one that has died.
    pub(crate) fn give_back(&self) {
        let seen = self.0.load(Ordering::Relaxed);
        if seen % 2 == 1 {
            self.0.store(seen.wrapping_add(1), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn what_was_taken_and_given_back_during_the_look_is_not_taken() {
        let turns = Turns::new();
        let had_by_another = || {
            assert!(turns.take(|| true));
            turns.give_back();
            true
        };
        assert!(!turns.take(had_by_another), "the other's thread may still run there");
        assert!(!turns.is_taken() && turns.take(|| true) && turns.is_taken());
        turns.give_back();
        turns.give_back();
        assert!(!turns.is_taken(), "given back once is given back");
    }
}
