//! Waiting for children: wait4(2), waitid(2).

use super::ptrace;
use super::run_state::RunState;
use super::task::{Pid, Task};
use super::thread_group::Process;
use super::tree;
use super::usage::Usage;
use crate::signal::{SA_NOCLDSTOP, SA_NOCLDWAIT, SIG_IGN, SIGCHLD, SIGCONT, SigInfo, send_process};
use crate::wait::{Events, wait_until};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// What happened to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended with this wait status.
    Ended(i32),
    /// It was stopped by this signal.
    Stopped(i32),
    /// It goes on.
    Continued,
    /// It stands for its tracer: signal, and event above.
    Trapped(i32),
}

const CLD_EXITED: i32 = 1;
const CLD_KILLED: i32 = 2;
const CLD_TRAPPED: i32 = 4;
const CLD_STOPPED: i32 = 5;
const CLD_CONTINUED: i32 = 6;

impl Change {
    /// The status word of wait4.
    #[must_use]
    pub fn wait_status(self) -> i32 {
        match self {
            Change::Ended(status) => status,
            Change::Stopped(code) | Change::Trapped(code) => code << 8 | 0x7f,
            Change::Continued => 0xffff,
        }
    }

    /// si_code and si_status.
    #[must_use]
    pub fn code_and_status(self) -> (i32, i32) {
        match self {
            Change::Ended(status) if status & 0x7f == 0 => (CLD_EXITED, status >> 8 & 0xff),
            Change::Ended(status) => (CLD_KILLED, status & 0x7f),
            Change::Stopped(signal) => (CLD_STOPPED, signal),
            Change::Continued => (CLD_CONTINUED, SIGCONT),
            Change::Trapped(code) => (CLD_TRAPPED, code),
        }
    }
}

/// Tells a process's parent of a change: wakes its waits and sends the signal.
pub fn notify_parent(process: &Arc<Process>, change: Change) {
    // The guard must be gone before the tree is locked: the order is tree, then links.
    let parent = process.parent();
    let Some(parent) = tree::process(parent) else {
        if matches!(change, Change::Ended(_)) {
            tree::lock().remove_process(process.pid);
            process.tell_end();
            process.events.wake(Events::all());
        }
        return;
    };
    let action = parent.actions().get(SIGCHLD);
    let signal = process.exit_signal.load(Ordering::Relaxed);
    let ended = matches!(change, Change::Ended(_));
    let unwanted = action.handler == SIG_IGN || action.flags & SA_NOCLDWAIT != 0;
    if ended && signal == SIGCHLD && unwanted {
        tree::lock().remove_process(process.pid);
    }
    let muted = !ended && action.flags & SA_NOCLDSTOP != 0;
    // Who waits finds the end with its signal. SIGCONT tells parents, which takes the lock.
    let tree = ended.then(tree::lock);
    if ended {
        process.tell_end();
    }
    let held = tree.filter(|_| signal != SIGCONT);
    let to_send = if ended { signal } else { SIGCHLD };
    if to_send != 0 && !muted {
        let (code, status) = change.code_and_status();
        let value = u64::from(status.cast_unsigned());
        send_process(&parent, SigInfo { signal: to_send, code, pid: process.pid, value, ..SigInfo::default() });
    }
    drop(held);
    if ended {
        process.events.wake(Events::all());
    }
    parent.child_events.wake(Events::IN);
}

/// Which children are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Any.
    Any,
    /// One.
    Pid(Pid),
    /// Those of a group.
    Group(Pid),
}

bitflags::bitflags! {
    /// Options of wait4 and waitid.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Options: u32 {
        /// WNOHANG.
        const NOHANG = 1;
        /// WUNTRACED, WSTOPPED.
        const STOPPED = 2;
        /// WEXITED.
        const EXITED = 4;
        /// WCONTINUED.
        const CONTINUED = 8;
        /// WNOWAIT.
        const NOWAIT = 0x0100_0000;
        /// __WNOTHREAD.
        const NOTHREAD = 0x2000_0000;
        /// __WALL.
        const ALL = 0x4000_0000;
        /// __WCLONE.
        const CLONE = 0x8000_0000;
    }
}

/// A child's change, as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The child.
    pub pid: Pid,
    /// What happened.
    pub change: Change,
    /// What it used; nothing while it lives.
    pub usage: Usage,
}

/// Waits for a child. `Ok(None)` with NOHANG where none changed.
///
/// # Errors
/// ECHILD where no child is meant; INTERRUPTED.
pub fn wait(task: &Task, which: Which, options: Options) -> Result<Option<Found>> {
    let process = &task.process;
    let look = || match find(process, which, options) {
        Ok(None) => None,
        other => Some(other),
    };
    let found = if options.contains(Options::NOHANG) {
        find(process, which, options)?
    } else {
        machine::hand_over::waits_for_child();
        wait_until(&[&process.child_events], None, look)?.unwrap_or(Ok(None))?
    };
    if found.is_some_and(|found| matches!(found.change, Change::Ended(_))) {
        machine::hand_over::child_has_ended();
    }
    Ok(found)
}

fn find(process: &Arc<Process>, which: Which, options: Options) -> Result<Option<Found>> {
    let mut tree = tree::lock();
    let own_group = process.links_of_other().0;
    let children: Vec<Arc<Process>> = {
        let pids = process.links().children.clone();
        pids.iter().filter_map(|&pid| tree.process(pid)).collect()
    };
    let has_tracees = crate::kernel::watches_calls();
    let mut any = false;
    for child in &children {
        if !is_meant(child, which, own_group) || !matches_clone(child, options) {
            continue;
        }
        any = true;
        let keep = options.contains(Options::NOWAIT);
        let has_ended = child.is_end_told() && options.contains(Options::EXITED);
        if let (RunState::Zombie(status), true) = (child.run_state(), has_ended) {
            let usage = child.final_usage();
            if !keep {
                process.add_child_usage(child);
                tree.remove_process(child.pid);
            }
            return Ok(Some(Found { pid: child.pid, change: Change::Ended(status), usage }));
        }
        if has_tracees && tree.task(child.pid).is_some_and(|leader| leader.trace.tracer() == process.pid) {
            continue;
        }
        let stopped = options.contains(Options::STOPPED);
        let continued = options.contains(Options::CONTINUED);
        if let Some(change) = child.take_report(stopped, continued, keep) {
            return Ok(Some(Found { pid: child.pid, change, usage: Usage::default() }));
        }
    }
    let is_tracee_meant = |tracee: &Task| match which {
        Which::Pid(tid) => tracee.tid() == tid,
        _ => is_meant(&tracee.process, which, own_group),
    };
    let (wants_ended, keep) = (options.contains(Options::EXITED), options.contains(Options::NOWAIT));
    match ptrace::find_report(process, is_tracee_meant, wants_ended, keep) {
        Some(Some((pid, change))) => Ok(Some(Found { pid, change, usage: Usage::default() })),
        Some(None) => Ok(None),
        None if any => Ok(None),
        None => Err(Errno::ECHILD),
    }
}

fn is_meant(child: &Process, which: Which, own_group: Pid) -> bool {
    match which {
        Which::Any => true,
        Which::Pid(pid) => child.pid == pid,
        Which::Group(0) => child.links_of_other().0 == own_group,
        Which::Group(pgid) => child.links_of_other().0 == pgid,
    }
}

fn matches_clone(child: &Process, options: Options) -> bool {
    let is_clone = child.exit_signal.load(Ordering::Relaxed) != SIGCHLD;
    options.contains(Options::ALL) || is_clone == options.contains(Options::CLONE)
}
