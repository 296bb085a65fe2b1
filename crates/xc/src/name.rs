//! `--name`: one running container of a user has it. It is held by an abstract socket, which goes with the processes
//! that hold it, however they end.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};
use xkernel::sys;

/// Longest name: it is the host name too.
const LONGEST: usize = 64;
/// How long the rest of a container may live whose `xc` was killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Callers that may have asked for a held name before its holder is no longer told.
const QUEUE: i32 = 4096;

/// Why a name cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// It breaks the rules.
    #[error("--name {0}: a name has a letter or digit first, then letters, digits, _ . and -, at most 64 in all")]
    Form(String),
    /// Another container has it.
    #[error("--name {name}: a container of that name is running{}; end it, or take another name", holder(*.pid))]
    Taken {
        /// The name.
        name: String,
        /// The other's `xc`, where that is known.
        pid: Option<i32>,
    },
    /// The host refused a socket.
    #[error("--name {name}: cannot hold the name: {error}")]
    Host {
        /// The name.
        name: String,
        /// Why.
        error: io::Error,
    },
}

fn holder(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// A name that is ours until this is dropped here and in the container's reaper.
#[derive(Debug)]
pub struct Claim {
    _socket: OwnedFd,
}

/// Takes the name, and shows it as that of the process.
///
/// # Errors
/// [`NameError`].
pub fn claim(name: &str) -> Result<Claim, NameError> {
    if !is_name(name) {
        return Err(NameError::Form(name.into()));
    }
    let end = Instant::now() + PATIENCE;
    loop {
        match try_claim(name) {
            Err(NameError::Taken { pid: Some(pid), .. }) if !sys::exists(pid) && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(claim) => {
                // Best effort: the title is for people.
                let _ = CString::new(format!("xc: {name}")).map(|title| rustix::thread::set_name(&title));
                return Ok(claim);
            }
            refused => return refused,
        }
    }
}

/// Podman's rules, and a limit.
fn is_name(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    name.len() <= LONGEST
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(is_inner)
}

fn try_claim(name: &str) -> Result<Claim, NameError> {
    let host = |errno: Errno| NameError::Host { name: name.into(), error: errno.into() };
    let uid = rustix::process::getuid().as_raw();
    let address = SocketAddrUnix::new_abstract_name(format!("xc/{uid}/{name}").as_bytes()).map_err(host)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(host)?;
    match bind(&socket, &address) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => {
            // The one who listens tells who it is. A full queue tells nothing, and does not hold us up.
            let pid = connect(&socket, &address).ok().and_then(|()| sys::peer_pid(socket.as_fd()));
            return Err(NameError::Taken { name: name.into(), pid });
        }
        Err(errno) => return Err(host(errno)),
    }
    listen(&socket, QUEUE).map_err(host)?;
    Ok(Claim { _socket: socket })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_podman() {
        for name in ["a", "0", "web-1", "A_b.c-d", &"x".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", ".a", "_a", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_name_is_free_again_when_its_claim_is_gone() {
        let name = format!("test-{}", std::process::id());
        let first = try_claim(&name);
        assert!(first.is_ok());
        assert!(
            matches!(try_claim(&name), Err(NameError::Taken { pid: Some(pid), .. }) if u32::try_from(pid) == Ok(std::process::id()))
        );
        drop(first);
        assert!(try_claim(&name).is_ok());
    }
}
