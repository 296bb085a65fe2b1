//! Pseudo-terminals and sessions on them, for the families that need one.

use crate::kit::{Case, Child, Fail, child, name, open, or_skip, read, until};
use crate::sys::{self, Result, signal, sys};
use libc as c;

/// A pseudo-terminal pair.
pub(crate) struct Pty {
    pub(crate) master: i32,
    pub(crate) slave: i32,
    pub(crate) number: i32,
}

/// A master, its slave still locked; skips where there are none.
pub(crate) fn open_master() -> core::result::Result<i32, Fail> {
    or_skip(open(c"/dev/ptmx", c::O_RDWR | c::O_NOCTTY, 0), &[c::ENOENT, c::EACCES], "/dev/ptmx")
}

/// The number of the slave.
pub(crate) fn number(master: i32) -> Result<i32> {
    let mut number = -1i32;
    sys!(ioctl, master, c::TIOCGPTN, &mut number)?;
    Ok(number)
}

/// Opens a slave by its number.
pub(crate) fn slave(number: i32) -> Result<i32> {
    slave_with(number, c::O_RDWR | c::O_NOCTTY)
}

/// As [`slave`], with flags.
pub(crate) fn slave_with(number: i32, flags: i32) -> Result<i32> {
    open(&name(&format!("/dev/pts/{number}")), flags, 0)
}

/// Settings for the kernel to fill in.
pub(crate) fn zeros() -> c::termios {
    sys::zeroed()
}

/// Rows and columns.
pub(crate) fn size_of_window(fd: i32) -> Result<(u16, u16)> {
    let mut size: c::winsize = sys::zeroed();
    sys!(ioctl, fd, c::TIOCGWINSZ, &mut size)?;
    Ok((size.ws_row, size.ws_col))
}

/// The foreground group.
pub(crate) fn foreground(fd: i32) -> Result<i32> {
    let mut group = 0i32;
    sys!(ioctl, fd, c::TIOCGPGRP, &mut group)?;
    Ok(group)
}

/// As a shell does it: SIGTTOU is blocked, for the shell may be in the background itself.
pub(crate) fn set_foreground(group: i32) -> Case {
    let old = signal::mask(c::SIG_BLOCK, signal::bit(c::SIGTTOU))?;
    sys!(ioctl, 0, c::TIOCSPGRP, &group)?;
    signal::mask(c::SIG_SETMASK, old)?;
    Ok(())
}

/// A child in a group of its own, in the background until it is moved.
pub(crate) fn job(body: impl FnOnce() -> Case) -> Result<Child> {
    let one = child(|| {
        sys!(setpgid, 0, 0)?;
        body()
    })?;
    // Both sides set it, so that it is set for whoever looks first.
    let _ = sys!(setpgid, one.pid, one.pid);
    Ok(one)
}

/// What is ready for reading.
pub(crate) fn poll(fd: i32) -> Result<i16> {
    let mut poll = c::pollfd { fd, events: c::POLLIN, revents: 0 };
    sys!(poll, &mut poll, 1, 0)?;
    Ok(poll.revents)
}

impl Pty {
    /// A pair, unlocked and open.
    pub(crate) fn new() -> core::result::Result<Self, Fail> {
        let master = open_master()?;
        sys!(ioctl, master, c::TIOCSPTLCK, &0i32)?;
        let number = number(master)?;
        Ok(Self { master, slave: slave(number)?, number })
    }

    /// The kernel's termios is shorter than libc's, whose first fields are the same.
    pub(crate) fn settings(&self) -> Result<c::termios> {
        let mut settings = zeros();
        sys!(ioctl, self.slave, c::TCGETS, &mut settings)?;
        Ok(settings)
    }

    /// Changes settings.
    pub(crate) fn change(&self, change: impl FnOnce(&mut c::termios)) -> Result<()> {
        let mut settings = self.settings()?;
        change(&mut settings);
        sys!(ioctl, self.slave, c::TCSETS, &settings).map(drop)
    }

    /// No line discipline: bytes as they come, with VMIN and VTIME.
    pub(crate) fn raw(&self, minimum: u8, tenths: u8) -> Result<()> {
        self.change(|t| {
            t.c_lflag &= !(c::ICANON | c::ECHO | c::ISIG | c::IEXTEN);
            t.c_iflag &= !(c::ICRNL | c::IXON);
            (t.c_cc[c::VMIN], t.c_cc[c::VTIME]) = (minimum, tenths);
        })
    }

    /// Linux passes input on in the background; this waits until so much of it is readable.
    pub(crate) fn wait_for_input(&self, bytes: i32) {
        let mut count = 0i32;
        until(|| sys!(ioctl, self.slave, c::FIONREAD, &mut count).is_ok() && count == bytes);
    }

    /// The next `count` bytes at the master.
    pub(crate) fn output(&self, count: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(read(self.master, count - all.len())?);
        }
        Ok(all)
    }

    /// A child that leads a session on the slave, which is its descriptors 0 to 2.
    pub(crate) fn session(&self, body: impl FnOnce(&Self) -> Case) -> Result<Child> {
        child(|| {
            sys!(setsid)?;
            sys!(ioctl, self.slave, c::TIOCSCTTY, 0)?;
            for fd in 0..3 {
                sys!(dup2, self.slave, fd)?;
            }
            body(self)
        })
    }
}
