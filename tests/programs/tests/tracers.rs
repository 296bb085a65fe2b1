//! Programs that trace others inside a container: gdb and strace, compared with the host.

use programs::{compile, in_container, on_host, run};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Output;

fn debugged(directory: &Path) -> String {
    compile("debugged.c", &["-g", "-O0", "-pthread"], directory).display().to_string()
}

/// Runs both ways and compares what `kept` leaves of the lines.
fn compare(words: &[&str], kept: impl Fn(&str) -> bool) {
    let lines = |output: &Output| {
        let both = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
        both.lines().filter(|line| kept(line)).map(without_places).collect::<Vec<_>>()
    };
    let (host, guest) = (run(on_host(words)), run(in_container(words)));
    assert!(!lines(&host).is_empty(), "{host:?}");
    assert_eq!(lines(&guest), lines(&host), "{guest:?}");
    let status = host.status.code().or_else(|| Some(128 + host.status.signal()?));
    assert_eq!(guest.status.code(), status, "{guest:?}");
}

/// A line without addresses, and without numbers of processes, which decide how wide it is.
fn without_places(line: &str) -> String {
    let words = line.split_whitespace().map(|word| match word.split_once("0x") {
        Some((before, _)) => before,
        None => word,
    });
    words.map(|word| word.replace(|c: char| c.is_ascii_digit(), "")).collect::<Vec<_>>().join(" ")
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
        !is_own
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
    compare(&words, |line| ["#0", "SIGSEGV", "debugged.c", "$1"].iter().any(|word| line.contains(word)));
}

#[test]
fn strace_follows_children_to_their_end() {
    let script = "echo one; (exit 3); /bin/echo two >/dev/null; kill -USR1 $$";
    let words = ["strace", "-f", "-e", "trace=execve,exit_group,kill", "sh", "-c", script];
    compare(&words, |line| {
        ["execve(", "exit_group(", "kill(", "+++ ", "--- SIG", "one"].iter().any(|word| line.contains(word))
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
    compare(&["bash", "-c", script], |line| !line.contains("strace:"));
}
