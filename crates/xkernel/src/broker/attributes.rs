//! Attributes of host nodes in the protocol's form.

use abi::broker::{Attributes, Node, Time};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, makedev, readlinkat, statx};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::AsFd;

/// Attributes of an open node, of whatever kind.
pub(crate) fn of_descriptor(node: impl AsFd) -> Result<Attributes, Errno> {
    read(node, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
}

/// Attributes of a name in a directory, without following a link or mounting anything.
pub(super) fn of_name(directory: impl AsFd, name: &CStr) -> Result<Attributes, Errno> {
    read(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
}

/// The same with a symbolic link's target.
pub(super) fn node_of_name(directory: impl AsFd, name: &CStr) -> Result<Node, Errno> {
    let attributes = of_name(directory.as_fd(), name)?;
    let target = match kind(&attributes) {
        FileType::Symlink => readlinkat(directory, name, Vec::new())?.into_bytes(),
        _ => Vec::new(),
    };
    Ok(Node { attributes, target })
}

/// Type of a node.
pub(super) fn kind(attributes: &Attributes) -> FileType {
    FileType::from_raw_mode(attributes.mode)
}

fn read(directory: impl AsFd, name: &CStr, flags: AtFlags) -> Result<Attributes, Errno> {
    let wanted = StatxFlags::BASIC_STATS;
    Ok(convert(&statx(directory, name, flags, wanted)?))
}

fn convert(stat: &Statx) -> Attributes {
    Attributes {
        device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        mode: u32::from(stat.stx_mode),
        links: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
    }
}

fn time(stamp: StatxTimestamp) -> Time {
    Time { sec: stamp.tv_sec, nsec: stamp.tv_nsec }
}
