//! Memory has a limit, and files in it. What meets it is told so, or dies alone, and the container goes on.

use programs::host::{Container, comes_true};
use programs::{run, script, xc};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a shell script prints in a container with so much memory.
fn with_memory(size: &str, text: &str) -> String {
    let mut command = Command::new(xc());
    command.args(["do", "--memory", size, "--", "bash", "-c", text]);
    let output = run(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes names as long as it works; says why no more.
const MAKE: &str = "mkdir '/tmp/many'; $_ = '/tmp/many/'; 1 while eval $ARGV[0]; print qq($!\\n)";

#[test]
fn a_file_beyond_the_limit_ends_with_enospc() {
    let text = "dd if=/dev/zero of=/tmp/big bs=1M 2>&1 | head -1; rm /tmp/big; echo goes on >/tmp/f; cat /tmp/f";
    let (output, status) = script(text);
    assert_eq!(
        (output.as_str(), status),
        ("dd: error writing '/tmp/big': No space left on device\ngoes on\n", Some(0))
    );
}

/// Directories and links take memory too, though no file has a byte.
#[test]
fn names_without_end_end_with_enospc() {
    for make in ["mkdir $_ . $n++", "symlink 'x' x 4000, $_ . $n++"] {
        let text = "perl -e \"$0\" \"$1\"; echo goes on | cat";
        let output = run(programs::in_container(&["bash", "-c", text, MAKE, make]));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!((printed.as_str(), output.status.code()), ("No space left on device\ngoes on\n", Some(0)), "{make}");
    }
}

#[test]
fn files_count_towards_the_memory_limit() {
    let text =
        "dd if=/dev/zero of=/tmp/big bs=1M 2>&1 | head -1; stat -c %s /tmp/big; rm /tmp/big; echo goes on >/tmp/f";
    let output = with_memory("64m", text);
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("dd: error writing '/tmp/big': No space left on device"));
    let size: u64 = lines.next().and_then(|size| size.parse().ok()).unwrap_or(0);
    assert!((40 << 20..64 << 20).contains(&size), "{size}");
}

/// Grows by a MiB until there is no more, then says how often.
const HOG: &str = "
import sys
held = []
try:
    while True: held.append(bytearray(1 << 20))
except MemoryError: print(len(held))
";

#[test]
fn a_program_that_wants_more_than_the_limit_gets_enomem_and_others_go_on() {
    let output = with_memory("64m", &format!("python3 -c '{HOG}'; head -1 /proc/meminfo; echo goes on | cat"));
    let mut lines = output.lines();
    let got: u64 = lines.next().and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!((20..64).contains(&got), "{output}");
    assert_eq!(lines.collect::<Vec<_>>(), ["MemTotal:          65536 kB", "goes on"]);
}

#[test]
fn what_a_process_had_is_free_again_when_it_has_ended() {
    let hog = "python3 -c 'bytearray(40 << 20)' || exit 1";
    assert_eq!(with_memory("64m", &format!("for i in 1 2 3 4 5; do {hog}; done; echo all")), "all\n");
}

#[test]
fn a_child_that_does_not_fit_is_not_made() {
    let text = "
import os
held = bytearray(40 << 20)
try:
    os.fork()
    print('made')
except OSError as error: print(error.strerror)
";
    assert_eq!(with_memory("64m", &format!("python3 -c \"{text}\"")), "Cannot allocate memory\n");
}

/// What `guest/exhaust.c` asks for until it is refused, and the errors that this may have.
const THINGS: &[(&str, &[&str])] = &[
    ("files", &["ENOSPC"]),
    ("links", &["ENOSPC"]),
    ("symlinks", &["ENOSPC"]),
    ("directories", &["ENOSPC"]),
    ("fifos", &["ENOSPC"]),
    ("xattrs", &["ENOSPC"]),
    ("memfds", &["ENOSPC", "ENOMEM"]),
    ("pipes", &["ENFILE", "ENOMEM"]),
    ("packets", &["ENFILE", "ENOMEM"]),
    ("streams", &["ENOBUFS", "ENOMEM"]),
    ("datagrams", &["ENOBUFS", "ENOMEM"]),
    ("eventfds", &["ENOMEM", "EMFILE"]),
    ("timerfds", &["ENOMEM", "EMFILE"]),
    ("epolls", &["ENOMEM", "EMFILE"]),
    ("watches", &["ENOSPC", "ENOMEM"]),
    ("splits", &["ENOMEM"]),
    ("signals", &["ENOMEM", "EAGAIN"]),
    ("timers", &["EAGAIN"]),
    ("semaphores", &["ENOSPC"]),
    ("segments", &["ENOSPC", "ENOMEM"]),
    ("messages", &["ENOSPC", "ENOMEM"]),
    ("locks", &["ENOLCK", "ENOMEM", "ENOSPC"]),
    ("memory", &["ENOMEM"]),
    ("shared", &["ENOMEM"]),
    ("children", &["ENOMEM"]),
];

/// No kind of object wedges or stops the container: its maker is refused, and others go on.
#[test]
fn whatever_a_program_asks_for_without_end_is_refused() {
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory: {error}"));
    let program = programs::compile("exhaust.c", &["-O2"], directory.path());
    for (thing, errors) in THINGS {
        let text = format!("setsid -w {} {thing} 2>/dev/null; echo alive | cat", program.display());
        let output = with_memory("64m", &text);
        let mut lines = output.lines();
        let error = lines.next().and_then(|line| line.split(' ').next()).unwrap_or("");
        assert!(errors.contains(&error), "{thing}: {output}");
        assert_eq!(lines.next(), Some("alive"), "{thing}: {output}");
    }
}

/// Whether this host gives a container a control group.
fn has_groups() -> bool {
    let mut doctor = Command::new(xc());
    doctor.args(["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&run(doctor).stdout).expect("a report");
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().any(|check| check["name"] == "memory limit" && check["state"] == "ok")
}

/// Programs that reserve too much are refused, and one whose stack grows beyond everything is killed by the host where the
/// container has a group: each alone.
#[test]
fn a_hundred_memory_hogs_die_alone_beside_a_storm_of_pipes() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = programs::compile("hogs.c", &["-O2"], directory.path());
    let output = with_memory("32m", &format!("{} 100; echo goes on | cat", program.display()));
    let (killed, out_of_stack) = if has_groups() { (50, 0) } else { (0, 50) };
    let expected = format!("refused 50, killed {killed}, out of stack {out_of_stack}\ngoes on\n");
    assert_eq!(output, expected);
}

/// A limited container that runs until it is killed, or its standard input ends.
fn limited() -> Container {
    let mut command = Command::new(xc());
    command.args(["do", "--memory", "64m", "--", "sh", "-c", "sleep 1000 & echo ready; read -r line; kill $!"]);
    Container::start(command)
}

/// Groups whose name says that they are of the container of this `xc`.
fn groups_of(xc: u32) -> Vec<PathBuf> {
    fn list(directory: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(prefix) {
                    found.push(entry.path());
                }
                list(&entry.path(), prefix, found);
            }
        }
    }
    let mut found = Vec::new();
    list(Path::new("/sys/fs/cgroup"), &format!("xc-{xc}-"), &mut found);
    found
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|size| size.trim().strip_suffix(" kB")?.parse().ok()).expect("a size")
}

#[test]
fn processes_of_a_limited_container_are_in_a_group_of_its_own_and_those_that_serve_it_are_not() {
    if !has_groups() {
        return;
    }
    let mut container = limited();
    assert_eq!(container.line(), "ready");
    let groups = groups_of(container.xc.id());
    let [group] = &groups[..] else { panic!("{groups:?}") };
    let members = std::fs::read_to_string(group.join("cgroup.procs")).expect("members");
    let mut members: Vec<u32> = members.lines().filter_map(|pid| pid.parse().ok()).collect();
    members.sort_unstable();
    let mut expected = container.libos_processes();
    expected.sort_unstable();
    assert_eq!(members, expected);
    let limit = ["memory.limit_in_bytes", "memory.max"].map(|file| std::fs::read_to_string(group.join(file)));
    let limit: u64 = limit.into_iter().flatten().next().and_then(|text| text.trim().parse().ok()).expect("a limit");
    assert!((64 << 20..256 << 20).contains(&limit), "{limit}");
    // The host ends them before those that serve them.
    let score = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
    let score = |pid: u32| score(pid).trim().parse::<i32>().expect("a number");
    let serving: Vec<u32> = container.processes().into_iter().filter(|pid| !members.contains(pid)).collect();
    for server in serving.into_iter().chain([container.xc.id()]) {
        assert!(members.iter().all(|member| score(*member) > score(server)));
    }
    // It begins with the largest: never with the service process, without which none goes on.
    let is_service = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t2"))
    };
    let (services, guests): (Vec<u32>, Vec<u32>) = members.iter().partition(|pid| is_service(pid));
    let [service] = services[..] else { panic!("{services:?}") };
    assert!(guests.iter().any(|guest| resident_kib(*guest) > resident_kib(service)));
    drop(container.stdin.take());
    assert!(container.xc.wait().expect("its end").success());
    assert!(groups_of(container.xc.id()).is_empty());
}

#[test]
fn the_group_goes_whenever_the_supervisor_is_killed() {
    for moment in 0..20 {
        let mut container = limited();
        // Some are killed while they start.
        if moment % 4 == 3 {
            assert_eq!(container.line(), "ready");
        } else {
            while container.processes().len() < moment % 4 {}
        }
        container.xc.kill().expect("its end");
        container.xc.wait().expect("its end");
        assert!(comes_true(|| groups_of(container.xc.id()).is_empty()), "moment {moment}");
    }
}

/// Files that are closed keep their descriptors while there is room: so many as the host allows.
#[test]
fn files_are_read_however_few_descriptors_the_caller_has() {
    let read = r#"f=0; for file in $(find /usr/include /usr/share/doc -type f -size -64k | head -n 1500); do
        cat "$file" >/dev/null || f=$((f+1)); done; echo $f"#;
    for limit in ["-Sn 256", "-n 512"] {
        let shell = format!("ulimit {limit}; exec \"$0\" do -- bash -c \"$1\"");
        let mut command = Command::new("bash");
        command.args(["-c", &shell]).arg(xc()).arg(read);
        let output = run(command);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{limit}: {output:?}");
    }
}
