//! poll, ppoll, select, pselect6.

use crate::kit::{Child, Gate, assert_errno, assert_never_restarted, cases, child, close, file, ms, now, open, pid, pipe, read, socket_pair, write};
use crate::sys::{Result, memory, signal, sys};
use libc as c;

const IN_OUT: i16 = c::POLLIN | c::POLLOUT;

cases! { poll;
    fn nothing_ready_is_zero_at_once() {
        let ends = pipe(0)?;
        assert_eq!(poll(&mut [want(ends[0], c::POLLIN)], 0)?, 0);
    }
    fn pipe_events() {
        let ends = pipe(0)?;
        let mut both = [want(ends[0], c::POLLIN), want(ends[1], c::POLLOUT)];
        assert_eq!(poll(&mut both, -1)?, 1);
        assert_eq!(revents(&both), [0, c::POLLOUT]);
        write(ends[1], b"x")?;
        assert_eq!(poll(&mut both, -1)?, 2);
        assert_eq!(revents(&both), [c::POLLIN, c::POLLOUT]);
    }
    fn hangup_of_the_writer() {
        let ends = pipe(0)?;
        write(ends[1], b"x")?;
        close(ends[1])?;
        let mut one = [want(ends[0], c::POLLIN)];
        poll(&mut one, -1)?;
        assert_eq!(one[0].revents, c::POLLIN | c::POLLHUP);
        read(ends[0], 9)?;
        poll(&mut one, -1)?;
        assert_eq!(one[0].revents, c::POLLHUP);
    }
    fn error_when_the_reader_is_gone() {
        let ends = pipe(0)?;
        close(ends[0])?;
        let mut one = [want(ends[1], c::POLLOUT)];
        poll(&mut one, -1)?;
        assert_eq!(one[0].revents, c::POLLOUT | c::POLLERR);
    }
    fn full_pipe_is_not_writable() {
        let ends = pipe(c::O_NONBLOCK)?;
        while sys!(write, ends[1], &[0u8; 4096], 4096).is_ok() {}
        assert_eq!(poll(&mut [want(ends[1], c::POLLOUT)], 0)?, 0);
        read(ends[0], 4096)?;
        assert_eq!(poll(&mut [want(ends[1], c::POLLOUT)], 0)?, 1);
    }
    fn closed_and_negative_descriptors() {
        let mut list = [want(899, IN_OUT), want(-1, IN_OUT)];
        assert_eq!(poll(&mut list, -1)?, 1);
        assert_eq!(revents(&list), [c::POLLNVAL, 0]);
    }
    fn regular_files_are_always_ready() {
        let mut one = [want(file(c"f", b"")?, IN_OUT)];
        poll(&mut one, -1)?;
        assert_eq!(one[0].revents, IN_OUT);
    }
    fn sockets() {
        let ends = socket_pair(c::SOCK_STREAM)?;
        let mut one = [want(ends[0], IN_OUT | c::POLLRDHUP)];
        poll(&mut one, -1)?;
        assert_eq!(one[0].revents, c::POLLOUT);
        sys!(shutdown, ends[1], c::SHUT_WR)?;
        poll(&mut one, -1)?;
        assert_eq!(one[0].revents, IN_OUT | c::POLLRDHUP);
        close(ends[1])?;
        poll(&mut one, -1)?;
        assert_eq!(one[0].revents, IN_OUT | c::POLLRDHUP | c::POLLHUP);
    }
    fn wakes_when_another_process_writes() {
        let ends = pipe(0)?;
        let writer = child(|| Ok(write(ends[1], b"x")?))?;
        assert_eq!(poll(&mut [want(ends[0], c::POLLIN)], -1)?, 1);
        writer.succeeds()?;
    }
    fn wakes_when_another_process_closes() {
        let ends = pipe(0)?;
        let go = Gate::new()?;
        let other = child(|| Ok(go.pass()?))?;
        close(ends[1])?;
        go.open()?;
        let mut one = [want(ends[0], 0)];
        assert_eq!(poll(&mut one, -1)?, 1);
        assert_eq!(one[0].revents, c::POLLHUP);
        other.succeeds()?;
    }
    fn times_out() {
        let begin = now(c::CLOCK_MONOTONIC)?;
        assert_eq!(poll(&mut [], 20)?, 0);
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 20_000_000);
    }
    fn is_never_restarted() {
        let ends = pipe(0)?;
        assert_never_restarted(|| poll(&mut [want(ends[0], c::POLLIN)], -1))?;
    }
    fn errors() {
        assert_errno(sys!(poll, memory::hole()?, 1, 0), c::EFAULT);
        sys!(setrlimit, c::RLIMIT_NOFILE, &[100u64, 20000]).or_else(|_| sys!(prlimit64, 0, c::RLIMIT_NOFILE, &[100u64, 100], 0))?;
        let many = [want(-1, 0); 101];
        assert_errno(sys!(poll, &many, 101, 0), c::EINVAL);
    }
    fn ppoll_swaps_the_mask() {
        signal::record(c::SIGUSR1, 0)?;
        signal::mask(c::SIG_BLOCK, signal::bit(c::SIGUSR1))?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert_errno(sys!(ppoll, 0, 0, 0, &0u64, 8), c::EINTR);
        assert_eq!(signal::count(c::SIGUSR1), 1);
        assert_eq!(signal::mask(c::SIG_BLOCK, 0)?, signal::bit(c::SIGUSR1));
    }
    fn ppoll_writes_the_time_that_is_left() {
        let ends = pipe(0)?;
        write(ends[1], b"x")?;
        let mut left = ms(60_000);
        assert_eq!(sys!(ppoll, &mut want(ends[0], c::POLLIN), 1, &mut left, 0, 8)?, 1);
        assert!((50..=60).contains(&left.tv_sec));
        let mut left = ms(10);
        assert_eq!(sys!(ppoll, 0, 0, &mut left, 0, 8)?, 0);
        assert_eq!((left.tv_sec, left.tv_nsec), (0, 0));
    }
    fn ppoll_errors() {
        let bad = c::timespec { tv_sec: 0, tv_nsec: -1 };
        assert_errno(sys!(ppoll, 0, 0, &bad, 0, 8), c::EINVAL);
        assert_errno(sys!(ppoll, 0, 0, 0, &0u64, 4), c::EINVAL);
        assert_errno(sys!(ppoll, 0, 0, memory::hole()?, 0, 8), c::EFAULT);
        assert_errno(sys!(ppoll, 0, 0, 0, memory::hole()?, 8), c::EFAULT);
    }
    fn select_reads_writes_and_clears_bits() {
        let ends = pipe(0)?;
        let (mut r, mut w) = (set(&[ends[0]]), set(&[ends[1]]));
        assert_eq!(sys!(select, ends[1] + 1, &mut r, &mut w, 0, 0)?, 1);
        assert_eq!((r, w), (set(&[]), set(&[ends[1]])));
        write(ends[1], b"x")?;
        let (mut r, mut w) = (set(&[ends[0]]), set(&[ends[1]]));
        assert_eq!(sys!(select, ends[1] + 1, &mut r, &mut w, 0, 0)?, 2);
        assert_eq!(r, set(&[ends[0]]));
    }
    fn select_times_out_and_updates_the_time() {
        let (mut limit, begin) = ([0i64, 20_000], now(c::CLOCK_MONOTONIC)?);
        assert_eq!(sys!(select, 0, 0, 0, 0, &mut limit)?, 0);
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 20_000_000);
        assert_eq!(limit, [0, 0]);
    }
    fn select_errors() {
        assert_errno(sys!(select, -1, 0, 0, 0, 0), c::EINVAL);
        let mut r = set(&[700]);
        assert_errno(sys!(select, 701, &mut r, 0, 0, 0), c::EBADF);
        assert_errno(sys!(select, 10, memory::hole()?, 0, 0, 0), c::EFAULT);
        assert_errno(sys!(select, 0, 0, 0, 0, &[0i64, -1]), c::EINVAL);
        assert_errno(sys!(select, 0, 0, 0, 0, memory::hole()?), c::EFAULT);
    }
    fn select_is_never_restarted() {
        assert_never_restarted(|| sys!(select, 0, 0, 0, 0, 0))?;
    }
    fn select_end_of_file_is_readable() {
        let ends = pipe(0)?;
        close(ends[1])?;
        let mut r = set(&[ends[0]]);
        assert_eq!(sys!(select, ends[0] + 1, &mut r, 0, 0, 0)?, 1);
    }
    fn pselect_swaps_the_mask() {
        signal::record(c::SIGUSR1, 0)?;
        signal::mask(c::SIG_BLOCK, signal::bit(c::SIGUSR1))?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        let empty = 0u64;
        let mask = [(&raw const empty).addr(), 8];
        assert_errno(sys!(pselect6, 0, 0, 0, 0, 0, &mask), c::EINTR);
        assert_eq!(signal::count(c::SIGUSR1), 1);
        assert_eq!(sys!(pselect6, 0, 0, 0, 0, &ms(1), 0)?, 0);
        assert_errno(sys!(pselect6, 0, 0, 0, 0, 0, &[(&raw const empty).addr(), 4]), c::EINVAL);
        assert_errno(sys!(pselect6, 900, &mut set(&[899]), 0, 0, 0, 0), c::EBADF);
    }
    fn many_descriptors_one_ready() {
        let pipes = (0..200).map(|_| pipe(0)).collect::<Result<Vec<_>>>()?;
        let mut list: Vec<_> = pipes.iter().map(|p| want(p[0], c::POLLIN)).collect();
        let writer: Child = child(|| Ok(write(pipes[150][1], b"x")?))?;
        assert_eq!(poll(&mut list, -1)?, 1);
        assert_eq!(list.iter().position(|p| p.revents != 0), Some(150));
        writer.succeeds()?;
    }
    fn directories_and_devices() {
        let mut list = [want(open(c".", c::O_RDONLY, 0)?, IN_OUT), want(open(c"/dev/null", c::O_RDWR, 0)?, IN_OUT)];
        assert_eq!(poll(&mut list, -1)?, 2);
        assert_eq!(revents(&list), [IN_OUT, IN_OUT]);
    }
}

fn want(fd: i32, events: i16) -> c::pollfd {
    c::pollfd { fd, events, revents: 0 }
}

fn poll(list: &mut [c::pollfd], timeout: i32) -> Result<i64> {
    let count = list.len();
    sys!(poll, list, count, timeout)
}

fn revents<const N: usize>(list: &[c::pollfd; N]) -> [i16; N] {
    list.map(|p| p.revents)
}

fn set(fds: &[i32]) -> [u64; 16] {
    let mut words = [0; 16];
    for fd in fds {
        let fd = fd.unsigned_abs();
        words[fd as usize / 64] |= 1 << (fd % 64);
    }
    words
}
