//! Locks and sleeping, over the host's futex on arena memory (shared between processes).
//!
//! A lock's word holds the owner's host thread id and a bit for waiters. It is given back without a locked instruction: see
//! [`give_back`]. [`park`] and [`unpark`] are the one
//! way to sleep: the word of a thread area is EMPTY, NOTIFIED or PARKED, and only the sleeper leaves PARKED. A [`Gate`]
//! holds any number of threads up.

use crate::cpu::{self, Cpu};
use crate::errno::Errno;
use crate::hand_over;
use crate::host::{check, nr, raw, raw_sleeping};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const WAITERS: u32 = 1 << 31;

const FUTEX_WAKE: u64 = 1;
const FUTEX_WAIT_BITSET: u64 = 9;
const MATCH_ANY: u64 = 0xffff_ffff;

/// The raw lock.
#[derive(Debug)]
pub struct RawFutexLock {
    word: AtomicU32,
}

/// A mutex in shared memory.
pub type Mutex<T> = lock_api::Mutex<RawFutexLock, T>;
/// Its guard.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawFutexLock, T>;

/// Takes all bits but [`WAITERS`] out of a lock's word, as its owner; whether that is left.
///
/// One instruction that is not locked, since a locked one costs as much as all else of taking and giving back a lock that nobody
/// waits for. It is no barrier: a load behind it may come before it. No interrupt comes between its load and its store; where
/// another processor sets the bit just there, the store takes it away. Who set it goes to the host for its sleep, which takes many
/// times as long as a store needs to be seen and compares the word once more; should it sleep nevertheless, it looks again after
/// [`FIRST_WAIT`]. Nobody takes the lock meanwhile: the word is not free before the store.
#[inline]
fn give_back(word: &AtomicU32) -> bool {
    let is_awaited: u8;
    // SAFETY: the word lives as long as its borrow, and is changed as a store would change it.
    unsafe {
        core::arch::asm!(
            "and dword ptr [{word}], {waiters}",
            "setnz {is_awaited}",
            word = in(reg) word.as_ptr(),
            waiters = const WAITERS.cast_signed(),
            is_awaited = out(reg_byte) is_awaited,
            options(nostack),
        );
    }
    is_awaited != 0
}

/// The same with the word of a lock that lies above this module: all bits but `kept` go.
#[inline]
pub fn give_back_wide(word: &AtomicU64, kept: u64) -> bool {
    let is_awaited: u8;
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "and qword ptr [{word}], {kept}",
            "setnz {is_awaited}",
            word = in(reg) word.as_ptr(),
            kept = in(reg) kept,
            is_awaited = out(reg_byte) is_awaited,
            options(nostack),
        );
    }
    is_awaited != 0
}

fn owner_id(cpu: &Cpu) -> u32 {
    // Area numbers rather than host thread ids: known before the host has told the id.
    let address = core::ptr::from_ref(cpu) as u64;
    (u32::try_from((address >> 6) & 0x3fff_ffff).unwrap_or(0)) | 1
}

// SAFETY: the word admits one owner at a time; `unlock` is called by the owner only (the trait's promise).
unsafe impl lock_api::RawMutex for RawFutexLock {
    const INIT: RawFutexLock = RawFutexLock { word: AtomicU32::new(0) };
    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        let cpu = cpu::current();
        cpu.locks_held.set(cpu.locks_held.get() + 1);
        let me = owner_id(cpu);
        if self.word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
            // Should the host process die now, it held one lock less than it counted.
            cpu.awaits.store(core::ptr::from_ref(&self.word) as u64, Ordering::Release);
            self.lock_contended(me);
            cpu.awaits.store(0, Ordering::Release);
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let cpu = cpu::current();
        let taken = self.word.compare_exchange(0, owner_id(cpu), Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            cpu.locks_held.set(cpu.locks_held.get() + 1);
        }
        taken
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.give_back();
        let cpu = cpu::current();
        cpu.locks_held.set(cpu.locks_held.get().wrapping_sub(1));
    }
}

impl RawFutexLock {
    #[inline]
    fn give_back(&self) {
        if give_back(&self.word) {
            self.wake_waiter();
        }
    }

    #[cold]
    fn wake_waiter(&self) {
        // Unless another thread has taken the lock meanwhile, with the bit.
        let _ = self.word.compare_exchange(WAITERS, 0, Ordering::Relaxed, Ordering::Relaxed);
        futex_wake(&self.word, 1);
    }

    #[cold]
    fn lock_contended(&self, me: u32) {
        cpu::current().count_lock_wait(false);
        for _ in 0..40 {
            if self.word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return;
            }
            core::hint::spin_loop();
        }
        let mut limit = FIRST_WAIT;
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen & !WAITERS == 0 {
                // Others may sleep: take the lock with the bit, the unlock then wakes one for nothing at worst.
                if self.word.compare_exchange(seen, me | WAITERS, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return;
                }
                continue;
            }
            if seen & WAITERS == 0
                && self.word.compare_exchange(seen, seen | WAITERS, Ordering::Relaxed, Ordering::Relaxed).is_err()
            {
                continue;
            }
            cpu::current().count_lock_wait(true);
            if !futex_wait(&self.word, seen | WAITERS, limit) {
                if limit == LONG_WAIT {
                    self.check_owner();
                }
                limit = (limit * 10).min(LONG_WAIT);
            }
        }
    }

    /// After a long wait: stops the container where the owner's host process was killed while it held the lock.
    fn check_owner(&self) {
        let seen = self.word.load(Ordering::Acquire);
        let is_owner = |cpu: &Cpu| seen & !WAITERS == owner_id(cpu);
        if seen != 0 && cpu::is_gone(is_owner) && self.word.load(Ordering::Acquire) & !WAITERS == seen & !WAITERS {
            panic!("a host process died while it held a shared lock");
        }
    }
}

impl Cpu {
    /// How many shared locks the thread holds, which has ended; 0 where it may have died without harm.
    #[must_use]
    pub fn locks_left_held(&self) -> u32 {
        let awaited = self.awaits.load(Ordering::Acquire);
        if awaited == 0 {
            return self.locks_held.get();
        }
        // SAFETY: the thread stored the address of a lock's word while it borrowed the lock, whose memory nobody has freed
        // since: it is the arena's, and stays mapped.
        let word = unsafe { &*(awaited as *const AtomicU32) };
        let is_owner = word.load(Ordering::Acquire) & !WAITERS == owner_id(self);
        self.locks_held.get().saturating_sub(u32::from(!is_owner))
    }
}

/// The raw lock of what belongs to one process, and dies with it: a host process that dies while it holds one has done no
/// harm, unless somebody waits for it.
#[derive(Debug)]
pub struct RawPrivateLock(RawFutexLock);

/// A mutex for what belongs to one process.
pub type PrivateMutex<T> = lock_api::Mutex<RawPrivateLock, T>;
/// Its guard.
pub type PrivateMutexGuard<'a, T> = lock_api::MutexGuard<'a, RawPrivateLock, T>;

// SAFETY: the inner lock's word admits one owner at a time; it is only not counted.
unsafe impl lock_api::RawMutex for RawPrivateLock {
    const INIT: RawPrivateLock = RawPrivateLock(RawFutexLock::INIT);
    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        let me = owner_id(cpu::current());
        if self.0.word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.0.lock_contended(me);
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let me = owner_id(cpu::current());
        self.0.word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.give_back();
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.0.word.load(Ordering::Acquire) & !WAITERS != 0
    }
}

/// Whether a thread, which has ended, left the lock taken.
pub fn is_left_locked<T>(mutex: &PrivateMutex<T>, by: &Cpu) -> bool {
    // SAFETY: the raw lock is only looked at.
    let raw = unsafe { mutex.raw() };
    raw.0.word.load(Ordering::Acquire) & !WAITERS == owner_id(by)
}

/// Marks the calling thread as holder of something shared that dies with the container: a lock that is no
/// [`Mutex`]. Dropped by the same thread.
#[derive(Debug)]
pub struct Held(());

impl Held {
    /// From now on.
    #[must_use]
    pub fn new() -> Held {
        let held = &cpu::current().locks_held;
        held.set(held.get() + 1);
        Held(())
    }
}

impl Default for Held {
    fn default() -> Held {
        Held::new()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = &cpu::current().locks_held;
        held.set(held.get().wrapping_sub(1));
    }
}

/// Nanoseconds after which who waits for a lock looks whether its owner still lives.
const LONG_WAIT: u64 = 200_000_000;
/// Nanoseconds after which who waits for a lock looks for the first time whether it is free.
const FIRST_WAIT: u64 = 2_000_000;

/// False when `limit` nanoseconds have passed.
fn futex_wait(word: &AtomicU32, expected: u32, limit: u64) -> bool {
    let until = crate::clock::monotonic_ns() + limit;
    let until = [until / 1_000_000_000, until % 1_000_000_000];
    let args =
        [core::ptr::from_ref(word) as u64, FUTEX_WAIT_BITSET, u64::from(expected), until.as_ptr() as u64, 0, MATCH_ANY];
    // SAFETY: word and time live for the call, and the host only reads them.
    !matches!(check(unsafe { raw(nr::FUTEX, args) }), Err(Errno::ETIMEDOUT))
}

fn futex_wake(word: &AtomicU32, count: u32) {
    let args = [core::ptr::from_ref(word) as u64, FUTEX_WAKE, u64::from(count), 0, 0, 0];
    // SAFETY: waking touches no memory.
    let _ = unsafe { raw(nr::FUTEX, args) };
}

const EMPTY: u32 = 0;
const NOTIFIED: u32 = 1;
const PARKED: u32 = 2;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// [`unpark`] was called (before or during the sleep), or [`Cpu::kick`] during it.
    Notified,
    /// Work is pending for the thread (a signal, a stop, a kill).
    Interrupted,
    /// The deadline passed.
    TimedOut,
}

/// Sleeps until [`unpark`], an interrupt, or `deadline_ns` on CLOCK_MONOTONIC. A notification may be an old one, or stand for a
/// [`Cpu::kick`]: callers look at their condition again.
#[must_use]
pub fn park(deadline_ns: Option<u64>) -> Wake {
    park_with(deadline_ns, true)
}

/// As [`park`], but what is pending does not end it. A [`Cpu::kick`] does, as a notification: callers look again.
#[must_use]
pub fn park_uninterruptible(deadline_ns: Option<u64>) -> Wake {
    park_with(deadline_ns, false)
}

fn park_with(deadline_ns: Option<u64>, interruptible: bool) -> Wake {
    let cpu = cpu::current();
    let wake = &cpu.outside().wake;
    loop {
        if wake.compare_exchange(EMPTY, PARKED, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            wake.store(EMPTY, Ordering::SeqCst);
            return Wake::Notified;
        }
        hand_over::sleeps();
        let ended = wait_at(wake, PARKED, deadline_ns, interruptible);
        if wake.swap(EMPTY, Ordering::SeqCst) == NOTIFIED {
            return Wake::Notified;
        }
        match ended {
            Err(Errno::ETIMEDOUT) => return Wake::TimedOut,
            _ if interruptible && cpu.is_pending() => return Wake::Interrupted,
            _ => {}
        }
    }
}

fn wait_at(word: &AtomicU32, value: u32, deadline_ns: Option<u64>, interruptible: bool) -> crate::Result<u64> {
    let spec = deadline_ns.map(|ns| [ns / 1_000_000_000, ns % 1_000_000_000]);
    let timeout = spec.as_ref().map_or(0, |spec| spec.as_ptr() as u64);
    let args = [core::ptr::from_ref(word) as u64, FUTEX_WAIT_BITSET, u64::from(value), timeout, 0, MATCH_ANY];
    if interruptible {
        // SAFETY: word and timeout live for the call, and the host only reads them.
        check(unsafe { raw_sleeping(nr::FUTEX, args) })
    } else {
        // SAFETY: as above.
        check(unsafe { raw(nr::FUTEX, args) })
    }
}

/// Ends the target's sleep, or its next one.
pub fn unpark(target: &Cpu) {
    let wake = &target.outside().wake;
    if wake.swap(NOTIFIED, Ordering::SeqCst) == PARKED {
        hand_over::wakes(target);
        futex_wake(wake, 1);
    }
}

/// Ends the target's sleep if it is one that [`unpark`] ends; whether it was.
pub(crate) fn wake_parked(target: &Cpu) -> bool {
    let wake = &target.outside().wake;
    let is_parked = wake.compare_exchange(PARKED, NOTIFIED, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    if is_parked {
        futex_wake(wake, 1);
    }
    is_parked
}

/// Forgets an old notification of the calling thread, before it begins to wait for something new.
pub fn clear_notification() {
    let wake = &cpu::current().outside().wake;
    if wake.load(Ordering::Relaxed) != EMPTY {
        wake.store(EMPTY, Ordering::SeqCst);
    }
}

/// A gate at which threads stand while it is closed. Who asks whether a thread stands there learns of this closing, not
/// of an earlier one.
#[derive(Debug)]
pub struct Gate {
    /// Changes whenever it is opened or closed: odd while it is closed.
    turns: AtomicU32,
}

/// Turn of the next closing, of whatever gate: a thread's area says at which it stands.
static NEXT_TURN: AtomicU32 = AtomicU32::new(1);

impl Gate {
    /// An open gate.
    #[must_use]
    pub const fn new() -> Gate {
        Gate { turns: AtomicU32::new(0) }
    }

    /// Whether threads stand at it instead of passing.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.turns.load(Ordering::SeqCst) & 1 == 1
    }

    /// Closes it. One thread opens and closes a gate.
    pub fn close(&self) {
        if !self.is_closed() {
            self.turns.store(NEXT_TURN.fetch_add(2, Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    /// Opens it, and lets everybody pass.
    pub fn open(&self) {
        if self.is_closed() {
            self.turns.fetch_add(1, Ordering::SeqCst);
            futex_wake(&self.turns, u32::MAX >> 1);
        }
    }

    /// Stands at the gate while it is closed, unless `must_leave`, which is asked again after each [`Cpu::kick`]. What was
    /// pending has to be looked at afterwards.
    pub fn pass(&self, must_leave: impl Fn() -> bool) {
        let cpu = cpu::current();
        loop {
            let turn = self.turns.load(Ordering::SeqCst);
            cpu.clear_pending();
            if turn & 1 == 0 || must_leave() {
                break;
            }
            cpu.stands_at.store(turn, Ordering::SeqCst);
            let _ = wait_at(&self.turns, turn, None, true);
        }
        cpu.stands_at.store(0, Ordering::SeqCst);
    }

    /// Whether a thread stands at the gate, which is closed.
    #[must_use]
    pub fn has_at_it(&self, cpu: &Cpu) -> bool {
        let turn = self.turns.load(Ordering::SeqCst);
        turn & 1 == 1 && cpu.stands_at.load(Ordering::SeqCst) == turn
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Mutex, Wake, park, unpark};
    use crate::cpu;
    use std::sync::Arc;

    #[test]
    fn mutex_excludes_under_contention() {
        let counter = Arc::new(Mutex::new(0_u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || (0..20_000).for_each(|_| *counter.lock() += 1))
            })
            .collect();
        threads.into_iter().for_each(|t| assert!(t.join().is_ok()));
        assert_eq!(*counter.lock(), 80_000);
    }

    #[test]
    fn who_sleeps_for_a_lock_is_woken_when_it_is_free() {
        let begun = std::time::Instant::now();
        let lock = Arc::new(Mutex::new(0_u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let lock = Arc::clone(&lock);
                std::thread::spawn(move || {
                    for _ in 0..2000 {
                        let mut count = lock.lock();
                        // Longer than anybody spins.
                        let until = std::time::Instant::now() + std::time::Duration::from_micros(20);
                        while std::time::Instant::now() < until {}
                        *count += 1;
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| assert!(thread.join().is_ok()));
        assert_eq!(*lock.lock(), 8000);
        // 0.2 seconds of work. Each wake-up that is lost costs two milliseconds.
        assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
    }

    #[test]
    fn unpark_before_park_is_not_lost() {
        unpark(cpu::current());
        assert_eq!(park(None), Wake::Notified);
    }

    #[test]
    fn who_is_kicked_in_its_sleep_wakes_without_a_host_signal() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            assert!(sender.send(cpu::current()).is_ok());
            park(Some(crate::clock::monotonic_ns() + 20_000_000_000))
        });
        let Ok(target) = receiver.recv() else { return };
        while target.outside().wake.load(std::sync::atomic::Ordering::SeqCst) != super::PARKED {
            std::thread::yield_now();
        }
        // No host thread has the number that tests give: a signal would reach nobody.
        target.kick();
        assert!(target.is_pending() && matches!(sleeper.join(), Ok(Wake::Notified)));
    }

    #[test]
    fn a_closed_gate_holds_everybody_up() {
        let gate = Arc::new(super::Gate::new());
        gate.pass(|| false);
        gate.close();
        let passed = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let (sender, receiver) = std::sync::mpsc::channel();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (gate, passed, sender) = (Arc::clone(&gate), Arc::clone(&passed), sender.clone());
                std::thread::spawn(move || {
                    assert!(sender.send(cpu::current()).is_ok());
                    gate.pass(|| false);
                    passed.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                })
            })
            .collect();
        let areas: Vec<_> = receiver.iter().take(4).collect();
        while !areas.iter().all(|area| gate.has_at_it(area)) {
            std::thread::yield_now();
        }
        assert_eq!(passed.load(std::sync::atomic::Ordering::SeqCst), 0);
        gate.open();
        threads.into_iter().for_each(|t| assert!(t.join().is_ok()));
        gate.close();
        assert!(!areas.iter().any(|area| gate.has_at_it(area)), "they stood there the last time");
    }

    #[test]
    fn park_ends_at_its_deadline() {
        assert_eq!(park(Some(crate::clock::monotonic_ns() + 1_000_000)), Wake::TimedOut);
    }
}
