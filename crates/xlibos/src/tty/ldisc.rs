//! The line discipline N_TTY: what becomes of typed bytes. It knows no locks, sessions or files.

use super::output::Output;
use super::termios::{Termios, cc, iflag, lflag};
use crate::signal::{SIGINT, SIGQUIT, SIGTSTP};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes of input that are kept: N_TTY_BUF_SIZE.
const CAPACITY: usize = 4096;
const BELL: u8 = 7;
const BACKSPACE: u8 = 8;

/// What the terminal must do about a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing more.
    None,
    /// A signal for the foreground group; input and output were flushed if `flushed`.
    Signal {
        /// Which.
        signal: i32,
        /// NOFLSH is off.
        flushed: bool,
    },
    /// The output goes on.
    Start,
    /// The output stops.
    Stop,
}

/// A finished line in the queue.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Bytes that are left of it; 0 is an end of file.
    left: usize,
}

/// Typed bytes on their way to a reader.
#[derive(Debug, Default)]
pub struct Discipline {
    /// Bytes that can be read.
    ready: VecDeque<u8>,
    /// How they fall into lines, in canonical mode.
    lines: VecDeque<Line>,
    /// The line that is being typed, in canonical mode.
    editing: Vec<u8>,
    /// Column at which that line began.
    first_column: usize,
    next_is_literal: bool,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Columns that the echo of a byte takes; a tab's depends on where it begins.
fn width(byte: u8, column: usize, termios: &Termios) -> usize {
    match byte {
        b'\t' => 8 - column % 8,
        _ if byte.is_ascii_control() => {
            if termios.local(lflag::ECHOCTL) {
                2
            } else {
                0
            }
        }
        _ if termios.input(iflag::IUTF8) && byte & 0xc0 == 0x80 => 0,
        _ => 1,
    }
}

impl Discipline {
    /// How many bytes can be taken: a full buffer without a line in it drops bytes instead.
    #[must_use]
    pub fn room(&self, termios: &Termios) -> usize {
        if termios.local(lflag::ICANON) && self.lines.is_empty() {
            return CAPACITY;
        }
        CAPACITY.saturating_sub(self.ready.len() + self.editing.len())
    }

    /// Bytes that a read could get: FIONREAD.
    #[must_use]
    pub fn available(&self) -> usize {
        self.ready.len()
    }

    /// Whether a line (or an end of file) is there: what a read waits for in canonical mode.
    #[must_use]
    pub fn has_line(&self) -> bool {
        !self.lines.is_empty()
    }

    /// TCIFLUSH.
    pub fn flush(&mut self) {
        self.ready.clear();
        self.lines.clear();
        self.editing.clear();
        self.next_is_literal = false;
    }

    /// The mode changed: what was typed so far can be read, as one line.
    pub fn canonical_changed(&mut self, canonical: bool) {
        self.ready.extend(self.editing.drain(..));
        self.lines.clear();
        if canonical && !self.ready.is_empty() {
            self.lines.push_back(Line { left: self.ready.len() });
        }
    }

    /// Takes up to `max` bytes of the first line.
    pub fn take_line(&mut self, max: usize) -> Option<Vec<u8>> {
        let line = self.lines.front_mut()?;
        let count = line.left.min(max);
        line.left -= count;
        if line.left == 0 {
            self.lines.pop_front();
        }
        Some(self.ready.drain(..count.min(self.ready.len())).collect())
    }

    /// Takes up to `max` bytes, whatever they are.
    pub fn take_bytes(&mut self, max: usize) -> Vec<u8> {
        let count = max.min(self.ready.len());
        self.ready.drain(..count).collect()
    }

    /// A byte was typed. Echoes go to `out`.
    pub fn receive(&mut self, byte: u8, termios: &Termios, out: &mut Output) -> Effect {
        let mut byte = if termios.input(iflag::ISTRIP) { byte & 0x7f } else { byte };
        if termios.input(iflag::IUCLC) && termios.local(lflag::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if core::mem::take(&mut self.next_is_literal) {
            self.accept(byte, termios, out);
            return Effect::None;
        }
        if let Some(effect) = self.receive_control(byte, termios, out) {
            return effect;
        }
        let resumes = out.is_stopped && termios.input(iflag::IXON) && termios.input(iflag::IXANY);
        let byte = translate(byte, termios);
        // Editing takes the byte, or it is an ordinary one.
        if let Some(byte) = byte.filter(|&byte| !(termios.local(lflag::ICANON) && self.edit(byte, termios, out))) {
            self.accept(byte, termios, out);
        }
        if resumes { Effect::Start } else { Effect::None }
    }

    /// Flow control and signals.
    fn receive_control(&mut self, byte: u8, termios: &Termios, out: &mut Output) -> Option<Effect> {
        if termios.input(iflag::IXON) {
            if termios.is(byte, cc::VSTART) {
                return Some(Effect::Start);
            }
            if termios.is(byte, cc::VSTOP) {
                return Some(Effect::Stop);
            }
        }
        if !termios.local(lflag::ISIG) {
            return None;
        }
        let signals = [(cc::VINTR, SIGINT), (cc::VQUIT, SIGQUIT), (cc::VSUSP, SIGTSTP)];
        let (_, signal) = signals.into_iter().find(|&(index, _)| termios.is(byte, index))?;
        let flushed = !termios.local(lflag::NOFLSH);
        if flushed {
            self.flush();
            out.flush();
        }
        if termios.local(lflag::ECHO) {
            echo(byte, termios, out);
        }
        Some(Effect::Signal { signal, flushed })
    }

    /// The editing of canonical mode; false where the byte is an ordinary one.
    fn edit(&mut self, byte: u8, termios: &Termios, out: &mut Output) -> bool {
        let extended = termios.local(lflag::IEXTEN);
        let echoes = termios.local(lflag::ECHO);
        if termios.is(byte, cc::VERASE) {
            self.erase_character(termios, out);
        } else if termios.is(byte, cc::VKILL) {
            self.kill_line(byte, termios, out);
        } else if extended && termios.is(byte, cc::VWERASE) {
            self.erase_word(termios, out);
        } else if extended && termios.is(byte, cc::VLNEXT) {
            self.next_is_literal = true;
            if echoes && termios.local(lflag::ECHOCTL) {
                [b'^', BACKSPACE].into_iter().for_each(|b| out.put(b, termios));
            }
        } else if extended && echoes && termios.is(byte, cc::VREPRINT) {
            self.reprint(byte, termios, out);
        } else if byte == b'\n' {
            if termios.local(lflag::ECHO | lflag::ECHONL) {
                out.put(b'\n', termios);
            }
            self.finish_line(Some(byte));
        } else if termios.is(byte, cc::VEOF) {
            self.finish_line(None);
        } else if termios.is(byte, cc::VEOL) || (extended && termios.is(byte, cc::VEOL2)) {
            if echoes {
                echo(byte, termios, out);
            }
            self.finish_line(Some(byte));
        } else {
            return false;
        }
        true
    }

    fn finish_line(&mut self, end: Option<u8>) {
        self.editing.extend(end);
        self.lines.push_back(Line { left: self.editing.len() });
        self.ready.extend(self.editing.drain(..));
    }

    /// An ordinary byte.
    fn accept(&mut self, byte: u8, termios: &Termios, out: &mut Output) {
        let canonical = termios.local(lflag::ICANON);
        // In canonical mode the last place is the line end's.
        let limit = if canonical { CAPACITY - 1 } else { CAPACITY };
        if self.ready.len() + self.editing.len() >= limit {
            if termios.input(iflag::IMAXBEL) {
                out.put(BELL, termios);
            }
            return;
        }
        if canonical && self.editing.is_empty() {
            self.first_column = out.column;
        }
        if termios.local(lflag::ECHO) {
            echo(byte, termios, out);
        }
        if canonical {
            self.editing.push(byte);
        } else {
            self.ready.push_back(byte);
        }
    }

    /// Removes the last character; false where there is none.
    fn erase_character(&mut self, termios: &Termios, out: &mut Output) -> bool {
        let Some(mut byte) = self.editing.pop() else { return false };
        while termios.input(iflag::IUTF8) && byte & 0xc0 == 0x80 {
            let Some(before) = self.editing.pop() else { break };
            byte = before;
        }
        if !termios.local(lflag::ECHO) {
            return true;
        }
        if !termios.local(lflag::ECHOE) {
            echo(termios.special(cc::VERASE), termios, out);
            return true;
        }
        let begin = self.editing.iter().fold(self.first_column, |column, &b| column + width(b, column, termios));
        let columns = width(byte, begin, termios);
        let wipe: &[u8] = if byte == b'\t' { &[BACKSPACE] } else { &[BACKSPACE, b' ', BACKSPACE] };
        for _ in 0..columns {
            wipe.iter().for_each(|&b| out.put(b, termios));
        }
        true
    }

    fn erase_word(&mut self, termios: &Termios, out: &mut Output) {
        let last = |line: &Vec<u8>| line.last().copied();
        while last(&self.editing).is_some_and(|b| !is_word(b)) {
            self.erase_character(termios, out);
        }
        while last(&self.editing).is_some_and(is_word) {
            self.erase_character(termios, out);
        }
    }

    fn kill_line(&mut self, byte: u8, termios: &Termios, out: &mut Output) {
        let wipes = [lflag::ECHO, lflag::ECHOK, lflag::ECHOKE, lflag::ECHOE].into_iter().all(|bit| termios.local(bit));
        if wipes {
            while self.erase_character(termios, out) {}
            return;
        }
        self.editing.clear();
        if termios.local(lflag::ECHO) {
            echo(byte, termios, out);
            if termios.local(lflag::ECHOK) {
                out.put(b'\n', termios);
            }
        }
    }

    fn reprint(&mut self, byte: u8, termios: &Termios, out: &mut Output) {
        echo(byte, termios, out);
        out.put(b'\n', termios);
        self.first_column = out.column;
        self.editing.iter().for_each(|&b| echo(b, termios, out));
    }
}

/// CR and NL, as the input modes want them; None where the byte is dropped.
fn translate(byte: u8, termios: &Termios) -> Option<u8> {
    match byte {
        b'\r' if termios.input(iflag::IGNCR) => None,
        b'\r' if termios.input(iflag::ICRNL) => Some(b'\n'),
        b'\n' if termios.input(iflag::INLCR) => Some(b'\r'),
        _ => Some(byte),
    }
}

/// Shows a typed byte; control characters as ^X.
fn echo(byte: u8, termios: &Termios, out: &mut Output) {
    let hat = termios.local(lflag::ECHOCTL) && byte.is_ascii_control() && byte != b'\t' && byte != b'\n';
    if hat {
        out.put(b'^', termios);
        out.put(byte ^ 0x40, termios);
    } else {
        out.put(byte, termios);
    }
}

#[cfg(test)]
mod tests {
    use super::{Discipline, Effect};
    use crate::tty::output::Output;
    use crate::tty::termios::{Termios, iflag, lflag};

    struct Line {
        discipline: Discipline,
        termios: Termios,
        out: Output,
    }

    impl Line {
        fn new() -> Line {
            Line { discipline: Discipline::default(), termios: Termios::first(), out: Output::default() }
        }

        fn type_in(&mut self, bytes: &[u8]) -> Vec<Effect> {
            let effects = bytes.iter().map(|&b| self.discipline.receive(b, &self.termios, &mut self.out));
            effects.filter(|effect| *effect != Effect::None).collect()
        }

        fn shown(&mut self) -> Vec<u8> {
            let mut all = Vec::new();
            while !self.out.is_empty() {
                all.extend_from_slice(self.out.front());
                self.out.consume(self.out.front().len());
            }
            all
        }
    }

    #[test]
    fn a_line_is_edited() {
        let mut line = Line::new();
        line.type_in(b"one two\x17three\x7f\x7f\x7f\x7f\x7f2\r");
        assert_eq!(line.discipline.take_line(99).as_deref(), Some(&b"one 2\n"[..]));
        assert_eq!(line.discipline.take_line(99), None);
    }

    #[test]
    fn characters_of_several_bytes_are_erased_whole() {
        let mut line = Line::new();
        line.termios.iflag |= iflag::IUTF8;
        line.type_in("aé\x7fb\n".as_bytes());
        assert_eq!(line.discipline.take_line(99).as_deref(), Some(&b"ab\n"[..]));
        assert_eq!(line.shown(), "aé\x08 \x08b\r\n".as_bytes());
    }

    #[test]
    fn a_tab_is_erased_by_its_width() {
        let mut line = Line::new();
        line.type_in(b"ab\t\x7f");
        assert_eq!(line.shown(), b"ab\t\x08\x08\x08\x08\x08\x08");
    }

    #[test]
    fn an_end_of_file_ends_a_read_and_nothing_else() {
        let mut line = Line::new();
        line.type_in(b"abc\x04\x04x\n");
        assert_eq!(line.discipline.take_line(3).as_deref(), Some(&b"abc"[..]));
        assert_eq!(line.discipline.take_line(9).as_deref(), Some(&b""[..]));
        assert_eq!(line.discipline.take_line(9).as_deref(), Some(&b"x\n"[..]));
    }

    #[test]
    fn signals_flush_unless_told_otherwise() {
        let mut line = Line::new();
        assert_eq!(line.type_in(b"old\x03"), [Effect::Signal { signal: 2, flushed: true }]);
        assert_eq!(line.shown(), b"^C");
        line.termios.lflag |= lflag::NOFLSH;
        assert_eq!(line.type_in(b"old\x1a\n"), [Effect::Signal { signal: 20, flushed: false }]);
        assert_eq!(line.discipline.take_line(9).as_deref(), Some(&b"old\n"[..]));
    }

    #[test]
    fn a_full_buffer_still_takes_the_line_end() {
        let mut line = Line::new();
        line.type_in(&[b'x'; 5000]);
        line.type_in(b"\n");
        assert_eq!(line.discipline.take_line(9999).map(|l| l.len()), Some(4096));
    }

    #[test]
    fn what_was_typed_survives_a_change_of_mode() {
        let mut line = Line::new();
        line.type_in(b"half");
        line.discipline.canonical_changed(false);
        assert_eq!(line.discipline.take_bytes(2), b"ha");
        line.discipline.canonical_changed(true);
        assert_eq!(line.discipline.take_line(9).as_deref(), Some(&b"lf"[..]));
    }
}
