//! futex(2): the host's futexes on guest memory do WAIT, WAKE and REQUEUE; locks with an owner are [`super::futex_pi`]'s.

use super::futex_pi::{self, Lock};
use super::timeout::{timespec_ns, to_timespec};
use crate::{Errno, Result, Task};
use machine::guest;
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
    match command {
        WAIT => wait(task, word, op, val, timeout, MATCH_ANY),
        WAIT_BITSET => wait(task, word, op, val, timeout, val3),
        WAKE | WAKE_BITSET => futex_guest(word, op, val, FutexArg::None, 0, val3),
        REQUEUE | CMP_REQUEUE | WAKE_OP => {
            let val2 = u32::try_from(timeout & 0xffff_ffff).unwrap_or(0);
            futex_guest(word, op, val, FutexArg::Value(val2), word2, val3)
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
    let private = op & PRIVATE;
    let is_relative = op & !(PRIVATE | CLOCK_REALTIME) == WAIT;
    let (clock, end) = match timeout {
        0 => (0, None),
        at if is_relative => (0, Some(task.deadline_of(timespec_ns(guest::read_value(at)?)?))),
        at => (op & CLOCK_REALTIME, Some(timespec_ns(guest::read_value(at)?)?)),
    };
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

fn until(ns: u64) -> FutexArg {
    let [sec, nsec] = to_timespec(ns);
    FutexArg::Timeout { sec, nsec }
}
