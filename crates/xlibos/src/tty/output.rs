//! What a terminal shows: output processing (OPOST) and the bytes that wait for the master.

use super::termios::{Termios, oflag};
use alloc::collections::VecDeque;

/// Bytes that wait for the master before writers must.
pub const CAPACITY: usize = 64 * 1024;
/// Room for echoes beyond that; an echo that finds none is lost.
const ECHO_ROOM: usize = 4096;
const TAB: usize = 8;

/// Processed output.
#[derive(Debug, Default)]
pub struct Output {
    queue: VecDeque<u8>,
    /// Echoes that came while the output was stopped.
    held: VecDeque<u8>,
    /// Where the cursor stands, as far as can be known.
    pub column: usize,
    /// ^S, TCOOFF.
    pub is_stopped: bool,
}

fn is_continuation(byte: u8, termios: &Termios) -> bool {
    termios.input(super::termios::iflag::IUTF8) && byte & 0xc0 == 0x80
}

impl Output {
    /// Whether a writer may write.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.is_stopped && self.queue.len() < CAPACITY
    }

    /// Bytes for the master.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits for the master.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next bytes for the master, as far as they lie in one piece.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        self.queue.as_slices().0
    }

    /// The master took so many.
    pub fn consume(&mut self, count: usize) {
        self.queue.drain(..count.min(self.queue.len()));
    }

    /// TCOFLUSH.
    pub fn flush(&mut self) {
        self.queue.clear();
        self.held.clear();
    }

    /// Goes on after ^S.
    pub fn start(&mut self) {
        self.is_stopped = false;
        self.queue.append(&mut self.held);
    }

    /// Writes what fits; returns how many bytes were taken.
    pub fn write(&mut self, bytes: &[u8], termios: &Termios) -> usize {
        for (done, &byte) in bytes.iter().enumerate() {
            if !self.has_room() {
                return done;
            }
            self.put(byte, termios);
        }
        bytes.len()
    }

    /// One byte of output.
    pub fn put(&mut self, byte: u8, termios: &Termios) {
        if !termios.output(oflag::OPOST) {
            self.push(byte);
            return;
        }
        match byte {
            b'\n' => {
                if termios.output(oflag::ONLCR) {
                    self.push(b'\r');
                }
                if termios.output(oflag::ONLCR | oflag::ONLRET) {
                    self.column = 0;
                }
                self.push(b'\n');
            }
            b'\r' => self.put_return(termios),
            b'\t' => self.put_tab(termios),
            8 => {
                self.column = self.column.saturating_sub(1);
                self.push(byte);
            }
            _ => {
                if !byte.is_ascii_control() && !is_continuation(byte, termios) {
                    self.column += 1;
                }
                self.push(if termios.output(oflag::OLCUC) { byte.to_ascii_uppercase() } else { byte });
            }
        }
    }

    fn put_return(&mut self, termios: &Termios) {
        if termios.output(oflag::ONOCR) && self.column == 0 {
            return;
        }
        if !termios.output(oflag::OCRNL) {
            self.column = 0;
            self.push(b'\r');
            return;
        }
        if termios.output(oflag::ONLRET) {
            self.column = 0;
        }
        self.push(b'\n');
    }

    fn put_tab(&mut self, termios: &Termios) {
        let spaces = TAB - self.column % TAB;
        self.column += spaces;
        if termios.oflag & oflag::TABDLY == oflag::TABDLY {
            (0..spaces).for_each(|_| self.push(b' '));
        } else {
            self.push(b'\t');
        }
    }

    fn push(&mut self, byte: u8) {
        let queue = if self.is_stopped { &mut self.held } else { &mut self.queue };
        if queue.len() < CAPACITY + ECHO_ROOM {
            queue.push_back(byte);
        }
    }
}
