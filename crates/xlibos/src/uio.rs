//! Cursors over the memory that a transfer reads or writes: a guest's iovec or a kernel buffer.

use crate::{Errno, Result};
use alloc::vec::Vec;
use machine::guest;
use machine::host::IoVec;

/// Largest number of iovec elements: UIO_MAXIOV.
pub const IOV_MAX: usize = 1024;
/// Largest transfer of one call: MAX_RW_COUNT.
pub const MAX_TRANSFER: u64 = 0x7fff_f000;

/// Where a read puts its bytes.
#[derive(Debug)]
pub struct Sink<'a> {
    target: Target<'a>,
    done: usize,
}

#[derive(Debug)]
enum Target<'a> {
    Guest(GuestCursor<'a>),
    Kernel(&'a mut [u8]),
}

/// Where a write takes its bytes from.
#[derive(Debug)]
pub struct Source<'a> {
    origin: Origin<'a>,
    done: usize,
}

#[derive(Debug)]
enum Origin<'a> {
    Guest(GuestCursor<'a>),
    Kernel(&'a [u8]),
}

/// A position in a list of guest buffers.
#[derive(Clone, Debug)]
struct GuestCursor<'a> {
    /// What is left of the buffer that it is in; empty only at the end.
    current: IoVec,
    /// Those behind that one.
    rest: &'a [IoVec],
    /// Bytes of all of them up to the transfer's end, which may lie before the last one's.
    left: u64,
}

impl<'a> GuestCursor<'a> {
    #[inline]
    fn one(addr: u64, len: u64) -> GuestCursor<'static> {
        let len = len.min(MAX_TRANSFER);
        GuestCursor { current: IoVec { base: addr, len }, rest: &[], left: len }
    }

    fn many(vectors: &'a [IoVec]) -> GuestCursor<'a> {
        let left = vectors.iter().fold(0, |left: u64, vector| left.saturating_add(vector.len));
        let mut cursor = GuestCursor { current: IoVec { base: 0, len: 0 }, rest: vectors, left };
        cursor.enter(0);
        cursor
    }

    fn remaining(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    #[inline]
    fn advance(&mut self, count: u64) {
        let count = count.min(self.left);
        self.left -= count;
        if count < self.current.len {
            self.current.base += count;
            self.current.len -= count;
        } else {
            self.enter(count - self.current.len);
        }
    }

    /// Goes to a place behind the buffer that it is in.
    fn enter(&mut self, mut behind: u64) {
        self.current.len = 0;
        while let Some((next, rest)) = self.rest.split_first() {
            self.rest = rest;
            if behind < next.len {
                let len = (next.len - behind).min(self.left);
                self.current = IoVec { base: next.base + behind, len };
                return;
            }
            behind -= next.len;
        }
    }

    fn limit(&mut self, max: u64) {
        self.left = self.left.min(max);
        self.current.len = self.current.len.min(max);
    }

    fn vectors(&self) -> Vec<IoVec> {
        let mut all = Vec::with_capacity(self.rest.len() + 1);
        let mut left = self.left;
        for vector in core::iter::once(&self.current).chain(self.rest) {
            let len = vector.len.min(left);
            if len > 0 {
                all.push(IoVec { base: vector.base, len });
                left -= len;
            }
        }
        all
    }
}

impl<'a> Sink<'a> {
    /// One guest buffer.
    #[must_use]
    pub fn guest(addr: u64, len: u64) -> Sink<'static> {
        Sink { target: Target::Guest(GuestCursor::one(addr, len)), done: 0 }
    }

    /// Guest buffers, as readv(2) takes them.
    #[must_use]
    pub fn guest_vectors(vectors: &'a [IoVec]) -> Sink<'a> {
        Sink { target: Target::Guest(GuestCursor::many(vectors)), done: 0 }
    }

    /// A kernel buffer.
    #[must_use]
    pub fn kernel(buffer: &'a mut [u8]) -> Sink<'a> {
        Sink { target: Target::Kernel(buffer), done: 0 }
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn remaining(&self) -> usize {
        match &self.target {
            Target::Guest(cursor) => cursor.remaining(),
            Target::Kernel(buffer) => buffer.len() - self.done,
        }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn done(&self) -> usize {
        self.done
    }

    /// Appends as many of `bytes` as fit; returns how many.
    ///
    /// # Errors
    /// EFAULT where none of them could be written.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        // Usually all goes to one buffer.
        let first = self.put_piece(bytes)?;
        if first == bytes.len() { Ok(first) } else { Ok(first + self.put_rest(bytes.get(first..).unwrap_or(&[]))) }
    }

    /// Goes on until there is no room, or a byte cannot be written: what was written before counts.
    fn put_rest(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() && self.remaining() > 0 {
            let Ok(count) = self.put_piece(bytes.get(written..).unwrap_or(&[])) else { break };
            written += count;
        }
        written
    }

    #[inline]
    fn put_piece(&mut self, bytes: &[u8]) -> Result<usize> {
        let count = match &mut self.target {
            Target::Guest(cursor) => {
                let len = bytes.len().min(usize::try_from(cursor.current.len).unwrap_or(usize::MAX));
                let n = guest::write_some(cursor.current.base, bytes.get(..len).unwrap_or(bytes))?;
                cursor.advance(n as u64);
                n
            }
            Target::Kernel(buffer) => {
                let free = buffer.get_mut(self.done..).ok_or(Errno::EFAULT)?;
                let n = bytes.len().min(free.len());
                free.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                n
            }
        };
        self.done += count;
        Ok(count)
    }

    /// Appends a word, which fits.
    ///
    /// # Errors
    /// EFAULT where it could not be written whole.
    #[inline]
    pub fn put_word(&mut self, word: u64) -> Result<usize> {
        match &mut self.target {
            Target::Guest(cursor) if cursor.current.len >= 8 => {
                guest::write_value(cursor.current.base, &word)?;
                self.advance(8);
                Ok(8)
            }
            _ => self.put(&word.to_ne_bytes()),
        }
    }

    /// Appends up to `count` zeros; returns how many.
    ///
    /// # Errors
    /// EFAULT where none could be written.
    pub fn put_zeros(&mut self, count: usize) -> Result<usize> {
        let mut written = 0;
        while written < count && self.remaining() > 0 {
            match self.put_zero_piece(count - written) {
                Ok(n) => written += n,
                Err(errno) if written == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    fn put_zero_piece(&mut self, count: usize) -> Result<usize> {
        let put = match &mut self.target {
            Target::Guest(cursor) => {
                let n = guest::zero_some(cursor.current.base, cursor.current.len.min(count as u64))?;
                cursor.advance(n);
                usize::try_from(n).unwrap_or(count)
            }
            Target::Kernel(buffer) => {
                let free = buffer.get_mut(self.done..).ok_or(Errno::EFAULT)?;
                let n = count.min(free.len());
                free.iter_mut().take(n).for_each(|to| *to = 0);
                n
            }
        };
        self.done += put;
        Ok(put)
    }

    /// The guest buffer that is left, where it is one.
    #[must_use]
    pub fn one_guest_buffer(&self) -> Option<IoVec> {
        match &self.target {
            Target::Guest(cursor) if cursor.current.len == cursor.left => Some(cursor.current),
            Target::Guest(_) | Target::Kernel(_) => None,
        }
    }

    /// The guest buffers that are left, for a host call that fills them; None for a kernel buffer.
    #[must_use]
    pub fn guest_buffers(&self) -> Option<Vec<IoVec>> {
        match &self.target {
            Target::Guest(cursor) => Some(cursor.vectors()),
            Target::Kernel(_) => None,
        }
    }

    /// The rest of the kernel buffer; None for guest buffers.
    pub fn kernel_buffer(&mut self) -> Option<&mut [u8]> {
        match &mut self.target {
            Target::Guest(_) => None,
            Target::Kernel(buffer) => buffer.get_mut(self.done..),
        }
    }

    /// Notes that a host call filled `count` bytes.
    pub fn advance(&mut self, count: usize) {
        if let Target::Guest(cursor) = &mut self.target {
            cursor.advance(count as u64);
        }
        self.done += count;
    }
}

impl<'a> Source<'a> {
    /// One guest buffer.
    #[must_use]
    pub fn guest(addr: u64, len: u64) -> Source<'static> {
        Source { origin: Origin::Guest(GuestCursor::one(addr, len)), done: 0 }
    }

    /// Guest buffers, as writev(2) takes them.
    #[must_use]
    pub fn guest_vectors(vectors: &'a [IoVec]) -> Source<'a> {
        Source { origin: Origin::Guest(GuestCursor::many(vectors)), done: 0 }
    }

    /// A kernel buffer.
    #[must_use]
    pub fn kernel(buffer: &'a [u8]) -> Source<'a> {
        Source { origin: Origin::Kernel(buffer), done: 0 }
    }

    /// Bytes left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        match &self.origin {
            Origin::Guest(cursor) => cursor.remaining(),
            Origin::Kernel(buffer) => buffer.len() - self.done,
        }
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn done(&self) -> usize {
        self.done
    }

    /// Takes all that is left, unread; how many bytes that is.
    pub fn skip_rest(&mut self) -> usize {
        let left = self.remaining();
        match &mut self.origin {
            Origin::Guest(cursor) => {
                cursor.current.len = 0;
                (cursor.rest, cursor.left) = (&[], 0);
                self.done += left;
            }
            Origin::Kernel(buffer) => self.done = buffer.len(),
        }
        left
    }

    /// Leaves at most `max` bytes.
    pub fn limit(&mut self, max: u64) {
        match &mut self.origin {
            Origin::Guest(cursor) => cursor.limit(max),
            Origin::Kernel(buffer) => {
                let end = usize::try_from(max).unwrap_or(usize::MAX).saturating_add(self.done);
                *buffer = buffer.get(..end).unwrap_or(buffer);
            }
        }
    }

    /// Takes up to `buffer.len()` bytes; returns how many.
    ///
    /// # Errors
    /// EFAULT where none could be read.
    #[inline]
    pub fn take(&mut self, buffer: &mut [u8]) -> Result<usize> {
        // Usually all comes from one buffer.
        let first = self.take_piece(buffer)?;
        if first == buffer.len() {
            Ok(first)
        } else {
            Ok(first + self.take_rest(buffer.get_mut(first..).unwrap_or(&mut [])))
        }
    }

    /// Goes on until nothing is left, or a byte cannot be read: what was read before counts.
    fn take_rest(&mut self, buffer: &mut [u8]) -> usize {
        let mut taken = 0;
        while taken < buffer.len() && self.remaining() > 0 {
            let Ok(count) = self.take_piece(buffer.get_mut(taken..).unwrap_or(&mut [])) else { break };
            taken += count;
        }
        taken
    }

    /// Takes up to `count` bytes to the end of a vector, no more than it has room for; returns how many.
    ///
    /// # Errors
    /// EFAULT where none could be read.
    #[inline]
    pub fn take_more(&mut self, to: &mut Vec<u8>, count: usize) -> Result<usize> {
        let mut taken = self.take_more_piece(to, count)?;
        while taken < count && self.remaining() > 0 {
            match self.take_more_piece(to, count - taken) {
                Ok(0) | Err(_) => break,
                Ok(more) => taken += more,
            }
        }
        Ok(taken)
    }

    #[inline]
    fn take_more_piece(&mut self, to: &mut Vec<u8>, count: usize) -> Result<usize> {
        let count = match &mut self.origin {
            Origin::Guest(cursor) => {
                let len = count.min(usize::try_from(cursor.current.len).unwrap_or(usize::MAX));
                let n = guest::read_more(cursor.current.base, to, len)?;
                cursor.advance(n as u64);
                n
            }
            Origin::Kernel(bytes) => {
                let rest = bytes.get(self.done..).ok_or(Errno::EFAULT)?;
                let n = count.min(rest.len()).min(to.capacity() - to.len());
                to.extend_from_slice(rest.get(..n).unwrap_or(rest));
                n
            }
        };
        self.done += count;
        Ok(count)
    }

    /// The first word, which is not taken.
    ///
    /// # Errors
    /// EFAULT where it cannot be read, or there are fewer bytes.
    #[inline]
    pub fn peek_word(&self) -> Result<u64> {
        match &self.origin {
            Origin::Guest(cursor) if cursor.current.len >= 8 => guest::read_value(cursor.current.base),
            _ => {
                let mut bytes = [0; 8];
                self.peek(&mut bytes).map(|()| u64::from_ne_bytes(bytes))
            }
        }
    }

    /// Copies exactly `buffer.len()` bytes without taking them.
    ///
    /// # Errors
    /// EFAULT where they cannot be read, or are not as many.
    pub fn peek(&self, buffer: &mut [u8]) -> Result<()> {
        let origin = match &self.origin {
            Origin::Guest(cursor) => Origin::Guest(cursor.clone()),
            Origin::Kernel(bytes) => Origin::Kernel(bytes),
        };
        let mut ahead = Source { origin, done: self.done };
        if ahead.take(buffer)? == buffer.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    #[inline]
    fn take_piece(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = match &mut self.origin {
            Origin::Guest(cursor) => {
                let len = buffer.len().min(usize::try_from(cursor.current.len).unwrap_or(usize::MAX));
                let n = guest::read_some(cursor.current.base, buffer.get_mut(..len).ok_or(Errno::EFAULT)?)?;
                cursor.advance(n as u64);
                n
            }
            Origin::Kernel(bytes) => {
                let rest = bytes.get(self.done..).ok_or(Errno::EFAULT)?;
                let n = buffer.len().min(rest.len());
                buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                n
            }
        };
        self.done += count;
        Ok(count)
    }

    /// The guest buffers that are left, for a host call that reads them; None for a kernel buffer.
    #[must_use]
    pub fn guest_buffers(&self) -> Option<Vec<IoVec>> {
        match &self.origin {
            Origin::Guest(cursor) => Some(cursor.vectors()),
            Origin::Kernel(_) => None,
        }
    }

    /// The rest of the kernel buffer; None for guest buffers.
    #[must_use]
    pub fn kernel_buffer(&self) -> Option<&'a [u8]> {
        match &self.origin {
            Origin::Guest(_) => None,
            Origin::Kernel(buffer) => buffer.get(self.done..),
        }
    }

    /// Notes that a host call took `count` bytes.
    pub fn advance(&mut self, count: usize) {
        if let Origin::Guest(cursor) = &mut self.origin {
            cursor.advance(count as u64);
        }
        self.done += count;
    }
}

#[cfg(test)]
mod tests {
    use super::{Sink, Source};
    use crate::Errno;
    use machine::host::IoVec;

    /// Pieces of a buffer, as an iovec.
    fn vectors(buffer: &mut [u8], pieces: &[(usize, usize)]) -> Vec<IoVec> {
        let base = buffer.as_mut_ptr() as u64;
        pieces.iter().map(|(at, len)| IoVec { base: base + *at as u64, len: *len as u64 }).collect()
    }

    #[test]
    fn bytes_go_through_vectors_and_empty_ones() {
        let mut buffer = [0; 16];
        let pieces = vectors(&mut buffer, &[(0, 0), (8, 3), (0, 0), (0, 2), (12, 0)]);
        let mut sink = Sink::guest_vectors(&pieces);
        assert_eq!((sink.remaining(), sink.put(b"abcdefg"), sink.remaining(), sink.done()), (5, Ok(5), 0, 5));
        assert_eq!((buffer.get(8..11), buffer.get(..3)), (Some(&b"abc"[..]), Some(&b"de\0"[..])));
        let mut source = Source::guest_vectors(&pieces);
        let mut taken = [0; 4];
        assert_eq!((source.take(&mut taken), &taken), (Ok(4), b"abcd"));
        assert_eq!((source.take(&mut taken), &taken), (Ok(1), b"ebcd"));
    }

    #[test]
    fn a_limit_cuts_within_a_vector() {
        let mut buffer = *b"0123456789abcdef";
        let pieces = vectors(&mut buffer, &[(0, 4), (8, 4), (12, 4)]);
        let mut source = Source::guest_vectors(&pieces);
        source.limit(6);
        let lens: Option<Vec<u64>> = source.guest_buffers().map(|all| all.iter().map(|vector| vector.len).collect());
        assert_eq!(lens, Some(vec![4, 2]));
        source.advance(3);
        let mut taken = [0; 8];
        assert_eq!((source.take(&mut taken), taken.get(..3)), (Ok(3), Some(&b"389"[..])));
        assert_eq!(source.remaining(), 0);
    }

    #[test]
    fn a_limit_cuts_the_vector_that_a_transfer_is_in() {
        let mut buffer = *b"01234567";
        let pieces = vectors(&mut buffer, &[(0, 4), (4, 4)]);
        let mut source = Source::guest_vectors(&pieces);
        source.advance(5);
        source.limit(2);
        let mut taken = [0; 8];
        assert_eq!((source.take(&mut taken), taken.get(..2)), (Ok(2), Some(&b"56"[..])));
    }

    #[test]
    fn the_rest_is_taken_at_once() {
        let mut buffer = *b"01234567";
        let pieces = vectors(&mut buffer, &[(0, 4), (4, 4)]);
        for mut source in [Source::guest_vectors(&pieces), Source::kernel(b"01234567")] {
            source.advance(3);
            assert_eq!((source.skip_rest(), source.remaining(), source.done()), (5, 0, 8));
            assert_eq!((source.skip_rest(), source.take(&mut [0; 4])), (0, Ok(0)));
        }
    }

    #[test]
    fn a_look_ahead_takes_nothing() {
        let mut buffer = *b"01234567";
        let pieces = vectors(&mut buffer, &[(0, 2), (6, 2)]);
        let mut source = Source::guest_vectors(&pieces);
        let mut seen = [0; 4];
        assert_eq!((source.peek(&mut seen), &seen), (Ok(()), b"0167"));
        assert_eq!(source.peek(&mut [0; 5]), Err(Errno::EFAULT));
        assert_eq!(source.peek_word(), Err(Errno::EFAULT));
        assert_eq!((source.take(&mut seen), &seen), (Ok(4), b"0167"));
    }

    #[test]
    fn a_word_goes_to_and_comes_from_one_buffer_or_several() {
        for pieces in [&[(0, 8)][..], &[(0, 3), (3, 5)], &[(0, 12)]] {
            let mut buffer = [0; 12];
            let pieces = vectors(&mut buffer, pieces);
            let mut sink = Sink::guest_vectors(&pieces);
            assert_eq!((sink.put_word(7), sink.done()), (Ok(8), 8));
            assert_eq!(Source::guest_vectors(&pieces).peek_word(), Ok(7));
            assert_eq!(buffer, *b"\x07\0\0\0\0\0\0\0\0\0\0\0");
        }
    }

    #[test]
    fn one_buffer_is_what_is_left_of_the_last() {
        let mut buffer = [0; 8];
        let pieces = vectors(&mut buffer, &[(0, 4), (4, 4), (0, 0)]);
        let mut sink = Sink::guest_vectors(&pieces);
        assert!(sink.one_guest_buffer().is_none());
        sink.advance(5);
        assert_eq!(sink.one_guest_buffer().map(|left| left.len), Some(3));
    }

    #[test]
    fn what_cannot_be_written_is_a_fault_or_a_short_transfer() {
        let mut buffer = [0; 4];
        let mut pieces = vectors(&mut buffer, &[(0, 4)]);
        pieces.push(IoVec { base: 16, len: 4 });
        let mut sink = Sink::guest_vectors(&pieces);
        assert_eq!(sink.put(b"abcdef"), Ok(4));
        assert_eq!(sink.put(b"ef"), Err(Errno::EFAULT));
    }
}
