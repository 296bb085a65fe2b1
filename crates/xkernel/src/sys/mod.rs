//! Raw host calls that no safe wrapper offers: the only unsafe code of the host side. Invariant: processes
//! are made only while the caller has one thread, so a child may allocate.
#![expect(unsafe_code, reason = "the one place for raw host calls")]

mod resident;

pub use resident::{rest_until_child_ends, rest_until_readable, share_heap};

use rustix::io_uring::{IoringRegisterOp, io_uring_params, io_uring_register, io_uring_setup};
use std::convert::Infallible;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Which side of a fork the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The new process.
    Child,
    /// The old one, with the child's pid.
    Parent(i32),
}

fn check(ret: i64) -> io::Result<i64> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// Forks with namespaces: clone(2) with SIGCHLD and `flags`. The caller has one thread.
///
/// # Errors
/// The host's errno.
pub fn fork_with(flags: i32) -> io::Result<Side> {
    // SAFETY: no stack is given, so this is fork(2); the caller has one thread, so the child's heap is whole.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) })?;
    Ok(if pid == 0 { Side::Child } else { Side::Parent(i32::try_from(pid).unwrap_or(i32::MAX)) })
}

/// Bytes of the stack of a child that shares memory.
const SHARING_STACK: usize = 128 << 10;

/// Makes a child that runs `work` in the caller's memory, and waits until it has executed something or ended: nothing is copied for
/// what is given up at once. Returns its pid. For a process of one thread, which `fork_with` made: a child that is killed leaves the
/// heap as it stands. `work` has 128 KiB of stack without a guard, and descriptors of its own: what it drops of the caller's is closed for
/// itself alone.
///
/// # Errors
/// The host's errno.
pub(crate) fn spawn_sharing<W: FnOnce() -> Infallible>(work: W) -> io::Result<i32> {
    extern "C" fn enter<W: FnOnce() -> Infallible>(work: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the caller's, which waits meanwhile.
        let work = unsafe { &mut *work.cast::<Option<W>>() };
        work.take().map_or(125, |work| match work() {})
    }
    let mut work = Some(work);
    let mut stack: Vec<u128> = Vec::with_capacity(SHARING_STACK / size_of::<u128>());
    let end = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is nobody else's and grows down from its end; stack and work stay until the child is through with them.
    let pid = unsafe { libc::clone(enter::<W>, end.cast(), flags, (&raw mut work).cast()) };
    check(i64::from(pid)).map(|_| pid)
}

/// Leaves the host's mount, ipc, uts and network namespaces for fresh ones.
///
/// # Errors
/// The host's errno.
pub fn leave_namespaces() -> io::Result<()> {
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET;
    // SAFETY: no descriptor and no memory changes.
    check(i64::from(unsafe { libc::unshare(namespaces) })).map(|_| ())
}

/// Takes one user and group, and no supplementary groups where the host allows that.
///
/// # Errors
/// The host's errno.
pub fn set_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: plain calls of the process itself; refused without setgroups, which is then denied anyway.
    let _ = unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) };
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(|_| ())
}

/// Closes a descriptor whose end takes the host long, as that of inotify watches does (some milliseconds, a grace period for
/// each few), without waiting for it: a thread of the kernel tears a ring down, and with it what only the ring has open.
/// Where the host gives no ring it is closed as any other.
pub fn close_behind(fd: OwnedFd) {
    // SAFETY: the parameters are zero, and written by the kernel; nothing is mapped or submitted.
    let ring = unsafe { io_uring_setup(1, &mut io_uring_params::default()) };
    let files = [fd.as_raw_fd()];
    if let Ok(ring) = &ring {
        // SAFETY: an array of one descriptor, which is open. Where it is refused the close below takes its time.
        let _ = unsafe { io_uring_register(ring, IoringRegisterOp::RegisterFiles, files.as_ptr().cast(), 1) };
    }
    drop(fd);
    drop(ring);
}

/// How many bytes of a socket its other end has not read; None where the host does not say.
pub fn unsent(socket: BorrowedFd<'_>) -> Option<u32> {
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one int.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    (ret == 0).then(|| u32::try_from(count).ok()).flatten()
}

/// A handle of this process (pidfd), by which a child sees whether it has ended.
///
/// # Errors
/// The host's errno.
pub fn own_handle() -> io::Result<OwnedFd> {
    let pid = rustix::process::getpid();
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Dies when the parent dies, of which `parent` is a handle; at once where it has died before.
pub fn die_with_parent(parent: BorrowedFd<'_>) {
    // SAFETY: a setting of the process itself.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let mut ended = libc::pollfd { fd: parent.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    if unsafe { libc::poll(&raw mut ended, 1, 0) } != 0 {
        exit_now(125);
    }
}

/// Whatever is open from `first` on will be closed by the next exec.
///
/// # Errors
/// The host's errno.
pub fn close_at_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: only flags of descriptors change.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(|_| ())
}

/// Keeps nothing open but these descriptors, none of which is a standard stream, as 0 and the numbers after it. For a
/// child that neither executes anything nor returns.
///
/// # Errors
/// The host's errno.
pub fn keep_only<const N: usize>(kept: [BorrowedFd<'_>; N]) -> io::Result<[BorrowedFd<'static>; N]> {
    for (number, fd) in (0..).zip(kept) {
        place(fd, number)?;
    }
    // SAFETY: the child uses no other descriptor.
    check(unsafe { libc::syscall(libc::SYS_close_range, N, u32::MAX, 0) })?;
    let mut numbers = 0..;
    // SAFETY: just placed, and never closed.
    Ok(kept.map(|_| unsafe { BorrowedFd::borrow_raw(numbers.next().unwrap_or(0)) }))
}

/// Closes one descriptor number, open or not.
pub fn close_one(fd: RawFd) {
    // SAFETY: the caller lays out a fresh child's descriptors and owns all of them.
    unsafe { libc::close(fd) };
}

/// Closes all descriptors of a range, open or not.
pub fn close_all(range: Range<RawFd>) {
    // SAFETY: as above. The range is not empty and the kernel knows the call, so it does not fail.
    unsafe { libc::syscall(libc::SYS_close_range, range.start, range.end - 1, 0) };
}

/// Duplicates a descriptor to an exact number, without close-on-exec.
///
/// # Errors
/// The host's errno.
pub fn place(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: the numbers are those that a fresh child lays out for itself.
    check(i64::from(unsafe { libc::dup2(fd.as_raw_fd(), number) })).map(|_| ())
}

/// A duplicate at or above a number, out of the way of [`place`].
///
/// # Errors
/// The host's errno.
pub fn duplicate_above(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC gives a new descriptor.
    let new = check(i64::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) }))?;
    let new = RawFd::try_from(new).unwrap_or(-1);
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(new) })
}

/// Executes an open file with no arguments and an empty environment. Returns only on failure.
pub fn exec_file(fd: BorrowedFd<'_>) -> io::Error {
    let arguments = [c"".as_ptr(), std::ptr::null()];
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: NULL-terminated arrays of C strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Ends the process without running anything more.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(status) }
}

/// Reaps a child that has ended: its pid and wait status. None where none has and `nonblocking` is asked for.
///
/// # Errors
/// ECHILD where there are no children, EINTR and the like.
pub fn reap_any(nonblocking: bool) -> io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    let options = libc::__WALL | if nonblocking { libc::WNOHANG } else { 0 };
    // SAFETY: writes one int.
    let pid = check(i64::from(unsafe { libc::waitpid(-1, &raw mut status, options) }))?;
    let pid = i32::try_from(pid).unwrap_or(0);
    Ok((pid != 0).then_some((pid, status)))
}

/// Reaps a child; returns its wait status.
///
/// # Errors
/// The host's errno.
pub fn reap(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: writes one int.
        match check(i64::from(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) })) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(|_| status),
        }
    }
}

/// Sends a signal to a process.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory is touched.
    unsafe { libc::kill(pid, signal) };
}

/// Whether a process of that number exists.
#[must_use]
pub fn exists(pid: i32) -> bool {
    // SAFETY: signal 0 is sent to nobody.
    let sent = check(i64::from(unsafe { libc::kill(pid, 0) }));
    !sent.is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
}

/// The process that connected a UNIX socket or listens on it: None where it has no number here.
#[must_use]
pub fn peer_pid(socket: BorrowedFd<'_>) -> Option<i32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    let (fd, at) = (socket.as_raw_fd(), (&raw mut peer).cast());
    // SAFETY: writes one ucred, whose length is given.
    let got = check(i64::from(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, at, &raw mut len) }));
    got.ok().map(|_| peer.pid).filter(|&pid| pid > 0)
}

/// Has a signal do what it does where nobody says otherwise.
pub fn reset(signal: i32) {
    // SAFETY: SIG_DFL is no handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Ignores a signal.
pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN is no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Flags of an open descriptor, None where it is closed.
#[must_use]
pub fn descriptor_flags(fd: RawFd) -> Option<i32> {
    // SAFETY: F_GETFL touches no memory.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    (flags >= 0).then_some(flags)
}

/// Which of the descriptors 0, 1 and 2 were closed when the program started, a bit each.
static CLOSED_AT_START: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Runs before `main`: the Rust runtime opens /dev/null in place of closed standard streams, and the guest
/// must see what the caller gave.
extern "C" fn note_closed_streams() {
    for fd in 0..3 {
        if descriptor_flags(fd).is_none() {
            CLOSED_AT_START.fetch_or(1 << fd, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

// SAFETY: an entry of .init_array is a function without arguments; this one uses no runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_CLOSED_STREAMS: extern "C" fn() = note_closed_streams;

/// One of the caller's standard streams; None where the caller gave it closed.
#[must_use]
pub fn standard_stream(fd: RawFd) -> Option<BorrowedFd<'static>> {
    if CLOSED_AT_START.load(std::sync::atomic::Ordering::Relaxed) >> fd & 1 == 1 {
        return None;
    }
    // SAFETY: checked to be open, and standard streams are never closed by us.
    descriptor_flags(fd).map(|_| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Blocks signals in this and later threads.
fn block(signals: &[i32]) -> io::Result<libc::sigset_t> {
    // SAFETY: an all-zero sigset_t is valid to initialise.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: initialises the set.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: the set is initialised.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: reads the set.
    let ret = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if ret == 0 { Ok(set) } else { Err(io::Error::from_raw_os_error(ret)) }
}

/// Blocks signals in this and later threads; [`next_signal`] takes them from a descriptor, which can be read while there are some.
///
/// # Errors
/// The host's errno.
pub fn signals_to_read(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = block(signals)?;
    // SAFETY: reads the set, and gives a new descriptor.
    let fd = check(i64::from(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) }))?;
    let fd = RawFd::try_from(fd).unwrap_or(-1);
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })
}

/// A signal that has come, once.
#[must_use]
pub fn next_signal(signals: &OwnedFd) -> Option<i32> {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    let len = rustix::io::read(signals, &mut info).ok()?;
    // The number comes first: signalfd(2).
    let number = info.first_chunk().filter(|_| len == info.len())?;
    i32::try_from(u32::from_ne_bytes(*number)).ok()
}

/// A handle of a child that was not reaped, which can be read once it has ended.
///
/// # Errors
/// The host's errno.
pub fn handle_of(child: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(child).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Whether the child has ended, which is then still to be reaped.
#[must_use]
pub fn has_ended(child: &OwnedFd) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // Whom nobody knows is no child any more.
    !matches!(waitid(WaitId::PidFd(child.as_fd()), look), Ok(None) | Err(rustix::io::Errno::INTR))
}

/// From now on the signal interrupts what the process waits for, and does nothing else.
///
/// # Errors
/// The host's errno.
pub fn interrupt_on(signal: i32) -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: an all-zero sigaction is valid: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing, at any time.
    check(i64::from(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{close_behind, handle_of, has_ended, next_signal, signals_to_read};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    #[test]
    fn each_signal_that_came_is_read_once() {
        // A thread of its own: its mask is nobody else's.
        let thread = std::thread::spawn(|| {
            let signals = signals_to_read(&[libc::SIGWINCH, libc::SIGURG]).expect("a descriptor");
            assert_eq!(next_signal(&signals), None);
            for signal in [libc::SIGURG, libc::SIGWINCH, libc::SIGURG] {
                // SAFETY: a blocked signal to the calling thread.
                unsafe { libc::raise(signal) };
            }
            let mut read = [next_signal(&signals), next_signal(&signals)];
            read.sort_unstable();
            assert_eq!((read, next_signal(&signals)), ([Some(libc::SIGURG), Some(libc::SIGWINCH)], None));
        });
        thread.join().expect("the thread ends well");
    }

    #[test]
    fn who_shares_memory_is_waited_for() {
        let mut left = 0;
        let pid = super::spawn_sharing(|| {
            left = 7;
            super::exit_now(left)
        });
        assert_eq!(super::reap(pid.expect("a child")).ok(), Some(7 << 8));
        assert_eq!(left, 7);
    }

    #[test]
    fn a_child_has_ended_until_it_is_reaped_and_behind() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).process_group(0).spawn().expect("cat");
        let pid = i32::try_from(child.id()).expect("a pid");
        let handle = handle_of(pid).expect("a handle");
        assert!(!has_ended(&handle));
        drop(child.stdin.take());
        let mut waits = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut waits, None), Ok(1));
        assert!(has_ended(&handle));
        assert!(child.wait().is_ok());
        assert!(has_ended(&handle));
    }

    #[test]
    fn what_is_closed_behind_is_closed_in_a_moment() {
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        close_behind(writer);
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));
    }
}
