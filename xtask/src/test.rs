//! `cargo xtask test`: `cargo test` with the built `xc` at hand, then the conformance program.

mod conformance;
mod errnos;

use crate::build;
use crate::command;
use crate::setup::{self, Needs};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Longer than any test takes, many times. A test that hangs ends here, with the other tests of its program, and has failed.
const PATIENCE: Duration = Duration::from_secs(300);

/// What follows `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Filters, and options of the test programs: `--exact`, `--nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds, tests and counts.
///
/// # Errors
/// When something is missing or does not compile.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(Needs::Test)?;
    let xc = build::all()?;
    let mut tally = Tally::default();
    // Compiled apart: only tests are given up when they say nothing.
    let compiled = command::status(cargo_test(&xc).arg("--no-run"))?.success();
    let ok = compiled && count(cargo_test(&xc).arg("--").args(&args.rest), PATIENCE, &mut tally)?;
    let filters: Vec<String> = args.rest.iter().filter(|arg| !arg.starts_with('-')).cloned().collect();
    conformance::run(&xc, &filters, &mut tally)?;
    if tally.pending > 0 {
        println!("{} cases are known not to pass in a container yet", tally.pending);
    }
    // Again at the end: of a long output people see the last part, and machines keep no more.
    tally.complaints.iter().for_each(|line| println!("{line}"));
    println!("{} passed, {} failed", tally.passed, tally.failed);
    // What does not compile leaves no count.
    Ok(ExitCode::from(u8::from(!ok || tally.failed > 0)))
}

fn cargo_test(xc: &Path) -> Command {
    let mut cargo = command::cargo();
    cargo.args(["test", "--workspace", "--exclude", "xlibos-image", "--no-fail-fast"]);
    cargo.env("XC_BIN", xc).env("XLIBOS_BIN", build::image());
    cargo
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    /// Failed, and known to.
    pending: u64,
    /// What was said of each failure.
    complaints: Vec<String>,
}

impl Tally {
    /// Takes a line that a test program said; `failing` while it tells of what failed.
    fn hear(&mut self, line: &str, failing: &mut bool) {
        *failing = (*failing || line == "failures:") && !line.starts_with("test result: ");
        if *failing {
            self.complaints.push(line.to_owned());
        }
        self.add(line);
    }

    /// Adds what a test program says at its end: `test result: ok. 3 passed; 0 failed; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let counts = result.split_once(". ").map_or(result, |(_, counts)| counts);
        for count in counts.split("; ") {
            match count.split_once(' ') {
                Some((n, "passed")) => self.passed += n.parse().unwrap_or(0),
                Some((n, "failed")) => self.failed += n.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// Runs the command, shows its output as it comes, and counts; true when it succeeded. What the command began is killed each
/// time that nothing was said for so long.
fn count(command: &mut Command, patience: Duration, tally: &mut Tally) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let lines = child.stdout.take().map(command::lines);
    let causes = child.stderr.take().map(|stream| std::thread::spawn(|| causes(stream)));
    let (mut failing, known) = (false, tally.failed);
    while let Some(lines) = &lines {
        match lines.recv_timeout(patience) {
            Ok(line) => {
                let line = line?;
                println!("{line}");
                tally.hear(&line, &mut failing);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("nothing said for {} s: these tests are given up", patience.as_secs());
                tally.failed += 1;
                command::kill_below(child.id())?;
            }
        }
    }
    let succeeded = child.wait()?.success();
    if let Some(Ok(causes)) = causes.map(std::thread::JoinHandle::join) {
        tally.complaints.extend(causes?);
    }
    if !succeeded && tally.failed == known {
        tally.failed += 1; // A program that died, and left no count.
    }
    Ok(succeeded)
}

/// Shows what cargo says beside the tests, and returns how programs ended that failed.
fn causes(stream: impl std::io::Read) -> std::io::Result<Vec<String>> {
    let mut causes = Vec::new();
    command::each_line(stream, |line| {
        eprintln!("{line}");
        if line.starts_with("error: test failed") || line.contains("process didn't exit successfully") {
            causes.push(line.to_owned());
        }
    })?;
    Ok(causes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_test_programs_are_added_up() {
        let mut tally = Tally::default();
        tally.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        tally.add("test result: FAILED. 40 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.add("12 passed; 12 failed");
        assert_eq!(tally, Tally { passed: 43, failed: 2, ..Tally::default() });
    }

    #[test]
    fn what_failed_and_why_is_kept_for_the_end() {
        let mut tally = Tally::default();
        let says = "echo test a ... FAILED; echo failures:; echo ---- a ----; echo panicked; echo 'test result: FAILED. 0 passed; 1 failed'
            echo test b ... ok; echo \"process didn't exit successfully: x (signal: 9)\" >&2; exit 101";
        assert!(!count(Command::new("bash").args(["-c", says]), PATIENCE, &mut tally).unwrap());
        assert_eq!(tally.complaints[..3], ["failures:", "---- a ----", "panicked"]);
        assert_eq!(tally.complaints.len(), 4, "{:?}", tally.complaints);
    }

    #[test]
    fn a_program_that_dies_without_a_count_has_failed() {
        let mut tally = Tally::default();
        assert!(
            !count(Command::new("sh").args(["-c", "echo test result: ok. 3 passed; exit 101"]), PATIENCE, &mut tally)
                .unwrap()
        );
        assert_eq!((tally.passed, tally.failed), (3, 1));
    }

    #[test]
    fn tests_that_hang_are_given_up_and_the_next_ones_run() {
        let mut tally = Tally::default();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000; echo test result: ok. 3 passed; exit 1"]);
        assert!(!count(&mut command, Duration::from_millis(1), &mut tally).unwrap());
        assert_eq!(tally.passed, 3);
        assert!(tally.failed >= 1);
    }
}
