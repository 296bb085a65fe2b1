//! Processes by descriptors: pidfd_open, pidfd_send_signal, pidfd_getfd, CLONE_PIDFD, P_PIDFD.

use crate::kit::{Child, as_nobody, assert_errno, assert_interrupted, cases, child, close, file, int, need_root, open, pid, pipe, read, restarted, text, tid, write};
use crate::sys::{self, Errno, Result, memory, process, signal, sys};
use core::ffi::c_void;
use core::sync::atomic::Ordering::SeqCst;
use libc as c;

cases! { pidfd;
    fn open_flags_and_errors() {
        let fd = open_pidfd(pid()?, 0)?;
        assert_eq!(sys!(fcntl, fd, c::F_GETFD)?, 1);
        assert_eq!(int(sys!(fcntl, fd, c::F_GETFL)?) & (c::O_ACCMODE | c::O_NONBLOCK), c::O_RDWR);
        let fd = open_pidfd(pid()?, c::O_NONBLOCK)?;
        assert_eq!(int(sys!(fcntl, fd, c::F_GETFL)?) & c::O_NONBLOCK, c::O_NONBLOCK);
        assert_errno(open_pidfd(pid()?, 1 << 20), c::EINVAL);
        assert_errno(open_pidfd(0, 0), c::EINVAL);
        assert_errno(open_pidfd(-1, 0), c::EINVAL);
        assert_errno(open_pidfd(4_194_303, 0), c::ESRCH);
        sys!(prlimit64, 0, c::RLIMIT_NOFILE, &[3u64, 256], 0)?;
        assert_errno(open_pidfd(pid()?, 0), c::EMFILE);
    }
    fn a_thread_is_no_process() {
        let other = std::thread::spawn(|| open_pidfd(tid()?, 0)).join();
        // What a later kernel says first, and what ours does.
        assert!(matches!(other, Ok(Err(Errno(c::ENOENT | c::EINVAL)))), "{other:?}");
    }
    fn it_is_read_and_written_by_no_call() {
        let fd = open_pidfd(pid()?, 0)?;
        assert_errno(read(fd, 8), c::EINVAL);
        assert_errno(write(fd, b"x"), c::EINVAL);
        let shown = text(&crate::kit::name(&format!("/proc/self/fdinfo/{fd}")))?;
        assert!(shown.contains(&format!("\nPid:\t{}\n", pid()?)), "{shown}");
    }
    fn it_is_readable_once_the_process_has_ended() {
        let gone = sleeper()?;
        let (fd, epoll) = (open_pidfd(gone.pid, 0)?, int(sys!(epoll_create1, 0)?));
        let mut event = c::epoll_event { events: c::EPOLLIN.cast_unsigned(), u64: 7 };
        sys!(epoll_ctl, epoll, c::EPOLL_CTL_ADD, fd, &mut event)?;
        assert_eq!((ready(fd, 0)?, sys!(epoll_wait, epoll, &mut event, 1, 0)?), (0, 0));
        gone.kill(c::SIGKILL)?;
        assert_eq!(sys!(epoll_wait, epoll, &mut event, 1, -1)?, 1);
        assert_eq!(ready(fd, -1)? & c::POLLIN, c::POLLIN);
        gone.dies_of(c::SIGKILL)?;
        assert_eq!(ready(fd, -1)? & c::POLLIN, c::POLLIN);
        assert_errno(sys!(pidfd_send_signal, fd, 0, 0, 0), c::ESRCH);
        let shown = text(&crate::kit::name(&format!("/proc/self/fdinfo/{fd}")))?;
        assert!(shown.contains("\nPid:\t-1\n"), "{shown}");
    }
    fn poll_is_interrupted() {
        let sleeper = sleeper()?;
        let fd = open_pidfd(sleeper.pid, 0)?;
        assert_interrupted(|| ready(fd, -1))?;
        sleeper.end()?;
    }
    fn waitid_by_a_pidfd() {
        let one = child(|| process::exit(3))?;
        let other = child(|| process::exit(4))?;
        let fd = open_pidfd(other.pid, 0)?;
        assert_eq!(wait_for(fd, c::WEXITED)?, (c::CLD_EXITED, other.pid, 4));
        assert_errno(wait_for(fd, c::WEXITED), c::ECHILD);
        one.exits(3)?;
    }
    fn waitid_by_a_pidfd_errors() {
        assert_errno(wait_for(open_pidfd(pid()?, 0)?, c::WEXITED), c::ECHILD);
        assert_errno(wait_for(pipe(0)?[0], c::WEXITED), c::EBADF);
        assert_errno(wait_for(899, c::WEXITED), c::EBADF);
        assert_errno(wait_for(-1, c::WEXITED), c::EINVAL);
        let sleeper = sleeper()?;
        let fd = open_pidfd(sleeper.pid, c::O_NONBLOCK)?;
        assert_errno(wait_for(fd, c::WEXITED), c::EAGAIN);
        assert_eq!(wait_for(fd, c::WEXITED | c::WNOHANG)?, (0, 0, 0));
        sleeper.kill(c::SIGKILL)?;
        assert_eq!(ready(fd, -1)? & c::POLLIN, c::POLLIN);
        assert_eq!(wait_for(fd, c::WEXITED)?, (c::CLD_KILLED, sleeper.pid, c::SIGKILL));
    }
    fn who_is_told_of_an_end_can_wait_for_it() {
        for _ in 0..500 {
            let child = child(|| process::exit(3))?;
            let fd = open_pidfd(child.pid, 0)?;
            assert_eq!(ready(fd, -1)? & c::POLLIN, c::POLLIN);
            assert_eq!(wait_for(fd, c::WEXITED | c::WNOHANG)?, (c::CLD_EXITED, child.pid, 3));
            close(fd)?;
        }
    }
    fn waitid_by_a_pidfd_is_interrupted_and_restarted() {
        let sleeper = sleeper()?;
        let fd = open_pidfd(sleeper.pid, 0)?;
        assert_interrupted(|| wait_for(fd, c::WEXITED))?;
        let found = restarted(|| wait_for(fd, c::WEXITED), || { let _ = sleeper.kill(c::SIGKILL); })??;
        assert_eq!(found, (c::CLD_KILLED, sleeper.pid, c::SIGKILL));
    }
    fn a_signal_with_information() {
        signal::record(c::SIGUSR1, 0)?;
        let fd = open_pidfd(pid()?, 0)?;
        sys!(pidfd_send_signal, fd, c::SIGUSR1, 0, 0)?;
        assert_eq!(signal::LAST.code.load(SeqCst), c::SI_USER);
        let info = queued(c::SIGUSR1, c::SI_QUEUE);
        sys!(pidfd_send_signal, fd, c::SIGUSR1, &info, 0)?;
        assert_eq!((signal::count(c::SIGUSR1), signal::LAST.code.load(SeqCst)), (2, c::SI_QUEUE));
        // To itself a process may send anything.
        sys!(pidfd_send_signal, fd, c::SIGUSR1, &queued(c::SIGUSR1, 5), 0)?;
        assert_eq!(signal::count(c::SIGUSR1), 3);
    }
    fn a_signal_by_a_directory_of_proc() {
        let victim = sleeper()?;
        let dir = open(&crate::kit::name(&format!("/proc/{}", victim.pid)), c::O_DIRECTORY, 0)?;
        sys!(pidfd_send_signal, dir, c::SIGTERM, 0, 0)?;
        victim.dies_of(c::SIGTERM)?;
        assert_errno(sys!(pidfd_send_signal, dir, 0, 0, 0), c::ESRCH);
        let task = open(c"/proc/self/fd", c::O_DIRECTORY, 0)?;
        assert_errno(sys!(pidfd_send_signal, task, 0, 0, 0), c::EBADF);
    }
    fn signal_errors() {
        let victim = sleeper()?;
        let fd = open_pidfd(victim.pid, 0)?;
        sys!(pidfd_send_signal, fd, 0, 0, 0)?;
        assert_errno(sys!(pidfd_send_signal, fd, c::SIGTERM, 0, 1 << 20), c::EINVAL);
        assert_errno(sys!(pidfd_send_signal, fd, 99, 0, 0), c::EINVAL);
        assert_errno(sys!(pidfd_send_signal, fd, -1, 0, 0), c::EINVAL);
        assert_errno(sys!(pidfd_send_signal, 899, c::SIGTERM, 0, 0), c::EBADF);
        assert_errno(sys!(pidfd_send_signal, pipe(0)?[0], c::SIGTERM, 0, 0), c::EBADF);
        assert_errno(sys!(pidfd_send_signal, fd, c::SIGTERM, memory::hole()?, 0), c::EFAULT);
        assert_errno(sys!(pidfd_send_signal, fd, c::SIGTERM, &queued(c::SIGUSR1, c::SI_QUEUE), 0), c::EINVAL);
        assert_errno(sys!(pidfd_send_signal, fd, c::SIGTERM, &queued(c::SIGTERM, c::SI_USER), 0), c::EPERM);
        victim.end()?;
    }
    fn a_signal_of_another_user_is_refused() {
        need_root()?;
        let fd = open_pidfd(pid()?, 0)?;
        as_nobody(|| {
            assert_errno(sys!(pidfd_send_signal, fd, c::SIGTERM, 0, 0), c::EPERM);
            assert_errno(sys!(pidfd_getfd, fd, 0, 0), c::EPERM);
            Ok(())
        })?;
    }
    fn a_descriptor_of_another_process() {
        let (ready, go) = (pipe(0)?, pipe(0)?);
        let owner = child(|| {
            let fd = file(c"f", b"text")?;
            write(ready[1], &fd.to_ne_bytes())?;
            read(go[0], 1)?;
            // The offset is one.
            assert_eq!(sys!(lseek, fd, 0, c::SEEK_CUR)?, 2);
            Ok(())
        })?;
        let number: i32 = sys::read_plain(&read(ready[0], 4)?);
        let pidfd = open_pidfd(owner.pid, 0)?;
        assert_errno(sys!(pidfd_getfd, pidfd, number, 1), c::EINVAL);
        assert_errno(sys!(pidfd_getfd, pidfd, 899, 0), c::EBADF);
        assert_errno(sys!(pidfd_getfd, go[0], 0, 0), c::EBADF);
        assert_errno(sys!(pidfd_getfd, 899, 0, 0), c::EBADF);
        let copy = int(sys!(pidfd_getfd, pidfd, number, 0)?);
        assert_eq!(sys!(fcntl, copy, c::F_GETFD)?, 1);
        assert_eq!(read(copy, 2)?, b"te");
        write(go[1], b"g")?;
        owner.succeeds()?;
        assert_errno(sys!(pidfd_getfd, pidfd, number, 0), c::ESRCH);
    }
    fn a_descriptor_of_a_zombie_or_without_room() {
        let fd = open_pidfd(pid()?, 0)?;
        close(int(sys!(pidfd_getfd, fd, fd, 0)?))?;
        let gone = child(|| Ok(()))?;
        let zombie = open_pidfd(gone.pid, 0)?;
        assert_eq!(ready(zombie, -1)? & c::POLLIN, c::POLLIN);
        assert_errno(sys!(pidfd_getfd, zombie, 0, 0), c::ESRCH);
        gone.succeeds()?;
        sys!(prlimit64, 0, c::RLIMIT_NOFILE, &[3u64, 256], 0)?;
        assert_errno(sys!(pidfd_getfd, fd, fd, 0), c::EMFILE);
    }
    fn clone_gives_a_pidfd() {
        let mut fd = -1i32;
        let places = process::Places { parent_tid: (&raw mut fd).expose_provenance(), ..Default::default() };
        let pid = process::clone(c::CLONE_PIDFD | c::SIGCHLD, exits, 5, places)?;
        assert_eq!(sys!(fcntl, fd, c::F_GETFD)?, 1);
        assert_eq!(wait_for(fd, c::WEXITED)?, (c::CLD_EXITED, pid, 5));
    }
    fn clone3_gives_a_pidfd() {
        let (mut fd, mut parent) = (-1i32, 0i32);
        let mut args: c::clone_args = sys::zeroed();
        (args.flags, args.exit_signal) = ((c::CLONE_PIDFD | c::CLONE_PARENT_SETTID) as u64, 17);
        (args.pidfd, args.parent_tid) = ((&raw mut fd).expose_provenance() as u64, (&raw mut parent).expose_provenance() as u64);
        let pid = int(sys!(clone3, &args, 88)?);
        if pid == 0 {
            process::exit(6);
        }
        assert_eq!(parent, pid);
        assert_eq!(wait_for(fd, c::WEXITED)?, (c::CLD_EXITED, pid, 6));
    }
    fn clone_pidfd_errors() {
        let places = |parent_tid| process::Places { parent_tid, ..Default::default() };
        let mut word = -1i32;
        let here = (&raw mut word).expose_provenance();
        let flags = c::CLONE_PIDFD | c::SIGCHLD;
        assert_errno(process::clone(flags | c::CLONE_PARENT_SETTID, exits, 0, places(here)), c::EINVAL);
        assert_errno(process::clone(flags | c::CLONE_DETACHED, exits, 0, places(here)), c::EINVAL);
        let first = int(sys!(dup, 0)?);
        close(first)?;
        assert_errno(process::clone(flags, exits, 0, places(memory::closed()?)), c::EFAULT);
        // Neither the descriptor nor the child is left.
        assert_eq!(int(sys!(dup, 0)?), first);
        assert_errno(crate::kit::wait(-1, 0), c::ECHILD);
        sys!(prlimit64, 0, c::RLIMIT_NOFILE, &[3u64, 256], 0)?;
        assert_errno(process::clone(flags, exits, 0, places(here)), c::EMFILE);
        assert_errno(crate::kit::wait(-1, 0), c::ECHILD);
    }
}

extern "C" fn exits(argument: *mut c_void) -> i32 {
    i32::try_from(argument.addr()).unwrap_or(-1)
}

fn open_pidfd(pid: i32, flags: i32) -> Result<i32> {
    sys!(pidfd_open, pid, flags).map(int)
}

fn sleeper() -> Result<Child> {
    child(|| loop { sys!(pause).ok(); })
}

/// What poll(2) finds within so many milliseconds.
fn ready(fd: i32, timeout: i32) -> Result<i16> {
    let mut poll = c::pollfd { fd, events: c::POLLIN, revents: 0 };
    sys!(poll, &mut poll, 1, timeout)?;
    Ok(poll.revents)
}

/// waitid(2) by a pidfd: code, pid and status.
fn wait_for(fd: i32, options: i32) -> Result<(i32, i32, i32)> {
    let mut info: c::siginfo_t = sys::zeroed();
    sys!(waitid, c::P_PIDFD, fd, &mut info, options, 0)?;
    let (_, code, pid, _, status) = signal::child_fields(&info);
    Ok((code, pid, status))
}

/// A siginfo that says so much.
fn queued(number: i32, code: i32) -> c::siginfo_t {
    let mut info: c::siginfo_t = sys::zeroed();
    (info.si_signo, info.si_code) = (number, code);
    info
}
