//! /proc: proc(5). Nodes are made at each look-up; a file's text is made when it is read from its start.

mod file;
mod limits;
mod maps;
mod mounts;
mod net;
mod node;
mod ns;
mod settings;
mod smaps;
mod subject;
mod system;
mod sysvipc;
mod text;

use super::file::{File, FileOps, OpenFlags};
use super::inode::{
    Caching, Change, DirEntry, Emit, FileSystem, Inode, InodeId, Kind, LONGEST_OF_32_BITS, Link, Nodev, Stat, now,
};
use crate::process::{Process, Task, tree};
use crate::{Errno, Result};
use alloc::format;
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use node::Node;
use subject::Who;

const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const DEV: u64 = 0x16;

static PROCFS: Nodev = Nodev { name: "proc", dev: DEV, kind: PROC_SUPER_MAGIC, longest: LONGEST_OF_32_BITS };

struct ProcInode {
    node: Node,
}

/// Its root.
///
/// # Errors
/// None.
pub fn new_root() -> Result<Arc<dyn Inode>> {
    Ok(Arc::new(ProcInode { node: Node::Root }))
}

/// The process whose directory is open; None for other files.
///
/// # Errors
/// ESRCH once it was waited for.
#[must_use]
pub fn process_of(file: &File) -> Option<Result<Arc<Process>>> {
    let inode = file.path()?.inode().as_any().downcast_ref::<ProcInode>()?;
    let Node::Subject(Who::Process(pid)) = inode.node else { return None };
    Some(tree::process(pid).ok_or(Errno::ESRCH))
}

impl ProcInode {
    /// Where a link to a place or a file leads. Others than the process itself must be allowed to look.
    fn target(&self) -> Result<Link> {
        match self.node {
            Node::Place(who, name) => {
                let subject = who.subject()?;
                subject.check_inspection()?;
                let task = subject.task.ok_or(Errno::ENOENT)?;
                Ok(Link::Jump(match name {
                    "cwd" => task.cwd(),
                    "root" => task.root(),
                    _ => task.mm().exe().ok_or(Errno::ENOENT)?,
                }))
            }
            Node::Descriptor(who, fd) => {
                let subject = who.subject()?;
                subject.check_inspection()?;
                let file = subject.open_file(fd)?;
                Ok(match file.path() {
                    Some(path) => Link::Jump(path.clone()),
                    None => Link::File(file),
                })
            }
            Node::Namespace(who, name) => {
                who.subject()?.check_inspection()?;
                ns::open(name).map(Link::File).ok_or(Errno::ENOENT)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// The text of a link that is only text.
    fn text(&self) -> Option<Vec<u8>> {
        let task = Task::current();
        let (pid, tid) = task.map_or((1, 1), |task| (task.process.pid, task.tid()));
        match self.node {
            Node::SelfLink => Some(pid.to_string().into_bytes()),
            Node::ThreadSelfLink => Some(format!("{pid}/task/{tid}").into_bytes()),
            Node::Alias(_, target) => Some(target.into()),
            _ => None,
        }
    }
}

impl Inode for ProcInode {
    fn kind(&self) -> Kind {
        self.node.kind()
    }

    fn id(&self) -> InodeId {
        InodeId { dev: DEV, ino: self.node.number() }
    }

    fn stat(&self) -> Result<Stat> {
        let (uid, gid) = self.node.owner();
        let time = now();
        let InodeId { dev, ino } = self.id();
        let mode = self.kind().mode_bits() | self.node.permissions();
        let times = Stat { atime: time, mtime: time, ctime: time, ..Stat::default() };
        Ok(Stat { dev, ino, mode, nlink: 1, uid, gid, blksize: 1024, ..times })
    }

    fn file_system(&self) -> &dyn FileSystem {
        &PROCFS
    }

    fn caching(&self) -> Caching {
        Caching::Never
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        match change.size {
            // O_TRUNC of what can be written does nothing.
            Some(_) if self.node.is_writable() => Ok(()),
            Some(_) => Err(Errno::EACCES),
            None => Err(Errno::EPERM),
        }
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        file::open(self.node, flags)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(Arc::new(ProcInode { node: self.node.child(name)? }))
    }

    fn takes_names(&self) -> bool {
        false
    }

    fn follow(&self) -> Result<Link> {
        self.text().map_or_else(|| self.target(), |text| Ok(Link::Text(text)))
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        let root = Task::current().map(|task| task.root());
        match (self.follow()?, root) {
            (Link::Text(text), _) => Ok(text),
            (Link::Jump(place), Some(root)) => Ok(place.display(&root)),
            (Link::File(file), _) => Ok(file.ops().describe()),
            _ => Err(Errno::ENOENT),
        }
    }

    fn read_dir(&self, from: u64, emit: Emit<'_>) -> Result<()> {
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        for (index, (name, child)) in self.node.children()?.iter().enumerate().skip(skip) {
            let entry = DirEntry { name, ino: child.number(), kind: child.kind(), next: index as u64 + 1 };
            if !emit(&entry) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
