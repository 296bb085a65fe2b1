//! Descriptors: dup, fcntl, flock and record locks, ioctl, copying between descriptors.

use crate::kit::{Gate, assert_errno, assert_interrupted, cases, child, close, file, fstat, int, open, pestered, pipe, read, restarted, text, write};
use crate::sys::{self, Result, memory, signal, sys};
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::SeqCst;
use libc as c;

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;

cases! { fd;
    fn a_reader_that_is_killed_leaves_all_its_descriptors() {
        let ([never, kept], [told, teller]) = (pipe(0)?, pipe(0)?);
        let reader = child(|| {
            write(teller, b"r")?;
            // Asleep in it when the signal comes, or about to be.
            read(never, 1)?;
            Ok(())
        })?;
        close(teller)?;
        assert_eq!(read(told, 1)?, b"r");
        reader.kill(c::SIGKILL)?;
        reader.dies_of(c::SIGKILL)?;
        assert_eq!(read(told, 1)?, b"");
        close(kept)?;
    }
    fn a_table_that_threads_shared_serves_on() {
        let ends = pipe(0)?;
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read(ends[0], 8));
            let copy = int(sys!(dup, ends[0])?);
            close(copy)?;
            write(ends[1], b"there")?;
            let Ok(Ok(found)) = reader.join() else { panic!("the reader failed") };
            assert_eq!(found, b"there");
            Ok::<(), crate::kit::Fail>(())
        })?;
        // The process had threads that shared its table; now it is alone again.
        let copy = int(sys!(dup, ends[0])?);
        write(ends[1], b"again")?;
        assert_eq!(read(copy, 8)?, b"again");
        close(copy)?;
    }
    fn dup_shares_and_takes_the_lowest() {
        let fd = file(c"f", b"abc")?;
        let copy = int(sys!(dup, fd)?);
        assert_eq!(copy, fd + 1);
        read(fd, 1)?;
        assert_eq!(read(copy, 1)?, b"b");
        assert_errno(sys!(dup, 899), c::EBADF);
    }
    fn dup2_replaces_silently() {
        let fd = file(c"f", b"abc")?;
        let ends = pipe(0)?;
        assert_eq!(int(sys!(dup2, fd, ends[1])?), ends[1]);
        assert_eq!(read(ends[0], 1)?, b"");
        assert_eq!(int(sys!(dup2, fd, fd)?), fd);
        assert_errno(sys!(dup2, 899, 899), c::EBADF);
        assert_errno(sys!(dup2, fd, -1), c::EBADF);
        assert_errno(sys!(dup2, fd, 1 << 30), c::EBADF);
    }
    fn dup3_sets_close_on_exec() {
        let fd = file(c"f", b"")?;
        sys!(dup3, fd, 50, c::O_CLOEXEC)?;
        assert_eq!(sys!(fcntl, 50, c::F_GETFD)?, 1);
        sys!(dup2, fd, 50)?;
        assert_eq!(sys!(fcntl, 50, c::F_GETFD)?, 0);
        assert_errno(sys!(dup3, fd, fd, 0), c::EINVAL);
        assert_errno(sys!(dup3, fd, 51, c::O_APPEND), c::EINVAL);
        assert_errno(sys!(dup3, 899, 51, 0), c::EBADF);
    }
    fn fcntl_dupfd_from_a_minimum() {
        let fd = file(c"f", b"")?;
        assert_eq!(sys!(fcntl, fd, c::F_DUPFD, 60)?, 60);
        assert_eq!(sys!(fcntl, fd, c::F_DUPFD_CLOEXEC, 60)?, 61);
        assert_eq!(sys!(fcntl, 61, c::F_GETFD)?, 1);
        assert_errno(sys!(fcntl, fd, c::F_DUPFD, -1), c::EINVAL);
        assert_errno(sys!(fcntl, fd, c::F_DUPFD, 1 << 30), c::EINVAL);
    }
    fn fcntl_flags() {
        let fd = open(c"f", c::O_CREAT | c::O_WRONLY | c::O_APPEND | c::O_CLOEXEC, 0o600)?;
        let flags = int(sys!(fcntl, fd, c::F_GETFL)?);
        assert_eq!(flags & (c::O_ACCMODE | c::O_APPEND | c::O_CREAT | c::O_CLOEXEC), c::O_WRONLY | c::O_APPEND);
        sys!(fcntl, fd, c::F_SETFL, c::O_NONBLOCK | c::O_RDWR)?;
        let flags = int(sys!(fcntl, fd, c::F_GETFL)?);
        assert_eq!(flags & (c::O_ACCMODE | c::O_APPEND | c::O_NONBLOCK), c::O_WRONLY | c::O_NONBLOCK);
        sys!(fcntl, fd, c::F_SETFD, 0)?;
        assert_eq!(sys!(fcntl, fd, c::F_GETFD)?, 0);
        assert_errno(sys!(fcntl, 899, c::F_GETFL), c::EBADF);
        assert_errno(sys!(fcntl, fd, 9999), c::EINVAL);
    }
    fn fcntl_flags_are_of_the_open_file_and_cloexec_of_the_descriptor() {
        let fd = open(c"f", c::O_CREAT | c::O_RDWR, 0o600)?;
        let copy = int(sys!(dup, fd)?);
        sys!(fcntl, fd, c::F_SETFL, c::O_APPEND)?;
        sys!(fcntl, fd, c::F_SETFD, c::FD_CLOEXEC)?;
        assert_eq!(int(sys!(fcntl, copy, c::F_GETFL)?) & c::O_APPEND, c::O_APPEND);
        assert_eq!(sys!(fcntl, copy, c::F_GETFD)?, 0);
    }
    fn record_locks_conflict_between_processes() {
        let fd = file(c"f", b"hello")?;
        lock(fd, c::F_SETLK, c::F_WRLCK, 1, 2)?;
        let owner = crate::kit::pid()?;
        child(|| {
            let mine = open(c"f", c::O_RDWR, 0)?;
            assert_errno(lock(mine, c::F_SETLK, c::F_RDLCK, 0, 0), c::EAGAIN);
            lock(mine, c::F_SETLK, c::F_WRLCK, 3, 0)?;
            let found = lock(mine, c::F_GETLK, c::F_RDLCK, 0, 0)?;
            assert_eq!((found.l_type, found.l_start, found.l_len, found.l_pid), (1, 1, 2, owner));
            Ok(())
        })?.succeeds()?;
        let found = lock(fd, c::F_GETLK, c::F_WRLCK, 0, 0)?;
        assert_eq!(i32::from(found.l_type), c::F_UNLCK);
    }
    fn the_first_record_lock_in_the_way_is_told() {
        let fd = file(c"f", b"")?;
        // What F_GETLK says of ever more that is taken, changed and given back.
        let steps = [
            (c::F_RDLCK, 10, 5, (c::F_RDLCK, 10, 5)),
            (c::F_WRLCK, 1, 5, (c::F_WRLCK, 1, 5)),
            (c::F_WRLCK, 5, 6, (c::F_WRLCK, 1, 10)),
            (c::F_RDLCK, 3, 2, (c::F_WRLCK, 1, 2)),
            (c::F_UNLCK, 0, 5, (c::F_WRLCK, 5, 6)),
            (c::F_RDLCK, 0, 1, (c::F_RDLCK, 0, 1)),
            (c::F_UNLCK, 0, 9, (c::F_WRLCK, 9, 2)),
            (c::F_WRLCK, 30, 0, (c::F_WRLCK, 9, 2)),
            (c::F_UNLCK, 9, 2, (c::F_RDLCK, 11, 4)),
        ];
        for (kind, start, len, first) in steps {
            lock(fd, c::F_SETLK, kind, start, len)?;
            child(|| {
                let found = lock(fd, c::F_GETLK, c::F_WRLCK, 0, 0)?;
                assert_eq!((i32::from(found.l_type), found.l_start, found.l_len), first);
                Ok(())
            })?.succeeds()?;
        }
    }
    fn record_locks_go_at_any_close_and_are_not_inherited() {
        let fd = file(c"f", b"")?;
        lock(fd, c::F_SETLK, c::F_WRLCK, 0, 0)?;
        let try_lock = || lock(open(c"f", c::O_RDWR, 0)?, c::F_SETLK, c::F_WRLCK, 0, 0).map(drop);
        child(|| {
            assert_errno(lock(fd, c::F_SETLK, c::F_WRLCK, 0, 0).map(drop), c::EAGAIN);
            Ok(())
        })?.succeeds()?;
        close(open(c"f", c::O_RDONLY, 0)?)?;
        child(|| Ok(try_lock()?))?.succeeds()?;
    }
    fn record_locks_end_with_a_process_at_whose_descriptors_others_look() {
        let fd = file(c"f", b"")?;
        for _ in 0..60 {
            let (taken, go) = (Gate::new()?, Gate::new()?);
            let owner = child(|| {
                // Many, so that to list them takes a while.
                (0..200).try_for_each(|_| sys!(dup, fd).map(drop))?;
                lock(fd, c::F_SETLK, c::F_WRLCK, 0, 0)?;
                taken.open()?;
                Ok(go.pass()?)
            })?;
            taken.pass()?;
            let (names, is_over) = (format!("/proc/{}/fd", owner.pid), AtomicBool::new(false));
            std::thread::scope(|scope| {
                let looks = || while !is_over.load(SeqCst) {
                    std::fs::read_dir(&names).into_iter().flatten().for_each(drop);
                };
                let _lookers = [(); 2].map(|()| scope.spawn(looks));
                go.open().and_then(|()| owner.wait()).inspect(|_| is_over.store(true, SeqCst))
            })?;
            lock(fd, c::F_SETLK, c::F_WRLCK, 0, 0)?;
            lock(fd, c::F_SETLK, c::F_UNLCK, 0, 0)?;
        }
    }
    fn record_lock_waits_until_it_is_free() {
        let fd = file(c"f", b"")?;
        let (ready, log) = (Gate::new()?, pipe(0)?);
        let holder = child(|| {
            lock(fd, c::F_SETLK, c::F_WRLCK, 0, 0)?;
            ready.open()?;
            write(log[1], b"holder ")?;
            Ok(())
        })?;
        ready.pass()?;
        lock(fd, c::F_SETLKW, c::F_WRLCK, 0, 0)?;
        write(log[1], b"waiter")?;
        assert_eq!(read(log[0], 99)?, b"holder waiter");
        holder.succeeds()?;
    }
    fn record_lock_wait_is_interrupted() {
        let fd = file(c"f", b"")?;
        let ready = Gate::new()?;
        let holder = child(|| {
            lock(fd, c::F_SETLK, c::F_WRLCK, 0, 0)?;
            ready.open()?;
            crate::kit::until(|| false);
            Ok(())
        })?;
        ready.pass()?;
        assert_interrupted(|| lock(fd, c::F_SETLKW, c::F_WRLCK, 0, 0).map(drop))?;
        holder.end()?;
    }
    fn record_lock_deadlock_is_found() {
        let fd = file(c"f", b"ab")?;
        let ready = Gate::new()?;
        lock(fd, c::F_SETLK, c::F_WRLCK, 0, 1)?;
        let other = child(|| {
            lock(fd, c::F_SETLK, c::F_WRLCK, 1, 1)?;
            ready.open()?;
            match lock(fd, c::F_SETLKW, c::F_WRLCK, 0, 1) {
                Ok(_) => sys::process::exit(1),
                Err(sys::Errno(c::EDEADLK)) => sys::process::exit(2),
                Err(_) => sys::process::exit(3),
            }
        })?;
        ready.pass()?;
        // Whoever comes second is refused; the first gets the lock when the refused one gives up.
        let mine = lock(fd, c::F_SETLKW, c::F_WRLCK, 1, 1).map(drop);
        match mine {
            Ok(()) => other.exits(2)?,
            refused => {
                assert_errno(refused, c::EDEADLK);
                lock(fd, c::F_SETLK, c::F_UNLCK, 0, 1)?;
                other.exits(1)?;
            }
        }
    }
    fn record_locks_need_the_right_mode() {
        close(file(c"f", b"")?)?;
        let (r, w) = (open(c"f", c::O_RDONLY, 0)?, open(c"f", c::O_WRONLY, 0)?);
        assert_errno(lock(r, c::F_SETLK, c::F_WRLCK, 0, 0), c::EBADF);
        assert_errno(lock(w, c::F_SETLK, c::F_RDLCK, 0, 0), c::EBADF);
        assert_errno(lock(r, c::F_SETLK, 9, 0, 0), c::EINVAL);
        assert_errno(sys!(fcntl, r, c::F_SETLK, memory::hole()?), c::EFAULT);
    }
    fn open_file_locks_are_of_the_open_file() {
        let fd = file(c"f", b"")?;
        lock(fd, c::F_OFD_SETLK, c::F_WRLCK, 0, 0)?;
        let other = open(c"f", c::O_RDWR, 0)?;
        assert_errno(lock(other, c::F_OFD_SETLK, c::F_RDLCK, 0, 0), c::EAGAIN);
        let found = lock(other, c::F_OFD_GETLK, c::F_RDLCK, 0, 0)?;
        assert_eq!((i32::from(found.l_type), found.l_pid), (c::F_WRLCK, -1));
        child(|| lock(fd, c::F_OFD_SETLK, c::F_WRLCK, 0, 0).map(drop).map_err(Into::into))?.succeeds()?;
        close(fd)?;
        lock(other, c::F_OFD_SETLK, c::F_WRLCK, 0, 0)?;
    }
    fn flock_is_of_the_open_file() {
        let fd = file(c"f", b"")?;
        let other = open(c"f", c::O_RDONLY, 0)?;
        sys!(flock, fd, c::LOCK_SH)?;
        sys!(flock, other, c::LOCK_SH)?;
        assert_errno(sys!(flock, fd, c::LOCK_EX | c::LOCK_NB), c::EAGAIN);
        sys!(flock, other, c::LOCK_UN)?;
        sys!(flock, fd, c::LOCK_EX | c::LOCK_NB)?;
        assert_errno(sys!(flock, other, c::LOCK_SH | c::LOCK_NB), c::EAGAIN);
        let copy = sys!(dup, fd)?;
        close(fd)?;
        assert_errno(sys!(flock, other, c::LOCK_SH | c::LOCK_NB), c::EAGAIN);
        sys!(close, copy)?;
        sys!(flock, other, c::LOCK_EX)?;
        assert_errno(sys!(flock, 899, c::LOCK_SH), c::EBADF);
        assert_errno(sys!(flock, other, 0x40), c::EINVAL);
    }
    fn flock_is_interrupted_and_restarted() {
        let fd = file(c"f", b"")?;
        let other = open(c"f", c::O_RDONLY, 0)?;
        sys!(flock, fd, c::LOCK_EX)?;
        assert_errno(pestered(0, || sys!(flock, other, c::LOCK_EX))?, c::EINTR);
        restarted(|| sys!(flock, other, c::LOCK_EX), || { let _ = sys!(flock, fd, c::LOCK_UN); })??;
    }
    fn fionread_counts_what_is_there() {
        let mut count = 0i32;
        let fd = file(c"f", b"hello")?;
        read(fd, 2)?;
        sys!(ioctl, fd, c::FIONREAD, &mut count)?;
        assert_eq!(count, 3);
        let ends = pipe(0)?;
        write(ends[1], b"abcd")?;
        sys!(ioctl, ends[0], c::FIONREAD, &mut count)?;
        assert_eq!(count, 4);
    }
    fn ioctl_flags_and_errors() {
        let ends = pipe(0)?;
        sys!(ioctl, ends[0], c::FIONBIO, &1i32)?;
        assert_errno(read(ends[0], 1), c::EAGAIN);
        sys!(ioctl, ends[0], c::FIOCLEX)?;
        assert_eq!(sys!(fcntl, ends[0], c::F_GETFD)?, 1);
        sys!(ioctl, ends[0], c::FIONCLEX)?;
        assert_eq!(sys!(fcntl, ends[0], c::F_GETFD)?, 0);
        assert_errno(sys!(ioctl, ends[0], c::TCGETS, memory::pages(1)?), c::ENOTTY);
        assert_errno(sys!(ioctl, file(c"f", b"")?, c::TCGETS, memory::pages(1)?), c::ENOTTY);
        assert_errno(sys!(ioctl, 899, c::TCGETS, 0), c::EBADF);
        assert_errno(sys!(ioctl, ends[0], c::FIONREAD, memory::hole()?), c::EFAULT);
    }
    fn sendfile_with_and_without_an_offset() {
        let (from, to) = (file(c"f", b"hello world")?, file(c"g", b"")?);
        let mut offset = 6u64;
        assert_eq!(sys!(sendfile, to, from, &mut offset, 100)?, 5);
        assert_eq!((offset, sys!(lseek, from, 0, c::SEEK_CUR)?), (11, 0));
        assert_eq!(sys!(sendfile, to, from, 0, 5)?, 5);
        assert_eq!(sys!(lseek, from, 0, c::SEEK_CUR)?, 5);
        assert_eq!(text(c"g")?, "worldhello");
        assert_eq!(sys!(sendfile, to, from, &mut 11u64, 5)?, 0);
    }
    fn sendfile_errors() {
        let (from, to) = (file(c"f", b"abc")?, file(c"g", b"")?);
        assert_errno(sys!(sendfile, to, 899, 0, 1), c::EBADF);
        assert_errno(sys!(sendfile, 899, from, 0, 1), c::EBADF);
        assert_errno(sys!(sendfile, open(c"g", c::O_RDONLY, 0)?, from, 0, 1), c::EBADF);
        assert_errno(sys!(sendfile, to, from, &mut (-1i64), 1), c::EINVAL);
        assert_errno(sys!(sendfile, open(c"g", c::O_WRONLY | c::O_APPEND, 0)?, from, 0, 1), c::EINVAL);
    }
    fn copy_file_range_copies() {
        let (from, to) = (file(c"f", b"hello world")?, file(c"g", b"XXXXXXXX")?);
        let (mut a, mut b) = (6u64, 2u64);
        assert_eq!(sys!(copy_file_range, from, &mut a, to, &mut b, 100, 0)?, 5);
        assert_eq!((a, b, text(c"g")?.as_str()), (11, 7, "XXworldX"));
        assert_eq!(sys!(copy_file_range, from, 0, to, 0, 3, 0)?, 3);
        assert_eq!(sys!(lseek, to, 0, c::SEEK_CUR)?, 3);
    }
    fn copy_file_range_errors() {
        let (from, to) = (file(c"f", b"hello world")?, file(c"g", b"")?);
        assert_errno(sys!(copy_file_range, from, 0, to, 0, 1, 1), c::EINVAL);
        assert_errno(sys!(copy_file_range, 899, 0, to, 0, 1, 0), c::EBADF);
        assert_errno(sys!(copy_file_range, from, &mut 0u64, from, &mut 2u64, 5, 0), c::EINVAL);
        assert_errno(sys!(copy_file_range, open(c".", 0, 0)?, 0, to, 0, 1, 0), c::EISDIR);
        assert_errno(sys!(copy_file_range, from, 0, open(c"g", 0, 0)?, 0, 1, 0), c::EBADF);
    }
    fn fcntl_owner_for_signals() {
        let ends = pipe(0)?;
        sys!(fcntl, ends[0], c::F_SETOWN, crate::kit::pid()?)?;
        assert_eq!(int(sys!(fcntl, ends[0], c::F_GETOWN)?), crate::kit::pid()?);
        sys!(fcntl, ends[0], F_SETSIG, c::SIGUSR2)?;
        assert_eq!(int(sys!(fcntl, ends[0], F_GETSIG)?), c::SIGUSR2);
        assert_errno(sys!(fcntl, ends[0], F_SETSIG, 99), c::EINVAL);
    }
    fn fcntl_async_sends_sigio() {
        let ends = crate::kit::socket_pair(c::SOCK_STREAM)?;
        signal::record(c::SIGIO, 0)?;
        sys!(fcntl, ends[0], c::F_SETOWN, crate::kit::pid()?)?;
        sys!(fcntl, ends[0], c::F_SETFL, c::O_ASYNC)?;
        write(ends[1], b"x")?;
        crate::kit::until(|| signal::count(c::SIGIO) > 0);
    }
    fn fioasync_is_o_async() {
        const FIOASYNC: u64 = 0x5452;
        let ends = crate::kit::socket_pair(c::SOCK_STREAM)?;
        signal::record(c::SIGIO, 0)?;
        sys!(fcntl, ends[0], c::F_SETOWN, crate::kit::pid()?)?;
        sys!(ioctl, ends[0], FIOASYNC, &1i32)?;
        assert_eq!(int(sys!(fcntl, ends[0], c::F_GETFL)?) & c::O_ASYNC, c::O_ASYNC);
        write(ends[1], b"x")?;
        crate::kit::until(|| signal::count(c::SIGIO) > 0);
        sys!(ioctl, ends[0], FIOASYNC, &0i32)?;
        assert_eq!(int(sys!(fcntl, ends[0], c::F_GETFL)?) & c::O_ASYNC, 0);
        sys!(ioctl, pipe(0)?[1], FIOASYNC, &1i32)?;
        assert_errno(sys!(ioctl, ends[0], FIOASYNC, memory::hole()?), c::EFAULT);
        let regular = file(c"f", b"")?;
        sys!(ioctl, regular, FIOASYNC, &0i32)?;
        assert_errno(sys!(ioctl, regular, FIOASYNC, &1i32), c::ENOTTY);
    }
    fn fioasync_of_files_that_send_no_signal() {
        const FIOASYNC: u64 = 0x5452;
        signal::record(c::SIGIO, 0)?;
        let event = int(sys!(eventfd2, 0, 0)?);
        let timer = int(sys!(timerfd_create, c::CLOCK_MONOTONIC, 0)?);
        let signals = int(sys!(signalfd4, -1, &0u64, 8, 0)?);
        for fd in [event, timer, signals, int(sys!(epoll_create1, 0)?)] {
            assert_errno(sys!(ioctl, fd, FIOASYNC, &1i32), c::ENOTTY);
            sys!(ioctl, fd, FIOASYNC, &0i32)?;
            sys!(fcntl, fd, c::F_SETOWN, crate::kit::pid()?)?;
            sys!(fcntl, fd, c::F_SETFL, c::O_ASYNC)?;
            assert_eq!(int(sys!(fcntl, fd, c::F_GETFL)?) & c::O_ASYNC, 0);
        }
        let regular = file(c"f", b"")?;
        sys!(fcntl, regular, c::F_SETFL, c::O_ASYNC)?;
        assert_eq!(int(sys!(fcntl, regular, c::F_GETFL)?) & c::O_ASYNC, 0);
        write(event, &1u64.to_ne_bytes())?;
        assert_eq!(signal::count(c::SIGIO), 0);
    }
    fn descriptor_table_grows_to_the_limit() {
        let limit = [256u64, 256];
        sys!(prlimit64, 0, c::RLIMIT_NOFILE, &limit, 0)?;
        let mut last = open(c"/", c::O_PATH, 0)?;
        let end = loop {
            match sys!(dup, last) {
                Ok(fd) => last = int(fd),
                Err(errno) => break errno,
            }
        };
        assert_eq!((end.0, last), (c::EMFILE, 255));
        assert_errno(open(c"/", c::O_PATH, 0), c::EMFILE);
        assert_errno(pipe(0), c::EMFILE);
        assert_errno(sys!(dup2, last, 256), c::EBADF);
        fstat(last)?;
    }
    fn fcntl_refuses_what_does_not_fit() {
        let (ends, fd) = (pipe(0)?, file(c"f", b"")?);
        for (name, result) in [
            ("F_SETSIG", sys!(fcntl, ends[0], F_SETSIG, -1)),
            ("F_SETOWN_EX", sys!(fcntl, ends[0], 15, &[9i32, 1])),
            ("F_GETLK", sys!(fcntl, fd, c::F_GETLK, &[9u64, 0, 0, 0])),
            ("F_SETLK", sys!(fcntl, fd, c::F_SETLK, &[9u64, 0, 0, 0])),
            ("F_SETLKW", sys!(fcntl, fd, c::F_SETLKW, &[9u64, 0, 0, 0])),
            ("F_OFD_SETLK with a pid", sys!(fcntl, fd, c::F_OFD_SETLK, &[1u64, 0, 0, 7])),
            ("F_SETLK from nowhere", sys!(fcntl, fd, c::F_SETLK, &[1u64 | 9 << 16, 0, 0, 0])),
            ("F_SETLK before the start", sys!(fcntl, fd, c::F_SETLK, &[1u64, u64::MAX, 0, 0])),
            ("F_DUPFD_CLOEXEC", sys!(fcntl, fd, c::F_DUPFD_CLOEXEC, -1)),
            ("F_SETPIPE_SZ", sys!(fcntl, ends[0], c::F_SETPIPE_SZ, u32::MAX)),
        ] {
            assert_eq!(result, Err(sys::Errno(c::EINVAL)), "{name}");
        }
        for (name, result) in [
            ("F_SETOWN", sys!(fcntl, ends[0], c::F_SETOWN, 999_999_999)),
            ("F_SETOWN of a group", sys!(fcntl, ends[0], c::F_SETOWN, -999_999_999)),
            ("F_SETOWN_EX", sys!(fcntl, ends[0], 15, &[1i32, 999_999_999])),
        ] {
            assert_eq!(result, Err(sys::Errno(c::ESRCH)), "{name}");
        }
        assert_errno(sys!(fcntl, fd, c::F_SETPIPE_SZ, 4096), c::EBADF);
        crate::kit::as_nobody(|| {
            assert_errno(sys!(fcntl, ends[0], c::F_SETPIPE_SZ, 64 << 20), c::EPERM);
            Ok(())
        })?;
    }
    fn sendfile_to_what_takes_nothing() {
        let (from, ends) = (file(c"f", b"abc")?, pipe(c::O_NONBLOCK)?);
        while sys!(write, ends[1], &[0u8; 4096], 4096).is_ok() {}
        assert_errno(sys!(sendfile, ends[1], from, 0, 1), c::EAGAIN);
        assert_errno(sys!(sendfile, file(c"g", b"")?, ends[0], &mut 0u64, 1), c::ESPIPE);
        assert_errno(sys!(sendfile, file(c"g", b"")?, open(c".", c::O_RDONLY, 0)?, 0, 1), c::EINVAL);
        close(ends[0])?;
        signal::ignore(c::SIGPIPE)?;
        assert_errno(sys!(sendfile, ends[1], from, 0, 1), c::EPIPE);
    }
    fn copies_that_do_not_fit() {
        let (from, to) = (file(c"f", b"hello")?, file(c"g", b"")?);
        assert_errno(sys!(copy_file_range, pipe(0)?[0], 0, to, 0, 1, 0), c::EINVAL);
        assert_errno(sys!(copy_file_range, from, 0, pipe(0)?[1], 0, 1, 0), c::EINVAL);
        assert_errno(sys!(copy_file_range, open(c"f", c::O_WRONLY, 0)?, 0, to, 0, 1, 0), c::EBADF);
        assert_errno(sys!(copy_file_range, from, 0, open(c"g", c::O_WRONLY | c::O_APPEND, 0)?, 0, 1, 0), c::EBADF);
        assert_errno(sys!(splice, from, 0, pipe(0)?[1], 0, 1, 1 << 20), c::EINVAL);
        assert_errno(sys!(tee, pipe(0)?[0], pipe(0)?[1], 1, 1 << 20), c::EINVAL);
        let ends = pipe(0)?;
        write(ends[1], b"x")?;
        assert_errno(sys!(splice, ends[0], 0, open(c"g", c::O_WRONLY | c::O_APPEND, 0)?, 0, 1, 0), c::EINVAL);
        assert_errno(sys!(tee, ends[0], ends[1], 1, 0), c::EINVAL);
        assert_errno(sys!(vmsplice, ends[1], &[crate::kit::vector(b"x")], 1, 1 << 20), c::EINVAL);
    }
    fn copies_between_file_systems_and_beyond_all_files() {
        let (from, to) = (file(c"f", b"hello")?, file(c"g", b"")?);
        let other = int(sys!(memfd_create, c"m", 0)?);
        assert_errno(sys!(copy_file_range, from, &mut 0u64, other, &mut 0u64, 1, 0), c::EXDEV);
        assert_errno(sys!(copy_file_range, other, &mut 0u64, to, &mut 0u64, 1, 0), c::EXDEV);
        assert_errno(sys!(copy_file_range, from, &mut 2u64, to, &mut 0u64, u64::MAX, 0), c::EOVERFLOW);
        assert_errno(sys!(copy_file_range, from, &mut 0u64, to, &mut 2u64, u64::MAX, 0), c::EOVERFLOW);
        // Files of /proc have less than 2 GiB.
        let version = open(c"/proc/version", c::O_RDONLY, 0)?;
        let end = i64::from(i32::MAX);
        assert_errno(sys!(sendfile, to, version, &mut end.clone(), 1), c::EOVERFLOW);
        assert_eq!(sys!(sendfile, to, version, &mut (end - 1), 1)?, 0);
        assert_eq!(fstat(to)?.st_size, 0);
    }
    fn record_lock_wait_is_restarted() {
        let fd = file(c"f", b"abc")?;
        let (held, release) = (Gate::new()?, Gate::new()?);
        let holder = child(|| {
            lock(fd, c::F_SETLK, c::F_WRLCK, 0, 0)?;
            held.open()?;
            release.pass()?;
            Ok(lock(fd, c::F_SETLK, c::F_UNLCK, 0, 0).map(drop)?)
        })?;
        held.pass()?;
        restarted(|| lock(fd, c::F_SETLKW, c::F_WRLCK, 0, 0).map(drop), || release.open().unwrap_or(()))??;
        holder.succeeds()?;
    }
    fn a_wait_for_an_open_file_lock_is_interrupted_and_restarted() {
        let fd = file(c"f", b"abc")?;
        let other = open(c"f", c::O_RDWR, 0)?;
        lock(fd, c::F_OFD_SETLK, c::F_WRLCK, 0, 0)?;
        assert_interrupted(|| lock(other, c::F_OFD_SETLKW, c::F_WRLCK, 0, 0).map(drop))?;
        restarted(
            || lock(other, c::F_OFD_SETLKW, c::F_WRLCK, 0, 0).map(drop),
            || { let _ = lock(fd, c::F_OFD_SETLK, c::F_UNLCK, 0, 0); },
        )??;
    }
}

/// One operation on a record lock.
fn lock(fd: i32, command: i32, kind: i32, start: i64, len: i64) -> Result<c::flock> {
    let mut lock: c::flock = sys::zeroed();
    lock.l_type = i16::try_from(kind).unwrap_or(-1);
    (lock.l_start, lock.l_len) = (start, len);
    sys!(fcntl, fd, command, &mut lock)?;
    Ok(lock)
}
