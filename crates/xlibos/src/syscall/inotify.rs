//! Events of file systems: inotify_init1(2), inotify_add_watch(2), inotify_rm_watch(2).

use super::args::UserPath;
use super::event::install;
use crate::fs::fd_table::Fd;
use crate::fs::inode::Kind;
use crate::fs::inotify::{Inotify, mask};
use crate::fs::namei::{AT_FDCWD, Follow, resolve};
use crate::fs::{OpenFlags, access};
use crate::{Errno, Result, Task};

/// Makes an instance: inotify_init1(2).
///
/// # Errors
/// EINVAL, EMFILE.
pub(super) fn inotify_init1(task: &Task, flags: u32) -> Result<Fd> {
    install(task, Inotify::new(), OpenFlags::empty(), flags)
}

/// Makes an instance: inotify_init(2).
///
/// # Errors
/// EMFILE.
pub(super) fn inotify_init(task: &Task) -> Result<Fd> {
    inotify_init1(task, 0)
}

/// Watches a file: inotify_add_watch(2).
///
/// # Errors
/// EBADF, EINVAL, those of the path walk, EACCES, ENOTDIR, EEXIST.
pub(super) fn inotify_add_watch(task: &Task, fd: Fd, path: UserPath, wanted: u32) -> Result<i32> {
    let file = task.file(fd)?;
    let inotify = file.downcast::<Inotify>().ok_or(Errno::EINVAL)?;
    let path = resolve(task, AT_FDCWD, &path.read()?, Follow::unless(wanted & mask::DONT_FOLLOW != 0))?;
    if wanted & mask::ONLYDIR != 0 && path.inode().kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    access::check(&**path.inode(), &task.creds(), access::READ)?;
    inotify.add(path.inode().id(), wanted)
}

/// Ends a watch: inotify_rm_watch(2).
///
/// # Errors
/// EBADF, EINVAL.
pub(super) fn inotify_rm_watch(task: &Task, fd: Fd, watch: i32) -> Result<()> {
    let file = task.file(fd)?;
    file.downcast::<Inotify>().ok_or(Errno::EINVAL)?.remove(watch)
}
