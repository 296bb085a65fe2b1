//! Programs of other people that print figures of their own: a second opinion.
//!
//! hackbench, perf and redis-benchmark are Debian's. UnixBench, lmbench and will-it-scale are in no package: whoever wants their rows
//! builds them and names the directory (docs/suites.md). Nothing is fetched here.

use super::rows::{Goal, Kind, Row};
use super::site;
use std::path::Path;

/// Each takes seconds.
const MOST_ROUNDS: u32 = 3;

/// How a row's script begins: in a directory that it may write to, its program in $0, both streams as one. lmbench would
/// take half a minute to learn what 10 ms of measuring and no cost of its clocks tell it here.
const BEGIN: &str = "exec 2>&1; cd /tmp || exit 125; export UB_BINDIR=\"${0%/*}\" ENOUGH=10000 TIMING_O=0 LOOP_O=0; ";

/// A program that prints its own figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suite {
    /// Its path, or a name on PATH.
    program: String,
    /// What a shell does with it.
    script: &'static str,
    says: Says,
}

/// How a figure is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// UnixBench: `COUNT|OPERATIONS|…`, in so many seconds.
    Count { seconds: u32 },
    /// UnixBench on files: `COUNT|N|0|KBps`, taken as the time of 1 KiB.
    KibASecond,
    /// lmbench: `Simple syscall: N microseconds`.
    Microseconds,
    /// lmbench's lat_ctx: `PROCESSES MICROSECONDS`.
    Switch,
    /// will-it-scale: `average:N`, operations a second.
    Average,
    /// hackbench: `Time: SECONDS`; perf bench: `Total time: SECONDS [sec]`. Both of so many operations.
    Time { operations: u32 },
    /// perf bench: `N usecs/op`.
    MicrosecondsEach,
    /// redis-benchmark: `GET: N requests per second, …`.
    Requests,
}

/// Name, program below the directory of suites, script, figure.
type Line = (&'static str, &'static str, &'static str, Says);

const UNIXBENCH: &str = "byte-unixbench/UnixBench/pgms";
const ONE_SECOND: Says = Says::Count { seconds: 1 };
const TWO_SECONDS: Says = Says::Count { seconds: 2 };

const OF_UNIXBENCH: &[Line] = &[
    ("syscall", "syscall", "exec \"$0\" 1 mix", ONE_SECOND),
    ("pipe", "pipe", "exec \"$0\" 1", ONE_SECOND),
    ("context", "context1", "exec \"$0\" 1", ONE_SECOND),
    ("spawn", "spawn", "exec \"$0\" 1", ONE_SECOND),
    // It takes whole seconds of the clock, the first of them in part: more of them, less of that.
    ("execl", "execl", "exec \"$0\" 2", TWO_SECONDS),
    ("file-write-1k", "fstime", "exec \"$0\" -w -t 1 -b 1024 -m 2000", Says::KibASecond),
    ("file-read-1k", "fstime", "exec \"$0\" -r -t 1 -b 1024 -m 2000", Says::KibASecond),
    ("file-copy-1k", "fstime", "exec \"$0\" -c -t 1 -b 1024 -m 2000", Says::KibASecond),
    (
        "shell-script",
        "looper",
        "cp \"$UB_BINDIR/../testdir/sort.src\" . && exec \"$0\" 2 \"$UB_BINDIR/multi.sh\" 1",
        TWO_SECONDS,
    ),
];

const LMBENCH: &str = "lmbench/bin/x86_64-linux-gnu";

const OF_LMBENCH: &[Line] = &[
    ("null", "lat_syscall", "exec \"$0\" -N 3 null", Says::Microseconds),
    ("read", "lat_syscall", "exec \"$0\" -N 3 read", Says::Microseconds),
    ("write", "lat_syscall", "exec \"$0\" -N 3 write", Says::Microseconds),
    ("stat", "lat_syscall", "exec \"$0\" -N 3 stat /etc/passwd", Says::Microseconds),
    ("open-close", "lat_syscall", "exec \"$0\" -N 3 open /etc/passwd", Says::Microseconds),
    ("select-100-tcp", "lat_select", "exec \"$0\" -N 3 -n 100 tcp", Says::Microseconds),
    ("signal-install", "lat_sig", "exec \"$0\" -N 3 install", Says::Microseconds),
    ("signal-catch", "lat_sig", "exec \"$0\" -N 3 catch", Says::Microseconds),
    ("protection-fault", "lat_sig", "exec \"$0\" -N 3 prot \"$0\"", Says::Microseconds),
    ("pipe", "lat_pipe", "exec \"$0\" -N 3", Says::Microseconds),
    ("unix", "lat_unix", "exec \"$0\" -N 3", Says::Microseconds),
    ("unix-connect", "lat_unix_connect", "\"$0\" -s; \"$0\" -N 3; \"$0\" -S", Says::Microseconds),
    ("tcp", "lat_tcp", "\"$0\" -s; \"$0\" -N 3 127.0.0.1; \"$0\" -S 127.0.0.1", Says::Microseconds),
    ("udp", "lat_udp", "\"$0\" -s; \"$0\" -N 3 127.0.0.1; \"$0\" -S 127.0.0.1", Says::Microseconds),
    ("tcp-connect", "lat_connect", "\"$0\" -s; \"$0\" -N 3 127.0.0.1; \"$0\" -S 127.0.0.1", Says::Microseconds),
    ("semaphore", "lat_sem", "exec \"$0\" -N 3", Says::Microseconds),
    ("file-lock", "lat_fcntl", "exec \"$0\" -N 3", Says::Microseconds),
    ("fork-exit", "lat_proc", "exec \"$0\" -N 3 fork", Says::Microseconds),
    ("fork-exec", "lat_proc", "cp \"${0%/*}/hello\" . && exec \"$0\" -N 3 exec", Says::Microseconds),
    ("fork-shell", "lat_proc", "cp \"${0%/*}/hello\" . && exec \"$0\" -N 3 shell", Says::Microseconds),
    ("context-2", "lat_ctx", "exec \"$0\" -N 3 -s 0 2", Says::Switch),
    ("context-16", "lat_ctx", "exec \"$0\" -N 3 -s 0 16", Says::Switch),
    ("page-fault", "lat_pagefault", "seq 1000000 >pages; exec \"$0\" -N 3 pages", Says::Microseconds),
];

const SCALE: &str = "will-it-scale";

/// Two tasks at once: what both do together, an operation.
const TWO_TASKS: &str = "exec \"$0\" -t 2 -s 1";

const OF_SCALE: &[Line] = &[
    ("getppid-processes", "getppid1_processes", TWO_TASKS, Says::Average),
    ("open-threads", "open1_threads", TWO_TASKS, Says::Average),
    ("pipe-processes", "pipe1_processes", TWO_TASKS, Says::Average),
    ("unix-processes", "unix1_processes", TWO_TASKS, Says::Average),
    ("futex-threads", "futex1_threads", TWO_TASKS, Says::Average),
    ("page-fault-processes", "page_fault1_processes", TWO_TASKS, Says::Average),
    ("page-fault-threads", "page_fault1_threads", TWO_TASKS, Says::Average),
    ("mmap-threads", "mmap1_threads", TWO_TASKS, Says::Average),
];

const BUILT: &[(&str, &str, &[Line])] =
    &[("unixbench", UNIXBENCH, OF_UNIXBENCH), ("lmbench", LMBENCH, OF_LMBENCH), ("will-it-scale", SCALE, OF_SCALE)];

/// Of 20 senders to 20 receivers, 200 messages each.
const MESSAGES: Says = Says::Time { operations: 20 * 20 * 200 };

/// What a bash does to become a redis server: it and the checker of dumps are one program, and the package of the latter starts
/// no service.
macro_rules! redis_server {
    () => {
        "exec -a redis-server redis-check-rdb --save '' --dir /tmp"
    };
}
pub(super) use redis_server;

/// A redis server on loopback, so many clients of it, and its end.
macro_rules! redis {
    ($what:literal) => {
        concat!(
            "bash -c \"",
            redis_server!(),
            " --port 6390\" >redis.log & \
             until redis-cli -p 6390 ping >ping.log 2>&1; do kill -0 $! || exit 125; done; \
             \"$0\" -p 6390 -n 10000 -q ",
            $what,
            " | tr '\\r' '\\n'; redis-cli -p 6390 shutdown nosave; wait"
        )
    };
}

const INSTALLED: &[Line] = &[
    ("redis-get-1-client", "redis-benchmark", redis!("-t get -c 1"), Says::Requests),
    ("redis-get-50-clients", "redis-benchmark", redis!("-t get -c 50"), Says::Requests),
    ("redis-set-50-clients", "redis-benchmark", redis!("-t set -c 50"), Says::Requests),
    ("hackbench-processes", "hackbench", "exec \"$0\" -p -g 1 -l 200", MESSAGES),
    ("hackbench-threads", "hackbench", "exec \"$0\" -T -g 1 -l 200", MESSAGES),
    ("perf-bench-sched-pipe", "perf", "exec \"$0\" bench sched pipe -l 5000", Says::MicrosecondsEach),
    ("perf-bench-messaging", "perf", "exec \"$0\" bench sched messaging -g 1 -l 200", MESSAGES),
    ("perf-bench-syscall", "perf", "exec \"$0\" bench syscall basic -l 1000000", Says::MicrosecondsEach),
];

/// The rows of all suites; those that are not there say so.
pub(super) fn rows(directory: Option<&Path>) -> Vec<Row> {
    let mut rows: Vec<Row> = INSTALLED.iter().map(installed).collect();
    for (suite, below, lines) in BUILT {
        rows.extend(lines.iter().map(|line| built(suite, directory.map(|directory| directory.join(below)), line)));
    }
    rows
}

fn installed(&(name, program, script, says): &Line) -> Row {
    let lacks = (!site::is_on_path(program)).then_some("not installed");
    row(name, Suite { program: program.to_owned(), script, says }, lacks)
}

fn built(suite: &str, directory: Option<std::path::PathBuf>, &(name, program, script, says): &Line) -> Row {
    let path = directory.map(|directory| directory.join(program)).filter(|path| path.is_file());
    let lacks = path.is_none().then_some("not built: see docs/suites.md");
    let program = path.unwrap_or_default().display().to_string();
    row(&format!("{suite}-{name}"), Suite { program, script, says }, lacks)
}

fn row(name: &str, suite: Suite, lacks: Option<&'static str>) -> Row {
    Row { lacks, most_rounds: MOST_ROUNDS, ..Row::new(name, Goal::None, Kind::Suite(suite)) }
}

impl Suite {
    /// A shell that runs it.
    pub(super) fn words(&self) -> [String; 4] {
        // Not the container's first process: lmbench's children end where their parent is that.
        ["sh".to_owned(), "-c".to_owned(), format!("{BEGIN}({}); exit $?", self.script), self.program.clone()]
    }

    /// The figure in a line that has it: nanoseconds an operation.
    pub(super) fn figure(&self, line: &str) -> Option<f64> {
        let line = line.trim();
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number > 0.0);
        let last_but = |end: &str| number(line.strip_suffix(end)?.split_whitespace().next_back()?);
        match self.says {
            Says::Count { seconds } => {
                Some(f64::from(seconds) * 1e9 / number(line.strip_prefix("COUNT|")?.split('|').next()?)?)
            }
            Says::KibASecond => Some(1e9 / number(line.strip_prefix("COUNT|")?.strip_suffix("|0|KBps")?)?),
            Says::Microseconds => Some(last_but(" microseconds")? * 1e3),
            Says::Switch => {
                let (processes, micros) = line.split_once(' ')?;
                number(processes).and(number(micros)).map(|micros| micros * 1e3)
            }
            Says::Average => Some(1e9 / number(line.strip_prefix("average:")?)?),
            Says::Time { operations } => {
                let seconds = line.strip_prefix("Total time:").or_else(|| line.strip_prefix("Time:"))?;
                Some(number(seconds.strip_suffix("[sec]").unwrap_or(seconds))? * 1e9 / f64::from(operations))
            }
            Says::MicrosecondsEach => Some(last_but(" usecs/op")? * 1e3),
            Says::Requests => {
                Some(1e9 / number(line.split_once(" requests per second")?.0.split_whitespace().next_back()?)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a suite's own output is read as.
    fn read(says: Says, output: &str) -> Vec<f64> {
        let suite = Suite { program: String::new(), script: "", says };
        output.lines().filter_map(|line| suite.figure(line)).map(|ns| (ns * 100.0).round() / 100.0).collect()
    }

    #[test]
    fn unixbench_counts_operations_in_so_many_seconds() {
        assert_eq!(read(TWO_SECONDS, "COUNT|4000000|1|lps\n"), [500.0]);
        assert_eq!(read(ONE_SECOND, "COUNT|50|60|lpm\n"), [2e7]);
        assert_eq!(read(ONE_SECOND, "Exec failed at iteration 1\nCOUNT|0|1|lps\n"), [0.0; 0]);
    }

    #[test]
    fn unixbench_on_files_tells_kib_a_second() {
        let output = "Write done: 500000 in 1.0000, score 125000\nCOUNT|2000000|0|KBps\nTIME|1.0\n";
        assert_eq!(read(Says::KibASecond, output), [500.0]);
    }

    #[test]
    fn lmbench_tells_microseconds() {
        assert_eq!(read(Says::Microseconds, "Simple syscall: 0.1250 microseconds\n"), [125.0]);
        assert_eq!(read(Says::Microseconds, "Pagefaults on pages: 0.2000 microseconds\n"), [200.0]);
        assert_eq!(read(Says::Microseconds, "Pipe bandwidth: 1000.00 MB/sec\n"), [0.0; 0]);
        assert_eq!(read(Says::Switch, "\n\"size=0k ovr=0.50\n2 1.75\n"), [1750.0]);
    }

    #[test]
    fn will_it_scale_tells_operations_a_second() {
        let output = "testcase:a\nwarmup\nmin:1 max:2 total:3\nmeasurement\nmin:4 max:5 total:9\naverage:2000000\n";
        assert_eq!(read(Says::Average, output), [500.0]);
    }

    #[test]
    fn messages_share_the_time_of_all() {
        let of_eighty = Says::Time { operations: 80 };
        assert_eq!(read(of_eighty, "Running in process mode with 1 groups\nTime: 0.008\n"), [1e5]);
        assert_eq!(read(of_eighty, "# 20 sender and receiver processes\n\n     Total time: 0.016 [sec]\n"), [2e5]);
        let each = "     Total time: 0.050 [sec]\n\n      10.250000 usecs/op\n          97560 ops/sec\n";
        assert_eq!(read(Says::MicrosecondsEach, each), [10250.0]);
    }

    #[test]
    fn redis_tells_requests_a_second() {
        let output =
            "GET: rps=100.0 (overall: 200.0) avg_msec=0.1\nGET: 50000.00 requests per second, p50=0.100 msec\n";
        assert_eq!(read(Says::Requests, output), [20000.0]);
    }

    #[test]
    fn a_suite_that_is_not_built_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let lacks = |directory, name: &str| {
            rows(directory).into_iter().find(|row| row.name == name).map(|row| row.lacks.is_some())
        };
        assert_eq!(lacks(None, "lmbench-null"), Some(true));
        assert_eq!(lacks(Some(directory.path()), "lmbench-null"), Some(true));
        std::fs::create_dir_all(directory.path().join(LMBENCH)).unwrap();
        std::fs::write(directory.path().join(LMBENCH).join("lat_syscall"), "").unwrap();
        assert_eq!(lacks(Some(directory.path()), "lmbench-null"), Some(false));
        assert_eq!(lacks(Some(directory.path()), "lmbench-pipe"), Some(true));
    }
}
