//! Clocks and sleeps: clock_gettime(2), nanosleep(2), adjtimex(2).

use super::timeout::{read_timespec, to_timespec};
use crate::process::creds::CAP_SYS_TIME;
use crate::time::clock::{Clock, wait_ns};
use crate::wait::{Deadline, wait_until, with_kept_deadline};
use crate::{Errno, Result, Task};
use machine::clock::{MONOTONIC, REALTIME, monotonic_ns};
use machine::guest::UserPtr;

const SECOND: u64 = 1_000_000_000;
/// CAP_WAKE_ALARM.
const CAP_WAKE_ALARM: u32 = 35;

/// The time on a clock: clock_gettime(2).
///
/// # Errors
/// EINVAL, EFAULT.
#[inline]
pub(super) fn clock_gettime(task: &Task, clock: u32, to: UserPtr<[u64; 2]>) -> Result<()> {
    let time = match clock {
        // As below, for what is asked most.
        REALTIME | MONOTONIC => machine::clock::read(clock),
        _ => read_seldom(task, clock)?,
    };
    to.write(&time)
}

#[inline(never)]
fn read_seldom(task: &Task, clock: u32) -> Result<[u64; 2]> {
    match Clock::of_id(task, clock)? {
        Clock::Real(number) => Ok(machine::clock::read(number)),
        of_cpu => of_cpu.read_ns().map(|ns| [ns / SECOND, ns % SECOND]),
    }
}

/// The resolution of a clock: clock_getres(2).
///
/// # Errors
/// EINVAL, EFAULT.
pub(super) fn clock_getres(task: &Task, clock: u32, to: UserPtr<[u64; 2]>) -> Result<()> {
    let resolution = Clock::of_id(task, clock)?.resolution_ns();
    to.write_optional(&[0, resolution])
}

/// Sets a clock: clock_settime(2). Only the host may set REALTIME; the others cannot be set.
///
/// # Errors
/// EINVAL, EFAULT, EPERM.
pub(super) fn clock_settime(task: &Task, clock: u32, time: UserPtr<[i64; 2]>) -> Result<()> {
    let is_cpu = Clock::of_id(task, clock)?.is_cpu();
    if clock != 0 && !is_cpu {
        return Err(Errno::EINVAL);
    }
    super::timeout::timespec_ns(time.read()?)?;
    Err(Errno::EPERM)
}

/// The time of day: gettimeofday(2). The time zone is UTC.
///
/// # Errors
/// EFAULT.
pub(super) fn gettimeofday(_task: &Task, to: UserPtr<[u64; 2]>, zone: UserPtr<u64>) -> Result<()> {
    let ns = machine::clock::realtime_ns();
    to.write_optional(&[ns / SECOND, ns % SECOND / 1000])?;
    zone.write_optional(&0)
}

/// Sets the time of day: settimeofday(2).
///
/// # Errors
/// EINVAL, EFAULT, EPERM.
pub(super) fn settimeofday(_task: &Task, time: UserPtr<[i64; 2]>, zone: UserPtr<u64>) -> Result<()> {
    if let Some(time) = time.non_null() {
        super::timer::timeval_ns(time.read()?)?;
    }
    if let Some(zone) = zone.non_null() {
        // Minutes west of Greenwich.
        let west = u32::try_from(zone.read()? & u64::from(u32::MAX)).unwrap_or(0).cast_signed();
        if !(-15 * 60..=15 * 60).contains(&west) {
            return Err(Errno::EINVAL);
        }
    }
    Err(Errno::EPERM)
}

/// Seconds since the epoch: time(2).
///
/// # Errors
/// EFAULT.
pub(super) fn time(_task: &Task, to: UserPtr<u64>) -> Result<u64> {
    let sec = machine::clock::realtime_ns() / SECOND;
    to.write_optional(&sec)?;
    Ok(sec)
}

/// Sleeps for a length: nanosleep(2).
///
/// # Errors
/// EFAULT, EINVAL, EINTR with what is left.
pub(super) fn nanosleep(task: &Task, wanted: UserPtr<[i64; 2]>, left: UserPtr<[i64; 2]>) -> Result<()> {
    let length = read_timespec(wanted)?.ok_or(Errno::EFAULT)?;
    sleep(task, length, left)
}

/// Sleeps for a length; an interrupted sleep goes on to the same moment, and tells what is left.
fn sleep(task: &Task, length: u64, left: UserPtr<[i64; 2]>) -> Result<()> {
    with_kept_deadline(task, Some(length), |deadline| {
        let slept = sleep_until(deadline);
        if slept.is_err() {
            let rest = deadline.unwrap_or(0).saturating_sub(monotonic_ns());
            left.write_optional(&to_timespec(rest))?;
        }
        slept
    })
}

fn sleep_until(deadline: Deadline) -> Result<()> {
    wait_until::<()>(&[], deadline, || None).map(|_| ())
}

/// Sleeps on a clock: clock_nanosleep(2).
///
/// # Errors
/// EINVAL, EOPNOTSUPP for a clock without sleeps, EPERM, EFAULT, EINTR.
pub(super) fn clock_nanosleep(
    task: &Task,
    id: u32,
    flags: u32,
    wanted: UserPtr<[i64; 2]>,
    left: UserPtr<[i64; 2]>,
) -> Result<()> {
    const TIMER_ABSTIME: u32 = 1;
    let clock = sleep_clock(task, id)?;
    let length = read_timespec(wanted)?.ok_or(Errno::EFAULT)?;
    let is_absolute = flags & TIMER_ABSTIME != 0;
    if clock.is_cpu() {
        return sleep_on_cpu_clock(&clock, length, is_absolute);
    }
    if !is_absolute {
        return sleep(task, length, left);
    }
    let ahead = length.saturating_sub(clock.read_ns()?);
    if ahead == 0 { Ok(()) } else { sleep_until(Some(monotonic_ns().saturating_add(ahead))) }
}

/// The clock of a sleep, if it has sleeps.
fn sleep_clock(task: &Task, id: u32) -> Result<Clock> {
    let clock = Clock::of_id(task, id)?;
    match (id, &clock) {
        // The caller's CPU clock, MONOTONIC_RAW and the coarse clocks.
        (3..=6, _) => Err(Errno::EOPNOTSUPP),
        (8 | 9, _) if !task.creds().has(CAP_WAKE_ALARM) => Err(Errno::EPERM),
        (_, Clock::Caller) => Err(Errno::EINVAL),
        (_, Clock::Thread(other)) if core::ptr::eq(&raw const **other, task) => Err(Errno::EINVAL),
        _ => Ok(clock),
    }
}

/// CPU time cannot be waited for: the clock is looked at when it may have come that far.
fn sleep_on_cpu_clock(clock: &Clock, length: u64, is_absolute: bool) -> Result<()> {
    let target = if is_absolute { length } else { clock.read_ns()?.saturating_add(length) };
    loop {
        let shown = clock.read_ns()?;
        if shown >= target {
            return Ok(());
        }
        sleep_until(Some(monotonic_ns().saturating_add(wait_ns(clock, shown, target))))?;
    }
}

/// Words of struct timex.
type Timex = [u64; 26];

/// How the clock is steered: adjtimex(2), to be read only. Answers TIME_ERROR: nobody here steers it.
///
/// # Errors
/// EPERM for any change, EFAULT.
pub(super) fn adjtimex(task: &Task, to: UserPtr<Timex>) -> Result<u32> {
    const TIME_ERROR: u32 = 5;
    const STA_UNSYNC: u64 = 0x40;
    const ADJ_OFFSET_SS_READ: u64 = 0xa001;
    const ADJ_TICK: u64 = 0x4000;
    const TICKS: core::ops::RangeInclusive<u64> = 9_000..=11_000;
    let given = to.read()?;
    let modes = given[0] & u64::from(u32::MAX);
    if modes & ADJ_TICK != 0 && task.creds().has(CAP_SYS_TIME) && !TICKS.contains(&given[11]) {
        return Err(Errno::EINVAL);
    }
    if modes != 0 && modes != ADJ_OFFSET_SS_READ {
        return Err(Errno::EPERM);
    }
    let now = machine::clock::realtime_ns();
    let mut words = [0; 26];
    words[0] = modes;
    // maxerror, esterror, status, constant, precision, tolerance, time, tick.
    words[3] = 16_000_000;
    words[4] = 16_000_000;
    words[5] = STA_UNSYNC;
    words[6] = 2;
    words[7] = 1;
    words[8] = 32_768_000;
    words[9] = now / SECOND;
    words[10] = now % SECOND / 1000;
    words[11] = 10_000;
    to.write(&words)?;
    Ok(TIME_ERROR)
}

/// As [`adjtimex`], for a clock: clock_adjtime(2).
///
/// # Errors
/// EINVAL, EOPNOTSUPP for a clock that cannot be steered, EPERM, EFAULT.
pub(super) fn clock_adjtime(task: &Task, clock: u32, to: UserPtr<Timex>) -> Result<u32> {
    let _ = Clock::of_id(task, clock)?;
    if clock == 0 { adjtimex(task, to) } else { Err(Errno::EOPNOTSUPP) }
}
