//! Changes of attributes: chmod(2), chown(2), utimensat(2), truncate(2).

use super::args::UserPath;
use crate::fs::fd_table::Fd;
use crate::fs::inode::{Change, Kind, Stat, Time, now};
use crate::fs::size_limit::check_size;
use crate::fs::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Path, access, inotify, pseudo, resolve_at, text_busy};
use crate::process::creds::{CAP_CHOWN, Creds};
use crate::{Errno, Result, Task};
use machine::guest::{self, UserPtr};

fn place_of(task: &Task, fd: Fd) -> Result<Path> {
    Ok(pseudo::path_of(&*task.any_file(fd)?))
}

/// As [`place_of`], for calls that change the file: a descriptor that is a place only will not do.
fn changeable(task: &Task, fd: Fd) -> Result<Path> {
    Ok(pseudo::path_of(&*task.file(fd)?))
}

/// Of a change for which the mount and the caller's rights were checked, in this order.
fn apply(place: &Path, change: &Change) -> Result<()> {
    place.inode().set_attributes(change)?;
    let found = if change.size.is_some() { inotify::mask::MODIFY } else { inotify::mask::ATTRIB };
    inotify::notify_place(place, found);
    Ok(())
}

const SET_GID: u32 = 0o2000;

fn set_mode(task: &Task, place: &Path, mode: u32) -> Result<()> {
    place.mount.check_writable()?;
    let (stat, creds) = (place.inode().stat()?, task.creds());
    access::check_owner(&stat, &creds)?;
    // The owner alone cannot make others members of a group that is not his own.
    let lost = if access::may_keep_set_gid(stat.gid, &creds) { 0 } else { SET_GID };
    apply(place, &Change { mode: Some(mode & 0o7777 & !lost), ..Change::default() })
}

pub(super) fn chmod(task: &Task, path: UserPath, mode: u32) -> Result<()> {
    fchmodat(task, AT_FDCWD, path, mode)
}

pub(super) fn fchmod(task: &Task, fd: Fd, mode: u32) -> Result<()> {
    set_mode(task, &changeable(task, fd)?, mode)
}

pub(super) fn fchmodat(task: &Task, dirfd: Fd, path: UserPath, mode: u32) -> Result<()> {
    set_mode(task, &resolve_at(task, dirfd, &path.read()?, 0)?, mode)
}

/// -1 leaves an id as it is.
fn wanted(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

/// The mode of a program after a change of its owner, where it had set-ID bits that count.
fn without_set_ids(stat: &Stat) -> Option<u32> {
    const SET_UID: u32 = 0o4000;
    const GROUP_EXECUTE: u32 = 0o010;
    // Without group execution the bit means mandatory locks, and stays.
    let group = if stat.mode & GROUP_EXECUTE != 0 { SET_GID } else { 0 };
    let mode = stat.mode & 0o7777 & !(SET_UID | group);
    (stat.kind() == Kind::File && mode != stat.mode & 0o7777).then_some(mode)
}

fn set_owner(task: &Task, place: &Path, uid: u32, gid: u32) -> Result<()> {
    place.mount.check_writable()?;
    let creds = task.creds();
    let stat = place.inode().stat()?;
    let (uid, gid) = (wanted(uid), wanted(gid));
    let may = creds.has(CAP_CHOWN)
        || (creds.fsuid == stat.uid
            && uid.is_none_or(|uid| uid == stat.uid)
            && gid.is_none_or(|gid| gid == stat.gid || creds.is_in_group(gid)));
    if !may {
        return Err(Errno::EPERM);
    }
    apply(place, &Change { uid, gid, mode: without_set_ids(&stat), ..Change::default() })
}

pub(super) fn chown(task: &Task, path: UserPath, uid: u32, gid: u32) -> Result<()> {
    fchownat(task, AT_FDCWD, path, uid, gid, 0)
}

pub(super) fn lchown(task: &Task, path: UserPath, uid: u32, gid: u32) -> Result<()> {
    fchownat(task, AT_FDCWD, path, uid, gid, 0x100)
}

pub(super) fn fchown(task: &Task, fd: Fd, uid: u32, gid: u32) -> Result<()> {
    set_owner(task, &changeable(task, fd)?, uid, gid)
}

pub(super) fn fchownat(task: &Task, dirfd: Fd, path: UserPath, uid: u32, gid: u32, flags: u32) -> Result<()> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    set_owner(task, &resolve_at(task, dirfd, &path.read()?, flags)?, uid, gid)
}

const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

fn time_of(sec: i64, nsec: i64) -> Result<Option<Time>> {
    match nsec {
        UTIME_NOW => Ok(Some(now())),
        UTIME_OMIT => Ok(None),
        0..1_000_000_000 => Ok(Some(Time { sec, nsec: u32::try_from(nsec).unwrap_or(0) })),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn utimensat(task: &Task, dirfd: Fd, path: UserPath, times: UserPtr<[i64; 4]>, flags: u32) -> Result<()> {
    let times = match times.non_null() {
        Some(times) => Some(times.read()?),
        None => None,
    };
    let is_file = path.0 == 0 && dirfd != AT_FDCWD;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 || is_file && flags != 0 {
        return Err(Errno::EINVAL);
    }
    if is_file {
        return set_times(&task.creds(), times, || place_of(task, dirfd));
    }
    set_times(&task.creds(), times, || resolve_at(task, dirfd, &path.read()?, flags))
}

/// Times in seconds: utime(2).
pub(super) fn utime(task: &Task, path: UserPath, times: UserPtr<[i64; 2]>) -> Result<()> {
    let times = match times.non_null() {
        Some(times) => times.read().map(|[atime, mtime]| Some([atime, 0, mtime, 0]))?,
        None => None,
    };
    set_times(&task.creds(), times, || resolve_at(task, AT_FDCWD, &path.read()?, 0))
}

/// Times in microseconds: utimes(2).
pub(super) fn utimes(task: &Task, path: UserPath, times: UserPtr<[i64; 4]>) -> Result<()> {
    futimesat(task, AT_FDCWD, path, times)
}

/// As utimes(2) below a directory: futimesat(2).
pub(super) fn futimesat(task: &Task, dirfd: Fd, path: UserPath, times: UserPtr<[i64; 4]>) -> Result<()> {
    let times = match times.non_null() {
        Some(times) => {
            let [asec, ausec, msec, musec] = times.read()?;
            if !(0..1_000_000).contains(&ausec) || !(0..1_000_000).contains(&musec) {
                return Err(Errno::EINVAL);
            }
            Some([asec, ausec * 1000, msec, musec * 1000])
        }
        None => None,
    };
    if path.0 == 0 && dirfd != AT_FDCWD {
        return set_times(&task.creds(), times, || place_of(task, dirfd));
    }
    set_times(&task.creds(), times, || resolve_at(task, dirfd, &path.read()?, 0))
}

/// Sets the times of the place that `find` finds; None is now.
fn set_times(creds: &Creds, times: Option<[i64; 4]>, find: impl FnOnce() -> Result<Path>) -> Result<()> {
    let (atime, mtime, explicit) = match times {
        Some([asec, ansec, msec, mnsec]) => {
            let explicit = ansec != UTIME_NOW || mnsec != UTIME_NOW;
            (time_of(asec, ansec)?, time_of(msec, mnsec)?, explicit)
        }
        None => (Some(now()), Some(now()), false),
    };
    let place = find()?;
    if atime.is_none() && mtime.is_none() {
        return Ok(());
    }
    place.mount.check_writable()?;
    let is_owner = access::check_owner(&place.inode().stat()?, creds);
    if explicit {
        is_owner?;
    } else if is_owner.is_err() {
        access::check(&**place.inode(), creds, access::WRITE)?;
    }
    apply(&place, &Change { atime, mtime, ..Change::default() })
}

fn set_size(task: &Task, place: &Path, size: u64) -> Result<()> {
    check_length(task, place, size)?;
    apply(place, &Change { size: Some(size), ..Change::default() })
}

fn size_of(size: i64) -> Result<u64> {
    u64::try_from(size).map_err(|_| Errno::EINVAL)
}

/// RLIMIT_FSIZE, where there is one.
fn check_length(task: &Task, place: &Path, size: u64) -> Result<()> {
    if size <= task.process.limits.file_size() { Ok(()) } else { check_size(task, place.inode().stat()?.size, size) }
}

pub(super) fn truncate(task: &Task, path: UserPath, size: i64) -> Result<()> {
    let size = size_of(size)?;
    let place = resolve_at(task, AT_FDCWD, &path.read()?, 0)?;
    match place.inode().kind() {
        Kind::File => {}
        Kind::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    access::check(&**place.inode(), &task.creds(), access::WRITE)?;
    place.mount.check_writable()?;
    let _claim = text_busy::to_write(&**place.inode())?;
    set_size(task, &place, size)
}

pub(super) fn ftruncate(task: &Task, fd: Fd, size: i64) -> Result<()> {
    let (size, file) = (size_of(size)?, task.file(fd)?);
    let place = pseudo::path_of(&file);
    if !file.flags().is_writable() || place.inode().kind() != Kind::File {
        return Err(Errno::EINVAL);
    }
    set_size(task, &place, size)
}

/// A hole leaves the size, and is not for zeros that are kept.
fn check_allocation(mode: u32) -> Result<()> {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    let is_hole = mode & PUNCH_HOLE != 0;
    if is_hole && mode != PUNCH_HOLE | KEEP_SIZE { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
}

pub(super) fn fallocate(task: &Task, fd: Fd, mode: u32, offset: i64, len: i64) -> Result<()> {
    let file = task.file(fd)?;
    if !file.flags().is_writable() {
        return Err(Errno::EBADF);
    }
    let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else { return Err(Errno::EINVAL) };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    check_allocation(mode)?;
    check_length(task, &pseudo::path_of(&file), offset.saturating_add(len))?;
    file.ops().allocate(&file, mode, offset, len)
}

pub(super) fn statfs(task: &Task, path: UserPath, to: u64) -> Result<()> {
    write_statfs(&resolve_at(task, AT_FDCWD, &path.read()?, 0)?, to)
}

pub(super) fn fstatfs(task: &Task, fd: Fd, to: u64) -> Result<()> {
    write_statfs(&place_of(task, fd)?, to)
}

fn write_statfs(place: &Path, to: u64) -> Result<()> {
    const VALID: u64 = 0x20;
    const RELATIME: u64 = 0x1000;
    let space = place.inode().file_system().stat_fs()?;
    let refuses = place.mount.flags;
    // ST_RDONLY, ST_NOSUID, ST_NODEV, ST_NOEXEC.
    let bits = [place.mount.is_read_only(), refuses.no_set_id, refuses.no_devices, refuses.no_exec];
    let flags = (0..).zip(bits).fold(VALID | RELATIME, |flags, (bit, is_set)| flags | u64::from(is_set) << bit);
    let words: [u64; 15] = [
        space.kind,
        space.block,
        space.blocks,
        space.free,
        space.available,
        space.inodes,
        space.inodes_free,
        0,
        255,
        space.block,
        flags,
        0,
        0,
        0,
        0,
    ];
    guest::write_value(to, &words)
}
