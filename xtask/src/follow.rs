//! A guest of the workload program, followed instruction by instruction: in which of the LibOS's functions it is.

use crate::bench::build_workload;
use crate::setup::{self, Needs};
use crate::{build, command};
use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The functions of the LibOS image.
pub(crate) struct Symbols {
    /// Where the text begins in the image.
    pub(crate) start: u64,
    /// End and name by start, relative to the text.
    functions: BTreeMap<u64, (u64, String)>,
}

impl Symbols {
    fn read(image: &Path) -> Result<Symbols> {
        let listed = command::output(Command::new("nm").arg("--print-size").arg(image))?;
        Symbols::parse(&listed).context("the image has no _start")
    }

    /// What `nm --print-size` prints. The text begins with `_start`.
    fn parse(listed: &str) -> Option<Symbols> {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let words = |line: &'_ str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = listed.lines().map(words).collect();
        let start = lines.iter().find(|words| words.last().is_some_and(|name| name == "_start"))?;
        let start = number(start.first()?)?;
        let mut functions = BTreeMap::new();
        for words in &lines {
            // What is written in assembly has no size: it ends where the next one begins.
            let (at, len, name) = match words.as_slice() {
                [at, len, kind, name] if kind == "t" || kind == "T" => (number(at), number(len), name),
                [at, kind, name] if kind == "t" || kind == "T" => (number(at), Some(u64::MAX), name),
                _ => continue,
            };
            if let (Some(at), Some(len)) = (at, len) {
                let at = at.saturating_sub(start);
                functions.insert(at, (at.saturating_add(len), name.clone()));
            }
        }
        Some(Symbols { start, functions })
    }

    /// The function at an address, relative to the text.
    pub(crate) fn at(&self, at: u64) -> Option<&str> {
        let (_, (end, name)) = self.functions.range(..=at).next_back()?;
        (at < *end).then_some(name)
    }
}

/// Where a guest process runs, whose LibOS text lies at a range of addresses.
pub(crate) struct Guest {
    pub(crate) pid: Pid,
    pub(crate) text: std::ops::Range<u64>,
}

/// The threads of a process.
fn threads(pid: Pid) -> Vec<Pid> {
    let Ok(listed) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw)).collect()
}

/// Whether a process descends from another one.
fn is_below(pid: i32, ancestor: u32) -> bool {
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    std::iter::successors(Some(pid), |pid| parent(*pid)).any(|pid| pid.unsigned_abs() == ancestor)
}

/// Finds the container's guest that runs `program`: the oldest process of its that has both mapped.
fn find(container: &Child, xc: &Path, program: &Path) -> Option<Guest> {
    let pids =
        std::fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // Those of the container before are still about to end.
    let pids = pids.filter(|pid| is_below(*pid, container.id()));
    let (xc, program) = (xc.to_str()?, program.to_str()?);
    let mut guests: Vec<_> =
        pids.filter_map(|pid| Some((pid, std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?))).collect();
    guests.retain(|(_, maps)| maps.lines().any(|line| line.ends_with(program)) && maps.contains("memfd:arena"));
    // The parent, not a child that is about to end.
    let (pid, maps) = guests.into_iter().min()?;
    let text = maps.lines().find(|line| line.contains(" r-xp ") && line.ends_with(xc))?.split(' ').next()?;
    let (from, to) = text.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Guest { pid: Pid::from_raw(pid), text: number(from)?..number(to)? })
}

/// What is needed to follow a guest.
pub(crate) struct Site {
    xc: PathBuf,
    program: PathBuf,
    /// The functions of the LibOS.
    pub(crate) symbols: Symbols,
}

impl Site {
    /// Builds all of it.
    ///
    /// # Errors
    /// Where something cannot be built.
    pub(crate) fn build() -> Result<Site> {
        setup::ensure(Needs::Build)?;
        let xc = build::all()?;
        let symbols = Symbols::read(&build::image())?;
        let program = command::target_dir().join("followed-workload");
        build_workload(&program)?;
        Ok(Site { xc, program, symbols })
    }
}

/// Ends a container, whatever becomes of who looked at it.
struct Container(Child);

impl Drop for Container {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = command::kill_below(self.0.id());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A container whose guest does a service of the workload again and again, and stands under our hands.
pub(crate) struct Followed {
    _container: Container,
    /// The guest.
    pub(crate) guest: Guest,
}

impl Followed {
    /// Starts the container, and takes the guest once it has come to the service itself. `words` are the service, behind options of
    /// the workload.
    ///
    /// # Errors
    /// Where it does not start, or cannot be traced.
    pub(crate) fn begin(site: &Site, words: &[&str], options: Options) -> Result<Followed> {
        let mut container = Command::new(&site.xc);
        container.args(["do", "--"]).arg(&site.program).args(["--marks", "--ops", "1000000000"]).args(words);
        container.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut container = Container(container.spawn().context("cannot start xc")?);
        let mut mark = [0; 6];
        let told = container.0.stdout.as_mut().context("no standard output")?;
        told.read_exact(&mut mark).with_context(|| format!("`{}` is no service of the workload?", words.join(" ")))?;
        let began = std::time::Instant::now();
        let guest = loop {
            // A child may be about to end.
            let begins = |guest: &Guest| ptrace::seize(guest.pid, options) != Err(Errno::ESRCH);
            if let Some(guest) = find(&container.0, &site.xc, &site.program).filter(begins) {
                break guest;
            }
            if let Some(status) = container.0.try_wait()? {
                bail!("the workload ended with {status}");
            }
            if began.elapsed().as_secs() > 10 {
                bail!("the container {} has no guest", container.0.id());
            }
            std::thread::yield_now();
        };
        ptrace::interrupt(guest.pid).context("cannot trace the guest: are you root?")?;
        // Its other threads too: one that waits for work may be given a guest thread that inherits the trap flag, and an end of its own
        // would be that of the guest.
        for tid in threads(guest.pid).into_iter().filter(|tid| *tid != guest.pid) {
            if ptrace::seize(tid, options).is_ok() {
                let _ = ptrace::interrupt(tid);
            }
        }
        // It goes on from where it waits for that.
        container.0.stdin.as_mut().context("no standard input")?.write_all(b"\n")?;
        Ok(Followed { _container: container, guest })
    }

    /// The bytes of the LibOS's text.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub(crate) fn read_text(&self) -> Result<Vec<u8>> {
        let Guest { pid, text } = &self.guest;
        let memory = File::open(format!("/proc/{pid}/mem")).context("cannot read the guest's memory")?;
        let mut bytes = vec![0; usize::try_from(text.end - text.start)?];
        memory.read_exact_at(&mut bytes, text.start)?;
        Ok(bytes)
    }

    /// Steps through so many instructions of the guest and those that it makes, and shows each: where, and of which process.
    ///
    /// # Errors
    /// Where they have ended.
    pub(crate) fn walk(&self, instructions: u64, mut visit: impl FnMut(Pid, u64)) -> Result<()> {
        for _ in 0..instructions {
            let status = waitpid(None, Some(WaitPidFlag::__WALL)).context("the guest has ended")?;
            let (Some(pid), Some(signal)) = (status.pid(), delivered(&status)) else { continue };
            // One that was killed meanwhile has no registers.
            let Ok(registers) = ptrace::getregs(pid) else { continue };
            visit(pid, registers.rip);
            let _ = ptrace::step(pid, signal);
        }
        Ok(())
    }
}

/// What a process that stopped is to get; None where it has ended.
fn delivered(status: &WaitStatus) -> Option<Option<Signal>> {
    match status {
        WaitStatus::Stopped(_, Signal::SIGTRAP) | WaitStatus::PtraceEvent(..) => Some(None),
        WaitStatus::Stopped(_, signal) => Some(Some(*signal)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Symbols;

    #[test]
    fn an_address_between_functions_belongs_to_none() {
        let listed =
            "0000000000001000 T _start\n0000000000001010 0000000000000008 t f\n0000000000002000 0000000000000004 d g\n";
        let symbols = Symbols::parse(listed).unwrap();
        let names = [0xf, 0x10, 0x17, 0x18].map(|at| symbols.at(at));
        assert_eq!(names, [Some("_start"), Some("f"), Some("f"), None]);
    }
}
