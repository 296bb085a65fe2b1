//! Programs that run one after the other in one host process.

use programs::{assert_same, compile, run, xc};
use std::path::Path;
use std::process::Command;

/// Builds a source under another name, since programs of one source stand beside each other.
fn compile_as(name: &str, source: &str, flags: &[&str], directory: &Path) -> String {
    let flags = [&["-O2", "-Wno-unused-function"], flags].concat();
    let program = directory.join(name);
    std::fs::rename(compile(source, &flags, directory), &program).unwrap();
    program.display().to_string()
}

#[test]
fn programs_in_one_host_process_find_fresh_memory() {
    let directory = tempfile::tempdir().unwrap();
    let with_library = compile_as("with", "warm.c", &["-Wl,--no-as-needed", "-lm"], directory.path());
    let plain = compile_as("plain", "warm.c", &["-DPLAIN"], directory.path());
    assert_same(&[&with_library, &with_library, &plain]);
}

#[test]
fn timers_of_cpu_time_go_along_to_another_host_process() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile_as("timers", "warm.c", &["-Wl,--no-as-needed", "-lm"], directory.path());
    assert_same(&[&program, "timers"]);
}

#[test]
fn calls_of_programs_at_the_same_addresses_jump() {
    let directory = tempfile::tempdir().unwrap();
    let fixed = ["-static", "-no-pie", "-Wl,--no-as-needed"];
    let small = compile_as("small", "warm.c", &[&fixed[..], &["-DPLAIN"]].concat(), directory.path());
    // Another length.
    let large = compile_as("large", "warm.c", &[&fixed[..], &["-DPLAIN", "-DROOM"]].concat(), directory.path());
    let mut command = Command::new(xc());
    command.args(["do", "--stats=json", "--", &small, "turns", &small, &large]);
    let output = run(command);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(report["traps"].as_u64(), Some(0), "{report}");
}
