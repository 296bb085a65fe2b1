//! `cargo xtask order`: what runs between a fork and the child's end, instruction by instruction, tells in which order the
//! linker had better put the LibOS's functions. A new process faults its text in by 64 KiB, so what it runs should lie together.
//!
//! The result is `crates/xlibos-image/hot.ld`, which is kept: builds need no such run. A name in it that no function has any
//! more costs nothing but its place; run this again when forks take more page faults (tests/programs/tests/budgets.rs).

use crate::bench::build_workload;
use crate::setup::{self, Needs};
use crate::{build, command};
use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// What is followed, the most important first: a service of the workload, and how many instructions of it.
const RUNS: [(&str, u64); 3] =
    [("fork-exit-wait", 400_000), ("thread-create-join", 200_000), ("fork-exec-true", 1_500_000)];

/// Builds, follows, and writes the order.
///
/// # Errors
/// Where something cannot be built, or followed.
pub(crate) fn run() -> Result<ExitCode> {
    setup::ensure(Needs::Build)?;
    let xc = build::all()?;
    let symbols = Symbols::read(&build::image())?;
    let program = command::target_dir().join("order-workload");
    build_workload(&program)?;
    let mut order = Vec::new();
    let mut known = BTreeSet::new();
    for (service, instructions) in RUNS {
        let mut container = Command::new(&xc);
        container.args(["do", "--"]).arg(&program).args(["--ops", "1000000", service]);
        let mut container = container.stdout(Stdio::null()).spawn().context("cannot start xc")?;
        let followed = follow(&container, &xc, &program, instructions);
        command::kill_below(container.id())?;
        let mut followed = followed.with_context(|| format!("cannot follow {service}"))?;
        container.kill()?;
        container.wait()?;
        // Children begin with none of the text, their parent has it all.
        followed.sort_by_key(|(is_child, _)| !is_child);
        let new: Vec<_> =
            followed.iter().filter_map(|(_, at)| symbols.at(*at)).filter(|name| known.insert(*name)).collect();
        println!("{service}: {} more functions", new.len());
        order.extend(new);
    }
    let path = command::root().join("crates/xlibos-image/hot.ld");
    std::fs::write(&path, script(&order)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// The linker's lines. Functions that the compiler holds for rarely called lie in sections of their own.
fn script(order: &[&str]) -> String {
    let mut text = String::from("/* Written by `cargo xtask order`. */\n");
    for name in order {
        let name = lasting(name);
        // Writing to a string does not fail.
        let _ = writeln!(text, "*(.text.{name} .text.*.{name})");
    }
    text
}

/// A pattern for a mangled name (v0) that also fits it in other builds: what numbers crates and implementations is left open, and
/// the places of what is named again, which depend on it.
fn lasting(name: &str) -> String {
    let mut pattern = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if let Some((mark, behind)) = numbered(rest) {
            pattern.push_str(mark);
            pattern.push_str("*_");
            rest = behind;
        } else {
            pattern.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or("");
        }
    }
    pattern
}

/// What a number follows, and what follows it.
fn numbered(rest: &str) -> Option<(&'static str, &str)> {
    let (mark, most) =
        [("Cs", 13), ("Ms", 3), ("Xs", 3), ("B", 3)].into_iter().find(|(mark, _)| rest.starts_with(mark))?;
    let (digits, behind) = rest.get(mark.len()..)?.split_once('_')?;
    let is_number = digits.len() <= most && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_number.then_some((mark, behind))
}

/// The functions of the LibOS image.
struct Symbols {
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
            let [at, len, kind, name] = words.as_slice() else { continue };
            if let (Some(at), Some(len), "t" | "T") = (number(at), number(len), kind.as_str()) {
                let at = at.saturating_sub(start);
                functions.insert(at, (at + len, name.clone()));
            }
        }
        Some(Symbols { functions })
    }

    fn at(&self, at: u64) -> Option<&str> {
        let (_, (end, name)) = self.functions.range(..=at).next_back()?;
        (at < *end).then_some(name)
    }
}

/// Where a guest process runs, whose LibOS text lies at a range of addresses.
struct Guest {
    pid: Pid,
    text: std::ops::Range<u64>,
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

/// Steps through the guest and its children. Where they were in the LibOS's text for the first time, as offsets, in turn; and
/// whether that was a child.
fn follow(container: &Child, xc: &Path, program: &Path, instructions: u64) -> Result<Vec<(bool, u64)>> {
    // Begun, and past its first operations.
    let began = std::time::Instant::now();
    let guest = loop {
        // A child may be about to end.
        let begins = |guest: &Guest| ptrace::seize(guest.pid, Options::PTRACE_O_TRACECLONE) != Err(Errno::ESRCH);
        if let Some(guest) = find(container, xc, program).filter(begins) {
            break guest;
        }
        if began.elapsed().as_secs() > 10 {
            bail!("the container {} has no guest", container.id());
        }
        std::thread::yield_now();
    };
    ptrace::interrupt(guest.pid).context("cannot trace the guest: are you root?")?;
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    for _ in 0..instructions {
        let status = waitpid(None, Some(WaitPidFlag::__WALL))?;
        let (Some(pid), Some(signal)) = (status.pid(), delivered(&status)) else { continue };
        // One that was killed meanwhile has no registers.
        let Ok(registers) = ptrace::getregs(pid) else { continue };
        let is_child = pid != guest.pid;
        if guest.text.contains(&registers.rip) && seen.insert((is_child, registers.rip)) {
            order.push((is_child, registers.rip - guest.text.start));
        }
        let _ = ptrace::step(pid, signal);
    }
    Ok(order)
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
    use super::{Symbols, lasting};

    #[test]
    fn a_pattern_leaves_open_what_other_builds_number_anew() {
        let name = "_RNvMsn_NtCsfySoobUK4LL_5alloc4syncINtB5_3ArcNtNtCsh0eDhTviWF2_6xlibos3tty3TtyE9drop_slowBK_";
        assert_eq!(lasting(name), "_RNvMs*_NtCs*_5alloc4syncINtB*_3ArcNtNtCs*_6xlibos3tty3TtyE9drop_slowB*_");
        assert_eq!(lasting("kernel_child"), "kernel_child");
        assert_eq!(lasting("_RNvNtCs1_1m4Base"), "_RNvNtCs*_1m4Base");
    }

    #[test]
    fn an_address_between_functions_belongs_to_none() {
        let listed =
            "0000000000001000 T _start\n0000000000001010 0000000000000008 t f\n0000000000002000 0000000000000004 d g\n";
        let symbols = Symbols::parse(listed).unwrap();
        assert_eq!([0xf, 0x10, 0x17, 0x18].map(|at| symbols.at(at)), [None, Some("f"), Some("f"), None]);
    }
}
