//! ioctl_tty(2).

use super::termios::{Termio, Termios, Winsize};
use super::{Tty, packet};
use crate::process::creds::CAP_SYS_ADMIN;
use crate::process::{Pid, Task};
use crate::signal::SIGTTOU;
use crate::wait::{Events, WRITABLE};
use crate::{Errno, Result};
use alloc::sync::Arc;
use machine::guest;
use zerocopy::IntoBytes as _;

const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TCGETA: u32 = 0x5405;
const TCSETA: u32 = 0x5406;
const TCSETAW: u32 = 0x5407;
const TCSETAF: u32 = 0x5408;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCEXCL: u32 = 0x540c;
const TIOCNXCL: u32 = 0x540d;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCOUTQ: u32 = 0x5411;
const TIOCSTI: u32 = 0x5412;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541b;
const TIOCPKT: u32 = 0x5420;
const TIOCNOTTY: u32 = 0x5422;
const TIOCSETD: u32 = 0x5423;
const TIOCGETD: u32 = 0x5424;
const TCSBRKP: u32 = 0x5425;
const TIOCGSID: u32 = 0x5429;
const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSW2: u32 = 0x402c_542c;
const TCSETSF2: u32 = 0x402c_542d;
const TIOCGPTN: u32 = 0x8004_5430;
const TIOCSPTLCK: u32 = 0x4004_5431;
const TIOCGDEV: u32 = 0x8004_5432;
const TIOCSIG: u32 = 0x4004_5436;
const TIOCVHANGUP: u32 = 0x5437;
const TIOCGPKT: u32 = 0x8004_5438;
const TIOCGPTLCK: u32 = 0x8004_5439;
const TIOCGEXCL: u32 = 0x8004_5440;

/// What a hung-up terminal answers.
pub(super) fn of_hung_up(command: u32) -> Errno {
    if command == TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO }
}

fn put(argument: u64, value: i32) -> Result<u64> {
    guest::write_value(argument, &value).map(|()| 0)
}

fn put_count(argument: u64, count: usize) -> Result<u64> {
    put(argument, i32::try_from(count).unwrap_or(i32::MAX))
}

fn get_flag(argument: u64) -> Result<bool> {
    guest::read_value::<i32>(argument).map(|value| value != 0)
}

/// On the line side.
///
/// # Errors
/// ENOTTY for an unknown command; EFAULT; those of job control.
pub(super) fn line(tty: &Arc<Tty>, task: &Task, command: u32, argument: u64) -> Result<u64> {
    match command {
        TIOCSCTTY => tty.acquire(task, argument == 1).map(|()| 0),
        TIOCNOTTY => tty.give_up(task).map(|()| 0),
        TIOCSPGRP => {
            tty.check_foreground(task, SIGTTOU)
                .map_err(|errno| if errno == Errno::EIO { Errno::ENOTTY } else { errno })?;
            let pgid = guest::read_value::<Pid>(argument)?;
            tty.set_foreground(task, pgid).map(|()| 0)
        }
        FIONREAD => {
            let count = tty.state.lock().input.available();
            put_count(argument, count)
        }
        // A pseudo-terminal keeps nothing back: what is written is the master's.
        TIOCOUTQ => put(argument, 0),
        TIOCSTI => push_input(tty, task, argument),
        TIOCVHANGUP if !task.creds().has(CAP_SYS_ADMIN) => Err(Errno::EPERM),
        TIOCVHANGUP => {
            tty.hang_up();
            Ok(0)
        }
        TCXONC => {
            tty.check_foreground(task, SIGTTOU)?;
            flow(tty, argument)
        }
        _ => either(tty, task, command, argument, false),
    }
}

/// On the master.
///
/// # Errors
/// As [`line`].
pub(super) fn master(tty: &Arc<Tty>, task: &Task, command: u32, argument: u64) -> Result<u64> {
    match command {
        TIOCGPTN => put(argument, tty.index.cast_signed()),
        TIOCSPTLCK => {
            tty.state.lock().is_locked = get_flag(argument)?;
            Ok(0)
        }
        TIOCGPTLCK => {
            let is_locked = tty.state.lock().is_locked;
            put(argument, i32::from(is_locked))
        }
        TIOCPKT => {
            let on = get_flag(argument)?;
            let mut state = tty.state.lock();
            state.packet = if on { Some(state.packet.unwrap_or(0)) } else { None };
            Ok(0)
        }
        TIOCGPKT => {
            let on = tty.state.lock().packet.is_some();
            put(argument, i32::from(on))
        }
        TIOCSIG => {
            let signal = i32::try_from(argument).map_err(|_| Errno::EINVAL)?;
            if !(1..=64).contains(&signal) {
                return Err(Errno::EINVAL);
            }
            tty.signal_foreground(signal);
            Ok(0)
        }
        FIONREAD => {
            let count = tty.state.lock().output.len();
            put_count(argument, count)
        }
        TIOCOUTQ => {
            let count = tty.state.lock().input.available();
            put_count(argument, count)
        }
        _ => either(tty, task, command, argument, true),
    }
}

/// On both sides.
fn either(tty: &Arc<Tty>, task: &Task, command: u32, argument: u64, is_master: bool) -> Result<u64> {
    match command {
        TCGETS | TCGETS2 => get_settings(tty, argument, command == TCGETS2),
        TCGETA => {
            let termios = tty.state.lock().termios;
            guest::write_value(argument, &Termio::of(&termios)).map(|()| 0)
        }
        TCSETS | TCSETSW | TCSETSF | TCSETS2 | TCSETSW2 | TCSETSF2 | TCSETA | TCSETAW | TCSETAF => {
            tty.check_foreground(task, SIGTTOU)?;
            set_settings(tty, command, argument)
        }
        // Output is with the master at once: there is nothing to drain, and no line to break.
        TCSBRK | TCSBRKP => tty.check_foreground(task, SIGTTOU).map(|()| 0),
        TCFLSH => {
            tty.check_foreground(task, SIGTTOU)?;
            flush(tty, argument)
        }
        TIOCGPGRP => {
            let pgid = tty.foreground(task, is_master)?;
            put(argument, pgid)
        }
        TIOCGSID => {
            let sid = tty.session_id(task, is_master)?;
            put(argument, sid)
        }
        TIOCGWINSZ => {
            let size = tty.state.lock().size;
            guest::write_value(argument, &size).map(|()| 0)
        }
        TIOCSWINSZ => {
            tty.resize(guest::read_value::<Winsize>(argument)?);
            Ok(0)
        }
        TIOCEXCL | TIOCNXCL => {
            tty.state.lock().is_exclusive = command == TIOCEXCL;
            Ok(0)
        }
        TIOCGEXCL => {
            let is_exclusive = tty.state.lock().is_exclusive;
            put(argument, i32::from(is_exclusive))
        }
        TIOCGETD => put(argument, 0),
        TIOCSETD => {
            // N_TTY is the only discipline there is.
            if guest::read_value::<i32>(argument)? == 0 { Ok(0) } else { Err(Errno::EINVAL) }
        }
        TIOCGDEV => {
            let (major, minor) = if is_master { super::devices::PTMX } else { (super::devices::PTS_MAJOR, tty.index) };
            put(argument, (major << 8 | minor).cast_signed())
        }
        _ => Err(Errno::ENOTTY),
    }
}

fn get_settings(tty: &Tty, argument: u64, is_long: bool) -> Result<u64> {
    let termios = tty.state.lock().termios;
    let bytes = termios.as_bytes();
    let len = if is_long { bytes.len() } else { Termios::SHORT };
    guest::write(argument, bytes.get(..len).unwrap_or(bytes)).map(|()| 0)
}

fn set_settings(tty: &Tty, command: u32, argument: u64) -> Result<u64> {
    let mut new = tty.state.lock().termios;
    if matches!(command, TCSETA | TCSETAW | TCSETAF) {
        guest::read_value::<Termio>(argument)?.change(&mut new);
    } else {
        let bytes = new.as_mut_bytes();
        let len = if matches!(command, TCSETS2 | TCSETSW2 | TCSETSF2) { bytes.len() } else { Termios::SHORT };
        guest::read(argument, bytes.get_mut(..len).ok_or(Errno::EFAULT)?)?;
    }
    {
        let mut state = tty.state.lock();
        if matches!(command, TCSETSF | TCSETSF2 | TCSETAF) {
            state.input.flush();
        }
        state.set_termios(new);
        tty.pass_on(&mut state);
    }
    tty.line.wake(Events::all());
    tty.master.wake(Events::all());
    Ok(0)
}

fn flush(tty: &Tty, which: u64) -> Result<u64> {
    let bits = match which {
        0 => packet::FLUSHREAD,
        1 => packet::FLUSHWRITE,
        2 => packet::FLUSHREAD | packet::FLUSHWRITE,
        _ => return Err(Errno::EINVAL),
    };
    {
        let mut state = tty.state.lock();
        if bits & packet::FLUSHREAD != 0 {
            state.input.flush();
        }
        if bits & packet::FLUSHWRITE != 0 {
            state.output.flush();
        }
        state.tell_master(bits);
    }
    tty.line.wake(WRITABLE);
    tty.master.wake(Events::all());
    Ok(0)
}

/// TCXONC: tcflow(3).
fn flow(tty: &Tty, action: u64) -> Result<u64> {
    {
        let mut state = tty.state.lock();
        let termios = state.termios;
        match action {
            0 => state.stop_output(),
            1 => state.start_output(),
            2 => state.output.put(termios.special(super::cc::VSTOP), &termios),
            3 => state.output.put(termios.special(super::cc::VSTART), &termios),
            _ => return Err(Errno::EINVAL),
        }
        tty.pass_on(&mut state);
    }
    tty.line.wake(WRITABLE);
    tty.master.wake(Events::all());
    Ok(0)
}

fn push_input(tty: &Tty, task: &Task, argument: u64) -> Result<u64> {
    if !tty.is_controlling(task) && !task.creds().has(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let byte = guest::read_value::<u8>(argument)?;
    tty.receive(&[byte]);
    Ok(0)
}
