//! `cargo xtask demo`: three programs that we did not write, each in an X-Container over this machine's root.

use crate::build;
use crate::command;
use crate::setup::{self, Needs};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// One run: a title, and the command as `xc do` gets it, from the repository's root.
struct Demo {
    title: &'static str,
    command: &'static [&'static str],
}

const DEMOS: &[Demo] = &[
    Demo {
        title: "bash: pipelines, here-documents, process substitution, traps and job control",
        command: &["/bin/bash", "xtask/demo/shell.sh"],
    },
    Demo {
        title: "python3: processes, threads and asyncio over TCP on loopback",
        command: &["/usr/bin/python3", "xtask/demo/services.py"],
    },
    Demo {
        title: "gcc: a C program compiled inside, and run",
        command: &["/bin/sh", "-ec", "gcc -O2 -o /tmp/primes xtask/demo/primes.c -pthread; /tmp/primes"],
    },
];

/// Builds and runs the demo.
///
/// # Errors
/// When something is missing or does not compile, or `xc` cannot be started.
pub(crate) fn run() -> Result<ExitCode> {
    setup::ensure(Needs::Demo)?;
    let xc = build::all()?;
    let mut failed = 0u8;
    let mut reports = Vec::new();
    for demo in DEMOS {
        println!("\n== {}", demo.title);
        let (success, stats) = run_one(&xc, demo)?;
        failed += u8::from(!success);
        reports.push((demo, stats));
    }
    for (demo, stats) in &reports {
        println!("\n-- {}", demo.title);
        match stats {
            Some(stats) => print_report(stats),
            None => println!("  no report came"),
        }
    }
    println!("\n{} of {} ran well", DEMOS.len() - usize::from(failed), DEMOS.len());
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// The program's output is shown as it comes; its report, the JSON object at the end of stderr, is kept.
fn run_one(xc: &Path, demo: &Demo) -> Result<(bool, Option<Value>)> {
    let mut command = Command::new(xc);
    command.args(["do", "--stats=json", "--"]).args(demo.command).current_dir(command::root());
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start xc")?;
    let mut report = Report::default();
    if let Some(stderr) = child.stderr.take() {
        command::each_line(stderr, |line| report.take(line))?;
    }
    let status = child.wait()?;
    if !status.success() {
        println!("xc: {status}");
    }
    Ok((status.success(), report.stats))
}

/// Tells the report from what else comes on stderr.
#[derive(Default)]
struct Report {
    text: String,
    stats: Option<Value>,
}

impl Report {
    /// A line with `{` at its start may open the report; until it is whole, lines are collected.
    fn take(&mut self, line: &str) {
        if self.text.is_empty() && !line.starts_with('{') {
            eprintln!("{line}");
            return;
        }
        self.text.push_str(line);
        match serde_json::from_str(&self.text) {
            Ok(stats) => self.stats = Some(stats),
            Err(error) if error.is_eof() => return,
            Err(_) => eprintln!("{}", self.text),
        }
        self.text.clear();
    }
}

/// Prints whatever the report holds, one name a line; what has parts goes behind its name, most frequent first.
fn print_report(report: &Value) {
    let fields = report.as_object().into_iter().flatten();
    for (name, value) in fields.map(|(name, value)| (words(name), value)) {
        let mut margin = format!("  {name:<24}");
        for line in wrap(&parts(value), 90) {
            println!("{margin} {line}");
            margin = " ".repeat(26);
        }
    }
}

/// `brokerWaitUs` in words.
fn words(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

fn parts(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by_key(|(_, count)| std::cmp::Reverse(count.as_u64()));
            fields.into_iter().map(|(name, count)| format!("{name} {}", parts(count).join(" "))).collect()
        }
        Value::Array(rows) => rows.iter().map(|row| parts(row).join(" ")).collect(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

/// Joins with commas into lines that are at most so wide, where a part allows it.
fn wrap(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.len() + part.len() + 2 <= width => *line = format!("{line}, {part}"),
            _ => lines.push(part.clone()),
        }
    }
    if lines.is_empty() { vec!["none".to_owned()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_found_behind_other_lines_even_when_broken_over_lines() {
        let mut report = Report::default();
        for line in ["warning: something", "{", "  \"traps\": 3", "}"] {
            report.take(line);
        }
        assert_eq!(report.stats, Some(serde_json::json!({ "traps": 3 })));
    }

    #[test]
    fn text_that_only_looks_like_a_report_does_not_swallow_it() {
        let mut report = Report::default();
        report.take("{not json}");
        report.take("{\"traps\": 3}");
        assert_eq!(report.stats, Some(serde_json::json!({ "traps": 3 })));
    }

    #[test]
    fn parts_come_most_frequent_first() {
        assert_eq!(parts(&serde_json::json!({ "mmap": 2, "futex": 12 })), ["futex 12", "mmap 2"]);
        assert_eq!(parts(&serde_json::json!([["libc.so.6", 4096, 3]])), ["libc.so.6 4096 3"]);
        assert_eq!(words("brokerWaitUs"), "broker wait us");
    }

    #[test]
    fn long_lists_are_broken_between_parts() {
        let parts = ["one 1", "two 2", "three 3"].map(str::to_owned);
        assert_eq!(wrap(&parts, 12), ["one 1, two 2", "three 3"]);
        assert_eq!(wrap(&[], 12), ["none"]);
    }
}
