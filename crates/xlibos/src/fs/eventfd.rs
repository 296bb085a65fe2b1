//! Event counters: eventfd(2).

use super::file::{File, FileOps};
use crate::uio::{Sink, Source};
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

/// Largest value of a counter.
const MAX_VALUE: u64 = u64::MAX - 1;

/// What a read takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of it.
    Counter,
    /// One: EFD_SEMAPHORE.
    Semaphore,
}

/// A counter that threads can wait on.
#[derive(Debug)]
pub struct EventFile {
    value: AtomicU64,
    mode: Mode,
    queue: WaitQueue,
}

impl EventFile {
    /// A counter.
    #[must_use]
    pub fn new(value: u64, mode: Mode) -> Arc<EventFile> {
        Arc::new(EventFile { value: AtomicU64::new(value), mode, queue: WaitQueue::new() })
    }

    /// Takes what a read takes; None where the counter is zero.
    pub fn take(&self) -> Option<u64> {
        let mode = self.mode;
        let left = |value: u64| {
            if mode == Mode::Semaphore { value.checked_sub(1) } else { (value > 0).then_some(0) }
        };
        let before = self.value.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).ok()?;
        self.queue.wake_exchanged(WRITABLE);
        Some(if mode == Mode::Semaphore { 1 } else { before })
    }

    /// Adds to the counter.
    ///
    /// # Errors
    /// EAGAIN where it would overflow, EINVAL for 2^64-1.
    pub fn add(&self, count: u64) -> Result<()> {
        if count == u64::MAX {
            return Err(Errno::EINVAL);
        }
        let sum = |value: u64| value.checked_add(count).filter(|sum| *sum <= MAX_VALUE);
        self.value.fetch_update(Ordering::SeqCst, Ordering::SeqCst, sum).map_err(|_| Errno::EAGAIN)?;
        self.queue.wake_exchanged(READABLE);
        Ok(())
    }
}

impl FileOps for EventFile {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, _file: &File, to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = self.take().ok_or(Errno::EAGAIN)?;
        to.put_word(value)
    }

    fn write(&self, _file: &File, from: &mut Source<'_>, _offset: u64) -> Result<usize> {
        if from.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        // A write that must wait is begun again from the same bytes.
        self.add(from.peek_word()?)?;
        // Linux takes the first eight bytes and calls that the whole write.
        from.skip_rest();
        Ok(8)
    }

    fn poll(&self, _file: &File) -> Events {
        let value = self.value.load(Ordering::SeqCst);
        let mut events = Events::empty();
        events.set(READABLE, value > 0);
        events.set(WRITABLE, value < MAX_VALUE);
        events.set(Events::ERR, value == u64::MAX);
        events
    }

    fn poll_at_hand(&self, file: &File) -> Option<Events> {
        Some(self.poll(file))
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn tells_by_signal(&self) -> bool {
        false
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventfd]".to_vec()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{EventFile, Mode};
    use crate::Errno;
    use crate::fs::{File, OpenFlags};
    use crate::uio::{Sink, Source};
    use crate::wait::WRITABLE;

    #[test]
    fn semaphore_counts_down_by_one() {
        let file = EventFile::new(2, Mode::Semaphore);
        assert_eq!([file.take(), file.take(), file.take()], [Some(1), Some(1), None]);
    }

    #[test]
    fn counter_is_taken_whole() {
        let file = EventFile::new(2, Mode::Counter);
        assert_eq!(file.add(3), Ok(()));
        assert_eq!([file.take(), file.take()], [Some(5), None]);
    }

    #[test]
    fn add_refuses_to_overflow() {
        let file = EventFile::new(1, Mode::Counter);
        assert_eq!(file.add(u64::MAX), Err(Errno::EINVAL));
        assert_eq!(file.add(u64::MAX - 1), Err(Errno::EAGAIN));
        assert_eq!(file.add(u64::MAX - 2), Ok(()));
    }

    #[test]
    fn transfers_are_of_eight_bytes() {
        let flags = OpenFlags::RDWR | OpenFlags::NONBLOCK;
        let file = File::new(EventFile::new(0, Mode::Counter), flags);
        assert_eq!(file.write(&mut Source::kernel(&[1; 7])), Err(Errno::EINVAL));
        assert_eq!(file.write(&mut Source::kernel(&7_u64.to_ne_bytes())), Ok(8));
        let mut buffer = [0; 8];
        assert_eq!(file.read(&mut Sink::kernel(&mut buffer)), Ok(8));
        assert_eq!(u64::from_ne_bytes(buffer), 7);
        assert_eq!(file.read(&mut Sink::kernel(&mut buffer)), Err(Errno::EAGAIN));
        assert_eq!(file.poll(), WRITABLE);
    }
}
