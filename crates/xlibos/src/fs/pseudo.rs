//! Files without a name in the tree, seen as paths: pipes and sockets through /proc/self/fd, memfds.

use super::dentry::Dentry;
use super::file::{File, FileOps, OpenFlags};
use super::inode::{ANONYMOUS_DEV, Change, FileSystem, Inode, InodeId, Kind, Nodev, Stat};
use super::mount::Mount;
use super::path::Path;
use crate::Result;
use abi::config::MountFlags;
use alloc::sync::Arc;
use core::any::Any;
use machine::epoch::SetOnce;

/// The file system of what has none.
static PSEUDO: Nodev = Nodev { name: "pseudo", dev: ANONYMOUS_DEV, kind: 0x0904_1934, longest: i64::MAX as u64 };

/// The inode of an open file that has none.
struct PseudoInode {
    ops: Arc<dyn FileOps>,
    kind: Kind,
    id: InodeId,
}

impl Inode for PseudoInode {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn id(&self) -> InodeId {
        self.id
    }

    fn stat(&self) -> Result<Stat> {
        self.ops.stat()
    }

    fn file_system(&self) -> &dyn FileSystem {
        &PSEUDO
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        self.ops.set_attributes(change)
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        self.ops.reopen(flags)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The mount outside of the tree in which such files lie.
static MOUNT: SetOnce<&'static Mount> = SetOnce::new();

struct NoOps;

impl FileOps for NoOps {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A place without place for an inode; `name` is what is shown.
#[must_use]
pub fn detached_path(name: &[u8], inode: Arc<dyn Inode>) -> Path {
    let dentry = Dentry::detached(name, inode);
    let mount = *MOUNT.get().unwrap_or_else(|| {
        let id = InodeId { dev: ANONYMOUS_DEV, ino: 0 };
        let root = Dentry::root(Arc::new(PseudoInode { ops: Arc::new(NoOps), kind: Kind::File, id }));
        MOUNT.get_or_set(Mount::new(root, MountFlags::default(), b"none"))
    });
    Path { mount, dentry }
}

/// The place of an open file, made up where it has none.
#[must_use]
pub fn path_of(file: &File) -> Path {
    if let Some(path) = file.path() {
        return path.clone();
    }
    // Without a place it has an object of its own.
    let ops = file.held_ops().unwrap_or_else(|| Arc::new(NoOps));
    let stat = ops.stat().unwrap_or_default();
    let inode = PseudoInode { kind: stat.kind(), id: InodeId { dev: stat.dev, ino: stat.ino }, ops };
    detached_path(&file.ops().describe(), Arc::new(inode))
}
