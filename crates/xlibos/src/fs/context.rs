//! Root, working directory and umask of a task (placeholder until the VFS lands).

/// Shared by tasks with CLONE_FS.
#[derive(Debug)]
pub struct FsContext;
