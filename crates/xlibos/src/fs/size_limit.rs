//! RLIMIT_FSIZE: how long the caller may make regular files.

use super::file::{File, OpenFlags};
use super::inode::Kind;
use crate::process::limits::INFINITY;
use crate::signal::SIGXFSZ;
use crate::uio::Source;
use crate::{Errno, Result, Task};

/// Cuts a write at `offset` down to what the limit leaves.
///
/// # Errors
/// EFBIG, with SIGXFSZ, where it leaves nothing.
pub(super) fn cut(file: &File, from: &mut Source<'_>, offset: u64) -> Result<()> {
    match Task::current() {
        Some(task) if task.process.limits.file_size() != INFINITY => cut_at(task, file, from, offset),
        _ => Ok(()),
    }
}

#[cold]
fn cut_at(task: &Task, file: &File, from: &mut Source<'_>, offset: u64) -> Result<()> {
    if from.remaining() == 0 || file.path().is_none_or(|path| path.inode().kind() != Kind::File) {
        return Ok(());
    }
    let start = if file.flags().contains(OpenFlags::APPEND) { file.ops().size()? } else { offset };
    let left = task.process.limits.file_size().saturating_sub(start);
    if left == 0 {
        return Err(refuse(task));
    }
    from.limit(left);
    Ok(())
}

/// Whether the caller may make a file of `old` bytes that long: truncate(2), fallocate(2).
///
/// # Errors
/// EFBIG, with SIGXFSZ.
pub fn check_size(task: &Task, old: u64, new: u64) -> Result<()> {
    if new > old && new > task.process.limits.file_size() { Err(refuse(task)) } else { Ok(()) }
}

fn refuse(task: &Task) -> Errno {
    crate::signal::raise(task, SIGXFSZ);
    Errno::EFBIG
}
