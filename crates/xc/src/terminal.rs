//! The caller's terminal. It stays with us: raw mode, its bytes and its size. The container has a terminal of its own,
//! whose bytes come and go over a socket.

use abi::config::Winsize;
use abi::event::Event;
use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// The settings that the caller's terminal had, to be given back however we end.
static BEFORE: OnceLock<Termios> = OnceLock::new();
/// What ends typed input where it comes from no terminal: VEOF of a fresh terminal.
const END_OF_FILE: [u8; 1] = [4];
/// How often a container in the background looks whether it still is.
const GLANCE: Duration = Duration::from_millis(200);

/// The front end of a container's terminal.
#[derive(Debug)]
pub struct Terminal {
    shared: Arc<Shared>,
    stream: UnixStream,
    output: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Typed bytes are ours to take: standard input is not read while we are in the background.
    attached: AtomicBool,
    reads_input: bool,
}

/// Raises and restores the caller's settings.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Terminal {
    /// A front end, and the container's end of its stream.
    ///
    /// # Errors
    /// Fails where the host gives no sockets.
    pub fn open(reads_input: bool) -> Result<(Terminal, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context("cannot make the terminal's stream")?;
        let shared = Arc::new(Shared { attached: AtomicBool::new(false), reads_input });
        Ok((Terminal { shared, stream: UnixStream::from(ours), output: None }, theirs))
    }

    /// For who handles signals.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Begins to move bytes. `events` tells the container that the terminal has gone.
    ///
    /// # Errors
    /// Fails where descriptors or threads are short.
    pub fn start(&mut self, events: &OwnedFd) -> Result<()> {
        self.handle().attach();
        let stream = self.stream.try_clone().context("cannot keep the terminal's stream")?;
        self.output = Some(std::thread::Builder::new().name("terminal output".into()).spawn(|| show(stream))?);
        if self.shared.reads_input {
            let stream = self.stream.try_clone().context("cannot keep the terminal's stream")?;
            let events = events.try_clone().context("cannot keep the event channel")?;
            let shared = Arc::clone(&self.shared);
            std::thread::Builder::new()
                .name("terminal input".into())
                .spawn(move || type_in(&shared, stream, &events))?;
        }
        Ok(())
    }

    /// The container has ended: shows what is left of its output, and gives the terminal back.
    pub fn finish(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        if let Some(output) = self.output.take() {
            let _ = output.join();
        }
        restore();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

impl Handle {
    /// Takes typed bytes as they come, where we are in the foreground. Again after each SIGCONT: the shell has changed
    /// the settings meanwhile.
    pub fn attach(&self) {
        if !self.0.reads_input || !is_foreground() || !make_raw() {
            return;
        }
        self.0.attached.store(true, Ordering::SeqCst);
    }
}

/// Waits until we are in the foreground. No signal tells of it where the shell's job was running already.
fn wait_until_attached(shared: &Arc<Shared>) {
    let handle = Handle(Arc::clone(shared));
    while !shared.attached.load(Ordering::SeqCst) {
        std::thread::sleep(GLANCE);
        handle.attach();
    }
}

/// Whether standard input is ours to read; always where it is no terminal.
fn is_foreground() -> bool {
    match tcgetpgrp(std::io::stdin()) {
        Ok(group) => group == rustix::process::getpgrp(),
        Err(_) => true,
    }
}

/// Raw mode; false where the terminal refuses.
fn make_raw() -> bool {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return true;
    }
    let Ok(now) = tcgetattr(&stdin) else { return false };
    let mut raw = BEFORE.get_or_init(|| now).clone();
    raw.make_raw();
    tcsetattr(&stdin, OptionalActions::Now, &raw).is_ok()
}

/// Gives the caller's settings back.
fn restore() {
    if let Some(before) = BEFORE.get() {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, before);
    }
}

/// Text for standard error, with the carriage returns that a terminal in raw mode needs.
pub fn print_error(text: &[u8]) {
    let mut stderr = std::io::stderr();
    if BEFORE.get().is_none() || !stderr.is_terminal() {
        let _ = stderr.write_all(text);
        return;
    }
    let lines = text.split_inclusive(|&b| b == b'\n');
    let whole: Vec<u8> =
        lines.flat_map(|line| line.strip_suffix(b"\n").map_or(line.to_vec(), |l| [l, b"\r\n"].concat())).collect();
    let _ = stderr.write_all(&whole);
}

/// Moves output to the caller. Goes on reading where the caller has gone, so that the container does not wait for it.
fn show(mut stream: UnixStream) {
    let mut stdout = std::io::stdout();
    let target: OwnedFd = match target_of_output() {
        Some(fd) => fd,
        None => return,
    };
    let _ = stdout.flush();
    let mut target = std::fs::File::from(target);
    let mut buffer = [0; 16384];
    while let Some(bytes) = stream.read(&mut buffer).ok().filter(|&n| n > 0).and_then(|n| buffer.get(..n)) {
        let _ = target.write_all(bytes);
    }
}

/// The first of standard output, error and input that is a terminal; else standard output.
fn target_of_output() -> Option<OwnedFd> {
    let streams = [1, 2, 0].map(xkernel::sys::standard_stream);
    let open = || streams.iter().flatten();
    let found = open().find(|fd| isatty(fd)).or_else(|| open().next())?;
    found.try_clone_to_owned().ok()
}

/// Moves typed bytes to the container.
fn type_in(shared: &Arc<Shared>, mut stream: UnixStream, events: &OwnedFd) {
    wait_until_attached(shared);
    let mut stdin = std::io::stdin();
    let mut buffer = [0; 4096];
    loop {
        match stdin.read(&mut buffer) {
            Ok(count) if count > 0 => {
                if stream.write_all(buffer.get(..count).unwrap_or(&[])).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ if stdin.is_terminal() => {
                xkernel::sandbox::send_event(events, &Event::Hangup);
                return;
            }
            _ => {
                let _ = stream.write_all(&END_OF_FILE);
                return;
            }
        }
    }
}

/// Size of the caller's terminal; nothing is known of one that is none.
#[must_use]
pub fn size() -> Winsize {
    let known = [0, 1, 2].into_iter().filter_map(xkernel::sys::standard_stream).find_map(|fd| size_of(fd.as_fd()));
    known.unwrap_or(Winsize { rows: 0, cols: 0 })
}

fn size_of(fd: BorrowedFd<'_>) -> Option<Winsize> {
    tcgetwinsize(fd).ok().map(|size| Winsize { rows: size.ws_row, cols: size.ws_col })
}
