//! Sessions: credentials(7), "Process group IDs and session IDs".

use super::task::Pid;
use crate::tty::Tty;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering};
use machine::sync::Mutex;

/// A session.
pub struct Session {
    /// Its id: the leader's pid.
    pub sid: Pid,
    tty: Mutex<Option<Arc<Tty>>>,
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
    pub fn tty(&self) -> Option<Arc<Tty>> {
        self.tty.lock().clone()
    }

    /// Sets or drops the controlling terminal.
    pub fn set_tty(&self, tty: Option<Arc<Tty>>) {
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
