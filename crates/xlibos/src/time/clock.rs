//! Clocks: clock_gettime(2), with the CPU clocks of processes and threads.

use crate::process::{Process, Task, tree};
use crate::{Errno, Result};
use alloc::sync::Arc;

/// CLOCK_PROCESS_CPUTIME_ID.
const PROCESS_CPU: u32 = 2;
/// CLOCK_THREAD_CPUTIME_ID.
const THREAD_CPU: u32 = 3;

/// A clock that can be read.
#[derive(Clone)]
pub enum Clock {
    /// One of the vDSO's: REALTIME, MONOTONIC, BOOTTIME, TAI and the coarse ones.
    Real(u32),
    /// CPU time of a process.
    Process(Arc<Process>),
    /// CPU time of a thread.
    Thread(Arc<Task>),
    /// CPU time of the calling thread.
    Caller,
}

impl core::fmt::Debug for Clock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Clock::Real(number) => write!(f, "Real({number})"),
            Clock::Process(process) => write!(f, "Process({})", process.pid),
            Clock::Thread(task) => write!(f, "Thread({})", task.tid()),
            Clock::Caller => f.write_str("Caller"),
        }
    }
}

impl Clock {
    /// The clock of a clockid_t.
    ///
    /// # Errors
    /// EINVAL.
    pub fn of_id(task: &Task, id: u32) -> Result<Clock> {
        match id {
            0 | 1 | 5 | 6 | 7 | 11 => Ok(Clock::Real(id)),
            // MONOTONIC_RAW: the vDSO of some hosts asks the host for it.
            4 => Ok(Clock::Real(1)),
            8 => Ok(Clock::Real(0)),
            9 => Ok(Clock::Real(7)),
            PROCESS_CPU => Ok(Clock::Process(Arc::clone(&task.process))),
            THREAD_CPU => Ok(Clock::Caller),
            _ if id.cast_signed() < 0 => dynamic(task, id.cast_signed()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The time on the clock, in nanoseconds.
    ///
    /// # Errors
    /// EINVAL for a thread that the host does not let the caller ask about.
    pub fn read_ns(&self) -> Result<u64> {
        match self {
            Clock::Real(number) => Ok(machine::clock::read_ns(*number)),
            Clock::Process(process) => process_cpu_ns(process),
            Clock::Thread(task) => thread_cpu_ns(task),
            Clock::Caller => Task::current().map_or(Err(Errno::EINVAL), thread_cpu_ns),
        }
    }

    /// Whether it counts CPU time.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        !matches!(self, Clock::Real(_))
    }

    /// Resolution in nanoseconds: a tick for the coarse clocks.
    #[must_use]
    pub fn resolution_ns(&self) -> u64 {
        if matches!(self, Clock::Real(5 | 6)) { 4_000_000 } else { 1 }
    }
}

/// A clock whose id holds a process or thread id: clock_getcpuclockid(3), pthread_getcpuclockid(3).
fn dynamic(task: &Task, id: i32) -> Result<Clock> {
    const OF_THREAD: i32 = 4;
    const KIND: i32 = 3;
    // Kind 3 is a clock device's descriptor.
    if id & KIND == 3 {
        return Err(Errno::EINVAL);
    }
    let pid = !(id >> 3);
    if id & OF_THREAD != 0 {
        if pid == 0 {
            return Ok(Clock::Caller);
        }
        let other = tree::task(pid).filter(|other| Arc::ptr_eq(&other.process, &task.process));
        return other.map(Clock::Thread).ok_or(Errno::EINVAL);
    }
    if pid == 0 {
        return Ok(Clock::Process(Arc::clone(&task.process)));
    }
    tree::process(pid).map(Clock::Process).ok_or(Errno::EINVAL)
}

/// The host's id for the CPU clock of another host process (`kind` 2) or thread (6).
fn host_clock(id: u32, kind: i32) -> u32 {
    (!id.cast_signed() << 3 | kind).cast_unsigned()
}

/// CPU time of a process.
///
/// # Errors
/// EINVAL where it has no host process any more.
pub fn process_cpu_ns(process: &Arc<Process>) -> Result<u64> {
    let is_own = Task::current().is_some_and(|task| Arc::ptr_eq(&task.process, process));
    process.cpu_time.used_ns(|| {
        if is_own {
            return machine::host::cpu_clock_ns(PROCESS_CPU);
        }
        let first = process.tasks().first().map(|task| task.cpu().pid());
        machine::host::cpu_clock_ns(host_clock(first.filter(|pid| *pid != 0).ok_or(Errno::EINVAL)?, 2))
    })
}

/// CPU time of a thread.
///
/// # Errors
/// EINVAL where the host does not tell: threads of other processes.
pub fn thread_cpu_ns(task: &Task) -> Result<u64> {
    let is_caller = Task::current().is_some_and(|current| core::ptr::eq(current, task));
    task.cpu_time.used_ns(|| {
        let clock = if is_caller { THREAD_CPU } else { host_clock(task.cpu().tid(), 6) };
        machine::host::cpu_clock_ns(clock)
    })
}

/// How long to wait until a clock that shows `shown` shows `target`, or, for a CPU clock, until it may: CPU time passes
/// at most as fast as the process has threads.
#[must_use]
pub fn wait_ns(clock: &Clock, shown: u64, target: u64) -> u64 {
    let ahead = target.saturating_sub(shown);
    let threads = match clock {
        Clock::Process(process) => u64::try_from(process.thread_count()).unwrap_or(1).max(1),
        _ => 1,
    };
    if clock.is_cpu() && ahead > 0 { (ahead / threads).max(1_000_000) } else { ahead }
}
