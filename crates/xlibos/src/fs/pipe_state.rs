//! What is in a pipe, and who holds it. Locked by its owner, [`super::pipe::Pipe`].

use crate::Result;
use crate::ipc::ring::ByteRing;
use crate::uio::Sink;
use alloc::collections::VecDeque;

/// Writes up to this length are not interleaved with others.
pub const PIPE_BUF: usize = 4096;
/// One of the packets of a pipe in packet mode (O_DIRECT), or a stretch of plain bytes.
#[derive(Clone, Copy, Debug)]
struct Segment {
    len: usize,
    is_packet: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) ring: ByteRing,
    /// Empty while the pipe has never seen a packet: then all bytes are plain.
    segments: VecDeque<Segment>,
    pub(super) readers: u32,
    pub(super) writers: u32,
    /// How often an end was opened: an open that waits for a partner sees one that came and went.
    pub(super) reader_opens: u64,
    pub(super) writer_opens: u64,
}

impl State {
    pub(super) fn new(capacity: usize) -> State {
        State {
            ring: ByteRing::new(capacity),
            segments: VecDeque::new(),
            readers: 0,
            writers: 0,
            reader_opens: 0,
            writer_opens: 0,
        }
    }

    pub(super) fn note_pushed(&mut self, len: usize, is_packet: bool) {
        if !is_packet && self.segments.is_empty() {
            return;
        }
        let known: usize = self.segments.iter().map(|s| s.len).sum();
        let before = self.ring.len() - len;
        if known < before {
            self.segments.push_back(Segment { len: before - known, is_packet: false });
        }
        match self.segments.back_mut() {
            Some(last) if !last.is_packet && !is_packet => last.len += len,
            _ => self.segments.push_back(Segment { len, is_packet }),
        }
    }

    pub(super) fn note_taken(&mut self, mut count: usize) {
        while let Some(first) = self.segments.front_mut() {
            if first.len > count {
                first.len -= count;
                return;
            }
            count -= first.len;
            self.segments.pop_front();
        }
    }

    /// How far one read may go, and whether that is a packet of which the rest is dropped.
    pub(super) fn readable(&self) -> (usize, bool) {
        self.segments.front().map_or((self.ring.len(), false), |first| (first.len, first.is_packet))
    }

    /// Whether there are as many packets as there may be: on Linux each takes a page of the capacity.
    pub(super) fn is_full_of_packets(&self) -> bool {
        self.segments.len() >= (self.ring.capacity() / PIPE_BUF).max(1)
    }

    /// Whether a writer may go on: as on Linux, a page is free.
    pub(super) fn is_writable(&self) -> bool {
        !self.is_full_of_packets() && self.ring.free() >= PIPE_BUF.min(self.ring.capacity())
    }

    /// Takes what one read may: plain bytes, or one packet.
    ///
    /// # Errors
    /// EFAULT.
    pub(super) fn take(&mut self, to: &mut Sink<'_>) -> Result<usize> {
        let mut total = 0;
        loop {
            let (limit, is_packet) = self.readable();
            if limit == 0 || to.remaining() == 0 || (is_packet && total > 0) {
                return Ok(total);
            }
            let count = match self.ring.pop(to, limit) {
                Ok(count) => count,
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => return Ok(total),
            };
            // What does not fit of a packet is lost, as pipe(2) says.
            if is_packet {
                self.ring.discard(limit - count);
                self.note_taken(limit);
                return Ok(total + count);
            }
            self.note_taken(count);
            total += count;
            if count < limit {
                return Ok(total);
            }
        }
    }
}
