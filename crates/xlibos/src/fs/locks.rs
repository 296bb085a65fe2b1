//! Advisory locks: fcntl(2) record locks of processes and of open files, flock(2).
//!
//! A file's locks are kept by the open files through which they were asked for, and found by others in a table by the file's
//! identity: no lock outlives the last of those, for a close takes away what its process or open file holds. Locks: a file's
//! state > `WAITS`; a part of the table is a leaf. A sleeper holds none.

use super::fd_table::FdTable;
use super::file::File;
use super::inode::InodeId;
use crate::wait::{Events, WaitQueue, wait_until};
use crate::{Errno, Result, Task};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::convert::Infallible;
use core::sync::atomic::{AtomicUsize, Ordering};
use hashbrown::HashMap;
use machine::sync::Mutex;

/// Whose a lock is: a process's, which is its descriptor table, or an open file's; by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A process, by its descriptor table.
    Process(usize),
    /// An open file description.
    File(usize),
}

impl Owner {
    /// The process that uses a descriptor table.
    #[must_use]
    pub fn process(files: &FdTable) -> Owner {
        Owner::Process(core::ptr::from_ref(files) as usize)
    }

    /// An open file.
    #[must_use]
    pub fn file(file: &File) -> Owner {
        Owner::File(core::ptr::from_ref(file) as usize)
    }
}

/// Whether others may hold the lock too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// They may: F_RDLCK, LOCK_SH.
    Shared,
    /// They may not: F_WRLCK, LOCK_EX.
    Exclusive,
}

/// A record lock: bytes `start` to `end`, both included; an `end` of `u64::MAX` goes on for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub owner: Owner,
    /// For F_GETLK; -1 for an open file's lock.
    pub pid: i32,
    /// How.
    pub kind: LockKind,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
}

impl Record {
    fn overlaps(&self, other: &Record) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    fn conflicts(&self, other: &Record) -> bool {
        let exclusive = self.kind == LockKind::Exclusive || other.kind == LockKind::Exclusive;
        self.owner != other.owner && exclusive && self.overlaps(other)
    }
}

/// Whether a request waits for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until it is free.
    Wait,
    /// EAGAIN where it is taken.
    Now,
}

/// Locks of one file.
pub(super) struct FileLocks {
    id: InodeId,
    held: Mutex<Held>,
    queue: WaitQueue,
    /// How many wait for a record, or are about to.
    waiting: AtomicUsize,
}

impl FileLocks {
    fn new(id: InodeId) -> FileLocks {
        LOCKED_FILES.fetch_add(1, Ordering::Relaxed);
        FileLocks { id, held: Mutex::default(), queue: WaitQueue::new(), waiting: AtomicUsize::new(0) }
    }

    /// Changes what is held, unless it cannot be, and wakes those who wait for a change.
    fn change<E>(&self, how: impl FnOnce(&mut Held) -> Result<(), E>) -> Result<(), E> {
        let mut held = self.held.lock();
        let changed = how(&mut held);
        let is_awaited = changed.is_ok() && self.queue.has_waiters_locked();
        if changed.is_ok() && self.waiting.load(Ordering::Relaxed) != 0 {
            // Who was in somebody's way may be so no longer, and is not to look as if it were until that one has run.
            let here = core::ptr::from_ref(self) as usize;
            WAITS.lock().iter_mut().for_each(|waits| waits.retain(|_, wait| wait.file != here));
        }
        drop(held);
        if is_awaited {
            self.queue.wake(Events::all());
        }
        changed
    }

    fn release(&self, how: impl FnOnce(&mut Held)) {
        let Ok(()) = self.change::<Infallible>(|held| {
            how(held);
            Ok(())
        });
    }
}

impl Drop for FileLocks {
    fn drop(&mut self) {
        let mut part = part_of(self.id).0.lock();
        if part.get(&self.id).is_some_and(|known| known.strong_count() == 0) {
            part.remove(&self.id);
        }
        LOCKED_FILES.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Held {
    records: Vec<Record>,
    /// flock(2).
    whole: Vec<Whole>,
}

/// A lock of a whole file.
#[derive(Clone, Copy)]
struct Whole {
    /// The open file, by address.
    owner: usize,
    kind: LockKind,
    /// Who took it, for /proc/locks.
    pid: i32,
}

/// A part of the table, which shares no cache line with the others.
#[repr(align(64))]
struct Part(Mutex<BTreeMap<InodeId, Weak<FileLocks>>>);

const PARTS: usize = 16;
static TABLE: [Part; PARTS] = [const { Part(Mutex::new(BTreeMap::new())) }; PARTS];
/// Of how many files locks are kept: closing costs one load where there are none.
static LOCKED_FILES: AtomicUsize = AtomicUsize::new(0);
/// Which process waits for which: a circle is a deadlock.
static WAITS: Mutex<Option<HashMap<Owner, Wait>>> = Mutex::new(None);

/// Who is in the way, of whom nothing has changed since, and in which file: its locks, by address.
#[derive(Clone, Copy)]
struct Wait {
    blocker: Owner,
    file: usize,
}

fn part_of(id: InodeId) -> &'static Part {
    &TABLE[usize::try_from(id.ino).unwrap_or(0) % PARTS]
}

fn id_of(file: &File) -> InodeId {
    let of_object = || {
        let stat = file.ops().stat().unwrap_or_default();
        InodeId { dev: stat.dev, ino: stat.ino }
    };
    file.path().map_or_else(of_object, |path| path.inode().id())
}

/// The locks of an open file's file, kept by it from now on.
fn locks_of(file: &File) -> &FileLocks {
    if let Some(kept) = file.locks().get() {
        return kept;
    }
    let id = id_of(file);
    let fresh = Arc::new(FileLocks::new(id));
    let shared = {
        let mut part = part_of(id).0.lock();
        let known = part.get(&id).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            part.insert(id, Arc::downgrade(&fresh));
            Arc::clone(&fresh)
        })
    };
    // One of both is dropped, below no lock.
    drop(fresh);
    file.locks().get_or_set(shared)
}

/// The locks of an open file's file, if it has had any.
fn known_locks(file: &File) -> Option<Arc<FileLocks>> {
    if !are_any() {
        return None;
    }
    if let Some(kept) = file.locks().get() {
        return Some(Arc::clone(kept));
    }
    let id = id_of(file);
    part_of(id).0.lock().get(&id).and_then(Weak::upgrade)
}

impl Held {
    fn blocker(&self, wanted: &Record) -> Option<Record> {
        self.records.iter().find(|record| record.conflicts(wanted)).copied()
    }

    /// Takes a range out of an owner's records.
    fn cut(&mut self, owner: Owner, start: u64, end: u64) {
        let mut behind = None;
        self.records.retain_mut(|record| {
            if record.owner != owner || record.end < start || record.start > end {
                return true;
            }
            match (record.start < start, record.end > end) {
                (false, false) => return false,
                (false, true) => record.start = end + 1,
                (true, goes_on) => {
                    behind = goes_on.then(|| Record { start: end + 1, ..*record });
                    record.end = start - 1;
                }
            }
            true
        });
        // One record at most reaches beyond both ends.
        if let Some(behind) = behind {
            let is_before = |record: &Record| record.owner == owner && record.end < start;
            let place = self.records.iter().rposition(is_before).map_or(self.records.len(), |before| before + 1);
            self.records.insert(place, behind);
        }
    }

    /// An owner's records stand together, by their starts, where its first one came: F_GETLK tells of the first that is
    /// in the way.
    fn add(&mut self, wanted: Record) {
        let group = self.records.iter().position(|record| record.owner == wanted.owner).unwrap_or(self.records.len());
        self.cut(wanted.owner, wanted.start, wanted.end);
        let mut whole = wanted;
        // Neighbours of the same kind become one record, as F_GETLK shows.
        self.records.retain(|record| {
            let joins = record.owner == whole.owner
                && record.kind == whole.kind
                && record.start <= whole.end.saturating_add(1)
                && whole.start <= record.end.saturating_add(1);
            if joins {
                whole.start = whole.start.min(record.start);
                whole.end = whole.end.max(record.end);
            }
            !joins
        });
        let is_before = |record: &&Record| record.owner == whole.owner && record.start < whole.start;
        let place = group.saturating_add(self.records.iter().filter(is_before).count());
        self.records.insert(place.min(self.records.len()), whole);
    }
}

/// Notes that an owner waits for another; true where that closes a circle.
fn begin_wait(waiter: Owner, wait: Wait) -> bool {
    let mut waits = WAITS.lock();
    let waits = waits.get_or_insert_default();
    let mut at = wait.blocker;
    for _ in 0..=waits.len() {
        if at == waiter {
            return true;
        }
        match waits.get(&at) {
            Some(next) => at = next.blocker,
            None => break,
        }
    }
    waits.insert(waiter, wait);
    false
}

fn end_wait(waiter: Owner) {
    if let Some(waits) = WAITS.lock().as_mut() {
        waits.remove(&waiter);
    }
}

/// One attempt to take a record lock; what it comes to where somebody is in the way. A lock that became weaker lets others in.
fn attempt(locks: &FileLocks, wanted: &Record, in_the_way: impl FnOnce(Owner) -> Errno) -> Result<()> {
    locks.change(|held| match held.blocker(wanted) {
        Some(blocker) => Err(in_the_way(blocker.owner)),
        None => {
            held.add(*wanted);
            Ok(())
        }
    })
}

/// One attempt of who does not wait.
///
/// # Errors
/// EAGAIN.
fn try_record(locks: &FileLocks, wanted: &Record) -> Result<()> {
    attempt(locks, wanted, |_| Errno::EAGAIN)
}

/// F_SETLK, F_SETLKW and their open-file forms.
///
/// # Errors
/// EAGAIN, EDEADLK, ENOLCK, INTERRUPTED.
pub fn lock_record(file: &File, wanted: Record, patience: Patience) -> Result<()> {
    if machine::heap::is_short() {
        return Err(Errno::ENOLCK);
    }
    let locks = locks_of(file);
    if matches!(wanted.owner, Owner::File(_)) {
        file.mark_locked();
    }
    match try_record(locks, &wanted) {
        Err(Errno::EAGAIN) if patience == Patience::Wait => wait_for_record(locks, &wanted),
        done => done,
    }
}

fn wait_for_record(locks: &FileLocks, wanted: &Record) -> Result<()> {
    locks.waiting.fetch_add(1, Ordering::Relaxed);
    let waited = wait_until(&[&locks.queue], None, || match try_waiting(locks, wanted) {
        Err(Errno::EAGAIN) => None,
        decided => Some(decided),
    });
    // Before nobody looks any more: others would find a circle in which it no longer waits.
    end_wait(wanted.owner);
    locks.waiting.fetch_sub(1, Ordering::Relaxed);
    waited?.unwrap_or(Err(Errno::EAGAIN))
}

/// One attempt of who waits otherwise.
///
/// # Errors
/// EAGAIN where somebody is in the way, EDEADLK where that one waits for the caller.
fn try_waiting(locks: &FileLocks, wanted: &Record) -> Result<()> {
    attempt(locks, wanted, |blocker| {
        let finds_deadlocks = matches!(wanted.owner, Owner::Process(_));
        let wait = Wait { blocker, file: core::ptr::from_ref(locks) as usize };
        if finds_deadlocks && begin_wait(wanted.owner, wait) { Errno::EDEADLK } else { Errno::EAGAIN }
    })
}

/// F_UNLCK of a range.
pub fn unlock_records(file: &File, owner: Owner, start: u64, end: u64) {
    if let Some(locks) = known_locks(file) {
        locks.release(|held| held.cut(owner, start, end));
    }
}

/// F_GETLK: a lock that stands in the way.
#[must_use]
pub fn find_blocker(file: &File, wanted: &Record) -> Option<Record> {
    let locks = known_locks(file)?;
    locks.held.lock().blocker(wanted)
}

/// flock(2). A lock of the file that was there goes first: the change is not atomic, as its man page says.
///
/// # Errors
/// EAGAIN, ENOLCK, INTERRUPTED.
pub fn lock_whole(file: &File, kind: LockKind, patience: Patience) -> Result<()> {
    if machine::heap::is_short() {
        return Err(Errno::ENOLCK);
    }
    let me = core::ptr::from_ref(file) as usize;
    let pid = Task::current().map_or(0, |task| task.process.pid);
    let locks = locks_of(file);
    file.mark_locked();
    let attempt = || {
        let taken = locks.change(|held| {
            let conflicts = |other: &Whole| kind == LockKind::Exclusive || other.kind == LockKind::Exclusive;
            if held.whole.iter().any(|other| other.owner != me && conflicts(other)) {
                return Err(());
            }
            held.whole.retain(|other| other.owner != me);
            held.whole.push(Whole { owner: me, kind, pid });
            Ok(())
        });
        taken.ok()
    };
    if attempt().is_some() {
        return Ok(());
    }
    locks.release(|held| held.whole.retain(|other| other.owner != me));
    match patience {
        Patience::Now => Err(Errno::EAGAIN),
        Patience::Wait => wait_until(&[&locks.queue], None, attempt).map(|_| ()),
    }
}

/// LOCK_UN.
pub fn unlock_whole(file: &File) {
    let me = core::ptr::from_ref(file) as usize;
    if let Some(locks) = known_locks(file) {
        locks.release(|held| held.whole.retain(|other| other.owner != me));
    }
}

/// Whether any file is locked: looked at without a lock.
pub(super) fn are_any() -> bool {
    LOCKED_FILES.load(Ordering::Relaxed) != 0
}

/// A process closed a descriptor of the file: all its record locks of that file go.
pub(super) fn closed_by_process(file: &File, files: &FdTable) {
    if are_any() {
        unlock_records(file, Owner::process(files), 0, u64::MAX);
    }
}

/// The last descriptor of an open file has gone: its own locks go.
pub(super) fn file_ended(file: &File) {
    unlock_records(file, Owner::file(file), 0, u64::MAX);
    unlock_whole(file);
}

/// A lock of /proc/locks.
pub struct Shown {
    /// The file.
    pub id: InodeId,
    /// The record; flock locks have the whole file and an owner of kind `File`.
    pub record: Record,
    /// Whether it is of flock(2).
    pub is_flock: bool,
}

/// All locks, for /proc/locks.
#[must_use]
pub fn collect() -> Vec<Shown> {
    let files: Vec<Arc<FileLocks>> =
        TABLE.iter().flat_map(|part| part.0.lock().values().filter_map(Weak::upgrade).collect::<Vec<_>>()).collect();
    let mut all = Vec::new();
    for locks in files {
        let (id, held) = (locks.id, locks.held.lock());
        all.extend(held.records.iter().map(|record| Shown { id, record: *record, is_flock: false }));
        all.extend(held.whole.iter().map(|whole| {
            let owner = Owner::File(whole.owner);
            let record = Record { owner, pid: whole.pid, kind: whole.kind, start: 0, end: u64::MAX };
            Shown { id, record, is_flock: true }
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{Errno, FileLocks, Held, InodeId, LockKind, Owner, Record, end_wait, try_record, try_waiting};
    use core::sync::atomic::Ordering;

    fn record(owner: usize, kind: LockKind, start: u64, end: u64) -> Record {
        Record { owner: Owner::Process(owner), pid: 1, kind, start, end }
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let mut held = Held::default();
        held.add(record(1, LockKind::Exclusive, 0, u64::MAX));
        held.cut(Owner::Process(1), 10, 19);
        let ends: Vec<_> = held.records.iter().map(|r| (r.start, r.end)).collect();
        assert_eq!(ends, [(0, 9), (20, u64::MAX)]);
    }

    #[test]
    fn who_was_in_the_way_is_waited_for_no_longer() {
        // Owners that no other test has.
        let [one, other] = [71, 72].map(|owner| record(owner, LockKind::Exclusive, 0, 0));
        let [first, second] = [81, 82].map(|ino| FileLocks::new(InodeId { dev: 7, ino }));
        second.waiting.store(1, Ordering::Relaxed);
        assert_eq!([try_record(&second, &one), try_record(&first, &other)], [Ok(()); 2]);
        assert_eq!(try_waiting(&second, &other), Err(Errno::EAGAIN));
        // Each is in the other's way.
        assert_eq!(try_waiting(&first, &one), Err(Errno::EDEADLK));
        second.release(|held| held.cut(one.owner, 0, 0));
        // The other one has not run since.
        assert_eq!(try_waiting(&first, &one), Err(Errno::EAGAIN));
        assert_eq!(try_waiting(&second, &other), Ok(()));
        [one, other].iter().for_each(|record| end_wait(record.owner));
    }

    #[test]
    fn neighbours_of_one_kind_become_one() {
        let mut held = Held::default();
        held.add(record(1, LockKind::Shared, 0, 4));
        held.add(record(1, LockKind::Shared, 10, 14));
        held.add(record(1, LockKind::Shared, 5, 9));
        assert_eq!(held.records, [record(1, LockKind::Shared, 0, 14)]);
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let mut held = Held::default();
        held.add(record(1, LockKind::Shared, 0, 4));
        assert!(held.blocker(&record(2, LockKind::Shared, 0, 4)).is_none());
        assert!(held.blocker(&record(2, LockKind::Exclusive, 4, 8)).is_some());
        assert!(held.blocker(&record(2, LockKind::Exclusive, 5, 8)).is_none());
        assert!(held.blocker(&record(1, LockKind::Exclusive, 0, 4)).is_none());
    }
}
