//! Programs that trace others inside a container: gdb and strace, compared with the host.

use programs::{compile, in_container, on_host, run};
use std::path::Path;
use std::process::Output;

fn debugged(directory: &Path) -> String {
    compile("debugged.c", &["-g", "-O0", "-pthread"], directory).display().to_string()
}

/// Runs both ways and compares what `kept` leaves of the lines.
fn compare(words: &[&str], kept: impl Fn(&str) -> Option<String>) -> (Output, Output) {
    let lines = |output: &Output| {
        let both = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
        both.lines().filter_map(&kept).collect::<Vec<_>>()
    };
    let (host, guest) = (run(on_host(words)), run(in_container(words)));
    assert!(!lines(&host).is_empty(), "{host:?}");
    assert_eq!(lines(&guest), lines(&host), "{guest:?}");
    assert_eq!(guest.status.code(), host.status.code(), "{guest:?}");
    (host, guest)
}

#[test]
fn gdb_breaks_steps_and_looks() {
    let directory = tempfile::tempdir().expect("directory");
    let program = debugged(directory.path());
    let commands = [
        "set confirm off",
        "break add",
        "run",
        "print left + right",
        "finish",
        "continue",
        "bt",
        "info registers rip",
        "print add(40, 2)",
        "watch total",
        "next",
        "set var four = 7",
        "print four",
        "delete",
        "continue",
    ];
    let mut words = vec!["gdb", "-nx", "-batch", "-iex", "set can-use-hw-watchpoints 0"];
    commands.iter().for_each(|command| words.extend(["-ex", command]));
    words.push(&program);
    // Numbers of processes and threads, and addresses of the C library, are each run's own.
    compare(&words, |line| {
        let is_own = line.contains("LWP") || line.contains("process") || line.contains("__") || line.contains("0x7f");
        (!is_own).then(|| line.split("0x").next().unwrap_or(line).to_owned())
    });
}

#[test]
fn gdb_finds_the_place_of_a_bad_access() {
    let directory = tempfile::tempdir().expect("directory");
    let program = debugged(directory.path());
    let words = [
        "gdb",
        "-nx",
        "-batch",
        "-ex",
        "run bad",
        "-ex",
        "bt",
        "-ex",
        "print $_siginfo.si_signo",
        "-ex",
        "kill",
        &program,
    ];
    compare(&words, |line| {
        let is_kept = ["#0", "SIGSEGV", "debugged.c", "$1"].iter().any(|word| line.contains(word));
        is_kept.then(|| line.to_owned())
    });
}

#[test]
fn strace_follows_children_to_their_end() {
    let script = "echo one; (exit 3); /bin/echo two >/dev/null; kill -USR1 $$";
    let words = ["strace", "-f", "-e", "trace=execve,exit_group,kill", "sh", "-c", script];
    compare(&words, |line| {
        let line = line.split_once("] ").map_or(line, |(_, line)| line);
        let is_kept =
            ["execve(", "exit_group(", "kill(", "+++ ", "--- SIG", "one"].iter().any(|word| line.contains(word));
        let without_numbers: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
        is_kept.then(|| without_numbers.split("/* ").next().unwrap_or("").to_owned())
    });
}

#[test]
fn strace_attaches_and_lets_go() {
    let script = "sleep 60 & child=$!
        until grep -q '^State:.S' /proc/$child/status; do :; done
        strace -o /dev/null -p $child & tracer=$!
        until grep -q '^TracerPid:.'$tracer /proc/$child/status; do :; done
        kill -INT $tracer; wait $tracer; grep TracerPid /proc/$child/status
        kill $child; wait $child; echo $?";
    compare(&["bash", "-c", script], |line| (!line.contains("strace:")).then(|| line.to_owned()));
}
