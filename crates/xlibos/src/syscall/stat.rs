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
#[inline]
fn stat_words(stat: &Stat) -> [u64; 18] {
    let [atime, mtime, ctime] =
        [stat.atime, stat.mtime, stat.ctime].map(|time| (time.sec.cast_unsigned(), u64::from(time.nsec)));
    [
        stat.dev,
        stat.ino,
        stat.nlink.into(),
        u64::from(stat.mode) | u64::from(stat.uid) << 32,
        stat.gid.into(),
        stat.rdev,
        stat.size,
        stat.blksize.into(),
        stat.blocks,
        atime.0,
        atime.1,
        mtime.0,
        mtime.1,
        ctime.0,
        ctime.1,
        0,
        0,
        0,
    ]
}

/// Writes the attributes of a path, or of a descriptor where the path is empty and AT_EMPTY_PATH says so, as `words_of` tells them.
#[inline]
fn tell<const N: usize>(
    task: &Task,
    (dirfd, path): (Fd, UserPath),
    flags: u32,
    to: u64,
    words_of: impl Fn(&Stat) -> [u64; N],
) -> Result<()> {
    // Not cleared before: that takes as long as to tell them.
    let mut words = None;
    lookup(task, dirfd, path, flags, |stat| words = Some(words_of(stat)))?;
    guest::write_value(to, &words.ok_or(Errno::EIO)?)
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
    tell(task, (AT_FDCWD, path), 0, to, stat_words)
}

pub(super) fn lstat(task: &Task, path: UserPath, to: u64) -> Result<()> {
    tell(task, (AT_FDCWD, path), AT_SYMLINK_NOFOLLOW, to, stat_words)
}

pub(super) fn fstat(task: &Task, fd: Fd, to: u64) -> Result<()> {
    guest::write_value(to, &stat_words(&of_descriptor(task, fd)?))
}

pub(super) fn newfstatat(task: &Task, dirfd: Fd, path: UserPath, to: u64, flags: u32) -> Result<()> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL);
    }
    tell(task, (dirfd, path), flags, to, stat_words)
}

pub(super) fn statx(task: &Task, dirfd: Fd, path: UserPath, flags: u32, mask: u32, to: UserPtr<u8>) -> Result<()> {
    const STATX_RESERVED: u32 = 0x8000_0000;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC) != 0
        || flags & AT_STATX_SYNC == AT_STATX_SYNC
        || mask & STATX_RESERVED != 0
    {
        return Err(Errno::EINVAL);
    }
    tell(task, (dirfd, path), flags, to.addr(), statx_words)
}

/// `struct statx`.
fn statx_words(stat: &Stat) -> [u64; 32] {
    const BASIC_STATS: u32 = 0x7ff;
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let device = |number: u64| {
        let (major, minor) = split_dev(number);
        pair(major, minor)
    };
    let mut words = [0; 32];
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
    words
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
