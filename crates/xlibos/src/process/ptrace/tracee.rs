//! The tracee's side: where it stands, and how it goes on.

use super::super::run_state::RunState;
use super::super::task::{Pid, Task};
use super::super::wait::Change;
use super::super::{standstill, tree, visit};
use super::{EVENT_STOP, Event, Kind, Mode, Options, RegisterState, Registers, SYSGOOD, Stop, TRAP_FLAG, TRAP_TRACE};
use crate::signal::{SA_NOCLDSTOP, SI_USER, SIG_IGN, SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP, SigInfo, deliver, send};
use crate::signal::{send_process, send_task};
use crate::syscall::Restart;
use crate::wait::{Events, wait_until};
use crate::{Errno, quiesce};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

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
    let (code, ends_alone, tracer) = {
        let mut state = task.trace.state.lock();
        if state.tracer == 0 {
            return None;
        }
        if state.mode == Mode::Step {
            stop.registers.hide_steps();
        }
        // It may have been continued on the way here, where no stop was found to tell that of.
        stop.is_outdated = stop.kind == Kind::Group && !task.process.is_stopped();
        let (code, ends_alone) = (stop.code, stop.ends_alone);
        state.stop = Some(stop);
        (code, ends_alone, state.tracer)
    };
    tell_tracer(tracer, task, Change::Trapped(code));
    wait_for_tracer(task, code, ends_alone);
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

fn wait_for_tracer(task: &Task, code: i32, ends_alone: bool) {
    let trace = &task.trace;
    // At its end a thread stands though it must exit.
    let is_ending = code >> 8 == Event::Exit as i32;
    let must_go = || if is_ending { ends_alone && is_process_ending(task) } else { task.must_exit() };
    let is_over = || {
        let told = trace.state.lock().stop.as_ref().is_none_or(|stop| stop.goes_on.is_some());
        (told || task.is_killed() || must_go()).then_some(())
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

pub(super) fn tell_tracer(tracer: Pid, task: &Task, change: Change) {
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
    // The tracer may have written another number into what it was told.
    let info = if resumed.signal == resumed.info.signal {
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
    stand_for(task, event, message, false);
}

fn stand_for(task: &Task, event: Event, message: u64, ends_alone: bool) {
    if task.trace.is_on() && task.trace.state.lock().options.contains(event.option()) {
        let code = SIGTRAP | (event as i32) << 8;
        stand(task, Stop { message, ends_alone, ..Stop::new(Kind::Event, code) });
    }
}

fn is_process_ending(task: &Task) -> bool {
    task.process.exit_status().is_some() || task.process.is_executing.load(Ordering::SeqCst)
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
    // First: a kill from here on has it stand no longer, and may be taken by another thread.
    let ends_alone = !is_process_ending(task);
    let status = task.end_status();
    if status & 0x7f != SIGKILL {
        stand_for(task, Event::Exit, u64::from(status.cast_unsigned()), ends_alone);
    }
}

/// First stop of a task that is traced from its beginning.
pub(super) fn ask_for_first_stop(task: &Arc<Task>) {
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
