//! Faults of guest code on guest memory.

use crate::Task;
use crate::signal::SIGSEGV;
use machine::cpu::Fault;

/// `si_code` where nothing is mapped.
const SEGV_MAPERR: i32 = 1;
/// `si_code` where what is mapped may not be used so.
const SEGV_ACCERR: i32 = 2;

/// `si_code` of a fault: nothing is mapped where the guest has nothing, whatever the host has there.
#[must_use]
pub fn code(task: &Task, fault: &Fault) -> i32 {
    let is_access = (fault.signal, fault.code) == (SIGSEGV, SEGV_ACCERR);
    if is_access && !task.mm().has(fault.address) { SEGV_MAPERR } else { fault.code }
}

/// Repairs what a fault found missing; false where it is the guest's own fault.
///
/// Little needs repair: the host fills pages, and stacks of first threads are mapped at full size.
#[must_use]
pub fn handle(task: &Task, fault: &Fault) -> bool {
    (fault.signal, code(task, fault)) == (SIGSEGV, SEGV_MAPERR) && task.mm().grow(fault.address)
}
