//! The table for a terminal, JSON for programs.

use super::results::{Change, Results};
use super::rows::{CPU_GOAL, Unit, Who, goal_text};
use super::runtime::RUNC;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// A value as people read it.
pub(super) fn value_text(unit: Unit, value: f64) -> String {
    match (unit, value) {
        (Unit::Factor, n) => format!("{n:.2}×"),
        (Unit::Bytes, n) => format!("{:.2} MiB", n / f64::from(1 << 20)),
        (Unit::Ticks, n) => format!("{n:.2}"),
        (Unit::Nanoseconds, n) if n < 1e3 => format!("{n:.0} ns"),
        (Unit::Nanoseconds, n) if n < 1e6 => format!("{:.1} µs", n / 1e3),
        (Unit::Nanoseconds, n) => format!("{:.2} ms", n / 1e6),
    }
}

fn percent_text(part: f64) -> String {
    if part.is_finite() { format!("{:.0} %", part * 100.0) } else { String::new() }
}

/// How many an operation: whole numbers where they are large.
fn count_text(count: Option<f64>) -> String {
    match count {
        None => String::new(),
        Some(n) if n.abs() < 0.005 => "0".to_owned(),
        Some(n) if n < 9.995 => format!("{n:.2}"),
        Some(n) => format!("{n:.0}"),
    }
}

/// The head and a line a row: name, the host's value, the others' ratios of it, and ours in full.
pub(super) fn cells(results: &Results) -> Vec<Vec<String>> {
    let mut head = vec!["row".to_owned()];
    head.extend(results.runtimes.iter().cloned());
    head.extend(["by runc", "spread", "goal", "CPU", "calls", "broker", "faults", "verdict"].map(str::to_owned));
    let lines = (0..results.rows.len()).map(|row| line(results, row));
    std::iter::once(head).chain(lines).collect()
}

fn line(results: &Results, index: usize) -> Vec<String> {
    let Some(row) = results.rows.get(index) else { return Vec::new() };
    let ours = results.ours();
    let mut line = vec![row.name.clone()];
    for runtime in 0..results.runtimes.len() {
        let text = match row.unit {
            Unit::Nanoseconds if runtime > 0 && row.who != Who::Ours => {
                results.ratio(index, runtime).map(|ratio| format!("{ratio:.3}"))
            }
            unit => results.median(index, runtime).map(|value| value_text(unit, value)),
        };
        line.push(text.unwrap_or_else(|| if row.who == Who::All { "-" } else { "" }.to_owned()));
    }
    let counts = results.counts(index, ours);
    let calls = counts.and_then(|counts| counts.calls);
    let cpu = results.cpu_ratio(index, ours).map(|ratio| {
        let is_missed = row.cpu_counts && ratio > CPU_GOAL;
        format!("{ratio:.2}{}", if is_missed { "!" } else { "" })
    });
    let by_runc = results.ratio_of(index, ours, RUNC).filter(|_| row.unit == Unit::Nanoseconds);
    line.extend([
        by_runc.map(|ratio| format!("{ratio:.3}")).unwrap_or_default(),
        results.spread(index, ours).map(percent_text).unwrap_or_default(),
        goal_text(row),
        cpu.unwrap_or_default(),
        count_text(calls.map(|calls| calls.host)),
        count_text(calls.map(|calls| calls.broker)),
        count_text(counts.map(|counts| counts.faults)),
        results.verdict(index).to_owned(),
    ]);
    line
}

/// The table; what failed stands below it.
pub(super) fn text(results: &Results) -> String {
    let cells = cells(results);
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
    results.failures().iter().for_each(|line| {
        let _ = writeln!(out, "{line}");
    });
    out
}

/// What got worse or better since the other commit.
pub(super) fn changes_text(results: &Results) -> String {
    let changes = results.changes();
    let before = results.runtimes.iter().rev().nth(1).map_or("", String::as_str);
    let mut out = format!("Since {before}, in ours by the other's:\n");
    for (row, change) in &changes {
        let _ = match change {
            Change::Worse(ratio) => writeln!(out, "  worse   {ratio:.2}  {}", row.name),
            Change::Better(ratio) => writeln!(out, "  better  {ratio:.2}  {}", row.name),
            Change::Same | Change::Doubtful(_) => Ok(()),
        };
    }
    let count = |wanted: fn(&Change) -> bool| changes.iter().filter(|(_, change)| wanted(change)).count();
    let same = count(|change| matches!(change, Change::Same));
    let doubtful = count(|change| matches!(change, Change::Doubtful(_)));
    let _ = write!(out, "  {same} within a tenth, {doubtful} that cannot be judged");
    out
}

/// Everything measured.
pub(super) fn json(results: &Results, about: &Value) -> Value {
    let rows = results.rows.iter().enumerate().map(|(index, row)| {
        let runtimes = results.runtimes.iter().enumerate();
        let by_runtime: Map<_, _> =
            runtimes.map(|(runtime, name)| (name.clone(), cell(results, index, runtime))).collect();
        json!({ "row": row.name, "unit": format!("{:?}", row.unit).to_lowercase(), "goal": goal_text(row),
            "verdict": results.verdict(index), "runtimes": by_runtime })
    });
    json!({ "about": about, "rows": rows.collect::<Vec<_>>(), "failures": results.failures() })
}

fn cell(results: &Results, row: usize, runtime: usize) -> Value {
    let samples: Vec<f64> = results.samples(row, runtime).iter().map(|sample| sample.value).collect();
    let counts = results.counts(row, runtime);
    let calls = counts.and_then(|counts| counts.calls);
    json!({
        "samples": samples,
        "median": results.median(row, runtime),
        "ratio": results.ratio(row, runtime),
        "byRunc": results.ratio_of(row, runtime, RUNC),
        "spread": results.spread(row, runtime),
        "cpuNs": results.cpu_ns(row, runtime),
        "cpuRatio": results.cpu_ratio(row, runtime),
        "pageFaults": counts.map(|counts| counts.faults),
        "hostCalls": calls.map(|calls| calls.host),
        "brokerRequests": calls.map(|calls| calls.broker),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_units_that_fit() {
        let texts = [112.4, 16_600.0, 5.71e6].map(|n| value_text(Unit::Nanoseconds, n));
        assert_eq!(texts, ["112 ns", "16.6 µs", "5.71 ms"]);
        assert_eq!(value_text(Unit::Factor, 1.876), "1.88×");
    }

    #[test]
    fn counts_are_short() {
        let texts = [None, Some(0.0), Some(0.25), Some(188.3)].map(count_text);
        assert_eq!(texts, ["", "0", "0.25", "188"]);
    }
}
