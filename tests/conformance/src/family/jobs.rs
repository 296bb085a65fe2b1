//! Job control: sessions, controlling terminals, foreground and background groups.

use crate::kit::{
    Gate, assert_errno, cases, child, close, int, name, open, pid, pipe, read, shared, text, until, wait, write,
};
use crate::pty::{Pty, foreground, job, set_foreground, size_of_window, slave_with};
use crate::sys::{memory, signal, sys};
use core::sync::atomic::Ordering::SeqCst;
use libc as c;

cases! { jobs;
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
    fn stopped_members_of_an_orphaned_group_outlive_the_others() {
        child(|| {
            sys!(setsid)?;
            let stopped = child(|| sys!(kill, pid()?, c::SIGSTOP).map(drop).map_err(Into::into))?;
            let mut status = 0i32;
            sys!(wait4, stopped.pid, &mut status, c::WUNTRACED, 0)?;
            child(|| Ok(()))?.succeeds()?;
            sys!(kill, stopped.pid, c::SIGCONT)?;
            stopped.succeeds()
        })?.succeeds()?;
    }
    fn stopped_process_takes_other_signals_when_it_goes_on() {
        let word = memory::pages(1)?;
        memory::poke(word, 4711u32);
        let other = child(|| loop { sys!(pause).ok(); })?;
        other.kill(c::SIGSTOP)?;
        assert_eq!(wait(other.pid, c::WUNTRACED)?, c::SIGSTOP << 8 | 0x7f);
        other.kill(c::SIGTERM)?;
        // Its memory is there to read: it has not ended.
        let fd = open(&name(&format!("/proc/{}/mem", other.pid)), c::O_RDONLY, 0)?;
        let mut seen = 0u32;
        sys!(pread64, fd, &mut seen, 4, word)?;
        assert_eq!(seen, 4711);
        assert_eq!(wait(other.pid, c::WNOHANG)?, 0);
        other.kill(c::SIGCONT)?;
        other.dies_of(c::SIGTERM)?;
    }
    fn stopped_groups_are_hung_up_where_a_parent_was_their_link() {
        child(|| {
            sys!(setsid)?;
            let ([reader, writer], job_pid) = (pipe(0)?, &shared()?[0]);
            child(|| {
                let job = child(|| {
                    sys!(setpgid, 0, 0)?;
                    sys!(kill, pid()?, c::SIGSTOP)?;
                    loop { sys!(pause).ok(); }
                })?;
                job_pid.store(job.pid.cast_unsigned(), SeqCst);
                let mut status = 0i32;
                sys!(wait4, job.pid, &mut status, c::WUNTRACED, 0)?;
                Ok(())
            })?.succeeds()?;
            // It ends with the last writer: its files go first.
            close(writer)?;
            assert_eq!(read(reader, 1)?, b"");
            let stat = name(&format!("/proc/{}/stat", job_pid.load(SeqCst)));
            until(|| text(&stat).map_or(true, |stat| stat.contains(") Z ")));
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
}
