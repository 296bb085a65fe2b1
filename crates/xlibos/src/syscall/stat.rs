//! Attributes: stat(2), statx(2), access(2).

use super::args::{PathText, UserPath};
use crate::fs::fd_table::Fd;
use crate::fs::inode::{Kind, Stat, split_dev};
use crate::fs::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Follow, access as permission,
    glance::{self, Glance},
    pseudo, resolve_at,
};
use crate::{Errno, Result, Task};
use machine::guest::{self, UserPtr};

const AT_EACCESS: u32 = 0x200;
const AT_NO_AUTOMOUNT: u32 = 0x800;
const AT_STATX_SYNC: u32 = 0x6000;

/// `struct stat`.
fn put_stat(stat: &Stat, words: &mut [u64; 18]) {
    words[0] = stat.dev;
    words[1] = stat.ino;
    words[2] = stat.nlink.into();
    words[3] = u64::from(stat.mode) | u64::from(stat.uid) << 32;
    words[4] = stat.gid.into();
    words[5] = stat.rdev;
    words[6] = stat.size;
    words[7] = stat.blksize.into();
    words[8] = stat.blocks;
    for (slot, time) in [(9, stat.atime), (11, stat.mtime), (13, stat.ctime)] {
        words[slot] = time.sec.cast_unsigned();
        words[slot + 1] = time.nsec.into();
    }
}

/// Writes the attributes of a path, or of a descriptor where the path is empty and AT_EMPTY_PATH says so, as `put` tells them.
#[inline]
fn tell<const N: usize>(
    task: &Task,
    (dirfd, path): (Fd, UserPath),
    flags: u32,
    to: u64,
    put: impl Fn(&Stat, &mut [u64; N]),
) -> Result<()> {
    let mut words = [0; N];
    lookup(task, dirfd, path, flags, |stat| put(stat, &mut words))?;
    guest::write_value(to, &words)
}

fn lookup(task: &Task, dirfd: Fd, path: UserPath, flags: u32, mut tell: impl FnMut(&Stat)) -> Result<()> {
    let mut text = PathText::empty();
    let path = if machine::cpu::current().is_attempt() {
        // A short path whose names are known is told at once.
        path.read_short_to(&mut text).ok_or(Errno::INTERRUPTED)?
    } else if path.0 == 0 && flags & AT_EMPTY_PATH != 0 {
        &[]
    } else {
        path.read_to(&mut text)?
    };
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 && dirfd != AT_FDCWD {
        return of_descriptor(task, dirfd).map(|stat| tell(&stat));
    }
    match glance::stat(task, dirfd, path, follow(flags), &mut tell) {
        Glance::Seen(told) => told,
        _ if machine::cpu::current().is_attempt() => Err(Errno::INTERRUPTED),
        Glance::Stopped(stopped) => stopped.walk(task, follow(flags))?.inode().stat().map(|stat| tell(&stat)),
        Glance::Nothing => resolve_at(task, dirfd, path, flags)?.inode().stat().map(|stat| tell(&stat)),
    }
}

fn follow(flags: u32) -> Follow {
    Follow::unless(flags & AT_SYMLINK_NOFOLLOW != 0)
}

fn of_descriptor(task: &Task, fd: Fd) -> Result<Stat> {
    task.with_any_file(fd, |file| match file.path() {
        Some(path) => path.inode().stat(),
        None => pseudo::path_of(file).inode().stat(),
    })
}

pub(super) fn stat(task: &Task, path: UserPath, to: u64) -> Result<()> {
    tell(task, (AT_FDCWD, path), 0, to, put_stat)
}

pub(super) fn lstat(task: &Task, path: UserPath, to: u64) -> Result<()> {
    tell(task, (AT_FDCWD, path), AT_SYMLINK_NOFOLLOW, to, put_stat)
}

pub(super) fn fstat(task: &Task, fd: Fd, to: u64) -> Result<()> {
    let mut words = [0; 18];
    put_stat(&of_descriptor(task, fd)?, &mut words);
    guest::write_value(to, &words)
}

pub(super) fn newfstatat(task: &Task, dirfd: Fd, path: UserPath, to: u64, flags: u32) -> Result<()> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL);
    }
    tell(task, (dirfd, path), flags, to, put_stat)
}

pub(super) fn statx(task: &Task, dirfd: Fd, path: UserPath, flags: u32, mask: u32, to: UserPtr<u8>) -> Result<()> {
    const STATX_RESERVED: u32 = 0x8000_0000;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC) != 0
        || flags & AT_STATX_SYNC == AT_STATX_SYNC
        || mask & STATX_RESERVED != 0
    {
        return Err(Errno::EINVAL);
    }
    tell(task, (dirfd, path), flags, to.addr(), put_statx)
}

/// `struct statx`.
fn put_statx(stat: &Stat, words: &mut [u64; 32]) {
    const BASIC_STATS: u32 = 0x7ff;
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let device = |number: u64| {
        let (major, minor) = split_dev(number);
        pair(major, minor)
    };
    words[0] = pair(BASIC_STATS, stat.blksize);
    words[2] = pair(stat.nlink, stat.uid);
    words[3] = pair(stat.gid, stat.mode);
    words[4] = stat.ino;
    words[5] = stat.size;
    words[6] = stat.blocks;
    for (slot, time) in [(8, stat.atime), (12, stat.ctime), (14, stat.mtime)] {
        words[slot] = time.sec.cast_unsigned();
        words[slot + 1] = time.nsec.into();
    }
    words[16] = device(stat.rdev);
    words[17] = device(stat.dev);
}

pub(super) fn access(task: &Task, path: UserPath, mode: u32) -> Result<()> {
    faccessat2(task, AT_FDCWD, path, mode, 0)
}

pub(super) fn faccessat(task: &Task, dirfd: Fd, path: UserPath, mode: u32) -> Result<()> {
    faccessat2(task, dirfd, path, mode, 0)
}

pub(super) fn faccessat2(task: &Task, dirfd: Fd, path: UserPath, mode: u32, flags: u32) -> Result<()> {
    if mode & !7 != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = path.read()?;
    let place = resolve_at(task, dirfd, &path, flags)?;
    if mode == 0 {
        return Ok(());
    }
    let mut creds = (*task.creds()).clone();
    if flags & AT_EACCESS == 0 {
        creds.fsuid = creds.uid;
        creds.fsgid = creds.gid;
        // Real IDs come with the capabilities that they would have: root's all, others none.
        creds.effective = if creds.uid == 0 { creds.permitted } else { 0 };
    }
    if mode & permission::EXECUTE != 0 && place.mount.flags.no_exec && place.inode().kind() == Kind::File {
        return Err(Errno::EACCES);
    }
    permission::check(&**place.inode(), &creds, mode)?;
    // What is written to a FIFO, a socket or a device changes no file.
    let is_stored = matches!(place.inode().kind(), Kind::File | Kind::Directory | Kind::Symlink);
    if mode & permission::WRITE != 0 && is_stored { place.mount.check_writable() } else { Ok(()) }
}
