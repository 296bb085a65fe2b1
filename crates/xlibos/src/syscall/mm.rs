//! Memory: mmap(2), mprotect(2), brk(2), mremap(2), madvise(2), mlock(2), and what a kernel without NUMA and
//! protection keys answers.

use super::args::read_iovecs;
use crate::fs::fd_table::Fd;
use crate::fs::file::Sharing;
use crate::mm::{Backing, Locking, MAP_ANONYMOUS, MAP_HUGETLB, MapRequest, USER_END, VmaFlags, is_offset};
use crate::process::inspect::{self, Identity};
use crate::process::{Process, tree, visit};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::guest;
use machine::host::IoVec;

/// Maps memory or a file: mmap(2).
///
/// # Errors
/// Those of the man page; MAP_HUGETLB answers as a kernel without reserved huge pages.
pub(super) fn mmap(task: &Task, addr: u64, len: u64, prot: u32, flags: u32, fd: Fd, offset: u64) -> Result<u64> {
    if !is_offset(offset) {
        return Err(Errno::EINVAL);
    }
    let backing = if flags & MAP_ANONYMOUS == 0 {
        let file = task.file(fd)?;
        if flags & MAP_HUGETLB != 0 {
            return Err(Errno::EINVAL);
        }
        Backing::file(file, offset)
    } else {
        if flags & MAP_HUGETLB != 0 {
            return Err(Errno::ENOMEM);
        }
        Backing::Zero
    };
    task.mm().map(MapRequest { addr, len, prot, flags, backing })
}

/// Unmaps a range: munmap(2).
///
/// # Errors
/// EINVAL, ENOMEM.
pub(super) fn munmap(task: &Task, addr: u64, len: u64) -> Result<()> {
    task.mm().unmap(addr, len)
}

/// Changes protection: mprotect(2).
///
/// # Errors
/// EINVAL, ENOMEM, EACCES.
pub(super) fn mprotect(task: &Task, addr: u64, len: u64, prot: u32) -> Result<()> {
    task.mm().protect(addr, len, prot)
}

/// Moves the heap's end: brk(2). The kernel's call answers where it is, and no error.
///
/// # Errors
/// None.
pub(super) fn brk(task: &Task, addr: u64) -> Result<u64> {
    Ok(task.mm().brk(addr))
}

/// Resizes or moves a mapping: mremap(2).
///
/// # Errors
/// Those of the man page.
pub(super) fn mremap(task: &Task, addr: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<u64> {
    task.mm().remap(addr, old_len, new_len, flags, new_addr)
}

/// Takes advice: madvise(2).
///
/// # Errors
/// EINVAL, ENOMEM, EPERM.
pub(super) fn madvise(task: &Task, addr: u64, len: u64, advice: u32) -> Result<()> {
    task.mm().advise(addr, len, advice)
}

/// Writes shared mappings to their files: msync(2). Mapping and file are one on the host, so readers see the
/// writes already; MS_SYNC waits for the disk.
///
/// # Errors
/// EINVAL, ENOMEM for a hole, EBUSY for MS_INVALIDATE of locked memory, EIO.
pub(super) fn msync(task: &Task, addr: u64, len: u64, flags: u32) -> Result<()> {
    const ASYNC: u32 = 1;
    const INVALIDATE: u32 = 2;
    const SYNC: u32 = 4;
    if flags & !(ASYNC | INVALIDATE | SYNC) != 0 || flags & (ASYNC | SYNC) == ASYNC | SYNC {
        return Err(Errno::EINVAL);
    }
    let (vmas, covered) = task.mm().vmas_in(addr, len)?;
    if flags & INVALIDATE != 0 && vmas.iter().any(|vma| vma.flags.contains(VmaFlags::LOCKED)) {
        return Err(Errno::EBUSY);
    }
    if flags & SYNC != 0 {
        vmas.iter().try_for_each(|vma| match &vma.backing {
            Backing::File { file, sharing: Sharing::Shared, .. } => match file.ops().sync() {
                // Nothing to write to.
                Err(Errno::EINVAL) => Ok(()),
                other => other,
            },
            _ => Ok(()),
        })?;
    }
    if covered { Ok(()) } else { Err(Errno::ENOMEM) }
}

/// Which pages are in memory: mincore(2). Every mapped page is said to be.
///
/// # Errors
/// EINVAL, ENOMEM, EFAULT.
pub(super) fn mincore(task: &Task, addr: u64, len: u64, vector: u64) -> Result<()> {
    static RESIDENT: [u8; 256] = [1; 256];
    let mut left = task.mm().pages_of(addr, len)?;
    let mut at = vector;
    while left > 0 {
        let step = left.min(RESIDENT.len() as u64);
        let bytes = usize::try_from(step).ok().and_then(|n| RESIDENT.get(..n)).ok_or(Errno::EFAULT)?;
        guest::write(at, bytes)?;
        at = at.wrapping_add(step);
        left -= step;
    }
    Ok(())
}

/// Locks pages: mlock(2).
///
/// # Errors
/// EPERM, ENOMEM, EINVAL.
pub(super) fn mlock(task: &Task, addr: u64, len: u64) -> Result<()> {
    task.mm().lock_range(addr, len, Locking::Lock)
}

/// Locks pages, now or at their first use: mlock2(2).
///
/// # Errors
/// As [`mlock`].
pub(super) fn mlock2(task: &Task, addr: u64, len: u64, flags: u32) -> Result<()> {
    if flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    mlock(task, addr, len)
}

/// Unlocks pages: munlock(2).
///
/// # Errors
/// ENOMEM, EINVAL.
pub(super) fn munlock(task: &Task, addr: u64, len: u64) -> Result<()> {
    task.mm().lock_range(addr, len, Locking::Unlock)
}

/// Locks all: mlockall(2).
///
/// # Errors
/// EPERM, ENOMEM, EINVAL.
pub(super) fn mlockall(task: &Task, flags: u32) -> Result<()> {
    const CURRENT: u32 = 1;
    const FUTURE: u32 = 2;
    const ONFAULT: u32 = 4;
    if flags == 0 || flags & !(CURRENT | FUTURE | ONFAULT) != 0 || flags == ONFAULT {
        return Err(Errno::EINVAL);
    }
    let current = (flags & CURRENT != 0).then_some(Locking::Lock);
    let future = if flags & FUTURE != 0 { Locking::Lock } else { Locking::Unlock };
    task.mm().lock_all(current, future)
}

/// Unlocks all: munlockall(2).
///
/// # Errors
/// None.
pub(super) fn munlockall(task: &Task) -> Result<()> {
    task.mm().lock_all(Some(Locking::Unlock), Locking::Unlock)
}

/// Orders memory between threads: membarrier(2).
///
/// # Errors
/// EINVAL, EPERM.
pub(super) fn membarrier(_task: &Task, command: u32, flags: u32, cpu: i32) -> Result<u64> {
    // Those that the filter passes; others are as on a kernel that lacks them.
    const KNOWN: u64 = 1 | 8 | 16 | 32 | 64 | 128 | 256;
    if command == 0 {
        return machine::host::membarrier(0, flags, cpu).map(|known| known & KNOWN);
    }
    if !command.is_power_of_two() || u64::from(command) & KNOWN == 0 {
        return Err(Errno::EINVAL);
    }
    machine::host::membarrier(command, flags, cpu)
}

/// mprotect(2) with a protection key: pkey_mprotect(2). No key can be had, so only -1 is one.
///
/// # Errors
/// EINVAL, those of [`mprotect`].
pub(super) fn pkey_mprotect(task: &Task, addr: u64, len: u64, prot: u32, key: i32) -> Result<()> {
    if key == -1 { mprotect(task, addr, len, prot) } else { Err(Errno::EINVAL) }
}

/// Asks for a protection key: pkey_alloc(2).
///
/// # Errors
/// EINVAL; ENOSPC, as on a processor without them.
pub(super) fn pkey_alloc(_task: &Task, flags: u64, rights: u64) -> Result<()> {
    if flags != 0 || rights & !3 != 0 { Err(Errno::EINVAL) } else { Err(Errno::ENOSPC) }
}

/// Gives a protection key back: pkey_free(2).
///
/// # Errors
/// EINVAL.
pub(super) fn pkey_free(_task: &Task, _key: i32) -> Result<()> {
    Err(Errno::EINVAL)
}

/// Which way process_vm_readv and process_vm_writev go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// Copies from another process: process_vm_readv(2).
///
/// # Errors
/// EPERM, ESRCH, EINVAL, EFAULT; EIO where it does not answer; INTERRUPTED.
pub(super) fn process_vm_readv(
    task: &Task,
    pid: i32,
    local: u64,
    local_count: u64,
    remote: u64,
    remote_count: u64,
    flags: u64,
) -> Result<u64> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    process_vm(task, pid, (local, local_count), (remote, remote_count), Direction::Read)
}

/// Copies to another process: process_vm_writev(2).
///
/// # Errors
/// As [`process_vm_readv`].
pub(super) fn process_vm_writev(
    task: &Task,
    pid: i32,
    local: u64,
    local_count: u64,
    remote: u64,
    remote_count: u64,
    flags: u64,
) -> Result<u64> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    process_vm(task, pid, (local, local_count), (remote, remote_count), Direction::Write)
}

fn process_vm(task: &Task, pid: i32, local: (u64, u64), remote: (u64, u64), direction: Direction) -> Result<u64> {
    /// Bytes that are moved at once.
    const PIECE: u64 = 64 * 1024;
    let mut local = read_iovecs(local.0, local.1)?;
    let mut remote = read_iovecs(remote.0, remote.1)?;
    let process = tree::process(pid).or_else(|| tree::task(pid).map(|task| Arc::clone(&task.process)));
    let process = process.filter(|process| process.thread_count() > 0).ok_or(Errno::ESRCH)?;
    if !inspect::is_allowed(task, &process, Identity::Real) {
        return Err(Errno::EPERM);
    }
    let total = |vectors: &[IoVec]| vectors.iter().map(|v| v.len).fold(0, u64::saturating_add);
    let want = total(&local).min(total(&remote));
    local.reverse();
    remote.reverse();
    let mut done = 0;
    while done < want {
        let (Some(ours), Some(theirs)) = (local.last_mut(), remote.last_mut()) else { break };
        let step = ours.len.min(theirs.len).min(PIECE);
        let moved = match copy_piece(&process, ours.base, IoVec { base: theirs.base, len: step }, direction) {
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
            Ok(moved) => moved,
        };
        done += moved;
        if moved < step {
            break;
        }
        advance(&mut local, step);
        advance(&mut remote, step);
    }
    if done == 0 && want > 0 { Err(Errno::EFAULT) } else { Ok(done) }
}

fn copy_piece(process: &Arc<Process>, ours: u64, theirs: IoVec, direction: Direction) -> Result<u64> {
    let mut piece = alloc::vec![0; usize::try_from(theirs.len).unwrap_or(0)];
    let count = if direction == Direction::Read {
        let count = visit::read(process, theirs.base, &mut piece)?;
        guest::write(ours, piece.get(..count).unwrap_or(&[]))?;
        count
    } else {
        guest::read(ours, &mut piece)?;
        visit::write(process, theirs.base, &piece)?
    };
    Ok(count as u64)
}

fn advance(vectors: &mut Vec<IoVec>, step: u64) {
    if let Some(last) = vectors.last_mut() {
        last.base = last.base.wrapping_add(step);
        last.len = last.len.saturating_sub(step);
    }
    while vectors.last().is_some_and(|v| v.len == 0) {
        vectors.pop();
    }
}

/// Where a thread's memory comes from: get_mempolicy(2), as on a machine with one node.
///
/// # Errors
/// EINVAL, EFAULT.
pub(super) fn get_mempolicy(_task: &Task, mode: u64, mask: u64, nodes: u64, addr: u64, flags: u64) -> Result<()> {
    const F_ADDR: u64 = 2;
    const F_MEMS_ALLOWED: u64 = 4;
    if flags & !7 != 0 || mask != 0 && nodes < 1 || flags & F_ADDR == 0 && addr != 0 || addr >= USER_END {
        return Err(Errno::EINVAL);
    }
    if mode != 0 {
        guest::write_value(mode, &0_u32)?;
    }
    if mask != 0 {
        guest::write_value(mask, &u64::from(flags & F_MEMS_ALLOWED != 0))?;
    }
    Ok(())
}
