//! `xc doctor`: whether containers can run on this host, and how to mend what lacks.

mod facts;
mod kernel;
mod limits;
mod namespaces;
mod start;

use crate::args::Doctor;
use anyhow::Result;
use facts::Facts;
use serde_json::{Value, json};

/// Where the host tells of itself.
const PROC: &str = "/proc";

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    /// Containers run, though not all or not as well.
    Warning,
    /// Containers cannot run.
    Missing,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Missing => "missing",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// How to mend it; empty where nothing is to be mended.
    mend: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), mend: String::new() }
    }

    fn warning(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state: State::Warning, found: found.into(), mend: mend.into() }
    }

    fn missing(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state: State::Missing, found: found.into(), mend: mend.into() }
    }
}

/// Checks the host, starts a container, and prints a line each.
///
/// # Errors
/// Standard output takes no more.
pub fn run(options: &Doctor) -> Result<u8> {
    let mut checks = judge(&Facts::of_host());
    if can_look(&checks) {
        checks.push(start::check());
    }
    let can_run = can_run(&checks);
    crate::answer(&if options.json {
        format!("{:#}", as_json(&checks))
    } else {
        let verdict = if can_run { "can" } else { "cannot" };
        format!("{}\nContainers {verdict} run on this host.", as_text(&checks).trim_end())
    })?;
    Ok(u8::from(!can_run))
}

/// Everything that can be judged without starting anything. Without /proc that is nothing.
fn judge(facts: &Facts) -> Vec<Check> {
    if facts.status.is_none() {
        return vec![Check::missing(PROC, "is not mounted: the host cannot be looked at", "mount -t proc proc /proc")];
    }
    let mut checks = Vec::new();
    if !facts.is_own_proc {
        let mend = "mount -t proc proc /proc; for unshare, --mount-proc";
        checks.push(Check::missing(PROC, "is that of another pid namespace", mend));
    }
    checks.extend(kernel::checks(facts));
    checks.extend(namespaces::checks(facts));
    checks.extend(limits::checks(facts));
    checks
}

fn can_look(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.name != PROC)
}

fn can_run(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.state != State::Missing)
}

fn as_text(checks: &[Check]) -> String {
    let line = |check: &Check| {
        let mend = if check.mend.is_empty() { String::new() } else { format!("{:32}{}\n", "", check.mend) };
        format!("{:<8}{:<24}{}\n{mend}", check.state.word(), check.name, check.found)
    };
    checks.iter().map(line).collect()
}

fn as_json(checks: &[Check]) -> Value {
    let check = |check: &Check| {
        let mend = (!check.mend.is_empty()).then_some(&check.mend);
        json!({"name": check.name, "state": check.state.word(), "found": check.found, "mend": mend})
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "containersCanRun": can_run(checks),
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_host_has_nothing_to_mend() {
        let checks = judge(&Facts::good());
        let bad: Vec<&Check> = checks.iter().filter(|check| check.state != State::Ok).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert!(can_run(&checks));
    }

    #[test]
    fn a_host_that_tells_nothing_is_no_panic() {
        assert!(!can_run(&judge(&Facts::default())));
        let lacks = Facts { status: None, ..Facts::good() };
        let checks = judge(&lacks);
        assert_eq!(
            checks.iter().map(|check| (check.name, check.state)).collect::<Vec<_>>(),
            [("/proc", State::Missing)]
        );
    }

    #[test]
    fn what_lacks_is_said_with_how_to_mend_it() {
        let checks = [Check::ok("one", "1"), Check::missing("two", "none", "get one")];
        assert!(!can_run(&checks));
        assert_eq!(
            as_text(&checks),
            "ok      one                     1\nmissing two                     none\n                                get one\n"
        );
        let document = as_json(&checks);
        assert_eq!(document["containersCanRun"], false);
        assert_eq!(document["checks"][1]["mend"], "get one");
        assert_eq!(document["checks"][0]["mend"], Value::Null);
    }
}
