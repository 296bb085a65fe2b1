//! What a container knows of directories of the host, and telling it when that changes: docs/design/0010.
//!
//! A request that names something in a directory has it watched before it is read. The first change there bumps the change
//! word of the directory in the container's arena and ends the watch, until the container asks again: a busy directory
//! costs nothing while nobody looks. What the container does itself, by requests or through handles that write, it knows.
//!
//! Words are written by `pwrite`, since the container may write to them too; nothing is ever read back.

use super::attributes;
use super::export::{Export, Named, magic_path};
use abi::boot::{CHANGE_WORDS, CHANGES_OFFSET, change_word};
use abi::broker::Attributes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A node of the host, by device and inode number.
type Id = (u64, u64);

/// What a watch asks for. Whoever closes a file that was open for writing may be the container.
const MASK: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::EXCL_UNLINK);

/// Part of the user's watches that one container may have.
const SHARE: usize = 8;
/// Most watches of a container, whatever the host allows.
const MOST_WATCHES: usize = 8 * 1024;
/// Most files of which it is remembered that the container has a handle that writes; without that, its writes are told to it.
const MOST_WRITTEN: usize = 16 * 1024;
/// How long events are left to collect after some were read: those of a file that is written again and again become one.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
/// Bytes that are read of the queue at once.
const READ: usize = 4096;
/// Bytes of an event without its name, of which a name takes a multiple: inotify(7).
const EVENT: usize = 16;
/// With a name of the greatest length.
const LONGEST_EVENT: usize = EVENT + 256;
/// Most times that the queue is read at once: others wait for the lock.
const MOST_READS: usize = 64;

/// The watches of a container.
#[derive(Debug)]
pub(super) struct Watches {
    /// None where nothing can be watched: then the words say so, or there is nobody to tell.
    queue: Option<OwnedFd>,
    /// The arena; None where nobody has to be told.
    arena: Option<OwnedFd>,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    words: [u32; CHANGE_WORDS],
    by_number: HashMap<i32, Id>,
    by_id: HashMap<Id, i32>,
    /// The oldest first; some may have ended.
    order: VecDeque<(i32, Id)>,
    /// Files that the container has a handle on that writes, as long as their directory is watched.
    written: BTreeSet<Name>,
    /// What requests are changing right now.
    own: Vec<Name>,
}

/// A name in a directory; the empty name is the node itself.
type Name = (Id, Vec<u8>);

/// What a request names.
struct Touched {
    name: Option<Name>,
    /// The node, where it may have a watch of its own.
    itself: Option<Name>,
}

/// What a change that succeeded means for handles that write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// Nothing, and no directory is touched but the one that has the name.
    NoDirectory,
    /// The same, and the name is gone.
    Remove,
    /// The container has one on the file.
    Write,
    /// The first name's file has the second name now.
    Move,
}

impl State {
    fn note_written(&mut self, file: &Touched) {
        if self.written.len() >= MOST_WRITTEN {
            self.written.clear();
        }
        let name = file.name.as_ref().or(file.itself.as_ref());
        self.written.extend(name.filter(|(directory, _)| self.by_id.contains_key(directory)).cloned());
    }

    fn forget_written(&mut self, file: &Touched) -> bool {
        file.name.as_ref().is_some_and(|name| self.written.remove(name))
    }

    fn move_written(&mut self, from: &Touched, to: &Touched) {
        // What had the name has it no longer.
        self.forget_written(to);
        if self.forget_written(from) {
            self.note_written(to);
        }
    }
}

impl Drop for Watches {
    /// A container has ended that nobody has to wait for.
    fn drop(&mut self) {
        self.queue.take().into_iter().for_each(crate::sys::close_behind);
    }
}

impl Watches {
    /// Watches for whoever reads the words in an arena.
    pub(super) fn new(arena: Option<OwnedFd>) -> Self {
        let queue = arena.as_ref().and_then(|_| inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok());
        let most = (allowed() / SHARE).clamp(1, MOST_WATCHES);
        Self::with(queue, arena, most)
    }

    fn with(queue: Option<OwnedFd>, arena: Option<OwnedFd>, most: usize) -> Self {
        let state = State {
            words: [0; CHANGE_WORDS],
            by_number: HashMap::new(),
            by_id: HashMap::new(),
            order: VecDeque::new(),
            written: BTreeSet::new(),
            own: Vec::new(),
        };
        let watches = Self { queue, arena, most, state: Mutex::new(state) };
        if watches.queue.is_none() {
            (1..CHANGE_WORDS).for_each(|word| watches.give_up(&mut watches.lock(), word));
        }
        watches
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a directory, or the root of an export, that is about to be read.
    pub(super) fn watch(&self, export: &Export, node: &OwnedFd) -> Result<(), Errno> {
        if self.is_on(export) {
            self.add(node.as_fd(), id_of(&attributes::of_descriptor(node)?));
        }
        Ok(())
    }

    /// As [`Watches::watch`] with attributes that are known; true where the node was not watched before.
    pub(super) fn watch_known(&self, export: &Export, node: &OwnedFd, attributes: &Attributes) -> bool {
        self.is_on(export) && self.add(node.as_fd(), id_of(attributes))
    }

    fn is_on(&self, export: &Export) -> bool {
        self.arena.is_some() && export.is_watched()
    }

    fn add(&self, node: BorrowedFd<'_>, id: Id) -> bool {
        let Some(queue) = &self.queue else { return false };
        let mut state = self.lock();
        if state.by_id.contains_key(&id) {
            return false;
        }
        while state.by_id.len() >= self.most {
            self.forget_oldest(&mut state, queue);
        }
        let path = magic_path(node);
        let added = match inotify::add_watch(queue, &path, MASK) {
            Err(Errno::NOSPC) if !state.by_id.is_empty() => {
                self.forget_oldest(&mut state, queue);
                inotify::add_watch(queue, &path, MASK)
            }
            added => added,
        };
        match added {
            Ok(number) => {
                state.by_number.insert(number, id);
                state.by_id.insert(id, number);
                state.order.push_back((number, id));
            }
            // No watch is left, or the directory may be searched but not read.
            Err(_) => self.give_up(&mut state, change_word(id.1)),
        }
        added.is_ok()
    }

    fn forget_oldest(&self, state: &mut State, queue: &OwnedFd) {
        let Some((number, id)) = state.order.pop_front() else {
            state.by_id.clear();
            return;
        };
        if state.by_number.get(&number) == Some(&id) {
            self.tell(state, id);
            end(state, queue, number);
        }
    }

    /// What is known by this word is known for a moment only, from now on.
    fn give_up(&self, state: &mut State, word: usize) {
        if let Some(value) = state.words.get_mut(word) {
            *value |= 1;
            self.write(state, word);
        }
    }

    /// Something changed in a node.
    fn tell(&self, state: &mut State, id: Id) {
        // The first word first: who finds it unchanged has seen all others as they were.
        for word in [0, change_word(id.1)] {
            if let Some(value) = state.words.get_mut(word) {
                *value = value.wrapping_add(2);
                self.write(state, word);
            }
        }
    }

    /// Best effort: an arena that takes no write is a container that has ended.
    fn write(&self, state: &State, word: usize) {
        if let (Some(arena), Some(value)) = (&self.arena, state.words.get(word)) {
            let _ = rustix::io::pwrite(arena, &value.to_ne_bytes(), CHANGES_OFFSET + word as u64 * 4);
        }
    }

    /// Does what changes names or attributes of an export for the container, which needs not be told of it.
    pub(super) fn changing<T>(
        &self,
        export: &Export,
        names: &[Named<'_>],
        then: Then,
        change: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let Some(queue) = self.queue.as_ref().filter(|_| self.is_on(export)) else { return change() };
        let may_be_directory = matches!(then, Then::Nothing | Then::Move);
        let touched: Vec<Touched> = names.iter().map(|named| self.touched(export, named, may_be_directory)).collect();
        let names = || touched.iter().flat_map(|touched| [&touched.name, &touched.itself]).flatten();
        self.lock().own.extend(names().cloned());
        let result = change();
        let mut state = self.lock();
        self.read(&mut state, queue);
        for name in names() {
            if let Some(at) = state.own.iter().position(|own| own == name) {
                state.own.swap_remove(at);
            }
        }
        match (then, touched.as_slice()) {
            (Then::Write, [file]) if result.is_ok() => state.note_written(file),
            (Then::Move, [from, to]) if result.is_ok() => state.move_written(from, to),
            (Then::Remove, [file]) if result.is_ok() => {
                state.forget_written(file);
            }
            _ => {}
        }
        result
    }

    /// The container gets a handle that writes to a file: it asks the handle for attributes, and needs not be told of writes.
    pub(super) fn writes(&self, export: &Export, named: &Named<'_>) {
        let Some(queue) = self.queue.as_ref().filter(|_| self.is_on(export)) else { return };
        let touched = self.touched(export, named, false);
        let mut state = self.lock();
        // The end of an earlier handle may still be told.
        self.read(&mut state, queue);
        state.note_written(&touched);
    }

    /// What a path is called in events. Its directory is watched, as is an export itself.
    fn touched(&self, export: &Export, named: &Named<'_>, may_be_directory: bool) -> Touched {
        let name = named.parent().and_then(|(parent, name)| {
            let id = parent.id()?;
            self.add(parent.as_fd(), id);
            Ok((id, name.to_vec()))
        });
        let itself =
            if named.path.is_empty() || may_be_directory { self.itself(export, named.path).ok() } else { None };
        Touched { name: name.ok(), itself: itself.flatten() }
    }

    /// The node's own name in events, where it may be watched itself.
    fn itself(&self, export: &Export, path: &[u8]) -> Result<Option<Name>, Errno> {
        let node = export.node(path)?;
        let attributes = attributes::of_descriptor(&node)?;
        if path.is_empty() {
            self.add(node.as_fd(), id_of(&attributes));
        }
        let is_watched = path.is_empty() || attributes::kind(&attributes) == FileType::Directory;
        Ok(is_watched.then(|| (id_of(&attributes), Vec::new())))
    }

    /// Reads events and tells of them, until `stop` can be read.
    pub(super) fn serve(&self, stop: BorrowedFd<'_>) {
        let Some(queue) = &self.queue else { return };
        loop {
            let mut wanted = [PollFd::new(&stop, PollFlags::IN), PollFd::new(queue, PollFlags::IN)];
            if matches!(poll(&mut wanted, None), Err(errno) if errno != Errno::INTR) || is_ready(&wanted) {
                return;
            }
            let has_read = self.read(&mut self.lock(), queue);
            if has_read && matches!(poll(&mut [PollFd::new(&stop, PollFlags::IN)], Some(&PAUSE)), Ok(1)) {
                return;
            }
        }
    }

    /// Tells of all events that are there; true where there were some.
    fn read(&self, state: &mut State, queue: &OwnedFd) -> bool {
        let mut buffer = [MaybeUninit::uninit(); READ];
        let mut reader = Reader::new(queue, &mut buffer);
        let (mut has_read, mut reads, mut got) = (false, 0, 0);
        loop {
            if reader.is_buffer_empty() {
                // A read that left room for another event has found no more.
                if reads == MOST_READS || has_read && got + LONGEST_EVENT <= READ {
                    return has_read;
                }
                reads += 1;
                got = 0;
            }
            let Ok(event) = reader.next() else { return has_read };
            has_read = true;
            let name = event.file_name().map_or(&b""[..], |name| name.to_bytes());
            got += EVENT + if name.is_empty() { 0 } else { (name.len() + 1).next_multiple_of(EVENT) };
            self.on_event(state, queue, event.wd(), event.events(), name);
        }
    }

    fn on_event(&self, state: &mut State, queue: &OwnedFd, number: i32, what: ReadFlags, name: &[u8]) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.forget_all(state, queue);
        }
        let Some(&id) = state.by_number.get(&number) else { return };
        if what.contains(ReadFlags::IGNORED) {
            self.tell(state, id);
            return end(state, queue, number);
        }
        let name = (id, name.to_vec());
        // Also where a request changes the file right now: it may have been the container's last handle.
        if what.contains(ReadFlags::CLOSE_WRITE) {
            state.written.remove(&name);
            return;
        }
        if state.own.contains(&name) || what.contains(ReadFlags::MODIFY) && state.written.contains(&name) {
            return;
        }
        self.tell(state, id);
        end(state, queue, number);
    }

    /// Events were lost: nothing holds.
    fn forget_all(&self, state: &mut State, queue: &OwnedFd) {
        let watched: Vec<(i32, Id)> = state.by_number.iter().map(|(number, id)| (*number, *id)).collect();
        for (number, id) in watched {
            self.tell(state, id);
            end(state, queue, number);
        }
    }
}

/// Ends a watch; the host may have ended it before.
fn end(state: &mut State, queue: &OwnedFd, number: i32) {
    if let Some(id) = state.by_number.remove(&number) {
        state.by_id.remove(&id);
        let _ = inotify::remove_watch(queue, number);
        // From now on nobody tells which file has the name.
        let in_directory =
            |written: &BTreeSet<Name>| written.range((id, Vec::new())..).next().filter(|name| name.0 == id).cloned();
        while let Some(name) = in_directory(&state.written) {
            state.written.remove(&name);
        }
    }
    if state.order.len() > 2 * state.by_id.len() + 64 {
        let State { order, by_number, .. } = state;
        order.retain(|(number, id)| by_number.get(number) == Some(id));
    }
}

fn id_of(attributes: &Attributes) -> Id {
    (attributes.device, attributes.inode)
}

fn is_ready(wanted: &[PollFd<'_>]) -> bool {
    wanted.first().is_some_and(|stop| !stop.revents().is_empty())
}

/// How many watches the host allows a user.
fn allowed() -> usize {
    let text = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap_or_default();
    text.trim().parse().unwrap_or(SHARE * 64)
}

#[cfg(test)]
mod tests {
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
        handle.write_all(b"more").expect("write");
        assert_eq!((fixture.told(""), fixture.count()), (0, 1));
        drop(handle);
        assert_eq!((fixture.told(""), fixture.watches.lock().written.len()), (0, 0));
        std::fs::write(fixture.file("moved"), "by another").expect("write");
        assert_eq!(fixture.told(""), 2);
    }

    #[test]
    fn a_handle_that_is_closed_while_a_request_changes_its_file_writes_no_longer() {
        let fixture = Fixture::new();
        fixture.look("");
        fixture.watches.writes(&fixture.export, &fixture.export.named(b"file"));
        let handle = File::options().append(true).open(fixture.file("file")).expect("file");
        let change = || {
            drop(handle);
            std::fs::set_permissions(fixture.file("file"), Permissions::from_mode(0o600)).map_err(|_| Errno::IO)
        };
        let names = [fixture.export.named(b"file")];
        fixture.watches.changing(&fixture.export, &names, Then::Nothing, change).expect("chmod");
        std::fs::write(fixture.file("file"), "by another").expect("write");
        assert_eq!(fixture.told(""), 2);
    }

    #[test]
    fn a_name_that_the_container_gives_to_another_file_is_not_that_of_the_one_it_writes() {
        let fixture = Fixture::new();
        std::fs::write(fixture.file("new"), "").expect("write");
        fixture.look("");
        let handles = ["file", "second"].map(|name| {
            fixture.watches.writes(&fixture.export, &fixture.export.named(name.as_bytes()));
            File::options().append(true).create(true).open(fixture.file(name)).expect("file")
        });
        fixture.look("");
        let told = fixture.told("");
        fixture.watches.writes(&fixture.export, &fixture.export.named(b"file"));
        fixture.watches.writes(&fixture.export, &fixture.export.named(b"second"));
        let rename = || std::fs::rename(fixture.file("new"), fixture.file("file")).map_err(|_| Errno::IO);
        let names = [fixture.export.named(b"new"), fixture.export.named(b"file")];
        fixture.watches.changing(&fixture.export, &names, Then::Move, rename).expect("rename");
        let remove = || std::fs::remove_file(fixture.file("second")).map_err(|_| Errno::IO);
        let names = [fixture.export.named(b"second")];
        fixture.watches.changing(&fixture.export, &names, Then::Remove, remove).expect("remove");
        assert!(fixture.watches.lock().written.is_empty());
        std::fs::write(fixture.file("file"), "by another").expect("write");
        assert_eq!(fixture.told(""), told + 2);
        drop(handles);
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
}
