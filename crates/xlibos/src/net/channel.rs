//! One direction of a connection: bytes or packets, with what travels beside them (descriptors, credentials).

use crate::fs::File;
use crate::ipc::ring::{ByteRing, storage};
use crate::uio::{Sink, Source};
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue};
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use machine::sync::{Mutex, MutexGuard};

/// Who sent: SCM_CREDENTIALS, SO_PEERCRED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ucred {
    /// Process.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

bitflags::bitflags! {
    /// What holds of a channel.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Condition: u32 {
        /// A read would not wait.
        const READABLE = 1;
        /// A writer may go on.
        const WRITABLE = 2;
        /// The writer writes no more.
        const ENDED = 4;
        /// The reader reads no more.
        const REFUSED = 8;
        /// A reset waits to be told.
        const RESET = 0x10;
        /// A byte out of band waits to be read.
        const URGENT = 0x20;
    }
}

/// What travels beside the bytes.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// SCM_RIGHTS.
    pub files: Vec<Arc<File>>,
    /// SCM_CREDENTIALS.
    pub creds: Option<Ucred>,
}

impl Control {
    /// Whether nothing travels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.creds.is_none()
    }
}

/// Whether bounds of writes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// SOCK_STREAM.
    Bytes,
    /// SOCK_SEQPACKET.
    Packets,
}

/// Whether what is read stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It goes.
    Remove,
    /// MSG_PEEK.
    Peek,
}

/// What a read found.
#[derive(Debug, Default)]
pub struct Taken {
    /// Bytes copied.
    pub count: usize,
    /// Length of the packet, or bytes copied.
    pub full: usize,
    /// What came beside.
    pub control: Control,
}

#[derive(Debug)]
struct Segment {
    len: usize,
    control: Option<Control>,
}

/// A byte out of band: tcp(7).
#[derive(Debug)]
struct Urgent {
    byte: u8,
    /// Bytes that were sent before it and are still to be read.
    ahead: usize,
    is_read: bool,
}

#[derive(Debug)]
struct State {
    ring: ByteRing,
    /// The last byte sent out of band, until a read gets beyond where it was sent.
    urgent: Option<Urgent>,
    /// Bounds of packets, and of bytes with something beside them.
    segments: VecDeque<Segment>,
    /// No more will be written.
    is_ended: bool,
    /// Nobody will read.
    is_refused: bool,
    /// Told to the reader once, when all is read.
    reset: Option<Errno>,
    /// It was reset, told or not.
    was_reset: bool,
}

impl State {
    fn condition(&self) -> Condition {
        let is_over = self.is_ended || self.is_refused;
        let mut condition = Condition::empty();
        condition.set(Condition::READABLE, is_over || !self.segments.is_empty());
        condition.set(Condition::WRITABLE, is_over || self.ring.free() >= low_water(self.ring.capacity()));
        condition.set(Condition::ENDED, self.is_ended);
        condition.set(Condition::REFUSED, self.is_refused);
        condition.set(Condition::RESET, self.reset.is_some());
        condition.set(Condition::URGENT, self.urgent.as_ref().is_some_and(|urgent| !urgent.is_read));
        condition
    }
}

/// The state, locked to be changed: its condition is told when that is done.
struct Changing<'a> {
    state: MutexGuard<'a, State>,
    told: &'a AtomicU32,
}

impl Deref for Changing<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let now = self.state.condition().bits();
        if self.told.load(Ordering::Relaxed) != now {
            self.told.store(now, Ordering::Release);
        }
    }
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Channel {
    state: Mutex<State>,
    /// The state's condition, for those who look without the lock: a queue is woken after it has changed.
    condition: AtomicU32,
    framing: Framing,
    reader: Arc<WaitQueue>,
    writer: Arc<WaitQueue>,
}

/// Free bytes from which on a writer is told to go on.
fn low_water(capacity: usize) -> usize {
    (capacity / 4).max(1)
}

impl Channel {
    /// A channel between the owners of two queues.
    #[must_use]
    pub fn new(framing: Framing, capacity: usize, reader: &Arc<WaitQueue>, writer: &Arc<WaitQueue>) -> Arc<Channel> {
        let state = State {
            ring: ByteRing::new(capacity),
            urgent: None,
            segments: VecDeque::new(),
            is_ended: false,
            is_refused: false,
            reset: None,
            was_reset: false,
        };
        let condition = AtomicU32::new(state.condition().bits());
        let (reader, writer) = (Arc::clone(reader), Arc::clone(writer));
        Arc::new(Channel { state: Mutex::new(state), condition, framing, reader, writer })
    }

    fn change(&self) -> Changing<'_> {
        Changing { state: self.state.lock(), told: &self.condition }
    }

    /// Writes what fits (a packet: all or nothing). `control` goes with the first byte, and is taken.
    ///
    /// # Errors
    /// EPIPE where nobody reads or the end was declared, EMSGSIZE for a packet that never fits, EAGAIN, EFAULT, ENOMEM.
    pub fn write(&self, from: &mut Source<'_>, control: &mut Control) -> Result<usize> {
        let total = from.remaining();
        let mut fresh = None;
        let count = loop {
            let mut state = self.change();
            if state.is_ended || state.is_refused {
                return Err(Errno::EPIPE);
            }
            if let Some(unused) = fresh.take() {
                let old = state.ring.adopt(unused);
                drop(state);
                drop(old);
                continue;
            }
            self.check_room(&state, total)?;
            if let Some(size) = state.ring.wanted(total) {
                drop(state);
                fresh = Some(storage(size)?);
                continue;
            }
            break self.push(&mut state, from, total, control)?;
        };
        self.reader.wake(READABLE);
        Ok(count)
    }

    fn check_room(&self, state: &State, total: usize) -> Result<()> {
        let room = state.ring.free();
        if self.framing == Framing::Bytes {
            return if room == 0 && total > 0 { Err(Errno::EAGAIN) } else { Ok(()) };
        }
        if total > state.ring.capacity() {
            return Err(Errno::EMSGSIZE);
        }
        // Empty packets take no room: their number is bounded as well.
        if room < total || state.segments.len() > state.ring.capacity() / 64 { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    fn push(&self, state: &mut State, from: &mut Source<'_>, total: usize, control: &mut Control) -> Result<usize> {
        if total == 0 && self.framing == Framing::Bytes {
            return Ok(0);
        }
        let count = if total == 0 { 0 } else { state.ring.push(from, total)? };
        if count < total && self.framing == Framing::Packets {
            // The rest of the packet cannot be read: none of it was sent.
            state.ring.retract(count);
            return Err(Errno::EFAULT);
        }
        let beside = core::mem::take(control);
        let joins = self.framing == Framing::Bytes && beside.is_empty();
        match state.segments.back_mut() {
            Some(last) if joins && last.control.is_none() => last.len += count,
            _ => {
                let control = if beside.is_empty() { None } else { Some(beside) };
                state.segments.push_back(Segment { len: count, control });
            }
        }
        Ok(count)
    }

    /// Reads what is there: bytes up to something that came beside later ones, or one packet.
    ///
    /// # Errors
    /// EAGAIN where more may come, the error of a reset (once), EFAULT.
    pub fn read(&self, to: &mut Sink<'_>, take: Take) -> Result<Taken> {
        if self.framing == Framing::Bytes && to.remaining() == 0 {
            return Ok(Taken::default());
        }
        let mut state = self.change();
        if state.segments.is_empty() {
            if let Some(errno) = state.reset.take() {
                return Err(errno);
            }
            return if state.is_ended || state.is_refused { Ok(Taken::default()) } else { Err(Errno::EAGAIN) };
        }
        let had_room = state.ring.free() >= low_water(state.ring.capacity());
        let taken = match self.framing {
            Framing::Bytes => read_bytes(&mut state, to, take)?,
            Framing::Packets => read_packet(&mut state, to, take)?,
        };
        let makes_room = !had_room && state.ring.free() >= low_water(state.ring.capacity());
        drop(state);
        if makes_room || self.framing == Framing::Packets {
            self.writer.wake(WRITABLE);
        }
        Ok(taken)
    }

    /// Sends a byte out of band. An older one that nobody has read is forgotten.
    ///
    /// # Errors
    /// EPIPE.
    pub fn write_urgent(&self, byte: u8) -> Result<()> {
        {
            let mut state = self.change();
            if state.is_ended || state.is_refused {
                return Err(Errno::EPIPE);
            }
            let ahead = state.ring.len();
            state.urgent = Some(Urgent { byte, ahead, is_read: false });
        }
        self.reader.wake(READABLE | Events::PRI);
        Ok(())
    }

    /// The byte out of band.
    ///
    /// # Errors
    /// EINVAL where there is none, or it was read.
    pub fn read_urgent(&self, take: Take) -> Result<u8> {
        let mut state = self.change();
        let urgent = state.urgent.as_mut().filter(|urgent| !urgent.is_read).ok_or(Errno::EINVAL)?;
        urgent.is_read = take == Take::Remove;
        Ok(urgent.byte)
    }

    /// Whether the next byte to read is the one behind the byte out of band: sockatmark(3).
    #[must_use]
    pub fn is_at_mark(&self) -> bool {
        self.state.lock().urgent.as_ref().is_some_and(|urgent| urgent.ahead == 0)
    }

    /// The writer writes no more.
    pub fn end(&self) {
        self.change().is_ended = true;
        self.reader.wake(READABLE | Events::RDHUP | Events::HUP);
        self.writer.wake(WRITABLE | Events::HUP);
    }

    /// The reader reads no more; what is in stays readable for it.
    pub fn refuse(&self) {
        self.change().is_refused = true;
        self.writer.wake(WRITABLE | Events::HUP);
        self.reader.wake(READABLE | Events::RDHUP | Events::HUP);
    }

    /// The connection broke: the reader gets `errno` once it has read all.
    pub fn reset(&self, errno: Errno) {
        {
            let mut state = self.change();
            state.is_ended = true;
            state.is_refused = true;
            state.reset = Some(errno);
            state.was_reset = true;
        }
        self.reader.wake(READABLE | Events::RDHUP | Events::HUP | Events::ERR);
        self.writer.wake(WRITABLE | Events::HUP);
    }

    /// Throws away what is in. Whether there was something.
    pub fn drain(&self) -> bool {
        let mut state = self.change();
        let had_some = !state.segments.is_empty();
        state.ring.clear();
        let segments = core::mem::take(&mut state.segments);
        drop(state);
        // Descriptors in flight close outside of the lock.
        drop(segments);
        had_some
    }

    /// Takes the error of a reset: SO_ERROR.
    pub fn take_reset(&self) -> Option<Errno> {
        self.change().reset.take()
    }

    /// Whether it was reset, whoever was told.
    #[must_use]
    pub fn was_reset(&self) -> bool {
        self.state.lock().was_reset
    }

    /// What holds at one moment.
    #[inline]
    #[must_use]
    pub fn condition(&self) -> Condition {
        Condition::from_bits_truncate(self.condition.load(Ordering::Acquire))
    }

    /// Whether the writer writes no more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state.lock().is_ended
    }

    /// Bytes that can be read now (of the first packet, where there are packets): FIONREAD.
    #[must_use]
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        match self.framing {
            Framing::Bytes => state.ring.len(),
            Framing::Packets => state.segments.front().map_or(0, |first| first.len),
        }
    }

    /// Whether nothing can be read now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.lock().segments.is_empty()
    }
}

fn beside(segment: &mut Segment, take: Take) -> Control {
    let control = if take == Take::Peek { segment.control.clone() } else { segment.control.take() };
    control.unwrap_or_default()
}

fn read_packet(state: &mut State, to: &mut Sink<'_>, take: Take) -> Result<Taken> {
    let full = state.segments.front().map_or(0, |first| first.len);
    let count = if full == 0 || to.remaining() == 0 { 0 } else { state.ring.peek(to, 0, full)? };
    let control = state.segments.front_mut().map(|first| beside(first, take)).unwrap_or_default();
    if take == Take::Remove {
        state.ring.discard(full);
        state.segments.pop_front();
    }
    Ok(Taken { count, full, control })
}

fn pass_mark(state: &mut State, count: usize) {
    match &mut state.urgent {
        Some(urgent) if urgent.ahead > 0 => urgent.ahead = urgent.ahead.saturating_sub(count),
        urgent => *urgent = None,
    }
}

fn read_bytes(state: &mut State, to: &mut Sink<'_>, take: Take) -> Result<Taken> {
    // Bytes after which something came beside belong to another read.
    let starts_plain = state.segments.front().is_some_and(|first| first.control.is_none());
    let limit = if starts_plain {
        state.segments.iter().take_while(|segment| segment.control.is_none()).map(|segment| segment.len).sum()
    } else {
        state.segments.front().map_or(0, |first| first.len)
    };
    // A read stops at the mark, and the next one passes it.
    let mark = state.urgent.as_ref().map_or(0, |urgent| urgent.ahead);
    let limit = if mark > 0 { limit.min(mark) } else { limit };
    let count = state.ring.peek(to, 0, limit)?;
    if take == Take::Remove {
        pass_mark(state, count);
    }
    let control = state.segments.front_mut().map(|first| beside(first, take)).unwrap_or_default();
    if take == Take::Remove {
        state.ring.discard(count);
        let mut left = count;
        while let Some(first) = state.segments.front_mut() {
            if first.len > left {
                first.len -= left;
                break;
            }
            left -= first.len;
            state.segments.pop_front();
        }
    }
    Ok(Taken { count, full: count, control })
}

#[cfg(test)]
mod tests {
    use super::{Channel, Control, Framing, Take, Ucred};
    use crate::uio::{Sink, Source};
    use crate::wait::WaitQueue;
    use crate::{Errno, Result};
    use std::sync::Arc;

    fn channel(framing: Framing) -> Arc<Channel> {
        let queue = Arc::new(WaitQueue::new());
        Channel::new(framing, 8192, &queue, &queue)
    }

    fn write(channel: &Channel, bytes: &[u8]) -> Result<usize> {
        channel.write(&mut Source::kernel(bytes), &mut Control::default())
    }

    fn read(channel: &Channel, count: usize, take: Take) -> Result<(Vec<u8>, usize, bool)> {
        let mut buffer = vec![0; count];
        let taken = channel.read(&mut Sink::kernel(&mut buffer), take)?;
        buffer.truncate(taken.count);
        Ok((buffer, taken.full, taken.control.creds.is_some()))
    }

    #[test]
    fn bytes_join_and_peeking_leaves_them() {
        let channel = channel(Framing::Bytes);
        assert_eq!([write(&channel, b"ab"), write(&channel, b"cd")], [Ok(2), Ok(2)]);
        assert_eq!(read(&channel, 9, Take::Peek), Ok((b"abcd".to_vec(), 4, false)));
        assert_eq!(read(&channel, 0, Take::Remove), Ok((vec![], 0, false)));
        assert_eq!(read(&channel, 3, Take::Remove), Ok((b"abc".to_vec(), 3, false)));
        channel.end();
        assert_eq!(read(&channel, 3, Take::Remove), Ok((b"d".to_vec(), 1, false)));
        assert_eq!(read(&channel, 3, Take::Remove), Ok((vec![], 0, false)));
        assert_eq!(write(&channel, b"x"), Err(Errno::EPIPE));
    }

    #[test]
    fn what_comes_beside_parts_the_bytes() {
        let channel = channel(Framing::Bytes);
        let mut control = Control { files: vec![], creds: Some(Ucred::default()) };
        assert_eq!(write(&channel, b"ab"), Ok(2));
        assert_eq!(channel.write(&mut Source::kernel(b"cd"), &mut control), Ok(2));
        assert_eq!(write(&channel, b"ef"), Ok(2));
        assert_eq!(read(&channel, 9, Take::Remove), Ok((b"ab".to_vec(), 2, false)));
        assert_eq!(read(&channel, 9, Take::Remove), Ok((b"cd".to_vec(), 2, true)));
        assert_eq!(read(&channel, 9, Take::Remove), Ok((b"ef".to_vec(), 2, false)));
    }

    #[test]
    fn packets_keep_their_bounds() {
        let channel = channel(Framing::Packets);
        assert_eq!([write(&channel, b"abc"), write(&channel, b""), write(&channel, b"d")], [Ok(3), Ok(0), Ok(1)]);
        assert_eq!(read(&channel, 2, Take::Remove), Ok((b"ab".to_vec(), 3, false)));
        assert_eq!(read(&channel, 2, Take::Remove), Ok((vec![], 0, false)));
        assert_eq!(read(&channel, 2, Take::Remove), Ok((b"d".to_vec(), 1, false)));
        assert_eq!(read(&channel, 2, Take::Remove), Err(Errno::EAGAIN));
        assert_eq!(write(&channel, &[0; 9000]), Err(Errno::EMSGSIZE));
    }

    #[test]
    fn a_reset_is_told_once_after_the_data() {
        let channel = channel(Framing::Bytes);
        assert_eq!(write(&channel, b"ab"), Ok(2));
        channel.reset(Errno::ECONNRESET);
        assert_eq!(read(&channel, 9, Take::Remove), Ok((b"ab".to_vec(), 2, false)));
        assert_eq!(read(&channel, 9, Take::Remove), Err(Errno::ECONNRESET));
        assert_eq!(read(&channel, 9, Take::Remove), Ok((vec![], 0, false)));
    }
}
