//! Tracing: ptrace(2). A tracee stands on its way out of the LibOS, and where a call begins, and lays its registers open in
//! a [`Stop`]; the tracer reads and writes them there, and the tracee takes them back when it goes on.
//!
//! The tracer is a process: unlike on Linux, any of its threads may ask.
//!
//! Locks: process tree > a process's tracees > a task's trace, which is a leaf.

mod registers;
mod tracee;
mod tracees;

use super::task::Pid;
use super::wait::Change;
use crate::signal::{SIGTRAP, SigInfo};
use crate::wait::{Events, WaitQueue};
use crate::{Errno, Result};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use machine::sync::Mutex;
pub use registers::{OLD_STATE, Registers, State as RegisterState};
pub use tracee::{about_to_end, before_return, enter_call, event, program_loaded, signal_stop, stop_with_group};
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
    /// At its end, which is not that of others: it stands until they are to end as well.
    ends_alone: bool,
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
            ends_alone: false,
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
    /// It had CAP_SYS_PTRACE when it began to trace.
    is_capable: bool,
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

    /// Whether a program's set-user-ID bit counts: not for a tracer that could use the rights.
    pub fn lets_rights_grow(&self) -> bool {
        !self.is_on() || self.state.lock().is_capable
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
