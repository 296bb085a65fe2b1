//! Names and what they stand for, read below a pin without a lock: chains in a table of a power of two. Writers take turns.

use crate::epoch::{Pin, pin, retire};
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, Ordering};

const SMALLEST: usize = 8;

/// The map.
pub struct NameMap<V: Clone + Send + Sync + 'static> {
    /// Null until the first name.
    table: AtomicPtr<Table<V>>,
    /// How many names there are.
    count: Mutex<usize>,
}

struct Table<V> {
    chains: Box<[AtomicPtr<Entry<V>>]>,
}

struct Entry<V> {
    hash: u64,
    /// See [`first_word`].
    word: u64,
    name: Arc<[u8]>,
    value: V,
    next: AtomicPtr<Entry<V>>,
}

/// Entries that were taken out of their chains.
struct Unlinked<V>(Vec<Box<Entry<V>>>);

impl<V> Table<V> {
    fn new(len: usize) -> Box<Table<V>> {
        let chains = (0..len).map(|_| AtomicPtr::new(core::ptr::null_mut())).collect();
        Box::new(Table { chains })
    }

    #[inline]
    fn chain(&self, hash: u64) -> &AtomicPtr<Entry<V>> {
        &self.chains[hash as usize & (self.chains.len() - 1)]
    }

    /// All entries. The caller has a pin, or is the writer.
    fn entries(&self) -> impl Iterator<Item = &Entry<V>> {
        self.chains.iter().flat_map(|chain| core::iter::successors(follow(chain), |entry| follow(&entry.next)))
    }
}

/// A name as it is looked for: one of at most eight bytes is known by its word and its length.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    name: &'a [u8],
    word: u64,
    hash: u64,
}

const SHORT: usize = 8;

impl<'a> Wanted<'a> {
    #[inline]
    fn of(name: &'a [u8]) -> Wanted<'a> {
        let word = first_word(name);
        let mut hash = mix(name.len() as u64, word);
        if name.len() > SHORT {
            let (words, _) = name.as_chunks::<SHORT>();
            let last = name.last_chunk::<SHORT>();
            hash = words.iter().skip(1).chain(last).fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        }
        Wanted { name, word, hash }
    }

    #[inline]
    fn is<V>(&self, entry: &Entry<V>) -> bool {
        let is_alike = entry.hash == self.hash && entry.word == self.word && entry.name.len() == self.name.len();
        is_alike && (self.name.len() <= SHORT || *entry.name == *self.name)
    }
}

/// The first eight bytes; of a shorter name all of them, in some order. In a register: bytes that are stored one by one, and read as a
/// word, wait for their stores.
#[inline]
fn first_word(name: &[u8]) -> u64 {
    if let Some(word) = name.first_chunk::<SHORT>() {
        return u64::from_le_bytes(*word);
    }
    if let (Some(low), Some(high)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32;
    }
    let byte = |at: usize| name.get(at).map_or(0, |byte| u64::from(*byte));
    byte(0) | byte(name.len() / 2) << 8 | byte(name.len().saturating_sub(1)) << 16
}

/// Multiplies eight bytes in, and folds the product.
#[inline]
fn mix(hash: u64, word: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(hash ^ word ^ FACTOR) * u128::from(FACTOR);
    product as u64 ^ (product >> 64) as u64
}

/// What a link leads to. The caller has a pin, or is the writer, or owns the table.
#[inline]
fn follow<V>(link: &AtomicPtr<Entry<V>>) -> Option<&Entry<V>> {
    // SAFETY: null or from `Box::into_raw`; entries are retired after they were taken out.
    unsafe { link.load(Ordering::SeqCst).as_ref() }
}

impl<V> Drop for Table<V> {
    fn drop(&mut self) {
        for chain in &mut self.chains {
            let mut at = *chain.get_mut();
            while !at.is_null() {
                // SAFETY: from `Box::into_raw`; a table owns the entries of its chains.
                let mut entry = unsafe { Box::from_raw(at) };
                at = *entry.next.get_mut();
            }
        }
    }
}

impl<V: Clone + Send + Sync + 'static> Default for NameMap<V> {
    fn default() -> NameMap<V> {
        NameMap { table: AtomicPtr::new(core::ptr::null_mut()), count: Mutex::new(0) }
    }
}

impl<V: Clone + Send + Sync + 'static> Drop for NameMap<V> {
    fn drop(&mut self) {
        let table = *self.table.get_mut();
        if !table.is_null() {
            // SAFETY: from `Box::into_raw`, and nobody borrows `self`.
            drop(unsafe { Box::from_raw(table) });
        }
    }
}

impl<V: Clone + Send + Sync + 'static> NameMap<V> {
    /// The table. The caller has a pin, or is the writer.
    #[inline]
    fn table(&self) -> Option<&Table<V>> {
        // SAFETY: null or from `Box::into_raw`; a table is retired after it was replaced.
        unsafe { self.table.load(Ordering::SeqCst).as_ref() }
    }

    /// What a name stands for.
    #[inline]
    #[must_use]
    pub fn get<'a>(&'a self, name: &[u8], _pin: &'a Pin) -> Option<&'a V> {
        let wanted = Wanted::of(name);
        let mut at = follow(self.table()?.chain(wanted.hash));
        while let Some(entry) = at {
            if wanted.is(entry) {
                return Some(&entry.value);
            }
            at = follow(&entry.next);
        }
        None
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self.count.lock() == 0
    }

    /// Adds or replaces; returns what was there.
    pub fn insert(&self, name: Arc<[u8]>, value: V) -> Option<V> {
        self.insert_and_tell(name, value, V::clone)
    }

    /// Adds or replaces; returns what is told of what was there.
    pub fn insert_and_tell<R>(&self, name: Arc<[u8]>, value: V, tell: impl FnOnce(&V) -> R) -> Option<R> {
        let mut count = self.count.lock();
        let outgrown = self.make_room(*count);
        let replaced = self.insert_locked(&mut count, name, value);
        drop(count);
        // What is dropped may have locks of its own.
        if let Some(table) = outgrown {
            retire(table);
        }
        let there = replaced.as_ref().map(|entry| tell(&entry.value));
        if let Some(entry) = replaced {
            retire(entry);
        }
        there
    }

    fn insert_locked(&self, count: &mut usize, name: Arc<[u8]>, value: V) -> Option<Box<Entry<V>>> {
        let Wanted { hash, word, .. } = Wanted::of(&name);
        let table = self.table()?;
        let fresh =
            |name, value, next| Box::into_raw(Box::new(Entry { hash, word, name, value, next: AtomicPtr::new(next) }));
        let mut link = table.chain(hash);
        while let Some(entry) = follow(link) {
            if Wanted::of(&name).is(entry) {
                // One writer at a time. Readers see all of the new one; the barrier before pins are looked at is `retire`'s.
                let old = link.load(Ordering::Relaxed);
                link.store(fresh(name, value, entry.next.load(Ordering::Relaxed)), Ordering::Release);
                // SAFETY: from `Box::into_raw`, and in no chain any more.
                return Some(unsafe { Box::from_raw(old) });
            }
            link = &entry.next;
        }
        let head = table.chain(hash);
        head.store(fresh(name, value, head.load(Ordering::Relaxed)), Ordering::Release);
        *count += 1;
        None
    }

    /// Makes the table longer than there are names, by the writer, which makes all entries anew: seldom. Returns the old one.
    fn make_room(&self, count: usize) -> Option<Box<Table<V>>> {
        let len = self.table().map_or(0, |table| table.chains.len());
        if count < len {
            return None;
        }
        let new = Table::new((len * 4).max(SMALLEST));
        for entry in self.table().into_iter().flat_map(Table::entries) {
            let chain = new.chain(entry.hash);
            let (hash, word, name, value) = (entry.hash, entry.word, Arc::clone(&entry.name), entry.value.clone());
            let next = AtomicPtr::new(chain.load(Ordering::SeqCst));
            chain.store(Box::into_raw(Box::new(Entry { hash, word, name, value, next })), Ordering::SeqCst);
        }
        let old = self.table.swap(Box::into_raw(new), Ordering::SeqCst);
        // SAFETY: from `Box::into_raw`, and not the map's any more.
        (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
    }

    /// Takes out the names that are not to be kept.
    pub fn retain(&self, mut is_kept: impl FnMut(&V) -> bool) {
        let mut count = self.count.lock();
        let mut unlinked = Unlinked(Vec::new());
        for chain in self.table().into_iter().flat_map(|table| &table.chains) {
            let mut link = chain;
            while let Some(entry) = follow(link) {
                if is_kept(&entry.value) {
                    link = &entry.next;
                    continue;
                }
                let old = link.swap(entry.next.load(Ordering::SeqCst), Ordering::SeqCst);
                // SAFETY: from `Box::into_raw`, and in no chain any more.
                unlinked.0.push(unsafe { Box::from_raw(old) });
            }
        }
        *count -= unlinked.0.len();
        drop(count);
        if !unlinked.0.is_empty() {
            retire(unlinked);
        }
    }

    /// Whether something holds for the value of any name.
    pub fn any(&self, holds: impl FnMut(&V) -> bool) -> bool {
        let _pin = pin();
        self.table().into_iter().flat_map(Table::entries).map(|entry| &entry.value).any(holds)
    }

    /// The values of all names.
    #[must_use]
    pub fn values(&self) -> Vec<V> {
        let _pin = pin();
        self.table().into_iter().flat_map(Table::entries).map(|entry| entry.value.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::NameMap;
    use crate::epoch::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn names_are_found_replaced_and_taken_out() {
        let map = NameMap::default();
        let name = |i: u32| i.to_string().into_bytes();
        assert!((0..100).all(|i| map.insert(name(i).into(), i).is_none()));
        assert_eq!(map.insert(name(7).into(), 700), Some(7));
        map.retain(|value| value % 2 == 0);
        let pin = pin();
        assert!((0..100).all(|i| map.get(&name(i), &pin).copied()
            == match i {
                7 => Some(700),
                i => (i % 2 == 0).then_some(i),
            }));
        assert_eq!(map.values().len(), 51);
        map.retain(|_| false);
        assert!(map.is_empty() && !map.any(|_| true));
    }

    #[test]
    fn names_that_differ_anywhere_are_different() {
        let map = NameMap::default();
        let names: Vec<Vec<u8>> = (0..40)
            .flat_map(|len| {
                let other = move |at: usize| (0..len).map(|i| if i == at { b'b' } else { b'a' }).collect();
                (0..=len).map(other)
            })
            .collect();
        for (value, name) in names.iter().enumerate() {
            assert_eq!(map.insert(name.as_slice().into(), value), None);
        }
        let pin = pin();
        for (value, name) in names.iter().enumerate() {
            assert_eq!(map.get(name, &pin), Some(&value));
        }
        assert_eq!(map.get(b"a\0", &pin), None);
    }

    #[test]
    fn readers_find_what_stays_while_others_come_and_go() {
        let map = Arc::new(NameMap::default());
        map.insert((*b"stays").into(), Arc::new(0));
        let ends = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (map, ends) = (Arc::clone(&map), Arc::clone(&ends));
                std::thread::spawn(move || {
                    while !ends.load(Ordering::Relaxed) {
                        let pin = pin();
                        assert_eq!(map.get(b"stays", &pin).map(|value| **value), Some(0));
                        let _ = map.get(b"17", &pin).map(|value| assert_eq!(**value, 17));
                    }
                })
            })
            .collect();
        for _ in 0..200 {
            (1..50_u32).for_each(|i| drop(map.insert(i.to_string().into_bytes().into(), Arc::new(i))));
            map.retain(|value| **value == 0);
        }
        ends.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| assert!(reader.join().is_ok()));
        assert_eq!(map.values().len(), 1);
    }
}
