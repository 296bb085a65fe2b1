//! futex(2), futex_waitv(2): the host's futexes on guest memory do WAIT, WAKE and REQUEUE; locks with an owner are [`super::futex_pi`]'s.

use super::futex_pi::{self, Lock};
use super::timeout::{timespec_ns, to_timespec};
use crate::ipc::futex_set::{self, Scope, Word};
use crate::{Errno, Result, Task};
use alloc::vec::Vec;
use machine::guest::{self, UserPtr};
use machine::host::{FutexArg, futex_guest};

const WAIT: u32 = 0;
const WAKE: u32 = 1;
const REQUEUE: u32 = 3;
const CMP_REQUEUE: u32 = 4;
const WAKE_OP: u32 = 5;
const LOCK_PI: u32 = 6;
const UNLOCK_PI: u32 = 7;
const TRYLOCK_PI: u32 = 8;
const WAIT_BITSET: u32 = 9;
const WAKE_BITSET: u32 = 10;
/// As LOCK_PI, with the clock of FUTEX_CLOCK_REALTIME or without.
const LOCK_PI2: u32 = 13;
const PRIVATE: u32 = 128;
const CLOCK_REALTIME: u32 = 256;
const MATCH_ANY: u32 = u32::MAX;

pub(super) fn futex(task: &Task, word: u64, op: u32, val: u32, timeout: u64, word2: u64, val3: u32) -> Result<u64> {
    let command = op & !(PRIVATE | CLOCK_REALTIME);
    if machine::cpu::current().is_attempt() && !matches!(command, WAIT | WAIT_BITSET | WAKE | WAKE_BITSET) {
        return Err(Errno::INTERRUPTED);
    }
    match command {
        WAIT => wait(task, word, op, val, timeout, MATCH_ANY),
        WAIT_BITSET => wait(task, word, op, val, timeout, val3),
        WAKE | WAKE_BITSET => {
            let woken = futex_guest(word, op, val, FutexArg::None, 0, val3)?;
            Ok(woken + futex_set::wake(task, word, scope_of(op), u64::from(val).saturating_sub(woken)))
        }
        REQUEUE | CMP_REQUEUE | WAKE_OP => {
            let val2 = u32::try_from(timeout & 0xffff_ffff).unwrap_or(0);
            let done = futex_guest(word, op, val, FutexArg::Value(val2), word2, val3)?;
            // Who waits for many is woken where it would be moved, or where the second word might wake it: it looks again.
            let second = if command == WAKE_OP { futex_set::wake(task, word2, scope_of(op), val2.into()) } else { 0 };
            let first = u64::from(val) + if command == WAKE_OP { 0 } else { u64::from(val2) };
            Ok(done + second + futex_set::wake(task, word, scope_of(op), first))
        }
        LOCK_PI | LOCK_PI2 => {
            let clock = if command == LOCK_PI { CLOCK_REALTIME } else { op & CLOCK_REALTIME };
            let until = if timeout == 0 { FutexArg::None } else { until(timespec_ns(guest::read_value(timeout)?)?) };
            let flags = op & PRIVATE | if timeout == 0 { 0 } else { clock };
            futex_pi::lock(task, Lock { word, flags }, until)
        }
        TRYLOCK_PI => futex_pi::try_lock(task, word),
        UNLOCK_PI => futex_pi::unlock(task, Lock { word, flags: op & PRIVATE }),
        _ => Err(Errno::ENOSYS),
    }
}

/// FUTEX_WAIT's timeout is relative, FUTEX_WAIT_BITSET's absolute. A relative one becomes absolute at once,
/// so that an interrupted wait goes on to the same moment.
fn wait(task: &Task, word: u64, op: u32, val: u32, timeout: u64, mask: u32) -> Result<u64> {
    let is_attempt = machine::cpu::current().is_attempt();
    if is_attempt && timeout != 0 {
        return Err(Errno::INTERRUPTED);
    }
    let private = op & PRIVATE;
    let is_relative = op & !(PRIVATE | CLOCK_REALTIME) == WAIT;
    let (clock, end) = match timeout {
        0 => (0, None),
        at if is_relative => (0, Some(task.deadline_of(timespec_ns(guest::read_value(at)?)?))),
        at => (op & CLOCK_REALTIME, Some(timespec_ns(guest::read_value(at)?)?)),
    };
    let is_changed = || guest::read_value::<u32>(word).is_ok_and(|seen| seen != val);
    if mask != 0 && word.is_multiple_of(4) && is_changed() {
        return Err(Errno::EAGAIN);
    }
    if is_attempt {
        return Err(Errno::INTERRUPTED);
    }
    let argument = end.map_or(FutexArg::None, until);
    match futex_guest(word, WAIT_BITSET | private | clock, val, argument, 0, mask) {
        // As Linux: only a wait without a timeout begins again after a handler.
        Err(Errno::EINTR) if timeout == 0 => Err(Errno::INTERRUPTED),
        Err(Errno::EINTR) => {
            task.keep_deadline(end.filter(|_| is_relative).unwrap_or(0));
            Err(Errno::INTERRUPTED_TIMED)
        }
        other => other,
    }
}

fn scope_of(op: u32) -> Scope {
    if op & PRIVATE != 0 { Scope::Private } else { Scope::Shared }
}

/// Most words of one futex_waitv(2).
const MOST_WORDS: u32 = 128;

/// Waits for one of many words; answers which was woken: futex_waitv(2).
///
/// # Errors
/// EINVAL, EFAULT, EAGAIN, ETIMEDOUT, INTERRUPTED.
pub(super) fn futex_waitv(
    task: &Task,
    waiters: u64,
    count: u32,
    flags: u32,
    until: UserPtr<[i64; 2]>,
    clock: u32,
) -> Result<usize> {
    if flags != 0 || waiters == 0 || !(1..=MOST_WORDS).contains(&count) {
        return Err(Errno::EINVAL);
    }
    let deadline = match until.non_null() {
        None => None,
        Some(_) if clock > 1 => return Err(Errno::EINVAL),
        Some(until) => {
            let end = timespec_ns(until.read()?)?;
            let now = machine::clock::read_ns(clock);
            Some(machine::clock::monotonic_ns().saturating_add(end.saturating_sub(now)))
        }
    };
    let words: Vec<Word> =
        (0..u64::from(count)).map(|n| read_word(waiters.wrapping_add(n * 24))).collect::<Result<_>>()?;
    futex_set::wait(task, &words, deadline)
}

/// `struct futex_waitv`.
fn read_word(at: u64) -> Result<Word> {
    const SIZE_32: u64 = 2;
    let [value, address, flags] = guest::read_value::<[u64; 3]>(at)?;
    // The upper half is reserved.
    if flags & !u64::from(PRIVATE) != SIZE_32 || !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let value = u32::try_from(value & 0xffff_ffff).unwrap_or(0);
    Ok(Word { address, value, scope: scope_of(u32::try_from(flags).unwrap_or(0)) })
}

fn until(ns: u64) -> FutexArg {
    let [sec, nsec] = to_timespec(ns);
    FutexArg::Timeout { sec, nsec }
}
