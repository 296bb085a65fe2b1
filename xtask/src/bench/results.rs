//! Medians, spreads, ratios and verdicts.

use super::counts::Counts;
use super::rows::{CPU_GOAL, Goal, Row};
use super::run::Sample;
use super::runtime::CRUN;
use anyhow::Result;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A row whose middle half lies further apart than this part of the median is too wide to judge by medians.
const TOO_WIDE: f64 = 0.25;
/// Fewer samples than this say nothing about their spread.
const FEWEST: usize = 3;

/// A row that differs from another commit's by more than this part got worse or better.
const NOTABLE: f64 = 0.1;

/// A row beside that of another commit: its time by the other's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    Worse(f64),
    Better(f64),
    Same,
    Doubtful(&'static str),
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) rows: Vec<Row>,
    /// Names: the bare host's first, ours last.
    pub(super) runtimes: Vec<String>,
    cells: BTreeMap<(usize, usize), Cell>,
}

#[derive(Debug, Default)]
struct Cell {
    samples: Vec<Sample>,
    counts: Option<Counts>,
    failure: Option<String>,
}

impl Results {
    pub(super) fn new(rows: Vec<Row>, runtimes: Vec<String>) -> Results {
        Results { rows, runtimes, cells: BTreeMap::new() }
    }

    pub(super) fn ours(&self) -> usize {
        self.runtimes.len().saturating_sub(1)
    }

    /// Adds one run, or why it failed.
    pub(super) fn add(&mut self, row: usize, runtime: usize, sample: Result<Sample>) {
        let cell = self.cells.entry((row, runtime)).or_default();
        match sample {
            Ok(sample) => cell.samples.push(sample),
            Err(error) => cell.fail(&error),
        }
    }

    /// Adds what an operation costs besides time.
    pub(super) fn add_counts(&mut self, row: usize, runtime: usize, counts: Result<Option<Counts>>) {
        let cell = self.cells.entry((row, runtime)).or_default();
        match counts {
            Ok(counts) => cell.counts = counts,
            Err(error) => cell.fail(&error.context("counting")),
        }
    }

    pub(super) fn samples(&self, row: usize, runtime: usize) -> &[Sample] {
        self.cells.get(&(row, runtime)).map_or(&[], |cell| &cell.samples)
    }

    pub(super) fn counts(&self, row: usize, runtime: usize) -> Option<Counts> {
        self.cells.get(&(row, runtime))?.counts
    }

    fn values(&self, row: usize, runtime: usize) -> Vec<f64> {
        self.samples(row, runtime).iter().map(|sample| sample.value).collect()
    }

    /// The median in the row's unit.
    pub(super) fn median(&self, row: usize, runtime: usize) -> Option<f64> {
        median(&self.values(row, runtime))
    }

    /// The median of the CPU time an operation.
    pub(super) fn cpu_ns(&self, row: usize, runtime: usize) -> Option<f64> {
        let times: Option<Vec<f64>> = self.samples(row, runtime).iter().map(|sample| sample.cpu_ns).collect();
        median(&times?)
    }

    /// A runtime's median by the host's.
    pub(super) fn ratio(&self, row: usize, runtime: usize) -> Option<f64> {
        Some(self.median(row, runtime)? / self.median(row, 0)?)
    }

    /// A runtime's median by that of the one with this name.
    pub(super) fn ratio_of(&self, row: usize, runtime: usize, name: &str) -> Option<f64> {
        let other = self.runtimes.iter().position(|other| other == name)?;
        Some(self.median(row, runtime)? / self.median(row, other)?)
    }

    /// A runtime's CPU time an operation by the host's.
    pub(super) fn cpu_ratio(&self, row: usize, runtime: usize) -> Option<f64> {
        Some(self.cpu_ns(row, runtime)? / self.cpu_ns(row, 0)?)
    }

    /// How far apart the middle half lies, as a part of the median.
    pub(super) fn spread(&self, row: usize, runtime: usize) -> Option<f64> {
        let [low, high] = self.middle(row, runtime)?;
        Some((high - low) / self.median(row, runtime)?)
    }

    /// The least and the greatest of the middle half.
    fn middle(&self, row: usize, runtime: usize) -> Option<[f64; 2]> {
        let mut sorted = self.values(row, runtime);
        sorted.sort_by(f64::total_cmp);
        let aside = sorted.len().checked_sub(1)? / 4;
        Some([*sorted.get(aside)?, *sorted.get(sorted.len() - 1 - aside)?])
    }

    /// What the samples say of ours beside those of another runtime: all that lie in the middle half, where they agree, else the
    /// medians, where the samples are near enough to one another.
    fn judge<T: PartialEq>(
        &self,
        row: usize,
        [other, ours]: [usize; 2],
        says: impl Fn(f64, f64) -> T,
    ) -> Result<T, &'static str> {
        let runtimes = [other, ours];
        if runtimes.iter().any(|runtime| self.samples(row, *runtime).len() < FEWEST) {
            return Err("too few rounds to judge");
        }
        let middles = self.middle(row, other).zip(self.middle(row, ours));
        let ([other_low, other_high], [low, high]) = middles.ok_or("failed")?;
        let (best, worst) = (says(other_high, low), says(other_low, high));
        if best == worst {
            return Ok(best);
        }
        let is_wide = |runtime| self.spread(row, runtime).is_some_and(|spread| spread > TOO_WIDE);
        if runtimes.into_iter().any(is_wide) {
            return Err("too wide to judge");
        }
        let medians = self.median(row, other).zip(self.median(row, ours));
        medians.map(|(other, ours)| says(other, ours)).ok_or("failed")
    }

    /// Whether the goal is reached.
    pub(super) fn verdict(&self, row: usize) -> &'static str {
        let Some(of) = self.rows.get(row) else { return "" };
        if let Some(lacks) = of.lacks {
            return lacks;
        }
        let ours = self.ours();
        let has_failed = (0..=ours).any(|runtime| self.failure(row, runtime).is_some());
        if self.median(row, ours).is_none() {
            return "failed";
        }
        if has_failed {
            return "failed in part";
        }
        if of.goal == Goal::None {
            return "";
        }
        match self.judge(row, [self.reference(of.goal), ours], |other, ours| is_met(of.goal, other, ours)) {
            Err(doubt) => doubt,
            Ok(false) => "missed",
            Ok(true) if of.cpu_counts && self.cpu_ratio(row, ours).is_some_and(|ratio| ratio > CPU_GOAL) => {
                "missed: CPU"
            }
            Ok(true) => "met",
        }
    }

    /// Whom a goal compares with.
    fn reference(&self, goal: Goal) -> usize {
        match goal {
            Goal::AtMost(_) => self.ours(),
            Goal::OverCrun(_) => self.runtimes.iter().position(|name| name == CRUN).unwrap_or(0),
            Goal::None | Goal::Ratio(_) | Goal::Factor(_) | Goal::OverHost(_) => 0,
        }
    }

    /// How each row of ours differs from that of the runtime beside it: another commit of ours.
    pub(super) fn changes(&self) -> Vec<(&Row, Change)> {
        let (before, ours) = (self.ours().saturating_sub(1), self.ours());
        let change = |row: usize, of: &Row| {
            // As time: more is worse.
            let ratio_of = |then, now| if matches!(of.goal, Goal::Factor(_)) { then / now } else { now / then };
            let direction = |then, now| match ratio_of(then, now) {
                ratio if ratio > 1.0 + NOTABLE => Ordering::Greater,
                ratio if ratio < 1.0 - NOTABLE => Ordering::Less,
                _ => Ordering::Equal,
            };
            let Some((then, now)) = self.median(row, before).zip(self.median(row, ours)) else {
                return Change::Doubtful("failed");
            };
            match self.judge(row, [before, ours], direction) {
                Err(doubt) => Change::Doubtful(doubt),
                Ok(Ordering::Greater) => Change::Worse(ratio_of(then, now)),
                Ok(Ordering::Less) => Change::Better(ratio_of(then, now)),
                Ok(Ordering::Equal) => Change::Same,
            }
        };
        self.rows.iter().enumerate().map(|(row, of)| (of, change(row, of))).collect()
    }

    fn failure(&self, row: usize, runtime: usize) -> Option<&str> {
        self.cells.get(&(row, runtime))?.failure.as_deref()
    }

    /// A line for each thing that failed.
    pub(super) fn failures(&self) -> Vec<String> {
        let name = |row: &usize| self.rows.get(*row).map_or("", |row| &row.name);
        let runtime = |index: &usize| self.runtimes.get(*index).map_or("", String::as_str);
        let failed = self.cells.iter().filter_map(|(key, cell)| Some((key, cell.failure.as_ref()?)));
        failed.map(|((row, index), why)| format!("{} failed on {}: {why}", name(row), runtime(index))).collect()
    }
}

impl Cell {
    /// The first failure is the one that tells.
    fn fail(&mut self, error: &anyhow::Error) {
        self.failure.get_or_insert_with(|| format!("{error:#}"));
    }
}

/// Whether a value of ours reaches a goal beside one of whom the goal compares with.
fn is_met(goal: Goal, other: f64, ours: f64) -> bool {
    match goal {
        Goal::None => true,
        Goal::Ratio(most) => ours / other <= most,
        Goal::Factor(least) => ours >= other.min(least),
        Goal::AtMost(most) => ours <= most,
        Goal::OverCrun(more) | Goal::OverHost(more) => ours <= other + more,
    }
}

fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::Kind;

    /// One row, on the host and ours: values, and CPU times that are twice as much.
    fn results(goal: Goal, cpu_counts: bool, host: &[f64], ours: &[f64]) -> Results {
        let row = Row { cpu_counts, ..Row::new("row", goal, Kind::Whole(&["true"])) };
        let mut results = Results::new(vec![row], vec!["host".to_owned(), "ours".to_owned()]);
        for (runtime, values) in [host, ours].into_iter().enumerate() {
            for value in values {
                let cpu_ns = Some(if runtime == 0 { 50.0 } else { *value });
                results.add(0, runtime, Ok(Sample { value: *value, cpu_ns }));
            }
        }
        results
    }

    const HOST: [f64; 3] = [100.0, 101.0, 99.0];

    #[test]
    fn verdicts_follow_the_ratio_of_medians() {
        let verdict = |host, ours| results(Goal::Ratio(0.5), false, host, ours).verdict(0);
        assert_eq!(verdict(&HOST, &[40.0, 41.0, 39.0]), "met");
        assert_eq!(verdict(&HOST, &[60.0, 61.0, 59.0]), "missed");
        assert_eq!(verdict(&[100.0, 300.0, 10.0], &[40.0, 41.0, 39.0]), "too wide to judge");
        assert_eq!(verdict(&HOST, &[10.0, 20.0, 40.0]), "met");
        assert_eq!(verdict(&HOST, &[60.0, 80.0, 100.0]), "missed");
        assert_eq!(verdict(&HOST, &[45.0, 46.0, 52.0]), "met");
        assert_eq!(verdict(&HOST, &[10.0, 46.0, 52.0]), "too wide to judge");
        assert_eq!(verdict(&HOST, &[1.0, 46.0, 46.0, 46.0, 90.0]), "met");
        assert_eq!(verdict(&[100.0], &[40.0]), "too few rounds to judge");
        assert_eq!(verdict(&[100.0], &[]), "failed");
    }

    #[test]
    fn ratios_are_also_those_of_a_named_runtime() {
        let results = results(Goal::None, false, &HOST, &[50.0, 50.0, 50.0]);
        assert_eq!((results.ratio_of(0, 1, "host"), results.ratio_of(0, 1, "runc")), (Some(0.5), None));
    }

    #[test]
    fn a_round_trip_that_burns_more_than_the_host_misses() {
        let verdict = |cpu_counts, ours| results(Goal::Ratio(0.9), cpu_counts, &HOST, ours).verdict(0);
        assert_eq!(verdict(true, &[80.0, 80.0, 80.0]), "missed: CPU");
        assert_eq!(verdict(false, &[80.0, 80.0, 80.0]), "met");
        assert_eq!(verdict(true, &[60.0, 60.0, 60.0]), "met");
    }

    #[test]
    fn a_factor_need_not_exceed_the_hosts() {
        let verdict = |host, ours| results(Goal::Factor(1.6), false, &[host; 3], &[ours; 3]).verdict(0);
        assert_eq!([verdict(1.9, 1.7), verdict(1.9, 1.5), verdict(1.4, 1.5)], ["met", "missed", "met"]);
    }

    #[test]
    fn what_rests_may_take_so_much_more_than_under_crun() {
        let verdict = |ours| {
            let mut results = results(Goal::OverCrun(2.0), false, &[1.0; 3], &[9.0; 3]);
            results.runtimes.push("ours".to_owned());
            results.runtimes[1] = CRUN.to_owned();
            (0..3).for_each(|_| results.add(0, 2, Ok(Sample { value: ours, cpu_ns: None })));
            results.verdict(0)
        };
        assert_eq!([verdict(11.0), verdict(11.5)], ["met", "missed"]);
    }

    #[test]
    fn a_row_changes_when_it_differs_by_more_than_a_tenth() {
        let change = |goal, ours| results(goal, false, &[100.0; 3], &[ours; 3]).changes()[0].1;
        assert_eq!(change(Goal::None, 120.0), Change::Worse(1.2));
        assert_eq!(change(Goal::None, 80.0), Change::Better(0.8));
        assert_eq!(change(Goal::None, 109.0), Change::Same);
        assert_eq!(change(Goal::Factor(1.6), 50.0), Change::Worse(2.0));
        let wide = results(Goal::None, false, &HOST, &[1.0, 50.0, 100.0]);
        assert_eq!(wide.changes()[0].1, Change::Doubtful("too wide to judge"));
    }

    #[test]
    fn a_failure_is_told_with_its_row_and_runtime() {
        let mut results = results(Goal::None, false, &HOST, &HOST);
        results.add(0, 1, Err(anyhow::anyhow!("no such file")));
        results.add(0, 1, Err(anyhow::anyhow!("the second")));
        assert_eq!(results.failures(), ["row failed on ours: no such file"]);
        assert_eq!(results.verdict(0), "failed in part");
    }
}
