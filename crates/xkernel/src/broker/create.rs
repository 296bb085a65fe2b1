//! Create, Remove, Rename and Link: changes of directories, each through its parent's descriptor.

use super::attributes;
use super::export::{Export, Named, Parent, below, create_below, magic_path};
use abi::broker::{Attributes, FileAt, NewNode};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Uid, chmod, chownat, linkat, mkdirat, mknodat,
    renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Permission bits, with set-id and sticky.
const PERMISSIONS: u32 = 0o7777;

/// Who a new node belongs to and what it permits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

/// A new node's attributes and, for a regular file, a handle that reads and writes.
pub(super) type Created = (Attributes, Option<OwnedFd>);

/// Makes a node that is not there yet. The broker's umask has no say.
///
/// The owner is set as far as the host lets us: an ordinary user's files stay the user's, and the
/// attributes in the answer say so.
///
/// # Errors
/// `EROFS`, `EEXIST`, `EINVAL` for an owner of -1, and what the host says.
pub(super) fn create(export: &Export, named: &Named<'_>, kind: NewNode<'_>, rights: Rights) -> Result<Created, Errno> {
    export.check_writable()?;
    let (parent, name) = named.parent()?;
    let owner = (checked_id(rights.owner.0)?, checked_id(rights.owner.1)?);
    let (node, is_file) = make(parent, name, kind, Mode::from_raw_mode(rights.mode & PERMISSIONS))?;
    match finish(&node, kind, rights.mode & PERMISSIONS, owner) {
        Ok(attributes) => Ok((attributes, is_file.then_some(node))),
        Err(errno) => {
            // Half made is worse than not made; where even that fails there is nothing better to say.
            let flags = if kind == NewNode::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            let _ = unlinkat(parent, name, flags);
            Err(errno)
        }
    }
}

/// Removes a name.
///
/// # Errors
/// `EROFS`, and what unlink(2) and rmdir(2) say.
pub(super) fn remove(export: &Export, named: &Named<'_>, is_directory: bool) -> Result<(), Errno> {
    export.check_writable()?;
    let (parent, name) = named.parent()?;
    let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    unlinkat(parent, name, flags)
}

/// Renames within an export.
///
/// # Errors
/// `EROFS`, `EINVAL` for other flags than NOREPLACE and EXCHANGE, and what rename(2) says.
pub(super) fn rename(export: &Export, from: &Named<'_>, to: &Named<'_>, flags: u32) -> Result<(), Errno> {
    export.check_writable()?;
    let flags = RenameFlags::from_bits(flags)
        .filter(|flags| (RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(*flags))
        .ok_or(Errno::INVAL)?;
    let (old_parent, old_name) = from.parent()?;
    let (new_parent, new_name) = to.parent()?;
    renameat_with(old_parent, old_name, new_parent, new_name, flags)
}

/// Makes a hard link; one to a symbolic link is to the link itself.
///
/// # Errors
/// `EROFS`, `ESTALE` for another node than that with the inode number, and what link(2) says.
pub(super) fn link(export: &Export, from: FileAt<'_>, to: &Named<'_>) -> Result<(), Errno> {
    export.check_writable()?;
    let node = export.node_of(from)?;
    let (new_parent, new_name) = to.parent()?;
    // The name is the host's own link to the node that was checked.
    linkat(CWD, magic_path(&node), new_parent, new_name, AtFlags::SYMLINK_FOLLOW)
}

/// The new node's descriptor, and whether it is a handle to read and write by.
fn make(parent: &Parent<'_>, name: &[u8], kind: NewNode<'_>, mode: Mode) -> Result<(OwnedFd, bool), Errno> {
    match kind {
        NewNode::File => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
            return Ok((create_below(parent.as_fd(), name, flags, mode)?, true));
        }
        NewNode::Directory => mkdirat(parent, name, mode)?,
        NewNode::Symlink(target) => symlinkat(target, parent, name)?,
        NewNode::Fifo => mknodat(parent, name, FileType::Fifo, mode, 0)?,
        NewNode::Socket => mknodat(parent, name, FileType::Socket, mode, 0)?,
    }
    Ok((below(parent.as_fd(), name, OFlags::PATH)?, false))
}

/// Sets owner and mode where they differ from what the host chose.
fn finish(node: &OwnedFd, kind: NewNode<'_>, mode: u32, owner: (u32, u32)) -> Result<Attributes, Errno> {
    let mut attributes = attributes::of_descriptor(node)?;
    if (attributes.uid, attributes.gid) != owner {
        match set_owner(node, Some(owner.0), Some(owner.1)) {
            // INVAL: the id means nothing in the user namespace that we run in.
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
        attributes = attributes::of_descriptor(node)?;
    }
    if attributes.mode & PERMISSIONS != mode && !matches!(kind, NewNode::Symlink(_)) {
        set_mode(node, mode)?;
        attributes = attributes::of_descriptor(node)?;
    }
    Ok(attributes)
}

/// Sets the permission bits of an open node of any kind but a symbolic link.
pub(super) fn set_mode(node: &OwnedFd, mode: u32) -> Result<(), Errno> {
    // fchmod(2) refuses O_PATH descriptors.
    chmod(magic_path(node), Mode::from_raw_mode(mode & PERMISSIONS))
}

/// Sets owner and group of an open node, a symbolic link's own too.
pub(super) fn set_owner(node: &OwnedFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let uid = uid.map(checked_id).transpose()?.map(Uid::from_raw);
    let gid = gid.map(checked_id).transpose()?.map(Gid::from_raw);
    chownat(node, c"", uid, gid, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
}

/// An id that chown(2) does not read as "leave it".
fn checked_id(id: u32) -> Result<u32, Errno> {
    if id == u32::MAX { Err(Errno::INVAL) } else { Ok(id) }
}
