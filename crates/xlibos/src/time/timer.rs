//! Timers that nobody sleeps for: the service process runs them.
//!
//! Its loop calls [`run_expired`] and parks until the deadline that it returns; [`set_waker`] says how it is woken when an earlier
//! one is armed. Locks: the queue is a leaf; targets are told without it.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use machine::sync::Mutex;

/// Told when its timer expires, by the service process.
pub trait TimerTarget: Send + Sync {
    /// The deadline has passed. May arm the timer again; must not sleep.
    fn expired(&self);
}

/// Deadline and identity: timers with one deadline run in the order in which they were made.
type Key = (u64, u64);

static QUEUE: Mutex<BTreeMap<Key, Weak<dyn TimerTarget>>> = Mutex::new(BTreeMap::new());
static WAKER: Mutex<Option<fn()>> = Mutex::new(None);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Deadline of a timer that is not armed.
const UNARMED: u64 = u64::MAX;

/// A timer. Dropping it disarms it.
pub struct Timer {
    target: Weak<dyn TimerTarget>,
    id: u64,
    /// Changed with the queue locked.
    deadline: AtomicU64,
}

impl core::fmt::Debug for Timer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Timer({:?})", self.deadline())
    }
}

impl Timer {
    /// A timer that is not armed. It does not keep its target alive.
    #[must_use]
    pub fn new(target: Weak<dyn TimerTarget>) -> Timer {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Timer { target, id, deadline: AtomicU64::new(UNARMED) }
    }

    /// A timer for a target that somebody else keeps alive.
    #[must_use]
    pub fn for_target(target: &Arc<dyn TimerTarget>) -> Timer {
        Timer::new(Arc::downgrade(target))
    }

    /// Sets the deadline, in nanoseconds of CLOCK_MONOTONIC, or none.
    pub fn arm(&self, deadline: Option<u64>) {
        let new = deadline.map_or(UNARMED, |at| at.min(UNARMED - 1));
        let is_first = {
            let mut queue = QUEUE.lock();
            let old = self.deadline.swap(new, Ordering::Relaxed);
            if old != UNARMED {
                queue.remove(&(old, self.id));
            }
            if new == UNARMED {
                return;
            }
            queue.insert((new, self.id), Weak::clone(&self.target));
            queue.first_key_value().is_some_and(|(first, _)| *first == (new, self.id))
        };
        let waker = *WAKER.lock();
        if let (true, Some(waker)) = (is_first, waker) {
            waker();
        }
    }

    /// The deadline, while it is armed and has not been run.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let deadline = self.deadline.load(Ordering::Relaxed);
        let is_queued = deadline != UNARMED && QUEUE.lock().contains_key(&(deadline, self.id));
        is_queued.then_some(deadline)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.arm(None);
    }
}

/// Says how the service process is woken.
pub fn set_waker(waker: fn()) {
    *WAKER.lock() = Some(waker);
}

/// Runs all timers whose deadline is not after `now`. Returns the next deadline.
pub fn run_expired(now: u64) -> Option<u64> {
    loop {
        let expired: Vec<Weak<dyn TimerTarget>> = {
            let mut queue = QUEUE.lock();
            let later = queue.split_off(&(now.saturating_add(1), 0));
            let expired = core::mem::replace(&mut *queue, later);
            if expired.is_empty() {
                return queue.first_key_value().map(|(key, _)| key.0);
            }
            expired.into_values().collect()
        };
        expired.iter().filter_map(Weak::upgrade).for_each(|target| target.expired());
    }
}

#[cfg(test)]
mod tests {
    use super::{Timer, TimerTarget, run_expired};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Count(AtomicU32);

    impl TimerTarget for Count {
        fn expired(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_timer_runs_once_at_its_deadline() {
        let count = Arc::new(Count::default());
        let target: Arc<dyn TimerTarget> = Arc::clone(&count) as Arc<dyn TimerTarget>;
        let (timer, dropped) = (Timer::for_target(&target), Timer::for_target(&target));
        // Other tests' timers are far in the future: deadlines here are small.
        timer.arm(Some(10));
        dropped.arm(Some(5));
        drop(dropped);
        let _ = run_expired(9);
        assert_eq!((count.0.load(Ordering::SeqCst), timer.deadline()), (0, Some(10)));
        let _ = run_expired(10);
        assert_eq!((count.0.load(Ordering::SeqCst), timer.deadline()), (1, None));
        timer.arm(Some(20));
        timer.arm(None);
        let _ = run_expired(30);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}
