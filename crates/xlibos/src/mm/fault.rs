//! Faults of guest code on guest memory.

use crate::Task;
use machine::cpu::Fault;

/// Repairs what a fault found missing; false where it is the guest's own fault.
///
/// Nothing needs repair: the host fills pages, and stacks are mapped at full size.
#[must_use]
pub fn handle(_task: &Task, _fault: &Fault) -> bool {
    false
}
