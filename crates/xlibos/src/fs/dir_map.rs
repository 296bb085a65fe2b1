//! Entries of a directory in memory: by name, and in a stable order for listings that go on from a cookie.

use super::dentry::Name;
use super::order::Order;
use alloc::vec::Vec;
use core::ops::Deref;
use hashbrown::HashMap;

/// Names with what they stand for.
#[derive(Debug)]
pub(super) struct DirMap<T> {
    by_name: HashMap<Name, (u64, T)>,
    order: Order<Name>,
}

impl<T> Default for DirMap<T> {
    fn default() -> DirMap<T> {
        // Cookie 0 means "from the start", so no entry has it.
        DirMap { by_name: HashMap::new(), order: Order::starting_at(1) }
    }
}

impl<T> DirMap<T> {
    pub(super) fn get(&self, name: &[u8]) -> Option<&T> {
        self.by_name.get(name).map(|(_, value)| value)
    }

    /// The same, with the name as it is kept here.
    pub(super) fn get_named(&self, name: &[u8]) -> Option<(&Name, &T)> {
        self.by_name.get_key_value(name).map(|(name, (_, value))| (name, value))
    }

    /// Where a name is in the order.
    pub(super) fn cookie(&self, name: &[u8]) -> Option<u64> {
        self.by_name.get(name).map(|(at, _)| *at)
    }

    /// Adds or replaces; a replaced entry keeps its place in the order. Returns what was there.
    pub(super) fn insert<N: Deref<Target = [u8]> + Into<Name>>(&mut self, name: N, value: T) -> Option<T> {
        if let Some((_, slot)) = self.by_name.get_mut(&*name) {
            return Some(core::mem::replace(slot, value));
        }
        let name = name.into();
        let at = self.order.push(Name::clone(&name));
        self.by_name.insert(name, (at, value));
        None
    }

    /// There will be so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.by_name.reserve(more);
        self.order.reserve(more);
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<T> {
        let (at, value) = self.by_name.remove(name)?;
        self.order.remove(at);
        Some(value)
    }

    /// Takes entries out.
    pub(super) fn take(&mut self, mut is_taken: impl FnMut(&T) -> bool) -> Vec<T> {
        let taken = self.by_name.iter().filter(|(_, (_, value))| is_taken(value));
        let names: Vec<Name> = taken.map(|(name, _)| Name::clone(name)).collect();
        names.iter().filter_map(|name| self.remove(name)).collect()
    }

    /// All entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &T)> {
        self.by_name.iter().map(|(name, (_, value))| (name, value))
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Entries from a cookie on: (cookie of the entry behind, name, value).
    pub(super) fn from(&self, cookie: u64) -> impl Iterator<Item = (u64, &Name, &T)> {
        self.order.from(cookie).filter_map(|(at, name)| Some((at + 1, name, self.get(name)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::DirMap;

    #[test]
    fn a_listing_goes_on_behind_removed_entries() {
        let mut map = DirMap::default();
        for name in [b"a", b"b", b"c", b"d"] {
            map.insert(&name[..], ());
        }
        let second = map.from(0).nth(1).map(|(next, ..)| next).unwrap_or(0);
        map.remove(b"b");
        map.remove(b"c");
        let rest: Vec<_> = map.from(second).map(|(_, name, ())| name.to_vec()).collect();
        assert_eq!(rest, [b"d".to_vec()]);
    }
}
