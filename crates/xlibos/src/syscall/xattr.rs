//! Extended attributes: setxattr(2), getxattr(2), listxattr(2), removexattr(2), xattr(7).

use super::args::UserPath;
use crate::fs::acl::{self, Acl, AclKind};
use crate::fs::fd_table::Fd;
use crate::fs::inode::{Inode, Kind, XattrMode};
use crate::fs::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, Path, access, inotify, pseudo, resolve_at};
use crate::process::creds::CAP_SYS_ADMIN;
use crate::{Errno, Result, Task};
use alloc::vec::Vec;
use machine::guest;

/// XATTR_NAME_MAX, with its NUL.
const NAME_MAX: usize = 256;
/// XATTR_SIZE_MAX, and XATTR_LIST_MAX.
const SIZE_MAX: usize = 65536;
const CREATE: u32 = 1;
const REPLACE: u32 = 2;

fn by_path(task: &Task, path: UserPath) -> Result<Path> {
    resolve_at(task, AT_FDCWD, &path.read()?, 0)
}

fn by_link(task: &Task, path: UserPath) -> Result<Path> {
    resolve_at(task, AT_FDCWD, &path.read()?, AT_SYMLINK_NOFOLLOW)
}

fn by_fd(task: &Task, fd: Fd) -> Result<Path> {
    Ok(pseudo::path_of(&*task.file(fd)?))
}

fn read_name(addr: u64) -> Result<Vec<u8>> {
    let name = guest::read_string(addr, NAME_MAX).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::ERANGE,
        other => other,
    })?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

/// What a call does to an attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Change,
}

/// Whether the task may use the attribute; what a namespace does not allow is not there for readers.
fn check(task: &Task, inode: &dyn Inode, name: &[u8], wanted: Use) -> Result<()> {
    let refused = Err(if wanted == Use::Read { Errno::ENODATA } else { Errno::EPERM });
    let creds = task.creds();
    if name.starts_with(b"trusted.") {
        return if creds.has(CAP_SYS_ADMIN) { Ok(()) } else { refused };
    }
    if name.starts_with(b"security.") {
        return if wanted == Use::Read || creds.has(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) };
    }
    let Some(rest) = name.strip_prefix(b"user.") else { return Err(Errno::EOPNOTSUPP) };
    if rest.is_empty() {
        return Err(Errno::EINVAL);
    }
    if !matches!(inode.kind(), Kind::File | Kind::Directory) {
        return refused;
    }
    if wanted == Use::Read {
        return access::check(inode, &creds, access::READ);
    }
    let stat = inode.stat()?;
    if stat.kind() == Kind::Directory && stat.mode & 0o1000 != 0 {
        access::check_owner(&stat, &creds)?;
    }
    access::check(inode, &creds, access::WRITE)
}

/// The attribute to be set.
struct Setting {
    name: u64,
    value: u64,
    size: u64,
    flags: u32,
}

fn set(task: &Task, find: impl FnOnce() -> Result<Path>, setting: &Setting) -> Result<()> {
    if setting.flags & !(CREATE | REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = read_name(setting.name)?;
    let size = usize::try_from(setting.size).ok().filter(|size| *size <= SIZE_MAX).ok_or(Errno::E2BIG)?;
    let mut value = alloc::vec![0; size];
    guest::read(setting.value, &mut value)?;
    let acl = match AclKind::of_name(&name) {
        Some(kind) if value.is_empty() => Some((kind, None)),
        Some(kind) => Some((kind, Acl::parse(&value)?)),
        None => None,
    };
    let place = find()?;
    place.mount.check_writable()?;
    if let Some((kind, acl)) = acl {
        return set_acl(task, &place, kind, acl);
    }
    check(task, &**place.inode(), &name, Use::Change)?;
    let mode = match setting.flags {
        0 => XattrMode::Any,
        CREATE => XattrMode::Create,
        REPLACE => XattrMode::Replace,
        // Neither can be: it must be there and must not.
        _ => return place.inode().xattr(&name).and(Err(Errno::EEXIST)),
    };
    place.inode().set_xattr(&name, &value, mode)?;
    inotify::notify_place(&place, inotify::mask::ATTRIB);
    Ok(())
}

fn set_acl(task: &Task, place: &Path, kind: AclKind, acl: Option<Acl>) -> Result<()> {
    acl::set(&**place.inode(), &task.creds(), kind, acl)?;
    inotify::notify_place(place, inotify::mask::ATTRIB);
    Ok(())
}

/// Copies out what fits a buffer of `size` bytes; size 0 asks for the length only.
fn answer(bytes: &[u8], buffer: u64, size: u64) -> Result<usize> {
    if size != 0 {
        if bytes.len() as u64 > size {
            return Err(Errno::ERANGE);
        }
        guest::write(buffer, bytes)?;
    }
    Ok(bytes.len())
}

fn get(task: &Task, find: impl FnOnce() -> Result<Path>, name: u64, value: u64, size: u64) -> Result<usize> {
    let name = read_name(name)?;
    let place = find()?;
    if let Some(kind) = AclKind::of_name(&name) {
        let acl = place.inode().acl(kind)?.ok_or(Errno::ENODATA)?;
        return answer(&acl.to_bytes(), value, size);
    }
    check(task, &**place.inode(), &name, Use::Read)?;
    answer(&place.inode().xattr(&name)?, value, size)
}

/// Names of the namespace `trusted` are shown to those only who may read them.
fn list(task: &Task, place: &Path, buffer: u64, size: u64) -> Result<usize> {
    let mut names = place.inode().list_xattrs()?;
    if !task.creds().has(CAP_SYS_ADMIN) {
        let shown = names.split_inclusive(|byte| *byte == 0).filter(|name| !name.starts_with(b"trusted."));
        names = shown.flatten().copied().collect();
    }
    // A list that is longer than any buffer counts for cannot be had.
    if names.len() > SIZE_MAX && size >= SIZE_MAX as u64 {
        return Err(Errno::E2BIG);
    }
    answer(&names, buffer, size)
}

fn remove(task: &Task, find: impl FnOnce() -> Result<Path>, name: u64) -> Result<()> {
    let name = read_name(name)?;
    let place = find()?;
    place.mount.check_writable()?;
    if let Some(kind) = AclKind::of_name(&name) {
        return set_acl(task, &place, kind, None);
    }
    check(task, &**place.inode(), &name, Use::Change)?;
    place.inode().remove_xattr(&name)?;
    inotify::notify_place(&place, inotify::mask::ATTRIB);
    Ok(())
}

pub(super) fn setxattr(task: &Task, path: UserPath, name: u64, value: u64, size: u64, flags: u32) -> Result<()> {
    set(task, || by_path(task, path), &Setting { name, value, size, flags })
}

pub(super) fn lsetxattr(task: &Task, path: UserPath, name: u64, value: u64, size: u64, flags: u32) -> Result<()> {
    set(task, || by_link(task, path), &Setting { name, value, size, flags })
}

pub(super) fn fsetxattr(task: &Task, fd: Fd, name: u64, value: u64, size: u64, flags: u32) -> Result<()> {
    set(task, || by_fd(task, fd), &Setting { name, value, size, flags })
}

pub(super) fn getxattr(task: &Task, path: UserPath, name: u64, value: u64, size: u64) -> Result<usize> {
    get(task, || by_path(task, path), name, value, size)
}

pub(super) fn lgetxattr(task: &Task, path: UserPath, name: u64, value: u64, size: u64) -> Result<usize> {
    get(task, || by_link(task, path), name, value, size)
}

pub(super) fn fgetxattr(task: &Task, fd: Fd, name: u64, value: u64, size: u64) -> Result<usize> {
    get(task, || by_fd(task, fd), name, value, size)
}

pub(super) fn listxattr(task: &Task, path: UserPath, buffer: u64, size: u64) -> Result<usize> {
    list(task, &by_path(task, path)?, buffer, size)
}

pub(super) fn llistxattr(task: &Task, path: UserPath, buffer: u64, size: u64) -> Result<usize> {
    list(task, &by_link(task, path)?, buffer, size)
}

pub(super) fn flistxattr(task: &Task, fd: Fd, buffer: u64, size: u64) -> Result<usize> {
    list(task, &by_fd(task, fd)?, buffer, size)
}

pub(super) fn removexattr(task: &Task, path: UserPath, name: u64) -> Result<()> {
    remove(task, || by_path(task, path), name)
}

pub(super) fn lremovexattr(task: &Task, path: UserPath, name: u64) -> Result<()> {
    remove(task, || by_link(task, path), name)
}

pub(super) fn fremovexattr(task: &Task, fd: Fd, name: u64) -> Result<()> {
    remove(task, || by_fd(task, fd), name)
}
