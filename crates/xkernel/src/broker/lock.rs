//! Locks on files of volumes, so that programs in a container and outside agree.
//!
//! Each guest owner has an open file description of its own for each file, which holds its locks
//! (F_OFD_SETLK): owners exclude each other and programs of the host. Nothing waits here: `EAGAIN`
//! says that somebody else holds the lock.

use super::attributes;
use super::export::{Access, Export, open_regular};
use nix::fcntl::{FcntlArg, fcntl};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

/// Most descriptions that hold locks.
const COUNT_LIMIT: usize = 4096;

/// Owner, device and inode.
type Key = (u64, u64, u64);

/// The open file descriptions that hold the container's locks.
#[derive(Debug, Default)]
pub(super) struct Locks {
    table: Mutex<HashMap<Key, OwnedFd>>,
}

/// A range to lock, as the request names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) kind: u8,
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Range {
    /// Whether this gives back everything at once.
    fn drops_all(self) -> bool {
        self.kind == 0 && self.start == 0 && self.len == 0
    }

    fn flock(self) -> Result<libc::flock, Errno> {
        let kind = match self.kind {
            0 => libc::F_UNLCK,
            1 => libc::F_RDLCK,
            2 => libc::F_WRLCK,
            _ => return Err(Errno::INVAL),
        };
        let small = |value: i32| i16::try_from(value).map_err(|_| Errno::INVAL);
        Ok(libc::flock {
            l_type: small(kind)?,
            l_whence: small(libc::SEEK_SET)?,
            l_start: i64::try_from(self.start).map_err(|_| Errno::OVERFLOW)?,
            l_len: i64::try_from(self.len).map_err(|_| Errno::OVERFLOW)?,
            l_pid: 0,
        })
    }
}

impl Locks {
    /// Takes or drops a lock without waiting.
    ///
    /// # Errors
    /// `EAGAIN` where another holds it, `ENOLCK` with too many, `EBADF` for an exclusive lock on a file
    /// that cannot be opened for writing, `EINVAL` and `EOVERFLOW` for impossible ranges.
    pub(super) fn apply(&self, export: &Export, file: (&[u8], u64), owner: u64, range: Range) -> Result<(), Errno> {
        let (path, inode) = file;
        let flock = range.flock()?;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let found = export.node_of(path, inode).and_then(|node| Ok((attributes::of_descriptor(&node)?, node)));
        let (attributes, node) = match found {
            Ok(found) => found,
            Err(Errno::NOENT) if range.drops_all() => {
                table.retain(|key, file| key.0 != owner || is_linked(file));
                return Ok(());
            }
            Err(errno) => return Err(errno),
        };
        let key = (owner, attributes.device, attributes.inode);
        if range.drops_all() {
            table.remove(&key);
            return Ok(());
        }
        if !table.contains_key(&key) {
            if range.kind == 0 {
                return Ok(());
            }
            if table.len() >= COUNT_LIMIT {
                return Err(Errno::NOLCK);
            }
            table.insert(key, open(export, &node)?);
        }
        let file = table.get(&key).ok_or(Errno::NOLCK)?;
        fcntl(file, FcntlArg::F_OFD_SETLK(&flock)).map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
        Ok(())
    }
}

/// For writing where possible: exclusive locks need it.
fn open(export: &Export, node: &OwnedFd) -> Result<OwnedFd, Errno> {
    match export.check_writable().and_then(|()| open_regular(node, 0, Access::Write)) {
        Ok((file, _)) => Ok(file),
        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::TXTBSY) => Ok(open_regular(node, 0, Access::Read)?.0),
        Err(errno) => Err(errno),
    }
}

fn is_linked(file: &OwnedFd) -> bool {
    attributes::of_descriptor(file).is_ok_and(|attributes| attributes.links > 0)
}
