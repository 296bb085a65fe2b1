//! Opening files: open(2), openat2(2).

use super::access::{self, Who};
use super::acl;
use super::change;
use super::dentry::Dentry;
use super::fd_table::Fd;
use super::file::{File, FileOps, OpenFlags, PLAIN};
use super::glance::{self, Glance, Sight};
use super::inode::{Change, Kind, NewKind, NewMode};
use super::inotify;
use super::namei::{self, Ending, Follow, Last, Resolve, Walk};
use super::object::Ops;
use super::path::Path;
use super::pseudo::detached_path;
use super::special::open_special;
use super::text_busy::{self, Claim};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use core::any::Any;

/// How a file is opened: `struct open_how`.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Flags.
    pub flags: OpenFlags,
    /// Permission bits of a new file.
    pub mode: u32,
    /// RESOLVE_*.
    pub resolve: Resolve,
}

const TMPFILE: OpenFlags = OpenFlags::TMPFILE_PART.union(OpenFlags::DIRECTORY);

/// Opens a path for a task.
///
/// # Errors
/// Those of open(2); INTERRUPTED while waiting for the other end of a FIFO.
pub fn open(task: &Task, dirfd: Fd, path: &[u8], flags: OpenFlags, mode: u32) -> Result<Arc<File>> {
    open_how(task, dirfd, path, How { flags, mode, resolve: Resolve::empty() })
}

/// As [`open`], with the walk's limits.
///
/// # Errors
/// As [`open`].
pub fn open_how(task: &Task, dirfd: Fd, path: &[u8], how: How) -> Result<Arc<File>> {
    for _ in 0..TRIES {
        match open_once(task, dirfd, path, how) {
            // What the path led to was replaced before it was opened.
            Err(Errno::ESTALE) => {}
            opened => return opened,
        }
    }
    Err(Errno::ENOENT)
}

/// How often a path is walked whose file is replaced each time before it is opened.
const TRIES: usize = 16;

/// ESTALE for a file that has lost its name since.
fn is_gone(path: &Path, errno: Errno) -> Errno {
    if errno != Errno::ENOENT {
        return errno;
    }
    path.dentry.settle();
    Errno::ESTALE
}

fn open_once(task: &Task, dirfd: Fd, path: &[u8], how: How) -> Result<Arc<File>> {
    let How { mut flags, mode, resolve } = how;
    if flags.contains(OpenFlags::PATH) {
        flags &= OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    }
    if resolve.is_empty() && !flags.intersects(OpenFlags::TMPFILE_PART | OpenFlags::CREAT) {
        return match find(task, dirfd, path, flags)? {
            Found::Opened(file) => Ok(file),
            Found::Place(place) => open_place(task, place, flags),
            Found::Seen(place, who) => open_place_as(task, &who, place, flags),
        };
    }
    let (mut walk, last) = if resolve.is_empty() {
        Walk::to_parent(task, dirfd, path)?
    } else {
        let mut walk = Walk::begin(task, dirfd, path, resolve)?;
        let last = walk.parent(path)?;
        (walk, last)
    };
    if flags.contains(OpenFlags::TMPFILE_PART) {
        return open_unnamed(walk, &last, flags, mode);
    }
    if flags.contains(OpenFlags::CREAT) {
        return open_or_create(task, walk, last, flags, mode);
    }
    let follow = Follow::unless(flags.contains(OpenFlags::NOFOLLOW));
    walk.finish(&last, follow)?;
    open_place(task, walk.into_place(), flags)
}

/// What a path leads to.
enum Found<'t> {
    /// The file that the task closed last, opened again: nothing was counted that other tasks count too.
    Opened(Arc<File>),
    /// A place, and who asks.
    Seen(Path, Who<'t>),
    Place(Path),
}

fn find<'t>(task: &'t Task, dirfd: Fd, path: &[u8], flags: OpenFlags) -> Result<Found<'t>> {
    let follow = Follow::unless(flags.contains(OpenFlags::NOFOLLOW));
    let closed = if PLAIN.contains(flags) { task.take_closed() } else { None };
    let Some(closed) = closed else {
        return match glance::resolve_as(task, dirfd, path, follow) {
            Glance::Seen(seen) => seen.map(|(place, who)| Found::Seen(place, who)),
            Glance::Stopped(stopped) => stopped.walk(task, follow).map(Found::Place),
            Glance::Nothing => namei::walk(task, dirfd, path, follow).map(Found::Place),
        };
    };
    match glance::resolve_or_read(task, dirfd, path, follow, closed.path()) {
        Glance::Seen(Ok(Sight::Readable)) => {}
        Glance::Seen(Ok(Sight::Other(place))) => return Ok(Found::Place(place)),
        Glance::Seen(Err(errno)) => return Err(errno),
        Glance::Stopped(stopped) => return stopped.walk(task, follow).map(Found::Place),
        Glance::Nothing => return namei::walk(task, dirfd, path, follow).map(Found::Place),
    }
    match closed.open(flags) {
        Some(file) => Ok(Found::Opened(file)),
        None => namei::resolve(task, dirfd, path, follow).map(Found::Place),
    }
}

/// O_TMPFILE.
fn open_unnamed(mut walk: Walk<'_>, last: &Last<'_>, flags: OpenFlags, mode: u32) -> Result<Arc<File>> {
    if !flags.contains(TMPFILE) || !flags.is_writable() || flags.contains(OpenFlags::CREAT) {
        return Err(Errno::EINVAL);
    }
    walk.finish(last, Follow::unless(flags.contains(OpenFlags::NOFOLLOW)))?;
    let dir = walk.place();
    if !dir.dentry.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    dir.mount.check_writable()?;
    walk.who().check(&**dir.inode(), access::WRITE | access::EXECUTE)?;
    let node = change::new_node(dir, walk.who(), NewKind::File, NewMode::by(walk.who(), mode))?;
    let inode = dir.inode().create_unnamed(&node)?;
    acl::inherit(&**dir.inode(), &inode, node.mode)?;
    let name = alloc::format!("#{} (deleted)", inode.id().ino);
    let claim = text_busy::to_write(&*inode)?;
    let ops = Arc::clone(&inode).open(flags)?;
    let mut path = detached_path(name.as_bytes(), inode);
    // The mount is the directory's, so that linkat(2) can give the file a name there.
    path.mount = dir.mount;
    Ok(File::claimed(Ops::Held(ops), flags.difference(OpenFlags::DIRECTORY), Some(path), claim))
}

/// What O_CREAT found.
enum Existence {
    /// A new file.
    Created(Arc<Dentry>),
    /// Something that was there.
    Existing(Arc<Dentry>),
}

fn open_or_create(
    task: &Task,
    mut walk: Walk<'_>,
    mut last: Last<'_>,
    flags: OpenFlags,
    mode: u32,
) -> Result<Arc<File>> {
    if flags.contains(OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    loop {
        if last.ending != Ending::Name || last.must_be_directory {
            return Err(directory_refusal(&mut walk, &last, flags));
        }
        let dentry = match find_or_create(&walk, &last, flags, mode)? {
            Existence::Created(dentry) => {
                walk.go_to_made(dentry);
                return open_inode(task, walk.into_place(), flags);
            }
            Existence::Existing(dentry) => dentry,
        };
        if flags.contains(OpenFlags::EXCL) {
            return Err(Errno::EEXIST);
        }
        if dentry.kind() != Kind::Symlink {
            walk.enter(dentry, Follow::No)?;
            return open_place(task, walk.into_place(), flags);
        }
        if flags.contains(OpenFlags::NOFOLLOW) {
            return Err(Errno::ELOOP);
        }
        match walk.follow_to_last(&dentry)? {
            Some(next) => last = next,
            None => return open_place(task, walk.into_place(), flags),
        }
    }
}

/// Why a path that can only be a directory's cannot be opened with O_CREAT.
fn directory_refusal(walk: &mut Walk<'_>, last: &Last<'_>, flags: OpenFlags) -> Errno {
    match walk.finish(last, Follow::Yes) {
        Ok(()) if flags.contains(OpenFlags::EXCL) => Errno::EEXIST,
        Ok(()) | Err(Errno::ENOENT) => Errno::EISDIR,
        Err(errno) => errno,
    }
}

fn find_or_create(walk: &Walk<'_>, last: &Last<'_>, flags: OpenFlags, mode: u32) -> Result<Existence> {
    let dir = walk.place();
    // Who wants a new file finds none, as a rule.
    if !flags.contains(OpenFlags::EXCL)
        && let Some(dentry) = dir.dentry.child(&last.name, &last.name)?
    {
        return Ok(Existence::Existing(dentry));
    }
    let _changing = dir.dentry.lock()?;
    if let Some(dentry) = dir.dentry.child_locked(&last.name)? {
        return Ok(Existence::Existing(dentry));
    }
    dir.mount.check_writable()?;
    let node = change::new_node(dir, walk.who(), NewKind::File, NewMode::by(walk.who(), mode))?;
    let dentry = change::create_locked(dir, walk.who(), &last.name, &node)?;
    Ok(Existence::Created(dentry))
}

/// Opens what the walk has come to.
///
/// # Errors
/// As [`open`].
pub fn open_place(task: &Task, path: Path, flags: OpenFlags) -> Result<Arc<File>> {
    open_place_as(task, &Who::of(task), path, flags)
}

fn open_place_as(task: &Task, who: &Who<'_>, path: Path, flags: OpenFlags) -> Result<Arc<File>> {
    let kind = path.dentry.kind();
    if flags.contains(OpenFlags::DIRECTORY) && kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    if flags.contains(OpenFlags::PATH) {
        return Ok(File::claimed(Ops::Shared(&PathOnly), flags, Some(path), None));
    }
    match kind {
        Kind::Symlink => return Err(Errno::ELOOP),
        Kind::Directory if flags.is_writable() || flags.intersects(OpenFlags::CREAT | OpenFlags::TRUNC) => {
            return Err(Errno::EISDIR);
        }
        _ => {}
    }
    check_open(who, &path, flags)?;
    if flags.contains(OpenFlags::TRUNC) && kind == Kind::File {
        let _claim = text_busy::to_write(&**path.inode())?;
        path.inode()
            .set_attributes(&Change { size: Some(0), ..Change::default() })
            .map_err(|errno| is_gone(&path, errno))?;
        inotify::notify_place(&path, inotify::mask::MODIFY);
    }
    open_inode(task, path, flags)
}

fn check_open(who: &Who<'_>, path: &Path, flags: OpenFlags) -> Result<()> {
    let truncates = flags.contains(OpenFlags::TRUNC);
    let mut want = 0;
    if flags.is_readable() {
        want |= access::READ;
    }
    if flags.is_writable() || truncates {
        want |= access::WRITE;
    }
    who.check(&**path.inode(), want)?;
    if want & access::WRITE != 0 && matches!(path.dentry.kind(), Kind::File | Kind::Directory) {
        path.mount.check_writable()?;
    }
    if flags.contains(OpenFlags::NOATIME) {
        access::check_owner(&path.inode().stat()?, &who.creds())?;
    }
    Ok(())
}

fn open_inode(task: &Task, path: Path, flags: OpenFlags) -> Result<Arc<File>> {
    let claim = write_claim(&path, flags)?;
    let ops = match path.dentry.kind() {
        Kind::Directory => Ops::Shared(&DirectoryFile),
        Kind::File if path.inode().as_file().is_some() => Ops::OfPlace,
        Kind::File => Ops::Held(Arc::clone(path.inode()).open(flags).map_err(|errno| is_gone(&path, errno))?),
        _ => Ops::Held(open_special(task, &path, flags)?),
    };
    inotify::notify_place(&path, inotify::mask::OPEN);
    Ok(File::claimed(ops, flags, Some(path), claim))
}

fn write_claim(path: &Path, flags: OpenFlags) -> Result<Option<Claim>> {
    if flags.is_writable() { text_busy::to_write(&**path.inode()) } else { Ok(None) }
}

/// An open directory: getdents(2) lists its path's inode.
pub struct DirectoryFile;

impl FileOps for DirectoryFile {
    fn read(&self, _file: &File, _to: &mut crate::uio::Sink<'_>, _offset: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(u64::from(u32::MAX >> 1))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// O_PATH: a place only. Calls that need more answer EBADF.
pub struct PathOnly;

impl FileOps for PathOnly {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
