//! The master of a pseudo-terminal: pty(7).

use super::{Tty, ioctl};
use crate::fs::file::{File, FileOps, OpenFlags};
use crate::uio::{Sink, Source};
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use core::any::Any;

/// ioctl that opens the line side without its name.
const TIOCGPTPEER: u32 = 0x5441;

/// An open master. The terminal is hung up when it goes.
pub(super) struct Master {
    tty: Arc<Tty>,
}

/// Opens a fresh pair's master.
///
/// # Errors
/// ENOSPC.
pub(super) fn open_master(task: &Task) -> Result<Arc<Master>> {
    let creds = task.creds();
    Ok(Arc::new(Master { tty: Tty::new((creds.fsuid, creds.fsgid), false)? }))
}

impl Master {
    /// The byte that packet mode puts before data, or what there is to tell instead of data.
    fn read_packet(&self, to: &mut Sink<'_>) -> Result<Option<usize>> {
        let status = {
            let mut state = self.tty.state.lock();
            let has_output = !state.output.is_empty();
            match &mut state.packet {
                Some(status) if *status != 0 => core::mem::take(status),
                Some(_) if has_output => 0,
                _ => return Ok(None),
            }
        };
        let count = to.put(&[status])?;
        Ok(Some(count).filter(|_| status != 0))
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.tty.hang_up();
        super::TABLE.lock().remove(&self.tty.index);
    }
}

impl FileOps for Master {
    fn read(&self, _file: &File, to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let begin = to.done();
        if let Some(told) = self.read_packet(to)? {
            return Ok(told);
        }
        let begin_of_data = to.done();
        let mut buffer = [0; 512];
        // Looked at together with what is there: who has written goes next.
        let is_deserted = loop {
            let count = {
                let mut state = self.tty.state.lock();
                let front = state.output.front();
                let count = front.len().min(buffer.len()).min(to.remaining());
                if count == 0 {
                    break state.was_opened && state.opens == 0;
                }
                buffer.iter_mut().zip(front.iter().take(count)).for_each(|(to, from)| *to = *from);
                state.output.consume(count);
                count
            };
            to.put(buffer.get(..count).unwrap_or(&[]))?;
        };
        match to.done() - begin_of_data {
            0 if is_deserted => Err(Errno::EIO),
            0 => Err(Errno::EAGAIN),
            _ => {
                self.tty.line.wake(WRITABLE);
                // A byte of packet mode stands before.
                Ok(to.done() - begin)
            }
        }
    }

    fn write(&self, _file: &File, from: &mut Source<'_>, _offset: u64) -> Result<usize> {
        let mut total = 0;
        let mut buffer = [0; 256];
        while from.remaining() > 0 {
            let len = from.remaining().min(buffer.len());
            let piece = buffer.get_mut(..len).ok_or(Errno::EFAULT)?;
            match from.peek(piece) {
                Ok(()) => {}
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => break,
            }
            let count = self.tty.receive(piece);
            from.advance(count);
            total += count;
            if count < len {
                break;
            }
        }
        if total == 0 && from.remaining() > 0 { Err(Errno::EAGAIN) } else { Ok(total) }
    }

    fn poll(&self, _file: &File) -> Events {
        let state = self.tty.state.lock();
        let mut events = Events::empty();
        let has_news = state.packet.is_some_and(|status| status != 0);
        events.set(READABLE, !state.output.is_empty() || has_news);
        events.set(Events::PRI, has_news);
        events.set(WRITABLE, state.input.room(&state.termios) > 0);
        events.set(Events::HUP, state.was_opened && state.opens == 0);
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.tty.master)
    }

    fn ioctl(&self, task: &Task, _file: &File, command: u32, argument: u64) -> Result<u64> {
        if command == TIOCGPTPEER {
            let flags = OpenFlags::from_bits_truncate(u32::try_from(argument).map_err(|_| Errno::EINVAL)?);
            return super::devices::open_peer(task, &self.tty, flags);
        }
        ioctl::master(&self.tty, task, command, argument)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
