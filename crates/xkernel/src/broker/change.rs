//! SetAttributes, Space, Sync and Allocate.

use super::attributes;
use super::create::{set_mode, set_owner};
use super::export::{Access, Export, below, magic_path, open_regular, regular_attributes};
use abi::broker::{Attributes, Change, FileAt, Space, Time};
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, OFlags, Timespec, Timestamps, UTIME_OMIT, fallocate, fstatfs, fsync, utimensat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, OwnedFd};

/// What a guest may ask of fallocate(2).
const ALLOCATE_MODES: FallocateFlags = FallocateFlags::KEEP_SIZE
    .union(FallocateFlags::PUNCH_HOLE)
    .union(FallocateFlags::COLLAPSE_RANGE)
    .union(FallocateFlags::ZERO_RANGE)
    .union(FallocateFlags::INSERT_RANGE)
    .union(FallocateFlags::UNSHARE_RANGE);

/// Changes attributes of a node of any kind, a symbolic link's own.
///
/// Size first (it needs the right to write), then owner, then mode (a change of owner clears
/// set-id bits), times last. A failure leaves what came before it changed.
///
/// # Errors
/// `EROFS`, `ESTALE` for another node than that with the inode number, `EINVAL` for impossible times and ids, and what the host says; `EPERM` for an owner that
/// an ordinary user cannot set.
pub(super) fn set_attributes(export: &Export, file: FileAt<'_>, change: Change) -> Result<Attributes, Errno> {
    export.check_writable()?;
    let times = timestamps(&change)?;
    let node = export.node_of(file)?;
    if let Some(size) = change.size {
        regular_attributes(&node)?;
        truncate(&node, size)?;
    }
    if change.uid.is_some() || change.gid.is_some() {
        set_owner(&node, change.uid, change.gid)?;
    }
    if let Some(mode) = change.mode {
        set_mode(&node, mode)?;
    }
    if let Some(times) = times {
        utimensat(&node, c"", &times, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)?;
    }
    attributes::of_descriptor(&node)
}

/// By its name, which opens nothing: the end of a handle that writes is told as that of the container's own.
fn truncate(node: &OwnedFd, size: u64) -> Result<(), Errno> {
    let size = i64::try_from(size).map_err(|_| Errno::INVAL)?;
    nix::unistd::truncate(magic_path(node).as_str(), size).map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// Sizes of the file system behind an export.
pub(super) fn space(export: &Export) -> Result<Space, Errno> {
    let stat = fstatfs(export.root())?;
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Space {
        kind: unsigned(stat.f_type),
        block: unsigned(stat.f_bsize),
        blocks: stat.f_blocks,
        free: stat.f_bfree,
        available: stat.f_bavail,
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

/// Writes a file's or a directory's data to its disk.
pub(super) fn sync(export: &Export, file: FileAt<'_>) -> Result<(), Errno> {
    fsync(readable(&export.node_of(file)?)?)
}

/// Preallocates or punches.
///
/// # Errors
/// `EOPNOTSUPP` for unknown modes, `EINVAL` for lengths that no file has, and what fallocate(2) says.
pub(super) fn allocate(export: &Export, file: FileAt<'_>, mode: u32, (offset, len): (u64, u64)) -> Result<(), Errno> {
    let mode = FallocateFlags::from_bits(mode).filter(|mode| ALLOCATE_MODES.contains(*mode)).ok_or(Errno::OPNOTSUPP)?;
    let is_possible = i64::try_from(offset).is_ok() && i64::try_from(len).is_ok_and(|len| len > 0);
    if !is_possible {
        return Err(Errno::INVAL);
    }
    let (file, _) = export.file(file, Access::Write)?;
    fallocate(file, mode, offset, len)
}

fn readable(node: &OwnedFd) -> Result<OwnedFd, Errno> {
    let attributes = attributes::of_descriptor(node)?;
    match attributes::kind(&attributes) {
        FileType::Directory => below(node.as_fd(), b".", OFlags::RDONLY | OFlags::DIRECTORY),
        _ => Ok(open_regular(node, 0, Access::Read)?.0),
    }
}

fn timestamps(change: &Change) -> Result<Option<Timestamps>, Errno> {
    if change.atime.is_none() && change.mtime.is_none() {
        return Ok(None);
    }
    Ok(Some(Timestamps { last_access: timespec(change.atime)?, last_modification: timespec(change.mtime)? }))
}

fn timespec(time: Option<Time>) -> Result<Timespec, Errno> {
    match time {
        None => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }),
        // Larger values have meanings of their own (now, omit).
        Some(time) if time.nsec >= 1_000_000_000 => Err(Errno::INVAL),
        Some(time) => Ok(Timespec { tv_sec: time.sec, tv_nsec: i64::from(time.nsec) }),
    }
}
