//! Serving the channels: a few threads wait for all of them, and each answers one request at a time. Where the last one that
//! waits takes a request, another one is started: host calls may stall, and those that do hold nobody else up. Threads for which
//! there was nothing to do for a while end, but for one.
//!
//! A channel is armed for one event at a time (EPOLLONESHOT), so that exactly one thread works on it.
//! A reply that the container does not take waits in its channel, which is not read meanwhile: a
//! container that stops reading stops only itself.
//!
//! Who asks in quick succession is served where it runs: the thread stays with its channel, and both share a processor as two
//! guests do that wake each other in turn (`machine::hand_over`). It costs a third of waking an idle one, there and back.

use super::dispatch::{Answer, Untaken};
use super::{Broker, BrokerError};
use crate::under_way::send_patiently;
use abi::broker::{ANYWHERE, Envelope, MAX_REQUEST, MOST_BESIDE, Reply};
use rustix::buffer::spare_capacity;
use rustix::cmsg_space;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg, sockopt,
};
use rustix::thread::CpuSet;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

/// Threads at the start.
const THREADS: usize = 2;
/// Most threads: a channel has one request at a time.
const MOST_THREADS: usize = abi::boot::BROKER_CHANNELS.unsigned_abs() as usize;
/// How long a thread waits beside another one. Shorter than what makes a rest: who ends at one brings memory back.
const SPARE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// How long a thread stays with a channel whose asker said that it will ask again.
const STAY: Duration = Duration::from_millis(2);
/// Epoll key of the descriptor that tells every thread to stop.
const STOP: u64 = u64::MAX;

/// The channels of one container, shared by its broker threads.
struct Channels {
    epoll: OwnedFd,
    channels: Vec<Mutex<Channel>>,
    /// How many are open; the last one to close stops the threads.
    open: AtomicUsize,
    stop: OwnedFd,
    threads: AtomicUsize,
    /// Threads that wait for a request, or are about to.
    waiting: AtomicUsize,
    /// Where the supervisor may run.
    processors: CpuSet,
}

struct Channel {
    socket: OwnedFd,
    /// A reply that the container has not taken yet.
    pending: Option<Answer>,
}

/// Where a broker thread runs.
struct Place {
    /// Wherever the supervisor may.
    all: CpuSet,
    /// Processor plus 1 to which the thread is tied, 0 for none; None while that is not known.
    tied_to: Option<u16>,
}

impl Place {
    /// Goes to the asker's processor, or wherever the host likes. A hint: what the host refuses is left.
    fn move_to(&mut self, runs_on: u16) {
        let runs_on = if runs_on == ANYWHERE { 0 } else { runs_on };
        if self.tied_to == Some(runs_on) {
            return;
        }
        let processor =
            usize::from(runs_on).checked_sub(1).filter(|number| *number < CpuSet::MAX_CPU && self.all.is_set(*number));
        let mask = processor.map_or(self.all, |number| {
            let mut alone = CpuSet::new();
            alone.set(number);
            alone
        });
        let _ = rustix::thread::sched_setaffinity(None, &mask);
        self.tied_to = Some(runs_on);
    }
}

/// What a channel waits for next.
enum Next {
    /// A request that is to come in a moment.
    RequestSoon,
    Request,
    Room,
    Closed,
}

impl Broker {
    /// Serves the channels on this thread and others; returns when all of them are closed.
    ///
    /// # Errors
    /// [`BrokerError`] where the host refuses what serving needs (descriptors, a thread).
    pub fn serve(self: &Arc<Self>, channels: Vec<OwnedFd>) -> Result<(), BrokerError> {
        if channels.is_empty() {
            return Ok(());
        }
        let channels = Channels::new(channels)?;
        thread::scope(|scope| {
            for number in 1..THREADS {
                channels.start_thread(self, scope, number)?;
            }
            let watch = || self.watches.serve(channels.stop.as_fd());
            thread::Builder::new().name("watches".into()).spawn_scoped(scope, watch)?;
            channels.work(self, scope, false)
        })
    }
}

impl Channels {
    fn new(sockets: Vec<OwnedFd>) -> Result<Self, BrokerError> {
        let failed = |step| move |errno| BrokerError::Serve { step, errno };
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed("epoll_create1"))?;
        let stop = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).map_err(failed("eventfd2"))?;
        let add = |fd: &OwnedFd, key, flags| {
            epoll::add(&epoll, fd, EventData::new_u64(key), flags).map_err(failed("epoll_ctl"))
        };
        add(&stop, STOP, EventFlags::IN)?;
        for (key, socket) in (0..).zip(&sockets) {
            sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(STAY)).map_err(failed("setsockopt"))?;
            add(socket, key, EventFlags::IN | EventFlags::ONESHOT)?;
        }
        let open = AtomicUsize::new(sockets.len());
        let channels = sockets.into_iter().map(|socket| Mutex::new(Channel { socket, pending: None })).collect();
        let (threads, waiting) = (AtomicUsize::new(THREADS), AtomicUsize::new(THREADS));
        let processors = rustix::thread::sched_getaffinity(None).map_err(failed("sched_getaffinity"))?;
        Ok(Self { epoll, channels, open, stop, threads, waiting, processors })
    }

    fn start_thread<'scope>(
        &'scope self,
        broker: &'scope Broker,
        scope: &'scope Scope<'scope, '_>,
        number: usize,
    ) -> Result<(), BrokerError> {
        let work = move || self.work(broker, scope, true);
        thread::Builder::new().name(format!("broker-{number}")).spawn_scoped(scope, work)?;
        Ok(())
    }

    /// The calling thread waits no longer. Somebody is to wait, unless there are threads enough; where the host gives none, the
    /// others do.
    fn replace_waiting<'scope>(&'scope self, broker: &'scope Broker, scope: &'scope Scope<'scope, '_>) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let more = |threads: usize| (threads < MOST_THREADS).then_some(threads + 1);
        if let Ok(number) = self.threads.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            self.waiting.fetch_add(1, Ordering::AcqRel);
            if self.start_thread(broker, scope, number).is_err() {
                self.waiting.fetch_sub(1, Ordering::AcqRel);
                self.threads.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// Ends the calling thread, which waits beside others: one of them has to stay.
    fn leave(&self) -> bool {
        let others = |waiting: usize| (waiting > 1).then(|| waiting - 1);
        let leaves = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, others).is_ok();
        if leaves {
            self.threads.fetch_sub(1, Ordering::AcqRel);
        }
        leaves
    }

    fn work<'scope>(
        &'scope self,
        broker: &'scope Broker,
        scope: &'scope Scope<'scope, '_>,
        is_another: bool,
    ) -> Result<(), BrokerError> {
        let mut may_leave = is_another;
        let mut buffer = vec![0; MAX_REQUEST];
        let mut place = Place { all: self.processors, tied_to: None };
        let mut events = Vec::with_capacity(1);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), may_leave.then_some(&SPARE)) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(BrokerError::Serve { step: "epoll_wait", errno }),
            }
            let Some(key) = events.first().map(|event: &epoll::Event| event.data.u64()) else {
                if self.leave() {
                    return Ok(());
                }
                // The only one: it waits on, until it has had something to do.
                may_leave = false;
                continue;
            };
            may_leave = is_another;
            if key == STOP {
                return Ok(());
            }
            let channel = usize::try_from(key).ok().and_then(|index| self.channels.get(index));
            if let Some(channel) = channel {
                self.replace_waiting(broker, scope);
                if broker.activity.note() {
                    (broker.options.awake)();
                }
                self.advance(broker, channel, key, &mut buffer, &mut place);
                self.waiting.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    fn advance(&self, broker: &Broker, channel: &Mutex<Channel>, key: u64, buffer: &mut [u8], place: &mut Place) {
        let mut channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wait = RecvFlags::DONTWAIT;
        let flags = loop {
            match channel.advance(broker, buffer, wait, place) {
                Next::RequestSoon => wait = RecvFlags::empty(),
                Next::Request => break EventFlags::IN,
                Next::Room => break EventFlags::OUT,
                Next::Closed => return self.closed(&channel),
            }
        };
        // The next asker may be elsewhere, and who is held where others hand over may never get to run.
        place.move_to(0);
        let data = EventData::new_u64(key);
        if epoll::modify(&self.epoll, &channel.socket, data, flags | EventFlags::ONESHOT).is_err() {
            self.closed(&channel);
        }
    }

    fn closed(&self, channel: &Channel) {
        // Nobody can wait for this descriptor again; a failure leaves it disarmed all the same.
        let _ = epoll::delete(&self.epoll, &channel.socket);
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            // An eventfd of our own that nobody else writes takes 1 without blocking.
            let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        }
    }
}

impl Channel {
    /// Does one step: sends what is pending, or answers one request.
    fn advance(&mut self, broker: &Broker, buffer: &mut [u8], wait: RecvFlags, place: &mut Place) -> Next {
        if self.pending.is_none() {
            let datagram = match receive(&self.socket, buffer, wait) {
                Ok(Received::Datagram(datagram)) => datagram,
                Ok(Received::Truncated) => &[],
                Ok(Received::Closed) => return Next::Closed,
                Err(Errno::AGAIN | Errno::INTR) => return Next::Request,
                Err(_) => return Next::Closed,
            };
            broker.bucket.take();
            self.pending = broker.answer_on(datagram, &Socket(&self.socket));
        }
        if let Some(answer) = &self.pending {
            place.move_to(answer.asker_runs_on);
        }
        self.flush()
    }

    fn flush(&mut self) -> Next {
        let Some(answer) = &self.pending else {
            return Next::Request;
        };
        match send_patiently(|| send(&self.socket, answer)) {
            Ok(()) => {
                let asks_again = answer.asker_runs_on != 0;
                self.pending = None;
                if asks_again { Next::RequestSoon } else { Next::Request }
            }
            Err(Errno::AGAIN | Errno::INTR) => Next::Room,
            // Too many descriptors under way for long, or memory short: the asker hears of it without one.
            Err(errno) if !answer.descriptors.is_empty() && errno != Errno::PIPE => {
                self.pending = replace_by_failure(answer, errno);
                self.flush()
            }
            Err(_) => Next::Closed,
        }
    }
}

struct Socket<'a>(&'a OwnedFd);

impl Untaken for Socket<'_> {
    fn has_untaken(&self) -> bool {
        crate::sys::unsent(self.0.as_fd()).is_none_or(|bytes| bytes > 0)
    }
}

enum Received<'a> {
    Datagram(&'a [u8]),
    Truncated,
    Closed,
}

/// Receives one datagram. There is no control buffer: descriptors that the guest sends are dropped by
/// the kernel and never exist here.
fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8], wait: RecvFlags) -> Result<Received<'a>, Errno> {
    let mut control = RecvAncillaryBuffer::default();
    let message = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, wait)?;
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Received::Truncated);
    }
    // An empty datagram looks like the end of the stream; a LibOS never sends one.
    match buffer.get(..message.bytes) {
        Some(datagram) if !datagram.is_empty() => Ok(Received::Datagram(datagram)),
        _ => Ok(Received::Closed),
    }
}

fn send(socket: &OwnedFd, answer: &Answer) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_BESIDE + 1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = answer.descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&answer.bytes)], &mut control, flags)?;
    Ok(())
}

fn replace_by_failure(answer: &Answer, errno: Errno) -> Option<Answer> {
    let sequence = abi::decode::<Envelope<Reply>>(&answer.bytes).ok()?.sequence;
    let body = Reply::Failed(errno.raw_os_error());
    let bytes = abi::encode(&Envelope { runs_on: 0, sequence, body }).ok()?;
    Some(Answer { bytes, descriptors: Vec::new(), asker_runs_on: answer.asker_runs_on })
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fixture;
    use super::{Channels, Place};
    use abi::broker::{Envelope, Request};
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
    use rustix::thread::{CpuSet, sched_getaffinity};
    use std::sync::atomic::Ordering;

    #[test]
    fn threads_for_which_there_is_nothing_to_do_end_but_for_one() {
        let fixture = Fixture::new();
        let (ours, end) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("pair");
        let channels = Channels::new(vec![ours]).expect("channels");
        std::thread::scope(|scope| {
            channels.start_thread(&fixture.broker, scope, 1).expect("thread");
            scope.spawn(|| channels.work(&fixture.broker, scope, false).expect("work"));
            for sequence in 0..2 {
                while channels.threads.load(Ordering::Acquire) > 1 {
                    std::thread::yield_now();
                }
                let request = Envelope { runs_on: 0, sequence, body: Request::Log { text: b"" } };
                send(&end, &abi::encode(&request).expect("encode"), SendFlags::NOSIGNAL).expect("send");
                assert!(recv(&end, &mut [0; 64], RecvFlags::empty()).expect("recv").1 > 0);
            }
            drop(end);
        });
    }

    /// On a thread of its own: the others keep their place.
    #[test]
    fn a_thread_goes_to_the_asker_within_what_the_supervisor_was_given() {
        let thread = std::thread::spawn(|| {
            let all = sched_getaffinity(None).expect("mask");
            let is_given = |number: &u16| all.is_set(usize::from(*number));
            let first = (0..CpuSet::MAX_CPU as u16).find(is_given).expect("a processor");
            let absent = (0..CpuSet::MAX_CPU as u16).find(|number| !is_given(number)).expect("not all");
            let mut place = Place { all, tied_to: None };
            for (runs_on, count) in
                [(first + 1, 1), (0, all.count()), (first + 1, 1), (absent + 1, all.count()), (u16::MAX, all.count())]
            {
                place.move_to(runs_on);
                assert_eq!(sched_getaffinity(None).expect("mask").count(), count, "{runs_on}");
            }
        });
        thread.join().expect("the thread ends well");
    }
}
