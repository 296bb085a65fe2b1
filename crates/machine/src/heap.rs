//! The arena's heap: the global allocator of the LibOS, shared by all processes of the container.

use crate::sync::RawFutexLock;
use core::sync::atomic::{AtomicU64, Ordering};
use talc::TalcLock;
use talc::source::Manual;

#[global_allocator]
static HEAP: Heap = Heap { talc: TalcLock::new(Manual), used: AtomicU64::new(0), peak: AtomicU64::new(0) };

struct Heap {
    talc: TalcLock<RawFutexLock, Manual>,
    used: AtomicU64,
    peak: AtomicU64,
}

// SAFETY: every call is passed on to Talc, which upholds the contract.
unsafe impl core::alloc::GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: core::alloc::Layout) -> *mut u8 {
        let used = self.used.fetch_add(layout.size() as u64, Ordering::Relaxed) + layout.size() as u64;
        if used > self.peak.load(Ordering::Relaxed) {
            self.peak.store(used, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { self.talc.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: core::alloc::Layout) {
        self.used.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.talc.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: core::alloc::Layout, new_size: usize) -> *mut u8 {
        self.used.fetch_add(new_size as u64, Ordering::Relaxed);
        self.used.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.talc.realloc(ptr, layout, new_size) }
    }
}

/// Hands the heap its memory.
///
/// # Safety
/// `[start, end)` is arena memory that nothing else uses. Once, at boot.
pub(crate) unsafe fn init(start: u64, end: u64) {
    // SAFETY: by the caller's promise.
    unsafe { HEAP.talc.lock().claim(start as *mut u8, (end - start) as usize) };
}

/// Bytes in use and their peak.
#[must_use]
pub fn usage() -> (u64, u64) {
    (HEAP.used.load(Ordering::Relaxed), HEAP.peak.load(Ordering::Relaxed))
}
