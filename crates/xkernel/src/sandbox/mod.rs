//! The processes of one container: the reaper, which is init of the pid namespace, and the runner.
//!
//! [`begin`] is called while the supervisor has one thread, and early: the reaper makes namespaces and an empty root while the
//! supervisor loads the LibOS. The reaper dies with the supervisor, by its parent-death signal, and the rest with the pid
//! namespace.

mod hand;
mod reaper;

use crate::sys::{self, Side};
use hand::Hand;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
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
    /// A step failed in the reaper, as it says.
    #[error("{0}")]
    Reaper(String),
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
    /// What the reaper says where it cannot start the runner.
    pub start: Start,
}

/// The supervisor's end of what the start is told on.
#[derive(Debug)]
pub struct Start(OwnedFd);

impl Start {
    /// Why the reaper started nothing, once it has gone; None where it did.
    #[must_use]
    pub fn failure(&self) -> Option<SandboxError> {
        let mut text = vec![0; reaper::LONGEST_COMPLAINT];
        let mut receive = || recv(&self.0, text.as_mut_slice(), RecvFlags::DONTWAIT);
        // Where it left something unread the host says that first, once.
        let (len, _) = receive().or_else(|_| receive()).ok()?;
        let text = text.get(..len).filter(|text| !text.is_empty())?;
        Some(SandboxError::Reaper(String::from_utf8_lossy(text).into_owned()))
    }
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

/// A container's reaper, which waits for what the container is to run. Dropped, it ends.
#[derive(Debug)]
pub struct Begun {
    reaper: i32,
    start: Option<Start>,
}

/// Makes the reaper, in a user and a pid namespace. It makes the others, of which that of the network takes longest, and an empty
/// root meanwhile.
///
/// # Errors
/// Fails where the host refuses namespaces or descriptors.
pub fn begin() -> Result<Begun, SandboxError> {
    if !is_own_proc() {
        return Err(SandboxError::ForeignProc);
    }
    let supervisor = sys::own_handle().map_err(failed("open a handle of the supervisor"))?;
    let (start, reapers) = packet_pair()?;
    let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWPID;
    match sys::fork_with(namespaces).map_err(failed("make user and pid namespaces"))? {
        Side::Child => {
            drop(start);
            reaper::run(reapers, &supervisor)
        }
        Side::Parent(reaper) => {
            let begun = Begun { reaper, start: Some(Start(start)) };
            map_ids(reaper).map_err(|error| begun.failure().unwrap_or(error))?;
            begun.tell(|start| Ok(rustix::io::write(start, b"!").map(|_| ())?))?;
            Ok(begun)
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.start.is_some() {
            sys::kill(self.reaper, libc::SIGKILL);
            let _ = sys::reap(self.reaper);
        }
    }
}

impl Begun {
    /// Starts the runner. `streams` are those of the caller's that are passed; `console` is the container's end of the terminal's
    /// byte stream; `group` is the way into the container's control group.
    ///
    /// # Errors
    /// Fails where the host refuses descriptors, or has refused the reaper something.
    pub fn start(
        mut self,
        memory: crate::loader::Memory,
        streams: [bool; 3],
        console: Option<OwnedFd>,
        group: Option<OwnedFd>,
    ) -> Result<Running, SandboxError> {
        let (events, runner_events) = packet_pair()?;
        let mut channels = Vec::new();
        let mut runner_channels = Vec::new();
        for _ in 0..abi::boot::BROKER_CHANNELS {
            let (ours, theirs) = packet_pair()?;
            grow_buffers(&ours);
            channels.push(ours);
            runner_channels.push(theirs);
        }
        let hand = Hand {
            runner: memory.runner,
            arena: memory.arena,
            text: memory.text,
            events: runner_events,
            told: events,
            channels: runner_channels,
            streams,
            console,
            group,
        };
        self.tell(|start| hand.send(start))?;
        let Hand { arena, told, .. } = hand;
        let start =
            self.start.take().ok_or_else(|| failed("start the reaper")(io::Error::from(io::ErrorKind::NotFound)))?;
        Ok(Running { reaper: self.reaper, channels, events: told, arena, start })
    }

    /// Tells the reaper something. One that has gone has said why.
    fn tell(&self, tell: impl FnOnce(&OwnedFd) -> io::Result<()>) -> Result<(), SandboxError> {
        let Some(start) = &self.start else { return Ok(()) };
        tell(&start.0).map_err(|error| self.failure().unwrap_or_else(|| failed("start the reaper")(error)))
    }

    fn failure(&self) -> Option<SandboxError> {
        self.start.as_ref().and_then(Start::failure)
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

#[cfg(test)]
mod tests {
    use super::{Start, packet_pair};

    #[test]
    fn what_the_reaper_said_is_heard_whatever_it_has_not_read() {
        for unread in [0, 1, 2] {
            let (ours, theirs) = packet_pair().expect("a pair");
            (0..unread).for_each(|_| assert_eq!(rustix::io::write(&ours, b"!"), Ok(1)));
            rustix::io::write(&theirs, b"cannot").expect("a word");
            drop(theirs);
            let failure = Start(ours).failure().map(|error| error.to_string());
            assert_eq!(failure.as_deref(), Some("cannot"), "{unread}");
        }
    }

    #[test]
    fn a_reaper_that_started_the_runner_said_nothing() {
        let (ours, theirs) = packet_pair().expect("a pair");
        let start = Start(ours);
        assert!(start.failure().is_none());
        drop(theirs);
        assert!(start.failure().is_none());
    }
}
