//! A byte queue in arena memory: the buffer of pipes, UNIX streams and loopback TCP.
//!
//! It owns no lock and never allocates under its owner's: the owner asks [`ByteRing::wanted`] with its lock
//! held, makes the storage with [`storage`] without it, and hands it over by [`ByteRing::adopt`]. So arena
//! pages are touched for the first time outside of locks that others need.

use crate::uio::{Sink, Source};
use crate::{Errno, Result};
use alloc::vec::Vec;

/// Smallest storage in bytes.
const FIRST_STORAGE: usize = 4096;

/// A queue of bytes with a limit.
#[derive(Debug)]
pub struct ByteRing {
    storage: Vec<u8>,
    /// Index of the oldest byte.
    head: usize,
    len: usize,
    capacity: usize,
}

/// Storage for a ring, touched.
///
/// # Errors
/// ENOMEM.
pub fn storage(size: usize) -> Result<Vec<u8>> {
    if machine::heap::is_short() {
        return Err(Errno::ENOMEM);
    }
    let mut fresh = Vec::new();
    fresh.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
    fresh.resize(size, 0);
    Ok(fresh)
}

impl ByteRing {
    /// An empty ring that holds up to `capacity` bytes.
    #[must_use]
    pub const fn new(capacity: usize) -> ByteRing {
        ByteRing { storage: Vec::new(), head: 0, len: 0, capacity }
    }

    /// Bytes in the ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The limit in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that may still be put in.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity.saturating_sub(self.len)
    }

    /// Changes the limit; what is in stays.
    ///
    /// # Errors
    /// EBUSY where more is in than the new limit.
    pub fn set_capacity(&mut self, capacity: usize) -> Result<()> {
        if capacity < self.len {
            return Err(Errno::EBUSY);
        }
        self.capacity = capacity;
        Ok(())
    }

    /// How much storage is needed before `more` bytes (as far as the limit lets them) can be put in; None where
    /// there is enough.
    #[must_use]
    pub fn wanted(&self, more: usize) -> Option<usize> {
        let target = self.len.saturating_add(more).min(self.capacity);
        if target <= self.storage.len() {
            return None;
        }
        let rounded = target.checked_next_power_of_two().unwrap_or(target).max(FIRST_STORAGE);
        Some(rounded.min(self.capacity.max(FIRST_STORAGE)))
    }

    /// Replaces the storage by a larger one; returns the old one (or the new one, where it is no gain), to be
    /// dropped outside of the lock.
    pub fn adopt(&mut self, mut fresh: Vec<u8>) -> Vec<u8> {
        if fresh.len() <= self.storage.len() || fresh.len() < self.len {
            return fresh;
        }
        let (first, second) = self.filled(0);
        let (low, high) = fresh.split_at_mut(first.len());
        low.iter_mut().zip(first).for_each(|(to, from)| *to = *from);
        high.iter_mut().zip(second).for_each(|(to, from)| *to = *from);
        self.head = 0;
        core::mem::replace(&mut self.storage, fresh)
    }

    /// The bytes from the `skip`th on, as two slices.
    fn filled(&self, skip: usize) -> (&[u8], &[u8]) {
        let skip = skip.min(self.len);
        let size = self.storage.len();
        let start = self.head + skip;
        let count = self.len - skip;
        if size == 0 {
            return (&[], &[]);
        }
        let start = if start >= size { start - size } else { start };
        let first = count.min(size - start);
        let one = self.storage.get(start..start + first).unwrap_or(&[]);
        let two = self.storage.get(..count - first).unwrap_or(&[]);
        (one, two)
    }

    /// Start of the free part and its contiguous length.
    fn free_span(&self) -> (usize, usize) {
        let size = self.storage.len();
        let tail = self.head + self.len;
        if tail >= size { (tail - size, size - self.len) } else { (tail, size - tail) }
    }

    /// Puts in as much as fits of up to `max` bytes; returns how much.
    ///
    /// # Errors
    /// EFAULT where no byte could be read.
    pub fn push(&mut self, from: &mut Source<'_>, max: usize) -> Result<usize> {
        let mut left = max.min(self.free()).min(self.storage.len() - self.len);
        let mut pushed = 0;
        while left > 0 {
            let (at, span) = self.free_span();
            let step = left.min(span);
            let Some(room) = self.storage.get_mut(at..at + step) else {
                break;
            };
            match from.take(room) {
                Ok(0) => break,
                Ok(count) => {
                    self.len += count;
                    pushed += count;
                    left -= count;
                    if count < step {
                        break;
                    }
                }
                Err(errno) if pushed == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(pushed)
    }

    /// Takes out up to `max` bytes; returns how many.
    ///
    /// # Errors
    /// EFAULT where none could be written; nothing is lost then.
    pub fn pop(&mut self, to: &mut Sink<'_>, max: usize) -> Result<usize> {
        let count = self.peek(to, 0, max)?;
        self.discard(count);
        Ok(count)
    }

    /// Copies up to `max` bytes from the `skip`th on, and leaves them.
    ///
    /// # Errors
    /// EFAULT where none could be written.
    pub fn peek(&self, to: &mut Sink<'_>, skip: usize, max: usize) -> Result<usize> {
        let (first, second) = self.filled(skip);
        let part = first.get(..max.min(first.len())).unwrap_or(first);
        let mut count = if part.is_empty() { 0 } else { to.put(part)? };
        if count == first.len() && count < max {
            let part = second.get(..(max - count).min(second.len())).unwrap_or(second);
            // What was copied before the fault counts.
            count += to.put(part).unwrap_or(0);
        }
        Ok(count)
    }

    /// Drops the `count` oldest bytes.
    pub fn discard(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        self.head += count;
        if self.head >= self.storage.len() {
            self.head -= self.storage.len();
        }
        if self.len == 0 {
            self.head = 0;
        }
    }

    /// Drops the `count` newest bytes.
    pub fn retract(&mut self, count: usize) {
        self.len -= count.min(self.len);
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.discard(self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteRing, storage};
    use crate::uio::{Sink, Source};
    use crate::{Errno, Result};
    use proptest::prelude::{ProptestConfig, any, prop, proptest};

    fn put(ring: &mut ByteRing, bytes: &[u8]) -> Result<usize> {
        if let Some(size) = ring.wanted(bytes.len()) {
            drop(ring.adopt(storage(size)?));
        }
        ring.push(&mut Source::kernel(bytes), usize::MAX)
    }

    fn take(ring: &mut ByteRing, count: usize) -> Vec<u8> {
        let mut buffer = vec![0; count];
        let got = ring.pop(&mut Sink::kernel(&mut buffer), usize::MAX).unwrap_or(0);
        buffer.truncate(got);
        buffer
    }

    #[test]
    fn bytes_come_out_in_order_across_the_end() {
        let mut ring = ByteRing::new(4096);
        assert_eq!(put(&mut ring, &[1; 4000]), Ok(4000));
        assert_eq!(take(&mut ring, 3990).len(), 3990);
        assert_eq!(put(&mut ring, &[2; 300]), Ok(300));
        assert_eq!(take(&mut ring, 10), [1; 10]);
        assert_eq!(take(&mut ring, 400), [2; 300]);
    }

    #[test]
    fn a_full_ring_takes_a_part() {
        let mut ring = ByteRing::new(10);
        assert_eq!(put(&mut ring, &[7; 16]), Ok(10));
        assert_eq!(put(&mut ring, &[7; 16]), Ok(0));
        assert_eq!(ring.free(), 0);
    }

    #[test]
    fn the_limit_cannot_go_below_what_is_in() {
        let mut ring = ByteRing::new(100);
        assert_eq!(put(&mut ring, &[7; 60]), Ok(60));
        assert_eq!(ring.set_capacity(50), Err(Errno::EBUSY));
        assert_eq!(ring.set_capacity(60), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn behaves_like_a_queue(steps in prop::collection::vec((any::<bool>(), 0_usize..9000), 1..60)) {
            let mut ring = ByteRing::new(16384);
            let mut model = std::collections::VecDeque::new();
            let mut next = 0_u8;
            for (is_put, count) in steps {
                if is_put {
                    let bytes: Vec<u8> = (0..count).map(|_| { next = next.wrapping_add(1); next }).collect();
                    let done = put(&mut ring, &bytes).unwrap_or(0);
                    assert_eq!(done, count.min(16384 - model.len()));
                    model.extend(bytes.iter().take(done));
                } else {
                    let expected: Vec<u8> = model.drain(..count.min(model.len())).collect();
                    assert_eq!(take(&mut ring, count), expected);
                }
                assert_eq!(ring.len(), model.len());
            }
        }
    }
}
