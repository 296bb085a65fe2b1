//! The client of the broker: one request and one reply at a time on each channel.

use crate::wait::{Events, WaitQueue, wait_uninterruptible};
use crate::{Errno, Result};
use abi::boot::{BROKER_CHANNELS, BROKER_FD};
use abi::broker::{ANYWHERE, Envelope, MAX_REPLY, MAX_REQUEST, REQUEST_KINDS, Reply, Request};
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

/// In place of the user of a channel on which an answer waits, or will, for whoever has what was [`Sent`]. Others may take it.
const AHEAD: u64 = u64::MAX;

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

    /// Leaves it to whoever will fetch the answer.
    fn leave(self) {
        free(self.0, AHEAD);
        core::mem::forget(self);
    }
}

impl Channel {
    fn next_sequence(&self) -> u32 {
        self.sequence.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        free(self.0, 0);
    }
}

fn free(channel: usize, next_user: u64) {
    if let Some(user) = USERS.get(channel) {
        user.store(next_user, Ordering::Release);
    }
    WAITING.wake_one(Events::empty());
}

/// Takes the channel from a user that it has for nobody in particular.
fn take_from(user: u64, channel: usize) -> bool {
    let own = machine::cpu::current().identity();
    USERS.get(channel).is_some_and(|is| is.compare_exchange(user, own, Ordering::Acquire, Ordering::Relaxed).is_ok())
}

fn last_taken() -> Option<usize> {
    let own = machine::cpu::current().identity();
    LAST_USERS.iter().position(|user| user.load(Ordering::Relaxed) == own)
}

fn try_take() -> Option<usize> {
    let own = machine::cpu::current().identity();
    let last = last_taken();
    let free = last.into_iter().chain(0..CHANNEL_COUNT).find(|at| take_from(0, *at));
    let taken = free.or_else(|| (0..CHANNEL_COUNT).find(|at| take_from(AHEAD, *at)))?;
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
    let sequence = taken.channel()?.next_sequence();
    let runs_on = machine::hand_over::asks(started).map_or(0, |number| number + 1);
    send(&taken, Envelope { sequence, runs_on: u16::try_from(runs_on).unwrap_or(0), body: request })?;
    let answer = answer_on(taken, sequence);
    let ended = machine::clock::monotonic_ns();
    machine::hand_over::answered(ended);
    note_wait(kind(request), started, ended);
    answer
}

/// A request that was sent for an answer to be used later. Where it is dropped the answer is nobody's.
pub struct Sent {
    channel: usize,
    sequence: u32,
    kind: usize,
    #[cfg(test)]
    answer: core::cell::Cell<Option<fake::Answered>>,
}

/// Sends a request without waiting for its answer, which [`Sent::answer`] gets. None where no channel is free for that: others may
/// need them more.
#[must_use]
pub fn send_ahead(request: &Request<'_>) -> Option<Sent> {
    let kind = kind(request);
    #[cfg(test)]
    if let Some(answer) = fake::answer(request) {
        return Some(Sent { channel: 0, sequence: 0, kind, answer: Some(answer).into() });
    }
    // Not the one on which the broker may still listen to the caller, on its processor: there it could not answer meanwhile.
    let last = last_taken();
    let channel = (0..CHANNEL_COUNT).rev().filter(|at| Some(*at) != last).find(|at| take_from(0, *at))?;
    let taken = Taken(channel);
    let sequence = taken.channel().ok()?.next_sequence();
    send(&taken, Envelope { sequence, runs_on: ANYWHERE, body: request }).ok()?;
    taken.leave();
    Some(Sent {
        channel,
        sequence,
        kind,
        #[cfg(test)]
        answer: None.into(),
    })
}

impl Sent {
    /// The channel, as long as it is not somebody else's.
    fn claim(&self) -> Option<Taken> {
        // Made only where it is taken: it frees the channel.
        let taken = take_from(AHEAD, self.channel).then(|| Taken(self.channel))?;
        let sequence = taken.channel().ok()?.sequence.load(Ordering::Relaxed);
        if sequence == self.sequence {
            return Some(taken);
        }
        taken.leave();
        None
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// As [`request`]; EAGAIN where it is lost.
    pub fn answer(self) -> Result<(Reply, Vec<HostFd>)> {
        #[cfg(test)]
        if let Some(answer) = self.answer.take() {
            return answer;
        }
        let started = machine::clock::monotonic_ns();
        let answer = answer_on(self.claim().ok_or(Errno::EAGAIN)?, self.sequence);
        note_wait(self.kind, started, machine::clock::monotonic_ns());
        answer
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        // Whoever uses the channel next passes over the answer.
        drop(self.claim());
    }
}

fn note_wait(kind: usize, started: u64, ended: u64) {
    if let Some(waited) = WAITED_NS.get(kind) {
        waited.fetch_add(ended.saturating_sub(started), Ordering::Relaxed);
    }
}

fn answer_on(taken: Taken, sequence: u32) -> Result<(Reply, Vec<HostFd>)> {
    let channel = taken.channel()?;
    let mut buffer = core::mem::take(&mut *channel.buffer.lock());
    buffer.clear();
    buffer.reserve_exact(MAX_REPLY);
    let answer = receive(taken.fd(), sequence, &mut buffer);
    *channel.buffer.lock() = buffer;
    drop(taken);
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
    pub(super) type Answered = Result<(Reply, Vec<HostFd>)>;

    std::thread_local! {
        static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
    }

    /// What is asked from here on is answered so.
    pub(in crate::fs) fn set(answer: impl FnMut(&Request<'_>) -> Result<Reply> + 'static) {
        ANSWER.set(Some(Box::new(answer)));
    }

    pub(super) fn answer(request: &Request<'_>) -> Option<Answered> {
        let mut answer = ANSWER.take()?;
        let reply = answer(request);
        ANSWER.set(Some(answer));
        Some(reply.map(|reply| (reply, Vec::new())))
    }
}

#[cfg(test)]
mod tests {
    use super::{AHEAD, CHANNELS, Sent, USERS, free};
    use core::sync::atomic::Ordering;

    /// Of a channel that no other test uses.
    const CHANNEL: usize = 5;

    fn sent(later: u32) -> Sent {
        let sequence = CHANNELS[CHANNEL].sequence.load(Ordering::Relaxed).wrapping_sub(later);
        Sent { channel: CHANNEL, sequence, kind: 0, answer: None.into() }
    }

    #[test]
    fn an_answer_that_is_not_wanted_frees_its_channel_and_no_other_users() {
        let user_after = |user: u64, sent: Sent| {
            USERS[CHANNEL].store(user, Ordering::Relaxed);
            drop(sent);
            USERS[CHANNEL].load(Ordering::Relaxed)
        };
        assert_eq!(user_after(AHEAD, sent(0)), 0);
        // Somebody has taken it since; or that has been answered, and another answer is to come.
        assert_eq!(user_after(77, sent(0)), 77);
        assert_eq!(user_after(77, sent(1)), 77);
        assert_eq!(user_after(AHEAD, sent(1)), AHEAD);
        free(CHANNEL, 0);
    }
}
