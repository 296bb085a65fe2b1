//! Runs each case in a process and a directory of its own, and counts.

use crate::family::CaseRow;
use crate::kit::Case;
use crate::report::{self, SKIPPED};
use crate::sys::{self, Errno, signal, sys};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(20);
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
    let pid = sys::process::fork()?;
    if pid == 0 {
        be_the_case(case, dir, ends);
    }
    sys!(close, ends[1])?;
    let status = wait_for(pid)?;
    let left = kill_group(pid);
    signal::mask(libc::SIG_SETMASK, old_mask)?;
    let message = read_to_end(ends[0])?;
    sys!(close, ends[0])?;
    Ok(verdict(status, left, &message))
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
    let end = Instant::now() + TIMEOUT;
    let mut status = 0i32;
    loop {
        if sys!(wait4, pid, &mut status, libc::WNOHANG, 0)? != 0 {
            return Ok(Some(status));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            sys!(kill, pid, libc::SIGKILL)?;
            sys!(wait4, pid, &mut status, 0, 0)?;
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

/// Kills what the case left in its group; true when there was something.
fn kill_group(pid: i32) -> bool {
    sys!(kill, -pid, libc::SIGKILL).is_ok()
}

fn read_to_end(fd: i32) -> Result<String, Errno> {
    let (mut all, mut part) = (Vec::new(), [0u8; 4096]);
    loop {
        match usize::try_from(sys!(read, fd, &mut part, part.len())?) {
            Ok(count) if count > 0 => all.extend_from_slice(&part[..count]),
            _ => return Ok(String::from_utf8_lossy(&all).trim_end().replace('\n', "; ")),
        }
    }
}

fn verdict(status: Option<i32>, left: bool, message: &str) -> Verdict {
    let fail = |what: String| Verdict::Fail(if message.is_empty() { what } else { message.to_owned() });
    match status {
        None => fail(format!("not done after {} s", TIMEOUT.as_secs())),
        Some(status) if libc::WIFSIGNALED(status) => fail(format!("killed by signal {}", libc::WTERMSIG(status))),
        Some(status) if libc::WEXITSTATUS(status) == SKIPPED => Verdict::Skip(message.to_owned()),
        Some(0) if !message.is_empty() => Verdict::Fail(message.to_owned()),
        Some(0) if left => Verdict::Fail("left a process behind".to_owned()),
        Some(0) => Verdict::Ok,
        Some(status) => fail(format!("wait status {status:#x}")),
    }
}
