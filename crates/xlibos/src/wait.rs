//! Wait queues and sleeping.
//!
//! An object that threads wait for owns a [`WaitQueue`] and wakes it after its state changed (its own lock
//! released or held, either is right). A sleeper registers, looks at its condition, and only then sleeps, so no
//! wake-up is lost. A queue's lock is a leaf: nothing is called under it but `unpark`.

use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use machine::Cpu;
use machine::sync::{Mutex, Wake};

bitflags::bitflags! {
    /// Readiness, as poll(2) names it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Events: u32 {
        /// POLLIN.
        const IN = 0x001;
        /// POLLPRI.
        const PRI = 0x002;
        /// POLLOUT.
        const OUT = 0x004;
        /// POLLERR.
        const ERR = 0x008;
        /// POLLHUP.
        const HUP = 0x010;
        /// POLLNVAL.
        const NVAL = 0x020;
        /// POLLRDNORM.
        const RDNORM = 0x040;
        /// POLLRDBAND.
        const RDBAND = 0x080;
        /// POLLWRNORM.
        const WRNORM = 0x100;
        /// POLLWRBAND.
        const WRBAND = 0x200;
        /// POLLRDHUP.
        const RDHUP = 0x2000;
    }
}

/// Readable, in the two forms that poll(2) has.
pub const READABLE: Events = Events::IN.union(Events::RDNORM);
/// Writable.
pub const WRITABLE: Events = Events::OUT.union(Events::WRNORM);

/// What does not pass when somebody takes what there is.
const LASTING: Events = Events::ERR.union(Events::HUP);

/// Something other than a sleeping thread that wants to know: an epoll item.
pub trait Observer: Send + Sync {
    /// The object's state changed; `events` are those that may now hold. Called under the queue's lock: may
    /// only note it and wake other queues. Returns whether that woke somebody who will look.
    fn notify(&self, events: Events) -> bool;

    /// Whether it need not be told where another one of its kind woke somebody: EPOLLEXCLUSIVE.
    fn is_exclusive(&self) -> bool {
        false
    }
}

enum Waiter {
    Thread { cpu: &'static Cpu, exclusive: bool },
    Observer(Arc<dyn Observer>),
}

/// Sleepers and observers of one object.
#[derive(Default)]
pub struct WaitQueue {
    /// How many waiters there are: a wake without any costs one load.
    count: AtomicU32,
    waiters: Mutex<Vec<(u64, Waiter)>>,
}

impl core::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "WaitQueue({})", self.count.load(Ordering::Relaxed))
    }
}

impl WaitQueue {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> WaitQueue {
        WaitQueue { count: AtomicU32::new(0), waiters: Mutex::new(Vec::new()) }
    }

    /// Wakes every sleeper and tells every observer.
    pub fn wake(&self, events: Events) {
        self.wake_some(events, usize::MAX);
    }

    /// Tells every observer, wakes every sleeper that waits for a change, and one of those that
    /// wait to take something for themselves alone ([`wait_exclusive`]); whether there was one of those.
    pub fn wake_one(&self, events: Events) -> bool {
        self.wake_some(events, 1)
    }

    /// Whether there is somebody to be told of a change that the caller has made below a lock, which it still holds, and below which
    /// waiters look: who looks later sees the change, and who has looked before is counted. No barrier is needed.
    #[inline]
    #[must_use]
    pub fn has_waiters_locked(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// As [`WaitQueue::wake`], for who made the change by an atomic exchange: that is a full barrier, and another one costs as much
    /// again. (The release of a lock is none.)
    pub fn wake_exchanged(&self, events: Events) {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) != 0 {
            self.wake_waiters(events, usize::MAX);
        }
    }

    fn wake_some(&self, events: Events, exclusive: usize) -> bool {
        core::sync::atomic::fence(Ordering::SeqCst);
        self.count.load(Ordering::Relaxed) != 0 && self.wake_waiters(events, exclusive)
    }

    /// Whether one of at most so many exclusive sleepers was woken.
    fn wake_waiters(&self, events: Events, exclusive: usize) -> bool {
        let mut sleeper = None;
        let (mut exclusive_left, mut is_told) = (exclusive, false);
        let waiters = self.waiters.lock();
        for (_, waiter) in waiters.iter() {
            match waiter {
                Waiter::Observer(observer) if is_told && observer.is_exclusive() => {}
                Waiter::Observer(observer) => {
                    // What lasts is for all of them.
                    let is_for_one = observer.notify(events) && !events.intersects(LASTING);
                    is_told |= is_for_one && observer.is_exclusive();
                }
                Waiter::Thread { exclusive: true, .. } if exclusive_left == 0 => {}
                Waiter::Thread { cpu, exclusive } => {
                    exclusive_left -= usize::from(*exclusive);
                    sleeper.replace(*cpu).into_iter().for_each(machine::sync::unpark);
                }
            }
        }
        // Usually the only one: it finds the lock free.
        drop(waiters);
        sleeper.into_iter().for_each(machine::sync::unpark);
        exclusive_left < exclusive
    }

    /// Adds an observer under a key of its own (an address, usually).
    pub fn observe(&self, key: u64, observer: Arc<dyn Observer>) {
        self.add(key, Waiter::Observer(observer));
    }

    /// Removes what was added under a key.
    pub fn remove(&self, key: u64) {
        let mut waiters = self.waiters.lock();
        if let Some(at) = waiters.iter().position(|(k, _)| *k == key) {
            let removed = waiters.remove(at);
            self.count.fetch_sub(1, Ordering::SeqCst);
            drop(waiters);
            drop(removed);
        }
    }

    fn add(&self, key: u64, waiter: Waiter) {
        let mut waiters = self.waiters.lock();
        waiters.push((key, waiter));
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether anybody waits.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.count.load(Ordering::SeqCst) != 0
    }
}

/// Registrations of one sleep; removed when dropped.
struct Registered<'a> {
    queues: &'a [&'a WaitQueue],
    key: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.queues.iter().for_each(|queue| queue.remove(self.key));
    }
}

/// When a sleep ends at the latest: nanoseconds of CLOCK_MONOTONIC, or never.
pub type Deadline = Option<u64>;

/// Sleeps until `ready` gives something. `Ok(None)` means that the deadline passed.
///
/// # Errors
/// INTERRUPTED when something is pending for the thread; the call is then a restart point.
pub fn wait_until<T>(queues: &[&WaitQueue], deadline: Deadline, ready: impl FnMut() -> Option<T>) -> Result<Option<T>> {
    wait_with(queues, deadline, false, ready)
}

/// What a transfer that waited answers. As Linux: one with a time limit never begins again after a
/// handler, for the limit would.
///
/// # Errors
/// The transfer's, INTERRUPTED, INTERRUPTED_TIMED; EAGAIN at the limit.
pub fn end_of_wait<T>(waited: Result<Option<Result<T>>>, is_limited: bool) -> Result<T> {
    match waited {
        Ok(done) => done.unwrap_or(Err(Errno::EAGAIN)),
        Err(Errno::INTERRUPTED) if is_limited => Err(Errno::INTERRUPTED_TIMED),
        Err(errno) => Err(errno),
    }
}

/// Runs a wait whose deadline outlives a restart of the call: the first run computes it, an interrupted one keeps it.
///
/// # Errors
/// The wait's.
pub fn with_kept_deadline<T>(
    task: &Task,
    timeout_ns: Option<u64>,
    wait: impl FnOnce(Deadline) -> Result<T>,
) -> Result<T> {
    if machine::cpu::current().is_attempt() && timeout_ns != Some(0) {
        // The time begins with the call that waits.
        return wait(None);
    }
    // A zero timeout is a deadline that has passed: no clock needs to be read.
    let deadline = timeout_ns.map(|ns| if ns == 0 { 1 } else { task.deadline_of(ns) });
    let result = wait(deadline);
    if let (Err(Errno::INTERRUPTED), Some(at)) = (&result, deadline) {
        task.keep_deadline(at);
    }
    result
}

/// As [`wait_until`], for at most a length, which does not begin anew where the call was interrupted and goes on.
///
/// # Errors
/// As [`wait_until`].
pub fn wait_at_most<T>(
    queues: &[&WaitQueue],
    limit_ns: Option<u64>,
    ready: impl FnMut() -> Option<T>,
) -> Result<Option<T>> {
    let Some(task) = Task::current() else { return wait_until(queues, None, ready) };
    with_kept_deadline(task, limit_ns, |deadline| wait_until(queues, deadline, ready))
}

/// As [`wait_until`], for sleepers of which one is enough to wake ([`WaitQueue::wake_one`]).
///
/// # Errors
/// As [`wait_until`].
pub fn wait_exclusive<T>(queue: &WaitQueue, deadline: Deadline, ready: impl FnMut() -> Option<T>) -> Result<Option<T>> {
    wait_with(&[queue], deadline, true, ready)
}

fn wait_with<T>(
    queues: &[&WaitQueue],
    deadline: Deadline,
    exclusive: bool,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<Option<T>> {
    if let Some(value) = ready() {
        return Ok(Some(value));
    }
    let cpu = machine::cpu::current();
    if cpu.is_attempt() {
        return Err(Errno::INTERRUPTED);
    }
    let key = core::ptr::from_ref(cpu) as u64;
    machine::sync::clear_notification();
    let _registered = Registered { queues, key };
    queues.iter().for_each(|queue| queue.add(key, Waiter::Thread { cpu, exclusive }));
    loop {
        if let Some(value) = ready() {
            return Ok(Some(value));
        }
        match machine::sync::park(deadline) {
            Wake::Notified => {}
            Wake::TimedOut => return Ok(ready()),
            Wake::Interrupted => return ready().map_or(Err(Errno::INTERRUPTED), |value| Ok(Some(value))),
        }
    }
}

/// Nanoseconds after which an uninterruptible wait looks whether it is over: for the first time, and at last.
const FIRST_LOOK_NS: u64 = 2_000_000;
const LOOK_AGAIN_NS: u64 = 200_000_000;

/// Sleeps until `ready` gives something; nothing else ends the wait. For short waits on the trusted side and on other
/// kernel paths, never on a guest.
pub fn wait_uninterruptible<T>(queue: &WaitQueue, mut ready: impl FnMut() -> Option<T>) -> T {
    let cpu = machine::cpu::current();
    // The outer wait of this thread, if any, keeps its key: this one is told apart by one bit.
    let key = core::ptr::from_ref(cpu) as u64 | 1;
    let queues = [queue];
    let _registered = Registered { queues: &queues, key };
    queue.add(key, Waiter::Thread { cpu, exclusive: true });
    let mut patience = FIRST_LOOK_NS;
    let value = loop {
        if let Some(value) = ready() {
            break value;
        }
        // Whom a wake-up met may have been killed since, and has passed nothing on; and a lock that was given back just when it was
        // asked for knows of nobody who waits.
        let again = machine::clock::monotonic_ns().saturating_add(patience);
        let _ = machine::sync::park_uninterruptible(Some(again));
        patience = (patience * 10).min(LOOK_AGAIN_NS);
    };
    // A notification taken here may have been the outer wait's: it looks once more.
    machine::sync::unpark(cpu);
    value
}

#[cfg(test)]
mod tests {
    use super::{Events, WaitQueue, wait_until};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_sleeper_sees_every_change() {
        let queue = Arc::new(WaitQueue::new());
        let value = Arc::new(AtomicU32::new(0));
        let sleeper = {
            let (queue, value) = (Arc::clone(&queue), Arc::clone(&value));
            std::thread::spawn(move || {
                wait_until(&[&queue], None, || (value.load(Ordering::SeqCst) == 1000).then_some(()))
            })
        };
        for _ in 0..1000 {
            value.fetch_add(1, Ordering::SeqCst);
            queue.wake(Events::IN);
        }
        assert!(matches!(sleeper.join(), Ok(Ok(Some(())))));
        assert!(!queue.has_waiters());
    }

    #[test]
    fn a_deadline_in_the_past_ends_the_wait() {
        let queue = WaitQueue::new();
        assert_eq!(wait_until::<()>(&[&queue], Some(1), || None), Ok(None));
    }
}
