//! The container's memory limit. It counts what the processes reserve for writing, touched or not, as Linux does with
//! strict accounting (vm.overcommit_memory 2), and files in memory: the host does not tell what was touched.

use core::sync::atomic::{AtomicU64, Ordering};

/// Private writable memory of all address spaces, in bytes.
static CHARGED: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets the limit in bytes; 0 is none.
pub fn set_limit(bytes: u64) {
    LIMIT.store(if bytes == 0 { u64::MAX } else { bytes }, Ordering::Relaxed);
}

/// Bytes that processes have reserved.
#[must_use]
pub fn charged() -> u64 {
    CHARGED.load(Ordering::Relaxed)
}

/// Whether so many more fit beside what processes and files have. Two who ask at once may both get it.
#[must_use]
pub fn has_room(more: u64) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    limit == u64::MAX || charged().saturating_add(crate::fs::memory_used()).saturating_add(more) <= limit
}

/// An address space that had `before` has `now`.
pub(super) fn settle(before: &AtomicU64, now: u64) {
    let counted = before.load(Ordering::Relaxed);
    if counted != now {
        before.store(now, Ordering::Relaxed);
        CHARGED.fetch_add(now.wrapping_sub(counted), Ordering::Relaxed);
    }
}
