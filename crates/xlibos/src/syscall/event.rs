//! Descriptors that tell of events: eventfd(2).

use crate::fs::eventfd::{EventFile, Mode};
use crate::fs::fd_table::{Fd, OnExec};
use crate::fs::{File, OpenFlags};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;

/// EFD_SEMAPHORE.
const EFD_SEMAPHORE: u32 = 1;

/// Puts a new file into the caller's table; `flags` may hold O_NONBLOCK and O_CLOEXEC.
///
/// # Errors
/// EINVAL for other flags, EMFILE.
pub(super) fn install(task: &Task, ops: Arc<dyn crate::fs::FileOps>, access: OpenFlags, flags: u32) -> Result<Fd> {
    let flags = OpenFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    if !(OpenFlags::NONBLOCK | OpenFlags::CLOEXEC).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let file = File::new(ops, access | flags & OpenFlags::NONBLOCK);
    task.files().insert(file, OnExec::from_flag(flags.contains(OpenFlags::CLOEXEC)))
}

/// Creates a counter that threads can wait on: eventfd2(2).
///
/// # Errors
/// EINVAL for unknown flags, EMFILE.
pub(super) fn eventfd2(task: &Task, value: u32, flags: u32) -> Result<Fd> {
    let mode = if flags & EFD_SEMAPHORE == 0 { Mode::Counter } else { Mode::Semaphore };
    let file = EventFile::new(u64::from(value), mode);
    install(task, file, OpenFlags::RDWR, flags & !EFD_SEMAPHORE)
}

/// As eventfd2 without flags: eventfd(2).
///
/// # Errors
/// EMFILE.
pub(super) fn eventfd(task: &Task, value: u32) -> Result<Fd> {
    eventfd2(task, value, 0)
}
