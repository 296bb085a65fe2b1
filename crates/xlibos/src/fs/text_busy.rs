//! ETXTBSY: a file is not written while it runs, and not run while it is open for writing.

use super::inode::{Inode, Kind};
use crate::{Errno, Result};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use machine::sync::Mutex;

type Key = (u64, u64);

/// How many write (above zero) or run (below) each file. The lock is a leaf.
static CLAIMS: Mutex<Option<HashMap<Key, i32>>> = Mutex::new(None);

/// One who writes or runs a file, until dropped.
#[derive(Debug)]
pub struct Claim {
    key: Key,
    step: i32,
}

/// Claims a file for writing; what is no regular file needs none.
///
/// # Errors
/// ETXTBSY where it runs.
pub fn to_write(inode: &dyn Inode) -> Result<Option<Claim>> {
    if inode.kind() == Kind::File { claim(inode, 1).map(Some) } else { Ok(None) }
}

/// Claims a program that is to run.
///
/// # Errors
/// ETXTBSY where it is open for writing.
pub fn to_run(inode: &dyn Inode) -> Result<Option<Claim>> {
    claim(inode, -1).map(Some)
}

fn claim(inode: &dyn Inode, step: i32) -> Result<Claim> {
    let id = inode.id();
    let key = (id.dev, id.ino);
    let mut claims = CLAIMS.lock();
    let count = claims.get_or_insert_default().entry(key).or_insert(0);
    if count.signum() == -step {
        return Err(Errno::ETXTBSY);
    }
    *count += step;
    Ok(Claim { key, step })
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = CLAIMS.lock();
        let entry = claims.as_mut().map(|claims| claims.entry(self.key));
        if let Some(Entry::Occupied(mut entry)) = entry {
            *entry.get_mut() -= self.step;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}
