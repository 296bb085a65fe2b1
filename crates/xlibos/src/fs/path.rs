//! Places in the tree: a mount and a dentry.

use super::dentry::Dentry;
use super::inode::Inode;
use super::mount::{self, Mount};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::epoch::pin;

/// A place in the tree.
#[derive(Clone, Debug)]
pub struct Path {
    /// The mount.
    pub mount: &'static Mount,
    /// The name within its file system.
    pub dentry: Arc<Dentry>,
}

impl PartialEq for Path {
    fn eq(&self, other: &Path) -> bool {
        core::ptr::eq(self.mount, other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }
}

impl Eq for Path {}

impl Path {
    /// The file.
    #[must_use]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// Another dentry of the same mount.
    #[must_use]
    pub fn with_dentry(&self, dentry: Arc<Dentry>) -> Path {
        Path { mount: self.mount, dentry }
    }

    /// What is seen here: the root of what is mounted on it, at the top.
    #[must_use]
    pub fn descend(self) -> Path {
        let mut path = self;
        let pin = pin();
        while let Some(mount) = mount::mounted_on(path.mount, &path.dentry, &pin) {
            path = mount.root_path();
        }
        path
    }

    /// The directory above; None at the root of the tree (and for files without a place).
    #[must_use]
    pub fn above(&self) -> Option<Path> {
        let mut path = self.clone();
        while Arc::ptr_eq(&path.dentry, &path.mount.root) {
            path = path.mount.place()?;
        }
        let parent = path.dentry.parent()?;
        Some(path.with_dentry(parent))
    }

    /// Inode number of what [`Path::above`] finds.
    #[must_use]
    pub fn number_above(&self) -> Option<u64> {
        if Arc::ptr_eq(&self.dentry, &self.mount.root) {
            return self.above().map(|above| above.inode().id().ino);
        }
        self.dentry.parent_id().map(|id| id.ino)
    }

    /// The absolute path as a process with this root sees it, with " (deleted)" behind the name of something removed.
    /// A place that the root does not reach is shown from the top of its tree.
    #[must_use]
    pub fn display(&self, root: &Path) -> Vec<u8> {
        let (mut text, _) = self.names_below(root);
        if self.dentry.is_removed() {
            text.extend_from_slice(b" (deleted)");
        }
        text
    }

    /// The absolute path, and whether the root was reached: getcwd(2).
    #[must_use]
    pub fn names_below(&self, root: &Path) -> (Vec<u8>, bool) {
        let mut names = Vec::new();
        let mut at = self.clone();
        let mut reached = true;
        while at != *root {
            if Arc::ptr_eq(&at.dentry, &at.mount.root) {
                let Some(place) = at.mount.place() else {
                    reached = false;
                    break;
                };
                at = place;
                continue;
            }
            let (parent, name) = at.dentry.place();
            let Some(parent) = parent else {
                // No place in any tree: the name is all there is ("pipe:[5]").
                return if names.is_empty() { (name.to_vec(), false) } else { (join(&names), false) };
            };
            names.push(name);
            at = at.with_dentry(parent);
        }
        (join(&names), reached)
    }
}

/// Joins names that are in the order from the last to the first.
fn join(names: &[super::dentry::Name]) -> Vec<u8> {
    if names.is_empty() {
        return b"/".to_vec();
    }
    let mut text = Vec::with_capacity(names.iter().map(|n| n.len() + 1).sum());
    for name in names.iter().rev() {
        text.push(b'/');
        text.extend_from_slice(name);
    }
    text
}
