//! On which processors the host runs a container's threads.

use programs::host::{Container, comes_true};
use programs::{assert_same, compile, xc};
use std::process::{Command, Stdio};

/// Where the host may run each thread of a process: one list of processors a thread.
fn allowed(pid: u32) -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let status =
        |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("status")).ok();
    let list =
        |status: String| status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:").map(str::to_owned));
    tasks.filter_map(status).filter_map(list).collect()
}

/// Whether every thread may run wherever this test may.
fn is_free(container: &Container) -> bool {
    let own = allowed(std::process::id());
    container.processes().into_iter().all(|pid| allowed(pid).iter().all(|list| own.contains(list)))
}

#[test]
fn two_that_wake_each_other_share_a_processor_while_they_do() {
    use std::io::{Read as _, Write as _};
    let directory = tempfile::tempdir().unwrap();
    let program = compile("pair.c", &["-O2"], directory.path());
    let mut command = Command::new(xc());
    command.args(["do", "--stats=json", "--"]).arg(program).stderr(Stdio::piped());
    let mut container = Container::start(command);
    for way in ["pipes", "words"] {
        assert_eq!(container.line(), way);
        assert!(comes_true(|| is_free(&container)), "tied for ever after {way}");
        container.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
    let mut report = String::new();
    container.xc.stderr.take().unwrap().read_to_string(&mut report).unwrap();
    assert!(container.xc.wait().unwrap().success());
    let report: serde_json::Value = serde_json::from_str(&report).expect(&report);
    for call in ["write", "futex"] {
        let ties = report["hostCallsByGuestCall"][call]["sched_setaffinity"].as_u64();
        assert!(ties.is_some_and(|calls| calls >= 2), "a {call} tied no pair: {report}");
    }
}

#[test]
fn a_mask_holds_for_what_the_thread_starts() {
    let last = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) - 1;
    let where_it_runs = "import ctypes, os; print(ctypes.CDLL(None).sched_getcpu(), os.sched_getaffinity(0))";
    // The last one is started by a vfork child, in a host process that others may have used before.
    let program = format!(
        "import os, subprocess\nsubprocess.run(['/bin/true'])\n\
         for cpu in ({last}, 0):\n  os.sched_setaffinity(0, [cpu])\n  {where_it_runs}\n  \
         subprocess.run(['python3', '-c', {where_it_runs:?}])\n",
    );
    assert_same(&["python3", "-u", "-c", &program]);
}
