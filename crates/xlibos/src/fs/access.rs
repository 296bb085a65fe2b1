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

/// Whose rights are asked for: of a task, which changes its credentials by itself alone, so that they are the same all through a call,
/// or of somebody else. What nearly all questions are about is at hand.
#[derive(Clone)]
pub struct Who<'t> {
    source: Source<'t>,
    /// Owner of what is made.
    pub uid: u32,
    /// Its group, unless the directory's is inherited.
    pub gid: u32,
    /// Bits that it does not get.
    pub umask: u32,
    effective: u64,
}

#[derive(Clone)]
enum Source<'t> {
    Task(&'t Task),
    Given(Arc<Creds>),
}

impl<'t> Who<'t> {
    /// A task.
    #[must_use]
    pub fn of(task: &'t Task) -> Who<'t> {
        let pin = pin();
        Who::new(Source::Task(task), task.creds_at(&pin), task.fs_at(&pin).umask())
    }

    /// Somebody with these credentials, and no umask.
    #[must_use]
    pub fn given(creds: Arc<Creds>) -> Who<'t> {
        let source = Source::Given(Arc::clone(&creds));
        Who::new(source, &creds, 0)
    }

    fn new(source: Source<'t>, creds: &Creds, umask: u32) -> Who<'t> {
        Who { source, uid: creds.fsuid, gid: creds.fsgid, umask, effective: creds.effective }
    }

    /// As [`Creds::has`].
    #[inline]
    #[must_use]
    pub fn has(&self, capability: u32) -> bool {
        self.effective & 1 << capability != 0
    }

    /// All of the credentials.
    #[must_use]
    pub fn creds(&self) -> Arc<Creds> {
        match &self.source {
            Source::Task(task) => task.creds(),
            Source::Given(creds) => Arc::clone(creds),
        }
    }

    /// As [`check`].
    ///
    /// # Errors
    /// As [`check`].
    #[inline]
    pub fn check(&self, inode: &dyn Inode, want: u32) -> Result<()> {
        if self.is_known_to_allow(inode, want) { Ok(()) } else { check(inode, &self.creds(), want) }
    }

    /// Whether that is for sure, and nobody has to be asked: it depends on no group.
    #[inline]
    fn is_known_to_allow(&self, inode: &dyn Inode, want: u32) -> bool {
        if inode.kind() == Kind::Directory && self.has(CAP_DAC_OVERRIDE) {
            return true;
        }
        let allows = |rights: Rights| {
            rights.uid == self.uid && rights.mode >> 6 & want == want
                || self.has(CAP_DAC_OVERRIDE) && (want & EXECUTE == 0 || rights.mode & 0o111 != 0)
        };
        inode.rights_at_hand().is_some_and(allows)
    }
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
