//! Open files of the host: handles, kept while they are likely to be used again.

use super::broker;
use super::data::cut_vectors;
use super::dentry::Name;
use super::file::{File, FileOps, MapObject, OpenFlags, Sharing};
use super::host_names::is_of_descriptors;
use super::host_watch::Moment;
use super::hostfs::HostInode;
use super::inode::Inode;
use super::sleep_lock::SleepLock;
use crate::uio::{Sink, Source};
use crate::{Errno, Result, Task};
use abi::broker::{Attributes, MOST_BESIDE, Reply, Request, Time};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use machine::epoch::pin;
use machine::host::{self, HostFd, HostStat, IoVec};
use machine::sync::Mutex;
use machine::window;

/// Handles of one file.
#[derive(Debug, Default)]
pub(super) struct Handles {
    reading: Option<Arc<HostFd>>,
    pub(super) writing: Option<Arc<HostFd>>,
    /// The one that writes is to go when nobody has it any more.
    is_leaving: bool,
}

/// How many files keep a handle while they are closed at most, and how many here: three quarters of the container's host
/// descriptors.
const MOST_HANDLES: usize = 12 * 1024;
static KEPT_HANDLES: AtomicUsize = AtomicUsize::new(MOST_HANDLES);

/// The host lets the container have so many descriptors.
pub(super) fn set_descriptors(count: u64) {
    let part = usize::try_from(count / 4 * 3).unwrap_or(usize::MAX);
    KEPT_HANDLES.store(part.min(MOST_HANDLES), Ordering::Relaxed);
}

/// Files with handles, in the order of their opening.
static KEPT: Mutex<VecDeque<Weak<HostInode>>> = Mutex::new(VecDeque::new());

/// Makes room for one more handle: drops the oldest that no open file uses.
fn yield_handles() {
    let mut tries = KEPT.lock().len().saturating_sub(KEPT_HANDLES.load(Ordering::Relaxed)).min(64);
    while tries > 0 {
        tries -= 1;
        let Some(oldest) = KEPT.lock().pop_front() else { return };
        let Some(inode) = oldest.upgrade() else { continue };
        inode.is_listed.store(false, Ordering::Relaxed);
        if !inode.drop_idle_handles() && !inode.is_listed.swap(true, Ordering::Relaxed) {
            KEPT.lock().push_back(oldest);
        }
    }
}

/// Files of a directory that are opened with another one of it, in advance.
#[derive(Default)]
struct Ahead {
    directory: Option<Arc<HostInode>>,
    names: Vec<Name>,
}

impl Ahead {
    fn keep(&self, at: usize, attributes: &Attributes, handle: HostFd) {
        if let Some((directory, name)) = self.directory.as_ref().zip(self.names.get(at)) {
            directory.keep_ahead(name, attributes, handle);
        }
    }
}

/// How many files are opened in advance. Files of one directory that were opened one after the other earn it, and each file that
/// was opened in advance and then used pays for two others: what is opened in vain costs less than a request.
#[derive(Debug, Default)]
pub(super) struct OpensAhead {
    credit: AtomicU32,
    /// Inode number of the directory of the last request.
    last: AtomicU64,
}

impl OpensAhead {
    const PAYS: u32 = 2;
    const MOST: u32 = 4 * MOST_BESIDE as u32;

    fn earn(&self, more: u32) {
        let sum = |had: u32| Some((had + more).min(Self::MOST));
        let _ = self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }

    /// A file of a directory is opened by a request: takes all credit.
    fn spend(&self, directory: u64) -> usize {
        if self.last.swap(directory, Ordering::Relaxed) == directory {
            self.earn(1);
        }
        self.take()
    }

    /// Takes all credit.
    pub(super) fn take(&self) -> usize {
        self.credit.swap(0, Ordering::Relaxed) as usize
    }

    pub(super) fn give_back(&self, rest: usize) {
        self.earn(rest as u32);
    }
}

impl HostInode {
    /// Drops the handles unless an open file or a mapping's record uses them.
    fn drop_idle_handles(&self) -> bool {
        let mut handles = self.handles.lock();
        if !is_idle(&handles.reading) || !is_idle(&handles.writing) {
            return false;
        }
        let old = core::mem::take(&mut *handles);
        drop(handles);
        self.drop_handles(old);
        true
    }

    /// Somebody may execute the file: the host cannot while it is open for writing.
    fn is_executable(&self) -> bool {
        self.attributes().mode & 0o111 != 0
    }

    /// Drops the handle that writes to a file that somebody may execute, unless somebody can write; who has it for a moment does
    /// that afterwards.
    pub(super) fn drop_idle_writer(&self) {
        if !self.has_writer.load(Ordering::SeqCst) || !self.is_executable() {
            return;
        }
        let mut handles = self.handles.lock();
        let is_used = self.writers.load(Ordering::SeqCst) > 0 || self.is_removed();
        handles.is_leaving = !is_used && !is_idle(&handles.writing);
        let writing = if is_used || handles.is_leaving { None } else { handles.writing.take() };
        drop(handles);
        if writing.is_some() {
            self.drop_handles(Handles { writing, ..Handles::default() });
        }
    }

    /// A handle is given back that may have been that one.
    fn give_back(&self) {
        if self.has_writer.load(Ordering::SeqCst) && self.handles.lock().is_leaving {
            self.drop_idle_writer();
        }
    }

    /// The handles are closed before anything else is believed of the file: from then on the supervisor tells of its changes.
    fn drop_handles(&self, handles: Handles) {
        self.is_ahead.store(false, Ordering::Relaxed);
        self.handles_turn.fetch_add(1, Ordering::Relaxed);
        drop(handles);
        let handles = self.handles.lock();
        if handles.writing.is_none() {
            self.end_writing();
        }
    }

    pub(super) fn has_handles(&self) -> bool {
        let handles = self.handles.lock();
        handles.reading.is_some() || handles.writing.is_some()
    }

    /// Drops the handles where the host has removed the file that they lead to.
    pub(super) fn drop_dead_handles(&self) {
        let Some(handle) = self.any_handle() else { return };
        if host::fstat(handle.raw()).is_ok_and(|stat| stat.nlink > 0) {
            return;
        }
        let dead = core::mem::take(&mut *self.handles.lock());
        self.drop_handles(dead);
    }

    pub(super) fn keep_handle(&self, handle: Arc<HostFd>, is_writable: bool) {
        let mut handles = self.handles.lock();
        if is_writable {
            self.has_writer.store(true, Ordering::Relaxed);
        }
        let old = if is_writable { handles.writing.replace(handle) } else { handles.reading.replace(handle) };
        // It may lead to what the first write has put a copy in place of.
        let stale = if is_writable && !self.fs.trust.is_mappable && is_idle(&handles.reading) {
            handles.reading.take()
        } else {
            None
        };
        self.handles_turn.fetch_add(1, Ordering::Relaxed);
        drop(handles);
        drop((old, stale));
        if !self.is_listed.swap(true, Ordering::Relaxed)
            && let Ok(this) = self.arc()
        {
            KEPT.lock().push_back(Arc::downgrade(&this));
            yield_handles();
        }
    }

    fn kept_handle(&self, is_writable: bool) -> Option<Arc<HostFd>> {
        let handles = self.handles.lock();
        match &handles.writing {
            Some(handle) if is_writable || !self.is_executable() => Some(Arc::clone(handle)),
            _ if is_writable => None,
            _ => handles.reading.clone(),
        }
    }

    fn writes_by(&self, handle: &Arc<HostFd>) -> bool {
        self.handles.lock().writing.as_ref().is_some_and(|writing| Arc::ptr_eq(writing, handle))
    }

    fn any_handle(&self) -> Option<Arc<HostFd>> {
        let handles = self.handles.lock();
        handles.writing.clone().or_else(|| handles.reading.clone())
    }

    /// A handle on the file, the kept one where it will do. Who reads what somebody may execute has none that writes, which would
    /// stay as long as he does, unless the file has no name any more.
    fn handle(&self, is_writable: bool) -> Result<Arc<HostFd>> {
        if let Some(handle) = self.kept_handle(is_writable) {
            if self.is_ahead.load(Ordering::Relaxed) && self.is_ahead.swap(false, Ordering::Relaxed) {
                self.fs.opens.earn(OpensAhead::PAYS);
            }
            return Ok(handle);
        }
        let _opening = self.opening.get_or_make(SleepLock::new).lock_harmlessly();
        if let Some(handle) = self.kept_handle(is_writable) {
            return Ok(handle);
        }
        if let (true, false, Some(handle)) = (self.is_removed(), is_writable, self.any_handle()) {
            return Ok(handle);
        }
        let ahead = if is_writable { Ahead::default() } else { self.opened_next() };
        let since = Moment::now(&self.fs.own_changes);
        let (Reply::Opened { attributes, beside }, handles) = self.ask_to_open(is_writable, &ahead.names)? else {
            return Err(Errno::EIO);
        };
        let mut handles = handles.into_iter();
        let handle = Arc::new(handles.next().ok_or(Errno::EIO)?);
        if attributes.inode == self.id().ino {
            self.set_attributes_known(attributes, since);
        }
        self.keep_handle(Arc::clone(&handle), is_writable);
        for ((at, attributes), handle) in beside.iter().zip(handles) {
            ahead.keep(usize::from(*at), attributes, handle);
        }
        Ok(handle)
    }

    /// Asks for a handle, and for others where the file is found by the name that it is known by.
    fn ask_to_open(&self, writable: bool, ahead: &[Name]) -> Result<(Reply, Vec<HostFd>)> {
        let export = self.fs.export;
        let mut names: Vec<&[u8]> = ahead.iter().map(|name| &**name).collect();
        self.by_name(|file| {
            let beside = core::mem::take(&mut names);
            let has_others = !beside.is_empty();
            let ask = |beside| broker::request_several(&Request::Open { export, file, writable, beside });
            // Where no descriptor of another can travel, this one may.
            ask(beside).or_else(|errno| match errno {
                errno if has_others && is_of_descriptors(errno) => ask(Vec::new()),
                errno => Err(errno),
            })
        })
    }

    /// What is opened in advance where this file is opened by a request.
    fn opened_next(&self) -> Ahead {
        let Some(directory) = self.directory() else { return Ahead::default() };
        let credit = self.fs.opens.spend(directory.id().ino);
        let most = credit.min(MOST_BESIDE);
        let names = if most == 0 { Vec::new() } else { directory.files_to_open(&self.name(), most) };
        self.fs.opens.give_back(credit - names.len());
        Ahead { directory: Some(directory), names }
    }

    /// Keeps the handle of a name of this directory that was opened in advance, where that is still the file that had the name.
    pub(super) fn keep_ahead(&self, name: &[u8], attributes: &Attributes, handle: HostFd) {
        let Some(inode) = self.file_of(name, attributes) else { return };
        if !inode.has_handles() {
            inode.is_ahead.store(true, Ordering::Relaxed);
            inode.keep_handle(Arc::new(handle), false);
            // It may be of a removed file, and the inode since be another file's of the same number.
            let known = inode.attributes();
            if (known.ctime, known.size) != (attributes.ctime, attributes.size) {
                inode.drop_dead_handles();
            }
        }
    }

    /// Attributes by fstat of a held handle; None where none is held.
    pub(super) fn refresh_from_handle(&self) -> Option<Attributes> {
        let handle = self.any_handle()?;
        let since = Moment::now(&self.fs.own_changes);
        let stat = host::fstat(handle.raw());
        drop(handle);
        self.give_back();
        let stat = stat.ok()?;
        // Here the host tells ids as our own namespace has them, which is nobody's for most.
        let Attributes { uid, gid, .. } = self.attributes();
        let attributes = Attributes { uid, gid, ..attributes_from(&stat) };
        self.set_attributes_known(attributes, since);
        Some(attributes)
    }
}

/// Whether nobody but the inode has the handle.
fn is_idle(slot: &Option<Arc<HostFd>>) -> bool {
    slot.as_ref().is_none_or(|handle| Arc::strong_count(handle) == 1)
}

fn time_from([sec, nsec]: [i64; 2]) -> Time {
    Time { sec, nsec: u32::try_from(nsec).unwrap_or(0) }
}

fn attributes_from(stat: &HostStat) -> Attributes {
    Attributes {
        device: stat.dev,
        inode: stat.ino,
        mode: stat.mode,
        links: u32::try_from(stat.nlink).unwrap_or(u32::MAX),
        uid: stat.uid,
        gid: stat.gid,
        rdev: stat.rdev,
        size: u64::try_from(stat.size).unwrap_or(0),
        blocks: u64::try_from(stat.blocks).unwrap_or(0),
        atime: time_from(stat.atime),
        mtime: time_from(stat.mtime),
        ctime: time_from(stat.ctime),
    }
}

/// Who has a file open, until dropped.
struct Opener {
    inode: Arc<HostInode>,
    is_writer: bool,
}

impl Opener {
    /// To be made before the handle is asked for: one that writes stays then.
    fn new(inode: &Arc<HostInode>, is_writer: bool) -> Opener {
        inode.writers.fetch_add(u32::from(is_writer), Ordering::SeqCst);
        Opener { inode: Arc::clone(inode), is_writer }
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.inode.writers.fetch_sub(u32::from(self.is_writer), Ordering::SeqCst);
        if self.is_writer { self.inode.drop_idle_writer() } else { self.inode.give_back() }
    }
}

/// An open regular file of the host.
pub(super) struct HostFile {
    handle: Arc<HostFd>,
    /// Behind the handle, which is given back first.
    opener: Opener,
    /// The inode's, when it gave the handle or before.
    turn: u32,
    /// The file reached as far as this, when it was opened or later.
    reach: AtomicU64,
    /// A window may keep the handle: one that writes would keep the host from executing the file, and the supervisor from
    /// telling of writes.
    is_mappable: bool,
}

impl HostFile {
    pub(super) fn open(inode: &Arc<HostInode>, is_writable: bool) -> Result<HostFile> {
        let opener = Opener::new(inode, is_writable);
        let turn = inode.handles_turn.load(Ordering::Relaxed);
        let handle = inode.handle(is_writable)?;
        let reach = AtomicU64::new(inode.attributes().size);
        let is_mappable = inode.fs.trust.is_mappable && !is_writable && !inode.writes_by(&handle);
        Ok(HostFile { handle, opener, turn, reach, is_mappable })
    }

    fn inode(&self) -> &HostInode {
        &self.opener.inode
    }

    /// Reads without the host what the process has mapped of the file. None for what may reach the end of the file, and
    /// wherever else the host has to say.
    fn read_window(&self, to: &Sink<'_>, offset: u64) -> Option<usize> {
        let IoVec { base, len } = to.one_guest_buffer()?;
        let end = offset.checked_add(len).filter(|end| *end <= window::LEN && len > 0)?;
        if !self.is_mappable || end > self.reach.load(Ordering::Relaxed) {
            return None;
        }
        let process = &Task::current()?.process;
        // The pages may be away: what is read below a pin is short, for nothing that is retired goes meanwhile.
        let is_mapped = len <= SHORT_READ && process.mm_at(&pin()).windows.read_mapped(&self.handle, offset, base, len);
        let is_read = is_mapped || process.mm().windows.read(&self.handle, offset, base, len);
        is_read.then_some(usize::try_from(len).ok()?)
    }
}

/// Bytes that are read from a window below a pin.
const SHORT_READ: u64 = 8192;

/// What O_APPEND, O_DSYNC and O_SYNC are per call.
fn write_flags(flags: OpenFlags) -> u32 {
    let mut bits = 0;
    if flags.contains(OpenFlags::APPEND) {
        bits |= 0x10;
    }
    if flags.contains(OpenFlags::SYNC_PART) {
        bits |= 4;
    } else if flags.contains(OpenFlags::DSYNC) {
        bits |= 2;
    }
    bits
}

impl FileOps for HostFile {
    fn read(&self, _file: &File, to: &mut Sink<'_>, offset: u64) -> Result<usize> {
        if let Some(count) = self.read_window(to, offset) {
            to.advance(count);
            return Ok(count);
        }
        let fd = self.handle.raw();
        let count = if let Some(vectors) = to.guest_buffers() {
            host::read_file_guest(fd, &vectors, offset, 0)?
        } else if let Some(buffer) = to.kernel_buffer() {
            host::read_file(fd, buffer, offset)?
        } else {
            0
        };
        to.advance(count);
        let end = offset.saturating_add(count as u64);
        if count > 0 && end > self.reach.load(Ordering::Relaxed) {
            self.reach.fetch_max(end, Ordering::Relaxed);
        }
        Ok(count)
    }

    fn write(&self, file: &File, from: &mut Source<'_>, offset: u64) -> Result<usize> {
        let (fd, flags) = (self.handle.raw(), write_flags(file.flags()));
        let written = match (from.guest_buffers(), from.kernel_buffer()) {
            (Some(vectors), _) => {
                host::write_file_guest(fd, &cut_vectors(vectors, crate::uio::MAX_TRANSFER), offset, flags)
            }
            (None, Some(bytes)) => host::write_file(fd, bytes, offset, flags),
            (None, None) => Ok(0),
        };
        let count = written?;
        super::stamp::host_stamped();
        from.advance(count);
        Ok(count)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(self.inode().stat()?.size)
    }

    fn open_again(&self) -> bool {
        self.reach.store(self.inode().attributes().size, Ordering::Relaxed);
        self.inode().handles_turn.load(Ordering::Relaxed) == self.turn
    }

    fn map(&self, _file: &File, _sharing: Sharing) -> Result<MapObject> {
        Ok(MapObject::Handle(Arc::clone(&self.handle)))
    }

    fn allocate(&self, _file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        let export = self.inode().fs.export;
        self.inode().by_name(|file| broker::request_done(&Request::Allocate { export, file, mode, offset, len }))
    }

    fn sync(&self) -> Result<()> {
        // A file whose name is gone has nothing that must survive.
        let (inode, export) = (self.inode(), self.inode().fs.export);
        match inode.by_name(|file| broker::request_done(&Request::Sync { export, file })) {
            Err(_) if inode.is_removed() => Ok(()),
            synced => synced,
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_BESIDE, OpensAhead};

    #[test]
    fn files_of_one_directory_earn_that_others_are_opened_in_advance() {
        let opens = OpensAhead::default();
        assert_eq!([opens.spend(7), opens.spend(7), opens.spend(8), opens.spend(8)], [0, 1, 0, 1]);
        opens.give_back(1);
        opens.earn(2 * OpensAhead::PAYS);
        assert_eq!((opens.spend(9), opens.spend(10)), (5, 0));
    }

    #[test]
    fn what_is_earned_has_an_end() {
        let opens = OpensAhead::default();
        (0..1000).for_each(|_| opens.earn(OpensAhead::PAYS));
        assert_eq!(opens.spend(1), 4 * MOST_BESIDE);
    }
}
