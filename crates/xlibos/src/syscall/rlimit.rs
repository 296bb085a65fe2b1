//! Resource limits: getrlimit(2).

use crate::process::Process;
use crate::process::creds::{CAP_SYS_RESOURCE, Creds};
use crate::process::limits::{CPU, Limit, NOFILE};
use crate::process::tree;
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use machine::guest::UserPtr;

/// Highest RLIMIT_NOFILE: /proc/sys/fs/nr_open.
const NR_OPEN: u64 = 1 << 20;

/// A limit: getrlimit(2).
///
/// # Errors
/// EINVAL, EFAULT.
pub(super) fn getrlimit(task: &Task, resource: u32, limit: UserPtr<[u64; 2]>) -> Result<()> {
    let now = read(&task.process, resource)?;
    limit.write(&[now.current, now.max])
}

/// Sets a limit: setrlimit(2).
///
/// # Errors
/// EINVAL, EPERM, EFAULT.
pub(super) fn setrlimit(task: &Task, resource: u32, limit: UserPtr<[u64; 2]>) -> Result<()> {
    let [current, max] = limit.read()?;
    set(task, &task.process, resource, Limit { current, max })
}

/// Reads and sets a limit of a process: prlimit(2).
///
/// # Errors
/// EINVAL, EPERM, ESRCH, EFAULT.
pub(super) fn prlimit64(
    task: &Task,
    pid: i32,
    resource: u32,
    new: UserPtr<[u64; 2]>,
    old: UserPtr<[u64; 2]>,
) -> Result<()> {
    let wanted = new.non_null().map(UserPtr::read).transpose()?;
    let process = target(task, pid)?;
    let before = read(&process, resource)?;
    if let Some([current, max]) = wanted {
        set(task, &process, resource, Limit { current, max })?;
    }
    old.write_optional(&[before.current, before.max])
}

/// The process that is meant, if the caller may touch its limits.
fn target(task: &Task, pid: i32) -> Result<Arc<Process>> {
    if pid == 0 || pid == task.process.pid {
        return Ok(Arc::clone(&task.process));
    }
    let (theirs, process) = match tree::task(pid) {
        Some(other) => (other.creds(), Arc::clone(&other.process)),
        None => {
            let process = tree::threadless(pid).ok_or(Errno::ESRCH)?;
            (process.creds().ok_or(Errno::ESRCH)?, process)
        }
    };
    if may_touch(&task.creds(), &theirs) { Ok(process) } else { Err(Errno::EPERM) }
}

fn may_touch(ours: &Creds, theirs: &Creds) -> bool {
    let same_user = [theirs.uid, theirs.euid, theirs.suid] == [ours.uid; 3];
    let same_group = [theirs.gid, theirs.egid, theirs.sgid] == [ours.gid; 3];
    same_user && same_group || ours.has(CAP_SYS_RESOURCE)
}

fn read(process: &Process, resource: u32) -> Result<Limit> {
    let index = usize::try_from(resource).map_err(|_| Errno::EINVAL)?;
    process.limits.get(index).ok_or(Errno::EINVAL)
}

fn set(task: &Task, process: &Arc<Process>, resource: u32, limit: Limit) -> Result<()> {
    let index = usize::try_from(resource).map_err(|_| Errno::EINVAL)?;
    let old = process.limits.get(index).ok_or(Errno::EINVAL)?;
    if limit.current > limit.max {
        return Err(Errno::EINVAL);
    }
    if index == NOFILE && limit.max > NR_OPEN {
        return Err(Errno::EPERM);
    }
    if limit.max > old.max && !task.creds().has(CAP_SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    process.limits.set(index, limit);
    if index == CPU {
        process.alarms.limit_cpu(process);
    }
    if index == NOFILE {
        process.tasks().iter().for_each(|task| task.files().set_limit(limit.current));
    }
    Ok(())
}
