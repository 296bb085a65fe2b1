//! What a container's programs hold, the LibOS holds: the host has no pipe, socket, timer or terminal for them.

use programs::host::{Container, comes_true, descriptors};
use programs::xc;
use std::os::fd::AsRawFd as _;
use std::process::Command;

/// A TCP and a UNIX pair, the other kinds of descriptor, and a child that has ended and that nobody waits for.
const PYTHON: &str = "
import ctypes, os, socket, sys
listener = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
pair = socket.socketpair()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ends = os.pipe()
try: terminal = os.openpty()
except FileNotFoundError: pass
libc = ctypes.CDLL(None)
kept = [libc.timerfd_create(1, 0), libc.eventfd(0, 0), libc.inotify_init()]
client.send(b'tcp'); pair[0].send(b'unix'); os.write(ends[1], b'pipe')
assert server.recv(9) + pair[1].recv(9) + os.read(ends[0], 9) == b'tcpunixpipe' and min(kept) >= 0
ended = os.fork()
if ended == 0:
    os._exit(0)
os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
print('ready', flush=True)
sys.stdin.read()
";

/// What is wrong with a descriptor of a process that runs the LibOS.
fn complaint(number: u32, shown: &str, callers: &[String]) -> Option<String> {
    use abi::boot::{BROKER_CHANNELS, BROKER_FD, EVENT_FD};
    let number_is_ours = i32::try_from(number)
        .is_ok_and(|number| number == EVENT_FD || (BROKER_FD..BROKER_FD + BROKER_CHANNELS).contains(&number));
    let fine = match shown.split_once(':').map_or(shown, |(kind, _)| kind) {
        "socket" => number_is_ours,
        // The service's set of host handles.
        "anon_inode" => shown == "anon_inode:[eventpoll]",
        "pipe" => callers.iter().any(|own| own == shown),
        // A file's handle, or a memory file; no terminal.
        _ => shown.starts_with('/') && !shown.starts_with("/dev/"),
    };
    (!fine).then(|| format!("descriptor {number} is {shown}"))
}

#[test]
fn the_host_holds_nothing_for_the_guests() {
    let script = "sleep 900 | cat & python3 -c \"$0\"; exit";
    // Descriptors that the caller left open by mistake are no business of the container's either.
    let mut command = Command::new("bash");
    command.args(["-c", "exec 20</dev/null 200</dev/null 2>&20; exec \"$@\"", "bash"]).arg(xc());
    command.args(["do", "--", "bash", "-c", script, PYTHON]);
    let mut container = Container::start(command);
    assert_eq!(container.line(), "ready");
    let ends = [container.stdin.as_ref().unwrap().as_raw_fd(), container.stdout.as_raw_fd()];
    let callers = ends.map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().display().to_string());
    // The service process, bash, sleep, cat and python3: whoever has ended in the container is gone from the host.
    assert!(comes_true(|| container.libos_processes().len() == 5), "{:?}", container.libos_processes());
    // One that has ended a moment ago is reaped.
    assert!(comes_true(|| container.processes().len() == 6), "beside them the reaper: {:?}", container.processes());
    for pid in container.libos_processes() {
        let held = descriptors(pid);
        assert!(held.len() > 9, "{held:?}");
        let complaints: Vec<_> = held
            .iter()
            .filter_map(|(number, shown)| complaint(*number, &shown.display().to_string(), &callers))
            .collect();
        assert!(complaints.is_empty(), "process {pid}: {complaints:?}");
    }
    drop(container.stdin.take());
    assert_eq!(container.xc.wait().unwrap().code(), Some(0));
}
