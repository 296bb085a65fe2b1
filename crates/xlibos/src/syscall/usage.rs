//! What was used: times(2), getrusage(2). The host does not tell user from system time: all is user time.

use crate::time::clock::{Clock, process_cpu_ns};
use crate::{Errno, Result, Task};
use core::sync::atomic::Ordering;
use machine::guest::UserPtr;

/// Nanoseconds of a clock tick: USER_HZ is 100.
const TICK_NS: u64 = 10_000_000;
const SECOND: u64 = 1_000_000_000;

/// CPU time in ticks of the process and its children: times(2). Answers the ticks since boot.
///
/// # Errors
/// EFAULT.
pub(super) fn times(task: &Task, to: UserPtr<[u64; 4]>) -> Result<u64> {
    let own = process_cpu_ns(&task.process).unwrap_or(0) / TICK_NS;
    let children = task.process.children_cpu_ns.load(Ordering::Relaxed) / TICK_NS;
    to.write_optional(&[own, 0, children, 0])?;
    Ok(machine::clock::read_ns(7) / TICK_NS)
}

/// CPU time and memory: getrusage(2).
///
/// # Errors
/// EINVAL, EFAULT.
pub(super) fn getrusage(task: &Task, who: i32, to: UserPtr<[u64; 18]>) -> Result<()> {
    const CHILDREN: i32 = -1;
    const PROCESS: i32 = 0;
    const THREAD: i32 = 1;
    let cpu_ns = match who {
        PROCESS => process_cpu_ns(&task.process)?,
        CHILDREN => task.process.children_cpu_ns.load(Ordering::Relaxed),
        THREAD => Clock::Caller.read_ns()?,
        _ => return Err(Errno::EINVAL),
    };
    let mut words = [0; 18];
    words[0] = cpu_ns / SECOND;
    words[1] = cpu_ns % SECOND / 1000;
    to.write(&words)
}
