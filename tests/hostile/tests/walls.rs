//! Hostile guests: what each of them tries ends in an errno, a trap or the death of its own container. The host
//! and its neighbours notice nothing, the supervisor ends in good order, nothing is left.

use programs::host::{Container, comes_true, in_user_namespace, user_namespace};
use programs::xc;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Reads lines and writes them.
const ECHO: &str = "while read -r line; do echo \"$line\"; done";
/// A container that a guest has broken may sleep for ever; that long it may try to end by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// What must not notice anything: another container, a process and a file of the host.
struct Neighbours {
    container: Container,
    process: Container,
    directory: tempfile::TempDir,
    file_is: (u64, i64, i64),
}

impl Neighbours {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        let mut host = Command::new("sh");
        host.args(["-c", ECHO]);
        let mut neighbours = Self {
            container: Container::start(programs::in_container(&["sh", "-c", ECHO])),
            process: Container::start(host),
            file_is: identity(&directory.path().join("secret")),
            directory,
        };
        neighbours.check();
        neighbours
    }

    fn check(&mut self) {
        for echo in [&mut self.container, &mut self.process] {
            echo.stdin.as_mut().unwrap().write_all(b"still here\n").unwrap();
            assert_eq!(echo.line(), "still here");
        }
        let secret = self.directory.path().join("secret");
        assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
        assert_eq!(identity(&secret), self.file_is);
        assert_eq!(std::fs::read_dir(self.directory.path()).unwrap().count(), 1);
    }

    /// Pids of all of them, supervisor and reaper included.
    fn pids(&self) -> Vec<u32> {
        let mut pids = self.container.processes();
        pids.extend([self.container.xc.id(), self.process.xc.id()]);
        pids
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for echo in [&mut self.container, &mut self.process] {
            drop(echo.stdin.take());
            let _ = echo.xc.wait();
        }
    }
}

/// What changes when a file is written or replaced.
fn identity(path: &Path) -> (u64, i64, i64) {
    let status = std::fs::metadata(path).unwrap();
    (status.ino(), status.mtime_nsec(), status.ctime_nsec())
}

/// How a hostile guest ended.
#[derive(Debug)]
struct Outcome {
    /// Of `xc`; None where it had to be killed, as the container slept for ever.
    status: Option<ExitStatus>,
    /// Everything that the guest printed after `ready`.
    output: String,
}

impl Outcome {
    fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }
}

/// `xc do OPTIONS -- hostile`, whose attack follows.
fn hostile(options: &[&str]) -> Command {
    let mut command = Command::new(xc());
    command.arg("do").args(options).arg("--").arg(env!("CARGO_BIN_EXE_hostile"));
    command
}

/// Runs an attack to its end, however long a busy machine takes, and looks for what is left.
fn run(command: Command, attack: &[String]) -> Outcome {
    run_told(command, None, |_| attack.to_vec())
}

/// As [`run`], with an attack that is told about its container, and where it may sleep for ever, a limit.
fn run_told(
    mut command: Command,
    patience: Option<Duration>,
    attack: impl FnOnce(&Container) -> Vec<String>,
) -> Outcome {
    // The words are known only once the container runs, so they go by its standard input.
    let mut container = Container::start(std::mem::replace(&mut command, Command::new("true")));
    assert_eq!(container.line(), "ready");
    let reaper = container.processes()[0];
    let namespace = user_namespace(reaper).expect("a namespace");
    assert!(in_user_namespace(&namespace).len() >= 3);
    let words = attack(&container);
    writeln!(container.stdin.as_mut().unwrap(), "{}", words.join("\n")).unwrap();
    drop(container.stdin.take());
    let status = wait(&mut container.xc, patience);
    let mut output = String::new();
    let nothing_left = comes_true(|| in_user_namespace(&namespace).is_empty());
    assert!(nothing_left, "{words:?}: {:?} are left", in_user_namespace(&namespace));
    container.stdout.read_to_string(&mut output).expect("text");
    let outcome = Outcome { status, output };
    // A signal would be the supervisor's own failure.
    assert!(status.is_none_or(|status| status.code().is_some()), "{words:?}: {outcome:?}");
    outcome
}

/// Waits for the end; after a limit kills the `xc`.
fn wait(xc: &mut Child, patience: Option<Duration>) -> Option<ExitStatus> {
    let Some(patience) = patience else { return Some(xc.wait().unwrap()) };
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(status) = xc.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    xc.kill().unwrap();
    xc.wait().unwrap();
    None
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// The guest saw each of its attempts refused, and went on as if nothing had been.
fn assert_held(outcome: &Outcome) {
    assert_eq!((outcome.output.as_str(), outcome.code()), ("held\n", Some(0)), "{outcome:?}");
}

#[test]
fn what_the_list_does_not_allow_is_refused() {
    let mut neighbours = Neighbours::new();
    for attack in ["calls", "arguments", "remapped-text", "other-modes", "clone", "shrink", "stray-child"] {
        assert_held(&run(hostile(&[]), &words(attack)));
        neighbours.check();
    }
}

#[test]
fn no_message_takes_an_address_or_a_descriptor() {
    let mut neighbours = Neighbours::new();
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    udp.set_nonblocking(true).unwrap();
    let path = directory.path().join("socket");
    let unix = UnixDatagram::bind(&path).unwrap();
    unix.set_nonblocking(true).unwrap();
    let attack = words(&format!("addresses {} {}", address.port(), path.display()));
    for stream in streams() {
        let mut command = hostile(&[]);
        command.stderr(Stdio::from(stream));
        assert_held(&run(command, &attack));
        // Nobody connected, nothing came.
        assert!(listener.accept().is_err() && udp.recv(&mut [0; 16]).is_err() && unix.recv(&mut [0; 16]).is_err());
        neighbours.check();
    }
}

/// Sockets that a caller may hand to a container: a listener, a connected UDP socket, and half of a datagram pair.
fn streams() -> [OwnedFd; 3] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect(peer.local_addr().unwrap()).unwrap();
    [listener.into(), connected.into(), UnixDatagram::pair().unwrap().0.into()]
}

#[test]
fn signals_reach_nobody_else() {
    let mut neighbours = Neighbours::new();
    let others = neighbours.pids();
    let outcome = run_told(hostile(&[]), None, |container| {
        let own = [container.xc.id(), container.processes()[0], std::process::id()];
        let pids = others.iter().chain(&own).map(u32::to_string);
        ["signals".to_owned()].into_iter().chain(pids).collect()
    });
    assert_held(&outcome);
    neighbours.check();
}

#[test]
fn broker_answers_nonsense_and_floods_with_errors() {
    let mut neighbours = Neighbours::new();
    for attack in ["forged", "flood"] {
        let mut command = hostile(&[]);
        command.stderr(Stdio::null());
        assert_held(&run(command, &words(attack)));
        neighbours.check();
    }
}

#[test]
fn no_name_leads_out_of_an_export() {
    let mut neighbours = Neighbours::new();
    let directory = tempfile::tempdir().unwrap();
    let volume = directory.path().join("volume");
    let at = |name: &str| volume.join(name);
    std::fs::create_dir_all(at("dir")).unwrap();
    std::fs::create_dir(at("mounted")).unwrap();
    std::fs::write(at("plain"), "plain").unwrap();
    std::os::unix::fs::symlink(neighbours.directory.path(), at("out")).unwrap();
    std::os::unix::fs::symlink("/etc", at("absolute")).unwrap();
    std::os::unix::fs::symlink("/proc/self/root", at("magic")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let made = Command::new("mkfifo").arg(at("fifo")).status().unwrap();
    assert!(made.success());
    // As root a device as well, and a mount that the volume is given after the container, in a mount namespace of its own.
    let device = Command::new("mknod").arg(at("device")).args(["c", "1", "3"]).stderr(Stdio::null()).status().unwrap();
    let mut command = Command::new(if device.success() { "unshare" } else { "env" });
    if device.success() {
        command.arg("-m");
    }
    let mount_below = |container: &Container| {
        let script = "mount -t tmpfs none \"$0\" && echo secret >\"$0/secret\"";
        let mut mount = Command::new("nsenter");
        mount.args(["-t", &container.xc.id().to_string(), "-m", "sh", "-c", script]).arg(at("mounted"));
        assert!(mount.status().unwrap().success());
    };
    let mount = format!("{}:/volume", volume.display());
    command.arg(xc()).args(["do", "-v", &mount, "--"]).arg(env!("CARGO_BIN_EXE_hostile"));
    let attack = "names out/secret absolute/passwd magic/etc/passwd mounted/secret plain/x dir/../../volume/plain fifo/x \
                  -- out absolute magic fifo socket device mounted";
    let outcome = run_told(command, None, |container| {
        if device.success() {
            mount_below(container);
        }
        words(attack)
    });
    assert_held(&outcome);
    neighbours.check();
    let mut names: Vec<_> = std::fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let mut expected = vec!["absolute", "device", "dir", "fifo", "magic", "mounted", "out", "plain", "socket"];
    expected.retain(|name| *name != "device" || device.success());
    assert_eq!(names, expected);
    assert!(std::fs::metadata(at("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(std::fs::read(at("plain")).unwrap(), b"plain");
}

/// A guest can end its container; the supervisor says so with a status of ours, or the one that the guest chose.
#[test]
fn a_container_that_destroys_itself_is_cleared_away() {
    let mut neighbours = Neighbours::new();
    let deaths = [
        ("end", vec![125]),
        ("close-all", vec![125]),
        ("empty", vec![125]),
        ("probes", vec![0, 125]),
        ("unmap-all", vec![125, 139]),
        ("zero-arena", vec![125]),
        ("signal-stack", vec![125, 139]),
        ("exit-status 256", vec![1]),
        ("exit-status -1", vec![255]),
        ("exit-status -2147483648", vec![0]),
        ("exit-status 2 start", vec![127]),
    ];
    for (attack, statuses) in deaths {
        let mut command = hostile(&["--stats"]);
        command.stderr(Stdio::null());
        let outcome = run(command, &words(attack));
        assert!(outcome.code().is_some_and(|code| statuses.contains(&code)), "{attack}: {outcome:?}");
        neighbours.check();
    }
}

/// It would run over what lies below otherwise, and go on. The record names the bug.
#[test]
fn a_libos_stack_that_overflows_stops_the_container_with_a_record() {
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut command = hostile(&[]);
    command.stderr(said.reopen().unwrap());
    let outcome = run(command, &words("small-stack"));
    let said = std::fs::read_to_string(said.path()).unwrap();
    assert_eq!((outcome.output.as_str(), outcome.code()), ("", Some(125)), "{said}");
    // What, where, in which call, and what every thread did last.
    assert!(said.contains("stack overflow in the LibOS: signal 11 at text offset 0x"), "{said}");
    let (_, call) = said.split_once(", call ").unwrap_or_default();
    let number = call.split(',').next().unwrap_or_default();
    assert_eq!(number, libc::SYS_openat.to_string(), "{said}");
    let (_, last) = said.split_once("; last calls ").expect("last calls");
    let mine = format!(":{number}");
    assert!(last.split_whitespace().any(|call| call.ends_with(&mine)), "{said}");
}

/// Whatever a guest does to the LibOS in it, only its own container suffers. Where it would sleep for ever, a
/// host process of its own ends it.
#[test]
fn random_damage_stays_inside() {
    let mut neighbours = Neighbours::new();
    for seed in 0..20 {
        for attack in ["random-writes", "jump"] {
            let mut command = hostile(&[]);
            command.stderr(Stdio::null());
            let outcome = run_told(command, Some(PATIENCE), |_| words(&format!("{attack} {seed}")));
            assert_ne!(outcome.output, "held\n");
        }
        neighbours.check();
    }
}
