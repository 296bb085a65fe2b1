//! Root, working directory and umask: what clone(2) shares with CLONE_FS.

use super::path::Path;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use machine::epoch::{Pin, Shared, pin};

/// Shared by tasks with CLONE_FS.
#[derive(Debug)]
pub struct FsContext {
    root: Shared<Path>,
    cwd: Shared<Path>,
    umask: AtomicU32,
}

impl FsContext {
    /// A context.
    #[must_use]
    pub fn new(root: Path, cwd: Path, umask: u32) -> Arc<FsContext> {
        let (root, cwd) = (Shared::new(Arc::new(root)), Shared::new(Arc::new(cwd)));
        Arc::new(FsContext { root, cwd, umask: AtomicU32::new(umask & 0o777) })
    }

    /// A copy: fork(2), unshare(CLONE_FS).
    #[must_use]
    pub fn copy(&self) -> Arc<FsContext> {
        FsContext::new(self.root(), self.cwd(), self.umask())
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Path {
        self.root.get(&pin()).clone()
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(&self) -> Path {
        self.cwd.get(&pin()).clone()
    }

    /// The root directory, for a look.
    pub(super) fn root_at<'a>(&'a self, pin: &'a Pin) -> &'a Path {
        self.root.get(pin)
    }

    /// Whether a place is the root directory.
    #[must_use]
    pub fn is_root(&self, place: &Path) -> bool {
        self.root.get(&pin()) == place
    }

    /// The working directory, for a look.
    pub(super) fn cwd_at<'a>(&'a self, pin: &'a Pin) -> &'a Path {
        self.cwd.get(pin)
    }

    /// chroot(2).
    pub fn set_root(&self, root: Path) {
        self.root.set(Arc::new(root));
    }

    /// chdir(2).
    pub fn set_cwd(&self, cwd: Path) {
        self.cwd.set(Arc::new(cwd));
    }

    /// The mask of permission bits that new files do not get.
    #[must_use]
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// umask(2): returns the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        self.umask.swap(umask & 0o777, Ordering::Relaxed)
    }
}
