//! One large page for what all processes of a container use: the library OS's data and the beginning of its heap.
//!
//! A new process has no page of the arena, and faults for each 64 KiB of it that it looks at. The host gives shared memory no
//! large page by itself, but makes one of small ones where it is asked to. That takes up to 2 MiB, so only a container that
//! makes one process after the other has it. A host that cannot (Linux before 6.1), or will not, leaves all as it is.

use crate::boot;
use crate::host;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What a large page holds.
const LEN: u64 = 2 << 20;
const _: () = assert!(abi::boot::BASE_ALIGN == LEN && abi::boot::ARENA_OFFSET.is_multiple_of(LEN));
/// So many processes in so short a time: more will follow.
const MANY: u32 = 128;
const SOON_NS: u64 = 2_000_000_000;

static MADE: AtomicU32 = AtomicU32::new(0);
/// When the last [`MANY`] had been made; 0 for not yet.
static COUNTED_AT: AtomicU64 = AtomicU64::new(0);
/// How often the host may still be asked: it refuses where a page is in use just then.
static TRIES: AtomicU32 = AtomicU32::new(8);

/// A process was forked.
pub(crate) fn note_fork() {
    let tries = TRIES.load(Relaxed);
    if tries == 0 || !MADE.fetch_add(1, Relaxed).wrapping_add(1).is_multiple_of(MANY) {
        return;
    }
    let now = crate::clock::monotonic_ns();
    let began = COUNTED_AT.swap(now, Relaxed).max(boot::boot_block().started_ns);
    if now.saturating_sub(began) > SOON_NS {
        return;
    }
    let is_done = host::collapse(boot::boot_block().arena_start, LEN).is_ok();
    TRIES.store(if is_done { 0 } else { tries - 1 }, Relaxed);
}
