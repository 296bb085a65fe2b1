//! Medians, spreads, ratios and verdicts.

use super::Row;
use super::runtime::{self, Runtime};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A row whose quartiles lie further apart than this part of the median is too wide to judge.
const TOO_WIDE: f64 = 0.25;

/// What was measured: by row and runtime.
#[derive(Debug)]
pub(super) struct Results {
    rows: Vec<(&'static str, Option<f64>)>,
    samples: BTreeMap<(&'static str, usize), Vec<f64>>,
    failures: BTreeMap<(&'static str, usize), String>,
}

impl Results {
    pub(super) fn new(rows: &[Row]) -> Results {
        let rows = rows.iter().map(|row| (row.name, row.goal)).collect();
        Results { rows, samples: BTreeMap::new(), failures: BTreeMap::new() }
    }

    /// Adds the nanoseconds of one run, or why it failed.
    pub(super) fn add_outcome(&mut self, row: &'static str, runtime: usize, time: anyhow::Result<f64>) {
        match time {
            Ok(nanoseconds) => self.add(row, runtime, nanoseconds),
            Err(error) => self.fail(row, runtime, &format!("{error:#}")),
        }
    }

    fn add(&mut self, row: &'static str, runtime: usize, nanoseconds: f64) {
        self.samples.entry((row, runtime)).or_default().push(nanoseconds);
    }

    fn fail(&mut self, row: &'static str, runtime: usize, why: &str) {
        self.failures.entry((row, runtime)).or_insert_with(|| why.to_owned());
    }

    fn median(&self, row: &'static str, runtime: usize) -> Option<f64> {
        quantile(self.samples.get(&(row, runtime))?, 0.5)
    }

    fn ratio(&self, row: &'static str, runtime: usize) -> Option<f64> {
        Some(self.median(row, runtime)? / self.median(row, 0)?)
    }

    /// Distance of the quartiles as a part of the median.
    fn spread(&self, row: &'static str, runtime: usize) -> Option<f64> {
        let samples = self.samples.get(&(row, runtime))?;
        Some((quantile(samples, 0.75)? - quantile(samples, 0.25)?) / quantile(samples, 0.5)?)
    }

    fn verdict(&self, row: &'static str, goal: Option<f64>, ours: usize) -> &'static str {
        let is_wide = |runtime| self.spread(row, runtime).is_some_and(|spread| spread > TOO_WIDE);
        let is_short = |runtime| self.samples.get(&(row, runtime)).is_none_or(|samples| samples.len() < FEWEST);
        let has_failed = (0..=ours).any(|runtime| self.failures.contains_key(&(row, runtime)));
        match (self.ratio(row, ours), goal) {
            (None, _) => "failed",
            (Some(_), _) if has_failed => "failed in part",
            (Some(_), None) => "",
            (Some(_), Some(_)) if is_short(ours) || is_short(0) => "too few rounds to judge",
            (Some(_), Some(_)) if is_wide(ours) || is_wide(0) => "too wide to judge",
            (Some(ratio), Some(goal)) if ratio <= goal => "met",
            (Some(_), Some(_)) => "missed",
        }
    }
}

fn quantile(samples: &[f64], part: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    sorted.get((part * last as f64).round() as usize).copied()
}

/// Fewer samples than this say nothing about their spread.
const FEWEST: usize = 3;

/// A goal as people read it.
pub(super) fn goal_text(goal: Option<f64>) -> String {
    match goal {
        None => String::new(),
        Some(goal) if goal < 0.26 => format!("1/{:.0}", 1.0 / goal),
        Some(goal) => format!("{goal:.2}"),
    }
}

fn time_text(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.1} µs", n / 1e3),
        n => format!("{:.2} ms", n / 1e6),
    }
}

/// Cells of each row: name, the host's time, ratios, goal, verdict.
fn cells(results: &Results, runtimes: &[Runtime]) -> Vec<Vec<String>> {
    let ours = runtimes.len().saturating_sub(1);
    let names = runtimes.iter().skip(1).map(|runtime| runtime.name.to_owned());
    let mut all = vec![["row", "host"].map(str::to_owned).into_iter().chain(names).collect::<Vec<_>>()];
    all[0].extend(["goal", ""].map(str::to_owned));
    for &(row, goal) in &results.rows {
        let mut line = vec![row.to_owned(), results.median(row, 0).map_or_else(|| "-".to_owned(), time_text)];
        for runtime in 1..runtimes.len() {
            line.push(results.ratio(row, runtime).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")));
        }
        line.extend([goal_text(goal), results.verdict(row, goal, ours).to_owned()]);
        all.push(line);
    }
    all
}

/// The table for a terminal; what failed stands below it.
pub(super) fn text(results: &Results, runtimes: &[Runtime]) -> String {
    let cells = cells(results, runtimes);
    let columns = cells.first().map_or(0, Vec::len);
    let width = |column: usize| cells.iter().filter_map(|line| line.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for line in &cells {
        for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if index == 0 || index + 1 == columns {
                write!(out, "{cell:width$}  ")
            } else {
                write!(out, "{cell:>width$}  ")
            };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    failures(results, runtimes).iter().for_each(|line| {
        let _ = writeln!(out, "{line}");
    });
    out
}

fn failures(results: &Results, runtimes: &[Runtime]) -> Vec<String> {
    let name = |runtime: usize| runtimes.get(runtime).map_or("", |runtime| runtime.name);
    let lines = results.failures.iter();
    lines.map(|((row, runtime), why)| format!("{row} failed on {}: {why}", name(*runtime))).collect()
}

/// Everything measured, for programs.
pub(super) fn json(results: &Results, runtimes: &[Runtime]) -> String {
    let rows = results.rows.iter().map(|&(row, goal)| {
        let by_runtime = runtimes.iter().enumerate().map(|(index, runtime)| {
            let samples = results.samples.get(&(row, index)).cloned().unwrap_or_default();
            let value = json!({ "samplesNs": samples, "medianNs": results.median(row, index),
                "ratio": results.ratio(row, index), "spread": results.spread(row, index) });
            (runtime.name.to_owned(), value)
        });
        json!({ "row": row, "goal": goal, "runtimes": by_runtime.collect::<serde_json::Map<_, _>>() })
    });
    json!({ "rows": rows.collect::<Vec<_>>(), "failures": failures(results, runtimes) }).to_string()
}

/// docs/benchmarks.md.
pub(super) fn page(results: &Results, runtimes: &[Runtime], refused: &[String]) -> String {
    let mut out = String::from(
        "# Benchmarks\n\nMade by `cargo xtask bench --write-docs`; the machine and the noise are this run's. `host` is the \
         bare host's time an operation (median), the other columns are ratios of it: lower is better. All \
         have a tmpfs (ours its own memory) on /tmp; runc and crun run on the host's root, read-only, with podman's seccomp \
         profile; `ours` is `xc do`.\n\n",
    );
    out.push_str(&runtime::machine());
    out.push('\n');
    for (index, line) in cells(results, runtimes).iter().enumerate() {
        let _ = writeln!(out, "| {} |", line.join(" | "));
        if index == 0 {
            let _ = writeln!(out, "|{}", "---|".repeat(line.len()));
        }
    }
    refused.iter().chain(&failures(results, runtimes)).for_each(|why| {
        let _ = writeln!(out, "\n{why}");
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Kind;

    fn results(host: &[f64], ours: &[f64]) -> Results {
        let mut results = Results::new(&[Row { name: "row", goal: Some(0.5), kind: Kind::Service }]);
        host.iter().for_each(|n| results.add("row", 0, *n));
        ours.iter().for_each(|n| results.add("row", 1, *n));
        results
    }

    #[test]
    fn verdicts_follow_the_ratio_of_medians() {
        assert_eq!(results(&[100.0, 101.0, 99.0], &[40.0, 41.0, 39.0]).verdict("row", Some(0.5), 1), "met");
        assert_eq!(results(&[100.0, 101.0, 99.0], &[60.0, 61.0, 59.0]).verdict("row", Some(0.5), 1), "missed");
        assert_eq!(
            results(&[100.0, 300.0, 10.0], &[40.0, 41.0, 39.0]).verdict("row", Some(0.5), 1),
            "too wide to judge"
        );
        assert_eq!(results(&[100.0], &[]).verdict("row", Some(0.5), 1), "failed");
    }

    #[test]
    fn goals_read_as_fractions() {
        assert_eq!([0.05, 0.25, 1.0].map(|goal| goal_text(Some(goal))), ["1/20", "1/4", "1.00"]);
    }
}
