//! Changes of the tree of mounts, swapping, quotas: mount(2), umount2(2), swapon(2), quotactl(2). No container has the
//! privilege for them, and no block device; Linux looks at some arguments before it asks for either.

use super::args::UserPath;
use crate::fs::inode::Kind;
use crate::fs::namei::PATH_MAX;
use crate::fs::{AT_FDCWD, Follow, resolve};
use crate::{Errno, Result, Task};
use machine::guest;

/// MS_NOUSER, which is the kernel's own.
const INTERNAL: u64 = 1 << 31;

/// Refuses, as for a caller without CAP_SYS_ADMIN: mount(2).
///
/// # Errors
/// EFAULT, EINVAL for long words and MS_NOUSER; those of the path walk; EPERM.
pub(super) fn mount(task: &Task, source: u64, target: UserPath, kind: u64, flags: u64, data: u64) -> Result<()> {
    for word in [kind, source].into_iter().filter(|word| *word != 0) {
        guest::read_string(word, PATH_MAX).map_err(|errno| match errno {
            Errno::ENAMETOOLONG => Errno::EINVAL,
            other => other,
        })?;
    }
    if data != 0 {
        guest::read_value::<u8>(data)?;
    }
    resolve(task, AT_FDCWD, &target.read()?, Follow::Yes)?;
    Err(if flags & INTERNAL != 0 { Errno::EINVAL } else { Errno::EPERM })
}

/// Refuses, as for a caller without CAP_SYS_ADMIN: umount2(2).
///
/// # Errors
/// EINVAL for unknown flags; those of the path walk; EPERM.
pub(super) fn umount2(task: &Task, target: UserPath, flags: u32) -> Result<()> {
    const UMOUNT_NOFOLLOW: u32 = 8;
    if flags & !0xf != 0 {
        return Err(Errno::EINVAL);
    }
    resolve(task, AT_FDCWD, &target.read()?, Follow::unless(flags & UMOUNT_NOFOLLOW != 0))?;
    Err(Errno::EPERM)
}

/// Refuses, as for a caller without CAP_SYS_ADMIN: swapon(2).
///
/// # Errors
/// EINVAL for unknown flags, EPERM.
pub(super) fn swapon(_task: &Task, _path: UserPath, flags: u32) -> Result<()> {
    const SWAP_FLAGS: u32 = 0x7_ffff;
    Err(if flags & !SWAP_FLAGS != 0 { Errno::EINVAL } else { Errno::EPERM })
}

/// Quotas of a block device: quotactl(2). No file of a container is one; to write all quotas back is done at once.
///
/// # Errors
/// EINVAL for an unknown kind of quotas; ENODEV without a device; those of the path walk; ENOTBLK.
pub(super) fn quotactl(task: &Task, command: u32, device: UserPath, _id: u32, _addr: u64) -> Result<()> {
    const KINDS: u32 = 3;
    const SYNC: u32 = 0x80_0001;
    if command & 0xff >= KINDS {
        return Err(Errno::EINVAL);
    }
    if device.0 == 0 {
        return if command >> 8 == SYNC { Ok(()) } else { Err(Errno::ENODEV) };
    }
    let place = resolve(task, AT_FDCWD, &device.read()?, Follow::Yes)?;
    Err(if place.inode().kind() == Kind::BlockDevice { Errno::ENODEV } else { Errno::ENOTBLK })
}
