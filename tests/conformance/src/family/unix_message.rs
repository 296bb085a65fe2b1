//! sendmsg and recvmsg over AF_UNIX: passed descriptors, credentials, truncation, batches.

use crate::kit::{Gate, as_nobody, assert_errno, assert_interrupted, cases, child, close, file, int, need_root, pid, pipe, read, restarted, size, socket_pair, vector, vector_mut, write};
use crate::net::{set_option, unix_client, unix_listener};
use crate::sys::{self, Result, memory, sys};
use libc as c;

cases! { unix_message;
    fn truncated_packets() {
        let ends = socket_pair(c::SOCK_DGRAM)?;
        write(ends[0], b"hello")?;
        let mut buffer = [0u8; 2];
        assert_eq!(sys!(recvfrom, ends[1], &mut buffer, 2, c::MSG_TRUNC, 0, 0)?, 5);
        write(ends[0], b"hello")?;
        let mut message = Message::new(2, 0);
        assert_eq!(message.receive(ends[1], 0)?, 2);
        assert_eq!(message.flags() & c::MSG_TRUNC, c::MSG_TRUNC);
    }
    fn descriptors_are_passed() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        let (f, p) = (file(c"f", b"content")?, pipe(0)?);
        send_fds(ends[0], &[f, p[1]])?;
        close(f)?;
        let mut message = Message::new(16, 64);
        message.receive(ends[1], c::MSG_CMSG_CLOEXEC)?;
        let got = message.fds();
        assert_eq!(got.len(), 2);
        assert_eq!(sys!(fcntl, got[0], c::F_GETFD)?, 1);
        assert_eq!(read(got[0], 9)?, b"content");
        write(got[1], b"x")?;
        assert_eq!(read(p[0], 9)?, b"x");
    }
    fn descriptors_are_passed_to_another_process() {
        let ends = socket_pair(c::SOCK_SEQPACKET)?;
        let receiver = child(|| {
            let mut message = Message::new(16, 64);
            message.receive(ends[1], 0)?;
            Ok(write(message.fds()[0], b"from the other process")?)
        })?;
        let p = pipe(0)?;
        send_fds(ends[0], &[p[1]])?;
        assert_eq!(read(p[0], 99)?, b"from the other process");
        receiver.succeeds()?;
    }
    fn unreceived_descriptors_are_closed() {
        let (ends, p) = (socket_pair(c::SOCK_STREAM)?, pipe(0)?);
        send_fds(ends[0], &[p[1]])?;
        close(p[1])?;
        close(ends[0])?;
        assert_eq!(read(ends[1], 9)?, b"#");
        assert_eq!(read(p[0], 9)?, b"");
    }
    fn short_control_buffer_truncates() {
        let (ends, p) = (socket_pair(c::SOCK_STREAM)?, pipe(0)?);
        send_fds(ends[0], &[p[0], p[1]])?;
        let mut message = Message::new(16, 20);
        message.receive(ends[1], 0)?;
        assert_eq!(message.flags() & c::MSG_CTRUNC, c::MSG_CTRUNC);
        assert_eq!(message.fds().len(), 1);
    }
    fn socket_passed_over_itself() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        send_fds(ends[0], &[ends[0], ends[1]])?;
        close(ends[0])?;
        let mut message = Message::new(16, 64);
        message.receive(ends[1], 0)?;
        write(message.fds()[0], b"x")?;
        assert_eq!(read(ends[1], 1)?, b"x");
    }
    fn passing_errors() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        assert_errno(send_fds(ends[0], &[899]), c::EBADF);
        assert_errno(send_fds(ends[0], &[0; 254]), c::EINVAL);
        assert_errno(sys!(sendmsg, ends[0], memory::hole()?, 0), c::EFAULT);
        assert_errno(sys!(recvmsg, ends[0], memory::hole()?, c::MSG_DONTWAIT), c::EFAULT);
    }
    fn credentials_come_along() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        set_option(ends[1], c::SOL_SOCKET, c::SO_PASSCRED, &1i32)?;
        write(ends[0], b"x")?;
        let mut message = Message::new(16, 64);
        message.receive(ends[1], 0)?;
        let (level, kind, data) = message.control();
        let found: c::ucred = sys::read_plain(&data);
        assert_eq!((level, kind), (c::SOL_SOCKET, c::SCM_CREDENTIALS));
        assert_eq!((found.pid, i64::from(found.uid)), (pid()?, sys!(getuid)?));
    }
    fn credentials_can_be_set_by_root_only() {
        need_root()?;
        let ends = socket_pair(c::SOCK_STREAM)?;
        let credentials = |pid: i32, uid: u32| {
            let claim = c::ucred { pid, uid, gid: uid };
            send_control(ends[0], c::SCM_CREDENTIALS, sys::bytes_of(&claim))
        };
        credentials(pid()?, 1234)?;
        as_nobody(|| {
            assert_errno(credentials(pid()?, 1), c::EPERM);
            credentials(pid()?, 65534)?;
            Ok(())
        })?;
    }
    fn peer_credentials() {
        let server = unix_listener(b"s")?;
        let gate = Gate::new()?;
        let client = child(|| {
            unix_client(b"s")?;
            Ok(gate.pass()?)
        })?;
        let peer = int(sys!(accept, server, 0, 0)?);
        let mut found: c::ucred = sys::zeroed();
        sys!(getsockopt, peer, c::SOL_SOCKET, c::SO_PEERCRED, &mut found, &mut 12u32)?;
        assert_eq!(found.pid, client.pid);
        gate.open()?;
        client.succeeds()?;
    }
    fn sendmmsg_and_recvmmsg() {
        let ends = socket_pair(c::SOCK_DGRAM)?;
        let (one, two) = ([vector(b"one")], [vector(b"three")]);
        let mut list: [c::mmsghdr; 2] = sys::zeroed();
        for (entry, parts) in list.iter_mut().zip([&one, &two]) {
            entry.msg_hdr.msg_iov = parts.as_ptr().cast_mut();
            entry.msg_hdr.msg_iovlen = 1;
        }
        assert_eq!(sys!(sendmmsg, ends[0], &mut list, 2, 0)?, 2);
        assert_eq!((list[0].msg_len, list[1].msg_len), (3, 5));
        let (mut a, mut b) = ([0u8; 9], [0u8; 9]);
        let mut parts = [[vector_mut(&mut a)], [vector_mut(&mut b)]];
        for (entry, part) in list.iter_mut().zip(&mut parts) {
            entry.msg_hdr.msg_iov = part.as_mut_ptr();
        }
        assert_eq!(sys!(recvmmsg, ends[1], &mut list, 2, 0, 0)?, 2);
        assert_eq!((list[0].msg_len, list[1].msg_len, &b[..5]), (3, 5, &b"three"[..]));
    }
    fn messages_refuse_what_bytes_do() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        let lonely = int(sys!(socket, c::AF_UNIX, c::SOCK_STREAM, 0)?);
        let part = [vector(b"x")];
        let mut header: c::msghdr = sys::zeroed();
        (header.msg_iov, header.msg_iovlen) = (part.as_ptr().cast_mut(), 1);
        assert_errno(sys!(recvmsg, ends[0], &mut header, c::MSG_DONTWAIT), c::EAGAIN);
        assert_errno(sys!(sendmsg, lonely, &header, c::MSG_NOSIGNAL), c::ENOTCONN);
        assert_errno(sys!(recvmsg, lonely, &mut header, 0), c::EINVAL);
        let address = [1u8, 0, b's', 0];
        (header.msg_name, header.msg_namelen) = (address.as_ptr().cast_mut().cast(), 4);
        assert_errno(sys!(sendmsg, ends[0], &header, 0), c::EISCONN);
        assert_errno(sys!(sendmsg, lonely, &header, 0), c::EOPNOTSUPP);
        header.msg_namelen = u32::MAX;
        assert_errno(sys!(sendmsg, ends[0], &header, 0), c::EINVAL);
        (header.msg_name, header.msg_namelen, header.msg_iovlen) = (core::ptr::null_mut(), 0, 1025);
        assert_errno(sys!(sendmsg, ends[0], &header, 0), c::EMSGSIZE);
        assert_errno(sys!(recvmsg, ends[0], &mut header, 0), c::EMSGSIZE);
        header.msg_iovlen = 1;
        while sys!(sendmsg, ends[0], &header, c::MSG_DONTWAIT).is_ok() {}
        assert_errno(sys!(sendmsg, ends[0], &header, c::MSG_DONTWAIT), c::EAGAIN);
        close(ends[1])?;
        assert_errno(sys!(sendmsg, ends[0], &header, c::MSG_NOSIGNAL), c::EPIPE);
        let datagrams = socket_pair(c::SOCK_DGRAM)?;
        assert_errno(sys!(sendmsg, datagrams[0], &header, c::MSG_OOB), c::EOPNOTSUPP);
        let large = vec![0u8; 1 << 20];
        let part = [vector(&large)];
        header.msg_iov = part.as_ptr().cast_mut();
        assert_errno(sys!(sendmsg, datagrams[0], &header, c::MSG_DONTWAIT), c::EMSGSIZE);
    }
    fn messages_wait_and_are_interrupted_and_restarted() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        let receive = || Message::new(16, 0).receive(ends[0], 0);
        assert_interrupted(receive)?;
        assert_eq!(restarted(receive, || { let _ = write(ends[1], b"x"); })??, 1);
        while crate::net::send(ends[0], &[0; 4096], c::MSG_DONTWAIT).is_ok() {}
        while crate::net::send(ends[0], b"x", c::MSG_DONTWAIT).is_ok() {}
        assert_interrupted(|| send_control(ends[0], c::SCM_RIGHTS, &0i32.to_ne_bytes()))?;
    }
    fn batches_refuse_and_wait() {
        let ends = socket_pair(c::SOCK_DGRAM)?;
        let mut buffer = [0u8; 8];
        let mut part = [vector_mut(&mut buffer)];
        let mut list: [c::mmsghdr; 1] = sys::zeroed();
        (list[0].msg_hdr.msg_iov, list[0].msg_hdr.msg_iovlen) = (part.as_mut_ptr(), 1);
        assert_errno(sys!(recvmmsg, ends[0], &mut list, 1, c::MSG_DONTWAIT, 0), c::EAGAIN);
        assert_errno(sys!(recvmmsg, ends[0], &mut list, 1, 0, &c::timespec { tv_sec: 0, tv_nsec: -1 }), c::EINVAL);
        assert_eq!(sys!(recvmmsg, ends[0], &mut list, 0, 0, 0)?, 0);
        assert_interrupted(|| sys!(recvmmsg, ends[0], &mut list, 1, 0, 0))?;
        close(ends[1])?;
        assert_errno(sys!(sendmmsg, ends[0], &mut list, 1, c::MSG_NOSIGNAL), c::ECONNREFUSED);
    }
}

/// Sends one byte with one control message.
fn send_control(fd: i32, kind: i32, data: &[u8]) -> Result<()> {
    let mut control = Vec::new();
    control.extend_from_slice(&(16 + data.len()).to_ne_bytes());
    control.extend_from_slice(&c::SOL_SOCKET.to_ne_bytes());
    control.extend_from_slice(&kind.to_ne_bytes());
    control.extend_from_slice(data);
    control.resize(control.len().next_multiple_of(8), 0);
    let part = [vector(b"#")];
    let mut header: c::msghdr = sys::zeroed();
    (header.msg_iov, header.msg_iovlen) = (part.as_ptr().cast_mut(), 1);
    (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), control.len());
    sys!(sendmsg, fd, &header, 0).map(drop)
}

fn send_fds(fd: i32, fds: &[i32]) -> Result<()> {
    let bytes: Vec<u8> = fds.iter().flat_map(|f| f.to_ne_bytes()).collect();
    send_control(fd, c::SCM_RIGHTS, &bytes)
}

/// Room for one received message.
struct Message {
    data: Vec<u8>,
    control: Vec<u8>,
    header: c::msghdr,
}

impl Message {
    fn new(data: usize, control: usize) -> Self {
        Self { data: vec![0; data], control: vec![0; control], header: sys::zeroed() }
    }

    fn receive(&mut self, fd: i32, flags: i32) -> Result<usize> {
        let part = [vector_mut(&mut self.data)];
        (self.header.msg_iov, self.header.msg_iovlen) = (part.as_ptr().cast_mut(), 1);
        (self.header.msg_control, self.header.msg_controllen) = (self.control.as_mut_ptr().cast(), self.control.len());
        sys!(recvmsg, fd, &mut self.header, flags).map(size)
    }

    fn flags(&self) -> i32 {
        self.header.msg_flags
    }

    /// Level, type and data of the first control message.
    fn control(&self) -> (i32, i32, Vec<u8>) {
        assert!(self.header.msg_controllen >= 16, "no control message");
        let len: usize = size(sys::read_plain::<i64>(&self.control));
        (sys::read_plain(&self.control[8..]), sys::read_plain(&self.control[12..]), self.control[16..len].to_vec())
    }

    fn fds(&self) -> Vec<i32> {
        let (level, kind, data) = self.control();
        assert_eq!((level, kind), (c::SOL_SOCKET, c::SCM_RIGHTS));
        data.chunks_exact(4).map(sys::read_plain).collect()
    }
}
