//! Walk: looking up the components of a path.

use super::export::{Export, below};
use super::watch::Watches;
use super::{attributes, name};
use abi::broker::Node;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// Attributes of each component of `path` below `from`; of `from` itself where `path` is empty.
///
/// Directories are watched before anything in them is read; the start also where it is asked for itself.
///
/// A mount point shows the attributes of what is mounted there and is never descended into.
///
/// # Errors
/// Those of opening `from`, and of components that exist but cannot be reached. A missing one only ends
/// the list.
pub(super) fn walk(watches: &Watches, export: &Export, from: &[u8], path: &[u8]) -> Result<Vec<Node>, Errno> {
    name::check_path(path)?;
    if path.is_empty() {
        let node = export.node(from)?;
        if from.is_empty() || attributes::kind(&attributes::of_descriptor(&node)?) == FileType::Directory {
            watches.watch(export, &node)?;
        }
        return Ok(vec![node_of(&node)?]);
    }
    let mut directory = export.directory(from)?;
    watches.watch(export, &directory)?;
    let mut nodes = Vec::new();
    let mut components = path.split(|&byte| byte == b'/').peekable();
    while let Some(component) = components.next() {
        let name = CString::new(component).map_err(|_| Errno::INVAL)?;
        let node = match attributes::node_of_name(&directory, &name) {
            Ok(node) => node,
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(errno),
        };
        let descends = attributes::kind(&node.attributes) == FileType::Directory;
        nodes.push(node);
        if !descends || components.peek().is_none() {
            break;
        }
        match below(directory.as_fd(), component, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(next) => {
                directory = next;
                if let Some(node) = nodes.last_mut()
                    && watches.watch_known(export, &directory, &node.attributes)
                {
                    node.attributes = attributes::of_descriptor(&directory)?;
                }
            }
            // Another mount, or no directory any more.
            Err(Errno::XDEV | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(nodes)
}

fn node_of(node: &OwnedFd) -> Result<Node, Errno> {
    let attributes = attributes::of_descriptor(node)?;
    let target = match attributes::kind(&attributes) {
        FileType::Symlink => rustix::fs::readlinkat(node, c"", Vec::new())?.into_bytes(),
        _ => Vec::new(),
    };
    Ok(Node { attributes, target })
}
