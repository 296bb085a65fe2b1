//! The path walk: path_resolution(7), and the RESOLVE_* flags of openat2(2).

use super::access::{self, Who};
use super::dentry::Dentry;
use super::fd_table::Fd;
use super::glance::{self, Glance};
use super::inode::{Caching, Kind, Link};
use super::path::Path;
use super::pseudo;
use crate::process::creds::Creds;
use crate::{Errno, Result, Task};
use alloc::borrow::Cow;
use alloc::sync::Arc;
use machine::name_map::{name_len, slashes};

/// Longest name of one component.
pub const NAME_MAX: usize = 255;
/// Longest path, with its NUL.
pub const PATH_MAX: usize = 4096;
/// How many symbolic links one walk follows.
const MAX_LINKS: u32 = 40;

/// Whether a symbolic link in the last component is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is.
    Yes,
    /// It is the result itself.
    No,
}

impl Follow {
    /// From the presence of AT_SYMLINK_NOFOLLOW.
    #[must_use]
    pub fn unless(nofollow: bool) -> Follow {
        if nofollow { Follow::No } else { Follow::Yes }
    }
}

bitflags::bitflags! {
    /// RESOLVE_* of openat2(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Resolve: u64 {
        /// No mount is crossed.
        const NO_XDEV = 1;
        /// No magic link is followed.
        const NO_MAGICLINKS = 2;
        /// No symbolic link is followed.
        const NO_SYMLINKS = 4;
        /// The walk does not leave the start directory.
        const BENEATH = 8;
        /// The start directory is the root.
        const IN_ROOT = 16;
        /// Only names that are known.
        const CACHED = 32;
    }
}

/// AT_FDCWD.
pub const AT_FDCWD: Fd = Fd(-100);
/// AT_SYMLINK_NOFOLLOW.
pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
/// AT_EMPTY_PATH.
pub const AT_EMPTY_PATH: u32 = 0x1000;

/// Where `/` leads, and no `..` beyond.
enum Top<'t> {
    /// A task's root: most walks never ask for it.
    Of(&'t Task),
    At(Path),
}

impl Top<'_> {
    /// The same at each look, whatever another task with the same root does meanwhile.
    fn path(&mut self) -> Path {
        let path = match self {
            Top::Of(task) => task.root(),
            Top::At(path) => return path.clone(),
        };
        *self = Top::At(path.clone());
        path
    }
}

/// A walk: where it is, and what binds it.
pub struct Walk<'t> {
    who: Who<'t>,
    top: Top<'t>,
    /// With BENEATH: where the walk began.
    start: Option<Path>,
    at: Path,
    links: u32,
    flags: Resolve,
}

/// The last component of a path, not yet looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last<'a> {
    /// The name; empty where the path ends in `/`, `.` or `..` only, and names a directory that is already reached.
    pub name: Cow<'a, [u8]>,
    /// What the path ended in, where `name` is empty.
    pub ending: Ending,
    /// A slash follows the name.
    pub must_be_directory: bool,
}

impl<'a> Last<'a> {
    /// With what is written there, and whether a slash follows.
    fn of(name: &'a [u8], has_slash: bool) -> Last<'a> {
        let ending = match name {
            b"." => Ending::Dot,
            b".." => Ending::DotDot,
            _ => return Last { name: Cow::Borrowed(name), ending: Ending::Name, must_be_directory: has_slash },
        };
        Last { name: Cow::default(), ending, must_be_directory: true }
    }

    /// As itself, without the path that it was found in.
    #[must_use]
    pub fn into_owned(self) -> Last<'static> {
        Last { name: Cow::Owned(self.name.into_owned()), ..self }
    }
}

/// How a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In a name.
    Name,
    /// In `.`.
    Dot,
    /// In `..`.
    DotDot,
    /// It is `/` only.
    Root,
}

/// The directory that a path starts from.
fn start_of(task: &Task, dirfd: Fd, path: &[u8]) -> Result<Path> {
    if path.first() == Some(&b'/') {
        return Ok(task.root());
    }
    if dirfd == AT_FDCWD {
        return Ok(task.cwd());
    }
    let file = task.any_file(dirfd)?;
    Ok(pseudo::path_of(&file))
}

impl<'t> Walk<'t> {
    /// A walk of a task from a directory descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub fn begin(task: &'t Task, dirfd: Fd, path: &[u8], flags: Resolve) -> Result<Walk<'t>> {
        let scoped = flags.intersects(Resolve::BENEATH | Resolve::IN_ROOT);
        let start = start_of(task, dirfd, if scoped { b"" } else { path })?;
        let is_root = flags.contains(Resolve::IN_ROOT) || !scoped && path.first() == Some(&b'/');
        let top = if is_root { Top::At(start.clone()) } else { Top::Of(task) };
        Ok(Walk::below(Who::of(task), top, start, flags))
    }

    /// A walk of a task to the directory of a path's last component: by a glance, where that comes so far.
    ///
    /// # Errors
    /// EBADF; those of [`Walk::parent`].
    pub fn to_parent<'a>(task: &'t Task, dirfd: Fd, path: &'a [u8]) -> Result<(Walk<'t>, Last<'a>)> {
        let end = path.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
        let slash = path.get(..end).and_then(last_slash).filter(|_| path.len() < PATH_MAX);
        if let Some((above, last)) = slash.and_then(|slash| path.split_at_checked(slash + 1))
            && let Glance::Seen(Ok(glance::Parent { at, who, may_search })) = glance::parent(task, dirfd, above)
        {
            let mut walk = Walk::below(who, Top::Of(task), at, Resolve::empty());
            let name = last.get(..end - above.len()).unwrap_or(last);
            let last = if may_search && name.len() <= NAME_MAX {
                Last::of(name, end < path.len())
            } else {
                walk.parent(last)?
            };
            return Ok((walk, last));
        }
        let mut walk = Walk::begin(task, dirfd, path, Resolve::empty())?;
        let last = walk.parent(path)?;
        Ok((walk, last))
    }

    /// A walk of a task from a place.
    #[must_use]
    pub fn of(task: &'t Task, start: Path) -> Walk<'t> {
        Walk::below(Who::of(task), Top::Of(task), start, Resolve::empty())
    }

    /// A walk of nobody from a place.
    #[must_use]
    pub fn at(creds: Arc<Creds>, root: Path, start: Path) -> Walk<'t> {
        Walk::below(Who::given(creds), Top::At(root), start, Resolve::empty())
    }

    fn below(who: Who<'t>, top: Top<'t>, start: Path, flags: Resolve) -> Walk<'t> {
        let beginning = flags.contains(Resolve::BENEATH).then(|| start.clone());
        Walk { who, top, at: start, start: beginning, links: 0, flags }
    }

    /// Whose rights the walk is made with.
    #[must_use]
    pub fn who(&self) -> &Who<'t> {
        &self.who
    }

    /// Where the walk is.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.at
    }

    /// The same, at its end.
    #[must_use]
    pub fn into_place(self) -> Path {
        self.at
    }

    /// Walks all of a path.
    ///
    /// # Errors
    /// Those of path_resolution(7).
    pub fn resolve(mut self, path: &[u8], follow: Follow) -> Result<Path> {
        let last = self.parent(path)?;
        self.finish(&last, follow)?;
        Ok(self.at)
    }

    /// Walks to the directory of a path's last component, which it returns.
    ///
    /// # Errors
    /// As [`Walk::resolve`].
    pub fn parent<'a>(&mut self, path: &'a [u8]) -> Result<Last<'a>> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.walk_to_last(path)
    }

    fn walk_to_last<'a>(&mut self, path: &'a [u8]) -> Result<Last<'a>> {
        let mut rest = path;
        if path.first() == Some(&b'/') {
            self.jump_to_root()?;
            rest = trim_slashes(path);
            if rest.is_empty() {
                return Ok(Last { name: Cow::default(), ending: Ending::Root, must_be_directory: true });
            }
        }
        loop {
            let (name, behind) = rest.split_at_checked(name_len(rest)).ok_or(Errno::EINVAL)?;
            let next = trim_slashes(behind);
            if name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            if next.is_empty() {
                return self.last(name, !behind.is_empty());
            }
            match name {
                b"." => self.check_search()?,
                b".." => self.up()?,
                _ => self.step(name, rest)?,
            }
            rest = next;
        }
    }

    /// The walk has come to the last component.
    fn last<'a>(&mut self, name: &'a [u8], has_slash: bool) -> Result<Last<'a>> {
        self.check_search()?;
        Ok(Last::of(name, has_slash))
    }

    /// Looks the last component up and goes there.
    ///
    /// # Errors
    /// As [`Walk::resolve`].
    pub fn finish(&mut self, last: &Last<'_>, follow: Follow) -> Result<()> {
        match last.ending {
            Ending::Root | Ending::Dot => return Ok(()),
            Ending::DotDot => return self.up(),
            Ending::Name => {}
        }
        let child = self.look_up(&last.name, &last.name)?;
        self.enter(child, if last.must_be_directory { Follow::Yes } else { follow })?;
        if last.must_be_directory && !self.at.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        Ok(())
    }

    /// Follows a symbolic link found as the last component, up to the last component of what it leads to. None: the
    /// link led to a place, where the walk is now.
    ///
    /// # Errors
    /// ELOOP, and those of [`Walk::resolve`].
    pub fn follow_to_last(&mut self, link: &Dentry) -> Result<Option<Last<'static>>> {
        match self.link_of(link)? {
            Link::Text(text) => self.parent(&text).map(|last| Some(last.into_owned())),
            Link::Jump(path) => self.jump(path).map(|()| None),
            Link::File(file) => self.jump(pseudo::path_of(&file)).map(|()| None),
        }
    }

    fn link_of(&mut self, link: &Dentry) -> Result<Link> {
        self.links += 1;
        if self.links > MAX_LINKS || self.flags.contains(Resolve::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        link.inode().follow()
    }

    fn check_search(&self) -> Result<()> {
        if !self.at.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.who.check(&**self.at.inode(), access::EXECUTE)
    }

    fn look_up(&self, name: &[u8], path: &[u8]) -> Result<Arc<Dentry>> {
        let dir = &self.at.dentry;
        let found = if self.flags.contains(Resolve::CACHED) { dir.known_child(name) } else { dir.child(name, path) };
        found?.ok_or(Errno::ENOENT)
    }

    /// Goes to a component that is not the last; `path` begins with it.
    fn step(&mut self, name: &[u8], path: &[u8]) -> Result<()> {
        self.check_search()?;
        let child = self.look_up(name, path)?;
        self.enter(child, Follow::Yes)?;
        if self.at.dentry.is_directory() { Ok(()) } else { Err(Errno::ENOTDIR) }
    }

    /// Goes to what was made in the current directory.
    pub(super) fn go_to_made(&mut self, child: Arc<Dentry>) {
        self.at.dentry = child;
    }

    /// Goes to a child of the current directory: over mounts, and through a symbolic link.
    pub(super) fn enter(&mut self, child: Arc<Dentry>, follow: Follow) -> Result<()> {
        if follow == Follow::No || child.kind() != Kind::Symlink {
            if child.is_mountpoint() {
                let to = self.at.with_dentry(child).descend();
                return self.cross(to);
            }
            self.at.dentry = child;
            return Ok(());
        }
        if let Some(last) = self.follow_to_last(&child)? {
            self.finish(&last, Follow::Yes)?;
        }
        Ok(())
    }

    fn cross(&mut self, to: Path) -> Result<()> {
        if self.flags.contains(Resolve::NO_XDEV) && !core::ptr::eq(to.mount, self.at.mount) {
            return Err(Errno::EXDEV);
        }
        self.at = to;
        Ok(())
    }

    /// A magic link leads to a place.
    fn jump(&mut self, to: Path) -> Result<()> {
        if self.flags.contains(Resolve::NO_MAGICLINKS) {
            return Err(Errno::ELOOP);
        }
        if self.flags.intersects(Resolve::BENEATH | Resolve::IN_ROOT) {
            return Err(Errno::EXDEV);
        }
        self.cross(to)
    }

    fn jump_to_root(&mut self) -> Result<()> {
        if self.flags.contains(Resolve::BENEATH) {
            return Err(Errno::EXDEV);
        }
        let root = self.top.path();
        if self.at == root { Ok(()) } else { self.cross(root) }
    }

    fn up(&mut self) -> Result<()> {
        self.check_search()?;
        if self.start.as_ref() == Some(&self.at) {
            return Err(Errno::EXDEV);
        }
        if self.at == self.top.path() {
            return Ok(());
        }
        match self.at.above() {
            Some(above) => self.cross(above.descend()),
            None => Ok(()),
        }
    }
}

/// Where the last slash of a path is.
fn last_slash(path: &[u8]) -> Option<usize> {
    let (rest, words) = path.as_rchunks::<8>();
    for (at, word) in words.iter().enumerate().rev() {
        let found = slashes(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(rest.len() + at * 8 + 7 - (found.leading_zeros() / 8) as usize);
        }
    }
    rest.iter().rposition(|b| *b == b'/')
}

/// A path without the slashes that it begins with; mostly there is one, or it has ended.
#[inline]
pub(super) fn trim_slashes(path: &[u8]) -> &[u8] {
    if let [b'/', rest @ ..] = path
        && rest.first() != Some(&b'/')
    {
        return rest;
    }
    let start = path.iter().position(|&b| b != b'/').unwrap_or(path.len());
    path.get(start..).unwrap_or(&[])
}

/// Resolves a path of a task.
///
/// # Errors
/// Those of path_resolution(7).
pub fn resolve(task: &Task, dirfd: Fd, path: &[u8], follow: Follow) -> Result<Path> {
    match glance::resolve(task, dirfd, path, follow) {
        Glance::Seen(found) => found,
        Glance::Stopped(stopped) => stopped.walk(task, follow),
        Glance::Nothing => walk(task, dirfd, path, follow),
    }
}

/// As [`resolve`], from the beginning.
///
/// # Errors
/// As [`resolve`].
pub fn walk(task: &Task, dirfd: Fd, path: &[u8], follow: Follow) -> Result<Path> {
    Walk::begin(task, dirfd, path, Resolve::empty())?.resolve(path, follow)
}

/// As [`resolve`]; an empty path with AT_EMPTY_PATH is the descriptor's own file (AT_FDCWD: the working directory).
///
/// # Errors
/// As [`resolve`].
pub fn resolve_at(task: &Task, dirfd: Fd, path: &[u8], flags: u32) -> Result<Path> {
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        return start_of(task, dirfd, path);
    }
    resolve(task, dirfd, path, Follow::unless(flags & AT_SYMLINK_NOFOLLOW != 0))
}

/// Walks to the directory of a path's last component.
///
/// # Errors
/// Those of path_resolution(7).
pub fn resolve_parent<'t, 'a>(task: &'t Task, dirfd: Fd, path: &'a [u8]) -> Result<(Walk<'t>, Last<'a>)> {
    Walk::to_parent(task, dirfd, path)
}

/// Whether names below a dentry are remembered, for mounts on them.
#[must_use]
pub fn keeps_names(dentry: &Dentry) -> bool {
    dentry.inode().caching() == Caching::Always
}

#[cfg(test)]
mod tests {
    use super::{last_slash, name_len};

    #[test]
    fn slashes_are_found_wherever_they_are() {
        for len in 0..30 {
            let mut path = vec![b'.'; len];
            assert_eq!((name_len(&path), last_slash(&path)), (len, None));
            for (one, other) in (0..len).flat_map(|one| (one..len).map(move |other| (one, other))) {
                (path[one], path[other]) = (b'/', b'/');
                assert_eq!((name_len(&path), last_slash(&path)), (one, Some(other)));
                (path[one], path[other]) = (b'0', 0xaf);
            }
        }
    }
}
