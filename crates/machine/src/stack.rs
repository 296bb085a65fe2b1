//! What lies where in a thread area, and the guard page at its start: it is unmapped, so that a LibOS stack which grows too
//! far faults instead of running over the area below. The fault is handled on the signal stack, and ends in a panic record.
//!
//! Each host process has mappings of its own, and a forked child those of its parent, which is one hole more a generation.
//! A thread unmaps the page before it first sleeps, unless an earlier one with the same area has done so in the same memory: many a
//! forked child ends, or has its program taken over, before. The service's threads never run in the processes that it makes: those
//! map the pages again, for all that descend from them.

use crate::cpu::Cpu;
use crate::host::{nr, raw};
use abi::boot::{ARENA_FD, PAGE, THREAD_AREA};
use core::sync::atomic::{AtomicU64, Ordering};

/// Where the control block lies in an area. The signal stack is right below it, and the LibOS stack below that.
pub(crate) const BLOCK: u64 = THREAD_AREA - PAGE;
/// Bytes of the signal stack.
pub(crate) const SIGNAL_STACK_LEN: u64 = 16 * 1024;
const _: () = assert!(size_of::<Cpu>() as u64 <= PAGE);

/// Start of the area that an address in it belongs to.
pub(crate) fn area_of(address: u64) -> u64 {
    address & !(THREAD_AREA - 1)
}

/// The name of the service's memory: the first.
const SERVICE: u64 = 1;
static NEXT_MEMORY: AtomicU64 = AtomicU64::new(SERVICE);
/// Guard pages of the service's two threads; 0 for none yet.
static OF_SERVICE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// A name for the memory of a new host process.
pub(crate) fn new_memory() -> u64 {
    NEXT_MEMORY.fetch_add(1, Ordering::Relaxed)
}

/// Unmaps the guard page of the calling thread's area in its own memory, unless that is done.
#[inline]
pub(crate) fn guard(cpu: &Cpu) {
    let memory = cpu.memory.get();
    if cpu.guarded_in.get() != memory {
        unmap_guard(cpu, memory);
    }
}

#[cold]
fn unmap_guard(cpu: &Cpu, memory: u64) {
    let page = area_of(cpu.this.get());
    // Where there are too many mappings the host refuses: the thread does without.
    // SAFETY: nothing lies in this page.
    let _ = unsafe { raw(nr::MUNMAP, [page, PAGE, 0, 0, 0, 0]) };
    cpu.guarded_in.set(memory);
    if memory == SERVICE {
        let free = OF_SERVICE.iter().find(|known| known.load(Ordering::Relaxed) == 0);
        free.into_iter().for_each(|known| known.store(page, Ordering::SeqCst));
    }
}

/// A host thread begins.
#[inline]
pub(crate) fn begin(cpu: &Cpu) {
    if cpu.made_in.get() == SERVICE && cpu.memory.get() != SERVICE {
        fill_service_holes();
    }
}

/// Maps the guard pages of the service's threads, in a process that it has made: each hole is a mapping more in all processes that
/// descend from the caller. A refusal is no harm.
#[cold]
fn fill_service_holes() {
    const READ_WRITE: u64 = 3;
    const MAP_SHARED_FIXED: u64 = 0x11;
    let fd = u64::from(ARENA_FD.unsigned_abs());
    for page in OF_SERVICE.iter().map(|page| page.load(Ordering::SeqCst)).filter(|page| *page != 0) {
        let offset = page - crate::boot::boot_block().arena_start;
        // SAFETY: nothing lies in this page, and nothing is ever to be there; the caller's own area is another.
        let _ = unsafe { raw(nr::MMAP, [page, PAGE, READ_WRITE, MAP_SHARED_FIXED, fd, offset]) };
    }
}

/// Whether an address lies in the area's guard page.
pub(crate) fn is_guard(area: &Cpu, address: u64) -> bool {
    address.wrapping_sub(area_of(area.this.get())) < PAGE
}
