//! Walk, ReadDir, Open and Space.

use super::Fixture;
use abi::broker::{Entry, FileAt, MOST_BESIDE, Reply, Request};
use abi::name::Name;
use rustix::fs::inotify;
use rustix::fs::{FileType, Mode, OFlags, mkfifoat, open};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::sync::Arc;

fn read_directory(fixture: &Fixture, path: &str) -> (Vec<Entry>, usize) {
    let (mut all, mut replies) = (Vec::new(), 0);
    loop {
        let from = u32::try_from(all.len()).expect("few");
        let (reply, _) =
            fixture.ask(Request::ReadDir { export: 0, path: path.as_bytes(), from, attributes: true, open: 0 });
        let Reply::Entries { entries, more, .. } = reply else { panic!("{reply:?}") };
        all.extend(entries);
        replies += 1;
        if !more {
            return (all, replies);
        }
    }
}

#[test]
fn walk_gives_the_attributes_of_each_component() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.path("a/b")).expect("mkdir");
    std::fs::write(fixture.path("a/b/c"), b"12345").expect("write");
    let nodes = fixture.walk("", "a/b/c");
    assert_eq!(nodes.len(), 3);
    let host = std::fs::symlink_metadata(fixture.path("a/b/c")).expect("stat");
    let last = nodes[2].attributes;
    assert_eq!((last.device, last.inode, last.mode, last.size), (host.dev(), host.ino(), host.mode(), 5));
    assert_eq!((last.mtime.sec, i64::from(last.mtime.nsec)), (host.mtime(), host.mtime_nsec()));
    assert_eq!(fixture.walk("a", "b/c"), nodes[1..]);
}

#[test]
fn walk_of_the_empty_path_gives_the_start_itself() {
    let fixture = Fixture::new();
    let host = std::fs::metadata(fixture.directory.path()).expect("stat");
    let nodes = fixture.walk("", "");
    assert_eq!((nodes.len(), nodes[0].attributes.inode), (1, host.ino()));
}

#[test]
fn walk_stops_at_what_is_missing_and_at_what_is_no_directory() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("a")).expect("mkdir");
    symlink("a", fixture.path("link")).expect("symlink");
    assert_eq!(fixture.walk("", "a/missing/x").len(), 1);
    assert_eq!(fixture.walk("", "missing/x").len(), 0);
    assert_eq!(fixture.walk("", "file/x").len(), 1);
    let nodes = fixture.walk("", "link/x");
    assert_eq!((nodes.len(), nodes[0].target.as_slice()), (1, &b"a"[..]));
    assert_eq!(fixture.errno(Request::Walk { export: 0, from: b"link", path: b"x" }), libc::ENOTDIR);
    assert_eq!(fixture.errno(Request::Walk { export: 0, from: b"missing", path: b"x" }), libc::ENOENT);
}

#[test]
fn readdir_gives_entries_with_attributes_and_targets() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("dir")).expect("mkdir");
    symlink("some/where", fixture.path("link")).expect("symlink");
    let (mut entries, _) = read_directory(&fixture, "");
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = entries.iter().map(|entry| &*entry.name).collect();
    assert_eq!(names, [&b"dir"[..], b"file", b"link"]);
    assert_eq!(entries[1].node.attributes.size, 7);
    assert_eq!(entries[2].node.target, b"some/where");
    assert_eq!(
        fixture.errno(Request::ReadDir { export: 0, path: b"file", from: 0, attributes: true, open: 0 }),
        libc::ENOTDIR
    );
    assert_eq!(
        fixture.errno(Request::ReadDir { export: 0, path: b"link", from: 0, attributes: true, open: 0 }),
        libc::ENOTDIR
    );
}

#[test]
fn a_big_directory_comes_in_chunks_each_entry_once() {
    let fixture = Fixture::new();
    let directory = fixture.path("big");
    std::fs::create_dir(&directory).expect("mkdir");
    for number in 0..5000 {
        std::fs::write(directory.join(format!("name-{number:05}")), b"").expect("write");
    }
    let (entries, replies) = read_directory(&fixture, "big");
    let names: BTreeSet<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!((entries.len(), names.len()), (5000, 5000));
    assert!(replies > 1);
    // From a position that no stream stands at.
    let itself = fixture.attributes("big");
    let (reply, _) = fixture.ask(Request::ReadDir { export: 0, path: b"big", from: 4999, attributes: true, open: 0 });
    assert_eq!(
        reply,
        Reply::Entries { directory: itself, entries: entries[4999..].to_vec(), more: false, opened: Vec::new() }
    );
    let (reply, _) = fixture.ask(Request::ReadDir { export: 0, path: b"big", from: 9999, attributes: true, open: 0 });
    assert_eq!(reply, Reply::Entries { directory: itself, entries: Vec::new(), more: false, opened: Vec::new() });
}

#[test]
fn a_directory_that_changed_is_read_whole_where_an_earlier_reading_was_given_up() {
    let fixture = Fixture::new();
    let directory = fixture.path("big");
    std::fs::create_dir(&directory).expect("mkdir");
    let add = |numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| std::fs::write(directory.join(format!("name-{number:05}")), b"").expect("write"));
    };
    add(0..1500);
    let first = Request::ReadDir { export: 0, path: b"big", from: 0, attributes: true, open: 0 };
    assert!(matches!(fixture.ask(first).0, Reply::Entries { more: true, .. }));
    // In whatever order the host has them, some come before where that one stands.
    add(1500..3000);
    let names: BTreeSet<_> = read_directory(&fixture, "big").0.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), 3000);
}

#[test]
fn open_gives_handles_for_reading_and_writing() {
    let fixture = Fixture::new();
    let mut text = String::new();
    fixture.open(1, "file", false).expect("open").read_to_string(&mut text).expect("read");
    assert_eq!(text, "content");
    let mut reader = fixture.open(0, "file", false).expect("open");
    assert!(reader.write(b"x").is_err());
    fixture.open(0, "file", true).expect("open").write_all(b"CON").expect("write");
    assert_eq!(std::fs::read(fixture.path("file")).expect("read"), b"CONtent");
    assert_eq!(fixture.open(1, "file", true).err(), Some(Errno::ROFS));
    assert_eq!(fixture.open(0, "missing", false).err(), Some(Errno::NOENT));
    assert_eq!(fixture.open(9, "file", false).err(), Some(Errno::NODEV));
}

fn first_byte(file: &Arc<OwnedFd>) -> Result<u8, Errno> {
    let mut text = [0];
    rustix::io::pread(file, &mut text, 0).map(|_| text[0])
}

fn can_write(file: &Arc<OwnedFd>) -> bool {
    rustix::io::pwrite(file, b"x", 0).is_ok()
}

#[test]
fn files_beside_the_one_that_is_asked_for_are_opened_for_reading() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("dir")).expect("mkdir");
    for name in ["a", "b", "c"] {
        std::fs::write(fixture.path(&format!("dir/{name}")), name).expect("write");
    }
    for writable in [false, true] {
        let beside = vec![&b"b"[..], b"missing", b"c"];
        let request = Request::Open { export: 0, file: FileAt::any(b"dir/a"), writable, beside };
        let (Reply::Opened { attributes, beside }, files) = fixture.ask_several(request) else { panic!("not opened") };
        assert_eq!(attributes, fixture.attributes("dir/a"));
        assert_eq!(beside, [(0, fixture.attributes("dir/b")), (2, fixture.attributes("dir/c"))]);
        assert_eq!(files.iter().map(first_byte).collect::<Vec<_>>(), [Ok(b'a'), Ok(b'b'), Ok(b'c')]);
        assert_eq!(files.iter().map(can_write).collect::<Vec<_>>(), [writable, false, false]);
    }
}

#[test]
fn small_files_of_a_listing_are_opened_for_reading_as_many_as_are_asked_for() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.path("dir/below")).expect("mkdir");
    for name in ["a", "b", "c"] {
        std::fs::write(fixture.path(&format!("dir/{name}")), name).expect("write");
    }
    std::fs::write(fixture.path("dir/large"), vec![b'l'; 1 << 20]).expect("write");
    symlink("a", fixture.path("dir/link")).expect("symlink");
    mkfifoat(rustix::fs::CWD, fixture.path("dir/fifo"), Mode::RWXU).expect("fifo");
    let list =
        |attributes, open| fixture.ask_several(Request::ReadDir { export: 0, path: b"dir", from: 0, attributes, open });
    // What reads a link changes its times.
    let looks = |entries: &[Entry]| -> Vec<_> {
        let look = |Entry { name, node }: &Entry| {
            (name.clone(), node.attributes.mode, node.attributes.size, node.target.clone())
        };
        entries.iter().map(look).collect()
    };
    let (Reply::Entries { entries: plain, opened, .. }, files) = list(true, 0) else { panic!("no entries") };
    assert!(opened.is_empty() && files.is_empty());
    for (most, count) in [(1, 1), (MOST_BESIDE as u8, 3)] {
        let (Reply::Entries { entries, opened, more, .. }, files) = list(true, most) else { panic!("no entries") };
        assert_eq!((looks(&entries), opened.len(), files.len(), more), (looks(&plain), count, count, false));
        for (at, file) in opened.iter().zip(&files) {
            assert_eq!(
                first_byte(file).map(|byte| Name::from(&[byte][..])).as_ref(),
                Ok(&entries[usize::from(*at)].name)
            );
            assert!(!can_write(file));
        }
    }
    let (Reply::Entries { opened, .. }, files) = list(false, 3) else { panic!("no entries") };
    assert!(opened.is_empty() && files.is_empty());
    let most = MOST_BESIDE as u8 + 1;
    assert_eq!(
        fixture.errno(Request::ReadDir { export: 0, path: b"dir", from: 0, attributes: true, open: most }),
        libc::EINVAL
    );
}

#[test]
fn what_is_not_opened_with_a_listing_is_not_paid() {
    let fixture = Fixture::with(|options| options.requests_per_second = 40);
    std::fs::create_dir(fixture.path("dir")).expect("mkdir");
    let begun = std::time::Instant::now();
    for _ in 0..10 {
        let open = MOST_BESIDE as u8;
        fixture.ask(Request::ReadDir { export: 0, path: b"dir", from: 0, attributes: true, open });
        let beside = vec![&b"file"[..]; MOST_BESIDE];
        fixture.errno(Request::Open { export: 0, file: FileAt::any(b"missing"), writable: false, beside });
    }
    assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
}

#[test]
fn a_listing_tries_few_files_in_vain() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("dir")).expect("mkdir");
    for number in 0..200 {
        let file = std::fs::File::create(fixture.path(&format!("dir/{number}"))).expect("create");
        file.set_len(1 << 20).expect("size");
    }
    let queue = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify");
    inotify::add_watch(&queue, fixture.path("dir"), inotify::WatchFlags::OPEN).expect("watch");
    let (reply, files) =
        fixture.ask_several(Request::ReadDir { export: 0, path: b"dir", from: 0, attributes: true, open: 3 });
    assert!(matches!(reply, Reply::Entries { entries, .. } if entries.len() > 100) && files.is_empty());
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = inotify::Reader::new(&queue, &mut buffer);
    let mut opened = 0;
    while let Ok(event) = reader.next() {
        opened += usize::from(event.file_name().is_some());
    }
    assert!(opened <= 6, "{opened}");
}

#[test]
fn nothing_is_opened_beside_a_file_that_cannot_be_opened_itself_and_no_more_than_is_allowed() {
    let fixture = Fixture::new();
    let open = |path, count| Request::Open {
        export: 0,
        file: FileAt::any(path),
        writable: false,
        beside: vec![&b"file"[..]; count],
    };
    let (reply, files) = fixture.ask_several(open(b"missing", 1));
    assert_eq!((reply, files.len()), (Reply::Failed(libc::ENOENT), 0));
    assert_eq!(fixture.ask_several(open(b"file", MOST_BESIDE)).1.len(), MOST_BESIDE + 1);
    assert_eq!(fixture.errno(open(b"file", MOST_BESIDE + 1)), libc::EINVAL);
    // An export of one file has nothing beside it.
    let (_, files) = fixture.ask_several(Request::Open {
        export: 2,
        file: FileAt::any(b""),
        writable: false,
        beside: vec![b"file"],
    });
    assert_eq!(files.len(), 1);
}

#[test]
fn an_export_of_one_file_is_its_own_root() {
    let fixture = Fixture::new();
    let mut text = String::new();
    fixture.open(2, "", false).expect("open").read_to_string(&mut text).expect("read");
    assert_eq!(text, "content");
    let (reply, _) = fixture.ask(Request::Walk { export: 2, from: b"", path: b"" });
    assert!(matches!(reply, Reply::Nodes(nodes) if nodes[0].attributes.size == 7));
    assert_eq!(fixture.open(2, "x", false).err(), Some(Errno::NOTDIR));
    assert_eq!(
        fixture.errno(Request::ReadDir { export: 2, path: b"", from: 0, attributes: true, open: 0 }),
        libc::ENOTDIR
    );
}

/// Also where it is asked for in advance.
pub(super) fn assert_not_opened_beside(fixture: &Fixture, name: &str) {
    let beside = vec![name.as_bytes()];
    let (reply, files) =
        fixture.ask_several(Request::Open { export: 0, file: FileAt::any(b"file"), writable: false, beside });
    assert!(matches!(reply, Reply::Opened { beside, .. } if beside.is_empty()) && files.len() == 1, "{name}");
}

#[test]
fn only_regular_files_are_opened_and_nothing_blocks() {
    let fixture = Fixture::new();
    let root = open(fixture.directory.path(), OFlags::PATH, Mode::empty()).expect("root");
    mkfifoat(&root, "fifo", Mode::RWXU).expect("fifo");
    std::fs::create_dir(fixture.path("dir")).expect("mkdir");
    symlink("file", fixture.path("link")).expect("symlink");
    let _listener = std::os::unix::net::UnixListener::bind(fixture.path("socket")).expect("bind");
    for (name, errno) in [
        ("fifo", Errno::NXIO),
        ("socket", Errno::NXIO),
        ("dir", Errno::ISDIR),
        ("link", Errno::LOOP),
        ("", Errno::ISDIR),
    ] {
        for writable in [false, true] {
            assert_eq!(fixture.open(0, name, writable).err(), Some(errno), "{name}");
        }
        assert_not_opened_beside(&fixture, name);
    }
    assert_eq!(FileType::from_raw_mode(fixture.attributes("fifo").mode), FileType::Fifo);
}

#[test]
fn devices_are_shown_and_never_opened() {
    let fixture = Fixture::new();
    let root = open(fixture.directory.path(), OFlags::PATH, Mode::empty()).expect("root");
    let device = rustix::fs::makedev(1, 3);
    if rustix::fs::mknodat(&root, "null", FileType::CharacterDevice, Mode::RWXU, device).is_err() {
        eprintln!("skipped: no right to make device nodes");
        return;
    }
    assert_eq!(fixture.open(0, "null", false).err(), Some(Errno::ACCESS));
    assert_not_opened_beside(&fixture, "null");
    assert_eq!(fixture.attributes("null").rdev, device);
}

#[test]
fn space_is_the_file_systems() {
    let fixture = Fixture::new();
    let Reply::Space(space) = fixture.ask(Request::Space { export: 0 }).0 else { panic!("no space") };
    assert!(space.block > 0 && space.blocks >= space.free && space.free >= space.available);
}

#[test]
fn what_a_container_wrote_has_the_image_of_the_same_file() {
    let fixture = Fixture::new();
    let text = std::fs::read("/lib64/ld-linux-x86-64.so.2").expect("the dynamic linker");
    std::fs::write(fixture.path("linker"), &text).expect("write");
    let (reply, _) = fixture.ask(Request::Image { export: 1, file: FileAt::any(b"linker") });
    let Reply::Image(_, layout) = reply else { panic!("{reply:?}") };
    let (memory, file) = fixture.ask(Request::Memory { size: text.len().try_into().expect("size") });
    let Reply::Memory { id } = memory else { panic!("{memory:?}") };
    assert_eq!(fixture.errno(Request::MemoryImage { id }), libc::ENOEXEC);
    assert_eq!(rustix::io::pwrite(&*file.expect("a descriptor"), &text, 0), Ok(text.len()));
    let (reply, image) = fixture.ask(Request::MemoryImage { id });
    assert!(matches!(reply, Reply::Image(_, of_memory) if of_memory == layout) && image.is_some());
    assert_eq!(fixture.errno(Request::MemoryImage { id: id + 1 }), libc::EBADF);
}

#[test]
fn the_image_of_a_program_comes_with_its_descriptor() {
    let fixture = Fixture::new();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let line = maps.lines().find(|line| line.contains("/libc.so") || line.contains("/libc-")).expect("a dynamic libc");
    std::fs::copy(&line[line.find('/').expect("path")..], fixture.path("libc")).expect("copy");
    let (reply, image) = fixture.ask(Request::Image { export: 1, file: FileAt::any(b"libc") });
    let Reply::Image(_, layout) = reply else { panic!("{reply:?}") };
    let len = rustix::fs::fstat(&*image.expect("a descriptor")).expect("stat").st_size;
    assert!(u64::try_from(len).expect("positive") >= layout.stub_offset + layout.stub_len);
    for (path, errno) in [(&b"file"[..], libc::ENOEXEC), (b"", libc::EISDIR), (b"missing", libc::ENOENT)] {
        assert_eq!(fixture.errno(Request::Image { export: 1, file: FileAt::any(path) }), errno);
    }
}
