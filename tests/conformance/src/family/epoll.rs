//! epoll.

use crate::kit::{Child, assert_errno, assert_never_restarted, cases, child, close, file, int, now, open, or_skip, pid, pipe, read, socket_pair, until, write};
use crate::sys::{self, Result, memory, signal, sys};
use libc as c;

const IN: u32 = c::EPOLLIN as u32;
const OUT: u32 = c::EPOLLOUT as u32;
const HUP: u32 = c::EPOLLHUP as u32;
const RDHUP: u32 = c::EPOLLRDHUP as u32;
const EDGE: u32 = c::EPOLLET as u32;
const ONCE: u32 = c::EPOLLONESHOT as u32;
const EXCLUSIVE: u32 = c::EPOLLEXCLUSIVE as u32;

cases! { epoll;
    fn create_flags_and_errors() {
        let ep = int(sys!(epoll_create1, c::EPOLL_CLOEXEC)?);
        assert_eq!(sys!(fcntl, ep, c::F_GETFD)?, 1);
        assert_errno(sys!(epoll_create1, 1), c::EINVAL);
        assert_errno(sys!(epoll_create, 0), c::EINVAL);
        sys!(epoll_create, 1)?;
    }
    fn level_triggered_reports_again() {
        let (ep, ends) = (create()?, pipe(0)?);
        add(ep, ends[0], IN, 77)?;
        assert_eq!(wait(ep, 0)?, []);
        write(ends[1], b"x")?;
        assert_eq!(wait(ep, -1)?, [(IN, 77)]);
        assert_eq!(wait(ep, -1)?, [(IN, 77)]);
        read(ends[0], 1)?;
        assert_eq!(wait(ep, 0)?, []);
    }
    fn edge_triggered_reports_once_a_change() {
        let (ep, ends) = (create()?, pipe(0)?);
        add(ep, ends[0], IN | EDGE, 1)?;
        write(ends[1], b"x")?;
        assert_eq!(wait(ep, -1)?, [(IN, 1)]);
        assert_eq!(wait(ep, 0)?, []);
        write(ends[1], b"y")?;
        assert_eq!(wait(ep, -1)?, [(IN, 1)]);
        read(ends[0], 1)?;
        assert_eq!(wait(ep, 0)?, []);
    }
    fn oneshot_has_to_be_armed_again() {
        let (ep, ends) = (create()?, pipe(0)?);
        add(ep, ends[0], IN | ONCE, 1)?;
        write(ends[1], b"x")?;
        assert_eq!(wait(ep, -1)?, [(IN, 1)]);
        assert_eq!(wait(ep, 0)?, []);
        control(ep, c::EPOLL_CTL_MOD, ends[0], IN | ONCE, 2)?;
        assert_eq!(wait(ep, -1)?, [(IN, 2)]);
    }
    fn modify_and_delete() {
        let (ep, ends) = (create()?, socket_pair(c::SOCK_STREAM)?);
        add(ep, ends[0], IN, 1)?;
        assert_eq!(wait(ep, 0)?, []);
        control(ep, c::EPOLL_CTL_MOD, ends[0], OUT, 2)?;
        assert_eq!(wait(ep, -1)?, [(OUT, 2)]);
        sys!(epoll_ctl, ep, c::EPOLL_CTL_DEL, ends[0], 0)?;
        assert_eq!(wait(ep, 0)?, []);
    }
    fn control_errors() {
        let (ep, ends) = (create()?, pipe(0)?);
        add(ep, ends[0], IN, 1)?;
        assert_errno(add(ep, ends[0], IN, 1), c::EEXIST);
        assert_errno(control(ep, c::EPOLL_CTL_MOD, ends[1], IN, 1), c::ENOENT);
        assert_errno(control(ep, c::EPOLL_CTL_DEL, ends[1], IN, 1), c::ENOENT);
        assert_errno(add(ep, 899, IN, 1), c::EBADF);
        assert_errno(add(899, ends[0], IN, 1), c::EBADF);
        assert_errno(add(ep, ep, IN, 1), c::EINVAL);
        assert_errno(add(ends[0], ends[1], IN, 1), c::EINVAL);
        assert_errno(control(ep, 99, ends[1], IN, 1), c::EINVAL);
        assert_errno(add(ep, file(c"f", b"")?, IN, 1), c::EPERM);
        assert_errno(add(ep, open(c".", c::O_RDONLY, 0)?, IN, 1), c::EPERM);
        assert_errno(sys!(epoll_ctl, ep, c::EPOLL_CTL_ADD, ends[1], memory::hole()?), c::EFAULT);
    }
    fn wait_errors() {
        let (ep, ends) = (create()?, pipe(0)?);
        let mut events = [0u32; 12];
        assert_errno(sys!(epoll_wait, ep, &mut events, 0, 0), c::EINVAL);
        assert_errno(sys!(epoll_wait, ep, &mut events, -1, 0), c::EINVAL);
        assert_errno(sys!(epoll_wait, ends[0], &mut events, 1, 0), c::EINVAL);
        assert_errno(sys!(epoll_wait, 899, &mut events, 1, 0), c::EBADF);
        add(ep, ends[1], OUT, 1)?;
        assert_errno(sys!(epoll_wait, ep, memory::hole()?, 1, 0), c::EFAULT);
    }
    fn hangup_needs_no_asking() {
        let (ep, ends) = (create()?, pipe(0)?);
        add(ep, ends[0], 0, 1)?;
        close(ends[1])?;
        assert_eq!(wait(ep, -1)?, [(HUP, 1)]);
    }
    fn shut_down_peer() {
        let (ep, ends) = (create()?, socket_pair(c::SOCK_STREAM)?);
        add(ep, ends[0], IN | RDHUP, 1)?;
        sys!(shutdown, ends[1], c::SHUT_WR)?;
        assert_eq!(wait(ep, -1)?, [(IN | RDHUP, 1)]);
    }
    fn close_of_the_last_descriptor_removes() {
        let (ep, ends) = (create()?, pipe(0)?);
        write(ends[1], b"x")?;
        let copy = int(sys!(dup, ends[0])?);
        add(ep, ends[0], IN, 1)?;
        close(ends[0])?;
        assert_eq!(wait(ep, 0)?, [(IN, 1)]);
        close(copy)?;
        assert_eq!(wait(ep, 0)?, []);
    }
    fn the_same_file_under_two_numbers() {
        let (ep, ends) = (create()?, pipe(0)?);
        let copy = int(sys!(dup, ends[0])?);
        add(ep, ends[0], IN, 1)?;
        add(ep, copy, IN, 2)?;
        write(ends[1], b"x")?;
        let mut found = wait(ep, -1)?;
        found.sort_unstable();
        assert_eq!(found, [(IN, 1), (IN, 2)]);
    }
    fn a_file_outlives_its_number() {
        let (ep, first, second) = (create()?, pipe(0)?, pipe(0)?);
        let copy = int(sys!(dup, first[0])?);
        add(ep, first[0], IN, 1)?;
        write(first[1], b"x")?;
        assert_eq!(wait(ep, 0)?, [(IN, 1)]);
        sys!(dup2, second[0], first[0])?;
        assert_eq!(wait(ep, 0)?, [(IN, 1)]);
        write(second[1], b"y")?;
        read(copy, 1)?;
        assert_eq!(wait(ep, 0)?, []);
        // The number stands for two files now.
        add(ep, first[0], IN, 2)?;
        assert_eq!(wait(ep, 0)?, [(IN, 2)]);
        write(first[1], b"x")?;
        let mut found = wait(ep, 0)?;
        found.sort_unstable();
        assert_eq!(found, [(IN, 1), (IN, 2)]);
    }
    fn those_that_are_ready_come_together() {
        let (ep, ends) = (create()?, (0..4).map(|_| pipe(0)).collect::<Result<Vec<_>>>()?);
        let counter = int(sys!(eventfd2, 1, 0)?);
        for (number, events) in (0..).zip([IN, IN | EDGE, IN | ONCE, IN]) {
            let [reader, writer] = ends[number];
            add(ep, reader, events, number as u64)?;
            write(writer, b"x")?;
        }
        add(ep, counter, IN, 4)?;
        let sorted = || -> Result<Vec<u64>> {
            let mut data: Vec<u64> = wait(ep, -1)?.into_iter().map(|(_, data)| data).collect();
            data.sort_unstable();
            Ok(data)
        };
        assert_eq!(sorted()?, [0, 1, 2, 3, 4]);
        assert_eq!(sorted()?, [0, 3, 4]);
        read(ends[0][0], 1)?;
        assert_eq!(sorted()?, [3, 4]);
        // Of what cannot be told nothing is lost.
        assert_errno(sys!(epoll_wait, ep, memory::hole()?, 16, 0), c::EFAULT);
        assert_eq!(sorted()?, [3, 4]);
    }
    fn taken_out_while_another_process_looks() {
        const ROUNDS: usize = 20_000;
        let (ep, counter) = (create()?, int(sys!(eventfd2, 1, 0)?));
        add(ep, counter, IN, 7)?;
        let changes = child(|| {
            for _ in 0..ROUNDS {
                control(ep, c::EPOLL_CTL_DEL, counter, 0, 0)?;
                add(ep, counter, IN, 7)?;
            }
            Ok(())
        })?;
        let (mut looks, mut seen) = (0, 0);
        // It may be out for long, where that process waits for its turn.
        while looks < ROUNDS || seen == 0 {
            let found = wait(ep, 0)?;
            assert!(found.iter().all(|told| *told == (IN, 7)));
            (looks, seen) = (looks + 1, seen + found.len());
        }
        changes.succeeds()?;
        assert_eq!(wait(ep, 0)?, [(IN, 7)]);
    }
    fn few_places_take_turns() {
        let ep = create()?;
        let pipes = (0..5).map(|_| pipe(0)).collect::<Result<Vec<_>>>()?;
        for (number, ends) in (0..).zip(&pipes) {
            add(ep, ends[0], IN, number)?;
            write(ends[1], b"x")?;
        }
        let mut seen: Vec<u64> = Vec::new();
        for _ in 0..5 {
            let mut event = [0u8; 12];
            assert_eq!(sys!(epoll_wait, ep, &mut event, 1, -1)?, 1);
            seen.push(sys::read_plain(&event[4..]));
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }
    fn wakes_when_another_process_writes() {
        let (ep, ends) = (create()?, pipe(0)?);
        add(ep, ends[0], IN, 1)?;
        let writer = child(|| Ok(write(ends[1], b"x")?))?;
        assert_eq!(wait(ep, -1)?, [(IN, 1)]);
        writer.succeeds()?;
    }
    fn what_lasts_wakes_all_who_wait() {
        let (ep, ends) = (create()?, pipe(0)?);
        add(ep, ends[0], IN, 1)?;
        let waiters = (0..3).map(|_| {
            child(|| {
                assert_eq!(wait(ep, -1)?, [(IN, 1)]);
                Ok(())
            })
        });
        let waiters = waiters.collect::<Result<Vec<Child>>>()?;
        until(|| waiters.iter().all(Child::sleeps));
        write(ends[1], b"x")?;
        waiters.iter().try_for_each(Child::succeeds)?;
    }
    fn added_while_another_thread_waits() {
        let (ep, ends) = (create()?, pipe(0)?);
        write(ends[1], b"x")?;
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| wait(ep, -1));
            add(ep, ends[0], IN, 9)?;
            let Ok(Ok(found)) = waiter.join() else { panic!("the waiter failed") };
            assert_eq!(found, [(IN, 9)]);
            Ok::<(), crate::kit::Fail>(())
        })?;
    }
    fn times_out() {
        let (ep, begin) = (create()?, now(c::CLOCK_MONOTONIC)?);
        assert_eq!(wait(ep, 20)?, []);
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 20_000_000);
    }
    fn is_never_restarted() {
        let ep = create()?;
        assert_never_restarted(|| wait(ep, -1))?;
    }
    fn pwait_swaps_the_mask() {
        let ep = create()?;
        signal::record(c::SIGUSR1, 0)?;
        signal::mask(c::SIG_BLOCK, signal::bit(c::SIGUSR1))?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        let mut events = [0u32; 3];
        assert_errno(sys!(epoll_pwait, ep, &mut events, 1, -1, &0u64, 8), c::EINTR);
        assert_eq!(signal::count(c::SIGUSR1), 1);
        assert_errno(sys!(epoll_pwait, ep, &mut events, 1, -1, &0u64, 4), c::EINVAL);
        assert_eq!(sys!(epoll_pwait, ep, &mut events, 1, 0, &0u64, 8)?, 0);
    }
    fn pwait2_has_a_fine_timeout() {
        let (ep, begin) = (create()?, now(c::CLOCK_MONOTONIC)?);
        let mut events = [0u32; 3];
        let limit = c::timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        assert_eq!(or_skip(sys!(epoll_pwait2, ep, &mut events, 1, &limit, 0, 8), &[c::ENOSYS], "epoll_pwait2")?, 0);
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 5_000_000);
        let bad = c::timespec { tv_sec: 0, tv_nsec: -1 };
        assert_errno(sys!(epoll_pwait2, ep, &mut events, 1, &bad, 0, 8), c::EINVAL);
    }
    fn nested() {
        let (inner, outer, ends) = (create()?, create()?, pipe(0)?);
        add(inner, ends[0], IN, 1)?;
        add(outer, inner, IN, 2)?;
        assert_eq!(wait(outer, 0)?, []);
        write(ends[1], b"x")?;
        assert_eq!(wait(outer, -1)?, [(IN, 2)]);
        assert_errno(add(inner, outer, IN, 3), c::ELOOP);
        let mut poll = c::pollfd { fd: outer, events: c::POLLIN, revents: 0 };
        assert_eq!(sys!(poll, &mut poll, 1, -1)?, 1);
    }
    fn exclusive() {
        let (ep, ends) = (create()?, pipe(0)?);
        add(ep, ends[0], IN | EXCLUSIVE, 1)?;
        assert_errno(control(ep, c::EPOLL_CTL_MOD, ends[0], IN, 1), c::EINVAL);
        write(ends[1], b"x")?;
        assert_eq!(wait(ep, -1)?, [(IN, 1)]);
        assert_errno(add(ep, ends[1], OUT | EXCLUSIVE | ONCE, 1), c::EINVAL);
    }
    fn an_event_wakes_one_of_those_that_wait_for_it_alone() {
        let (ends, log) = (pipe(0)?, pipe(0)?);
        let mut waiters = Vec::new();
        for _ in 0..4 {
            waiters.push(child(|| {
                let ep = create()?;
                add(ep, ends[0], IN | EDGE | EXCLUSIVE, 1)?;
                assert_eq!(wait(ep, -1)?, [(IN, 1)]);
                write(log[1], b"w")?;
                Ok(())
            })?);
        }
        until(|| waiters.iter().all(Child::sleeps));
        for _ in 0..4 {
            write(ends[1], b"x")?;
            assert_eq!(crate::kit::wait(-1, 0)?, 0);
            assert_eq!(read(log[0], 99)?, b"w");
        }
    }
    fn an_end_wakes_all_that_wait_alone() {
        let ends = pipe(0)?;
        let mut waiters = Vec::new();
        for _ in 0..4 {
            waiters.push(child(|| {
                close(ends[1])?;
                let ep = create()?;
                add(ep, ends[0], IN | EXCLUSIVE, 1)?;
                assert_eq!(wait(ep, -1)?, [(HUP, 1)]);
                Ok(())
            })?);
        }
        until(|| waiters.iter().all(Child::sleeps));
        close(ends[1])?;
        waiters.iter().try_for_each(Child::succeeds)?;
    }
    fn what_is_waited_for_is_in_fdinfo() {
        let (ep, ends) = (create()?, pipe(0)?);
        add(ep, ends[0], IN | EDGE, 0x77)?;
        let info = crate::kit::text(&crate::kit::name(&format!("/proc/self/fdinfo/{ep}")))?;
        let line = info.lines().find(|line| line.starts_with("tfd:")).unwrap_or_default();
        let ino = crate::kit::fstat(ends[0])?.st_ino;
        let start = format!("tfd: {:8} events: {:8x} data: {:16x}  pos:0 ino:{ino:x} sdev:", ends[0], IN | EDGE | HUP | 8, 0x77);
        assert!(line.starts_with(&start), "{info}");
    }
    fn files_of_proc_that_can_be_waited_for() {
        let ep = create()?;
        for path in [c"/proc/mounts", c"/proc/self/mountinfo", c"/proc/uptime", c"/proc/sys/kernel/hostname", c"/proc/net/unix"] {
            let fd = open(path, c::O_RDONLY, 0)?;
            add(ep, fd, IN, 1)?;
            assert_eq!(wait(ep, 0)?, [(IN, 1)]);
            close(fd)?;
        }
        for path in [c"/proc/self/maps", c"/proc/self/status", c"/proc/self/stat", c"/proc", c"/proc/self/fd"] {
            assert_errno(add(ep, open(path, c::O_RDONLY, 0)?, IN, 1), c::EPERM);
        }
    }
    fn survives_fork() {
        let (ep, ends) = (create()?, pipe(0)?);
        add(ep, ends[0], IN, 1)?;
        child(|| {
            write(ends[1], b"x")?;
            assert_eq!(wait(ep, -1)?, [(IN, 1)]);
            Ok(())
        })?.succeeds()?;
        assert_eq!(wait(ep, 0)?, [(IN, 1)]);
    }
    fn edge_of_a_writer_comes_when_there_is_room() {
        let (ep, ends) = (create()?, pipe(c::O_NONBLOCK)?);
        add(ep, ends[1], OUT | EDGE, 1)?;
        assert_eq!(wait(ep, -1)?, [(OUT, 1)]);
        while sys!(write, ends[1], &[0u8; 4096], 4096).is_ok() {}
        assert_eq!(wait(ep, 0)?, []);
        while read(ends[0], 65536).is_ok() {}
        assert_eq!(wait(ep, -1)?, [(OUT, 1)]);
    }
    fn pwait2_is_never_restarted() {
        let ep = create()?;
        let mut events = [0u32; 3];
        or_skip(sys!(epoll_pwait2, ep, &mut events, 1, &c::timespec { tv_sec: 0, tv_nsec: 0 }, 0, 8), &[c::ENOSYS], "epoll_pwait2")?;
        assert_never_restarted(|| sys!(epoll_pwait2, ep, memory::pages(1)?, 1, 0, 0, 8))?;
        assert_never_restarted(|| sys!(epoll_pwait, ep, memory::pages(1)?, 1, -1, 0, 8))?;
        assert_errno(sys!(epoll_pwait2, ep, &mut events, 1, 0, &0u64, 4), c::EINVAL);
        assert_errno(sys!(epoll_pwait2, ep, &mut events, 0, 0, 0, 8), c::EINVAL);
        assert_errno(sys!(epoll_pwait, ep, &mut events, 0, 0, 0, 8), c::EINVAL);
        assert_errno(sys!(epoll_pwait, pipe(0)?[0], &mut events, 1, 0, 0, 8), c::EINVAL);
        assert_errno(sys!(epoll_pwait2, pipe(0)?[0], &mut events, 1, 0, 0, 8), c::EINVAL);
    }
}

fn create() -> Result<i32> {
    sys!(epoll_create1, 0).map(int)
}

fn control(ep: i32, operation: i32, fd: i32, events: u32, data: u64) -> Result<()> {
    let event = c::epoll_event { events, u64: data };
    sys!(epoll_ctl, ep, operation, fd, &event).map(drop)
}

fn add(ep: i32, fd: i32, events: u32, data: u64) -> Result<()> {
    control(ep, c::EPOLL_CTL_ADD, fd, events, data)
}

/// Events and data of all that is ready.
fn wait(ep: i32, timeout: i32) -> Result<Vec<(u32, u64)>> {
    let mut events = [c::epoll_event { events: 0, u64: 0 }; 16];
    let count = sys!(epoll_wait, ep, &mut events, 16, timeout)?;
    Ok(events[..crate::kit::size(count)].iter().map(|e| (e.events, e.u64)).collect())
}
