//! The fuzzer's seeds on the stable compiler: each kind of request, cut and changed at every byte.

use super::Fixture;
use abi::broker::{
    Change, Envelope, FileAt, NewNode, REQUEST_KINDS, REQUEST_NAMES, Reply, Request, Time, XattrOperation,
};
use abi::stats::Stats;
use std::path::PathBuf;

/// One request of each kind, in the order of their tags.
fn every_request() -> [Request<'static>; REQUEST_KINDS] {
    let (export, path) = (0, &b"file"[..]);
    let time = Some(Time { sec: 1, nsec: 2 });
    let change = Change { mode: Some(0o644), size: Some(5), atime: time, mtime: time, ..Change::default() };
    [
        Request::Walk { export, from: b"", path: b"dir/name" },
        Request::ReadDir { export, path: b"", from: 0, attributes: true, open: 2 },
        Request::Open { export, file: FileAt::any(path), writable: true, beside: vec![b"file", b"dir"] },
        Request::Create { export, path: b"dir/link", kind: NewNode::Symlink(b"../file"), mode: 0o777, owner: (0, 0) },
        Request::Remove { export, path: b"dir/link", directory: false },
        Request::Rename { export, from: path, to: b"dir/name", flags: 1 },
        Request::Link { export, from: FileAt::any(path), to: b"dir/name" },
        Request::SetAttributes { export, file: FileAt::any(path), change },
        Request::Xattr { export, file: FileAt::any(path), operation: XattrOperation::Set(b"user.name", b"value", 1) },
        Request::Space { export },
        Request::Sync { export, file: FileAt::any(path) },
        Request::Allocate { export, file: FileAt::any(path), mode: 1, offset: 4096, len: 4096 },
        Request::Memory { size: 4096 },
        Request::ResizeMemory { id: 0, size: 8192 },
        Request::DropMemory { id: 0 },
        Request::Image { export, file: FileAt::any(path) },
        Request::MemoryImage { id: 0 },
        Request::Epoll,
        Request::Log { text: b"line\n" },
        Request::Exit { status: 256, stats: Stats { host_calls: vec![(1, 2)], ..Stats::default() } },
        Request::StartFailed { step: abi::broker::StartStep::Program, errno: 2, what: b"/no/such" },
        Request::Quiesced { threads: 3 },
    ]
}

fn seeds() -> Vec<(PathBuf, Vec<u8>)> {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/broker"));
    let encode = |body| abi::encode(&Envelope { runs_on: 0, sequence: 1, body }).expect("encode");
    let seeds = every_request().into_iter().zip(REQUEST_NAMES);
    seeds.map(|(request, name)| (directory.join(name), encode(request))).collect()
}

#[test]
fn every_kind_of_request_has_its_seed() {
    for (tag, (path, bytes)) in seeds().into_iter().enumerate() {
        // Behind the number and the processor, a byte each.
        assert_eq!(usize::from(bytes[2]), tag, "{path:?}");
        if std::env::var_os("XC_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(path.parent().expect("directory")).expect("mkdir");
            std::fs::write(&path, &bytes).expect("write");
        }
        assert_eq!(std::fs::read(&path).ok(), Some(bytes), "{path:?} is outdated: fuzz/README.md says how to write it");
    }
}

#[test]
fn prefixes_and_changed_bytes_of_the_corpus_are_answered() {
    let fixture = Fixture::new();
    let answer = |datagram: &[u8]| {
        if let Some(answer) = fixture.broker.answer(datagram) {
            abi::decode::<Envelope<Reply>>(&answer.bytes).expect("a reply");
        }
    };
    for (_, seed) in seeds() {
        for len in 0..seed.len() {
            answer(&seed[..len]);
        }
        for at in 0..seed.len() {
            for value in [0, 1, 2, b'.', b'/', 0x7f, 0x80, 0xff] {
                let mut changed = seed.clone();
                changed[at] = value;
                answer(&changed);
            }
        }
    }
    assert!(fixture.directory.path().is_dir());
}
