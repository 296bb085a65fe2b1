//! SIGSTOP and SIGCONT from the host, of every process of a container: no program in it notices.

use programs::host::{Container, comes_true};
use programs::{assert_same, on_host, run, xc};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

/// Whether a process stands still: it is stopped, or ends.
fn is_still(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let killed = u64::from_str_radix(value("ShdPnd:"), 16).is_ok_and(|pending| pending & 1 << 8 != 0);
    killed || value("State:").starts_with(['T', 'Z', 'X'])
}

/// Stops all of a container, supervisor included, and lets it go on.
fn stop_and_go(container: &Container) {
    let mut pids = container.processes();
    pids.push(container.xc.id());
    let send = |pid: &u32, signal| {
        // One may have ended meanwhile.
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
    };
    pids.iter().for_each(|pid| send(pid, Signal::STOP));
    assert!(comes_true(|| pids.iter().all(|pid| is_still(*pid))));
    pids.iter().for_each(|pid| send(pid, Signal::CONT));
}

#[test]
fn stops_from_the_host_change_no_sleep() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("sleeps");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/sleeps.c");
    let gcc = Command::new("gcc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).status().expect("gcc");
    assert!(gcc.success());

    let shell = format!("echo | {}", program.display());
    let mut host = on_host(&["sh", "-c", &shell]);
    let expected = run({
        host.current_dir(directory.path());
        host
    });
    let expected = String::from_utf8(expected.stdout).unwrap();
    assert_eq!(expected.lines().count(), 21, "{expected}");

    let mut command = Command::new(xc());
    command.args(["do", "--"]).arg(&program).current_dir(directory.path());
    let mut container = Container::start(command);
    assert_eq!(container.line(), "ready");
    for _ in 0..50 {
        stop_and_go(&container);
    }
    container.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    // And while they wake, to the end.
    let status = loop {
        match container.xc.try_wait().unwrap() {
            Some(status) => break status,
            None => stop_and_go(&container),
        }
    };
    let mut rest = String::new();
    container.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(format!("ready\n{rest}"), expected);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn alarm_reaches_a_process_that_computes() {
    assert_same(&["sh", "-c", "perl -e 'alarm 1; 1 while 1'; echo $?"]);
    // A handler, and one process more than there are processors.
    let text = "$SIG{ALRM} = sub { print qq(alarm\\n); exit 3 };
        for (1..3) { fork or do { alarm 1; 1 while 1 } } 1 while wait > 0";
    assert_same(&["perl", "-e", text]);
}
