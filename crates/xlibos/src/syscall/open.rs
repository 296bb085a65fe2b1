//! Descriptors: open(2), close(2), dup(2), fcntl(2).

use super::args::{PathText, UserPath};
use crate::fs::fd_table::{Fd, OnExec};
use crate::fs::{AT_FDCWD, File, How, OpenFlags, Resolve, memfd, open_how};
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
    let mut text = PathText::empty();
    let path = path.read_to(&mut text)?;
    check_room(task, flags)?;
    let file = crate::fs::open(task, dirfd, path, flags, mode & 0o7777)?;
    task.insert_file(file, on_exec(flags))
}

/// Without a descriptor for it no file is made or emptied.
fn check_room(task: &Task, flags: OpenFlags) -> Result<()> {
    if flags.intersects(OpenFlags::CREAT | OpenFlags::TRUNC) { task.check_room() } else { Ok(()) }
}

/// Length of `struct open_how` in its first version, and the longest that is read.
const HOW_LEN: u64 = 24;
const HOW_MAX: u64 = 4096;

/// Opens a file with flags that bind the walk: openat2(2).
///
/// # Errors
/// EINVAL for unknown flags, E2BIG for a longer structure with more than zeros behind; those of open(2).
pub(super) fn openat2(task: &Task, dirfd: Fd, path: UserPath, how: u64, size: u64) -> Result<Fd> {
    if size < HOW_LEN {
        return Err(Errno::EINVAL);
    }
    if size > HOW_MAX {
        return Err(Errno::E2BIG);
    }
    let words: [u64; 3] = guest::read_value(how)?;
    let mut behind = alloc::vec![0; usize::try_from(size - HOW_LEN).unwrap_or(0)];
    guest::read(how.wrapping_add(HOW_LEN), &mut behind)?;
    if behind.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let how = checked_how(words)?;
    let changes = OpenFlags::CREAT | OpenFlags::TRUNC | OpenFlags::TMPFILE_PART;
    if how.resolve.contains(Resolve::CACHED) && how.flags.intersects(changes) {
        return Err(Errno::EAGAIN);
    }
    let path = path.read()?;
    check_room(task, how.flags)?;
    let file = open_how(task, dirfd, &path, how)?;
    task.insert_file(file, on_exec(how.flags))
}

fn checked_how([flags, mode, resolve]: [u64; 3]) -> Result<How> {
    let flags = u32::try_from(flags).ok().and_then(OpenFlags::from_bits).ok_or(Errno::EINVAL)?;
    let mode = u32::try_from(mode).ok().filter(|mode| mode & !0o7777 == 0).ok_or(Errno::EINVAL)?;
    let resolve = Resolve::from_bits(resolve).ok_or(Errno::EINVAL)?;
    let of_place = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    let makes = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE_PART);
    if (mode != 0 && !makes)
        || (flags.contains(OpenFlags::PATH) && !of_place.contains(flags))
        || resolve.contains(Resolve::BENEATH | Resolve::IN_ROOT)
    {
        return Err(Errno::EINVAL);
    }
    Ok(How { flags, mode, resolve })
}

/// The longest name of a memfd, with its NUL.
const MEMFD_NAME_MAX: usize = 250;

/// Creates a file in memory: memfd_create(2).
///
/// # Errors
/// EINVAL for unknown flags and long names, EFAULT, EMFILE, ENOSPC.
pub(super) fn memfd_create(task: &Task, name: u64, flags: u32) -> Result<Fd> {
    memfd::check_flags(flags)?;
    let name = guest::read_string(name, MEMFD_NAME_MAX).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let file = memfd::create(&task.creds(), &name, flags)?;
    task.insert_file(file, OnExec::from_flag(flags & memfd::CLOEXEC != 0))
}

pub(super) fn close(task: &Task, fd: Fd) -> Result<()> {
    let file = task.remove_file(fd)?;
    file.closed_by_own(task);
    if let Some(closed) = File::close(file) {
        task.keep_closed(Some(closed));
    }
    Ok(())
}

const CLOSE_RANGE_CLOEXEC: u32 = 4;
const CLOSE_RANGE_UNSHARE: u32 = 2;

pub(super) fn close_range(task: &Task, first: u32, last: u32, flags: u32) -> Result<()> {
    if flags & !(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        task.unshare_files();
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
    let file = task.any_file(old)?;
    if old == new { Ok(new) } else { replace(task, file, new, OnExec::Keep) }
}

pub(super) fn dup3(task: &Task, old: Fd, new: Fd, flags: u32) -> Result<Fd> {
    let flags = OpenFlags::from_bits(flags).filter(|f| OpenFlags::CLOEXEC.contains(*f)).ok_or(Errno::EINVAL)?;
    if old == new {
        return Err(Errno::EINVAL);
    }
    let file = task.any_file(old)?;
    replace(task, file, new, on_exec(flags))
}
