//! Event polls: epoll(7).
//!
//! An item observes its file's wait queue; a notification puts it on its epoll's ready list, so that a wait looks at ready
//! items only. Items know files by weak references and go when the file's last descriptor does.
//!
//! Locks: the map of items > nothing; the ready list is a leaf, taken under wait queues' locks. [`NESTING`] is held while an
//! epoll is put into another, so that no loop can come to be.

use super::epoll_item::{Item, Next, Shared};
use super::file::{File, FileOps};
use crate::wait::{Deadline, Events, READABLE, WaitQueue, wait_exclusive};
use crate::{Errno, Result, Task};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use machine::sync::Mutex;

/// EPOLLEXCLUSIVE.
pub(super) const EXCLUSIVE: u32 = 1 << 28;
/// EPOLLWAKEUP: has no meaning here, and Linux drops it without CAP_BLOCK_SUSPEND.
const WAKEUP: u32 = 1 << 29;
/// EPOLLONESHOT.
pub(super) const ONESHOT: u32 = 1 << 30;
/// EPOLLET.
pub(super) const EDGE: u32 = 1 << 31;
/// What may go with EPOLLEXCLUSIVE: IN, OUT, ERR, HUP, WAKEUP, ET.
const EXCLUSIVE_ALLOWED: u32 = EXCLUSIVE | WAKEUP | EDGE | 0x1 | 0x4 | 0x8 | 0x10;
/// How deep epolls nest: EP_MAX_NESTS, and the file at the end.
const MAX_DEPTH: usize = 5;

static NESTING: Mutex<()> = Mutex::new(());

/// What epoll_ctl(2) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// EPOLL_CTL_ADD, with events and data.
    Add(u32, u64),
    /// EPOLL_CTL_DEL.
    Delete,
    /// EPOLL_CTL_MOD, with events and data.
    Modify(u32, u64),
}

/// A file's address and the descriptor by which it was added.
pub(super) type Key = (usize, i32);

/// An epoll instance.
pub struct Epoll {
    items: Mutex<BTreeMap<Key, Arc<Item>>>,
    shared: Arc<Shared>,
    /// Epolls that contain this one.
    parents: Mutex<Vec<Weak<Epoll>>>,
    me: Weak<Epoll>,
}

impl core::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Epoll({} items)", self.items.lock().len())
    }
}

impl Epoll {
    /// An empty instance.
    #[must_use]
    pub fn new() -> Arc<Epoll> {
        Arc::new_cyclic(|me| Epoll {
            items: Mutex::new(BTreeMap::new()),
            shared: Arc::new(Shared::default()),
            parents: Mutex::new(Vec::new()),
            me: Weak::clone(me),
        })
    }

    /// Changes interest in a file: epoll_ctl(2).
    ///
    /// # Errors
    /// EPERM for a file that cannot be waited for, EINVAL, EEXIST, ENOENT, ELOOP.
    pub fn control(&self, file: &Arc<File>, fd: i32, change: Change) -> Result<()> {
        if file.ops().wait_queue().is_none() {
            return Err(Errno::EPERM);
        }
        let key = (Arc::as_ptr(file).addr(), fd);
        match change {
            Change::Add(events, data) => self.add(file, key, events, data),
            Change::Delete => self.delete(file, key),
            Change::Modify(events, data) => self.modify(file, key, events, data),
        }
    }

    fn add(&self, file: &Arc<File>, key: Key, events: u32, data: u64) -> Result<()> {
        let inner = file.downcast::<Epoll>();
        let is_exclusive = events & EXCLUSIVE != 0;
        if is_exclusive && (events & !EXCLUSIVE_ALLOWED != 0 || inner.is_some()) {
            return Err(Errno::EINVAL);
        }
        let _nesting = inner.map(|_| NESTING.lock());
        if let Some(inner) = inner {
            self.check_nesting(inner)?;
        }
        let item = Item::new(file, key, &self.me, &self.shared, (events & !WAKEUP, data));
        {
            let mut items = self.items.lock();
            if items.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            items.insert(key, Arc::clone(&item));
        }
        if let Some(inner) = inner {
            inner.parents.lock().push(Weak::clone(&self.me));
        }
        item.attach(file);
        Ok(())
    }

    /// Refuses loops and chains that are too long. [`NESTING`] is held.
    fn check_nesting(&self, inner: &Epoll) -> Result<()> {
        if core::ptr::eq(self, inner) {
            return Err(Errno::EINVAL);
        }
        let below = inner.depth_below(self, MAX_DEPTH).ok_or(Errno::ELOOP)?;
        let above = self.depth_above(MAX_DEPTH).ok_or(Errno::ELOOP)?;
        if below + above > MAX_DEPTH { Err(Errno::ELOOP) } else { Ok(()) }
    }

    /// How many epolls deep this one is; None where `wanted` is in it, or it is deeper than `limit`.
    fn depth_below(&self, wanted: &Epoll, limit: usize) -> Option<usize> {
        if core::ptr::eq(self, wanted) || limit == 0 {
            return None;
        }
        let files: Vec<Arc<File>> = self.items.lock().values().filter_map(|item| item.file()).collect();
        let inner = files.iter().filter_map(|file| file.downcast::<Epoll>());
        let mut depth = 0;
        for epoll in inner {
            depth = depth.max(epoll.depth_below(wanted, limit - 1)?);
        }
        Some(depth + 1)
    }

    fn depth_above(&self, limit: usize) -> Option<usize> {
        let limit = limit.checked_sub(1)?;
        let parents: Vec<Arc<Epoll>> = {
            let mut parents = self.parents.lock();
            parents.retain(|parent| parent.strong_count() > 0);
            parents.iter().filter_map(Weak::upgrade).collect()
        };
        let mut depth = 0;
        for parent in &parents {
            depth = depth.max(parent.depth_above(limit)?);
        }
        Some(depth + 1)
    }

    fn delete(&self, file: &Arc<File>, key: Key) -> Result<()> {
        let item = self.items.lock().remove(&key).ok_or(Errno::ENOENT)?;
        item.detach(file.ops());
        if let Some(inner) = file.downcast::<Epoll>() {
            let mut parents = inner.parents.lock();
            if let Some(at) = parents.iter().position(|parent| parent.ptr_eq(&self.me)) {
                parents.swap_remove(at);
            }
        }
        Ok(())
    }

    fn modify(&self, file: &Arc<File>, key: Key, events: u32, data: u64) -> Result<()> {
        let item = self.items.lock().get(&key).cloned().ok_or(Errno::ENOENT)?;
        if (events | item.interest()) & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        item.change(events & !WAKEUP, data);
        item.check(file);
        Ok(())
    }

    /// The `nth` of the files that were added by a descriptor.
    pub fn target(&self, fd: i32, nth: u32) -> Option<Arc<File>> {
        let items = self.items.lock();
        let mut found = items.iter().filter(|(key, _)| key.1 == fd);
        found.nth(usize::try_from(nth).ok()?).and_then(|(_, item)| item.file())
    }

    /// The file of an item ended.
    pub(super) fn forget(&self, key: Key) {
        let item = self.items.lock().remove(&key);
        drop(item);
    }

    /// Hands up to `max` events that are ready to `emit`, without a wait; how many.
    ///
    /// # Errors
    /// What `emit` answered for the first.
    #[inline]
    pub fn look(&self, max: usize, mut emit: impl FnMut(u32, u64) -> Result<()>) -> Result<usize> {
        let count = self.collect(max, &mut emit)?;
        if count > 0 {
            self.pass_on();
        }
        Ok(count)
    }

    /// Waits for events and hands up to `max` of them to `emit`; how many. 0 at the deadline.
    ///
    /// # Errors
    /// INTERRUPTED; what `emit` answered for the first.
    pub fn wait(&self, max: usize, deadline: Deadline, mut emit: impl FnMut(u32, u64) -> Result<()>) -> Result<usize> {
        if deadline == Some(1) {
            return self.look(max, emit);
        }
        let found = wait_exclusive(&self.shared.queue, deadline, || match self.collect(max, &mut emit) {
            Ok(0) => None,
            other => Some(other),
        });
        // However the wait ended: one that was woken for us alone is passed on.
        self.pass_on();
        found?.unwrap_or(Ok(0))
    }

    /// Another one that waits is told where something is left.
    #[inline]
    fn pass_on(&self) {
        // Who sleeps has looked at the list before us, and counts since before that. While we waited we were in the queue ourselves.
        if self.shared.queue.has_waiters() && self.shared.has_ready() {
            self.shared.queue.wake_one(READABLE);
        }
    }

    fn collect(&self, max: usize, emit: &mut impl FnMut(u32, u64) -> Result<()>) -> Result<usize> {
        // What is queued meanwhile is for the next wait.
        let mut left = usize::MAX;
        let mut count = 0;
        while left > 0 && count < max {
            let Some((next, ready)) = self.next() else { break };
            left = left.min(ready) - 1;
            let (item, report) = match next {
                Next::Told(report) => (None, report),
                Next::Item(item) => match item.take_events() {
                    Some(report) => (Some(item), report),
                    None => continue,
                },
            };
            if let Err(errno) = emit(report.events, report.data) {
                if let Some(item) = item {
                    item.restore(&report);
                }
                return if count == 0 { Err(errno) } else { Ok(count) };
            }
            count += 1;
        }
        Ok(count)
    }

    #[inline]
    fn next(&self) -> Option<(Next, usize)> {
        match Task::current().and_then(|task| task.with_own_files(|own| self.shared.next(Some(own)))) {
            Some(next) => next,
            None => self.next_of_shared_table(),
        }
    }

    #[cold]
    fn next_of_shared_table(&self) -> Option<(Next, usize)> {
        self.shared.next(None)
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        let items = core::mem::take(&mut *self.items.lock());
        for item in items.values() {
            if let Some(file) = item.file() {
                item.detach(file.ops());
            }
        }
        self.shared.clear();
    }
}

impl FileOps for Epoll {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File) -> Events {
        let is_ready = self.shared.snapshot().iter().any(|item| item.has_events());
        if is_ready { READABLE } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.shared.queue)
    }

    fn tells_by_signal(&self) -> bool {
        false
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventpoll]".to_vec()
    }

    /// One line an item.
    fn describe_more(&self) -> Vec<u8> {
        let items: Vec<_> = self.items.lock().iter().map(|(key, item)| (key.1, Arc::clone(item))).collect();
        let line = |(fd, item): &(i32, Arc<Item>)| item.describe(*fd);
        items.iter().filter_map(line).collect::<String>().into_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, EDGE, EXCLUSIVE, Epoll, ONESHOT};
    use crate::fs::eventfd::{EventFile, Mode};
    use crate::fs::{File, FileOps, OpenFlags, pipe};
    use crate::uio::{Sink, Source};
    use crate::wait::READABLE;
    use crate::{Errno, Result};
    use std::sync::Arc;

    const IN: u32 = 1;
    const NOW: Option<u64> = Some(1);

    fn counter(value: u64) -> (Arc<EventFile>, Arc<File>) {
        let event = EventFile::new(value, Mode::Counter);
        (Arc::clone(&event), File::new(event, OpenFlags::RDWR | OpenFlags::NONBLOCK))
    }

    fn found(epoll: &Epoll, deadline: Option<u64>) -> Result<Vec<(u32, u64)>> {
        let mut events = Vec::new();
        epoll.wait(8, deadline, |bits, data| {
            events.push((bits, data));
            Ok(())
        })?;
        Ok(events)
    }

    #[test]
    fn level_is_told_until_it_ends() {
        let epoll = Epoll::new();
        let (event, file) = counter(1);
        assert_eq!(epoll.control(&file, 3, Change::Add(IN, 7)), Ok(()));
        assert_eq!(epoll.control(&file, 3, Change::Add(IN, 7)), Err(Errno::EEXIST));
        assert_eq!(found(&epoll, NOW), Ok(vec![(IN, 7)]));
        assert_eq!(found(&epoll, NOW), Ok(vec![(IN, 7)]));
        assert_eq!(event.take(), Some(1));
        assert_eq!(found(&epoll, NOW), Ok(vec![]));
        assert_eq!(event.add(1), Ok(()));
        assert_eq!(found(&epoll, NOW), Ok(vec![(IN, 7)]));
    }

    #[test]
    fn an_edge_is_told_once_a_change() {
        let epoll = Epoll::new();
        let (event, file) = counter(1);
        assert_eq!(epoll.control(&file, 3, Change::Add(IN | EDGE, 7)), Ok(()));
        assert_eq!(found(&epoll, NOW), Ok(vec![(IN, 7)]));
        assert_eq!(found(&epoll, NOW), Ok(vec![]));
        assert_eq!(event.add(1), Ok(()));
        assert_eq!(found(&epoll, NOW), Ok(vec![(IN, 7)]));
        assert_eq!(epoll.control(&file, 3, Change::Modify(IN | EDGE, 8)), Ok(()));
        assert_eq!(found(&epoll, NOW), Ok(vec![(IN, 8)]));
    }

    #[test]
    fn one_shot_waits_to_be_armed_again() {
        let epoll = Epoll::new();
        let (event, file) = counter(1);
        assert_eq!(epoll.control(&file, 3, Change::Add(IN | ONESHOT, 7)), Ok(()));
        assert_eq!(found(&epoll, NOW), Ok(vec![(IN, 7)]));
        assert_eq!(event.add(1), Ok(()));
        assert_eq!(found(&epoll, NOW), Ok(vec![]));
        assert_eq!(epoll.control(&file, 3, Change::Modify(IN | ONESHOT, 7)), Ok(()));
        assert_eq!(found(&epoll, NOW), Ok(vec![(IN, 7)]));
    }

    #[test]
    fn an_item_goes_with_its_file() {
        let epoll = Epoll::new();
        let (event, file) = counter(1);
        assert_eq!(epoll.control(&file, 3, Change::Add(IN, 7)), Ok(()));
        let twin = Arc::clone(&file);
        drop(file);
        assert_eq!(found(&epoll, NOW), Ok(vec![(IN, 7)]));
        drop(twin);
        assert_eq!(found(&epoll, NOW), Ok(vec![]));
        assert!(!FileOps::wait_queue(&*event).is_some_and(crate::wait::WaitQueue::has_waiters));
        assert!(epoll.items.lock().is_empty());
    }

    #[test]
    fn a_sleeper_is_woken_by_a_pipe() {
        let epoll = Epoll::new();
        let (reader, writer) = pipe::new_pair(OpenFlags::empty());
        assert_eq!(epoll.control(&reader, 3, Change::Add(IN, 9)), Ok(()));
        let sleeper = Arc::clone(&epoll);
        let thread = std::thread::spawn(move || found(&sleeper, None));
        assert_eq!(writer.write(&mut Source::kernel(b"x")), Ok(1));
        assert!(matches!(thread.join(), Ok(Ok(events)) if events == [(IN, 9)]));
        let mut buffer = [0; 4];
        assert_eq!(reader.read(&mut Sink::kernel(&mut buffer)), Ok(1));
        drop(writer);
        assert_eq!(found(&epoll, NOW), Ok(vec![(0x10, 9)]));
    }

    #[test]
    fn epolls_nest_but_not_in_loops() {
        let epolls: Vec<Arc<Epoll>> = (0..7).map(|_| Epoll::new()).collect();
        let files: Vec<Arc<File>> =
            epolls.iter().map(|epoll| File::new(Arc::clone(epoll) as Arc<dyn FileOps>, OpenFlags::RDWR)).collect();
        let put = |outer: usize, inner: usize| epolls[outer].control(&files[inner], 3, Change::Add(IN, 1));
        assert_eq!([put(0, 1), put(1, 2), put(2, 3), put(3, 4)], [Ok(()); 4]);
        assert_eq!(put(2, 0), Err(Errno::ELOOP));
        assert_eq!(put(4, 5), Err(Errno::ELOOP));
        assert_eq!(put(6, 0), Err(Errno::ELOOP));
        let (event, file) = counter(0);
        assert_eq!(epolls[4].control(&file, 3, Change::Add(IN, 1)), Ok(()));
        assert!(files[0].poll().is_empty());
        assert_eq!(event.add(1), Ok(()));
        assert_eq!(files[0].poll(), READABLE);
        assert_eq!(found(&epolls[0], NOW), Ok(vec![(IN, 1)]));
    }

    #[test]
    fn exclusive_cannot_be_changed() {
        let epoll = Epoll::new();
        let (_event, file) = counter(1);
        assert_eq!(epoll.control(&file, 3, Change::Add(IN | EXCLUSIVE | ONESHOT, 7)), Err(Errno::EINVAL));
        assert_eq!(epoll.control(&file, 3, Change::Add(IN | EXCLUSIVE, 7)), Ok(()));
        assert_eq!(epoll.control(&file, 3, Change::Modify(IN, 7)), Err(Errno::EINVAL));
        assert_eq!(epoll.control(&file, 3, Change::Delete), Ok(()));
        assert_eq!(epoll.control(&file, 3, Change::Delete), Err(Errno::ENOENT));
    }
}
