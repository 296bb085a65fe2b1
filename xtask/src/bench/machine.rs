//! What the figures were measured on.

use crate::command;
use std::process::Command;

/// Processor, kernel and mitigations, for the page.
pub(super) fn describe() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = command::output(Command::new("uname").arg("-r")).unwrap_or_default();
    let mitigations = std::fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let mut lines: Vec<String> = mitigations
        .filter_map(|entry| {
            let state = std::fs::read_to_string(entry.path()).ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            (state.trim() != "Not affected").then(|| format!("- {name}: {}", state.trim()))
        })
        .collect();
    lines.sort();
    let model = model.trim_start_matches([' ', '\t', ':']);
    format!("{count} × {model}, Linux {}\n\nMitigations:\n{}\n", kernel.trim(), lines.join("\n"))
}
