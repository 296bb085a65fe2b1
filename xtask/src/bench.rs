//! `cargo xtask bench`: the same workloads on every runtime of this machine, interleaved, as ratios.
//!
//! [`runtime`] starts words on the bare host, under crun and runc with podman's seccomp profile, and under ours.
//! [`table`] makes medians, ratios and verdicts of what they print. A benchmark is never a test.

mod runtime;
mod table;

use crate::setup::{self, Needs};
use crate::{build, command};
use anyhow::{Context as _, Result, bail};
use runtime::Runtime;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use table::Results;

/// What follows `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rows whose name contains one of these; all without
    groups: Vec<String>,
    /// How often each runtime runs each row
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Milliseconds that a service is measured in a round
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    ms: u32,
    /// Print the names of the rows and their goals
    #[arg(long)]
    list: bool,
    /// Write docs/benchmarks.md from this run
    #[arg(long)]
    write_docs: bool,
}

/// A row: what is measured, and the goal as a ratio of the bare host's time.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    goal: Option<f64>,
    kind: Kind,
}

/// How a row is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A service of the workload program.
    Service,
    /// These words, timed inside.
    Inside(&'static [&'static str]),
    /// These words with the start of the container, timed outside.
    Whole(&'static [&'static str]),
}

const fn service(name: &'static str, goal: f64) -> Row {
    Row { name, goal: Some(goal), kind: Kind::Service }
}

const COMPILE: &str = "printf '#include <stdio.h>\\nint main(void) { return puts(\"x\") < 0; }\\n' > /tmp/bench.c && \
                       gcc -O2 -c -o /tmp/bench.o /tmp/bench.c && rm /tmp/bench.c /tmp/bench.o";

/// Rows and goals.
const ROWS: &[Row] = &[
    service("getppid", 1.0 / 30.0),
    service("write-null", 0.1),
    service("read-zero-4k", 1.0 / 3.0),
    service("stat-present", 0.2),
    service("stat-absent", 0.2),
    service("open-close", 0.2),
    service("pread-1k-upper", 0.25),
    service("pwrite-1k-upper", 0.25),
    service("pread-1k-below", 0.25),
    service("create-write-unlink", 0.125),
    service("readdir-100", 0.25),
    service("pipe-one-task", 1.0 / 6.0),
    service("eventfd", 0.1),
    service("epoll-ready", 1.0 / 6.0),
    service("signal-self", 0.25),
    service("sigprocmask", 0.05),
    service("clock-gettime-call", 0.2),
    service("mmap-munmap-64k", 1.1),
    service("mmap-touch-1m", 1.05),
    service("thread-create-join", 1.1),
    service("fork-exit-wait", 1.0),
    service("fork-64m-touched", 0.7),
    service("spawn-static", 0.5),
    service("fork-exec-true", 0.7),
    service("pipe-round-trip", 0.9),
    service("unix-round-trip", 0.5),
    service("tcp-round-trip", 0.3),
    service("tcp-connect-close", 0.2),
    Row {
        name: "bash-200-commands",
        goal: Some(0.8),
        kind: Kind::Inside(&["bash", "-c", "for i in {1..200}; do /bin/true; done"]),
    },
    Row { name: "python-pass", goal: Some(0.9), kind: Kind::Inside(&["python3", "-c", "pass"]) },
    Row { name: "gcc-one-file", goal: Some(1.0), kind: Kind::Inside(&["sh", "-c", COMPILE]) },
    Row { name: "start-true", goal: None, kind: Kind::Whole(&["/bin/true"]) },
];

/// Measures and shows.
///
/// # Errors
/// Where something cannot be built, or no row has a name that was asked for.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let is_wanted = |row: &&Row| args.groups.is_empty() || args.groups.iter().any(|group| row.name.contains(group));
    let rows: Vec<Row> = ROWS.iter().filter(is_wanted).copied().collect();
    if rows.is_empty() {
        bail!("no row is named {}; `cargo xtask bench --list` names them", args.groups.join(" or "));
    }
    if args.list {
        rows.iter().for_each(|row| println!("{:20} {}", row.name, table::goal_text(row.goal)));
        return Ok(ExitCode::SUCCESS);
    }
    setup::ensure(Needs::Bench)?;
    let xc = build::all()?;
    let workload = build_workload()?;
    let (runtimes, refused) = runtime::find(&xc, &workload)?;
    refused.iter().for_each(|why| println!("{why}"));
    let results = measure(args, &rows, &runtimes, &workload);
    println!("{}", table::text(&results, &runtimes));
    let json = directory()?.join("results.json");
    std::fs::write(&json, table::json(&results, &runtimes))
        .with_context(|| format!("cannot write {}", json.display()))?;
    if args.write_docs {
        let page = command::root().join("docs/benchmarks.md");
        std::fs::write(&page, table::page(&results, &runtimes, &refused))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every round runs every row on each runtime in turn, so that what disturbs the machine meets all of them.
fn measure(args: &Args, rows: &[Row], runtimes: &[Runtime], workload: &Path) -> Results {
    let mut results = Results::new(rows);
    for round in 1..=args.rounds {
        for row in rows {
            eprint!("\r\x1b[Kround {round} of {}: {}", args.rounds, row.name);
            let times = runtimes.iter().map(|runtime| one(args, row, runtime, workload));
            times.enumerate().for_each(|(runtime, time)| results.add_outcome(row.name, runtime, time));
        }
    }
    eprint!("\r\x1b[K");
    results
}

fn one(args: &Args, row: &Row, runtime: &Runtime, workload: &Path) -> Result<f64> {
    let program = workload.to_str().context("the path of the workload is no UTF-8")?;
    let ms = args.ms.to_string();
    let mut command = match row.kind {
        Kind::Service => runtime.command(&[program, "--ms", &ms, row.name])?,
        Kind::Inside(words) => runtime.command(&[&[program, "--command"], words].concat())?,
        Kind::Whole(words) => runtime.timed(program, words)?,
    };
    let output = command::output(&mut command)?;
    let value = output.lines().last().and_then(|line| line.rsplit(' ').next()).and_then(|word| word.parse().ok());
    value.with_context(|| format!("{} printed no time: {output:?}", row.name))
}

fn directory() -> Result<PathBuf> {
    let directory = command::target_dir().join("bench");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// The workload is static, so that the same file runs everywhere.
fn build_workload() -> Result<PathBuf> {
    let program = directory()?.join("workload");
    let source = command::root().join("benches/workload.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-static", "-pthread", "-o"]).arg(&program).arg(source);
    command::run(&mut gcc)?;
    Ok(program)
}
