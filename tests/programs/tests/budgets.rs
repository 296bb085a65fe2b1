//! What a call may cost: host calls and broker requests, from the reports of a short and a long run. What others change on
//! the host meanwhile is asked for again, so the least of a few runs counts.

use programs::host::{Container, comes_true};
use programs::{compile, run, xc};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Times that the long run does more than the short one.
const MORE: u64 = 1000;

fn program(directory: &Path) -> PathBuf {
    compile("budget.c", &["-O2"], directory)
}

/// Sums of host calls and broker requests.
fn costs(program: &Path, thing: &str, count: u64) -> (u64, u64) {
    least(|| {
        let mut command = Command::new(xc());
        command.args(["do", "--stats=json", "--"]).arg(program).args([thing, &count.to_string()]);
        costs_of(command)
    })
}

/// The least of a few runs, each of the two for itself.
fn least(run: impl Fn() -> (u64, u64)) -> (u64, u64) {
    let runs: Vec<_> = (0..4).map(|_| run()).collect();
    let least = |of: fn(&(u64, u64)) -> u64| runs.iter().map(of).min().unwrap_or(u64::MAX);
    (least(|costs| costs.0), least(|costs| costs.1))
}

fn report_of(command: Command) -> serde_json::Value {
    let output = run(command);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stderr).expect("a report")
}

fn costs_of(command: Command) -> (u64, u64) {
    let report = report_of(command);
    let sum = |key: &str| report[key].as_object().expect(key).values().filter_map(serde_json::Value::as_u64).sum();
    (sum("hostCalls"), sum("brokerRequests"))
}

/// Host calls and broker requests of [`MORE`] times a thing.
fn extra(program: &Path, thing: &str) -> (u64, u64) {
    let (short, long) = (costs(program, thing, 10), costs(program, thing, 10 + MORE));
    (long.0.saturating_sub(short.0), long.1.saturating_sub(short.1))
}

#[test]
fn what_needs_no_host_makes_no_host_call() {
    let directory = tempfile::tempdir().expect("directory");
    let program = program(directory.path());
    for thing in ["getpid", "kill", "stat", "pipe", "pread", "open-read", "futex", "semop"] {
        let (host_calls, requests) = extra(&program, thing);
        // A wake-up of the service's may come in between.
        assert!(host_calls < MORE / 100 && requests == 0, "{thing}: {host_calls} host calls, {requests} requests");
    }
}

#[test]
fn what_is_known_is_not_asked_again() {
    let directory = tempfile::tempdir().expect("directory");
    let program = program(directory.path());
    for thing in ["open", "fork"] {
        let (_, requests) = extra(&program, thing);
        assert_eq!(requests, 0, "{thing}");
    }
}

#[test]
fn a_fork_is_counted_as_a_clone_and_an_exit() {
    let directory = tempfile::tempdir().expect("directory");
    let program = program(directory.path());
    let count = |forks: u64, call: &str| {
        let mut command = Command::new(xc());
        command.args(["do", "--stats=json", "--"]).arg(&program).args(["fork", &forks.to_string()]);
        report_of(command)["hostCalls"][call].as_u64().unwrap_or(0)
    };
    assert_eq!(count(10 + MORE, "clone") - count(10, "clone"), MORE);
    // Some wait for another program; what the last ones did is not told.
    assert!((MORE / 2..=10 + MORE).contains(&count(10 + MORE, "exit")));
}

/// Page faults of a fork, of [`MORE`] in a program.
fn faults(program: &Path, thing: &str) -> u64 {
    let run = |forks: u64| {
        let mut command = Command::new(xc());
        command.args(["do", "--stats=json", "--"]).arg(program).args([thing, &forks.to_string()]);
        report_of(command)["minorFaults"].as_u64().expect("a count")
    };
    let least = |forks| (0..4).map(|_| run(forks)).min().unwrap_or(u64::MAX);
    (least(10 + MORE) - least(10)) / MORE
}

#[test]
fn a_forked_child_finds_what_it_runs_on_few_pages() {
    let directory = tempfile::tempdir().expect("directory");
    let program = program(directory.path());
    let each = faults(&program, "fork");
    // 28 to 29, of which the C library's own are most. Where there are more: `cargo xtask order`.
    assert!(each <= 40, "{each} page faults a fork");
}

#[test]
fn a_child_with_a_thread_looks_at_no_page_of_threads_that_others_had() {
    let directory = tempfile::tempdir().expect("directory");
    let each = faults(&program(directory.path()), "fork-threaded");
    // 52; 253 where it looks at the area of each.
    assert!(each <= 80, "{each} page faults a fork");
}

/// The most of its own memory that a container has had, whose shell starts so many others, one after the other, that sleep.
fn peak_beside_sleepers(count: u32) -> u64 {
    let script = format!(
        "exec 2>/dev/null; mkfifo /tmp/told /tmp/asked; exec 3<>/tmp/told 4<>/tmp/asked
        for ((i = 0; i < {count}; i++)); do sh -c 'echo >&3; read line' <&4 & read -u 3; done
        kill $(jobs -p); wait"
    );
    let run = || {
        let mut command = Command::new(xc());
        command.args(["do", "--stats=json", "--", "bash", "-c", &script]);
        report_of(command)["arenaPeakBytes"].as_u64().expect("a count")
    };
    (0..4).map(|_| run()).min().unwrap_or(u64::MAX)
}

#[test]
fn a_program_that_sleeps_keeps_little_memory_of_what_was_before_it() {
    let each = (peak_beside_sleepers(48) - peak_beside_sleepers(8)) / 40 / 1024;
    // 17; 28 with the larger blocks that its thread had kept.
    assert!(each <= 22, "{each} KiB");
}

/// Whether the host makes a large page of small ones where it is asked to: from Linux 6.1 on, unless told not to, or without a
/// free one.
fn makes_large_pages() -> bool {
    let shared = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next(), numbers.next());
    // Blocks of 2 and 4 MiB are the last two numbers of a line.
    let blocks = std::fs::read_to_string("/proc/buddyinfo").unwrap_or_default();
    let has_free = |line: &str| line.split_whitespace().rev().take(2).any(|count| count != "0");
    let is_willing = !shared.is_empty() && !shared.contains("[deny]") && blocks.lines().any(has_free);
    is_willing && version >= (Some(6), Some(1))
}

/// KiB of the arena that the processes of a container map by one entry of the host's, after so many forks.
fn large_kib(forks: u32) -> u64 {
    let forks = format!("for ((i = 0; i < {forks}; i++)); do (:); done; echo ready; read line");
    let mut command = Command::new(xc());
    command.args(["do", "--", "bash", "-c", &forks]);
    let mut container = Container::start(command);
    assert_eq!(container.line(), "ready");
    let maps = container.libos_processes().into_iter().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/smaps")));
    let maps: String = maps.map(Result::unwrap_or_default).collect();
    let large = maps.lines().filter_map(|line| line.strip_prefix("ShmemPmdMapped:")?.trim().strip_suffix(" kB"));
    large.filter_map(|kib| kib.parse::<u64>().ok()).sum()
}

#[test]
fn only_a_container_that_forks_without_end_has_a_large_page() {
    assert_eq!(large_kib(20), 0);
    let is_possible = makes_large_pages();
    // The host refuses where a page is in use just then.
    assert!(!is_possible || (0..3).any(|_| large_kib(1000) > 0));
}

/// A tree of 40 directories with ten files each.
fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().expect("directory");
    for i in 0..40 {
        let directory = tree.path().join(format!("d{i}"));
        std::fs::create_dir(&directory).expect("directory");
        (0..10).for_each(|j| std::fs::write(directory.join(format!("f{j}")), "x").expect("file"));
    }
    tree
}

/// A container that does `test -f` of so many files of so many directories of the tree, a path each.
fn look_at(tree: &Path, directories: u32, files: u32) -> Command {
    let paths = (0..directories).flat_map(|i| (0..files).map(move |j| format!("d{i}/f{j}")));
    let tests: String = paths.map(|path| format!("test -f {path} || exit 9\n")).collect();
    let mut command = Command::new(xc());
    command.args(["do", "--stats=json", "-w"]).arg(tree).args(["--", "sh", "-c", &tests]);
    command
}

#[test]
fn a_first_pass_over_a_tree_asks_once_a_directory() {
    let tree = tree();
    let requests = |directories| least(|| costs_of(look_at(tree.path(), directories, 10))).1;
    let (few, many) = (requests(10), requests(40));
    assert!(many - few <= 30, "{few} requests for 10 directories, {many} for 40");
}

/// What the container mounts, and where it looks for the program, is no walk of the program's over a tree.
#[test]
fn a_start_lists_no_directory() {
    let mut command = Command::new(xc());
    // Where cargo has libraries looked for, one name in each directory after the other.
    command.args(["do", "--stats=json", "--", "/bin/true"]).env_remove("LD_LIBRARY_PATH");
    let requests = &report_of(command)["brokerRequests"];
    assert!(requests["walk"].as_u64() > Some(0), "{requests}");
    assert_eq!(requests["readdir"].as_u64(), None);
}

#[test]
fn a_first_reading_of_a_tree_opens_most_files_in_advance() {
    let tree = tree();
    let opens = |directories: u32| {
        let paths = (0..directories).flat_map(|i| (0..10).map(move |j| format!("d{i}/f{j}")));
        let reads: String = paths.map(|path| format!("read -r x <{path}; test \"$x\" = x || exit 9\n")).collect();
        let mut command = Command::new(xc());
        command.args(["do", "--stats=json", "-w"]).arg(tree.path()).args(["--", "bash", "-c", &reads]);
        report_of(command)["brokerRequests"]["open"].as_u64().unwrap_or(0)
    };
    let (few, many) = (opens(10), opens(40));
    assert!(many - few <= 90, "{few} opened by requests of 100 files, {many} of 400");
}

#[test]
fn a_file_here_and_there_lists_no_directory() {
    let tree = tree();
    let listings = |directories| {
        let report = report_of(look_at(tree.path(), directories, 1));
        report["brokerRequests"]["readdir"].as_u64().unwrap_or(0)
    };
    assert_eq!(listings(40), listings(10));
}

/// Tells whether something was changed in a checkout of so many directories with a hundred files each.
fn status(checkout: &Path, directories: u32) -> Command {
    let tree = checkout.join(directories.to_string());
    let make = r#"mkdir "$0" && cd "$0" && git init -q && for i in $(seq "$1"); do
        mkdir d$i && for j in $(seq 100); do echo $i $j >d$i/f$j; done
    done
    # Older than the index: what is as new as it is read again.
    find d* -exec touch -d 2020-01-01 {} + && git add . && git -c user.name=a -c user.email=a@b commit -qm all"#;
    if !tree.exists() {
        let made = programs::on_host(&["bash", "-c", make, &tree.display().to_string(), &directories.to_string()]);
        assert_eq!(run(made).status.code(), Some(0));
    }
    let mut command = Command::new(xc());
    command.args(["do", "--stats=json", "-w"]).arg(tree).args(["--", "git", "status", "--porcelain"]);
    command
}

#[test]
fn a_cold_status_of_10000_files_asks_once_a_directory() {
    let checkout = tempfile::tempdir().expect("directory");
    let requests = |directories| least(|| costs_of(status(checkout.path(), directories))).1;
    let (few, many) = (requests(10), requests(100));
    // A few more where others change something meanwhile.
    assert!(many - few <= 95, "{few} requests for 10 directories, {many} for 100");
}

#[test]
fn a_second_compilation_asks_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    std::fs::write(directory.path().join("a.c"), "#include <stdio.h>\nint main(void) { return puts(\"x\") < 0; }\n")
        .expect("a.c");
    let requests = |times: &str| {
        let twice = r#"for i in $0; do gcc -O2 -o a a.c || exit; ./a || exit; done >/dev/null"#;
        let mut command = Command::new(xc());
        command.args(["do", "--stats=json", "-w"]).arg(directory.path()).args(["--", "bash", "-c", twice, times]);
        // Each name that a compiler makes up is asked for in a directory that is too large to be listed, as /tmp may be.
        command.env("TMPDIR", directory.path());
        command
    };
    let asked = |times| least(|| costs_of(requests(times))).1;
    let (once, thrice) = (asked("1"), asked("1 2 3"));
    // Less than one each: what others change meanwhile is asked for again.
    assert!(thrice < once + 2, "{once} requests of one compilation, {thrice} of three");
}

/// KiB that a process alone would hold: its part of the files that others hold too, and its own memory.
fn proportional_kib(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|size| size.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(u64::MAX)
}

#[test]
fn supervisor_and_reaper_give_back_what_they_do_not_need_at_rest() {
    let mut command = Command::new(xc());
    command.args([
        "do",
        "--",
        "sh",
        "-c",
        "echo ready; read line; /usr/bin/printf '%s\\n' \"$line\"; read line; exit 3",
    ]);
    let mut container = Container::start(command);
    let first = container.line();
    let supervisor = container.xc.id();
    let libos = container.libos_processes();
    let Some(reaper) = container.processes().into_iter().find(|pid| !libos.contains(pid)) else { panic!("no reaper") };
    let rests = || proportional_kib(supervisor) + proportional_kib(reaper);
    assert!(comes_true(|| rests() < 700), "{} KiB", rests());
    // They serve on, and rest again.
    let stdin = container.stdin.as_mut().unwrap();
    stdin.write_all(b"further\n").unwrap();
    let second = container.line();
    assert_eq!((first, second), ("ready".to_owned(), "further".to_owned()));
    assert!(comes_true(|| rests() < 700), "{} KiB afterwards", rests());
    container.stdin.take().unwrap().write_all(b"end\n").unwrap();
    assert_eq!(container.xc.wait().unwrap().code(), Some(3));
}
