//! A task: one guest thread.

use super::creds::Creds;
use crate::fs::FdTable;
use crate::fs::context::FsContext;
use crate::mm::Mm;
use crate::process::process::Process;
use crate::signal::TaskSignals;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64};
use machine::Cpu;
use machine::sync::Mutex;

/// A thread id or process id of the guest.
pub type Pid = i32;

/// One guest thread.
pub struct Task {
    /// Its id; the first thread's is the process's.
    pub tid: Pid,
    /// Its process.
    pub process: Arc<Process>,
    /// Its thread area: the way to interrupt or wake it.
    pub cpu: &'static Cpu,
    files: Mutex<Arc<FdTable>>,
    fs: Mutex<Arc<FsContext>>,
    creds: Mutex<Arc<Creds>>,
    /// Mask, pending signals, alternate stack.
    pub signals: TaskSignals,
    /// What /proc/PID/comm shows, NUL padded.
    pub name: Mutex<[u8; 16]>,
    /// CLONE_CHILD_CLEARTID, set_tid_address(2): zeroed and woken at the end; 0 for none.
    pub clear_child_tid: AtomicU64,
    /// set_robust_list(2).
    pub robust_list: AtomicU64,
    /// Absolute deadline of an interrupted sleep that begins again without a handler; 0 for none.
    pub restart_deadline: AtomicU64,
    /// The thread must end (exit_group, exec of another thread, a kill).
    pub must_exit: AtomicBool,
    /// It has ended.
    pub ended: AtomicBool,
}

impl core::fmt::Debug for Task {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Task({})", self.tid)
    }
}

/// What a new task shares or copies.
pub struct Parts {
    /// Descriptor table.
    pub files: Arc<FdTable>,
    /// Root, working directory, umask.
    pub fs: Arc<FsContext>,
    /// Credentials.
    pub creds: Arc<Creds>,
}

impl Task {
    /// A task that has not started.
    #[must_use]
    pub fn new(tid: Pid, process: Arc<Process>, cpu: &'static Cpu, parts: Parts, signals: TaskSignals, name: [u8; 16]) -> Arc<Task> {
        Arc::new(Task {
            tid,
            process,
            cpu,
            files: Mutex::new(parts.files),
            fs: Mutex::new(parts.fs),
            creds: Mutex::new(parts.creds),
            signals,
            name: Mutex::new(name),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            restart_deadline: AtomicU64::new(0),
            must_exit: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    /// The calling thread's task; None in the service process.
    #[must_use]
    pub fn current() -> Option<&'static Task> {
        machine::cpu::current().task::<Task>()
    }

    /// Its descriptor table.
    #[must_use]
    pub fn files(&self) -> Arc<FdTable> {
        Arc::clone(&self.files.lock())
    }

    /// Replaces the descriptor table (unshare, exec, exit).
    pub fn set_files(&self, files: Arc<FdTable>) {
        let old = core::mem::replace(&mut *self.files.lock(), files);
        drop(old);
    }

    /// Root, working directory and umask.
    #[must_use]
    pub fn fs(&self) -> Arc<FsContext> {
        Arc::clone(&self.fs.lock())
    }

    /// Replaces them (unshare).
    pub fn set_fs(&self, fs: Arc<FsContext>) {
        *self.fs.lock() = fs;
    }

    /// Its credentials.
    #[must_use]
    pub fn creds(&self) -> Arc<Creds> {
        Arc::clone(&self.creds.lock())
    }

    /// Replaces the credentials.
    pub fn set_creds(&self, creds: Creds) {
        *self.creds.lock() = Arc::new(creds);
    }

    /// Its address space.
    #[must_use]
    pub fn mm(&self) -> Arc<Mm> {
        self.process.mm()
    }
}
