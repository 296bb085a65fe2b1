//! The end of threads and processes: _exit(2), exit_group(2).

use super::spare;
use super::task::Task;
use super::thread_group::Process;
use super::tree;
use super::wait::{Change, notify_parent};
use crate::ipc::futex_set::{self, Scope};
use crate::signal::{SIGCHLD, SIGCONT, SIGHUP, SigInfo, send, send_group, send_process};
use crate::wait::Events;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use machine::guest;

/// The wait status of an ordinary exit.
#[must_use]
pub fn exited(code: i32) -> i32 {
    (code & 0xff) << 8
}

/// All threads of the process end; the caller ends when it next returns to guest code.
pub fn exit_group(task: &Task, status: i32) {
    task.process.begin_exit(status);
    task.must_exit.store(true, Ordering::SeqCst);
    machine::cpu::current().mark_pending();
    if task.process.thread_count() == 1 {
        // Nobody else could make another.
        return;
    }
    for other in task.process.tasks() {
        other.must_exit.store(true, Ordering::SeqCst);
        other.cpu().kick();
    }
}

/// A signal kills the process.
pub fn kill_process(task: &Task, signal: i32) {
    exit_group(task, signal);
}

/// Ends the calling thread, and its process if it is the last.
pub fn exit_thread(task: &'static Task) -> ! {
    let cpu = machine::cpu::current();
    let process = Arc::clone(&task.process);
    process.begin_end_of(task);
    super::ptrace::about_to_end(task);
    if crate::kernel::is_straced() {
        crate::syscall::trace::ended(task, task.end_status());
    }
    task.ended.store(true, Ordering::SeqCst);
    // Files go while the task is still found by /proc, but nothing may use them any more.
    task.drop_files();
    tree::lock().remove_task(task.tid());
    crate::stats::collect_counters(cpu);
    crate::stats::note_patched(task);
    if process.thread_count() > 1 {
        // Another may call exec once this one is gone, and unmap an area that the host still writes to.
        crate::syscall::prctl::undo_rseq(task);
    }
    // Who joins the thread wakes here and may make the next one: no lock of the container's is wanted any more. The
    // memory is the process's own as long as it has this thread.
    release_memory_words(task);
    let is_last = process.remove_task(task) == 0;
    super::ptrace::thread_ended(task);
    if is_last {
        // The host's clock of the process has the threads that ended before.
        let cpu_ns = crate::time::clock::process_cpu_ns(&process).unwrap_or(0);
        process.ended_cpu_ns.store(cpu_ns, Ordering::Relaxed);
    }
    process.events.wake(Events::all());
    if !is_last {
        send::thread_left(&process);
        cpu.clear_task::<Task>();
        if spare::may_serve_thread(&process) {
            spare::wait_for_thread(cpu, process);
        }
        drop(process);
        machine::process::exit_thread();
    }
    let warm = if spare::may_serve_again(task) { spare::give_memory_back(task) } else { None };
    let was_threaded = process.was_threaded.load(Ordering::Relaxed);
    end_process(&process);
    spare::retire_those_of(&process);
    drop(process);
    cpu.clear_task::<Task>();
    if was_threaded {
        // They are out of the process's list, and on their way out of the LibOS: the host must not end them in a lock.
        machine::cpu::wait_for_siblings();
    }
    if let Some(warm) = warm {
        spare::wait_for_program(cpu, warm);
    }
    machine::cpu::release(cpu);
    machine::host::exit(0);
}

/// What a host thread was changing when it died is not looked at any more: its address space, and the child that it was
/// making, where the host has not made it.
///
/// # Panics
/// If another process has the same memory (vfork): it would wait for the lock for ever.
pub fn forget_half_done(task: &Task) {
    let mm = task.mm();
    if mm.is_left_locked(task.cpu()) {
        task.process.abandon_mm();
        let is_shared = tree::collect_processes().iter().any(|process| Arc::ptr_eq(&process.mm(), &mm));
        assert!(!is_shared, "process {} died while it changed memory that another one shares", task.process.pid);
        mm.abandon();
    }
    let making = task.making.lock().take();
    let is_half_made = |child: &Arc<Task>| child.cpu().tid() == 0 && !child.ended.load(Ordering::SeqCst);
    if let Some(child) = making.filter(is_half_made) {
        let area = child.cpu();
        child.process.begin_exit(crate::signal::SIGKILL);
        area.clear_task::<Task>();
        machine::cpu::release(area);
        bury(&child);
    }
}

/// Ends a task in place of its host thread, which died without the LibOS's doing.
pub fn bury(task: &Arc<Task>) {
    task.ended.store(true, Ordering::SeqCst);
    futex_set::forget(task.tid());
    task.drop_files();
    let process = Arc::clone(&task.process);
    let left = {
        let mut tree = tree::lock();
        tree.remove_task(task.tid());
        process.remove_task(task)
    };
    super::ptrace::thread_ended(task);
    process.events.wake(Events::all());
    if left == 0 {
        end_process(&process);
    }
}

/// CLONE_CHILD_CLEARTID and robust futexes: the guest's words that tell of a thread's end.
pub fn release_memory_words(task: &Task) {
    super::robust::release(task);
    let word = task.clear_child_tid.swap(0, Ordering::SeqCst);
    // The task's own, and ours: as Linux, which leaves the word alone where nobody else has the memory.
    let mm = task.process.mm();
    let is_shared = task.process.thread_count() > 1 || Arc::strong_count(&mm) > 2;
    if word != 0 && is_shared && guest::write_value(word, &0_u32).is_ok() {
        const FUTEX_WAKE: u32 = 1;
        let _ = machine::host::futex_guest(word, FUTEX_WAKE, 1, machine::host::FutexArg::None, 0, 0);
        futex_set::wake(task, word, Scope::Shared, 1);
    }
}

/// The last thread has gone: the process becomes a zombie, or vanishes.
fn end_process(process: &Arc<Process>) {
    let status = process.exit_status().unwrap_or(0);
    release_vfork_parent(process);
    process.alarms.clear();
    crate::ipc::sem::process_ended(process.pid);
    process.leave_mm();
    end_session(process);
    let (orphans, groups) = {
        let mut tree = tree::lock();
        let orphans = tree.reparent_children(process);
        // It may have been what linked its own group, or those of its children, to the session.
        let own = process.links_of_other();
        let others =
            orphans.iter().map(|child| child.links_of_other()).filter(|(pgid, sid)| *pgid != own.0 && *sid == own.1);
        let mut groups: Vec<_> = others.map(|(pgid, _)| pgid).collect();
        groups.extend(tree.links_to_session(process.parent(), own).then_some(own.0));
        groups.sort_unstable();
        groups.dedup();
        (orphans, groups)
    };
    for child in &orphans {
        tell_orphan(child);
    }
    hang_up_orphaned_groups(&groups, process);
    process.set_zombie(status);
    super::ptrace::tracer_ended(process);
    super::ptrace::process_ended(process, status);
    if process.pid == 1 {
        crate::kernel::container_exit(status);
    }
    notify_parent(process, Change::Ended(status));
}

/// A child whose parent ended: its death signal, and its own end if nobody will wait for it.
fn tell_orphan(child: &Arc<Process>) {
    let signal = child.parent_death_signal.load(Ordering::Relaxed);
    if signal != 0 {
        send_process(child, SigInfo::kernel(signal));
    }
    if child.is_zombie() {
        child.exit_signal.store(SIGCHLD, Ordering::Relaxed);
        if let super::run_state::RunState::Zombie(status) = child.run_state() {
            notify_parent(child, Change::Ended(status));
        }
    }
}

/// A session leader's end frees its terminal; the foreground group hears of it.
fn end_session(process: &Arc<Process>) {
    let session = process.session();
    if session.sid != process.pid {
        return;
    }
    if let Some(tty) = session.tty() {
        send_group(session.foreground(), SigInfo::kernel(SIGHUP));
        session.set_tty(None);
        tty.leave();
    }
}

/// Stopped groups that become orphaned with the end of a process are hung up and continued.
fn hang_up_orphaned_groups(groups: &[super::task::Pid], ended: &Arc<Process>) {
    for &pgid in groups {
        let members: Vec<_> =
            tree::collect_group(pgid).into_iter().filter(|p| p.pid != ended.pid && !p.is_zombie()).collect();
        let stopped = members.iter().any(|p| p.is_stopped());
        if stopped && tree::lock().is_orphaned_without(pgid, Some(ended.pid)) {
            for member in &members {
                send_process(member, SigInfo::kernel(SIGHUP));
                send_process(member, SigInfo::kernel(SIGCONT));
            }
        }
    }
}

/// vfork(2): the parent goes on once the child has its own memory or has ended.
pub fn release_vfork_parent(process: &Process) {
    if process.borrows_memory.swap(false, Ordering::SeqCst) {
        process.events.wake(Events::all());
    }
}
