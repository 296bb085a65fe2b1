//! The broker asked by the guest itself.

use crate::gadget::{CLOSE, Libos, RECVMSG, SENDTO};
use crate::random::Random;
use abi::boot::{BROKER_CHANNELS, BROKER_FD};
use abi::broker::{
    Change, Envelope, FileAt, MAX_REPLY, MAX_REQUEST, NewNode, REQUEST_KINDS, Reply, Request, StartStep, XattrOperation,
};
use abi::stats::{Stats, TrappedSite};

/// A channel that the LibOS does not use while one guest thread runs: it takes the first free one, and asks ahead on the last.
const CHANNEL: u64 = (BROKER_FD + BROKER_CHANNELS / 2) as u64;
const DONTWAIT: u64 = 0x40;

fn send(libos: &Libos, channel: u64, bytes: &[u8], flags: u64) -> i64 {
    libos.host(SENDTO, &[channel, bytes.as_ptr() as u64, bytes.len() as u64, flags])
}

/// The next reply, and the descriptor with it.
fn receive(libos: &Libos, channel: u64) -> (Vec<u8>, Option<u64>) {
    let mut bytes = vec![0u8; MAX_REPLY];
    let part = [bytes.as_mut_ptr() as u64, bytes.len() as u64];
    let mut control = [0u64; 4];
    let message = [0, 0, part.as_ptr() as u64, 1, control.as_mut_ptr() as u64, 32, 0];
    let len = libos.host(RECVMSG, &[channel, message.as_ptr() as u64, 0]);
    assert!(len >= 0, "recvmsg: {len}");
    bytes.truncate(usize::try_from(len).unwrap());
    // struct cmsghdr: length, level and type, then the descriptor. The host wrote them.
    // SAFETY: an array of this function's.
    let control = unsafe { std::ptr::read_volatile(&raw const control) };
    (bytes, (control[0] > 16).then_some(control[2] & 0xffff_ffff))
}

fn ask(libos: &Libos, body: &Request<'_>) -> (Reply, Option<u64>) {
    let bytes = abi::encode(&Envelope { runs_on: 0, sequence: 7, body }).expect("a request");
    assert_eq!(send(libos, CHANNEL, &bytes, 0), bytes.len() as i64);
    let (bytes, descriptor) = receive(libos, CHANNEL);
    let reply: Envelope<Reply> = abi::decode(&bytes).expect("a reply");
    assert_eq!(reply.sequence, 7);
    (reply.body, descriptor)
}

/// Every request that carries a path, with this one; names that the harness looks for afterwards are `made`.
fn requests(export: u16, path: &[u8]) -> Vec<Request<'_>> {
    let change = Change { mode: Some(0o777), size: Some(0), ..Change::default() };
    let owner = (0, 0);
    vec![
        Request::Walk { export, from: b"", path },
        Request::Walk { export, from: path, path: b"etc" },
        Request::ReadDir { export, path, from: 0, attributes: true, open: 0 },
        Request::Open { export, file: FileAt::any(path), writable: false, beside: vec![] },
        Request::Open { export, file: FileAt::any(path), writable: true, beside: vec![] },
        Request::Create { export, path, kind: NewNode::File, mode: 0o666, owner },
        Request::Create { export, path, kind: NewNode::Symlink(b"/"), mode: 0, owner },
        Request::Rename { export, from: path, to: b"made", flags: 0 },
        Request::Link { export, from: FileAt::any(path), to: b"made" },
        Request::SetAttributes { export, file: FileAt::any(path), change },
        Request::Xattr { export, file: FileAt::any(path), operation: XattrOperation::Set(b"user.made", b"", 0) },
        Request::Sync { export, file: FileAt::any(path) },
        Request::Allocate { export, file: FileAt::any(path), mode: 0, offset: 0, len: 1 << 20 },
        Request::Image { export, file: FileAt::any(path) },
        Request::Remove { export, path, directory: true },
    ]
}

/// Whether an answer shows no more than the node of the name itself.
fn is_refusal(reply: &Reply, descriptor: Option<u64>) -> bool {
    let harmless = match reply {
        Reply::Failed(_) => true,
        Reply::Nodes(nodes) => nodes.len() <= 1,
        // A mount below the export, shown as the empty directory that lies under it.
        Reply::Entries { entries, more, .. } => entries.is_empty() && !more,
        _ => false,
    };
    harmless && descriptor.is_none()
}

/// Requests that open what a name stands for.
fn openings(export: u16, path: &[u8]) -> Vec<Request<'_>> {
    vec![
        Request::Open { export, file: FileAt::any(path), writable: false, beside: vec![] },
        Request::Open { export, file: FileAt::any(path), writable: true, beside: vec![] },
        Request::ReadDir { export, path, from: 0, attributes: true, open: 0 },
        Request::Walk { export, from: path, path: b"secret" },
        Request::SetAttributes {
            export,
            file: FileAt::any(path),
            change: Change { size: Some(0), ..Change::default() },
        },
        Request::Allocate { export, file: FileAt::any(path), mode: 0, offset: 0, len: 1 << 20 },
        Request::Sync { export, file: FileAt::any(path) },
        Request::Image { export, file: FileAt::any(path) },
    ]
}

/// Names that lead out of an export, or to what acts when it is opened. The harness gives such names in its
/// volume: those that lead out, `--`, and those of links, FIFOs, devices and mounts themselves.
pub(crate) fn names(libos: &Libos, words: &[String]) {
    let volume = find_volume(libos);
    let everywhere = ["..", "../etc/passwd", "a/../..", ".", "./a", "/etc/passwd", "a//b", "a/", "a\0b", "a/./b"];
    let long = "a/".repeat(5000) + "a";
    let refused = |request: Request<'_>| {
        let (reply, descriptor) = ask(libos, &request);
        assert!(is_refusal(&reply, descriptor), "{request:?}: {reply:?} {descriptor:?}");
    };
    let (leading_out, acting) = words.split_at(words.iter().position(|word| word == "--").expect("--"));
    for path in everywhere.iter().copied().chain([long.as_str()]).chain(leading_out.iter().map(String::as_str)) {
        requests(volume, path.as_bytes()).into_iter().for_each(refused);
    }
    for path in &acting[1..] {
        openings(volume, path.as_bytes()).into_iter().for_each(refused);
    }
    for path in words.iter().map(String::as_str).chain(everywhere).chain([long.as_str()]) {
        assert_not_opened_beside(libos, volume, path.as_bytes());
    }
    // The host's root, read-only: its mounts of /proc, /sys and /dev are other file systems.
    for path in ["proc/self/root", "proc/1/root/etc", "proc/version", "sys/kernel", "dev/null", "dev/kmsg", "dev/tty"] {
        requests(0, path.as_bytes()).into_iter().for_each(refused);
    }
    // Read-only exports refuse every change.
    let change = Change { mode: Some(0o777), ..Change::default() };
    for request in [
        Request::Open { export: 0, file: FileAt::any(b"etc/passwd"), writable: true, beside: vec![] },
        Request::Create { export: 0, path: b"tmp/made", kind: NewNode::File, mode: 0o666, owner: (0, 0) },
        Request::Remove { export: 0, path: b"etc/passwd", directory: false },
        Request::SetAttributes { export: 0, file: FileAt::any(b"etc/passwd"), change },
    ] {
        refused(request);
    }
    // No such exports.
    for export in [volume + 1, 1000, u16::MAX] {
        requests(export, b"plain").into_iter().for_each(refused);
    }
}

/// A name is no file that can be asked for in advance.
fn assert_not_opened_beside(libos: &Libos, volume: u16, name: &[u8]) {
    let request = Request::Open { export: volume, file: FileAt::any(b"plain"), writable: false, beside: vec![name] };
    let (reply, descriptor) = ask(libos, &request);
    descriptor.inspect(|fd| assert_eq!(libos.host(CLOSE, &[*fd]), 0));
    assert!(matches!(&reply, Reply::Opened { beside, .. } if beside.is_empty()), "{name:?}: {reply:?}");
}

/// The export that holds the harness's volume: the last one. A file in it opens, so that the rest means something.
fn find_volume(libos: &Libos) -> u16 {
    let opens = |export: &u16| {
        let (reply, descriptor) =
            ask(libos, &Request::Open { export: *export, file: FileAt::any(b"plain"), writable: true, beside: vec![] });
        descriptor.inspect(|fd| assert_eq!(libos.host(CLOSE, &[*fd]), 0));
        matches!(reply, Reply::Opened { .. }) && descriptor.is_some()
    };
    (0..64).find(opens).expect("a volume with a file `plain`")
}

/// Messages that are none: cut, random, too long, and requests with absurd figures.
pub(crate) fn forged(libos: &Libos, _: &[String]) {
    let whole = abi::encode(&Envelope {
        runs_on: 0,
        sequence: 7,
        body: Request::Walk { export: 0, from: b"", path: b"etc/passwd" },
    })
    .expect("a request");
    let mut messages: Vec<Vec<u8>> = (1..whole.len()).map(|len| whole[..len].to_vec()).collect();
    let mut random = Random::new(1);
    for len in 1..300 {
        let mut bytes: Vec<u8> = (0..len).map(|_| random.next().to_le_bytes()[0]).collect();
        // A valid sequence number, processor and kind, a byte each, so that the fields behind are what is wrong; none that ends us, or
        // that has no answer.
        bytes[0] = 7;
        if let Some(processor) = bytes.get_mut(1) {
            *processor &= 0x7f;
        }
        if let Some(kind) = bytes.get_mut(2) {
            *kind %= u8::try_from(REQUEST_KINDS - 4).unwrap();
        }
        messages.push(bytes);
    }
    for len in [MAX_REQUEST, MAX_REQUEST + 1, MAX_REQUEST * 4] {
        messages.push(vec![0xff; len]);
    }
    for message in messages {
        let sent = send(libos, CHANNEL, &message, 0);
        assert_eq!(sent, message.len() as i64);
        let (bytes, descriptor) = receive(libos, CHANNEL);
        abi::decode::<Envelope<Reply>>(&bytes).expect("a reply");
        descriptor.inspect(|fd| assert_eq!(libos.host(CLOSE, &[*fd]), 0));
    }
    absurd_figures(libos);
    // Controls that the supervisor shows on a terminal, as it may not.
    let text = b"\x1b[2J\x07lines\n".repeat(1000);
    assert_eq!(ask(libos, &Request::Log { text: &text }).0, Reply::Done);
}

fn absurd_figures(libos: &Libos) {
    for size in [u64::MAX, 1 << 63, 1 << 50] {
        assert!(matches!(ask(libos, &Request::Memory { size }).0, Reply::Failed(_)), "{size:#x}");
    }
    for id in [0, 1, u32::MAX] {
        assert!(matches!(ask(libos, &Request::ResizeMemory { id, size: u64::MAX }).0, Reply::Failed(_)));
    }
    let path = b"etc";
    for from in [u32::MAX, u32::MAX - 1] {
        let (reply, _) = ask(libos, &Request::ReadDir { export: 0, path, from, attributes: true, open: 0 });
        assert!(matches!(&reply, Reply::Entries { entries, .. } if entries.is_empty()), "{reply:?}");
    }
}

/// More requests than anybody answers, on every channel, replies left unread; then memory files without end.
pub(crate) fn flood(libos: &Libos, _: &[String]) {
    let encode = |body: Request<'_>| abi::encode(&Envelope { runs_on: 0, sequence: 7, body }).expect("a request");
    let listing = encode(Request::ReadDir { export: 0, path: b"usr/bin", from: 0, attributes: true, open: 0 });
    let memory = encode(Request::Memory { size: 4096 });
    let epoll = encode(Request::Epoll);
    let log = encode(Request::Log { text: &[b'x'; 8000] });
    for message in [&listing, &memory, &epoll, &log] {
        for _ in 0..1000 {
            for channel in channels() {
                send(libos, channel, message, DONTWAIT);
            }
        }
    }
    channels().for_each(|channel| drain(libos, channel));
    // More memory files than one container may have.
    let failed = (0..5000).filter(|_| {
        let (reply, descriptor) = ask(libos, &Request::Memory { size: 0 });
        descriptor.inspect(|fd| assert_eq!(libos.host(CLOSE, &[*fd]), 0));
        matches!(reply, Reply::Failed(_))
    });
    assert!(failed.count() > 0);
}

fn channels() -> impl Iterator<Item = u64> {
    (BROKER_FD..BROKER_FD + BROKER_CHANNELS).map(|channel| u64::from(channel.unsigned_abs()))
}

/// Takes every reply that is due on a channel.
fn drain(libos: &Libos, channel: u64) {
    let last =
        abi::encode(&Envelope { runs_on: 0, sequence: 8, body: Request::Space { export: 0 } }).expect("a request");
    // Refused while the channel is full: then a reply waits to be taken.
    let mut sent = false;
    loop {
        sent = sent || send(libos, channel, &last, DONTWAIT) > 0;
        let (bytes, descriptor) = receive(libos, channel);
        descriptor.inspect(|fd| assert_eq!(libos.host(CLOSE, &[*fd]), 0));
        if abi::decode::<Envelope<Reply>>(&bytes).expect("a reply").sequence == 8 {
            return;
        }
    }
}

/// Empty messages, which close their channel, on all of them.
pub(crate) fn empty(libos: &Libos, _: &[String]) {
    for channel in BROKER_FD..BROKER_FD + BROKER_CHANNELS {
        send(libos, u64::from(channel.unsigned_abs()), b"", 0);
    }
    std::process::exit(3);
}

/// The end of the container told by the guest itself, with a status that wait4(2) never gives and a false report.
pub(crate) fn exit_status(libos: &Libos, words: &[String]) {
    let status: i32 = words[0].parse().expect("a status");
    let many = vec![(u16::MAX, u64::MAX); 350];
    let site = TrappedSite {
        file: b"\x1b[2J\0".to_vec(),
        origin: Some((0, b"../usr/bin/env".to_vec())),
        offset: u64::MAX,
        bytes: vec![0; 40],
        count: u64::MAX,
    };
    let stats = Stats {
        jumps: u64::MAX,
        traps: u64::MAX,
        host_calls: many.clone(),
        host_calls_by_guest: vec![(u16::MAX, 0, u64::MAX); 100],
        guest_calls: many,
        broker_requests: vec![(u8::MAX, u64::MAX, u64::MAX); 100],
        trapped_sites: vec![site; 16],
        ..Stats::default()
    };
    let message = match words.get(1) {
        None => Request::Exit { status, stats },
        Some(_) => Request::StartFailed { step: StartStep::Program, errno: status, what: b"\x1b[2J\x1b]0;made\x07" },
    };
    let bytes = abi::encode(&Envelope { runs_on: 0, sequence: 0, body: message }).expect("a request");
    assert!(bytes.len() <= MAX_REQUEST, "{} bytes: the broker looks at none of them", bytes.len());
    send(libos, CHANNEL, &bytes, 0);
    loop {
        std::thread::park();
    }
}
