//! What cannot be reached, and what every way to send refuses alike: sendto, sendmsg, sendmmsg.

use crate::kit::{as_nobody, assert_errno, assert_interrupted, cases, close, int, or_skip, read, restarted, socket_pair, until, vector, write};
use crate::net::{recv, send, set_option, unix, unix_address, unix_bind, unix_connect, unix_listener};
use crate::sys::{self, Errno, Result, sys};
use libc as c;

/// Ways to send bytes: to an address, or to the peer where there is none.
type Send = fn(i32, &[u8], i32, &[u8]) -> Result<i64>;

const WAYS: [(&str, Send); 3] = [
    ("sendto", |fd, bytes, flags, to| match to.len() {
        0 => sys!(sendto, fd, bytes, bytes.len(), flags, 0, 0),
        len => sys!(sendto, fd, bytes, bytes.len(), flags, to, len),
    }),
    ("sendmsg", |fd, bytes, flags, to| sys!(sendmsg, fd, &header(&[vector(bytes)], to), flags)),
    ("sendmmsg", |fd, bytes, flags, to| {
        let part = [vector(bytes)];
        sys!(sendmmsg, fd, &[c::mmsghdr { msg_hdr: header(&part, to), msg_len: 0 }], 1, flags)
    }),
];

cases! { reach;
    fn networks_that_are_not_there() {
        // A network of nothing but an interface that is down; a container has no more to begin with.
        or_skip(sys!(unshare, c::CLONE_NEWNET).or_else(|errno| if errno.0 == c::ENOSYS { Ok(0) } else { Err(errno) }), &[c::EPERM, c::EINVAL], "a network")?;
        // Set apart for documents.
        let far = address([192, 0, 2, 1], 9);
        let stream = socket(c::SOCK_STREAM)?;
        assert_errno(sys!(connect, stream, &far, 16), c::ENETUNREACH);
        assert_errno(sys!(connect, socket(c::SOCK_DGRAM)?, &far, 16), c::ENETUNREACH);
        assert_errno(sys!(sendto, socket(c::SOCK_DGRAM)?, b"x", 1, 0, &far, 16), c::ENETUNREACH);
        // Nothing has changed.
        assert_errno(sys!(connect, stream, &far, 16), c::ENETUNREACH);
    }
    fn two_connections_between_the_same_ports() {
        let server = listener(4)?;
        let (one, other) = (socket(c::SOCK_STREAM)?, socket(c::SOCK_STREAM)?);
        for fd in [one, other] {
            set_option(fd, c::SOL_SOCKET, c::SO_REUSEADDR, &1i32)?;
        }
        sys!(bind, one, &local(0), 16)?;
        sys!(bind, other, &local(port(one)?), 16)?;
        sys!(connect, one, &local(port(server)?), 16)?;
        assert_errno(sys!(connect, other, &local(port(server)?), 16), c::EADDRNOTAVAIL);
        // To another peer it may.
        sys!(connect, other, &local(port(listener(1)?)?), 16)?;
    }
    fn a_connect_under_way() {
        let server = full_listener()?;
        let client = int(sys!(socket, c::AF_INET, c::SOCK_STREAM | c::SOCK_NONBLOCK, 0)?);
        let to = local(port(server)?);
        assert_errno(sys!(connect, client, &to, 16), c::EINPROGRESS);
        assert_errno(sys!(connect, client, &to, 16), c::EALREADY);
        assert_errno(send(client, b"x", c::MSG_NOSIGNAL), c::EAGAIN);
        assert_errno(recv(client, 1, 0), c::EAGAIN);
    }
    fn a_connect_that_nobody_answers() {
        let client = socket(c::SOCK_STREAM)?;
        set_option(client, c::IPPROTO_TCP, c::TCP_SYNCNT, &1i32)?;
        set_option(client, c::IPPROTO_TCP, c::TCP_USER_TIMEOUT, &1u32)?;
        let to = local(port(full_listener()?)?);
        assert_errno(sys!(connect, client, &to, 16), c::ETIMEDOUT);
        // It may try again.
        set_option(client, c::SOL_SOCKET, c::SO_SNDTIMEO, &[0i64, 1000])?;
        assert_errno(sys!(connect, client, &to, 16), c::EINPROGRESS);
    }
    fn a_connect_that_nobody_answers_or_waits_for() {
        let client = int(sys!(socket, c::AF_INET, c::SOCK_STREAM | c::SOCK_NONBLOCK, 0)?);
        set_option(client, c::IPPROTO_TCP, c::TCP_SYNCNT, &1i32)?;
        set_option(client, c::IPPROTO_TCP, c::TCP_USER_TIMEOUT, &1u32)?;
        let server = full_listener()?;
        assert_errno(sys!(connect, client, &local(port(server)?), 16), c::EINPROGRESS);
        let mut poll = c::pollfd { fd: client, events: c::POLLOUT, revents: 0 };
        assert_eq!(sys!(poll, &mut poll, 1, 15_000)?, 1);
        assert!(poll.revents & (c::POLLERR | c::POLLHUP) == c::POLLERR | c::POLLHUP, "{:#x}", poll.revents);
        assert_eq!(crate::net::option(client, c::SOL_SOCKET, c::SO_ERROR)?, c::ETIMEDOUT);
        assert_eq!(crate::net::option(client, c::SOL_SOCKET, c::SO_ERROR)?, 0);
    }
    fn a_connect_is_interrupted_and_goes_on() {
        let server = full_listener()?;
        let client = socket(c::SOCK_STREAM)?;
        let to = local(port(server)?);
        assert_interrupted(|| sys!(connect, client, &to, 16))?;
        restarted(|| sys!(connect, client, &to, 16), || { let _ = sys!(accept, server, 0, 0); })??;
    }
    fn a_place_goes_to_the_next_who_still_waits() {
        let server = full_listener()?;
        let to = local(port(server)?);
        let begin = || -> Result<i32> {
            let fd = int(sys!(socket, c::AF_INET, c::SOCK_STREAM | c::SOCK_NONBLOCK, 0)?);
            assert_errno(sys!(connect, fd, &to, 16), c::EINPROGRESS);
            Ok(fd)
        };
        let (gone, next) = (begin()?, begin()?);
        close(gone)?;
        sys!(accept, server, 0, 0)?;
        sys!(poll, &mut c::pollfd { fd: next, events: c::POLLOUT, revents: 0 }, 1, -1)?;
        sys!(connect, next, &to, 16)?;
    }
    fn who_waits_elsewhere_by_now_is_not_let_in() {
        let (first, second) = (full_listener()?, full_listener()?);
        let client = int(sys!(socket, c::AF_INET, c::SOCK_STREAM | c::SOCK_NONBLOCK, 0)?);
        assert_errno(sys!(connect, client, &local(port(first)?), 16), c::EINPROGRESS);
        sys!(connect, client, &[0u8; 16], 16)?;
        assert_errno(sys!(connect, client, &local(port(second)?), 16), c::EINPROGRESS);
        sys!(accept, first, 0, 0)?;
        assert_errno(sys!(getpeername, client, &mut [0u8; 16], &mut 16i32), c::ENOTCONN);
        sys!(fcntl, first, c::F_SETFL, c::O_NONBLOCK)?;
        assert_errno(sys!(accept, first, 0, 0), c::EAGAIN);
    }
    fn data_with_the_first_packet() {
        let client = int(sys!(socket, c::AF_INET, c::SOCK_STREAM | c::SOCK_NONBLOCK, 0)?);
        let to = local(port(full_listener()?)?);
        let send = || sys!(sendto, client, b"x", 1, c::MSG_FASTOPEN, &to, 16);
        match send() {
            Err(Errno(c::EOPNOTSUPP)) => assert_errno(send(), c::EOPNOTSUPP),
            begun => {
                assert_errno(begun, c::EINPROGRESS);
                assert_errno(send(), c::EALREADY);
            }
        }
    }
    fn a_reset_is_told_once() {
        for (name, way) in WAYS {
            let (a, b) = tcp_pair()?;
            write(a, b"unread")?;
            assert_eq!(recv(b, 1, c::MSG_PEEK)?, b"u");
            close(b)?;
            let mut poll = c::pollfd { fd: a, events: 0, revents: 0 };
            until(|| sys!(poll, &mut poll, 1, -1).is_ok() && poll.revents & c::POLLERR != 0);
            assert_eq!(way(a, b"x", c::MSG_NOSIGNAL, b""), Err(Errno(c::ECONNRESET)), "{name}");
            assert_eq!(way(a, b"x", c::MSG_NOSIGNAL, b""), Err(Errno(c::EPIPE)), "{name}");
        }
    }
    fn a_refusal_is_told_to_the_receiver() {
        let (fd, gone) = (socket(c::SOCK_DGRAM)?, socket(c::SOCK_DGRAM)?);
        sys!(bind, gone, &local(0), 16)?;
        sys!(connect, fd, &local(port(gone)?), 16)?;
        close(gone)?;
        write(fd, b"x")?;
        assert_errno(recv(fd, 1, 0), c::ECONNREFUSED);
        assert_errno(recv(fd, 1, c::MSG_DONTWAIT), c::EAGAIN);
    }
    fn a_socket_that_may_not_be_written_to() {
        unix_bind(unix(c::SOCK_DGRAM)?, b"closed")?;
        sys!(chmod, c"closed", 0o700)?;
        let (to, len) = unix_address(b"closed");
        as_nobody(|| {
            refuse(|way| way(unix(c::SOCK_DGRAM)?, b"x", 0, &to[..len]), c::EACCES);
            Ok(())
        })?;
    }
    fn full_and_unconnected_and_closed() {
        let pair = socket_pair(c::SOCK_STREAM)?;
        while send(pair[0], &[0; 4096], c::MSG_DONTWAIT).is_ok() {}
        refuse(|way| way(pair[0], b"x", c::MSG_DONTWAIT, b""), c::EAGAIN);
        close(pair[1])?;
        refuse(|way| way(pair[0], b"x", c::MSG_NOSIGNAL, b""), c::EPIPE);
        refuse(|way| way(socket(c::SOCK_DGRAM)?, b"x", 0, b""), c::EDESTADDRREQ);
        refuse(|way| way(unix(c::SOCK_SEQPACKET)?, b"x", 0, b""), c::ENOTCONN);
        let (to, len) = unix_address(b"s");
        unix_listener(b"s")?;
        let client = unix(c::SOCK_STREAM)?;
        unix_connect(client, b"s")?;
        refuse(|way| way(client, b"x", 0, &to[..len]), c::EISCONN);
        refuse(|way| way(unix(c::SOCK_STREAM)?, b"x", 0, &to[..len]), c::EOPNOTSUPP);
    }
    fn messages_that_do_not_fit() {
        let fd = socket(c::SOCK_DGRAM)?;
        sys!(bind, fd, &local(0), 16)?;
        sys!(connect, fd, &local(port(fd)?), 16)?;
        refuse(|way| way(fd, &[0; 70_000], 0, b""), c::EMSGSIZE);
        refuse(|way| way(fd, b"x", c::MSG_OOB, b""), c::EOPNOTSUPP);
        refuse(|way| way(fd, b"x", 0, &local(9)[..3]), c::EINVAL);
        refuse(|way| way(fd, b"x", 0, &local(0)), c::EINVAL);
    }
    fn every_way_to_send_is_interrupted() {
        for (_, way) in WAYS {
            let pair = socket_pair(c::SOCK_SEQPACKET)?;
            while send(pair[0], &[0; 4096], c::MSG_DONTWAIT).is_ok() {}
            assert_interrupted(|| way(pair[0], &[0; 4096], 0, b""))?;
            let sent = restarted(|| way(pair[0], &[0; 4096], 0, b""), || while recv(pair[1], 4096, c::MSG_DONTWAIT).is_ok() {})?;
            assert!(sent? > 0);
        }
    }
    fn a_batch_stops_where_one_is_refused() {
        let pair = socket_pair(c::SOCK_DGRAM)?;
        let (one, wrong) = ([vector(b"one")], [c::iovec { iov_base: core::ptr::null_mut(), iov_len: 5 }]);
        let batch = [&one, &wrong, &one].map(|part| c::mmsghdr { msg_hdr: header(part, b""), msg_len: 0 });
        assert_eq!(sys!(sendmmsg, pair[0], &batch, 3, 0)?, 1);
        assert_errno(sys!(sendmmsg, pair[0], &batch[1..], 2, 0), c::EFAULT);
        assert_eq!(read(pair[1], 9)?, b"one");
        assert_errno(recv(pair[1], 9, c::MSG_DONTWAIT), c::EAGAIN);
    }
}

/// Panics unless each way to send is refused so; names those that are not.
#[track_caller]
fn refuse(send: impl Fn(Send) -> Result<i64>, errno: i32) {
    let wrong: Vec<String> = WAYS
        .iter()
        .map(|(name, way)| (name, send(*way)))
        .filter(|(_, result)| *result != Err(Errno(errno)))
        .map(|(name, result)| format!("{name}: {result:?}"))
        .collect();
    assert!(wrong.is_empty(), "{:?} expected; {}", Errno(errno), wrong.join("; "));
}

/// A message of some parts, to an address or to the peer.
fn header(parts: &[c::iovec], to: &[u8]) -> c::msghdr {
    let mut header: c::msghdr = sys::zeroed();
    (header.msg_iov, header.msg_iovlen) = (parts.as_ptr().cast_mut(), parts.len());
    if !to.is_empty() {
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = u32::try_from(to.len()).unwrap_or(0);
    }
    header
}

fn socket(kind: i32) -> Result<i32> {
    sys!(socket, c::AF_INET, kind, 0).map(int)
}

fn address(ip: [u8; 4], port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = 2;
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&ip);
    bytes
}

fn local(port: u16) -> [u8; 16] {
    address([127, 0, 0, 1], port)
}

/// The port of a socket.
fn port(fd: i32) -> Result<u16> {
    let mut bytes = [0u8; 16];
    sys!(getsockname, fd, &mut bytes, &mut 16u32)?;
    Ok(u16::from_be_bytes([bytes[2], bytes[3]]))
}

fn listener(backlog: i32) -> Result<i32> {
    let fd = socket(c::SOCK_STREAM)?;
    sys!(bind, fd, &local(0), 16)?;
    sys!(listen, fd, backlog)?;
    Ok(fd)
}

/// A listener that answers nobody, for one waits to be accepted already.
fn full_listener() -> Result<i32> {
    let fd = listener(0)?;
    sys!(connect, socket(c::SOCK_STREAM)?, &local(port(fd)?), 16)?;
    Ok(fd)
}

fn tcp_pair() -> Result<(i32, i32)> {
    let server = listener(1)?;
    let client = socket(c::SOCK_STREAM)?;
    sys!(connect, client, &local(port(server)?), 16)?;
    Ok((client, int(sys!(accept, server, 0, 0)?)))
}
