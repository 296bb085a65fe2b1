//! Whether processes share something: kcmp(2).

use crate::fs::File;
use crate::fs::epoll::Epoll;
use crate::fs::fd_table::Fd;
use crate::ipc::sem;
use crate::process::inspect::{self, Identity};
use crate::process::{Pid, Process, Task, tree};
use crate::{Errno, Result};
use alloc::sync::Arc;
use machine::guest;

/// What is compared.
const FILE: u32 = 0;
const VM: u32 = 1;
const FILES: u32 = 2;
const FS: u32 = 3;
const SIGHAND: u32 = 4;
const IO: u32 = 5;
const SYSVSEM: u32 = 6;
const EPOLL_TARGET: u32 = 7;

/// One of the two: its process, and the thread unless all have ended.
struct Side {
    process: Arc<Process>,
    task: Option<Arc<Task>>,
}

impl Side {
    fn find(id: Pid) -> Result<Side> {
        match tree::task(id) {
            Some(task) => Ok(Side { process: Arc::clone(&task.process), task: Some(task) }),
            None => Ok(Side { process: tree::threadless(id).ok_or(Errno::ESRCH)?, task: None }),
        }
    }

    /// Where something of the thread's lies; 0 where it has ended.
    fn place<T>(&self, part: impl FnOnce(&Task) -> Arc<T>) -> usize {
        self.task.as_ref().map_or(0, |task| Arc::as_ptr(&part(task)).addr())
    }

    fn file(&self, index: u64) -> Result<Arc<File>> {
        let fd = Fd(i32::try_from(index).map_err(|_| Errno::EBADF)?);
        self.task.as_ref().ok_or(Errno::EBADF)?.any_file(fd)
    }

    /// Its context of transfers: there is one once a priority was set. No thread shares another's.
    fn transfers(&self) -> usize {
        let task = self.task.as_ref().filter(|task| task.settings.lock().io_priority != 0);
        task.map_or(0, |task| Arc::as_ptr(task).addr())
    }

    /// Its list of adjustments, if it has any; the threads of a process share it.
    fn adjustments(&self) -> usize {
        if sem::has_adjustments(self.process.pid) { Arc::as_ptr(&self.process).addr() } else { 0 }
    }
}

/// Compares what two tasks have: 0 for the same, 1 and 2 for an order of those that are not.
///
/// # Errors
/// ESRCH, EPERM, EBADF; EINVAL for what cannot be compared; EFAULT, ENOENT for a file that is not in the epoll.
pub(super) fn kcmp(task: &Task, first: Pid, second: Pid, what: u32, index: u64, other: u64) -> Result<u64> {
    let (first, second) = (Side::find(first)?, Side::find(second)?);
    if ![&first, &second].iter().all(|one| inspect::is_allowed(task, &one.process, Identity::Real)) {
        return Err(Errno::EPERM);
    }
    let sides = [&first, &second];
    let [first_place, second_place] = match what {
        FILE => [first.file(index)?, second.file(other)?].map(|file| Arc::as_ptr(&file).addr()),
        VM => sides.map(|side| side.place(Task::mm)),
        FILES => sides.map(|side| side.place(Task::files)),
        FS => sides.map(|side| side.place(Task::fs)),
        SIGHAND => sides.map(|side| Arc::as_ptr(&side.process.actions()).addr()),
        IO => sides.map(Side::transfers),
        SYSVSEM => sides.map(Side::adjustments),
        EPOLL_TARGET => {
            let target = epoll_target(&second, guest::read_value(other)?)?;
            [first.file(index)?, target].map(|file| Arc::as_ptr(&file).addr())
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok(order(first_place, second_place))
}

/// A file of an epoll, by `struct kcmp_epoll_slot`: the epoll, the descriptor that was added, and which of those added so.
fn epoll_target(of: &Side, [epoll, fd, nth]: [i32; 3]) -> Result<Arc<File>> {
    let file = of.file(u64::from(epoll.cast_unsigned()))?;
    let epoll: &Epoll = file.downcast().ok_or(Errno::EINVAL)?;
    epoll.target(fd, nth.cast_unsigned()).ok_or(Errno::ENOENT)
}

fn order(first: usize, second: usize) -> u64 {
    match first.cmp(&second) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    }
}
