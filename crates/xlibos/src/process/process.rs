//! A process: what its tasks share.

use crate::mm::Mm;
use alloc::sync::Arc;
use machine::sync::Mutex;

/// A thread group.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub pid: super::task::Pid,
    mm: Mutex<Arc<Mm>>,
}

impl Process {
    /// Its address space.
    #[must_use]
    pub fn mm(&self) -> Arc<Mm> {
        Arc::clone(&self.mm.lock())
    }
}
