//! New threads and processes: clone(2), fork(2), vfork(2).

use super::creds::{CAP_SYS_ADMIN, CAP_SYS_RESOURCE};
use super::limits;
use super::ptrace;
use super::spare;
use super::task::{Parts, Start, Task};
use super::thread_group::{self, Process};
use super::tree;
use crate::fs::FdTable;
use crate::signal::deliver::has_deliverable;
use crate::signal::{SIGCHLD, TaskSignals};
use crate::wait::wait_until;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use machine::process::Kind;
use machine::{Cpu, guest};

bitflags::bitflags! {
    /// Flags of clone(2), without the exit signal.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        /// CLONE_VM.
        const VM = 0x100;
        /// CLONE_FS.
        const FS = 0x200;
        /// CLONE_FILES.
        const FILES = 0x400;
        /// CLONE_SIGHAND.
        const SIGHAND = 0x800;
        /// CLONE_PIDFD.
        const PIDFD = 0x1000;
        /// CLONE_PTRACE.
        const PTRACE = 0x2000;
        /// CLONE_VFORK.
        const VFORK = 0x4000;
        /// CLONE_PARENT.
        const PARENT = 0x8000;
        /// CLONE_THREAD.
        const THREAD = 0x1_0000;
        /// CLONE_NEWNS.
        const NEWNS = 0x2_0000;
        /// CLONE_NEWUSER.
        const NEWUSER = 0x1000_0000;
        /// CLONE_NEWPID.
        const NEWPID = 0x2000_0000;
        /// CLONE_SYSVSEM.
        const SYSVSEM = 0x4_0000;
        /// CLONE_SETTLS.
        const SETTLS = 0x8_0000;
        /// CLONE_PARENT_SETTID.
        const PARENT_SETTID = 0x10_0000;
        /// CLONE_CHILD_CLEARTID.
        const CHILD_CLEARTID = 0x20_0000;
        /// CLONE_DETACHED (no meaning).
        const DETACHED = 0x40_0000;
        /// CLONE_UNTRACED.
        const UNTRACED = 0x80_0000;
        /// CLONE_CHILD_SETTID.
        const CHILD_SETTID = 0x100_0000;
        /// The namespaces and the rest that need privilege: CLONE_NEWCGROUP to CLONE_NEWNET.
        const NAMESPACES = 0x7e00_0000;
        /// CLONE_IO.
        const IO = 0x8000_0000;
        /// CLONE_CLEAR_SIGHAND.
        const CLEAR_SIGHAND = 0x1_0000_0000;
    }
}

/// What clone is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Flags.
    pub flags: CloneFlags,
    /// Signal to the parent at the end.
    pub exit_signal: i32,
    /// Stack pointer of the child; 0 keeps the caller's.
    pub stack: u64,
    /// CLONE_PARENT_SETTID's address.
    pub parent_tid: u64,
    /// CLONE_CHILD_SETTID's and CLEARTID's address.
    pub child_tid: u64,
    /// CLONE_SETTLS's FS base.
    pub tls: u64,
}

/// Makes a thread or a process; returns its id. `publish` tells of it before it runs; where that fails it is not made.
///
/// # Errors
/// EINVAL for flags that exclude each other, EPERM for namespaces, EAGAIN, ENOMEM; INTERRUPTED_UNTOLD; those of `publish`.
pub fn clone(task: &Task, request: Request, publish: impl FnOnce(&Arc<Process>) -> Result<()>) -> Result<i32> {
    let flags = request.flags;
    check_flags(flags)?;
    check_count(task)?;
    let kind = kind_of(flags);
    let area = area_for(task, kind)?;
    let child = make(task, &request, kind, area).inspect_err(|_| spare::dismiss(area))?;
    let tid = child.tid();
    publish(&child.process).inspect_err(|_| undo(&child, kind, area))?;
    let event = ptrace::follow(task, &child, flags, request.exit_signal);
    if flags.contains(CloneFlags::PARENT_SETTID) {
        // As Linux: the child is made all the same.
        let _ = guest::write_value(request.parent_tid, &tid);
    }
    start(task, &child, kind, area, &request)?;
    if flags.contains(CloneFlags::VFORK) {
        task.vfork_child.store(child.process.pid, Ordering::Relaxed);
        machine::cpu::current().mark_pending();
    }
    if let Some(event) = event {
        ptrace::event(task, event, u64::from(tid.unsigned_abs()));
    }
    Ok(tid)
}

/// That of a host thread that waits for what is asked for, or a free one.
fn area_for(task: &Task, kind: Kind) -> Result<&'static Cpu> {
    spare::take(&task.process, kind).map_or_else(machine::cpu::allocate, Ok)
}

fn kind_of(flags: CloneFlags) -> Kind {
    match (flags.contains(CloneFlags::THREAD), flags.contains(CloneFlags::VM)) {
        (true, _) => Kind::Thread,
        (false, true) => Kind::Vfork,
        (false, false) => Kind::Fork,
    }
}

fn check_flags(flags: CloneFlags) -> Result<()> {
    if flags.contains(CloneFlags::FS) && flags.intersects(CloneFlags::NEWNS | CloneFlags::NEWUSER) {
        return Err(Errno::EINVAL);
    }
    let thread = flags.contains(CloneFlags::THREAD);
    let sighand = flags.contains(CloneFlags::SIGHAND);
    let vm = flags.contains(CloneFlags::VM);
    if (thread && !sighand) || (sighand && !vm) {
        return Err(Errno::EINVAL);
    }
    if thread && flags.intersects(CloneFlags::NEWPID | CloneFlags::NEWUSER) {
        return Err(Errno::EINVAL);
    }
    if sighand && flags.contains(CloneFlags::CLEAR_SIGHAND) {
        return Err(Errno::EINVAL);
    }
    if flags.intersects(CloneFlags::NAMESPACES | CloneFlags::NEWNS) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// RLIMIT_NPROC, which holds for all but root.
fn check_count(task: &Task) -> Result<()> {
    let creds = task.creds();
    if creds.uid == 0 || creds.has(CAP_SYS_RESOURCE) || creds.has(CAP_SYS_ADMIN) {
        return Ok(());
    }
    if tree::has_fewer_tasks(creds.uid, count_limit(task)) { Ok(()) } else { Err(Errno::EAGAIN) }
}

/// Whether a user has more tasks than the task's RLIMIT_NPROC.
pub fn is_over_limit(task: &Task, uid: u32) -> bool {
    !tree::has_fewer_tasks(uid, count_limit(task).saturating_add(1))
}

fn count_limit(task: &Task) -> u64 {
    task.process.limits.get(limits::NPROC).map_or(limits::INFINITY, |limit| limit.current)
}

fn shared_files(task: &Task) -> Arc<FdTable> {
    let files = task.files();
    files.share();
    files
}

/// Builds task and process in the arena; nothing runs yet.
fn make(task: &Task, request: &Request, kind: Kind, area: &'static Cpu) -> Result<Arc<Task>> {
    let flags = request.flags;
    let thread = kind == Kind::Thread;
    let parts = Parts {
        files: if flags.contains(CloneFlags::FILES) { shared_files(task) } else { task.files().copy() },
        fs: if flags.contains(CloneFlags::FS) { task.fs() } else { task.fs().copy() },
        creds: task.creds(),
    };
    let signals = TaskSignals::with_mask(task.signals.mask());
    if kind != Kind::Thread && request.stack == 0 || kind == Kind::Fork {
        signals.set_alt_stack(task.signals.alt_stack());
    }
    let name = *task.name.lock();
    let state = has_thread(area).then(machine::xstate::Area::of_thread);
    let mut tree = tree::lock();
    // A signal to several processes comes to parent and child, or to the parent before there is a child.
    if !thread && has_deliverable(task) {
        return Err(Errno::INTERRUPTED_UNTOLD);
    }
    let tid = tree.allocate_pid()?;
    let process = if thread { Arc::clone(&task.process) } else { new_process(task, request, tid, kind)? };
    let child = Task::new(tid, Arc::clone(&process), area, parts, signals, name);
    *child.settings.lock() = task.settings.lock().for_child(kind);
    if flags.contains(CloneFlags::CHILD_CLEARTID) {
        child.clear_child_tid.store(request.child_tid, Ordering::Relaxed);
    }
    let set_tid = if flags.contains(CloneFlags::CHILD_SETTID) { request.child_tid } else { 0 };
    *child.start.lock() = Some(Start::Return { set_tid, state });
    if thread {
        process.was_threaded.store(true, Ordering::Relaxed);
    }
    process.add_task(Arc::clone(&child));
    tree.add_task(Arc::clone(&child));
    if !thread {
        tree.add_process(process);
    }
    Ok(child)
}

fn new_process(task: &Task, request: &Request, pid: i32, kind: Kind) -> Result<Arc<Process>> {
    let flags = request.flags;
    let old = &task.process;
    let (pgid, session, parent) = {
        let links = old.links();
        let parent = if flags.contains(CloneFlags::PARENT) { old.parent() } else { old.pid };
        (links.pgid, Arc::clone(&links.session), parent)
    };
    let actions = if flags.contains(CloneFlags::SIGHAND) { old.actions() } else { Arc::new(old.actions().copy()) };
    if flags.contains(CloneFlags::CLEAR_SIGHAND) {
        actions.reset_caught();
    }
    // The tree of mappings of a forked child is copied in `start`, together with the memory.
    let mm = if kind == Kind::Vfork { old.mm() } else { crate::mm::Mm::new() };
    let process = Process::new(
        pid,
        thread_group::Parts {
            parent,
            links: thread_group::Links { pgid, session, children: Vec::new() },
            mm,
            actions,
            limits: old.limits.copy(),
            exit_signal: request.exit_signal,
        },
    );
    process.alarms.limit_cpu(&process);
    process.borrows_memory.store(kind == Kind::Vfork, Ordering::SeqCst);
    Ok(process)
}

/// Lets the host make the thread. On failure everything is taken back.
fn start(task: &Task, child: &Arc<Task>, kind: Kind, area: &'static Cpu, request: &Request) -> Result<()> {
    let current = machine::cpu::current();
    let mut frame = *current.frame();
    frame.rax = 0;
    if request.stack != 0 {
        frame.rsp = request.stack;
    }
    area.set_frame(&frame);
    let fs_base = if request.flags.contains(CloneFlags::SETTLS) { request.tls } else { machine::process::fs_base() };
    crate::stats::count_fork(kind);
    *task.making.lock() = Some(Arc::clone(child));
    if has_thread(area) {
        // Before it has the task: whoever wakes it then lets it begin.
        machine::process::prepare(kind, area, fs_base);
        // That thread's clock shows what it did for others until it takes the task over.
        child.cpu_time.leaves(0);
        if kind == Kind::Vfork {
            child.process.cpu_time.leaves(0);
        }
    }
    area.set_task(Arc::clone(child));
    let spawned = if has_thread(area) {
        machine::process::serve(kind, area);
        Ok(())
    } else if kind == Kind::Fork {
        let mm = task.mm();
        let mut guard = mm.lock();
        let copied = mm.fork_copy(&mut guard);
        copied.and_then(|copy| {
            child.process.begin_with(copy);
            machine::process::spawn(kind, area, fs_base)
        })
    } else {
        machine::process::spawn(kind, area, fs_base)
    };
    drop(task.making.lock().take());
    if let Err(errno) = spawned {
        undo(child, kind, area);
        return Err(errno);
    }
    if kind == Kind::Fork {
        machine::process::note_fork();
    }
    Ok(())
}

/// Whether a host thread waits in the area.
fn has_thread(area: &Cpu) -> bool {
    area.tid() != 0
}

fn undo(child: &Arc<Task>, kind: Kind, area: &'static Cpu) {
    if let Some(tracer) = tree::process(child.trace.tracer()) {
        tracer.stop_tracing(child, 0);
    }
    child.drop_files();
    let mut tree = tree::lock();
    tree.remove_task(child.tid());
    child.process.remove_task(child);
    if kind != Kind::Thread {
        tree.remove_process(child.process.pid);
    }
    drop(tree);
    area.clear_task::<Task>();
    spare::dismiss(area);
}

/// vfork(2): the caller sleeps on its way out until the child has its own memory or has ended. False where something is
/// pending: it is to be looked at, and the sleep to go on.
pub fn vfork_child_has_gone(task: &Task) -> bool {
    let pid = task.vfork_child.load(Ordering::Relaxed);
    if pid == 0 {
        return true;
    }
    if let Some(child) = tree::process(pid) {
        let done = || (!child.borrows_memory.load(Ordering::SeqCst)).then_some(());
        // A kill ends the parent; the child goes on by itself. The mark of one that came on the way here is cleared by now.
        if task.is_killed() {
            return true;
        }
        if wait_until(&[&child.events], None, done).is_err() {
            return task.is_killed();
        }
    }
    task.vfork_child.store(0, Ordering::Relaxed);
    machine::hand_over::resumes();
    ptrace::event(task, ptrace::Event::VforkDone, u64::from(pid.unsigned_abs()));
    true
}

/// fork(2)'s request.
#[must_use]
pub fn fork_request() -> Request {
    let flags = CloneFlags::empty();
    Request { flags, exit_signal: SIGCHLD, stack: 0, parent_tid: 0, child_tid: 0, tls: 0 }
}
