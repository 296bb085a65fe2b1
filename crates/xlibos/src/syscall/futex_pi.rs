//! Futexes with an owner: FUTEX_LOCK_PI of futex(2). The word holds the owner's thread id; sleeping is the host's plain
//! wait. The host schedules all threads alike, so no priority is inherited.

use crate::process::tree;
use crate::{Errno, Result, Task};
use core::sync::atomic::Ordering;
use machine::guest;
use machine::host::{FutexArg, futex_guest};

const WAKE: u32 = 1;
const WAIT_BITSET: u32 = 9;
const PRIVATE: u32 = 128;
const CLOCK_REALTIME: u32 = 256;
const MATCH_ANY: u32 = u32::MAX;
const OWNER: u32 = 0x3fff_ffff;
const WAITERS: u32 = 0x8000_0000;

/// Where and how a lock is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lock {
    /// The futex word.
    pub(super) word: u64,
    /// FUTEX_PRIVATE_FLAG and the timeout's FUTEX_CLOCK_REALTIME.
    pub(super) flags: u32,
}

/// What an attempt found.
enum Attempt {
    Taken,
    /// Another has it; the word as the sleeper expects it.
    Held(u32),
}

/// Takes the lock, sleeping until its owner gives it back: FUTEX_LOCK_PI.
///
/// # Errors
/// EDEADLK for the owner itself, ESRCH where the owner is gone, ETIMEDOUT, EFAULT, INTERRUPTED_UNTOLD.
pub(super) fn lock(task: &Task, lock: Lock, until: FutexArg) -> Result<u64> {
    let mut has_slept = false;
    loop {
        let expected = match attempt(task, lock.word, has_slept)? {
            Attempt::Taken => return Ok(0),
            Attempt::Held(expected) => expected,
        };
        has_slept = true;
        let op = WAIT_BITSET | lock.flags & (PRIVATE | CLOCK_REALTIME);
        match futex_guest(lock.word, op, expected, until, 0, MATCH_ANY) {
            Ok(_) | Err(Errno::EAGAIN) => {}
            // Locks of libraries know no EINTR: no handler lets it show.
            Err(Errno::EINTR) => return Err(Errno::INTERRUPTED_UNTOLD),
            Err(errno) => return Err(errno),
        }
    }
}

/// Takes the lock if nobody has it: FUTEX_TRYLOCK_PI.
///
/// # Errors
/// EAGAIN, EDEADLK, ESRCH where the owner is gone, EFAULT.
pub(super) fn try_lock(task: &Task, word: u64) -> Result<u64> {
    let own = task.tid().cast_unsigned();
    loop {
        let seen: u32 = guest::read_value(word)?;
        match seen & OWNER {
            0 => {}
            owner if owner == own => return Err(Errno::EDEADLK),
            owner if is_gone(owner) => return Err(Errno::ESRCH),
            _ => return Err(Errno::EAGAIN),
        }
        if guest::compare_exchange(word, seen, seen | own)? == seen {
            return Ok(0);
        }
    }
}

fn is_gone(owner: u32) -> bool {
    tree::task(owner.cast_signed()).is_none_or(|other| other.ended.load(Ordering::SeqCst))
}

/// One who has slept says that there are others: it does not know, and the flag costs a call only.
fn attempt(task: &Task, word: u64, has_slept: bool) -> Result<Attempt> {
    let own = task.tid().cast_unsigned();
    loop {
        let seen: u32 = guest::read_value(word)?;
        let owner = seen & OWNER;
        if owner == 0 {
            let new = seen | own | if has_slept { WAITERS } else { 0 };
            if guest::compare_exchange(word, seen, new)? == seen {
                return Ok(Attempt::Taken);
            }
            continue;
        }
        if owner == own {
            return Err(Errno::EDEADLK);
        }
        if is_gone(owner) {
            return Err(Errno::ESRCH);
        }
        if seen & WAITERS != 0 || guest::compare_exchange(word, seen, seen | WAITERS)? == seen {
            return Ok(Attempt::Held(seen | WAITERS));
        }
    }
}

/// Gives the lock back and wakes one who waits: FUTEX_UNLOCK_PI.
///
/// # Errors
/// EPERM for who does not have it, EFAULT.
pub(super) fn unlock(task: &Task, lock: Lock) -> Result<u64> {
    let own = task.tid().cast_unsigned();
    loop {
        let seen: u32 = guest::read_value(lock.word)?;
        if seen & OWNER != own {
            return Err(Errno::EPERM);
        }
        if guest::compare_exchange(lock.word, seen, 0)? == seen {
            futex_guest(lock.word, WAKE | lock.flags & PRIVATE, 1, FutexArg::None, 0, 0)?;
            return Ok(0);
        }
    }
}
