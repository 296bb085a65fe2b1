//! Descriptors: open(2), close(2), dup(2), fcntl(2).

use super::args::UserPath;
use crate::fs::fd_table::{Fd, OnExec};
use crate::fs::{AT_FDCWD, File, OpenFlags};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;

fn on_exec(flags: OpenFlags) -> OnExec {
    OnExec::from_flag(flags.contains(OpenFlags::CLOEXEC))
}

pub(super) fn open(task: &Task, path: UserPath, flags: u32, mode: u32) -> Result<Fd> {
    openat(task, AT_FDCWD, path, flags, mode)
}

pub(super) fn creat(task: &Task, path: UserPath, mode: u32) -> Result<Fd> {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    openat(task, AT_FDCWD, path, flags.bits(), mode)
}

pub(super) fn openat(task: &Task, dirfd: Fd, path: UserPath, flags: u32, mode: u32) -> Result<Fd> {
    // open(2) ignores flags that it does not know.
    let flags = OpenFlags::from_bits_truncate(flags);
    let path = path.read()?;
    let file = crate::fs::open(task, dirfd, &path, flags, mode & 0o7777)?;
    task.files().insert(file, on_exec(flags))
}

pub(super) fn close(task: &Task, fd: Fd) -> Result<()> {
    let files = task.files();
    let file = files.remove(fd)?;
    file.closed_by(task, &files);
    Ok(())
}

const CLOSE_RANGE_CLOEXEC: u32 = 4;
const CLOSE_RANGE_UNSHARE: u32 = 2;

pub(super) fn close_range(task: &Task, first: u32, last: u32, flags: u32) -> Result<()> {
    if flags & !(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        task.set_files(task.files().copy());
    }
    let (first, last) = (first as usize, last as usize);
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        task.files().mark_range(first, last);
        return Ok(());
    }
    let files = task.files();
    for file in files.remove_where(first, last, |_| true) {
        file.closed_by(task, &files);
    }
    Ok(())
}

pub(super) fn dup(task: &Task, fd: Fd) -> Result<Fd> {
    let files = task.files();
    files.insert(files.get(fd)?, OnExec::Keep)
}

fn replace(task: &Task, file: Arc<File>, new: Fd, on_exec: OnExec) -> Result<Fd> {
    let files = task.files();
    if let Some(old) = files.replace(new, file, on_exec)? {
        old.closed_by(task, &files);
    }
    Ok(new)
}

pub(super) fn dup2(task: &Task, old: Fd, new: Fd) -> Result<Fd> {
    let file = task.files().get(old)?;
    if old == new { Ok(new) } else { replace(task, file, new, OnExec::Keep) }
}

pub(super) fn dup3(task: &Task, old: Fd, new: Fd, flags: u32) -> Result<Fd> {
    let flags = OpenFlags::from_bits(flags).filter(|f| OpenFlags::CLOEXEC.contains(*f)).ok_or(Errno::EINVAL)?;
    if old == new {
        return Err(Errno::EINVAL);
    }
    let file = task.files().get(old)?;
    replace(task, file, new, on_exec(flags))
}

/// The file of a descriptor that is more than a place (O_PATH).
///
/// # Errors
/// EBADF.
pub(super) fn usable_file(task: &Task, fd: Fd) -> Result<Arc<File>> {
    let file = task.files().get(fd)?;
    if file.flags().contains(OpenFlags::PATH) { Err(Errno::EBADF) } else { Ok(file) }
}
