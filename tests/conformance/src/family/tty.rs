//! Terminals: pseudo-terminal pairs, line discipline, job control.

use crate::kit::{Child, Fail, Gate, assert_errno, assert_interrupted, cases, child, close, int, open, or_skip, pid, pipe, read, restarted, until, wait, write};
use crate::sys::{self, Result, memory, signal, sys};
use libc as c;

cases! { tty;
    fn pair_opens_and_is_a_terminal() {
        let pty = Pty::new()?;
        let st = crate::kit::fstat(pty.slave)?;
        assert_eq!(st.st_mode & c::S_IFMT, c::S_IFCHR);
        assert_eq!(st.st_rdev >> 8, 136);
        sys!(ioctl, pty.slave, c::TCGETS, &mut zeros())?;
        sys!(ioctl, pty.master, c::TCGETS, &mut zeros())?;
    }
    fn locked_slave_cannot_be_opened() {
        let master = open_master()?;
        let number = number(master)?;
        assert_errno(slave(number), c::EIO);
        sys!(ioctl, master, c::TIOCSPTLCK, &0i32)?;
        slave(number)?;
        close(master)?;
        assert!(slave(number).is_err());
    }
    fn slave_by_the_master() {
        let pty = Pty::new()?;
        let fd = int(sys!(ioctl, pty.master, c::TIOCGPTPEER, c::O_RDWR | c::O_NOCTTY)?);
        assert_eq!(crate::kit::fstat(fd)?.st_rdev, crate::kit::fstat(pty.slave)?.st_rdev);
    }
    fn first_settings_are_the_usual_ones() {
        let settings = Pty::new()?.settings()?;
        assert_eq!(settings.c_lflag & (c::ICANON | c::ECHO | c::ISIG), c::ICANON | c::ECHO | c::ISIG);
        assert_eq!((settings.c_iflag & c::ICRNL, settings.c_oflag & (c::OPOST | c::ONLCR)), (c::ICRNL, c::OPOST | c::ONLCR));
        assert_eq!((settings.c_cc[c::VINTR], settings.c_cc[c::VEOF], settings.c_cc[c::VERASE]), (3, 4, 0x7f));
    }
    fn output_gets_carriage_returns() {
        let pty = Pty::new()?;
        write(pty.slave, b"a\nb\n")?;
        assert_eq!(pty.output(6)?, b"a\r\nb\r\n");
        pty.change(|t| t.c_oflag &= !c::OPOST)?;
        write(pty.slave, b"a\nb")?;
        assert_eq!(pty.output(3)?, b"a\nb");
    }
    fn input_echoes_and_comes_line_by_line() {
        let pty = Pty::new()?;
        write(pty.master, b"one\rtwo\n")?;
        assert_eq!(read(pty.slave, 99)?, b"one\n");
        assert_eq!(read(pty.slave, 2)?, b"tw");
        assert_eq!(read(pty.slave, 99)?, b"o\n");
        assert_eq!(pty.output(10)?, b"one\r\ntwo\r\n");
    }
    fn unfinished_lines_are_not_readable() {
        let pty = Pty::new()?;
        sys!(fcntl, pty.slave, c::F_SETFL, c::O_NONBLOCK)?;
        write(pty.master, b"no end yet")?;
        assert_errno(read(pty.slave, 99), c::EAGAIN);
        write(pty.master, b"\n")?;
        until(|| poll(pty.slave).is_ok_and(|events| events & c::POLLIN != 0));
        assert_eq!(read(pty.slave, 99)?, b"no end yet\n");
    }
    fn erase_kill_and_word_erase() {
        let pty = Pty::new()?;
        write(pty.master, b"abx\x7fc\n")?;
        assert_eq!(read(pty.slave, 99)?, b"abc\n");
        write(pty.master, b"all gone\x15rest\n")?;
        assert_eq!(read(pty.slave, 99)?, b"rest\n");
        write(pty.master, b"one two\x17three\n")?;
        assert_eq!(read(pty.slave, 99)?, b"one three\n");
        write(pty.master, b"\x7f\x7fx\n")?;
        assert_eq!(read(pty.slave, 99)?, b"x\n");
    }
    fn erase_is_echoed_as_backspaces() {
        let pty = Pty::new()?;
        write(pty.master, b"a\x7f\n")?;
        assert_eq!(pty.output(6)?, b"a\x08 \x08\r\n");
    }
    fn control_characters_are_echoed_with_a_hat() {
        let pty = Pty::new()?;
        write(pty.master, b"\x01\n")?;
        assert_eq!(pty.output(4)?, b"^A\r\n");
    }
    fn next_character_is_taken_literally() {
        let pty = Pty::new()?;
        write(pty.master, b"a\x16\x03b\n")?;
        assert_eq!(read(pty.slave, 99)?, b"a\x03b\n");
    }
    fn end_of_file_character() {
        let pty = Pty::new()?;
        write(pty.master, b"\x04")?;
        assert_eq!(read(pty.slave, 99)?, b"");
        write(pty.master, b"abc\x04")?;
        assert_eq!(read(pty.slave, 99)?, b"abc");
    }
    fn no_echo() {
        let pty = Pty::new()?;
        pty.change(|t| t.c_lflag &= !c::ECHO)?;
        write(pty.master, b"secret\n")?;
        assert_eq!(read(pty.slave, 99)?, b"secret\n");
        write(pty.slave, b"done")?;
        assert_eq!(pty.output(4)?, b"done");
    }
    fn raw_mode_passes_bytes() {
        let pty = Pty::new()?;
        pty.raw(1, 0)?;
        write(pty.master, b"\x03\x04\r\x7f")?;
        let mut all = Vec::new();
        while all.len() < 4 {
            all.extend(read(pty.slave, 99)?);
        }
        assert_eq!(all, b"\x03\x04\r\x7f");
    }
    fn raw_mode_minimum_and_time() {
        let pty = Pty::new()?;
        pty.raw(0, 0)?;
        assert_eq!(read(pty.slave, 9)?, b"");
        pty.raw(0, 1)?;
        let begin = crate::kit::now(c::CLOCK_MONOTONIC)?;
        assert_eq!(read(pty.slave, 9)?, b"");
        assert!(crate::kit::now(c::CLOCK_MONOTONIC)? - begin >= 90_000_000);
        pty.raw(3, 0)?;
        write(pty.master, b"ab")?;
        let writer = child(|| Ok(write(pty.master, b"c")?))?;
        assert_eq!(read(pty.slave, 9)?, b"abc");
        writer.succeeds()?;
    }
    fn settings_round_trip_and_flush() {
        let pty = Pty::new()?;
        write(pty.master, b"typed ahead\n")?;
        pty.wait_for_input(12);
        let mut settings = pty.settings()?;
        settings.c_cc[c::VINTR] = 7;
        sys!(ioctl, pty.slave, c::TCSETSF, &settings)?;
        assert_eq!(pty.settings()?.c_cc[c::VINTR], 7);
        sys!(fcntl, pty.slave, c::F_SETFL, c::O_NONBLOCK)?;
        assert_errno(read(pty.slave, 9), c::EAGAIN);
        sys!(ioctl, pty.slave, c::TCSETSW, &settings)?;
        sys!(ioctl, pty.slave, c::TCFLSH, c::TCIOFLUSH)?;
        assert_errno(sys!(ioctl, pty.slave, c::TCFLSH, 99), c::EINVAL);
        assert_errno(sys!(ioctl, pty.slave, c::TCGETS, memory::hole()?), c::EFAULT);
    }
    fn window_size_and_its_signal() {
        let pty = Pty::new()?;
        let ready = Gate::new()?;
        let shell = pty.session(|_| {
            signal::record(c::SIGWINCH, 0)?;
            ready.open()?;
            until(|| signal::count(c::SIGWINCH) > 0);
            assert_eq!(size_of_window(0)?, (50, 132));
            Ok(())
        })?;
        ready.pass()?;
        assert_eq!(size_of_window(pty.master)?, (0, 0));
        let size = c::winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        sys!(ioctl, pty.master, c::TIOCSWINSZ, &size)?;
        shell.succeeds()?;
    }
    fn session_leader_gets_a_controlling_terminal() {
        let pty = Pty::new()?;
        pty.session(|_| {
            assert_eq!(int(sys!(ioctl, 0, c::TIOCGSID, &mut 0i32).map(|_| 0)?), 0);
            let mut session = 0i32;
            sys!(ioctl, 0, c::TIOCGSID, &mut session)?;
            assert_eq!((session, foreground(0)?), (pid()?, pid()?));
            let tty = open(c"/dev/tty", c::O_RDWR, 0)?;
            write(tty, b"hello")?;
            Ok(())
        })?.succeeds()?;
        assert_eq!(pty.output(5)?, b"hello");
    }
    fn opening_gives_a_leader_its_terminal() {
        let pty = Pty::new()?;
        child(|| {
            sys!(setsid)?;
            assert_errno(open(c"/dev/tty", c::O_RDWR, 0), c::ENXIO);
            let fd = slave_with(pty.number, c::O_RDWR)?;
            close(open(c"/dev/tty", c::O_RDWR, 0)?)?;
            // A leader that gives its terminal up hangs its foreground up.
            signal::record(c::SIGHUP, 0)?;
            sys!(ioctl, fd, c::TIOCNOTTY)?;
            assert_eq!(signal::count(c::SIGHUP), 1);
            assert_errno(open(c"/dev/tty", c::O_RDWR, 0), c::ENXIO);
            Ok(())
        })?.succeeds()?;
    }
    fn interrupt_and_quit_characters() {
        for (byte, number) in [(3u8, c::SIGINT), (0x1c, c::SIGQUIT)] {
            let pty = Pty::new()?;
            let ready = Gate::new()?;
            let shell = pty.session(|_| {
                sys!(setrlimit, c::RLIMIT_CORE, &[0u64; 2])?;
                ready.open()?;
                loop { sys!(pause).ok(); }
            })?;
            ready.pass()?;
            write(pty.master, &[byte])?;
            shell.dies_of(number)?;
        }
    }
    fn interrupt_goes_to_the_foreground_group_only() {
        let pty = Pty::new()?;
        let ready = Gate::new()?;
        let shell = pty.session(|_| {
            signal::record(c::SIGINT, 0)?;
            let job = job(|| {
                signal::default(c::SIGINT, 0)?;
                ready.open()?;
                loop { sys!(pause).ok(); }
            })?;
            set_foreground(job.pid)?;
            assert_eq!(foreground(0)?, job.pid);
            job.dies_of(c::SIGINT)?;
            assert_eq!(signal::count(c::SIGINT), 0);
            set_foreground(pid()?)
        })?;
        ready.pass()?;
        // The shell may not have moved the job to the foreground yet; then it takes the signal itself.
        until(|| sys!(ioctl, pty.master, c::TIOCGPGRP, &mut 0i32).is_ok() && foreground(pty.master).is_ok_and(|g| g != shell.pid));
        write(pty.master, b"\x03")?;
        shell.succeeds()?;
    }
    fn interrupt_flushes_the_line() {
        let pty = Pty::new()?;
        let ready = Gate::new()?;
        let shell = pty.session(|_| {
            signal::record(c::SIGINT, c::SA_RESTART)?;
            ready.open()?;
            assert_eq!(read(0, 99)?, b"new\n");
            Ok(())
        })?;
        ready.pass()?;
        write(pty.master, b"old\x03new\n")?;
        shell.succeeds()?;
    }
    fn suspend_character_stops_the_job() {
        let pty = Pty::new()?;
        let (ready, stopped) = (Gate::new()?, Gate::new()?);
        let shell = pty.session(|_| {
            signal::ignore(c::SIGTTOU)?;
            let job = job(|| {
                signal::default(c::SIGTTOU, 0)?;
                until(|| foreground(0).is_ok_and(|g| sys!(getpgrp).is_ok_and(|own| own == i64::from(g))));
                ready.open()?;
                assert_eq!(read(0, 99)?, b"after\n");
                Ok(())
            })?;
            set_foreground(job.pid)?;
            assert_eq!(wait(job.pid, c::WUNTRACED)?, c::SIGTSTP << 8 | 0x7f);
            set_foreground(pid()?)?;
            stopped.open()?;
            set_foreground(job.pid)?;
            job.kill(c::SIGCONT)?;
            job.succeeds()?;
            set_foreground(pid()?)
        })?;
        ready.pass()?;
        write(pty.master, b"\x1a")?;
        stopped.pass()?;
        write(pty.master, b"after\n")?;
        shell.succeeds()?;
    }
    fn background_read_stops() {
        Pty::new()?.session(|_| {
            let job = job(|| {
                read(0, 9)?;
                Ok(())
            })?;
            assert_eq!(wait(job.pid, c::WUNTRACED)?, c::SIGTTIN << 8 | 0x7f);
            job.end()
        })?.succeeds()?;
    }
    fn background_read_with_the_signal_ignored_is_eio() {
        Pty::new()?.session(|_| {
            job(|| {
                signal::ignore(c::SIGTTIN)?;
                assert_errno(read(0, 9), c::EIO);
                Ok(())
            })?.succeeds()
        })?.succeeds()?;
    }
    fn background_write_stops_only_with_tostop() {
        let pty = Pty::new()?;
        pty.session(|_| {
            job(|| Ok(write(1, b"x")?))?.succeeds()?;
            pty.change(|t| t.c_lflag |= c::TOSTOP)?;
            let job = job(|| Ok(write(1, b"y")?))?;
            assert_eq!(wait(job.pid, c::WUNTRACED)?, c::SIGTTOU << 8 | 0x7f);
            job.end()
        })?.succeeds()?;
        assert_eq!(pty.output(1)?, b"x");
    }
    fn background_change_of_settings_stops() {
        let pty = Pty::new()?;
        pty.session(|_| {
            let job = job(|| Ok(pty.change(|t| t.c_lflag &= !c::ECHO)?))?;
            assert_eq!(wait(job.pid, c::WUNTRACED)?, c::SIGTTOU << 8 | 0x7f);
            job.end()
        })?.succeeds()?;
    }
    fn foreground_errors() {
        let pty = Pty::new()?;
        assert_errno(sys!(ioctl, pty.slave, c::TIOCSPGRP, &pid()?), c::ENOTTY);
        pty.session(|_| {
            assert_errno(sys!(ioctl, 0, c::TIOCSPGRP, &999_999_999i32), c::ESRCH);
            assert_errno(sys!(ioctl, 0, c::TIOCSPGRP, &-1i32), c::EINVAL);
            assert_errno(sys!(ioctl, 0, c::TIOCSPGRP, &int(sys!(getppid)?)), c::EPERM);
            Ok(())
        })?.succeeds()?;
        assert_errno(sys!(ioctl, pipe(0)?[0], c::TIOCGPGRP, &mut 0i32), c::ENOTTY);
    }
    fn hangup_when_the_master_closes() {
        let pty = Pty::new()?;
        let ready = Gate::new()?;
        let shell = pty.session(|_| {
            close(pty.master)?;
            signal::record(c::SIGHUP, 0)?;
            ready.open()?;
            until(|| signal::count(c::SIGHUP) > 0);
            assert_eq!(read(0, 9)?, b"");
            assert_errno(write(1, b"x"), c::EIO);
            Ok(())
        })?;
        ready.pass()?;
        close(pty.slave)?;
        close(pty.master)?;
        shell.succeeds()?;
    }
    fn leader_ends_and_the_foreground_is_hung_up() {
        sys!(prctl, c::PR_SET_CHILD_SUBREAPER, 1)?;
        let pty = Pty::new()?;
        pty.session(|_| {
            let ready = Gate::new()?;
            let _same_group = child(|| {
                ready.open()?;
                loop { sys!(pause).ok(); }
            })?;
            Ok(ready.pass()?)
        })?.succeeds()?;
        assert_eq!(wait(-1, 0)?, c::SIGHUP);
    }
    fn master_reads_eio_when_the_slave_is_gone() {
        let pty = Pty::new()?;
        write(pty.slave, b"last")?;
        close(pty.slave)?;
        assert_eq!(read(pty.master, 99)?, b"last");
        assert_errno(read(pty.master, 99), c::EIO);
        assert_eq!(poll(pty.master)? & c::POLLHUP, c::POLLHUP);
        slave(pty.number)?;
        assert_eq!(poll(pty.master)? & c::POLLHUP, 0);
    }
    fn bytes_waiting() {
        let pty = Pty::new()?;
        write(pty.master, b"hello\n")?;
        pty.wait_for_input(6);
        read(pty.slave, 2)?;
        pty.wait_for_input(4);
        sys!(ioctl, pty.slave, c::TIOCOUTQ, &mut 0i32)?;
    }
    fn read_is_interrupted_and_restarted() {
        let pty = Pty::new()?;
        assert_interrupted(|| read(pty.slave, 9))?;
        let got = restarted(|| read(pty.slave, 9), || { let _ = write(pty.master, b"x\n"); })??;
        assert_eq!(got, b"x\n");
        pty.output(3)?;
        assert_interrupted(|| read(pty.master, 9))?;
    }
    fn flow_control_holds_the_output() {
        let pty = Pty::new()?;
        write(pty.master, b"\x13")?;
        sys!(fcntl, pty.slave, c::F_SETFL, c::O_NONBLOCK)?;
        until(|| sys!(write, pty.slave, b"x", 1) == Err(sys::Errno(c::EAGAIN)));
        write(pty.master, b"\x11")?;
        sys!(fcntl, pty.slave, c::F_SETFL, 0)?;
        write(pty.slave, b"y")?;
        while pty.output(1)? != b"y" {}
    }
    fn packet_mode_says_what_happened() {
        let pty = Pty::new()?;
        sys!(ioctl, pty.master, c::TIOCPKT, &1i32)?;
        write(pty.slave, b"data")?;
        assert_eq!(read(pty.master, 99)?, b"\0data");
    }
    fn pushed_input_is_read() {
        crate::kit::need_root()?;
        let pty = Pty::new()?;
        for byte in b"ab\n" {
            or_skip(sys!(ioctl, pty.slave, c::TIOCSTI, byte), &[c::EIO, c::EPERM], "TIOCSTI")?;
        }
        assert_eq!(read(pty.slave, 9)?, b"ab\n");
    }
}

struct Pty {
    master: i32,
    slave: i32,
    number: i32,
}

fn open_master() -> core::result::Result<i32, Fail> {
    or_skip(open(c"/dev/ptmx", c::O_RDWR | c::O_NOCTTY, 0), &[c::ENOENT, c::EACCES], "/dev/ptmx")
}

fn number(master: i32) -> Result<i32> {
    let mut number = -1i32;
    sys!(ioctl, master, c::TIOCGPTN, &mut number)?;
    Ok(number)
}

fn slave(number: i32) -> Result<i32> {
    slave_with(number, c::O_RDWR | c::O_NOCTTY)
}

fn slave_with(number: i32, flags: i32) -> Result<i32> {
    open(&crate::kit::name(&format!("/dev/pts/{number}")), flags, 0)
}

fn zeros() -> c::termios {
    sys::zeroed()
}

fn size_of_window(fd: i32) -> Result<(u16, u16)> {
    let mut size: c::winsize = sys::zeroed();
    sys!(ioctl, fd, c::TIOCGWINSZ, &mut size)?;
    Ok((size.ws_row, size.ws_col))
}

fn foreground(fd: i32) -> Result<i32> {
    let mut group = 0i32;
    sys!(ioctl, fd, c::TIOCGPGRP, &mut group)?;
    Ok(group)
}

/// As a shell does it: SIGTTOU is blocked, for the shell may be in the background itself.
fn set_foreground(group: i32) -> crate::kit::Case {
    let old = signal::mask(c::SIG_BLOCK, signal::bit(c::SIGTTOU))?;
    sys!(ioctl, 0, c::TIOCSPGRP, &group)?;
    signal::mask(c::SIG_SETMASK, old)?;
    Ok(())
}

/// A child in a group of its own, in the background until it is moved.
fn job(body: impl FnOnce() -> crate::kit::Case) -> Result<Child> {
    let one = child(|| {
        sys!(setpgid, 0, 0)?;
        body()
    })?;
    // Both sides set it, so that it is set for whoever looks first.
    let _ = sys!(setpgid, one.pid, one.pid);
    Ok(one)
}

fn poll(fd: i32) -> Result<i16> {
    let mut poll = c::pollfd { fd, events: c::POLLIN, revents: 0 };
    sys!(poll, &mut poll, 1, 0)?;
    Ok(poll.revents)
}

impl Pty {
    fn new() -> core::result::Result<Self, Fail> {
        let master = open_master()?;
        sys!(ioctl, master, c::TIOCSPTLCK, &0i32)?;
        let number = number(master)?;
        Ok(Self { master, slave: slave(number)?, number })
    }

    /// The kernel's termios is shorter than libc's, whose first fields are the same.
    fn settings(&self) -> Result<c::termios> {
        let mut settings = zeros();
        sys!(ioctl, self.slave, c::TCGETS, &mut settings)?;
        Ok(settings)
    }

    fn change(&self, change: impl FnOnce(&mut c::termios)) -> Result<()> {
        let mut settings = self.settings()?;
        change(&mut settings);
        sys!(ioctl, self.slave, c::TCSETS, &settings).map(drop)
    }

    fn raw(&self, minimum: u8, tenths: u8) -> Result<()> {
        self.change(|t| {
            t.c_lflag &= !(c::ICANON | c::ECHO | c::ISIG | c::IEXTEN);
            t.c_iflag &= !(c::ICRNL | c::IXON);
            (t.c_cc[c::VMIN], t.c_cc[c::VTIME]) = (minimum, tenths);
        })
    }

    /// Linux passes input on in the background; this waits until so much of it is readable.
    fn wait_for_input(&self, bytes: i32) {
        let mut count = 0i32;
        until(|| sys!(ioctl, self.slave, c::FIONREAD, &mut count).is_ok() && count == bytes);
    }

    /// The next `count` bytes at the master.
    fn output(&self, count: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(read(self.master, count - all.len())?);
        }
        Ok(all)
    }

    /// A child that leads a session on the slave, which is its descriptors 0 to 2.
    fn session(&self, body: impl FnOnce(&Self) -> crate::kit::Case) -> Result<Child> {
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
