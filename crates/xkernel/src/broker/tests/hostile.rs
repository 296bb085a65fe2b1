//! What a container must not reach, whatever it sends.

use super::Fixture;
use super::files::assert_not_opened_beside;
use crate::broker::{Broker, BrokerError, Control, Export, Options};
use abi::broker::{
    Attributes, Change, Envelope, FileAt, MAX_REQUEST, NewNode, Reply, Request, StartStep, XattrOperation,
};
use abi::stats::Stats;
use proptest::prelude::{any, prop};
use proptest::proptest;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Every request that carries a path, with this one.
fn requests(path: &[u8]) -> Vec<Request<'_>> {
    let export = 0;
    vec![
        Request::Walk { export, from: b"", path },
        Request::Walk { export, from: path, path: b"a" },
        Request::ReadDir { export, path, from: 0, attributes: true, open: 0 },
        Request::Open { export, file: FileAt::any(path), writable: false, beside: vec![] },
        Request::Open { export, file: FileAt::any(path), writable: true, beside: vec![] },
        Request::Create { export, path, kind: NewNode::File, mode: 0, owner: (0, 0) },
        Request::Remove { export, path, directory: false },
        Request::Rename { export, from: path, to: b"new", flags: 0 },
        Request::Rename { export, from: b"file", to: path, flags: 0 },
        Request::Link { export, from: FileAt::any(path), to: b"new" },
        Request::Link { export, from: FileAt::any(b"file"), to: path },
        Request::SetAttributes {
            export,
            file: FileAt::any(path),
            change: Change { mode: Some(0), ..Change::default() },
        },
        Request::Xattr { export, file: FileAt::any(path), operation: XattrOperation::List },
        Request::Sync { export, file: FileAt::any(path) },
        Request::Allocate { export, file: FileAt::any(path), mode: 0, offset: 0, len: 1 },
        Request::Image { export, file: FileAt::any(path) },
    ]
}

#[test]
fn names_that_lead_out_are_refused_by_every_request() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("dir")).expect("mkdir");
    for path in ["..", "../x", "dir/../../x", ".", "/etc/passwd", "dir//x", "dir/", "file\0", "dir/./x"] {
        assert_not_opened_beside(&fixture, path);
        for request in requests(path.as_bytes()) {
            let description = format!("{request:?}");
            assert_eq!(fixture.errno(request), libc::EINVAL, "{description}");
        }
    }
}

#[test]
fn links_on_the_way_are_refused_by_every_request() {
    let fixture = Fixture::new();
    let outside = tempfile::tempdir().expect("outside");
    std::fs::write(outside.path().join("secret"), b"secret").expect("secret");
    symlink(outside.path(), fixture.path("out")).expect("symlink");
    symlink("/proc/self/root", fixture.path("magic")).expect("symlink");
    for path in ["out", "magic", "out/secret", "magic/etc"] {
        assert_not_opened_beside(&fixture, path);
    }
    for path in ["out/secret", "magic/etc"] {
        for request in requests(path.as_bytes()) {
            let description = format!("{request:?}");
            match fixture.ask(request) {
                (Reply::Failed(libc::ELOOP | libc::ENOTDIR), None) => {}
                // Walk reports the link itself and stops there.
                (Reply::Nodes(nodes), None) => assert_eq!(nodes.len(), 1),
                other => panic!("{description}: {other:?}"),
            }
        }
    }
    assert_eq!(std::fs::read(outside.path().join("secret")).expect("read"), b"secret");
}

#[test]
fn file_systems_that_act_are_no_exports() {
    for path in ["/proc", "/proc/self", "/sys", "/dev", "/dev/pts"] {
        if Path::new(path).exists() {
            let result = Export::open(Path::new(path), true);
            assert!(matches!(result, Err(BrokerError::Forbidden { .. })), "{path}: {result:?}");
        }
    }
    assert!(matches!(Export::open(Path::new("/dev/null"), true), Err(BrokerError::Kind { .. })));
    assert!(matches!(Export::open(Path::new("/no/such/thing"), true), Err(BrokerError::Open { .. })));
}

#[test]
fn other_mounts_below_an_export_are_empty_directories() {
    // The root has /proc mounted wherever these tests run; no mount of our own is needed.
    let root = Export::open(Path::new("/"), true).expect("root");
    let broker = Broker::new(vec![root], Options::new(|_| {}));
    let ask = |body| {
        let bytes = abi::encode(&Envelope { runs_on: 0, sequence: 1, body }).expect("encode");
        let answer = broker.answer(&bytes).expect("answer");
        abi::decode::<Envelope<Reply>>(&answer.bytes).expect("decode").body
    };
    let Reply::Nodes(nodes) = ask(Request::Walk { export: 0, from: b"", path: b"proc/self/status" }) else {
        panic!("no nodes")
    };
    assert_eq!(nodes.len(), 1);
    let entries = ask(Request::ReadDir { export: 0, path: b"proc", from: 0, attributes: true, open: 0 });
    assert_eq!(
        entries,
        Reply::Entries { directory: Attributes::default(), entries: Vec::new(), more: false, opened: Vec::new() }
    );
    for request in [
        Request::ReadDir { export: 0, path: b"proc/sys", from: 0, attributes: true, open: 0 },
        Request::Open { export: 0, file: FileAt::any(b"proc/version"), writable: false, beside: vec![] },
        Request::Walk { export: 0, from: b"proc", path: b"version" },
        Request::Open { export: 0, file: FileAt::any(b"dev/null"), writable: false, beside: vec![] },
    ] {
        let reply = ask(request);
        assert_eq!(reply, Reply::Failed(libc::EXDEV));
    }
}

/// Runs this test's second half in a mount namespace of its own, where it may mount.
#[test]
fn a_directory_mounted_below_an_export_is_never_entered() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can mount");
        return;
    }
    let fixture = Fixture::new();
    for name in ["mounted", "other"] {
        std::fs::create_dir(fixture.path(name)).expect("mkdir");
    }
    std::fs::write(fixture.path("other/secret"), b"").expect("write");
    std::fs::write(fixture.path("covered"), b"").expect("write");
    let script = r#"mount --bind "$1/other" "$1/mounted" && mount --bind "$1/other/secret" "$1/covered" &&
        XC_TEST_EXPORT="$1" exec "$0" --exact --ignored --nocapture broker::tests::hostile::inside_the_namespace"#;
    let program = std::env::current_exe().expect("own path");
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .args([program.as_os_str(), fixture.directory.path().as_os_str()])
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
        }
        Err(error) => eprintln!("skipped: no unshare: {error}"),
    }
}

#[test]
#[ignore = "started by a_directory_mounted_below_an_export_is_never_entered"]
fn inside_the_namespace() {
    let directory = std::env::var("XC_TEST_EXPORT").expect("started by the other test");
    let export = Export::open(Path::new(&directory), false).expect("export");
    let broker = Broker::new(vec![export], Options::new(|_| {}));
    let ask = |body| {
        let bytes = abi::encode(&Envelope { runs_on: 0, sequence: 1, body }).expect("encode");
        let answer = broker.answer(&bytes).expect("answer");
        assert!(answer.descriptors.is_empty());
        abi::decode::<Envelope<Reply>>(&answer.bytes).expect("decode").body
    };
    for request in requests(b"mounted/secret") {
        match ask(request.clone()) {
            Reply::Failed(libc::EXDEV) => {}
            Reply::Nodes(nodes) => assert_eq!(nodes.len(), 1),
            other => panic!("{request:?}: {other:?}"),
        }
    }
    let entries = ask(Request::ReadDir { export: 0, path: b"mounted", from: 0, attributes: true, open: 0 });
    assert_eq!(
        entries,
        Reply::Entries { directory: Attributes::default(), entries: Vec::new(), more: false, opened: Vec::new() }
    );
    for path in [&b"mounted"[..], b"covered"] {
        for request in requests(path) {
            let reply = ask(request.clone());
            let is_refused = matches!(reply, Reply::Failed(libc::EXDEV | libc::EBUSY | libc::EEXIST | libc::EISDIR));
            let is_shown = matches!(reply, Reply::Nodes(_) | Reply::Entries { .. });
            assert!(is_refused || is_shown, "{request:?}: {reply:?}");
        }
    }
}

#[test]
fn malformed_messages_are_answered_with_a_protocol_error() {
    let fixture = Fixture::new();
    let valid = abi::encode(&Envelope {
        runs_on: 0,
        sequence: 300,
        body: Request::Walk { export: 0, from: b"", path: b"file" },
    })
    .expect("encode");
    for len in 0..valid.len() {
        let answer = fixture.broker.answer(&valid[..len]).expect("answer");
        let envelope: Envelope<Reply> = abi::decode(&answer.bytes).expect("decode");
        assert_eq!((envelope.sequence, envelope.body), (0, Reply::Failed(libc::EPROTO)));
    }
    assert!(fixture.broker.answer(&[0; MAX_REQUEST + 1]).is_some());
}

#[test]
fn control_messages_reach_the_supervisor_and_have_no_answer() {
    let fixture = Fixture::new();
    let messages = [
        (Request::Exit { status: 9, stats: Stats::default() }, Control::Exit { status: 9, stats: Box::default() }),
        (
            Request::StartFailed { step: StartStep::Program, errno: 2, what: b"x" },
            Control::StartFailed { step: StartStep::Program, errno: 2, what: b"x".to_vec() },
        ),
        (Request::Quiesced { threads: 3 }, Control::Quiesced { threads: 3 }),
    ];
    for (request, expected) in messages {
        let bytes = abi::encode(&Envelope { runs_on: 0, sequence: 1, body: request }).expect("encode");
        assert!(fixture.broker.answer(&bytes).is_none());
        assert_eq!(fixture.control.lock().expect("control").pop(), Some(expected));
    }
    assert_eq!(fixture.errno(Request::Log { text: b"line\n" }), 0);
    assert_eq!(fixture.control.lock().expect("control").pop(), Some(Control::Log(b"line\n".to_vec())));
}

#[test]
fn memory_is_bounded_and_sealed() {
    let fixture = Fixture::new();
    let (reply, file) = fixture.ask(Request::Memory { size: 1 << 20 });
    let Reply::Memory { id } = reply else { panic!("{reply:?}") };
    let file = file.expect("memfd");
    assert!(rustix::fs::fcntl_add_seals(&*file, rustix::fs::SealFlags::WRITE).is_err());
    assert_eq!(rustix::fs::fstat(&*file).expect("stat").st_size, 1 << 20);
    assert_eq!(fixture.errno(Request::Memory { size: 1 }), libc::ENOMEM);
    assert_eq!(fixture.errno(Request::Memory { size: u64::MAX }), libc::ENOMEM);
    assert_eq!(fixture.errno(Request::ResizeMemory { id, size: 1 << 21 }), libc::ENOMEM);
    assert_eq!(fixture.errno(Request::ResizeMemory { id, size: 4096 }), 0);
    assert_eq!(rustix::fs::fstat(&*file).expect("stat").st_size, 4096);
    assert_eq!(fixture.errno(Request::ResizeMemory { id: id + 1, size: 0 }), libc::EBADF);
    assert_eq!(fixture.errno(Request::DropMemory { id }), 0);
    assert_eq!(fixture.errno(Request::DropMemory { id }), libc::EBADF);
    for _ in 0..4096 {
        assert!(matches!(fixture.ask(Request::Memory { size: 0 }).0, Reply::Memory { .. }));
    }
    assert_eq!(fixture.errno(Request::Memory { size: 0 }), libc::ENFILE);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let broker = Broker::new(Vec::new(), Options::new(|_| {}));
        let _ = broker.answer(&bytes);
    }

    #[test]
    fn random_paths_never_leave(path in "[a./\\x00]{0,12}") {
        let fixture = Fixture::new();
        let (reply, file) = fixture.ask(Request::Open { export: 1, file: FileAt::any(path.as_bytes()), writable: false, beside: vec![] });
        assert!(matches!(reply, Reply::Failed(_)) && file.is_none());
    }
}
