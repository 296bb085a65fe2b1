//! The container's first tree of mounts, from its configuration.

use super::budget;
use super::dentry::Dentry;
use super::hostfs::Trust;
use super::inode::{Inode, Kind, NewKind, NewNode};
use super::mount::{self, Mount};
use super::namei::{Follow, Walk};
use super::path::Path;
use super::tmpfs::TmpFs;
use super::{broker, devfs, host_file, hostfs, overlay, procfs, sysfs};
use crate::process::creds::Creds;
use crate::{Errno, Result};
use abi::config::{self, Config, MountFlags, MountSource};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Makes the mounts of the configuration; returns the root directory.
///
/// # Errors
/// EINVAL for a configuration without a root; what a mount failed with, and its place.
pub fn init(config: &Config) -> Result<Path, (Errno, Vec<u8>)> {
    broker::connect();
    host_file::set_descriptors(config.descriptors);
    budget::set_limit_of_all(config.memory_files_limit);
    let mut root: Option<Path> = None;
    for wanted in &config.mounts {
        match add(wanted, &mut root) {
            // Of the host's own, one that does not answer, or is hidden by another, is not shown.
            Err(_) if root.is_some() && matches!(wanted.source, MountSource::Host { overlay: true, .. }) => {}
            added => added.map_err(|errno| (errno, wanted.target.clone()))?,
        }
    }
    root.ok_or((Errno::EINVAL, b"/".to_vec()))
}

/// The first is the root.
fn add(wanted: &config::Mount, root: &mut Option<Path>) -> Result<()> {
    let made = make(wanted)?;
    match root {
        None => {
            mount::add_root(made);
            *root = Some(made.root_path());
        }
        Some(root) => attach(root, made, &wanted.target)?,
    }
    if wanted.source == MountSource::Dev {
        attach_terminals(made)?;
    }
    Ok(())
}

/// /dev/pts of a fresh /dev, a file system of its own.
fn attach_terminals(dev: &'static Mount) -> Result<()> {
    let made = Mount::new(Dentry::root(crate::tty::devpts::new_root()), MountFlags::default(), b"devpts");
    attach(&dev.root_path(), made, b"pts")
}

fn make(wanted: &config::Mount) -> Result<&'static Mount> {
    let (inode, source): (Arc<dyn Inode>, &[u8]) = match &wanted.source {
        MountSource::Host { export, overlay, watched, mappable } => {
            let trust = Trust { is_watched: *watched, is_mappable: *mappable };
            let root = hostfs::open_export(*export, trust)?;
            if *overlay && root.kind() == Kind::Directory {
                (overlay::new_root(root)?, b"overlay")
            } else {
                (root, if *overlay { b"overlay" } else { b"host" })
            }
        }
        MountSource::Tmpfs { size, inodes, mode } => (tmpfs_root(*size, *inodes, *mode)?, b"tmpfs"),
        MountSource::Proc => (procfs::new_root()?, b"proc"),
        MountSource::Sys => (sysfs::new_root()?, b"sysfs"),
        MountSource::Dev => (devfs::new_root()?, b"devtmpfs"),
    };
    Ok(Mount::new(Dentry::root(inode), wanted.flags, source))
}

/// Root of an empty tmpfs. Its size is rounded up to pages; 0 is no limit.
///
/// # Errors
/// ENOSPC.
pub fn tmpfs_root(size: u64, inodes: u64, mode: u32) -> Result<Arc<dyn Inode>> {
    let node = NewNode { kind: NewKind::Directory, mode, uid: 0, gid: 0 };
    let size = size.checked_next_multiple_of(4096).unwrap_or(size);
    Ok(TmpFs::new(size, inodes).new_inode(&node)?)
}

/// Mounts; the place is made where it is not there.
///
/// # Errors
/// ENOTDIR where a directory would lie on a file, or a file on a directory; ENOENT where the place cannot be.
fn attach(root: &Path, made: &'static Mount, target: &[u8]) -> Result<()> {
    let creds = Arc::new(Creds::new(0, 0, Vec::new()));
    let resolve = || {
        let walk = Walk::at(Arc::clone(&creds), root.clone(), root.clone());
        walk.resolve(target, Follow::Yes)
    };
    // Most mount points exist: one walk, and one request to the broker, finds them.
    match resolve() {
        Err(Errno::ENOENT) => {}
        found => {
            let place = found?;
            let is_directory = |inode: &dyn Inode| inode.kind() == Kind::Directory;
            if is_directory(&**place.dentry.inode()) != is_directory(&**made.root.inode()) {
                return Err(Errno::ENOTDIR);
            }
            mount::attach(made, &place);
            return Ok(());
        }
    }
    let mut place = root.clone();
    let mut names = target.split(|&b| b == b'/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        let is_file = names.peek().is_none() && made.root.inode().kind() != Kind::Directory;
        let walk = Walk::at(Arc::clone(&creds), root.clone(), place.clone());
        place = match walk.resolve(name, Follow::Yes) {
            Err(Errno::ENOENT) => {
                make_mountpoint(&place, name, if is_file { NewKind::File } else { NewKind::Directory })?
            }
            found => found?,
        };
    }
    mount::attach(made, &place);
    // Some file systems have the names that they make up, and no others.
    if core::ptr::eq(resolve()?.mount, made) { Ok(()) } else { Err(Errno::ENOENT) }
}

/// A mount point that does not exist: made in the file system, or where that cannot be, a name of the LibOS alone.
fn make_mountpoint(dir: &Path, name: &[u8], kind: NewKind<'_>) -> Result<Path> {
    let node = NewNode { kind, mode: 0o755, uid: 0, gid: 0 };
    let _changing = dir.dentry.lock()?;
    let inode = match dir.mount.check_writable().and_then(|()| dir.inode().create(name, &node)) {
        Ok(inode) => inode,
        Err(_) => TmpFs::new(0, 0).new_inode(&node)? as Arc<dyn Inode>,
    };
    dir.dentry.add_child(name, inode).map(|dentry| dir.with_dentry(dentry))
}
