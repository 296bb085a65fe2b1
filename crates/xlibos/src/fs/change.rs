//! Changes of directories: mkdir(2), mknod(2), link(2), symlink(2), unlink(2), rmdir(2), rename(2).
//!
//! As in Linux, a read-only mount refuses removals and renames before any name is looked up, and new names after.
//!
//! A change holds the sleeping lock of each directory it touches; a rename between two takes `RENAMING` first, so that
//! no cycle can arise, and then both in the order of their addresses.

use super::access::{self, Who};
use super::acl;
use super::dentry::Dentry;
use super::inode::{Inode, Kind, NewKind, NewMode, NewNode, RenameMode};
use super::inotify::{self, mask};
use super::namei::{Ending, Last};
use super::path::Path;
use super::sleep_lock::{SleepGuard, SleepLock};
use crate::process::creds::CAP_FOWNER;
use crate::{Errno, Result};
use alloc::sync::Arc;

static RENAMING: SleepLock = SleepLock::new();

const SET_GID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const MODIFY: u32 = access::WRITE | access::EXECUTE;

/// A node with its mode and owner, as its directory's default list and set-group-id bit say.
///
/// # Errors
/// The file system's.
pub fn new_node<'a>(dir: &Path, who: &Who<'_>, kind: NewKind<'a>, mode: NewMode) -> Result<NewNode<'a>> {
    let rights = access::rights_of(&**dir.inode())?;
    let inherits = rights.mode & SET_GID != 0;
    let mut mode = mode.within(&**dir.inode());
    if inherits && kind == NewKind::Directory {
        mode |= SET_GID;
    }
    let gid = if inherits { rights.gid } else { who.gid };
    if kind == NewKind::File && mode & SET_GID != 0 && !access::may_keep_set_gid(gid, &who.creds()) {
        mode &= !SET_GID;
    }
    Ok(NewNode { kind, mode, uid: who.uid, gid })
}

/// Whether a directory takes a name that it has not.
fn may_make(dir: &Path, who: &Who<'_>) -> Result<()> {
    if dir.dentry.is_removed() || !dir.inode().takes_names() {
        return Err(Errno::ENOENT);
    }
    who.check(&**dir.inode(), MODIFY)
}

/// Makes a node in a directory whose lock the caller holds, and where the name is absent.
pub(super) fn create_locked(dir: &Path, who: &Who<'_>, name: &[u8], node: &NewNode<'_>) -> Result<Arc<Dentry>> {
    may_make(dir, who)?;
    if matches!(node.kind, NewKind::CharDevice(1..) | NewKind::BlockDevice(_)) {
        // CAP_MKNOD, which no container has. The device 0:0 of overlays, a name that is gone, needs none.
        return Err(Errno::EPERM);
    }
    let inode = dir.inode().create(name, node)?;
    if let Err(errno) = acl::inherit(&**dir.inode(), &inode, node.mode) {
        let is_directory = inode.kind() == Kind::Directory;
        let _ = if is_directory { dir.inode().rmdir(name) } else { dir.inode().unlink(name) };
        return Err(errno);
    }
    let dentry = dir.dentry.add_child(name, inode)?;
    inotify::notify(dir.inode().id(), mask::CREATE | inotify::directory_bit(dentry.inode()), name);
    Ok(dentry)
}

/// Makes anything but a regular file to be opened: mknod(2), mkdir(2), symlink(2), bind(2) of a UNIX socket.
///
/// # Errors
/// EEXIST, ENOENT, EACCES, EROFS, ENOSPC, EPERM.
pub fn make(dir: &Path, last: &Last<'_>, who: &Who<'_>, kind: NewKind<'_>, mode: NewMode) -> Result<Path> {
    if last.ending != Ending::Name {
        return Err(Errno::EEXIST);
    }
    let _changing = dir.dentry.lock()?;
    if dir.dentry.child_locked(&last.name)?.is_some() {
        return Err(Errno::EEXIST);
    }
    if last.must_be_directory && kind != NewKind::Directory {
        return Err(Errno::ENOENT);
    }
    dir.mount.check_writable()?;
    let node = new_node(dir, who, kind, mode)?;
    create_locked(dir, who, &last.name, &node).map(|dentry| dir.with_dentry(dentry))
}

/// Gives a file another name.
///
/// # Errors
/// EEXIST, EXDEV, EPERM, EACCES, EROFS, EMLINK.
pub fn link(target: &Path, dir: &Path, last: &Last<'_>, who: &Who<'_>) -> Result<()> {
    if last.ending != Ending::Name {
        return Err(Errno::EEXIST);
    }
    let _changing = dir.dentry.lock()?;
    if dir.dentry.child_locked(&last.name)?.is_some() {
        return Err(Errno::EEXIST);
    }
    if last.must_be_directory {
        return Err(Errno::ENOENT);
    }
    dir.mount.check_writable()?;
    if !core::ptr::eq(target.mount, dir.mount) {
        return Err(Errno::EXDEV);
    }
    may_make(dir, who)?;
    if target.inode().kind() == Kind::Directory {
        return Err(Errno::EPERM);
    }
    dir.inode().link(&last.name, target.inode())?;
    dir.dentry.add_child(&last.name, Arc::clone(target.inode()))?;
    inotify::notify_place(target, mask::ATTRIB);
    inotify::notify(dir.inode().id(), mask::CREATE, &last.name);
    Ok(())
}

/// Whether the sticky bit keeps a name from being removed.
fn check_sticky(dir: &dyn Inode, child: &dyn Inode, who: &Who<'_>) -> Result<()> {
    let rights = access::rights_of(dir)?;
    if rights.mode & STICKY == 0 || rights.uid == who.uid || who.has(CAP_FOWNER) {
        return Ok(());
    }
    if access::rights_of(child)?.uid == who.uid { Ok(()) } else { Err(Errno::EPERM) }
}

/// What a call takes away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Directory,
    NoDirectory,
    Any,
}

impl Wanted {
    /// What a rename of `moved` replaces.
    fn as_target(moved: &Dentry, mode: RenameMode) -> Wanted {
        match mode {
            RenameMode::Exchange => Wanted::Any,
            _ if moved.is_directory() => Wanted::Directory,
            _ => Wanted::NoDirectory,
        }
    }
}

/// Whether a name may go: rights first, then what it is, then whether it is in use.
fn check_removable(dir: &Path, child: &Dentry, wanted: Wanted, who: &Who<'_>) -> Result<()> {
    who.check(&**dir.inode(), MODIFY)?;
    check_sticky(&**dir.inode(), &**child.inode(), who)?;
    match (wanted, child.is_directory()) {
        (Wanted::Directory, false) => Err(Errno::ENOTDIR),
        (Wanted::NoDirectory, true) => Err(Errno::EISDIR),
        _ if child.is_mountpoint() => Err(Errno::EBUSY),
        _ => Ok(()),
    }
}

/// unlink(2).
///
/// # Errors
/// ENOENT, EISDIR, ENOTDIR, EACCES, EPERM, EBUSY, EROFS.
pub fn unlink(dir: &Path, last: &Last<'_>, who: &Who<'_>) -> Result<()> {
    if last.ending != Ending::Name {
        return Err(Errno::EISDIR);
    }
    dir.mount.check_writable()?;
    let _changing = dir.dentry.lock()?;
    let child = dir.dentry.child_locked(&last.name)?.ok_or(Errno::ENOENT)?;
    if last.must_be_directory {
        return Err(if child.is_directory() { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    check_removable(dir, &child, Wanted::NoDirectory, who)?;
    dir.inode().unlink(&last.name)?;
    dir.dentry.remove_child(&child, &last.name)?;
    notify_removed(dir, &child, &last.name);
    Ok(())
}

/// rmdir(2).
///
/// # Errors
/// ENOENT, ENOTDIR, ENOTEMPTY, EACCES, EPERM, EBUSY, EINVAL, EROFS.
pub fn rmdir(dir: &Path, last: &Last<'_>, who: &Who<'_>) -> Result<()> {
    match last.ending {
        Ending::Name => {}
        Ending::Dot => return Err(Errno::EINVAL),
        Ending::DotDot => return Err(Errno::ENOTEMPTY),
        Ending::Root => return Err(Errno::EBUSY),
    }
    dir.mount.check_writable()?;
    let _changing = dir.dentry.lock()?;
    let child = dir.dentry.child_locked(&last.name)?.ok_or(Errno::ENOENT)?;
    check_removable(dir, &child, Wanted::Directory, who)?;
    // Nobody may make a name in the directory while it goes.
    let _going = child.lock()?;
    dir.inode().rmdir(&last.name)?;
    dir.dentry.remove_child(&child, &last.name)?;
    notify_removed(dir, &child, &last.name);
    Ok(())
}

/// A side of a rename.
pub struct Side<'a> {
    /// The directory.
    pub dir: &'a Path,
    /// The name in it.
    pub last: &'a Last<'a>,
}

/// rename(2), renameat2(2).
///
/// # Errors
/// Those of rename(2).
pub fn rename(from: &Side<'_>, to: &Side<'_>, mode: RenameMode, who: &Who<'_>) -> Result<()> {
    if !core::ptr::eq(from.dir.mount, to.dir.mount) {
        return Err(Errno::EXDEV);
    }
    if from.last.ending != Ending::Name {
        return Err(Errno::EBUSY);
    }
    if to.last.ending != Ending::Name {
        return Err(if mode == RenameMode::NoReplace { Errno::EEXIST } else { Errno::EBUSY });
    }
    from.dir.mount.check_writable()?;
    let is_one_dir = Arc::ptr_eq(&from.dir.dentry, &to.dir.dentry);
    let _renaming = (!is_one_dir).then(|| RENAMING.lock());
    let _changing = lock_both(&from.dir.dentry, &to.dir.dentry)?;
    let moved = from.dir.dentry.child_locked(&from.last.name)?.ok_or(Errno::ENOENT)?;
    let target = to.dir.dentry.child_locked(&to.last.name)?;
    check_rename(from, to, &moved, target.as_ref(), mode)?;
    if target.as_ref().is_some_and(|target| target.inode().id() == moved.inode().id()) {
        // Two names of one file: nothing is done, and nobody's rights are asked for.
        return Ok(());
    }
    check_rename_access(from, to, (&moved, target.as_deref()), mode, who)?;
    let goes = |target: &&Arc<Dentry>| target.is_directory() && mode != RenameMode::Exchange;
    // Nobody may make a name in it meanwhile. Where what is moved comes from there nobody can.
    let going = target.as_ref().filter(goes).filter(|target| !Arc::ptr_eq(target, &from.dir.dentry));
    let _going = going.map(|target| target.lock()).transpose()?;
    from.dir.inode().rename(&from.last.name, to.dir.inode(), &to.last.name, mode)?;
    match (&target, mode) {
        (Some(target), RenameMode::Exchange) => Dentry::exchange_children(&moved, target)?,
        (target, _) => {
            target.iter().for_each(|old| old.mark_removed());
            from.dir.dentry.move_child(&moved, &to.dir.dentry, &to.last.name)?;
        }
    }
    notify_moved(from, to, moved.inode());
    match (&target, mode) {
        (Some(target), RenameMode::Exchange) => notify_moved(to, from, target.inode()),
        (Some(replaced), _) => inotify::notify(replaced.inode().id(), mask::DELETE_SELF, b""),
        (None, _) => {}
    }
    Ok(())
}

fn notify_moved(from: &Side<'_>, to: &Side<'_>, moved: &Arc<dyn Inode>) {
    let (bit, cookie) = (inotify::directory_bit(moved), inotify::new_cookie());
    inotify::notify_move(from.dir.inode().id(), mask::MOVED_FROM | bit, cookie, &from.last.name);
    inotify::notify_move(to.dir.inode().id(), mask::MOVED_TO | bit, cookie, &to.last.name);
    inotify::notify(moved.id(), mask::MOVE_SELF, b"");
}

/// A name is gone; with the last one the file is, as soon as nobody has it open (told at once here).
fn notify_removed(dir: &Path, child: &Dentry, name: &[u8]) {
    // To ask for links may take a request.
    if !inotify::is_used() {
        return;
    }
    let inode = child.inode();
    let is_directory = inode.kind() == Kind::Directory;
    if !is_directory {
        // The file has a link less.
        inotify::notify(inode.id(), mask::ATTRIB, b"");
    }
    if is_directory || inode.stat().is_ok_and(|stat| stat.nlink == 0) {
        inotify::notify(inode.id(), mask::DELETE_SELF, b"");
    }
    inotify::notify(dir.inode().id(), mask::DELETE | inotify::directory_bit(inode), name);
}

/// Locks the two directories of a rename, with [`RENAMING`] held: what is above first, as who removes a directory does.
fn lock_both<'a>(one: &'a Arc<Dentry>, other: &'a Arc<Dentry>) -> Result<(SleepGuard<'a>, Option<SleepGuard<'a>>)> {
    if Arc::ptr_eq(one, other) {
        return Ok((one.lock()?, None));
    }
    let is_in_order = !one.is_below(other) && (other.is_below(one) || Arc::as_ptr(one) < Arc::as_ptr(other));
    let (first, second) = if is_in_order { (one, other) } else { (other, one) };
    Ok((first.lock()?, Some(second.lock()?)))
}

fn check_rename(
    from: &Side<'_>,
    to: &Side<'_>,
    moved: &Arc<Dentry>,
    target: Option<&Arc<Dentry>>,
    mode: RenameMode,
) -> Result<()> {
    match (target, mode) {
        (Some(_), RenameMode::NoReplace) => return Err(Errno::EEXIST),
        (None, RenameMode::Exchange) => return Err(Errno::ENOENT),
        _ => {}
    }
    if !moved.is_directory() && (from.last.must_be_directory || to.last.must_be_directory) {
        return Err(Errno::ENOTDIR);
    }
    if to.dir.dentry.is_below(moved) {
        return Err(Errno::EINVAL);
    }
    if target.is_some_and(|target| from.dir.dentry.is_below(target)) {
        return Err(if mode == RenameMode::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    Ok(())
}

fn check_rename_access(
    from: &Side<'_>,
    to: &Side<'_>,
    (moved, target): (&Dentry, Option<&Dentry>),
    mode: RenameMode,
    who: &Who<'_>,
) -> Result<()> {
    if to.dir.dentry.is_removed() || target.is_none() && !to.dir.inode().takes_names() {
        return Err(Errno::ENOENT);
    }
    check_removable(from.dir, moved, Wanted::Any, who)?;
    match target {
        Some(target) => check_removable(to.dir, target, Wanted::as_target(moved, mode), who)?,
        None => who.check(&**to.dir.inode(), MODIFY)?,
    }
    if moved.is_directory() && !Arc::ptr_eq(&from.dir.dentry, &to.dir.dentry) {
        // Its `..` changes.
        who.check(&**moved.inode(), access::WRITE)?;
    }
    Ok(())
}
