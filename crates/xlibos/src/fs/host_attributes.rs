//! What is known of a host file's attributes: read without a lock, since whoever opens or looks at a file of many processes
//! would take a cache line from all of them.

use abi::broker::{Attributes, Time};
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use machine::sync::{Mutex, MutexGuard};

const WORDS: usize = 12;

/// Attributes in words. Changed with the lock held; the turn is odd while they are written.
#[derive(Debug)]
pub(super) struct Known {
    lock: Mutex<()>,
    turn: AtomicU32,
    words: [AtomicU64; WORDS],
}

/// The attributes, locked.
pub(super) struct Locked<'a> {
    known: &'a Known,
    attributes: Attributes,
    _lock: MutexGuard<'a, ()>,
}

impl Known {
    pub(super) fn new(attributes: &Attributes) -> Known {
        Known { lock: Mutex::new(()), turn: AtomicU32::new(0), words: to_words(attributes).map(AtomicU64::new) }
    }

    pub(super) fn get(&self) -> Attributes {
        let turn = self.turn.load(Ordering::Acquire);
        let attributes = self.load();
        fence(Ordering::Acquire);
        if turn & 1 == 0 && self.turn.load(Ordering::Relaxed) == turn { attributes } else { *self.lock() }
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        let lock = self.lock.lock();
        Locked { known: self, attributes: self.load(), _lock: lock }
    }

    fn load(&self) -> Attributes {
        from_words(core::array::from_fn(|at| self.words.get(at).map_or(0, |word| word.load(Ordering::Relaxed))))
    }
}

impl Deref for Locked<'_> {
    type Target = Attributes;

    fn deref(&self) -> &Attributes {
        &self.attributes
    }
}

impl Locked<'_> {
    /// Replaces them: others read the new ones from here on, before anything else that is stored afterwards.
    pub(super) fn set(&mut self, attributes: Attributes) {
        self.attributes = attributes;
        let Known { turn, words, .. } = self.known;
        let before = turn.load(Ordering::Relaxed);
        turn.store(before | 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in words.iter().zip(to_words(&attributes)) {
            word.store(value, Ordering::Relaxed);
        }
        // Even, also where the one before was killed while it wrote.
        turn.store((before | 1).wrapping_add(1), Ordering::Release);
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn low(word: u64) -> u32 {
    word as u32
}

fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

fn to_words(a: &Attributes) -> [u64; WORDS] {
    [
        a.device,
        a.inode,
        pair(a.mode, a.links),
        pair(a.uid, a.gid),
        a.rdev,
        a.size,
        a.blocks,
        a.atime.sec.cast_unsigned(),
        a.mtime.sec.cast_unsigned(),
        a.ctime.sec.cast_unsigned(),
        pair(a.atime.nsec, a.mtime.nsec),
        pair(a.ctime.nsec, 0),
    ]
}

fn from_words(words: [u64; WORDS]) -> Attributes {
    let [device, inode, mode_links, ids, rdev, size, blocks, atime, mtime, ctime, nsecs, ctime_nsec] = words;
    let time = |sec: u64, nsec| Time { sec: sec.cast_signed(), nsec };
    Attributes {
        device,
        inode,
        mode: low(mode_links),
        links: high(mode_links),
        uid: low(ids),
        gid: high(ids),
        rdev,
        size,
        blocks,
        atime: time(atime, low(nsecs)),
        mtime: time(mtime, high(nsecs)),
        ctime: time(ctime, low(ctime_nsec)),
    }
}

#[cfg(test)]
mod tests {
    use super::Known;
    use abi::broker::{Attributes, Time};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn attributes(number: u32) -> Attributes {
        let (time, wide) = (Time { sec: -i64::from(number), nsec: number }, u64::from(number));
        Attributes {
            device: wide,
            inode: wide,
            mode: number,
            links: number,
            uid: number,
            gid: number,
            rdev: wide,
            size: wide,
            blocks: wide,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    #[test]
    fn what_was_noted_is_what_is_read() {
        let known = Known::new(&attributes(3));
        assert_eq!(known.get(), attributes(3));
        known.lock().set(attributes(4));
        let mut locked = known.lock();
        let links = locked.links + 1;
        locked.set(Attributes { links, ..*locked });
        drop(locked);
        assert_eq!(known.get(), Attributes { links: 5, ..attributes(4) });
    }

    #[test]
    fn nobody_sees_half_of_a_change() {
        let (known, is_over) = (Arc::new(Known::new(&attributes(0))), Arc::new(AtomicBool::new(false)));
        let (reader, until) = (Arc::clone(&known), Arc::clone(&is_over));
        let reads = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let seen = reader.get();
                assert_eq!(seen, attributes(seen.mode));
            }
        });
        (0..100_000).for_each(|number| known.lock().set(attributes(number)));
        is_over.store(true, Ordering::Relaxed);
        assert!(reads.join().is_ok());
    }
}
