//! Open file descriptions: open(2), "Open file descriptions".

use super::fd_table::FdTable;
use super::inode::{Change, Kind, Stat};
use super::inotify::{self, mask};
use super::locks::{self, FileLocks};
use super::object::{Ops, Seeking};
use super::sigio::{SigIo, Target};
use super::size_limit;
use super::sleep_lock::{SleepGuard, SleepLock};
use super::text_busy::Claim;
use crate::mm::image::Image;
use crate::uio::{Sink, Source};
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue, end_of_wait, wait_at_most};
use crate::{Errno, Result, Task};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use machine::{epoch::SetOnce, sync::Mutex};

bitflags::bitflags! {
    /// Flags of open(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// O_WRONLY.
        const WRONLY = 0o1;
        /// O_RDWR.
        const RDWR = 0o2;
        /// O_CREAT.
        const CREAT = 0o100;
        /// O_EXCL.
        const EXCL = 0o200;
        /// O_NOCTTY.
        const NOCTTY = 0o400;
        /// O_TRUNC.
        const TRUNC = 0o1000;
        /// O_APPEND.
        const APPEND = 0o2000;
        /// O_NONBLOCK.
        const NONBLOCK = 0o4000;
        /// O_DSYNC.
        const DSYNC = 0o10000;
        /// O_ASYNC.
        const ASYNC = 0o20000;
        /// O_DIRECT.
        const DIRECT = 0o40000;
        /// O_LARGEFILE.
        const LARGEFILE = 0o100000;
        /// O_DIRECTORY.
        const DIRECTORY = 0o200000;
        /// O_NOFOLLOW.
        const NOFOLLOW = 0o400000;
        /// O_NOATIME.
        const NOATIME = 0o1000000;
        /// O_CLOEXEC (of the descriptor, not of the description).
        const CLOEXEC = 0o2000000;
        /// The part of O_SYNC beyond O_DSYNC.
        const SYNC_PART = 0o4000000;
        /// O_PATH.
        const PATH = 0o10000000;
        /// The part of O_TMPFILE beyond O_DIRECTORY.
        const TMPFILE_PART = 0o20000000;
    }
}

impl OpenFlags {
    /// Whether reading is allowed.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.bits() & 3 != 1 && !self.contains(OpenFlags::PATH)
    }

    /// Whether writing is allowed.
    #[must_use]
    pub fn is_writable(self) -> bool {
        matches!(self.bits() & 3, 1 | 2) && !self.contains(OpenFlags::PATH)
    }
}

/// What an open file does. Transfers never sleep: they answer EAGAIN, and [`File`] waits on the queue.
///
/// The defaults are what Linux answers for a file without the operation.
pub trait FileOps: Send + Sync + Any {
    /// Reads at `offset` (ignored by streams). 0 at the end.
    ///
    /// # Errors
    /// EAGAIN when nothing is there yet; EINVAL for what cannot be read.
    fn read(&self, _file: &File, _to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes at `offset` (ignored by streams; at the end when the file has O_APPEND: the object looks at
    /// `file.flags()` itself). Returns how much.
    ///
    /// # Errors
    /// EAGAIN when there is no room; EINVAL for what cannot be written.
    fn write(&self, _file: &File, _from: &mut Source<'_>, _offset: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Whether the file has a position (lseek, pread); streams say ESPIPE.
    fn is_seekable(&self) -> bool {
        false
    }

    /// Whether lseek(2) does nothing and answers 0, as for most anonymous inodes and the memory devices.
    fn ignores_seek(&self) -> bool {
        false
    }

    /// Size for SEEK_END and O_APPEND, of seekable files.
    ///
    /// # Errors
    /// ESPIPE.
    fn size(&self) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    /// What holds now.
    fn poll(&self, _file: &File) -> Events {
        READABLE | WRITABLE
    }

    /// What holds now, for who holds a lock that is taken as changes are announced: None where to look might wait for another one.
    fn poll_at_hand(&self, _file: &File) -> Option<Events> {
        None
    }

    /// How long a blocking transfer waits at most, in nanoseconds: SO_RCVTIMEO and SO_SNDTIMEO.
    fn time_limit(&self, _events: Events) -> Option<u64> {
        None
    }

    /// Where changes of readiness are announced; None where the file is always ready.
    fn wait_queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Whether it sends SIGIO where O_ASYNC asks for that.
    fn tells_by_signal(&self) -> bool {
        self.wait_queue().is_some()
    }

    /// Whether its owner is told of urgent data by SIGURG: sockets.
    fn has_urgent_data(&self) -> bool {
        false
    }

    /// ioctl(2).
    ///
    /// # Errors
    /// ENOTTY for an unknown command.
    fn ioctl(&self, _task: &Task, _file: &File, _command: u32, _argument: u64) -> Result<u64> {
        Err(Errno::ENOTTY)
    }

    /// What mmap(2) maps.
    ///
    /// # Errors
    /// ENODEV for what cannot be mapped.
    fn map(&self, _file: &File, _sharing: Sharing) -> Result<MapObject> {
        Err(Errno::ENODEV)
    }

    /// A call of its text trapped. Returns whether it is worth a patched image.
    fn note_trap(&self) -> bool {
        false
    }

    /// The patched image of a file of the container's own that is worth it. May ask the broker: no lock is held.
    fn image(&self) -> Option<Arc<Image>> {
        None
    }

    /// F_SETFL changed flags (O_ASYNC, O_DIRECT, O_NONBLOCK): refuse what cannot be.
    ///
    /// # Errors
    /// EINVAL.
    fn set_flags(&self, _file: &File, _flags: OpenFlags) -> Result<()> {
        Ok(())
    }

    /// Attributes, for files without a path (pipes, sockets, anonymous inodes): fstat(2).
    ///
    /// # Errors
    /// EIO.
    fn stat(&self) -> Result<Stat> {
        Ok(Stat { mode: 0o600, ..Stat::anonymous(Kind::File, 1) })
    }

    /// Changes attributes of a file without a path. Permission was checked.
    ///
    /// # Errors
    /// EOPNOTSUPP for objects that all have the same.
    fn set_attributes(&self, _change: &Change) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What /proc/self/fd shows of a file without a path: `pipe:[5]`, `socket:[5]`, `anon_inode:[eventfd]`.
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[file]".to_vec()
    }

    /// Lines of its own in /proc/PID/fdinfo.
    fn describe_more(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Opens the object anew through /proc/self/fd: pipes can.
    ///
    /// # Errors
    /// ENXIO.
    fn reopen(&self, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }

    /// fallocate(2), with its mode bits.
    ///
    /// # Errors
    /// ESPIPE for streams, ENODEV for other files without space of their own.
    fn allocate(&self, _file: &File, _mode: u32, _offset: u64, _len: u64) -> Result<()> {
        Err(if self.is_seekable() { Errno::ENODEV } else { Errno::ESPIPE })
    }

    /// The next data or hole from an offset on: SEEK_DATA, SEEK_HOLE.
    ///
    /// # Errors
    /// ENXIO at or beyond the end.
    fn seek_extent(&self, what: Extent, offset: u64) -> Result<u64> {
        let size = self.size()?;
        match what {
            _ if offset >= size => Err(Errno::ENXIO),
            Extent::Data => Ok(offset),
            Extent::Hole => Ok(size),
        }
    }

    /// fsync(2), fdatasync(2).
    ///
    /// # Errors
    /// EINVAL for what has nothing to write; EIO.
    fn sync(&self) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// Seals of fcntl(2), memfd_create(2): what F_GET_SEALS answers, after adding `add`.
    ///
    /// # Errors
    /// EINVAL for files without seals; EPERM; EBUSY where a mapping can write.
    fn seals(&self, _add: Option<u32>) -> Result<u32> {
        Err(Errno::EINVAL)
    }

    /// A descriptor of the file was closed by a process (flush of close(2), POSIX locks go).
    fn on_close(&self, _file: &File, _task: &Task) {}

    /// Opens the object once more for reading, as if it were new; false where a new one is needed.
    fn open_again(&self) -> bool {
        false
    }

    /// The object itself, for those who know its type.
    fn as_any(&self) -> &dyn Any;
}

/// What SEEK_DATA and SEEK_HOLE look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Bytes that are there.
    Data,
    /// A hole, or the end.
    Hole,
}

/// Whether a mapping's writes reach the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// MAP_SHARED.
    Shared,
    /// MAP_PRIVATE.
    Private,
}

/// Held by each shared mapping that can write to a file: fcntl(2), F_SEAL_WRITE.
#[derive(Debug)]
pub struct WritableMappings;

/// What a mapping of a file is made of.
#[derive(Clone, Debug)]
pub enum MapObject {
    /// A host handle with the file's bytes at the file's own offsets.
    Handle(Arc<machine::host::HostFd>),
    /// The same, of a file that wants to know how long it can be written through the mapping.
    Counted(Arc<machine::host::HostFd>, Arc<WritableMappings>),
    /// The same, of a file that is sealed: the mapping never becomes writable.
    Sealed(Arc<machine::host::HostFd>),
    /// No handle: a private mapping is filled by reading the file.
    Copy,
    /// Zeros (/dev/zero).
    Zero,
}

/// An open file description.
pub struct File {
    ops: Ops,
    flags: AtomicU32,
    position: AtomicU64,
    seeking: Seeking,
    /// Held while a transfer uses the position: transfers may sleep (a file in memory moves to a memfd).
    moving: SleepLock,
    /// The name it was opened by, for /proc and for relative look-ups.
    path: Option<super::path::Path>,
    /// Who must know when the last descriptor has gone.
    watchers: Mutex<Vec<Weak<dyn CloseWatcher>>>,
    /// It may hold locks of its own (flock, F_OFD_SETLK).
    is_locked: AtomicBool,
    /// The locks of its file, since they were first asked for through it.
    locks: SetOnce<Arc<FileLocks>>,
    /// Why it cannot be run, or, of a program that runs, not be written.
    claim: Mutex<Option<Claim>>,
    /// Whom O_ASYNC tells: made when first asked for.
    sigio: Mutex<Option<Arc<SigIo>>>,
    /// Its last descriptor has gone, and that was told to all.
    has_ended: bool,
}

/// The position, held; written back when dropped.
pub struct Position<'a> {
    file: &'a File,
    value: u64,
    _moving: SleepGuard<'a>,
}

impl core::ops::Deref for Position<'_> {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.value
    }
}

impl core::ops::DerefMut for Position<'_> {
    fn deref_mut(&mut self) -> &mut u64 {
        &mut self.value
    }
}

impl Drop for Position<'_> {
    fn drop(&mut self) {
        self.file.position.store(self.value, Ordering::Relaxed);
    }
}

/// Told when an open file ends: epoll's items.
pub trait CloseWatcher: Send + Sync {
    /// The last descriptor has gone; `ops` is the object of the file.
    fn file_closed(&self, ops: &dyn FileOps);
}

impl Drop for File {
    fn drop(&mut self) {
        if !self.has_ended {
            // An attempt may have held it last, where another thread has closed it meanwhile.
            machine::cpu::current().for_good(|| self.end());
        }
    }
}

/// An open file of which nobody knows any more, kept to be opened again.
pub struct Closed(Arc<File>);

impl Closed {
    /// Where it was opened.
    pub(super) fn path(&self) -> Option<&super::path::Path> {
        self.0.path()
    }

    /// Opens the file again; None where it has to be opened anew.
    pub(super) fn open(self, flags: OpenFlags) -> Option<Arc<File>> {
        let Closed(mut file) = self;
        let held = Arc::get_mut(&mut file)?;
        if !held.path.as_ref()?.inode().may_stay_open() || !held.ops().open_again() {
            return None;
        }
        *held.flags.get_mut() = flags.intersection(KEPT).bits();
        *held.position.get_mut() = 0;
        *held.is_locked.get_mut() = false;
        held.has_ended = false;
        held.notify(mask::OPEN);
        Some(file)
    }
}

impl File {
    /// Closes a file whose descriptor has been taken out. What is returned may be opened again.
    #[must_use]
    pub fn close(mut file: Arc<File>) -> Option<Closed> {
        let may_stay = file.path.as_ref().is_some_and(|path| path.inode().may_stay_open());
        if !may_stay || !PLAIN.contains(file.flags()) {
            return None;
        }
        let held = Arc::get_mut(&mut file)?;
        if held.claim.get_mut().is_some() {
            return None;
        }
        held.end();
        held.has_ended = true;
        Some(Closed(file))
    }

    /// The last descriptor has gone.
    fn end(&mut self) {
        if !self.is_place() {
            let closed = if self.flags().is_writable() { mask::CLOSE_WRITE } else { mask::CLOSE_NOWRITE };
            self.notify(closed);
        }
        if *self.is_locked.get_mut() {
            locks::file_ended(self);
        }
        self.locks = SetOnce::new();
        if let Some(sigio) = self.sigio.get_mut().take() {
            sigio.unwatch(self.ops());
        }
        let watchers = core::mem::take(self.watchers.get_mut());
        watchers.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.file_closed(self.ops()));
    }
}

impl core::fmt::Debug for Closed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Closed({:?})", self.0)
    }
}

impl core::fmt::Debug for File {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "File({:?})", self.flags())
    }
}

/// Flags that stay in the description.
const KEPT: OpenFlags = OpenFlags::all()
    .difference(OpenFlags::CREAT.union(OpenFlags::EXCL).union(OpenFlags::NOCTTY))
    .difference(OpenFlags::TRUNC.union(OpenFlags::CLOEXEC));

/// With these flags alone a file is opened to be read, and nothing else.
pub(super) const PLAIN: OpenFlags = OpenFlags::CLOEXEC.union(OpenFlags::LARGEFILE).union(OpenFlags::NOCTTY);

impl File {
    /// A description of an object without a name (a pipe, a socket).
    #[must_use]
    pub fn new(ops: Arc<dyn FileOps>, flags: OpenFlags) -> Arc<File> {
        File::with_path(ops, flags, None)
    }

    /// A description of a named file.
    #[must_use]
    pub fn with_path(ops: Arc<dyn FileOps>, flags: OpenFlags, path: Option<super::path::Path>) -> Arc<File> {
        File::claimed(Ops::Held(ops), flags, path, None)
    }

    /// The same, with a claim that is held as long as the file is open.
    pub(super) fn claimed(
        ops: Ops,
        flags: OpenFlags,
        path: Option<super::path::Path>,
        claim: Option<Claim>,
    ) -> Arc<File> {
        let flags = AtomicU32::new(flags.intersection(KEPT).bits());
        let seeking = Seeking::of(ops.get(path.as_ref()));
        Arc::new(File {
            ops,
            flags,
            position: AtomicU64::new(0),
            seeking,
            moving: SleepLock::new(),
            path,
            watchers: Mutex::new(Vec::new()),
            is_locked: AtomicBool::new(false),
            locks: SetOnce::new(),
            claim: Mutex::new(claim),
            sigio: Mutex::new(None),
            has_ended: false,
        })
    }

    /// Lets others write the file, though it was opened to be run.
    pub fn release_claim(&self) {
        let claim = self.claim.lock().take();
        drop(claim);
    }

    /// Has `watcher` told when the file ends.
    pub fn watch_close(&self, watcher: Weak<dyn CloseWatcher>) {
        let mut watchers = self.watchers.lock();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(watcher);
    }

    /// The object.
    #[must_use]
    #[inline]
    pub fn ops(&self) -> &dyn FileOps {
        self.ops.get(self.path.as_ref())
    }

    /// The object, to keep, if it is that of a file without a place.
    pub(super) fn held_ops(&self) -> Option<Arc<dyn FileOps>> {
        match &self.ops {
            Ops::Held(ops) => Some(Arc::clone(ops)),
            Ops::Shared(_) | Ops::OfPlace => None,
        }
    }

    /// The object as its own type.
    #[must_use]
    pub fn downcast<T: FileOps>(&self) -> Option<&T> {
        self.ops().as_any().downcast_ref()
    }

    /// The name.
    #[must_use]
    pub fn path(&self) -> Option<&super::path::Path> {
        self.path.as_ref()
    }

    /// Status flags and access mode.
    #[must_use]
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Whether it stands for a place only (O_PATH).
    #[must_use]
    pub fn is_place(&self) -> bool {
        self.flags().contains(OpenFlags::PATH)
    }

    /// F_SETFL: replaces APPEND, ASYNC, DIRECT, NOATIME, NONBLOCK.
    ///
    /// # Errors
    /// What the object refuses.
    pub fn set_status(&self, new: OpenFlags) -> Result<()> {
        let changeable =
            OpenFlags::APPEND | OpenFlags::ASYNC | OpenFlags::DIRECT | OpenFlags::NOATIME | OpenFlags::NONBLOCK;
        let mut flags = self.flags().difference(changeable) | new.intersection(changeable);
        if !self.ops().tells_by_signal() {
            flags.remove(OpenFlags::ASYNC);
        }
        self.ops().set_flags(self, flags)?;
        if flags.contains(OpenFlags::ASYNC) || self.flags().contains(OpenFlags::ASYNC) {
            self.sigio().set_async(self.ops(), flags.contains(OpenFlags::ASYNC));
        }
        self.flags.store(flags.bits(), Ordering::Relaxed);
        Ok(())
    }

    /// Whom the file's readiness is told to by a signal: F_SETOWN, F_SETSIG.
    #[must_use]
    pub fn sigio(&self) -> Arc<SigIo> {
        Arc::clone(self.sigio.lock().get_or_insert_with(SigIo::new))
    }

    /// F_SETOWN: who is told of readiness, where O_ASYNC asks for that, and of urgent data.
    pub fn set_owner(&self, target: Target) {
        self.sigio().set_target(target);
        if self.ops().has_urgent_data() {
            self.sigio().watch(self.ops());
        }
    }

    pub(super) fn locks(&self) -> &SetOnce<Arc<FileLocks>> {
        &self.locks
    }

    /// The file may hold locks of its own from now on.
    pub(super) fn mark_locked(&self) {
        self.is_locked.store(true, Ordering::Relaxed);
    }

    /// A task closed a descriptor of the file in its own table.
    pub fn closed_by_own(&self, task: &Task) {
        if locks::are_any() {
            locks::closed_by_process(self, &task.files());
        }
        self.ops().on_close(self, task);
    }

    /// A process closed a descriptor of the file in this table: its record locks of the file go.
    pub fn closed_by(&self, task: &Task, files: &FdTable) {
        locks::closed_by_process(self, files);
        self.ops().on_close(self, task);
    }

    /// Whether transfers must not wait.
    #[must_use]
    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }

    /// Whether it has no position: as the object's own answer, without asking it.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.seeking == Seeking::Stream
    }

    /// What holds now.
    #[must_use]
    pub fn poll(&self) -> Events {
        self.ops().poll(self)
    }

    /// read(2), readv(2): at the position, waiting as the flags say.
    ///
    /// # Errors
    /// EBADF for a file not open for reading; the object's; INTERRUPTED.
    pub fn read(&self, to: &mut Sink<'_>) -> Result<usize> {
        if !self.flags().is_readable() {
            return Err(Errno::EBADF);
        }
        let count = match self.seeking {
            Seeking::Stream => return self.transfer(READABLE, self.is_nonblocking(), || self.ops().read(self, to, 0)),
            Seeking::Ignored => self.ops().read(self, to, 0)?,
            Seeking::Moves => {
                let mut position = self.position();
                let count = self.ops().read(self, to, *position)?;
                *position += count as u64;
                count
            }
        };
        self.notify_transfer(mask::ACCESS, count);
        Ok(count)
    }

    /// Tells inotify(7) of something that happened to the file.
    fn notify(&self, found: u32) {
        if inotify::is_used()
            && let Some(path) = &self.path
        {
            inotify::notify_place(path, found);
        }
    }

    fn notify_transfer(&self, found: u32, count: usize) {
        if count > 0 {
            self.notify(found);
        }
    }

    /// write(2), writev(2).
    ///
    /// # Errors
    /// EBADF for a file not open for writing; the object's; INTERRUPTED.
    #[inline]
    pub fn write(&self, from: &mut Source<'_>) -> Result<usize> {
        if !self.flags().is_writable() {
            return Err(Errno::EBADF);
        }
        let count = match self.seeking {
            Seeking::Stream => return self.write_stream(from),
            Seeking::Ignored => self.ops().write(self, from, 0)?,
            Seeking::Moves => self.write_moving(from)?,
        };
        self.notify_transfer(mask::MODIFY, count);
        Ok(count)
    }

    #[inline(never)]
    fn write_moving(&self, from: &mut Source<'_>) -> Result<usize> {
        let mut position = self.position();
        size_limit::cut(self, from, *position)?;
        let count = self.ops().write(self, from, *position)?;
        if self.flags().contains(OpenFlags::APPEND) {
            *position = self.ops().size()?;
        } else {
            *position += count as u64;
        }
        Ok(count)
    }

    /// A blocking write to a stream goes on until all is written; what was written before an error counts.
    #[inline(never)]
    fn write_stream(&self, from: &mut Source<'_>) -> Result<usize> {
        let mut total = 0;
        loop {
            match self.transfer(WRITABLE, self.is_nonblocking(), || self.ops().write(self, from, 0)) {
                Ok(count) => total += count,
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => return Ok(total),
            }
            if from.remaining() == 0 || self.is_nonblocking() {
                return Ok(total);
            }
        }
    }

    /// pread(2), preadv(2).
    ///
    /// # Errors
    /// ESPIPE for streams, EBADF, the object's.
    pub fn read_at(&self, to: &mut Sink<'_>, offset: u64) -> Result<usize> {
        self.check_offset_use(self.flags().is_readable())?;
        let count = self.ops().read(self, to, offset)?;
        self.notify_transfer(mask::ACCESS, count);
        Ok(count)
    }

    /// pwrite(2), pwritev(2).
    ///
    /// # Errors
    /// ESPIPE for streams, EBADF, the object's.
    pub fn write_at(&self, from: &mut Source<'_>, offset: u64) -> Result<usize> {
        self.check_offset_use(self.flags().is_writable())?;
        size_limit::cut(self, from, offset)?;
        let count = self.ops().write(self, from, offset)?;
        self.notify_transfer(mask::MODIFY, count);
        Ok(count)
    }

    /// Writes at the end, as if the file had O_APPEND: RWF_APPEND. `moves` tells whether the position goes there.
    ///
    /// # Errors
    /// As [`File::write`].
    pub fn append(&self, from: &mut Source<'_>, moves: bool) -> Result<usize> {
        if !self.flags().is_writable() {
            return Err(Errno::EBADF);
        }
        if self.is_stream() {
            return self.write_stream(from);
        }
        // Objects look at the flags of the description that they are given.
        let flags = self.flags() | OpenFlags::APPEND;
        let appending = File::claimed(self.ops.clone(), flags, self.path.clone(), None);
        let mut position = self.position();
        size_limit::cut(&appending, from, 0)?;
        let count = self.ops().write(&appending, from, 0)?;
        if moves {
            *position = self.ops().size()?;
        }
        drop(position);
        self.notify_transfer(mask::MODIFY, count);
        Ok(count)
    }

    fn check_offset_use(&self, allowed: bool) -> Result<()> {
        if self.is_stream() {
            return Err(Errno::ESPIPE);
        }
        if allowed { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Repeats a transfer until it answers other than EAGAIN, unless it must not wait.
    ///
    /// # Errors
    /// The transfer's; INTERRUPTED.
    pub fn transfer<T>(&self, events: Events, nonblocking: bool, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let first = attempt();
        if nonblocking || !matches!(first, Err(Errno::EAGAIN)) {
            return first;
        }
        self.transfer_waiting(events, first, attempt)
    }

    /// The first attempt found nothing to do.
    #[cold]
    fn transfer_waiting<T>(
        &self,
        events: Events,
        first: Result<T>,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let Some(queue) = self.ops().wait_queue() else { return first };
        let limit = self.ops().time_limit(events);
        let waited = wait_at_most(&[queue], limit, || match attempt() {
            Err(Errno::EAGAIN) => None,
            other => Some(other),
        });
        end_of_wait(waited, limit.is_some())
    }

    /// The position, locked: for lseek(2), getdents(2) and offset-less copies.
    pub fn position(&self) -> Position<'_> {
        let moving = self.moving.lock_harmlessly();
        Position { file: self, value: self.position.load(Ordering::Relaxed), _moving: moving }
    }

    /// The position as it is now, for those who only show it.
    #[must_use]
    pub fn current_position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }
}
