//! Mode, owner, links and times of a file in memory: they are read without a lock, and changed below one.

use super::acl::AclKind;
use super::inode::{Kind, Rights, Time, time_of};
use super::stamp;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use machine::sync::Mutex;

/// What they are at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u32,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
}

const WORDS: usize = 6;

impl Meta {
    #[inline]
    fn to_words(self) -> ([u64; WORDS], u32) {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let [atime, mtime, ctime] = [self.atime, self.mtime, self.ctime];
        let words = [
            pair(self.mode, self.nlink),
            pair(self.uid, self.gid),
            atime.sec.cast_unsigned(),
            mtime.sec.cast_unsigned(),
            ctime.sec.cast_unsigned(),
            pair(atime.nsec, mtime.nsec),
        ];
        (words, ctime.nsec)
    }

    #[inline]
    fn from_words([modes, owners, atime, mtime, ctime, nsecs]: [u64; WORDS], of_ctime: u32) -> Meta {
        let [[mode, nlink], [uid, gid], [of_atime, of_mtime]] =
            [modes, owners, nsecs].map(|word| [low(word), low(word >> 32)]);
        let time = |sec: u64, nsec| Time { sec: sec.cast_signed(), nsec };
        let [atime, mtime, ctime] = [time(atime, of_atime), time(mtime, of_mtime), time(ctime, of_ctime)];
        Meta { mode, uid, gid, nlink, atime, mtime, ctime }
    }
}

#[inline]
fn low(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0)
}

/// The attributes of one file. Who reads takes no lock: he looks whether they were being changed meanwhile, and takes it then, so that
/// he waits for no thread that is not running.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Attributes {
    words: [AtomicU64; WORDS],
    /// When the bytes were written last, in nanoseconds, as the words do not tell yet. 0 where they do.
    written_ns: AtomicU64,
    /// The last of the words.
    ctime_nsec: AtomicU32,
    /// Odd while the words change.
    turn: AtomicU32,
    /// Held by who changes them. A leaf.
    changing: Mutex<()>,
    /// The times were told since they changed last: the next change is stamped with another one.
    is_told: AtomicBool,
    kind: Kind,
    /// Which access control lists there are, by [`AclKind`]: most files have none.
    listed: [AtomicBool; 2],
}

impl Attributes {
    pub(super) fn new(kind: Kind, meta: Meta) -> Attributes {
        let (words, ctime_nsec) = meta.to_words();
        Attributes {
            words: words.map(AtomicU64::new),
            written_ns: AtomicU64::new(0),
            ctime_nsec: AtomicU32::new(ctime_nsec),
            turn: AtomicU32::new(0),
            changing: Mutex::new(()),
            is_told: AtomicBool::new(false),
            kind,
            listed: [const { AtomicBool::new(false) }; 2],
        }
    }

    /// What the file is.
    #[inline]
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether there is a list.
    #[inline]
    pub(super) fn is_listed(&self, kind: AclKind) -> bool {
        self.listed[kind as usize].load(Ordering::Acquire)
    }

    /// Notes whether there is a list.
    pub(super) fn set_listed(&self, kind: AclKind, is_listed: bool) {
        self.listed[kind as usize].store(is_listed, Ordering::Release);
    }

    /// What they are now.
    #[inline]
    pub(super) fn read(&self) -> Meta {
        let turn = self.turn.load(Ordering::Acquire);
        let meta = self.load();
        // What was loaded before is of no later turn.
        fence(Ordering::Acquire);
        if turn & 1 == 0 && self.turn.load(Ordering::Relaxed) == turn { meta } else { self.read_locked() }
    }

    /// Mode, with what the file is, and owner alone.
    #[inline]
    pub(super) fn rights(&self) -> Rights {
        let turn = self.turn.load(Ordering::Acquire);
        let [modes, owners] = [0, 1].map(|at| self.words[at].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if turn & 1 == 0 && self.turn.load(Ordering::Relaxed) == turn {
            Rights { mode: self.kind.mode_bits() | low(modes), uid: low(owners), gid: low(owners >> 32) }
        } else {
            let Meta { mode, uid, gid, .. } = self.read_locked();
            Rights { mode: self.kind.mode_bits() | mode, uid, gid }
        }
    }

    /// As [`Attributes::read`], for who shows the times.
    #[inline]
    pub(super) fn tell(&self) -> Meta {
        let meta = self.read();
        // Behind the look: a change in between is not told, and has to be seen by the next one.
        if !self.is_told.load(Ordering::Relaxed) {
            self.is_told.store(true, Ordering::Relaxed);
        }
        meta
    }

    #[cold]
    fn read_locked(&self) -> Meta {
        let _unchanged = self.changing.lock();
        self.load()
    }

    /// The words with the time of the last write.
    #[inline]
    fn load(&self) -> Meta {
        let words = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        let meta = Meta::from_words(words, self.ctime_nsec.load(Ordering::Relaxed));
        meta.written_at(self.written_ns.load(Ordering::Relaxed))
    }

    /// Changes them; `change` is also told the time of it.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Meta, Time) -> R) -> R {
        let _changing = self.changing.lock();
        let turn = self.turn.load(Ordering::Relaxed) | 1;
        self.turn.store(turn, Ordering::Relaxed);
        // The words are seen to change no sooner than that.
        fence(Ordering::Release);
        let mut meta = self.load();
        // Below the lock, and no older than what others have stamped it with.
        let now = time_of(stamp::no_older(self.stamp(), ns_of(meta.ctime)));
        let written = meta.mtime;
        let result = change(&mut meta, now);
        // The words say all of it, unless the time of the last write stays: an exchange costs as much as all else here.
        if self.written_ns.load(Ordering::Relaxed) != 0 && (meta.mtime != written || is_later(written, now)) {
            self.written_ns.store(0, Ordering::Relaxed);
        }
        let (words, ctime_nsec) = meta.to_words();
        for (word, new) in self.words.iter().zip(words) {
            word.store(new, Ordering::Relaxed);
        }
        self.ctime_nsec.store(ctime_nsec, Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Release);
        result
    }

    /// The bytes, or names, changed.
    #[inline]
    pub(super) fn touch(&self) {
        let now = self.stamp();
        // Another one's may be later. One of this tick is there already, mostly.
        let later = |last| Some(stamp::no_older(now, last)).filter(|new| *new != last);
        let _ = self.written_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// The time of a change.
    #[inline]
    fn stamp(&self) -> u64 {
        if self.is_told.load(Ordering::Relaxed) {
            self.is_told.store(false, Ordering::Relaxed);
            return stamp::fine_ns();
        }
        stamp::coarse_ns()
    }
}

impl Meta {
    #[inline]
    fn written_at(mut self, ns: u64) -> Meta {
        if ns != 0 {
            self.mtime = time_of(ns);
            if is_later(self.mtime, self.ctime) {
                self.ctime = self.mtime;
            }
        }
        self
    }
}

/// In nanoseconds; what lies before the clock's beginning is 0.
fn ns_of(time: Time) -> u64 {
    u64::try_from(time.sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(u64::from(time.nsec))
}

#[inline]
fn is_later(one: Time, other: Time) -> bool {
    (one.sec, one.nsec) > (other.sec, other.nsec)
}

#[cfg(test)]
mod tests {
    use super::{Attributes, Meta};
    use crate::fs::inode::{Kind, Time};
    use std::sync::Arc;

    fn meta(value: u32) -> Meta {
        let time = Time { sec: -i64::from(value), nsec: value };
        Meta { mode: value, uid: value, gid: value, nlink: value, atime: time, mtime: time, ctime: time }
    }

    #[test]
    fn what_is_read_is_of_one_moment() {
        let attributes = Arc::new(Attributes::new(Kind::File, meta(0)));
        let writer = {
            let attributes = Arc::clone(&attributes);
            std::thread::spawn(move || (1..100_000).for_each(|value| attributes.change(|is, _| *is = meta(value))))
        };
        let mut last = 0;
        while !writer.is_finished() {
            let seen = attributes.read();
            assert_eq!(seen, meta(seen.mode));
            assert!(seen.mode >= last);
            last = seen.mode;
        }
        assert!(writer.join().is_ok());
        assert_eq!(attributes.read(), meta(99_999));
    }

    #[test]
    fn times_that_several_change_never_go_back() {
        let attributes = Arc::new(Attributes::new(Kind::File, meta(0)));
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let attributes = Arc::clone(&attributes);
                std::thread::spawn(move || {
                    for _ in 0..100_000 {
                        match number % 2 {
                            0 => attributes.touch(),
                            _ => attributes.change(|meta, now| meta.ctime = now),
                        }
                    }
                })
            })
            .collect();
        let mut last = attributes.tell();
        while writers.iter().any(|writer| !writer.is_finished()) {
            let seen = attributes.tell();
            let times = |meta: &Meta| [meta.mtime, meta.ctime].map(|time| (time.sec, time.nsec));
            let is_back = times(&seen).iter().zip(times(&last)).any(|(now, before)| *now < before);
            assert!(!is_back && times(&seen)[0] <= times(&seen)[1], "{last:?} {seen:?}");
            last = seen;
        }
        assert!(writers.into_iter().all(|writer| writer.join().is_ok()));
    }

    #[test]
    fn a_write_is_newer_than_what_was_told_before() {
        let attributes = Attributes::new(Kind::File, meta(0));
        attributes.touch();
        for _ in 0..1000 {
            let before = attributes.tell().mtime;
            attributes.touch();
            let written = attributes.tell();
            assert!((before.sec, before.nsec) < (written.mtime.sec, written.mtime.nsec));
            // What is changed otherwise keeps the time of the write.
            attributes.change(|meta, now| meta.ctime = now);
            let changed = attributes.tell();
            assert_eq!(changed.mtime, written.mtime);
            assert!((written.ctime.sec, written.ctime.nsec) < (changed.ctime.sec, changed.ctime.nsec));
        }
    }
}
