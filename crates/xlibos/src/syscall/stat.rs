//! Attributes: stat(2), statx(2), access(2).

use super::args::UserPath;
use crate::fs::fd_table::Fd;
use crate::fs::inode::{Kind, Stat, split_dev};
use crate::fs::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Follow, access as permission, glance, pseudo, resolve_at,
};
use crate::{Errno, Result, Task};
use alloc::vec::Vec;
use machine::guest::{self, UserPtr};

const AT_EACCESS: u32 = 0x200;
const AT_NO_AUTOMOUNT: u32 = 0x800;
const AT_STATX_SYNC: u32 = 0x6000;

fn write_stat(to: u64, stat: &Stat) -> Result<()> {
    let mut words = [0_u64; 18];
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
    guest::write_value(to, &words)
}

/// Attributes of a path, or of a descriptor where the path is empty and AT_EMPTY_PATH says so.
fn lookup(task: &Task, dirfd: Fd, path: UserPath, flags: u32) -> Result<Stat> {
    let path = if path.0 == 0 && flags & AT_EMPTY_PATH != 0 { Vec::new() } else { path.read()? };
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 && dirfd != AT_FDCWD {
        return of_descriptor(task, dirfd);
    }
    if let Some(stat) = glance::stat(task, dirfd, &path, Follow::unless(flags & AT_SYMLINK_NOFOLLOW != 0)) {
        return stat;
    }
    resolve_at(task, dirfd, &path, flags)?.inode().stat()
}

fn of_descriptor(task: &Task, fd: Fd) -> Result<Stat> {
    task.with_any_file(fd, |file| match file.path() {
        Some(path) => path.inode().stat(),
        None => pseudo::path_of(file).inode().stat(),
    })
}

pub(super) fn stat(task: &Task, path: UserPath, to: u64) -> Result<()> {
    write_stat(to, &lookup(task, AT_FDCWD, path, 0)?)
}

pub(super) fn lstat(task: &Task, path: UserPath, to: u64) -> Result<()> {
    write_stat(to, &lookup(task, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)?)
}

pub(super) fn fstat(task: &Task, fd: Fd, to: u64) -> Result<()> {
    write_stat(to, &of_descriptor(task, fd)?)
}

pub(super) fn newfstatat(task: &Task, dirfd: Fd, path: UserPath, to: u64, flags: u32) -> Result<()> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL);
    }
    write_stat(to, &lookup(task, dirfd, path, flags)?)
}

pub(super) fn statx(task: &Task, dirfd: Fd, path: UserPath, flags: u32, mask: u32, to: UserPtr<u8>) -> Result<()> {
    const STATX_RESERVED: u32 = 0x8000_0000;
    const BASIC_STATS: u32 = 0x7ff;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC) != 0
        || flags & AT_STATX_SYNC == AT_STATX_SYNC
        || mask & STATX_RESERVED != 0
    {
        return Err(Errno::EINVAL);
    }
    let stat = lookup(task, dirfd, path, flags)?;
    let mut words = [0_u32; 64];
    let mut put64 = |at: usize, value: u64| {
        words[at] = u32::try_from(value & 0xffff_ffff).unwrap_or(0);
        words[at + 1] = u32::try_from(value >> 32).unwrap_or(0);
    };
    put64(8, stat.ino);
    put64(10, stat.size);
    put64(12, stat.blocks);
    put64(16, stat.atime.sec.cast_unsigned());
    put64(24, stat.ctime.sec.cast_unsigned());
    put64(28, stat.mtime.sec.cast_unsigned());
    words[0] = BASIC_STATS;
    words[1] = stat.blksize;
    words[4] = stat.nlink;
    words[5] = stat.uid;
    words[6] = stat.gid;
    words[7] = stat.mode;
    words[18] = stat.atime.nsec;
    words[26] = stat.ctime.nsec;
    words[30] = stat.mtime.nsec;
    (words[32], words[33]) = split_dev(stat.rdev);
    (words[34], words[35]) = split_dev(stat.dev);
    guest::write_value(to.addr(), &words)
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
