//! What opening a FIFO or a device node means: hooks of the parts that implement them.

use super::fifo::Fifo;
use super::file::{FileOps, OpenFlags};
use super::inode::{Inode, InodeId, Kind, split_dev};
use super::path::Path;
use crate::{Errno, Result, Task};
use alloc::sync::{Arc, Weak};
use hashbrown::HashMap;
use machine::sync::Mutex;

/// The pipe behind a FIFO's name, shared by all who open it.
pub trait FifoNode: Send + Sync {
    /// Opens an end, waiting for the other one as fifo(7) says.
    ///
    /// # Errors
    /// ENXIO for a nonblocking writer without reader; INTERRUPTED.
    fn open(self: Arc<Self>, task: &Task, flags: OpenFlags) -> Result<Arc<dyn FileOps>>;
}

/// A driver of character devices, by major number.
pub trait CharDriver: Send + Sync {
    /// Opens the device.
    ///
    /// # Errors
    /// ENXIO for an unknown minor number.
    fn open(&self, task: &Task, rdev: u64, flags: OpenFlags, path: &Path) -> Result<Arc<dyn FileOps>>;
}

static FIFOS: Mutex<Option<HashMap<InodeId, Weak<dyn FifoNode>>>> = Mutex::new(None);
static DRIVERS: Mutex<Option<HashMap<u32, Arc<dyn CharDriver>>>> = Mutex::new(None);

/// Registers the driver of a major number.
pub fn register_char_driver(major: u32, driver: Arc<dyn CharDriver>) {
    let old = DRIVERS.lock().get_or_insert_default().insert(major, driver);
    drop(old);
}

/// The FIFO's pipe. It lives as long as somebody holds it: its open ends do.
fn fifo(id: InodeId) -> Arc<dyn FifoNode> {
    let fresh = Fifo::make();
    let mut fifos = FIFOS.lock();
    let fifos = fifos.get_or_insert_default();
    if let Some(node) = fifos.get(&id).and_then(Weak::upgrade) {
        return node;
    }
    fifos.retain(|_, node| node.strong_count() > 0);
    fifos.insert(id, Arc::downgrade(&fresh));
    fresh
}

/// Opens what is neither a regular file nor a directory.
///
/// # Errors
/// ENXIO where nothing implements it; the implementation's.
pub(super) fn open_special(task: &Task, path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let inode: &Arc<dyn Inode> = path.inode();
    match Arc::clone(inode).open(flags) {
        Err(Errno::ENXIO) => {}
        other => return other,
    }
    match inode.kind() {
        Kind::Fifo => fifo(inode.id()).open(task, flags),
        Kind::CharDevice if path.mount.flags.no_devices => Err(Errno::EACCES),
        Kind::CharDevice => {
            let rdev = inode.stat()?.rdev;
            let driver = DRIVERS.lock().as_ref().and_then(|table| table.get(&split_dev(rdev).0).cloned());
            driver.ok_or(Errno::ENXIO)?.open(task, rdev, flags, path)
        }
        _ => Err(Errno::ENXIO),
    }
}
