//! Names and directories: getdents(2), mkdir(2), unlink(2), rename(2), link(2), symlink(2), readlink(2), chdir(2), umask(2).

use super::args::{PathText, UserPath};
use crate::fs::change::{self, Side};
use crate::fs::fd_table::Fd;
use crate::fs::inode::{DirEntry, Kind, NewKind, NewMode, RenameMode};
use crate::fs::namei::PATH_MAX;
use crate::fs::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, File, Follow, Path, access, resolve, resolve_at, resolve_parent,
};
use crate::process::creds::CAP_SYS_CHROOT;
use crate::{Errno, Result, Task};
use alloc::vec::Vec;
use machine::epoch::pin;
use machine::guest;
use machine::name_map::first_word;
use zerocopy::IntoBytes as _;

pub(super) fn getcwd(task: &Task, buffer: u64, size: u64) -> Result<usize> {
    let fs = task.fs();
    let cwd = fs.cwd();
    if cwd.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    let mut path = cwd.display(&fs.root());
    path.push(0);
    if path.len() > PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if (path.len() as u64) > size {
        return Err(Errno::ERANGE);
    }
    guest::write(buffer, &path)?;
    Ok(path.len())
}

pub(super) fn chdir(task: &Task, path: UserPath) -> Result<()> {
    crate::fs::change_directory(task, &path.read()?)
}

pub(super) fn fchdir(task: &Task, fd: Fd) -> Result<()> {
    let file = task.any_file(fd)?;
    let place = file.path().ok_or(Errno::ENOTDIR)?;
    if place.inode().kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    access::check(&**place.inode(), &task.creds(), access::EXECUTE)?;
    task.fs().set_cwd(place.clone());
    Ok(())
}

/// Changes the root directory: chroot(2).
///
/// # Errors
/// ENOTDIR, EACCES, EPERM.
pub(super) fn chroot(task: &Task, path: UserPath) -> Result<()> {
    let place = resolve(task, AT_FDCWD, &path.read()?, Follow::Yes)?;
    if place.inode().kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let creds = task.creds();
    access::check(&**place.inode(), &creds, access::EXECUTE)?;
    if !creds.has(CAP_SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    task.fs().set_root(place);
    Ok(())
}

pub(super) fn umask(task: &Task, mask: u32) -> Result<u32> {
    Ok(task.fs_at(&pin()).set_umask(mask & 0o777))
}

pub(super) fn mkdir(task: &Task, path: UserPath, mode: u32) -> Result<()> {
    mkdirat(task, AT_FDCWD, path, mode)
}

pub(super) fn mkdirat(task: &Task, dirfd: Fd, path: UserPath, mode: u32) -> Result<()> {
    make(task, dirfd, path, NewKind::Directory, mode & 0o1777)
}

fn make(task: &Task, dirfd: Fd, path: UserPath, kind: NewKind<'_>, mode: u32) -> Result<()> {
    let mut text = PathText::empty();
    let (walk, last) = resolve_parent(task, dirfd, path.read_to(&mut text)?)?;
    change::make(walk.place(), &last, walk.who(), kind, NewMode::by(walk.who(), mode)).map(|_| ())
}

pub(super) fn mknod(task: &Task, path: UserPath, mode: u32, rdev: u64) -> Result<()> {
    mknodat(task, AT_FDCWD, path, mode, rdev)
}

pub(super) fn mknodat(task: &Task, dirfd: Fd, path: UserPath, mode: u32, rdev: u64) -> Result<()> {
    let kind = match mode & 0o170_000 {
        0o010_000 => NewKind::Fifo,
        0o140_000 => NewKind::Socket,
        0 | 0o100_000 => NewKind::File,
        0o020_000 => NewKind::CharDevice(rdev),
        0o060_000 => NewKind::BlockDevice(rdev),
        0o040_000 => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    make(task, dirfd, path, kind, mode & 0o7777)
}

pub(super) fn symlink(task: &Task, target: UserPath, path: UserPath) -> Result<()> {
    symlinkat(task, target, AT_FDCWD, path)
}

pub(super) fn symlinkat(task: &Task, target: UserPath, dirfd: Fd, path: UserPath) -> Result<()> {
    let target = target.read()?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut text = PathText::empty();
    let (walk, last) = resolve_parent(task, dirfd, path.read_to(&mut text)?)?;
    change::make(walk.place(), &last, walk.who(), NewKind::Symlink(&target), NewMode::exact(0o777)).map(|_| ())
}

pub(super) fn readlink(task: &Task, path: UserPath, buffer: u64, size: i32) -> Result<usize> {
    readlinkat(task, AT_FDCWD, path, buffer, size)
}

pub(super) fn readlinkat(task: &Task, dirfd: Fd, path: UserPath, buffer: u64, size: i32) -> Result<usize> {
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or(Errno::EINVAL)?;
    let path = path.read()?;
    let place = resolve_at(task, dirfd, &path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)?;
    if place.inode().kind() != Kind::Symlink {
        return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL });
    }
    let target = place.inode().read_link()?;
    let len = target.len().min(size);
    guest::write(buffer, target.get(..len).unwrap_or(&target))?;
    Ok(len)
}

pub(super) fn unlink(task: &Task, path: UserPath) -> Result<()> {
    unlinkat(task, AT_FDCWD, path, 0)
}

pub(super) fn rmdir(task: &Task, path: UserPath) -> Result<()> {
    unlinkat(task, AT_FDCWD, path, AT_REMOVEDIR)
}

const AT_REMOVEDIR: u32 = 0x200;

pub(super) fn unlinkat(task: &Task, dirfd: Fd, path: UserPath, flags: u32) -> Result<()> {
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let mut text = PathText::empty();
    let (walk, last) = resolve_parent(task, dirfd, path.read_to(&mut text)?)?;
    if flags & AT_REMOVEDIR != 0 {
        change::rmdir(walk.place(), &last, walk.who())
    } else {
        change::unlink(walk.place(), &last, walk.who())
    }
}

pub(super) fn link(task: &Task, old: UserPath, new: UserPath) -> Result<()> {
    linkat(task, AT_FDCWD, old, AT_FDCWD, new, 0)
}

pub(super) fn linkat(task: &Task, olddir: Fd, old: UserPath, newdir: Fd, new: UserPath, flags: u32) -> Result<()> {
    const AT_SYMLINK_FOLLOW: u32 = 0x400;
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let old = old.read()?;
    let target = if old.is_empty() && flags & AT_EMPTY_PATH != 0 {
        task.any_file(olddir)?.path().cloned().ok_or(Errno::ENOENT)?
    } else {
        resolve(task, olddir, &old, Follow::unless(flags & AT_SYMLINK_FOLLOW == 0))?
    };
    let new = new.read()?;
    let (walk, last) = resolve_parent(task, newdir, &new)?;
    change::link(&target, walk.place(), &last, walk.who())
}

pub(super) fn rename(task: &Task, old: UserPath, new: UserPath) -> Result<()> {
    renameat2(task, AT_FDCWD, old, AT_FDCWD, new, 0)
}

pub(super) fn renameat(task: &Task, olddir: Fd, old: UserPath, newdir: Fd, new: UserPath) -> Result<()> {
    renameat2(task, olddir, old, newdir, new, 0)
}

pub(super) fn renameat2(task: &Task, olddir: Fd, old: UserPath, newdir: Fd, new: UserPath, flags: u32) -> Result<()> {
    let mode = match flags {
        0 => RenameMode::Replace,
        1 => RenameMode::NoReplace,
        2 => RenameMode::Exchange,
        _ => return Err(Errno::EINVAL),
    };
    let old = old.read()?;
    let (from_walk, from_last) = resolve_parent(task, olddir, &old)?;
    let new = new.read()?;
    let (to_walk, to_last) = resolve_parent(task, newdir, &new)?;
    let from = Side { dir: from_walk.place(), last: &from_last };
    let to = Side { dir: to_walk.place(), last: &to_last };
    change::rename(&from, &to, mode, to_walk.who())
}

/// Longest listing that one call gives.
const LONGEST: u64 = 256 * 1024;

/// Which of its two forms a directory's entry has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `struct linux_dirent`: the kind is the last byte, behind the name and its zeros.
    Old,
    /// `struct linux_dirent64`: the kind comes before the name.
    New,
}

/// What a listing takes of the heap at first, in words: a thread keeps such blocks.
const FIRST_ROOM: usize = 4096 / 8;

/// Appends an entry with the position behind it; false where it does not fit.
#[inline]
fn put_entry(out: &mut Vec<u64>, limit: usize, entry: &DirEntry<'_>, next: u64, form: Form) -> bool {
    // Inode, next position, length and kind; the name ends with a zero.
    let words = (19 + entry.name.len()) / 8 + 1;
    let (len, end) = (words * 8, out.len() + words);
    if end > limit / 8 {
        return false;
    }
    if out.capacity() == 0 {
        out.reserve(FIRST_ROOM);
    }
    let kind = u64::from(entry.kind.entry_type());
    // Three words, of which the last has the first bytes of the name, and words with the rest of that and zeros.
    let (in_front, shift, begin) = if form == Form::New { (kind << 16, 24, 5) } else { (0, 16, 6) };
    out.extend_from_slice(&[entry.ino, next, len as u64 | in_front | first_word(entry.name) << shift]);
    if words > 3 {
        let pieces = entry.name.get(begin..).unwrap_or(&[]).chunks(8);
        out.extend(pieces.map(first_word).chain(core::iter::once(0)).take(words - 3));
    }
    if form == Form::Old
        && let Some(last) = out.last_mut()
    {
        *last |= kind << 56;
    }
    true
}

/// `.` or, at position 1, `..`: at the root it is the root itself.
fn dot_entry(task: &Task, place: &Path, position: u64) -> DirEntry<'static> {
    let own = place.inode().id().ino;
    let (name, ino): (&[u8], u64) = match position {
        0 => (b".", own),
        _ if task.fs_at(&pin()).is_root(place) => (b"..", own),
        _ => (b"..", place.number_above().unwrap_or(own)),
    };
    DirEntry { name, ino, kind: Kind::Directory, next: position + 1 }
}

/// Lists a directory: getdents(2), in the form that has no kind of its own.
///
/// # Errors
/// EBADF, ENOTDIR, ENOENT where it was removed, EINVAL where the next name does not fit, EFAULT; the file system's.
pub(super) fn getdents(task: &Task, fd: Fd, buffer: u64, size: u32) -> Result<usize> {
    list(task, fd, (buffer, size), Form::Old)
}

/// Lists a directory: getdents64(2).
///
/// # Errors
/// As [`getdents`].
pub(super) fn getdents64(task: &Task, fd: Fd, buffer: u64, size: u32) -> Result<usize> {
    list(task, fd, (buffer, size), Form::New)
}

/// Cookies 0 and 1 are `.` and `..`; the directory's own follow, moved by two.
fn list(task: &Task, fd: Fd, to: (u64, u32), form: Form) -> Result<usize> {
    task.with_file(fd, |file| list_file(task, file, to, form))
}

fn list_file(task: &Task, file: &File, (buffer, size): (u64, u32), form: Form) -> Result<usize> {
    let place = file.path().ok_or(Errno::ENOTDIR)?;
    let inode = place.inode();
    if inode.kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    if place.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    let limit = usize::try_from(u64::from(size).min(LONGEST)).unwrap_or(0);
    let mut out = Vec::new();
    let mut moving = file.position();
    let mut position = *moving;
    let mut full = false;
    while position < 2 && !full {
        let dots = dot_entry(task, place, position);
        full = !put_entry(&mut out, limit, &dots, dots.next, form);
        position += u64::from(!full);
    }
    if !full {
        inode.read_dir(position - 2, &mut |entry| {
            let next = entry.next + 2;
            full = !put_entry(&mut out, limit, entry, next, form);
            if !full {
                position = next;
            }
            !full
        })?;
    }
    if out.is_empty() && full {
        return Err(Errno::EINVAL);
    }
    guest::write(buffer, out.as_bytes())?;
    *moving = position;
    Ok(out.len() * 8)
}

#[cfg(test)]
mod tests {
    use super::{DirEntry, Form, Kind, put_entry};
    use zerocopy::IntoBytes as _;

    #[test]
    fn an_entry_has_its_name_and_zeros_in_either_form() {
        for (len, form) in (1..=255_usize).flat_map(|len| [(len, Form::New), (len, Form::Old)]) {
            let name = vec![0xff; len];
            let entry = DirEntry { name: &name, ino: 5, kind: Kind::File, next: 0 };
            let whole = (19 + len + 1).next_multiple_of(8);
            let mut expected = [5_u64.to_le_bytes(), 7_u64.to_le_bytes()].concat();
            expected.extend(u16::try_from(whole).unwrap().to_le_bytes());
            expected.extend((form == Form::New).then_some(8));
            expected.extend(&name);
            expected.resize(whole, 0);
            if form == Form::Old {
                expected[whole - 1] = 8;
            }
            let mut out = Vec::new();
            assert!(!put_entry(&mut out, whole - 1, &entry, 7, form) && out.is_empty());
            assert!(put_entry(&mut out, whole + 7, &entry, 7, form));
            assert_eq!(out.as_bytes(), expected);
            assert!(!put_entry(&mut out, whole * 2 - 1, &entry, 7, form));
        }
    }
}
