//! What an operation costs besides time, counted in runs apart from those that are timed: page faults of all
//! processes, and ours host calls and requests to the broker.
//!
//! Two runs that differ in the number of operations alone tell what one operation costs.

use super::rows::{Kind, Row, Unit, Who};
use super::run;
use super::runtime::Runtime;
use super::site::Site;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// An operation's, or of a whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) faults: f64,
    /// Of ours only.
    pub(super) calls: Option<Calls>,
}

/// What leaves the library OS.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Calls {
    pub(super) host: f64,
    pub(super) broker: f64,
}

/// Counts of one operation that takes about `ns`; none where the row has no operations, more before them, or as many as
/// there is time for.
///
/// # Errors
/// Where a run fails.
pub(super) fn of_one(site: &Site, row: &Row, runtime: &Runtime, ns: f64) -> Result<Option<Counts>> {
    if row.unit != Unit::Nanoseconds || row.who == Who::Ours || is_aged(row) || matches!(row.kind, Kind::Suite(_)) {
        return Ok(None);
    }
    let (few, many) = operations(row, ns);
    let (less, more) = (total(site, row, runtime, few)?, total(site, row, runtime, many)?);
    Ok(Some(difference(more, less, f64::from(many - few))))
}

/// The forks before would drown the operations.
fn is_aged(row: &Row) -> bool {
    matches!(&row.kind, Kind::Service { options, .. } if options.contains(&"--forks"))
}

/// Two numbers of operations: enough that what happens now and then is seen, few enough to be done soon.
fn operations(row: &Row, ns: f64) -> (u32, u32) {
    let has_own = |options: &[&str]| options.iter().position(|option| *option == "--ops").map(|at| at + 1);
    match &row.kind {
        Kind::Inside { .. } => (1, 2),
        Kind::Whole(_) | Kind::FirstInstruction | Kind::Rest(_) | Kind::Crowd(_) | Kind::Suite(_) => (0, 1),
        Kind::Service { options, .. } => match has_own(options).and_then(|at| options.get(at)?.parse().ok()) {
            Some(all) => (0, all),
            None => {
                let few = (4e6 / ns).clamp(2.0, 1024.0) as u32;
                (few, 2 * few)
            }
        },
    }
}

fn difference(more: Counts, less: Counts, operations: f64) -> Counts {
    let each = |more: f64, less: f64| (more - less) / operations;
    let calls = more.calls.map(|more| {
        let less = less.calls.unwrap_or_default();
        Calls { host: each(more.host, less.host), broker: each(more.broker, less.broker) }
    });
    Counts { faults: each(more.faults, less.faults), calls }
}

fn total(site: &Site, row: &Row, runtime: &Runtime, operations: u32) -> Result<Counts> {
    let mut job = run::job(site, row, &["--ops", &operations.to_string()])?;
    job.has_stats = runtime.is_ours();
    job.timer.splice(0..0, [site.workload.clone(), "--account".to_owned()]);
    let output = runtime.command(site, &job)?.output().context("cannot start the runtime")?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{}: {}", output.status, stderr.trim().lines().last().unwrap_or("it says nothing"));
    }
    let faults = stdout.lines().find_map(|line| line.strip_prefix("account ")?.split(' ').nth(1)?.parse().ok());
    let calls = stats(&stderr).map(|stats| calls(&stats));
    Ok(Counts { faults: faults.context("no account of page faults")?, calls })
}

/// What ours reports on standard error.
pub(super) fn stats(stderr: &str) -> Option<Value> {
    stderr.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

fn calls(stats: &Value) -> Calls {
    let sum = |key: &str| stats[key].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_f64()).sum();
    Calls { host: sum("hostCalls"), broker: sum("brokerRequests") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::{Goal, Place};
    use serde_json::json;

    #[test]
    fn calls_of_all_kinds_are_added() {
        let stats = json!({ "hostCalls": { "futex": 3, "mmap": 4 }, "brokerRequests": { "open": 2 } });
        assert_eq!(calls(&stats), Calls { host: 7.0, broker: 2.0 });
    }

    #[test]
    fn one_operation_is_the_difference_of_two_runs() {
        let counts = |faults, host| Counts { faults, calls: Some(Calls { host, broker: 0.0 }) };
        assert_eq!(difference(counts(120.0, 30.0), counts(100.0, 10.0), 10.0), counts(2.0, 2.0));
        assert_eq!(difference(counts(9.0, 9.0), Counts::default(), 1.0), counts(9.0, 9.0));
    }

    #[test]
    fn a_first_pass_is_counted_against_none() {
        let options = vec!["--files", "1000", "--ops", "1000"];
        let row = Row::new("row", Goal::None, Kind::Service { name: "s", options, place: Place::Hostfs });
        assert_eq!(operations(&row, 100.0), (0, 1000));
    }
}
