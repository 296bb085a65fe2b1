//! Pipes and FIFOs: pipe(7), fifo(7).
//!
//! Locks: a pipe's state lock is a leaf but for the wait queues. Short copies from and to guest memory happen under it.

use super::fifo::Fifo;
use super::file::{File, FileOps, OpenFlags};
use super::inode::{Change, Kind, Stat};
use super::own_attributes::OwnAttributes;
use super::pipe_state::State;
use crate::ipc::ring::storage;
use crate::uio::{Sink, Source};
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue};
use crate::{Errno, Result, Task};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use machine::sync::Mutex;

pub use super::pipe_state::PIPE_BUF;

/// Capacity of a new pipe in bytes.
pub const DEFAULT_CAPACITY: usize = 64 * 1024;
/// Largest capacity that F_SETPIPE_SZ gives an unprivileged process (/proc/sys/fs/pipe-max-size).
pub const MAX_CAPACITY: usize = 1024 * 1024;

/// FIONREAD.
const FIONREAD: u32 = 0x541b;
/// SIGPIPE.
const SIGPIPE: i32 = 13;

/// A pipe. It shares no cache line with others.
#[repr(align(64))]
#[derive(Debug)]
pub struct Pipe {
    state: Mutex<State>,
    /// Data came, or the last writer went. Ends that read and write wait here for both.
    readers: WaitQueue,
    /// Room came, or the last reader went.
    writers: WaitQueue,
    /// An end was opened.
    opens: WaitQueue,
    attributes: OwnAttributes,
}

/// Which ends an open file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The end to read from.
    Read,
    /// The end to write to.
    Write,
    /// Both: a FIFO opened with O_RDWR.
    Both,
}

impl End {
    pub(super) fn from_flags(flags: OpenFlags) -> End {
        match (flags.is_readable(), flags.is_writable()) {
            (true, true) => End::Both,
            (false, true) => End::Write,
            _ => End::Read,
        }
    }

    fn reads(self) -> bool {
        self != End::Write
    }

    fn writes(self) -> bool {
        self != End::Read
    }
}

impl Pipe {
    pub(super) fn new() -> Arc<Pipe> {
        Arc::new(Pipe {
            state: Mutex::new(State::new(DEFAULT_CAPACITY)),
            readers: WaitQueue::new(),
            writers: WaitQueue::new(),
            opens: WaitQueue::new(),
            attributes: OwnAttributes::new(Kind::Fifo, 0o600),
        })
    }

    pub(super) fn open_end(self: &Arc<Pipe>, end: End, fifo: Option<Arc<Fifo>>) -> Arc<PipeEnd> {
        self.meet(end, fifo).0
    }

    /// Opens an end; how often its partner's kind had been opened by then, where none of that kind is there.
    pub(super) fn meet(self: &Arc<Pipe>, end: End, fifo: Option<Arc<Fifo>>) -> (Arc<PipeEnd>, Option<u64>) {
        let mut state = self.state.lock();
        if end.reads() {
            state.readers += 1;
            state.reader_opens += 1;
        }
        if end.writes() {
            state.writers += 1;
            state.writer_opens += 1;
        }
        let alone = match end {
            End::Read => (state.writers == 0).then_some(state.writer_opens),
            _ => (state.readers == 0).then_some(state.reader_opens),
        };
        drop(state);
        self.opens.wake(Events::all());
        (Arc::new(PipeEnd { pipe: Arc::clone(self), end, fifo }), alone)
    }

    /// Whether a partner of an end came since `before`, even if it has gone again.
    pub(super) fn has_met_partner(&self, end: End, before: u64) -> bool {
        let state = self.state.lock();
        let opens = if end == End::Read { state.writer_opens } else { state.reader_opens };
        opens != before
    }

    /// Where an open that waits for its partner sleeps.
    pub(super) fn open_queue(&self) -> &WaitQueue {
        &self.opens
    }

    fn close_end(&self, end: End) {
        let (last_reader, last_writer) = {
            let mut state = self.state.lock();
            state.readers -= u32::from(end.reads());
            state.writers -= u32::from(end.writes());
            (end.reads() && state.readers == 0, end.writes() && state.writers == 0)
        };
        if last_reader {
            self.wake_writers(WRITABLE | Events::ERR);
        }
        if last_writer {
            self.readers.wake(READABLE | Events::HUP);
        }
    }

    fn wake_writers(&self, events: Events) {
        self.writers.wake(events);
        self.readers.wake(events);
    }

    /// Bytes that can be read now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().ring.len()
    }

    /// Whether nothing can be read now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Capacity in bytes: F_GETPIPE_SZ.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.state.lock().ring.capacity()
    }

    /// Changes the capacity to at least `bytes`, rounded up to a power of two of pages: F_SETPIPE_SZ.
    /// Returns the new one.
    ///
    /// # Errors
    /// EINVAL for more than 2 GiB, EPERM beyond [`MAX_CAPACITY`], EBUSY where more is in the pipe.
    pub fn set_capacity(&self, bytes: usize) -> Result<usize> {
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let size = bytes.max(PIPE_BUF).next_power_of_two();
        if size > MAX_CAPACITY {
            return Err(Errno::EPERM);
        }
        self.state.lock().ring.set_capacity(size)?;
        self.wake_writers(WRITABLE);
        Ok(size)
    }

    /// Reads what is there, at most one packet. EAGAIN where a writer may still bring something.
    ///
    /// # Errors
    /// EAGAIN, EFAULT.
    pub fn read(&self, to: &mut Sink<'_>) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let (count, made_room) = {
            let mut state = self.state.lock();
            if state.ring.is_empty() {
                return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
            }
            let was_writable = state.is_writable();
            let count = state.take(to)?;
            (count, !was_writable && state.is_writable())
        };
        if made_room {
            self.wake_writers(WRITABLE);
        }
        Ok(count)
    }

    /// Writes what fits; up to [`PIPE_BUF`] bytes all or nothing. In packet mode each piece of up to PIPE_BUF
    /// bytes is a packet.
    ///
    /// # Errors
    /// EPIPE where nobody can read (the caller is sent SIGPIPE), EAGAIN, EFAULT, ENOMEM.
    pub fn write(&self, from: &mut Source<'_>, is_packet: bool) -> Result<usize> {
        let total = from.remaining();
        if total == 0 {
            return Ok(0);
        }
        let piece = if is_packet { total.min(PIPE_BUF) } else { total };
        let mut fresh = None;
        let (count, is_awaited) = loop {
            let mut state = self.state.lock();
            if state.readers == 0 {
                drop(state);
                send_sigpipe();
                return Err(Errno::EPIPE);
            }
            if let Some(unused) = fresh.take() {
                let old = state.ring.adopt(unused);
                drop(state);
                drop(old);
                continue;
            }
            let room = state.ring.free();
            let has_no_packet = is_packet && state.is_full_of_packets();
            if has_no_packet || room == 0 || (piece <= PIPE_BUF && room < piece) {
                return Err(Errno::EAGAIN);
            }
            if let Some(size) = state.ring.wanted(piece) {
                drop(state);
                fresh = Some(storage(size)?);
                continue;
            }
            let count = state.ring.push(from, piece)?;
            state.note_pushed(count, is_packet);
            break (count, self.readers.has_waiters_locked());
        };
        if is_awaited {
            self.readers.wake(READABLE);
        }
        Ok(count)
    }

    /// Copies up to `max` bytes without taking them. None where the pipe is empty but may be filled.
    ///
    /// # Errors
    /// EFAULT.
    pub fn peek(&self, to: &mut Sink<'_>, max: usize) -> Result<Option<usize>> {
        let state = self.state.lock();
        if state.ring.is_empty() {
            return Ok((state.writers == 0).then_some(0));
        }
        let (limit, _) = state.readable();
        state.ring.peek(to, 0, limit.min(max)).map(Some)
    }

    /// Drops bytes that were peeked.
    pub fn discard(&self, count: usize) {
        let mut state = self.state.lock();
        state.ring.discard(count);
        state.note_taken(count);
        drop(state);
        self.wake_writers(WRITABLE);
    }

    /// Bytes that a write could put in now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.state.lock().ring.free()
    }

    /// Whether nobody can read any more.
    #[must_use]
    pub fn has_no_readers(&self) -> bool {
        self.state.lock().readers == 0
    }

    /// Where a reader waits.
    #[must_use]
    pub fn read_queue(&self) -> &WaitQueue {
        &self.readers
    }

    /// Where a writer waits.
    #[must_use]
    pub fn write_queue(&self) -> &WaitQueue {
        &self.writers
    }

    fn poll(&self, end: End) -> Events {
        Pipe::events_of(&self.state.lock(), end)
    }

    fn events_of(state: &State, end: End) -> Events {
        let mut events = Events::empty();
        if end.reads() {
            events.set(READABLE, !state.ring.is_empty());
            events.set(Events::HUP, state.writers == 0 && state.writer_opens > 0);
        }
        if end.writes() {
            events.set(WRITABLE, state.is_writable());
            events.set(Events::ERR, state.readers == 0);
        }
        events
    }
}

/// Sends the calling task SIGPIPE.
pub fn send_sigpipe() {
    if let Some(task) = Task::current() {
        crate::signal::raise(task, SIGPIPE);
    }
}

/// An open end of a pipe. Dropping it closes the end.
#[derive(Debug)]
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    end: End,
    /// Keeps the name's pipe as long as an end is open.
    fifo: Option<Arc<Fifo>>,
}

impl PipeEnd {
    /// The pipe.
    #[must_use]
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    /// Which end it is.
    #[must_use]
    pub fn end(&self) -> End {
        self.end
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.pipe.close_end(self.end);
    }
}

impl FileOps for PipeEnd {
    fn read(&self, _file: &File, to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        self.pipe.read(to)
    }

    fn write(&self, file: &File, from: &mut Source<'_>, _offset: u64) -> Result<usize> {
        self.pipe.write(from, file.flags().contains(OpenFlags::DIRECT))
    }

    fn poll(&self, _file: &File) -> Events {
        self.pipe.poll(self.end)
    }

    fn poll_at_hand(&self, _file: &File) -> Option<Events> {
        let state = self.pipe.state.try_lock()?;
        Some(Pipe::events_of(&state, self.end))
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(if self.end == End::Write { &self.pipe.writers } else { &self.pipe.readers })
    }

    fn ioctl(&self, _task: &Task, _file: &File, command: u32, argument: u64) -> Result<u64> {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let count = u32::try_from(self.pipe.len()).unwrap_or(u32::MAX);
        machine::guest::write_value(argument, &count)?;
        Ok(0)
    }

    fn stat(&self) -> Result<Stat> {
        Ok(self.pipe.attributes.stat())
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        self.pipe.attributes.change(change);
        Ok(())
    }

    fn describe(&self) -> Vec<u8> {
        format!("pipe:[{}]", self.pipe.attributes.ino()).into_bytes()
    }

    fn reopen(&self, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(self.pipe.open_end(End::from_flags(flags), self.fifo.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Makes a pipe: the read end and the write end.
#[must_use]
pub fn new_pair(flags: OpenFlags) -> (Arc<File>, Arc<File>) {
    let pipe = Pipe::new();
    let kept = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    let reader = File::new(pipe.open_end(End::Read, None), kept);
    let writer = File::new(pipe.open_end(End::Write, None), kept | OpenFlags::WRONLY);
    (reader, writer)
}

/// The pipe of a file, where it is one.
#[must_use]
pub fn pipe_of(file: &File) -> Option<&Arc<Pipe>> {
    file.downcast::<PipeEnd>().map(PipeEnd::pipe)
}

#[cfg(test)]
mod tests {
    use super::{OpenFlags, PIPE_BUF, new_pair, pipe_of};
    use crate::fs::File;
    use crate::uio::{Sink, Source};
    use crate::wait::{Events, WRITABLE};
    use crate::{Errno, Result};

    fn write(file: &File, bytes: &[u8]) -> Result<usize> {
        file.write(&mut Source::kernel(bytes))
    }

    fn read(file: &File, count: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; count];
        let got = file.read(&mut Sink::kernel(&mut buffer))?;
        buffer.truncate(got);
        Ok(buffer)
    }

    #[test]
    fn bytes_go_through_and_the_end_is_seen() {
        let (reader, writer) = new_pair(OpenFlags::empty());
        assert_eq!(write(&writer, b"hello"), Ok(5));
        assert_eq!(read(&reader, 3), Ok(b"hel".to_vec()));
        drop(writer);
        assert_eq!(read(&reader, 3), Ok(b"lo".to_vec()));
        assert_eq!(read(&reader, 3), Ok(vec![]));
        assert_eq!(reader.poll(), Events::HUP);
    }

    #[test]
    fn small_writes_are_all_or_nothing() {
        let (reader, writer) = new_pair(OpenFlags::NONBLOCK);
        assert_eq!(write(&writer, &[1; 65_000]), Ok(65_000));
        assert_eq!(write(&writer, &[2; PIPE_BUF]), Err(Errno::EAGAIN));
        assert_eq!(writer.poll(), Events::empty());
        assert_eq!(write(&writer, &[2; PIPE_BUF + 1]), Ok(536));
        assert_eq!(read(&reader, 70_000).map(|bytes| bytes.len()), Ok(65_536));
        assert_eq!(read(&reader, 1), Err(Errno::EAGAIN));
        assert_eq!(writer.poll(), WRITABLE);
    }

    #[test]
    fn packets_keep_their_bounds_and_lose_what_does_not_fit() {
        let (reader, writer) = new_pair(OpenFlags::DIRECT);
        assert_eq!(write(&writer, b"abcdef"), Ok(6));
        assert_eq!(write(&writer, b"xyz"), Ok(3));
        assert_eq!(read(&reader, 4), Ok(b"abcd".to_vec()));
        assert_eq!(read(&reader, 9), Ok(b"xyz".to_vec()));
    }

    #[test]
    fn a_write_without_reader_is_epipe() {
        let (reader, writer) = new_pair(OpenFlags::empty());
        drop(reader);
        assert_eq!(writer.poll(), WRITABLE | Events::ERR);
        assert_eq!(write(&writer, b"x"), Err(Errno::EPIPE));
    }

    #[test]
    fn a_blocked_writer_goes_on_when_there_is_room() {
        let (reader, writer) = new_pair(OpenFlags::empty());
        let thread = std::thread::spawn(move || write(&writer, &vec![5; 1_000_000]));
        let mut total = 0;
        while total < 1_000_000 {
            total += read(&reader, 10_000).map_or(0, |bytes| bytes.len());
        }
        assert!(matches!(thread.join(), Ok(Ok(1_000_000))));
        assert_eq!(read(&reader, 1), Ok(vec![]));
    }

    #[test]
    fn the_capacity_changes_by_powers_of_two() {
        let (_reader, writer) = new_pair(OpenFlags::NONBLOCK);
        let Some(pipe) = pipe_of(&writer) else { panic!("no pipe") };
        assert_eq!(pipe.set_capacity(1), Ok(4096));
        assert_eq!(pipe.set_capacity(0), Ok(4096));
        assert_eq!(pipe.set_capacity(100_000), Ok(131_072));
        assert_eq!(pipe.set_capacity(8 << 20), Err(Errno::EPERM));
        assert_eq!(write(&writer, &vec![1; 200_000]), Ok(131_072));
        assert_eq!(pipe.set_capacity(4096), Err(Errno::EBUSY));
    }
}
