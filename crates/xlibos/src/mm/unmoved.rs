//! What a thread remembers of its text: an address at which no image has moved anything. Most threads come back to one.

use super::Mm;
use super::image::Placed;
use core::sync::atomic::{AtomicU64, Ordering};
use machine::epoch::Pin;

/// Counts images that were put into any address space, and address spaces that were put in place of others.
static TURN: AtomicU64 = AtomicU64::new(1);

/// What was found may have changed: called behind the change.
pub fn note_change() {
    TURN.fetch_add(1, Ordering::SeqCst);
}

/// Used by one thread alone.
#[derive(Debug, Default)]
pub struct Unmoved {
    pc: AtomicU64,
    /// Read before the address was looked up; 0 for none.
    turn: AtomicU64,
}

impl Unmoved {
    /// Whether the guest sees `pc` as it is, and goes on there.
    #[inline]
    pub fn has(&self, pc: u64, mm: impl FnOnce(&Pin) -> bool) -> bool {
        let turn = TURN.load(Ordering::Acquire);
        if self.pc.load(Ordering::Relaxed) == pc && self.turn.load(Ordering::Relaxed) == turn {
            return true;
        }
        let is_unmoved = mm(&machine::epoch::pin());
        if is_unmoved {
            self.pc.store(pc, Ordering::Relaxed);
            self.turn.store(turn, Ordering::Relaxed);
        }
        is_unmoved
    }
}

impl Mm {
    /// Whether no image has moved what is at `pc`, or stands for something else there.
    #[must_use]
    pub fn is_unmoved(&self, pc: u64) -> bool {
        self.images.lock().iter().all(|placed: &Placed| placed.leaves(pc))
    }
}

#[cfg(test)]
mod tests {
    use super::{Unmoved, note_change};

    #[test]
    fn an_address_is_looked_up_again_behind_a_change() {
        let own = Unmoved::default();
        // Other tests change things meanwhile.
        while !(own.has(0x1000, |_| true) && own.has(0x1000, |_| false)) {}
        assert!(!own.has(0x2000, |_| false));
        note_change();
        assert!(!own.has(0x1000, |_| false));
    }
}
