//! Descriptors that tell of events: eventfd(2), signalfd(2).

use crate::fs::eventfd::{EventFile, Mode};
use crate::fs::fd_table::{Fd, OnExec};
use crate::fs::signalfd::SignalFile;
use crate::fs::{File, OpenFlags};
use crate::signal::{SigSet, UNBLOCKABLE};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use machine::guest::UserPtr;

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
    task.insert_file(file, OnExec::from_flag(flags.contains(OpenFlags::CLOEXEC)))
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

/// Makes a file from which signals are read, or changes its set: signalfd4(2).
///
/// # Errors
/// EINVAL for unknown flags and for a file of another kind, EFAULT, EBADF, EMFILE.
pub(super) fn signalfd4(task: &Task, fd: Fd, mask: UserPtr<u64>, size: u64, flags: u32) -> Result<Fd> {
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let mask = SigSet(mask.read()?).without(UNBLOCKABLE);
    if fd.0 == -1 {
        return install(task, SignalFile::new(mask), OpenFlags::RDWR, flags);
    }
    let known = OpenFlags::NONBLOCK | OpenFlags::CLOEXEC;
    if flags & !known.bits() != 0 {
        return Err(Errno::EINVAL);
    }
    let file = task.file(fd)?;
    file.downcast::<SignalFile>().ok_or(Errno::EINVAL)?.set_mask(mask);
    Ok(fd)
}

/// As signalfd4 without flags: signalfd(2).
///
/// # Errors
/// As [`signalfd4`].
pub(super) fn signalfd(task: &Task, fd: Fd, mask: UserPtr<u64>, size: u64) -> Result<Fd> {
    signalfd4(task, fd, mask, size, 0)
}
