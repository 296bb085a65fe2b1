//! The client of the broker: one request and one reply at a time on each channel.

use crate::wait::{Events, WaitQueue, wait_uninterruptible};
use crate::{Errno, Result};
use abi::boot::{BROKER_CHANNELS, BROKER_FD};
use abi::broker::{Envelope, MAX_REPLY, MAX_REQUEST, REQUEST_KINDS, Reply, Request};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use machine::Cpu;
use machine::host::{self, HostFd, Wait};
use machine::sync::Mutex;

/// A channel's state, touched only by who has taken the channel.
struct Channel {
    sequence: AtomicU32,
    /// The receive buffer, allocated at first use and kept.
    buffer: Mutex<Vec<u8>>,
}

const CHANNEL_COUNT: usize = BROKER_CHANNELS as usize;
static CHANNELS: [Channel; CHANNEL_COUNT] =
    [const { Channel { sequence: AtomicU32::new(0), buffer: Mutex::new(Vec::new()) } }; CHANNEL_COUNT];
/// Who uses each channel: the identity of the thread, 0 for nobody.
static USERS: [AtomicU64; CHANNEL_COUNT] = [const { AtomicU64::new(0) }; CHANNEL_COUNT];
/// Who used it last: the broker may still listen to it there.
static LAST_USERS: [AtomicU64; CHANNEL_COUNT] = [const { AtomicU64::new(0) }; CHANNEL_COUNT];
static WAITING: WaitQueue = WaitQueue::new();
static CONNECTED: AtomicBool = AtomicBool::new(false);
static COUNTS: [AtomicU64; REQUEST_KINDS] = [const { AtomicU64::new(0) }; REQUEST_KINDS];
static WAITED_NS: [AtomicU64; REQUEST_KINDS] = [const { AtomicU64::new(0) }; REQUEST_KINDS];

/// A channel taken for one exchange.
struct Taken(usize);

impl Taken {
    fn take() -> Taken {
        Taken(try_take().unwrap_or_else(|| wait_uninterruptible(&WAITING, try_take)))
    }

    fn channel(&self) -> Result<&'static Channel> {
        CHANNELS.get(self.0).ok_or(Errno::EIO)
    }

    fn fd(&self) -> i32 {
        BROKER_FD.saturating_add(i32::try_from(self.0).unwrap_or(0))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(user) = USERS.get(self.0) {
            user.store(0, Ordering::Release);
        }
        WAITING.wake_one(Events::empty());
    }
}

fn try_take() -> Option<usize> {
    let own = machine::cpu::current().identity();
    let take = |at: &usize| {
        USERS.get(*at).is_some_and(|user| user.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed).is_ok())
    };
    let last = LAST_USERS.iter().position(|user| user.load(Ordering::Relaxed) == own);
    let taken = last.into_iter().chain(0..CHANNEL_COUNT).find(take)?;
    if let Some(user) = LAST_USERS.get(taken).filter(|_| last != Some(taken)) {
        user.store(own, Ordering::Relaxed);
    }
    Some(taken)
}

/// The thread of an area has died: its channel is free again. An answer to it is told by its number.
pub fn release_channel_of(cpu: &Cpu) {
    let own = cpu.identity();
    if USERS.iter().any(|user| user.compare_exchange(own, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()) {
        WAITING.wake(Events::empty());
    }
}

/// Says that the channels are there; before, every request answers EIO.
pub fn connect() {
    CONNECTED.store(true, Ordering::Release);
}

/// Asks the broker and waits for its answer; signals do not end the wait. No lock may be held but sleeping ones.
///
/// # Errors
/// What the broker's host call failed with; EIO where the broker is gone or answers nonsense.
pub fn request(request: &Request<'_>) -> Result<(Reply, Option<HostFd>)> {
    let (reply, descriptors) = request_several(request)?;
    Ok((reply, descriptors.into_iter().next()))
}

/// As [`request`], with all descriptors of the answer.
///
/// # Errors
/// As [`request`].
pub fn request_several(request: &Request<'_>) -> Result<(Reply, Vec<HostFd>)> {
    #[cfg(test)]
    if let Some(answer) = fake::answer(request) {
        return answer;
    }
    let started = machine::clock::monotonic_ns();
    let taken = Taken::take();
    let channel = taken.channel()?;
    let sequence = channel.sequence.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let runs_on = machine::hand_over::asks(started).map_or(0, |number| number + 1);
    send(&taken, Envelope { sequence, runs_on: u16::try_from(runs_on).unwrap_or(0), body: request })?;
    let mut buffer = core::mem::take(&mut *channel.buffer.lock());
    buffer.clear();
    buffer.reserve_exact(MAX_REPLY);
    let answer = receive(taken.fd(), sequence, &mut buffer);
    *channel.buffer.lock() = buffer;
    drop(taken);
    let ended = machine::clock::monotonic_ns();
    machine::hand_over::answered(ended);
    if let Some(waited) = WAITED_NS.get(kind(request)) {
        waited.fetch_add(ended.saturating_sub(started), Ordering::Relaxed);
    }
    match answer? {
        (Reply::Failed(errno), _) => Err(Errno::from_raw(errno)),
        answer => Ok(answer),
    }
}

/// Sends a request that has no answer (Exit, StartFailed, Quiesced).
///
/// # Errors
/// EIO where the broker is gone.
pub fn post(request: &Request<'_>) -> Result<()> {
    send(&Taken::take(), Envelope { sequence: 0, runs_on: 0, body: request })
}

fn send(taken: &Taken, envelope: Envelope<&Request<'_>>) -> Result<()> {
    if !CONNECTED.load(Ordering::Acquire) {
        return Err(Errno::EIO);
    }
    if let Some(count) = COUNTS.get(kind(envelope.body)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    let bytes = abi::encode(&envelope).map_err(|_| Errno::ENOMEM)?;
    if bytes.len() > MAX_REQUEST {
        return Err(Errno::ENAMETOOLONG);
    }
    host::send_request(taken.fd(), &bytes).map(|_| ()).map_err(|_| Errno::EIO)
}

fn receive(fd: i32, sequence: u32, buffer: &mut Vec<u8>) -> Result<(Reply, Vec<HostFd>)> {
    loop {
        let descriptors = host::receive_into(fd, buffer, Wait::Uninterruptible).map_err(|_| Errno::EIO)?;
        if buffer.is_empty() {
            return Err(Errno::EIO);
        }
        let envelope: Envelope<Reply> = abi::decode(buffer).map_err(|_| Errno::EIO)?;
        // An older number answers a request that was abandoned.
        if envelope.sequence == sequence {
            return Ok((envelope.body, descriptors));
        }
    }
}

/// Asks for something whose answer is `Reply::Done`.
///
/// # Errors
/// As [`request`].
pub fn request_done(request_body: &Request<'_>) -> Result<()> {
    match request(request_body)?.0 {
        Reply::Done => Ok(()),
        _ => Err(Errno::EIO),
    }
}

/// How many requests of each kind were made, for the report.
#[must_use]
pub fn counts() -> Vec<(u8, u64, u64)> {
    let load = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let counted = COUNTS.iter().map(load).zip(WAITED_NS.iter().map(load)).zip(0_u8..);
    let counted = counted.filter(|((count, _), _)| *count > 0);
    counted.map(|((count, waited), kind)| (kind, count, waited / 1000)).collect()
}

/// Position of a request's kind in the protocol.
fn kind(request: &Request<'_>) -> usize {
    match request {
        Request::Walk { .. } => 0,
        Request::ReadDir { .. } => 1,
        Request::Open { .. } => 2,
        Request::Create { .. } => 3,
        Request::Remove { .. } => 4,
        Request::Rename { .. } => 5,
        Request::Link { .. } => 6,
        Request::SetAttributes { .. } => 7,
        Request::Xattr { .. } => 8,
        Request::Space { .. } => 9,
        Request::Sync { .. } => 10,
        Request::Allocate { .. } => 11,
        Request::Memory { .. } => 12,
        Request::ResizeMemory { .. } => 13,
        Request::DropMemory { .. } => 14,
        Request::Image { .. } => 15,
        Request::MemoryImage { .. } => 16,
        Request::Epoll => 17,
        Request::Log { .. } => 18,
        Request::Exit { .. } => 19,
        Request::StartFailed { .. } => 20,
        Request::Quiesced { .. } => 21,
    }
}

/// Answers in the broker's stead, for the tests of one thread.
#[cfg(test)]
pub(super) mod fake {
    use super::{HostFd, Reply, Request, Result, Vec};
    use std::boxed::Box;
    use std::cell::RefCell;

    type Answer = Box<dyn FnMut(&Request<'_>) -> Result<Reply>>;

    std::thread_local! {
        static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
    }

    /// What is asked from here on is answered so.
    pub(in crate::fs) fn set(answer: impl FnMut(&Request<'_>) -> Result<Reply> + 'static) {
        ANSWER.set(Some(Box::new(answer)));
    }

    pub(super) fn answer(request: &Request<'_>) -> Option<Result<(Reply, Vec<HostFd>)>> {
        let mut answer = ANSWER.take()?;
        let reply = answer(request);
        ANSWER.set(Some(answer));
        Some(reply.map(|reply| (reply, Vec::new())))
    }
}
