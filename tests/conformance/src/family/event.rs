//! eventfd, timerfd, signalfd, inotify: events read from descriptors.

use crate::kit::{assert_errno, assert_interrupted, cases, child, close, file, int, ms, now, open, or_skip, pid, pipe, read, restarted, size, write};
use crate::sys::{self, Result, memory, signal, sys};
use libc as c;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// Expiries that the other thread was told of.
static TOLD: AtomicI32 = AtomicI32::new(0);

cases! { event;
    fn eventfd_counts() {
        let fd = int(sys!(eventfd2, 3, 0)?);
        write(fd, &5u64.to_ne_bytes())?;
        assert_eq!(read(fd, 8)?, 8u64.to_ne_bytes());
    }
    fn eventfd_semaphore_counts_down_by_one() {
        let fd = int(sys!(eventfd2, 2, c::EFD_SEMAPHORE | c::EFD_NONBLOCK)?);
        assert_eq!(read(fd, 8)?, 1u64.to_ne_bytes());
        assert_eq!(read(fd, 8)?, 1u64.to_ne_bytes());
        assert_errno(read(fd, 8), c::EAGAIN);
    }
    fn eventfd_errors() {
        let fd = int(sys!(eventfd2, 0, c::EFD_NONBLOCK | c::EFD_CLOEXEC)?);
        assert_eq!(sys!(fcntl, fd, c::F_GETFD)?, 1);
        assert_errno(read(fd, 8), c::EAGAIN);
        assert_errno(read(fd, 7), c::EINVAL);
        assert_errno(sys!(write, fd, b"1234567", 7), c::EINVAL);
        assert_errno(write(fd, &u64::MAX.to_ne_bytes()), c::EINVAL);
        write(fd, &(u64::MAX - 1).to_ne_bytes())?;
        assert_errno(write(fd, &1u64.to_ne_bytes()), c::EAGAIN);
        assert_errno(sys!(eventfd2, 0, 0x40), c::EINVAL);
        assert_eq!(sys!(lseek, fd, 0, c::SEEK_SET)?, 0);
    }
    fn eventfd_gives_and_takes_whole_words() {
        let fd = int(sys!(eventfd2, 5, c::EFD_NONBLOCK)?);
        let base = memory::pages(2)?;
        sys!(munmap, base + memory::PAGE, memory::PAGE)?;
        let cut = base + memory::PAGE - 4;
        assert_errno(sys!(write, fd, cut, 8), c::EFAULT);
        assert_eq!(read(fd, 8)?, 5u64.to_ne_bytes());
        write(fd, &5u64.to_ne_bytes())?;
        assert_errno(sys!(read, fd, cut, 8), c::EFAULT);
        // What could not be told is gone.
        assert_errno(read(fd, 8), c::EAGAIN);
    }
    fn eventfd_read_waits() {
        let fd = int(sys!(eventfd, 0)?);
        let writer = child(|| Ok(write(fd, &7u64.to_ne_bytes())?))?;
        assert_eq!(read(fd, 8)?, 7u64.to_ne_bytes());
        writer.succeeds()?;
    }
    fn eventfd_is_interrupted_and_restarted() {
        let fd = int(sys!(eventfd2, 0, 0)?);
        assert_interrupted(|| read(fd, 8))?;
        let got = restarted(|| read(fd, 8), || { let _ = write(fd, &1u64.to_ne_bytes()); })??;
        assert_eq!(got, 1u64.to_ne_bytes());
    }
    fn eventfd_polls() {
        let fd = int(sys!(eventfd2, 0, 0)?);
        assert_eq!(ready(fd, c::POLLIN | c::POLLOUT)?, c::POLLOUT);
        write(fd, &(u64::MAX - 1).to_ne_bytes())?;
        assert_eq!(ready(fd, c::POLLIN | c::POLLOUT)?, c::POLLIN);
    }
    fn timerfd_expires_once() {
        let fd = timer(c::CLOCK_MONOTONIC, 0)?;
        let begin = now(c::CLOCK_MONOTONIC)?;
        set_timer(fd, 0, 10, 0)?;
        assert_eq!(read(fd, 8)?, 1u64.to_ne_bytes());
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 10_000_000);
        let mut left: c::itimerspec = sys::zeroed();
        sys!(timerfd_gettime, fd, &mut left)?;
        assert_eq!((left.it_value.tv_sec, left.it_value.tv_nsec), (0, 0));
    }
    fn timerfd_that_another_thread_looks_at_wakes_its_sleeper() {
        let fd = timer(c::CLOCK_MONOTONIC, c::TFD_NONBLOCK)?;
        let poll = move |timeout: i32| {
            let mut wanted = c::pollfd { fd, events: c::POLLIN, revents: 0 };
            sys!(poll, &mut wanted, 1, timeout)
        };
        for _ in 0..20 {
            set_timer(fd, 0, 1, 0)?;
            let sleeper = std::thread::spawn(move || poll(-1));
            while poll(0)? == 0 {}
            assert_eq!(sleeper.join().ok(), Some(Ok(1)));
            read(fd, 8)?;
        }
    }
    fn timerfd_that_is_set_while_an_epoll_looks_is_told() {
        let fd = timer(c::CLOCK_MONOTONIC, c::TFD_NONBLOCK)?;
        let ep = int(sys!(epoll_create1, 0)?);
        let interest = c::epoll_event { events: c::EPOLLIN as u32, u64: 7 };
        sys!(epoll_ctl, ep, c::EPOLL_CTL_ADD, fd, &interest)?;
        let rounds = 3000;
        let sleeper = std::thread::spawn(move || {
            let mut told: c::epoll_event = sys::zeroed();
            for _ in 0..rounds {
                while sys!(epoll_wait, ep, &mut told, 1, -1).is_err() || read(fd, 8).is_err() {}
                TOLD.fetch_add(1, SeqCst);
            }
        });
        for round in 0..rounds {
            let first = c::timespec { tv_sec: 0, tv_nsec: 1_000 * (1 + i64::from(round) % 50) };
            let setting = c::itimerspec { it_value: first, it_interval: ms(0) };
            sys!(timerfd_settime, fd, 0, &setting, 0)?;
            while TOLD.load(SeqCst) <= round {
                std::thread::yield_now();
            }
        }
        assert!(sleeper.join().is_ok());
    }
    fn timerfd_repeats_and_counts() {
        let fd = timer(c::CLOCK_MONOTONIC, 0)?;
        let begin = now(c::CLOCK_MONOTONIC)?;
        set_timer(fd, 0, 5, 5)?;
        let mut count = 0u64;
        while count < 6 {
            count += sys::read_plain::<u64>(&read(fd, 8)?);
        }
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 30_000_000);
    }
    fn timerfd_absolute_time_in_the_past() {
        for clock in [c::CLOCK_MONOTONIC, c::CLOCK_REALTIME] {
            let fd = timer(clock, 0)?;
            set_timer(fd, c::TFD_TIMER_ABSTIME, 1, 0)?;
            assert_eq!(read(fd, 8)?, 1u64.to_ne_bytes());
        }
    }
    fn timerfd_set_returns_the_old_setting_and_disarms() {
        let fd = timer(c::CLOCK_MONOTONIC, c::TFD_NONBLOCK)?;
        set_timer(fd, 0, 60_000, 7)?;
        let (off, mut old): (c::itimerspec, c::itimerspec) = (sys::zeroed(), sys::zeroed());
        sys!(timerfd_settime, fd, 0, &off, &mut old)?;
        assert!((50..=60).contains(&old.it_value.tv_sec));
        assert_eq!(old.it_interval.tv_nsec, 7_000_000);
        assert_errno(read(fd, 8), c::EAGAIN);
    }
    fn timerfd_errors() {
        let fd = timer(c::CLOCK_MONOTONIC, c::TFD_NONBLOCK)?;
        let mut setting: c::itimerspec = sys::zeroed();
        assert_errno(read(fd, 4), c::EINVAL);
        assert_errno(timer(99, 0), c::EINVAL);
        assert_errno(timer(c::CLOCK_MONOTONIC, 1), c::EINVAL);
        assert_errno(sys!(timerfd_settime, fd, 99, &setting, 0), c::EINVAL);
        assert_errno(sys!(timerfd_settime, 899, 0, &setting, 0), c::EBADF);
        assert_errno(sys!(timerfd_settime, pipe(0)?[0], 0, &setting, 0), c::EINVAL);
        assert_errno(sys!(timerfd_settime, fd, 0, memory::hole()?, 0), c::EFAULT);
        assert_errno(sys!(timerfd_gettime, fd, memory::hole()?), c::EFAULT);
        setting.it_value.tv_nsec = 1_000_000_000;
        assert_errno(sys!(timerfd_settime, fd, 0, &setting, 0), c::EINVAL);
    }
    fn timerfd_polls_and_is_interrupted() {
        let fd = timer(c::CLOCK_MONOTONIC, 0)?;
        set_timer(fd, 0, 60_000, 0)?;
        assert_eq!(ready(fd, c::POLLIN)?, 0);
        assert_interrupted(|| read(fd, 8))?;
        set_timer(fd, 0, 1, 0)?;
        let mut poll = c::pollfd { fd, events: c::POLLIN, revents: 0 };
        assert_eq!(sys!(poll, &mut poll, 1, -1)?, 1);
    }
    fn signalfd_reads_signals() {
        signal::mask(c::SIG_BLOCK, signal::bit(c::SIGUSR1) | signal::bit(40))?;
        let fd = signalfd(signal::bit(c::SIGUSR1) | signal::bit(40), 0)?;
        sys!(kill, pid()?, 40)?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        let got = read(fd, 300)?;
        assert_eq!(got.len(), 256);
        let first: c::signalfd_siginfo = sys::read_plain(&got);
        let second: c::signalfd_siginfo = sys::read_plain(&got[128..]);
        assert_eq!((first.ssi_signo, second.ssi_signo), (10, 40));
        assert_eq!((first.ssi_pid, first.ssi_code), (pid()?.cast_unsigned(), c::SI_USER));
    }
    fn signalfd_mask_can_be_changed() {
        signal::mask(c::SIG_BLOCK, signal::bit(c::SIGUSR1) | signal::bit(c::SIGUSR2))?;
        let fd = signalfd(signal::bit(c::SIGUSR1), c::SFD_NONBLOCK | c::SFD_CLOEXEC)?;
        sys!(kill, pid()?, c::SIGUSR2)?;
        assert_errno(read(fd, 128), c::EAGAIN);
        assert_eq!(int(sys!(signalfd4, fd, &signal::bit(c::SIGUSR2), 8, 0)?), fd);
        assert_eq!(ready(fd, c::POLLIN)?, c::POLLIN);
        assert_eq!(read(fd, 128)?.len(), 128);
    }
    fn signalfd_of_the_first_call() {
        let fd = int(sys!(signalfd, -1, &signal::bit(c::SIGUSR1), 8)?);
        signal::mask(c::SIG_BLOCK, signal::bit(c::SIGUSR1))?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert_eq!(int(sys!(signalfd, fd, &signal::bit(c::SIGUSR1), 8)?), fd);
        assert_eq!(read(fd, 256)?.len(), 128);
    }
    fn signalfd_errors() {
        assert_errno(signalfd(0, 1), c::EINVAL);
        assert_errno(sys!(signalfd4, -1, &0u64, 4, 0), c::EINVAL);
        assert_errno(sys!(signalfd4, 899, &0u64, 8, 0), c::EBADF);
        assert_errno(sys!(signalfd4, pipe(0)?[0], &0u64, 8, 0), c::EINVAL);
        assert_errno(sys!(signalfd4, -1, memory::hole()?, 8, 0), c::EFAULT);
        assert_errno(read(signalfd(0, 0)?, 100), c::EINVAL);
    }
    fn signalfd_waits_for_a_child() {
        signal::mask(c::SIG_BLOCK, signal::bit(c::SIGCHLD))?;
        let fd = signalfd(signal::bit(c::SIGCHLD), 0)?;
        let gone = child(|| sys::process::exit(3))?;
        let info: c::signalfd_siginfo = sys::read_plain(&read(fd, 128)?);
        assert_eq!((info.ssi_signo, info.ssi_pid, info.ssi_status), (17, gone.pid.cast_unsigned(), 3));
        gone.exits(3)?;
    }
    fn signalfd_is_interrupted_by_others() {
        let fd = signalfd(signal::bit(c::SIGUSR2), 0)?;
        assert_interrupted(|| read(fd, 128))?;
    }
    fn inotify_sees_a_file_come_and_go() {
        let fd = watch(c".", c::IN_CREATE | c::IN_MODIFY | c::IN_CLOSE_WRITE | c::IN_DELETE)?;
        close(file(c"f", b"x")?)?;
        sys!(unlink, c"f")?;
        let wanted = [(c::IN_CREATE, "f"), (c::IN_MODIFY, "f"), (c::IN_CLOSE_WRITE, "f"), (c::IN_DELETE, "f")];
        assert_eq!(events(fd)?, wanted.map(|(mask, name)| (mask, name.to_owned())));
    }
    fn inotify_pairs_renames() {
        close(file(c"a", b"")?)?;
        let fd = watch(c".", c::IN_MOVED_FROM | c::IN_MOVED_TO)?;
        sys!(rename, c"a", c"b")?;
        let buffer = read(fd, 4096)?;
        let (first, second) = (&buffer[..16], &buffer[32..48]);
        assert_eq!(sys::read_plain::<u32>(&first[4..]), c::IN_MOVED_FROM);
        assert_eq!(sys::read_plain::<u32>(&second[4..]), c::IN_MOVED_TO);
        assert_eq!(first[8..12], second[8..12]);
        assert_ne!(sys::read_plain::<u32>(&first[8..]), 0);
    }
    fn inotify_of_a_file_itself() {
        let file = file(c"f", b"x")?;
        let fd = watch(c"f", c::IN_ATTRIB | c::IN_OPEN | c::IN_ACCESS | c::IN_DELETE_SELF)?;
        sys!(fchmod, file, 0o600)?;
        let again = open(c"f", c::O_RDONLY, 0)?;
        read(again, 1)?;
        let masks: Vec<u32> = events(fd)?.into_iter().map(|e| e.0).collect();
        assert_eq!(masks, [c::IN_ATTRIB, c::IN_OPEN, c::IN_ACCESS]);
        close(again)?;
        close(file)?;
        sys!(unlink, c"f")?;
        let masks: Vec<u32> = events(fd)?.into_iter().map(|e| e.0).collect();
        assert_eq!(masks, [c::IN_ATTRIB, c::IN_DELETE_SELF, c::IN_IGNORED]);
    }
    fn inotify_tells_no_more_of_names_that_are_gone() {
        let file = file(c"f", b"x")?;
        let all = watch(c".", c::IN_MODIFY)?;
        let excluding = watch(c".", c::IN_MODIFY | c::IN_EXCL_UNLINK)?;
        write(file, b"y")?;
        sys!(unlink, c"f")?;
        write(file, b"z")?;
        let modified = (c::IN_MODIFY, "f".to_owned());
        // Equal ones in a row are one.
        assert_eq!(events(excluding)?, core::slice::from_ref(&modified));
        write(file, b"z")?;
        assert_eq!(events(all)?, [modified]);
        sys!(fcntl, excluding, c::F_SETFL, c::O_NONBLOCK)?;
        assert_errno(read(excluding, 4096), c::EAGAIN);
    }
    fn inotify_watches_are_lines_of_fdinfo() {
        close(file(c"f", b"")?)?;
        let fd = watch(c".", c::IN_MODIFY | c::IN_ONESHOT)?;
        sys!(inotify_add_watch, fd, c"f", c::IN_OPEN | c::IN_EXCL_UNLINK)?;
        let info = crate::kit::text(&crate::kit::name(&format!("/proc/self/fdinfo/{fd}")))?;
        let device = |st: c::stat| c::major(st.st_dev) << 20 | c::minor(st.st_dev);
        let line = |watch: u32, path, mask: u32| {
            let st = crate::kit::stat(path)?;
            Ok::<_, sys::Errno>(format!("inotify wd:{watch:x} ino:{:x} sdev:{:x} mask:{mask:x} ignored_mask:0 ", st.st_ino, device(st)))
        };
        let lines: Vec<_> = info.lines().filter(|line| line.starts_with("inotify")).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with(&line(2, c"f", c::IN_OPEN | c::IN_EXCL_UNLINK)?), "{info}");
        assert!(lines[1].starts_with(&line(1, c".", c::IN_MODIFY | c::IN_ONESHOT)?), "{info}");
    }
    fn inotify_watch_goes() {
        let fd = watch(c".", c::IN_CREATE)?;
        sys!(inotify_rm_watch, fd, 1)?;
        close(file(c"f", b"")?)?;
        assert_eq!(events(fd)?, [(c::IN_IGNORED, String::new())]);
        assert_errno(sys!(inotify_rm_watch, fd, 1), c::EINVAL);
    }
    fn inotify_errors() {
        let fd = int(sys!(inotify_init1, c::IN_NONBLOCK | c::IN_CLOEXEC)?);
        assert_eq!(sys!(fcntl, fd, c::F_GETFD)?, 1);
        assert_errno(read(fd, 4096), c::EAGAIN);
        assert_errno(sys!(inotify_init1, 1), c::EINVAL);
        assert_errno(sys!(inotify_add_watch, fd, c"none", c::IN_CREATE), c::ENOENT);
        assert_errno(sys!(inotify_add_watch, fd, c".", 0), c::EINVAL);
        assert_errno(sys!(inotify_add_watch, 899, c".", c::IN_CREATE), c::EBADF);
        assert_errno(sys!(inotify_add_watch, pipe(0)?[0], c".", c::IN_CREATE), c::EINVAL);
        close(file(c"f", b"")?)?;
        assert_errno(sys!(inotify_add_watch, fd, c"f", c::IN_CREATE | c::IN_ONLYDIR), c::ENOTDIR);
        assert_eq!(sys!(inotify_add_watch, fd, c".", c::IN_CREATE)?, sys!(inotify_add_watch, fd, c".", c::IN_DELETE)?);
        close(file(c"g", b"")?)?;
        sys!(unlink, c"g")?;
        assert_errno(read(fd, 8), c::EINVAL);
        assert_eq!(events(fd)?, [(c::IN_DELETE, "g".to_owned())]);
    }
    fn inotify_init_makes_an_instance() {
        let fd = int(sys!(inotify_init)?);
        sys!(inotify_add_watch, fd, c".", c::IN_CREATE)?;
        close(file(c"f", b"")?)?;
        assert_eq!(events(fd)?, [(c::IN_CREATE, "f".to_owned())]);
    }
    fn inotify_waits_and_is_interrupted() {
        let fd = watch(c".", c::IN_CREATE)?;
        assert_interrupted(|| read(fd, 4096))?;
        let maker = child(|| Ok(close(file(c"f", b"")?)?))?;
        assert_eq!(events(fd)?, [(c::IN_CREATE, "f".to_owned())]);
        maker.succeeds()?;
    }
    fn inotify_refuses_what_does_not_fit() {
        const MASK_CREATE: u32 = 0x1000_0000;
        let fd = int(or_skip(sys!(inotify_init1, 0), &[c::ENOSYS], "inotify")?);
        sys!(inotify_add_watch, fd, c".", c::IN_CREATE)?;
        assert_errno(sys!(inotify_add_watch, fd, c".", c::IN_CREATE | MASK_CREATE), c::EEXIST);
        assert_errno(sys!(inotify_add_watch, fd, c".", c::IN_CREATE | MASK_CREATE | c::IN_MASK_ADD), c::EINVAL);
        assert_errno(sys!(inotify_rm_watch, fd, 99), c::EINVAL);
        assert_errno(sys!(inotify_rm_watch, pipe(0)?[0], 1), c::EINVAL);
        close(file(c"f", b"")?)?;
        sys!(chmod, c"f", 0o600)?;
        crate::kit::as_nobody(|| {
            assert_errno(sys!(inotify_add_watch, fd, c"f", c::IN_MODIFY), c::EACCES);
            Ok(())
        })?;
    }
    fn timerfd_gettime_of_others_is_einval() {
        assert_errno(sys!(timerfd_gettime, pipe(0)?[0], memory::pages(1)?), c::EINVAL);
        assert_errno(timer(c::CLOCK_MONOTONIC, 1 << 20), c::EINVAL);
    }
}

/// The events of a descriptor without waiting.
fn ready(fd: i32, events: i16) -> Result<i16> {
    let mut poll = c::pollfd { fd, events, revents: 0 };
    sys!(poll, &mut poll, 1, 0)?;
    Ok(poll.revents)
}

fn timer(clock: i32, flags: i32) -> Result<i32> {
    sys!(timerfd_create, clock, flags).map(int)
}

fn set_timer(fd: i32, flags: i32, value_ms: i64, interval_ms: i64) -> Result<()> {
    let setting = c::itimerspec { it_value: ms(value_ms), it_interval: ms(interval_ms) };
    sys!(timerfd_settime, fd, flags, &setting, 0).map(drop)
}

fn signalfd(set: u64, flags: i32) -> Result<i32> {
    sys!(signalfd4, -1, &set, 8, flags).map(int)
}

fn watch(path: &core::ffi::CStr, mask: u32) -> core::result::Result<i32, crate::kit::Fail> {
    let fd = int(or_skip(sys!(inotify_init1, 0), &[c::ENOSYS], "inotify")?);
    sys!(inotify_add_watch, fd, path, mask)?;
    Ok(fd)
}

/// Mask and name of the events that one read gives.
fn events(fd: i32) -> Result<Vec<(u32, String)>> {
    let buffer = read(fd, 4096)?;
    let (mut at, mut found) = (0, Vec::new());
    while at < buffer.len() {
        let len = size(sys::read_plain::<u32>(&buffer[at + 12..]).into());
        let name = buffer[at + 16..at + 16 + len].split(|b| *b == 0).next().unwrap_or_default();
        found.push((sys::read_plain(&buffer[at + 4..]), String::from_utf8_lossy(name).into_owned()));
        at += 16 + len;
    }
    Ok(found)
}
