//! /proc: proc(5). Nodes are made at each look-up; a file's text is made when it is opened.

mod text;

use super::fd_table::Fd;
use super::file::{File, FileOps, OpenFlags};
use super::inode::{Caching, DirEntry, Emit, FileSystem, Inode, InodeId, Kind, Link, Stat, StatFs, now};
use crate::process::{Pid, Process, Task, tree};
use crate::uio::Sink;
use crate::{Errno, Result};
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const DEV: u64 = 0x16;

/// Files of the root directory.
const GLOBAL: [&str; 8] = ["cpuinfo", "filesystems", "loadavg", "meminfo", "mounts", "stat", "uptime", "version"];
/// Files of a process's directory.
const OF_PROCESS: [&str; 8] = ["cmdline", "comm", "environ", "maps", "mounts", "stat", "statm", "status"];
/// Links of a process's directory.
const LINKS: [&str; 3] = ["cwd", "exe", "root"];

/// What a node shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Root,
    SelfLink,
    Global(&'static str),
    Process(Pid),
    OfProcess(Pid, &'static str),
    Place(Pid, &'static str),
    Descriptors(Pid),
    Descriptor(Pid, Fd),
}

struct ProcFs;

impl FileSystem for ProcFs {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn dev(&self) -> u64 {
        DEV
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { kind: PROC_SUPER_MAGIC, block: 4096, ..StatFs::default() })
    }
}

struct ProcInode {
    node: Node,
}

/// Its root.
///
/// # Errors
/// None.
pub fn new_root() -> Result<Arc<dyn Inode>> {
    Ok(node(Node::Root))
}

fn node(node: Node) -> Arc<dyn Inode> {
    Arc::new(ProcInode { node })
}

/// A number that is the same for the same node.
fn number_of(node: Node) -> u64 {
    let at = |list: &[&str], name: &str| list.iter().position(|n| *n == name).unwrap_or(0) as u64;
    let of = |pid: Pid, slot: u64| 0x1_0000 + (u64::from(pid.unsigned_abs()) << 16) + slot;
    match node {
        Node::Root => 1,
        Node::SelfLink => 2,
        Node::Global(name) => 16 + at(&GLOBAL, name),
        Node::Process(pid) => of(pid, 0),
        Node::OfProcess(pid, name) => of(pid, 16 + at(&OF_PROCESS, name)),
        Node::Place(pid, name) => of(pid, 48 + at(&LINKS, name)),
        Node::Descriptors(pid) => of(pid, 1),
        Node::Descriptor(pid, fd) => of(pid, 64 + u64::from(fd.0.unsigned_abs())),
    }
}

fn first_task(pid: Pid) -> Result<Arc<Task>> {
    let process = tree::process(pid).ok_or(Errno::ENOENT)?;
    process.tasks().first().cloned().ok_or(Errno::ENOENT)
}

fn find<'a>(list: &[&'a str], name: &[u8]) -> Option<&'a str> {
    list.iter().copied().find(|n| n.as_bytes() == name)
}

fn number<T: core::str::FromStr>(name: &[u8]) -> Option<T> {
    core::str::from_utf8(name).ok()?.parse().ok()
}

impl ProcInode {
    fn children(&self) -> Result<Vec<(Vec<u8>, Node)>> {
        let named = |name: &str, node: Node| (name.as_bytes().to_vec(), node);
        let mut all = Vec::new();
        match self.node {
            Node::Root => {
                all.push(named("self", Node::SelfLink));
                all.extend(GLOBAL.iter().map(|name| named(name, Node::Global(name))));
                let processes = tree::collect_processes();
                all.extend(processes.iter().map(|p| (p.pid.to_string().into_bytes(), Node::Process(p.pid))));
            }
            Node::Process(pid) => {
                all.push(named("fd", Node::Descriptors(pid)));
                all.extend(OF_PROCESS.iter().map(|name| named(name, Node::OfProcess(pid, name))));
                all.extend(LINKS.iter().map(|name| named(name, Node::Place(pid, name))));
            }
            Node::Descriptors(pid) => {
                let open = first_task(pid)?.files().collect();
                all.extend(open.iter().map(|(fd, _)| (fd.0.to_string().into_bytes(), Node::Descriptor(pid, *fd))));
            }
            _ => return Err(Errno::ENOTDIR),
        }
        Ok(all)
    }

    fn owner(&self) -> (u32, u32) {
        let pid = match self.node {
            Node::Root | Node::SelfLink | Node::Global(_) => return (0, 0),
            Node::Process(pid)
            | Node::OfProcess(pid, _)
            | Node::Place(pid, _)
            | Node::Descriptors(pid)
            | Node::Descriptor(pid, _) => pid,
        };
        first_task(pid).map_or((0, 0), |task| (task.creds().euid, task.creds().egid))
    }
}

impl Inode for ProcInode {
    fn kind(&self) -> Kind {
        match self.node {
            Node::Root | Node::Process(_) | Node::Descriptors(_) => Kind::Directory,
            Node::SelfLink | Node::Place(..) | Node::Descriptor(..) => Kind::Symlink,
            Node::Global(_) | Node::OfProcess(..) => Kind::File,
        }
    }

    fn id(&self) -> InodeId {
        InodeId { dev: DEV, ino: number_of(self.node) }
    }

    fn stat(&self) -> Result<Stat> {
        let permissions = match self.kind() {
            Kind::Directory => 0o555,
            Kind::Symlink => 0o777,
            _ => 0o444,
        };
        let (uid, gid) = self.owner();
        let time = now();
        let InodeId { dev, ino } = self.id();
        let mode = self.kind().mode_bits() | permissions;
        let times = Stat { atime: time, mtime: time, ctime: time, ..Stat::default() };
        Ok(Stat { dev, ino, mode, nlink: 1, uid, gid, blksize: 1024, ..times })
    }

    fn file_system(&self) -> Arc<dyn FileSystem> {
        Arc::new(ProcFs)
    }

    fn caching(&self) -> Caching {
        Caching::Never
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if flags.is_writable() {
            return Err(Errno::EACCES);
        }
        let bytes = match self.node {
            Node::Global(name) => text::global(name),
            Node::OfProcess(pid, name) => text::of_process(&first_task(pid)?, name),
            Node::Root | Node::Process(_) | Node::Descriptors(_) => return Ok(Arc::new(ProcFile { bytes: None })),
            _ => return Err(Errno::ELOOP),
        };
        Ok(Arc::new(ProcFile { bytes: Some(bytes) }))
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found = match self.node {
            Node::Root if name == b"self" || name == b"thread-self" => Some(Node::SelfLink),
            Node::Root => find(&GLOBAL, name)
                .map(Node::Global)
                .or_else(|| number(name).filter(|&pid| tree::process(pid).is_some()).map(Node::Process)),
            Node::Process(pid) if name == b"fd" => Some(Node::Descriptors(pid)),
            Node::Process(pid) => find(&OF_PROCESS, name)
                .map(|name| Node::OfProcess(pid, name))
                .or_else(|| find(&LINKS, name).map(|name| Node::Place(pid, name))),
            Node::Descriptors(pid) => {
                let fd = number(name).map(Fd).ok_or(Errno::ENOENT)?;
                first_task(pid)?.files().get(fd).map_err(|_| Errno::ENOENT)?;
                Some(Node::Descriptor(pid, fd))
            }
            _ => return Err(Errno::ENOTDIR),
        };
        found.map(node).ok_or(Errno::ENOENT)
    }

    fn follow(&self) -> Result<Link> {
        match self.node {
            Node::SelfLink => self.read_link().map(Link::Text),
            Node::Place(pid, name) => {
                let task = first_task(pid)?;
                let place = match name {
                    "cwd" => task.fs().cwd(),
                    "root" => task.fs().root(),
                    _ => task.mm().exe().ok_or(Errno::ENOENT)?,
                };
                Ok(Link::Jump(place))
            }
            Node::Descriptor(pid, fd) => {
                let file = first_task(pid)?.files().get(fd).map_err(|_| Errno::ENOENT)?;
                Ok(match file.path() {
                    Some(path) => Link::Jump(path.clone()),
                    None => Link::File(file),
                })
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        if self.node == Node::SelfLink {
            let pid = Task::current().map_or(1, |task| task.process.pid);
            return Ok(pid.to_string().into_bytes());
        }
        let root = Task::current().map(|task| task.fs().root());
        match (self.follow()?, root) {
            (Link::Jump(place), Some(root)) => Ok(place.display(&root)),
            (Link::File(file), _) => Ok(file.ops().describe()),
            _ => Err(Errno::ENOENT),
        }
    }

    fn read_dir(&self, from: u64, emit: Emit<'_>) -> Result<()> {
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        for (index, (name, child)) in self.children()?.iter().enumerate().skip(skip) {
            let kind = ProcInode { node: *child }.kind();
            let entry = DirEntry { name, ino: number_of(*child), kind, next: index as u64 + 1 };
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

/// An open file of /proc: its text, or None for a directory.
struct ProcFile {
    bytes: Option<Vec<u8>>,
}

impl FileOps for ProcFile {
    fn read(&self, _file: &File, to: &mut Sink<'_>, offset: u64) -> Result<usize> {
        let bytes = self.bytes.as_ref().ok_or(Errno::EISDIR)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        to.put(bytes.get(start..).unwrap_or(&[]))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Parent, group and session of a process, for its texts.
fn family(process: &Process) -> (Pid, Pid, Pid) {
    let parent = process.parent();
    let (pgid, sid) = process.links_of_other();
    (parent, pgid, sid)
}
