//! Names of a directory of an [`overlay`](super::overlay): its own, and what is hidden of the lower one's.

use super::dentry::{Name, name_of};
use super::inode::{Inode, Kind};
use super::order::Order;
use alloc::sync::Arc;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

/// What a listing says of an added name.
pub(super) struct Listed {
    pub(super) name: Name,
    pub(super) ino: u64,
    pub(super) kind: Kind,
}

/// What there is of a name.
#[derive(Default)]
pub(super) struct Entry {
    /// Made or moved here, or a lower one that was looked up: it keeps its inode.
    pub(super) own: Option<Arc<dyn Inode>>,
    /// Where it is in the order, unless it is in the lower directory's listing.
    pub(super) added: Option<u64>,
    /// The lower name is gone or replaced.
    pub(super) is_hidden: bool,
    /// Generation of the lower directory's names at which it had none of this name.
    nothing_below: Option<u64>,
}

/// Names of a directory.
pub(super) struct Names {
    pub(super) entries: HashMap<Name, Entry>,
    /// Those that are not in the lower directory's listing, in the order in which they came.
    pub(super) order: Order<Listed>,
    /// How many names are paid for.
    pub(super) paid: u64,
    /// How many of those there are not yet: names that come and go are not paid for each time.
    pub(super) spare: u64,
    /// The name that was looked for in vain in the lower directory last, and at which generation of its names.
    nothing_below: Option<(Name, u64)>,
}

/// So many that are gone stay paid for.
const KEPT: u64 = 2;

/// A name's entry, made if there is none; `make` gives the name to keep.
fn entry_of<'a>(entries: &'a mut HashMap<Name, Entry>, name: &[u8], make: impl FnOnce() -> Name) -> &'a mut Entry {
    match entries.entry_ref(name) {
        EntryRef::Occupied(there) => there.into_mut(),
        EntryRef::Vacant(free) => free.insert_with_key(make(), Entry::default()),
    }
}

impl Default for Names {
    fn default() -> Names {
        Names { entries: HashMap::new(), order: Order::starting_at(0), paid: 0, spare: 0, nothing_below: None }
    }
}

impl Names {
    /// Puts an inode under a name, which keeps its place in the listing where it is replaced, and takes one that is paid for where it
    /// was not. Returns what was there.
    pub(super) fn add(&mut self, name: &[u8], inode: Arc<dyn Inode>, hides: bool) -> Option<Arc<dyn Inode>> {
        let listed = |name| Listed { name, ino: inode.id().ino, kind: inode.kind() };
        let entry = entry_of(&mut self.entries, name, || name_of(&*inode, name));
        if !entry.is_hidden && entry.added.is_none() {
            self.spare = self.spare.saturating_sub(1);
        }
        match entry.added.and_then(|at| self.order.get_mut(at)) {
            Some(there) => *there = listed(core::mem::take(&mut there.name)),
            None => entry.added = Some(self.order.push(listed(Name::from(name)))),
        }
        entry.is_hidden |= hides;
        if let Some((_, at)) = self.nothing_below.as_ref().filter(|(of, _)| **of == *name) {
            entry.nothing_below = Some(*at);
        }
        entry.own.replace(inode)
    }

    /// Takes a name out with all that there is of it. Returns what was there.
    pub(super) fn take(&mut self, name: &[u8]) -> Option<Arc<dyn Inode>> {
        let Entry { own, added, .. } = self.entries.remove(name)?;
        if let Some(at) = added {
            self.order.remove(at);
        }
        // One that was paid for.
        if self.spare < self.paid {
            self.spare += 1;
        }
        own
    }

    /// The same of a lower name: it stays that it is hidden.
    pub(super) fn hide(&mut self, name: &[u8]) -> Option<Arc<dyn Inode>> {
        let entry = entry_of(&mut self.entries, name, || Name::from(name));
        entry.is_hidden = true;
        if let Some(at) = entry.added.take() {
            self.order.remove(at);
        }
        entry.own.take()
    }

    /// How many names are paid for in vain: they are not any more.
    pub(super) fn take_spare(&mut self) -> u64 {
        let more = self.spare.saturating_sub(KEPT);
        (self.spare, self.paid) = (self.spare - more, self.paid - more);
        more
    }

    /// Takes out what a name of the lower directory led to.
    pub(super) fn forget_lower(&mut self, name: &[u8]) -> Option<Arc<dyn Inode>> {
        let entry = self.entries.get_mut(name)?;
        let own = entry.own.take();
        if !entry.is_hidden && entry.added.is_none() {
            self.entries.remove(name);
        }
        own
    }

    /// Notes that the lower directory has none of a name, at a generation of its names if it tells of changes.
    pub(super) fn note_nothing_below(&mut self, name: &[u8], generation: Option<u64>) {
        self.nothing_below = generation.map(|generation| (Name::from(name), generation));
    }

    /// Whether a name is there, whatever the lower directory has, and that has none, as is known for its names of this generation.
    pub(super) fn is_nothing_below(&self, name: &[u8], generation: Option<u64>) -> bool {
        let entry = self.entries.get(name).filter(|entry| entry.own.is_some() && entry.is_hidden);
        generation.is_some() && entry.is_some_and(|entry| entry.nothing_below == generation)
    }

    /// Whether a name is there, whatever the lower directory has.
    pub(super) fn has_for_itself(&self, name: &[u8]) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.own.is_some() && entry.is_hidden)
    }

    /// Whether a name is there.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.own.is_some())
    }

    pub(super) fn is_hidden(&self, name: &[u8]) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.is_hidden)
    }

    /// Whether a name still leads to what a look at it, without a lock since then, has found, and the lower one's name shows.
    pub(super) fn is_as_seen(&self, name: &[u8], own: &Arc<dyn Inode>) -> bool {
        let entry = self.entries.get(name).filter(|entry| !entry.is_hidden);
        entry.and_then(|entry| entry.own.as_ref()).is_some_and(|there| Arc::ptr_eq(there, own))
    }
}
