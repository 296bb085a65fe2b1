//! FIFOs: fifo(7).

use super::file::{FileOps, OpenFlags};
use super::pipe::{End, Pipe};
use super::special::FifoNode;
use crate::wait::wait_until;
use crate::{Errno, Result, Task};
use alloc::sync::Arc;

/// The pipe behind a FIFO's name; lives while anybody has it open.
#[derive(Debug)]
pub struct Fifo {
    pipe: Arc<Pipe>,
}

impl Fifo {
    /// The pipe of a FIFO that nobody has open yet.
    #[must_use]
    pub fn new() -> Arc<Fifo> {
        Arc::new(Fifo { pipe: Pipe::new() })
    }

    /// For [`super::special`].
    #[must_use]
    pub fn make() -> Arc<dyn FifoNode> {
        Fifo::new()
    }

    /// Opens an end. Waits for the other one unless the flags have O_NONBLOCK or O_RDWR.
    ///
    /// # Errors
    /// ENXIO for O_WRONLY | O_NONBLOCK without a reader; INTERRUPTED.
    pub fn open_end(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let end = End::from_flags(flags);
        let is_nonblocking = flags.contains(OpenFlags::NONBLOCK);
        if end == End::Write && is_nonblocking && self.pipe.has_no_readers() {
            return Err(Errno::ENXIO);
        }
        let (opened, alone) = self.pipe.meet(end, Some(Arc::clone(&self)));
        let Some(before) = alone.filter(|_| end != End::Both && !is_nonblocking) else { return Ok(opened) };
        // A partner that was there, or that opened and closed again since, counts as well: it may be gone by now.
        let _ = wait_until(&[self.pipe.open_queue()], None, || self.pipe.has_met_partner(end, before).then_some(()))?;
        Ok(opened)
    }
}

impl FifoNode for Fifo {
    fn open(self: Arc<Self>, _task: &Task, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        self.open_end(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fifo, OpenFlags};
    use crate::Errno;
    use crate::fs::File;
    use crate::uio::Source;
    use crate::wait::{Events, READABLE};
    use std::sync::Arc;

    #[test]
    fn a_fifo_waits_for_its_other_end() {
        let fifo = Fifo::new();
        let nonblocking = OpenFlags::WRONLY | OpenFlags::NONBLOCK;
        assert!(matches!(Arc::clone(&fifo).open_end(nonblocking), Err(Errno::ENXIO)));
        let other = Arc::clone(&fifo);
        let thread = std::thread::spawn(move || {
            other.open_end(OpenFlags::empty()).map(|end| File::new(end, OpenFlags::empty()))
        });
        let Ok(end) = fifo.open_end(OpenFlags::WRONLY) else { panic!("cannot open") };
        let writer = File::new(end, OpenFlags::WRONLY);
        let Ok(Ok(reader)) = thread.join() else { panic!("cannot open") };
        assert_eq!(writer.write(&mut Source::kernel(b"x")), Ok(1));
        assert_eq!(reader.poll(), READABLE);
    }

    /// The reader that waited for the writer may be gone before the writer looks.
    #[test]
    fn a_writer_meets_a_reader_that_leaves_at_once() {
        for _ in 0..300 {
            let fifo = Fifo::new();
            let other = Arc::clone(&fifo);
            let reader = std::thread::spawn(move || other.open_end(OpenFlags::empty()).map(drop));
            while fifo.pipe.has_no_readers() {
                std::thread::yield_now();
            }
            let writer = std::thread::spawn(move || fifo.open_end(OpenFlags::WRONLY).map(drop));
            assert!(matches!(reader.join(), Ok(Ok(()))));
            assert!(matches!(writer.join(), Ok(Ok(()))));
        }
    }

    #[test]
    fn a_fresh_fifo_reader_sees_no_hangup() {
        let fifo = Fifo::new();
        let Ok(end) = fifo.open_end(OpenFlags::NONBLOCK) else { panic!("cannot open") };
        assert_eq!(File::new(end, OpenFlags::NONBLOCK).poll(), Events::empty());
    }
}
