//! kill -9 of each kind of process at many moments: what the host had before is what it has afterwards, and a
//! guest's death is its own. As root in namespaces of the test's own, where nothing else comes and goes.

use hostile::{Stopped, adopt_orphans, is_root, kill, reap_orphans};
use programs::host::{Container, comes_true, in_user_namespace, libos_text, processes, user_namespace};
use programs::in_container;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// How often each kind of process is killed.
const MOMENTS: usize = 20;
/// So long a container may take to end once a process of it is gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Steps of a shell with many processes, each told when it begins.
const STEPS: &str = r#"
step() { printf '%s\n' "$1"; }
while :; do
    step 1; x=$(echo a | cat)
    step 2; (exit 3)
    step 3; /bin/true
    step 4; echo text >/tmp/file
    step 5; cat /tmp/file >/dev/null
    step 6; sleep 0.01 & wait
    step 7; seq 1000 | sort -n | tail -1 >/dev/null
    step 8; trap : USR1; kill -USR1 $$
    step 9; mkfifo /tmp/fifo; (echo x >/tmp/fifo) & read -r y </tmp/fifo; rm /tmp/fifo
    step 10; ls -l /usr/bin >/dev/null
    step 11; cp /bin/ls /tmp/ls; /tmp/ls /tmp >/dev/null
    step 12; perl -e 'for (1..5) { fork or exit 0 } 1 while wait > 0'
    step 13; cat <<<text >/dev/null
    step 14; sleep 100 & kill $!; wait 2>/dev/null
    step 15; cat /proc/self/maps >/dev/null
    step 16; dd if=/dev/zero of=/tmp/big bs=1M count=3 2>/dev/null; rm /tmp/big
    step 17; ls /no/such/file 2>/dev/null
    step 18; perl -e 'use Socket; socketpair(A, B, AF_UNIX, SOCK_STREAM, 0); syswrite A, q(x); sysread B, $x, 1'
    step 19; while read -r z; do :; done </etc/passwd
    step 20; (sleep 100 &) ; : | : | :
done"#;

/// What may not change on the host.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    processes: BTreeSet<u32>,
    namespaces: BTreeSet<PathBuf>,
    mounts: String,
    /// Control groups, and files in the places for what is temporary.
    names: BTreeSet<PathBuf>,
}

impl Host {
    fn now() -> Self {
        // What nobody reaps any more has come to us.
        reap_orphans();
        let processes: BTreeSet<u32> = processes().into_iter().map(|(pid, _)| pid).collect();
        let mut names = BTreeSet::new();
        for place in ["/tmp", "/run", "/dev/shm"] {
            list(Path::new(place), &mut names);
        }
        // No namespace hides the groups of others, which come and go; one of ours would carry our name.
        let mut groups = BTreeSet::new();
        list(Path::new("/sys/fs/cgroup"), &mut groups);
        names.extend(groups.into_iter().filter(|group| group.to_string_lossy().contains("xc")));
        Self {
            namespaces: processes.iter().flat_map(|pid| links(&PathBuf::from(format!("/proc/{pid}/ns")))).collect(),
            processes,
            mounts: std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
            names,
        }
    }

    /// The host becomes what it was.
    fn assert_again(&self, what: &str) {
        assert!(comes_true(|| Host::now() == *self), "{what}: {:#?}, before {self:#?}", Host::now());
    }
}

fn links(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
}

fn list(directory: &Path, names: &mut BTreeSet<PathBuf>) {
    let xc = programs::xc();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        // A checkout that lies here is none of the container's doing, and large.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !xc.starts_with(entry.path()) {
            list(&entry.path(), names);
        }
        names.insert(entry.path());
    }
}

/// Pid of a container's process in its own namespace.
fn inner_pid(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// The container's process with this pid inside: 2 is the service process.
fn inner(container: &Container, pid: u32) -> u32 {
    let reaper = container.processes()[0];
    let found = container.processes().into_iter().find(|host| *host != reaper && inner_pid(*host) == Some(pid));
    found.unwrap_or_else(|| panic!("no process {pid} in the container"))
}

fn finish(container: &mut Container, what: &str) -> ExitStatus {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = container.xc.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    container.xc.kill().unwrap();
    panic!("{what}: the container goes on for {PATIENCE:?}");
}

/// Starts a test of this program in namespaces of its own; without the rights for them, right here.
fn alone(test: &str) {
    let script = r#"
        exec 9<"$1"
        for place in /tmp /run /dev/shm; do mount -t tmpfs none $place || exit; done
        # A checkout below one of them stays where it was.
        if ! [ -e "$0" ]; then mkdir -p "$1" && mount --no-canonicalize --bind /proc/self/fd/9 "$1"; fi
        exec 9<&-
        exec "$0" --exact --ignored --nocapture "$2""#;
    let program = std::env::current_exe().expect("own path");
    let xc = programs::xc();
    let directory = program.ancestors().find(|above| xc.starts_with(above)).expect("a common directory");
    let output = if is_root() {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script]);
        // The working directory may be hidden there, and containers begin in it.
        unshare.arg(&program).arg(directory).arg(test).current_dir("/").output()
    } else {
        Command::new(&program).args(["--exact", "--ignored", "--nocapture", test]).output()
    };
    let output = output.expect("unshare");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Kills one process of a container at each moment. `choose` says which; `xc` ends with `code`, or by the signal.
fn kill_each(kind: &str, choose: impl Fn(&Container) -> u32, code: Option<i32>) {
    adopt_orphans();
    let before = Host::now();
    for moment in 1..=MOMENTS {
        let mut command = in_container(&["bash", "-c", STEPS]);
        command.stderr(std::process::Stdio::null());
        let mut container = Container::start(command);
        let wanted = moment.to_string();
        while container.line() != wanted {}
        let victim = choose(&container);
        kill(victim).expect(kind);
        let what = format!("{kind}, moment {moment}");
        assert_eq!(finish(&mut container, &what).code(), code, "{what}");
        drop(container);
        before.assert_again(&what);
    }
}

/// `xc` dies while it makes the container: as soon as there are so many processes beside it.
#[test]
#[ignore = "started by supervisor_killed_while_it_starts_leaves_nothing"]
fn killed_starting() {
    adopt_orphans();
    let before = Host::now();
    for moment in 0..MOMENTS {
        let mut container = Container::start(in_container(&["sleep", "1000"]));
        // Reaper, service process, guest.
        while container.processes().len() < moment % 4 {}
        container.xc.kill().unwrap();
        assert_eq!(finish(&mut container, "start").code(), None);
        drop(container);
        before.assert_again(&format!("start, moment {moment}"));
    }
}

#[test]
fn supervisor_killed_while_it_starts_leaves_nothing() {
    alone("killed_starting");
}

#[test]
fn supervisor_killed_leaves_nothing() {
    alone("killed_supervisor");
}

#[test]
fn reaper_killed_leaves_nothing() {
    alone("killed_reaper");
}

#[test]
fn service_killed_leaves_nothing() {
    alone("killed_service");
}

#[test]
#[ignore = "started by supervisor_killed_leaves_nothing"]
fn killed_supervisor() {
    kill_each("supervisor", |container| container.xc.id(), None);
}

#[test]
#[ignore = "started by reaper_killed_leaves_nothing"]
fn killed_reaper() {
    kill_each("reaper", |container| container.processes()[0], Some(125));
}

#[test]
#[ignore = "started by service_killed_leaves_nothing"]
fn killed_service() {
    kill_each("service process", |container| inner(container, 2), Some(125));
}

/// A program that computes, or that makes calls of many kinds, and its parent, which tells how it ended and goes on.
fn victim(body: &str) -> Container {
    let program = format!("$| = 1; print qq(ready\\n); while (1) {{ {body} }}");
    let script = "perl -e \"$0\" & wait $!; echo \"ended $?\"; echo goes on | cat; exit 7";
    let mut command = in_container(&["bash", "-c", script, &program]);
    command.stderr(std::process::Stdio::null());
    let mut container = Container::start(command);
    assert_eq!(container.line(), "ready");
    container
}

/// Kills the guest that computes when it is, or is not, in LibOS code; how its container ended, and what it printed.
fn kill_guest(mut container: Container, in_libos: bool, what: &str) -> (Option<i32>, String) {
    // The third after service process and shell; behind it are its own children.
    let mut guests = container.libos_processes();
    guests.sort_by_key(|pid| inner_pid(*pid));
    let guest = guests[2];
    let text = libos_text(guest).expect("its text");
    let namespace = user_namespace(guest).expect("a namespace");
    loop {
        let stopped = Stopped::new(guest).expect("root's rights, to look where a process is");
        let address = stopped.address().expect("registers");
        if (text.0..text.1).contains(&address) == in_libos {
            kill(guest).expect(what);
            break;
        }
    }
    let code = finish(&mut container, what).code();
    let mut rest = String::new();
    container.stdout.read_to_string(&mut rest).unwrap();
    assert!(comes_true(|| in_user_namespace(&namespace).is_empty()), "{what}");
    (code, rest)
}

#[test]
fn guest_killed_in_its_own_code_dies_alone() {
    alone("killed_in_its_own_code");
}

#[test]
fn guest_killed_in_libos_code_wedges_nothing() {
    alone("killed_in_libos_code");
}

#[test]
#[ignore = "started by guest_killed_in_its_own_code_dies_alone"]
fn killed_in_its_own_code() {
    adopt_orphans();
    let before = Host::now();
    for moment in 0..MOMENTS {
        let what = format!("guest, moment {moment}");
        let (code, rest) = kill_guest(victim("$x++"), false, &what);
        assert_eq!((rest.as_str(), code), ("ended 137\ngoes on\n", Some(7)), "{what}");
        before.assert_again(&what);
    }
}

/// Calls in which a guest is killed: with a lock over shared state the container ends, else the guest dies alone.
const CALLS: [&str; 5] = [
    "getppid",
    "pipe A, B; syswrite B, q(x); sysread A, $x, 1",
    "open F, q(>/tmp/f); print F q(x) x 9999; close F; unlink q(/tmp/f)",
    "stat q(/usr/bin); stat qq(/tmp/$x); $x++",
    "$p = fork; exit 0 unless $p; waitpid $p, 0",
];

#[test]
#[ignore = "started by guest_killed_in_libos_code_wedges_nothing"]
fn killed_in_libos_code() {
    adopt_orphans();
    let before = Host::now();
    for moment in 0..MOMENTS {
        let what = format!("guest in the LibOS, moment {moment}");
        let (code, rest) = kill_guest(victim(CALLS[moment % CALLS.len()]), true, &what);
        let alone = (rest.as_str(), code) == ("ended 137\ngoes on\n", Some(7));
        assert!(alone || code == Some(125), "{what}: {code:?} {rest:?}");
        before.assert_again(&what);
    }
}

/// Whether all threads of a process are stopped.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats: Vec<_> = threads.map(|thread| std::fs::read_to_string(thread.path().join("stat"))).collect();
    stats.iter().all(|stat| stat.as_ref().is_ok_and(|stat| stat.contains(") T ")))
}

/// More than there are channels to the supervisor: each is free again for the next.
const REQUESTS: usize = 12;

#[test]
fn guests_killed_while_they_wait_for_the_supervisor_die_alone() {
    let entries = std::fs::read_dir("/usr/share").unwrap().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names: Vec<String> = directories.take(REQUESTS).map(|entry| entry.path().display().to_string()).collect();
    assert_eq!(names.len(), REQUESTS);
    let program = "$| = 1; print qq(ready\\n); <STDIN>; stat qq($ARGV[0]/name); sleep 1000";
    let script = "exec 3<&0; for name; do perl -e \"$0\" $name <&3 & wait $!; echo \"ended $?\"; done; exit 7";
    let mut command = in_container(&["bash", "-c", script, program]);
    command.args(&names).stderr(std::process::Stdio::null());
    let mut container = Container::start(command);
    let supervisor = rustix::process::Pid::from_raw(container.xc.id().cast_signed()).unwrap();
    for name in &names {
        assert_eq!(container.line(), "ready", "{name}");
        let guest = container.libos_processes().into_iter().max_by_key(|pid| inner_pid(*pid)).unwrap();
        rustix::process::kill_process(supervisor, rustix::process::Signal::STOP).unwrap();
        assert!(comes_true(|| is_stopped(container.xc.id())));
        container.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        // recvmsg(2): it waits for the answer.
        let call = || std::fs::read_to_string(format!("/proc/{guest}/syscall")).unwrap_or_default();
        assert!(comes_true(|| call().starts_with("47 ")), "{name}: {}", call());
        kill(guest).unwrap();
        rustix::process::kill_process(supervisor, rustix::process::Signal::CONT).unwrap();
        assert_eq!(container.line(), "ended 137", "{name}");
    }
    assert_eq!(finish(&mut container, "the shell").code(), Some(7));
}
