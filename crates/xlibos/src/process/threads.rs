//! The end of a process's other threads, before exec.

use super::task::Task;
use super::tree;
use crate::wait::wait_until;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// Ends all other threads of the process and waits for them. The caller becomes the only thread.
///
/// # Errors
/// EAGAIN where the process is being killed meanwhile, or another thread was first: the caller ends.
pub fn end_others(task: &Task) -> Result<()> {
    let process = &task.process;
    if process.is_executing.swap(true, Ordering::SeqCst) {
        task.must_exit.store(true, Ordering::SeqCst);
        machine::cpu::current().mark_pending();
        return Err(Errno::EAGAIN);
    }
    let ended = wait_for_others(task);
    process.is_executing.store(false, Ordering::SeqCst);
    ended?;
    machine::cpu::current().mark_pending();
    take_leader_id(task);
    Ok(())
}

fn wait_for_others(task: &Task) -> Result<()> {
    let process = &task.process;
    loop {
        let others: Vec<_> =
            process.tasks().into_iter().filter(|other| !core::ptr::eq(&raw const **other, task)).collect();
        if others.is_empty() {
            return Ok(());
        }
        for other in &others {
            other.must_exit.store(true, Ordering::SeqCst);
            other.cpu().kick();
        }
        drop(others);
        // Others may have made new ones before they ended.
        let is_told = |other: &Arc<Task>| core::ptr::eq(&raw const **other, task) || other.must_exit();
        let is_due = || {
            let tasks = process.tasks();
            (tasks.len() == 1 || !tasks.iter().all(is_told)).then_some(())
        };
        match wait_until(&[&process.events], None, is_due) {
            Ok(_) => {}
            Err(_) if task.must_exit() => return Err(Errno::EAGAIN),
            Err(_) => machine::cpu::current().clear_pending(),
        }
    }
}

/// After exec the only thread has the process's id, whichever thread called.
fn take_leader_id(task: &Task) {
    if task.tid() == task.process.pid {
        return;
    }
    super::ptrace::leader_replaced(&task.process);
    let mut tree = tree::lock();
    let Some(own) = tree.take_task(task.tid()) else { return };
    task.set_tid(task.process.pid);
    tree.add_task(own);
}
