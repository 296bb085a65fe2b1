//! Reading of ids and limits: getuid(2), getgroups(2), prlimit(2), sched_getaffinity(2).

use crate::process::limits::Limit;
use crate::process::{Pid, Task};
use crate::{Errno, Result};
use machine::guest::{self, UserPtr};

pub(super) fn getuid(task: &Task) -> Result<u32> {
    Ok(task.creds().uid)
}

pub(super) fn geteuid(task: &Task) -> Result<u32> {
    Ok(task.creds().euid)
}

pub(super) fn getgid(task: &Task) -> Result<u32> {
    Ok(task.creds().gid)
}

pub(super) fn getegid(task: &Task) -> Result<u32> {
    Ok(task.creds().egid)
}

pub(super) fn getresuid(task: &Task, real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) -> Result<()> {
    let creds = task.creds();
    real.write(&creds.uid)?;
    effective.write(&creds.euid)?;
    saved.write(&creds.suid)
}

pub(super) fn getresgid(task: &Task, real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) -> Result<()> {
    let creds = task.creds();
    real.write(&creds.gid)?;
    effective.write(&creds.egid)?;
    saved.write(&creds.sgid)
}

pub(super) fn getgroups(task: &Task, size: i32, list: UserPtr<u32>) -> Result<usize> {
    let groups = task.creds().groups.clone();
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size == 0 {
        return Ok(groups.len());
    }
    if size < groups.len() {
        return Err(Errno::EINVAL);
    }
    for (index, group) in groups.iter().enumerate() {
        list.at(index).write(group)?;
    }
    Ok(groups.len())
}

pub(super) fn prlimit64(task: &Task, pid: Pid, resource: u32, new: UserPtr<[u64; 2]>, old: UserPtr<[u64; 2]>) -> Result<()> {
    let process = if pid == 0 || pid == task.process.pid {
        alloc::sync::Arc::clone(&task.process)
    } else {
        crate::process::tree::process(pid).ok_or(Errno::ESRCH)?
    };
    let resource = resource as usize;
    let was = process.limits.get(resource).ok_or(Errno::EINVAL)?;
    if !new.is_null() {
        let [current, max] = new.read()?;
        if current > max {
            return Err(Errno::EINVAL);
        }
        if max > was.max && task.creds().euid != 0 {
            return Err(Errno::EPERM);
        }
        process.limits.set(resource, Limit { current, max });
        if resource == crate::process::limits::NOFILE {
            task.files().set_limit(current);
        }
    }
    old.write_optional(&[was.current, was.max])
}

pub(super) fn getrlimit(task: &Task, resource: u32, old: UserPtr<[u64; 2]>) -> Result<()> {
    prlimit64(task, 0, resource, UserPtr::new(0), old)
}

pub(super) fn setrlimit(task: &Task, resource: u32, new: UserPtr<[u64; 2]>) -> Result<()> {
    prlimit64(task, 0, resource, new, UserPtr::new(0))
}

pub(super) fn sched_yield(_task: &Task) -> Result<()> {
    core::hint::spin_loop();
    Ok(())
}

pub(super) fn sched_getaffinity(_task: &Task, _pid: Pid, len: u32, mask: u64) -> Result<u64> {
    let cpus = crate::kernel::config().map_or(1, |config| config.cpus).clamp(1, 64);
    if len < 8 || len % 8 != 0 {
        return Err(Errno::EINVAL);
    }
    guest::write_value(mask, &(u64::MAX >> (64 - cpus)))?;
    Ok(8)
}
