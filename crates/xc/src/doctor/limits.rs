//! Limits of the caller, and of memory.

use super::Check;
use super::facts::Facts;
use crate::configure::{ARENA, LEAST_DESCRIPTORS};

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    vec![
        open_files(facts),
        processes(facts),
        file_size(facts),
        address_space(facts),
        data(facts),
        mappings(facts),
        overcommit(facts),
        memory(facts),
    ]
}

/// Soft and hard limit of a line of /proc/self/limits; no limit is the largest number.
fn limit(facts: &Facts, name: &str) -> Option<(u64, u64)> {
    let line = facts.limits.as_ref()?.lines().find_map(|line| line.strip_prefix(name))?;
    let value = |text: &str| if text == "unlimited" { Some(u64::MAX) } else { text.parse().ok() };
    let mut words = line.split_whitespace();
    Some((value(words.next()?)?, value(words.next()?)?))
}

fn shown(value: u64) -> String {
    if value == u64::MAX { "no limit".into() } else { value.to_string() }
}

/// A limit that is judged by two bounds: too small to run, too small for much.
struct Bounds {
    name: &'static str,
    row: &'static str,
    least: u64,
    enough: u64,
    /// xc goes up to the hard limit.
    is_raised: bool,
    mend: &'static str,
}

impl Bounds {
    fn check(&self, facts: &Facts) -> Check {
        match limit(facts, self.row).map(|(soft, hard)| if self.is_raised { hard } else { soft }) {
            None => Check::ok(self.name, "the host does not tell"),
            Some(value) if value < self.least => Check::missing(self.name, shown(value), self.mend),
            Some(value) if value < self.enough => Check::warning(self.name, shown(value), self.mend),
            Some(value) => Check::ok(self.name, shown(value)),
        }
    }
}

fn open_files(facts: &Facts) -> Check {
    let mend = "ulimit -n 1024 or more (RLIMIT_NOFILE); for good: nofile in /etc/security/limits.conf";
    let least = LEAST_DESCRIPTORS;
    Bounds { name: "open files", row: "Max open files", least, enough: 1024, is_raised: true, mend }.check(facts)
}

/// Root is not bound by it on the host, but its containers have a user of their own.
fn processes(facts: &Facts) -> Check {
    let mend = "ulimit -u 4096 or more (RLIMIT_NPROC): each process of a container is one of the host";
    Bounds { name: "processes", row: "Max processes", least: 16, enough: 512, is_raised: false, mend }.check(facts)
}

/// The arena is a file in memory.
fn file_size(facts: &Facts) -> Check {
    let mend = "ulimit -f unlimited (RLIMIT_FSIZE): a container's memory is a file of 2 GiB, most of it a hole";
    Bounds { name: "file size", row: "Max file size", least: ARENA, enough: ARENA, is_raised: false, mend }.check(facts)
}

fn address_space(facts: &Facts) -> Check {
    let mend = "ulimit -v unlimited (RLIMIT_AS): every process of a container maps 2 GiB beside its own memory";
    let (least, enough) = (ARENA + ARENA / 4, ARENA * 4);
    Bounds { name: "address space", row: "Max address space", least, enough, is_raised: false, mend }.check(facts)
}

/// What a process may write and shares with nobody.
fn data(facts: &Facts) -> Check {
    let mend =
        "ulimit -d unlimited (RLIMIT_DATA): it counts what a program reserves, and what xc and the library OS do";
    Bounds { name: "data", row: "Max data size", least: 16 << 20, enough: 1 << 30, is_raised: false, mend }.check(facts)
}

fn mappings(facts: &Facts) -> Check {
    const NAME: &str = "mappings";
    match facts.number("vm/max_map_count") {
        Some(most) if most < 65_530 => {
            Check::warning(NAME, format!("vm.max_map_count is {most}"), "sysctl -w vm.max_map_count=65530")
        }
        Some(most) => Check::ok(NAME, format!("up to {most} a process")),
        None => Check::ok(NAME, "the host does not tell"),
    }
}

/// With strict accounting, what programs reserve counts, though most of it is never touched.
fn overcommit(facts: &Facts) -> Check {
    const NAME: &str = "overcommit";
    if facts.number("vm/overcommit_memory") != Some(2) {
        return Check::ok(NAME, "memory is given when it is touched");
    }
    let left = facts.memory("CommitLimit").unwrap_or(0).saturating_sub(facts.memory("Committed_AS").unwrap_or(0));
    let found = format!("vm.overcommit_memory is 2: {} MiB are left to reserve", left >> 20);
    let mend = "sysctl -w vm.overcommit_memory=0";
    if left < 256 << 20 { Check::missing(NAME, found, mend) } else { Check::warning(NAME, found, mend) }
}

fn memory(facts: &Facts) -> Check {
    const NAME: &str = "memory";
    match facts.memory("MemAvailable") {
        Some(bytes) if bytes < 64 << 20 => {
            Check::warning(NAME, format!("{} MiB available", bytes >> 20), "end other programs, or add memory")
        }
        Some(bytes) => Check::ok(NAME, format!("{} MiB available", bytes >> 20)),
        None => Check::ok(NAME, "the host does not tell"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn with_limits(name: &str, soft: &str, hard: &str) -> Facts {
        Facts { limits: Some(format!("{name:<25} {soft:<20} {hard:<20} units\n")), ..Facts::good() }
    }

    #[test]
    fn small_limits_are_warned_of_and_tiny_ones_are_missing() {
        let states = |row: &str, check: fn(&Facts) -> Check, values: [&str; 3]| {
            values.map(|value| check(&with_limits(row, value, value)).state)
        };
        let expected = [State::Missing, State::Warning, State::Ok];
        assert_eq!(states("Max open files", open_files, ["20", "512", "1024"]), expected);
        assert_eq!(states("Max processes", processes, ["3", "100", "unlimited"]), expected);
        assert_eq!(states("Max address space", address_space, ["1000000000", "5000000000", "unlimited"]), expected);
        assert_eq!(states("Max data size", data, ["1024000", "100000000", "unlimited"]), expected);
        let sizes = states("Max file size", file_size, ["1024", "2147483648", "unlimited"]);
        assert_eq!(sizes, [State::Missing, State::Ok, State::Ok]);
        // Up to the hard limit xc goes itself.
        assert_eq!(open_files(&with_limits("Max open files", "20", "1024")).state, State::Ok);
        assert_eq!(processes(&with_limits("Max processes", "3", "unlimited")).state, State::Missing);
    }

    #[test]
    fn few_mappings_are_warned_of() {
        assert_eq!(mappings(&Facts::good().with("vm/max_map_count", "1000")).state, State::Warning);
    }

    #[test]
    fn strict_accounting_is_judged_by_what_is_left() {
        let strict = Facts::good().with("vm/overcommit_memory", "2");
        assert_eq!(overcommit(&strict).state, State::Warning);
        let full = Facts { meminfo: Some("CommitLimit: 1000 kB\nCommitted_AS: 900 kB\n".into()), ..strict };
        assert_eq!(overcommit(&full).state, State::Missing);
    }

    #[test]
    fn little_memory_is_warned_of() {
        let facts = Facts { meminfo: Some("MemAvailable:   1000 kB\n".into()), ..Facts::good() };
        assert_eq!(memory(&facts).state, State::Warning);
    }
}
