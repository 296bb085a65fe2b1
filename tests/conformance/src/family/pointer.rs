//! What calls answer to an address at which nothing is: EFAULT, and nothing has happened.

use crate::ipc::{Queue, Segment, Semaphores};
use crate::kit::{assert_errno, cases, child, close, file, int, ms, need_root, open, pipe, read, socket_pair, vector, write};
use crate::net::{unix_client, unix_listener};
use crate::sys::{self, Errno, Result, memory, signal, sys};
use libc as c;

/// Calls by name, and argument where one has several, with the address that the case chooses.
type Calls = &'static [(&'static str, fn(usize) -> Result<i64>)];

/// Calls that write what they tell.
const TELLING: Calls = &[
    ("stat", |a| sys!(stat, c".", a)),
    ("lstat", |a| sys!(lstat, c".", a)),
    ("fstat", |a| sys!(fstat, 0, a)),
    ("newfstatat", |a| sys!(newfstatat, c::AT_FDCWD, c".", a, 0)),
    ("statx", |a| sys!(statx, c::AT_FDCWD, c".", 0, c::STATX_BASIC_STATS, a)),
    ("statfs", |a| sys!(statfs, c".", a)),
    ("fstatfs", |a| sys!(fstatfs, 0, a)),
    ("getcwd", |a| sys!(getcwd, a, 4096)),
    ("readlink", |a| sys!(readlink, c"/proc/self/exe", a, 64)),
    ("readlinkat", |a| sys!(readlinkat, c::AT_FDCWD, c"/proc/self/exe", a, 64)),
    ("getdents64", |a| sys!(getdents64, open(c".", c::O_RDONLY, 0)?, a, 512)),
    ("gettimeofday", |a| sys!(gettimeofday, a, 0)),
    ("gettimeofday, zone", |a| sys!(gettimeofday, 0, a)),
    ("time", |a| sys!(time, a)),
    ("times", |a| sys!(times, a)),
    ("clock_gettime", |a| sys!(clock_gettime, c::CLOCK_MONOTONIC, a)),
    ("clock_getres", |a| sys!(clock_getres, c::CLOCK_MONOTONIC, a)),
    ("adjtimex", |a| sys!(adjtimex, a)),
    ("clock_adjtime", |a| sys!(clock_adjtime, c::CLOCK_REALTIME, a)),
    ("getitimer", |a| sys!(getitimer, c::ITIMER_REAL, a)),
    ("setitimer, old", |a| sys!(setitimer, c::ITIMER_REAL, &[0i64; 4], a)),
    ("timer_create, id", |a| sys!(timer_create, c::CLOCK_MONOTONIC, 0, a)),
    ("timer_gettime", |a| sys!(timer_gettime, timer()?, a)),
    ("timer_settime, old", |a| sys!(timer_settime, timer()?, 0, &[0i64; 4], a)),
    ("timerfd_gettime", |a| sys!(timerfd_gettime, timer_fd()?, a)),
    ("timerfd_settime, old", |a| sys!(timerfd_settime, timer_fd()?, 0, &[0i64; 4], a)),
    ("getrusage", |a| sys!(getrusage, c::RUSAGE_SELF, a)),
    ("getrlimit", |a| sys!(getrlimit, c::RLIMIT_CORE, a)),
    ("prlimit64, old", |a| sys!(prlimit64, 0, c::RLIMIT_CORE, 0, a)),
    ("sysinfo", |a| sys!(sysinfo, a)),
    ("uname", |a| sys!(uname, a)),
    ("getresuid", |a| sys!(getresuid, a, a, a)),
    ("getresgid", |a| sys!(getresgid, a, a, a)),
    ("capget", |a| sys!(capget, &[0x2008_0522u32, 0], a)),
    ("sched_getparam", |a| sys!(sched_getparam, 0, a)),
    ("sched_getaffinity", |a| sys!(sched_getaffinity, 0, 128, a)),
    ("sched_getattr", |a| sys!(sched_getattr, 0, a, 48, 0)),
    ("sched_rr_get_interval", |a| sys!(sched_rr_get_interval, 0, a)),
    ("getcpu", |a| sys!(getcpu, a, 0, 0)),
    ("getcpu, node", |a| sys!(getcpu, 0, a, 0)),
    ("rt_sigaction, old", |a| sys!(rt_sigaction, c::SIGUSR1, 0, a, 8)),
    ("rt_sigprocmask, old", |a| sys!(rt_sigprocmask, c::SIG_BLOCK, 0, a, 8)),
    ("rt_sigpending", |a| sys!(rt_sigpending, a, 8)),
    ("sigaltstack, old", |a| sys!(sigaltstack, 0, a)),
    ("get_robust_list", |a| sys!(get_robust_list, 0, a, a)),
    ("getrandom", |a| sys!(getrandom, a, 8, 0)),
    ("pipe", |a| sys!(pipe, a)),
    ("pipe2", |a| sys!(pipe2, a, 0)),
    ("socketpair", |a| sys!(socketpair, c::AF_UNIX, c::SOCK_STREAM, 0, a)),
    ("getsockname", |a| sys!(getsockname, pair()?[0], a, &mut 16u32)),
    ("getsockname, length", |a| sys!(getsockname, pair()?[0], memory::pages(1)?, a)),
    ("getpeername", |a| sys!(getpeername, pair()?[0], a, &mut 16u32)),
    ("getpeername, length", |a| sys!(getpeername, pair()?[0], memory::pages(1)?, a)),
    ("getsockopt", |a| sys!(getsockopt, pair()?[0], c::SOL_SOCKET, c::SO_TYPE, a, &mut 4u32)),
    ("getsockopt, length", |a| sys!(getsockopt, pair()?[0], c::SOL_SOCKET, c::SO_TYPE, memory::pages(1)?, a)),
    ("ioctl FIONREAD", |a| sys!(ioctl, pipe(0)?[0], c::FIONREAD, a)),
    ("fcntl F_GETLK", |a| sys!(fcntl, file(c"f", b"")?, c::F_GETLK, a)),
    ("fcntl F_GETOWN_EX", |a| sys!(fcntl, pipe(0)?[0], F_GETOWN_EX, a)),
    ("prctl PR_GET_NAME", |a| sys!(prctl, c::PR_GET_NAME, a, 0, 0, 0)),
    ("prctl PR_GET_PDEATHSIG", |a| sys!(prctl, c::PR_GET_PDEATHSIG, a, 0, 0, 0)),
    ("prctl PR_GET_CHILD_SUBREAPER", |a| sys!(prctl, c::PR_GET_CHILD_SUBREAPER, a, 0, 0, 0)),
    ("arch_prctl ARCH_GET_FS", |a| sys!(arch_prctl, 0x1003, a)),
    ("mincore", |a| sys!(mincore, memory::pages(1)?, 4096, a)),
    ("mq_getsetattr, old", |a| sys!(mq_getsetattr, queue()?, 0, a)),
];

/// Calls that read what they are told.
const TOLD: Calls = &[
    ("rt_sigaction, new", |a| sys!(rt_sigaction, c::SIGUSR1, a, 0, 8)),
    ("rt_sigprocmask, new", |a| sys!(rt_sigprocmask, c::SIG_BLOCK, a, 0, 8)),
    ("rt_sigsuspend", |a| sys!(rt_sigsuspend, a, 8)),
    ("rt_sigtimedwait", |a| sys!(rt_sigtimedwait, a, 0, &ms(0), 8)),
    ("rt_sigtimedwait, limit", |a| sys!(rt_sigtimedwait, &0u64, 0, a, 8)),
    ("rt_sigqueueinfo", |a| sys!(rt_sigqueueinfo, sys!(getpid)?, c::SIGUSR1, a)),
    ("rt_tgsigqueueinfo", |a| sys!(rt_tgsigqueueinfo, sys!(getpid)?, sys!(gettid)?, c::SIGUSR1, a)),
    ("sigaltstack, new", |a| sys!(sigaltstack, a, 0)),
    ("nanosleep", |a| sys!(nanosleep, a, 0)),
    ("clock_nanosleep", |a| sys!(clock_nanosleep, c::CLOCK_MONOTONIC, 0, a, 0)),
    ("clock_settime", |a| sys!(clock_settime, c::CLOCK_REALTIME, a)),
    ("settimeofday", |a| sys!(settimeofday, a, 0)),
    ("settimeofday, zone", |a| sys!(settimeofday, 0, a)),
    ("setitimer, new", |a| sys!(setitimer, c::ITIMER_REAL, a, 0)),
    ("timer_create, event", |a| sys!(timer_create, c::CLOCK_MONOTONIC, a, memory::pages(1)?)),
    ("timer_settime, new", |a| sys!(timer_settime, timer()?, 0, a, 0)),
    ("timerfd_settime, new", |a| sys!(timerfd_settime, timer_fd()?, 0, a, 0)),
    ("signalfd4", |a| sys!(signalfd4, -1, a, 8, 0)),
    ("setrlimit", |a| sys!(setrlimit, c::RLIMIT_CORE, a)),
    ("prlimit64, new", |a| sys!(prlimit64, 0, c::RLIMIT_CORE, a, 0)),
    ("capset", |a| sys!(capset, &[0x2008_0522u32, 0], a)),
    ("capset, header", |a| sys!(capset, a, &[0u32; 6])),
    ("sched_setparam", |a| sys!(sched_setparam, 0, a)),
    ("sched_setscheduler", |a| sys!(sched_setscheduler, 0, c::SCHED_OTHER, a)),
    ("sched_setaffinity", |a| sys!(sched_setaffinity, 0, 128, a)),
    ("sched_setattr", |a| sys!(sched_setattr, 0, a, 0)),
    ("futex", |a| sys!(futex, a, c::FUTEX_WAIT, 0, &ms(1))),
    ("futex, limit", |a| sys!(futex, &0u32, c::FUTEX_WAIT, 0, a)),
    ("poll", |a| sys!(poll, a, 1, 0)),
    ("ppoll, limit", |a| sys!(ppoll, 0, 0, a, 0, 8)),
    ("ppoll, mask", |a| sys!(ppoll, 0, 0, &ms(0), a, 8)),
    ("select, readable", |a| sys!(select, 1, a, 0, 0, 0)),
    ("select, writable", |a| sys!(select, 1, 0, a, 0, 0)),
    ("select, except", |a| sys!(select, 1, 0, 0, a, 0)),
    ("select, limit", |a| sys!(select, 0, 0, 0, 0, a)),
    ("pselect6, limit", |a| sys!(pselect6, 0, 0, 0, 0, a, 0)),
    ("pselect6, mask", |a| sys!(pselect6, 0, 0, 0, 0, &ms(0), a)),
    ("epoll_pwait, mask", |a| sys!(epoll_pwait, sys!(epoll_create1, 0)?, memory::pages(1)?, 1, 0, a, 8)),
    ("epoll_pwait2, limit", |a| sys!(epoll_pwait2, sys!(epoll_create1, 0)?, memory::pages(1)?, 1, a, 0, 8)),
    ("epoll_pwait2, mask", |a| sys!(epoll_pwait2, sys!(epoll_create1, 0)?, memory::pages(1)?, 1, &ms(0), a, 8)),
    ("epoll_ctl", |a| sys!(epoll_ctl, sys!(epoll_create1, 0)?, c::EPOLL_CTL_ADD, pipe(0)?[0], a)),
    ("write", |a| sys!(write, pipe(0)?[1], a, 1)),
    ("writev", |a| sys!(writev, pipe(0)?[1], a, 1)),
    ("readv", |a| sys!(readv, pipe(0)?[0], a, 1)),
    ("pwrite64", |a| sys!(pwrite64, file(c"f", b"")?, a, 1, 0)),
    ("preadv", |a| sys!(preadv, file(c"f", b"x")?, a, 1, 0, 0)),
    ("pwritev", |a| sys!(pwritev, file(c"f", b"x")?, a, 1, 0, 0)),
    ("preadv2", |a| sys!(preadv2, file(c"f", b"x")?, a, 1, 0, 0, 0)),
    ("pwritev2", |a| sys!(pwritev2, file(c"f", b"x")?, a, 1, 0, 0, 0)),
    ("vmsplice", |a| sys!(vmsplice, pipe(0)?[1], a, 1, 0)),
    ("sendfile, offset", |a| sys!(sendfile, pipe(0)?[1], file(c"f", b"x")?, a, 1)),
    ("splice, offset from", |a| sys!(splice, file(c"f", b"x")?, a, pipe(0)?[1], 0, 1, 0)),
    ("splice, offset to", |a| sys!(splice, pipe(0)?[0], 0, file(c"f", b"x")?, a, 1, 0)),
    ("copy_file_range, offset from", |a| sys!(copy_file_range, file(c"f", b"x")?, a, file(c"g", b"")?, 0, 1, 0)),
    ("copy_file_range, offset to", |a| sys!(copy_file_range, file(c"f", b"x")?, 0, file(c"g", b"")?, a, 1, 0)),
    ("sendto", |a| sys!(sendto, pair()?[0], a, 1, 0, 0, 0)),
    ("sendto, address", |a| sys!(sendto, sys!(socket, c::AF_UNIX, c::SOCK_DGRAM, 0)?, b"x", 1, 0, a, 16)),
    ("sendmsg", |a| sys!(sendmsg, pair()?[0], a, 0)),
    ("recvmsg", |a| sys!(recvmsg, pair()?[0], a, c::MSG_DONTWAIT)),
    ("sendmmsg", |a| sys!(sendmmsg, pair()?[0], a, 1, 0)),
    ("recvmmsg", |a| sys!(recvmmsg, pair()?[0], a, 1, c::MSG_DONTWAIT, 0)),
    ("recvmmsg, limit", |a| sys!(recvmmsg, pair()?[0], memory::pages(1)?, 1, c::MSG_DONTWAIT, a)),
    ("connect", |a| sys!(connect, sys!(socket, c::AF_UNIX, c::SOCK_STREAM, 0)?, a, 16)),
    ("bind", |a| sys!(bind, sys!(socket, c::AF_UNIX, c::SOCK_STREAM, 0)?, a, 16)),
    ("setsockopt", |a| sys!(setsockopt, pair()?[0], c::SOL_SOCKET, c::SO_PASSCRED, a, 4)),
    ("ioctl FIONBIO", |a| sys!(ioctl, pipe(0)?[0], c::FIONBIO, a)),
    ("fcntl F_SETLK", |a| sys!(fcntl, file(c"f", b"")?, c::F_SETLK, a)),
    ("fcntl F_SETOWN_EX", |a| sys!(fcntl, pipe(0)?[0], F_SETOWN_EX, a)),
    ("symlink, text", |a| sys!(symlink, a, c"l")),
    ("symlinkat, text", |a| sys!(symlinkat, a, c::AT_FDCWD, c"l")),
    ("utime, times", |a| sys!(utime, c".", a)),
    ("utimes, times", |a| sys!(utimes, c".", a)),
    ("futimesat, times", |a| sys!(futimesat, c::AT_FDCWD, c".", a)),
    ("utimensat, times", |a| sys!(utimensat, c::AT_FDCWD, c".", a, 0)),
    ("openat2, how", |a| sys!(openat2, c::AT_FDCWD, c".", a, 24)),
    ("setxattr, name", |a| sys!(setxattr, c".", a, b"1", 1, 0)),
    ("setxattr, value", |a| sys!(setxattr, c".", c"user.a", a, 1, 0)),
    ("fsetxattr, value", |a| sys!(fsetxattr, open(c".", c::O_RDONLY, 0)?, c"user.a", a, 1, 0)),
    ("getxattr, name", |a| sys!(getxattr, c".", a, 0, 0)),
    ("removexattr, name", |a| sys!(removexattr, c".", a)),
    ("execve, arguments", |a| sys!(execve, c"/proc/self/exe", a, 0)),
    ("execve, environment", |a| sys!(execve, c"/proc/self/exe", 0, a)),
    ("execveat, arguments", |a| sys!(execveat, c::AT_FDCWD, c"/proc/self/exe", a, 0, 0)),
    ("clone3", |a| sys!(clone3, a, 88)),
    ("memfd_create", |a| sys!(memfd_create, a, 0)),
    ("prctl PR_SET_NAME", |a| sys!(prctl, c::PR_SET_NAME, a, 0, 0, 0)),
    ("mq_open", |a| sys!(mq_open, a, c::O_RDWR, 0, 0)),
    ("mq_unlink", |a| sys!(mq_unlink, a)),
    ("mq_timedsend", |a| sys!(mq_timedsend, queue()?, a, 1, 0, 0)),
    ("mq_timedsend, limit", |a| sys!(mq_timedsend, queue()?, b"x", 1, 0, a)),
    ("mq_notify", |a| sys!(mq_notify, queue()?, a)),
    ("mq_getsetattr, new", |a| sys!(mq_getsetattr, queue()?, a, 0)),
    ("futex_waitv", |a| sys!(futex_waitv, a, 1, 0, 0, 0)),
    ("process_vm_readv, local", |a| sys!(process_vm_readv, sys!(getpid)?, a, 1, &vector(b"x"), 1, 0)),
    ("process_vm_readv, remote", |a| sys!(process_vm_readv, sys!(getpid)?, &vector(b"x"), 1, a, 1, 0)),
    ("process_vm_writev, local", |a| sys!(process_vm_writev, sys!(getpid)?, a, 1, &vector(b"x"), 1, 0)),
    ("process_vm_writev, remote", |a| sys!(process_vm_writev, sys!(getpid)?, &vector(b"x"), 1, a, 1, 0)),
    ("pidfd_send_signal", |a| sys!(pidfd_send_signal, sys!(pidfd_open, sys!(getpid)?, 0)?, c::SIGUSR1, a, 0)),
];

/// Those of root alone.
const OF_ROOT: Calls = &[
    ("setgroups", |a| sys!(setgroups, 1, a)),
    ("getgroups", |a| sys!(setgroups, 1, &5u32).and_then(|_| sys!(getgroups, 1, a))),
];

const GETALL: i32 = 13;
const SETALL: i32 = 17;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;

cases! { pointer;
    fn nothing_can_be_told_there() {
        answer(TELLING, memory::closed()?);
    }
    fn what_only_reads_is_no_place_either() {
        answer(TELLING, memory::map(memory::PAGE, c::PROT_READ, memory::ANON, -1)?);
    }
    fn nothing_is_to_be_read_there() {
        answer(TOLD, memory::closed()?);
        // Nobody was told of anything.
        assert_eq!(signal::count(c::SIGUSR1), 0);
    }
    fn groups_of_root() {
        need_root()?;
        answer(OF_ROOT, memory::closed()?);
    }
    fn bytes_that_wait_stay() {
        let (bad, ends, sockets) = (memory::closed()?, pipe(0)?, pair()?);
        write(ends[1], b"x")?;
        write(sockets[1], b"y")?;
        assert_errno(sys!(read, ends[0], bad, 1), c::EFAULT);
        assert_errno(sys!(recvfrom, sockets[0], bad, 1, 0, 0, 0), c::EFAULT);
        assert_eq!((read(ends[0], 9)?, read(sockets[0], 9)?), (b"x".to_vec(), b"y".to_vec()));
        let fd = file(c"f", b"abc")?;
        assert_errno(sys!(pread64, fd, bad, 1, 0), c::EFAULT);
        let event = int(sys!(eventfd2, 1, 0)?);
        assert_errno(sys!(read, event, bad, 8), c::EFAULT);
    }
    fn a_message_that_waits() {
        let bad = memory::closed()?;
        let messages = Queue::new()?;
        messages.send(1, "x", 0)?;
        assert_errno(sys!(msgrcv, messages.0, bad, 8, 0, 0), c::EFAULT);
        let queue = queue()?;
        sys!(mq_timedsend, queue, b"x", 1, 0, 0)?;
        assert_errno(sys!(mq_timedreceive, queue, bad, 8192, 0, 0), c::EFAULT);
    }
    fn paths_that_end_with_the_memory() {
        file(c"f", b"1234")?;
        let base = memory::pages(2)?;
        let end = base + memory::PAGE;
        sys!(munmap, end, memory::PAGE)?;
        for more in [0, 2, 60, 61, 62, 63, 64, 200] {
            // Known, and without a component that is looked at in any other way.
            let path = [&b"f".repeat(1 + more)[..], b"\0"].concat();
            if more > 0 {
                sys!(link, c"f", path.as_ptr())?;
            }
            sys!(stat, path.as_ptr(), base)?;
            for at in [base, base + 7, end - 64, end - 63, end - path.len()] {
                let at = at.min(end - path.len());
                path.iter().enumerate().for_each(|(index, byte)| memory::poke(at + index, *byte));
                let mut stat: c::stat = sys::zeroed();
                let mut statx: c::statx = sys::zeroed();
                sys!(stat, at, &mut stat)?;
                sys!(statx, c::AT_FDCWD, at, 0, c::STATX_BASIC_STATS, &mut statx)?;
                assert_eq!((stat.st_size, statx.stx_size, statx.stx_ino), (4, 4, stat.st_ino), "{more} at {at:x}");
                assert_eq!((statx.stx_uid, u32::from(statx.stx_mode)), (stat.st_uid, stat.st_mode));
                assert_eq!((u64::from(statx.stx_nlink), statx.stx_mtime.tv_nsec.into()), (stat.st_nlink, stat.st_mtime_nsec));
                memory::poke(at + path.len() - 2, b'g');
                assert_errno(sys!(lstat, at, &mut stat), c::ENOENT);
            }
        }
        memory::fill(end - 80, 80, b'f');
        for at in [end - 1, end - 80] {
            assert_errno(sys!(stat, at, base), c::EFAULT);
            assert_errno(sys!(newfstatat, c::AT_FDCWD, at, base, 0), c::EFAULT);
        }
    }
    fn objects_of_system_v() {
        let (bad, segment, set, queue) = (memory::closed()?, Segment::new(4096)?, Semaphores::new(1)?, Queue::new()?);
        for (name, result) in [
            ("shmctl IPC_STAT", sys!(shmctl, segment.0, c::IPC_STAT, bad)),
            ("shmctl IPC_SET", sys!(shmctl, segment.0, c::IPC_SET, bad)),
            ("semop", sys!(semop, set.0, bad, 1)),
            ("semtimedop", sys!(semtimedop, set.0, bad, 1, 0)),
            ("semtimedop, limit", sys!(semtimedop, set.0, &[0u16, 0, 0], 1, bad)),
            ("semctl GETALL", sys!(semctl, set.0, 0, GETALL, bad)),
            ("semctl SETALL", sys!(semctl, set.0, 0, SETALL, bad)),
            ("semctl IPC_STAT", sys!(semctl, set.0, 0, c::IPC_STAT, bad)),
            ("semctl IPC_SET", sys!(semctl, set.0, 0, c::IPC_SET, bad)),
            ("msgsnd", sys!(msgsnd, queue.0, bad, 1, 0)),
            ("msgctl IPC_STAT", sys!(msgctl, queue.0, c::IPC_STAT, bad)),
            ("msgctl IPC_SET", sys!(msgctl, queue.0, c::IPC_SET, bad)),
        ] {
            assert_eq!(result, Err(Errno(c::EFAULT)), "{name}");
        }
    }
    fn an_event_that_waits() {
        let (epoll, ends) = (int(sys!(epoll_create1, 0)?), pipe(0)?);
        sys!(epoll_ctl, epoll, c::EPOLL_CTL_ADD, ends[1], &c::epoll_event { events: c::EPOLLOUT.cast_unsigned(), u64: 0 })?;
        for call in [
            sys!(epoll_wait, epoll, memory::closed()?, 1, 0),
            sys!(epoll_pwait, epoll, memory::closed()?, 1, 0, 0, 8),
            sys!(epoll_pwait2, epoll, memory::closed()?, 1, &ms(0), 0, 8),
        ] {
            assert_errno(call, c::EFAULT);
        }
    }
    fn a_connection_that_waits() {
        let (bad, server) = (memory::closed()?, unix_listener(b"s")?);
        for _ in 0..2 {
            close(unix_client(b"s")?)?;
        }
        assert_errno(sys!(accept, server, bad, &mut 16u32), c::EFAULT);
        assert_errno(sys!(accept4, server, memory::pages(1)?, bad, 0), c::EFAULT);
    }
    fn a_child_that_has_ended() {
        let bad = memory::closed()?;
        let one = child(|| sys::process::exit(3))?;
        assert_errno(sys!(waitid, c::P_PID, one.pid, bad, c::WEXITED | c::WNOWAIT, 0), c::EFAULT);
        assert_errno(sys!(waitid, c::P_PID, one.pid, 0, c::WEXITED | c::WNOWAIT, bad), c::EFAULT);
        assert_errno(sys!(wait4, one.pid, bad, 0, 0), c::EFAULT);
        let other = child(|| sys::process::exit(3))?;
        assert_errno(sys!(wait4, other.pid, 0, 0, bad), c::EFAULT);
        // They were waited for all the same.
        assert_errno(sys!(wait4, -1, 0, 0, 0), c::ECHILD);
    }
    fn an_attribute_that_is_there() {
        crate::kit::or_skip(sys!(setxattr, c".", c"user.a", b"value", 5, 0), &[c::EOPNOTSUPP], "extended attributes")?;
        let (bad, fd) = (memory::closed()?, open(c".", c::O_RDONLY, 0)?);
        assert_errno(sys!(getxattr, c".", c"user.a", bad, 64), c::EFAULT);
        assert_errno(sys!(lgetxattr, c".", c"user.a", bad, 64), c::EFAULT);
        assert_errno(sys!(fgetxattr, fd, c"user.a", bad, 64), c::EFAULT);
        assert_errno(sys!(listxattr, c".", bad, 64), c::EFAULT);
        assert_errno(sys!(llistxattr, c".", bad, 64), c::EFAULT);
        assert_errno(sys!(flistxattr, fd, bad, 64), c::EFAULT);
    }
}

/// Panics unless each call answers EFAULT; names all that do not.
#[track_caller]
fn answer(calls: Calls, address: usize) {
    let results = calls.iter().map(|(name, call)| (name, call(address)));
    let wrong = results.filter(|(_, result)| *result != Err(Errno(c::EFAULT)));
    let wrong: Vec<String> = wrong.map(|(name, result)| format!("{name}: {result:?}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
}

fn pair() -> Result<[i32; 2]> {
    socket_pair(c::SOCK_STREAM)
}

fn timer() -> Result<i32> {
    let mut id = 0i32;
    sys!(timer_create, c::CLOCK_MONOTONIC, 0, &mut id)?;
    Ok(id)
}

fn timer_fd() -> Result<i32> {
    sys!(timerfd_create, c::CLOCK_MONOTONIC, 0).map(int)
}

/// A POSIX queue without a name.
fn queue() -> Result<i32> {
    let name = crate::kit::name(&format!("conformance-pointer-{}", sys!(getpid)?));
    let fd = sys!(mq_open, name.as_c_str(), c::O_RDWR | c::O_CREAT, 0o600, 0)?;
    sys!(mq_unlink, name.as_c_str())?;
    Ok(int(fd))
}
