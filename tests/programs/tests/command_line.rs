//! `xc` itself: exit status, messages, report, cleanliness.

use programs::{in_container, run, xc};
use std::process::Command;

fn status_and_error(words: &[&str]) -> (Option<i32>, String) {
    let output = run(in_container(words));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_missing_program_is_127_and_named() {
    let (status, error) = status_and_error(&["no-such-program"]);
    assert_eq!(status, Some(127));
    assert!(error.contains("no-such-program"), "{error}");
}

#[test]
fn a_directory_and_a_plain_file_are_126() {
    assert_eq!(status_and_error(&["/etc"]).0, Some(126));
    assert_eq!(status_and_error(&["/etc/passwd"]).0, Some(126));
}

#[test]
fn a_program_killed_by_a_signal_is_128_plus_its_number() {
    // The first process of a pid namespace ignores what it has no handler for, so a child dies.
    assert_eq!(status_and_error(&["bash", "-c", "sh -c 'kill -9 $$'; exit $?"]).0, Some(137));
}

#[test]
fn a_missing_working_directory_is_named_as_one() {
    let mut command = Command::new(xc());
    command.args(["do", "-w", "/no/such/place", "--", "/bin/true"]);
    let output = run(command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(127));
    assert!(error.contains("working directory /no/such/place") && !error.contains("program"), "{error}");
}

#[test]
fn bad_options_are_125() {
    let output = run({
        let mut command = Command::new(xc());
        command.args(["do", "--no-such-option", "true"]);
        command
    });
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn a_rootfs_that_is_no_directory_is_125_and_named() {
    let output = run({
        let mut command = Command::new(xc());
        command.args(["run", "--rootfs", "/no/such/root", "true"]);
        command
    });
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/root"));
}

#[test]
fn the_report_counts_calls() {
    let mut command = Command::new(xc());
    command.args(["do", "--stats=json", "--", "/bin/true"]);
    let output = run(command);
    let report: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
    let calls = report["jumps"].as_u64().unwrap_or(0) + report["traps"].as_u64().unwrap_or(0);
    assert!(calls > 10, "{report}");
    assert!(report["hostCalls"]["mmap"].as_u64().unwrap_or(0) > 0, "{report}");
}

#[test]
fn features_lists_at_most_25_host_calls_and_24_requests() {
    let mut command = Command::new(xc());
    command.arg("features");
    let features: serde_json::Value = serde_json::from_slice(&run(command).stdout).unwrap_or_default();
    let count = |key: &str| features[key].as_array().map_or(usize::MAX, Vec::len);
    assert!(count("hostCalls") <= 25);
    assert!(count("brokerRequests") <= 24);
}

#[test]
fn the_first_process_is_pid_1_and_sees_its_own_host_name() {
    let mut command = Command::new(xc());
    command.args(["do", "--hostname", "elsewhere", "--", "bash", "-c", "echo $$; uname -n"]);
    assert_eq!(String::from_utf8_lossy(&run(command).stdout), "1\nelsewhere\n");
}
