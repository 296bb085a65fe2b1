//! Descriptor tables: dup(2), fcntl(2), close_range(2). Shared by tasks that share files (CLONE_FILES).

use super::file::File;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use machine::owned::{Look, Owned};

/// A descriptor number of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fd(pub i32);

/// Whether exec closes a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExec {
    /// FD_CLOEXEC.
    Close,
    /// Stays open.
    Keep,
}

impl OnExec {
    /// From the presence of a CLOEXEC flag.
    #[must_use]
    pub fn from_flag(close: bool) -> OnExec {
        if close { OnExec::Close } else { OnExec::Keep }
    }
}

#[derive(Clone, Debug)]
struct Slot {
    file: Arc<File>,
    on_exec: OnExec,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Option<Slot>>,
    /// No free slot lies below.
    first_free: usize,
}

impl Slots {
    #[inline]
    fn get(&self, fd: Fd) -> Result<&Slot> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        self.slots.get(index).and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    fn free_from(&self, lowest: usize, limit: usize) -> Result<usize> {
        let start = lowest.max(self.first_free);
        let index = (start..self.slots.len())
            .find(|&i| self.slots.get(i).is_some_and(Option::is_none))
            .unwrap_or(self.slots.len().max(start));
        if index < limit { Ok(index) } else { Err(Errno::EMFILE) }
    }

    /// Takes the new one, unless there is no place for it: it is not to end here.
    fn insert_from(&mut self, lowest: usize, limit: usize, new: &mut Option<Slot>) -> Result<Fd> {
        let index = self.free_from(lowest, limit)?;
        self.grow_to(index)?;
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = new.take();
        }
        if lowest <= self.first_free {
            self.first_free = index + 1;
        }
        i32::try_from(index).map(Fd).map_err(|_| Errno::EMFILE)
    }

    fn take(&mut self, fd: Fd) -> Result<Arc<File>> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let slot = self.slots.get_mut(index).and_then(Option::take).ok_or(Errno::EBADF)?;
        self.first_free = self.first_free.min(index);
        Ok(slot.file)
    }

    /// Makes the table long enough for an index.
    fn grow_to(&mut self, index: usize) -> Result<()> {
        if index < self.slots.len() {
            return Ok(());
        }
        let more = index + 1 - self.slots.len();
        let has_room = index < self.slots.capacity() || !machine::heap::is_short();
        if !has_room || self.slots.try_reserve(more).is_err() {
            return Err(Errno::EMFILE);
        }
        self.slots.resize(index + 1, None);
        Ok(())
    }
}

/// A descriptor table in its owner's hands, which does not change meanwhile.
#[derive(Debug)]
pub struct OwnFiles<'a>(&'a Slots);

impl OwnFiles<'_> {
    /// The file of a descriptor.
    ///
    /// # Errors
    /// EBADF.
    #[inline]
    pub fn get(&self, fd: Fd) -> Result<&File> {
        self.0.get(fd).map(|slot| &*slot.file)
    }
}

/// What a task does with its own table: the look at that is without a count, where no other task can replace it.
pub type OwnTable<'a> = Look<'a, Arc<FdTable>>;

/// A descriptor table. It shares no cache line with those of others, whose counts change.
#[repr(align(64))]
#[derive(Debug)]
pub struct FdTable {
    slots: Owned<Slots>,
    /// RLIMIT_NOFILE of the process.
    limit: AtomicU64,
    /// Tasks whose table it is. Who looks into /proc holds it as well, and is none of them.
    users: AtomicUsize,
}

impl FdTable {
    /// An empty table.
    #[must_use]
    pub fn new(limit: u64) -> Arc<FdTable> {
        Arc::new(FdTable {
            slots: Owned::new(Slots::default()),
            limit: AtomicU64::new(limit),
            users: AtomicUsize::new(0),
        })
    }

    /// A copy: fork(2).
    #[must_use]
    pub fn copy(&self) -> Arc<FdTable> {
        let copied = self.slots.read(|slots| Slots { slots: slots.slots.clone(), first_free: slots.first_free });
        let limit = AtomicU64::new(self.limit.load(Ordering::Relaxed));
        Arc::new(FdTable { slots: Owned::new(copied), limit, users: AtomicUsize::new(0) })
    }

    /// It is a task's from now on.
    pub fn enter(&self) {
        self.users.fetch_add(1, Ordering::AcqRel);
    }

    /// It is a task's no longer. True where it was nobody else's.
    #[must_use]
    pub fn exit(&self) -> bool {
        self.users.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether it is that of several tasks.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.users.load(Ordering::Acquire) > 1
    }

    /// Changes the limit (RLIMIT_NOFILE).
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The limit, in descriptors.
    #[must_use]
    pub fn limit(&self) -> usize {
        usize::try_from(self.limit.load(Ordering::Relaxed)).unwrap_or(usize::MAX).min(1 << 20)
    }

    /// The file of a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub fn get(&self, fd: Fd) -> Result<Arc<File>> {
        self.with(fd, |slot| Arc::clone(&slot.file))
    }

    /// The files of many descriptors, as they are at one moment.
    #[must_use]
    pub fn get_all(&self, fds: &[Fd]) -> Vec<Result<Arc<File>>> {
        self.slots.read(|slots| fds.iter().map(|fd| slots.get(*fd).map(|slot| Arc::clone(&slot.file))).collect())
    }

    /// FD_CLOEXEC of a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub fn on_exec(&self, fd: Fd) -> Result<OnExec> {
        self.with(fd, |slot| slot.on_exec)
    }

    fn with<T>(&self, fd: Fd, look: impl Fn(&Slot) -> T) -> Result<T> {
        self.slots.read(|slots| slots.get(fd).map(&look))
    }

    /// The table as it is for its owner, which looks at its task's; None for others.
    #[inline]
    pub fn look_below<'a>(&'a self, look: &'a Look<'_, Arc<FdTable>>) -> Option<OwnFiles<'a>> {
        self.slots.look_below(look).map(OwnFiles)
    }

    /// The calling thread is the only one that changes the table, while it lives and does not share it.
    pub fn claim(&self) {
        self.slots.claim();
    }

    /// The calling thread, whose the table was, leaves it to the next.
    pub fn leave(&self) {
        self.slots.leave();
    }

    /// Tasks will share the table: the calling thread's is no longer its own.
    pub fn share(&self) {
        self.slots.share();
    }

    /// Changes FD_CLOEXEC.
    ///
    /// # Errors
    /// EBADF.
    pub fn set_on_exec(&self, fd: Fd, on_exec: OnExec) -> Result<()> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        self.slots.change(|slots| {
            let slot = slots.slots.get_mut(index).and_then(Option::as_mut).ok_or(Errno::EBADF)?;
            slot.on_exec = on_exec;
            Ok(())
        })
    }

    /// Whether there is a descriptor for one more file: for calls that are refused before anything happens.
    ///
    /// # Errors
    /// EMFILE.
    pub fn check_room(&self) -> Result<()> {
        let limit = self.limit();
        self.slots.read(|slots| slots.free_from(0, limit)).map(|_| ())
    }

    /// Puts a file into the lowest free descriptor.
    ///
    /// # Errors
    /// EMFILE.
    pub fn insert(&self, file: Arc<File>, on_exec: OnExec) -> Result<Fd> {
        self.insert_from(0, file, on_exec)
    }

    /// As [`FdTable::insert`], for the task whose table it is.
    ///
    /// # Errors
    /// EMFILE.
    pub fn insert_own(table: OwnTable<'_>, file: Arc<File>, on_exec: OnExec) -> Result<Fd> {
        let limit = table.limit();
        let mut new = Some(Slot { file, on_exec });
        table.change_below(|table| &table.slots, |slots| slots.insert_from(0, limit, &mut new))
    }

    /// Puts a file into the lowest free descriptor from `lowest` on: F_DUPFD.
    ///
    /// # Errors
    /// EINVAL for a `lowest` beyond the limit, EMFILE.
    pub fn insert_from(&self, lowest: usize, file: Arc<File>, on_exec: OnExec) -> Result<Fd> {
        let limit = self.limit();
        if lowest > 0 && lowest >= limit {
            return Err(Errno::EINVAL);
        }
        let mut new = Some(Slot { file, on_exec });
        self.slots.change(|slots| slots.insert_from(lowest, limit, &mut new))
    }

    /// Puts a file into a given descriptor, and returns what was there: dup2(2).
    ///
    /// # Errors
    /// EBADF beyond the limit.
    pub fn replace(&self, fd: Fd, file: Arc<File>, on_exec: OnExec) -> Result<Option<Arc<File>>> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        if index >= self.limit() {
            return Err(Errno::EBADF);
        }
        let mut new = Some(Slot { file, on_exec });
        let swapped = self.slots.change(|slots| {
            slots.grow_to(index)?;
            let slot = slots.slots.get_mut(index).ok_or(Errno::EBADF)?;
            core::mem::swap(slot, &mut new);
            Ok(())
        });
        swapped.map(|()| new.map(|slot| slot.file))
    }

    /// Takes a descriptor out: close(2). The caller drops the file outside of all locks.
    ///
    /// # Errors
    /// EBADF.
    pub fn remove(&self, fd: Fd) -> Result<Arc<File>> {
        self.slots.change(|slots| slots.take(fd))
    }

    /// As [`FdTable::remove`], for the task whose table it is.
    ///
    /// # Errors
    /// EBADF.
    pub fn remove_own(table: OwnTable<'_>, fd: Fd) -> Result<Arc<File>> {
        table.change_below(|table| &table.slots, |slots| slots.take(fd))
    }

    /// Takes out all descriptors, for the end of who had the table for itself. Takes no memory.
    #[inline]
    pub fn take_all(&self) -> impl Iterator<Item = Arc<File>> + use<> {
        let slots = self.slots.change(|slots| core::mem::take(&mut slots.slots));
        slots.into_iter().flatten().map(|slot| slot.file)
    }

    /// Takes out all descriptors of a range that `choose` wants, for close_range(2), exec and exit.
    pub fn remove_where(&self, first: usize, last: usize, choose: impl Fn(OnExec) -> bool) -> Vec<Arc<File>> {
        self.slots.change(|slots| {
            let mut removed = Vec::new();
            let end = slots.slots.len().min(last.saturating_add(1));
            for index in first..end {
                let Some(slot) = slots.slots.get_mut(index) else { break };
                if slot.as_ref().is_some_and(|s| choose(s.on_exec)) {
                    removed.extend(slot.take().map(|s| s.file));
                    slots.first_free = slots.first_free.min(index);
                }
            }
            removed
        })
    }

    /// Marks all descriptors of a range close-on-exec: CLOSE_RANGE_CLOEXEC.
    pub fn mark_range(&self, first: usize, last: usize) {
        self.slots.change(|slots| {
            let end = slots.slots.len().min(last.saturating_add(1));
            for slot in slots.slots.iter_mut().take(end).skip(first).flatten() {
                slot.on_exec = OnExec::Close;
            }
        });
    }

    /// Open descriptors in order, for /proc/self/fd.
    #[must_use]
    pub fn collect(&self) -> Vec<(Fd, Arc<File>)> {
        self.slots.read(|slots| {
            let numbered = slots.slots.iter().enumerate();
            let fd = |(i, slot): (usize, &Option<Slot>)| {
                Some((Fd(i32::try_from(i).ok()?), Arc::clone(&slot.as_ref()?.file)))
            };
            numbered.filter_map(fd).collect()
        })
    }
}
