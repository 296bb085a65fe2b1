//! AF_UNIX sockets: streams, datagrams, packets and their names.

use crate::kit::{as_nobody, assert_errno, assert_interrupted, assert_never_restarted, cases, child, close, file, fstat, int, now, pid, pipe, read, restarted, size, socket_pair, stat, write};
use crate::net::{option, recv, send, set_option, unix, unix_address, unix_bind, unix_client, unix_connect, unix_listener};
use crate::sys::{self, Result, memory, nr, signal, sys};
use libc as c;

const PAIRS: [i32; 2] = [c::SOCK_STREAM, c::SOCK_SEQPACKET];

cases! { unix_socket;
    fn pair_talks_both_ways() {
        for kind in [c::SOCK_STREAM, c::SOCK_SEQPACKET, c::SOCK_DGRAM] {
            let ends = socket_pair(kind)?;
            write(ends[0], b"hello")?;
            write(ends[1], b"back")?;
            assert_eq!((read(ends[1], 9)?, read(ends[0], 9)?), (b"hello".to_vec(), b"back".to_vec()));
        }
    }
    fn socketpair_errors() {
        let mut ends = [0i32; 2];
        assert_errno(sys!(socketpair, c::AF_UNIX, 9, 0, &mut ends), c::ESOCKTNOSUPPORT);
        assert_errno(sys!(socketpair, c::AF_UNIX, 99, 0, &mut ends), c::EINVAL);
        assert_errno(sys!(socketpair, c::AF_UNIX, c::SOCK_STREAM, 77, &mut ends), c::EPROTONOSUPPORT);
        assert_errno(sys!(socketpair, c::AF_INET, c::SOCK_STREAM, 0, &mut ends), c::EOPNOTSUPP);
        assert_errno(sys!(socketpair, 999, c::SOCK_STREAM, 0, &mut ends), c::EAFNOSUPPORT);
        assert_errno(sys!(socketpair, c::AF_UNIX, c::SOCK_STREAM, 0, memory::hole()?), c::EFAULT);
        let ends = socket_pair(c::SOCK_STREAM | c::SOCK_CLOEXEC | c::SOCK_NONBLOCK)?;
        assert_eq!(sys!(fcntl, ends[0], c::F_GETFD)?, 1);
        assert_errno(read(ends[0], 1), c::EAGAIN);
    }
    fn stream_has_no_borders_and_packets_have() {
        let stream = socket_pair(c::SOCK_STREAM)?;
        let packets = socket_pair(c::SOCK_SEQPACKET)?;
        for end in [stream[0], packets[0]] {
            write(end, b"one")?;
            write(end, b"two")?;
        }
        assert_eq!(read(stream[1], 99)?, b"onetwo");
        assert_eq!((read(packets[1], 99)?, read(packets[1], 2)?), (b"one".to_vec(), b"tw".to_vec()));
        assert_errno(recv(packets[1], 9, c::MSG_DONTWAIT), c::EAGAIN);
    }
    fn end_of_stream_and_broken_pipe() {
        for kind in PAIRS {
            let ends = socket_pair(kind)?;
            write(ends[0], b"x")?;
            close(ends[0])?;
            assert_eq!(read(ends[1], 9)?, b"x");
            assert_eq!(read(ends[1], 9)?, b"");
            assert_errno(send(ends[1], b"x", c::MSG_NOSIGNAL), c::EPIPE);
            signal::record(c::SIGPIPE, 0)?;
            assert_errno(write(ends[1], b"x"), c::EPIPE);
        }
        // Only streams raise the signal.
        assert_eq!(signal::count(c::SIGPIPE), 1);
    }
    fn unread_data_makes_a_reset() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        write(ends[0], b"unread")?;
        close(ends[1])?;
        assert_errno(read(ends[0], 1), c::ECONNRESET);
        assert_eq!(read(ends[0], 1)?, b"");
    }
    fn shutdown_of_one_direction() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        sys!(shutdown, ends[0], c::SHUT_WR)?;
        assert_eq!(read(ends[1], 9)?, b"");
        assert_errno(send(ends[0], b"x", c::MSG_NOSIGNAL), c::EPIPE);
        write(ends[1], b"still")?;
        assert_eq!(read(ends[0], 9)?, b"still");
        sys!(shutdown, ends[0], c::SHUT_RD)?;
        assert_errno(send(ends[1], b"x", c::MSG_NOSIGNAL), c::EPIPE);
        assert_errno(sys!(shutdown, ends[0], 9), c::EINVAL);
        assert_errno(sys!(shutdown, 899, c::SHUT_RD), c::EBADF);
        assert_errno(sys!(shutdown, pipe(0)?[0], c::SHUT_RD), c::ENOTSOCK);
    }
    fn peek_leaves_the_data() {
        for kind in PAIRS {
            let ends = socket_pair(kind)?;
            write(ends[0], b"hello")?;
            assert_eq!(recv(ends[1], 3, c::MSG_PEEK)?, b"hel");
            assert_eq!(recv(ends[1], 9, 0)?, b"hello");
        }
    }
    fn waitall_waits_for_all() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        write(ends[0], b"abc")?;
        let writer = child(|| Ok(write(ends[0], b"def")?))?;
        assert_eq!(recv(ends[1], 6, c::MSG_WAITALL)?, b"abcdef");
        writer.succeeds()?;
    }
    fn dontwait_and_full_buffers() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        assert_errno(recv(ends[0], 1, c::MSG_DONTWAIT), c::EAGAIN);
        let mut sent = 0;
        while let Ok(count) = send(ends[0], &[0; 4096], c::MSG_DONTWAIT) {
            sent += count;
        }
        assert_errno(send(ends[0], &[0; 4096], c::MSG_DONTWAIT), c::EAGAIN);
        assert!(sent >= 4096);
        while sent > 0 {
            sent -= recv(ends[1], 65536, 0)?.len();
        }
        send(ends[0], &[0; 4096], c::MSG_DONTWAIT)?;
    }
    fn too_long_a_datagram_is_emsgsize() {
        let ends = socket_pair(c::SOCK_DGRAM)?;
        let data = vec![0u8; 1 << 20];
        assert_errno(send(ends[0], &data, c::MSG_DONTWAIT), c::EMSGSIZE);
    }
    fn recv_is_interrupted_and_restarted() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        assert_interrupted(|| recv(ends[0], 1, 0))?;
        let got = restarted(|| recv(ends[0], 9, 0), || { let _ = write(ends[1], b"x"); })??;
        assert_eq!(got, b"x");
    }
    fn send_is_interrupted() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        while send(ends[0], &[0; 4096], c::MSG_DONTWAIT).is_ok() {}
        assert_interrupted(|| send(ends[0], &[0; 4096], 0))?;
    }
    fn receive_timeout() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        set_option(ends[0], c::SOL_SOCKET, c::SO_RCVTIMEO, &[0i64, 20_000])?;
        let begin = now(c::CLOCK_MONOTONIC)?;
        assert_errno(read(ends[0], 1), c::EAGAIN);
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 20_000_000);
        set_option(ends[0], c::SOL_SOCKET, c::SO_RCVTIMEO, &[100i64, 0])?;
        assert_never_restarted(|| read(ends[0], 1))?;
    }
    fn listen_connect_accept() {
        let server = unix_listener(b"s")?;
        let client = child(|| {
            let fd = unix_client(b"s")?;
            write(fd, b"hello")?;
            assert_eq!(read(fd, 9)?, b"welcome");
            Ok(())
        })?;
        let peer = int(sys!(accept4, server, 0, 0, c::SOCK_CLOEXEC)?);
        assert_eq!(sys!(fcntl, peer, c::F_GETFD)?, 1);
        assert_eq!(read(peer, 9)?, b"hello");
        write(peer, b"welcome")?;
        client.succeeds()?;
        assert_eq!(stat(c"s")?.st_mode & c::S_IFMT, c::S_IFSOCK);
    }
    fn connect_before_accept() {
        let server = unix_listener(b"s")?;
        let client = unix_client(b"s")?;
        write(client, b"early")?;
        close(client)?;
        let peer = int(sys!(accept, server, 0, 0)?);
        assert_eq!((read(peer, 9)?, read(peer, 9)?), (b"early".to_vec(), vec![]));
    }
    fn accept_waits_and_is_interrupted() {
        let server = unix_listener(b"s")?;
        assert_interrupted(|| sys!(accept, server, 0, 0))?;
        let done = restarted(|| sys!(accept, server, 0, 0), || { let _ = unix_client(b"s"); })?;
        done?;
        sys!(fcntl, server, c::F_SETFL, c::O_NONBLOCK)?;
        assert_errno(sys!(accept, server, 0, 0), c::EAGAIN);
    }
    fn connect_errors() {
        let fd = unix(c::SOCK_STREAM)?;
        assert_errno(unix_connect(fd, b"none"), c::ENOENT);
        close(file(c"f", b"")?)?;
        assert_errno(unix_connect(fd, b"f"), c::ECONNREFUSED);
        let server = unix_listener(b"s")?;
        unix_connect(fd, b"s")?;
        assert_errno(unix_connect(fd, b"s"), c::EISCONN);
        assert_errno(unix_connect(unix(c::SOCK_DGRAM)?, b"s"), c::EPROTOTYPE);
        close(server)?;
        assert_errno(unix_client(b"s"), c::ECONNREFUSED);
        assert_errno(sys!(connect, fd, &[9u16, 0], 1), c::EINVAL);
        assert_errno(sys!(connect, 899, &[1u16, 0], 4), c::EBADF);
    }
    fn full_backlog_is_eagain_when_nonblocking() {
        let server = unix(c::SOCK_STREAM)?;
        unix_bind(server, b"s")?;
        sys!(listen, server, 0)?;
        unix_client(b"s")?;
        let fd = unix(c::SOCK_STREAM | c::SOCK_NONBLOCK)?;
        assert_errno(unix_connect(fd, b"s"), c::EAGAIN);
        sys!(accept, server, 0, 0)?;
        unix_connect(fd, b"s")?;
    }
    fn bind_errors() {
        let fd = unix(c::SOCK_STREAM)?;
        unix_bind(fd, b"s")?;
        assert_errno(unix_bind(fd, b"t"), c::EINVAL);
        assert_errno(unix_bind(unix(c::SOCK_STREAM)?, b"s"), c::EADDRINUSE);
        assert_errno(unix_bind(unix(c::SOCK_STREAM)?, b"none/s"), c::ENOENT);
        assert_errno(sys!(bind, unix(c::SOCK_STREAM)?, &[2u16, 0], 4), c::EINVAL);
        assert_errno(sys!(listen, unix(c::SOCK_DGRAM)?, 1), c::EOPNOTSUPP);
        assert_errno(sys!(listen, unix(c::SOCK_STREAM)?, 1), c::EINVAL);
        assert_errno(sys!(accept, fd, 0, 0), c::EINVAL);
    }
    fn abstract_names() {
        let name = format!("\0conformance-{}", pid()?);
        let server = unix_listener(name.as_bytes())?;
        let client = unix_client(name.as_bytes())?;
        assert_eq!(name_of(server, nr::getsockname)?, name.as_bytes());
        assert_eq!(name_of(client, nr::getpeername)?, name.as_bytes());
        close(server)?;
        assert_errno(unix_client(name.as_bytes()), c::ECONNREFUSED);
    }
    fn autobind_gives_a_name() {
        let fd = unix(c::SOCK_DGRAM)?;
        sys!(bind, fd, &1u16, 2)?;
        let name = name_of(fd, nr::getsockname)?;
        assert_eq!((name.len(), name[0]), (6, 0));
    }
    fn names_of_both_sides() {
        let server = unix_listener(b"s")?;
        let client = unix_client(b"s")?;
        assert_eq!(name_of(client, nr::getsockname)?, b"");
        assert_eq!(name_of(client, nr::getpeername)?, b"s\0");
        let (mut address, mut len) = ([0u8; 110], 110u32);
        let peer = int(sys!(accept, server, &mut address, &mut len)?);
        assert_eq!(len, 2);
        assert_eq!(name_of(peer, nr::getsockname)?, b"s\0");
        assert_errno(sys!(getpeername, server, &mut address, &mut len), c::ENOTCONN);
        assert_errno(sys!(getsockname, pipe(0)?[0], &mut address, &mut len), c::ENOTSOCK);
    }
    fn datagrams_by_name() {
        let server = unix(c::SOCK_DGRAM)?;
        unix_bind(server, b"s")?;
        let client = unix(c::SOCK_DGRAM)?;
        unix_bind(client, b"c")?;
        let (to, len) = unix_address(b"s");
        assert_eq!(sys!(sendto, client, b"hello", 5, 0, &to, len)?, 5);
        let (mut from, mut from_len, mut buffer) = ([0u8; 110], 110u32, [0u8; 9]);
        assert_eq!(sys!(recvfrom, server, &mut buffer, 9, 0, &mut from, &mut from_len)?, 5);
        assert_eq!((&from[2..4], from_len), (&b"c\0"[..], 4));
        assert_errno(write(client, b"x"), c::ENOTCONN);
        unix_connect(client, b"s")?;
        write(client, b"again")?;
        assert_eq!(read(server, 9)?, b"again");
        close(server)?;
        assert_errno(write(client, b"x"), c::ECONNREFUSED);
    }
    fn options() {
        let fd = unix(c::SOCK_SEQPACKET)?;
        let get = |fd: i32, name: i32| option(fd, c::SOL_SOCKET, name);
        assert_eq!((get(fd, c::SO_TYPE)?, get(fd, c::SO_DOMAIN)?), (c::SOCK_SEQPACKET, c::AF_UNIX));
        assert_eq!((get(fd, c::SO_ACCEPTCONN)?, get(fd, c::SO_ERROR)?), (0, 0));
        assert_eq!(get(unix_listener(b"s")?, c::SO_ACCEPTCONN)?, 1);
        set_option(fd, c::SOL_SOCKET, c::SO_SNDBUF, &8192i32)?;
        assert_eq!(get(fd, c::SO_SNDBUF)?, 16384);
        assert_errno(get(fd, 9999), c::ENOPROTOOPT);
        assert_errno(sys!(setsockopt, fd, c::SOL_SOCKET, c::SO_PASSCRED, &1u8, 1), c::EINVAL);
        assert_errno(sys!(setsockopt, pipe(0)?[0], c::SOL_SOCKET, c::SO_PASSCRED, &1i32, 4), c::ENOTSOCK);
        assert_errno(sys!(getsockopt, fd, c::SOL_SOCKET, c::SO_TYPE, memory::hole()?, &mut 4u32), c::EFAULT);
    }
    fn stat_says_socket() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        assert_eq!(fstat(ends[0])?.st_mode & c::S_IFMT, c::S_IFSOCK);
        let link = std::fs::read_link(format!("/proc/self/fd/{}", ends[0]));
        assert!(link.is_ok_and(|l| l.display().to_string().starts_with("socket:[")));
    }
    fn a_socket_of_any_family_knows_the_interfaces() {
        for family in [c::AF_UNIX, c::AF_INET, c::AF_NETLINK] {
            let socket = int(sys!(socket, family, c::SOCK_DGRAM, 0)?);
            let mut request = [0u8; 40];
            request[..2].copy_from_slice(b"lo");
            sys!(ioctl, socket, c::SIOCGIFINDEX, &mut request)?;
            assert_eq!(request[16..20], 1i32.to_ne_bytes());
            request[..2].copy_from_slice(b"no");
            assert_errno(sys!(ioctl, socket, c::SIOCGIFINDEX, &mut request), c::ENODEV);
        }
    }
    fn a_thousand_round_trips_between_processes() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        let echo = child(|| {
            close(ends[0])?;
            loop {
                match read(ends[1], 64)? {
                    data if data.is_empty() => return Ok(()),
                    data => write(ends[1], &data)?,
                }
            }
        })?;
        for round in 0..1000u32 {
            write(ends[0], &round.to_ne_bytes())?;
            assert_eq!(read(ends[0], 64)?, round.to_ne_bytes());
        }
        close(ends[0])?;
        close(ends[1])?;
        echo.succeeds()?;
    }
    fn a_socket_file_of_another_is_eacces() {
        let (stream, datagram) = (unix_listener(b"s")?, unix(c::SOCK_DGRAM)?);
        unix_bind(datagram, b"d")?;
        sys!(chmod, c"s", 0o600)?;
        sys!(chmod, c"d", 0o600)?;
        sys!(mkdir, c"closed", 0o700)?;
        as_nobody(|| {
            assert_errno(unix_client(b"s"), c::EACCES);
            let fd = unix(c::SOCK_DGRAM)?;
            let (to, len) = unix_address(b"d");
            assert_errno(sys!(sendto, fd, b"x", 1, 0, &to, len), c::EACCES);
            assert_errno(unix_connect(fd, b"d"), c::EACCES);
            assert_errno(unix_bind(unix(c::SOCK_STREAM)?, b"closed/s"), c::EACCES);
            assert_errno(unix_connect(unix(c::SOCK_STREAM)?, b"closed/s"), c::EACCES);
            Ok(())
        })?;
        close(stream)?;
    }
    fn socket_paths_that_lead_nowhere() {
        close(file(c"f", b"")?)?;
        sys!(symlink, c"circle", c"circle")?;
        for (path, errno) in [(&b"f/s"[..], c::ENOTDIR), (b"circle/s", c::ELOOP), (b"none/s", c::ENOENT)] {
            assert_errno(unix_bind(unix(c::SOCK_STREAM)?, path), errno);
            assert_errno(unix_connect(unix(c::SOCK_STREAM)?, path), errno);
        }
        let fd = unix(c::SOCK_STREAM)?;
        for call in [nr::bind, nr::connect] {
            let length = |len: usize| sys::call(call, [size(fd.into()), memory::pages(1).unwrap_or(0), len, 0, 0, 0]);
            assert_errno(length(111), c::EINVAL);
            assert_errno(length(usize::MAX), c::EINVAL);
        }
    }
    fn lengths_below_zero_are_einval() {
        let fd = unix_listener(b"s")?;
        let client = unix_client(b"s")?;
        let mut room = [0u8; 128];
        assert_errno(sys!(getsockname, fd, &mut room, &mut -1i32), c::EINVAL);
        assert_errno(sys!(getpeername, client, &mut room, &mut -1i32), c::EINVAL);
        assert_errno(sys!(getsockopt, fd, c::SOL_SOCKET, c::SO_TYPE, &mut room, &mut -1i32), c::EINVAL);
        assert_errno(sys!(setsockopt, fd, c::SOL_SOCKET, c::SO_PASSCRED, &room, -1), c::EINVAL);
        assert_errno(sys!(accept, fd, &mut room, &mut -1i32), c::EINVAL);
    }
    fn options_that_do_not_fit() {
        let fd = unix(c::SOCK_STREAM)?;
        assert_errno(set_option(fd, c::SOL_SOCKET, c::SO_RCVTIMEO, &[0i64, 1_000_000]), c::EDOM);
        assert_errno(set_option(fd, c::SOL_SOCKET, c::SO_RCVTIMEO, &1i32), c::EINVAL);
        assert_errno(set_option(fd, c::SOL_SOCKET, c::SO_LINGER, &1i32), c::EINVAL);
        assert_errno(set_option(fd, c::SOL_SOCKET, c::SO_TYPE, &1i32), c::ENOPROTOOPT);
        assert_errno(set_option(fd, 9999, 1, &1i32), c::EOPNOTSUPP);
        assert_errno(option(fd, 9999, 1), c::EOPNOTSUPP);
        assert_errno(set_option(fd, c::SOL_SOCKET, 9999, &1i32), c::ENOPROTOOPT);
    }
    fn unconnected_and_connected_sockets_refuse() {
        let (stream, packet, datagram) = (unix(c::SOCK_STREAM)?, unix(c::SOCK_SEQPACKET)?, unix(c::SOCK_DGRAM)?);
        assert_errno(send(stream, b"x", c::MSG_NOSIGNAL), c::ENOTCONN);
        assert_errno(recv(stream, 1, 0), c::EINVAL);
        assert_errno(send(packet, b"x", c::MSG_NOSIGNAL), c::ENOTCONN);
        assert_errno(recv(packet, 1, 0), c::ENOTCONN);
        assert_errno(send(datagram, b"x", 0), c::ENOTCONN);
        assert_errno(recv(datagram, 1, c::MSG_DONTWAIT), c::EAGAIN);
        for fd in [stream, packet, datagram] {
            assert_errno(sys!(getpeername, fd, &mut [0u8; 16], &mut 16u32), c::ENOTCONN);
        }
        assert_errno(sys!(accept, datagram, 0, 0), c::EOPNOTSUPP);
        assert_errno(sys!(accept4, datagram, 0, 0, 0), c::EOPNOTSUPP);
        assert_errno(sys!(accept4, stream, 0, 0, 0), c::EINVAL);
        assert_errno(sys!(listen, stream, 1), c::EINVAL);
        let (server, ends) = (unix_listener(b"s")?, socket_pair(c::SOCK_STREAM)?);
        let (to, len) = unix_address(b"s");
        assert_errno(sys!(sendto, ends[0], b"x", 1, 0, &to, len), c::EISCONN);
        assert_errno(sys!(sendto, stream, b"x", 1, 0, &to, len), c::EOPNOTSUPP);
        assert_errno(unix_connect(ends[0], b"s"), c::EISCONN);
        assert_errno(unix_connect(server, b"s"), c::EINVAL);
        let pair = socket_pair(c::SOCK_DGRAM)?;
        assert_errno(send(pair[0], b"x", c::MSG_OOB), c::EOPNOTSUPP);
        assert_errno(recv(pair[0], 1, c::MSG_OOB), c::EOPNOTSUPP);
    }
    fn accept4_waits_and_is_interrupted() {
        let server = unix_listener(b"s")?;
        assert_interrupted(|| sys!(accept4, server, 0, 0, 0))?;
        restarted(|| sys!(accept4, server, 0, 0, 0), || { let _ = unix_client(b"s"); })??;
        sys!(fcntl, server, c::F_SETFL, c::O_NONBLOCK)?;
        assert_errno(sys!(accept4, server, 0, 0, 0), c::EAGAIN);
        assert_errno(sys!(accept4, server, 0, 0, 1), c::EINVAL);
    }
    fn connect_waits_for_room_and_is_interrupted() {
        let server = unix(c::SOCK_STREAM)?;
        unix_bind(server, b"s")?;
        sys!(listen, server, 0)?;
        unix_client(b"s")?;
        let fd = unix(c::SOCK_STREAM)?;
        assert_interrupted(|| unix_connect(fd, b"s"))?;
        restarted(|| unix_connect(fd, b"s"), || { let _ = sys!(accept, server, 0, 0); })??;
    }
}

/// The name that getsockname or getpeername gives.
fn name_of(fd: i32, call: c::c_long) -> Result<Vec<u8>> {
    let (mut bytes, mut len) = ([0u8; 110], 110u32);
    let (to, to_len) = ((&raw mut bytes).expose_provenance(), (&raw mut len).expose_provenance());
    sys::call(call, [size(fd.into()), to, to_len, 0, 0, 0])?;
    Ok(bytes[2..size(len.into())].to_vec())
}
