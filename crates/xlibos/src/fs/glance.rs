//! The path walk over names that are all known: below a pin, without a lock or a count. It stops, and the walk of
//! [`super::namei`] goes on from there, at everything else: names that are not known, symbolic links, `..`.

use super::access::{self, Who};
use super::dentry::Dentry;
use super::fd_table::Fd;
use super::inode::{Kind, Stat};
use super::mount::{self, Mount};
use super::namei::{AT_FDCWD, Follow, NAME_MAX, PATH_MAX, Walk, trim_slashes};
use super::path::Path;
use crate::process::creds::{CAP_DAC_OVERRIDE, Creds};
use crate::{Errno, Result, Task};
use machine::epoch::{Counted, Pin, pin};
use machine::name_map::Wanted;

/// A place that a glance has come to.
#[derive(Clone, Copy)]
struct Seen<'a> {
    mount: &'static Mount,
    dentry: Counted<'a, Dentry>,
}

impl Seen<'_> {
    fn path(&self) -> Path {
        Path { mount: self.mount, dentry: self.dentry.hold() }
    }
}

/// What a glance at a path comes to.
pub enum Glance<'p, T> {
    /// All of it, or why there is nothing.
    Seen(Result<T>),
    /// Directories that may be searched, up to a place from which the walk has to be made.
    Stopped(Stopped<'p>),
    /// Nothing: the walk has to be made.
    Nothing,
}

/// Where a glance stopped.
pub struct Stopped<'p> {
    at: Path,
    /// The path from there: without a slash before it, empty where all was walked.
    rest: &'p [u8],
}

impl Stopped<'_> {
    /// Walks the rest of the path.
    ///
    /// # Errors
    /// Those of path_resolution(7).
    pub fn walk(self, task: &Task, follow: Follow) -> Result<Path> {
        if self.rest.is_empty() {
            return Ok(self.at);
        }
        Walk::of(task, self.at).resolve(self.rest, follow)
    }
}

/// As [`super::namei::resolve`].
pub fn resolve<'p>(task: &Task, dirfd: Fd, path: &'p [u8], follow: Follow) -> Glance<'p, Path> {
    see(task, dirfd, path, follow, |seen| Some(seen.path()))
}

/// A directory in which something is to be done.
pub struct Parent<'t> {
    /// Where it is.
    pub at: Path,
    /// Who does it.
    pub who: Who<'t>,
    /// It is a directory that may be searched, for sure.
    pub may_search: bool,
}

/// As [`resolve`], for the directory of a last component.
pub fn parent<'t, 'p>(task: &'t Task, dirfd: Fd, path: &'p [u8]) -> Glance<'p, Parent<'t>> {
    see(task, dirfd, path, Follow::Yes, |seen| {
        let who = Who::of(task);
        let may_search = seen.dentry.is_directory() && may_search(&seen.dentry, task.creds_at(&pin()));
        Some(Parent { at: seen.path(), who, may_search })
    })
}

/// As [`resolve`], with who asks.
pub fn resolve_as<'t, 'p>(task: &'t Task, dirfd: Fd, path: &'p [u8], follow: Follow) -> Glance<'p, (Path, Who<'t>)> {
    see(task, dirfd, path, follow, |seen| Some((seen.path(), Who::of(task))))
}

/// What is told by the attributes of a path's file. The glance stops behind the whole path where they have to be asked for.
pub fn stat<'p, T>(
    task: &Task,
    dirfd: Fd,
    path: &'p [u8],
    follow: Follow,
    tell: impl FnOnce(&Stat) -> T,
) -> Glance<'p, T> {
    see(task, dirfd, path, follow, |seen| {
        let mut stat = Stat::default();
        seen.dentry.inode().stat_at_hand(&mut stat).then(|| tell(&stat))
    })
}

/// Where a path leads.
pub enum Sight {
    /// To the place that was expected, and the task may read the file there.
    Readable,
    /// Elsewhere, or nobody knows without asking whether it may.
    Other(Path),
}

/// As [`resolve`], for who expects a place.
pub fn resolve_or_read<'p>(
    task: &Task,
    dirfd: Fd,
    path: &'p [u8],
    follow: Follow,
    expected: Option<&Path>,
) -> Glance<'p, Sight> {
    see(task, dirfd, path, follow, |seen| {
        let is_there =
            expected.is_some_and(|e| core::ptr::eq(seen.mount, e.mount) && core::ptr::eq(&*seen.dentry, &*e.dentry));
        let rights = if is_there { seen.dentry.inode().rights_at_hand() } else { None };
        let may_read =
            rights.is_some_and(|rights| access::check_rights(rights, task.creds_at(&pin()), access::READ).is_ok());
        Some(if may_read { Sight::Readable } else { Sight::Other(seen.path()) })
    })
}

/// Walks, and looks at what it comes to.
fn see<'p, T>(
    task: &Task,
    dirfd: Fd,
    path: &'p [u8],
    follow: Follow,
    look: impl FnOnce(&Seen<'_>) -> Option<T>,
) -> Glance<'p, T> {
    if path.is_empty() || path.len() >= PATH_MAX {
        return Glance::Nothing;
    }
    let is_absolute = path.first() == Some(&b'/');
    let file = if is_absolute || dirfd == AT_FDCWD {
        None
    } else {
        let Ok(file) = task.any_file(dirfd) else { return Glance::Nothing };
        Some(file)
    };
    let pin = pin();
    let start = match &file {
        Some(file) => file.path(),
        None if is_absolute => Some(task.fs_at(&pin).root_at(&pin)),
        None => Some(task.fs_at(&pin).cwd_at(&pin)),
    };
    let Some(start) = start else { return Glance::Nothing };
    let mut way =
        Way { at: Seen { mount: start.mount, dentry: Counted::from(&start.dentry) }, rest: trim_slashes(path) };
    match way.walk(task.creds_at(&pin), follow, &pin) {
        Some(Ok(())) => match look(&way.at) {
            Some(seen) => Glance::Seen(Ok(seen)),
            None => way.stop(&[]),
        },
        Some(Err(errno)) => Glance::Seen(Err(errno)),
        None => way.stop(way.rest),
    }
}

/// How far a glance has come.
struct Way<'a, 'p> {
    at: Seen<'a>,
    rest: &'p [u8],
}

impl<'a, 'p> Way<'a, 'p> {
    /// An attempt that comes to nothing takes nothing with it.
    fn stop<T>(&self, rest: &'p [u8]) -> Glance<'p, T> {
        if machine::cpu::current().is_attempt() {
            return Glance::Nothing;
        }
        Glance::Stopped(Stopped { at: self.at.path(), rest })
    }

    /// None where it stops.
    fn walk(&mut self, creds: &Creds, follow: Follow, pin: &'a Pin) -> Option<Result<()>> {
        while !self.rest.is_empty() {
            let (name, behind) = Wanted::first_of(self.rest);
            let at = self.at.dentry.get();
            if name.name().len() > NAME_MAX || name.is_dots() || !may_search(at, creds) {
                return None;
            }
            let Some(child) = at.glance(&name, pin)? else { return Some(Err(Errno::ENOENT)) };
            let is_last = behind.is_empty();
            if !is_last && !child.is_directory() || is_last && follow == Follow::Yes && child.kind() == Kind::Symlink {
                return None;
            }
            self.at.dentry = child;
            while let Some(mount) = mount::mounted_on(self.at.mount, &self.at.dentry, pin) {
                self.at = Seen { mount, dentry: Counted::from(&mount.root) };
            }
            self.rest = trim_slashes(behind);
        }
        Some(Ok(()))
    }
}

/// Whether the directory may be searched, for sure.
fn may_search(directory: &Dentry, creds: &Creds) -> bool {
    let may = |rights| access::check_rights(rights, creds, access::EXECUTE).is_ok();
    creds.has(CAP_DAC_OVERRIDE) || directory.inode().rights_at_hand().is_some_and(may)
}
