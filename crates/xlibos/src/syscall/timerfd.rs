//! Timers as files: timerfd_create(2), timerfd_settime(2), timerfd_gettime(2).

use super::event::install;
use super::timeout::{itimerspec, to_itimerspec};
use crate::fs::fd_table::Fd;
use crate::fs::timerfd::TimerFile;
use crate::fs::{File, OpenFlags};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use machine::guest::UserPtr;

/// CAP_WAKE_ALARM.
const CAP_WAKE_ALARM: u32 = 35;
/// TFD_TIMER_ABSTIME and TFD_TIMER_CANCEL_ON_SET.
const ABSOLUTE: u32 = 1;
const CANCEL_ON_SET: u32 = 2;

/// Makes a timer: timerfd_create(2).
///
/// # Errors
/// EINVAL for another clock or flag, EPERM for an alarm clock without the capability, EMFILE.
pub(super) fn timerfd_create(task: &Task, clock: u32, flags: u32) -> Result<Fd> {
    // The alarm clocks tell the time of their plain ones.
    let clock = match clock {
        0 | 1 | 7 => clock,
        8 | 9 if !task.creds().has(CAP_WAKE_ALARM) => return Err(Errno::EPERM),
        8 => 0,
        9 => 7,
        _ => return Err(Errno::EINVAL),
    };
    install(task, TimerFile::new(clock), OpenFlags::RDWR, flags)
}

fn with_timer<T>(task: &Task, fd: Fd, then: impl FnOnce(&TimerFile) -> T) -> Result<T> {
    let file: Arc<File> = task.file(fd)?;
    file.downcast::<TimerFile>().map(then).ok_or(Errno::EINVAL)
}

/// Sets a timer: timerfd_settime(2).
///
/// # Errors
/// EFAULT, EINVAL, EBADF.
pub(super) fn timerfd_settime(
    task: &Task,
    fd: Fd,
    flags: u32,
    new: UserPtr<[i64; 4]>,
    old: UserPtr<[i64; 4]>,
) -> Result<()> {
    let new = new.read()?;
    if flags & !(ABSOLUTE | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let setting = itimerspec(new)?;
    let before = with_timer(task, fd, |timer| timer.set(setting, flags & ABSOLUTE != 0))?;
    old.write_optional(&to_itimerspec(before))
}

/// What is left of a timer: timerfd_gettime(2).
///
/// # Errors
/// EBADF, EINVAL, EFAULT.
pub(super) fn timerfd_gettime(task: &Task, fd: Fd, at: UserPtr<[i64; 4]>) -> Result<()> {
    let setting = with_timer(task, fd, TimerFile::setting)?;
    at.write(&to_itimerspec(setting))
}
