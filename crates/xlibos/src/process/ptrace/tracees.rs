//! Whom a process traces: how tracing begins and ends, and what wait(2) finds.

use super::super::creds::CAP_SYS_PTRACE;
use super::super::fork::CloneFlags;
use super::super::inspect::{self, Identity};
use super::super::task::{Pid, Task};
use super::super::thread_group::Process;
use super::super::tree;
use super::super::wait::Change;
use super::tracee::{ask_for_first_stop, tell_tracer};
use super::{Event, Mode, Options, State};
use crate::signal::{SIGCHLD, SIGKILL, SIGSTOP, SigInfo, send_process, send_task};
use crate::wait::Events;
use crate::{Errno, Result, kernel};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// One that a process traces.
#[derive(Debug)]
pub struct Tracee {
    task: Arc<Task>,
    /// Wait status of one that has ended, where nobody else tells of it.
    ended: Option<i32>,
}

/// Begins to trace: `tracer` is locked by nobody.
///
/// # Errors
/// EPERM where it is traced already.
fn begin(tracer: &Process, task: &Arc<Task>, state: State) -> Result<()> {
    let mut tracees = tracer.tracees.lock();
    let mut own = task.trace.state.lock();
    if own.tracer != 0 || tracer.is_zombie() {
        return Err(Errno::EPERM);
    }
    // It may not have looked yet how another tracer let it go on.
    let (stop, mode) = (own.stop.take(), own.mode);
    *own = State { tracer: tracer.pid, stop, mode, ..state };
    task.trace.is_traced.store(true, Ordering::SeqCst);
    drop(own);
    kernel::watch_calls();
    tracees.push(Tracee { task: Arc::clone(task), ended: None });
    Ok(())
}

/// Nobody traces the task any more; it goes on, with a signal.
fn end(task: &Task, signal: i32) {
    let mut state = task.trace.state.lock();
    if state.tracer == 0 {
        return;
    }
    let mut stop = state.stop.take();
    if let Some(stop) = &mut stop {
        // One that listens, or was told to go on already, gets no other signal.
        stop.goes_on.get_or_insert((Mode::Free, signal));
        stop.listens = false;
    }
    let mode = state.mode;
    *state = State { stop, mode, ..State::default() };
    task.trace.is_traced.store(false, Ordering::SeqCst);
    drop(state);
    kernel::unwatch_calls();
    task.trace.resumed.wake(Events::all());
    task.cpu().kick();
}

/// PTRACE_ATTACH and PTRACE_SEIZE, which comes with options.
///
/// # Errors
/// EPERM.
pub fn attach(tracer: &Task, task: &Arc<Task>, seize: Option<Options>) -> Result<()> {
    let own = &tracer.process;
    let is_own = Arc::ptr_eq(own, &task.process);
    let may = || inspect::is_allowed(tracer, &task.process, Identity::Real) && !task.ended.load(Ordering::SeqCst);
    if is_own || !may() {
        return Err(Errno::EPERM);
    }
    let (is_seized, is_capable) = (seize.is_some(), tracer.creds().has(CAP_SYS_PTRACE));
    begin(own, task, State { is_seized, is_capable, options: seize.unwrap_or_default(), ..State::default() })?;
    if !may() {
        // It has ended meanwhile, or taken another's rights, before it could see that it is traced.
        own.stop_tracing(task, 0);
        return Err(Errno::EPERM);
    }
    if !is_seized {
        send_task(task, SigInfo { signal: SIGSTOP, pid: own.pid, ..SigInfo::default() });
    }
    if task.process.is_stopped() {
        // It stands for its tracer from now on.
        task.cpu().kick();
        task.process.events.wake(Events::all());
    }
    Ok(())
}

/// PTRACE_TRACEME: the parent traces.
///
/// # Errors
/// EPERM.
pub fn trace_me(task: &Task) -> Result<()> {
    let own = tree::task(task.tid()).ok_or(Errno::ESRCH)?;
    let parent = tree::process(task.process.parent()).ok_or(Errno::EPERM)?;
    let parents = parent.tasks().first().map(|first| first.creds()).ok_or(Errno::EPERM)?;
    let is_capable = parents.has(CAP_SYS_PTRACE);
    if !is_capable && task.creds().permitted & !parents.permitted != 0 {
        return Err(Errno::EPERM);
    }
    begin(&parent, &own, State { is_capable, ..State::default() })
}

/// A child is about to start: it is traced as its maker is, where the tracer wants to know of it. The event to tell.
pub fn follow(task: &Task, child: &Arc<Task>, flags: CloneFlags, exit_signal: i32) -> Option<Event> {
    if !task.trace.is_on() {
        return None;
    }
    let (tracer, inherited) = {
        let State { tracer, is_seized, is_capable, options, .. } = *task.trace.state.lock();
        (tracer, State { is_seized, is_capable, options, ..State::default() })
    };
    let event = match exit_signal {
        _ if flags.contains(CloneFlags::UNTRACED) => None,
        _ if flags.contains(CloneFlags::VFORK) => Some(Event::Vfork),
        SIGCHLD if !flags.contains(CloneFlags::THREAD) => Some(Event::Fork),
        _ => Some(Event::Clone),
    };
    let event = event.filter(|event| inherited.options.contains(event.option()));
    if event.is_some() || flags.contains(CloneFlags::PTRACE) {
        let tracer = tree::process(tracer)?;
        begin(&tracer, child, inherited).ok()?;
        ask_for_first_stop(child);
    }
    event
}

impl Process {
    /// PTRACE_DETACH, or the end of one that was never started.
    pub fn stop_tracing(&self, task: &Task, signal: i32) {
        let mut tracees = self.tracees.lock();
        let at = tracees.iter().position(|tracee| core::ptr::eq(&raw const *tracee.task, task));
        let removed = at.map(|at| tracees.remove(at));
        drop(tracees);
        if let Some(tracee) = removed {
            end(&tracee.task, signal);
        }
    }
}

/// What wait(2) finds among whom a process traces: None where nobody is meant.
pub fn find_report(
    tracer: &Process,
    is_meant: impl Fn(&Task) -> bool,
    wants_ended: bool,
    keep: bool,
) -> Option<Option<(Pid, Change)>> {
    let mut tracees = tracer.tracees.lock();
    let mut is_any = false;
    for at in 0..tracees.len() {
        let Some(tracee) = tracees.get(at).filter(|tracee| is_meant(&tracee.task)) else { continue };
        is_any = true;
        let tid = tracee.task.tid();
        if let Some(status) = tracee.ended.filter(|_| wants_ended) {
            let removed = (!keep).then(|| tracees.remove(at));
            drop(tracees);
            drop(removed);
            return Some(Some((tid, Change::Ended(status))));
        }
        if let Some(change) = tracee.task.trace.take_report(keep) {
            return Some(Some((tid, change)));
        }
    }
    is_any.then_some(None)
}

/// A thread has ended. The first one's end is that of the process.
pub fn thread_ended(task: &Task) {
    if task.trace.is_on() && task.tid() != task.process.pid {
        ended(task, task.end_status());
    }
}

/// The last thread has ended.
pub fn process_ended(process: &Arc<Process>, status: i32) {
    if let Some(leader) = traced_leader(process) {
        ended(&leader, status);
    }
}

/// Tells who traces. A process's own parent hears of its end anyway.
fn ended(task: &Task, status: i32) {
    let tracer = task.trace.tracer();
    let Some(tracer) = tree::process(tracer) else { return };
    end(task, 0);
    let is_told = task.tid() == task.process.pid && task.process.parent() == tracer.pid;
    let mut tracees = tracer.tracees.lock();
    let Some(at) = tracees.iter().position(|tracee| core::ptr::eq(&raw const *tracee.task, task)) else { return };
    if is_told {
        let removed = tracees.remove(at);
        drop(tracees);
        drop(removed);
        return;
    }
    if let Some(tracee) = tracees.get_mut(at) {
        tracee.ended = Some(status);
    }
    drop(tracees);
    tell_tracer(tracer.pid, task, Change::Ended(status));
}

/// At exec another thread takes the first one's id: nobody hears of that one any more.
pub fn leader_replaced(process: &Arc<Process>) {
    if let Some(leader) = traced_leader(process) {
        let tracer = tree::process(leader.trace.tracer());
        tracer.into_iter().for_each(|tracer| tracer.stop_tracing(&leader, 0));
    }
}

/// The first thread, where it is traced; it may have ended.
fn traced_leader(process: &Arc<Process>) -> Option<Arc<Task>> {
    if !kernel::watches_calls() {
        return None;
    }
    let is_leader = |tracee: &&Tracee| {
        tracee.task.tid() == process.pid && Arc::ptr_eq(&tracee.task.process, process) && tracee.ended.is_none()
    };
    let find = |tracer: &Arc<Process>| tracer.tracees.lock().iter().find(is_leader).map(|it| Arc::clone(&it.task));
    tree::collect_processes().iter().find_map(find)
}

/// The tracer has ended: its tracees go on, or die where it wished so.
pub fn tracer_ended(tracer: &Process) {
    let tracees: Vec<Tracee> = core::mem::take(&mut *tracer.tracees.lock());
    for tracee in tracees {
        let kills = tracee.task.trace.state.lock().options.contains(Options::EXITKILL);
        end(&tracee.task, 0);
        if kills && tracee.ended.is_none() {
            send_process(&tracee.task.process, SigInfo::kernel(SIGKILL));
        }
    }
}
