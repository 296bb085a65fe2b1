//! Runs each case in a process and a directory of its own, and counts.

use crate::family::CaseRow;
use crate::kit::Case;
use crate::report::{self, SKIPPED};
use crate::sys::{self, Errno, signal, sys};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(20);
/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where a case finds the pipe: above the numbers that cases use.
const REPORT_FD: i32 = 900;

enum Verdict {
    Ok,
    Skip(String),
    Fail(String),
}

/// The counts of a run.
#[derive(Default)]
pub(crate) struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    /// Runs one case and prints its line.
    pub(crate) fn run(&mut self, case: &CaseRow) {
        let name = case.full_name();
        match run_in_directory(case) {
            Verdict::Ok => {
                self.passed += 1;
                println!("ok {name}");
            }
            Verdict::Skip(reason) => println!("skip {name}: {reason}"),
            Verdict::Fail(message) => {
                self.failed += 1;
                println!("FAIL {name}: {message}");
            }
        }
    }

    /// Prints the last line.
    pub(crate) fn finish(self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        ExitCode::from(u8::from(self.failed > 0))
    }
}

fn run_in_directory(case: &CaseRow) -> Verdict {
    let dir = match fresh_directory(case) {
        Ok(dir) => dir,
        Err(error) => return Verdict::Fail(format!("no temporary directory: {error}")),
    };
    let verdict = run_in_process(case, &dir).unwrap_or_else(|e| Verdict::Fail(format!("the runner: {e:?}")));
    match std::fs::remove_dir_all(&dir) {
        Err(error) if matches!(verdict, Verdict::Ok) => Verdict::Fail(format!("{}: {error}", dir.display())),
        _ => verdict,
    }
}

/// Cases that change their user still work in it, hence the mode.
fn fresh_directory(case: &CaseRow) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let base = std::env::var_os("TMPDIR").map_or(PathBuf::from("/tmp"), PathBuf::from);
    let dir = base.join(format!("conformance-{}-{}", std::process::id(), case.name));
    std::fs::create_dir(&dir)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777))?;
    Ok(dir)
}

fn run_in_process(case: &CaseRow, dir: &Path) -> Result<Verdict, Errno> {
    let mut ends = [0i32; 2];
    sys!(pipe2, &mut ends, libc::O_CLOEXEC)?;
    let old_mask = signal::mask(libc::SIG_BLOCK, signal::bit(libc::SIGCHLD))?;
    // A kernel without it only leaves more to whoever started us.
    let _ = sys!(prctl, libc::PR_SET_CHILD_SUBREAPER, 1);
    let pid = sys::process::fork()?;
    if pid == 0 {
        be_the_case(case, dir, ends);
    }
    sys!(close, ends[1])?;
    let status = wait_for(pid)?;
    let rest = kill_rest(pid)?;
    signal::mask(libc::SIG_SETMASK, old_mask)?;
    let message = read_report(ends[0])?;
    sys!(close, ends[0])?;
    Ok(verdict(status, &rest, &message))
}

fn be_the_case(case: &CaseRow, dir: &Path, ends: [i32; 2]) -> ! {
    report::finish(prepare(dir, ends).and_then(|()| (case.run)()))
}

/// What a case may rely on: default actions, an empty mask, its own group, directory and umask.
fn prepare(dir: &Path, ends: [i32; 2]) -> Case {
    sys!(dup3, ends[1], REPORT_FD, libc::O_CLOEXEC)?;
    report::to_pipe(REPORT_FD);
    sys!(close, ends[0])?;
    sys!(close, ends[1])?;
    sys!(setpgid, 0, 0)?;
    for number in (1..=64).filter(|n| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(n)) {
        signal::default(number, 0)?;
    }
    signal::mask(libc::SIG_SETMASK, 0)?;
    sys!(umask, 0o022)?;
    std::env::set_current_dir(dir).map_err(|e| Errno(e.raw_os_error().unwrap_or(0)).into())
}

/// The wait status, or `None` when the time was over and the case was killed.
fn wait_for(pid: i32) -> Result<Option<i32>, Errno> {
    let status = wait_until(pid, Instant::now() + TIMEOUT)?;
    if status.is_none() {
        sys!(kill, pid, libc::SIGKILL)?;
        wait_until(pid, Instant::now() + PATIENCE)?;
    }
    Ok(status)
}

fn wait_until(pid: i32, end: Instant) -> Result<Option<i32>, Errno> {
    let mut status = 0i32;
    loop {
        if sys!(wait4, pid, &mut status, libc::WNOHANG, 0)? != 0 {
            return Ok(Some(status));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        wait_for_sigchld(left)?;
    }
}

fn wait_for_sigchld(left: Duration) -> Result<(), Errno> {
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    let limit = libc::timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
    match sys!(rt_sigtimedwait, &signal::bit(libc::SIGCHLD), 0, &limit, 8) {
        Err(Errno(libc::EAGAIN | libc::EINTR)) | Ok(_) => Ok(()),
        Err(other) => Err(other),
    }
}

/// What a case left behind.
enum Rest {
    Nothing,
    Killed,
    /// Alive after its SIGKILL: the kernel's fault, not the case's.
    Unkillable,
}

/// Kills and reaps what the case left, in whatever session.
///
/// As a subreaper the runner is the parent of all that the case left; without that call it reaches
/// the case's group only.
fn kill_rest(pid: i32) -> Result<Rest, Errno> {
    let (mut rest, end) = (Rest::Nothing, Instant::now() + PATIENCE);
    loop {
        match sys!(wait4, -1, 0, libc::WNOHANG | libc::__WALL, 0) {
            Err(Errno(libc::ECHILD)) if sys!(kill, -pid, libc::SIGKILL).is_ok() => return Ok(Rest::Killed),
            Err(Errno(libc::ECHILD)) => return Ok(rest),
            Err(other) => return Err(other),
            Ok(0) if Instant::now() > end => return Ok(Rest::Unkillable),
            Ok(0) => {
                rest = Rest::Killed;
                kill_orphans();
            }
            Ok(_) => {}
        }
    }
}

fn kill_orphans() {
    for orphan in orphans() {
        // It may be gone already.
        let _ = sys!(kill, orphan, libc::SIGKILL);
    }
    // sched_yield cannot fail.
    let _ = sys!(sched_yield);
}

/// Our children, by /proc.
fn orphans() -> Vec<i32> {
    let own = std::process::id().to_string();
    let is_ours = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, tail)| tail.split(' ').nth(1)) == Some(own.as_str())
    };
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
}

/// What was reported so far: a process that outlives its case may still hold the other end.
fn read_report(fd: i32) -> Result<String, Errno> {
    sys!(fcntl, fd, libc::F_SETFL, libc::O_NONBLOCK)?;
    let (mut all, mut part) = (Vec::new(), [0u8; 4096]);
    loop {
        match sys!(read, fd, &mut part, part.len()).map(usize::try_from) {
            Ok(Ok(count)) if count > 0 => all.extend_from_slice(&part[..count]),
            Err(Errno(errno)) if errno != libc::EAGAIN => return Err(Errno(errno)),
            _ => return Ok(String::from_utf8_lossy(&all).trim_end().replace('\n', "; ")),
        }
    }
}

fn verdict(status: Option<i32>, rest: &Rest, message: &str) -> Verdict {
    let fail = |what: String| Verdict::Fail(if message.is_empty() { what } else { message.to_owned() });
    if matches!(rest, Rest::Unkillable) {
        return fail("a process of it survives SIGKILL".to_owned());
    }
    match status {
        None => fail(format!("not done after {} s", TIMEOUT.as_secs())),
        Some(status) if libc::WIFSIGNALED(status) => fail(format!("killed by signal {}", libc::WTERMSIG(status))),
        Some(status) if libc::WEXITSTATUS(status) == SKIPPED => Verdict::Skip(message.to_owned()),
        Some(0) if !message.is_empty() => Verdict::Fail(message.to_owned()),
        Some(0) if matches!(rest, Rest::Killed) => Verdict::Fail("left a process behind".to_owned()),
        Some(0) => Verdict::Ok,
        Some(status) => fail(format!("wait status {status:#x}")),
    }
}
