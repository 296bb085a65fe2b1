//! What the families of sockets share.

use crate::kit::size;
use crate::sys::{self, Result, sys};
use libc as c;

/// recvfrom(2) of at most `limit` bytes.
pub(crate) fn recv(fd: i32, limit: usize, flags: i32) -> Result<Vec<u8>> {
    let mut buffer = vec![0u8; limit];
    let count = size(sys!(recvfrom, fd, &mut buffer[..], limit, flags, 0, 0)?);
    buffer.truncate(count);
    Ok(buffer)
}

/// sendto(2) without an address.
pub(crate) fn send(fd: i32, bytes: &[u8], flags: i32) -> Result<usize> {
    sys!(sendto, fd, bytes, bytes.len(), flags, 0, 0).map(size)
}

/// getsockopt(2) of an int.
pub(crate) fn option(fd: i32, level: i32, name: i32) -> Result<i32> {
    let (mut value, mut len) = (0i32, 4u32);
    sys!(getsockopt, fd, level, name, &mut value, &mut len)?;
    Ok(value)
}

/// setsockopt(2).
pub(crate) fn set_option<T: sys::Plain>(fd: i32, level: i32, name: i32, value: &T) -> Result<()> {
    sys!(setsockopt, fd, level, name, value, size_of::<T>()).map(drop)
}

/// An AF_UNIX socket.
pub(crate) fn unix(kind: i32) -> Result<i32> {
    sys!(socket, c::AF_UNIX, kind, 0).map(crate::kit::int)
}

/// A `sockaddr_un` and its length; a path ends with a zero, an abstract name begins with one.
pub(crate) fn unix_address(name: &[u8]) -> ([u8; 110], usize) {
    let mut bytes = [0u8; 110];
    bytes[0] = 1;
    bytes[2..2 + name.len()].copy_from_slice(name);
    (bytes, 2 + name.len() + usize::from(name.first() != Some(&0)))
}

/// bind(2) to a name.
pub(crate) fn unix_bind(fd: i32, name: &[u8]) -> Result<()> {
    let (to, len) = unix_address(name);
    sys!(bind, fd, &to, len).map(drop)
}

/// connect(2) to a name.
pub(crate) fn unix_connect(fd: i32, name: &[u8]) -> Result<()> {
    let (to, len) = unix_address(name);
    sys!(connect, fd, &to, len).map(drop)
}

/// A listening stream socket.
pub(crate) fn unix_listener(name: &[u8]) -> Result<i32> {
    let fd = unix(c::SOCK_STREAM)?;
    unix_bind(fd, name)?;
    sys!(listen, fd, 5)?;
    Ok(fd)
}

/// A stream socket connected to a listener.
pub(crate) fn unix_client(name: &[u8]) -> Result<i32> {
    let fd = unix(c::SOCK_STREAM)?;
    unix_connect(fd, name)?;
    Ok(fd)
}
