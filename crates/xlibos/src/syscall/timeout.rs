//! Timeouts of calls that wait: from what the guest gives to an absolute deadline, over restarts.

use crate::time::Setting;
use crate::wait::Deadline;
use crate::{Errno, Result};
use machine::clock::monotonic_ns;
use machine::guest::UserPtr;

const NSEC: u64 = 1_000_000_000;

/// A timespec as nanoseconds; None for a NULL pointer.
///
/// # Errors
/// EFAULT, EINVAL for a negative or too large part.
pub fn read_timespec(at: UserPtr<[i64; 2]>) -> Result<Option<u64>> {
    let Some(at) = at.non_null() else {
        return Ok(None);
    };
    timespec_ns(at.read()?).map(Some)
}

/// A timespec as nanoseconds, saturating.
///
/// # Errors
/// EINVAL.
pub fn timespec_ns([sec, nsec]: [i64; 2]) -> Result<u64> {
    let (Ok(sec), Ok(nsec)) = (u64::try_from(sec), u64::try_from(nsec)) else {
        return Err(Errno::EINVAL);
    };
    if nsec >= NSEC {
        return Err(Errno::EINVAL);
    }
    Ok(sec.saturating_mul(NSEC).saturating_add(nsec))
}

/// Nanoseconds as a timespec.
#[must_use]
pub fn to_timespec(ns: u64) -> [i64; 2] {
    [i64::try_from(ns / NSEC).unwrap_or(i64::MAX), i64::try_from(ns % NSEC).unwrap_or(0)]
}

/// What a struct itimerspec sets: interval and first expiry.
///
/// # Errors
/// EINVAL.
pub fn itimerspec([a, b, c, d]: [i64; 4]) -> Result<Setting> {
    Ok(Setting { first_ns: timespec_ns([c, d])?, interval_ns: timespec_ns([a, b])? })
}

/// A setting as struct itimerspec has it.
#[must_use]
pub fn to_itimerspec(setting: Setting) -> [i64; 4] {
    let ([a, b], [c, d]) = (to_timespec(setting.interval_ns), to_timespec(setting.first_ns));
    [a, b, c, d]
}

/// Milliseconds, negative for ever, as nanoseconds.
#[must_use]
pub fn from_millis(ms: i32) -> Option<u64> {
    u64::try_from(ms).ok().map(|ms| ms.saturating_mul(1_000_000))
}

/// The deadline of a relative timeout that begins now.
#[must_use]
pub fn deadline_after(timeout_ns: Option<u64>) -> Deadline {
    // A zero timeout is a deadline that has passed: no clock needs to be read.
    timeout_ns.map(|ns| if ns == 0 { 1 } else { monotonic_ns().saturating_add(ns) })
}

/// What is left until a deadline.
#[must_use]
pub fn left_until(deadline: Deadline) -> Option<u64> {
    deadline.map(|at| at.saturating_sub(monotonic_ns()))
}
