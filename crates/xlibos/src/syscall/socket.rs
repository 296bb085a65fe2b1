//! Sockets: socket(2), bind(2), connect(2), accept(2), getsockopt(2) and the like. Messages are in `message`.

use crate::fs::fd_table::{Fd, OnExec};
use crate::fs::{File, OpenFlags};
use crate::net::options::Value;
use crate::net::socket::{Access, Directions, SOL_SOCKET, Socket, SocketFile, Type, family, general_option, socket_of};
use crate::net::unix::{UnixSocket, creds_of};
use crate::wait::{end_of_wait, wait_at_most};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use machine::guest::{self, UserPtr};

/// Largest address: struct sockaddr_storage.
const MAX_ADDRESS: usize = 128;
/// Largest option value that is read.
const MAX_OPTION: usize = 4096;
/// SOCK_NONBLOCK and SOCK_CLOEXEC, as open flags.
const TYPE_FLAGS: OpenFlags = OpenFlags::NONBLOCK.union(OpenFlags::CLOEXEC);

/// Reads an address.
///
/// # Errors
/// EINVAL for a length that none has, EFAULT.
pub(super) fn read_address(at: u64, len: i32) -> Result<Vec<u8>> {
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_ADDRESS).ok_or(Errno::EINVAL)?;
    let mut bytes = vec![0; len];
    guest::read(at, &mut bytes)?;
    Ok(bytes)
}

/// Writes an address, cut to the room that is there, and its whole length.
///
/// # Errors
/// EINVAL for a negative room, EFAULT.
pub(super) fn write_address(at: u64, len: UserPtr<i32>, address: &[u8]) -> Result<()> {
    let room = usize::try_from(len.read()?).map_err(|_| Errno::EINVAL)?;
    guest::write(at, address.get(..room.min(address.len())).unwrap_or(address))?;
    len.write(&i32::try_from(address.len()).unwrap_or(0))
}

/// The file and the socket of a descriptor.
///
/// # Errors
/// EBADF, ENOTSOCK.
pub(super) fn socket_at(task: &Task, fd: Fd) -> Result<(Arc<File>, Arc<dyn Socket>)> {
    let file = task.file(fd)?;
    let socket = Arc::clone(socket_of(&file)?);
    Ok((file, socket))
}

/// Splits the type argument of socket(2) into type and flags.
fn split_type(kind: u32) -> Result<(Type, OpenFlags)> {
    let flags = OpenFlags::from_bits(kind & !0xf).ok_or(Errno::EINVAL)?;
    if !TYPE_FLAGS.contains(flags) {
        return Err(Errno::EINVAL);
    }
    Ok((Type::from_number(kind & 0xf)?, flags))
}

fn install(task: &Task, socket: Arc<dyn Socket>, flags: OpenFlags) -> Result<Fd> {
    let on_exec = OnExec::from_flag(flags.contains(OpenFlags::CLOEXEC));
    task.insert_file(SocketFile::open(socket, flags), on_exec)
}

/// Makes a socket: socket(2).
///
/// # Errors
/// EAFNOSUPPORT, EINVAL, EPROTONOSUPPORT, ESOCKTNOSUPPORT, EPERM for raw sockets, EMFILE.
pub(super) fn socket(task: &Task, domain: u32, kind: u32, protocol: i32) -> Result<Fd> {
    let (kind, flags) = split_type(kind)?;
    install(task, make_socket(domain, kind, protocol)?, flags)
}

fn make_socket(domain: u32, kind: Type, protocol: i32) -> Result<Arc<dyn Socket>> {
    let domain = u16::try_from(domain).map_err(|_| Errno::EAFNOSUPPORT)?;
    Ok(match domain {
        family::UNIX => UnixSocket::new(kind, protocol)?,
        family::INET | family::INET6 => crate::net::inet::new_socket(domain, kind, protocol)?,
        family::NETLINK => crate::net::netlink::NetlinkSocket::new(kind, protocol)?,
        _ => return Err(Errno::EAFNOSUPPORT),
    })
}

/// Makes two sockets connected to each other: socketpair(2).
///
/// # Errors
/// As [`socket`]; EOPNOTSUPP for other families, EFAULT.
pub(super) fn socketpair(task: &Task, domain: u32, kind: u32, protocol: i32, fds: UserPtr<[i32; 2]>) -> Result<()> {
    let (kind, flags) = split_type(kind)?;
    match u16::try_from(domain) {
        Ok(family::UNIX) => {}
        // The family is asked only once there are two sockets of it.
        _ => return make_socket(domain, kind, protocol).and(Err(Errno::EOPNOTSUPP)),
    }
    let (one, two) = UnixSocket::pair(kind, protocol, creds_of(task))?;
    let files = task.files();
    let first = install(task, one, flags)?;
    let second = install(task, two, flags).inspect_err(|_| drop(files.remove(first)))?;
    fds.write(&[first.0, second.0]).inspect_err(|_| {
        drop(files.remove(first));
        drop(files.remove(second));
    })
}

/// Gives a socket an address: bind(2).
///
/// # Errors
/// EBADF, ENOTSOCK, EINVAL, EADDRINUSE, EADDRNOTAVAIL, EACCES, those of the path walk.
pub(super) fn bind(task: &Task, fd: Fd, address: u64, len: i32) -> Result<()> {
    let (_, socket) = socket_at(task, fd)?;
    socket.bind(task, &read_address(address, len)?)
}

/// Connects a socket: connect(2).
///
/// # Errors
/// EBADF, ENOTSOCK, ECONNREFUSED, ENETUNREACH, EISCONN, EINPROGRESS, EALREADY, EAFNOSUPPORT, INTERRUPTED.
pub(super) fn connect(task: &Task, fd: Fd, address: u64, len: i32) -> Result<()> {
    let (file, socket) = socket_at(task, fd)?;
    socket.connect(task, &read_address(address, len)?, file.is_nonblocking())
}

/// Begins to listen: listen(2).
///
/// # Errors
/// EBADF, ENOTSOCK, EOPNOTSUPP, EADDRINUSE, EINVAL.
pub(super) fn listen(task: &Task, fd: Fd, backlog: i32) -> Result<()> {
    let (_, socket) = socket_at(task, fd)?;
    // A negative backlog counts as the largest.
    socket.listen(task, usize::try_from(backlog).unwrap_or(usize::MAX))
}

/// Accepts a connection: accept4(2).
///
/// # Errors
/// EBADF, ENOTSOCK, EINVAL, EAGAIN, EOPNOTSUPP, EMFILE, EFAULT, INTERRUPTED.
pub(super) fn accept4(task: &Task, fd: Fd, address: u64, len: UserPtr<i32>, flags: u32) -> Result<Fd> {
    let flags = OpenFlags::from_bits(flags).filter(|flags| TYPE_FLAGS.contains(*flags)).ok_or(Errno::EINVAL)?;
    let (file, socket) = socket_at(task, fd)?;
    // Whoever cannot be taken stays in line.
    task.files().check_room()?;
    let accepted = attempt_or_wait(&file, &*socket, Direction::Receive, false, || socket.accept())?;
    let peer = accepted.peer_address().unwrap_or_default();
    let new = install(task, accepted, flags)?;
    if address != 0 {
        write_address(address, len, &peer).inspect_err(|_| drop(task.files().remove(new)))?;
    }
    Ok(new)
}

/// Accepts a connection: accept(2).
///
/// # Errors
/// As [`accept4`].
pub(super) fn accept(task: &Task, fd: Fd, address: u64, len: UserPtr<i32>) -> Result<Fd> {
    accept4(task, fd, address, len, 0)
}

/// Which timeout counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// SO_RCVTIMEO.
    Receive,
    /// SO_SNDTIMEO.
    Send,
}

/// Tries, and waits on the socket's queue while the answer is EAGAIN, unless it must not wait.
///
/// # Errors
/// The attempt's, INTERRUPTED; EAGAIN at the timeout.
pub(super) fn attempt_or_wait<T>(
    file: &File,
    socket: &dyn Socket,
    direction: Direction,
    dont_wait: bool,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let first = attempt();
    if dont_wait || file.is_nonblocking() || !matches!(first, Err(Errno::EAGAIN)) {
        return first;
    }
    let limit = socket.options().timeout(direction == Direction::Receive);
    let waited = wait_at_most(&[socket.queue()], limit, || match attempt() {
        Err(Errno::EAGAIN) => None,
        other => Some(other),
    });
    end_of_wait(waited, limit.is_some())
}

/// The socket's own address: getsockname(2).
///
/// # Errors
/// EBADF, ENOTSOCK, EFAULT.
pub(super) fn getsockname(task: &Task, fd: Fd, address: u64, len: UserPtr<i32>) -> Result<()> {
    let (_, socket) = socket_at(task, fd)?;
    write_address(address, len, &socket.local_address()?)
}

/// The peer's address: getpeername(2).
///
/// # Errors
/// EBADF, ENOTSOCK, ENOTCONN, EFAULT.
pub(super) fn getpeername(task: &Task, fd: Fd, address: u64, len: UserPtr<i32>) -> Result<()> {
    let (_, socket) = socket_at(task, fd)?;
    write_address(address, len, &socket.peer_address()?)
}

/// Ends directions of a connection: shutdown(2).
///
/// # Errors
/// EBADF, ENOTSOCK, EINVAL, ENOTCONN.
pub(super) fn shutdown(task: &Task, fd: Fd, how: i32) -> Result<()> {
    let (_, socket) = socket_at(task, fd)?;
    let directions = match how {
        0 => Directions { read: true, write: false },
        1 => Directions { read: false, write: true },
        2 => Directions { read: true, write: true },
        _ => return Err(Errno::EINVAL),
    };
    socket.shutdown(directions)
}

/// Sets an option: setsockopt(2).
///
/// # Errors
/// EBADF, ENOTSOCK, EINVAL, EFAULT, ENOPROTOOPT, EOPNOTSUPP, EDOM.
pub(super) fn setsockopt(task: &Task, fd: Fd, level: u32, option: u32, value: u64, len: i32) -> Result<()> {
    let (_, socket) = socket_at(task, fd)?;
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if level != SOL_SOCKET {
        socket.check_level(level, option, Access::Set)?;
    }
    let mut bytes = vec![0; len.min(MAX_OPTION)];
    guest::read(value, &mut bytes)?;
    if level == SOL_SOCKET {
        return socket.options().set(option, &bytes);
    }
    socket.set_option(level, option, &bytes)
}

/// Reads an option: getsockopt(2).
///
/// # Errors
/// EBADF, ENOTSOCK, EINVAL, EFAULT, ENOPROTOOPT, EOPNOTSUPP.
pub(super) fn getsockopt(task: &Task, fd: Fd, level: u32, option: u32, value: u64, len: UserPtr<i32>) -> Result<()> {
    let (_, socket) = socket_at(task, fd)?;
    if level != SOL_SOCKET {
        socket.check_level(level, option, Access::Get)?;
    }
    let room = usize::try_from(len.read()?).map_err(|_| Errno::EINVAL)?;
    let found = if level == SOL_SOCKET { general_option(&*socket, option)? } else { socket.option(level, option)? };
    let bytes = match found {
        Value::Int(number) => number.to_ne_bytes().to_vec(),
        Value::Bytes(bytes) => bytes,
    };
    let part = bytes.get(..room.min(bytes.len())).unwrap_or(&bytes);
    guest::write(value, part)?;
    len.write(&i32::try_from(part.len()).unwrap_or(0))
}
