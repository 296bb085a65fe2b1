//! Sending: kill(2), tgkill(2), rt_sigqueueinfo(2), and what the kernel sends.

use super::{Default_, SIGCONT, SIGKILL, STOPPING, SigInfo, SigSet, default_action};
use crate::process::thread_group::Process;
use crate::process::{Pid, Task, tree};
use alloc::sync::Arc;

/// Sends a signal to a process: some thread that does not block it takes it.
pub fn send_process(process: &Arc<Process>, info: SigInfo) {
    if !prepare(process, info.signal) {
        return;
    }
    process.pending.add(stamp(process, info));
    let tasks = process.tasks();
    if info.signal == SIGKILL {
        process.resume(false);
        tasks.iter().for_each(|task| task.cpu().kick());
        return;
    }
    let taker = tasks.iter().find(|task| !task.signals.mask().has(info.signal));
    if let Some(task) = taker {
        task.cpu().kick();
    }
    process.signal_arrived(info.signal);
}

/// Sends a signal to all processes that are meant, to each by `send`; says whether there were any. The tree is locked, so no
/// fork comes between, which would miss it: each child has it, or its maker before. But SIGCONT tells parents, which takes
/// that lock, and is for those that stand still and make no children.
pub fn send_all(signal: i32, is_meant: impl Fn(&Process) -> bool, send: impl FnMut(&Arc<Process>)) -> bool {
    let tree = tree::lock();
    let meant = tree.collect(is_meant);
    let held = (signal != SIGCONT).then_some(tree);
    meant.iter().for_each(send);
    drop(held);
    !meant.is_empty()
}

/// Sends a signal to every member of a group.
pub fn send_group(pgid: Pid, info: SigInfo) {
    send_all(info.signal, |process| process.links_of_other().0 == pgid, |process| send_process(process, info));
}

/// The calling thread was told of signals of its process that it blocks by now: a thread that does not is told.
pub fn pass_on(task: &Task) {
    tell_takers(&task.process, SigSet(task.process.pending.set().0 & task.signals.mask().0));
}

/// A thread has left the process, and may have been told of what it did not take.
pub fn thread_left(process: &Process) {
    tell_takers(process, process.pending.set());
}

fn tell_takers(process: &Process, left: SigSet) {
    if left.is_empty() {
        return;
    }
    let others = process.tasks();
    let takes = |other: &&Arc<Task>| !left.without(other.signals.mask()).is_empty();
    others.iter().filter(takes).for_each(|other| other.cpu().kick());
}

/// Sends a signal to one thread.
pub fn send_task(task: &Task, info: SigInfo) {
    if !prepare(&task.process, info.signal) {
        return;
    }
    task.signals.pending.add(stamp(&task.process, info));
    if info.signal == SIGKILL {
        task.process.resume(false);
    }
    if !task.signals.mask().has(info.signal) {
        task.cpu().kick();
    }
    task.process.signal_arrived(info.signal);
}

/// Sends a signal that a fault raised at the calling thread: it cannot be ignored or blocked.
pub fn force(task: &Task, info: SigInfo) {
    let action = task.process.actions().get(info.signal);
    let blocked = task.signals.mask().has(info.signal);
    if action.handler == super::SIG_IGN || blocked {
        task.process.actions().set(info.signal, super::Action { handler: super::SIG_DFL, ..action });
        task.signals.set_mask(task.signals.mask().without(SigSet::of(info.signal)));
    }
    task.signals.pending.add(info);
    task.cpu().mark_pending();
}

/// A stop that is cancelled by SIGCONT only if that is sent later.
fn stamp(process: &Process, info: SigInfo) -> SigInfo {
    if STOPPING.has(info.signal) { SigInfo { continues: process.continues(), ..info } } else { info }
}

/// What happens at the sending, whatever the mask: SIGCONT continues, stops and SIGCONT cancel each other.
/// Returns whether the signal is to be queued.
fn prepare(process: &Arc<Process>, signal: i32) -> bool {
    if signal == 0 || process.is_zombie() {
        return false;
    }
    let discard = if signal == SIGCONT {
        STOPPING
    } else if STOPPING.has(signal) {
        SigSet::of(SIGCONT)
    } else {
        SigSet(0)
    };
    if !discard.is_empty() {
        process.pending.discard(discard);
        process.tasks().iter().for_each(|task| task.signals.pending.discard(discard));
    }
    if signal == SIGCONT {
        process.resume(true);
    }
    // A blocked signal is queued even where it would be ignored: it may be waited for.
    let pin = machine::epoch::pin();
    let actions = process.actions_at(&pin);
    if actions.catches(signal)
        || crate::kernel::watches_calls() && process.tasks().iter().any(|task| task.trace.is_on())
        || process.is_so_of_all(|task| task.signals.blocks_or_did(signal))
    {
        return true;
    }
    let is_init = process.pid == 1 && crate::kernel::has_init();
    if is_init && actions.get(signal).handler == 0 && !matches!(default_action(signal), Default_::Core) {
        // The container's init gets only what it has handlers for, but for SIGKILL and stops from outside;
        // those come through `from_outside`.
        return process.takes_outside_signal(signal);
    }
    !actions.ignores(signal)
}
