//! Job control: who may use a terminal, and whom it tells.

use super::{State, Tty};
use crate::process::creds::CAP_SYS_ADMIN;
use crate::process::session::Session;
use crate::process::{Pid, Process, Task, tree};
use crate::signal::{SIGCONT, SIGHUP, SIGTTIN, SigInfo, send_all, send_process};
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};

fn send(process: &Arc<Process>, signal: i32, is_from_outside: bool) {
    // The user at the caller's terminal is outside: the first process takes what it does not handle, too.
    if is_from_outside && process.pid == 1 {
        process.allow_outside_signal(signal);
    }
    send_process(process, SigInfo::kernel(signal));
}

/// Signals every member of a group.
pub(super) fn signal_group(pgid: Pid, signal: i32, is_from_outside: bool) {
    if pgid != 0 {
        let is_member = |process: &Process| process.links_of_other().0 == pgid;
        send_all(signal, is_member, |process| send(process, signal, is_from_outside));
    }
}

/// Signals a process.
pub(super) fn signal_process(pid: Pid, signal: i32, is_from_outside: bool) {
    if let Some(process) = tree::process(pid) {
        send(&process, signal, is_from_outside);
    }
}

impl State {
    /// Whether it is the controlling terminal of that session.
    fn controls(&self, session: &Arc<Session>) -> bool {
        core::ptr::eq(self.session.as_ptr(), Arc::as_ptr(session))
    }
}

impl Tty {
    /// The caller's group and session, where this is its controlling terminal.
    fn controlled(&self, task: &Task) -> Option<(Pid, Arc<Session>)> {
        let (pgid, session) = {
            let links = task.process.links();
            (links.pgid, Arc::clone(&links.session))
        };
        let controls = self.state.lock().controls(&session);
        controls.then_some((pgid, session))
    }

    /// Whether it is the task's controlling terminal.
    pub(super) fn is_controlling(&self, task: &Task) -> bool {
        self.controlled(task).is_some()
    }

    /// A process of the background may not read (SIGTTIN) or change (SIGTTOU) its terminal: its group stops.
    ///
    /// # Errors
    /// INTERRUPTED after the signal; EIO where it has no effect on the group.
    pub(super) fn check_foreground(&self, task: &Task, signal: i32) -> Result<()> {
        let Some((pgid, session)) = self.controlled(task) else { return Ok(()) };
        let foreground = session.foreground();
        if foreground == pgid || foreground == 0 {
            return Ok(());
        }
        if task.signals.mask().has(signal) || task.process.actions().ignores(signal) {
            return if signal == SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
        }
        if tree::lock().is_orphaned(pgid) {
            return Err(Errno::EIO);
        }
        if machine::cpu::current().is_attempt() {
            return Err(Errno::INTERRUPTED);
        }
        signal_group(pgid, signal, false);
        Err(Errno::INTERRUPTED)
    }

    /// TIOCSCTTY: the terminal becomes the controlling one of the caller's session.
    ///
    /// # Errors
    /// EPERM for who leads no session or has a terminal, and where another session has this one.
    pub(super) fn acquire(&self, task: &Task, steals: bool) -> Result<()> {
        if self.controlled(task).is_some() {
            return Ok(());
        }
        let (pgid, session) = {
            let links = task.process.links();
            (links.pgid, Arc::clone(&links.session))
        };
        if session.sid != task.process.pid || session.tty().is_some() {
            return Err(Errno::EPERM);
        }
        self.take_from_other(task, steals)?;
        self.give_to(&session, pgid)
    }

    fn take_from_other(&self, task: &Task, steals: bool) -> Result<()> {
        let Some(other) = self.state.lock().session.upgrade() else { return Ok(()) };
        if !(steals && task.creds().has(CAP_SYS_ADMIN)) {
            return Err(Errno::EPERM);
        }
        other.set_tty(None);
        self.leave();
        Ok(())
    }

    /// Makes it a session's controlling terminal.
    ///
    /// # Errors
    /// EPERM where another session was faster; EIO where it has no number any more.
    pub(super) fn give_to(&self, session: &Arc<Session>, pgid: Pid) -> Result<()> {
        let this = super::find(self.index).ok_or(Errno::EIO)?;
        {
            let mut state = self.state.lock();
            if state.session.strong_count() != 0 {
                return Err(Errno::EPERM);
            }
            state.session = Arc::downgrade(session);
        }
        session.set_foreground(pgid);
        session.set_tty(Some(this));
        Ok(())
    }

    /// TIOCNOTTY by a session's leader: the session has no terminal any more, and its foreground hears of it.
    ///
    /// # Errors
    /// ENOTTY where it is not the caller's controlling terminal, or the caller leads no session.
    pub(super) fn give_up(&self, task: &Task) -> Result<()> {
        let (_, session) = self.controlled(task).ok_or(Errno::ENOTTY)?;
        if session.sid != task.process.pid {
            return Err(Errno::ENOTTY);
        }
        signal_group(session.foreground(), SIGHUP, false);
        signal_group(session.foreground(), SIGCONT, false);
        session.set_tty(None);
        session.set_foreground(0);
        self.state.lock().session = Weak::new();
        Ok(())
    }

    /// TIOCGPGRP: the foreground group. From the master any terminal's, else the controlling one's.
    ///
    /// # Errors
    /// ENOTTY.
    pub(super) fn foreground(&self, task: &Task, is_master: bool) -> Result<Pid> {
        if is_master {
            return Ok(self.state.lock().session.upgrade().map_or(0, |session| session.foreground()));
        }
        self.controlled(task).map(|(_, session)| session.foreground()).ok_or(Errno::ENOTTY)
    }

    /// TIOCSPGRP.
    ///
    /// # Errors
    /// ENOTTY; EINVAL for a negative group, ESRCH for none, EPERM for one of another session.
    pub(super) fn set_foreground(&self, task: &Task, pgid: Pid) -> Result<()> {
        let (_, session) = self.controlled(task).ok_or(Errno::ENOTTY)?;
        if pgid < 0 {
            return Err(Errno::EINVAL);
        }
        if tree::collect_group(pgid).is_empty() {
            return Err(Errno::ESRCH);
        }
        if !tree::lock().group_in_session(pgid, &session) {
            return Err(Errno::EPERM);
        }
        session.set_foreground(pgid);
        Ok(())
    }

    /// TIOCGSID: the session that it controls.
    ///
    /// # Errors
    /// ENOTTY where it is not the caller's controlling terminal.
    pub(super) fn session_id(&self, task: &Task, is_master: bool) -> Result<Pid> {
        if is_master {
            return self.state.lock().session.upgrade().map(|session| session.sid).ok_or(Errno::ENOTTY);
        }
        self.controlled(task).map(|(_, session)| session.sid).ok_or(Errno::ENOTTY)
    }
}
