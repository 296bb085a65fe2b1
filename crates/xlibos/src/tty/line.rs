//! The side of a terminal that programs have open: n_tty's reads and writes.

use super::termios::{cc, lflag};
use super::{State, Tty};
use crate::fs::file::{File, FileOps, OpenFlags};
use crate::process::creds::CAP_SYS_ADMIN;
use crate::signal::{SIGTTIN, SIGTTOU};
use crate::uio::{Sink, Source};
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue, wait_at_most};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// Most bytes of one read.
const READ_MAX: usize = 4096;
/// VTIME's unit in nanoseconds.
const TENTH: u64 = 100_000_000;

/// An open terminal.
pub(super) struct Line {
    pub(super) tty: Arc<Tty>,
    /// The terminal's when it was opened.
    epoch: u32,
}

/// What a read finds.
enum Found {
    Bytes(Vec<u8>),
    /// Nothing yet; VTIME says how long to wait at most.
    Wait(Option<u64>),
}

impl Tty {
    /// Opens the line side.
    ///
    /// # Errors
    /// EIO for one that is locked or hung up, EBUSY for one in exclusive mode.
    pub(super) fn open_line(self: &Arc<Tty>, task: &Task, flags: OpenFlags) -> Result<Arc<Line>> {
        let epoch = {
            let mut state = self.state.lock();
            if state.is_locked || !state.has_master {
                return Err(Errno::EIO);
            }
            if state.is_exclusive && !task.creds().has(CAP_SYS_ADMIN) {
                return Err(Errno::EBUSY);
            }
            state.opens += 1;
            state.was_opened = true;
            state.epoch
        };
        if !flags.contains(OpenFlags::NOCTTY) && flags.is_readable() {
            // Only a leader without terminal takes it; for others nothing changes.
            let _ = self.acquire(task, false);
        }
        Ok(Arc::new(Line { tty: Arc::clone(self), epoch }))
    }
}

impl State {
    fn read(&mut self, max: usize, nonblocking: bool) -> Found {
        if self.termios.local(lflag::ICANON) {
            return self.input.take_line(max).map_or(Found::Wait(None), Found::Bytes);
        }
        let (minimum, time) = (usize::from(self.termios.special(cc::VMIN)), self.termios.special(cc::VTIME));
        let available = self.input.available();
        let wanted = minimum.min(max).max(1);
        if available >= wanted || (nonblocking && available > 0) || (minimum == 0 && time == 0) {
            return Found::Bytes(self.input.take_bytes(max));
        }
        // Between bytes the time counts from the last one; before the first only where none is demanded.
        let counts = time != 0 && (minimum == 0 || available > 0);
        Found::Wait(counts.then(|| u64::from(time) * TENTH))
    }
}

impl Line {
    pub(super) fn is_hung_up(&self) -> bool {
        self.tty.state.lock().epoch != self.epoch
    }

    fn attempt(&self, max: usize, nonblocking: bool) -> Found {
        let mut state = self.tty.state.lock();
        if state.epoch != self.epoch { Found::Bytes(Vec::new()) } else { state.read(max, nonblocking) }
    }

    /// Waits at most the terminal's own time, whose end is no error: what is there by then is the answer.
    fn read_in_time(&self, max: usize, mut limit: u64) -> Result<Vec<u8>> {
        loop {
            let before = self.tty.state.lock().input.available();
            let found = wait_at_most(&[&self.tty.line], Some(limit), || match self.attempt(max, false) {
                Found::Bytes(bytes) => Some(Some(bytes)),
                // Another byte begins the time anew.
                Found::Wait(Some(_)) if self.tty.state.lock().input.available() != before => Some(None),
                Found::Wait(_) => None,
            })?;
            match found {
                Some(Some(bytes)) => return Ok(bytes),
                Some(None) => limit = u64::from(self.tty.state.lock().termios.special(cc::VTIME)) * TENTH,
                None => return Ok(self.tty.state.lock().input.take_bytes(max)),
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let is_last = {
            let mut state = self.tty.state.lock();
            state.opens = state.opens.saturating_sub(1);
            if state.opens == 0 {
                state.is_exclusive = false;
            }
            state.opens == 0
        };
        if is_last {
            self.tty.master.wake(READABLE | Events::HUP);
        }
    }
}

impl FileOps for Line {
    fn read(&self, file: &File, to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        if self.is_hung_up() || to.remaining() == 0 {
            return Ok(0);
        }
        if let Some(task) = Task::current() {
            self.tty.check_foreground(task, SIGTTIN)?;
        }
        let max = to.remaining().min(READ_MAX);
        let nonblocking = file.is_nonblocking();
        let bytes = match self.attempt(max, nonblocking) {
            Found::Bytes(bytes) => bytes,
            Found::Wait(Some(limit)) if !nonblocking => self.read_in_time(max, limit)?,
            Found::Wait(_) => return Err(Errno::EAGAIN),
        };
        if self.tty.is_console {
            super::console::input_taken(&self.tty);
        }
        self.tty.master.wake(WRITABLE);
        if bytes.is_empty() { Ok(0) } else { to.put(&bytes) }
    }

    fn write(&self, _file: &File, from: &mut Source<'_>, _offset: u64) -> Result<usize> {
        if self.is_hung_up() {
            return Err(Errno::EIO);
        }
        let stops_background = self.tty.state.lock().termios.local(lflag::TOSTOP);
        if let Some(task) = Task::current().filter(|_| stops_background) {
            self.tty.check_foreground(task, SIGTTOU)?;
        }
        let mut total = 0;
        let mut buffer = [0; 512];
        while from.remaining() > 0 {
            let len = from.remaining().min(buffer.len());
            let piece = buffer.get_mut(..len).ok_or(Errno::EFAULT)?;
            let written = from.peek(piece).and_then(|()| self.tty.write_output(piece));
            match written {
                Ok(count) => {
                    from.advance(count);
                    total += count;
                }
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(total)
    }

    fn poll(&self, _file: &File) -> Events {
        let state = self.tty.state.lock();
        if state.epoch != self.epoch {
            return READABLE | WRITABLE | Events::HUP | Events::ERR;
        }
        let mut events = Events::empty();
        events.set(READABLE, state.is_readable());
        events.set(WRITABLE, state.output.has_room());
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.tty.line)
    }

    fn ioctl(&self, task: &Task, _file: &File, command: u32, argument: u64) -> Result<u64> {
        if self.is_hung_up() {
            return Err(super::ioctl::of_hung_up(command));
        }
        super::ioctl::line(&self.tty, task, command, argument)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
