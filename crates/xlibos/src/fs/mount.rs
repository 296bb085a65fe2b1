//! Mounts: one tree of them a container. The table's lock is a leaf.

use super::dentry::Dentry;
use super::path::Path;
use crate::{Errno, Result};
use abi::config::MountFlags;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hashbrown::HashMap;
use machine::epoch::{Pin, SetOnce, Shared, pin};
use machine::sync::Mutex;

/// A file system, or a part of one, in its place.
pub struct Mount {
    /// Number, as /proc/self/mountinfo shows it.
    pub id: u32,
    /// What is shown at the mount point.
    pub root: Arc<Dentry>,
    /// Where the mount is; None for a root and for mounts outside of the tree.
    place: Mutex<Option<Path>>,
    read_only: AtomicBool,
    /// MS_NOEXEC, MS_NOSUID, MS_NODEV; for MS_RDONLY ask [`Mount::is_read_only`].
    pub flags: MountFlags,
    /// What was mounted, as /proc/mounts shows it.
    pub source: Vec<u8>,
}

impl core::fmt::Debug for Mount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Mount({})", self.id)
    }
}

/// A mount point: number of the mount, address of the dentry (kept alive by the mount's place).
type Key = (u32, usize);

/// Mounts by mount point.
type Mounted = HashMap<Key, Arc<Mount>>;
static MOUNTED: SetOnce<Shared<Mounted>> = SetOnce::new();
/// Who changes them takes turns.
static CHANGING: Mutex<()> = Mutex::new(());
/// All mounts in the order in which they were made.
static ALL: Mutex<Vec<Arc<Mount>>> = Mutex::new(Vec::new());

fn key(mount: &Mount, dentry: &Arc<Dentry>) -> Key {
    (mount.id, Arc::as_ptr(dentry) as usize)
}

/// Changes the mount points.
fn change(how: impl FnOnce(&mut Mounted)) {
    let shared = MOUNTED.get().unwrap_or_else(|| MOUNTED.get_or_set(Shared::new(Arc::default())));
    let changing = CHANGING.lock();
    let mut mounted = Mounted::clone(shared.get(&pin()));
    how(&mut mounted);
    let old = shared.replace(Arc::new(mounted));
    drop(changing);
    drop(old);
}

impl Mount {
    /// A mount without a place.
    #[must_use]
    pub fn new(root: Arc<Dentry>, flags: MountFlags, source: &[u8]) -> Arc<Mount> {
        static NEXT: AtomicU32 = AtomicU32::new(20);
        Arc::new(Mount {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            root,
            place: Mutex::new(None),
            read_only: AtomicBool::new(flags.read_only),
            flags,
            source: source.to_vec(),
        })
    }

    /// The mount's root as a path.
    #[must_use]
    pub fn root_path(self: &Arc<Self>) -> Path {
        Path { mount: Arc::clone(self), dentry: Arc::clone(&self.root) }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn place(&self) -> Option<Path> {
        self.place.lock().clone()
    }

    /// Whether writes answer EROFS.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// MS_REMOUNT with or without MS_RDONLY.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }

    /// EROFS for a read-only mount.
    ///
    /// # Errors
    /// EROFS.
    pub fn check_writable(&self) -> Result<()> {
        if self.is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
    }
}

/// Makes `mount` the container's root mount in the list.
pub fn add_root(mount: &Arc<Mount>) {
    ALL.lock().push(Arc::clone(mount));
}

/// Mounts on a path.
pub fn attach(mount: &Arc<Mount>, on: &Path) {
    *mount.place.lock() = Some(on.clone());
    on.dentry.count_mount();
    change(|mounted| drop(mounted.insert(key(&on.mount, &on.dentry), Arc::clone(mount))));
    ALL.lock().push(Arc::clone(mount));
}

/// Takes a mount out of the tree: umount(2).
///
/// # Errors
/// EINVAL for a mount without a place; EBUSY while other mounts lie in it.
pub fn detach(mount: &Arc<Mount>) -> Result<()> {
    let place = mount.place().ok_or(Errno::EINVAL)?;
    if list().iter().any(|other| other.place().is_some_and(|p| Arc::ptr_eq(&p.mount, mount))) {
        return Err(Errno::EBUSY);
    }
    change(|mounted| drop(mounted.remove(&key(&place.mount, &place.dentry))));
    place.dentry.uncount_mount();
    ALL.lock().retain(|other| !Arc::ptr_eq(other, mount));
    *mount.place.lock() = None;
    Ok(())
}

/// What is mounted on exactly this place.
#[must_use]
pub fn mounted_on<'a>(mount: &Mount, dentry: &Arc<Dentry>, pin: &'a Pin) -> Option<&'a Arc<Mount>> {
    if !dentry.is_mountpoint() {
        return None;
    }
    MOUNTED.get()?.get(pin).get(&key(mount, dentry))
}

/// All mounts of the container, for /proc/mounts.
#[must_use]
pub fn list() -> Vec<Arc<Mount>> {
    ALL.lock().clone()
}
