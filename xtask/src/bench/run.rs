//! One run of one row on one runtime: its value, and the CPU time that it took.

use super::group::Group;
use super::rows::{Kind, Place, Row, Unit};
use super::runtime::{Job, Runtime};
use super::site::Site;
use super::suites::Suite;
use super::{counts, crowd, rest};
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

/// What one run gave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// In the row's unit.
    pub(super) value: f64,
    /// CPU time an operation of all processes: supervisor, reaper and kernel threads of the runtime too.
    pub(super) cpu_ns: Option<f64>,
}

/// Measures once.
///
/// # Errors
/// Where a container fails, or the workload prints something else than figures.
pub(super) fn once(site: &Site, row: &Row, runtime: &Runtime, ms: u32) -> Result<Sample> {
    match &row.kind {
        Kind::Rest(rest) => rest::once(site, rest, runtime),
        Kind::FirstInstruction => first_instruction(site, runtime),
        Kind::Crowd(crowd) => crowd::once(site, *crowd, runtime),
        Kind::Suite(suite) => opinion(site, row, suite, runtime),
        Kind::Service { .. } if row.unit == Unit::Factor => scaled(site, row, runtime, ms),
        Kind::Service { .. } | Kind::Inside { .. } | Kind::Whole(_) => timed(site, row, runtime, ms),
    }
}

fn timed(site: &Site, row: &Row, runtime: &Runtime, ms: u32) -> Result<Sample> {
    let job = job(site, row, &["--ms", &ms.to_string(), "--marks"])?;
    let _busy = Busy::start(row.busy)?;
    watch(site, runtime.command(site, &job)?, |_| ())
}

/// Its own figure; of the CPU time of its whole run, a part as large as an operation is of the time.
fn opinion(site: &Site, row: &Row, suite: &Suite, runtime: &Runtime) -> Result<Sample> {
    let job = job(site, row, &["--marks"])?;
    let (mut figure, mut said) = (None, String::new());
    let whole = watch(site, runtime.command(site, &job)?, |line| {
        figure = suite.figure(line).or(figure);
        if !line.is_empty() && !line.starts_with("command ") {
            line.clone_into(&mut said);
        }
    });
    let whole = whole.with_context(|| format!("it said last: {said}"))?;
    let value = figure.with_context(|| format!("it told no figure; it said last: {said}"))?;
    Ok(Sample { value, cpu_ns: whole.cpu_ns.map(|cpu| cpu * value / whole.value) })
}

fn first_instruction(site: &Site, runtime: &Runtime) -> Result<Sample> {
    let job = Job { has_stats: true, ..Job::new(&["/bin/true"]) };
    let output = runtime.command(site, &job)?.output().context("cannot start the runtime")?;
    let stats = counts::stats(&String::from_utf8_lossy(&output.stderr)).context("it reports nothing")?;
    let value = stats["firstInstructionNs"].as_f64().context("it does not tell when the guest began")?;
    Ok(Sample { value, cpu_ns: None })
}

/// Milliseconds that two processes take at least: the host's scheduler moves them to two processors when it looks again.
const SCALED_MS: u32 = 50;

/// One process on one processor first: two tasks that wake each other are slower on two, which would be a gain of
/// those that come after.
fn scaled(site: &Site, row: &Row, runtime: &Runtime, ms: u32) -> Result<Sample> {
    let ms = ms.max(SCALED_MS).to_string();
    let run = |tasks: &str| {
        let job = job(site, row, &["--ms", &ms, "--tasks", tasks])?;
        runtime.command(site, &job)
    };
    let (one, two) = (watch(site, on_one_processor(&run("1")?), |_| ())?, watch(site, run("2")?, |_| ())?);
    Ok(Sample { value: one.value / two.value, cpu_ns: None })
}

fn on_one_processor(command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["--cpu-list", "0"]).arg(command.get_program()).args(command.get_args());
    pinned.current_dir("/").env_clear();
    pinned.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    pinned
}

/// The row as a job of the workload, with these options after its own.
///
/// # Errors
/// Where the row is none.
pub(super) fn job(site: &Site, row: &Row, options: &[&str]) -> Result<Job> {
    let program = [site.workload.as_str()];
    Ok(match &row.kind {
        Kind::Service { name, options: own, place } => {
            let directory = match place {
                Place::Upper => "/tmp/tree",
                Place::Hostfs => &site.tree,
                Place::Volume => &site.volume,
            };
            let words = [&program, own.as_slice(), &["--dir", directory], options, &[name]].concat();
            Job { has_volume: *place == Place::Volume, ..Job::new(&words) }
        }
        Kind::Inside { words, is_first } => {
            let warm: &[&str] = if *is_first { &[] } else { &["--warm"] };
            Job::new(&[&program, options, warm, &["--command"], words].concat())
        }
        Kind::Whole(words) => {
            let timer = [&program, options, &["--command"]].concat();
            Job { timer: timer.into_iter().map(str::to_owned).collect(), ..Job::new(words) }
        }
        Kind::Suite(suite) => {
            let words = suite.words();
            let words = words.iter().map(String::as_str);
            Job::new(
                &program
                    .into_iter()
                    .chain(options.iter().copied())
                    .chain(["--command"])
                    .chain(words)
                    .collect::<Vec<_>>(),
            )
        }
        Kind::FirstInstruction | Kind::Rest(_) | Kind::Crowd(_) => bail!("{} is no job of the workload", row.name),
    })
}

/// Runs a workload with marks, and reads the group's clock at each. Other lines are also shown to `other`.
fn watch(site: &Site, mut command: Command, mut other: impl FnMut(&str)) -> Result<Sample> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start the runtime")?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (mut stdin, stdout) = (stdin.context("no standard input")?, stdout.context("no standard output")?);
    let (mut first, mut last, mut result) = (None, None, None);
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        let clock = || site.group.as_ref().map(Group::cpu_ns).transpose();
        match line.as_str() {
            "begin" => first = clock()?,
            "end" => last = clock()?,
            line => {
                result = numbers(line).or(result);
                other(line);
            }
        }
        if matches!(line.as_str(), "begin" | "end") {
            // Whoever has died meanwhile tells so by its status.
            let _ = stdin.write_all(b"!");
        }
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{}: {}", output.status, text.trim().lines().last().unwrap_or("it says nothing"));
    }
    let (value, operations) = result.context("it printed no time")?;
    let cpu_ns = first.zip(last).map(|(first, last)| (last - first) / operations);
    Ok(Sample { value, cpu_ns })
}

/// `NAME VALUE OPERATIONS`.
fn numbers(line: &str) -> Option<(f64, f64)> {
    let mut words = line.split(' ').skip(1);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Until the process with this number is gone, killed as that may be.
const SPIN: &str = "while kill -0 \"$0\"; do i=0; while [ $i -lt 10000 ]; do i=$((i + 1)); done; done";

/// Processes of the host that compute until the value goes.
struct Busy(Vec<Child>);

impl Busy {
    fn start(count: usize) -> Result<Busy> {
        let own = std::process::id().to_string();
        let spin = || Command::new("sh").args(["-c", SPIN, &own]).stderr(Stdio::null()).spawn();
        Ok(Busy((0..count).map(|_| spin()).collect::<Result<_, _>>()?))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::Goal;

    #[test]
    fn a_result_has_a_value_and_operations() {
        assert_eq!(numbers("getppid 112.5 1024"), Some((112.5, 1024.0)));
        assert_eq!(numbers("sh: not found"), None);
    }

    #[test]
    fn a_row_on_the_volume_mounts_it() {
        let site = Site { workload: "w".to_owned(), volume: "/v".to_owned(), ..Site::default() };
        let kind = Kind::Service { name: "stat", options: vec!["--warm"], place: Place::Volume };
        let row = Row::new("row", Goal::None, kind);
        let job = job(&site, &row, &["--ms", "1"]).unwrap_or_default();
        assert_eq!((job.has_volume, job.words.join(" ").as_str()), (true, "w --warm --dir /v --ms 1 stat"));
    }
}
