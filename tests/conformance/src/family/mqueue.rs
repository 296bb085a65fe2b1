//! POSIX message queues.

use crate::kit::{as_nobody, assert_errno, assert_interrupted, cases, child, int, ms, need_root, now, or_skip, pid, pipe, read, restarted, size, skip, text, until};
use crate::sys::{self, Result, memory, signal, sys};
use core::sync::atomic::Ordering::SeqCst;
use libc as c;
use std::ffi::CString;

const NEW: i32 = c::O_CREAT | c::O_EXCL | c::O_RDWR;
/// Blocking, two messages of eight bytes.
const SMALL: [i64; 8] = [0, 2, 8, 0, 0, 0, 0, 0];

cases! { mqueue;
    fn messages_come_by_priority() {
        let queue = Queue::new(0)?;
        assert_eq!(queue.attributes()?[..4], [0, 2, 8, 0]);
        send(queue.fd, b"low", 1)?;
        send(queue.fd, b"high", 9)?;
        assert_eq!(queue.attributes()?[3], 2);
        assert_eq!(receive(queue.fd, 8)?, (b"high".to_vec(), 9));
        assert_eq!(receive(queue.fd, 100)?, (b"low".to_vec(), 1));
    }
    fn messages_of_one_priority_come_in_order_and_may_be_empty() {
        let queue = Queue::new(0)?;
        send(queue.fd, b"", 5)?;
        send(queue.fd, b"second", 5)?;
        assert_eq!((receive(queue.fd, 8)?.0, receive(queue.fd, 8)?.0), (b"".to_vec(), b"second".to_vec()));
    }
    fn open_errors() {
        let queue = Queue::new(0)?;
        let open = |name: &core::ffi::CStr, flags: i32, attributes: &[i64; 8]| sys!(mq_open, name, flags, 0o600, attributes);
        assert_errno(open(&queue.name, NEW, &SMALL), c::EEXIST);
        assert_errno(open(&queue.name, c::O_WRONLY | c::O_RDWR, &SMALL), c::EINVAL);
        assert_errno(open(c"no such queue", c::O_RDWR, &SMALL), c::ENOENT);
        assert_errno(open(c"", c::O_RDWR, &SMALL), c::ENOENT);
        assert_errno(open(c"a/b", NEW, &SMALL), c::EACCES);
        assert_errno(open(c"..", NEW, &SMALL), c::EACCES);
        assert_errno(open(&crate::kit::name(&"x".repeat(256)), NEW, &SMALL), c::ENAMETOOLONG);
        for bad in [[0, 0, 8, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0, 0, 0], [0, -1, 8, 0, 0, 0, 0, 0], [0, 70_000, 8, 0, 0, 0, 0, 0]] {
            assert_errno(open(c"not made", NEW, &bad), c::EINVAL);
        }
        assert_errno(sys!(mq_open, memory::hole()?, NEW, 0o600, &SMALL), c::EFAULT);
        assert_errno(sys!(mq_open, c"not made", NEW, 0o600, memory::hole()?), c::EFAULT);
        sys!(prlimit64, 0, c::RLIMIT_NOFILE, &[3u64, 256], 0)?;
        assert_errno(open(&queue.name, c::O_RDWR, &SMALL), c::EMFILE);
    }
    fn a_queue_of_the_usual_size() {
        let name = unique(1)?;
        let fd = int(or_skip(sys!(mq_open, &*name, NEW, 0o600, 0), &[c::ENOSYS], "mq_open")?);
        sys!(mq_unlink, &*name)?;
        assert_eq!(sys!(fcntl, fd, c::F_GETFD)?, 1);
        let [flags, messages, bytes, waiting, ..] = attributes(fd)?;
        assert!(flags == 0 && messages > 0 && bytes > 0 && waiting == 0);
    }
    fn queues_count_against_the_limit() {
        sys!(prlimit64, 0, c::RLIMIT_MSGQUEUE, &[64u64, 64], 0)?;
        match sys!(mq_open, &*unique(1)?, NEW, 0o600, &SMALL) {
            Err(sys::Errno(c::ENOSYS)) => return skip("no message queues"),
            opened => assert_errno(opened, c::EMFILE),
        }
    }
    fn an_unlinked_queue_lives_while_it_is_open() {
        let queue = Queue::new(0)?;
        send(queue.fd, b"kept", 0)?;
        sys!(mq_unlink, &*queue.name)?;
        assert_errno(sys!(mq_unlink, &*queue.name), c::ENOENT);
        assert_errno(sys!(mq_open, &*queue.name, c::O_RDWR, 0, 0), c::ENOENT);
        assert_errno(sys!(mq_unlink, memory::hole()?), c::EFAULT);
        assert_errno(sys!(mq_unlink, &*crate::kit::name(&"x".repeat(256))), c::ENAMETOOLONG);
        assert_eq!(receive(queue.fd, 8)?.0, b"kept");
        Queue::named(queue.name.clone(), 0)?;
    }
    fn another_users_queue_is_its_own() {
        need_root()?;
        let queue = Queue::new(0)?;
        as_nobody(|| {
            assert_errno(sys!(mq_open, &*queue.name, c::O_RDONLY, 0, 0), c::EACCES);
            assert!(matches!(sys!(mq_unlink, &*queue.name), Err(sys::Errno(c::EPERM | c::EACCES))));
            // More than an ordinary user may have.
            assert_errno(sys!(mq_open, &*unique(2)?, NEW, 0o600, &[0i64, 5000, 8, 0, 0, 0, 0, 0]), c::EINVAL);
            Ok(())
        })?;
    }
    fn attributes_set_nonblocking_alone() {
        let queue = Queue::new(0)?;
        let mut old = [7i64; 8];
        sys!(mq_getsetattr, queue.fd, &[i64::from(c::O_NONBLOCK), 99, 99, 99, 0, 0, 0, 0], &mut old)?;
        assert_eq!(old[..4], [0, 2, 8, 0]);
        assert_eq!(queue.attributes()?[..4], [i64::from(c::O_NONBLOCK), 2, 8, 0]);
        assert_errno(receive(queue.fd, 8), c::EAGAIN);
        assert_errno(sys!(mq_getsetattr, queue.fd, &[1i64, 0, 0, 0, 0, 0, 0, 0], 0), c::EINVAL);
        assert_errno(sys!(mq_getsetattr, pipe(0)?[0], 0, &mut old), c::EBADF);
        assert_errno(sys!(mq_getsetattr, queue.fd, memory::hole()?, 0), c::EFAULT);
        assert_errno(sys!(mq_getsetattr, queue.fd, 0, memory::hole()?), c::EFAULT);
    }
    fn a_full_or_empty_queue_that_must_not_wait() {
        let queue = Queue::new(c::O_NONBLOCK)?;
        assert_errno(receive(queue.fd, 8), c::EAGAIN);
        send(queue.fd, b"1", 0)?;
        send(queue.fd, b"2", 0)?;
        assert_errno(send(queue.fd, b"3", 0), c::EAGAIN);
    }
    fn transfer_errors() {
        let queue = Queue::new(0)?;
        let reader = int(sys!(mq_open, &*queue.name, c::O_RDONLY, 0, 0)?);
        let writer = int(sys!(mq_open, &*queue.name, c::O_WRONLY, 0, 0)?);
        assert_errno(send(queue.fd, b"123456789", 0), c::EMSGSIZE);
        assert_errno(send(queue.fd, b"", 32_768), c::EINVAL);
        assert_errno(send(reader, b"", 0), c::EBADF);
        assert_errno(send(pipe(0)?[1], b"", 0), c::EBADF);
        assert_errno(sys!(mq_timedsend, queue.fd, memory::hole()?, 8, 0, 0), c::EFAULT);
        assert_errno(receive(queue.fd, 7), c::EMSGSIZE);
        assert_errno(receive(writer, 8), c::EBADF);
        assert_errno(receive(899, 8), c::EBADF);
        let bad = c::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
        assert_errno(sys!(mq_timedsend, queue.fd, b"", 0, 0, &bad), c::EINVAL);
        assert_errno(sys!(mq_timedreceive, queue.fd, memory::pages(1)?, 8, 0, &bad), c::EINVAL);
        assert_errno(sys!(mq_timedreceive, queue.fd, memory::pages(1)?, 8, 0, memory::hole()?), c::EFAULT);
        send(writer, b"x", 0)?;
        assert_errno(sys!(mq_timedreceive, queue.fd, memory::hole()?, 8, 0, 0), c::EFAULT);
    }
    fn transfers_time_out() {
        let queue = Queue::new(0)?;
        let end = now(c::CLOCK_REALTIME)? + 20_000_000;
        let at = c::timespec { tv_sec: end / 1_000_000_000, tv_nsec: end % 1_000_000_000 };
        assert_errno(sys!(mq_timedreceive, queue.fd, memory::pages(1)?, 8, 0, &at), c::ETIMEDOUT);
        assert!(now(c::CLOCK_REALTIME)? >= end);
        send(queue.fd, b"1", 0)?;
        send(queue.fd, b"2", 0)?;
        assert_errno(sys!(mq_timedsend, queue.fd, b"3", 1, 0, &ms(1)), c::ETIMEDOUT);
        // Not where it need not wait.
        sys!(mq_timedreceive, queue.fd, memory::pages(1)?, 8, 0, &ms(1))?;
    }
    fn a_receive_waits_is_interrupted_and_restarted() {
        let queue = Queue::new(0)?;
        assert_interrupted(|| receive(queue.fd, 8))?;
        let got = restarted(|| receive(queue.fd, 8), || { let _ = send(queue.fd, b"late", 3); })??;
        assert_eq!(got, (b"late".to_vec(), 3));
        let other = child(|| Ok(send(queue.fd, b"child", 0)?))?;
        assert_eq!(receive(queue.fd, 8)?.0, b"child");
        other.succeeds()?;
    }
    fn a_send_waits_is_interrupted_and_restarted() {
        let queue = Queue::new(0)?;
        send(queue.fd, b"1", 0)?;
        send(queue.fd, b"2", 0)?;
        assert_interrupted(|| send(queue.fd, b"3", 0))?;
        restarted(|| send(queue.fd, b"3", 0), || { let _ = receive(queue.fd, 8); })??;
        assert_eq!((receive(queue.fd, 8)?.0, receive(queue.fd, 8)?.0), (b"2".to_vec(), b"3".to_vec()));
    }
    fn it_polls() {
        let queue = Queue::new(0)?;
        let ready = || -> Result<i16> {
            let mut poll = c::pollfd { fd: queue.fd, events: c::POLLIN | c::POLLOUT, revents: 0 };
            sys!(poll, &mut poll, 1, 0)?;
            Ok(poll.revents)
        };
        assert_eq!(ready()?, c::POLLOUT);
        send(queue.fd, b"1", 0)?;
        assert_eq!(ready()?, c::POLLIN | c::POLLOUT);
        send(queue.fd, b"2", 0)?;
        assert_eq!(ready()?, c::POLLIN);
    }
    fn the_first_message_is_told_by_a_signal_once() {
        let queue = Queue::new(0)?;
        signal::record(c::SIGUSR1, 0)?;
        notify(queue.fd, c::SIGEV_SIGNAL, c::SIGUSR1, 0x77)?;
        assert_errno(notify(queue.fd, c::SIGEV_NONE, 0, 0), c::EBUSY);
        send(queue.fd, b"1", 0)?;
        assert_eq!(signal::count(c::SIGUSR1), 1);
        assert_eq!((signal::LAST.code.load(SeqCst), signal::LAST.value.load(SeqCst)), (-3, 0x77));
        // Registered anew, but the queue is not empty.
        notify(queue.fd, c::SIGEV_SIGNAL, c::SIGUSR1, 0)?;
        send(queue.fd, b"2", 0)?;
        assert_eq!(signal::count(c::SIGUSR1), 1);
        sys!(mq_notify, queue.fd, 0)?;
        receive(queue.fd, 8)?;
        receive(queue.fd, 8)?;
        send(queue.fd, b"3", 0)?;
        assert_eq!(signal::count(c::SIGUSR1), 1);
    }
    fn a_message_that_somebody_waits_for_is_not_told() {
        let queue = Queue::new(0)?;
        signal::record(c::SIGUSR1, 0)?;
        notify(queue.fd, c::SIGEV_SIGNAL, c::SIGUSR1, 0)?;
        let receiver = child(|| {
            assert_eq!(receive(queue.fd, 8)?.0, b"1");
            Ok(())
        })?;
        let asleep = crate::kit::name(&format!("/proc/{}/stat", receiver.pid));
        until(|| text(&asleep).is_ok_and(|stat| stat.contains(") S ")));
        send(queue.fd, b"1", 0)?;
        receiver.succeeds()?;
        assert_eq!(signal::count(c::SIGUSR1), 0);
        send(queue.fd, b"2", 0)?;
        assert_eq!(signal::count(c::SIGUSR1), 1);
    }
    fn a_registration_ends_with_its_owner_and_its_descriptor() {
        let queue = Queue::new(0)?;
        child(|| Ok(notify(queue.fd, c::SIGEV_NONE, 0, 0)?))?.succeeds()?;
        notify(queue.fd, c::SIGEV_NONE, 0, 0)?;
        let other = int(sys!(dup, queue.fd)?);
        sys!(close, other)?;
        notify(queue.fd, c::SIGEV_NONE, 0, 0)?;
        child(|| {
            // Another's registration is not ended.
            sys!(mq_notify, queue.fd, 0)?;
            assert_errno(notify(queue.fd, c::SIGEV_NONE, 0, 0), c::EBUSY);
            Ok(())
        })?.succeeds()?;
    }
    fn notify_errors() {
        let queue = Queue::new(0)?;
        assert_errno(notify(queue.fd, 99, 0, 0), c::EINVAL);
        assert_errno(notify(queue.fd, c::SIGEV_SIGNAL, 99, 0), c::EINVAL);
        assert_errno(notify(pipe(0)?[0], c::SIGEV_NONE, 0, 0), c::EBADF);
        assert_errno(sys!(mq_notify, 899, 0), c::EBADF);
        assert_errno(sys!(mq_notify, queue.fd, memory::hole()?), c::EFAULT);
    }
    fn a_message_is_told_by_a_socket() {
        let queue = Queue::new(0)?;
        let socket = int(sys!(socket, c::AF_NETLINK, c::SOCK_RAW, 0)?);
        let cookie = [5u8; 32];
        let register = || notify(queue.fd, c::SIGEV_THREAD, socket, (&raw const cookie).expose_provenance());
        register()?;
        send(queue.fd, b"1", 0)?;
        let mut woken = cookie;
        woken[31] = 1;
        assert_eq!(read(socket, 64)?, woken);
        register()?;
        sys!(mq_notify, queue.fd, 0)?;
        woken[31] = 2;
        assert_eq!(read(socket, 64)?, woken);
    }
    fn its_text_tells_what_waits() {
        let queue = Queue::new(0)?;
        send(queue.fd, b"12345", 0)?;
        notify(queue.fd, c::SIGEV_SIGNAL, c::SIGUSR1, 0)?;
        let shown = read(queue.fd, 100)?;
        let expected = format!("QSIZE:5          NOTIFY:0     SIGNO:{}    NOTIFY_PID:{:<6}\n", c::SIGUSR1, pid()?);
        assert_eq!(String::from_utf8_lossy(&shown), expected);
        assert_eq!(read(queue.fd, 100)?, b"");
    }
}

/// A queue that has a name while the value lives.
struct Queue {
    name: CString,
    fd: i32,
}

impl Queue {
    fn new(flags: i32) -> core::result::Result<Self, crate::kit::Fail> {
        Self::named(unique(0)?, flags)
    }

    fn named(name: CString, flags: i32) -> core::result::Result<Self, crate::kit::Fail> {
        let fd = int(or_skip(sys!(mq_open, &*name, NEW | flags, 0o600, &SMALL), &[c::ENOSYS], "mq_open")?);
        Ok(Self { name, fd })
    }

    fn attributes(&self) -> Result<[i64; 8]> {
        attributes(self.fd)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = sys!(mq_unlink, &*self.name);
    }
}

fn unique(number: u32) -> Result<CString> {
    Ok(crate::kit::name(&format!("conformance-{}-{number}", pid()?)))
}

fn attributes(fd: i32) -> Result<[i64; 8]> {
    let mut all = [0i64; 8];
    sys!(mq_getsetattr, fd, 0, &mut all)?;
    Ok(all)
}

fn send(fd: i32, message: &[u8], priority: u32) -> Result<()> {
    sys!(mq_timedsend, fd, message, message.len(), priority, 0).map(drop)
}

/// A message and its priority.
fn receive(fd: i32, limit: usize) -> Result<(Vec<u8>, u32)> {
    let (mut buffer, mut priority) = (vec![0u8; limit], 0u32);
    let count = size(sys!(mq_timedreceive, fd, &mut buffer[..], limit, &mut priority, 0)?);
    buffer.truncate(count);
    Ok((buffer, priority))
}

/// mq_notify(2): a `sigevent` is value, signal and kind.
fn notify(fd: i32, kind: i32, number: i32, value: usize) -> Result<()> {
    let words = u64::from(number.cast_unsigned()) | u64::from(kind.cast_unsigned()) << 32;
    sys!(mq_notify, fd, &[value as u64, words, 0, 0, 0, 0, 0, 0]).map(drop)
}
