//! The container's first tree of mounts, from its configuration.

use super::budget;
use super::dentry::Dentry;
use super::inode::{Inode, Kind, NewKind, NewNode};
use super::mount::{self, Mount};
use super::namei::{Follow, Resolve, Walk};
use super::path::Path;
use super::tmpfs::TmpFs;
use super::{broker, devfs, hostfs, overlay, procfs, sysfs};
use crate::process::creds::Creds;
use crate::{Errno, Result};
use abi::config::{self, Config, MountFlags, MountSource};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Makes the mounts of the configuration; returns the root directory.
///
/// # Errors
/// EINVAL for a configuration without a root; what a mount failed with.
pub fn init(config: &Config) -> Result<Path> {
    broker::connect();
    budget::set_limit_of_all(config.memory_files_limit);
    let mut root: Option<Path> = None;
    for wanted in &config.mounts {
        let made = make(wanted)?;
        match &root {
            None => {
                mount::add_root(&made);
                root = Some(made.root_path());
            }
            Some(root) => attach(root, &made, &wanted.target)?,
        }
        if wanted.source == MountSource::Dev {
            attach_terminals(&made)?;
        }
    }
    root.ok_or(Errno::EINVAL)
}

/// /dev/pts of a fresh /dev, a file system of its own.
fn attach_terminals(dev: &Arc<Mount>) -> Result<()> {
    let made = Mount::new(Dentry::root(crate::tty::devpts::new_root()), MountFlags::default(), b"devpts");
    attach(&dev.root_path(), &made, b"pts")
}

fn make(wanted: &config::Mount) -> Result<Arc<Mount>> {
    let (inode, source): (Arc<dyn Inode>, &[u8]) = match &wanted.source {
        MountSource::Host { export, overlay: false, watched } => (hostfs::open_export(*export, *watched)?, b"host"),
        MountSource::Host { export, overlay: true, watched } => (overlay_root(*export, *watched)?, b"overlay"),
        MountSource::Tmpfs { size, mode } => (tmpfs_root(*size, *mode)?, b"tmpfs"),
        MountSource::Proc => (procfs::new_root()?, b"proc"),
        MountSource::Sys => (sysfs::new_root()?, b"sysfs"),
        MountSource::Dev => (devfs::new_root()?, b"devtmpfs"),
    };
    Ok(Mount::new(Dentry::root(inode), wanted.flags, source))
}

fn overlay_root(export: u16, is_watched: bool) -> Result<Arc<dyn Inode>> {
    let lower = hostfs::open_export(export, is_watched)?;
    if lower.kind() != Kind::Directory {
        return Ok(lower);
    }
    overlay::new_root(lower)
}

/// Root of an empty tmpfs.
///
/// # Errors
/// ENOSPC.
pub fn tmpfs_root(size: u64, mode: u32) -> Result<Arc<dyn Inode>> {
    let node = NewNode { kind: NewKind::Directory, mode, uid: 0, gid: 0 };
    Ok(TmpFs::new(size).new_inode(&node)?)
}

fn attach(root: &Path, made: &Arc<Mount>, target: &[u8]) -> Result<()> {
    let creds = Arc::new(Creds::new(0, 0, Vec::new()));
    // Most mount points exist: one walk, and one request to the broker, finds them.
    let walk = Walk::at(Arc::clone(&creds), root.clone(), root.clone(), Resolve::empty());
    match walk.resolve(target, Follow::Yes) {
        Err(Errno::ENOENT) => {}
        found => {
            mount::attach(made, &found?);
            return Ok(());
        }
    }
    let mut place = root.clone();
    let mut names = target.split(|&b| b == b'/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        let is_file = names.peek().is_none() && made.root.inode().kind() != Kind::Directory;
        let walk = Walk::at(Arc::clone(&creds), root.clone(), place.clone(), Resolve::empty());
        place = match walk.resolve(name, Follow::Yes) {
            Err(Errno::ENOENT) => {
                make_mountpoint(&place, name, if is_file { NewKind::File } else { NewKind::Directory })?
            }
            found => found?,
        };
    }
    mount::attach(made, &place);
    Ok(())
}

/// A mount point that does not exist: made in the file system, or where that cannot be, a name of the LibOS alone.
fn make_mountpoint(dir: &Path, name: &[u8], kind: NewKind<'_>) -> Result<Path> {
    let node = NewNode { kind, mode: 0o755, uid: 0, gid: 0 };
    let _changing = dir.dentry.lock()?;
    let inode = match dir.mount.check_writable().and_then(|()| dir.inode().create(name, &node)) {
        Ok(inode) => inode,
        Err(_) => TmpFs::new(0).new_inode(&node)? as Arc<dyn Inode>,
    };
    dir.dentry.add_child(name, inode).map(|dentry| dir.with_dentry(dentry))
}
