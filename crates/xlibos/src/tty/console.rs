//! The caller's terminal as the container's /dev/console and /dev/pts/0: bytes come and go over a stream socket whose
//! other end the front end serves.

use super::output::Output;
use super::{Tty, Winsize, devices};
use crate::fs::File;
use crate::fs::file::OpenFlags;
use crate::fs::hostpoll::{self, HostReady};
use crate::wait::{Events, WRITABLE};
use crate::{Errno, Result, Task};
use abi::boot::CONSOLE_FD;
use abi::config;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use machine::host::{self, Wait};
use machine::sync::Mutex;

/// MSG_DONTWAIT.
const DONTWAIT: u32 = 0x40;

static CONSOLE: Mutex<Option<Arc<Tty>>> = Mutex::new(None);
/// The front end has typed more than there was room for.
static INPUT_WAITS: AtomicBool = AtomicBool::new(false);
/// One thread at a time moves input, so that bytes keep their order.
static INPUT: Mutex<()> = Mutex::new(());

/// The console, where the container has one.
pub(super) fn get() -> Option<Arc<Tty>> {
    CONSOLE.lock().clone()
}

struct Socket;

impl HostReady for Socket {
    fn ready(&self, events: Events) {
        let Some(tty) = get() else { return };
        if events.intersects(Events::OUT) {
            send(&mut tty.state.lock().output);
            tty.line.wake(WRITABLE);
        }
        if events.intersects(Events::IN | Events::HUP | Events::ERR) {
            receive(&tty);
        }
    }
}

/// Moves typed bytes from the front end to the line discipline while there is room.
fn receive(tty: &Tty) {
    let _order = INPUT.lock();
    let mut buffer = [0; 64];
    loop {
        let room = {
            let state = tty.state.lock();
            state.input.room(&state.termios).min(buffer.len())
        };
        if room == 0 {
            INPUT_WAITS.store(true, Ordering::SeqCst);
            return;
        }
        let len = match host::receive(CONSOLE_FD, buffer.get_mut(..room).unwrap_or(&mut []), Wait::No) {
            Ok(received) if received.len > 0 => received.len,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => return,
            Ok(_) | Err(_) => {
                tty.hang_up();
                return;
            }
        };
        tty.receive(buffer.get(..len).unwrap_or(&[]));
    }
}

/// A reader made room for more input.
pub(super) fn input_taken(tty: &Tty) {
    if INPUT_WAITS.swap(false, Ordering::SeqCst) {
        receive(tty);
    }
}

/// Sends output to the front end, as much as the socket takes now.
pub(super) fn send(output: &mut Output) {
    while !output.is_empty() {
        match host::send(CONSOLE_FD, output.front(), DONTWAIT) {
            Ok(count) => output.consume(count),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return,
            // Nobody will ever see it.
            Err(_) => output.flush(),
        }
    }
}

/// Waits until the front end has all output: the container ends.
pub fn flush_console() {
    let Some(tty) = get() else { return };
    let mut state = tty.state.lock();
    state.output.start();
    while !state.output.is_empty() {
        match host::send(CONSOLE_FD, state.output.front(), 0) {
            Ok(count) => state.output.consume(count),
            Err(Errno::EINTR) => {}
            Err(_) => state.output.flush(),
        }
    }
}

/// Opens the console, made at the first call, as the terminal of the first process.
///
/// # Errors
/// ENXIO where the front end serves none.
pub fn open_console(task: &Task, size: Option<config::Winsize>) -> Result<Arc<File>> {
    let size = size.ok_or(Errno::ENXIO)?;
    let tty = match get() {
        Some(tty) => tty,
        None => make(task, size)?,
    };
    devices::open_named(task, &tty, OpenFlags::RDWR)
}

fn make(task: &Task, size: config::Winsize) -> Result<Arc<Tty>> {
    let creds = task.creds();
    let tty = Tty::new((creds.fsuid, creds.fsgid), true)?;
    {
        let mut state = tty.state.lock();
        state.size = Winsize { rows: size.rows, cols: size.cols, xpixel: 0, ypixel: 0 };
        // Every terminal of today speaks UTF-8, and says so.
        state.termios.iflag |= super::iflag::IUTF8;
    }
    *CONSOLE.lock() = Some(Arc::clone(&tty));
    let socket: Arc<dyn HostReady> = Arc::new(Socket);
    let watch = hostpoll::watch(CONSOLE_FD, &socket)?;
    // Both live as long as the container.
    core::mem::forget((socket, watch));
    Ok(tty)
}

/// The caller's terminal changed its size.
pub fn console_resized(size: config::Winsize) {
    if let Some(tty) = get() {
        tty.resize(Winsize { rows: size.rows, cols: size.cols, xpixel: 0, ypixel: 0 });
    }
}

/// The caller's terminal has gone.
pub fn console_hung_up() {
    if let Some(tty) = get() {
        tty.hang_up();
    }
}
