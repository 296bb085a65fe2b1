//! Permissions: path_resolution(7), "Permissions"; capabilities(7).

use super::acl::AclKind;
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
    let stat = inode.permissions()?;
    // Where the group has none of the bits the list's mask has none either.
    if stat.uid != creds.fsuid
        && stat.mode & 0o070 != 0
        && let Ok(Some(acl)) = inode.acl(AclKind::Access)
    {
        let is_allowed = acl.allows(&stat, creds, want) || is_overridden(&stat, creds, want);
        return if is_allowed { Ok(()) } else { Err(Errno::EACCES) };
    }
    check_stat(&stat, creds, want)
}

/// As [`check`], with attributes at hand of what has no access control list.
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
    let is_allowed = stat.mode >> shift & want == want || is_overridden(stat, creds, want);
    if is_allowed { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether capabilities allow what the mode does not.
fn is_overridden(stat: &Stat, creds: &Creds, want: u32) -> bool {
    let is_directory = stat.kind() == Kind::Directory;
    let override_ok = is_directory || want & EXECUTE == 0 || stat.mode & 0o111 != 0;
    if creds.has(CAP_DAC_OVERRIDE) && override_ok {
        return true;
    }
    let read_only = want == READ || (is_directory && want & WRITE == 0);
    creds.has(CAP_DAC_READ_SEARCH) && read_only
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
