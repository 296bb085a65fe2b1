//! POSIX message queues: mq_open(2) and its family.

use super::args::UserPath;
use super::timeout::timespec_ns;
use crate::fs::OpenFlags;
use crate::fs::fd_table::{Fd, OnExec};
use crate::fs::file::File;
use crate::ipc::mqueue::{self, COOKIE, Message, Notice, PRIORITIES, Queue, QueueFile, Size};
use crate::net::socket::socket_of;
use crate::signal::NSIG;
use crate::wait::Deadline;
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec;
use machine::guest::{self, UserPtr};

/// `struct mq_attr`: flags, messages, bytes of one, messages that wait.
type Attributes = [i64; 8];

/// Opens a queue, or makes it: mq_open(2). The library takes the slash off the name.
///
/// # Errors
/// ENOENT, EEXIST, EACCES, EINVAL, EMFILE, ENOSPC, ENAMETOOLONG, EFAULT.
pub(super) fn mq_open(task: &Task, name: UserPath, flags: u32, mode: u32, with: UserPtr<Attributes>) -> Result<Fd> {
    let wanted = with.non_null().map(UserPtr::read).transpose()?;
    let flags = OpenFlags::from_bits_truncate(flags);
    let size = || match wanted {
        Some([_, messages, bytes, ..]) => Size::checked(&task.creds(), messages, bytes),
        None => Ok(Size::default()),
    };
    let file = mqueue::open(task, &name.read()?, flags, mode, size)?;
    task.insert_file(file, OnExec::Close)
}

/// Takes a queue's name away: mq_unlink(2).
///
/// # Errors
/// ENOENT, EPERM, EACCES, ENAMETOOLONG, EFAULT.
pub(super) fn mq_unlink(task: &Task, name: UserPath) -> Result<()> {
    mqueue::unlink(&task.creds(), &name.read()?)
}

/// The queue of a file.
fn queue_of(file: &File) -> Result<&Arc<Queue>> {
    file.downcast::<QueueFile>().map(QueueFile::queue).ok_or(Errno::EBADF)
}

/// A time of CLOCK_REALTIME as a deadline.
fn deadline_at(until: UserPtr<[i64; 2]>) -> Result<Deadline> {
    let Some(until) = until.non_null() else { return Ok(None) };
    let left = timespec_ns(until.read()?)?.saturating_sub(machine::clock::realtime_ns());
    Ok(Some(machine::clock::monotonic_ns().saturating_add(left)))
}

/// Sends a message: mq_timedsend(2).
///
/// # Errors
/// EINVAL, EBADF, EMSGSIZE, EFAULT, EAGAIN, ETIMEDOUT, INTERRUPTED.
pub(super) fn mq_timedsend(
    task: &Task,
    fd: Fd,
    text: u64,
    len: usize,
    priority: u32,
    until: UserPtr<[i64; 2]>,
) -> Result<()> {
    let deadline = deadline_at(until)?;
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let file = task.file(fd)?;
    let queue = queue_of(&file)?;
    if !file.flags().is_writable() {
        return Err(Errno::EBADF);
    }
    if len > queue.size().bytes {
        return Err(Errno::EMSGSIZE);
    }
    let mut bytes = vec![0; len];
    guest::read(text, &mut bytes)?;
    queue.send(task, Message { priority, text: bytes }, file.is_nonblocking(), deadline)
}

/// Receives a message: mq_timedreceive(2).
///
/// # Errors
/// EINVAL, EBADF, EMSGSIZE, EFAULT, EAGAIN, ETIMEDOUT, INTERRUPTED.
pub(super) fn mq_timedreceive(
    task: &Task,
    fd: Fd,
    to: u64,
    len: usize,
    priority: UserPtr<u32>,
    until: UserPtr<[i64; 2]>,
) -> Result<usize> {
    let deadline = deadline_at(until)?;
    let file = task.file(fd)?;
    let queue = queue_of(&file)?;
    if !file.flags().is_readable() {
        return Err(Errno::EBADF);
    }
    if len < queue.size().bytes {
        return Err(Errno::EMSGSIZE);
    }
    let message = queue.receive(task, file.is_nonblocking(), deadline)?;
    priority.write_optional(&message.priority)?;
    guest::write(to, &message.text)?;
    Ok(message.text.len())
}

/// Asks to be told of the next message at an empty queue, or not any more: mq_notify(2).
///
/// # Errors
/// EINVAL, EBADF, EBUSY, EFAULT.
pub(super) fn mq_notify(task: &Task, fd: Fd, event: UserPtr<[u64; 8]>) -> Result<()> {
    const SIGEV_SIGNAL: u64 = 0;
    const SIGEV_NONE: u64 = 1;
    const SIGEV_THREAD: u64 = 2;
    let notice = match event.non_null().map(UserPtr::read).transpose()? {
        None => None,
        Some([value, words, ..]) => {
            let number = i32::try_from(words & 0xffff_ffff).unwrap_or(-1);
            Some(match words >> 32 {
                SIGEV_NONE => Notice::Silence,
                SIGEV_SIGNAL if (0..=NSIG).contains(&number) => Notice::Signal(number, value),
                SIGEV_THREAD => {
                    let cookie: [u8; COOKIE] = guest::read_value(value)?;
                    Notice::Socket(Arc::clone(socket_of(&*task.file(Fd(number))?)?), cookie)
                }
                _ => return Err(Errno::EINVAL),
            })
        }
    };
    let file = task.file(fd)?;
    queue_of(&file)?.set_notice(task, notice)
}

/// Reads attributes and sets O_NONBLOCK: mq_getsetattr(2).
///
/// # Errors
/// EINVAL for other flags, EBADF, EFAULT.
pub(super) fn mq_getsetattr(task: &Task, fd: Fd, new: UserPtr<Attributes>, old: UserPtr<Attributes>) -> Result<()> {
    let known = i64::from(OpenFlags::NONBLOCK.bits());
    let wanted = new.non_null().map(UserPtr::read).transpose()?;
    if wanted.is_some_and(|[flags, ..]| flags & !known != 0) {
        return Err(Errno::EINVAL);
    }
    let file = task.file(fd)?;
    let queue = queue_of(&file)?;
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let flags = i64::from((file.flags() & OpenFlags::NONBLOCK).bits());
    let Size { messages, bytes } = queue.size();
    let was = [flags, number(messages), number(bytes), number(queue.count()), 0, 0, 0, 0];
    if let Some([flags, ..]) = wanted {
        let mut status = file.flags();
        status.set(OpenFlags::NONBLOCK, flags & known != 0);
        file.set_status(status)?;
    }
    old.write_optional(&was)
}
