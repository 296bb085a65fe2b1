//! Mounts: one tree of them a container, made at its start and never unmade, so that who has a place counts nothing. The table's lock
//! is a leaf.

use super::dentry::Dentry;
use super::path::Path;
use crate::{Errno, Result};
use abi::config::MountFlags;
use alloc::boxed::Box;
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
    place: SetOnce<Path>,
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
type Mounted = HashMap<Key, &'static Mount>;
static MOUNTED: SetOnce<Shared<Mounted>> = SetOnce::new();
/// Who changes them takes turns.
static CHANGING: Mutex<()> = Mutex::new(());
/// All mounts in the order in which they were made.
static ALL: Mutex<Vec<&'static Mount>> = Mutex::new(Vec::new());

fn key(mount: &Mount, dentry: &Dentry) -> Key {
    (mount.id, core::ptr::from_ref(dentry) as usize)
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
    pub fn new(root: Arc<Dentry>, flags: MountFlags, source: &[u8]) -> &'static Mount {
        static NEXT: AtomicU32 = AtomicU32::new(20);
        Box::leak(Box::new(Mount {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            root,
            place: SetOnce::new(),
            read_only: AtomicBool::new(flags.read_only),
            flags,
            source: source.to_vec(),
        }))
    }

    /// The mount's root as a path.
    #[must_use]
    pub fn root_path(&'static self) -> Path {
        Path { mount: self, dentry: Arc::clone(&self.root) }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn place(&self) -> Option<Path> {
        self.place.get().cloned()
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
pub fn add_root(mount: &'static Mount) {
    ALL.lock().push(mount);
}

/// Mounts on a path.
pub fn attach(mount: &'static Mount, on: &Path) {
    mount.place.get_or_set(on.clone());
    on.dentry.count_mount();
    change(|mounted| _ = mounted.insert(key(on.mount, &on.dentry), mount));
    ALL.lock().push(mount);
}

/// What is mounted on exactly this place.
#[must_use]
pub fn mounted_on(mount: &Mount, dentry: &Dentry, pin: &Pin) -> Option<&'static Mount> {
    if !dentry.is_mountpoint() {
        return None;
    }
    MOUNTED.get()?.get(pin).get(&key(mount, dentry)).copied()
}

/// All mounts of the container, for /proc/mounts.
#[must_use]
pub fn list() -> Vec<&'static Mount> {
    ALL.lock().clone()
}
