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
    Guest(GuestCursor),
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
    Guest(GuestCursor),
    Kernel(&'a [u8]),
}

/// A position in a list of guest buffers. One buffer needs no allocation.
#[derive(Clone, Debug)]
struct GuestCursor {
    current: IoVec,
    rest: Vec<IoVec>,
}

impl GuestCursor {
    fn one(addr: u64, len: u64) -> GuestCursor {
        GuestCursor { current: IoVec { base: addr, len: len.min(MAX_TRANSFER) }, rest: Vec::new() }
    }

    /// `vectors` in order; empty ones are dropped.
    fn many(vectors: &[IoVec]) -> GuestCursor {
        let mut rest: Vec<IoVec> = vectors.iter().rev().filter(|v| v.len > 0).copied().collect();
        let current = rest.pop().unwrap_or(IoVec { base: 0, len: 0 });
        GuestCursor { current, rest }
    }

    fn remaining(&self) -> usize {
        let total: u64 = self.current.len + self.rest.iter().map(|v| v.len).sum::<u64>();
        usize::try_from(total).unwrap_or(usize::MAX)
    }

    fn advance(&mut self, count: u64) {
        let mut left = count;
        while left >= self.current.len {
            left -= self.current.len;
            match self.rest.pop() {
                Some(next) => self.current = next,
                None => {
                    self.current.len = 0;
                    return;
                }
            }
        }
        self.current.base += left;
        self.current.len -= left;
    }

    fn limit(&mut self, max: u64) {
        let mut left = max;
        let mut vectors = self.vectors();
        for vector in &mut vectors {
            vector.len = vector.len.min(left);
            left -= vector.len;
        }
        *self = GuestCursor::many(&vectors);
    }

    fn vectors(&self) -> Vec<IoVec> {
        let mut all = Vec::with_capacity(self.rest.len() + 1);
        if self.current.len > 0 {
            all.push(self.current);
        }
        all.extend(self.rest.iter().rev().copied());
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
    pub fn guest_vectors(vectors: &[IoVec]) -> Sink<'static> {
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
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut written = 0;
        while written < bytes.len() && self.remaining() > 0 {
            let rest = bytes.get(written..).unwrap_or(&[]);
            match self.put_piece(rest) {
                Ok(n) => written += n,
                Err(errno) if written == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(written)
    }

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

    /// Appends up to `count` zeros; returns how many.
    ///
    /// # Errors
    /// EFAULT where none could be written.
    pub fn put_zeros(&mut self, count: usize) -> Result<usize> {
        static ZEROS: [u8; 4096] = [0; 4096];
        let mut written = 0;
        while written < count && self.remaining() > 0 {
            let step = (count - written).min(ZEROS.len());
            match self.put(ZEROS.get(..step).unwrap_or(&ZEROS)) {
                Ok(n) => written += n,
                Err(errno) if written == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    /// The guest buffer that is left, where it is one.
    #[must_use]
    pub fn one_guest_buffer(&self) -> Option<IoVec> {
        match &self.target {
            Target::Guest(cursor) if cursor.rest.is_empty() => Some(cursor.current),
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
    pub fn guest_vectors(vectors: &[IoVec]) -> Source<'static> {
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
    pub fn take(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut taken = 0;
        while taken < buffer.len() && self.remaining() > 0 {
            let free = buffer.get_mut(taken..).ok_or(Errno::EFAULT)?;
            match self.take_piece(free) {
                Ok(n) => taken += n,
                Err(errno) if taken == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(taken)
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
