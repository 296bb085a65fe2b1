//! docs/benchmarks.md.

use super::machine;
use super::results::Results;
use super::table;
use std::fmt::Write as _;

const HEAD: &str = "# Benchmarks

Made by `cargo xtask bench --write-docs`; the machine and the noise are this run's. [How to measure](measuring.md)
says what the columns mean. `host` is the bare host's value, the other runtimes' are ratios of it where it is a time:
lower is better. All have a tmpfs (ours its own memory) on /tmp; the others run on the host's root, read-only, with
podman's seccomp profile; `ours` is `xc do`. CPU is ours by the host's an operation; host calls, broker requests and
page faults are ours an operation.
";

/// The page, with what it was made by.
pub(super) fn text(results: &Results, made_by: &str, notes: &[String]) -> String {
    let mut out = String::from(HEAD);
    let _ = writeln!(out, "\n{made_by}\n\n{}", machine::describe());
    for (index, line) in table::cells(results).iter().enumerate() {
        let _ = writeln!(out, "| {} |", line.join(" | "));
        if index == 0 {
            let _ = writeln!(out, "|{}", "---|".repeat(line.len()));
        }
    }
    notes.iter().chain(&results.failures()).for_each(|note| {
        let _ = writeln!(out, "\n{note}");
    });
    out
}
