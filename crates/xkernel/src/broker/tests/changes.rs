//! Create, Remove, Rename, Link, SetAttributes, Xattr, Sync, Allocate.

use super::Fixture;
use abi::broker::{Change, FileAt, NewNode, Reply, Request, Time, XattrOperation};
use rustix::fs::FileType;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::sync::Arc;

fn owner() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn create<'a>(path: &'a str, kind: NewNode<'a>, mode: u32) -> Request<'a> {
    Request::Create { export: 0, path: path.as_bytes(), kind, mode, owner: owner() }
}

#[test]
fn create_makes_every_kind_whatever_the_umask() {
    let fixture = Fixture::new();
    for (name, kind, file_type) in [
        ("new", NewNode::File, FileType::RegularFile),
        ("dir", NewNode::Directory, FileType::Directory),
        ("fifo", NewNode::Fifo, FileType::Fifo),
        ("socket", NewNode::Socket, FileType::Socket),
    ] {
        let (reply, file) = fixture.ask(create(name, kind, 0o1777));
        let Reply::Node(attributes) = reply else { panic!("{reply:?}") };
        assert_eq!(attributes.mode, file_type.as_raw_mode() | 0o1777, "{name}");
        assert_eq!(file.is_some(), kind == NewNode::File);
        assert_eq!(fixture.errno(create(name, kind, 0o777)), libc::EEXIST);
    }
    let (reply, _) = fixture.ask(create("link", NewNode::Symlink(b"no/where"), 0o777));
    assert!(matches!(reply, Reply::Node(_)));
    assert_eq!(fixture.walk("", "link")[0].target, b"no/where");
}

#[test]
fn a_new_file_comes_with_a_handle_even_if_its_mode_forbids_all() {
    let fixture = Fixture::new();
    let (_, file) = fixture.ask(create("new", NewNode::File, 0));
    let file = Arc::into_inner(file.expect("handle")).expect("only owner");
    std::fs::File::from(file).write_all(b"data").expect("write");
    assert_eq!(fixture.attributes("new").size, 4);
}

#[test]
fn create_gives_nodes_to_their_owner() {
    let fixture = Fixture::new();
    let request = Request::Create { export: 0, path: b"x", kind: NewNode::File, mode: 0o4755, owner: (1234, 5678) };
    let Reply::Node(attributes) = fixture.ask(request).0 else { panic!("no node") };
    if owner().0 == 0 {
        assert_eq!((attributes.uid, attributes.gid, attributes.mode & 0o7777), (1234, 5678, 0o4755));
    } else {
        assert_eq!(attributes.uid, owner().0);
    }
    let request = Request::Create { export: 0, path: b"y", kind: NewNode::File, mode: 0, owner: (u32::MAX, u32::MAX) };
    assert_eq!(fixture.errno(request), libc::EINVAL);
    assert!(!fixture.path("y").exists());
}

#[test]
fn remove_rename_and_link_change_names() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("dir")).expect("mkdir");
    let remove = |path: &'static [u8], directory| fixture.errno(Request::Remove { export: 0, path, directory });
    let rename =
        |from: &'static [u8], to: &'static [u8], flags| fixture.errno(Request::Rename { export: 0, from, to, flags });
    assert_eq!(fixture.errno(Request::Link { export: 0, from: FileAt::any(b"file"), to: b"dir/second" }), 0);
    assert_eq!(fixture.attributes("dir/second").links, 2);
    assert_eq!(rename(b"dir/second", b"third", 0), 0);
    assert_eq!(rename(b"third", b"file", 1), libc::EEXIST);
    assert_eq!(rename(b"third", b"dir", 2), 0);
    assert_eq!(rename(b"third", b"file", 4), libc::EINVAL);
    assert_eq!(remove(b"third", false), libc::EISDIR);
    assert_eq!(remove(b"third", true), 0);
    assert_eq!(remove(b"dir", true), libc::ENOTDIR);
    assert_eq!(remove(b"dir", false), 0);
    assert_eq!(remove(b"dir", false), libc::ENOENT);
    assert_eq!(remove(b"", true), libc::EBUSY);
}

#[test]
fn links_are_never_followed_by_changes() {
    let fixture = Fixture::new();
    let outside = tempfile::NamedTempFile::new().expect("outside");
    symlink(outside.path(), fixture.path("link")).expect("symlink");
    let before = std::fs::metadata(outside.path()).expect("stat");
    let change = Change { mtime: Some(Time { sec: 5, nsec: 6 }), uid: Some(owner().0), ..Change::default() };
    let Reply::Node(attributes) =
        fixture.ask(Request::SetAttributes { export: 0, file: FileAt::any(b"link"), change }).0
    else {
        panic!("no node")
    };
    assert_eq!(attributes.mtime, Time { sec: 5, nsec: 6 });
    for change in [Change { mode: Some(0o7777), ..Change::default() }, Change { size: Some(0), ..Change::default() }] {
        assert_ne!(fixture.errno(Request::SetAttributes { export: 0, file: FileAt::any(b"link"), change }), 0);
    }
    assert_eq!(fixture.errno(Request::Remove { export: 0, path: b"link", directory: false }), 0);
    let after = std::fs::metadata(outside.path()).expect("stat");
    assert_eq!((before.mtime(), before.ctime_nsec(), before.mode()), (after.mtime(), after.ctime_nsec(), after.mode()));
}

#[test]
fn set_attributes_changes_what_is_some() {
    let fixture = Fixture::new();
    let set = |path: &'static [u8], change| {
        fixture.ask(Request::SetAttributes { export: 0, file: FileAt::any(path), change }).0
    };
    let change =
        Change { mode: Some(0o604), size: Some(3), atime: Some(Time { sec: -1, nsec: 9 }), ..Change::default() };
    let Reply::Node(attributes) = set(b"file", change) else { panic!("no node") };
    assert_eq!((attributes.mode & 0o7777, attributes.size, attributes.atime.sec), (0o604, 3, -1));
    let late = Change { mtime: Some(Time { sec: 0, nsec: 1_000_000_000 }), ..Change::default() };
    assert_eq!(set(b"file", late), Reply::Failed(libc::EINVAL));
    let nobody = Change { uid: Some(u32::MAX), ..Change::default() };
    assert_eq!(set(b"file", nobody), Reply::Failed(libc::EINVAL));
    let huge = Change { size: Some(u64::MAX), ..Change::default() };
    assert!(matches!(set(b"file", huge), Reply::Failed(_)));
    assert!(matches!(set(b"", Change { mode: Some(0o700), ..Change::default() }), Reply::Node(_)));
}

#[test]
fn a_read_only_export_stays_as_it_is() {
    let fixture = Fixture::new();
    let owner = owner();
    for request in [
        Request::Create { export: 1, path: b"x", kind: NewNode::File, mode: 0, owner },
        Request::Remove { export: 1, path: b"file", directory: false },
        Request::Rename { export: 1, from: b"file", to: b"x", flags: 0 },
        Request::Link { export: 1, from: FileAt::any(b"file"), to: b"x" },
        Request::SetAttributes { export: 1, file: FileAt::any(b"file"), change: Change::default() },
        Request::Xattr { export: 1, file: FileAt::any(b"file"), operation: XattrOperation::Set(b"user.a", b"", 0) },
        Request::Xattr { export: 1, file: FileAt::any(b"file"), operation: XattrOperation::Remove(b"user.a") },
        Request::Allocate { export: 1, file: FileAt::any(b"file"), mode: 0, offset: 0, len: 1 },
    ] {
        assert_eq!(fixture.errno(request), libc::EROFS);
    }
}

#[test]
fn extended_attributes_of_the_user_alone_can_change() {
    let fixture = Fixture::new();
    let xattr = |operation| fixture.ask(Request::Xattr { export: 0, file: FileAt::any(b"file"), operation }).0;
    if xattr(XattrOperation::Set(b"user.a", b"1", 0)) == Reply::Failed(libc::EOPNOTSUPP) {
        eprintln!("skipped: no extended attributes here");
        return;
    }
    assert_eq!(xattr(XattrOperation::Get(b"user.a")), Reply::Bytes(b"1".to_vec()));
    assert_eq!(xattr(XattrOperation::Set(b"user.a", b"2", 1)), Reply::Failed(libc::EEXIST));
    assert_eq!(xattr(XattrOperation::Set(b"user.a", b"2", 8)), Reply::Failed(libc::EINVAL));
    assert_eq!(xattr(XattrOperation::List), Reply::Bytes(b"user.a\0".to_vec()));
    assert_eq!(xattr(XattrOperation::Remove(b"user.a")), Reply::Done);
    assert_eq!(xattr(XattrOperation::Get(b"user.a")), Reply::Failed(libc::ENODATA));
    for name in [&b"security.capability"[..], b"trusted.overlay.opaque", b"security.selinux", b"bad"] {
        assert_eq!(xattr(XattrOperation::Set(name, b"", 0)), Reply::Failed(libc::EPERM));
    }
    assert_eq!(xattr(XattrOperation::Get(b"user.a\0b")), Reply::Failed(libc::EINVAL));
    assert_eq!(xattr(XattrOperation::Get(b"")), Reply::Failed(libc::ERANGE));
}

#[test]
fn allocate_and_sync_reach_the_file() {
    let fixture = Fixture::new();
    let allocate = |mode, offset, len| {
        fixture.errno(Request::Allocate { export: 0, file: FileAt::any(b"file"), mode, offset, len })
    };
    match allocate(0, 0, 5000) {
        0 => assert_eq!(fixture.attributes("file").size, 5000),
        errno => assert_eq!(errno, libc::EOPNOTSUPP),
    }
    assert_eq!(allocate(0x80, 0, 1), libc::EOPNOTSUPP);
    assert_eq!(allocate(0, 0, 0), libc::EINVAL);
    assert_eq!(allocate(0, u64::MAX, u64::MAX), libc::EINVAL);
    for path in [&b"file"[..], b""] {
        assert_eq!(fixture.errno(Request::Sync { export: 0, file: FileAt::any(path) }), 0);
    }
}

#[test]
fn a_request_for_one_file_does_nothing_to_another_of_its_name() {
    let fixture = Fixture::new();
    let inode = fixture.attributes("file").inode;
    let file = FileAt { path: b"file", inode: inode + 1 };
    let (export, change) = (0, Change { mode: Some(0), size: Some(0), ..Change::default() });
    let before = fixture.attributes("file");
    for request in [
        Request::Open { export, file, writable: false, beside: vec![] },
        Request::Open { export, file, writable: true, beside: vec![] },
        Request::Link { export, from: file, to: b"second" },
        Request::SetAttributes { export, file, change },
        Request::Xattr { export, file, operation: XattrOperation::List },
        Request::Xattr { export, file, operation: XattrOperation::Set(b"user.a", b"", 0) },
        Request::Sync { export, file },
        Request::Allocate { export, file, mode: 0, offset: 0, len: 1 << 20 },
        Request::Image { export, file },
    ] {
        assert_eq!(fixture.errno(request.clone()), libc::ESTALE, "{request:?}");
    }
    assert_eq!((fixture.attributes("file"), fixture.path("second").exists()), (before, false));
    let file = FileAt { inode, ..file };
    assert_eq!(fixture.errno(Request::Link { export, from: file, to: b"second" }), 0);
    assert!(matches!(fixture.ask(Request::SetAttributes { export, file, change }).0, Reply::Node(_)));
}
