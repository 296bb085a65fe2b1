//! What is measured, and what is hoped for.

use super::runtime::{CRUN, Runtime};
use super::suites::{self, Suite};
use super::table::value_text;
use std::path::Path;

/// A row: what is measured, and how much of it is good.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) goal: Goal,
    pub(super) unit: Unit,
    pub(super) kind: Kind,
    /// Whether CPU time an operation stays within [`CPU_GOAL`] of the host's: a round trip won by spinning is no win.
    pub(super) cpu_counts: bool,
    /// Processes of the host that compute meanwhile.
    pub(super) busy: usize,
    pub(super) who: Who,
    /// At most so many rounds, of rows that take long.
    pub(super) most_rounds: u32,
    /// What it needs and this machine has not; then it is not measured.
    pub(super) lacks: Option<&'static str>,
}

/// Which runtimes run a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    All,
    HostAndOurs,
    HostCrunAndOurs,
    Ours,
}

/// CPU time an operation, ours by the host's, of the rows where it counts.
pub(super) const CPU_GOAL: f64 = 1.2;

/// How a row is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A service of the workload program, with these options.
    Service { name: &'static str, options: Vec<&'static str>, place: Place },
    /// These words, timed inside, after they ran there once where the first pass does not count.
    Inside { words: &'static [&'static str], is_first: bool },
    /// These words with the start of the container, timed outside.
    Whole(&'static [&'static str]),
    /// From the command to the first instruction of the guest, as ours tells it.
    FirstInstruction,
    /// A container that does nothing.
    Rest(Rest),
    /// Many containers: the last one's start by the first one's.
    Crowd(Crowd),
    /// A program that others wrote, by its own figure.
    Suite(Suite),
}

/// A program that does nothing once it has printed `ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) words: &'static [&'static str],
    pub(super) ready: &'static str,
    pub(super) measure: Measure,
}

/// What is measured of a container that does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Memory,
    /// CPU time, in ticks, in ten seconds.
    Ticks,
}

/// How the containers of a crowd are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crowd {
    /// Each when the one before is ready.
    InTurn,
    AtOnce,
}

/// Where the services on files find their tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In /tmp: a tmpfs, and ours in memory.
    Upper,
    /// On the host's root file system, which the container sees and cannot change.
    Hostfs,
    /// In a directory of the host that is mounted for reading and writing.
    Volume,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Nanoseconds,
    /// How often one in the other: of a service, what two processes do by what one does on one processor.
    Factor,
    Bytes,
    Ticks,
}

/// How much is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    None,
    /// At most this part of the host's.
    Ratio(f64),
    /// At least this, or what the host reaches if that is less.
    Factor(f64),
    AtMost(f64),
    /// At most so much more than crun.
    OverCrun(f64),
    /// At most so much more than the host.
    OverHost(f64),
}

impl Row {
    pub(super) fn new(name: &str, goal: Goal, kind: Kind) -> Row {
        let unit = match (goal, &kind) {
            (Goal::Factor(_), _) | (_, Kind::Crowd(_)) => Unit::Factor,
            (_, Kind::Rest(Rest { measure: Measure::Memory, .. })) => Unit::Bytes,
            (_, Kind::Rest(_)) => Unit::Ticks,
            _ => Unit::Nanoseconds,
        };
        let name = name.to_owned();
        Row { name, goal, unit, kind, cpu_counts: false, busy: 0, who: Who::All, most_rounds: u32::MAX, lacks: None }
    }

    /// Whether it is measured on this runtime.
    pub(super) fn runs_on(&self, runtime: &Runtime) -> bool {
        match self.who {
            _ if self.lacks.is_some() => false,
            Who::All => true,
            Who::HostAndOurs => !runtime.is_peer(),
            Who::HostCrunAndOurs => !runtime.is_peer() || runtime.name == CRUN,
            Who::Ours => runtime.is_ours(),
        }
    }

    fn service(name: &'static str, ratio: f64) -> Row {
        Row::with(name, name, ratio, &[])
    }

    fn with(name: &str, service: &'static str, ratio: f64, options: &[&'static str]) -> Row {
        let kind = Kind::Service { name: service, options: options.to_vec(), place: Place::Upper };
        Row::new(name, Goal::Ratio(ratio), kind)
    }
}

/// Services that stand alone, and their goals.
const SERVICES: &[(&str, f64)] = &[
    ("getppid", 1.0 / 30.0),
    ("write-null", 0.1),
    ("read-zero-4k", 1.0 / 3.0),
    ("stat-present", 0.2),
    ("stat-absent", 0.2),
    ("open-close", 0.2),
    ("pread-1k-upper", 0.25),
    ("pwrite-1k-upper", 0.25),
    ("pread-1k-below", 0.25),
    ("create-write-unlink", 0.125),
    ("readdir-100", 0.25),
    ("pipe-one-task", 1.0 / 6.0),
    ("eventfd", 0.1),
    ("epoll-ready", 1.0 / 6.0),
    ("signal-self", 0.25),
    ("sigprocmask", 0.05),
    ("clock-gettime-call", 0.2),
    ("mmap-munmap-64k", 1.1),
    ("mmap-touch-1m", 1.05),
    ("brk-64k", 1.1),
    ("thread-create-join", 1.1),
    ("fork-exit-wait", 1.0),
    ("fork-64m-touched", 0.7),
    ("spawn-static", 0.5),
    ("spawn-dynamic", 0.7),
    ("fork-exec-true", 0.7),
    ("tcp-connect-close", 0.2),
];

/// Round trips: also beside busy processes, and CPU time counts.
const TRIPS: &[(&str, f64)] = &[("pipe-round-trip", 0.9), ("unix-round-trip", 0.5), ("tcp-round-trip", 0.3)];

const COMPILE: &str = "printf '#include <stdio.h>\\nint main(void) { return puts(\"x\") < 0; }\\n' > /tmp/bench.c && \
                       gcc -O2 -c -o /tmp/bench.o /tmp/bench.c && rm /tmp/bench.c /tmp/bench.o";

/// All rows, in the order of the table; those of suites that are built in a directory with them.
pub(super) fn all(suites: Option<&Path>) -> Vec<Row> {
    let mut rows: Vec<Row> = SERVICES.iter().map(|&(name, ratio)| Row::service(name, ratio)).collect();
    rows.extend(from_large_parents());
    rows.extend(trips());
    rows.extend(files());
    rows.extend(aged());
    rows.extend(scaling());
    rows.extend(programs());
    rows.extend(resting());
    rows.extend(crowds());
    rows.extend(suites::rows(suites));
    rows
}

/// Programs started by a process that has touched 1 GiB.
fn from_large_parents() -> impl Iterator<Item = Row> {
    let rows = [("spawn-static-from-1g", "spawn-static", 0.5), ("spawn-dynamic-from-1g", "spawn-dynamic", 0.7)];
    rows.into_iter().map(|(name, service, ratio)| Row::with(name, service, ratio, &["--heap", "1024"]))
}

/// Services on files of a tree: 1,000 files in 50 directories. The last says whether files must be written.
const FILES: &[(&str, f64, bool)] = &[
    ("files-stat", 0.2, false),
    ("files-open-close", 0.2, false),
    ("files-open-read-close", 0.25, false),
    ("files-pread", 0.25, false),
    ("files-open-write-close", 0.25, true),
    ("files-pwrite", 0.25, true),
    ("files-create-unlink", 0.125, true),
    ("files-readdir", 0.25, false),
];

/// The goal of first passes, and of all that goes to the volume.
const FIRST_PASS: f64 = 2.0;

const PASSES: &[(&str, &[&str])] = &[
    ("one", &["--warm"]),
    ("1000-first", &["--files", "1000", "--ops", "1000"]),
    ("1000-second", &["--files", "1000", "--warm"]),
];

/// Each service on each place, on one file and on many, first pass and second.
fn files() -> Vec<Row> {
    let mut rows = Vec::new();
    for (place, place_name) in [(Place::Upper, "upper"), (Place::Hostfs, "hostfs"), (Place::Volume, "volume")] {
        for &(service, ratio, _) in FILES.iter().filter(|row| place != Place::Hostfs || !row.2) {
            let passes = PASSES.iter().filter(|(pass, _)| *pass == "one" || goes_round(service));
            rows.extend(passes.map(|(pass, options)| {
                let is_slow = place == Place::Volume || (place == Place::Hostfs && *pass == "1000-first");
                let goal = Goal::Ratio(if is_slow { FIRST_PASS } else { ratio });
                let mut options = options.to_vec();
                if place == Place::Upper {
                    options.push("--make");
                }
                let kind = Kind::Service { name: service, options, place };
                Row::new(&format!("{service}-{place_name}-{pass}"), goal, kind)
            }));
        }
    }
    rows
}

/// Whether a service takes another file for each operation.
fn goes_round(service: &str) -> bool {
    !["files-pread", "files-pwrite", "files-create-unlink", "files-readdir"].contains(&service)
}

/// After 1,000 forks in the same container.
fn aged() -> impl Iterator<Item = Row> {
    let wanted = [
        "getppid",
        "open-close",
        "create-write-unlink",
        "pipe-one-task",
        "mmap-touch-1m",
        "thread-create-join",
        "fork-exit-wait",
        "spawn-static",
    ];
    let services = SERVICES.iter().filter(move |(name, _)| wanted.contains(name)).chain(TRIPS);
    services.map(|&(name, ratio)| {
        let options = ["--forks", "1000"];
        Row { who: Who::HostAndOurs, ..Row::with(&format!("{name}-after-1000-forks"), name, ratio, &options) }
    })
}

/// How much more two processes do than one.
const SCALING: &[&str] = &[
    "pipe-one-task",
    "open-close",
    "pread-1k-below",
    "fork-exit-wait",
    "futex-round-trip",
    "futex-one-task",
    "mmap-munmap-64k",
];

const SCALING_GOAL: f64 = 1.6;

fn scaling() -> impl Iterator<Item = Row> {
    SCALING.iter().map(|service| {
        let kind = Kind::Service { name: service, options: Vec::new(), place: Place::Upper };
        let row = Row::new(&format!("two-processes-{service}"), Goal::Factor(SCALING_GOAL), kind);
        Row { who: Who::HostAndOurs, ..row }
    })
}

fn trips() -> Vec<Row> {
    let mut rows = Vec::new();
    for busy in 0..=2 {
        rows.extend(TRIPS.iter().map(|&(service, ratio)| {
            let name = if busy == 0 { service.to_owned() } else { format!("{service}-beside-{busy}-busy") };
            let who = if busy == 0 { Who::All } else { Who::HostAndOurs };
            Row { cpu_counts: true, busy, who, ..Row::with(&name, service, ratio, &[]) }
        }));
    }
    rows
}

/// From the command to the first guest instruction.
const START_NS: f64 = 3e6;

fn programs() -> Vec<Row> {
    let inside = |name, goal, words, is_first| Row::new(name, goal, Kind::Inside { words, is_first });
    let (bash, python) =
        (&["bash", "-c", "for i in {1..200}; do /bin/true; done"], &["/usr/bin/python3", "-c", "pass"]);
    let compile = &["sh", "-c", COMPILE];
    vec![
        inside("bash-200-commands", Goal::Ratio(0.8), bash, false),
        inside("python-pass", Goal::Ratio(0.9), python, false),
        inside("gcc-one-file", Goal::Ratio(1.0), compile, false),
        inside("python-pass-first", Goal::Ratio(FIRST_PASS), python, true),
        inside("gcc-one-file-first", Goal::Ratio(FIRST_PASS), compile, true),
        Row::new("start-true", Goal::OverCrun(0.0), Kind::Whole(&["/bin/true"])),
        Row { who: Who::Ours, ..Row::new("first-instruction", Goal::AtMost(START_NS), Kind::FirstInstruction) },
    ]
}

/// Programs that do nothing once they are ready.
const RESTING: &[(&str, &[&str], &str)] = &[
    ("sleep", &["sh", "-c", "echo ready; exec sleep 1000"], "ready"),
    ("shell", &["bash", "-c", "for i in {1..10}; do sleep 1000 & done; echo ready; wait"], "ready"),
    ("redis", &["bash", "-c", REDIS], "accept connections"),
];

const REDIS: &str = concat!(suites::redis_server!(), " --port 0 --unixsocket /tmp/redis.sock");

/// Beside the program, at rest.
const REST_BYTES: f64 = 2.0 * 1024.0 * 1024.0;
/// A tick more than the host would be CPU time for nothing.
const REST_TICKS: f64 = 1.0;
const REST_ROUNDS: u32 = 3;
const CROWD_GOAL: f64 = 1.5;

fn resting() -> impl Iterator<Item = Row> {
    let memory = RESTING.iter().map(|&(name, words, ready)| {
        let rest = Rest { words, ready, measure: Measure::Memory };
        let row = Row::new(&format!("rest-memory-{name}"), Goal::OverCrun(REST_BYTES), Kind::Rest(rest));
        Row { who: Who::HostCrunAndOurs, most_rounds: REST_ROUNDS, ..row }
    });
    let ticks = RESTING.iter().map(|&(name, words, ready)| {
        let rest = Rest { words, ready, measure: Measure::Ticks };
        let row = Row::new(&format!("rest-ticks-{name}"), Goal::OverHost(REST_TICKS), Kind::Rest(rest));
        Row { who: Who::HostAndOurs, most_rounds: REST_ROUNDS, ..row }
    });
    memory.chain(ticks)
}

fn crowds() -> impl Iterator<Item = Row> {
    let crowds = [("100-containers-in-turn", Crowd::InTurn), ("100-containers-at-once", Crowd::AtOnce)];
    crowds.into_iter().map(|(name, crowd)| {
        let row = Row::new(name, Goal::AtMost(CROWD_GOAL), Kind::Crowd(crowd));
        Row { who: Who::HostAndOurs, most_rounds: REST_ROUNDS, ..row }
    })
}

/// A goal as people read it.
pub(super) fn goal_text(row: &Row) -> String {
    match row.goal {
        Goal::None => String::new(),
        Goal::Ratio(goal) if goal < 0.26 => format!("1/{:.0}", 1.0 / goal),
        Goal::Ratio(goal) => format!("{goal:.2}"),
        Goal::Factor(goal) => format!("≥ {goal}"),
        Goal::AtMost(goal) => format!("≤ {}", value_text(row.unit, goal)),
        Goal::OverCrun(0.0) => "crun".to_owned(),
        Goal::OverCrun(more) => format!("crun + {}", value_text(row.unit, more)),
        Goal::OverHost(more) => format!("host + {}", value_text(row.unit, more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_read_as_fractions() {
        let texts = [0.05, 0.25, 1.0].map(|goal| goal_text(&Row::with("row", "row", goal, &[])));
        assert_eq!(texts, ["1/20", "1/4", "1.00"]);
    }

    #[test]
    fn no_two_rows_have_one_name() {
        let mut names: Vec<String> = all(None).into_iter().map(|row| row.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
