//! Processes by descriptors: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2).

use super::event::install;
use super::signal::{check_signal, read_info, send_checked};
use crate::fs::fd_table::{Fd, OnExec};
use crate::fs::file::File;
use crate::fs::pidfd::PidFile;
use crate::fs::{OpenFlags, procfs};
use crate::process::inspect::{self, Identity};
use crate::process::{Pid, Process, Task, tree};
use crate::signal::{SI_USER, SigInfo};
use crate::{Errno, Result};
use alloc::sync::Arc;
use machine::guest::UserPtr;

/// Puts a descriptor of a process into the caller's table; every such one is closed by exec.
///
/// # Errors
/// EMFILE.
pub(super) fn install_pidfd(task: &Task, process: Arc<Process>, flags: u32) -> Result<Fd> {
    install(task, PidFile::new(process), OpenFlags::RDWR, flags | OpenFlags::CLOEXEC.bits())
}

/// Opens a process: pidfd_open(2).
///
/// # Errors
/// EINVAL for unknown flags, and for a thread that is not its process's first; ESRCH, EMFILE.
pub(super) fn pidfd_open(task: &Task, pid: Pid, flags: u32) -> Result<Fd> {
    if flags & !OpenFlags::NONBLOCK.bits() != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let process = tree::process(pid).ok_or_else(|| tree::task(pid).map_or(Errno::ESRCH, |_| Errno::EINVAL))?;
    install_pidfd(task, process, flags)
}

/// The process of a descriptor.
///
/// # Errors
/// EBADF for other descriptors, ESRCH once it was waited for.
pub(super) fn process_of(file: &File) -> Result<Arc<Process>> {
    let pidfd = file.downcast::<PidFile>().ok_or(Errno::EBADF)?;
    pidfd.process().cloned().ok_or(Errno::ESRCH)
}

/// Sends a signal by a pidfd, or by a directory of /proc: pidfd_send_signal(2).
///
/// # Errors
/// EINVAL, EBADF, EFAULT, EPERM, ESRCH.
pub(super) fn pidfd_send_signal(task: &Task, fd: Fd, signal: i32, info: UserPtr<u8>, flags: u32) -> Result<()> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let file = task.file(fd)?;
    let process = match procfs::process_of(&file) {
        Some(found) => found,
        None => process_of(&file),
    };
    let pid = match &process {
        Ok(process) => process.pid,
        Err(Errno::ESRCH) => -1,
        Err(errno) => return Err(*errno),
    };
    let info = if info.is_null() {
        SigInfo::from_task(task, signal, SI_USER)
    } else {
        read_info(task, pid, info).and_then(|info| if info.signal == signal { Ok(info) } else { Err(Errno::EINVAL) })?
    };
    check_signal(signal)?;
    send_checked(task, &process?, info)
}

/// Takes a copy of another process's descriptor: pidfd_getfd(2).
///
/// # Errors
/// EINVAL for flags, EBADF, ESRCH, EPERM, EMFILE.
pub(super) fn pidfd_getfd(task: &Task, pidfd: Fd, fd: Fd, flags: u32) -> Result<Fd> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let process = process_of(&*task.file(pidfd)?)?;
    let target = process.tasks().first().cloned().ok_or(Errno::ESRCH)?;
    if !inspect::is_allowed(task, &process, Identity::Real) {
        return Err(Errno::EPERM);
    }
    let file = target.any_file(fd)?;
    task.insert_file(file, OnExec::Close)
}
