//! Programs that gcc made with its sanitizers: the same findings as on the host.

use programs::{compile, in_container, on_host, run};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Output;

/// Builds the guest with a sanitizer.
fn build(directory: &Path, sanitizer: &str) -> String {
    let program = compile("sanitized.c", &["-g", "-O1", "-pthread", &format!("-fsanitize={sanitizer}")], directory);
    program.to_str().expect("name").to_owned()
}

/// What is the same at every run: the kind of a finding, and functions and lines of the program.
fn findings(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let kind = |line: &str| {
        let kinds =
            ["heap-buffer-overflow", "heap-use-after-free", "data race", "SEGV", "signed integer overflow", "leaked"];
        let tells = line.starts_with("SUMMARY") || line.contains("runtime error");
        kinds.iter().find(|kind| tells && line.contains(*kind)).map(|kind| (*kind).to_owned())
    };
    let place = |line: &str| {
        line.contains("sanitized.c:").then(|| line.split_once(" in ").map_or(line, |(_, place)| place).to_owned())
    };
    text.lines().filter_map(|line| kind(line).or_else(|| place(line))).collect()
}

/// A status as shells tell it: that of a program that a signal killed, too.
fn status_in_shell(output: &Output) -> Option<i32> {
    output.status.code().or_else(|| Some(128 + output.status.signal()?))
}

fn compare(sanitizer: &str, faults: &[&str]) {
    let directory = tempfile::tempdir().expect("directory");
    let program = build(directory.path(), sanitizer);
    for fault in faults {
        let words = [&*program, fault];
        let host = run(on_host(&words));
        let guest = run(in_container(&words));
        assert_eq!(fault.is_empty(), host.status.success(), "on the host: {fault}: {host:?}");
        assert_eq!(guest.stdout, host.stdout, "{fault}: {guest:?}");
        assert_eq!(guest.status.code(), status_in_shell(&host), "{fault}: {guest:?}");
        // Which of two threads races, and how often it is seen, differs from run to run.
        let ends = |output| findings(output).into_iter().last();
        if *fault == "race" {
            assert_eq!(ends(&guest), ends(&host), "{fault}: {guest:?}");
        } else {
            assert_eq!(findings(&guest), findings(&host), "{fault}: {guest:?}");
        }
    }
}

#[test]
fn address_sanitizer_finds_what_it_finds_on_the_host() {
    // Its search for leaks stops all threads, by ptrace(2).
    compare("address", &["", "overflow", "free", "nowhere", "leak"]);
}

#[test]
fn thread_sanitizer_finds_what_it_finds_on_the_host() {
    compare("thread", &["", "race", "nowhere"]);
}

#[test]
fn undefined_behaviour_sanitizer_finds_what_it_finds_on_the_host() {
    compare("undefined", &["", "overflows", "nowhere"]);
}
