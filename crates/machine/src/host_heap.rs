//! The heap of the build machine, which has no limit: see `heap.rs` for the arena's.

/// As the arena's: nothing.
pub fn limit(_bytes: u64) {}

/// Never.
#[inline]
#[must_use]
pub fn is_short() -> bool {
    false
}

/// Unknown.
#[must_use]
pub fn usage() -> (u64, u64) {
    (0, 0)
}

/// Threads keep none.
pub fn give_back_larger() {}
