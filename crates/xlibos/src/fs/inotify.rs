//! Events of file systems: inotify(7). File systems call [`notify`]; where nothing is watched that costs one load.

use super::file::{File, FileOps};
use super::inode::{Inode, InodeId, Kind, kernel_dev};
use super::path::Path;
use crate::uio::Sink;
use crate::wait::{Events, READABLE, WaitQueue};
use crate::{Errno, Result, Task};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use hashbrown::HashMap;
use machine::sync::Mutex;

/// IN_* bits.
#[expect(missing_docs, reason = "names of inotify(7)")]
pub mod mask {
    pub const ACCESS: u32 = 0x1;
    pub const MODIFY: u32 = 0x2;
    pub const ATTRIB: u32 = 0x4;
    pub const CLOSE_WRITE: u32 = 0x8;
    pub const CLOSE_NOWRITE: u32 = 0x10;
    pub const OPEN: u32 = 0x20;
    pub const MOVED_FROM: u32 = 0x40;
    pub const MOVED_TO: u32 = 0x80;
    pub const CREATE: u32 = 0x100;
    pub const DELETE: u32 = 0x200;
    pub const DELETE_SELF: u32 = 0x400;
    pub const MOVE_SELF: u32 = 0x800;
    pub const ALL: u32 = 0xfff;
    pub const OVERFLOW: u32 = 0x4000;
    pub const IGNORED: u32 = 0x8000;
    pub const ONLYDIR: u32 = 0x0100_0000;
    pub const DONT_FOLLOW: u32 = 0x0200_0000;
    pub const EXCL_UNLINK: u32 = 0x0400_0000;
    pub const MASK_CREATE: u32 = 0x1000_0000;
    pub const MASK_ADD: u32 = 0x2000_0000;
    pub const ISDIR: u32 = 0x4000_0000;
    pub const ONESHOT: u32 = 0x8000_0000;
}

/// fs.inotify.max_queued_events.
const MAX_EVENTS: usize = 16_384;
/// Bytes of `struct inotify_event` without its name.
const HEADER: usize = 16;
/// FIONREAD.
const FIONREAD: u32 = 0x541b;

/// How many watches there are: nothing is looked up while it is zero.
static WATCH_COUNT: AtomicU32 = AtomicU32::new(0);
static WATCHERS: Mutex<Option<HashMap<InodeId, Vec<Weak<Inotify>>>>> = Mutex::new(None);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    watch: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Event {
    fn encode(&self) -> Vec<u8> {
        let padded = if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(HEADER) };
        let mut out = self.watch.to_ne_bytes().to_vec();
        out.extend(self.mask.to_ne_bytes());
        out.extend(self.cookie.to_ne_bytes());
        out.extend(u32::try_from(padded).unwrap_or(0).to_ne_bytes());
        out.extend(&self.name);
        out.resize(HEADER + padded, 0);
        out
    }
}

#[derive(Debug, Default)]
struct State {
    watches: BTreeMap<i32, (InodeId, u32)>,
    last_watch: i32,
    events: VecDeque<Event>,
}

impl State {
    fn watch_of(&self, id: InodeId) -> Option<(i32, u32)> {
        self.watches.iter().find(|(_, (held, _))| *held == id).map(|(watch, (_, mask))| (*watch, *mask))
    }

    fn push(&mut self, event: Event) {
        // Equal events in a row are told once.
        if self.events.back() == Some(&event) {
            return;
        }
        if self.events.len() >= MAX_EVENTS || machine::heap::is_short() {
            let overflow = Event { watch: -1, mask: mask::OVERFLOW, cookie: 0, name: Vec::new() };
            if self.events.back() != Some(&overflow) {
                self.events.push_back(overflow);
            }
            return;
        }
        self.events.push_back(event);
    }
}

/// An inotify instance.
#[derive(Debug)]
pub struct Inotify {
    state: Mutex<State>,
    queue: WaitQueue,
    me: Weak<Inotify>,
}

impl Inotify {
    /// An instance without watches.
    #[must_use]
    pub fn new() -> Arc<Inotify> {
        Arc::new_cyclic(|me| Inotify {
            state: Mutex::new(State::default()),
            queue: WaitQueue::new(),
            me: Weak::clone(me),
        })
    }

    /// Watches a file, or changes what is watched of it. Returns the watch.
    ///
    /// # Errors
    /// EINVAL for no event, EEXIST for IN_MASK_CREATE where it is watched.
    pub fn add(&self, id: InodeId, wanted: u32) -> Result<i32> {
        if wanted & (mask::ALL | mask::ONESHOT) == 0 || wanted & mask::MASK_ADD != 0 && wanted & mask::MASK_CREATE != 0
        {
            return Err(Errno::EINVAL);
        }
        let kept = wanted & (mask::ALL | mask::ONESHOT | mask::EXCL_UNLINK);
        let mut state = self.state.lock();
        if let Some((watch, old)) = state.watch_of(id) {
            if wanted & mask::MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            let mask = if wanted & mask::MASK_ADD == 0 { kept } else { kept | old };
            state.watches.insert(watch, (id, mask));
            return Ok(watch);
        }
        state.last_watch = state.last_watch.checked_add(1).ok_or(Errno::ENOSPC)?;
        let watch = state.last_watch;
        state.watches.insert(watch, (id, kept));
        drop(state);
        WATCHERS.lock().get_or_insert_default().entry(id).or_default().push(Weak::clone(&self.me));
        WATCH_COUNT.fetch_add(1, Ordering::SeqCst);
        Ok(watch)
    }

    /// Ends a watch; IN_IGNORED is told.
    ///
    /// # Errors
    /// EINVAL for a watch that is none.
    pub fn remove(&self, watch: i32) -> Result<()> {
        let id = {
            let mut state = self.state.lock();
            let (id, _) = state.watches.remove(&watch).ok_or(Errno::EINVAL)?;
            state.push(Event { watch, mask: mask::IGNORED, cookie: 0, name: Vec::new() });
            id
        };
        self.unregister(id);
        self.queue.wake(READABLE);
        Ok(())
    }

    fn unregister(&self, id: InodeId) {
        WATCH_COUNT.fetch_sub(1, Ordering::SeqCst);
        let mut watchers = WATCHERS.lock();
        let Some(table) = watchers.as_mut() else { return };
        let Some(list) = table.get_mut(&id) else { return };
        list.retain(|held| !held.ptr_eq(&self.me));
        if list.is_empty() {
            table.remove(&id);
        }
    }

    fn post(&self, id: InodeId, found: u32, cookie: u32, name: &[u8]) {
        let ended = {
            let mut state = self.state.lock();
            let Some((watch, wanted)) = state.watch_of(id) else { return };
            if wanted & found & mask::EXCL_UNLINK != 0 {
                return;
            }
            let found = found & !mask::EXCL_UNLINK;
            let is_gone = found & mask::DELETE_SELF != 0;
            if wanted & found & mask::ALL != 0 {
                state.push(Event { watch, mask: found, cookie, name: name.to_vec() });
            } else if !is_gone {
                return;
            }
            (is_gone || wanted & mask::ONESHOT != 0).then_some(watch)
        };
        match ended {
            Some(watch) => drop(self.remove(watch)),
            None => self.queue.wake(READABLE),
        }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let watches = core::mem::take(&mut self.state.lock().watches);
        watches.values().for_each(|(id, _)| self.unregister(*id));
    }
}

/// Whether anybody watches anything.
#[inline]
#[must_use]
pub fn is_used() -> bool {
    WATCH_COUNT.load(Ordering::Relaxed) != 0
}

/// Tells who watches a file (for a directory's entries: the directory, with the entry's name) what happened.
pub fn notify(id: InodeId, found: u32, name: &[u8]) {
    notify_move(id, found, 0, name);
}

/// As [`notify`], for the two halves of a rename, which have one cookie ([`new_cookie`]).
pub fn notify_move(id: InodeId, found: u32, cookie: u32, name: &[u8]) {
    if !is_used() {
        return;
    }
    let watchers: Vec<Arc<Inotify>> = {
        let table = WATCHERS.lock();
        let list = table.as_ref().and_then(|table| table.get(&id));
        list.into_iter().flatten().filter_map(Weak::upgrade).collect()
    };
    watchers.iter().for_each(|inotify| inotify.post(id, found, cookie, name));
}

/// Tells who watches a place, and who watches the directory that holds it, what happened.
pub fn notify_place(place: &Path, found: u32) {
    if !is_used() {
        return;
    }
    let found = found | directory_bit(place.inode());
    if let Some(parent) = place.dentry.parent() {
        // Not for who wants nothing more of a name that is gone.
        let gone = if place.dentry.is_removed() { mask::EXCL_UNLINK } else { 0 };
        notify(parent.inode().id(), found | gone, &place.dentry.name());
    }
    notify(place.inode().id(), found, b"");
}

/// IN_ISDIR for a directory.
pub fn directory_bit(inode: &Arc<dyn Inode>) -> u32 {
    if inode.kind() == Kind::Directory { mask::ISDIR } else { 0 }
}

/// A number that ties IN_MOVED_FROM and IN_MOVED_TO together.
#[must_use]
pub fn new_cookie() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl FileOps for Inotify {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, _file: &File, to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        let mut state = self.state.lock();
        let mut total = 0;
        while let Some(event) = state.events.front() {
            let bytes = event.encode();
            if bytes.len() > to.remaining() {
                return if total == 0 { Err(Errno::EINVAL) } else { Ok(total) };
            }
            total += to.put(&bytes)?;
            state.events.pop_front();
        }
        if total == 0 { Err(Errno::EAGAIN) } else { Ok(total) }
    }

    fn poll(&self, _file: &File) -> Events {
        if self.state.lock().events.is_empty() { Events::empty() } else { READABLE }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn ioctl(&self, _task: &Task, _file: &File, command: u32, argument: u64) -> Result<u64> {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let total: usize = self.state.lock().events.iter().map(|event| event.encode().len()).sum();
        machine::guest::write_value(argument, &u32::try_from(total).unwrap_or(u32::MAX))?;
        Ok(0)
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:inotify".to_vec()
    }

    /// One line a watch, the last one first.
    fn describe_more(&self) -> Vec<u8> {
        let state = self.state.lock();
        let line = |(watch, (id, mask)): (&i32, &(InodeId, u32))| {
            let device = kernel_dev(id.dev);
            format!("inotify wd:{watch:x} ino:{:x} sdev:{device:x} mask:{mask:x} ignored_mask:0 \n", id.ino)
        };
        state.watches.iter().rev().map(line).collect::<String>().into_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Inotify, mask, notify};
    use crate::fs::inode::InodeId;
    use crate::fs::{File, OpenFlags};
    use crate::uio::Sink;
    use crate::{Errno, Result};

    fn read(file: &File, room: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; room];
        let count = file.read(&mut Sink::kernel(&mut buffer))?;
        buffer.truncate(count);
        Ok(buffer)
    }

    #[test]
    fn events_of_watched_files_are_told_in_order() {
        let inotify = Inotify::new();
        let file = File::new(inotify.clone(), OpenFlags::NONBLOCK);
        let (dir, other) = (InodeId { dev: 9, ino: 1 }, InodeId { dev: 9, ino: 2 });
        assert_eq!(inotify.add(dir, mask::CREATE | mask::DELETE), Ok(1));
        notify(other, mask::CREATE, b"x");
        notify(dir, mask::MODIFY, b"x");
        assert_eq!(read(&file, 100), Err(Errno::EAGAIN));
        notify(dir, mask::CREATE, b"name");
        notify(dir, mask::CREATE, b"name");
        assert_eq!(read(&file, 20), Err(Errno::EINVAL));
        let Ok(bytes) = read(&file, 100) else { panic!("no event") };
        assert_eq!((bytes.len(), bytes.get(16..21)), (32, Some(&b"name\0"[..])));
        assert_eq!(inotify.remove(1), Ok(()));
        assert_eq!(read(&file, 100).map(|bytes| bytes.len()), Ok(16));
        assert_eq!(inotify.remove(1), Err(Errno::EINVAL));
    }
}
