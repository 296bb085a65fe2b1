//! One file in an epoll, and what its items share with the epoll.

use super::epoll::{EDGE, EXCLUSIVE, Epoll, Key, ONESHOT};
use super::fd_table::{Fd, OwnFiles};
use super::file::{CloseWatcher, File, FileOps};
use super::inode::kernel_dev;
use crate::wait::{Events, Observer, READABLE, WaitQueue};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use machine::sync::Mutex;

/// What is always told.
const ALWAYS: Events = Events::ERR.union(Events::HUP);
/// Bits of the interest that are events; a one-shot item that fired has none.
const EVENT_BITS: u32 = 0x0fff_ffff;

/// Ready list and sleepers. Apart from the epoll, so that an item that is notified never holds the epoll itself alive.
#[derive(Default)]
pub(super) struct Shared {
    ready: Mutex<VecDeque<Arc<Item>>>,
    pub(super) queue: WaitQueue,
}

impl Shared {
    /// The first ready item, and how many were ready with it. A level-triggered one goes to the end of the list: it most
    /// often is to be told again. Others go off it, and can be queued from then on. `own` are the calling thread's descriptors: what one
    /// of them tells at once needs no count of item and file, and no other lock than the list's.
    #[inline(always)]
    pub(super) fn next(&self, own: Option<&OwnFiles<'_>>) -> Option<(Next, usize)> {
        let mut ready = self.ready.lock();
        let (first, len) = (ready.front()?, ready.len());
        if let Some(report) = own.and_then(|own| first.report_at_hand(own)) {
            if len > 1 {
                ready.rotate_left(1);
            }
            return Some((Next::Told(report), len));
        }
        let item = ready.pop_front()?;
        if item.is_level() {
            ready.push_back(Arc::clone(&item));
        } else {
            item.is_queued.store(false, Ordering::SeqCst);
        }
        Some((Next::Item(item), len))
    }

    /// Takes an item off the list that had nothing to tell, unless it has by now: while it was queued, nobody queued it.
    fn retire(&self, item: &Item) {
        let mut ready = self.ready.lock();
        let at = ready.iter().rposition(|queued| core::ptr::eq(&**queued, item));
        let retired = at.and_then(|at| ready.remove(at));
        if retired.is_some() {
            item.is_queued.store(false, Ordering::SeqCst);
        }
        drop(ready);
        if item.has_events() {
            item.enqueue();
            // Who told of it may have found it queued, and woken one that looked too early.
            self.queue.wake_one(READABLE);
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.lock().is_empty()
    }

    pub(super) fn snapshot(&self) -> Vec<Arc<Item>> {
        self.ready.lock().iter().cloned().collect()
    }

    pub(super) fn clear(&self) {
        let items = core::mem::take(&mut *self.ready.lock());
        drop(items);
    }
}

/// What comes next of those that are ready.
pub(super) enum Next {
    /// An event of one that stays on the list.
    Told(Report),
    /// One to be asked.
    Item(Arc<Item>),
}

/// An event to be told.
pub(super) struct Report {
    pub(super) events: u32,
    pub(super) data: u64,
    /// The item's interest before.
    interest: u32,
}

/// A file in an epoll.
pub(super) struct Item {
    key: Key,
    file: Weak<File>,
    epoll: Weak<Epoll>,
    shared: Arc<Shared>,
    interest: AtomicU32,
    data: AtomicU64,
    is_queued: AtomicBool,
    is_removed: AtomicBool,
    me: Weak<Item>,
}

impl Item {
    pub(super) fn new(
        file: &Arc<File>,
        key: Key,
        epoll: &Weak<Epoll>,
        shared: &Arc<Shared>,
        (interest, data): (u32, u64),
    ) -> Arc<Item> {
        Arc::new_cyclic(|me| Item {
            key,
            file: Arc::downgrade(file),
            epoll: Weak::clone(epoll),
            shared: Arc::clone(shared),
            interest: AtomicU32::new(interest | ALWAYS.bits()),
            data: AtomicU64::new(data),
            is_queued: AtomicBool::new(false),
            is_removed: AtomicBool::new(false),
            me: Weak::clone(me),
        })
    }

    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.file.upgrade()
    }

    pub(super) fn interest(&self) -> u32 {
        self.interest.load(Ordering::SeqCst)
    }

    pub(super) fn change(&self, interest: u32, data: u64) {
        self.data.store(data, Ordering::SeqCst);
        self.interest.store(interest | ALWAYS.bits(), Ordering::SeqCst);
    }

    /// What /proc/PID/fdinfo says of it; None where its file has gone.
    pub(super) fn describe(&self, fd: i32) -> Option<String> {
        let file = self.file()?;
        let (interest, data, position) = (self.interest(), self.data.load(Ordering::SeqCst), file.current_position());
        let id = file.path().map(|path| path.inode().id());
        let (ino, dev) = id.map_or_else(|| (file.ops().stat().map_or(0, |stat| stat.ino), 0), |id| (id.ino, id.dev));
        let device = kernel_dev(dev);
        Some(format!(
            "tfd: {fd:8} events: {interest:8x} data: {data:16x}  pos:{position} ino:{ino:x} sdev:{device:x}\n"
        ))
    }

    /// Key under which the file's queue knows the item.
    fn observer_key(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }

    /// Begins to observe the file.
    pub(super) fn attach(&self, file: &Arc<File>) {
        let Some(me) = self.me.upgrade() else { return };
        file.watch_close(Weak::clone(&self.me) as Weak<dyn CloseWatcher>);
        if let Some(queue) = file.ops().wait_queue() {
            queue.observe(self.observer_key(), me);
        }
        self.check(file);
    }

    /// Ends observing.
    pub(super) fn detach(&self, ops: &dyn FileOps) {
        self.is_removed.store(true, Ordering::SeqCst);
        if let Some(queue) = ops.wait_queue() {
            queue.remove(self.observer_key());
        }
    }

    /// Queues the item where something holds already.
    pub(super) fn check(&self, file: &Arc<File>) {
        if !(file.poll() & self.wanted()).is_empty() {
            self.enqueue();
            self.shared.queue.wake_one(READABLE);
        }
    }

    /// Events that are told now; none for a one-shot item that fired.
    fn wanted(&self) -> Events {
        Events::from_bits_truncate(self.interest() & EVENT_BITS)
    }

    /// Told by its state alone, and as often as one asks.
    fn is_level(&self) -> bool {
        self.interest() & (EDGE | ONESHOT) == 0
    }

    fn enqueue(&self) {
        // Whoever found something to tell has made it known before it looks here.
        if self.is_queued.load(Ordering::SeqCst) || self.is_queued.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(me) = self.me.upgrade() {
            self.shared.ready.lock().push_back(me);
        }
    }

    /// Whether something is to be told.
    pub(super) fn has_events(&self) -> bool {
        if self.is_removed.load(Ordering::SeqCst) {
            return false;
        }
        self.file.upgrade().is_some_and(|file| file.poll().intersects(self.wanted()))
    }

    /// What a level-triggered item tells, if it does at once, and the calling thread has its file by the descriptor by which it was added:
    /// nobody else can take it away, and no count is needed.
    fn report_at_hand(&self, own: &OwnFiles<'_>) -> Option<Report> {
        let (data, interest) = (self.data.load(Ordering::SeqCst), self.interest());
        if interest & (EDGE | ONESHOT) != 0 || self.is_removed.load(Ordering::SeqCst) {
            return None;
        }
        // The item's own weak count keeps the address from another file.
        let file = own.get(Fd(self.key.1)).ok().filter(|file| core::ptr::from_ref(*file).addr() == self.key.0)?;
        let wanted = Events::from_bits_truncate(interest & EVENT_BITS);
        let events = file.ops().poll_at_hand(file)? & wanted;
        (!events.is_empty()).then_some(Report { events: events.bits(), data, interest })
    }

    /// What is to be told, and to whom; disarms a one-shot item. An item without goes off the list.
    pub(super) fn take_events(&self) -> Option<Report> {
        let found = if self.is_removed.load(Ordering::SeqCst) { None } else { self.file.upgrade() };
        let events = found.map_or(Events::empty(), |file| file.poll() & self.wanted());
        if events.is_empty() {
            if self.is_queued.load(Ordering::SeqCst) {
                self.shared.retire(self);
            }
            return None;
        }
        let data = self.data.load(Ordering::SeqCst);
        let interest = self.interest();
        if interest & ONESHOT != 0 {
            // Of several threads that saw the event, one tells it.
            let fired = interest & !EVENT_BITS;
            self.interest.compare_exchange(interest, fired, Ordering::SeqCst, Ordering::SeqCst).ok()?;
        }
        Some(Report { events: events.bits(), data, interest })
    }

    /// The event could not be told: it is kept, and a one-shot item is armed as before.
    pub(super) fn restore(&self, report: &Report) {
        let fired = report.interest & !EVENT_BITS;
        let _ = self.interest.compare_exchange(fired, report.interest, Ordering::SeqCst, Ordering::SeqCst);
        self.enqueue();
    }
}

impl Observer for Item {
    fn notify(&self, events: Events) -> bool {
        let wanted = self.wanted();
        if wanted.is_empty() || !events.intersects(wanted) || self.is_removed.load(Ordering::SeqCst) {
            return false;
        }
        self.enqueue();
        self.shared.queue.wake_one(READABLE)
    }

    fn is_exclusive(&self) -> bool {
        self.interest() & EXCLUSIVE != 0
    }
}

impl CloseWatcher for Item {
    fn file_closed(&self, ops: &dyn FileOps) {
        if self.is_removed.load(Ordering::SeqCst) {
            return;
        }
        self.detach(ops);
        if let Some(epoll) = self.epoll.upgrade() {
            epoll.forget(self.key);
        }
    }
}
