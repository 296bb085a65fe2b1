//! Descriptors: open(2), close(2), dup(2), fcntl(2).

use super::args::UserPath;
use crate::fs::fd_table::{Fd, OnExec};
use crate::fs::{AT_FDCWD, File, OpenFlags};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use machine::guest;

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
    let file = task.files().remove(fd)?;
    file.ops().on_close(&file, task);
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
    for file in task.files().remove_where(first, last, |_| true) {
        file.ops().on_close(&file, task);
    }
    Ok(())
}

pub(super) fn dup(task: &Task, fd: Fd) -> Result<Fd> {
    let files = task.files();
    files.insert(files.get(fd)?, OnExec::Keep)
}

fn replace(task: &Task, file: Arc<File>, new: Fd, on_exec: OnExec) -> Result<Fd> {
    if let Some(old) = task.files().replace(new, file, on_exec)? {
        old.ops().on_close(&old, task);
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

/// Commands of fcntl(2).
enum Command {
    DupFd(OnExec),
    GetFd,
    SetFd,
    GetFl,
    SetFl,
    GetPipeSize,
    SetPipeSize,
    Seals,
    GetLock,
    SetLock,
}

impl Command {
    fn parse(number: u32) -> Result<Command> {
        Ok(match number {
            0 => Command::DupFd(OnExec::Keep),
            1030 => Command::DupFd(OnExec::Close),
            1 => Command::GetFd,
            2 => Command::SetFd,
            3 => Command::GetFl,
            4 => Command::SetFl,
            5 | 36 => Command::GetLock,
            6 | 7 | 37 | 38 => Command::SetLock,
            1031 => Command::SetPipeSize,
            1032 => Command::GetPipeSize,
            1033 | 1034 => Command::Seals,
            _ => return Err(Errno::EINVAL),
        })
    }
}

pub(super) fn fcntl(task: &Task, fd: Fd, command: u32, argument: u64) -> Result<u64> {
    let files = task.files();
    let file = files.get(fd)?;
    let word = u32::try_from(argument & 0xffff_ffff).unwrap_or(0);
    match Command::parse(command)? {
        Command::DupFd(on_exec) => {
            let lowest = usize::try_from(word.cast_signed()).map_err(|_| Errno::EINVAL)?;
            files.insert_from(lowest, file, on_exec).map(|fd| u64::from(fd.0.unsigned_abs()))
        }
        Command::GetFd => Ok(u64::from(files.on_exec(fd)? == OnExec::Close)),
        Command::SetFd => files.set_on_exec(fd, OnExec::from_flag(word & 1 != 0)).map(|()| 0),
        Command::GetFl => Ok(u64::from(file.flags().bits())),
        Command::SetFl => file.set_status(OpenFlags::from_bits_truncate(word)).map(|()| 0),
        Command::GetPipeSize => pipe_size(&file),
        Command::SetPipeSize => set_pipe_size(&file, word),
        Command::Seals => file.ops().seals(if command == 1033 { word } else { 0 }).map(u64::from),
        Command::GetLock | Command::SetLock => lock(argument, command),
    }
}

fn pipe_size(file: &File) -> Result<u64> {
    crate::fs::pipe::pipe_of(file).map(|pipe| pipe.capacity() as u64).ok_or(Errno::EBADF)
}

fn set_pipe_size(file: &File, size: u32) -> Result<u64> {
    let pipe = crate::fs::pipe::pipe_of(file).ok_or(Errno::EBADF)?;
    pipe.set_capacity(size as usize).map(|size| size as u64)
}

/// Record locks are not there yet: as a file system without locks, ENOLCK.
fn lock(argument: u64, _command: u32) -> Result<u64> {
    let mut raw = [0; 32];
    guest::read(argument, &mut raw)?;
    Err(Errno::ENOLCK)
}
