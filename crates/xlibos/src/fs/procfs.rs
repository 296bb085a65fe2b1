//! /proc (placeholder until the file system lands: an empty directory).

use super::inode::Inode;
use crate::Result;
use alloc::sync::Arc;

/// Its root.
///
/// # Errors
/// ENOSPC.
pub fn new_root() -> Result<Arc<dyn Inode>> {
    super::init::tmpfs_root(0, 0o755)
}
