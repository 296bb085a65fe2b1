//! The arena's heap: the global allocator of the LibOS, shared by all processes of the container.

use crate::sync::RawFutexLock;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use talc::TalcLock;
use talc::source::Manual;

/// Bytes that stay for calls that are under way, and for those that give memory back, when guests get no more.
const RESERVE: u64 = 192 << 20;
/// Bytes below the mark where memory is short until it no longer is.
const SLACK: u64 = 1 << 20;

#[global_allocator]
static HEAP: Heap = Heap {
    talc: TalcLock::new(Manual),
    used: AtomicU64::new(0),
    peak: AtomicU64::new(0),
    mark: AtomicU64::new(u64::MAX),
    short: Flag(AtomicBool::new(false)),
};

struct Heap {
    talc: TalcLock<RawFutexLock, Manual>,
    used: AtomicU64,
    peak: AtomicU64,
    /// With more than so many bytes in use memory is short.
    mark: AtomicU64,
    short: Flag,
}

/// Read by every call and hardly ever written: it shares no cache line with the counters.
#[repr(align(64))]
struct Flag(AtomicBool);

/// What an allocation takes: Talc adds a word and rounds up.
fn cost(size: usize) -> u64 {
    (size as u64 + 8).next_multiple_of(32)
}

impl Heap {
    fn grow(&self, bytes: u64) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.peak.load(Ordering::Relaxed) {
            self.peak.store(used, Ordering::Relaxed);
        }
        if used > self.mark.load(Ordering::Relaxed) {
            self.short.0.store(true, Ordering::Relaxed);
        }
    }

    fn shrink(&self, bytes: u64) {
        let used = self.used.fetch_sub(bytes, Ordering::Relaxed).wrapping_sub(bytes);
        if self.short.0.load(Ordering::Relaxed) && used.saturating_add(SLACK) < self.mark.load(Ordering::Relaxed) {
            self.short.0.store(false, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call is passed on to Talc, which upholds the contract.
unsafe impl core::alloc::GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: core::alloc::Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let ptr = unsafe { self.talc.alloc(layout) };
        if !ptr.is_null() {
            self.grow(cost(layout.size()));
        }
        ptr
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: core::alloc::Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.talc.dealloc(ptr, layout) }
        self.shrink(cost(layout.size()));
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: core::alloc::Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let ptr = unsafe { self.talc.realloc(ptr, layout, new_size) };
        if !ptr.is_null() {
            self.grow(cost(new_size));
            self.shrink(cost(layout.size()));
        }
        ptr
    }
}

/// Hands the heap its memory.
///
/// # Safety
/// `[start, end)` is arena memory that nothing else uses. Once, at boot.
pub(crate) unsafe fn init(start: u64, end: u64) {
    // SAFETY: by the caller's promise.
    unsafe { HEAP.talc.lock().claim(start as *mut u8, (end - start) as usize) };
    HEAP.mark.store((end - start).saturating_sub(RESERVE).max((end - start) / 2), Ordering::Relaxed);
}

/// Memory is short from `bytes` in use on, where that is earlier than what the arena's size says.
pub fn limit(bytes: u64) {
    HEAP.mark.fetch_min(bytes, Ordering::Relaxed);
}

/// Whether guests get no more: what is left is for calls that are under way.
#[inline]
#[must_use]
pub fn is_short() -> bool {
    HEAP.short.0.load(Ordering::Relaxed)
}

/// Bytes in use and their peak.
#[must_use]
pub fn usage() -> (u64, u64) {
    (HEAP.used.load(Ordering::Relaxed), HEAP.peak.load(Ordering::Relaxed))
}
