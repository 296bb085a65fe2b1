//! Names and what they stand for, read below a pin without a lock: chains in a table of a power of two. Writers take turns.
//!
//! A name stays with what it stands for, or with the knowledge that it stands for nothing, until it is taken out: what it stands for is
//! changed where it lies.

use crate::epoch::{Counted, Pin, pin, retire};
use crate::sync::Mutex;
use abi::name::Name;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, Ordering};

const SMALLEST: usize = 8;

/// The map.
pub struct NameMap<T: Send + Sync + 'static> {
    /// Null until the first name.
    table: AtomicPtr<Table<T>>,
    /// How many names there are.
    count: Mutex<usize>,
}

struct Table<T> {
    chains: Box<[AtomicPtr<Entry<T>>]>,
}

struct Entry<T> {
    hash: u32,
    /// Of the name.
    len: u32,
    /// See [`first_word`].
    word: u64,
    name: Name,
    /// From `Arc::into_raw`; null for nothing. Changed by the writer.
    value: AtomicPtr<T>,
    next: AtomicPtr<Entry<T>>,
}

impl<T> Entry<T> {
    fn new(wanted: &Wanted<'_>, name: Name, value: Option<Arc<T>>, next: *mut Entry<T>) -> *mut Entry<T> {
        let (value, next) = (AtomicPtr::new(address_of(value)), AtomicPtr::new(next));
        let Wanted { hash, word, name: looked_for } = *wanted;
        let len = looked_for.len() as u32;
        Box::into_raw(Box::new(Entry { hash, len, word, name, value, next }))
    }

    /// What the name stands for. The caller has a pin, or is the writer, for all of `'a`.
    #[inline]
    fn value<'a>(&self) -> Option<Counted<'a, T>> {
        // SAFETY: from `Arc::into_raw`; what is replaced, or goes with its entry, is retired.
        unsafe { Counted::at(self.value.load(Ordering::SeqCst)) }
    }

    /// Changes what the name stands for, by the writer. Returns what it stood for, to be retired.
    fn replace(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        let old = self.value.load(Ordering::Relaxed);
        // One writer at a time; the barrier before pins are looked at is `retire`'s.
        self.value.store(address_of(value), Ordering::Release);
        // SAFETY: from `Arc::into_raw`, and its count was the entry's.
        (!old.is_null()).then(|| unsafe { Arc::from_raw(old) })
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        drop(self.replace(None));
    }
}

fn address_of<T>(value: Option<Arc<T>>) -> *mut T {
    value.map_or(core::ptr::null_mut(), |value| Arc::into_raw(value).cast_mut())
}

/// Entries that were taken out of their chains.
#[expect(clippy::vec_box, reason = "pins may still see them where they lie")]
struct Unlinked<T>(Vec<Box<Entry<T>>>);

impl<T> Table<T> {
    fn new(len: usize) -> Box<Table<T>> {
        let chains = (0..len).map(|_| AtomicPtr::new(core::ptr::null_mut())).collect();
        Box::new(Table { chains })
    }

    #[inline]
    fn chain(&self, hash: u32) -> &AtomicPtr<Entry<T>> {
        &self.chains[hash as usize & (self.chains.len() - 1)]
    }

    /// All entries. The caller has a pin, or is the writer.
    fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        self.chains.iter().flat_map(|chain| core::iter::successors(follow(chain), |entry| follow(&entry.next)))
    }
}

/// A name as it is looked for: one of at most eight bytes is known by its word and its length.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    name: &'a [u8],
    word: u64,
    hash: u32,
}

const SHORT: usize = 8;

impl<'a> Wanted<'a> {
    /// Of a name.
    #[inline]
    #[must_use]
    pub fn of(name: &'a [u8]) -> Wanted<'a> {
        Wanted::begins(name, first_word(name))
    }

    #[inline]
    fn begins(name: &'a [u8], word: u64) -> Wanted<'a> {
        let mut hash = mix(name.len() as u64, word);
        if name.len() > SHORT {
            let (words, _) = name.as_chunks::<SHORT>();
            let last = name.last_chunk::<SHORT>();
            hash = words.iter().skip(1).chain(last).fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        }
        Wanted { name, word, hash: hash as u32 }
    }

    /// Of the first name of a path that begins with one, and what is behind it, slashes too.
    #[inline]
    #[must_use]
    pub fn first_of(path: &'a [u8]) -> (Wanted<'a>, &'a [u8]) {
        let word = first_word(path);
        let found = slashes(word);
        if found != 0 {
            let bits = found.trailing_zeros() & !7;
            let (name, behind) = path.split_at((bits / 8) as usize);
            return (Wanted::begins(name, word & ((1 << bits) - 1)), behind);
        }
        let (name, behind) = path.split_at(name_len(path));
        (Wanted::begins(name, word), behind)
    }

    /// The name.
    #[inline]
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// Whether it is `.` or `..`.
    #[inline]
    #[must_use]
    pub fn is_dots(&self) -> bool {
        const DOT: u64 = 0x2e;
        matches!((self.name.len(), self.word), (1, DOT) | (2, 0x2e2e))
    }

    #[inline]
    fn is<T>(&self, entry: &Entry<T>) -> bool {
        let is_alike = entry.hash == self.hash && entry.word == self.word && entry.len as usize == self.name.len();
        is_alike && (self.name.len() <= SHORT || *entry.name == *self.name)
    }
}

/// The first eight bytes; of a shorter name all of them, and zeros behind. In a register: bytes that are stored one by one, and read as a
/// word, wait for their stores.
#[inline]
#[must_use]
pub fn first_word(name: &[u8]) -> u64 {
    if let Some(word) = name.first_chunk::<SHORT>() {
        return u64::from_le_bytes(*word);
    }
    // Bytes that are read twice lie at the same place both times.
    let len = name.len();
    if let (Some(low), Some(high)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << (len * 8 - 32);
    }
    let byte = |at: usize| name.get(at).map_or(0, |byte| u64::from(*byte) << (at * 8));
    byte(0) | byte(len / 2) | byte(len.saturating_sub(1))
}

/// The highest bit of each byte of eight that is a slash.
#[inline]
#[must_use]
pub fn slashes(bytes: u64) -> u64 {
    const SLASHES: u64 = 0x2f2f_2f2f_2f2f_2f2f;
    const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let word = bytes ^ SLASHES;
    !((word & LOW_BITS).wrapping_add(LOW_BITS) | word | LOW_BITS)
}

/// How long the first name of a path is.
#[inline]
#[must_use]
pub fn name_len(path: &[u8]) -> usize {
    let (words, rest) = path.as_chunks::<SHORT>();
    for (at, word) in words.iter().enumerate() {
        let found = slashes(u64::from_le_bytes(*word));
        if found != 0 {
            return at * SHORT + (found.trailing_zeros() / 8) as usize;
        }
    }
    let before = words.len() * SHORT;
    rest.iter().position(|b| *b == b'/').map_or(path.len(), |at| before + at)
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
fn follow<T>(link: &AtomicPtr<Entry<T>>) -> Option<&Entry<T>> {
    // SAFETY: null or from `Box::into_raw`; entries are retired after they were taken out.
    unsafe { link.load(Ordering::SeqCst).as_ref() }
}

impl<T> Drop for Table<T> {
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

impl<T: Send + Sync + 'static> Default for NameMap<T> {
    fn default() -> NameMap<T> {
        NameMap { table: AtomicPtr::new(core::ptr::null_mut()), count: Mutex::new(0) }
    }
}

impl<T: Send + Sync + 'static> Drop for NameMap<T> {
    fn drop(&mut self) {
        let table = *self.table.get_mut();
        if !table.is_null() {
            // SAFETY: from `Box::into_raw`, and nobody borrows `self`.
            drop(unsafe { Box::from_raw(table) });
        }
    }
}

/// What a name stood for before it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It was not there.
    Unknown,
    /// It stood for nothing.
    Nothing,
    /// For something.
    Something,
}

impl<T: Send + Sync + 'static> NameMap<T> {
    /// The table. The caller has a pin, or is the writer.
    #[inline]
    fn table(&self) -> Option<&Table<T>> {
        // SAFETY: null or from `Box::into_raw`; a table is retired after it was replaced.
        unsafe { self.table.load(Ordering::SeqCst).as_ref() }
    }

    /// What a name stands for: None where it is not there.
    #[inline]
    #[must_use]
    pub fn get<'a>(&'a self, wanted: &Wanted<'_>, _pin: &'a Pin) -> Option<Option<Counted<'a, T>>> {
        let mut at = follow(self.table()?.chain(wanted.hash));
        while let Some(entry) = at {
            if wanted.is(entry) {
                return Some(entry.value());
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

    /// Sets what a name stands for. Where it is not there yet `name` gives it as it is kept.
    pub fn set(&self, wanted: &Wanted<'_>, value: Option<Arc<T>>, name: impl FnOnce() -> Name) -> Before {
        let mut count = self.count.lock();
        let mut at = self.table().and_then(|table| follow(table.chain(wanted.hash)));
        while let Some(entry) = at {
            if wanted.is(entry) {
                let old = entry.replace(value);
                drop(count);
                // It may have locks of its own.
                return old.map_or(Before::Nothing, |old| {
                    retire(old);
                    Before::Something
                });
            }
            at = follow(&entry.next);
        }
        let outgrown = self.make_room(*count);
        if let Some(table) = self.table() {
            let head = table.chain(wanted.hash);
            // One writer at a time. Readers see all of the new one.
            let first = head.load(Ordering::Relaxed);
            head.store(Entry::new(wanted, name(), value, first), Ordering::Release);
            *count += 1;
        }
        drop(count);
        if let Some(table) = outgrown {
            retire(table);
        }
        Before::Unknown
    }

    /// Makes the table longer than there are names, by the writer, which makes all entries anew: seldom. Returns the old one.
    fn make_room(&self, count: usize) -> Option<Box<Table<T>>> {
        let len = self.table().map_or(0, |table| table.chains.len());
        if count < len {
            return None;
        }
        let new = Table::new((len * 4).max(SMALLEST));
        for entry in self.table().into_iter().flat_map(Table::entries) {
            let chain = new.chain(entry.hash);
            let wanted = Wanted { name: &entry.name, word: entry.word, hash: entry.hash };
            let value = entry.value().map(Counted::hold);
            let first = chain.load(Ordering::Relaxed);
            chain.store(Entry::new(&wanted, Name::clone(&entry.name), value, first), Ordering::Relaxed);
        }
        let old = self.table.swap(Box::into_raw(new), Ordering::SeqCst);
        // SAFETY: from `Box::into_raw`, and not the map's any more.
        (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
    }

    /// Takes out the names that are not to be kept.
    pub fn retain(&self, mut is_kept: impl FnMut(Option<Counted<'_, T>>) -> bool) {
        let mut count = self.count.lock();
        let mut unlinked = Unlinked(Vec::new());
        for chain in self.table().into_iter().flat_map(|table| &table.chains) {
            let mut link = chain;
            while let Some(entry) = follow(link) {
                if is_kept(entry.value()) {
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

    /// Whether something holds for what any name stands for.
    pub fn any(&self, holds: impl FnMut(Counted<'_, T>) -> bool) -> bool {
        let _pin = pin();
        self.table().into_iter().flat_map(Table::entries).filter_map(Entry::value).any(holds)
    }

    /// What all names stand for.
    #[must_use]
    pub fn values(&self) -> Vec<Arc<T>> {
        let _pin = pin();
        self.table().into_iter().flat_map(Table::entries).filter_map(Entry::value).map(Counted::hold).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Before, NameMap, Wanted, first_word, name_len};
    use crate::epoch::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn set<T: Send + Sync>(map: &NameMap<T>, name: &[u8], value: Option<T>) -> Before {
        map.set(&Wanted::of(name), value.map(Arc::new), || name.into())
    }

    fn get<T: Copy + Send + Sync>(map: &NameMap<T>, name: &[u8]) -> Option<Option<T>> {
        map.get(&Wanted::of(name), &pin()).map(|value| value.map(|value| *value))
    }

    #[test]
    fn names_are_found_replaced_and_taken_out() {
        let map = NameMap::default();
        let name = |i: u32| i.to_string().into_bytes();
        assert!((0..100).all(|i| set(&map, &name(i), Some(i)) == Before::Unknown));
        assert_eq!(set(&map, &name(7), Some(700)), Before::Something);
        assert_eq!(set(&map, &name(9), None), Before::Something);
        assert_eq!(set(&map, &name(9), None), Before::Nothing);
        map.retain(|value| value.is_none_or(|value| *value % 2 == 0));
        assert!((0..100).all(|i| get(&map, &name(i))
            == match i {
                7 => Some(Some(700)),
                9 => Some(None),
                i => (i % 2 == 0).then_some(Some(i)),
            }));
        assert_eq!(map.values().len(), 51);
        assert_eq!(set(&map, &name(9), Some(9)), Before::Nothing);
        assert_eq!(get(&map, &name(9)), Some(Some(9)));
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
            assert_eq!(set(&map, name, Some(value)), Before::Unknown);
        }
        for (value, name) in names.iter().enumerate() {
            assert_eq!(get(&map, name), Some(Some(value)));
        }
        assert_eq!(get(&map, b"a\0"), None);
    }

    #[test]
    fn the_first_name_of_a_path_is_the_one_before_a_slash() {
        for (len, rest) in (1..30).flat_map(|len| (0..12).map(move |rest| (len, rest))) {
            let name: Vec<u8> = (b'a'..).take(len).collect();
            let path = [&name[..], &b"/bcdefghijkl"[..rest]].concat();
            let (first, behind) = Wanted::first_of(&path);
            assert_eq!((first.name(), behind), path.split_at(len));
            let own = Wanted::of(&name);
            assert_eq!((first.word, first.hash, name_len(&path)), (own.word, own.hash, len));
        }
        let is_dots = |path: &[u8]| Wanted::first_of(path).0.is_dots();
        assert!(is_dots(b".") && is_dots(b"..") && is_dots(b"../a") && is_dots(b"./abcdefgh"));
        assert!(!is_dots(b"...") && !is_dots(b".a") && !is_dots(b"a") && !is_dots(b"..a/b") && !is_dots(b".\0"));
    }

    #[test]
    fn the_first_word_has_the_bytes_in_order() {
        for len in 0..12_usize {
            let name: Vec<u8> = (1..).take(len).collect();
            let mut bytes = [0; 8];
            let shown = len.min(8);
            bytes[..shown].copy_from_slice(&name[..shown]);
            assert_eq!(first_word(&name), u64::from_le_bytes(bytes));
        }
    }

    #[test]
    fn readers_find_what_stays_while_others_come_and_go() {
        let map = Arc::new(NameMap::default());
        set(&map, b"stays", Some(0));
        let ends = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (map, ends) = (Arc::clone(&map), Arc::clone(&ends));
                std::thread::spawn(move || {
                    while !ends.load(Ordering::Relaxed) {
                        assert_eq!(get(&map, b"stays"), Some(Some(0)));
                        assert!(matches!(get(&map, b"17"), None | Some(None | Some(17))));
                    }
                })
            })
            .collect();
        for turn in 0..200_u32 {
            (1..50_u32).for_each(|i| _ = set(&map, i.to_string().as_bytes(), Some(i)));
            if turn % 2 == 0 {
                (1..50_u32).for_each(|i| _ = set(&map, i.to_string().as_bytes(), None));
            } else {
                map.retain(|value| value.is_some_and(|value| *value == 0));
            }
        }
        ends.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| assert!(reader.join().is_ok()));
        assert_eq!(map.values().len(), 1);
    }
}
