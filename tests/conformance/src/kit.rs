//! What cases are written with: outcomes, files, children, interruptions.

use crate::report;
use crate::sys::{self, Errno, Result, memory, signal, sys};
use core::ffi::CStr;
use core::fmt::Debug;
use core::panic::Location;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::ffi::CString;
use std::time::Duration;

/// The outcome of a case.
pub(crate) type Case = core::result::Result<(), Fail>;

/// Why a case did not pass.
#[derive(Debug)]
pub(crate) enum Fail {
    /// It cannot run here.
    Skip(String),
    /// It does not hold here.
    Broken(String),
}

impl From<Errno> for Fail {
    #[track_caller]
    fn from(errno: Errno) -> Self {
        let place = Location::caller();
        Self::Broken(format!("{}:{}: {errno:?}", place.file(), place.line()))
    }
}

/// Declares the cases of a family: `cases! { pipe; fn name() { … } }`.
macro_rules! cases {
    ($family:ident; $($(#[$meta:meta])* fn $name:ident() $body:block)*) => {
        $(
            $(#[$meta])*
            fn $name() -> $crate::kit::Case {
                $body
                Ok(())
            }
        )*
        /// The cases of this family.
        pub(crate) const CASES: &[$crate::family::CaseRow] = &[$($crate::family::CaseRow {
            family: stringify!($family),
            name: stringify!($name),
            run: $name,
        }),*];
    };
}
pub(crate) use cases;

/// Panics unless a call failed with this errno.
#[track_caller]
pub(crate) fn assert_errno<T: Debug>(result: Result<T>, errno: i32) {
    match result {
        Err(Errno(got)) if got == errno => {}
        other => panic!("{:?} expected, got {other:?}", Errno(errno)),
    }
}

/// The case ends here, skipped.
pub(crate) fn skip(reason: &str) -> Case {
    Err(Fail::Skip(reason.to_owned()))
}

/// Skips the case unless root runs it.
pub(crate) fn need_root() -> Case {
    match sys!(geteuid) {
        Ok(0) => Ok(()),
        _ => skip("needs root"),
    }
}

/// Skips the case where a call is not offered: the file system or the kernel's build lacks it.
pub(crate) fn or_skip<T>(result: Result<T>, absent: &[i32], what: &str) -> core::result::Result<T, Fail> {
    result.map_err(|errno| match absent.contains(&errno.0) {
        true => Fail::Skip(format!("{what}: {errno:?}")),
        false => Fail::Broken(format!("{what}: {errno:?}")),
    })
}

/// An int out of a call's result.
#[track_caller]
pub(crate) fn int(value: i64) -> i32 {
    match i32::try_from(value) {
        Ok(value) => value,
        Err(_) => panic!("{value} is no int"),
    }
}

/// A length out of a call's result.
#[track_caller]
pub(crate) fn size(value: i64) -> usize {
    match usize::try_from(value) {
        Ok(value) => value,
        Err(_) => panic!("{value} is no length"),
    }
}

/// A path for a call: pass `name(…).as_c_str()` to `sys!`, a `&CString` points elsewhere.
pub(crate) fn name(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// open(2).
pub(crate) fn open(path: &CStr, flags: i32, mode: u32) -> Result<i32> {
    sys!(open, path, flags, mode).map(int)
}

/// A new file with this content, open for reading and writing at its start.
pub(crate) fn file(path: &CStr, content: &[u8]) -> Result<i32> {
    let fd = open(path, libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, 0o644)?;
    write(fd, content)?;
    sys!(lseek, fd, 0, libc::SEEK_SET)?;
    Ok(fd)
}

/// write(2), all of it in one call.
#[track_caller]
pub(crate) fn write(fd: i32, bytes: &[u8]) -> Result<()> {
    let count = size(sys!(write, fd, bytes, bytes.len())?);
    assert_eq!(count, bytes.len(), "a short write");
    Ok(())
}

/// One read(2) of at most `limit` bytes.
pub(crate) fn read(fd: i32, limit: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; limit];
    let count = size(sys!(read, fd, &mut buffer[..], limit)?);
    buffer.truncate(count);
    Ok(buffer)
}

/// All bytes up to the end of the file.
pub(crate) fn read_all(fd: i32) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let part = read(fd, 65536)?;
        if part.is_empty() {
            return Ok(all);
        }
        all.extend(part);
    }
}

/// The text of a file.
pub(crate) fn text(path: &CStr) -> Result<String> {
    let fd = open(path, libc::O_RDONLY, 0)?;
    let all = read_all(fd)?;
    sys!(close, fd)?;
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// close(2).
pub(crate) fn close(fd: i32) -> Result<()> {
    sys!(close, fd).map(drop)
}

/// stat(2).
pub(crate) fn stat(path: &CStr) -> Result<libc::stat> {
    let mut st: libc::stat = sys::zeroed();
    sys!(stat, path, &mut st)?;
    Ok(st)
}

/// fstat(2).
pub(crate) fn fstat(fd: i32) -> Result<libc::stat> {
    let mut st: libc::stat = sys::zeroed();
    sys!(fstat, fd, &mut st)?;
    Ok(st)
}

/// pipe2(2): the reading end and the writing end.
pub(crate) fn pipe(flags: i32) -> Result<[i32; 2]> {
    let mut ends = [0; 2];
    sys!(pipe2, &mut ends, flags)?;
    Ok(ends)
}

/// socketpair(2) of AF_UNIX.
pub(crate) fn socket_pair(kind: i32) -> Result<[i32; 2]> {
    let mut ends = [0; 2];
    sys!(socketpair, libc::AF_UNIX, kind, 0, &mut ends)?;
    Ok(ends)
}

/// A time of so many milliseconds.
pub(crate) fn ms(count: i64) -> libc::timespec {
    libc::timespec { tv_sec: count / 1000, tv_nsec: count % 1000 * 1_000_000 }
}

/// A clock's time in nanoseconds.
pub(crate) fn now(clock: i32) -> Result<i64> {
    let mut time = ms(0);
    sys!(clock_gettime, clock, &mut time)?;
    Ok(time.tv_sec * 1_000_000_000 + time.tv_nsec)
}

/// This process's id.
pub(crate) fn pid() -> Result<i32> {
    sys!(getpid).map(int)
}

/// This thread's id.
pub(crate) fn tid() -> Result<i32> {
    sys!(gettid).map(int)
}

/// A child process of a case.
#[must_use = "a child has to be waited for"]
pub(crate) struct Child {
    pub(crate) pid: i32,
}

/// Forks a child that runs `body`; its failure is the case's failure.
pub(crate) fn child(body: impl FnOnce() -> Case) -> Result<Child> {
    match sys::process::fork()? {
        0 => report::finish(body()),
        pid => Ok(Child { pid }),
    }
}

/// Forks a child that gives up root for a user without rights, then runs `body`, and waits for it.
pub(crate) fn as_nobody(body: impl FnOnce() -> Case) -> Case {
    need_root()?;
    let child = child(|| {
        sys!(setgroups, 0, 0)?;
        sys!(setresgid, 65534, 65534, 65534)?;
        sys!(setresuid, 65534, 65534, 65534)?;
        body()
    })?;
    child.succeeds()
}

impl Child {
    /// The wait status.
    pub(crate) fn wait(&self) -> Result<i32> {
        wait(self.pid, 0)
    }

    /// Waits for the child and passes its verdict on.
    #[track_caller]
    pub(crate) fn succeeds(&self) -> Case {
        match self.wait()? {
            0 => Ok(()),
            status if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == report::SKIPPED => skip("see the child"),
            status => panic!("the child ended with wait status {status:#x}"),
        }
    }

    /// Waits for the child, which a signal must have ended.
    #[track_caller]
    pub(crate) fn dies_of(&self, signal: i32) -> Case {
        let status = self.wait()?;
        assert!(libc::WIFSIGNALED(status), "wait status {status:#x} for signal {signal}");
        assert_eq!(libc::WTERMSIG(status), signal);
        Ok(())
    }

    /// Waits for the child, which must exit with this status.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> Case {
        let status = self.wait()?;
        assert!(libc::WIFEXITED(status), "wait status {status:#x}, exit {code} expected");
        assert_eq!(libc::WEXITSTATUS(status), code);
        Ok(())
    }

    /// Whether it sleeps, by /proc.
    pub(crate) fn sleeps(&self) -> bool {
        let stat = text(&name(&format!("/proc/{}/stat", self.pid))).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
    }

    /// kill(2).
    pub(crate) fn kill(&self, signal: i32) -> Result<()> {
        sys!(kill, self.pid, signal).map(drop)
    }

    /// Kills and reaps the child.
    pub(crate) fn end(&self) -> Case {
        self.kill(libc::SIGKILL)?;
        self.wait()?;
        Ok(())
    }
}

/// wait4(2): the status.
pub(crate) fn wait(pid: i32, options: i32) -> Result<i32> {
    let mut status = 0;
    sys!(wait4, pid, &mut status, options, 0)?;
    Ok(status)
}

/// A pipe on which one process lets others go.
pub(crate) struct Gate([i32; 2]);

impl Gate {
    /// A closed gate.
    pub(crate) fn new() -> Result<Self> {
        pipe(libc::O_CLOEXEC).map(Self)
    }

    /// Lets one waiter go.
    pub(crate) fn open(&self) -> Result<()> {
        write(self.0[1], b"g")
    }

    /// Waits to be let go.
    pub(crate) fn pass(&self) -> Result<()> {
        read(self.0[0], 1).map(drop)
    }
}

/// Waits, giving the processor away, until other threads or the kernel have made something true.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        // sched_yield cannot fail.
        let _ = sys!(sched_yield);
    }
}

/// Between two signals, so that the interrupted thread gets on.
const PACE: Duration = Duration::from_millis(1);

/// Runs `f`, which sleeps, while another thread sends its thread SIGUSR1 again and again.
///
/// With a handler without SA_RESTART one of the signals comes during the sleep, however long it
/// takes to get there; nothing has to know when that is.
pub(crate) fn pestered<T>(flags: i32, f: impl FnOnce() -> T) -> core::result::Result<T, Fail> {
    signal::record(libc::SIGUSR1, flags)?;
    let (pid, tid, done) = (pid()?, tid()?, AtomicBool::new(false));
    Ok(std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let _ = sys!(tgkill, pid, tid, libc::SIGUSR1);
                std::thread::sleep(PACE);
            }
        });
        let result = f();
        done.store(true, SeqCst);
        result
    }))
}

/// Panics unless `f`, which sleeps, ends with EINTR when a handler without SA_RESTART has run.
#[track_caller]
pub(crate) fn assert_interrupted<T: Debug>(f: impl FnOnce() -> Result<T>) -> Case {
    assert_errno(pestered(0, f)?, libc::EINTR);
    Ok(())
}

/// Panics unless `f`, which sleeps, ends with EINTR although the handler has SA_RESTART.
#[track_caller]
pub(crate) fn assert_never_restarted<T: Debug>(f: impl FnOnce() -> Result<T>) -> Case {
    assert_errno(pestered(libc::SA_RESTART, f)?, libc::EINTR);
    Ok(())
}

/// Runs `f`, which sleeps, through ten signals with SA_RESTART; then `finish`, which lets it end.
pub(crate) fn restarted<T>(f: impl FnOnce() -> T, finish: impl FnOnce() + Send) -> core::result::Result<T, Fail> {
    signal::record(libc::SIGUSR1, libc::SA_RESTART)?;
    let (pid, tid, begun) = (pid()?, tid()?, AtomicBool::new(false));
    Ok(std::thread::scope(|scope| {
        scope.spawn(|| {
            until(|| begun.load(SeqCst));
            for sent in 1..=10 {
                std::thread::sleep(PACE);
                let _ = sys!(tgkill, pid, tid, libc::SIGUSR1);
                until(|| signal::count(libc::SIGUSR1) >= sent);
            }
            finish();
        });
        begun.store(true, SeqCst);
        f()
    }))
}

/// Words that children of this case share with it.
pub(crate) fn shared() -> Result<&'static [AtomicU32; 1024]> {
    memory::shared()
}

/// An I/O vector that is only read.
pub(crate) fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// An I/O vector for the kernel to fill.
pub(crate) fn vector_mut(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

/// This program, for the cases that execute one.
pub(crate) const SELF: &CStr = c"/proc/self/exe";

/// A null-terminated array of strings, as execve takes it.
pub(crate) struct Strings {
    /// What to pass: `&strings.pointers[..]`.
    pub(crate) pointers: Vec<*const i8>,
    _owned: Vec<CString>,
}

impl Strings {
    fn new(texts: &[&str]) -> Self {
        let owned: Vec<CString> = texts.iter().map(|t| name(t)).collect();
        let pointers = owned.iter().map(|s| s.as_ptr()).chain([core::ptr::null()]).collect();
        Self { pointers, _owned: owned }
    }
}

/// The arguments that make this program a helper.
pub(crate) fn helper_args(args: &[&str]) -> Strings {
    Strings::new(&[&["conformance", "--helper"], args].concat())
}

/// An environment.
pub(crate) fn helper_env(variables: &[&str]) -> Strings {
    Strings::new(variables)
}
