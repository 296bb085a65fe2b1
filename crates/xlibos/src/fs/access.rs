//! Permissions: path_resolution(7), "Permissions"; capabilities(7).

use super::inode::{Inode, Kind, Stat};
use crate::process::creds::{CAP_DAC_OVERRIDE, CAP_FOWNER, Creds};
use crate::{Errno, Result};

/// Read permission.
pub const READ: u32 = 4;
/// Write permission.
pub const WRITE: u32 = 2;
/// Execute permission, or search permission of a directory.
pub const EXECUTE: u32 = 1;

/// CAP_DAC_READ_SEARCH.
const CAP_DAC_READ_SEARCH: u32 = 2;
/// CAP_FSETID.
const CAP_FSETID: u32 = 4;

/// Whether the credentials allow all of `want` (of [`READ`], [`WRITE`], [`EXECUTE`]).
///
/// # Errors
/// EACCES, the file system's.
pub fn check(inode: &dyn Inode, creds: &Creds, want: u32) -> Result<()> {
    let is_directory = inode.kind() == Kind::Directory;
    if is_directory && creds.has(CAP_DAC_OVERRIDE) {
        return Ok(());
    }
    check_stat(&inode.permissions()?, creds, want)
}

/// As [`check`], with attributes at hand.
///
/// # Errors
/// EACCES.
pub fn check_stat(stat: &Stat, creds: &Creds, want: u32) -> Result<()> {
    let shift = if stat.uid == creds.fsuid {
        6
    } else if creds.is_in_group(stat.gid) {
        3
    } else {
        0
    };
    if stat.mode >> shift & want == want {
        return Ok(());
    }
    let is_directory = stat.kind() == Kind::Directory;
    let override_ok = is_directory || want & EXECUTE == 0 || stat.mode & 0o111 != 0;
    if creds.has(CAP_DAC_OVERRIDE) && override_ok {
        return Ok(());
    }
    let read_only = want == READ || (is_directory && want & WRITE == 0);
    if creds.has(CAP_DAC_READ_SEARCH) && read_only { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether the credentials own the file or may act as its owner.
#[must_use]
pub fn is_owner(stat: &Stat, creds: &Creds) -> bool {
    stat.uid == creds.fsuid || creds.has(CAP_FOWNER)
}

/// EPERM unless the credentials own the file or may act as its owner.
///
/// # Errors
/// EPERM.
pub fn check_owner(stat: &Stat, creds: &Creds) -> Result<()> {
    if is_owner(stat, creds) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether a set-group-id bit may be set or kept for a group.
#[must_use]
pub fn may_keep_set_gid(gid: u32, creds: &Creds) -> bool {
    creds.is_in_group(gid) || creds.has(CAP_FSETID)
}
