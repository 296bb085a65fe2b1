//! The client of the broker: requests and their answers, over [`super::channels`].

use super::channels::{Answer, Ask, CHANNELS};
use crate::{Errno, Result};
use abi::broker::{ANYWHERE, Envelope, MAX_REQUEST, REQUEST_KINDS, Reply, Request};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use machine::Cpu;
use machine::host::{HostFd, Wait};

static CONNECTED: AtomicBool = AtomicBool::new(false);
static COUNTS: [AtomicU64; REQUEST_KINDS] = [const { AtomicU64::new(0) }; REQUEST_KINDS];
static WAITED_NS: [AtomicU64; REQUEST_KINDS] = [const { AtomicU64::new(0) }; REQUEST_KINDS];

/// The thread of an area has died: its channel is free again. An answer to it is told by its number.
pub fn release_channel_of(cpu: &Cpu) {
    CHANNELS.release_of(cpu.identity());
}

/// Ends what was asked for ahead: whoever wants it asks for it again, wherever the container goes on.
pub fn end_asks() {
    CHANNELS.end_asks();
}

/// Ends what was asked for ahead long ago. Answers when to look again, for the service process.
pub fn look_after_asks(now: u64) -> Option<u64> {
    CHANNELS.look(now)
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
    let taken = CHANNELS.take();
    let runs_on = machine::hand_over::asks(started).and_then(|number| u16::try_from(number + 1).ok()).unwrap_or(0);
    let number = taken.ask(Wait::Uninterruptible, |number| encode(number, runs_on, request))?;
    let answer = taken.receive(number);
    drop(taken);
    let ended = machine::clock::monotonic_ns();
    machine::hand_over::answered(ended);
    note_wait(kind(request), started, ended);
    done_or_failed(answer?)
}

/// A request that was sent for an answer to be used later. Where it is dropped the answer is nobody's.
pub struct Sent {
    ask: Option<Ask>,
    kind: usize,
    #[cfg(test)]
    answer: core::cell::Cell<Option<fake::Answered>>,
}

/// Sends a request without waiting for its answer, which [`Sent::answer`] gets. None where no channel is free for that, or has room:
/// others may need them more.
#[must_use]
pub fn send_ahead(request: &Request<'_>) -> Option<Sent> {
    let kind = kind(request);
    #[cfg(test)]
    if let Some(answer) = fake::answer(request) {
        return Some(Sent { ask: None, kind, answer: Some(answer).into() });
    }
    let ask = CHANNELS.ask_ahead(|number| encode(number, ANYWHERE, request))?;
    machine::hand_over::goes_on();
    if CHANNELS.is_first() {
        crate::kernel::wake_service();
    }
    Some(Sent {
        ask: Some(ask),
        kind,
        #[cfg(test)]
        answer: None.into(),
    })
}

impl Sent {
    /// Waits for the answer.
    ///
    /// # Errors
    /// As [`request`]; EAGAIN where it is lost.
    pub fn answer(mut self) -> Result<Answer> {
        #[cfg(test)]
        if let Some(answer) = self.answer.take() {
            return answer;
        }
        let started = machine::clock::monotonic_ns();
        let (taken, number) = self.ask.take().and_then(|ask| CHANNELS.take_ask(ask)).ok_or(Errno::EAGAIN)?;
        let answer = taken.receive(number);
        drop(taken);
        note_wait(self.kind, started, machine::clock::monotonic_ns());
        done_or_failed(answer?)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.ask.take().into_iter().for_each(|ask| CHANNELS.give_up(ask));
    }
}

fn done_or_failed(answer: Answer) -> Result<Answer> {
    super::stamp::host_stamped();
    match answer {
        (Reply::Failed(errno), _) => Err(Errno::from_raw(errno)),
        answer => Ok(answer),
    }
}

fn note_wait(kind: usize, started: u64, ended: u64) {
    if let Some(waited) = WAITED_NS.get(kind) {
        waited.fetch_add(ended.saturating_sub(started), Ordering::Relaxed);
    }
}

/// Sends a request that has no answer (Exit, StartFailed, Quiesced).
///
/// # Errors
/// EIO where the broker is gone.
pub fn post(request: &Request<'_>) -> Result<()> {
    let taken = CHANNELS.take();
    // The supervisor reads nothing where it has no room for what it says.
    taken.drain();
    taken.send(Wait::Uninterruptible, &encode(0, 0, request)?)
}

fn encode(sequence: u32, runs_on: u16, request: &Request<'_>) -> Result<Vec<u8>> {
    if !CONNECTED.load(Ordering::Acquire) {
        return Err(Errno::EIO);
    }
    if let Some(count) = COUNTS.get(kind(request)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    let bytes = abi::encode(&Envelope { sequence, runs_on, body: request }).map_err(|_| Errno::ENOMEM)?;
    if bytes.len() > MAX_REQUEST { Err(Errno::ENAMETOOLONG) } else { Ok(bytes) }
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
