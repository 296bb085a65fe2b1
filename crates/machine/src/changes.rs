//! Change words: by them the supervisor tells that something changed on the host. Only it writes them.

use core::sync::atomic::Ordering;

#[cfg(target_os = "none")]
use crate::boot::change_words;

/// On the build machine nobody tells anything.
#[cfg(not(target_os = "none"))]
fn change_words() -> &'static [core::sync::atomic::AtomicU32; abi::boot::CHANGE_WORDS] {
    use core::sync::atomic::AtomicU32;
    static WORDS: [AtomicU32; abi::boot::CHANGE_WORDS] = [const { AtomicU32::new(0) }; abi::boot::CHANGE_WORDS];
    &WORDS
}

/// What a change word holds now.
#[inline]
#[must_use]
pub fn word(index: usize) -> u32 {
    change_words().get(index).map_or(1, |word| word.load(Ordering::Acquire))
}
