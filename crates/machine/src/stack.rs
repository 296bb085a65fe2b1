//! What lies where in a thread area, and the guard page at its start: it is unmapped, so that a LibOS stack which grows too
//! far faults instead of running over the area below. The fault is handled on the signal stack, and ends in a panic record.
//!
//! Each host process has mappings of its own, and a forked child those of its parent, which is one hole more a generation.
//! A thread unmaps the page before it first sleeps, unless an earlier one with the same area has done so in the same memory: many a
//! forked child ends, or has its program taken over, before.

use crate::cpu::Cpu;
use crate::host::{nr, raw};
use abi::boot::{PAGE, THREAD_AREA};
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

static NEXT_MEMORY: AtomicU64 = AtomicU64::new(1);

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
    // Where there are too many mappings the host refuses: the thread does without.
    // SAFETY: nothing lies in this page.
    let _ = unsafe { raw(nr::MUNMAP, [area_of(cpu.this.get()), PAGE, 0, 0, 0, 0]) };
    cpu.guarded_in.set(memory);
}

/// Whether an address lies in the area's guard page.
pub(crate) fn is_guard(area: &Cpu, address: u64) -> bool {
    address.wrapping_sub(area_of(area.this.get())) < PAGE
}
