//! TCP and UDP on loopback, IPv4 and IPv6.

use crate::kit::{Fail, as_nobody, assert_errno, assert_interrupted, cases, child, close, int, pestered, pipe, read, read_all, restarted, skip, until, write};
use crate::net::{option, recv, send, set_option};
use crate::sys::{self, Errno, Result, memory, signal, sys};
use libc as c;

cases! { inet;
    fn a_group_on_loopback() {
        const GROUP: [u8; 4] = [239, 77, 1, 2];
        let on_lo = [GROUP, [127, 0, 0, 1]].concat();
        let option = |fd: i32, name: i32, value: &[u8]| sys!(setsockopt, fd, c::IPPROTO_IP, name, value, value.len());
        let bound = |address: [u8; 4], port: u16| -> Result<(i32, u16)> {
            let fd = int(sys!(socket, c::AF_INET, c::SOCK_DGRAM | c::SOCK_NONBLOCK, 0)?);
            set_option(fd, c::SOL_SOCKET, c::SO_REUSEADDR, &1i32)?;
            sys!(bind, fd, &address_of(address, port), 16)?;
            let (mut own, mut len) = ([0u8; 16], 16u32);
            sys!(getsockname, fd, &mut own, &mut len)?;
            Ok((fd, u16::from_be_bytes([own[2], own[3]])))
        };
        let (member, port) = bound([0; 4], 0)?;
        let (other, _) = bound([0; 4], port)?;
        let (named, _) = bound(GROUP, port)?;
        let sender = int(sys!(socket, c::AF_INET, c::SOCK_DGRAM, 0)?);
        option(sender, c::IP_MULTICAST_IF, &[127, 0, 0, 1])?;
        let send = || sys!(sendto, sender, b"x", 1, 0, &address_of(GROUP, port), 16);
        // Nobody has joined: it goes nowhere.
        send()?;
        assert_errno(recv(named, 9, 0), c::EAGAIN);
        option(member, c::IP_ADD_MEMBERSHIP, &on_lo)?;
        assert_errno(option(member, c::IP_ADD_MEMBERSHIP, &on_lo), c::EADDRINUSE);
        send()?;
        // Now it comes to each that is bound so, unless that wants its own groups alone.
        for fd in [member, other, named] {
            assert_eq!(recv(fd, 9, 0)?, b"x");
        }
        assert_eq!(crate::net::option(other, c::IPPROTO_IP, MULTICAST_ALL)?, 1);
        set_option(other, c::IPPROTO_IP, MULTICAST_ALL, &0i32)?;
        send()?;
        assert_eq!((recv(member, 9, 0)?, recv(named, 9, 0)?), (b"x".to_vec(), b"x".to_vec()));
        assert_errno(recv(other, 9, 0), c::EAGAIN);
        // By the interface's number, and with its own address.
        let by_number = [&[1u8, 0, 0, 0, 0, 0, 0, 0][..], &address_of(GROUP, 0), &[0; 112]].concat();
        option(other, MCAST_JOIN_GROUP, &by_number)?;
        let (bound_sender, _) = bound([127, 0, 0, 1], 0)?;
        sys!(sendto, bound_sender, b"y", 1, 0, &address_of(GROUP, port), 16)?;
        assert_eq!(recv(other, 9, 0)?, b"y");
        option(other, MCAST_LEAVE_GROUP, &by_number)?;
        option(member, c::IP_DROP_MEMBERSHIP, &on_lo)?;
        assert_errno(option(member, c::IP_DROP_MEMBERSHIP, &on_lo), c::EADDRNOTAVAIL);
        // What came before it left is there still.
        assert_eq!((recv(member, 9, 0)?, recv(named, 9, 0)?), (b"y".to_vec(), b"y".to_vec()));
        send()?;
        assert_errno(recv(named, 9, 0), c::EAGAIN);
    }
    fn groups_and_interfaces_that_are_none() {
        let udp = int(sys!(socket, c::AF_INET, c::SOCK_DGRAM, 0)?);
        let tcp = int(sys!(socket, c::AF_INET, c::SOCK_STREAM, 0)?);
        let option = |fd: i32, name: i32, value: &[u8]| sys!(setsockopt, fd, c::IPPROTO_IP, name, value, value.len());
        let on_lo = [239, 77, 1, 3, 127, 0, 0, 1];
        assert_errno(option(udp, c::IP_ADD_MEMBERSHIP, &[10, 0, 0, 1, 127, 0, 0, 1]), c::EINVAL);
        assert_errno(option(udp, c::IP_ADD_MEMBERSHIP, &on_lo[..4]), c::EINVAL);
        assert_errno(option(udp, c::IP_ADD_MEMBERSHIP, &[239, 77, 1, 3, 192, 0, 2, 99]), c::ENODEV);
        assert_errno(option(udp, c::IP_ADD_MEMBERSHIP, &[239, 77, 1, 3, 0, 0, 0, 0, 0x7f, 0x7f, 0, 0]), c::ENODEV);
        assert_errno(option(udp, c::IP_MULTICAST_IF, &[192, 0, 2, 99]), c::EADDRNOTAVAIL);
        assert_errno(option(udp, c::IP_MULTICAST_IF, &[127, 0, 0]), c::EINVAL);
        option(udp, c::IP_MULTICAST_IF, &[127, 0, 0, 1])?;
        assert_eq!(crate::net::option(udp, c::IPPROTO_IP, c::IP_MULTICAST_IF)?, i32::from_ne_bytes([127, 0, 0, 1]));
        assert_errno(option(tcp, c::IP_ADD_MEMBERSHIP, &on_lo), c::EPROTO);
        assert_errno(option(tcp, c::IP_MULTICAST_IF, &[127, 0, 0, 1]), c::EINVAL);
        for last in 0..20 {
            option(udp, c::IP_ADD_MEMBERSHIP, &[239, 77, 2, last, 127, 0, 0, 1])?;
        }
        assert_errno(option(udp, c::IP_ADD_MEMBERSHIP, &[239, 77, 2, 20, 127, 0, 0, 1]), c::ENOBUFS);
    }
    fn levels_that_a_family_does_not_have() {
        let get = |fd: i32, level: i32, value: usize, len: usize| sys!(getsockopt, fd, level, 9999, value, len);
        let set = |fd: i32, level: i32, value: usize, len: i32| sys!(setsockopt, fd, level, 9999, value, len);
        let hole = memory::hole()?;
        // Family, type, levels of its own, and what it answers at others.
        let kinds = [
            (c::AF_UNIX, c::SOCK_STREAM, vec![], c::EOPNOTSUPP, c::EOPNOTSUPP),
            (c::AF_INET, c::SOCK_STREAM, vec![c::IPPROTO_TCP], c::EOPNOTSUPP, c::ENOPROTOOPT),
            (c::AF_INET, c::SOCK_DGRAM, vec![c::IPPROTO_UDP], c::EOPNOTSUPP, c::ENOPROTOOPT),
            (c::AF_INET6, c::SOCK_STREAM, vec![c::IPPROTO_TCP, c::IPPROTO_IPV6], c::ENOPROTOOPT, c::ENOPROTOOPT),
            (c::AF_INET6, c::SOCK_DGRAM, vec![c::IPPROTO_UDP, c::IPPROTO_IPV6], c::ENOPROTOOPT, c::ENOPROTOOPT),
            (c::AF_NETLINK, c::SOCK_RAW, vec![c::SOL_NETLINK], c::ENOPROTOOPT, c::ENOPROTOOPT),
        ];
        for (family, kind, own, getting, setting) in kinds {
            let fd = int(sys!(socket, family, kind, 0)?);
            for level in [-1, 2, 6, 17, 41, 58, 263, 270, 12345] {
                let is_own = own.contains(&level);
                let [get_errno, set_errno] = if is_own { [c::ENOPROTOOPT; 2] } else { [getting, setting] };
                let (mut value, mut len) = (1i32, 4i32);
                let (value, len) = ((&raw mut value).addr(), (&raw mut len).addr());
                assert_errno(get(fd, level, value, len), get_errno);
                assert_errno(set(fd, level, value, 4), set_errno);
                assert_errno(set(fd, level, value, -1), c::EINVAL);
                // Nothing is read before that is known.
                assert_errno(get(fd, level, value, hole), if is_own { c::EFAULT } else { getting });
                assert_errno(set(fd, level, hole, 4), if is_own { c::EFAULT } else { setting });
            }
            assert_errno(get(fd, c::SOL_SOCKET, hole, hole), c::EFAULT);
        }
    }
    fn tcp_echo() {
        let server = Listener::new(5)?;
        let client = child(|| {
            let fd = server.connect()?;
            write(fd, b"hello")?;
            assert_eq!(read(fd, 9)?, b"hello");
            Ok(())
        })?;
        let peer = server.accept()?;
        write(peer, &read(peer, 9)?)?;
        client.succeeds()?;
        assert_eq!(read(peer, 9)?, b"");
    }
    fn tcp_disconnects_and_connects_again() {
        let server = Listener::new(2)?;
        let fd = tcp()?;
        let events = || {
            let mut asked = [c::pollfd { fd, events: c::POLLIN | c::POLLOUT, revents: 0 }];
            sys!(poll, &mut asked, 1, 0).map(|_| asked[0].revents)
        };
        assert_eq!(events()?, c::POLLOUT | c::POLLHUP);
        for round in 0..3 {
            connect(fd, server.port)?;
            let peer = server.accept()?;
            assert_eq!(events()?, c::POLLOUT, "{round}");
            write(peer, b"hello")?;
            until(|| events().is_ok_and(|events| events & c::POLLIN != 0));
            assert_eq!(read(fd, 9)?, b"hello");
            assert_eq!(events()?, c::POLLOUT, "{round}");
            sys!(shutdown, fd, c::SHUT_RD)?;
            sys!(connect, fd, &[0u8; 16], 16)?;
            assert_eq!(events()?, c::POLLOUT | c::POLLERR | c::POLLHUP, "{round}");
            // Nothing of it is left in the next connection, whether somebody asked or not.
            if round == 1 {
                close(peer)?;
                continue;
            }
            assert_eq!(option(fd, c::SOL_SOCKET, c::SO_ERROR)?, c::ECONNRESET);
            assert_eq!(events()?, c::POLLOUT | c::POLLHUP, "{round}");
            assert_errno(sys!(recvfrom, fd, &mut [0u8; 1], 1, c::MSG_DONTWAIT, 0, 0), c::ENOTCONN);
            assert_errno(read(peer, 9), c::ECONNRESET);
            close(peer)?;
        }
    }
    fn tcp_over_ipv6() {
        let fd = match sys!(socket, c::AF_INET6, c::SOCK_STREAM, 0) {
            Ok(fd) => int(fd),
            Err(errno) => return skip(&format!("no IPv6: {errno:?}")),
        };
        let mut any = [0u8; 28];
        (any[0], any[23]) = (10, 1);
        if let Err(errno) = sys!(bind, fd, &any, 28) {
            return skip(&format!("no ::1: {errno:?}"));
        }
        sys!(listen, fd, 1)?;
        let mut len = 28u32;
        sys!(getsockname, fd, &mut any, &mut len)?;
        assert_eq!(len, 28);
        let client = int(sys!(socket, c::AF_INET6, c::SOCK_STREAM, 0)?);
        sys!(connect, client, &any, 28)?;
        let peer = int(sys!(accept, fd, 0, 0)?);
        write(client, b"six")?;
        assert_eq!(read(peer, 9)?, b"six");
    }
    fn addresses_of_both_sides() {
        let (a, b) = tcp_pair()?;
        assert_eq!((name(a, Side::Own)?, name(a, Side::Peer)?), (name(b, Side::Peer)?, name(b, Side::Own)?));
        assert_eq!(name(a, Side::Own)?.0, c::INADDR_LOOPBACK);
        let fresh = tcp()?;
        assert_errno(name(fresh, Side::Peer), c::ENOTCONN);
        assert_eq!(name(fresh, Side::Own)?, (0, 0));
        assert_errno(sys!(getsockname, a, memory::hole()?, &mut 16u32), c::EFAULT);
    }
    fn accept_tells_the_peer() {
        let server = Listener::new(1)?;
        let client = server.connect()?;
        let (mut address, mut len) = ([0u8; 16], 16u32);
        let peer = int(sys!(accept4, server.fd, &mut address, &mut len, c::SOCK_NONBLOCK | c::SOCK_CLOEXEC)?);
        assert_eq!((len, parse(&address)), (16, name(client, Side::Own)?));
        assert_errno(read(peer, 1), c::EAGAIN);
        assert_eq!(sys!(fcntl, peer, c::F_GETFD)?, 1);
        assert_errno(sys!(accept4, server.fd, 0, 0, 1), c::EINVAL);
    }
    fn socket_errors() {
        assert_errno(sys!(socket, 999, c::SOCK_STREAM, 0), c::EAFNOSUPPORT);
        assert_errno(sys!(socket, c::AF_INET, 99, 0), c::EINVAL);
        assert_errno(sys!(socket, c::AF_INET, c::SOCK_STREAM, c::IPPROTO_UDP), c::EPROTONOSUPPORT);
        let fd = int(sys!(socket, c::AF_INET, c::SOCK_STREAM | c::SOCK_CLOEXEC | c::SOCK_NONBLOCK, c::IPPROTO_TCP)?);
        assert_eq!(sys!(fcntl, fd, c::F_GETFD)?, 1);
        assert_eq!(int(sys!(fcntl, fd, c::F_GETFL)?) & c::O_NONBLOCK, c::O_NONBLOCK);
    }
    fn low_ports_are_for_the_privileged() {
        let bind = |family: u8, kind, port: u16| {
            let fd = int(sys!(socket, i32::from(family), kind, 0)?);
            let mut address = [0u8; 28];
            address[0] = family;
            address[2..4].copy_from_slice(&port.to_be_bytes());
            sys!(bind, fd, &address, 28).map(drop)
        };
        let low = [(2, c::SOCK_STREAM), (2, c::SOCK_DGRAM)];
        let start = crate::kit::text(c"/proc/sys/net/ipv4/ip_unprivileged_port_start")?;
        if start.trim() != "1024" {
            return skip("all ports are for everybody");
        }
        as_nobody(|| {
            for (family, kind) in low {
                assert_errno(bind(family, kind, 1023), c::EACCES);
                assert_errno(bind(family, kind, 1), c::EACCES);
                bind(family, kind, 0)?;
            }
            Ok(())
        })?;
        bind(2, c::SOCK_STREAM, 1023)?;
    }
    fn protocols_that_are_none() {
        let mut fds = [0i32; 2];
        for (kind, protocol, errno) in [
            (c::SOCK_RAW, 0, c::EPROTONOSUPPORT),
            (c::SOCK_STREAM, c::IPPROTO_UDP, c::EPROTONOSUPPORT),
            (c::SOCK_DGRAM, c::IPPROTO_TCP, c::EPROTONOSUPPORT),
            (c::SOCK_STREAM, c::IPPROTO_ICMP, c::EPROTONOSUPPORT),
        ] {
            assert_errno(sys!(socket, c::AF_INET, kind, protocol), errno);
            assert_errno(sys!(socketpair, c::AF_INET, kind, protocol, &mut fds), errno);
        }
        assert_errno(sys!(socketpair, c::AF_INET, c::SOCK_STREAM, c::IPPROTO_TCP, &mut fds), c::EOPNOTSUPP);
        assert_errno(sys!(socketpair, c::AF_INET6, c::SOCK_DGRAM, 0, &mut fds), c::EOPNOTSUPP);
    }
    fn bind_errors() {
        let server = Listener::new(1)?;
        assert_errno(bind(tcp()?, server.port), c::EADDRINUSE);
        assert_errno(bind(server.fd, 0), c::EINVAL);
        assert_errno(sys!(bind, tcp()?, &address(0x0808_0808, 0), 16), c::EADDRNOTAVAIL);
        assert_errno(sys!(bind, tcp()?, &address(0, 0), 8), c::EINVAL);
        assert_errno(sys!(bind, tcp()?, memory::hole()?, 16), c::EFAULT);
        assert_errno(sys!(bind, 899, &address(0, 0), 16), c::EBADF);
        assert_errno(sys!(bind, pipe(0)?[0], &address(0, 0), 16), c::ENOTSOCK);
        as_nobody(|| {
            match bind(tcp()?, 1) {
                Ok(()) => skip("low ports are open to all"),
                refused => { assert_errno(refused, c::EACCES); Ok(()) }
            }
        })?;
    }
    fn connect_errors() {
        let fd = tcp()?;
        let unused = Unused::new()?;
        assert_errno(connect(fd, unused.port), c::ECONNREFUSED);
        let server = Listener::new(1)?;
        connect(fd, server.port)?;
        assert_errno(connect(fd, server.port), c::EISCONN);
        assert_errno(connect(899, server.port), c::EBADF);
        let mut wrong = address(c::INADDR_LOOPBACK, server.port);
        wrong[0] = 99;
        assert_errno(sys!(connect, tcp()?, &wrong, 16), c::EAFNOSUPPORT);
        assert_errno(sys!(connect, tcp()?, &wrong, 3), c::EINVAL);
    }
    fn unconnected_sockets() {
        let fd = tcp()?;
        assert_errno(read(fd, 1), c::ENOTCONN);
        assert_errno(send(fd, b"x", c::MSG_NOSIGNAL), c::EPIPE);
        assert_errno(sys!(shutdown, fd, c::SHUT_RDWR), c::ENOTCONN);
        assert_errno(sys!(accept, fd, 0, 0), c::EINVAL);
    }
    fn nonblocking_connect() {
        let (server, unused) = (Listener::new(1)?, Unused::new()?);
        let outcome = |port: u16| -> core::result::Result<i32, Fail> {
            let fd = int(sys!(socket, c::AF_INET, c::SOCK_STREAM | c::SOCK_NONBLOCK, 0)?);
            match connect(fd, port) {
                Err(Errno(c::EINPROGRESS)) => {}
                // Linux may answer at once on loopback.
                other => return Ok(other.err().map_or(0, |e| e.0)),
            }
            let mut poll = c::pollfd { fd, events: c::POLLOUT, revents: 0 };
            sys!(poll, &mut poll, 1, -1)?;
            Ok(option(fd, c::SOL_SOCKET, c::SO_ERROR)?)
        };
        assert_eq!((outcome(server.port)?, outcome(unused.port)?), (0, c::ECONNREFUSED));
    }
    fn close_ends_the_stream() {
        let (a, b) = tcp_pair()?;
        write(a, b"last")?;
        close(a)?;
        assert_eq!(read_all(b)?, b"last");
    }
    fn shutdown_half() {
        let (a, b) = tcp_pair()?;
        sys!(shutdown, a, c::SHUT_WR)?;
        assert_eq!(read(b, 9)?, b"");
        assert_errno(send(a, b"x", c::MSG_NOSIGNAL), c::EPIPE);
        write(b, b"answer")?;
        assert_eq!(read(a, 9)?, b"answer");
    }
    fn write_to_the_dead_is_a_reset_then_sigpipe() {
        let (a, b) = tcp_pair()?;
        write(a, b"unread")?;
        assert_eq!(recv(b, 1, c::MSG_PEEK)?, b"u");
        close(b)?;
        assert_errno(read(a, 1), c::ECONNRESET);
        signal::record(c::SIGPIPE, 0)?;
        assert_errno(write(a, b"x"), c::EPIPE);
        assert_eq!(signal::count(c::SIGPIPE), 1);
    }
    fn linger_zero_resets() {
        let (a, b) = tcp_pair()?;
        set_option(a, c::SOL_SOCKET, c::SO_LINGER, &[1i32, 0])?;
        close(a)?;
        assert_errno(read(b, 1), c::ECONNRESET);
    }
    fn peek_waitall_dontwait() {
        let (a, b) = tcp_pair()?;
        assert_errno(recv(b, 1, c::MSG_DONTWAIT), c::EAGAIN);
        write(a, b"abc")?;
        assert_eq!(recv(b, 2, c::MSG_PEEK)?, b"ab");
        let writer = child(|| Ok(write(a, b"def")?))?;
        assert_eq!(recv(b, 6, c::MSG_WAITALL)?, b"abcdef");
        writer.succeeds()?;
    }
    fn truncating_receive_drops() {
        let (a, b) = tcp_pair()?;
        write(a, b"abcdef")?;
        let mut buffer = [b'#'; 4];
        assert_eq!(sys!(recvfrom, b, &mut buffer, 4, c::MSG_TRUNC | c::MSG_WAITALL, 0, 0)?, 4);
        assert_eq!((&buffer, read(b, 9)?), (b"####", b"ef".to_vec()));
    }
    fn out_of_band_byte() {
        let (a, b) = tcp_pair()?;
        write(a, b"in")?;
        send(a, b"!", c::MSG_OOB)?;
        let mut poll = c::pollfd { fd: b, events: c::POLLPRI, revents: 0 };
        sys!(poll, &mut poll, 1, -1)?;
        assert_eq!(poll.revents, c::POLLPRI);
        assert_eq!(recv(b, 9, c::MSG_OOB)?, b"!");
        assert_errno(recv(b, 9, c::MSG_OOB), c::EINVAL);
        assert_eq!(read(b, 9)?, b"in");
    }
    fn urgent_data_is_told_to_the_owner() {
        let ((a, b), (to, other)) = (tcp_pair()?, tcp_pair()?);
        signal::record(c::SIGURG, 0)?;
        signal::record(c::SIGIO, 0)?;
        // Nobody owns this one.
        send(a, b"!", c::MSG_OOB)?;
        while recv(b, 9, c::MSG_OOB).is_err() {}
        assert_eq!(signal::count(c::SIGURG), 0);
        sys!(fcntl, b, c::F_SETOWN, crate::kit::pid()?)?;
        write(a, b"plain")?;
        send(a, b"!", c::MSG_OOB)?;
        until(|| signal::count(c::SIGURG) == 1);
        // Neither readiness nor the end is urgent.
        sys!(fcntl, other, c::F_SETOWN, crate::kit::pid()?)?;
        sys!(fcntl, other, c::F_SETFL, c::O_ASYNC)?;
        write(to, b"plain")?;
        until(|| signal::count(c::SIGIO) > 0);
        close(to)?;
        sys!(fcntl, other, c::F_SETFL, 0)?;
        sys!(poll, &mut c::pollfd { fd: other, events: c::POLLRDHUP, revents: 0 }, 1, -1)?;
        assert_eq!(signal::count(c::SIGURG), 1);
    }
    fn reads_stop_at_the_mark() {
        let (a, b) = tcp_pair()?;
        send(a, b"before!", c::MSG_OOB)?;
        write(a, b"behind")?;
        let at_mark = || -> Result<i32> {
            let mut is_at_mark = 9i32;
            sys!(ioctl, b, 0x8905, &mut is_at_mark)?;
            Ok(is_at_mark)
        };
        while recv(b, 13, c::MSG_OOB | c::MSG_PEEK).is_err() {}
        assert_eq!(at_mark()?, 0);
        assert_eq!(read(b, 99)?, b"before");
        assert_eq!(at_mark()?, 1);
        let mut rest = Vec::new();
        while rest.len() < 6 {
            rest.extend(read(b, 99)?);
        }
        assert_eq!((rest, at_mark()?), (b"behind".to_vec(), 0));
        assert_errno(recv(b, 9, c::MSG_OOB), c::EINVAL);
    }
    fn a_megabyte_arrives() {
        let server = Listener::new(1)?;
        let data: Vec<u8> = (0..1_000_000u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let client = child(|| Ok(write(server.connect()?, &data)?))?;
        let peer = server.accept()?;
        assert!(read_all(peer)? == data, "other data arrived");
        client.succeeds()?;
    }
    fn full_buffers_are_eagain_and_poll_tells() {
        let (a, b) = tcp_pair()?;
        while send(a, &[0; 65536], c::MSG_DONTWAIT).is_ok() {}
        let mut poll = c::pollfd { fd: a, events: c::POLLOUT, revents: 0 };
        assert_eq!(sys!(poll, &mut poll, 1, 0)?, 0);
        let reader = child(|| {
            close(a)?;
            Ok(read_all(b).map(drop)?)
        })?;
        assert_eq!(sys!(poll, &mut poll, 1, -1)?, 1);
        close(a)?;
        reader.succeeds()?;
    }
    fn recv_and_accept_are_interrupted_and_restarted() {
        let server = Listener::new(1)?;
        assert_interrupted(|| server.accept())?;
        let (client, peer) = (server.connect()?, server.accept()?);
        assert_interrupted(|| recv(peer, 1, 0))?;
        let got = restarted(|| recv(peer, 9, 0), || { let _ = write(client, b"x"); })??;
        assert_eq!(got, b"x");
        let accepted = restarted(|| server.accept(), || { let _ = server.connect(); })?;
        close(accepted?)?;
    }
    fn send_is_interrupted() {
        let (a, _b) = tcp_pair()?;
        while send(a, &[0; 65536], c::MSG_DONTWAIT).is_ok() {}
        let data = vec![0; 1 << 22];
        let mut result = Ok(0);
        // What the first signal comes to may still find a little room.
        while result.is_ok() {
            result = pestered(0, || send(a, &data, 0))?;
        }
        assert_errno(result, c::EINTR);
    }
    fn timeouts() {
        let (a, _b) = tcp_pair()?;
        set_option(a, c::SOL_SOCKET, c::SO_RCVTIMEO, &[0i64, 20_000])?;
        assert_errno(read(a, 1), c::EAGAIN);
        let mut value = [0i64; 2];
        sys!(getsockopt, a, c::SOL_SOCKET, c::SO_RCVTIMEO, &mut value, &mut 16u32)?;
        assert!(value[0] == 0 && (20_000..=30_000).contains(&value[1]));
    }
    fn socket_options() {
        let fd = tcp()?;
        for name in [c::SO_REUSEADDR, c::SO_REUSEPORT, c::SO_KEEPALIVE, c::SO_BROADCAST] {
            assert_eq!(option(fd, c::SOL_SOCKET, name)?, 0);
            set_option(fd, c::SOL_SOCKET, name, &1i32)?;
            assert_eq!(option(fd, c::SOL_SOCKET, name)?, 1);
        }
        let tcp_values = [(c::TCP_NODELAY, 1), (c::TCP_CORK, 1), (c::TCP_KEEPIDLE, 60), (c::TCP_KEEPINTVL, 10), (c::TCP_KEEPCNT, 5)];
        for (name, value) in tcp_values {
            set_option(fd, c::IPPROTO_TCP, name, &value)?;
            assert_eq!(option(fd, c::IPPROTO_TCP, name)?, value);
        }
        assert_eq!(option(fd, c::SOL_SOCKET, c::SO_TYPE)?, c::SOCK_STREAM);
        assert_eq!(option(fd, c::SOL_SOCKET, c::SO_PROTOCOL)?, c::IPPROTO_TCP);
        assert_errno(option(fd, c::SOL_SOCKET, 9999), c::ENOPROTOOPT);
        assert_errno(set_option(fd, c::IPPROTO_TCP, 9999, &1i32), c::ENOPROTOOPT);
    }
    fn reuse_of_an_address() {
        let server = Listener::new(1)?;
        // Both the old connection and the new listener have to ask for it.
        set_option(server.fd, c::SOL_SOCKET, c::SO_REUSEADDR, &1i32)?;
        let (a, b) = (server.connect()?, server.accept()?);
        close(b)?;
        assert_eq!(read(a, 1)?, b"");
        close(a)?;
        close(server.fd)?;
        let again = tcp()?;
        set_option(again, c::SOL_SOCKET, c::SO_REUSEADDR, &1i32)?;
        bind(again, server.port)?;
        sys!(listen, again, 1)?;
    }
    fn listener_without_bind_gets_a_port() {
        let fd = tcp()?;
        sys!(listen, fd, 1)?;
        assert_ne!(name(fd, Side::Own)?.1, 0);
        assert_eq!(option(fd, c::SOL_SOCKET, c::SO_ACCEPTCONN)?, 1);
    }
    fn closing_a_listener_resets_the_waiting() {
        let server = Listener::new(5)?;
        let client = server.connect()?;
        close(server.fd)?;
        assert_errno(read(client, 1), c::ECONNRESET);
        assert_errno(server.connect(), c::ECONNREFUSED);
    }
    fn connection_survives_fork_and_close_in_the_parent() {
        let (a, b) = tcp_pair()?;
        let echo = child(|| {
            close(a)?;
            write(b, &read(b, 9)?)?;
            Ok(())
        })?;
        close(b)?;
        write(a, b"hello")?;
        assert_eq!(read_all(a)?, b"hello");
        echo.succeeds()?;
    }
    fn wildcard_listener_takes_loopback() {
        let fd = tcp()?;
        sys!(bind, fd, &address(0, 0), 16)?;
        sys!(listen, fd, 1)?;
        connect(tcp()?, name(fd, Side::Own)?.1)?;
        let peer = int(sys!(accept, fd, 0, 0)?);
        assert_eq!(name(peer, Side::Own)?.0, c::INADDR_LOOPBACK);
    }
    fn shutdown_wakes_accept() {
        let server = Listener::new(1)?;
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| server.accept());
            sys!(shutdown, server.fd, c::SHUT_RDWR)?;
            let Ok(result) = waiter.join() else { panic!("the thread failed") };
            assert_errno(result, c::EINVAL);
            Ok::<(), Fail>(())
        })?;
    }
    fn udp_by_address() {
        let (a, b) = (udp()?, udp()?);
        let (to, from) = (name(b, Side::Own)?, name(a, Side::Own)?);
        assert_eq!(sys!(sendto, a, b"hello", 5, 0, &address(to.0, to.1), 16)?, 5);
        let (mut buffer, mut sender, mut len) = ([0u8; 9], [0u8; 16], 16u32);
        assert_eq!(sys!(recvfrom, b, &mut buffer, 9, 0, &mut sender, &mut len)?, 5);
        assert_eq!((parse(&sender), len, &buffer[..5]), (from, 16, &b"hello"[..]));
    }
    fn udp_keeps_borders_and_truncates() {
        let (a, b) = udp_pair()?;
        write(a, b"one")?;
        write(a, b"")?;
        write(a, b"three")?;
        assert_eq!((read(b, 9)?, read(b, 9)?), (b"one".to_vec(), vec![]));
        let mut buffer = [0u8; 2];
        assert_eq!(sys!(recvfrom, b, &mut buffer, 2, c::MSG_TRUNC, 0, 0)?, 5);
        assert_errno(recv(b, 9, c::MSG_DONTWAIT), c::EAGAIN);
    }
    fn udp_connected_takes_only_its_peer() {
        let (a, b) = udp_pair()?;
        let (stranger, to) = (udp()?, name(a, Side::Own)?);
        sys!(sendto, stranger, b"spam", 4, 0, &address(to.0, to.1), 16)?;
        write(b, b"good")?;
        assert_eq!(read(a, 9)?, b"good");
        assert_errno(recv(a, 9, c::MSG_DONTWAIT), c::EAGAIN);
    }
    fn udp_errors() {
        let fd = udp()?;
        assert_errno(write(fd, b"x"), c::EDESTADDRREQ);
        assert_errno(sys!(listen, fd, 1), c::EOPNOTSUPP);
        assert_errno(sys!(accept, fd, 0, 0), c::EOPNOTSUPP);
        connect(fd, name(udp()?, Side::Own)?.1)?;
        assert_errno(write(fd, &vec![0u8; 70_000]), c::EMSGSIZE);
        // A port that was ours a moment ago; ephemeral ports are not given out again so soon.
        let (lonely, gone) = (udp()?, udp()?);
        let port = name(gone, Side::Own)?.1;
        close(gone)?;
        connect(lonely, port)?;
        write(lonely, b"x")?;
        assert_errno(read(lonely, 1), c::ECONNREFUSED);
    }
    fn udp_disconnects() {
        let (a, _b) = udp_pair()?;
        sys!(connect, a, &[0u16; 8], 16)?;
        assert_errno(name(a, Side::Peer), c::ENOTCONN);
        assert_errno(write(a, b"x"), c::EDESTADDRREQ);
    }
    fn udp_is_interrupted() {
        let fd = udp()?;
        assert_interrupted(|| recv(fd, 1, 0))?;
    }
    fn sockets_of_root_are_eperm() {
        as_nobody(|| {
            assert_errno(sys!(socket, c::AF_INET, c::SOCK_RAW, c::IPPROTO_ICMP), c::EPERM);
            Ok(())
        })?;
    }
    fn a_second_listener_on_a_port_is_refused() {
        let (one, other) = (tcp()?, tcp()?);
        for fd in [one, other] {
            set_option(fd, c::SOL_SOCKET, c::SO_REUSEADDR, &1i32)?;
        }
        bind(one, 0)?;
        bind(other, name(one, Side::Own)?.1)?;
        sys!(listen, one, 1)?;
        assert_errno(sys!(listen, other, 1), c::EADDRINUSE);
    }
    fn tcp_refuses_by_its_state() {
        let fresh = tcp()?;
        assert_errno(sys!(getpeername, fresh, &mut [0u8; 16], &mut 16u32), c::ENOTCONN);
        assert_errno(sys!(accept4, fresh, 0, 0, 0), c::EINVAL);
        let part = [crate::kit::vector(b"x")];
        let mut header: c::msghdr = sys::zeroed();
        (header.msg_iov, header.msg_iovlen) = (part.as_ptr().cast_mut(), 1);
        assert_errno(sys!(sendmsg, fresh, &header, c::MSG_NOSIGNAL), c::EPIPE);
        assert_errno(sys!(recvmsg, fresh, &mut header, 0), c::ENOTCONN);
        let server = Listener::new(1)?;
        assert_errno(sys!(sendmsg, server.fd, &header, c::MSG_NOSIGNAL), c::EPIPE);
        assert_errno(recv(server.fd, 1, 0), c::ENOTCONN);
        assert_errno(connect(server.fd, server.port), c::EISCONN);
        assert_errno(recv(fresh, 1, c::MSG_OOB), c::EINVAL);
        let (a, b) = tcp_pair()?;
        assert_errno(sys!(listen, a, 1), c::EINVAL);
        assert_errno(bind(b, 0), c::EINVAL);
    }
    fn udp_refuses_by_its_state() {
        let fd = udp()?;
        let part = [crate::kit::vector(b"x")];
        let mut header: c::msghdr = sys::zeroed();
        (header.msg_iov, header.msg_iovlen) = (part.as_ptr().cast_mut(), 1);
        assert_errno(sys!(sendmsg, fd, &header, 0), c::EDESTADDRREQ);
        assert_errno(send(fd, b"x", 0), c::EDESTADDRREQ);
        assert_errno(sys!(recvmsg, fd, &mut header, c::MSG_DONTWAIT), c::EAGAIN);
        assert_errno(send(fd, b"x", c::MSG_OOB), c::EOPNOTSUPP);
        assert_errno(sys!(accept4, fd, 0, 0, 0), c::EOPNOTSUPP);
        assert_errno(sys!(shutdown, fd, c::SHUT_RD), c::ENOTCONN);
        let to = address(c::INADDR_LOOPBACK, 0);
        assert_errno(sys!(sendto, fd, b"x", 1, 0, &to, 16), c::EINVAL);
        assert_errno(sys!(sendto, fd, b"x", 1, 0, &to, 3), c::EINVAL);
        let mut wrong = address(c::INADDR_LOOPBACK, 9);
        wrong[0] = 99;
        assert_errno(sys!(sendto, fd, b"x", 1, 0, &wrong, 16), c::EAFNOSUPPORT);
        // A port that was ours a moment ago.
        let gone = udp()?;
        connect(fd, name(gone, Side::Own)?.1)?;
        close(gone)?;
        write(fd, b"x")?;
        assert_errno(sys!(recvmsg, fd, &mut header, 0), c::ECONNREFUSED);
    }
}

enum Side {
    Own,
    Peer,
}

fn tcp() -> Result<i32> {
    sys!(socket, c::AF_INET, c::SOCK_STREAM, 0).map(int)
}

/// A UDP socket with a port of its own.
fn udp() -> Result<i32> {
    let fd = int(sys!(socket, c::AF_INET, c::SOCK_DGRAM, 0)?);
    bind(fd, 0)?;
    Ok(fd)
}

fn udp_pair() -> Result<(i32, i32)> {
    let (a, b) = (udp()?, udp()?);
    connect(a, name(b, Side::Own)?.1)?;
    connect(b, name(a, Side::Own)?.1)?;
    Ok((a, b))
}

fn address(ip: u32, port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = 2;
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&ip.to_be_bytes());
    bytes
}

fn parse(bytes: &[u8; 16]) -> (u32, u16) {
    assert_eq!(bytes[..2], [2, 0]);
    (u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]), u16::from_be_bytes([bytes[2], bytes[3]]))
}

fn bind(fd: i32, port: u16) -> Result<()> {
    sys!(bind, fd, &address(c::INADDR_LOOPBACK, port), 16).map(drop)
}

fn connect(fd: i32, port: u16) -> Result<()> {
    sys!(connect, fd, &address(c::INADDR_LOOPBACK, port), 16).map(drop)
}

fn name(fd: i32, side: Side) -> Result<(u32, u16)> {
    let (mut bytes, mut len) = ([0u8; 16], 16u32);
    match side {
        Side::Own => sys!(getsockname, fd, &mut bytes, &mut len)?,
        Side::Peer => sys!(getpeername, fd, &mut bytes, &mut len)?,
    };
    Ok(parse(&bytes))
}

/// A port on which nobody listens: a socket that does not has it.
struct Unused {
    port: u16,
}

impl Unused {
    fn new() -> Result<Self> {
        let fd = tcp()?;
        bind(fd, 0)?;
        Ok(Self { port: name(fd, Side::Own)?.1 })
    }
}

struct Listener {
    fd: i32,
    port: u16,
}

impl Listener {
    fn new(backlog: i32) -> Result<Self> {
        let fd = tcp()?;
        bind(fd, 0)?;
        sys!(listen, fd, backlog)?;
        Ok(Self { fd, port: name(fd, Side::Own)?.1 })
    }

    fn connect(&self) -> Result<i32> {
        let fd = tcp()?;
        connect(fd, self.port)?;
        Ok(fd)
    }

    fn accept(&self) -> Result<i32> {
        sys!(accept, self.fd, 0, 0).map(int)
    }
}

fn tcp_pair() -> Result<(i32, i32)> {
    let server = Listener::new(1)?;
    let pair = (server.connect()?, server.accept()?);
    close(server.fd)?;
    Ok(pair)
}

const MULTICAST_ALL: i32 = 49;
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_LEAVE_GROUP: i32 = 45;

/// A `sockaddr_in`.
fn address_of(ip: [u8; 4], port: u16) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    bytes[0] = 2;
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&ip);
    bytes
}
