//! Sessions: credentials(7), "Process group IDs and session IDs".

use super::task::Pid;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering};
use machine::sync::Mutex;

/// A terminal as job control sees it.
pub trait ControllingTty: Send + Sync + core::any::Any {
    /// The session's leader ended: hang up.
    fn hang_up(&self);
    /// For those who know its type.
    fn as_any(&self) -> &dyn core::any::Any;
}

/// A session.
pub struct Session {
    /// Its id: the leader's pid.
    pub sid: Pid,
    tty: Mutex<Option<Arc<dyn ControllingTty>>>,
    foreground: AtomicI32,
}

impl core::fmt::Debug for Session {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Session({})", self.sid)
    }
}

impl Session {
    /// A session without a terminal.
    #[must_use]
    pub fn new(sid: Pid) -> Arc<Session> {
        Arc::new(Session { sid, tty: Mutex::new(None), foreground: AtomicI32::new(0) })
    }

    /// The controlling terminal.
    #[must_use]
    pub fn tty(&self) -> Option<Arc<dyn ControllingTty>> {
        self.tty.lock().clone()
    }

    /// Sets or drops the controlling terminal.
    pub fn set_tty(&self, tty: Option<Arc<dyn ControllingTty>>) {
        let old = core::mem::replace(&mut *self.tty.lock(), tty);
        drop(old);
    }

    /// Foreground process group of the terminal; 0 for none.
    #[must_use]
    pub fn foreground(&self) -> Pid {
        self.foreground.load(Ordering::SeqCst)
    }

    /// tcsetpgrp(3).
    pub fn set_foreground(&self, pgid: Pid) {
        self.foreground.store(pgid, Ordering::SeqCst);
    }
}
