//! Pipes: pipe(2), pipe2(2); moving bytes between pipes and files: splice(2), tee(2), vmsplice(2).

use super::args::read_iovecs;
use crate::fs::fd_table::{Fd, OnExec};
use crate::fs::inode::Kind;
use crate::fs::pipe::{Pipe, new_pair, pipe_of};
use crate::fs::{File, OpenFlags};
use crate::signal::deliver::has_deliverable;
use crate::uio::{Sink, Source};
use crate::wait::wait_until;
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::guest::UserPtr;

/// SPLICE_F_NONBLOCK.
const SPLICE_NONBLOCK: u32 = 2;
/// SPLICE_F_MOVE, NONBLOCK, MORE, GIFT.
const SPLICE_FLAGS: u32 = 0xf;
/// Bytes moved at a time.
const STEP: usize = 64 * 1024;

/// Makes a pipe: pipe2(2).
///
/// # Errors
/// EINVAL for unknown flags, EMFILE, EFAULT.
pub(super) fn pipe2(task: &Task, fds: UserPtr<[i32; 2]>, flags: u32) -> Result<()> {
    let flags = OpenFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    if !(OpenFlags::NONBLOCK | OpenFlags::CLOEXEC | OpenFlags::DIRECT).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let on_exec = OnExec::from_flag(flags.contains(OpenFlags::CLOEXEC));
    let files = task.files();
    let (reader, writer) = new_pair(flags);
    let read_fd = files.insert(reader, on_exec)?;
    let write_fd = files.insert(writer, on_exec).inspect_err(|_| drop(files.remove(read_fd)))?;
    fds.write(&[read_fd.0, write_fd.0]).inspect_err(|_| {
        drop(files.remove(read_fd));
        drop(files.remove(write_fd));
    })
}

/// Makes a pipe: pipe(2).
///
/// # Errors
/// EMFILE, EFAULT.
pub(super) fn pipe(task: &Task, fds: UserPtr<[i32; 2]>) -> Result<()> {
    pipe2(task, fds, 0)
}

/// Moves bytes between a pipe and a file, or two pipes: splice(2).
///
/// # Errors
/// EBADF, EINVAL where neither is a pipe, ESPIPE for an offset of a pipe, EAGAIN, EPIPE, INTERRUPTED.
pub(super) fn splice(
    task: &Task,
    from: Fd,
    from_offset: UserPtr<u64>,
    to: Fd,
    to_offset: UserPtr<u64>,
    len: usize,
    flags: u32,
) -> Result<usize> {
    if len == 0 {
        return Ok(0);
    }
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (task.file(from)?, task.file(to)?);
    if !from.flags().is_readable() || !to.flags().is_writable() {
        return Err(Errno::EBADF);
    }
    let wait = flags & SPLICE_NONBLOCK == 0;
    match (pipe_of(&from), pipe_of(&to)) {
        (Some(_), _) if !from_offset.is_null() => Err(Errno::ESPIPE),
        (_, Some(_)) if !to_offset.is_null() => Err(Errno::ESPIPE),
        (Some(source), Some(target)) if Arc::ptr_eq(source, target) => Err(Errno::EINVAL),
        (Some(source), Some(target)) => {
            let wait = wait && !from.is_nonblocking() && !to.is_nonblocking();
            between_pipes(source, target, len, wait, Keep::Nothing)
        }
        (Some(_), None) if to.flags().contains(OpenFlags::APPEND) => Err(Errno::EINVAL),
        (Some(source), None) => {
            at_offset(to_offset, |at| out_of_pipe(source, &to, at, len, wait && !from.is_nonblocking()))
        }
        (None, Some(_)) if from.path().is_some_and(|path| path.inode().kind() == Kind::Directory) => Err(Errno::EINVAL),
        (None, Some(target)) => {
            at_offset(from_offset, |at| into_pipe(&from, at, target, len, wait && !to.is_nonblocking()))
        }
        (None, None) => Err(Errno::EINVAL),
    }
}

/// Moves bytes at the offset in memory, where there is one, and moves that on.
fn at_offset(offset: UserPtr<u64>, act: impl FnOnce(Option<u64>) -> Result<usize>) -> Result<usize> {
    let Some(offset) = offset.non_null() else { return act(None) };
    let start = offset.read()?;
    let count = act(Some(start))?;
    offset.write(&start.saturating_add(count as u64))?;
    Ok(count)
}

/// Whether the bytes stay in the source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    Bytes,
}

/// Waits until a pipe can be read; the bytes, not taken. Empty at the end.
fn peek_pipe(pipe: &Pipe, max: usize, wait: bool) -> Result<Vec<u8>> {
    let mut buffer = crate::ipc::ring::storage(max.min(STEP))?;
    let mut attempt = || pipe.peek(&mut Sink::kernel(&mut buffer), max);
    let count = match attempt()? {
        Some(count) => count,
        None if !wait => return Err(Errno::EAGAIN),
        None => wait_until(&[pipe.read_queue()], None, || attempt().transpose())?.unwrap_or(Ok(0))?,
    };
    buffer.truncate(count);
    Ok(buffer)
}

/// Waits until a pipe has room or no reader.
fn wait_for_room(pipe: &Pipe, wait: bool) -> Result<usize> {
    let check = || match pipe.room() {
        _ if pipe.has_no_readers() => Some(Err(Errno::EPIPE)),
        0 => None,
        room => Some(Ok(room)),
    };
    let found = match check() {
        Some(found) => found,
        None if !wait => return Err(Errno::EAGAIN),
        None => wait_until(&[pipe.write_queue()], None, check)?.unwrap_or(Err(Errno::EAGAIN)),
    };
    if found == Err(Errno::EPIPE) {
        crate::fs::pipe::send_sigpipe();
    }
    found
}

fn between_pipes(source: &Pipe, target: &Pipe, len: usize, wait: bool, keep: Keep) -> Result<usize> {
    let bytes = peek_pipe(source, len, wait)?;
    if bytes.is_empty() {
        return Ok(0);
    }
    let room = wait_for_room(target, wait)?;
    let part = bytes.get(..room.min(bytes.len())).unwrap_or(&bytes);
    let count = target.write(&mut Source::kernel(part), false)?;
    if keep == Keep::Nothing {
        source.discard(count);
    }
    Ok(count)
}

fn out_of_pipe(source: &Pipe, to: &File, at: Option<u64>, len: usize, wait: bool) -> Result<usize> {
    let bytes = peek_pipe(source, len, wait)?;
    if bytes.is_empty() {
        return Ok(0);
    }
    let mut data = Source::kernel(&bytes);
    let count = match at {
        None => to.write(&mut data)?,
        Some(at) => to.write_at(&mut data, at)?,
    };
    source.discard(count);
    Ok(count)
}

/// Waits for room with bytes in hand that would be lost if the call ended here: a thread that is only asked to stand does so
/// right here.
fn wait_with_bytes(target: &Pipe) -> Result<()> {
    let has_room = || (target.room() > 0 || target.has_no_readers()).then_some(());
    while let Err(errno) = wait_until(&[target.write_queue()], None, has_room) {
        let Some(task) = Task::current() else { return Err(errno) };
        machine::cpu::current().clear_pending();
        if task.must_exit() || has_deliverable(task) {
            return Err(errno);
        }
        crate::quiesce::stand(task);
    }
    Ok(())
}

fn into_pipe(from: &File, at: Option<u64>, target: &Pipe, len: usize, wait: bool) -> Result<usize> {
    let room = wait_for_room(target, wait)?;
    let mut buffer = crate::ipc::ring::storage(len.min(room).min(STEP))?;
    let mut sink = Sink::kernel(&mut buffer);
    let count = match at {
        None => from.read(&mut sink)?,
        Some(at) => from.read_at(&mut sink, at)?,
    };
    let mut data = Source::kernel(buffer.get(..count).unwrap_or(&[]));
    // Another writer may have taken the room: what was read must not be lost, so this waits whatever the flags say.
    while data.remaining() > 0 {
        match target.write(&mut data, false) {
            Ok(_) => {}
            Err(Errno::EAGAIN) => wait_with_bytes(target)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(count)
}

/// Copies bytes from one pipe to another and leaves them: tee(2).
///
/// # Errors
/// EBADF, EINVAL where one is no pipe or both are the same, EAGAIN, EPIPE, INTERRUPTED.
pub(super) fn tee(task: &Task, from: Fd, to: Fd, len: usize, flags: u32) -> Result<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (from, to) = (task.file(from)?, task.file(to)?);
    if !from.flags().is_readable() || !to.flags().is_writable() {
        return Err(Errno::EBADF);
    }
    let (Some(source), Some(target)) = (pipe_of(&from), pipe_of(&to)) else {
        return Err(Errno::EINVAL);
    };
    if Arc::ptr_eq(source, target) {
        return Err(Errno::EINVAL);
    }
    let wait = flags & SPLICE_NONBLOCK == 0 && !from.is_nonblocking() && !to.is_nonblocking();
    between_pipes(source, target, len, wait, Keep::Bytes)
}

/// Moves memory into a pipe, or out of one: vmsplice(2). Always a copy, which the interface allows.
///
/// # Errors
/// EBADF where it is no pipe, EINVAL, EFAULT, EAGAIN, EPIPE, INTERRUPTED.
pub(super) fn vmsplice(task: &Task, fd: Fd, iov: u64, count: u64, flags: u32) -> Result<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = task.file(fd)?;
    let pipe = pipe_of(&file).ok_or(Errno::EBADF)?;
    let vectors = read_iovecs(iov, count)?;
    let wait = flags & SPLICE_NONBLOCK == 0 && !file.is_nonblocking();
    if file.flags().is_writable() {
        let mut data = Source::guest_vectors(&vectors);
        if data.remaining() == 0 {
            return Ok(0);
        }
        return file.transfer(crate::wait::WRITABLE, !wait, || pipe.write(&mut data, false));
    }
    let mut sink = Sink::guest_vectors(&vectors);
    file.transfer(crate::wait::READABLE, !wait, || pipe.read(&mut sink))
}
