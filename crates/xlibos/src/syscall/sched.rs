//! Scheduling: sched_yield(2), sched_getaffinity(2).

use crate::process::{Pid, Task};
use crate::{Errno, Result};
use machine::guest;

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
