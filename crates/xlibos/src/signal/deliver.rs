//! Delivery: what a thread does about its pending signals before it returns to guest code.

use super::{
    Action, Default_, SA_NODEFER, SA_RESTART, SI_TKILL, SI_USER, SIG_IGN, SIGCONT, SIGKILL, SIGSEGV, SIGSTOP, STOPPING,
    SigInfo, SigSet, default_action, frame, send,
};
use crate::process::{Task, exit, ptrace};
use crate::syscall::Restart;
use machine::epoch::pin;
use machine::{Errno, TrapFrame};

/// Pending and not blocked.
#[must_use]
pub fn deliverable(task: &Task) -> SigSet {
    let pending = task.signals.pending.set().union(task.process.pending.set());
    pending.without(task.signals.mask())
}

/// Whether anything is pending and not blocked.
#[must_use]
pub fn has_deliverable(task: &Task) -> bool {
    !deliverable(task).is_empty()
}

/// Replaces the calling thread's mask; it stays in the LibOS for what may be delivered now.
pub fn set_mask(task: &Task, mask: SigSet) {
    if task.signals.replace_mask(mask) && has_deliverable(task) {
        machine::cpu::current().mark_pending();
    }
}

/// Takes the next signal out of `wanted`, the thread's own first.
pub fn take(task: &Task, wanted: SigSet) -> Option<SigInfo> {
    let info = task.signals.pending.take(wanted).or_else(|| task.process.pending.take(wanted))?;
    Some(task.process.alarms.taken(info))
}

/// A call of the calling thread sends it a signal by which it is told no more than who sent it: handled where no other signal is
/// to come first, and nobody looks on. False where it is to be queued.
#[must_use]
pub fn at_once(task: &Task, info: SigInfo) -> bool {
    let is_plain = !NOT_AT_ONCE.has(info.signal) && matches!(info.code, SI_USER | SI_TKILL);
    let is_next = !task.signals.mask().has(info.signal) && !has_deliverable(task);
    if !is_plain || !is_next || crate::kernel::is_watched() || task.is_held() {
        return false;
    }
    let action = task.process.actions_at(&pin()).take(info.signal);
    if action.handler <= SIG_IGN {
        return false;
    }
    // As the call returns.
    let registers = TrapFrame { rax: 0, ..as_guest_sees(task, machine::cpu::current().frame()) };
    if !run_handler(task, registers, info, action, 0) {
        no_room(task, info);
    }
    true
}

/// What does more at the sending than to come.
const NOT_AT_ONCE: SigSet = STOPPING.union(SigSet::of(SIGCONT)).union(SigSet::of(SIGKILL));

/// What became of an interrupted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was no signal.
    Nothing,
    /// No handler runs: the call begins again.
    NoHandler,
    /// A handler runs; the frame says what the call did.
    Handler,
}

/// Handles every pending signal, until one stops the process. The first handler finds a call that was interrupted ended, or about
/// to begin again; where it has `done` something it has ended by that.
pub fn deliver_all(task: &Task, done: usize) -> Outcome {
    let mut outcome = Outcome::Nothing;
    while !task.is_held() {
        let Some(info) = take(task, SigSet(u64::MAX).without(task.signals.mask())) else { break };
        if outcome == Outcome::Nothing {
            outcome = Outcome::NoHandler;
        }
        let info = if task.trace.is_on() { ptrace::signal_stop(task, info) } else { Some(info) };
        let Some(info) = info else { continue };
        if crate::kernel::is_straced() {
            crate::syscall::trace::signal(task, &info);
        }
        // Below one pin.
        let (action, registers) = {
            let pin = pin();
            let action = task.process.actions_at(&pin).take(info.signal);
            (action, as_guest_sees(task, machine::cpu::current().frame()))
        };
        match action.handler {
            SIG_IGN => {}
            0 => by_default(task, info),
            _ if run_handler(task, registers, info, action, done) => outcome = Outcome::Handler,
            _ => no_room(task, info),
        }
    }
    outcome
}

fn is_orphaned(task: &Task) -> bool {
    let (pgid, _) = task.process.links_of_other();
    crate::process::tree::lock().is_orphaned(pgid)
}

fn by_default(task: &Task, info: SigInfo) {
    let signal = info.signal;
    match default_action(signal) {
        Default_::Ignore | Default_::Continue => {}
        // Nobody could continue a group that no shell knows.
        Default_::Stop if signal != SIGSTOP && is_orphaned(task) => {}
        Default_::Stop => task.process.stop(task, info),
        // No core file is written, so the parent is told of none.
        Default_::Terminate | Default_::Core => exit::kill_process(task, signal),
    }
}

/// Builds the handler's frame on the guest's stack and points the thread at the handler; false where there is no room.
fn run_handler(task: &Task, mut registers: TrapFrame, info: SigInfo, action: Action, done: usize) -> bool {
    if let Some(class) = task.interrupted().filter(|_| done == 0) {
        finish_interrupted(&mut registers, class, action);
    }
    let mask = task.signals.mask_to_restore();
    let Ok(handler) = frame::push(task, &registers, info, &action, mask) else { return false };
    machine::cpu::current().set_frame(&handler);
    let _ = (task.take_interrupted(), task.signals.take_saved());
    let own = if action.flags & SA_NODEFER == 0 { SigSet::of(info.signal) } else { SigSet(0) };
    task.signals.replace_mask(task.signals.mask().union(action.mask).union(own));
    true
}

/// A frame cannot be written: SIGSEGV instead, whose handler may have a stack of its own; but death where it was that signal.
fn no_room(task: &Task, info: SigInfo) {
    if info.signal == SIGSEGV {
        exit::kill_process(task, SIGSEGV);
    } else {
        send::force(task, SigInfo::kernel(SIGSEGV));
    }
}

/// Registers of the calling thread, with the guest's own addresses in place of those of stubs.
pub fn as_guest_sees(task: &Task, registers: &TrapFrame) -> TrapFrame {
    if registers.rcx == registers.rip && task.is_unmoved(registers.rip) {
        return *registers;
    }
    let pin = pin();
    let mm = task.process.mm_at(&pin);
    let rip = mm.original_pc(registers.rip);
    // A stub's address may stand where the hardware leaves the return address.
    let rcx = if registers.rcx == registers.rip { rip } else { mm.original_pc(registers.rcx) };
    TrapFrame { rip, rcx, ..*registers }
}

/// What the guest finds where the interrupted call was: EINTR, or the call again.
fn finish_interrupted(registers: &mut TrapFrame, class: Restart, action: Action) {
    let again = class == Restart::Untold || class == Restart::Always && action.flags & SA_RESTART != 0;
    if again {
        registers.rip = registers.rip.wrapping_sub(2);
        registers.rax = registers.orig_rax;
    } else {
        registers.rax = Errno::EINTR.as_return();
    }
}
