//! Permissions: path_resolution(7), "Permissions"; capabilities(7).

use super::acl::AclKind;
use super::inode::{Inode, Kind, Rights, Stat};
use crate::process::creds::{CAP_DAC_OVERRIDE, CAP_FOWNER, Creds};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use machine::epoch::pin;

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

/// Whose rights are asked for.
pub enum Who<'t> {
    /// The task that asks: its credentials change by itself alone, and so are the same at each look of one call.
    Task(&'t Task),
    /// Somebody with these.
    Given(Arc<Creds>),
}

impl Who<'_> {
    /// Looks at the credentials, below a pin.
    #[inline]
    pub fn look<R>(&self, look: impl FnOnce(&Creds) -> R) -> R {
        match self {
            Who::Task(task) => look(task.creds_at(&pin())),
            Who::Given(creds) => look(creds),
        }
    }

    /// As [`check`].
    ///
    /// # Errors
    /// As [`check`].
    pub fn check(&self, inode: &dyn Inode, want: u32) -> Result<()> {
        match self.look(|creds| check_at_hand(inode, creds, want)) {
            Some(known) => known,
            None => self.check_asking(inode, want),
        }
    }

    /// Apart, without a pin: somebody outside may be asked.
    #[cold]
    fn check_asking(&self, inode: &dyn Inode, want: u32) -> Result<()> {
        match self {
            Who::Task(task) => check(inode, &task.creds(), want),
            Who::Given(creds) => check(inode, creds, want),
        }
    }
}

/// As [`check`], where nobody has to be asked for that.
#[inline]
fn check_at_hand(inode: &dyn Inode, creds: &Creds, want: u32) -> Option<Result<()>> {
    if inode.kind() == Kind::Directory && creds.has(CAP_DAC_OVERRIDE) {
        return Some(Ok(()));
    }
    Some(check_rights(inode.rights_at_hand()?, creds, want))
}

/// What permissions of an inode are told by, but for its access control list.
///
/// # Errors
/// The file system's.
pub fn rights_of(inode: &dyn Inode) -> Result<Rights> {
    match inode.rights_at_hand() {
        Some(rights) => Ok(rights),
        None => inode.permissions().map(|stat| stat.rights()),
    }
}

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
        let is_allowed = acl.allows(&stat, creds, want) || is_overridden(stat.rights(), creds, want);
        return if is_allowed { Ok(()) } else { Err(Errno::EACCES) };
    }
    check_stat(&stat, creds, want)
}

/// As [`check`], with attributes at hand of what has no access control list.
///
/// # Errors
/// EACCES.
pub fn check_stat(stat: &Stat, creds: &Creds, want: u32) -> Result<()> {
    check_rights(stat.rights(), creds, want)
}

/// As [`check_stat`].
///
/// # Errors
/// EACCES.
#[inline]
pub fn check_rights(rights: Rights, creds: &Creds, want: u32) -> Result<()> {
    let shift = if rights.uid == creds.fsuid {
        6
    } else if creds.is_in_group(rights.gid) {
        3
    } else {
        0
    };
    let is_allowed = rights.mode >> shift & want == want || is_overridden(rights, creds, want);
    if is_allowed { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether capabilities allow what the mode does not.
fn is_overridden(rights: Rights, creds: &Creds, want: u32) -> bool {
    let is_directory = Kind::from_mode(rights.mode) == Some(Kind::Directory);
    let override_ok = is_directory || want & EXECUTE == 0 || rights.mode & 0o111 != 0;
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
