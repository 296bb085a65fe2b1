//! Event polls: epoll_create1(2), epoll_ctl(2), epoll_wait(2) and their variants.

use super::event::install;
use super::poll::read_mask;
use super::timeout::{from_millis, read_timespec};
use crate::fs::epoll::{Change, Epoll};
use crate::fs::fd_table::Fd;
use crate::fs::{File, OpenFlags};
use crate::signal::SigSet;
use crate::wait::with_kept_deadline;
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use machine::guest::{self, UserPtr};

/// Bytes of `struct epoll_event` on x86-64: it is packed.
const EVENT_SIZE: u64 = 12;
/// Most events one wait can ask for.
const MAX_EVENTS: i32 = i32::MAX / 12;

/// Creates an epoll: epoll_create1(2).
///
/// # Errors
/// EINVAL for flags other than EPOLL_CLOEXEC, EMFILE.
pub(super) fn epoll_create1(task: &Task, flags: u32) -> Result<Fd> {
    if flags & !OpenFlags::CLOEXEC.bits() != 0 {
        return Err(Errno::EINVAL);
    }
    install(task, Epoll::new(), OpenFlags::RDWR, flags)
}

/// Creates an epoll: epoll_create(2).
///
/// # Errors
/// EINVAL for a size that is not positive, EMFILE.
pub(super) fn epoll_create(task: &Task, size: i32) -> Result<Fd> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    epoll_create1(task, 0)
}

/// Changes an epoll's interest in a descriptor: epoll_ctl(2).
///
/// # Errors
/// EFAULT, EBADF, EPERM for a file that cannot be waited for, EINVAL, EEXIST, ENOENT, ELOOP.
pub(super) fn epoll_ctl(task: &Task, epoll: Fd, operation: i32, fd: Fd, event: u64) -> Result<()> {
    let read = || -> Result<(u32, u64)> { Ok((guest::read_value(event)?, guest::read_value(event.wrapping_add(4))?)) };
    let change = match operation {
        1 => read().map(|(events, data)| Change::Add(events, data))?,
        2 => Change::Delete,
        3 => read().map(|(events, data)| Change::Modify(events, data))?,
        _ => return refuse_operation(task, epoll, fd, event),
    };
    let (file, target) = (task.file(epoll)?, task.file(fd)?);
    if target.ops().wait_queue().is_none() {
        return Err(Errno::EPERM);
    }
    if Arc::ptr_eq(&file, &target) {
        return Err(Errno::EINVAL);
    }
    epoll_of(&file)?.control(&target, fd.0, change)
}

/// An unknown operation is refused after the rest was found to be right.
fn refuse_operation(task: &Task, epoll: Fd, fd: Fd, event: u64) -> Result<()> {
    let _: u32 = guest::read_value(event)?;
    task.file(epoll)?;
    task.file(fd)?;
    Err(Errno::EINVAL)
}

fn epoll_of(file: &File) -> Result<&Epoll> {
    file.downcast().ok_or(Errno::EINVAL)
}

fn wait(task: &Task, epoll: Fd, events: u64, max: i32, timeout_ns: Option<u64>, mask: Option<SigSet>) -> Result<usize> {
    if max <= 0 || max > MAX_EVENTS {
        return Err(Errno::EINVAL);
    }
    let max = usize::try_from(max).map_err(|_| Errno::EINVAL)?;
    let mut at = events;
    let mut emit = |bits: u32, data: u64| -> Result<()> {
        guest::write_value(at, &[bits, data as u32, (data >> 32) as u32])?;
        at = at.wrapping_add(EVENT_SIZE);
        Ok(())
    };
    task.with_file(epoll, |file| {
        let instance = epoll_of(file)?;
        if mask.is_none() {
            // Most often something is ready: it needs no clock.
            let count = instance.look(max, &mut emit)?;
            if count > 0 || timeout_ns == Some(0) {
                return Ok(count);
            }
        }
        with_kept_deadline(task, timeout_ns, |deadline| {
            crate::signal::with_mask(task, mask, || instance.wait(max, deadline, emit))
        })
    })
}

/// Waits for events: epoll_wait(2).
///
/// # Errors
/// EINVAL, EBADF, EFAULT, INTERRUPTED.
pub(super) fn epoll_wait(task: &Task, epoll: Fd, events: u64, max: i32, timeout_ms: i32) -> Result<usize> {
    wait(task, epoll, events, max, from_millis(timeout_ms), None)
}

/// As epoll_wait, with a mask of signals for the time of the wait: epoll_pwait(2).
///
/// # Errors
/// As [`epoll_wait`].
pub(super) fn epoll_pwait(
    task: &Task,
    epoll: Fd,
    events: u64,
    max: i32,
    timeout_ms: i32,
    mask: UserPtr<u64>,
    mask_size: usize,
) -> Result<usize> {
    let mask = read_mask(mask, mask_size)?;
    wait(task, epoll, events, max, from_millis(timeout_ms), mask)
}

/// As epoll_pwait, with a timespec: epoll_pwait2(2).
///
/// # Errors
/// As [`epoll_wait`].
pub(super) fn epoll_pwait2(
    task: &Task,
    epoll: Fd,
    events: u64,
    max: i32,
    timeout: UserPtr<[i64; 2]>,
    mask: UserPtr<u64>,
    mask_size: usize,
) -> Result<usize> {
    let timeout_ns = read_timespec(timeout)?;
    let mask = read_mask(mask, mask_size)?;
    wait(task, epoll, events, max, timeout_ns, mask)
}
