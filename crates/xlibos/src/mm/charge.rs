//! The container's memory limit. It counts what the processes reserve for writing, touched or not, as Linux does with
//! strict accounting (vm.overcommit_memory 2), and the LibOS's own memory, files among it: the host does not tell what
//! was touched.

use core::sync::atomic::{AtomicU64, Ordering};

/// What a process takes beside what it maps: page tables, stacks and tables of the host's kernel, the used part of its first
/// stack. A host process of a small program has 174 KiB of it.
pub(super) const PROCESS: u64 = 256 << 10;

/// Private writable memory of all address spaces, in bytes: the sum of the parts. Threads that map at the same time count in
/// different ones.
static CHARGED: [Part; PARTS] = [const { Part(AtomicU64::new(0)) }; PARTS];
const PARTS: usize = 8;

/// It shares no cache line with the others.
#[repr(align(64))]
struct Part(AtomicU64);

static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets the limit in bytes; 0 is none.
pub fn set_limit(bytes: u64) {
    /// What the LibOS may have for itself under any limit: its caches hold no less for a program like git.
    const LEAST: u64 = 64 << 20;
    if bytes != 0 {
        LIMIT.store(bytes, Ordering::Relaxed);
        machine::heap::limit(bytes.max(LEAST));
    }
}

/// Bytes that processes have reserved.
#[must_use]
pub fn charged() -> u64 {
    CHARGED.iter().fold(0, |sum, part| sum.wrapping_add(part.0.load(Ordering::Relaxed)))
}

/// Whether so many more fit beside what processes and files have. Two who ask at once may both get it.
#[must_use]
pub fn has_room(more: u64) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    if limit == u64::MAX {
        return true;
    }
    // Files are the LibOS's memory too, but for those that lie in a memfd.
    let kept = crate::fs::memory_used().max(machine::heap::usage().0);
    charged().saturating_add(kept).saturating_add(more) <= limit
}

/// As [`has_room`], for a file's bytes or a name: the last eighth is for programs, which are to take the files away.
#[must_use]
pub fn has_room_for_files(more: u64) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    limit == u64::MAX || has_room(more.saturating_add(limit / 8))
}

/// An address space that had `before` has `now`.
pub(super) fn settle(before: &AtomicU64, now: u64) {
    let counted = before.load(Ordering::Relaxed);
    if counted != now {
        before.store(now, Ordering::Relaxed);
        // What one adds it takes away in the same part: no part is ever less than nothing, nor is their sum.
        let part = (core::ptr::from_ref(before).addr() >> 6) % PARTS;
        CHARGED[part].0.fetch_add(now.wrapping_sub(counted), Ordering::Relaxed);
    }
}
