//! The path walk over names that are all known: below a pin, without a lock or a count. It gives up, and the walk of
//! [`super::namei`] is made instead, at everything else: names that are not known, symbolic links, `..`.

use super::access;
use super::dentry::Dentry;
use super::fd_table::Fd;
use super::inode::{Kind, Stat};
use super::mount::{self, Mount};
use super::namei::{AT_FDCWD, Follow, NAME_MAX, PATH_MAX, trim_slashes};
use super::path::Path;
use crate::process::creds::{CAP_DAC_OVERRIDE, Creds};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use machine::epoch::{Pin, pin};

/// A place that a glance has come to.
#[derive(Clone, Copy)]
struct Seen<'a> {
    mount: &'a Arc<Mount>,
    dentry: &'a Arc<Dentry>,
}

impl Seen<'_> {
    fn path(&self) -> Path {
        Path { mount: Arc::clone(self.mount), dentry: Arc::clone(self.dentry) }
    }
}

/// As [`super::namei::resolve`]; None where the walk has to be made.
pub fn resolve(task: &Task, dirfd: Fd, path: &[u8], follow: Follow) -> Option<Result<Path>> {
    see(task, dirfd, path, follow, |seen| Some(seen.path()))
}

/// What is told by the attributes of a path's file; None where the walk has to be made, or the attributes asked for.
pub fn stat<T>(
    task: &Task,
    dirfd: Fd,
    path: &[u8],
    follow: Follow,
    tell: impl FnOnce(&Stat) -> T,
) -> Option<Result<T>> {
    see(task, dirfd, path, follow, |seen| seen.dentry.inode().stat_at_hand().map(|stat| tell(&stat)))
}

/// Where a path leads.
pub enum Sight {
    /// To the place that was expected, and the task may read the file there.
    Readable,
    /// Elsewhere, or nobody knows without asking whether it may.
    Other(Path),
}

/// As [`resolve`], for who expects a place.
pub fn resolve_or_read(
    task: &Task,
    dirfd: Fd,
    path: &[u8],
    follow: Follow,
    expected: Option<&Path>,
) -> Option<Result<Sight>> {
    see(task, dirfd, path, follow, |seen| {
        let is_there =
            expected.is_some_and(|e| Arc::ptr_eq(seen.mount, &e.mount) && Arc::ptr_eq(seen.dentry, &e.dentry));
        let stat = if is_there { seen.dentry.inode().stat_at_hand() } else { None };
        let may_read = stat.is_some_and(|s| access::check_stat(&s, task.creds_at(&pin()), access::READ).is_ok());
        Some(if may_read { Sight::Readable } else { Sight::Other(seen.path()) })
    })
}

/// Walks, and looks at what it comes to. None also where `look` sees nothing.
fn see<T>(
    task: &Task,
    dirfd: Fd,
    path: &[u8],
    follow: Follow,
    look: impl FnOnce(&Seen<'_>) -> Option<T>,
) -> Option<Result<T>> {
    if path.is_empty() || path.len() >= PATH_MAX {
        return None;
    }
    let is_absolute = path.first() == Some(&b'/');
    let file = if is_absolute || dirfd == AT_FDCWD { None } else { Some(task.any_file(dirfd).ok()?) };
    let pin = pin();
    let start = match &file {
        Some(file) => file.path()?,
        None if is_absolute => task.fs_at(&pin).root_at(&pin),
        None => task.fs_at(&pin).cwd_at(&pin),
    };
    let start = Seen { mount: &start.mount, dentry: &start.dentry };
    match walk(start, task.creds_at(&pin), trim_slashes(path), follow, &pin)? {
        Ok(seen) => look(&seen).map(Ok),
        Err(errno) => Some(Err(errno)),
    }
}

fn walk<'a>(start: Seen<'a>, creds: &Creds, path: &[u8], follow: Follow, pin: &'a Pin) -> Option<Result<Seen<'a>>> {
    let (mut at, mut rest) = (start, path);
    while !rest.is_empty() {
        let len = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
        let (name, behind) = rest.split_at_checked(len)?;
        rest = trim_slashes(behind);
        if name.len() > NAME_MAX || matches!(name, b"." | b"..") || !may_search(at.dentry, creds) {
            return None;
        }
        let Some(child) = at.dentry.glance(name, pin)? else { return Some(Err(Errno::ENOENT)) };
        let is_last = behind.is_empty();
        if !is_last && !child.is_directory()
            || is_last && follow == Follow::Yes && child.inode().kind() == Kind::Symlink
        {
            return None;
        }
        at.dentry = child;
        while let Some(mount) = mount::mounted_on(at.mount, at.dentry, pin) {
            at = Seen { mount, dentry: &mount.root };
        }
    }
    Some(Ok(at))
}

/// Whether the directory may be searched, for sure.
fn may_search(directory: &Dentry, creds: &Creds) -> bool {
    creds.has(CAP_DAC_OVERRIDE)
        || directory
            .inode()
            .stat_at_hand()
            .is_some_and(|stat| access::check_stat(&stat, creds, access::EXECUTE).is_ok())
}
