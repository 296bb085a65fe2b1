//! The process or thread that a part of /proc is about. One that has ended and not been waited for is there too.

use crate::fs::fd_table::Fd;
use crate::fs::file::File;
use crate::process::creds::{CAP_SYS_NICE, Creds};
use crate::process::inspect::{self, Identity};
use crate::process::run_state::RunState;
use crate::process::scheduled::Scheduled;
use crate::process::settings::Settings;
use crate::process::{Pid, Process, Task, tree};
use crate::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;

/// A process, or one of its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Process(Pid),
    /// Process and thread.
    Thread(Pid, Pid),
}

/// What was found of it.
pub(super) struct Subject {
    /// The thread's number, or the process's.
    pub(super) id: Pid,
    pub(super) process: Arc<Process>,
    /// The thread; for a process its first, or another where that has ended; None where all have.
    pub(super) task: Option<Arc<Task>>,
    pub(super) creds: Arc<Creds>,
}

impl Who {
    /// A number that is another's for none; the lower bits are free.
    pub(super) fn number(self) -> u64 {
        match self {
            Who::Process(pid) => 0x100_0000 + (u64::from(pid.unsigned_abs()) << 24),
            Who::Thread(_, tid) => (1 << 60) + (u64::from(tid.unsigned_abs()) << 24),
        }
    }

    /// The process and thread as they are now.
    ///
    /// # Errors
    /// ENOENT.
    pub(super) fn subject(self) -> Result<Subject> {
        let (pid, tid) = match self {
            Who::Process(pid) => (pid, None),
            Who::Thread(pid, tid) => (pid, Some(tid)),
        };
        let process = tree::process(pid).ok_or(Errno::ENOENT)?;
        let tasks = process.tasks();
        let by_id = |id| tasks.iter().find(|task| task.tid() == id).cloned();
        let task = match tid {
            Some(tid) => Some(by_id(tid).ok_or(Errno::ENOENT)?),
            None => by_id(pid).or_else(|| tasks.first().cloned()),
        };
        let creds = task.as_ref().map(|task| task.creds()).or_else(|| process.creds());
        Ok(Subject { id: tid.unwrap_or(pid), creds: creds.ok_or(Errno::ENOENT)?, process, task })
    }
}

impl Subject {
    /// Whether it is the caller's own process.
    pub(super) fn is_own(&self) -> bool {
        Task::current().is_some_and(|current| Arc::ptr_eq(&current.process, &self.process))
    }

    /// Whether the caller may look into memory and files: ptrace(2), PTRACE_MODE_READ_FSCREDS.
    ///
    /// # Errors
    /// EACCES.
    pub(super) fn check_inspection(&self) -> Result<()> {
        let caller = Task::current();
        let may = caller.is_none_or(|caller| inspect::is_allowed(caller, &self.process, Identity::Files));
        if may { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Looks at the thread's timer slack, or changes it, if the caller may.
    ///
    /// # Errors
    /// EPERM; ESRCH.
    pub(super) fn with_timer_slack<R>(&self, look: impl FnOnce(&mut Settings) -> R) -> Result<R> {
        let caller = Task::current();
        if !self.is_own() && !caller.is_none_or(|caller| caller.creds().has(CAP_SYS_NICE)) {
            return Err(Errno::EPERM);
        }
        match &self.task {
            Some(task) => Scheduled::Thread(task).with_settings(look),
            None => Scheduled::Ended(&self.process).with_settings(look),
        }
    }

    /// An open file.
    ///
    /// # Errors
    /// ENOENT.
    pub(super) fn open_file(&self, fd: Fd) -> Result<Arc<File>> {
        let task = self.task.as_ref().ok_or(Errno::ENOENT)?;
        task.any_file(fd).map_err(|_| Errno::ENOENT)
    }

    /// Its name, without the padding.
    pub(super) fn comm(&self) -> String {
        let name = match &self.task {
            Some(task) => *task.name.lock(),
            None => self.process.with_remains(|left| left.name).unwrap_or_default(),
        };
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        String::from_utf8_lossy(name.get(..end).unwrap_or(&[])).into_owned()
    }

    /// Letter and word of its state.
    pub(super) fn state(&self) -> (char, &'static str) {
        if self.task.as_ref().is_some_and(|task| task.trace.is_stopped()) {
            return ('t', "tracing stop");
        }
        match (self.process.run_state(), &self.task) {
            (RunState::Stopped(_), _) => ('T', "stopped"),
            (RunState::Zombie(_), _) | (_, None) => ('Z', "zombie"),
            // Of a process whose first thread has ended, that one is shown.
            (RunState::Running, Some(task)) if task.tid() != self.id => ('Z', "zombie"),
            (RunState::Running, Some(task)) if task.cpu().is_asleep() => ('S', "sleeping"),
            (RunState::Running, _) => ('R', "running"),
        }
    }
}
