//! Where a file of the host is: the names that are known of it.

use super::dentry::Name;
use super::hostfs::HostInode;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most other names of a file that are found out.
const MOST_OTHERS: usize = 64;

/// A directory and a name in it.
pub(super) struct Spot {
    pub(super) parent: Option<Arc<HostInode>>,
    pub(super) name: Name,
}

/// The name by which a file is reached, and others by which it can be where it has several.
pub(super) struct Place {
    pub(super) at: Spot,
    pub(super) is_removed: bool,
    others: Vec<Spot>,
}

impl Spot {
    pub(super) fn of(parent: Option<&Arc<HostInode>>, name: &Name) -> Spot {
        Spot { parent: parent.cloned(), name: Name::clone(name) }
    }

    pub(super) fn is(&self, directory: &HostInode, name: &[u8]) -> bool {
        *self.name == *name && self.parent.as_ref().is_some_and(|parent| core::ptr::eq(&**parent, directory))
    }
}

impl Place {
    pub(super) fn of(parent: Option<&Arc<HostInode>>, name: &Name) -> Place {
        Place { at: Spot::of(parent, name), is_removed: false, others: Vec::new() }
    }

    pub(super) fn count_others(&self) -> usize {
        self.others.len()
    }

    /// The file is not reached by its name for now: by the next one.
    pub(super) fn turn(&mut self) {
        if let Some(next) = self.others.pop() {
            self.others.insert(0, core::mem::replace(&mut self.at, next));
        }
    }

    /// The file has this name, too.
    pub(super) fn note(&mut self, directory: &Arc<HostInode>, name: &[u8]) {
        let is_known = self.at.is(directory, name) || self.others.iter().any(|spot| spot.is(directory, name));
        if !is_known && self.others.len() < MOST_OTHERS {
            self.others.push(Spot::of(Some(directory), &Name::from(name)));
        }
    }

    /// The file was found by this name: it is reached by it from here on, and by the one that it had where that leads to it still.
    pub(super) fn confirm(&mut self, directory: &Arc<HostInode>, name: &[u8]) -> Option<Spot> {
        let was_removed = core::mem::take(&mut self.is_removed);
        if self.at.is(directory, name) {
            return None;
        }
        let old = core::mem::replace(&mut self.at, Spot::of(Some(directory), &Name::from(name)));
        let has_room = self.others.len() < MOST_OTHERS;
        match self.others.iter_mut().find(|spot| spot.is(directory, name)) {
            Some(known) => Some(core::mem::replace(known, old)),
            None if has_room && !was_removed => {
                self.others.push(old);
                None
            }
            None => Some(old),
        }
    }

    /// The file has this name no longer. What is returned is dropped without the lock, here and below.
    pub(super) fn forget(&mut self, directory: &HostInode, name: &[u8]) -> Option<Spot> {
        if self.at.is(directory, name) {
            return self.leave();
        }
        let at = self.others.iter().position(|spot| spot.is(directory, name))?;
        Some(self.others.swap_remove(at))
    }

    /// The file is not found here: goes to another name, where one is known.
    pub(super) fn leave(&mut self) -> Option<Spot> {
        let next = self.others.pop()?;
        self.is_removed = false;
        Some(core::mem::replace(&mut self.at, next))
    }

    /// What was `old` has this name now.
    pub(super) fn rename(
        &mut self,
        old: (&HostInode, &[u8]),
        directory: &Arc<HostInode>,
        name: &[u8],
    ) -> [Option<Spot>; 2] {
        let one_too_many = self.confirm(directory, name);
        let at = self.others.iter().position(|spot| spot.is(old.0, old.1));
        [one_too_many, at.map(|at| self.others.swap_remove(at))]
    }
}
