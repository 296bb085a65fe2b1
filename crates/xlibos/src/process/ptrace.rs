//! Tracing: ptrace(2). A tracee stands on its way out of the LibOS, and where a call begins, and lays its registers open in
//! a [`Stop`]; the tracer reads and writes them there, and the tracee takes them back when it goes on.
//!
//! The tracer is a process: unlike on Linux, any of its threads may ask.
//!
//! Locks: process tree > a process's tracees > a task's trace, which is a leaf.

mod registers;
mod tracees;

use super::task::{Pid, Task};
use super::thread_group::RunState;
use super::wait::Change;
use super::{standstill, tree, visit};
use crate::quiesce;
use crate::signal::{SA_NOCLDSTOP, SI_USER, SIG_IGN, SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP, SigInfo, deliver, send};
use crate::signal::{send_process, send_task};
use crate::syscall::Restart;
use crate::wait::{Events, WaitQueue, wait_until};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use machine::sync::Mutex;
pub use registers::{OLD_STATE, Registers, State as RegisterState};
pub use tracees::{
    Tracee, attach, find_report, follow, leader_replaced, process_ended, thread_ended, trace_me, tracer_ended,
};

bitflags::bitflags! {
    /// PTRACE_O_*.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Options: u64 {
        /// Stops of calls say so in the signal's number.
        const SYSGOOD = 1;
        /// Stop at fork(2), and trace the child.
        const FORK = 2;
        /// The same for vfork(2).
        const VFORK = 4;
        /// The same for clone(2) of other kinds.
        const CLONE = 8;
        /// Stop at execve(2).
        const EXEC = 0x10;
        /// Stop when vfork's child has gone its way.
        const VFORK_DONE = 0x20;
        /// Stop at the end.
        const EXIT = 0x40;
        /// The tracer's end kills.
        const EXITKILL = 0x10_0000;
    }
}

/// PTRACE_EVENT_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// fork(2).
    Fork = 1,
    /// vfork(2).
    Vfork,
    /// clone(2).
    Clone,
    /// execve(2).
    Exec,
    /// The child of vfork has gone its way.
    VforkDone,
    /// The end.
    Exit,
}

impl Event {
    fn option(self) -> Options {
        match self {
            Event::Fork => Options::FORK,
            Event::Vfork => Options::VFORK,
            Event::Clone => Options::CLONE,
            Event::Exec => Options::EXEC,
            Event::VforkDone => Options::VFORK_DONE,
            Event::Exit => Options::EXIT,
        }
    }
}

/// PTRACE_EVENT_STOP, in the place of an event: PTRACE_INTERRUPT, the first stop of a new tracee, its group's stop.
const EVENT_STOP: i32 = 128 << 8;
/// In the signal's number: a call's stop.
const SYSGOOD: i32 = 0x80;
/// The processor's flag for single steps.
const TRAP_FLAG: u64 = 0x100;
/// `si_code` of a single step.
const TRAP_TRACE: i32 = 2;

/// How a tracee goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Until a signal or an event.
    #[default]
    Free,
    /// To the beginning or end of the next call.
    Calls,
    /// For one instruction.
    Step,
}

/// Why a tracee stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is to get a signal.
    Signal,
    /// A call begins.
    Entry,
    /// A call has ended.
    Exit,
    /// An event.
    Event,
    /// Its process is stopped.
    Group,
}

/// A tracee that stands.
pub struct Stop {
    /// Why.
    pub kind: Kind,
    /// What wait(2) says: signal, and event above.
    code: i32,
    /// PTRACE_GETEVENTMSG.
    pub message: u64,
    /// PTRACE_GETSIGINFO.
    pub info: SigInfo,
    /// Its registers.
    pub registers: RegisterState,
    is_reported: bool,
    /// How it goes on, once that is told.
    goes_on: Option<(Mode, i32)>,
    /// PTRACE_LISTEN: it stands until something new happens.
    listens: bool,
    /// Something new happened: its process goes on.
    is_outdated: bool,
}

impl Stop {
    fn new(kind: Kind, code: i32) -> Stop {
        Stop {
            kind,
            code,
            message: 0,
            info: SigInfo { signal: SIGTRAP, code, ..SigInfo::default() },
            registers: RegisterState::default(),
            is_reported: false,
            goes_on: None,
            listens: false,
            is_outdated: false,
        }
    }
}

impl Stop {
    /// PTRACE_GETSIGINFO.
    ///
    /// # Errors
    /// EINVAL where the process is stopped, and no signal is on its way.
    pub fn signal_info(&self) -> Result<&SigInfo> {
        if self.kind == Kind::Group && self.code & EVENT_STOP == 0 { Err(Errno::EINVAL) } else { Ok(&self.info) }
    }
}

#[derive(Default)]
struct State {
    /// Process that traces; 0 for none.
    tracer: Pid,
    is_seized: bool,
    options: Options,
    mode: Mode,
    /// It is in a call that began while it was traced.
    in_call: bool,
    /// PTRACE_INTERRUPT, or the first stop of a child of a seized tracee.
    is_asked: bool,
    /// It runs although its process is stopped, until that changes.
    passes_stop: bool,
    stop: Option<Stop>,
}

/// A task's side of tracing.
#[derive(Default)]
pub struct Trace {
    is_traced: AtomicBool,
    state: Mutex<State>,
    resumed: WaitQueue,
    /// Wait status of a thread that ends alone.
    pub exit_status: AtomicI32,
    /// Its id when it called execve(2), which gives it the process's.
    pub exec_tid: AtomicI32,
}

impl Trace {
    /// Whether anybody traces the task.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_traced.load(Ordering::SeqCst)
    }

    /// The process that traces; 0 for none.
    pub fn tracer(&self) -> Pid {
        if self.is_on() { self.state.lock().tracer } else { 0 }
    }

    /// Whether it stands for its tracer.
    pub fn is_stopped(&self) -> bool {
        self.is_on() && self.state.lock().stop.is_some()
    }

    /// Whether it runs on though its process is stopped.
    pub fn passes_stop(&self) -> bool {
        self.is_on() && self.state.lock().passes_stop
    }

    /// Its process goes on: the next stop holds it again, and who listens is told.
    pub fn process_resumed(&self) {
        if !self.is_on() {
            return;
        }
        let mut state = self.state.lock();
        state.passes_stop = false;
        state.stop.iter_mut().for_each(|stop| stop.is_outdated = true);
        state.end_listening();
        drop(state);
        self.resumed.wake(Events::all());
    }

    /// PTRACE_SETOPTIONS.
    pub fn set_options(&self, options: Options) {
        self.state.lock().options = options;
    }

    /// Does something with a tracee that stands for `tracer`.
    ///
    /// # Errors
    /// ESRCH where it does not; those of `act`.
    pub fn with_stop<T>(&self, tracer: Pid, act: impl FnOnce(&mut Stop) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock();
        if state.tracer != tracer {
            return Err(Errno::ESRCH);
        }
        let stands = state.stop.as_mut().filter(|stop| stop.goes_on.is_none() && !stop.listens);
        act(stands.ok_or(Errno::ESRCH)?)
    }

    /// Lets a tracee that stands go on, with a signal in place of its own.
    ///
    /// # Errors
    /// ESRCH where it does not stand.
    pub fn resume(&self, tracer: Pid, mode: Mode, signal: i32) -> Result<()> {
        self.with_stop(tracer, |stop| {
            stop.goes_on = Some((mode, signal));
            Ok(())
        })?;
        self.resumed.wake(Events::all());
        Ok(())
    }

    /// PTRACE_LISTEN.
    ///
    /// # Errors
    /// EIO where it is not stopped by an event, ESRCH.
    pub fn listen(&self, tracer: Pid) -> Result<()> {
        let is_seized = self.state.lock().is_seized;
        let is_outdated = self.with_stop(tracer, |stop| {
            if !is_seized || stop.code & EVENT_STOP == 0 {
                return Err(Errno::EIO);
            }
            stop.listens = true;
            Ok(stop.is_outdated)
        })?;
        if is_outdated {
            self.process_resumed();
        }
        Ok(())
    }

    /// PTRACE_INTERRUPT.
    ///
    /// # Errors
    /// EIO where it was not seized, ESRCH.
    pub fn interrupt(&self, tracer: Pid) -> Result<()> {
        let mut state = self.state.lock();
        if state.tracer != tracer {
            return Err(Errno::ESRCH);
        }
        if !state.is_seized {
            return Err(Errno::EIO);
        }
        state.is_asked = true;
        state.end_listening();
        drop(state);
        self.resumed.wake(Events::all());
        Ok(())
    }

    /// What wait(2) has not told of; takes it unless `keep`.
    fn take_report(&self, keep: bool) -> Option<Change> {
        let mut state = self.state.lock();
        let stop = state.stop.as_mut().filter(|stop| !stop.is_reported && stop.goes_on.is_none())?;
        stop.is_reported = !keep;
        Some(Change::Trapped(stop.code))
    }
}

impl State {
    fn end_listening(&mut self) {
        if let Some(stop) = self.stop.as_mut().filter(|stop| stop.listens) {
            stop.listens = false;
            stop.goes_on = Some((Mode::Free, 0));
            self.is_asked = true;
        }
    }
}

// ---------------------------------------------------------------- the tracee's side

/// How a tracee went on.
struct Resumed {
    signal: i32,
    info: SigInfo,
}

/// Stands for the tracer, until it lets the thread go on, or a kill does. None where nobody traces any more.
fn stand(task: &Task, mut stop: Stop) -> Option<Resumed> {
    let before = Registers::of_thread(task);
    stop.registers = RegisterState::of_thread(task);
    if let (Some(class), true) = (task.interrupted(), task.kept_progress() == 0) {
        stop.registers.show_result(restart_code(class));
    }
    let (code, tracer) = {
        let mut state = task.trace.state.lock();
        if state.tracer == 0 {
            return None;
        }
        if state.mode == Mode::Step {
            stop.registers.hide_steps();
        }
        let code = stop.code;
        state.stop = Some(stop);
        (code, state.tracer)
    };
    tell_tracer(tracer, task, Change::Trapped(code));
    wait_for_tracer(task, code);
    let (stop, (mode, signal), was_stepped) = {
        let mut state = task.trace.state.lock();
        let stop = state.stop.take()?;
        let goes_on = stop.goes_on.unwrap_or_default();
        state.passes_stop |= stop.kind == Kind::Group && task.process.is_stopped();
        (stop, goes_on, core::mem::replace(&mut state.mode, goes_on.0) == Mode::Step)
    };
    if stop.registers.load(task, &before) {
        note_restart(task, stop.registers.general());
    }
    step(mode, was_stepped);
    machine::cpu::current().mark_pending();
    Some(Resumed { signal, info: stop.info })
}

fn wait_for_tracer(task: &Task, code: i32) {
    let trace = &task.trace;
    let is_killed = || task.process.pending.set().union(task.signals.pending.set()).has(SIGKILL);
    // At its end a thread stands though it must exit.
    let is_ending = code >> 8 == Event::Exit as i32;
    let is_over = || {
        let told = trace.state.lock().stop.as_ref().is_none_or(|stop| stop.goes_on.is_some());
        (told || is_killed() || task.must_exit() && !is_ending).then_some(())
    };
    while wait_until(&[&trace.resumed], None, is_over).is_err() {
        machine::cpu::current().clear_pending();
        standstill::stand(task);
        visit::serve(task);
        quiesce::stand(task);
    }
}

/// A single step, or none more.
fn step(mode: Mode, was_stepped: bool) {
    let cpu = machine::cpu::current();
    let frame = *cpu.frame();
    let rflags = match mode {
        Mode::Step => frame.rflags | TRAP_FLAG,
        _ if was_stepped => frame.rflags & !TRAP_FLAG,
        _ => return,
    };
    cpu.set_frame(&machine::TrapFrame { rflags, ..frame });
}

/// What a tracer sees as the result of a call that was interrupted: ERESTARTSYS and its like.
fn restart_code(class: Restart) -> u64 {
    let code: i64 = match class {
        Restart::Always => -512,
        Restart::Untold => -513,
        Restart::NoHandler => -514,
        Restart::Never => return Errno::EINTR.as_return(),
    };
    code.cast_unsigned()
}

/// Whether the call begins again follows from the registers that the tracer left, as on Linux.
fn note_restart(task: &Task, registers: &Registers) {
    let classes = [Restart::Always, Restart::Untold, Restart::NoHandler];
    let class = classes.into_iter().find(|class| restart_code(*class) == registers.rax);
    match class.filter(|_| registers.orig_rax.cast_signed() >= 0) {
        Some(class) => {
            task.note_interrupted(class);
            machine::cpu::current().set_return(Errno::EINTR.as_return());
        }
        None => drop(task.take_interrupted()),
    }
}

fn tell_tracer(tracer: Pid, task: &Task, change: Change) {
    let Some(tracer) = tree::process(tracer) else { return };
    let action = tracer.actions().get(SIGCHLD);
    if action.handler != SIG_IGN && action.flags & SA_NOCLDSTOP == 0 {
        let (code, status) = change.code_and_status();
        let status = status & 0x7f;
        let (pid, uid) = (task.tid(), task.creds().uid);
        let value = u64::from(status.cast_unsigned());
        send_process(&tracer, SigInfo { signal: SIGCHLD, code, pid, uid, value, ..SigInfo::default() });
    }
    tracer.child_events.wake(Events::IN);
}

/// A signal is about to be delivered: the one that the tracer lets through. None for none.
pub fn signal_stop(task: &Task, info: SigInfo) -> Option<SigInfo> {
    if info.signal == SIGKILL || task.must_exit() {
        return Some(info);
    }
    let Some(resumed) = stand(task, Stop { info, ..Stop::new(Kind::Signal, info.signal) }) else { return Some(info) };
    if resumed.signal == 0 {
        return None;
    }
    let info = if resumed.signal == info.signal {
        resumed.info
    } else {
        SigInfo { signal: resumed.signal, code: SI_USER, pid: task.process.parent(), ..SigInfo::default() }
    };
    if task.signals.mask().has(info.signal) {
        send_task(task, info);
        return None;
    }
    Some(info)
}

/// A call begins. False where the tracer has made it none, or the thread is to end.
pub fn enter_call(task: &Task) -> bool {
    {
        let mut state = task.trace.state.lock();
        // One that was interrupted, and told of nothing, goes on.
        if core::mem::replace(&mut state.in_call, true) || state.mode != Mode::Calls {
            return true;
        }
    }
    let cpu = machine::cpu::current();
    cpu.set_return(Errno::ENOSYS.as_return());
    stand(task, Stop { message: 1, ..Stop::new(Kind::Entry, call_code(task)) });
    cpu.frame().orig_rax != u64::MAX
}

fn call_code(task: &Task) -> i32 {
    SIGTRAP | if task.trace.state.lock().options.contains(Options::SYSGOOD) { SYSGOOD } else { 0 }
}

/// On the way out: the end of a call, and what PTRACE_INTERRUPT asked for.
pub fn before_return(task: &Task) {
    let is_over = task.interrupted().is_none() || deliver::has_deliverable(task) || task.process.is_stopped();
    let (mode, is_asked) = {
        let mut state = task.trace.state.lock();
        let is_asked = core::mem::take(&mut state.is_asked);
        let ends = state.in_call && (is_over || is_asked);
        state.in_call &= !ends;
        (ends.then_some(state.mode), is_asked)
    };
    match mode {
        Some(Mode::Calls) => {
            stand(task, Stop { message: 2, ..Stop::new(Kind::Exit, call_code(task)) });
        }
        Some(Mode::Step) => {
            send::force(task, SigInfo { signal: SIGTRAP, code: TRAP_TRACE, ..SigInfo::default() });
        }
        Some(Mode::Free) | None => {}
    }
    if is_asked {
        let signal = if let RunState::Stopped(signal) = task.process.run_state() { signal } else { SIGTRAP };
        let kind = if signal == SIGTRAP { Kind::Event } else { Kind::Group };
        stand(task, Stop::new(kind, signal | EVENT_STOP));
    }
}

/// The process is stopped by a signal.
pub fn stop_with_group(task: &Task, signal: i32) {
    let event = if task.trace.state.lock().is_seized { EVENT_STOP } else { 0 };
    stand(task, Stop::new(Kind::Group, signal | event));
}

/// Something happens of which the tracer wants to know.
pub fn event(task: &Task, event: Event, message: u64) {
    if task.trace.is_on() && task.trace.state.lock().options.contains(event.option()) {
        stand(task, Stop { message, ..Stop::new(Kind::Event, SIGTRAP | (event as i32) << 8) });
    }
}

/// execve(2) has loaded another program.
pub fn program_loaded(task: &Task) {
    if !task.trace.is_on() {
        return;
    }
    let (wants_event, is_seized) = {
        let state = task.trace.state.lock();
        (state.options.contains(Options::EXEC), state.is_seized)
    };
    if wants_event {
        let old_tid = task.trace.exec_tid.load(Ordering::Relaxed);
        event(task, Event::Exec, u64::from(old_tid.unsigned_abs()));
    } else if !is_seized {
        send_task(task, SigInfo { signal: SIGTRAP, code: SI_USER, pid: task.process.pid, ..SigInfo::default() });
    }
    // The end of the call is told on the way out.
    machine::cpu::current().mark_pending();
}

/// The thread is about to end.
pub fn about_to_end(task: &Task) {
    if !task.trace.is_on() {
        return;
    }
    let status = task.process.exit_status().unwrap_or_else(|| task.trace.exit_status.load(Ordering::Relaxed));
    if status & 0x7f != SIGKILL {
        event(task, Event::Exit, u64::from(status.cast_unsigned()));
    }
}

/// First stop of a task that is traced from its beginning.
fn ask_for_first_stop(task: &Arc<Task>) {
    let is_seized = {
        let mut state = task.trace.state.lock();
        state.is_asked = state.is_seized;
        state.is_seized
    };
    if is_seized {
        task.cpu().kick();
    } else {
        send_task(task, SigInfo { signal: SIGSTOP, code: SI_USER, ..SigInfo::default() });
    }
}
