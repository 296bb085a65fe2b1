//! /proc/PID/limits.

use crate::process::limits::{INFINITY, Limits};
use alloc::format;
use alloc::string::{String, ToString as _};

/// Names and units, by RLIMIT_ number.
const NAMES: [(&str, &str); 16] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

fn row(name: &str, soft: &str, hard: &str, unit: &str) -> String {
    format!("{name:<25} {soft:<20} {hard:<20} {unit:<10}\n")
}

/// The table.
pub(super) fn text(limits: &Limits) -> String {
    let value = |value: u64| if value == INFINITY { "unlimited".into() } else { value.to_string() };
    let rows = NAMES.iter().enumerate().filter_map(|(resource, (name, unit))| {
        let limit = limits.get(resource)?;
        Some(row(name, &value(limit.current), &value(limit.max), unit))
    });
    core::iter::once(row("Limit", "Soft Limit", "Hard Limit", "Units")).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_where_linux_has_them() {
        let text = text(&Limits::default());
        assert_eq!(text.lines().count(), 17);
        let stack = text.lines().nth(4).unwrap_or_default();
        assert_eq!(stack, "Max stack size            8388608              unlimited            bytes     ");
    }
}
