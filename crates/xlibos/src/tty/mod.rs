//! Terminals: tty(4), pty(7), "Job control" of credentials(7).
//!
//! A [`Tty`] is what programs use; its other side is a pseudo-terminal's master ([`pty`]) or the caller's terminal
//! ([`console`]), whose bytes the front end moves. Typed bytes go through the line discipline ([`ldisc`]) to readers and
//! to the foreground group; written ones through output processing ([`output`]) to the other side.
//!
//! Locks: a terminal's state lock is a leaf but for its session's, the wait queues and the console's socket. Signals are
//! sent without it.

pub mod console;
mod control;
pub mod devices;
pub mod devpts;
mod ioctl;
mod ldisc;
mod line;
mod output;
mod pty;
mod termios;

pub use console::{console_hung_up, console_resized, flush_console, open_console};
pub use devices::register_drivers;

use crate::fs::inode::{Time, now};
use crate::process::session::Session;
use crate::signal::{SIGCONT, SIGHUP, SIGWINCH};
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use ldisc::{Discipline, Effect};
use machine::sync::Mutex;
use output::Output;
use termios::{Termios, Winsize, cc, iflag, lflag};

/// Bits of what a master in packet mode is told: ioctl_tty(2), TIOCPKT.
mod packet {
    pub(super) const FLUSHREAD: u8 = 1;
    pub(super) const FLUSHWRITE: u8 = 2;
    pub(super) const STOP: u8 = 4;
    pub(super) const START: u8 = 8;
    pub(super) const NOSTOP: u8 = 16;
    pub(super) const DOSTOP: u8 = 32;
}

/// Attributes of a terminal's node.
#[derive(Clone, Copy, Debug)]
struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    atime: Time,
    mtime: Time,
    ctime: Time,
}

/// Group `tty` of Debian and everybody else.
const GROUP: u32 = 5;

struct State {
    termios: Termios,
    size: Winsize,
    input: Discipline,
    output: Output,
    session: Weak<Session>,
    /// Opens of the line side.
    opens: u32,
    was_opened: bool,
    /// Grows when the terminal is hung up: files opened before are dead.
    epoch: u32,
    has_master: bool,
    is_locked: bool,
    is_exclusive: bool,
    /// Packet mode, and what the master must be told.
    packet: Option<u8>,
    attributes: Attributes,
}

/// A terminal.
pub struct Tty {
    /// N of /dev/pts/N.
    pub index: u32,
    state: Mutex<State>,
    /// Readers and writers of the line side.
    line: WaitQueue,
    /// Readers and writers of the master.
    master: WaitQueue,
    /// The caller's terminal is behind it.
    is_console: bool,
}

impl core::fmt::Debug for Tty {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Tty({})", self.index)
    }
}

/// Terminals by number.
static TABLE: Mutex<BTreeMap<u32, Weak<Tty>>> = Mutex::new(BTreeMap::new());
/// Most terminals: /proc/sys/kernel/pty/max.
const MAX_TERMINALS: u32 = 4096;

/// The terminal of a number.
fn find(index: u32) -> Option<Arc<Tty>> {
    TABLE.lock().get(&index).and_then(Weak::upgrade)
}

/// Numbers of all terminals.
fn numbers() -> Vec<u32> {
    TABLE.lock().keys().copied().collect()
}

impl Tty {
    /// A terminal with the lowest free number, owned by a user.
    ///
    /// # Errors
    /// ENOSPC where there are too many.
    fn new(owner: (u32, u32), is_console: bool) -> Result<Arc<Tty>> {
        let time = now();
        let attributes = Attributes { uid: owner.0, gid: GROUP, mode: 0o620, atime: time, mtime: time, ctime: time };
        let state = State {
            termios: Termios::first(),
            size: Winsize::default(),
            input: Discipline::default(),
            output: Output::default(),
            session: Weak::new(),
            opens: 0,
            was_opened: false,
            epoch: 0,
            has_master: true,
            is_locked: !is_console,
            is_exclusive: false,
            packet: None,
            attributes,
        };
        let mut table = TABLE.lock();
        let index = (0..MAX_TERMINALS).find(|index| !table.contains_key(index)).ok_or(Errno::ENOSPC)?;
        let tty = Arc::new(Tty {
            index,
            state: Mutex::new(state),
            line: WaitQueue::new(),
            master: WaitQueue::new(),
            is_console,
        });
        table.insert(index, Arc::downgrade(&tty));
        Ok(tty)
    }

    /// Types bytes; returns how many were taken. Signals go out, readers wake.
    fn receive(&self, bytes: &[u8]) -> usize {
        let mut signals = Vec::new();
        let mut taken = 0;
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            for &byte in bytes {
                if state.input.room(&state.termios) == 0 {
                    break;
                }
                taken += 1;
                let effect = state.input.receive(byte, &state.termios, &mut state.output);
                signals.extend(state.apply(effect));
            }
            self.pass_on(state);
        }
        for signal in signals {
            self.signal_foreground(signal);
        }
        self.line.wake(READABLE | WRITABLE);
        self.master.wake(READABLE);
        taken
    }

    /// Output goes to the caller's terminal at once, where that is behind it.
    fn pass_on(&self, state: &mut State) {
        if self.is_console {
            console::send(&mut state.output);
        }
    }

    /// Writes program output; returns how much was taken.
    ///
    /// # Errors
    /// EAGAIN where there is no room.
    fn write_output(&self, bytes: &[u8]) -> Result<usize> {
        let count = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let count = state.output.write(bytes, &state.termios);
            self.pass_on(state);
            count
        };
        self.master.wake(READABLE);
        if count == 0 { Err(Errno::EAGAIN) } else { Ok(count) }
    }

    /// Sends a signal to the foreground group.
    fn signal_foreground(&self, signal: i32) {
        let session = self.state.lock().session.upgrade();
        if let Some(session) = session {
            control::signal_group(session.foreground(), signal, self.is_console);
        }
    }

    /// TIOCSWINSZ, SIGWINCH of the front end.
    fn resize(&self, size: Winsize) {
        let old = core::mem::replace(&mut self.state.lock().size, size);
        if old != size {
            self.signal_foreground(SIGWINCH);
        }
    }

    /// The other side has gone: open files die, the session leader hears SIGHUP.
    fn hang_up(&self) {
        let session = {
            let mut state = self.state.lock();
            state.epoch += 1;
            state.has_master = false;
            state.output.flush();
            core::mem::take(&mut state.session).upgrade()
        };
        if let Some(session) = session {
            session.set_tty(None);
            control::signal_process(session.sid, SIGHUP, self.is_console);
            control::signal_process(session.sid, SIGCONT, self.is_console);
        }
        self.line.wake(Events::all());
        self.master.wake(Events::all());
    }

    /// The session has given the terminal up.
    pub fn leave(&self) {
        self.state.lock().session = Weak::new();
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let mut table = TABLE.lock();
        // Another may have the number by now.
        if table.get(&self.index).is_some_and(|tty| tty.strong_count() == 0) {
            table.remove(&self.index);
        }
    }
}

impl State {
    /// Does what the line discipline asks for; the signal to send, if any.
    fn apply(&mut self, effect: Effect) -> Option<i32> {
        match effect {
            Effect::None => None,
            Effect::Start => {
                self.start_output();
                None
            }
            Effect::Stop => {
                self.stop_output();
                None
            }
            Effect::Signal { signal, flushed } => {
                if self.termios.input(iflag::IXON) {
                    self.start_output();
                }
                if flushed {
                    self.tell_master(packet::FLUSHREAD | packet::FLUSHWRITE);
                }
                Some(signal)
            }
        }
    }

    fn start_output(&mut self) {
        if self.output.is_stopped {
            self.output.start();
            self.tell_master(packet::START);
        }
    }

    fn stop_output(&mut self) {
        if !self.output.is_stopped {
            self.output.is_stopped = true;
            self.tell_master(packet::STOP);
        }
    }

    fn tell_master(&mut self, bits: u8) {
        let opposite = match bits {
            packet::START => packet::STOP,
            packet::STOP => packet::START,
            _ => 0,
        };
        if let Some(packet) = &mut self.packet {
            *packet = *packet & !opposite | bits;
        }
    }

    /// TCSETS.
    fn set_termios(&mut self, new: Termios) {
        let old = core::mem::replace(&mut self.termios, new);
        if (old.lflag ^ new.lflag) & lflag::ICANON != 0 {
            self.input.canonical_changed(new.local(lflag::ICANON));
        }
        if old.input(iflag::IXON) && !new.input(iflag::IXON) {
            self.start_output();
        }
        let stops = |t: &Termios| t.input(iflag::IXON) && (t.special(cc::VSTART), t.special(cc::VSTOP)) == (0x11, 0x13);
        if stops(&old) != stops(&new) {
            self.tell_master(if stops(&new) { packet::DOSTOP } else { packet::NOSTOP });
        }
    }

    /// Whether a read of the line side would get something now.
    fn is_readable(&self) -> bool {
        if self.termios.local(lflag::ICANON) {
            return self.input.has_line();
        }
        let (minimum, time) = (self.termios.special(cc::VMIN), self.termios.special(cc::VTIME));
        let wanted = if time == 0 { usize::from(minimum).max(1) } else { 1 };
        self.input.available() >= wanted
    }
}
