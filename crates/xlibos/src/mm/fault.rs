//! Faults of guest code on guest memory.

use crate::Task;
use crate::signal::SIGSEGV;
use machine::cpu::Fault;

/// `si_code` where nothing is mapped.
const SEGV_MAPERR: i32 = 1;

/// Repairs what a fault found missing; false where it is the guest's own fault.
///
/// Little needs repair: the host fills pages, and stacks of first threads are mapped at full size.
#[must_use]
pub fn handle(task: &Task, fault: &Fault) -> bool {
    (fault.signal, fault.code) == (SIGSEGV, SEGV_MAPERR) && task.mm().grow(fault.address)
}
