//! Names of UNIX sockets: unix(7), "Address format". Path names are inodes, found by their identity; abstract names have a
//! table of their own.

use super::socket::family;
use super::unix::UnixSocket;
use crate::fs::access;
use crate::fs::change;
use crate::fs::inode::{InodeId, Kind, NewKind, NewMode};
use crate::fs::namei::{AT_FDCWD, Follow, resolve, resolve_parent};
use crate::fs::path::Path;
use crate::{Errno, Result, Task};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use hashbrown::HashMap;
use machine::sync::Mutex;

/// Largest `struct sockaddr_un`.
const MAX_ADDRESS: usize = 110;

/// A name as the guest gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// A path.
    Path(Vec<u8>),
    /// A name in the abstract name space, without its NUL.
    Abstract(Vec<u8>),
}

/// A name that a socket has.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) name: Name,
    /// Keeps the inode of a path, and so its identity.
    path: Option<Path>,
}

static ABSTRACT: Mutex<Option<HashMap<Vec<u8>, Weak<UnixSocket>>>> = Mutex::new(None);
static PATHS: Mutex<Option<HashMap<InodeId, Weak<UnixSocket>>>> = Mutex::new(None);

/// Parses a `struct sockaddr_un`; None for an unnamed one.
///
/// # Errors
/// EINVAL.
pub(super) fn parse(address: &[u8]) -> Result<Option<Name>> {
    let Some((number, rest)) = address.split_first_chunk::<2>() else { return Err(Errno::EINVAL) };
    if u16::from_ne_bytes(*number) != family::UNIX || address.len() > MAX_ADDRESS {
        return Err(Errno::EINVAL);
    }
    Ok(match rest.split_first() {
        None => None,
        Some((0, name)) => Some(Name::Abstract(name.to_vec())),
        Some(_) => Some(Name::Path(rest.iter().copied().take_while(|byte| *byte != 0).collect())),
    })
}

/// Encodes an address; that of an unnamed socket is its family alone.
pub(super) fn encode(name: Option<&Name>) -> Vec<u8> {
    let mut out = family::UNIX.to_ne_bytes().to_vec();
    match name {
        None => {}
        Some(Name::Path(path)) => {
            out.extend(path);
            out.push(0);
        }
        Some(Name::Abstract(name)) => {
            out.push(0);
            out.extend(name);
        }
    }
    out
}

/// Gives a socket a name.
///
/// # Errors
/// EADDRINUSE; those of mknod(2).
pub(super) fn bind(task: &Task, name: Option<Name>, socket: &Weak<UnixSocket>) -> Result<Bound> {
    match name {
        None => bind_automatically(socket),
        Some(Name::Abstract(name)) => bind_abstract(name, socket).ok_or(Errno::EADDRINUSE),
        Some(Name::Path(text)) => {
            let (walk, last) = resolve_parent(task, AT_FDCWD, &text)?;
            let made = change::make(walk.place(), &last, walk.who(), NewKind::Socket, NewMode::by(walk.who(), 0o777));
            let path = made.map_err(|errno| if errno == Errno::EEXIST { Errno::EADDRINUSE } else { errno })?;
            let mut paths = PATHS.lock();
            paths.get_or_insert_default().insert(path.inode().id(), Weak::clone(socket));
            Ok(Bound { name: Name::Path(text), path: Some(path) })
        }
    }
}

fn bind_abstract(name: Vec<u8>, socket: &Weak<UnixSocket>) -> Option<Bound> {
    let mut table = ABSTRACT.lock();
    let table = table.get_or_insert_default();
    if table.get(&name).is_some_and(|held| held.strong_count() > 0) {
        return None;
    }
    table.insert(name.clone(), Weak::clone(socket));
    Some(Bound { name: Name::Abstract(name), path: None })
}

/// Five hexadecimal digits that are free.
fn bind_automatically(socket: &Weak<UnixSocket>) -> Result<Bound> {
    use core::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    for _ in 0..1 << 20 {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) & 0xf_ffff;
        if let Some(bound) = bind_abstract(format!("{number:05x}").into_bytes(), socket) {
            return Ok(bound);
        }
    }
    Err(Errno::ENOSPC)
}

/// The socket that has a name.
///
/// # Errors
/// ECONNREFUSED where none has; those of the path walk; EACCES.
pub(super) fn find(task: &Task, name: &Name) -> Result<Arc<UnixSocket>> {
    let found = match name {
        Name::Abstract(name) => ABSTRACT.lock().as_ref().and_then(|table| table.get(name).cloned()),
        Name::Path(text) => {
            let path = resolve(task, AT_FDCWD, text, Follow::Yes)?;
            access::check(&**path.inode(), &task.creds(), access::WRITE)?;
            if path.inode().kind() != Kind::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            PATHS.lock().as_ref().and_then(|table| table.get(&path.inode().id()).cloned())
        }
    };
    found.and_then(|socket| socket.upgrade()).ok_or(Errno::ECONNREFUSED)
}

/// Forgets the name of a socket that ends.
pub(super) fn release(bound: &Bound) {
    match (&bound.name, &bound.path) {
        (_, Some(path)) => {
            let id = path.inode().id();
            let old = PATHS.lock().as_mut().and_then(|table| table.remove(&id));
            drop(old);
        }
        (Name::Abstract(name), None) => {
            let old = ABSTRACT.lock().as_mut().and_then(|table| table.remove(name));
            drop(old);
        }
        (Name::Path(_), None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Name, encode, parse};
    use crate::Errno;

    #[test]
    fn addresses_are_parsed_as_unix_7_says() {
        assert_eq!(parse(&[1]), Err(Errno::EINVAL));
        assert_eq!(parse(&[2, 0, b'x']), Err(Errno::EINVAL));
        assert_eq!(parse(&[1, 0]), Ok(None));
        assert_eq!(parse(b"\x01\0/x\0junk"), Ok(Some(Name::Path(b"/x".to_vec()))));
        assert_eq!(parse(b"\x01\0\0ab\0"), Ok(Some(Name::Abstract(b"ab\0".to_vec()))));
        assert_eq!(parse(&[1; 111]), Err(Errno::EINVAL));
    }

    #[test]
    fn encoding_gives_back_what_was_bound() {
        assert_eq!(encode(None), [1, 0]);
        assert_eq!(encode(Some(&Name::Path(b"/x".to_vec()))), b"\x01\0/x\0");
        assert_eq!(encode(Some(&Name::Abstract(b"ab".to_vec()))), b"\x01\0\0ab");
    }
}
