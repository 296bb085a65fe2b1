//! `cargo xtask profile`: where a container's time goes: guest, library OS, host kernel and supervisor, by symbol.
//!
//! `perf` samples the whole machine, because the kernel takes its events from a process that changes its user; what
//! comes from the processes of the container is kept. The library OS's symbols are found in its image by the base that
//! this container got.

use crate::setup::{self, Needs};
use crate::{build, command};
use anyhow::{Context as _, Result, bail};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What follows `cargo xtask profile`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the samples go, folded: a line a stack, as flame graph viewers read them
    #[arg(long, value_name = "FILE", default_value = "target/bench/profile.folded")]
    out: PathBuf,
    /// Samples a second
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// Program and arguments, for `xc do`
    #[arg(required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

/// Bytes from the base of the library OS to its arena: `ARENA_OFFSET` of crates/abi.
const SPAN: u64 = 0x100_0000;

/// How many lines the terminal gets.
const SHOWN: usize = 30;

/// Profiles, and shows what took most.
///
/// # Errors
/// Where something cannot be built or sampled, or no sample is ours.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !setup::is_root()? {
        bail!("profile is not root, and samples the whole machine: run it as root");
    }
    setup::ensure(Needs::Profile)?;
    let xc = build::all()?;
    let data = command::target_dir().join("bench/perf.data");
    std::fs::create_dir_all(data.parent().unwrap_or(Path::new(".")))?;
    let mut record = Command::new("perf");
    record.args(["record", "--quiet", "--all-cpus", "--event=cpu-clock", "--freq", &args.rate.to_string(), "--output"]);
    let code = command::status(record.arg(&data).arg("--").arg(&xc).args(["do", "--"]).args(&args.words))?;
    let mut script = Command::new("perf");
    script.args(["script", "--show-mmap-events", "--show-task-events", "-F", "comm,pid,tid,ip,sym,dso", "--input"]);
    let events = command::output(script.arg(&data))?;
    let stacks = fold(&events, &symbols(&build::image())?);
    if stacks.is_empty() {
        bail!("no sample fell into the container: let it run longer");
    }
    let out = command::root().join(&args.out);
    let lines: String = stacks.iter().map(|(stack, count)| format!("{stack} {count}\n")).collect();
    std::fs::write(&out, lines).with_context(|| format!("cannot write {}", out.display()))?;
    show(&stacks);
    println!("{}", out.display());
    Ok(code.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Samples by stack.
type Stacks = BTreeMap<String, u64>;
/// Names of functions by their first address.
type Symbols = BTreeMap<u64, String>;

fn show(stacks: &Stacks) {
    let all: u64 = stacks.values().sum();
    let mut sorted: Vec<_> = stacks.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (stack, count) in sorted.iter().take(SHOWN) {
        println!("{:5.1} %  {}", **count as f64 * 100.0 / all as f64, stack.replacen(';', "  ", 1));
    }
}

fn symbols(image: &Path) -> Result<Symbols> {
    let mut nm = Command::new("nm");
    let listing = command::output(nm.args(["--defined-only", "--demangle"]).arg(image))?;
    Ok(listing.lines().filter_map(symbol).collect())
}

/// `ADDRESS t NAME`; what is no function is left out.
fn symbol(line: &str) -> Option<(u64, String)> {
    let (address, rest) = line.split_once(' ')?;
    let name = rest.strip_prefix("t ").or_else(|| rest.strip_prefix("T "))?;
    Some((u64::from_str_radix(address, 16).ok()?, name.to_owned()))
}

/// The container's samples in what `perf script` prints.
fn fold(events: &str, symbols: &Symbols) -> Stacks {
    let mut family = Family::default();
    let mut stacks = Stacks::new();
    for line in events.lines() {
        if line.contains("PERF_RECORD_") {
            family.note(line);
        } else if let Some(sample) = Sample::parse(line).filter(|sample| family.pids.contains(sample.pid)) {
            *stacks.entry(family.stack(&sample, symbols)).or_default() += 1;
        }
    }
    stacks
}

/// The processes of the container.
#[derive(Default)]
struct Family<'a> {
    pids: HashSet<&'a str>,
    /// Where the library OS lies, once it does.
    base: Option<u64>,
}

impl<'a> Family<'a> {
    /// Takes in a fork, the process that perf starts `xc` in, or where the library OS is mapped.
    fn note(&mut self, line: &'a str) {
        if let Some((_, fork)) = line.split_once("PERF_RECORD_FORK(") {
            let pid = |text: &'a str| text.split(':').next().unwrap_or_default();
            let Some((child, parent)) = fork.split_once("):(") else { return };
            if self.pids.contains(pid(parent)) {
                self.pids.insert(pid(child));
            }
        } else if let Some((_, ids)) = line.split_once("PERF_RECORD_COMM: perf-exec:") {
            self.pids.extend(ids.split('/').next());
        } else if let Some((_, mapped)) = line.split_once("PERF_RECORD_MMAP2 ") {
            let is_ours = mapped.split('/').next().is_some_and(|pid| self.pids.contains(pid));
            if is_ours && mapped.contains("/memfd:xlibos") {
                self.base = base(mapped);
            }
        }
    }

    fn stack(&self, sample: &Sample, symbols: &Symbols) -> String {
        let libos = self.base.and_then(|base| sample.address.checked_sub(base)).filter(|offset| *offset < SPAN);
        let named = |offset| symbols.range(..=offset).next_back().map(|(_, name)| name.as_str());
        match libos.and_then(named) {
            Some(name) => format!("libos;{name}"),
            None if sample.place.contains("[kernel") => format!("host kernel;{}", sample.symbol),
            None if sample.place.ends_with("/xc") => format!("supervisor;{}", sample.symbol),
            None => format!("guest;{:#x}", sample.address),
        }
    }
}

/// `… [START(LENGTH) @ …`, the runner's own page of code: it ends where the span does.
fn base(line: &str) -> Option<u64> {
    let (start, rest) = line.split_once("[0x")?.1.split_once("(0x")?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    hex(start)?.checked_add(hex(rest.split(')').next()?)?)?.checked_sub(SPAN)
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
    use super::*;

    const EVENTS: &str = "\
     perf 9/9 PERF_RECORD_FORK(10:10):(9:9)
memfd:xlibos 8/8 PERF_RECORD_MMAP2 8/8: [0x7d0000fff000(0x1000) @ 0x34000 00:01 1 2]: r-xp /memfd:xlibos (deleted)
perf-exec 0/0 PERF_RECORD_COMM: perf-exec:10/10
       xc 10/10    7f00 main (/target/dist/xc)
       xc    10/10    PERF_RECORD_FORK(11:11):(10:10)
memfd:xlibos 11/11 PERF_RECORD_MMAP2 11/11: [0x7e0000fff000(0x1000) @ 0x34000 00:01 1 2]: r-xp /memfd:xlibos (deleted)
memfd:xlibos 11/11    7e0000020010 [unknown] (/target/dist/xc)
memfd:xlibos 11/11    ffffffff81000000 copy_process ([kernel.kallsyms])
memfd:xlibos 11/11    401000 [unknown] (/plan)
       rustc 12/12    7e0000020010 main (/rustc)
";

    #[test]
    fn samples_of_the_container_are_named_by_where_they_fell() {
        let symbols = Symbols::from([(0x20000, "dispatch".to_owned()), (0x30000, "other".to_owned())]);
        let stacks: Vec<_> = fold(EVENTS, &symbols).into_iter().collect();
        let expected = ["guest;0x401000", "host kernel;copy_process", "libos;dispatch", "supervisor;main"];
        assert_eq!(stacks, expected.map(|stack| (stack.to_owned(), 1)));
    }

    #[test]
    fn data_is_no_function() {
        assert_eq!(symbol("0000000000001f00 t f<u8>::g"), Some((0x1f00, "f<u8>::g".to_owned())));
        assert_eq!(symbol("0000000000001f00 r TABLE"), None);
    }
}
