//! `cargo xtask order`: what runs between a fork and the child's end, instruction by instruction, tells in which order the
//! linker had better put the LibOS's functions. A new process faults its text in by 64 KiB, so what it runs should lie together.
//!
//! The result is `crates/xlibos-image/hot.ld`, which is kept: builds need no such run. A name in it that no function has any
//! more costs nothing but its place; run this again when forks take more page faults (tests/programs/tests/budgets.rs).

use crate::command;
use crate::follow::{Followed, Site};
use anyhow::{Context as _, Result};
use nix::sys::ptrace::Options;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

/// What is followed, the most important first: a service of the workload, and how many instructions of it.
const RUNS: [(&str, u64); 3] =
    [("fork-exit-wait", 400_000), ("thread-create-join", 200_000), ("fork-exec-true", 1_500_000)];

/// Builds, follows, and writes the order.
///
/// # Errors
/// Where something cannot be built, or followed.
pub(crate) fn run() -> Result<ExitCode> {
    let site = Site::build()?;
    let mut order = Vec::new();
    let mut known = BTreeSet::new();
    for (service, instructions) in RUNS {
        let visits = first_visits(&site, service, instructions);
        let mut followed = visits.with_context(|| format!("cannot follow {service}"))?;
        // Children begin with none of the text, their parent has it all.
        followed.sort_by_key(|(is_child, _)| !is_child);
        let new: Vec<_> =
            followed.iter().filter_map(|(_, at)| site.symbols.at(*at)).filter(|name| known.insert(*name)).collect();
        println!("{service}: {} more functions", new.len());
        order.extend(new);
    }
    let path = command::root().join("crates/xlibos-image/hot.ld");
    std::fs::write(&path, script(&order)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// The linker's lines. Functions that the compiler holds for rarely called lie in sections of their own.
fn script(order: &[&str]) -> String {
    let mut text = String::from("/* Written by `cargo xtask order`. */\n");
    for name in order {
        let name = lasting(name);
        // Writing to a string does not fail.
        let _ = writeln!(text, "*(.text.{name} .text.*.{name})");
    }
    text
}

/// A pattern for a mangled name (v0) that also fits it in other builds: what numbers crates and implementations is left open, and
/// the places of what is named again, which depend on it; and whose a trait's own method is, for one stands for all that are alike.
fn lasting(name: &str) -> String {
    const OWN_METHOD: &str = "_RNvY";
    let mut pattern = String::new();
    let mut rest = name;
    if let (true, Some(at)) = (name.starts_with(OWN_METHOD), name.rfind("NtNtB")) {
        pattern.push_str(OWN_METHOD);
        pattern.push('*');
        rest = name.get(at..).unwrap_or("");
    }
    while let Some(first) = rest.chars().next() {
        if let Some((mark, behind)) = numbered(rest) {
            pattern.push_str(mark);
            pattern.push_str("*_");
            rest = behind;
        } else {
            pattern.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or("");
        }
    }
    pattern
}

/// What a number follows, and what follows it.
fn numbered(rest: &str) -> Option<(&'static str, &str)> {
    let (mark, most) =
        [("Cs", 13), ("Ms", 3), ("Xs", 3), ("B", 3)].into_iter().find(|(mark, _)| rest.starts_with(mark))?;
    let (digits, behind) = rest.get(mark.len()..)?.split_once('_')?;
    let is_number = digits.len() <= most && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_number.then_some((mark, behind))
}

/// Where the guest and its children were in the LibOS's text for the first time, as offsets, in turn; and whether that was a child.
fn first_visits(site: &Site, service: &str, instructions: u64) -> Result<Vec<(bool, u64)>> {
    let followed = Followed::begin(site, &[service], Options::PTRACE_O_TRACECLONE)?;
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    followed.walk(instructions, |pid, at| {
        let is_child = pid != followed.guest.pid;
        if followed.guest.text.contains(&at) && seen.insert((is_child, at)) {
            order.push((is_child, at - followed.guest.text.start));
        }
    })?;
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::lasting;

    #[test]
    fn a_pattern_leaves_open_what_other_builds_number_anew() {
        let name = "_RNvMsn_NtCsfySoobUK4LL_5alloc4syncINtB5_3ArcNtNtCsh0eDhTviWF2_6xlibos3tty3TtyE9drop_slowBK_";
        assert_eq!(lasting(name), "_RNvMs*_NtCs*_5alloc4syncINtB*_3ArcNtNtCs*_6xlibos3tty3TtyE9drop_slowB*_");
        assert_eq!(lasting("kernel_child"), "kernel_child");
        assert_eq!(lasting("_RNvNtCs1_1m4Base"), "_RNvNtCs*_1m4Base");
        let own = "_RNvYNtNtNtCsh0eDhTviWF2_6xlibos2fs5epoll5EpollNtNtB6_4file7FileOps8on_closeB8_";
        assert_eq!(lasting(own), "_RNvY*NtNtB*_4file7FileOps8on_closeB*_");
    }
}
