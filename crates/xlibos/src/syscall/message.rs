//! Messages: sendmsg(2), recvmsg(2), sendto(2), recvfrom(2), sendmmsg(2), recvmmsg(2).

use super::args::read_iovecs;
use super::control;
use super::socket::{Direction, attempt_or_wait, read_address, socket_at, write_address};
use super::timeout::{deadline_after, read_timespec};
use crate::fs::File;
use crate::fs::fd_table::Fd;
use crate::net::channel::{Control, Take};
use crate::net::socket::{Incoming, Outgoing, Socket, Type, msg};
use crate::uio::{Sink, Source};
use crate::{Errno, Result, Task};
use machine::guest::{self, UserPtr};

/// Bytes of `struct msghdr`, and of `struct mmsghdr`.
const HEADER_SIZE: u64 = 56;
const MULTI_SIZE: u64 = 64;
/// Most messages of one sendmmsg or recvmmsg: UIO_MAXIOV.
const MAX_MESSAGES: u32 = 1024;

/// `struct msghdr`.
struct Header {
    at: u64,
    name: u64,
    name_len: i32,
    iov: u64,
    iov_len: u64,
    control: u64,
    control_len: u64,
}

impl Header {
    fn read(at: u64) -> Result<Header> {
        let words: [u64; 7] = guest::read_value(at)?;
        let [name, name_len, iov, iov_len, control, control_len, _] = words;
        let [a, b, c, d, ..] = name_len.to_le_bytes();
        let name_len = i32::from_le_bytes([a, b, c, d]);
        if name != 0 && name_len < 0 {
            return Err(Errno::EINVAL);
        }
        if iov_len > crate::uio::IOV_MAX as u64 {
            return Err(Errno::EMSGSIZE);
        }
        Ok(Header { at, name, name_len, iov, iov_len, control, control_len })
    }
}

/// Sends all of a stream's bytes, or one message; what was sent before an error counts.
fn send(
    task: &Task,
    file: &File,
    socket: &dyn Socket,
    data: &mut Source<'_>,
    (to, mut control, flags): (Option<&[u8]>, Control, u32),
) -> Result<usize> {
    let dont_wait = flags & msg::DONTWAIT != 0;
    let is_stream = socket.identity().kind == Type::Stream;
    let mut total = task.take_progress();
    data.advance(total);
    if total > 0 {
        // What goes beside went with the first part.
        control = Control::default();
    }
    loop {
        let sent = attempt_or_wait(file, socket, Direction::Send, dont_wait, || {
            socket.send(Some(task), &mut Outgoing { data, to, control: &mut control, flags })
        });
        match sent {
            Ok(count) => total += count,
            Err(errno) if total > 0 && errno.is_interruption() => {
                return Err(interrupted_after(task, total));
            }
            Err(_) if total > 0 => return Ok(total),
            Err(Errno::EPIPE) if is_stream && flags & msg::NOSIGNAL == 0 => {
                crate::fs::pipe::send_sigpipe();
                return Err(Errno::EPIPE);
            }
            Err(errno) => return Err(errno),
        }
        if !is_stream || data.remaining() == 0 {
            return Ok(total);
        }
    }
}

/// Receives one message, or as much of a stream as is asked for.
fn receive(task: &Task, file: &File, socket: &dyn Socket, to: &mut Sink<'_>, flags: u32) -> Result<Incoming> {
    if flags & msg::ERRQUEUE != 0 {
        return Err(Errno::EAGAIN);
    }
    let take = if flags & msg::PEEK == 0 { Take::Remove } else { Take::Peek };
    let dont_wait = flags & msg::DONTWAIT != 0;
    let attempt = |to: &mut Sink<'_>| {
        attempt_or_wait(file, socket, Direction::Receive, dont_wait, || socket.receive(to, take, flags))
    };
    let before = task.take_progress();
    to.advance(before);
    let mut first = match attempt(to) {
        Err(errno) if before == 0 => return Err(errno),
        Err(errno) if errno.is_interruption() => return Err(interrupted_after(task, before)),
        Err(_) => return Ok(Incoming { count: before, ..Incoming::default() }),
        Ok(first) => first,
    };
    first.count += before;
    let wants_all = flags & msg::WAITALL != 0 && take == Take::Remove && !first.has_bounds && !dont_wait;
    while wants_all && first.count > 0 && to.remaining() > 0 && first.control.files.is_empty() {
        match attempt(to) {
            Ok(more) if more.count > 0 => first.count += more.count,
            Err(errno) if errno.is_interruption() => return Err(interrupted_after(task, first.count)),
            _ => break,
        }
    }
    Ok(first)
}

/// The call goes on behind what is done, or a handler finds it ended by that.
fn interrupted_after(task: &Task, done: usize) -> Errno {
    task.keep_progress(done);
    Errno::INTERRUPTED
}

/// Of several messages, one of which a part is done counts where others came before it.
fn or_part(task: &Task, index: u32, moved: Result<usize>) -> Result<usize> {
    match moved {
        Err(errno) if errno.is_interruption() && index > 0 && task.kept_progress() > 0 => Ok(task.take_progress()),
        other => other,
    }
}

/// What the call returns, and the flags of the message.
fn outcome(incoming: &Incoming, flags: u32) -> (usize, u32) {
    let is_cut = incoming.has_bounds && incoming.full > incoming.count;
    let count = if is_cut && flags & msg::TRUNC != 0 { incoming.full } else { incoming.count };
    (count, if is_cut { msg::TRUNC } else { 0 })
}

/// Sends bytes: sendto(2).
///
/// # Errors
/// EBADF, ENOTSOCK, EAGAIN, EPIPE, ENOTCONN, EDESTADDRREQ, EISCONN, EMSGSIZE, EFAULT, INTERRUPTED.
pub(super) fn sendto(
    task: &Task,
    fd: Fd,
    buffer: u64,
    len: u64,
    flags: u32,
    address: u64,
    address_len: i32,
) -> Result<usize> {
    let (file, socket) = socket_at(task, fd)?;
    let to = if address == 0 { None } else { Some(read_address(address, address_len)?) };
    let mut data = Source::guest(buffer, len);
    send(task, &file, &*socket, &mut data, (to.as_deref(), Control::default(), flags))
}

/// Receives bytes: recvfrom(2).
///
/// # Errors
/// EBADF, ENOTSOCK, EAGAIN, ENOTCONN, ECONNREFUSED, ECONNRESET, EFAULT, INTERRUPTED.
pub(super) fn recvfrom(
    task: &Task,
    fd: Fd,
    buffer: u64,
    len: u64,
    flags: u32,
    address: u64,
    address_len: UserPtr<i32>,
) -> Result<usize> {
    let (file, socket) = socket_at(task, fd)?;
    let incoming = receive(task, &file, &*socket, &mut Sink::guest(buffer, len), flags)?;
    if address != 0 {
        write_address(address, address_len, &incoming.from)?;
    }
    Ok(outcome(&incoming, flags).0)
}

fn send_header(task: &Task, fd: Fd, at: u64, flags: u32) -> Result<usize> {
    let (file, socket) = socket_at(task, fd)?;
    let header = Header::read(at)?;
    let to =
        if header.name == 0 || header.name_len == 0 { None } else { Some(read_address(header.name, header.name_len)?) };
    let vectors = read_iovecs(header.iov, header.iov_len)?;
    let control = control::read(task, &*socket, header.control, header.control_len)?;
    let mut data = Source::guest_vectors(&vectors);
    send(task, &file, &*socket, &mut data, (to.as_deref(), control, flags))
}

fn receive_header(task: &Task, fd: Fd, at: u64, flags: u32) -> Result<usize> {
    let (file, socket) = socket_at(task, fd)?;
    let header = Header::read(at)?;
    let vectors = read_iovecs(header.iov, header.iov_len)?;
    let incoming = receive(task, &file, &*socket, &mut Sink::guest_vectors(&vectors), flags)?;
    let (count, mut message_flags) = outcome(&incoming, flags);
    if header.name != 0 {
        let room = usize::try_from(header.name_len).unwrap_or(0);
        let part = incoming.from.get(..room.min(incoming.from.len())).unwrap_or(&[]);
        guest::write(header.name, part)?;
        guest::write_value(header.at + 8, &u32::try_from(incoming.from.len()).unwrap_or(0))?;
    }
    let (control_len, is_cut) = control::write(task, &*socket, &incoming, (header.control, header.control_len), flags)?;
    if is_cut {
        message_flags |= msg::CTRUNC;
    }
    guest::write_value(header.at + 40, &control_len)?;
    guest::write_value(header.at + 48, &(message_flags | flags & msg::CMSG_CLOEXEC))?;
    Ok(count)
}

/// Sends a message: sendmsg(2).
///
/// # Errors
/// As [`sendto`]; EINVAL and EBADF for what goes beside.
pub(super) fn sendmsg(task: &Task, fd: Fd, header: u64, flags: u32) -> Result<usize> {
    send_header(task, fd, header, flags)
}

/// Receives a message: recvmsg(2).
///
/// # Errors
/// As [`recvfrom`].
pub(super) fn recvmsg(task: &Task, fd: Fd, header: u64, flags: u32) -> Result<usize> {
    receive_header(task, fd, header, flags)
}

/// Sends several messages: sendmmsg(2).
///
/// # Errors
/// Those of the first message.
pub(super) fn sendmmsg(task: &Task, fd: Fd, headers: u64, count: u32, flags: u32) -> Result<u32> {
    let mut done = 0;
    for index in 0..count.min(MAX_MESSAGES) {
        let at = headers.wrapping_add(u64::from(index) * MULTI_SIZE);
        match or_part(task, index, send_header(task, fd, at, flags)) {
            Ok(len) => guest::write_value(at.wrapping_add(HEADER_SIZE), &u32::try_from(len).unwrap_or(u32::MAX))?,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
        done += 1;
    }
    Ok(done)
}

/// Receives several messages: recvmmsg(2).
///
/// # Errors
/// Those of the first message; EINVAL for a bad timeout.
pub(super) fn recvmmsg(
    task: &Task,
    fd: Fd,
    headers: u64,
    count: u32,
    flags: u32,
    timeout: UserPtr<[i64; 2]>,
) -> Result<u32> {
    // As on Linux, the timeout is looked at between messages only.
    let deadline = deadline_after(read_timespec(timeout)?);
    let mut done = 0;
    let mut flags = flags;
    for index in 0..count.min(MAX_MESSAGES) {
        let at = headers.wrapping_add(u64::from(index) * MULTI_SIZE);
        match or_part(task, index, receive_header(task, fd, at, flags & !msg::WAITFORONE)) {
            Ok(len) => guest::write_value(at.wrapping_add(HEADER_SIZE), &u32::try_from(len).unwrap_or(u32::MAX))?,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
        done += 1;
        if flags & msg::WAITFORONE != 0 {
            flags |= msg::DONTWAIT;
        }
        if deadline.is_some_and(|at| machine::clock::monotonic_ns() >= at) {
            break;
        }
    }
    Ok(done)
}
