//! Whether processes share something: kcmp(2).

use crate::fs::File;
use crate::fs::epoll::Epoll;
use crate::fs::fd_table::Fd;
use crate::process::inspect::{self, Identity};
use crate::process::{Pid, Task, tree};
use crate::{Errno, Result};
use alloc::sync::Arc;
use machine::guest;

/// What is compared.
const FILE: u32 = 0;
const VM: u32 = 1;
const FILES: u32 = 2;
const FS: u32 = 3;
const SIGHAND: u32 = 4;
const EPOLL_TARGET: u32 = 7;

/// Compares what two tasks have: 0 for the same, 1 and 2 for an order of those that are not.
///
/// # Errors
/// ESRCH, EPERM, EBADF; EINVAL for what cannot be compared; EFAULT, ENOENT for a file that is not in the epoll.
pub(super) fn kcmp(task: &Task, first: Pid, second: Pid, what: u32, index: u64, other: u64) -> Result<u64> {
    let find = |pid| tree::task(pid).ok_or(Errno::ESRCH);
    let (first, second) = (find(first)?, find(second)?);
    if ![&first, &second].iter().all(|one| inspect::is_allowed(task, &one.process, Identity::Real)) {
        return Err(Errno::EPERM);
    }
    let file = |of: &Task, index: u64| of.any_file(Fd(i32::try_from(index).map_err(|_| Errno::EBADF)?));
    match what {
        FILE => Ok(order(&file(&first, index)?, &file(&second, other)?)),
        VM => Ok(order(&first.mm(), &second.mm())),
        FILES => Ok(order(&first.files(), &second.files())),
        FS => Ok(order(&first.fs(), &second.fs())),
        SIGHAND => Ok(order(&first.process.actions(), &second.process.actions())),
        EPOLL_TARGET => Ok(order(&file(&first, index)?, &epoll_target(&second, guest::read_value(other)?)?)),
        _ => Err(Errno::EINVAL),
    }
}

/// A file of an epoll, by `struct kcmp_epoll_slot`: the epoll, the descriptor that was added, and which of those added so.
fn epoll_target(of: &Task, [epoll, fd, nth]: [i32; 3]) -> Result<Arc<File>> {
    let file = of.any_file(Fd(epoll))?;
    let epoll: &Epoll = file.downcast().ok_or(Errno::EINVAL)?;
    epoll.target(fd, nth.cast_unsigned()).ok_or(Errno::ENOENT)
}

fn order<T>(first: &Arc<T>, second: &Arc<T>) -> u64 {
    match Arc::as_ptr(first).cmp(&Arc::as_ptr(second)) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    }
}
