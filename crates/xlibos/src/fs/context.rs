//! Root, working directory and umask: what clone(2) shares with CLONE_FS.

use super::path::Path;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use machine::sync::Mutex;

/// Shared by tasks with CLONE_FS.
#[derive(Debug)]
pub struct FsContext {
    root: Mutex<Path>,
    cwd: Mutex<Path>,
    umask: AtomicU32,
}

impl FsContext {
    /// A context.
    #[must_use]
    pub fn new(root: Path, cwd: Path, umask: u32) -> Arc<FsContext> {
        Arc::new(FsContext { root: Mutex::new(root), cwd: Mutex::new(cwd), umask: AtomicU32::new(umask & 0o777) })
    }

    /// A copy: fork(2), unshare(CLONE_FS).
    #[must_use]
    pub fn copy(&self) -> Arc<FsContext> {
        FsContext::new(self.root(), self.cwd(), self.umask())
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Path {
        self.root.lock().clone()
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(&self) -> Path {
        self.cwd.lock().clone()
    }

    /// chroot(2).
    pub fn set_root(&self, root: Path) {
        let old = core::mem::replace(&mut *self.root.lock(), root);
        drop(old);
    }

    /// chdir(2).
    pub fn set_cwd(&self, cwd: Path) {
        let old = core::mem::replace(&mut *self.cwd.lock(), cwd);
        drop(old);
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
