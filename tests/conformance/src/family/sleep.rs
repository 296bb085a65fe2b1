//! Calls that sleep, and signals: signal(7) lists those that begin again after a handler with SA_RESTART, and those that never do.

use crate::kit::{Fail, assert_never_restarted, cases, child, close, file, int, ms, open, pestered, pid, pipe, read, restarted, socket_pair, vector, vector_mut, write};
use crate::net::{send, set_option};
use crate::sys::{Errno, Result, memory, signal, sys};
use libc as c;

type Sleep = Box<dyn Fn() -> Result<i64>>;

/// A call that sleeps, and what lets it go on.
struct Way {
    name: &'static str,
    sleep: Sleep,
    wake: Box<dyn FnOnce() + Send>,
}

impl Way {
    fn new(name: &'static str, sleep: impl Fn() -> Result<i64> + 'static, wake: impl FnOnce() + Send + 'static) -> Self {
        Self { name, sleep: Box::new(sleep), wake: Box::new(wake) }
    }
}

cases! { sleep;
    fn reads_and_receives_begin_again() {
        let [from, to] = pipe(0)?;
        let put = move || { let _ = write(to, b"data"); };
        begins_again(vec![
            Way::new("readv", move || sys!(readv, from, &[vector_mut(&mut [0; 9])], 1), put),
            Way::new("preadv2 at the place of the file", move || sys!(preadv2, from, &[vector_mut(&mut [0; 9])], 1, -1, -1, 0), put),
        ])?;
        let [a, b] = socket_pair(c::SOCK_DGRAM)?;
        let send = move || { let _ = send(a, b"data", 0); };
        begins_again(vec![
            Way::new("recvmsg", move || sys!(recvmsg, b, &message(&[vector_mut(&mut [0; 9])]), 0), send),
            Way::new("recvmmsg", move || {
                let part = [vector_mut(&mut [0; 9])];
                sys!(recvmmsg, b, &mut [c::mmsghdr { msg_hdr: message(&part), msg_len: 0 }], 1, 0, 0)
            }, send),
        ])?;
    }
    fn moves_between_pipes_begin_again() {
        let ([from, to], [empty, full]) = (pipe(0)?, pipe(0)?);
        let put = move || { let _ = write(to, b"data"); };
        begins_again(vec![
            Way::new("splice from an empty one", move || sys!(splice, from, 0, pipe(0)?[1], 0, 9, 0), put),
            Way::new("tee from an empty one", move || sys!(tee, from, pipe(0)?[1], 9, 0), put),
        ])?;
        fill(full)?;
        let drain = move || { let _ = read(empty, 1 << 20); };
        let data = file(c"f", &[1; 4096])?;
        let more = pipe(0)?;
        write(more[1], b"more")?;
        begins_again(vec![
            Way::new("writev to a full one", move || sys!(writev, full, &[vector(b"x")], 1), drain),
        ])?;
        fill(full)?;
        begins_again(vec![Way::new("sendfile to a full one", move || sys!(sendfile, full, data, &mut 0i64, 1), drain)])?;
        fill(full)?;
        begins_again(vec![Way::new("tee to a full one", move || sys!(tee, more[0], full, 4, 0), drain)])?;
        fill(full)?;
        begins_again(vec![Way::new("splice to a full one", move || sys!(splice, more[0], 0, full, 0, 4, 0), drain)])?;
        fill(full)?;
        begins_again(vec![Way::new("vmsplice to a full one", move || sys!(vmsplice, full, &[vector(b"x")], 1, 0), drain)])?;
    }
    fn descriptors_of_events_begin_again() {
        let timer = int(sys!(timerfd_create, c::CLOCK_MONOTONIC, 0)?);
        let signals = int(sys!(signalfd4, -1, &signal::bit(c::SIGUSR2), 8, 0)?);
        signal::mask(c::SIG_BLOCK, signal::bit(c::SIGUSR2))?;
        let names = int(sys!(inotify_init1, 0)?);
        sys!(inotify_add_watch, names, c".", c::IN_CREATE)?;
        let most = int(sys!(eventfd2, 0, 0)?);
        write(most, &(u64::MAX - 1).to_ne_bytes())?;
        let me = pid()?;
        let take = |fd: i32| move || sys!(read, fd, memory::pages(1)?, 4096);
        begins_again(vec![
            Way::new("timerfd", take(timer), move || { let _ = sys!(timerfd_settime, timer, 0, &[0i64, 0, 0, 1], 0); }),
            Way::new("signalfd", take(signals), move || { let _ = sys!(kill, me, c::SIGUSR2); }),
            Way::new("inotify", take(names), || { let _ = file(c"new", b"").and_then(close); }),
            Way::new("eventfd that is full", move || sys!(write, most, &[1u64], 8), move || { let _ = read(most, 8); }),
        ])?;
    }
    fn locks_and_opens_begin_again() {
        let (held, other) = (file(c"f", b"")?, open(c"f", c::O_RDWR, 0)?);
        const OFD_SETLK: i32 = 37;
        const OFD_SETLKW: i32 = 38;
        let lock = |kind: i32| c::flock { l_type: i16::try_from(kind).unwrap_or(0), l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        sys!(fcntl, held, OFD_SETLK, &lock(c::F_WRLCK))?;
        let free = move || { let _ = sys!(fcntl, held, OFD_SETLK, &lock(c::F_UNLCK)); };
        begins_again(vec![Way::new("F_SETLKW", move || sys!(fcntl, other, c::F_SETLKW, &lock(c::F_WRLCK)), free)])?;
        sys!(fcntl, other, c::F_SETLK, &lock(c::F_UNLCK))?;
        sys!(fcntl, held, OFD_SETLK, &lock(c::F_WRLCK))?;
        begins_again(vec![Way::new("F_OFD_SETLKW", move || sys!(fcntl, other, OFD_SETLKW, &lock(c::F_WRLCK)), free)])?;
        sys!(mknod, c"p", c::S_IFIFO | 0o600, 0)?;
        let reader = || { let _ = open(c"p", c::O_RDONLY, 0); };
        begins_again(vec![Way::new("open of a FIFO to write", || sys!(open, c"p", c::O_WRONLY, 0), reader)])?;
    }
    fn waits_for_children_begin_again() {
        let gate = pipe(0)?;
        let one = child(|| Ok(read(gate[0], 1).map(drop)?))?;
        let (pid, open) = (one.pid, move || { let _ = write(gate[1], b"g"); });
        begins_again(vec![Way::new("waitid", move || sys!(waitid, c::P_PID, pid, 0, c::WEXITED, 0), open)])?;
        let one = child(|| Ok(read(gate[0], 1).map(drop)?))?;
        sys!(setpgid, one.pid, one.pid)?;
        let pid = one.pid;
        begins_again(vec![Way::new("wait4 of a group", move || sys!(wait4, -pid, 0, 0, 0), open)])?;
    }
    fn what_waits_for_a_time_never_begins_again() {
        let hour = || ms(3_600_000);
        let [from, _to] = pipe(0)?;
        let want = move || c::pollfd { fd: from, events: c::POLLIN, revents: 0 };
        let never: [(&str, Sleep); 8] = [
            ("nanosleep", Box::new(move || sys!(nanosleep, &hour(), 0))),
            ("clock_nanosleep", Box::new(move || sys!(clock_nanosleep, c::CLOCK_REALTIME, 0, &hour(), 0))),
            ("ppoll", Box::new(move || sys!(ppoll, &mut want(), 1, 0, 0, 8))),
            ("ppoll for a time", Box::new(move || sys!(ppoll, &mut want(), 1, &hour(), 0, 8))),
            ("pselect6", Box::new(move || sys!(pselect6, 0, 0, 0, 0, &hour(), 0))),
            ("rt_sigsuspend", Box::new(|| sys!(rt_sigsuspend, &0u64, 8))),
            ("rt_sigtimedwait for a time", Box::new(move || sys!(rt_sigtimedwait, &signal::bit(c::SIGUSR2), 0, &hour(), 8))),
            ("futex for a time", Box::new(move || sys!(futex, &0u32, c::FUTEX_WAIT, 0, &hour()))),
        ];
        for (name, sleep) in never {
            for flags in [0, c::SA_RESTART] {
                assert_eq!(pestered(flags, &sleep)?, Err(Errno(c::EINTR)), "{name}");
            }
        }
    }
    fn sockets_with_a_time_limit_never_begin_again() {
        let [a, b] = socket_pair(c::SOCK_STREAM)?;
        for option in [c::SO_RCVTIMEO, c::SO_SNDTIMEO] {
            set_option(a, c::SOL_SOCKET, option, &[3600i64, 0])?;
        }
        while send(a, &[0; 4096], c::MSG_DONTWAIT).is_ok() {}
        assert_never_restarted(|| send(a, &[0; 4096], 0))?;
        assert_never_restarted(|| sys!(recvmsg, a, &message(&[vector_mut(&mut [0; 9])]), 0))?;
        close(b)?;
    }
}

/// Each ends with EINTR after a handler, and begins again after one with SA_RESTART.
fn begins_again(ways: Vec<Way>) -> core::result::Result<(), Fail> {
    for Way { name, sleep, wake } in ways {
        assert_eq!(pestered(0, &sleep)?, Err(Errno(c::EINTR)), "{name}");
        let done = restarted(&sleep, wake)?;
        assert!(done.is_ok(), "{name}: {done:?}");
    }
    Ok(())
}

fn message(parts: &[c::iovec]) -> c::msghdr {
    let mut header: c::msghdr = crate::sys::zeroed();
    (header.msg_iov, header.msg_iovlen) = (parts.as_ptr().cast_mut(), parts.len());
    header
}

/// Fills a pipe to the last byte.
fn fill(pipe: i32) -> Result<()> {
    sys!(fcntl, pipe, c::F_SETFL, c::O_NONBLOCK)?;
    while write(pipe, &[0; 4096]).is_ok() {}
    while write(pipe, b"x").is_ok() {}
    sys!(fcntl, pipe, c::F_SETFL, 0).map(drop)
}
