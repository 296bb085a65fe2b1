//! Writing back and reading ahead: sync(2), syncfs(2), sync_file_range(2), readahead(2).

use crate::fs::fd_table::Fd;
use crate::fs::inode::Kind;
use crate::fs::{File, mount, pseudo};
use crate::{Errno, Result, Task};

/// Writes all file systems back: sync(2), which tells of no error.
#[expect(clippy::unnecessary_wraps, reason = "a handler answers a result")]
pub(super) fn sync(_task: &Task) -> Result<()> {
    for mount in mount::list() {
        let _ = mount.root.inode().file_system().sync();
    }
    Ok(())
}

/// Writes the file system of a file back: syncfs(2).
///
/// # Errors
/// EBADF, EIO.
pub(super) fn syncfs(task: &Task, fd: Fd) -> Result<()> {
    let file = task.file(fd)?;
    pseudo::path_of(&file).inode().file_system().sync()
}

/// SYNC_FILE_RANGE_WAIT_BEFORE, WRITE, WAIT_AFTER.
const RANGE_FLAGS: u32 = 7;

/// Writes part of a file back: sync_file_range(2). All of it is written where any is asked for.
///
/// # Errors
/// EBADF, EINVAL for unknown flags or a bad range, ESPIPE for what has no range.
pub(super) fn sync_file_range(task: &Task, fd: Fd, offset: i64, len: i64, flags: u32) -> Result<()> {
    let file = task.file(fd)?;
    if flags & !RANGE_FLAGS != 0 || offset < 0 || len < 0 || offset.checked_add(len).is_none() {
        return Err(Errno::EINVAL);
    }
    match kind_of(&file) {
        Kind::File | Kind::BlockDevice if flags != 0 => file.ops().sync(),
        Kind::File | Kind::Directory | Kind::BlockDevice | Kind::Symlink => Ok(()),
        _ => Err(Errno::ESPIPE),
    }
}

/// A hint that bytes will be read soon: readahead(2). The host reads ahead by itself.
///
/// # Errors
/// EBADF for a file not open for reading, EINVAL for what cannot be read ahead.
pub(super) fn readahead(task: &Task, fd: Fd, _offset: i64, _count: u64) -> Result<()> {
    let file = task.file(fd)?;
    if !file.flags().is_readable() {
        return Err(Errno::EBADF);
    }
    if kind_of(&file) == Kind::File { Ok(()) } else { Err(Errno::EINVAL) }
}

fn kind_of(file: &File) -> Kind {
    pseudo::path_of(file).inode().kind()
}
