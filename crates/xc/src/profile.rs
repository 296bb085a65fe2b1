//! `--profile`: where a container's time goes: guest, LibOS, host kernel and supervisor, by function.
//!
//! `perf` samples the whole machine, because the kernel takes its events from a process that changes its user; what comes
//! from the processes of the container is kept. It runs this program again, without the option.

use crate::image;
use abom::{Limits, Names};
use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use xkernel::sys;

/// Samples a second.
const RATE: &str = "2000";
/// Signals that end us; perf knows one of them.
const ENDING: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
/// Bytes from the base of the LibOS to its arena.
const SPAN: u64 = abi::boot::ARENA_OFFSET;

/// Runs this program's command line, which ends in so many words of the container's, under `perf`; the samples go to `file`, folded: a line a stack, as flame graph viewers read
/// them. Returns the container's exit status.
///
/// # Errors
/// Where perf is missing or may not sample, no sample is the container's, or the file cannot be written.
pub fn run(file: &Path, words: usize) -> Result<u8> {
    // Before the container runs: nobody waits for what cannot be kept.
    std::fs::write(file, "").with_context(|| format!("cannot write {}", file.display()))?;
    // Without a name it goes with us, however we end.
    let samples = tempfile::tempfile().context("cannot make a temporary file")?;
    let data = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), samples.as_raw_fd()));
    let (perf, status) = record(&data, words)?;
    if samples.metadata().is_ok_and(|file| file.len() == 0) {
        bail!(
            "perf took no samples: it needs Debian's package linux-perf, and root or kernel.perf_event_paranoid 0 or less (sysctl)"
        );
    }
    let events = script(&data)?;
    let stacks = name(&fold(&events, &perf.to_string()), image::embedded()?.bytes);
    // Of a container that failed to start its own message tells.
    if stacks.is_empty() && status == 0 {
        bail!("no sample for {}: the container did not start, or ran for too short a time", file.display());
    }
    let lines: String = stacks.iter().map(|(stack, count)| format!("{stack} {count}\n")).collect();
    std::fs::write(file, lines).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(status)
}

/// Samples the machine while the container runs; the pid that perf had, and the container's exit status.
fn record(data: &Path, words: usize) -> Result<(u32, u8)> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    // What is killed with us ends as by our own signals: perf ends what it runs, then itself.
    let mut perf = Command::new("setpriv");
    // Mappings of data tell which file a patched image stands for.
    perf.args(["--pdeathsig", "TERM", "perf", "record", "--quiet", "--data", "--all-cpus", "--event=cpu-clock"]);
    // Nor is what was sampled kept in the caller's home.
    perf.args(["--no-buildid-cache", "--freq", RATE, "--output"]).arg(data).arg("--").arg(own);
    perf.args(unprofiled(std::env::args_os().skip(1), words));
    let mut perf = perf.spawn().context("cannot run setpriv, which starts perf")?;
    if let Ok(pid) = i32::try_from(perf.id()) {
        end_with_us(pid).context("cannot forward signals")?;
    }
    let status = perf.wait().context("cannot wait for perf")?;
    let status = status.code().or_else(|| Some(128 + status.signal()?)).and_then(|status| u8::try_from(status).ok());
    Ok((perf.id(), status.context("perf ended with an odd status")?))
}

/// Waits until a child has ended, and ends it where we are to end.
fn end_with_us(child: i32) -> io::Result<()> {
    let (signals, ends) = (sys::signals_to_read(&ENDING)?, sys::handle_of(child)?);
    while !sys::has_ended(&ends) {
        let mut waits = [&signals, &ends].map(|fd| PollFd::new(fd, PollFlags::IN));
        let _ = poll(&mut waits, None);
        while sys::next_signal(&signals).is_some() {
            sys::kill(child, libc::SIGTERM);
        }
    }
    Ok(())
}

/// The command line without the option. The last words are the container's program and its arguments.
fn unprofiled(arguments: impl Iterator<Item = OsString>, words: usize) -> Vec<OsString> {
    let mut rest: VecDeque<OsString> = arguments.collect();
    let mut kept = Vec::new();
    while rest.len() > words
        && let Some(argument) = rest.pop_front()
    {
        match argument.as_encoded_bytes().strip_prefix(b"--profile") {
            Some(b"") => drop(rest.pop_front()),
            Some([b'=', ..]) => {}
            _ => kept.push(argument),
        }
    }
    kept.extend(rest);
    kept
}

/// The samples, and where programs were mapped, as text.
fn script(data: &Path) -> Result<String> {
    let mut perf = Command::new("perf");
    perf.args(["script", "--show-mmap-events", "--show-task-events", "-F", "comm,pid,tid,ip,sym,dso", "--input"]);
    let output = perf.arg(data).stderr(std::process::Stdio::null()).output().context("cannot run perf script")?;
    if !output.status.success() {
        bail!("perf script failed: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where a sample fell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    /// In the LibOS, so far from its base: where the image says, which need not be so far in its file.
    Libos(u64),
    /// In a function of the host's kernel.
    Kernel(&'a str),
    /// In a function of ours.
    Supervisor(&'a str),
    /// In a guest's program or library, so far in its file.
    File(&'a str, u64),
    /// At an address of a guest.
    Guest(u64),
}

/// How many samples fell where.
type Samples<'a> = BTreeMap<Place<'a>, u64>;
/// The same by stack.
type Stacks = BTreeMap<String, u64>;

/// Names the functions; the place in its file stands for one that has no name. Each file is read once.
fn name(samples: &Samples<'_>, libos: &[u8]) -> Stacks {
    let mut stacks = Stacks::new();
    let mut files: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    let libos = functions(libos);
    for (place, &count) in samples {
        let stack = match *place {
            Place::Libos(offset) => format!("libos;{}", at_vaddr(&libos, offset).unwrap_or_else(|| "?".to_owned())),
            Place::Kernel(symbol) => format!("host kernel;{symbol}"),
            Place::Supervisor(symbol) => format!("supervisor;{symbol}"),
            Place::Guest(address) => format!("guest;{address:#x}"),
            Place::File(path, offset) => {
                files.entry(path).or_default().push((offset, count));
                continue;
            }
        };
        *stacks.entry(stack).or_default() += count;
    }
    for (path, offsets) in files {
        let bytes = std::fs::read(path).unwrap_or_default();
        let names = functions(&bytes);
        let file = Path::new(path).file_name().and_then(OsStr::to_str).unwrap_or(path);
        for (offset, count) in offsets {
            let function = function(&names, offset).unwrap_or_else(|| format!("{offset:#x}"));
            *stacks.entry(format!("guest;{file};{function}")).or_default() += count;
        }
    }
    stacks
}

fn functions(file: &[u8]) -> Option<Names<'_>> {
    Names::parse(file, &Limits::default()).ok()
}

fn function(names: &Option<Names<'_>>, offset: u64) -> Option<String> {
    names.as_ref()?.at(offset).map(demangled)
}

fn at_vaddr(names: &Option<Names<'_>>, vaddr: u64) -> Option<String> {
    names.as_ref()?.at_vaddr(vaddr).map(demangled)
}

/// A function's name as its source has it, without the hash that tells versions apart.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// The container's samples in what `perf script` prints. `perf` is the pid of the one that started it: another may have
/// sampled the machine for another container.
fn fold<'a>(events: &'a str, perf: &'a str) -> Samples<'a> {
    let mut family = Family { perf, ..Family::default() };
    let mut samples = Samples::new();
    for line in events.lines() {
        if line.contains("PERF_RECORD_") {
            family.note(line);
        } else if let Some(sample) = Sample::parse(line).filter(|sample| family.pids.contains(sample.pid)) {
            *samples.entry(family.place(&sample)).or_default() += 1;
        }
    }
    samples
}

/// The processes of the container.
#[derive(Default)]
struct Family<'a> {
    /// The parent of the first.
    perf: &'a str,
    pids: HashSet<&'a str>,
    /// Where the LibOS lies, once it does.
    base: Option<u64>,
    /// Start and end of mappings of files, with the address of the file's first byte.
    mapped: BTreeMap<u64, (u64, u64)>,
    /// Files by the address of their first byte: a patched image lies among the mappings of its own.
    files: BTreeMap<u64, &'a str>,
}

impl<'a> Family<'a> {
    /// Takes in a fork or a mapping.
    fn note(&mut self, line: &'a str) {
        if let Some((_, fork)) = line.split_once("PERF_RECORD_FORK(") {
            let pid = |text: &'a str| text.split(':').next().unwrap_or_default();
            let Some((child, parent)) = fork.split_once("):(") else { return };
            let (child, parent) = (pid(child), pid(parent));
            if self.pids.contains(parent) || (parent == self.perf && child != parent) {
                self.pids.insert(child);
            }
        } else if let Some((_, mapped)) = line.split_once("PERF_RECORD_MMAP2 ")
            && mapped.split('/').next().is_some_and(|pid| self.pids.contains(pid))
        {
            self.note_mapping(mapped);
        }
    }

    fn note_mapping(&mut self, line: &'a str) {
        let Some((start, end, first)) = range(line) else { return };
        let Some(path) = line.find(" /").and_then(|at| line.get(at + 1..)) else { return };
        if path.starts_with("/memfd:xlibos") {
            // The runner's own page of code ends where the span does.
            if line.contains(" r-xp ") {
                self.base = end.checked_sub(SPAN);
            }
            return;
        }
        self.mapped.insert(start, (end, first));
        if !path.ends_with(".img") {
            self.files.insert(first, path);
        }
    }

    fn place(&self, sample: &Sample<'a>) -> Place<'a> {
        let address = sample.address;
        let within = self.base.and_then(|base| address.checked_sub(base)).filter(|offset| *offset < SPAN);
        if let Some(offset) = within {
            return Place::Libos(offset);
        }
        if sample.place.contains("[kernel") {
            return Place::Kernel(sample.symbol);
        }
        if sample.place.ends_with("/xc") {
            return Place::Supervisor(sample.symbol);
        }
        let mapping = self.mapped.range(..=address).next_back().filter(|(_, (end, _))| address < *end);
        let file = mapping.and_then(|(_, (_, first))| Some((*self.files.get(first)?, address.checked_sub(*first)?)));
        file.map_or(Place::Guest(address), |(path, offset)| Place::File(path, offset))
    }
}

/// `… [START(LENGTH) @ OFFSET …`: start and end, and where the file's first byte would lie.
fn range(line: &str) -> Option<(u64, u64, u64)> {
    let (start, rest) = line.split_once("[0x")?.1.split_once("(0x")?;
    let (length, rest) = rest.split_once(") @ ")?;
    let offset = rest.split(' ').next()?;
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let start = hex(start)?;
    Some((start, start.checked_add(hex(length)?)?, start.checked_sub(hex(offset)?)?))
}

/// A line of `perf script`: `COMM PID/TID ADDRESS SYMBOL (PLACE)`.
struct Sample<'a> {
    pid: &'a str,
    address: u64,
    symbol: &'a str,
    place: &'a str,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Sample<'a>> {
        let is_ids = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'/') && word.contains('/');
        let ids = line.split(' ').find(is_ids)?;
        let rest = line.split_once(ids)?.1.trim_start();
        let (address, rest) = rest.split_once(' ')?;
        let (symbol, place) = rest.rsplit_once(" (")?;
        let address = u64::from_str_radix(address, 16).ok()?;
        Some(Sample { pid: ids.split('/').next()?, address, symbol, place: place.trim_end_matches(')') })
    }
}

#[cfg(test)]
mod tests {
    use super::{fold, name, unprofiled};
    use std::ffi::OsString;

    const EVENTS: &str = "\
     perf 9/9 PERF_RECORD_FORK(9:19):(9:9)
     perf 9/9 PERF_RECORD_FORK(10:10):(9:9)
     perf 7/7 PERF_RECORD_FORK(8:8):(7:7)
memfd:xlibos 8/8 PERF_RECORD_MMAP2 8/8: [0x7d0000fff000(0x1000) @ 0x34000 00:01 1 2]: r-xp /memfd:xlibos (deleted)
perf-exec 0/0 PERF_RECORD_COMM: perf-exec:8/8
       xc 8/8    7f00 main (/target/dist/xc)
     perf 9/9    7f00 main (/target/dist/xc)
       xc 10/10    7f00 main (/target/dist/xc)
       xc    10/10    PERF_RECORD_FORK(11:11):(10:10)
memfd:xlibos 11/11 PERF_RECORD_MMAP2 11/11: [0x7e0000fff000(0x1000) @ 0x34000 00:01 1 2]: r-xp /memfd:xlibos (deleted)
memfd:xlibos 11/11 PERF_RECORD_MMAP2 11/11: [0x400000(0x1000) @ 0 00:01 1 2]: r--p /nowhere/a program
memfd:xlibos 11/11 PERF_RECORD_MMAP2 11/11: [0x401000(0x1000) @ 0x1000 00:01 1 2]: r-xp /plans/1.img
memfd:xlibos 11/11    7e0000020010 [unknown] (/target/dist/xc)
memfd:xlibos 11/11    ffffffff81000000 copy_process ([kernel.kallsyms])
memfd:xlibos 11/11    401010 [unknown] (/plans/1.img)
memfd:xlibos 11/11    501010 [unknown] ([unknown])
       rustc 12/12    7e0000020010 main (/rustc)
";

    #[test]
    fn samples_of_the_container_are_named_by_where_they_fell() {
        let stacks: Vec<_> = name(&fold(EVENTS, "9"), &[]).into_iter().collect();
        let expected =
            ["guest;0x501010", "guest;a program;0x1010", "host kernel;copy_process", "libos;?", "supervisor;main"];
        assert_eq!(stacks, expected.map(|stack| (stack.to_owned(), 1)));
    }

    #[test]
    fn the_option_is_left_out_and_nothing_else() {
        let line = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        for option in ["--profile out", "--profile=out", "--profile a --profile=b --profile c"] {
            let given = line(&format!("do {option} --stats -- a --profile b"));
            assert_eq!(unprofiled(given.into_iter(), 3), line("do --stats -- a --profile b"), "{option}");
        }
    }
}
