//! /sys: what programs look for to learn of processors and memory nodes (Linux's admin-guide/cputopology), and no devices.
//! Every processor is a core of its own of one package; nothing can be changed, as in a container without privileges.

use super::file::{File, FileOps, OpenFlags};
use super::inode::{Change, DirEntry, Emit, FileSystem, Inode, InodeId, Kind, Nodev, Stat, now};
use crate::syscall::sched;
use crate::uio::Sink;
use crate::{Errno, Result};
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

const SYSFS_MAGIC: u64 = 0x6265_6572;
const DEV: u64 = 0x17;
/// Size of every file, as Linux tells it.
const SIZE: u64 = 4096;

/// What a file says.
#[derive(Clone, Copy, Debug)]
enum Value {
    Fixed(&'static str),
    /// All processors, as ranges or as a mask.
    List,
    Mask,
    /// The one of the path.
    Own,
    OwnList,
    OwnMask,
}

/// Files by path, in order; `#` stands for each processor, and a path that ends in `/` for an empty directory.
static FILES: &[(&str, Value)] = &[
    ("class/", Value::Fixed("")),
    ("devices/system/cpu/cpu#/topology/core_cpus", Value::OwnMask),
    ("devices/system/cpu/cpu#/topology/core_cpus_list", Value::OwnList),
    ("devices/system/cpu/cpu#/topology/core_id", Value::Own),
    ("devices/system/cpu/cpu#/topology/core_siblings", Value::Mask),
    ("devices/system/cpu/cpu#/topology/core_siblings_list", Value::List),
    ("devices/system/cpu/cpu#/topology/die_id", Value::Fixed("0")),
    ("devices/system/cpu/cpu#/topology/package_cpus", Value::Mask),
    ("devices/system/cpu/cpu#/topology/package_cpus_list", Value::List),
    ("devices/system/cpu/cpu#/topology/physical_package_id", Value::Fixed("0")),
    ("devices/system/cpu/cpu#/topology/thread_siblings", Value::OwnMask),
    ("devices/system/cpu/cpu#/topology/thread_siblings_list", Value::OwnList),
    ("devices/system/cpu/isolated", Value::Fixed("")),
    ("devices/system/cpu/offline", Value::Fixed("")),
    ("devices/system/cpu/online", Value::List),
    ("devices/system/cpu/possible", Value::List),
    ("devices/system/cpu/present", Value::List),
    ("devices/system/node/has_cpu", Value::Fixed("0")),
    ("devices/system/node/has_memory", Value::Fixed("0")),
    ("devices/system/node/node0/cpulist", Value::List),
    ("devices/system/node/node0/cpumap", Value::Mask),
    ("devices/system/node/node0/distance", Value::Fixed("10")),
    ("devices/system/node/online", Value::Fixed("0")),
    ("devices/system/node/possible", Value::Fixed("0")),
    ("fs/cgroup/", Value::Fixed("")),
    ("kernel/mm/transparent_hugepage/enabled", Value::Fixed("always madvise [never]")),
];

static SYSFS: Nodev = Nodev { name: "sysfs", dev: DEV, kind: SYSFS_MAGIC, longest: i64::MAX as u64 };

/// A file, or a directory by the part of a path that leads to it.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The beginning of a path of [`FILES`], without a slash at its end.
    path: &'static str,
    /// Its place there, or of the first below it.
    first: usize,
    /// None for a directory.
    value: Option<Value>,
    /// What `#` stands for.
    processor: usize,
}

/// Its root.
///
/// # Errors
/// None.
pub fn new_root() -> Result<Arc<dyn Inode>> {
    Ok(Arc::new(Node { path: "", first: 0, value: None, processor: 0 }))
}

impl Node {
    fn text(&self, value: Value) -> String {
        let all = sched::all_processors();
        let mut own = all;
        own.iter_mut().enumerate().for_each(|(index, word)| {
            *word = if index == self.processor / 64 { 1 << (self.processor % 64) } else { 0 };
        });
        let mut text = match value {
            Value::Fixed(text) => text.into(),
            Value::List => sched::ranges(&all),
            Value::Mask => sched::hexadecimal(&all),
            Value::Own => self.processor.to_string(),
            Value::OwnList => sched::ranges(&own),
            Value::OwnMask => sched::hexadecimal(&own),
        };
        text.push('\n');
        text
    }

    /// Its entries, each name once: files of a directory stand beside each other.
    fn children(&self) -> Vec<(String, Node)> {
        let mut found: Vec<(String, Node)> = Vec::new();
        let mut last = "";
        for (first, (path, value)) in FILES.iter().enumerate().skip(self.first) {
            let below = path.strip_prefix(self.path);
            let below = if self.path.is_empty() { below } else { below.and_then(|rest| rest.strip_prefix('/')) };
            let Some(below) = below else { break };
            let (name, value) = below.split_once('/').map_or((below, Some(*value)), |(name, _)| (name, None));
            if name.is_empty() || name == last {
                continue;
            }
            last = name;
            let path = path.get(..path.len() - below.len() + name.len()).unwrap_or("");
            let processors = if name.contains('#') { sched::processors() } else { 1 };
            found.extend((0..processors).map(|n| {
                let processor = if name.contains('#') { n } else { self.processor };
                (name.replace('#', &processor.to_string()), Node { path, first, value, processor })
            }));
        }
        found
    }

    fn number(&self) -> u64 {
        let depth = self.path.matches('/').count() + usize::from(!self.path.is_empty());
        ((self.processor * FILES.len() + self.first) * 8 + depth) as u64 + 1
    }
}

impl Inode for Node {
    fn kind(&self) -> Kind {
        if self.value.is_some() { Kind::File } else { Kind::Directory }
    }

    fn id(&self) -> InodeId {
        InodeId { dev: DEV, ino: self.number() }
    }

    fn stat(&self) -> Result<Stat> {
        let time = now();
        let InodeId { dev, ino } = self.id();
        let (permissions, size) = if self.value.is_some() { (0o444, SIZE) } else { (0o755, 0) };
        let mode = self.kind().mode_bits() | permissions;
        let times = Stat { atime: time, mtime: time, ctime: time, ..Stat::default() };
        Ok(Stat { dev, ino, mode, nlink: 1, size, blksize: 4096, ..times })
    }

    fn file_system(&self) -> &dyn FileSystem {
        &SYSFS
    }

    fn set_attributes(&self, _change: &Change) -> Result<()> {
        Err(Errno::EPERM)
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if flags.is_writable() {
            return Err(Errno::EACCES);
        }
        Ok(self)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found = self.children().into_iter().find(|(known, _)| known.as_bytes() == name);
        found.map(|(_, node)| Arc::new(node) as Arc<dyn Inode>).ok_or(Errno::ENOENT)
    }

    fn read_dir(&self, from: u64, emit: Emit<'_>) -> Result<()> {
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        for (index, (name, child)) in self.children().iter().enumerate().skip(skip) {
            let entry =
                DirEntry { name: name.as_bytes(), ino: child.number(), kind: child.kind(), next: index as u64 + 1 };
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

impl FileOps for Node {
    fn read(&self, _file: &File, to: &mut Sink<'_>, offset: u64) -> Result<usize> {
        let text = self.text(self.value.ok_or(Errno::EISDIR)?);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        to.put(text.as_bytes().get(start..).unwrap_or(&[]))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(SIZE)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{FILES, Node, Value};

    #[test]
    fn files_are_in_order_and_each_directory_lists_a_name_once() {
        // A slash sorts before all other characters of names.
        let key = |path: &str| path.replace('/', "\x01");
        assert!(FILES.windows(2).all(|pair| key(pair[0].0) < key(pair[1].0)));
        let root = Node { path: "", first: 0, value: None, processor: 0 };
        let names = |node: &Node| node.children().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let child = |node: &Node, name: &str| node.children().into_iter().find(|(n, _)| n == name).unwrap().1;
        assert_eq!(names(&root), ["class", "devices", "fs", "kernel"]);
        assert_eq!(names(&child(&root, "class")), [""; 0]);
        let system = child(&child(&root, "devices"), "system");
        assert_eq!(names(&system), ["cpu", "node"]);
        let processors = child(&system, "cpu");
        assert_eq!(names(&processors), ["cpu0", "isolated", "offline", "online", "possible", "present"]);
        let own = child(&child(&child(&processors, "cpu0"), "topology"), "core_id");
        assert!(matches!(own.value, Some(Value::Own)));
        assert_eq!(own.text(Value::OwnList), "0\n");
    }

    #[test]
    fn numbers_differ() {
        let mut numbers = Vec::new();
        let mut nodes = vec![Node { path: "", first: 0, value: None, processor: 0 }];
        while let Some(node) = nodes.pop() {
            numbers.push(node.number());
            nodes.extend(node.children().into_iter().map(|(_, child)| child));
        }
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!((numbers.len(), all > FILES.len()), (all, true));
    }
}
