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

#[test]
fn children_that_have_ended_leave_none_on_the_host() {
    let script = "for ((i = 0; i < 500; i++)); do (exit 3); [ $? = 3 ] || echo lost; done; echo ready; read line";
    let mut command = Command::new(xc());
    command.args(["do", "--", "bash", "-c", script]);
    let mut container = Container::start(command);
    assert_eq!(container.line(), "ready");
    // The service process, and the shell.
    assert!(comes_true(|| container.libos_processes().len() == 2), "{:?}", container.libos_processes());
    container.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert!(container.xc.wait().unwrap().success());
}
