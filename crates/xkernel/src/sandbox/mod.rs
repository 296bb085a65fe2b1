//! The processes of one container: the reaper, which is init of the pid namespace, and the runner.
//!
//! [`start`] is called while the supervisor has one thread. The reaper dies with the supervisor, by its parent-death
//! signal, and the rest with the pid namespace.

mod reaper;

use crate::sys::{self, Side};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Why a container's processes could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A step failed on the host.
    #[error("cannot {step}: {error}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// Our pid there is another process's, or nobody's.
    #[error("/proc is that of another pid namespace: mount -t proc proc /proc")]
    ForeignProc,
}

/// Whether /proc knows the process by its own pid: false too where none is mounted.
#[must_use]
pub fn is_own_proc() -> bool {
    let pid = rustix::process::getpid().as_raw_pid().to_string();
    std::fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == pid.as_str())
}

fn failed<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> SandboxError {
    move |error| SandboxError::Step { step, error: error.into() }
}

/// The supervisor's ends of a running container.
#[derive(Debug)]
pub struct Running {
    /// Pid of the reaper.
    pub reaper: i32,
    /// Broker channels.
    pub channels: Vec<OwnedFd>,
    /// Event channel.
    pub events: OwnedFd,
    /// The arena.
    pub arena: OwnedFd,
}

/// What the runner is given.
pub(crate) struct Hand {
    pub(crate) runner: OwnedFd,
    pub(crate) arena: OwnedFd,
    pub(crate) text: OwnedFd,
    pub(crate) events: OwnedFd,
    pub(crate) channels: Vec<OwnedFd>,
    /// Which of the caller's standard streams are passed.
    pub(crate) streams: [bool; 3],
    /// The container's end of the terminal's byte stream.
    pub(crate) console: Option<OwnedFd>,
    /// The way into the container's control group.
    pub(crate) group: Option<OwnedFd>,
    /// Read once the ids are mapped.
    pub(crate) ready: OwnedFd,
}

/// Has the reaper give back what it does not need while nobody ends.
const REST: i32 = libc::SIGUSR1;

/// Tells the reaper that its container is at rest.
pub fn rest(reaper: i32) {
    sys::kill(reaper, REST);
}

fn packet_pair() -> Result<(OwnedFd, OwnedFd), SandboxError> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(failed("make a channel"))
}

/// Starts reaper and runner. `streams` are those of the caller's that are passed; `console` is the container's end
/// of the terminal's byte stream; `group` is the way into the container's control group.
///
/// # Errors
/// Fails where the host refuses namespaces or descriptors.
pub fn start(
    memory: crate::loader::Memory,
    streams: [bool; 3],
    console: Option<OwnedFd>,
    group: Option<OwnedFd>,
) -> Result<Running, SandboxError> {
    if !is_own_proc() {
        return Err(SandboxError::ForeignProc);
    }
    let supervisor = sys::own_handle().map_err(failed("open a handle of the supervisor"))?;
    let (events, runner_events) = packet_pair()?;
    let mut channels = Vec::new();
    let mut runner_channels = Vec::new();
    for _ in 0..abi::boot::BROKER_CHANNELS {
        let (ours, theirs) = packet_pair()?;
        grow_buffers(&ours);
        channels.push(ours);
        runner_channels.push(theirs);
    }
    let (ready, child_ready) = packet_pair()?;
    let hand = Hand {
        runner: memory.runner,
        arena: memory.arena,
        text: memory.text,
        events: runner_events,
        channels: runner_channels,
        streams,
        console,
        group,
        ready: child_ready,
    };
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET;
    match sys::fork_with(namespaces).map_err(failed("make user, mount, pid, ipc, uts and network namespaces"))? {
        Side::Child => {
            drop((ready, channels));
            reaper::run(hand, events, &supervisor)
        }
        Side::Parent(reaper) => {
            let Hand { arena, .. } = hand;
            if let Err(error) = map_ids(reaper) {
                sys::kill(reaper, libc::SIGKILL);
                let _ = sys::reap(reaper);
                return Err(error);
            }
            rustix::io::write(&ready, b"!").map_err(failed("start the reaper"))?;
            Ok(Running { reaper, channels, events, arena })
        }
    }
}

/// Replies are large datagrams.
fn grow_buffers(socket: &OwnedFd) {
    let size = abi::broker::MAX_REPLY * 2;
    // Best effort: the default holds one reply.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, size);
}

/// The id that container processes have inside of their user namespace.
pub(crate) const INNER_ID: u32 = 1000;

/// Maps one id: of a range that nobody uses where we are root, else the caller's own. A root that lives in a user namespace
/// itself need not have that range.
fn map_ids(pid: i32) -> Result<(), SandboxError> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let write = |name: &str, text: &str| std::fs::write(format!("/proc/{pid}/{name}"), text);
    let map = |name: &str, id: u32| write(name, &format!("{INNER_ID} {id} 1\n"));
    let unused = 0x7000_0000 + (pid.unsigned_abs() & 0x00ff_ffff);
    if uid == 0 && map("uid_map", unused).is_ok() {
        return map("gid_map", unused).map_err(failed("map the container's group"));
    }
    write("setgroups", "deny").map_err(failed("deny the container other groups"))?;
    map("uid_map", uid).map_err(failed("map the container's user"))?;
    map("gid_map", gid).map_err(failed("map the container's group"))
}

/// Sends an event to the LibOS; a container that is gone hears nothing.
pub fn send_event(events: &OwnedFd, event: &abi::event::Event) {
    let _ = send_with(events, event, rustix::net::SendFlags::NOSIGNAL);
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the channel, or the container has gone.
    Done,
    /// The channel has no room.
    Full,
}

/// As [`send_event`], without waiting for room.
#[must_use]
pub fn try_send_event(events: &OwnedFd, event: &abi::event::Event) -> Sent {
    let flags = rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT;
    match send_with(events, event, flags) {
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => Sent::Full,
        Ok(()) | Err(_) => Sent::Done,
    }
}

fn send_with(
    events: &OwnedFd,
    event: &abi::event::Event,
    flags: rustix::net::SendFlags,
) -> Result<(), rustix::io::Errno> {
    let bytes = abi::encode(event).map_err(|_| rustix::io::Errno::NOMEM)?;
    rustix::io::retry_on_intr(|| rustix::net::send(events.as_fd(), &bytes, flags)).map(|_| ())
}

/// Waits until the channel may have room, for a moment at most.
fn wait_for_room(events: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let moment = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let _ = poll(&mut [PollFd::new(events, PollFlags::OUT)], Some(&moment));
}
