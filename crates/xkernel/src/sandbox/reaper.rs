//! The reaper: init of the container's pid namespace, and parent of every host process in it.

use super::hand::Hand;
use super::{INNER_ID, Sent};
use crate::sys;
use abi::boot::{ARENA_FD, BROKER_FD, CONSOLE_FD, EVENT_FD, STDIO_FD, TEXT_FD};
use abi::event::Event;
use rustix::net::SendFlags;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// Deaths told by one event.
const BATCH: usize = 64;
/// Deaths that follow each other faster than this are gathered for as long: each by itself would cost two wake-ups.
const GATHER: Duration = Duration::from_millis(2);
/// Descriptors of a fresh runner lie below.
const ABOVE: i32 = 100;

/// Longest text of a failure.
pub(super) const LONGEST_COMPLAINT: usize = 4096;

/// The reaper's life. `start` is where it is told how far the supervisor is, and tells what fails.
pub(super) fn run(start: OwnedFd, supervisor: &OwnedFd) -> ! {
    sys::die_with_parent(supervisor.as_fd());
    match prepare(&start, supervisor) {
        Ok((runner, events)) => {
            drop(start);
            // Without it the reaper keeps what it needed for the start.
            let _ = sys::interrupt_on(super::REST);
            reap_all(runner, &events)
        }
        Err(error) => {
            let _ = rustix::net::send(&start, error.to_string().as_bytes(), SendFlags::NOSIGNAL);
            sys::exit_now(125)
        }
    }
}

/// Makes namespaces, becomes the container's user, leaves the host's file system, and makes the runner. Returns its pid, and the
/// supervisor's end of the event channel.
fn prepare(start: &OwnedFd, supervisor: &OwnedFd) -> io::Result<(i32, OwnedFd)> {
    sys::leave_namespaces().map_err(at("make mount, ipc, uts and network namespaces"))?;
    let mut byte = [0];
    if rustix::io::read(start, &mut byte).map_err(at("hear of the supervisor"))? != 1 {
        return Err(io::Error::other("the supervisor has gone"));
    }
    let victims = Victims::open();
    sys::set_ids(INNER_ID, INNER_ID).map_err(at("take the container's ids"))?;
    sys::die_with_parent(supervisor.as_fd());
    leave_file_system()?;
    let hand = Hand::receive(start).map_err(at("take its descriptors"))?;
    if let Some(victims) = &victims {
        victims.raise();
    }
    let mut refused = None;
    let runner = sys::spawn_sharing(|| become_runner(&hand, &mut refused)).map_err(at("make its first process"))?;
    if let Some(victims) = &victims {
        victims.restore();
    }
    match refused {
        Some(error) => Err(at("start the LibOS")(error)),
        None => Ok((runner, hand.told)),
    }
}

/// Where memory runs out, the host ends processes of the container before those that serve it: they inherit a higher
/// oom_score_adj. Best effort.
struct Victims {
    setting: File,
    own: i32,
}

impl Victims {
    /// A tenth of the machine's memory: the supervisor never has as much.
    const MORE: i32 = 100;
    const MOST: i32 = 1000;

    /// While the process is the caller's: later it may not.
    fn open() -> Option<Self> {
        let mut setting = File::options().read(true).write(true).open("/proc/self/oom_score_adj").ok()?;
        let mut text = String::new();
        setting.read_to_string(&mut text).ok()?;
        Some(Self { setting, own: text.trim().parse().ok()? })
    }

    fn raise(&self) {
        self.set(self.own.saturating_add(Self::MORE).min(Self::MOST));
    }

    fn restore(&self) {
        self.set(self.own);
    }

    fn set(&self, value: i32) {
        let _ = self.setting.write_at(value.to_string().as_bytes(), 0);
    }
}

/// An error with what was tried.
fn at<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("cannot {step}: {error}"))
    }
}

/// An empty, read-only root for every process of the container.
fn leave_file_system() -> io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(at("make its mounts private"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    rustix::mount::mount("none", "/tmp", "tmpfs", flags, c"size=4k").map_err(at("mount an empty root on /tmp"))?;
    rustix::process::chdir("/tmp").map_err(at("enter the empty root"))?;
    rustix::process::pivot_root(".", ".").map_err(at("enter the empty root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(at("leave the host's root"))?;
    rustix::process::chdir("/").map_err(at("enter the empty root"))?;
    Ok(())
}

/// Lays the descriptors out and executes the LibOS's image. Ends where that fails: the caller, whose memory it is, reads why.
fn become_runner(hand: &Hand, refused: &mut Option<io::Error>) -> Infallible {
    let joined = hand.group.as_ref().map_or(Ok(()), |group| crate::cgroup::join(group.as_fd()));
    // The caller may have left more open than it knows.
    let laid_out = joined.and_then(|()| lay_out(hand));
    let laid_out = laid_out.and_then(|runner| sys::close_at_exec_from(TEXT_FD + 1).map(|()| runner));
    let error = match laid_out {
        Ok(runner) => {
            let _ = rustix::thread::set_no_new_privs(true);
            sys::exec_file(runner.as_fd())
        }
        Err(error) => error,
    };
    *refused = Some(error);
    sys::exit_now(125)
}

fn lay_out(hand: &Hand) -> io::Result<OwnedFd> {
    let _ = rustix::process::setsid();
    let above = |fd: BorrowedFd<'_>| sys::duplicate_above(fd, ABOVE);
    let runner = above(hand.runner.as_fd())?;
    let arena = above(hand.arena.as_fd())?;
    let text = above(hand.text.as_fd())?;
    let events = above(hand.events.as_fd())?;
    let channels = hand.channels.iter().map(|fd| above(fd.as_fd())).collect::<io::Result<Vec<_>>>()?;
    let console = hand.console.as_ref().map(|fd| above(fd.as_fd())).transpose()?;
    let mut streams = Vec::new();
    for (number, passed) in (0..).zip(hand.streams) {
        let stream = if passed { sys::standard_stream(number) } else { None };
        streams.push(stream.map(above).transpose()?);
    }
    sys::place(arena.as_fd(), ARENA_FD)?;
    sys::place(events.as_fd(), EVENT_FD)?;
    for (number, channel) in (BROKER_FD..).zip(&channels) {
        sys::place(channel.as_fd(), number)?;
    }
    for (number, stream) in (STDIO_FD..).zip(&streams) {
        if let Some(stream) = stream {
            sys::place(stream.as_fd(), number)?;
        }
    }
    match &console {
        Some(console) => sys::place(console.as_fd(), CONSOLE_FD)?,
        None => sys::close_one(CONSOLE_FD),
    }
    close_gaps(&streams);
    sys::place(text.as_fd(), TEXT_FD)?;
    Ok(runner)
}

/// Whatever else lies among the runner's descriptors is closed; those above close themselves at exec.
fn close_gaps(streams: &[Option<OwnedFd>]) {
    let missing = (STDIO_FD..).zip(streams).filter(|(_, stream)| stream.is_none()).map(|(number, _)| number);
    missing.for_each(sys::close_one);
    sys::close_all(0..3);
    sys::close_all(abi::boot::FIRST_FREE_FD..ABOVE);
}

/// Deaths that nobody has been told of; more than the host has processes are not kept.
#[derive(Default)]
struct Untold(Vec<(i32, i32)>);

const MOST_UNTOLD: usize = 1 << 22;

impl Untold {
    /// Tells as many as the channel takes now: who is told may have been wedged by a guest.
    fn tell(&mut self, events: &OwnedFd) {
        while !self.0.is_empty() {
            let batch = self.0.get(..self.0.len().min(BATCH)).unwrap_or(&[]).to_vec();
            let count = batch.len();
            if super::try_send_event(events, &Event::Died(batch)) == Sent::Full {
                return;
            }
            self.0.drain(..count);
        }
    }
}

/// Reaps until nobody is left. The runner's death ends the container, as init's does.
fn reap_all(runner: i32, events: &OwnedFd) -> ! {
    let mut untold = Untold::default();
    let mut told: Option<Instant> = None;
    loop {
        match sys::reap_any(!untold.0.is_empty()) {
            Ok(Some((pid, _))) if pid == runner => sys::exit_now(0),
            Ok(Some(death)) => {
                if untold.0.is_empty() && told.is_some_and(|told| told.elapsed() < GATHER) {
                    std::thread::sleep(GATHER);
                }
                if untold.0.len() < MOST_UNTOLD {
                    untold.0.push(death);
                }
                // More may have ended: they are told together.
                if !untold.0.len().is_multiple_of(BATCH) {
                    continue;
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                sys::rest_until_child_ends();
                continue;
            }
            Err(_) => sys::exit_now(0),
        }
        untold.tell(events);
        told = Some(Instant::now());
        if !untold.0.is_empty() {
            super::wait_for_room(events);
        }
    }
}
