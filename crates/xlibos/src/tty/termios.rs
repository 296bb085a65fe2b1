//! Settings of a terminal: termios(3), in the kernel's own layout.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct termios2`; the first [`Termios::SHORT`] bytes are `struct termios`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Termios {
    /// Input modes.
    pub iflag: u32,
    /// Output modes.
    pub oflag: u32,
    /// Control modes.
    pub cflag: u32,
    /// Local modes.
    pub lflag: u32,
    /// Number of the line discipline.
    pub line: u8,
    /// Special characters.
    pub cc: [u8; 19],
    /// Input speed.
    pub ispeed: u32,
    /// Output speed.
    pub ospeed: u32,
}

/// `struct termio`: the older, shorter form, without the speeds and what came after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Termio {
    modes: [u16; 4],
    line: u8,
    cc: [u8; 8],
    pad: u8,
}

impl Termio {
    /// What it has of the settings.
    #[must_use]
    pub fn of(termios: &Termios) -> Termio {
        let low = |mode: u32| u16::try_from(mode & 0xffff).unwrap_or(0);
        let mut cc = [0; 8];
        cc.iter_mut().zip(termios.cc).for_each(|(to, from)| *to = from);
        let modes = [termios.iflag, termios.oflag, termios.cflag, termios.lflag].map(low);
        Termio { modes, line: termios.line, cc, pad: 0 }
    }

    /// Changes what it has of the settings.
    pub fn change(&self, termios: &mut Termios) {
        let fields = [&mut termios.iflag, &mut termios.oflag, &mut termios.cflag, &mut termios.lflag];
        fields.into_iter().zip(self.modes).for_each(|(field, low)| *field = *field & !0xffff | u32::from(low));
        termios.line = self.line;
        termios.cc.iter_mut().zip(self.cc).for_each(|(to, from)| *to = from);
    }
}

/// `struct winsize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Winsize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
    /// Width in pixels.
    pub xpixel: u16,
    /// Height in pixels.
    pub ypixel: u16,
}

/// Bits of `iflag`.
pub mod iflag {
    #![allow(missing_docs, reason = "termios(3) has them")]
    pub const ISTRIP: u32 = 0o40;
    pub const INLCR: u32 = 0o100;
    pub const IGNCR: u32 = 0o200;
    pub const ICRNL: u32 = 0o400;
    pub const IUCLC: u32 = 0o1000;
    pub const IXON: u32 = 0o2000;
    pub const IXANY: u32 = 0o4000;
    pub const IMAXBEL: u32 = 0o20000;
    pub const IUTF8: u32 = 0o40000;
}

/// Bits of `oflag`.
pub mod oflag {
    #![allow(missing_docs, reason = "termios(3) has them")]
    pub const OPOST: u32 = 0o1;
    pub const OLCUC: u32 = 0o2;
    pub const ONLCR: u32 = 0o4;
    pub const OCRNL: u32 = 0o10;
    pub const ONOCR: u32 = 0o20;
    pub const ONLRET: u32 = 0o40;
    pub const TABDLY: u32 = 0o14000;
}

/// Bits of `lflag`.
pub mod lflag {
    #![allow(missing_docs, reason = "termios(3) has them")]
    pub const ISIG: u32 = 0o1;
    pub const ICANON: u32 = 0o2;
    pub const ECHO: u32 = 0o10;
    pub const ECHOE: u32 = 0o20;
    pub const ECHOK: u32 = 0o40;
    pub const ECHONL: u32 = 0o100;
    pub const NOFLSH: u32 = 0o200;
    pub const TOSTOP: u32 = 0o400;
    pub const ECHOCTL: u32 = 0o1000;
    pub const ECHOKE: u32 = 0o4000;
    pub const IEXTEN: u32 = 0o100_000;
}

/// Indices of `cc`.
pub mod cc {
    #![allow(missing_docs, reason = "termios(3) has them")]
    pub const VINTR: usize = 0;
    pub const VQUIT: usize = 1;
    pub const VERASE: usize = 2;
    pub const VKILL: usize = 3;
    pub const VEOF: usize = 4;
    pub const VTIME: usize = 5;
    pub const VMIN: usize = 6;
    pub const VSTART: usize = 8;
    pub const VSTOP: usize = 9;
    pub const VSUSP: usize = 10;
    pub const VEOL: usize = 11;
    pub const VREPRINT: usize = 12;
    pub const VWERASE: usize = 14;
    pub const VLNEXT: usize = 15;
    pub const VEOL2: usize = 16;
}

/// B38400 | CS8 | CREAD.
const FIRST_CFLAG: u32 = 0o17 | 0o60 | 0o200;
/// The special characters of a fresh terminal: ^C ^\ DEL ^U ^D, ^Q ^S ^Z, ^R ^O ^W ^V.
const FIRST_CC: [u8; 19] = [3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0x0f, 0x17, 0x16, 0, 0, 0];

impl Termios {
    /// Bytes of `struct termios`, without the speeds.
    pub const SHORT: usize = 36;

    /// What a fresh terminal has.
    #[must_use]
    pub fn first() -> Termios {
        use lflag::{ECHO, ECHOCTL, ECHOE, ECHOK, ECHOKE, ICANON, IEXTEN, ISIG};
        Termios {
            iflag: iflag::ICRNL | iflag::IXON,
            oflag: oflag::OPOST | oflag::ONLCR,
            cflag: FIRST_CFLAG,
            lflag: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            line: 0,
            cc: FIRST_CC,
            ispeed: 38400,
            ospeed: 38400,
        }
    }

    /// Whether an input mode is on.
    #[must_use]
    pub fn input(&self, bit: u32) -> bool {
        self.iflag & bit != 0
    }

    /// Whether an output mode is on.
    #[must_use]
    pub fn output(&self, bit: u32) -> bool {
        self.oflag & bit != 0
    }

    /// Whether a local mode is on.
    #[must_use]
    pub fn local(&self, bit: u32) -> bool {
        self.lflag & bit != 0
    }

    /// A special character; 0 stands for none.
    #[must_use]
    pub fn special(&self, index: usize) -> u8 {
        self.cc.get(index).copied().unwrap_or(0)
    }

    /// Whether a byte is that special character.
    #[must_use]
    pub fn is(&self, byte: u8, index: usize) -> bool {
        byte != 0 && self.special(index) == byte
    }
}

#[cfg(test)]
mod tests {
    use super::{Termio, Termios, cc};

    #[test]
    fn the_short_form_changes_only_what_it_has() {
        let before = Termios { lflag: 0x1_8a3b, ..Termios::first() };
        let mut short = Termio::of(&before);
        short.modes[3] = 0;
        short.cc[cc::VINTR] = 5;
        let mut after = before;
        short.change(&mut after);
        assert_eq!((after.lflag, after.cc[cc::VINTR], after.cc[cc::VSUSP]), (0x1_0000, 5, before.cc[cc::VSUSP]));
        assert_eq!((after.iflag, after.cflag, after.ospeed), (before.iflag, before.cflag, before.ospeed));
    }
}
