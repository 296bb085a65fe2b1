//! Whom sched(7) is about: a thread, or a process whose threads have ended and that was not waited for.

use super::creds::Creds;
use super::settings::Settings;
use super::task::Task;
use super::thread_group::Process;
use crate::{Errno, Result};
use alloc::sync::Arc;

/// What has a policy, a priority and processors.
#[derive(Clone, Copy, Debug)]
pub enum Scheduled<'a> {
    /// A thread.
    Thread(&'a Task),
    /// A process without threads: its last one's are kept.
    Ended(&'a Process),
}

impl Scheduled<'_> {
    /// Looks at the settings, or changes them.
    ///
    /// # Errors
    /// ESRCH for a process that still has threads.
    pub fn with_settings<R>(&self, look: impl FnOnce(&mut Settings) -> R) -> Result<R> {
        match self {
            Scheduled::Thread(task) => Ok(look(&mut task.settings.lock())),
            Scheduled::Ended(process) => process.with_remains(|left| look(&mut left.settings)).ok_or(Errno::ESRCH),
        }
    }

    /// The credentials.
    ///
    /// # Errors
    /// As [`Scheduled::with_settings`].
    pub fn creds(&self) -> Result<Arc<Creds>> {
        match self {
            Scheduled::Thread(task) => Ok(task.creds()),
            Scheduled::Ended(process) => process.creds().ok_or(Errno::ESRCH),
        }
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        match self {
            Scheduled::Thread(task) => &task.process,
            Scheduled::Ended(process) => process,
        }
    }
}
