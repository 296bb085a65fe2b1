//! Sets of signals.

use super::NSIG;

/// A set of signals: bit n-1 is signal n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigSet(pub u64);

impl SigSet {
    /// The set of one signal; empty for a number that is none.
    #[must_use]
    pub const fn of(signal: i32) -> SigSet {
        if signal >= 1 && signal <= NSIG { SigSet(1 << (signal - 1)) } else { SigSet(0) }
    }

    /// Whether the signal is in.
    #[must_use]
    pub const fn has(self, signal: i32) -> bool {
        SigSet::of(signal).0 & self.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn union(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }

    /// Without the other.
    #[must_use]
    pub const fn without(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Lowest signal in the set.
    #[must_use]
    pub fn first(self) -> Option<i32> {
        if self.0 == 0 { None } else { i32::try_from(self.0.trailing_zeros()).ok().map(|n| n + 1) }
    }
}
