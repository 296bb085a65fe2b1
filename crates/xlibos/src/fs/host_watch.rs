//! How long what the host said holds: until the supervisor's change word for it changes, or for a second where the
//! host does not tell of changes. See docs/design/0010.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use machine::changes;

/// What never held.
pub(super) const OUTDATED: u64 = u64::MAX;

/// The change word of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    index: u32,
    /// The word may be silent about some changes: a second is as long as anything holds.
    is_timed: bool,
}

impl Word {
    /// The word that changes with a directory's names and attributes.
    pub(super) fn of(inode: u64, is_timed: bool) -> Word {
        Word { index: u32::try_from(abi::boot::change_word(inode)).unwrap_or(0), is_timed }
    }

    /// The same word, with less trust or more.
    pub(super) fn timed(self, is_timed: bool) -> Word {
        Word { is_timed, ..self }
    }

    pub(super) fn is_timed(self) -> bool {
        self.is_timed
    }

    /// The word itself.
    pub(super) fn value(self) -> u64 {
        u64::from(changes::word(self.index as usize))
    }

    /// What is learned now holds as long as this stays the same.
    #[inline]
    pub(super) fn generation(self) -> u64 {
        let word = changes::word(self.index as usize);
        if self.is_timed || word & 1 != 0 { timed(word, second()) } else { u64::from(word) }
    }

    /// The same for what was learned in a second of the past, when the word gave `generation`.
    pub(super) fn generation_at(self, generation: u64, second: u32) -> u64 {
        let word = generation as u32;
        if self.is_timed || word & 1 != 0 { timed(word, second) } else { generation }
    }
}

/// Never the value of a word alone.
fn timed(word: u32, second: u32) -> u64 {
    u64::from(second) << 32 | 1 << 32 | u64::from(word)
}

/// The time in steps of a second, more or less.
pub(super) fn second() -> u32 {
    // Even, so that the bit below marks it.
    (machine::clock::monotonic_ns() >> 30 << 1) as u32
}

/// A [`Word`] that others read without a lock.
#[derive(Debug)]
pub(super) struct AtomicWord(AtomicU32);

impl AtomicWord {
    pub(super) fn new(word: Word) -> AtomicWord {
        AtomicWord(AtomicU32::new(AtomicWord::bits(word)))
    }

    fn bits(word: Word) -> u32 {
        word.index << 1 | u32::from(word.is_timed)
    }

    #[inline]
    pub(super) fn load(&self) -> Word {
        let bits = self.0.load(Ordering::Relaxed);
        Word { index: bits >> 1, is_timed: bits & 1 != 0 }
    }

    pub(super) fn store(&self, word: Word) {
        self.0.store(AtomicWord::bits(word), Ordering::Relaxed);
    }
}

/// The moment before a request: whether anything happened until its answer is told by comparing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    all: u32,
    own: u64,
    pub(super) second: u32,
}

impl Moment {
    /// Now; `own` counts the changes that the container makes itself.
    pub(super) fn now(own: &AtomicU64) -> Moment {
        Moment { all: changes::word(0), own: own.load(Ordering::Acquire), second: second() }
    }

    /// Whether the supervisor has told of no change at all since.
    pub(super) fn is_quiet(self) -> bool {
        changes::word(0) == self.all
    }

    /// Whether the container has changed nothing since.
    pub(super) fn is_alone(self, own: &AtomicU64) -> bool {
        own.load(Ordering::Acquire) == self.own
    }

    /// Whether the container has made one change since, which the caller has counted itself.
    pub(super) fn is_followed_by_one(self, own: &AtomicU64) -> bool {
        own.load(Ordering::Acquire) == self.own.wrapping_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Word, second, timed};

    #[test]
    fn what_is_timed_is_another_generation_each_second_and_never_a_plain_one() {
        let word = Word::of(7, false);
        assert_eq!(word.generation(), word.generation());
        let now = second();
        assert_ne!(timed(8, now), 8);
        assert_ne!(timed(8, now), timed(8, now.wrapping_add(2)));
        assert_ne!(timed(8, now), timed(10, now));
        assert_eq!(word.generation_at(6, now), 6);
        assert_eq!(word.timed(true).generation_at(6, now), timed(6, now));
    }

    #[test]
    fn a_word_that_tells_of_nothing_any_more_makes_its_nodes_timed() {
        assert_eq!(Word::of(7, false).generation_at(7, 4), timed(7, 4));
    }

    #[test]
    fn every_node_has_a_word_behind_the_first() {
        let words = (0..10_000).map(abi::boot::change_word);
        assert!(words.clone().all(|word| (1..abi::boot::CHANGE_WORDS).contains(&word)));
        let used: std::collections::BTreeSet<_> = words.collect();
        assert_eq!(used.len(), abi::boot::CHANGE_WORDS - 1);
    }
}
