//! SIGSTOP and SIGCONT from the host, of every process of a container: no program in it notices.

use programs::host::{Container, comes_true, descendants};
use programs::{assert_same, compile, on_host, run, xc};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read as _, Write as _};
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
    let program = compile("sleeps.c", &["-O2", "-pthread"], directory.path());

    let shell = format!("echo | {}", program.display());
    let mut host = on_host(&["sh", "-c", &shell]);
    let expected = run({
        host.current_dir(directory.path());
        host
    });
    let expected = String::from_utf8(expected.stdout).unwrap();
    assert_eq!(expected.lines().count(), 40, "{expected}");

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

/// Children of a process that have ended and are not reaped.
fn zombies(of: u32) -> usize {
    let is_zombie = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    descendants(of).iter().filter(|pid| is_zombie(pid)).count()
}

#[test]
fn the_reaper_reaps_while_nobody_reads_what_it_tells() {
    let storm = "$| = 1; print qq(ready\\n); <STDIN>;
        for (1..2000) { my $p = fork; exit 0 unless $p; waitpid $p, 0 } print qq(forked\\n); <STDIN>; exit 5";
    let mut container = Container::start(programs::in_container(&["perl", "-e", storm]));
    assert_eq!(container.line(), "ready");
    let reaper = container.processes()[0];
    let service = Pid::from_raw(container.libos_processes()[0].cast_signed()).unwrap();
    kill_process(service, Signal::STOP).unwrap();
    container.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(container.line(), "forked");
    assert!(comes_true(|| zombies(reaper) == 0), "{} zombies", zombies(reaper));
    kill_process(service, Signal::CONT).unwrap();
    container.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(container.xc.wait().unwrap().code(), Some(5));
}

#[test]
fn fault_signals_from_the_host_change_nothing() {
    let mut command = Command::new(xc());
    let text = "$| = 1; print qq(ready\\n); fork or do { 1 while 1 }; print qq(got ), scalar <STDIN>; kill 9, -1; 1 while wait > 0";
    command.args(["do", "--", "perl", "-e", text]);
    let mut container = Container::start(command);
    assert_eq!(container.line(), "ready");
    for signal in [Signal::ILL, Signal::TRAP, Signal::BUS, Signal::FPE, Signal::SEGV, Signal::SYS] {
        for pid in container.libos_processes() {
            let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
        }
    }
    container.stdin.as_mut().unwrap().write_all(b"word\n").unwrap();
    assert_eq!(container.line(), "got word");
    assert_eq!(container.xc.wait().unwrap().code(), Some(0));
}

#[test]
fn a_caller_that_ignores_the_ends_of_children_hides_none() {
    let text = "$| = 1; my $p = fork; $p or do { sleep 9 while 1 }; print qq(ready\\n); waitpid $p, 0; exit $? & 127";
    let mut command = Command::new("perl");
    command.args(["-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV"]).arg(xc()).args(["do", "--", "perl", "-e", text]);
    let mut container = Container::start(command);
    assert_eq!(container.line(), "ready");
    let child = container.libos_processes().into_iter().max().unwrap();
    kill_process(Pid::from_raw(child.cast_signed()).unwrap(), Signal::KILL).unwrap();
    assert!(comes_true(|| container.xc.try_wait().unwrap().is_some()), "the end of {child} was not heard of");
    assert_eq!(container.xc.wait().unwrap().code(), Some(9));
}

#[test]
fn the_end_of_a_process_with_threads_that_the_host_killed_is_told() {
    let text = "import os, threading, time
pid = os.fork()
if pid == 0:
    for _ in range(3): threading.Thread(target=time.sleep, args=(1000,)).start()
    print('ready', flush=True)
    time.sleep(1000)
os._exit(os.waitpid(pid, 0)[1])";
    let mut command = Command::new(xc());
    command.args(["do", "--", "python3", "-c", text]);
    let mut container = Container::start(command);
    assert_eq!(container.line(), "ready");
    let threads = |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let child = container.libos_processes().into_iter().max_by_key(threads).unwrap();
    assert_eq!(threads(&child), 4);
    kill_process(Pid::from_raw(child.cast_signed()).unwrap(), Signal::KILL).unwrap();
    assert!(comes_true(|| container.xc.try_wait().unwrap().is_some()), "the end of {child} was not heard of");
    assert_eq!(container.xc.wait().unwrap().code(), Some(9));
}

#[test]
fn who_is_killed_while_its_memory_grows_dies_alone() {
    let text = "import mmap, os
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        print('ready', flush=True)
        while True: mmap.mmap(-1, 1 << 27, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()
    print(os.waitpid(pid, 0)[1], flush=True)";
    let mut command = Command::new(xc());
    command.args(["do", "--", "python3", "-c", text]);
    let mut container = Container::start(command);
    for _ in 0..5 {
        assert_eq!(container.line(), "ready");
        let children = container.libos_processes().into_iter().max_by_key(|pid| (anonymous_kib(*pid), *pid));
        kill_process(Pid::from_raw(children.unwrap().cast_signed()).unwrap(), Signal::KILL).unwrap();
        assert_eq!(container.line(), "9");
    }
    assert_eq!(container.xc.wait().unwrap().code(), Some(0));
}

#[test]
fn a_heap_takes_memory_of_the_host_as_it_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(xc());
    command.args(["do", "--"]).arg(compile("heap.c", &["-O2"], directory.path()));
    let mut container = Container::start(command);
    assert_eq!(container.line(), "ready");
    let most = container.libos_processes().into_iter().map(anonymous_kib).max().unwrap();
    // A page or two of each block; all of them are 200 MB.
    assert!(most < 60_000, "{most} KiB");
    drop(container.stdin.take());
    assert_eq!(container.xc.wait().unwrap().code(), Some(0));
}

/// Memory of its own that a host process has in use.
fn anonymous_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    line.and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
