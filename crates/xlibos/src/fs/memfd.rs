//! Files in memory without a name: memfd_create(2).

use super::data::{SEAL_EXEC, SEAL_SEAL};
use super::file::{File, OpenFlags};
use super::inode::{Inode, NewKind, NewNode};
use super::pseudo::detached_path;
use super::tmpfs::TmpFs;
use crate::process::creds::Creds;
use crate::{Errno, Result};
use alloc::sync::Arc;
use machine::sync::Mutex;

/// MFD_CLOEXEC.
pub const CLOEXEC: u32 = 1;
const ALLOW_SEALING: u32 = 2;
const NOEXEC_SEAL: u32 = 8;
const EXEC: u32 = 16;

/// The file system of all of them, in no tree.
static FILES: Mutex<Option<&'static TmpFs>> = Mutex::new(None);

/// Checks the flags of memfd_create(2); huge pages are not to be had.
///
/// # Errors
/// EINVAL.
pub fn check_flags(flags: u32) -> Result<()> {
    let known = CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC;
    if flags & !known != 0 || flags & (NOEXEC_SEAL | EXEC) == NOEXEC_SEAL | EXEC { Err(Errno::EINVAL) } else { Ok(()) }
}

/// A file in memory, open for reading and writing.
///
/// # Errors
/// ENOSPC.
pub fn create(creds: &Creds, name: &[u8], flags: u32) -> Result<Arc<File>> {
    let (mode, seals) = match flags & (ALLOW_SEALING | NOEXEC_SEAL) {
        0 => (0o777, SEAL_SEAL),
        ALLOW_SEALING => (0o777, 0),
        _ => (0o666, SEAL_EXEC),
    };
    let shown = [b"/memfd:", name, b" (deleted)"].concat();
    make(creds, &shown, mode, seals)
}

/// The file of a shared memory segment, shown under its own name.
///
/// # Errors
/// ENOSPC.
pub fn create_named(creds: &Creds, shown: &[u8]) -> Result<Arc<File>> {
    make(creds, shown, 0o600, SEAL_SEAL)
}

fn make(creds: &Creds, shown: &[u8], mode: u32, seals: u32) -> Result<Arc<File>> {
    let fs = *FILES.lock().get_or_insert_with(|| TmpFs::new(0, 0));
    let node = NewNode { kind: NewKind::File, mode, uid: creds.fsuid, gid: creds.fsgid };
    let inode: Arc<dyn Inode> = fs.new_inode_sealed(&node, seals)?;
    let flags = OpenFlags::RDWR | OpenFlags::LARGEFILE;
    let ops = Arc::clone(&inode).open(flags)?;
    Ok(File::with_path(ops, flags, Some(detached_path(shown, inode))))
}
