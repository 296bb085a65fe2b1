//! Threads that come and go.

use programs::host::{Container, comes_true};
use programs::{assert_same, compile, xc};
use std::io::Write as _;
use std::process::Command;

#[test]
fn threads_that_end_together_take_nothing_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile("ends.c", &["-O2", "-pthread"], directory.path());
    assert_same(&[&program.display().to_string()]);
}

#[test]
fn a_thread_finds_what_its_maker_has_and_nothing_of_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile("after.c", &["-O2", "-pthread"], directory.path());
    assert_same(&[&program.display().to_string()]);
}

#[test]
fn threads_that_have_ended_leave_none_on_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile("after.c", &["-O2", "-pthread"], directory.path());
    let mut command = Command::new(xc());
    command.args(["do", "--"]).arg(program).arg("rest");
    let mut container = Container::start(command);
    assert_eq!([container.line(), container.line()], ["children", "many"]);
    let threads = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    // The service process has two.
    let rests = || {
        let mut counts: Vec<_> = container.libos_processes().into_iter().map(threads).collect();
        counts.sort_unstable();
        counts == [1, 2]
    };
    assert!(comes_true(rests), "spares that nobody wants stay");
    container.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert!(container.xc.wait().unwrap().success());
}

/// Forks that follow each other, each of which leaves its parent's processor at its end.
const FORKS: &str = "for ((i = 0; i < 500; i++)); do (exit 3); [ $? = 3 ] || echo lost; done";

fn container_of(script: &str) -> Container {
    let mut command = Command::new(xc());
    command.args(["do", "--", "bash", "-c", script]);
    Container::start(command)
}

#[test]
fn processes_that_have_left_their_parents_processor_leave_none_on_the_host() {
    let mut container = container_of(&format!("{FORKS}; echo ready; read line"));
    assert_eq!(container.line(), "ready");
    // The service process, and the shell.
    assert!(comes_true(|| container.libos_processes().len() == 2), "{:?}", container.libos_processes());
    container.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert!(container.xc.wait().unwrap().success());
}

/// Where the host runs a process.
fn processors(pid: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:"))?.trim().to_owned())
}

#[test]
fn programs_that_begin_where_others_have_left_run_on_all_processors() {
    // The shells make processes with vfork(2): their programs begin in spares.
    let script = format!(
        "mkfifo /tmp/never; for ((j = 0; j < 6; j++)); do
            {FORKS}; for ((k = 0; k < 8; k++)); do sh -c 'cat /tmp/never; :' & done; sleep 0.1
        done; echo ready; read line; kill $(pgrep cat)"
    );
    let mut container = container_of(&script);
    assert_eq!(container.line(), "ready");
    let all = processors("self").expect("the test's own");
    // Whoever hands over meanwhile is tied for a while.
    let pids = container.libos_processes();
    assert!(pids.len() > 96, "{}", pids.len());
    let bound = || pids.iter().filter_map(|pid| processors(&pid.to_string())).filter(|its| *its != all).count();
    assert!(comes_true(|| bound() == 0), "{} of {} are bound", bound(), pids.len());
    container.stdin.take();
    container.xc.kill().expect("killed");
}
