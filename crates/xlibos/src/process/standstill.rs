//! One thread of a process works while all others stand at their entry frames: what quiesce is for a container.
//!
//! The others are interrupted; each stands right before it returns to guest code ([`stand`]). Whoever is held up elsewhere, by
//! the host, by a stop or by a vfork child, is not waited for long: the work is left then.

use super::{Process, Task, tree};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use machine::sync::Gate;

/// How often who does not stand is told, and nanoseconds until the second time; twice as many to each after it. Together a
/// tenth of a second.
const ROUNDS: u32 = 11;
const FIRST_ROUND_NS: u64 = 50_000;

/// Where the threads of one process stand.
#[derive(Debug, Default)]
pub struct Standstill {
    gate: Gate,
    /// A thread has closed the gate, or is about to.
    is_taken: AtomicBool,
}

/// Stands while another thread of the process works; a thread that must end does not. True where it stood. What is
/// pending must be looked at afterwards.
pub fn stand(task: &Task) -> bool {
    let is_asked = is_asked(task);
    if is_asked {
        task.process.standstill.gate.pass(|| task.must_exit());
    }
    is_asked
}

/// Whether the threads of a task's process are asked to stand.
pub fn is_asked(task: &Task) -> bool {
    task.process.standstill.gate.is_closed()
}

/// Does `work` while no other thread runs in the caller's memory. None where that did not come about.
pub fn alone<T>(task: &Task, work: impl FnOnce() -> T) -> Option<T> {
    let process = &task.process;
    if process.thread_count() == 1 {
        return (!is_shared(process)).then(work);
    }
    let own = &process.standstill;
    if own.is_taken.swap(true, Ordering::SeqCst) {
        return None;
    }
    own.gate.close();
    let done = (others_stand(task) && !is_shared(process)).then(work);
    own.gate.open();
    own.is_taken.store(false, Ordering::SeqCst);
    done
}

/// Whether another process runs in the same memory: a child of vfork, or the parent of one.
fn is_shared(process: &Arc<Process>) -> bool {
    let mm = process.mm();
    let shares = |other: &Arc<Process>| {
        !Arc::ptr_eq(other, process) && other.thread_count() > 0 && Arc::ptr_eq(&other.mm(), &mm)
    };
    tree::collect_processes().iter().any(shares)
}

fn others_stand(task: &Task) -> bool {
    let gate = &task.process.standstill.gate;
    for round in 0..ROUNDS {
        let mut all = true;
        for other in task.process.tasks().iter().filter(|other| !core::ptr::eq(&raw const ***other, task)) {
            if !gate.has_at_it(other.cpu()) {
                other.cpu().kick();
                all = false;
            }
        }
        if all || task.must_exit() {
            return all;
        }
        let end = machine::clock::monotonic_ns().saturating_add(FIRST_ROUND_NS << round);
        let _ = machine::sync::park_uninterruptible(Some(end));
    }
    false
}
