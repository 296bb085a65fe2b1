//! Names of open files and directories (placeholder until the VFS lands).

/// A place in the tree: mount and dentry.
#[derive(Clone, Debug)]
pub struct Path;
