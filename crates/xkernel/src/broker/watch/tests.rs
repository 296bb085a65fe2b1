//! What is told of directories, and what is not.

use super::{CHANGE_WORDS, CHANGES_OFFSET, CreateFlags, Export, OwnedFd, ReadFlags, Then, Watches, change_word};
use rustix::fs::inotify;
use rustix::io::Errno;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use tempfile::TempDir;

/// An export, and what a container that may read its words knows.
struct Fixture {
    directory: TempDir,
    export: Export,
    arena: File,
    watches: Watches,
}

impl Fixture {
    fn new() -> Self {
        Self::with(inotify::init(CreateFlags::NONBLOCK).ok(), 100)
    }

    fn with(queue: Option<OwnedFd>, most: usize) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let arena = tempfile::tempfile().expect("arena");
        arena.set_len(4096).expect("arena");
        let export = Export::open(directory.path(), false).expect("export");
        std::fs::write(directory.path().join("file"), "x").expect("file");
        let watches = Watches::with(queue, arena.try_clone().ok().map(OwnedFd::from), most);
        Self { directory, export, arena, watches }
    }

    fn word(&self, word: usize) -> u32 {
        let mut bytes = [0; 4];
        self.arena.read_exact_at(&mut bytes, CHANGES_OFFSET + word as u64 * 4).expect("a word");
        u32::from_ne_bytes(bytes)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// As a request that reads the directory.
    fn look(&self, path: &str) {
        let node = self.export.node(path.as_bytes()).expect("node");
        self.watches.watch(&self.export, &node).expect("watch");
    }

    /// What is told of a directory, after all that has happened.
    fn told(&self, path: &str) -> u32 {
        if let Some(queue) = &self.watches.queue {
            self.watches.read(&mut self.watches.lock(), queue);
        }
        self.word(change_word(std::fs::metadata(self.file(path)).expect("directory").ino()))
    }

    fn count(&self) -> usize {
        self.watches.lock().by_id.len()
    }
}

#[test]
fn a_change_is_told_once_until_the_container_looks_again() {
    let fixture = Fixture::new();
    fixture.look("");
    assert_eq!((fixture.told(""), fixture.word(0)), (0, 0));
    std::fs::write(fixture.file("new"), "").expect("write");
    assert_eq!((fixture.told(""), fixture.word(0), fixture.count()), (2, 2, 0));
    std::fs::write(fixture.file("newer"), "").expect("write");
    assert_eq!((fixture.told(""), fixture.word(0)), (2, 2));
    fixture.look("");
    std::fs::remove_file(fixture.file("new")).expect("remove");
    assert_eq!((fixture.told(""), fixture.word(0)), (4, 4));
}

#[test]
fn every_kind_of_change_is_told() {
    let changes: [fn(&Fixture); 6] = [
        |f| std::fs::write(f.file("file"), "longer").expect("write"),
        |f| std::fs::set_permissions(f.file("file"), Permissions::from_mode(0o600)).expect("mode"),
        |f| std::fs::set_permissions(f.directory.path(), Permissions::from_mode(0o711)).expect("mode"),
        |f| std::fs::rename(f.file("file"), f.file("moved")).expect("rename"),
        |f| std::fs::create_dir(f.file("dir")).expect("mkdir"),
        |f| std::fs::remove_file(f.file("moved")).expect("remove"),
    ];
    let fixture = Fixture::new();
    for (number, change) in (1..).zip(changes) {
        fixture.look("");
        change(&fixture);
        assert_eq!(fixture.told(""), number * 2, "change {number}");
    }
}

#[test]
fn what_the_container_does_itself_is_not_told() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.file("dir")).expect("mkdir");
    ["", "dir"].iter().for_each(|path| fixture.look(path));
    let changing = |paths: &[&[u8]], change: &dyn Fn() -> std::io::Result<()>| {
        let change = || change().map_err(|_| Errno::IO);
        let names: Vec<_> = paths.iter().map(|path| fixture.export.named(path)).collect();
        fixture.watches.changing(&fixture.export, &names, Then::Nothing, change).expect("a change");
    };
    changing(&[b"file"], &|| std::fs::write(fixture.file("file"), "more"));
    changing(&[b"dir"], &|| std::fs::set_permissions(fixture.file("dir"), Permissions::from_mode(0o700)));
    changing(&[b"file", b"dir/moved"], &|| std::fs::rename(fixture.file("file"), fixture.file("dir/moved")));
    changing(&[b"dir/moved"], &|| std::fs::remove_file(fixture.file("dir/moved")));
    assert_eq!((fixture.told(""), fixture.told("dir"), fixture.count()), (0, 0, 2));
    assert!(fixture.watches.lock().own.is_empty());
    // Another name, meanwhile.
    changing(&[b"one"], &|| std::fs::write(fixture.file("other"), ""));
    assert_eq!((fixture.told(""), fixture.told("dir")), (2, 0));
}

#[test]
fn writes_through_a_handle_of_the_container_are_not_told_until_it_is_closed() {
    let fixture = Fixture::new();
    fixture.look("");
    fixture.watches.writes(&fixture.export, &fixture.export.named(b"file"));
    let mut handle = File::options().append(true).open(fixture.file("file")).expect("file");
    handle.write_all(b"more").expect("write");
    assert_eq!((fixture.told(""), fixture.count()), (0, 1));
    let rename = || std::fs::rename(fixture.file("file"), fixture.file("moved")).map_err(|_| Errno::IO);
    let names = [fixture.export.named(b"file"), fixture.export.named(b"moved")];
    fixture.watches.changing(&fixture.export, &names, Then::Move, rename).expect("rename");
    assert_eq!(fixture.watches.lock().writers.len(), 1);
    handle.write_all(b"more").expect("write");
    assert_eq!((fixture.told(""), fixture.count()), (0, 1));
    drop(handle);
    assert_eq!((fixture.told(""), fixture.watches.lock().written.len()), (0, 0));
    assert!(fixture.watches.lock().writers.is_empty());
    std::fs::write(fixture.file("moved"), "by another").expect("write");
    assert_eq!(fixture.told(""), 2);
}

#[test]
fn a_directory_in_which_the_container_writes_on_and_on_is_told_once_and_its_writes_are_heard_again_when_it_is_looked_at()
 {
    let fixture = Fixture::new();
    std::fs::write(fixture.file("other"), "").expect("write");
    fixture.look("");
    fixture.watches.writes(&fixture.export, &fixture.export.named(b"file"));
    let mut handle = File::options().append(true).open(fixture.file("file")).expect("file");
    let other = File::options().append(true).open(fixture.file("other")).expect("other");
    let begun = std::time::Instant::now();
    while fixture.told("") == 0 {
        handle.write_all(b"more").expect("write");
        // A test is kept from running for longer than a writer is.
        fixture.watches.lock().writers.values_mut().for_each(|writer| writer.last = std::time::Instant::now());
        assert!(begun.elapsed().as_secs() < 20, "not told");
    }
    assert_eq!((fixture.told(""), fixture.count()), (2, 1));
    // Nothing is known now that these could change.
    handle.write_all(b"more").expect("write");
    (&other).write_all(b"more").expect("write");
    assert_eq!(fixture.told(""), 2);
    fixture.look("");
    // However long this test is kept from running.
    fixture.watches.lock().writers.values_mut().for_each(|writer| writer.needed = std::time::Duration::MAX);
    handle.write_all(b"more").expect("write");
    assert_eq!(fixture.told(""), 2);
    (&other).write_all(b"more").expect("write");
    assert_eq!((fixture.told(""), fixture.count()), (4, 0));
    assert!(fixture.watches.lock().writers.is_empty());
}

#[test]
fn a_directory_that_rests_makes_room_for_one_in_which_the_container_writes() {
    let fixture = Fixture::new();
    for number in 0..=super::MOST_WRITERS {
        let directory = format!("d{number}");
        std::fs::create_dir(fixture.file(&directory)).expect("mkdir");
        std::fs::write(fixture.file(&directory).join("file"), "").expect("write");
        if number == super::MOST_WRITERS {
            std::thread::sleep(super::BREAK * 2);
        }
        let path = format!("{directory}/file");
        fixture.watches.writes(&fixture.export, &fixture.export.named(path.as_bytes()));
    }
    let id = |number: usize| {
        let attributes = std::fs::metadata(fixture.file(&format!("d{number}"))).expect("directory");
        (attributes.dev(), attributes.ino())
    };
    let state = fixture.watches.lock();
    let has = |number| state.writers.contains_key(&id(number));
    assert_eq!((has(0), has(1), has(super::MOST_WRITERS)), (false, true, true));
}

#[test]
fn who_asks_at_once_has_to_write_longer_the_next_time() {
    let fixture = Fixture::new();
    fixture.look("");
    fixture.watches.writes(&fixture.export, &fixture.export.named(b"file"));
    let queue = fixture.watches.queue.as_ref().expect("a queue");
    let id = *fixture.watches.lock().writers.keys().next().expect("a directory");
    let needed = |rested: bool| {
        fixture.watches.leave_writes_out(&mut fixture.watches.lock(), queue, id);
        if rested {
            std::thread::sleep(super::WRITES_ON * 3);
        }
        fixture.look("");
        fixture.watches.lock().writers[&id].needed
    };
    assert!((0..20).all(|_| needed(false) > super::WRITES_ON));
    assert_eq!(needed(false), super::LONGEST_WRITES_ON);
    assert_eq!(needed(true), super::WRITES_ON);
}

#[test]
fn names_that_change_are_told_while_writes_are_left_out() {
    let fixture = Fixture::new();
    fixture.look("");
    fixture.watches.writes(&fixture.export, &fixture.export.named(b"file"));
    let queue = fixture.watches.queue.as_ref().expect("a queue");
    let id = *fixture.watches.lock().writers.keys().next().expect("a directory");
    fixture.watches.leave_writes_out(&mut fixture.watches.lock(), queue, id);
    assert_eq!(fixture.told(""), 2);
    std::fs::rename(fixture.file("file"), fixture.file("moved")).expect("rename");
    assert_eq!((fixture.told(""), fixture.count()), (4, 0));
}

#[test]
fn a_file_of_the_container_that_the_host_replaces_is_not_the_containers_any_more() {
    let fixture = Fixture::new();
    fixture.look("");
    fixture.watches.writes(&fixture.export, &fixture.export.named(b"file"));
    std::fs::write(fixture.file("new"), "").expect("write");
    std::fs::rename(fixture.file("new"), fixture.file("file")).expect("rename");
    assert_eq!(fixture.told(""), 2);
    // One event was told, and the watch ended: the container looks again.
    fixture.look("");
    std::fs::write(fixture.file("file"), "text").expect("write");
    assert_eq!(fixture.told(""), 4);
}

#[test]
fn a_file_that_the_container_moves_over_another_is_written_where_it_was_written_before() {
    let fixture = Fixture::new();
    std::fs::write(fixture.file("other"), "").expect("write");
    fixture.look("");
    fixture.watches.writes(&fixture.export, &fixture.export.named(b"file"));
    let rename = || std::fs::rename(fixture.file("other"), fixture.file("file")).map_err(|_| Errno::IO);
    let names = [fixture.export.named(b"other"), fixture.export.named(b"file")];
    fixture.watches.changing(&fixture.export, &names, Then::Move, rename).expect("rename");
    assert_eq!(fixture.told(""), 0);
    std::fs::write(fixture.file("file"), "by another").expect("write");
    assert_eq!(fixture.told(""), 2);
}

#[test]
fn lost_events_void_everything() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.file("dir")).expect("mkdir");
    ["", "dir"].iter().for_each(|path| fixture.look(path));
    fixture.watches.writes(&fixture.export, &fixture.export.named(b"file"));
    let queue = fixture.watches.queue.as_ref().expect("a queue");
    fixture.watches.on_event(&mut fixture.watches.lock(), queue, -1, ReadFlags::QUEUE_OVERFLOW, b"");
    assert_eq!((fixture.told(""), fixture.told("dir"), fixture.count()), (2, 2, 0));
    assert!(fixture.watches.lock().written.is_empty());
    fixture.look("dir");
    std::fs::write(fixture.file("dir/new"), "").expect("write");
    assert_eq!(fixture.told("dir"), 4);
}

#[test]
fn a_container_that_has_its_share_of_watches_forgets_the_oldest() {
    let fixture = Fixture::with(inotify::init(CreateFlags::NONBLOCK).ok(), 2);
    for name in ["a", "b", "c"] {
        std::fs::create_dir(fixture.file(name)).expect("mkdir");
        fixture.look(name);
    }
    assert_eq!(["a", "b", "c"].map(|name| fixture.told(name)), [2, 0, 0]);
    assert_eq!(fixture.count(), 2);
    (0..200).for_each(|i| fixture.look(["a", "b", "c"][i % 3]));
    let state = fixture.watches.lock();
    assert!(state.by_id.len() == 2 && state.by_number.len() == 2 && state.order.len() < 100);
}

#[test]
fn a_directory_that_cannot_be_watched_is_known_for_a_moment_only() {
    // No queue of events: whatever is asked of it fails.
    let other = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).ok();
    let fixture = Fixture::with(other, 100);
    std::fs::create_dir(fixture.file("dir")).expect("mkdir");
    fixture.look("dir");
    assert_eq!((fixture.told("dir") & 1, fixture.word(0) & 1), (1, 0));
}

#[test]
fn without_a_queue_everything_is_known_for_a_moment_only() {
    let fixture = Fixture::with(None, 100);
    assert!((1..CHANGE_WORDS).all(|word| fixture.word(word) == 1));
    fixture.look("");
    assert_eq!(fixture.told(""), 1);
}

#[test]
fn a_removed_directory_is_told_of_and_not_watched() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.file("dir")).expect("mkdir");
    let word = change_word(std::fs::metadata(fixture.file("dir")).expect("directory").ino());
    fixture.look("dir");
    std::fs::remove_dir(fixture.file("dir")).expect("rmdir");
    fixture.told("");
    assert_eq!((fixture.word(word), fixture.count()), (2, 0));
}
