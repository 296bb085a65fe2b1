//! Terminals: pseudo-terminal pairs and the line discipline.

use crate::kit::{assert_errno, assert_interrupted, cases, child, close, fstat, int, need_root, now, or_skip, read, restarted, until, write};
use crate::pty::{Pty, number, open_master, poll, slave, zeros};
use crate::sys::{self, memory, sys};
use libc as c;

cases! { tty;
    fn the_short_form_of_settings() {
        let pty = Pty::new()?;
        let short = |command: i32, bytes: &mut [u16; 9]| sys!(ioctl, pty.slave, command, bytes);
        pty.change(|t| t.c_lflag |= 0x1_0000)?;
        let (mut termio, settings) = ([0u16; 9], pty.settings()?);
        short(0x5405, &mut termio)?;
        let modes = [settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag & 0xffff].map(u64::from);
        assert_eq!(termio[..4].iter().map(|mode| u64::from(*mode)).collect::<Vec<_>>(), modes);
        // The line's number, then VINTR.
        assert_eq!(termio[4], 3 << 8);
        for command in [0x5406, 0x5407, 0x5408] {
            termio[3] ^= u16::try_from(c::ECHO).unwrap_or(0);
            termio[4] += 1 << 8;
            short(command, &mut termio)?;
            let now = pty.settings()?;
            assert_eq!((now.c_lflag, now.c_cc[c::VINTR]), (u32::from(termio[3]) | 0x1_0000, (termio[4] >> 8) as u8));
            assert_eq!((now.c_iflag, now.c_cflag, now.c_cc[c::VSUSP]), (settings.c_iflag, settings.c_cflag, settings.c_cc[c::VSUSP]));
        }
        // The last one takes what was not read.
        write(pty.master, b"lost\n")?;
        // Linux brings it to the line in its own time.
        until(|| poll(pty.slave).is_ok_and(|found| found & c::POLLIN != 0));
        short(0x5408, &mut termio)?;
        write(pty.master, b"x\n")?;
        assert_eq!(read(pty.slave, 9)?, b"x\n");
        assert_errno(sys!(ioctl, pty.slave, 0x5405, memory::hole()?), c::EFAULT);
        assert_errno(sys!(ioctl, crate::kit::pipe(0)?[0], 0x5405, &mut termio), c::ENOTTY);
    }
    fn pair_opens_and_is_a_terminal() {
        let pty = Pty::new()?;
        let st = fstat(pty.slave)?;
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
        assert_eq!(fstat(fd)?.st_rdev, fstat(pty.slave)?.st_rdev);
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
        let begin = now(c::CLOCK_MONOTONIC)?;
        assert_eq!(read(pty.slave, 9)?, b"");
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 90_000_000);
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
    fn master_reads_the_last_words_of_who_goes_meanwhile() {
        use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
        const NONE: i32 = -1;
        const OVER: i32 = -2;
        static SLAVE: AtomicI32 = AtomicI32::new(NONE);
        let writer = std::thread::spawn(|| loop {
            match SLAVE.swap(NONE, SeqCst) {
                NONE => std::hint::spin_loop(),
                OVER => break,
                slave => {
                    write(slave, b"x").ok();
                    close(slave).ok();
                }
            }
        });
        let mut lost = 0;
        // Both spin: beside other work a round takes as long as the scheduler lets it.
        let enough = std::time::Instant::now() + std::time::Duration::from_secs(3);
        for _ in 0..20_000 {
            if std::time::Instant::now() > enough {
                break;
            }
            let pty = Pty::new()?;
            sys!(fcntl, pty.master, c::F_SETFL, c::O_NONBLOCK)?;
            SLAVE.store(pty.slave, SeqCst);
            let mut byte = 0u8;
            let end = loop {
                match sys!(read, pty.master, &mut byte, 1) {
                    Err(errno) if errno.0 == c::EAGAIN => {}
                    other => break other,
                }
            };
            lost += i32::from(end.is_err());
            close(pty.master)?;
        }
        SLAVE.store(OVER, SeqCst);
        assert!(writer.join().is_ok() && lost == 0, "{lost}");
    }
    fn packet_mode_says_what_happened() {
        let pty = Pty::new()?;
        sys!(ioctl, pty.master, c::TIOCPKT, &1i32)?;
        write(pty.slave, b"data")?;
        assert_eq!(read(pty.master, 99)?, b"\0data");
    }
    fn pushed_input_is_read() {
        need_root()?;
        let pty = Pty::new()?;
        for byte in b"ab\n" {
            or_skip(sys!(ioctl, pty.slave, c::TIOCSTI, byte), &[c::EIO, c::EPERM], "TIOCSTI")?;
        }
        assert_eq!(read(pty.slave, 9)?, b"ab\n");
    }
}
