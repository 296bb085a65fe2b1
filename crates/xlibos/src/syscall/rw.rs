//! Transfers: read(2), write(2) and their vectored and positioned forms; lseek(2), sendfile(2).

use super::args::{read_iovecs, signed_offset};
use crate::fs::fd_table::Fd;
use crate::fs::file::Extent;
use crate::fs::inode::Kind;
use crate::fs::{File, OpenFlags, pseudo};
use crate::uio::{Sink, Source};
use crate::{Errno, Result, Task};
use machine::guest::{self, UserPtr};

#[inline]
pub(super) fn read(task: &Task, fd: Fd, buffer: u64, len: u64) -> Result<usize> {
    task.with_file(fd, |file| file.read(&mut Sink::guest(buffer, len)))
}

#[inline]
pub(super) fn write(task: &Task, fd: Fd, buffer: u64, len: u64) -> Result<usize> {
    task.with_file(fd, |file| write_all(task, file, &mut Source::guest(buffer, len)))
}

/// A blocking write to a stream goes on with the rest where it was interrupted, unless a handler runs: the call then ends
/// with what was written.
#[inline]
fn write_all(task: &Task, file: &File, from: &mut Source<'_>) -> Result<usize> {
    if task.kept_progress() > 0 {
        return write_rest(task, file, from);
    }
    let written = file.write(from);
    // Nearly always all at once.
    let is_whole = written.is_err() || from.remaining() == 0;
    if is_whole { written } else { end_of_write(task, file, from, 0, written) }
}

/// A write that had begun before.
#[cold]
fn write_rest(task: &Task, file: &File, from: &mut Source<'_>) -> Result<usize> {
    let before = task.take_progress();
    from.advance(before);
    let written = file.write(from);
    end_of_write(task, file, from, before, written)
}

/// The end of a write that had begun before, or left something.
#[cold]
fn end_of_write(task: &Task, file: &File, from: &Source<'_>, before: usize, written: Result<usize>) -> Result<usize> {
    let done = before + written.unwrap_or(0);
    let is_cut = written.is_ok() && from.remaining() > 0 && file.is_stream() && !file.is_nonblocking();
    match written {
        Ok(_) if is_cut && is_to_go_on() => {}
        Err(errno) if before > 0 && errno.is_interruption() => {}
        Err(errno) if before == 0 => return Err(errno),
        Ok(_) | Err(_) => return Ok(done),
    }
    task.keep_progress(done);
    Err(Errno::INTERRUPTED)
}

/// Whether the call begins again with what is left.
fn is_to_go_on() -> bool {
    let cpu = machine::cpu::current();
    cpu.is_pending() || cpu.is_attempt()
}

/// An offset from which so many bytes do not lead beyond the largest.
fn range_offset(offset: u64, len: u64) -> Result<u64> {
    let end = offset.checked_add(len).ok_or(Errno::EINVAL)?;
    signed_offset(end).and(signed_offset(offset))
}

pub(super) fn pread64(task: &Task, fd: Fd, buffer: u64, len: u64, offset: u64) -> Result<usize> {
    let offset = range_offset(offset, len)?;
    task.with_file(fd, |file| file.read_at(&mut Sink::guest(buffer, len), offset))
}

pub(super) fn pwrite64(task: &Task, fd: Fd, buffer: u64, len: u64, offset: u64) -> Result<usize> {
    let offset = range_offset(offset, len)?;
    task.with_file(fd, |file| file.write_at(&mut Source::guest(buffer, len), offset))
}

pub(super) fn readv(task: &Task, fd: Fd, iov: u64, count: u64) -> Result<usize> {
    let file = task.file(fd)?;
    file.read(&mut Sink::guest_vectors(&read_iovecs(iov, count)?))
}

pub(super) fn writev(task: &Task, fd: Fd, iov: u64, count: u64) -> Result<usize> {
    let file = task.file(fd)?;
    write_all(task, &file, &mut Source::guest_vectors(&read_iovecs(iov, count)?))
}

pub(super) fn preadv(task: &Task, fd: Fd, iov: u64, count: u64, offset: u64) -> Result<usize> {
    let offset = signed_offset(offset)?;
    let file = task.file(fd)?;
    file.read_at(&mut Sink::guest_vectors(&read_iovecs(iov, count)?), offset)
}

pub(super) fn pwritev(task: &Task, fd: Fd, iov: u64, count: u64, offset: u64) -> Result<usize> {
    let offset = signed_offset(offset)?;
    let file = task.file(fd)?;
    file.write_at(&mut Source::guest_vectors(&read_iovecs(iov, count)?), offset)
}

/// RWF_HIPRI: a hint.
const RWF_HIPRI: u32 = 1;
/// RWF_DSYNC and RWF_SYNC.
const RWF_SYNC: u32 = 2 | 4;
const RWF_APPEND: u32 = 16;
/// The position of the file stands for this offset.
const CURRENT: u64 = u64::MAX;

/// As preadv(2) with flags: preadv2(2). The host's own flags are for its descriptors; RWF_NOWAIT is not kept.
///
/// # Errors
/// EOPNOTSUPP for unknown flags, and those of preadv(2).
pub(super) fn preadv2(task: &Task, fd: Fd, iov: u64, count: u64, offset: u64, _high: u64, flags: u32) -> Result<usize> {
    let file = task.file(fd)?;
    if flags & !(RWF_HIPRI | RWF_SYNC | RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if offset == CURRENT { readv(task, fd, iov, count) } else { read_vectors_at(&file, iov, count, offset) }
}

fn read_vectors_at(file: &File, iov: u64, count: u64, offset: u64) -> Result<usize> {
    let offset = signed_offset(offset)?;
    file.read_at(&mut Sink::guest_vectors(&read_iovecs(iov, count)?), offset)
}

/// As pwritev(2) with flags: pwritev2(2).
///
/// # Errors
/// EOPNOTSUPP for unknown flags, and those of pwritev(2).
pub(super) fn pwritev2(
    task: &Task,
    fd: Fd,
    iov: u64,
    count: u64,
    offset: u64,
    _high: u64,
    flags: u32,
) -> Result<usize> {
    let file = task.file(fd)?;
    if flags & !(RWF_HIPRI | RWF_SYNC | RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let vectors = read_iovecs(iov, count)?;
    let mut source = Source::guest_vectors(&vectors);
    let written = match offset {
        _ if offset != CURRENT && offset.cast_signed() < 0 => return Err(Errno::EINVAL),
        _ if flags & RWF_APPEND != 0 => file.append(&mut source, offset == CURRENT)?,
        CURRENT => write_all(task, &file, &mut source)?,
        _ => file.write_at(&mut source, offset)?,
    };
    if flags & RWF_SYNC != 0 && file.ops().is_seekable() {
        file.ops().sync()?;
    }
    Ok(written)
}

/// Copies between two regular files: copy_file_range(2).
///
/// # Errors
/// EBADF, EFAULT, EINVAL for flags, other files, or ranges of one file that overlap; EXDEV between file systems and for
/// the caller's standard streams; EOVERFLOW, EFBIG, EISDIR, ENOSPC.
pub(super) fn copy_file_range(
    task: &Task,
    from: Fd,
    from_offset: UserPtr<i64>,
    to: Fd,
    to_offset: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> Result<usize> {
    let (from, to) = (task.file(from)?, task.file(to)?);
    let source = copy_offset(&from, from_offset)?;
    let target = copy_offset(&to, to_offset)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    check_copy((&from, source), (&to, target), len as u64)?;
    let len = len.min(LONGEST_COPY);
    let total = copy_range((&from, source), (&to, target), len)?;
    finish_copy(&from, from_offset, source + total as u64)?;
    finish_copy(&to, to_offset, target + total as u64)?;
    Ok(total)
}

fn copy_offset(file: &File, offset: UserPtr<i64>) -> Result<u64> {
    match offset.non_null() {
        Some(offset) => u64::try_from(offset.read()?).map_err(|_| Errno::EINVAL),
        None => Ok(file.current_position()),
    }
}

fn finish_copy(file: &File, offset: UserPtr<i64>, end: u64) -> Result<()> {
    match offset.non_null() {
        Some(offset) => offset.write(&end.cast_signed()),
        None => {
            *file.position() = end;
            Ok(())
        }
    }
}

/// What one call copies at most.
const LONGEST_COPY: usize = i32::MAX as usize;

/// What Linux checks before it copies.
fn check_copy((from, source): (&File, u64), (to, target): (&File, u64), len: u64) -> Result<()> {
    let (one, other) = (pseudo::path_of(from), pseudo::path_of(to));
    let kinds = [one.inode().kind(), other.inode().kind()];
    if kinds.contains(&Kind::Directory) {
        return Err(Errno::EISDIR);
    }
    if kinds != [Kind::File, Kind::File] {
        return Err(Errno::EINVAL);
    }
    if !from.flags().is_readable() || !to.flags().is_writable() || to.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    // The caller's own files share their offset with it; Linux says so of files that cannot be copied this way.
    let is_one_place = one.inode().file_system().dev() == other.inode().file_system().dev();
    if !from.ops().is_seekable() || !to.ops().is_seekable() || !is_one_place {
        return Err(Errno::EXDEV);
    }
    if [source, target].iter().any(|start| start.checked_add(len).is_none()) {
        return Err(Errno::EOVERFLOW);
    }
    let len = len.min(LONGEST_COPY as u64);
    let overlap = source < target.saturating_add(len) && target < source.saturating_add(len);
    if overlap && one.inode().id() == other.inode().id() { Err(Errno::EINVAL) } else { Ok(()) }
}

fn copy_range((from, source): (&File, u64), (to, target): (&File, u64), len: usize) -> Result<usize> {
    let mut buffer = alloc::vec![0; len.min(64 * 1024)];
    let mut total = 0;
    while total < len {
        let want = buffer.len().min(len - total);
        let piece = buffer.get_mut(..want).ok_or(Errno::EINVAL)?;
        let got = from.read_at(&mut Sink::kernel(piece), source + total as u64)?;
        if got == 0 {
            break;
        }
        let piece = piece.get(..got).unwrap_or(&[]);
        let written = match to.write_at(&mut Source::kernel(piece), target + total as u64) {
            Err(_) if total > 0 => break,
            written => written?,
        };
        total += written;
        if written < got {
            break;
        }
    }
    Ok(total)
}

pub(super) fn lseek(task: &Task, fd: Fd, offset: i64, whence: u32) -> Result<u64> {
    let file = task.file(fd)?;
    if file.ops().ignores_seek() {
        return Ok(0);
    }
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

/// Where sendfile(2) begins to read: None for the file's own position.
fn sendfile_start(from: &File, offset: UserPtr<i64>) -> Result<Option<u64>> {
    if from.path().is_some_and(|path| path.inode().kind() == Kind::Directory) {
        return Err(Errno::EINVAL);
    }
    let Some(offset) = offset.non_null() else { return Ok(None) };
    if !from.ops().is_seekable() {
        return Err(Errno::ESPIPE);
    }
    u64::try_from(offset.read()?).map(Some).map_err(|_| Errno::EINVAL)
}

/// How many of the bytes wanted neither file is too short for, whatever it holds.
fn fitting(from: &File, to: &File, start: u64, count: u64) -> Result<u64> {
    let longest = |file: &File| file.path().map_or(u64::MAX, |path| path.inode().file_system().longest_file());
    let left = longest(from).min(longest(to)).saturating_sub(start);
    if left == 0 && count > 0 { Err(Errno::EOVERFLOW) } else { Ok(count.min(left)) }
}

pub(super) fn sendfile(task: &Task, out: Fd, input: Fd, offset: UserPtr<i64>, count: u64) -> Result<usize> {
    let (from, to) = (task.file(input)?, task.file(out)?);
    if !from.flags().is_readable() || !to.flags().is_writable() {
        return Err(Errno::EBADF);
    }
    let mut at = sendfile_start(&from, offset)?;
    if to.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    let count = fitting(&from, &to, at.unwrap_or_else(|| from.current_position()), count)?;
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
        let left = got - written.unwrap_or(0);
        if left > 0 && at.is_none() && from.ops().is_seekable() {
            // What was read and not written is read again.
            *from.position() -= left as u64;
        }
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
    task.file(fd)?.ops().sync()
}

const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIONBIO: u32 = 0x5421;
const FIONREAD: u32 = 0x541b;
const FIOASYNC: u32 = 0x5452;

fn is_regular(file: &File) -> bool {
    file.path().is_some_and(|path| path.inode().kind() == Kind::File)
}

/// As F_SETFL would, by the number at an address.
fn set_status_flag(file: &File, flag: OpenFlags, argument: u64) -> Result<()> {
    let on: u32 = guest::read_value(argument)?;
    let mut flags = file.flags();
    flags.set(flag, on != 0);
    // F_SETFL overlooks O_ASYNC of a file that cannot tell; this does not.
    let is_untold = flag == OpenFlags::ASYNC && flags != file.flags() && !file.ops().tells_by_signal();
    if is_untold { Err(Errno::ENOTTY) } else { file.set_status(flags) }
}

pub(super) fn ioctl(task: &Task, fd: Fd, command: u32, argument: u64) -> Result<u64> {
    use crate::fs::fd_table::OnExec;
    let (files, file) = (task.files(), task.file(fd)?);
    match command {
        FIOCLEX => files.set_on_exec(fd, OnExec::Close).map(|()| 0),
        FIONCLEX => files.set_on_exec(fd, OnExec::Keep).map(|()| 0),
        FIONBIO => set_status_flag(&file, OpenFlags::NONBLOCK, argument).map(|()| 0),
        FIOASYNC => set_status_flag(&file, OpenFlags::ASYNC, argument).map(|()| 0),
        FIONREAD if is_regular(&file) => {
            let left = file.ops().size()?.saturating_sub(file.current_position());
            guest::write_value(argument, &i32::try_from(left).unwrap_or(i32::MAX)).map(|()| 0)
        }
        _ => file.ops().ioctl(task, &file, command, argument),
    }
}

pub(super) fn fadvise64(task: &Task, fd: Fd, _offset: i64, _len: i64, advice: u32) -> Result<()> {
    let file = task.file(fd)?;
    if !file.ops().is_seekable() {
        return Err(Errno::ESPIPE);
    }
    if advice > 5 { Err(Errno::EINVAL) } else { Ok(()) }
}
