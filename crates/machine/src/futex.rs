//! How many threads sleep at private futexes of guests: a wake for nobody makes no host call.
//!
//! A bucket counts those whose words fall to it, of all memories. A waiter counts itself, then has the host compare the word and
//! sleep; a waker has stored the word, then looks at the count: with a full barrier on either side one of both sees the other.
//! A sleeper that the host killed stays counted, which costs calls only.

use crate::cpu;
use core::sync::atomic::{AtomicU32, Ordering, fence};

const BUCKETS: usize = 1024;

/// A requeue moves sleepers to another word, whose bucket does not know them: it counts for never empty.
const MOVED_TO: u32 = 1 << 31;

static WAITERS: [AtomicU32; BUCKETS] = [const { AtomicU32::new(0) }; BUCKETS];

fn bucket(word: u64) -> &'static AtomicU32 {
    // Of memories made one after the other the same word falls to different buckets.
    let key = (word >> 2).wrapping_add(cpu::current().memory.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32);
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    &WAITERS[mixed as usize % BUCKETS]
}

/// A thread that sleeps, or is about to.
#[derive(Debug)]
pub(crate) struct Waiter(&'static AtomicU32);

impl Waiter {
    /// The calling thread will sleep at `word` of its memory.
    pub(crate) fn at(word: u64) -> Waiter {
        let count = bucket(word);
        count.fetch_add(1, Ordering::SeqCst);
        Waiter(count)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether somebody may sleep at `word` of the calling thread's memory.
pub(crate) fn may_sleep_at(word: u64) -> bool {
    fence(Ordering::SeqCst);
    bucket(word).load(Ordering::Relaxed) != 0
}

/// Sleepers may be moved to `word`.
pub(crate) fn moves_to(word: u64) {
    bucket(word).fetch_or(MOVED_TO, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::{Waiter, may_sleep_at, moves_to};

    #[test]
    fn a_sleeper_is_known_while_it_sleeps() {
        // Other tests use none of these words.
        let word = 0x7000_1000;
        assert!(!may_sleep_at(word));
        let (one, other) = (Waiter::at(word), Waiter::at(word));
        drop(one);
        assert!(may_sleep_at(word));
        drop(other);
        assert!(!may_sleep_at(word));
    }

    #[test]
    fn where_sleepers_were_moved_some_may_sleep_for_ever() {
        let word = 0x7000_2000;
        moves_to(word);
        drop(Waiter::at(word));
        assert!(may_sleep_at(word));
    }
}
