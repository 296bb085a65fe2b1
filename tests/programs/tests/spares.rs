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

#[test]
fn data_that_a_program_wrote_is_fresh_for_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let fixed = compile_as("fixed", "data.c", &["-static", "-no-pie", "-pthread"], directory.path());
    // Less data at the same addresses, and elsewhere.
    for flags in [&["-static", "-no-pie", "-pthread", "-DSMALL"][..], &["-pie", "-fPIE", "-pthread", "-DSMALL"]] {
        assert_same(&[&fixed, &compile_as("small", "data.c", flags, directory.path())]);
    }
    for flags in [&["-no-pie", "-pthread"][..], &["-pie", "-fPIE", "-pthread"]] {
        assert_same(&[&compile_as("with", "data.c", flags, directory.path())]);
    }
}

#[test]
fn data_is_what_the_file_has_when_the_program_starts() {
    let directory = tempfile::tempdir().unwrap();
    let fixed = compile_as("fixed", "data.c", &["-static", "-no-pie", "-pthread"], directory.path());
    let volume = format!("{}:/mnt", directory.path().display());
    for copy in ["/mnt/copy", "/tmp/copy"] {
        let mut command = Command::new(xc());
        let line = format!("cp /mnt/fixed {copy} && {fixed} change {copy}");
        command.args(["do", "-v", &volume, "--", "bash", "-c", &line]);
        let output = run(command);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "each has what its file had\n", "{output:?}");
    }
}
