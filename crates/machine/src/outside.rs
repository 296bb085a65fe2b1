//! What others look at of a thread, or wake it by. Not in the thread's area: that is a page a thread, which a new host process has
//! not got and would fault for.

use crate::turns::Turns;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// Of one thread. A line of the cache, so that no thread slows another one.
#[repr(align(64))]
pub(crate) struct Outside {
    /// Turn of [`crate::epoch`] at which the thread pinned the time; 0 for not at all.
    pub(crate) pinned_at: AtomicU64,
    /// Sleep word: see [`crate::sync`].
    pub(crate) wake: AtomicU32,
    /// Host thread id; the host clears and wakes it when a thread (not a process) has ended.
    pub(crate) tid: AtomicU32,
    /// Host thread id of the one that leads its host process; 0 where that is this one.
    pub(crate) leader: AtomicU32,
    /// Whose the area is.
    pub(crate) turns: Turns,
    /// Whether it is a guest's thread, which has a task.
    pub(crate) is_guests: AtomicBool,
}

impl Outside {
    /// Of an area that nobody has.
    pub(crate) const fn new() -> Outside {
        Outside {
            pinned_at: AtomicU64::new(0),
            wake: AtomicU32::new(0),
            tid: AtomicU32::new(0),
            leader: AtomicU32::new(0),
            turns: Turns::new(),
            is_guests: AtomicBool::new(false),
        }
    }
}

#[cfg(target_os = "none")]
const COUNT: usize = abi::boot::THREAD_COUNT as usize;

/// By area. Behind the rest of the data, few of whose pages are for this.
#[cfg(target_os = "none")]
// SAFETY: a section of zeros, as any other of that kind.
#[unsafe(link_section = ".bss.outside")]
static ALL: [Outside; COUNT] = [const { Outside::new() }; COUNT];

/// That of the thread with the area of this number.
#[cfg(target_os = "none")]
#[inline]
pub(crate) fn at(index: u64) -> &'static Outside {
    &ALL[index as usize % COUNT]
}
