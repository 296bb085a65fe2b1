//! A process as a file: pidfd_open(2).

use super::file::{File, FileOps};
use crate::process::Process;
use crate::wait::{Events, READABLE, WaitQueue};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// Refers to one process, also when its number is another's.
#[derive(Debug)]
pub struct PidFile {
    process: Arc<Process>,
}

impl PidFile {
    /// A file of a process.
    #[must_use]
    pub fn new(process: Arc<Process>) -> Arc<PidFile> {
        Arc::new(PidFile { process })
    }

    /// The process; None once it was waited for.
    #[must_use]
    pub fn process(&self) -> Option<&Arc<Process>> {
        Some(&self.process).filter(|process| !process.is_reaped())
    }
}

impl FileOps for PidFile {
    fn poll(&self, _file: &File) -> Events {
        // Who is told of it can wait for it.
        if self.process.is_end_told() { READABLE } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.process.events)
    }

    fn tells_by_signal(&self) -> bool {
        false
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[pidfd]".to_vec()
    }

    fn describe_more(&self) -> Vec<u8> {
        let pid = self.process().map_or(-1, |process| process.pid);
        format!("Pid:\t{pid}\nNSpid:\t{pid}\n").into_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
