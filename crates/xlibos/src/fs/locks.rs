//! Advisory locks: fcntl(2) record locks of processes and of open files, flock(2).
//!
//! A file's locks live in a table by its identity, from the first lock to the last. Locks: `TABLE` > a file's state;
//! `WAITS` is a leaf. A sleeper holds none.

use super::fd_table::FdTable;
use super::file::File;
use super::inode::InodeId;
use super::pseudo;
use crate::wait::{Events, WaitQueue, wait_until};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
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
#[derive(Default)]
struct FileLocks {
    held: Mutex<Held>,
    queue: WaitQueue,
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

static TABLE: Mutex<Option<HashMap<InodeId, Arc<FileLocks>>>> = Mutex::new(None);
/// How many files have locks: closing costs one load where there are none.
static LOCKED_FILES: AtomicUsize = AtomicUsize::new(0);
/// Which process waits for which: a circle is a deadlock.
static WAITS: Mutex<Option<HashMap<Owner, Owner>>> = Mutex::new(None);

fn locks_of(id: InodeId) -> Arc<FileLocks> {
    let mut table = TABLE.lock();
    let table = table.get_or_insert_default();
    let locks = Arc::clone(table.entry(id).or_default());
    LOCKED_FILES.store(table.len(), Ordering::Relaxed);
    locks
}

fn known_locks(id: InodeId) -> Option<Arc<FileLocks>> {
    if LOCKED_FILES.load(Ordering::Relaxed) == 0 {
        return None;
    }
    TABLE.lock().as_ref()?.get(&id).cloned()
}

/// Forgets a file without locks that nobody waits for.
fn forget_unlocked(id: InodeId, locks: Arc<FileLocks>) {
    let mut table = TABLE.lock();
    let Some(table) = table.as_mut() else { return };
    // Ours and the table's: nobody else is about to lock.
    let is_unused = Arc::strong_count(&locks) == 2 && {
        let held = locks.held.lock();
        held.records.is_empty() && held.whole.is_empty()
    };
    if is_unused {
        table.remove(&id);
        LOCKED_FILES.store(table.len(), Ordering::Relaxed);
    }
}

impl Held {
    fn blocker(&self, wanted: &Record) -> Option<Record> {
        self.records.iter().find(|record| record.conflicts(wanted)).copied()
    }

    /// Takes a range out of an owner's records.
    fn cut(&mut self, owner: Owner, start: u64, end: u64) {
        let mut kept = Vec::with_capacity(self.records.len() + 1);
        for record in self.records.drain(..) {
            if record.owner != owner || record.end < start || record.start > end {
                kept.push(record);
                continue;
            }
            if record.start < start {
                kept.push(Record { end: start - 1, ..record });
            }
            if record.end > end {
                kept.push(Record { start: end + 1, ..record });
            }
        }
        self.records = kept;
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
fn begin_wait(waiter: Owner, blocker: Owner) -> bool {
    let mut waits = WAITS.lock();
    let waits = waits.get_or_insert_default();
    let mut at = blocker;
    for _ in 0..=waits.len() {
        if at == waiter {
            return true;
        }
        match waits.get(&at) {
            Some(next) => at = *next,
            None => break,
        }
    }
    waits.insert(waiter, blocker);
    false
}

fn end_wait(waiter: Owner) {
    if let Some(waits) = WAITS.lock().as_mut() {
        waits.remove(&waiter);
    }
}

/// One attempt to take a record lock.
fn try_record(locks: &FileLocks, wanted: &Record) -> Result<(), Record> {
    let mut held = locks.held.lock();
    match held.blocker(wanted) {
        Some(blocker) => Err(blocker),
        None => {
            held.add(*wanted);
            Ok(())
        }
    }
}

/// F_SETLK, F_SETLKW and their open-file forms.
///
/// # Errors
/// EAGAIN, EDEADLK, ENOLCK, INTERRUPTED.
pub fn lock_record(file: &File, wanted: Record, patience: Patience) -> Result<()> {
    if machine::heap::is_short() {
        return Err(Errno::ENOLCK);
    }
    let id = pseudo::path_of(file).inode().id();
    let locks = locks_of(id);
    if matches!(wanted.owner, Owner::File(_)) {
        file.mark_locked();
    }
    let done = match try_record(&locks, &wanted) {
        Ok(()) => Ok(()),
        Err(_) if patience == Patience::Now => Err(Errno::EAGAIN),
        Err(_) => wait_for_record(&locks, &wanted),
    };
    // A lock that became weaker lets others in.
    locks.queue.wake(Events::all());
    forget_unlocked(id, locks);
    done
}

fn wait_for_record(locks: &FileLocks, wanted: &Record) -> Result<()> {
    let finds_deadlocks = matches!(wanted.owner, Owner::Process(_));
    let waited = wait_until(&[&locks.queue], None, || match try_record(locks, wanted) {
        Ok(()) => Some(Ok(())),
        Err(blocker) => {
            let is_circle = finds_deadlocks && begin_wait(wanted.owner, blocker.owner);
            is_circle.then_some(Err(Errno::EDEADLK))
        }
    });
    end_wait(wanted.owner);
    waited?.unwrap_or(Err(Errno::EAGAIN))
}

/// F_UNLCK of a range.
pub fn unlock_records(file: &File, owner: Owner, start: u64, end: u64) {
    let id = pseudo::path_of(file).inode().id();
    let Some(locks) = known_locks(id) else { return };
    locks.held.lock().cut(owner, start, end);
    locks.queue.wake(Events::all());
    forget_unlocked(id, locks);
}

/// F_GETLK: a lock that stands in the way.
#[must_use]
pub fn find_blocker(file: &File, wanted: &Record) -> Option<Record> {
    let locks = known_locks(pseudo::path_of(file).inode().id())?;
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
    let id = pseudo::path_of(file).inode().id();
    let locks = locks_of(id);
    file.mark_locked();
    let attempt = || {
        let mut held = locks.held.lock();
        let conflicts = |other: &Whole| kind == LockKind::Exclusive || other.kind == LockKind::Exclusive;
        let is_taken = held.whole.iter().any(|other| other.owner != me && conflicts(other));
        if is_taken {
            return None;
        }
        held.whole.retain(|other| other.owner != me);
        held.whole.push(Whole { owner: me, kind, pid });
        Some(())
    };
    if attempt().is_none() {
        locks.held.lock().whole.retain(|other| other.owner != me);
        locks.queue.wake(Events::all());
        let taken = match patience {
            Patience::Now => Err(Errno::EAGAIN),
            Patience::Wait => wait_until(&[&locks.queue], None, attempt).map(|_| ()),
        };
        forget_unlocked(id, locks);
        return taken;
    }
    locks.queue.wake(Events::all());
    Ok(())
}

/// LOCK_UN.
pub fn unlock_whole(file: &File) {
    let me = core::ptr::from_ref(file) as usize;
    let id = pseudo::path_of(file).inode().id();
    let Some(locks) = known_locks(id) else { return };
    locks.held.lock().whole.retain(|other| other.owner != me);
    locks.queue.wake(Events::all());
    forget_unlocked(id, locks);
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
    let table = TABLE.lock();
    let mut all = Vec::new();
    for (id, locks) in table.iter().flatten() {
        let held = locks.held.lock();
        all.extend(held.records.iter().map(|record| Shown { id: *id, record: *record, is_flock: false }));
        all.extend(held.whole.iter().map(|whole| {
            let owner = Owner::File(whole.owner);
            let record = Record { owner, pid: whole.pid, kind: whole.kind, start: 0, end: u64::MAX };
            Shown { id: *id, record, is_flock: true }
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{Held, LockKind, Owner, Record};

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
