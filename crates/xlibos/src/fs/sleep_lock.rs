//! A lock that may be held while its owner sleeps (in a broker request): for changes of a directory, and for looks at one.

use crate::wait::{Events, WaitQueue, wait_uninterruptible};
use core::sync::atomic::{AtomicU64, Ordering};
use machine::cpu;
use machine::sync::{Held, give_back_wide};

/// The lock. It holds no data: what it serialises has leaf locks of its own.
#[derive(Debug, Default)]
pub struct SleepLock {
    /// Identity of the owner's thread, 0 for none; with [`HARMLESS`] for one that leaves nothing half done if it dies, and with
    /// [`AWAITED`].
    owner: AtomicU64,
    queue: WaitQueue,
}

const HARMLESS: u64 = 1 << 63;
/// Others wait. Whoever gives the lock back wakes one of them, who takes it with the bit again.
const AWAITED: u64 = 1 << 62;

/// Holds a [`SleepLock`] until dropped.
#[derive(Debug)]
pub struct SleepGuard<'a> {
    lock: &'a SleepLock,
    /// For a change: the container ends where the owner is killed.
    _held: Option<Held>,
}

impl SleepLock {
    /// A free lock.
    #[must_use]
    pub const fn new() -> SleepLock {
        SleepLock { owner: AtomicU64::new(0), queue: WaitQueue::new() }
    }

    /// Takes the lock for a change; signals do not end the wait.
    pub fn lock(&self) -> SleepGuard<'_> {
        let take = || {
            // Before the lock is taken: whoever is killed in between must not leave it behind unseen.
            let held = Held::new();
            self.try_take(0).then_some(held)
        };
        let held = take().unwrap_or_else(|| {
            self.wait(|| {
                let held = Held::new();
                self.try_take(AWAITED).then_some(held)
            })
        });
        SleepGuard { lock: self, _held: Some(held) }
    }

    /// As [`SleepLock::lock`], for what may stop anywhere: the lock of who is killed meanwhile is anybody's.
    pub fn lock_harmlessly(&self) -> SleepGuard<'_> {
        if !self.try_take(HARMLESS) {
            self.wait(|| self.try_take(HARMLESS | AWAITED).then_some(()));
        }
        SleepGuard { lock: self, _held: None }
    }

    /// Whether somebody holds the lock: the caller sees what was done below it before.
    pub fn is_taken(&self) -> bool {
        self.owner.load(Ordering::Acquire) & !AWAITED != 0
    }

    #[cold]
    fn wait<T>(&self, take: impl Fn() -> Option<T>) -> T {
        wait_uninterruptible(&self.queue, || {
            take().or_else(|| {
                self.owner.fetch_or(AWAITED, Ordering::Relaxed);
                // A lock that is being given back right now may lose the bit: it is free then, as is to be seen soon.
                (0..LOOKS).for_each(|_| core::hint::spin_loop());
                take()
            })
        })
    }

    fn try_take(&self, kind: u64) -> bool {
        let seen = self.owner.load(Ordering::Relaxed);
        let owner = seen & !AWAITED;
        let is_free = owner == 0 || owner & HARMLESS != 0 && !cpu::is_alive(owner & !HARMLESS);
        let own = cpu::current().identity() | kind | seen & AWAITED;
        is_free && self.owner.compare_exchange(seen, own, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Nobody was woken who had to be, so far.
    #[cold]
    fn wake_waiter(&self) {
        // Unless another thread has taken the lock meanwhile, with the bit.
        let _ = self.owner.compare_exchange(AWAITED, 0, Ordering::Relaxed, Ordering::Relaxed);
        self.queue.wake_one(Events::empty());
    }
}

/// Steps of a processor that spins, for which a waiter looks: as long as a store to a word that others want takes to be seen.
const LOOKS: u32 = 40;

impl Drop for SleepGuard<'_> {
    fn drop(&mut self) {
        if give_back_wide(&self.lock.owner, AWAITED) {
            self.lock.wake_waiter();
        }
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
