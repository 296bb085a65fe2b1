//! The conformance program: every family on the host's Linux, then in a container of its own.

use super::{Tally, errnos};
use crate::{command, setup};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// Longer than any family takes; a family that hangs ends here, and its unfinished cases have failed.
const DEADLINE: Duration = Duration::from_secs(120);

/// Cases that do not pass in a container yet, one a line; `#` begins a comment.
const PENDING: &str = "tests/conformance/pending.txt";
/// What each call has to answer in some case.
const ERRNOS: &str = "tests/conformance/errnos.txt";

/// Runs the cases whose name contains one of the filters, or all.
///
/// # Errors
/// When the program does not compile or cannot be started.
pub(super) fn run(xc: &Path, filters: &[String], tally: &mut Tally) -> Result<()> {
    command::run(command::cargo().args(["build", "--quiet", "--package", "conformance"]))?;
    let program = command::target_dir().join("debug/conformance");
    let listed = command::output(Command::new(&program).arg("--list").args(filters))?;
    let pending = std::fs::read_to_string(command::root().join(PENDING)).unwrap_or_default();
    let pending: BTreeSet<&str> = pending.lines().filter_map(|line| line.split('#').next()).map(str::trim).collect();
    let (mounts, mut seen) = (mounts()?, errnos::Seen::new());
    for (family, cases) in &families(&listed) {
        println!("conformance {family}, on the host");
        let found = outcomes(Command::new(&program).args(exactly(cases)), &mut errnos::Seen::new())?;
        tally_cases(cases, &found, &BTreeSet::new(), tally);
        println!("conformance {family}, in a container");
        let mut inside = Command::new(xc);
        inside.arg("do").args(&mounts).arg("--").arg(&program).arg("--coverage").args(exactly(cases));
        let found = outcomes(&mut inside, &mut seen)?;
        tally_cases(cases, &found, &pending, tally);
    }
    // An ordinary user skips what only root can bring about.
    if filters.is_empty() && setup::is_root()? { compare(xc, &seen, tally) } else { Ok(()) }
}

/// Options for the mounts that cases need and no guest can make: `tests/conformance/src/place.rs` says what is in them.
fn mounts() -> Result<Vec<String>> {
    let source = command::target_dir().join("conformance-mounts");
    std::fs::create_dir_all(source.join("d")).with_context(|| format!("cannot make {}", source.display()))?;
    std::fs::write(source.join("f"), "text").with_context(|| format!("cannot fill {}", source.display()))?;
    let fifo = source.join("p");
    if !fifo.exists() {
        command::run(Command::new("mkfifo").arg(&fifo))?;
    }
    let (source, place) = (source.display(), "/conformance");
    let options = [
        ["-v", &format!("{source}:{place}/read-only:ro")],
        ["-v", &format!("{source}/f:{place}/busy")],
        ["--tmpfs", &format!("{place}/small:size=16k,nr_inodes=8")],
        ["--tmpfs", &format!("{place}/memory")],
        ["-e", &format!("CONFORMANCE_MOUNTS={place}")],
    ];
    Ok(options.concat().into_iter().map(str::to_owned).collect())
}

/// Every errno that a call has to answer was answered in a container.
fn compare(xc: &Path, seen: &errnos::Seen, tally: &mut Tally) -> Result<()> {
    let list =
        std::fs::read_to_string(command::root().join(ERRNOS)).with_context(|| format!("cannot read {ERRNOS}"))?;
    let features: Value = serde_json::from_str(&command::output(Command::new(xc).arg("features"))?)?;
    let calls = features["systemCalls"].as_array().map_or(&[][..], Vec::as_slice);
    let supported = calls.iter().filter(|call| call["support"] != "absent").filter_map(|call| call["name"].as_str());
    let (wrong, todo) = errnos::compare(&list, supported, seen)?;
    println!("conformance errnos: {} differ, {todo} more want a case", wrong.len());
    match wrong.len() {
        0 => tally.passed += 1,
        _ => tally.failed += 1,
    }
    tally.complaints.extend(wrong.into_iter().map(|what| format!("FAIL conformance errnos: {what} ({ERRNOS})")));
    Ok(())
}

/// `family::case`, a line each, by family.
fn families(list: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in list.lines() {
        families.entry(name.split("::").next().unwrap_or(name)).or_default().push(name);
    }
    families
}

fn exactly<'a>(cases: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    cases.iter().flat_map(|case| ["--exact", case])
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Skipped,
    Failed,
}

/// Reads `ok NAME`, `skip NAME: why` and `FAIL NAME: why`.
fn outcome(line: &str) -> Option<(&str, Outcome)> {
    let (word, rest) = line.split_once(' ')?;
    let outcome = match word {
        "ok" => Outcome::Passed,
        "skip" => Outcome::Skipped,
        "FAIL" => Outcome::Failed,
        _ => return None,
    };
    Some((rest.split_once(": ").map_or(rest, |(name, _)| name), outcome))
}

/// Runs the program until its end or the deadline; shows what did not pass.
fn outcomes(command: &mut Command, seen: &mut errnos::Seen) -> Result<BTreeMap<String, Outcome>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start conformance")?;
    let lines = child.stdout.take().map(command::lines);
    let end = Instant::now() + DEADLINE;
    let mut found = BTreeMap::new();
    while let Some(lines) = &lines {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => note(&line?, &mut found, seen),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("not done after {} s", DEADLINE.as_secs());
                command::kill_below(child.id())?;
                child.kill()?;
                break;
            }
        }
    }
    child.wait()?;
    Ok(found)
}

fn note(line: &str, found: &mut BTreeMap<String, Outcome>, seen: &mut errnos::Seen) {
    if errnos::note(line, seen) {
        return;
    }
    let Some((name, outcome)) = outcome(line) else { return };
    if outcome != Outcome::Passed {
        println!("{line}");
    }
    found.insert(name.to_owned(), outcome);
}

fn tally_cases(cases: &[&str], found: &BTreeMap<String, Outcome>, pending: &BTreeSet<&str>, tally: &mut Tally) {
    for case in cases {
        match found.get(*case) {
            Some(Outcome::Skipped) => {}
            Some(Outcome::Passed) => {
                tally.passed += 1;
                if pending.contains(case) {
                    println!("{case} passes; {PENDING} need not list it");
                }
            }
            _ if pending.contains(case) => tally.pending += 1,
            Some(Outcome::Failed) => {
                tally.complaints.push(format!("FAIL {case}"));
                tally.failed += 1;
            }
            None => {
                println!("FAIL {case}: was not finished");
                tally.complaints.push(format!("FAIL {case}: was not finished"));
                tally.failed += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_runner_are_read() {
        assert_eq!(outcome("ok file::open"), Some(("file::open", Outcome::Passed)));
        assert_eq!(outcome("FAIL file::open: a.rs:1: EIO"), Some(("file::open", Outcome::Failed)));
        assert_eq!(outcome("skip file::open: no disk"), Some(("file::open", Outcome::Skipped)));
        assert_eq!(outcome("3 passed, 0 failed"), None);
    }

    #[test]
    fn a_case_that_was_not_finished_has_failed_unless_it_is_pending() {
        let found = BTreeMap::from([("a::one".to_owned(), Outcome::Passed), ("a::two".to_owned(), Outcome::Failed)]);
        let mut tally = Tally::default();
        tally_cases(&["a::one", "a::two", "a::three"], &found, &BTreeSet::from(["a::two"]), &mut tally);
        assert_eq!((tally.passed, tally.failed, tally.pending), (1, 1, 1));
    }

    #[test]
    fn families_are_what_stands_before_the_colons() {
        assert_eq!(families("a::x\nb::y\na::z\n"), BTreeMap::from([("a", vec!["a::x", "a::z"]), ("b", vec!["b::y"])]));
    }
}
