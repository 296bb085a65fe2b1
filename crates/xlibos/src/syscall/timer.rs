//! Timers that send signals: timer_create(2), setitimer(2), alarm(2).

use super::timeout::{itimerspec, timespec_ns, to_itimerspec, to_timespec};
use crate::process::Task;
use crate::process::limits::SIGPENDING;
use crate::time::Setting;
use crate::time::alarm::{Alarm, Interval, Notify, posix_signal};
use crate::time::clock::Clock;
use crate::{Errno, Result};
use alloc::sync::Arc;
use machine::guest::UserPtr;

/// CAP_WAKE_ALARM.
const CAP_WAKE_ALARM: u32 = 35;

/// Words of struct sigevent.
type SigEvent = [u64; 8];

/// Makes a timer: timer_create(2).
///
/// # Errors
/// EINVAL, EPERM, EAGAIN, EFAULT.
pub(super) fn timer_create(task: &Task, clock: u32, event: UserPtr<SigEvent>, id: UserPtr<i32>) -> Result<()> {
    let clock = timer_clock(task, clock)?;
    let event = event.non_null().map(UserPtr::read).transpose()?;
    let alarms = &task.process.alarms;
    // Each keeps a place in the queue for its signal.
    let limit = task.process.limits.get(SIGPENDING).map_or(u64::MAX, |limit| limit.current);
    if alarms.count() as u64 >= limit {
        return Err(Errno::EAGAIN);
    }
    let number = alarms.allocate_id();
    let alarm = match event {
        None => {
            let value = u64::from(number.cast_unsigned());
            let signal = posix_signal(crate::signal::SIGALRM, number, value);
            Alarm::new(clock, Notify::Process(Arc::downgrade(&task.process)), signal)
        }
        Some(event) => {
            let (notify, signal) = notification(task, &event)?;
            Alarm::new(clock, notify, posix_signal(signal, number, event[0]))
        }
    };
    id.write(&number)?;
    alarms.add(number, alarm);
    Ok(())
}

/// The clock of a timer. A thread's CPU clock is its process's: the service process cannot read it.
fn timer_clock(task: &Task, id: u32) -> Result<Clock> {
    let clock = Clock::of_id(task, id)?;
    match (id, clock) {
        (4..=6, _) => Err(Errno::EOPNOTSUPP),
        (8 | 9, _) if !task.creds().has(CAP_WAKE_ALARM) => Err(Errno::EPERM),
        (_, Clock::Caller | Clock::Thread(_)) => Ok(Clock::Process(Arc::clone(&task.process))),
        (_, clock) => Ok(clock),
    }
}

/// Who is told, and with which signal.
fn notification(task: &Task, event: &SigEvent) -> Result<(Notify, i32)> {
    const SIGEV_SIGNAL: u64 = 0;
    const SIGEV_NONE: u64 = 1;
    const SIGEV_THREAD: u64 = 2;
    const SIGEV_THREAD_ID: u64 = 4;
    let low = |word: u64| word & u64::from(u32::MAX);
    let signal = i32::try_from(low(event[1])).ok().filter(|signal| (1..=64).contains(signal));
    match event[1] >> 32 {
        SIGEV_NONE => Ok((Notify::Nobody, signal.unwrap_or(0))),
        SIGEV_SIGNAL | SIGEV_THREAD => {
            Ok((Notify::Process(Arc::downgrade(&task.process)), signal.ok_or(Errno::EINVAL)?))
        }
        SIGEV_THREAD_ID => {
            let tid = i32::try_from(low(event[2])).map_err(|_| Errno::EINVAL)?;
            let target = crate::process::tree::task(tid).filter(|t| Arc::ptr_eq(&t.process, &task.process));
            let target = target.ok_or(Errno::EINVAL)?;
            Ok((Notify::Thread(Arc::downgrade(&target)), signal.ok_or(Errno::EINVAL)?))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn find(task: &Task, id: i32) -> Result<Arc<Alarm>> {
    task.process.alarms.get(id).ok_or(Errno::EINVAL)
}

/// Sets a timer: timer_settime(2).
///
/// # Errors
/// EINVAL, EFAULT.
pub(super) fn timer_settime(
    task: &Task,
    id: i32,
    flags: u32,
    new: UserPtr<[i64; 4]>,
    old: UserPtr<[i64; 4]>,
) -> Result<()> {
    const TIMER_ABSTIME: u32 = 1;
    let setting = itimerspec(new.non_null().ok_or(Errno::EINVAL)?.read()?)?;
    let before = find(task, id)?.set(setting, flags & TIMER_ABSTIME != 0);
    old.write_optional(&to_itimerspec(before))
}

/// What is left of a timer: timer_gettime(2).
///
/// # Errors
/// EINVAL, EFAULT.
pub(super) fn timer_gettime(task: &Task, id: i32, to: UserPtr<[i64; 4]>) -> Result<()> {
    to.write(&to_itimerspec(find(task, id)?.setting()))
}

/// Expiries that the last signal stands for beside its own: timer_getoverrun(2).
///
/// # Errors
/// EINVAL.
pub(super) fn timer_getoverrun(task: &Task, id: i32) -> Result<i32> {
    find(task, id).map(|alarm| alarm.overrun())
}

/// Removes a timer: timer_delete(2).
///
/// # Errors
/// EINVAL.
pub(super) fn timer_delete(task: &Task, id: i32) -> Result<()> {
    let removed = task.process.alarms.remove(id).ok_or(Errno::EINVAL)?;
    drop(removed);
    Ok(())
}

/// A timeval as nanoseconds.
///
/// # Errors
/// EINVAL.
pub(super) fn timeval_ns([sec, usec]: [i64; 2]) -> Result<u64> {
    let nsec = if (0..1_000_000).contains(&usec) { usec * 1000 } else { return Err(Errno::EINVAL) };
    timespec_ns([sec, nsec])
}

fn which_interval(which: u32) -> Result<Interval> {
    match which {
        0 => Ok(Interval::Real),
        1 => Ok(Interval::Virtual),
        2 => Ok(Interval::Prof),
        _ => Err(Errno::EINVAL),
    }
}

/// Interval and first expiry, as struct itimerval has them. An armed timer never shows zero.
fn encode_timeval(setting: Setting) -> [i64; 4] {
    let first = if setting.first_ns == 0 { 0 } else { setting.first_ns.max(1000) };
    let ([a, b], [c, d]) = (to_timespec(setting.interval_ns), to_timespec(first));
    [a, b / 1000, c, d / 1000]
}

/// Sets an interval timer: setitimer(2).
///
/// # Errors
/// EINVAL, EFAULT.
pub(super) fn setitimer(task: &Task, which: u32, new: UserPtr<[i64; 4]>, old: UserPtr<[i64; 4]>) -> Result<()> {
    let setting = match new.non_null() {
        Some(new) => {
            let [a, b, c, d] = new.read()?;
            let (first_ns, interval_ns) = (timeval_ns([c, d])?, timeval_ns([a, b])?);
            Setting { first_ns, interval_ns }
        }
        None => Setting::default(),
    };
    let alarm = task.process.alarms.interval(&task.process, which_interval(which)?);
    let before = alarm.set(setting, false);
    old.write_optional(&encode_timeval(before))
}

/// What is left of an interval timer: getitimer(2).
///
/// # Errors
/// EINVAL, EFAULT.
pub(super) fn getitimer(task: &Task, which: u32, to: UserPtr<[i64; 4]>) -> Result<()> {
    let alarm = task.process.alarms.used_interval(which_interval(which)?);
    to.write(&encode_timeval(alarm.map_or(Setting::default(), |alarm| alarm.setting())))
}

/// Sends SIGALRM after some seconds: alarm(2). Answers the seconds left of the one before.
///
/// # Errors
/// None.
pub(super) fn alarm(task: &Task, seconds: u32) -> Result<u64> {
    const SECOND: u64 = 1_000_000_000;
    let alarms = &task.process.alarms;
    let used = if seconds == 0 {
        alarms.used_interval(Interval::Real)
    } else {
        Some(alarms.interval(&task.process, Interval::Real))
    };
    let setting = Setting { first_ns: u64::from(seconds) * SECOND, interval_ns: 0 };
    let left = used.map_or(0, |alarm| alarm.set(setting, false).first_ns);
    // To the nearest second, but never 0 while one is armed.
    let rounded = left.saturating_add(SECOND / 2) / SECOND;
    Ok(if left != 0 { rounded.max(1) } else { 0 })
}
