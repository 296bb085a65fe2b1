//! A lock that may be held while its owner sleeps (in a broker request): for changes of a directory.

use crate::wait::{Events, WaitQueue, wait_uninterruptible};
use core::sync::atomic::{AtomicBool, Ordering};
use machine::sync::Held;

/// The lock. It holds no data: what it serialises has leaf locks of its own.
#[derive(Debug, Default)]
pub struct SleepLock {
    held: AtomicBool,
    queue: WaitQueue,
}

/// Holds a [`SleepLock`] until dropped.
#[derive(Debug)]
pub struct SleepGuard<'a>(&'a SleepLock, Held);

impl SleepLock {
    /// A free lock.
    #[must_use]
    pub const fn new() -> SleepLock {
        SleepLock { held: AtomicBool::new(false), queue: WaitQueue::new() }
    }

    /// Takes the lock; signals do not end the wait.
    pub fn lock(&self) -> SleepGuard<'_> {
        // Before the lock is taken: whoever is killed in between must not leave it behind unseen.
        let held = Held::new();
        let take = || self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !take() {
            wait_uninterruptible(&self.queue, || take().then_some(()));
        }
        SleepGuard(self, held)
    }
}

impl Drop for SleepGuard<'_> {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::Release);
        self.0.queue.wake_one(Events::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::SleepLock;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn only_one_holds_it() {
        let shared = Arc::new((SleepLock::new(), AtomicU64::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    for _ in 0..2000 {
                        let _guard = shared.0.lock();
                        let seen = shared.1.load(Ordering::Relaxed);
                        shared.1.store(seen + 1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| assert!(t.join().is_ok()));
        assert_eq!(shared.1.load(Ordering::Relaxed), 8000);
    }
}
