//! Transfers: read(2), write(2) and their vectored and positioned forms; lseek(2), sendfile(2).

use super::args::{read_iovecs, signed_offset};
use crate::fs::fd_table::Fd;
use crate::fs::file::Extent;
use crate::fs::{File, OpenFlags};
use crate::uio::{Sink, Source};
use crate::{Errno, Result, Task};
use machine::guest::{self, UserPtr};

pub(super) fn read(task: &Task, fd: Fd, buffer: u64, len: u64) -> Result<usize> {
    task.files().get(fd)?.read(&mut Sink::guest(buffer, len))
}

pub(super) fn write(task: &Task, fd: Fd, buffer: u64, len: u64) -> Result<usize> {
    task.files().get(fd)?.write(&mut Source::guest(buffer, len))
}

pub(super) fn pread64(task: &Task, fd: Fd, buffer: u64, len: u64, offset: u64) -> Result<usize> {
    let offset = signed_offset(offset)?;
    task.files().get(fd)?.read_at(&mut Sink::guest(buffer, len), offset)
}

pub(super) fn pwrite64(task: &Task, fd: Fd, buffer: u64, len: u64, offset: u64) -> Result<usize> {
    let offset = signed_offset(offset)?;
    task.files().get(fd)?.write_at(&mut Source::guest(buffer, len), offset)
}

pub(super) fn readv(task: &Task, fd: Fd, iov: u64, count: u64) -> Result<usize> {
    let file = task.files().get(fd)?;
    file.read(&mut Sink::guest_vectors(&read_iovecs(iov, count)?))
}

pub(super) fn writev(task: &Task, fd: Fd, iov: u64, count: u64) -> Result<usize> {
    let file = task.files().get(fd)?;
    file.write(&mut Source::guest_vectors(&read_iovecs(iov, count)?))
}

pub(super) fn preadv(task: &Task, fd: Fd, iov: u64, count: u64, offset: u64) -> Result<usize> {
    let offset = signed_offset(offset)?;
    let file = task.files().get(fd)?;
    file.read_at(&mut Sink::guest_vectors(&read_iovecs(iov, count)?), offset)
}

pub(super) fn pwritev(task: &Task, fd: Fd, iov: u64, count: u64, offset: u64) -> Result<usize> {
    let offset = signed_offset(offset)?;
    let file = task.files().get(fd)?;
    file.write_at(&mut Source::guest_vectors(&read_iovecs(iov, count)?), offset)
}

pub(super) fn lseek(task: &Task, fd: Fd, offset: i64, whence: u32) -> Result<u64> {
    let file = task.files().get(fd)?;
    if !file.ops().is_seekable() {
        return Err(Errno::ESPIPE);
    }
    let mut position = file.position();
    let base = match whence {
        0 => 0,
        1 => position.cast_signed(),
        2 => file.ops().size()?.cast_signed(),
        3 => return seek_extent(&file, &mut position, Extent::Data, offset),
        4 => return seek_extent(&file, &mut position, Extent::Hole, offset),
        _ => return Err(Errno::EINVAL),
    };
    let target = base.checked_add(offset).filter(|&t| t >= 0).ok_or(Errno::EINVAL)?;
    *position = target.cast_unsigned();
    Ok(*position)
}

fn seek_extent(file: &File, position: &mut u64, what: Extent, offset: i64) -> Result<u64> {
    let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
    *position = file.ops().seek_extent(what, offset)?;
    Ok(*position)
}

pub(super) fn sendfile(task: &Task, out: Fd, input: Fd, offset: UserPtr<i64>, count: u64) -> Result<usize> {
    let (from, to) = (task.files().get(input)?, task.files().get(out)?);
    let mut at = match offset.non_null() {
        Some(offset) => Some(u64::try_from(offset.read()?).map_err(|_| Errno::EINVAL)?),
        None => None,
    };
    if to.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    let mut total = 0;
    let mut buffer = alloc::vec![0; 64 * 1024];
    while (total as u64) < count {
        let want = buffer.len().min(usize::try_from(count - total as u64).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..want).ok_or(Errno::EINVAL)?;
        let got = match at {
            Some(at) => from.read_at(&mut Sink::kernel(piece), at)?,
            None => from.read(&mut Sink::kernel(piece))?,
        };
        if got == 0 {
            break;
        }
        let written = to.write(&mut Source::kernel(piece.get(..got).unwrap_or(&[])));
        let written = if total == 0 { written? } else { written.unwrap_or(0) };
        at = at.map(|at| at + written as u64);
        total += written;
        if written < got {
            break;
        }
    }
    if let Some(at) = at {
        guest::write_value(offset.addr(), &at)?;
    }
    Ok(total)
}

pub(super) fn fsync(task: &Task, fd: Fd) -> Result<()> {
    task.files().get(fd)?.ops().sync()
}

const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIONBIO: u32 = 0x5421;

pub(super) fn ioctl(task: &Task, fd: Fd, command: u32, argument: u64) -> Result<u64> {
    use crate::fs::fd_table::OnExec;
    let files = task.files();
    let file = files.get(fd)?;
    match command {
        FIOCLEX => files.set_on_exec(fd, OnExec::Close).map(|()| 0),
        FIONCLEX => files.set_on_exec(fd, OnExec::Keep).map(|()| 0),
        FIONBIO => {
            let on: u32 = guest::read_value(argument)?;
            let mut flags = file.flags();
            flags.set(OpenFlags::NONBLOCK, on != 0);
            file.set_status(flags).map(|()| 0)
        }
        _ => file.ops().ioctl(task, &file, command, argument),
    }
}

pub(super) fn fadvise64(task: &Task, fd: Fd, _offset: i64, _len: i64, advice: u32) -> Result<()> {
    let file = task.files().get(fd)?;
    if !file.ops().is_seekable() {
        return Err(Errno::ESPIPE);
    }
    if advice > 5 { Err(Errno::EINVAL) } else { Ok(()) }
}
