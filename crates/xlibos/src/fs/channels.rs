//! The channels to the supervisor: who has each of them, and which of its answers are to come.
//!
//! A channel has one request at a time and its answer, but for two cases in which an answer comes that nobody waits for: who asked was
//! killed, or it was asked for ahead and is not wanted any more. Who has the channel next passes over it, and its descriptors are closed.
//!
//! One word a channel says who has it: nobody, a thread, or an ask ahead, by its number. It is taken by one exchange of that word, and
//! an ask ahead by anybody. So an answer that was asked for ahead is received by one thread at most, and never waited for by one while
//! another has taken it: who takes the channel for something else ends the ask. It is no process's, so none that dies takes it along.
//!
//! Nothing is asked ahead on a channel where an answer to an earlier request may still come: of those that nobody waits for one at most
//! is under way on each, however often that happens, and neither side ever waits for room.
//!
//! Nor does it stay there: the host counts descriptors under way for all programs of a user. The service process looks after asks
//! ahead, ends those that are old and drops what came for nobody.

use crate::wait::{Events, WaitQueue, wait_uninterruptible};
use crate::{Errno, Result};
use abi::boot::{BROKER_CHANNELS, BROKER_FD};
use abi::broker::{Envelope, MAX_REPLY, Reply};
use abi::sequence_of;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use machine::host::{self, HostFd, Wait};
use machine::sync::Mutex;

const COUNT: usize = BROKER_CHANNELS as usize;

/// Those of the container.
pub(super) static CHANNELS: Channels = Channels::new(numbers());

/// An answer, and what travels with it.
pub(super) type Answer = (Reply, Vec<HostFd>);

/// Of a word that says who has a channel: an ask ahead, with the number of the request below. No thread's identity has the bit.
const AHEAD: u64 = 1 << 63;

const fn ahead(number: u32) -> u64 {
    AHEAD | number as u64
}

const fn numbers() -> [i32; COUNT] {
    let mut numbers = [BROKER_FD; COUNT];
    let mut at = 1;
    while at < COUNT {
        numbers[at] += at as i32;
        at += 1;
    }
    numbers
}

/// How long an answer may lie there that nobody takes.
const LIES_NS: u64 = 100_000_000;
/// How often the service process looks after the last ask: the supervisor may be late, and of one that was killed nobody knows
/// whether it had its answer.
const LOOKS: u32 = 10;

pub(super) struct Channels {
    descriptors: [i32; COUNT],
    /// Who has each: the identity of a thread, an ask [`ahead`], or 0.
    users: [AtomicU64; COUNT],
    /// Which thread had it last: the supervisor may still listen to it there.
    last_users: [AtomicU64; COUNT],
    each: [Channel; COUNT],
    waiting: WaitQueue,
    /// How often the service process still looks, and when next: nanoseconds of CLOCK_MONOTONIC, 0 where it has not begun.
    looks: AtomicU32,
    next_look: AtomicU64,
}

/// Changed by who has taken the channel.
struct Channel {
    /// Number of the last request that has an answer.
    asked: AtomicU32,
    /// Number of the last answer that came. Who is killed between an answer and this leaves it behind, until the next one has come.
    answered: AtomicU32,
    /// Which ask ahead had the channel when the service process looked last; 0 for none.
    seen: AtomicU64,
    /// Where answers are received: made at first use, and kept.
    buffer: Mutex<Vec<u8>>,
}

impl Channel {
    const fn new() -> Channel {
        let (asked, answered, seen) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU64::new(0));
        Channel { asked, answered, seen, buffer: Mutex::new(Vec::new()) }
    }

    /// Whether no answer is to come. A hint for who has not taken the channel.
    fn is_settled(&self) -> bool {
        self.asked.load(Ordering::Relaxed) == self.answered.load(Ordering::Relaxed)
    }
}

/// A channel that the thread has taken.
pub(super) struct Taken<'a> {
    channels: &'a Channels,
    at: usize,
    channel: &'a Channel,
    descriptor: i32,
}

/// A request of which nobody waits for the answer yet.
#[derive(Debug)]
pub(super) struct Ask {
    at: usize,
    number: u32,
}

impl Channels {
    const fn new(descriptors: [i32; COUNT]) -> Channels {
        Channels {
            descriptors,
            users: [const { AtomicU64::new(0) }; COUNT],
            last_users: [const { AtomicU64::new(0) }; COUNT],
            each: [const { Channel::new() }; COUNT],
            waiting: WaitQueue::new(),
            looks: AtomicU32::new(0),
            next_look: AtomicU64::new(0),
        }
    }

    /// Takes a channel, when there is one.
    pub(super) fn take(&self) -> Taken<'_> {
        self.try_take().unwrap_or_else(|| wait_uninterruptible(&self.waiting, || self.try_take()))
    }

    /// Where no answer is to come if there is such a channel, and at all the one that the thread had last.
    fn try_take(&self) -> Option<Taken<'_>> {
        let last = self.last();
        let order = || last.into_iter().chain(0..COUNT);
        let is_settled = |at: &usize| self.each.get(*at).is_some_and(Channel::is_settled);
        let settled = order().filter(is_settled).find_map(|at| self.exchange(at, 0));
        let taken = settled.or_else(|| order().find_map(|at| self.take_over(at)))?;
        if last != Some(taken.at) {
            self.note_last(taken.at);
        }
        Some(taken)
    }

    fn last(&self) -> Option<usize> {
        let own = machine::cpu::current().identity();
        self.last_users.iter().position(|user| user.load(Ordering::Relaxed) == own)
    }

    fn note_last(&self, at: usize) {
        if let Some(user) = self.last_users.get(at) {
            user.store(machine::cpu::current().identity(), Ordering::Relaxed);
        }
    }

    /// Takes a channel from who has it.
    fn exchange(&self, at: usize, user: u64) -> Option<Taken<'_>> {
        let (word, channel, descriptor) = (self.users.get(at)?, self.each.get(at)?, *self.descriptors.get(at)?);
        let own = machine::cpu::current().identity();
        word.compare_exchange(user, own, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(Taken { channels: self, at, channel, descriptor })
    }

    /// Takes a channel that no thread has.
    fn take_over(&self, at: usize) -> Option<Taken<'_>> {
        let user = self.users.get(at)?.load(Ordering::Relaxed);
        if user == 0 || user & AHEAD != 0 { self.exchange(at, user) } else { None }
    }

    /// Sends a request that is made with its number, and waits for nothing. None where there is no channel for it, or no room: others
    /// may need them more.
    pub(super) fn ask_ahead(&self, make: impl FnOnce(u32) -> Result<Vec<u8>>) -> Option<Ask> {
        let taken = self.take_settled()?;
        let number = taken.ask(Wait::No, make).ok()?;
        let ask = Ask { at: taken.at, number };
        taken.leave(ahead(number));
        Some(ask)
    }

    /// Takes a channel on which no answer is to come. Not the one on which the supervisor may still listen to the caller, on its
    /// processor: there it could not answer meanwhile.
    fn take_settled(&self) -> Option<Taken<'_>> {
        let last = self.last();
        let others = (0..COUNT).rev().filter(|at| Some(*at) != last);
        let settled = |taken: &Taken<'_>| {
            taken.drain();
            taken.channel.is_settled()
        };
        others.filter_map(|at| self.exchange(at, 0)).find(settled)
    }

    /// Takes the channel on which the answer comes. None where others have taken it, and the answer is theirs to pass over.
    pub(super) fn take_ask(&self, ask: Ask) -> Option<(Taken<'_>, u32)> {
        Some((self.exchange(ask.at, ahead(ask.number))?, ask.number))
    }

    /// The answer is not wanted. Where it has come it is dropped, with what it brought.
    pub(super) fn give_up(&self, ask: Ask) {
        if let Some((taken, _)) = self.take_ask(ask) {
            taken.drain();
        }
    }

    /// Ends all asks ahead: their answers are for nobody. When they have come the supervisor does nothing for them any more.
    pub(super) fn end_asks(&self) {
        for taken in (0..COUNT).filter_map(|at| self.exchange(at, self.ask_at(at)?)) {
            // Whatever it is.
            let _ = taken.receive_with(taken.channel.asked.load(Ordering::Relaxed), Wait::Uninterruptible, |_| Ok(()));
        }
    }

    /// The ask ahead that has a channel.
    fn ask_at(&self, at: usize) -> Option<u64> {
        Some(self.users.get(at)?.load(Ordering::Relaxed)).filter(|user| user & AHEAD != 0)
    }

    /// An ask ahead has been sent. Whether the service process is to be woken, to [`Channels::look`].
    pub(super) fn is_first(&self) -> bool {
        self.looks.swap(LOOKS, Ordering::AcqRel) == 0
    }

    /// Ends asks ahead that were there at the last look, and drops what has come for nobody. Answers when to look next, if at all.
    /// For the service process, at any time.
    pub(super) fn look(&self, now: u64) -> Option<u64> {
        let left = self.looks.load(Ordering::Acquire);
        let due = self.next_look.load(Ordering::Relaxed);
        if left == 0 || (due != 0 && now < due) {
            return (left != 0).then_some(due);
        }
        // An ask meanwhile makes it another number.
        let fewer = left - u32::from(due != 0);
        let is_alone = self.looks.compare_exchange(left, fewer, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        // Each is looked at, whatever the others are.
        let all_settled = (0..COUNT).filter(|at| !self.is_settled_at(*at)).count() == 0;
        let ends = is_alone
            && (fewer == 0 || (all_settled && fewer < LOOKS))
            && self.looks.compare_exchange(fewer, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let next = if ends { 0 } else { now + LIES_NS };
        self.next_look.store(next, Ordering::Relaxed);
        (!ends).then_some(next)
    }

    /// Drops what has come on a channel for nobody; whether nothing is to come, and no ask ahead is there.
    fn is_settled_at(&self, at: usize) -> bool {
        let Some(channel) = self.each.get(at) else { return true };
        let ask = self.ask_at(at).unwrap_or(0);
        let is_old = channel.seen.swap(ask, Ordering::Relaxed) == ask;
        if channel.is_settled() && ask == 0 {
            return true;
        }
        if is_old && let Some(taken) = self.exchange(at, ask) {
            taken.drain();
            return channel.is_settled();
        }
        false
    }

    /// A thread has died: what it had is free.
    pub(super) fn release_of(&self, identity: u64) {
        let release =
            |user: &AtomicU64| user.compare_exchange(identity, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if self.users.iter().any(release) {
            self.waiting.wake(Events::empty());
        }
    }
}

impl Taken<'_> {
    /// Sends a request that has an answer, and is made with its number. What has come for nobody is dropped first: the supervisor needs
    /// room, and opens nothing in advance before.
    pub(super) fn ask(&self, wait: Wait, make: impl FnOnce(u32) -> Result<Vec<u8>>) -> Result<u32> {
        self.drain();
        let last = self.channel.asked.load(Ordering::Relaxed);
        let number = last.wrapping_add(1);
        // Before it goes: whoever has the channel next gives no other request the number.
        self.channel.asked.store(number, Ordering::Relaxed);
        let sent = make(number).and_then(|bytes| self.send(wait, &bytes));
        if sent.is_err() {
            self.channel.asked.store(last, Ordering::Relaxed);
        }
        sent.map(|()| number)
    }

    /// Sends a request.
    pub(super) fn send(&self, wait: Wait, bytes: &[u8]) -> Result<()> {
        host::send_request(self.descriptor, bytes, wait).map(drop).map_err(|_| Errno::EIO)
    }

    /// Waits for an answer.
    pub(super) fn receive(&self, number: u32) -> Result<Answer> {
        self.receive_with(number, Wait::Uninterruptible, |bytes| {
            let envelope: Envelope<Reply> = abi::decode(bytes).map_err(|_| Errno::EIO)?;
            Ok(envelope.body)
        })
    }

    /// Drops what has come for nobody.
    pub(super) fn drain(&self) {
        if !self.channel.is_settled() {
            // What is there is received, and closed; the rest comes later.
            let _ = self.receive_with(self.channel.asked.load(Ordering::Relaxed), Wait::No, |_| Ok(()));
        }
    }

    /// Receives until an answer has the number; returns what is made of that one.
    fn receive_with<T>(
        &self,
        number: u32,
        wait: Wait,
        make: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<(T, Vec<HostFd>)> {
        let mut buffer = core::mem::take(&mut *self.channel.buffer.lock());
        buffer.clear();
        buffer.reserve_exact(MAX_REPLY);
        let received = self.receive_into(number, wait, &mut buffer);
        let made = received.and_then(|descriptors| Ok((make(&buffer)?, descriptors)));
        *self.channel.buffer.lock() = buffer;
        made
    }

    fn receive_into(&self, number: u32, wait: Wait, buffer: &mut Vec<u8>) -> Result<Vec<HostFd>> {
        loop {
            let descriptors = host::receive_into(self.descriptor, buffer, wait).map_err(|_| Errno::EIO)?;
            let came = sequence_of(buffer).ok_or(Errno::EIO)?;
            if came == number {
                self.channel.answered.store(number, Ordering::Relaxed);
                return Ok(descriptors);
            }
        }
    }

    /// Leaves the channel to an ask ahead.
    fn leave(self, ask: u64) {
        self.pass_to(ask);
        core::mem::forget(self);
    }

    fn pass_to(&self, user: u64) {
        if let Some(word) = self.channels.users.get(self.at) {
            word.store(user, Ordering::Release);
        }
        self.channels.waiting.wake_one(Events::empty());
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.pass_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Ask, COUNT, Channels, Taken};
    use crate::Errno;
    use abi::broker::{Envelope, Reply, Request};
    use machine::host::Wait;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixDatagram;

    /// Channels, and the ends of a supervisor that never waits.
    struct Fixture {
        channels: Channels,
        theirs: Vec<UnixDatagram>,
        ours: Vec<UnixDatagram>,
    }

    fn encode(sequence: u32) -> crate::Result<Vec<u8>> {
        let body = Request::Space { export: 7 };
        abi::encode(&Envelope { sequence, runs_on: 0, body }).map_err(|_| Errno::EINVAL)
    }

    impl Fixture {
        fn new() -> Fixture {
            let pairs = (0..COUNT).map(|_| {
                let Ok((ours, theirs)) = UnixDatagram::pair() else { panic!("no sockets") };
                assert!(theirs.set_nonblocking(true).is_ok());
                (ours, theirs)
            });
            let (ours, theirs): (Vec<_>, Vec<_>) = pairs.unzip();
            let descriptors = core::array::from_fn(|at| ours[at].as_raw_fd());
            Fixture { channels: Channels::new(descriptors), theirs, ours }
        }

        /// The supervisor answers all that it was asked; how much that was. Each answer gives its number as an errno.
        fn answer(&self) -> usize {
            self.theirs.iter().map(|end| core::iter::from_fn(|| answer_one(end)).count()).sum()
        }

        fn ask_ahead(&self) -> Option<Ask> {
            self.channels.ask_ahead(encode)
        }

        /// How many answers lie there, which are gone then.
        fn lying(&self) -> usize {
            let count = |end: &UnixDatagram| {
                assert!(end.set_nonblocking(true).is_ok());
                let count = core::iter::from_fn(|| end.recv(&mut [0; 100]).ok()).count();
                assert!(end.set_nonblocking(false).is_ok());
                count
            };
            self.ours.iter().map(count).sum()
        }

        /// Asks, and whether the answer is that one's.
        fn is_answered(&self, taken: &Taken<'_>) -> bool {
            let asked = taken.ask(Wait::Uninterruptible, encode);
            self.answer();
            asked.is_ok_and(|number| is_of(taken, number))
        }
    }

    fn answer_one(end: &UnixDatagram) -> Option<()> {
        let mut buffer = [0; 100];
        let len = end.recv(&mut buffer).ok()?;
        let asked = abi::decode::<Envelope<Request<'_>>>(&buffer[..len]).ok()?;
        let body = Reply::Failed(asked.sequence.cast_signed());
        let answer = abi::encode(&Envelope { sequence: asked.sequence, runs_on: 0, body }).ok()?;
        assert!(end.send(&answer).is_ok(), "the supervisor has no room for an answer");
        Some(())
    }

    fn is_of(taken: &Taken<'_>, number: u32) -> bool {
        matches!(taken.receive(number), Ok((Reply::Failed(is), _)) if is == number.cast_signed())
    }

    fn takes(fixture: &Fixture, ask: Ask) -> bool {
        fixture.channels.take_ask(ask).is_some_and(|(taken, number)| is_of(&taken, number))
    }

    #[test]
    fn an_answer_that_was_asked_for_ahead_is_there_when_it_is_wanted() {
        let fixture = Fixture::new();
        for _ in 0..100 {
            let (Some(one), Some(other)) = (fixture.ask_ahead(), fixture.ask_ahead()) else { panic!("no channel") };
            assert!(fixture.is_answered(&fixture.channels.take()));
            assert!(takes(&fixture, one) && takes(&fixture, other));
        }
    }

    #[test]
    fn two_thousand_answers_that_nobody_wants_leave_room_for_others() {
        let fixture = Fixture::new();
        for _ in 0..2000 {
            let Some(ask) = fixture.ask_ahead() else { panic!("no channel") };
            fixture.answer();
            fixture.channels.give_up(ask);
        }
        (0..100).for_each(|_| assert!(fixture.is_answered(&fixture.channels.take())));
    }

    #[test]
    fn an_answer_that_is_given_up_does_not_stay() {
        let fixture = Fixture::new();
        let (Some(_), Some(ask)) = (fixture.ask_ahead(), fixture.ask_ahead()) else { panic!("no channels") };
        assert_eq!(fixture.answer(), 2);
        fixture.channels.give_up(ask);
        assert_eq!(fixture.lying(), 1);
    }

    #[test]
    fn an_answer_that_nobody_takes_does_not_stay() {
        let fixture = Fixture::new();
        let look = |now: u64| fixture.channels.look(now * super::LIES_NS);
        assert_eq!(look(1), None);
        // One is given up before it has come, the other one is forgotten.
        let (Some(early), Some(_)) = (fixture.ask_ahead(), fixture.ask_ahead()) else { panic!("no channels") };
        assert!(fixture.channels.is_first() && !fixture.channels.is_first());
        fixture.channels.give_up(early);
        assert_eq!(fixture.answer(), 2);
        assert_eq!(look(2), Some(3 * super::LIES_NS));
        assert_eq!(fixture.channels.look(2 * super::LIES_NS + 1), Some(3 * super::LIES_NS));
        assert_eq!(look(3), None);
        assert_eq!(fixture.lying(), 0);
        assert_eq!((0..COUNT).filter_map(|_| fixture.ask_ahead()).count(), COUNT);
    }

    #[test]
    fn nobody_looks_for_ever_after_what_never_comes() {
        let fixture = Fixture::new();
        assert!(fixture.ask_ahead().is_some_and(|_| fixture.channels.is_first()));
        let looks = (1..1000).take_while(|now| fixture.channels.look(now * super::LIES_NS).is_some()).count();
        assert_eq!(looks, super::LOOKS as usize);
        assert!(fixture.ask_ahead().is_some_and(|_| fixture.channels.is_first()));
        assert!(fixture.channels.look(2000 * super::LIES_NS).is_some());
    }

    #[test]
    fn of_answers_that_nobody_wants_one_is_under_way_on_a_channel() {
        let fixture = Fixture::new();
        let asked = (0..2000).filter_map(|_| fixture.ask_ahead()).map(|ask| fixture.channels.give_up(ask)).count();
        assert_eq!(asked, COUNT);
        // Who waits for an answer gets it, and whose it is: on each channel.
        let all: Vec<_> = (0..COUNT).map(|_| fixture.channels.take()).collect();
        assert!(all.iter().all(|taken| fixture.is_answered(taken)));
        drop(all);
        assert!(fixture.ask_ahead().is_some_and(|ask| fixture.answer() == 1 && takes(&fixture, ask)));
    }

    #[test]
    fn who_needs_a_channel_takes_it_from_an_ask_and_its_answer_is_for_nobody() {
        let fixture = Fixture::new();
        let asks: Vec<_> = (0..COUNT).filter_map(|_| fixture.ask_ahead()).collect();
        assert_eq!((asks.len(), fixture.answer()), (COUNT, COUNT));
        let taken = fixture.channels.take();
        let at = taken.at;
        // Also while that is just being received, and when the channel is free again.
        assert!(asks.iter().filter(|ask| ask.at == at).all(|ask| fixture.channels.take_ask(Ask { ..*ask }).is_none()));
        assert!(fixture.is_answered(&taken));
        drop(taken);
        assert_eq!(asks.into_iter().filter(|ask| takes(&fixture, Ask { ..*ask })).count(), COUNT - 1);
    }

    #[test]
    fn no_ask_outlives_that_all_are_ended() {
        let fixture = Fixture::new();
        let taken = fixture.channels.take();
        let asks: Vec<_> = (0..COUNT).filter_map(|_| fixture.ask_ahead()).collect();
        assert_eq!((asks.len(), fixture.answer()), (COUNT - 1, COUNT - 1));
        fixture.channels.end_asks();
        // What the answers brought is gone with them.
        assert_eq!(fixture.lying(), 0);
        assert_eq!(asks.into_iter().filter_map(|ask| fixture.channels.take_ask(ask)).count(), 0);
        assert!(fixture.is_answered(&taken));
    }

    #[test]
    fn what_a_thread_had_that_died_is_free_and_its_answer_for_nobody() {
        let fixture = Fixture::new();
        for _ in 0..2000 {
            let taken = fixture.channels.take();
            assert!(taken.ask(Wait::Uninterruptible, encode).is_ok());
            core::mem::forget(taken);
            fixture.channels.release_of(machine::cpu::current().identity());
            fixture.answer();
        }
        assert!(fixture.is_answered(&fixture.channels.take()));
        let asked = (0..COUNT).filter_map(|_| fixture.ask_ahead()).count();
        assert!(asked >= COUNT - 1, "{asked}");
    }

    #[test]
    fn a_request_that_cannot_be_made_is_no_answer_to_come() {
        let fixture = Fixture::new();
        (0..100).for_each(|_| assert!(fixture.channels.ask_ahead(|_| Err(Errno::ENAMETOOLONG)).is_none()));
        assert_eq!((0..100).filter_map(|_| fixture.ask_ahead()).count(), COUNT);
    }
}
