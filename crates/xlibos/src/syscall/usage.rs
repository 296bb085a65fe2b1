//! What was used: times(2), getrusage(2). The host does not tell user from system time: all is user time.

use crate::process::usage::Usage;
use crate::time::clock::{Clock, process_cpu_ns};
use crate::{Errno, Result, Task};
use core::sync::atomic::Ordering;
use machine::guest::UserPtr;

/// Nanoseconds of a clock tick: USER_HZ is 100.
const TICK_NS: u64 = 10_000_000;

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
    let process = &task.process;
    let usage = match who {
        PROCESS => Usage { cpu_ns: process_cpu_ns(process)?, peak_pages: process.peak_pages() },
        CHILDREN => Usage {
            cpu_ns: process.children_cpu_ns.load(Ordering::Relaxed),
            peak_pages: process.children_peak_pages.load(Ordering::Relaxed),
        },
        THREAD => Usage { cpu_ns: Clock::Caller.read_ns()?, peak_pages: process.peak_pages() },
        _ => return Err(Errno::EINVAL),
    };
    to.write(&usage.to_words())
}
