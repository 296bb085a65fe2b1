//! What is noted of the host's files where answers and changes of the container's own cross.

use super::{HostInode, Trust, open_export};
use crate::fs::broker::fake;
use crate::fs::inode::{Change, Inode, Stat};
use crate::{Errno, Result};
use abi::broker::{Attributes, Entry, Node, Reply, Request};
use machine::host::HostFd;
use std::os::fd::IntoRawFd as _;
use std::sync::{Arc, Mutex};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const ROOT: u64 = 1;
const INODE: u64 = 7;
const OTHER: u64 = 8;
const DIR: u64 = 2;

/// A directory with one file, as the host has it.
struct Host {
    size: u64,
    links: u32,
    /// Names that it has, each below the root.
    names: Vec<&'static [u8]>,
    /// Names of another file.
    others: Vec<&'static [u8]>,
    asked: u32,
    /// There is one, `dir`.
    has_directory: bool,
    /// Names by which the file's attributes were changed, or the other's.
    changed: Vec<Vec<u8>>,
}

impl Default for Host {
    fn default() -> Host {
        Host {
            size: 0,
            links: 1,
            names: vec![b"file"],
            others: Vec::new(),
            asked: 0,
            has_directory: true,
            changed: Vec::new(),
        }
    }
}

impl Host {
    fn node(&self, name: &[u8]) -> Option<Node> {
        let &Host { size, links, .. } = self;
        let inode = if self.others.contains(&name) { OTHER } else { INODE };
        let file = Attributes { inode, mode: FILE, links, size, ..Attributes::default() };
        let mut names = self.names.iter().chain(&self.others);
        names.any(|its| *its == name).then(|| Node { attributes: file, target: Vec::new() })
    }

    fn directory() -> Node {
        let attributes = Attributes { inode: DIR, ..Host::root().attributes };
        Node { attributes, target: Vec::new() }
    }

    fn root() -> Node {
        let attributes = Attributes { inode: ROOT, mode: DIRECTORY, links: 2, size: 4096, ..Attributes::default() };
        Node { attributes, target: Vec::new() }
    }

    fn walk(&self, from: &[u8], path: &[u8]) -> Result<Vec<Node>> {
        let is_directory = |path: &[u8]| path.is_empty() || path == b"dir" && self.has_directory;
        let node = |path: &[u8]| match is_directory(path) {
            true if path.is_empty() => Some(Host::root()),
            true => Some(Host::directory()),
            false => self.node(path),
        };
        if path.is_empty() {
            return Ok(vec![node(from).ok_or(Errno::ENOENT)?]);
        }
        if !is_directory(from) {
            return Err(Errno::ENOENT);
        }
        let mut at = from.to_vec();
        let mut nodes = Vec::new();
        for part in path.split(|&b| b == b'/') {
            if !is_directory(&at) {
                break;
            }
            at.extend(if at.is_empty() { &b""[..] } else { b"/" });
            at.extend(part);
            let Some(node) = node(&at) else { break };
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn answer(&mut self, request: &Request<'_>) -> Result<Reply> {
        self.asked += 1;
        match request {
            Request::Walk { from, path, .. } => self.walk(from, path).map(Reply::Nodes),
            Request::ReadDir { .. } => {
                let entry = |name: &&[u8]| Some(Entry { name: super::Name::from(*name), node: self.node(name)? });
                let entries = self.names.iter().chain(&self.others).filter_map(entry).collect();
                Ok(Reply::Entries { directory: Host::root().attributes, entries, more: false, opened: Vec::new() })
            }
            Request::SetAttributes { file, .. } => {
                let node = self.node(file.path).ok_or(Errno::ENOENT)?;
                if file.inode != 0 && node.attributes.inode != file.inode {
                    return Err(Errno::ESTALE);
                }
                self.changed.push(file.path.to_vec());
                Ok(Reply::Node(node.attributes))
            }
            Request::Link { .. } | Request::Remove { .. } | Request::Rename { .. } => Ok(Reply::Done),
            _ => Err(Errno::EIO),
        }
    }
}

fn at_hand(inode: &HostInode) -> Option<Stat> {
    let mut stat = Stat::default();
    inode.stat_at_hand(&mut stat).then_some(stat)
}

struct Fixture {
    host: Arc<Mutex<Host>>,
    root: Arc<HostInode>,
    file: Arc<HostInode>,
}

impl Fixture {
    /// The file is empty, and known.
    fn new() -> Fixture {
        Fixture::with(Trust { is_watched: true, is_mappable: true })
    }

    fn with(trust: Trust) -> Fixture {
        let host = Arc::new(Mutex::new(Host::default()));
        let answering = Arc::clone(&host);
        fake::set(move |request| answering.lock().unwrap_or_else(|_| panic!()).answer(request));
        let Ok(root) = open_export(0, trust) else { panic!("no export") };
        let Ok(file) = root.find(b"file") else { panic!("no file") };
        assert!(at_hand(&file).is_some_and(|stat| stat.size == 0));
        Fixture { host, root, file }
    }

    fn host(&self) -> std::sync::MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(|_| panic!("a test has failed"))
    }

    /// The container writes: 100 bytes in the end, by a handle that is closed. What the host says of it is nothing to rely on.
    fn written(&self) -> impl FnMut() + 'static {
        let (host, file) = (Arc::clone(&self.host), Arc::clone(&self.file));
        keep_writer(&file);
        move || {
            host.lock().unwrap_or_else(|_| panic!()).size = 100;
            file.drop_dead_handles();
        }
    }

    /// Answers as the host does, and `then` comes before the answer to such a request is noted.
    fn crossing(&self, is_such: fn(&Request<'_>) -> bool, mut then: impl FnMut() + 'static) {
        let host = Arc::clone(&self.host);
        fake::set(move |request| {
            let reply = host.lock().unwrap_or_else(|_| panic!()).answer(request);
            if is_such(request) {
                then();
            }
            reply
        });
    }

    fn size(&self) -> u64 {
        self.file.stat().map_or(0, |stat| stat.size)
    }
}

/// The handle leads to a file that is removed, so that it can be dropped at any time.
fn keep_writer(file: &HostInode) {
    file.keep_handle(removed_file(), true);
}

fn removed_file() -> Arc<HostFd> {
    let path =
        std::env::temp_dir().join(std::format!("handle-{}-{:?}", std::process::id(), std::thread::current().id()));
    let Ok(handle) = std::fs::File::create(&path) else { panic!("no file") };
    assert!(std::fs::remove_file(path).is_ok());
    Arc::new(HostFd::from_raw(handle.into_raw_fd()))
}

#[test]
fn a_listing_from_before_the_last_write_is_not_believed_after_the_handle_is_closed() {
    let fixture = Fixture::new();
    fixture.crossing(|request| matches!(request, Request::ReadDir { .. }), fixture.written());
    // The directory is listed at one of them.
    for name in [b"a", b"b", b"c", b"d", b"e"] {
        assert!(fixture.root.find(name).is_err());
    }
    assert!(at_hand(&fixture.file).is_none());
    assert_eq!(fixture.size(), 100);
}

#[test]
fn a_change_of_the_mode_from_before_the_last_write_says_nothing_of_the_size() {
    let fixture = Fixture::new();
    fixture.crossing(|request| matches!(request, Request::SetAttributes { .. }), fixture.written());
    assert!(fixture.file.set_attributes(&Change { mode: Some(0o600), ..Change::default() }).is_ok());
    assert!(at_hand(&fixture.file).is_none());
    assert_eq!(fixture.size(), 100);
}

#[test]
fn what_is_asked_for_is_answered_whatever_the_container_changes_meanwhile() {
    let fixture = Fixture::new();
    fixture.written()();
    let root = Arc::clone(&fixture.root);
    fixture.crossing(|_| true, move || assert!(root.changes_something().is_ok()));
    assert_eq!(fixture.size(), 100);
    assert!(at_hand(&fixture.file).is_none());
}

#[test]
fn a_file_whose_handle_is_closed_while_it_is_asked_is_asked_for_by_name() {
    let fixture = Fixture::new();
    keep_writer(&fixture.file);
    fixture.host().size = 100;
    // Taken out, and not closed yet.
    let taken = core::mem::take(&mut *fixture.file.handles.lock());
    assert_eq!(fixture.size(), 100);
    drop(taken);
}

#[test]
fn a_file_is_reached_by_the_name_that_it_has_left() {
    let fixture = Fixture::new();
    let file: Arc<dyn Inode> = fixture.file.clone();
    fixture.host().names = vec![b"file", b"second"];
    fixture.host().links = 2;
    assert!(fixture.root.link(b"second", &file).is_ok());
    assert!(fixture.root.unlink(b"file").is_ok());
    *fixture.host() = Host { size: 100, names: vec![b"second"], ..Host::default() };
    assert_eq!(fixture.file.path().as_deref(), Ok(&b"second"[..]));
    assert_eq!(fixture.size(), 100);
    assert!(fixture.root.unlink(b"second").is_ok());
    assert!(fixture.file.path().is_err());
}

/// The file has a second name, and the host gives the first to another file.
fn with_a_replaced_name() -> Fixture {
    let fixture = Fixture::new();
    let file: Arc<dyn Inode> = fixture.file.clone();
    fixture.host().links = 2;
    assert!(fixture.root.link(b"second", &file).is_ok());
    *fixture.host() = Host { names: vec![b"second"], others: vec![b"file"], ..Host::default() };
    fixture
}

#[test]
fn a_file_whose_name_the_host_gives_to_another_is_changed_by_the_one_that_is_left() {
    let fixture = with_a_replaced_name();
    assert!(fixture.file.set_attributes(&Change { mode: Some(0o600), ..Change::default() }).is_ok());
    assert_eq!(fixture.host().changed, [b"second"]);
    fixture.host().names = Vec::new();
    assert_eq!(fixture.file.set_attributes(&Change::default()), Err(Errno::ENOENT));
    assert_eq!(fixture.host().changed.len(), 1);
}

#[test]
fn a_file_is_reached_by_the_name_by_which_it_was_found_last() {
    let fixture = with_a_replaced_name();
    // The directory is listed at one of them.
    for name in [b"a", b"b", b"c", b"d", b"e"] {
        assert!(fixture.root.find(name).is_err());
    }
    assert_eq!(fixture.file.path().as_deref(), Ok(&b"second"[..]));
    assert!(fixture.root.find(b"file").is_ok_and(|other| other.id().ino == OTHER));
}

#[test]
fn a_name_has_one_inode_whoever_makes_it_first() {
    let fixture = Fixture::new();
    fixture.host().names = vec![b"file", b"second"];
    let made = fixture.root.find(b"second");
    let Ok(made) = made else { panic!("no file") };
    let Some(node) = fixture.host().node(b"second") else { panic!("no node") };
    // Of the same node, by who has looked before.
    let other = HostInode::make(&fixture.root.fs, Some(&fixture.root), &super::Name::from(&b"second"[..]), &node, 0);
    let Ok(listing) = fixture.root.listing() else { panic!("no directory") };
    let (found, _) = listing.lock().make_live(b"second", &Arc::new(node), other);
    assert!(found.is_some_and(|found| Arc::ptr_eq(&found, &made)));
    assert!(fixture.root.find(b"second").is_ok_and(|found| Arc::ptr_eq(&found, &made)));
}

#[test]
fn a_file_that_is_left_in_another_directory_is_told_of_by_that() {
    let fixture = Fixture::new();
    let Ok(directory) = fixture.root.find(b"dir") else { panic!("no directory") };
    let file: Arc<dyn Inode> = fixture.file.clone();
    fixture.host().links = 2;
    assert!(directory.link(b"second", &file).is_ok());
    assert!(fixture.root.unlink(b"file").is_ok());
    *fixture.host() = Host { names: vec![b"dir/second"], size: 100, ..Host::default() };
    assert_eq!(fixture.size(), 100);
    assert_eq!(fixture.file.word.load(), directory.own_names_word());
}

#[test]
fn a_file_whose_directory_is_away_for_a_moment_has_its_name_again() {
    let fixture = Fixture::new();
    fixture.host().names = vec![b"dir/file"];
    let found = fixture.root.find(b"dir").and_then(|directory| directory.find(b"file"));
    let Ok(file) = found else { panic!("no file") };
    file.outdate(|_| fixture.host().has_directory = false);
    assert!(file.stat().is_ok());
    *fixture.host() = Host { names: vec![b"dir/file"], size: 100, ..Host::default() };
    assert!(file.stat().is_ok_and(|stat| stat.size == 100));
    fixture.host().names = Vec::new();
    file.outdate(|_| ());
    assert!(file.stat().is_ok() && file.path().is_err());
}

#[test]
fn a_file_whose_directory_is_away_is_reached_by_its_name_in_another() {
    let fixture = Fixture::new();
    fixture.host().names = vec![b"dir/file"];
    fixture.host().links = 2;
    let found = fixture.root.find(b"dir").and_then(|directory| directory.find(b"file"));
    let Ok(file) = found else { panic!("no file") };
    let linked: Arc<dyn Inode> = file.clone();
    assert!(fixture.root.link(b"second", &linked).is_ok());
    *fixture.host() = Host { names: vec![b"second"], size: 100, has_directory: false, ..Host::default() };
    assert!(file.stat().is_ok_and(|stat| stat.size == 100));
    assert_eq!(file.path().as_deref(), Ok(&b"second"[..]));
}

#[test]
fn where_a_write_puts_a_copy_in_place_of_a_file_no_older_handle_is_kept() {
    for is_mappable in [true, false] {
        let fixture = Fixture::with(Trust { is_watched: true, is_mappable });
        fixture.file.keep_handle(removed_file(), false);
        keep_writer(&fixture.file);
        let writing = fixture.file.handles.lock().writing.take();
        assert!(writing.is_some());
        assert_eq!(fixture.file.has_handles(), is_mappable);
    }
}

#[test]
fn a_file_has_no_more_names_than_there_is_room_for_however_often_it_is_renamed() {
    let fixture = Fixture::new();
    for at in 0..100 {
        let name = std::format!("name-{at}");
        assert!(fixture.file.move_to((&fixture.root, b"none"), &fixture.root, name.as_bytes()).is_ok());
    }
    assert!(fixture.file.place.lock().count_others() <= 64);
}

#[test]
fn a_file_that_is_renamed_while_it_is_asked_for_is_found() {
    let fixture = Fixture::new();
    let to: Arc<dyn Inode> = fixture.root.clone();
    fixture.written()();
    let (host, root) = (Arc::clone(&fixture.host), Arc::clone(&fixture.root));
    let mut is_first = true;
    fake::set(move |request| {
        if core::mem::take(&mut is_first) {
            host.lock().unwrap_or_else(|_| panic!()).names = vec![b"moved"];
            // By another thread, which is through: the file is asked for once more, by the name that it has then.
            assert!(root.file_is_moved(b"file", &to, b"moved").is_ok());
            return Ok(Reply::Nodes(Vec::new()));
        }
        host.lock().unwrap_or_else(|_| panic!()).answer(request)
    });
    assert_eq!(fixture.size(), 100);
    assert_eq!(fixture.file.path().as_deref(), Ok(&b"moved"[..]));
}

#[test]
fn a_file_that_the_host_removes_has_no_name() {
    let fixture = Fixture::new();
    fixture.written()();
    fixture.host().names = Vec::new();
    assert_eq!(fixture.size(), 0);
    assert!(fixture.file.path().is_err());
    let asked = fixture.host().asked;
    assert!(fixture.file.stat().is_ok());
    assert_eq!(fixture.host().asked, asked);
}

#[test]
fn attributes_that_are_shown_to_nobody_are_not_asked_for() {
    let fixture = Fixture::new();
    let asked = fixture.host().asked;
    for name in [&b"security.selinux"[..], b"security.ima", b"trusted.overlay.opaque"] {
        assert_eq!(fixture.file.xattr(name).err(), Some(Errno::ENODATA));
    }
    assert_eq!(fixture.host().asked, asked);
    // The host of this test has none at all.
    for name in [&b"security.capability"[..], b"user.a", b"system.posix_acl_access"] {
        assert_eq!(fixture.file.xattr(name).err(), Some(Errno::EIO));
    }
    assert_eq!(fixture.host().asked, asked + 3);
}

impl HostInode {
    /// As a change by another thread of the container.
    fn changes_something(&self) -> Result<()> {
        self.set_name(b"other", super::Child::Absent).map(drop)
    }

    /// As a rename by another thread, which is through with its request.
    fn file_is_moved(&self, from: &[u8], to: &Arc<dyn Inode>, name: &[u8]) -> Result<()> {
        let (this, moved) = (self.arc()?, self.find(from)?);
        let to: Arc<HostInode> = super::downcast(to)?;
        moved.move_to((&this, from), &to, name)
    }
}
