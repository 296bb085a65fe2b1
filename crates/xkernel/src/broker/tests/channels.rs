//! The channels: order, descriptors, floods and containers that stop reading.

use super::super::{Broker, Options};
use super::Fixture;
use abi::broker::{Envelope, FileAt, MAX_REPLY, MAX_REQUEST, Reply, Request};
use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

struct Served {
    ends: Vec<OwnedFd>,
    server: JoinHandle<()>,
}

/// Serves `count` channels on threads of their own.
fn serve(fixture: &Fixture, count: usize) -> Served {
    serve_broker(Arc::clone(&fixture.broker), count)
}

fn serve_broker(broker: Arc<Broker>, count: usize) -> Served {
    let pair = |_| socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("pair");
    let (ours, ends) = (0..count).map(pair).unzip();
    let server = std::thread::spawn(move || broker.serve(ours).expect("serve"));
    Served { ends, server }
}

impl Served {
    fn finish(self) {
        drop(self.ends);
        self.server.join().expect("server ends");
    }
}

fn ask(socket: &OwnedFd, sequence: u32, body: Request<'_>) {
    ask_from(0, socket, sequence, body);
}

fn ask_from(runs_on: u16, socket: &OwnedFd, sequence: u32, body: Request<'_>) {
    let bytes = abi::encode(&Envelope { runs_on, sequence, body }).expect("encode");
    send(socket, &bytes, SendFlags::NOSIGNAL).expect("send");
}

fn hear(socket: &OwnedFd) -> (Envelope<Reply>, Option<OwnedFd>) {
    let mut buffer = vec![0; MAX_REPLY];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::empty()).expect("recv");
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.next().and_then(|mut descriptors| descriptors.next());
    (abi::decode(&buffer[..message.bytes]).expect("decode"), descriptor)
}

#[test]
fn who_says_where_it_runs_is_answered_and_so_are_the_others() {
    let fixture = Fixture::new();
    let served = serve(&fixture, 4);
    // The first processor, one that no machine has, and no number at all.
    for (sequence, runs_on) in (1..).zip([1, 1, 60_000, 1, 0, u16::MAX, 1, 0, 1]) {
        for end in &served.ends {
            ask_from(runs_on, end, sequence, Request::Space { export: 0 });
        }
        for end in &served.ends {
            assert_eq!(hear(end).0.sequence, sequence);
        }
    }
    served.finish();
}

#[test]
fn nothing_is_opened_in_advance_for_a_container_that_has_not_taken_the_last_answer() {
    let fixture = Fixture::new();
    let served = serve(&fixture, 1);
    let end = &served.ends[0];
    let request =
        || Request::Open { export: 0, file: FileAt::any(b"file"), writable: false, beside: vec![&b"file"[..]; 2] };
    let opened = || match hear(end).0.body {
        Reply::Opened { beside, .. } => beside.len(),
        other => panic!("{other:?}"),
    };
    (1..=3).for_each(|sequence| ask(end, sequence, request()));
    ask(end, 4, Request::ReadDir { export: 0, path: b"", from: 0, attributes: true, open: 2 });
    ask(end, 5, Request::Log { text: b"behind them" });
    while fixture.control.lock().expect("control").is_empty() {
        std::thread::yield_now();
    }
    assert_eq!([opened(), opened(), opened()], [2, 0, 0]);
    assert!(matches!(hear(end).0.body, Reply::Entries { opened, .. } if opened.is_empty()));
    assert_eq!(hear(end).0.body, Reply::Done);
    ask(end, 6, request());
    assert_eq!(opened(), 2);
    served.finish();
}

#[test]
fn requests_are_answered_with_their_number_and_descriptor() {
    let fixture = Fixture::new();
    let served = serve(&fixture, 2);
    ask(&served.ends[0], 41, Request::Open { export: 0, file: FileAt::any(b"file"), writable: false, beside: vec![] });
    ask(&served.ends[1], 42, Request::Epoll);
    let (reply, file) = hear(&served.ends[0]);
    assert!(matches!(reply, Envelope { runs_on: 0, sequence: 41, body: Reply::Opened { .. } }) && file.is_some());
    let (reply, epoll) = hear(&served.ends[1]);
    assert_eq!(reply, Envelope { runs_on: 0, sequence: 42, body: Reply::Done });
    assert!(epoll.is_some());
    served.finish();
}

#[test]
fn truncated_messages_get_a_protocol_error_and_the_channel_lives_on() {
    let fixture = Fixture::new();
    let served = serve(&fixture, 1);
    send(&served.ends[0], &vec![0; MAX_REQUEST + 1], SendFlags::empty()).expect("send");
    send(&served.ends[0], &[0xff; 9], SendFlags::empty()).expect("send");
    for _ in 0..2 {
        let (reply, _) = hear(&served.ends[0]);
        assert_eq!(reply, Envelope { runs_on: 0, sequence: 0, body: Reply::Failed(libc::EPROTO) });
    }
    ask(&served.ends[0], 3, Request::Log { text: b"" });
    assert_eq!(hear(&served.ends[0]).0, Envelope { runs_on: 0, sequence: 3, body: Reply::Done });
    served.finish();
}

#[test]
fn descriptors_that_a_guest_sends_never_arrive() {
    let fixture = Fixture::new();
    let served = serve(&fixture, 1);
    let (reader, writer) = rustix::pipe::pipe().expect("pipe");
    let bytes = abi::encode(&Envelope { runs_on: 0, sequence: 1, body: Request::Log { text: b"" } }).expect("encode");
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [writer.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(&served.ends[0], &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).expect("send");
    assert_eq!(hear(&served.ends[0]).0.body, Reply::Done);
    drop(writer);
    // Were the write end held anywhere, this would wait for ever.
    assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));
    served.finish();
}

#[test]
fn a_container_that_stops_reading_loses_nothing_and_stops_nobody() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("big")).expect("mkdir");
    for number in 0..2000 {
        std::fs::write(fixture.path("big").join(format!("{number:0>60}")), b"").expect("write");
    }
    let served = serve(&fixture, 2);
    // More replies than the socket holds.
    for sequence in 0..8 {
        ask(
            &served.ends[0],
            sequence,
            Request::ReadDir { export: 0, path: b"big", from: 0, attributes: true, open: 0 },
        );
    }
    ask(&served.ends[1], 99, Request::Log { text: b"" });
    assert_eq!(hear(&served.ends[1]).0.sequence, 99);
    for sequence in 0..8 {
        assert_eq!(hear(&served.ends[0]).0.sequence, sequence);
    }
    served.finish();
}

#[test]
fn closing_every_channel_ends_the_service_whatever_is_pending() {
    let fixture = Fixture::new();
    let served = serve(&fixture, 3);
    for sequence in 0..20 {
        ask(&served.ends[1], sequence, Request::Epoll);
    }
    served.finish();
    let served = serve(&fixture, 1);
    send(&served.ends[0], &[], SendFlags::empty()).expect("send");
    let closed = recv(&served.ends[0], &mut [0u8; 1], RecvFlags::empty());
    assert!(matches!(closed, Ok((_, 0))));
    served.finish();
}

/// All channels but one wait for something on the host that does not come.
#[test]
fn requests_that_stall_hold_up_no_other() {
    let gate = Arc::new(Gate::default());
    let closed = Arc::clone(&gate);
    let mut options = Options::new(move |_| closed.pass());
    options.images = None;
    let served = serve_broker(Arc::new(Broker::new(Vec::new(), options)), 8);
    let (last, others) = served.ends.split_last().expect("channels");
    for socket in others {
        ask(socket, 1, Request::Log { text: b"" });
        gate.wait_for_another();
    }
    ask(last, 2, Request::Epoll);
    assert_eq!(hear(last).0.sequence, 2);
    gate.open();
    for socket in others {
        assert_eq!(hear(socket).0.sequence, 1);
    }
    served.finish();
}

/// Holds up whoever comes until it is opened.
#[derive(Default)]
struct Gate {
    /// How many came that nobody has asked for, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().expect("gate");
        state.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.1).expect("gate"));
    }

    fn wait_for_another(&self) {
        let state = self.state.lock().expect("gate");
        let patience = std::time::Duration::from_secs(20);
        let (mut state, _) = self.changed.wait_timeout_while(state, patience, |state| state.0 == 0).expect("gate");
        assert_ne!(state.0, 0, "nobody came");
        state.0 -= 1;
    }

    fn open(&self) {
        self.state.lock().expect("gate").1 = true;
        self.changed.notify_all();
    }
}

#[test]
fn eight_channels_at_once_get_their_own_answers() {
    let fixture = Fixture::new();
    for number in 0..8 {
        std::fs::write(fixture.path(&format!("f{number}")), vec![0; number]).expect("write");
    }
    let served = serve(&fixture, 8);
    std::thread::scope(|scope| {
        for (number, socket) in served.ends.iter().enumerate() {
            scope.spawn(move || stress(socket, number));
        }
    });
    served.finish();
}

fn stress(socket: &OwnedFd, number: usize) {
    let path = format!("f{number}");
    for sequence in 0..500 {
        ask(
            socket,
            sequence,
            Request::Open { export: 0, file: FileAt::any(path.as_bytes()), writable: false, beside: vec![] },
        );
        let (reply, file) = hear(socket);
        assert_eq!(reply.sequence, sequence);
        let Reply::Opened { attributes, .. } = reply.body else { panic!("{reply:?}") };
        assert_eq!((attributes.size, file.is_some()), (u64::try_from(number).expect("small"), true));
    }
}
