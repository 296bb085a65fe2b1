//! All cases again and again in one container: what they leave there does not grow.

use programs::host::{Container, comes_true, descriptors};
use std::io::Write as _;
use std::process::Command;

/// Runs all cases for each line, then tells how many passed, and of the memory that the LibOS has for itself.
const ROUNDS: &str = r#"while read -r line; do
    "$0" </dev/null | tail -n 1
    while read -r name kib unit; do [ $name = Slab: ] && echo $kib; done </proc/meminfo
done"#;
/// What names that were never there before may take in a round, in KiB.
const NAMES: u64 = 512;

/// What a round leaves: memory in KiB, host processes, and descriptors of the one that is always there.
fn round(container: &mut Container) -> (u64, usize, usize) {
    let Some(stdin) = &mut container.stdin else { panic!("no standard input") };
    assert!(writeln!(stdin).is_ok());
    let verdict = container.line();
    // Whether all did is another test's matter.
    assert!(verdict.contains(" passed, "), "{verdict}");
    let Ok(kib) = container.line().parse() else { panic!("no size") };
    // Spare processes end by themselves: reaper, service process and shell are left.
    assert!(comes_true(|| container.processes().len() == 3), "{:?}", container.processes());
    let processes = container.libos_processes();
    let held = processes.first().map_or(0, |service| descriptors(*service).len());
    (kib, processes.len(), held)
}

#[test]
fn memory_handles_and_processes_are_what_they_were() {
    let mut command = Command::new(programs::xc());
    command.args(["do", "--", "bash", "-c", ROUNDS, env!("CARGO_BIN_EXE_conformance")]);
    let mut container = Container::start(command);
    // Caches fill in the first.
    let mut rounds = Vec::from([(); 2].map(|()| round(&mut container)));
    // What leaks does so in each round; a handle more for more threads that asked at once than ever before does not come again.
    let is_as_before = |rounds: &[(u64, usize, usize)]| {
        let [.., before, after] = rounds else { return false };
        after.0 < before.0 + NAMES && (after.1, after.2) == (before.1, before.2)
    };
    for _ in 0..3 {
        rounds.push(round(&mut container));
        if is_as_before(&rounds) {
            break;
        }
    }
    assert!(is_as_before(&rounds), "{rounds:?}");
    drop(container.stdin.take());
    assert!(container.xc.wait().is_ok());
}
