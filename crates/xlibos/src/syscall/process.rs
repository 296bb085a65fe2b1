//! Processes and threads: clone(2), execve(2), _exit(2), wait4(2), setpgid(2) and their families.

use super::args::UserPath;
use super::pidfd;
use crate::fs::fd_table::Fd;
use crate::fs::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use crate::process::fork::{self, CloneFlags, Request};
use crate::process::usage::Usage;
use crate::process::wait::{self, Found, Options, Which};
use crate::process::{Pid, Process, Task, exec, exit, session::Session, tree};
use crate::signal::SIGCHLD;
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use machine::guest::{self, UserPtr};

pub(super) fn getpid(task: &Task) -> Result<Pid> {
    Ok(task.process.pid)
}

pub(super) fn gettid(task: &Task) -> Result<Pid> {
    Ok(task.tid())
}

pub(super) fn getppid(task: &Task) -> Result<Pid> {
    Ok(task.process.parent())
}

/// Creates a thread or process: clone(2), raw x86-64 order of arguments.
pub(super) fn clone(task: &Task, flags: u64, stack: u64, parent_tid: u64, child_tid: u64, tls: u64) -> Result<Pid> {
    let exit_signal = i32::try_from(flags & 0xff).map_err(|_| Errno::EINVAL)?;
    let flags = CloneFlags::from_bits_truncate(flags & 0xffff_ff00);
    // Both would be stored at one place.
    if flags.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) {
        return Err(Errno::EINVAL);
    }
    clone_with_pidfd(task, Request { flags, exit_signal, stack, parent_tid, child_tid, tls }, parent_tid)
}

/// clone(2), with a descriptor of the child stored at an address where CLONE_PIDFD asks for one.
fn clone_with_pidfd(task: &Task, request: Request, address: u64) -> Result<Pid> {
    if !request.flags.contains(CloneFlags::PIDFD) {
        return fork::clone(task, request, |_| Ok(()));
    }
    if request.flags.intersects(CloneFlags::THREAD | CloneFlags::DETACHED) {
        return Err(Errno::EINVAL);
    }
    let mut made = None;
    let publish = |child: &Arc<Process>| {
        let fd = *made.insert(pidfd::install_pidfd(task, Arc::clone(child), 0)?);
        guest::write_value(address, &fd.0)
    };
    let cloned = fork::clone(task, request, publish);
    if let (Err(_), Some(fd)) = (&cloned, made) {
        drop(task.files().remove(fd));
    }
    cloned
}

/// Gives the caller things of its own that it shares with others: unshare(2).
///
/// # Errors
/// EINVAL for what threads of a process have in common, ENOSYS for namespaces.
pub(super) fn unshare(task: &Task, flags: u64) -> Result<()> {
    const NEWTIME: u64 = 0x80;
    let namespaces = (CloneFlags::NAMESPACES | CloneFlags::NEWNS).bits() | NEWTIME;
    let common = (CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM | CloneFlags::SYSVSEM).bits();
    let own = CloneFlags::FS.bits() | CloneFlags::FILES.bits();
    let has_threads = task.process.tasks().len() > 1;
    if flags & !(namespaces | common | own) != 0 || has_threads && flags & (common | CloneFlags::NEWUSER.bits()) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & namespaces != 0 {
        return Err(Errno::ENOSYS);
    }
    if flags & CloneFlags::FILES.bits() != 0 {
        task.unshare_files();
    }
    if flags & CloneFlags::FS.bits() != 0 {
        task.set_fs(task.fs().copy());
    }
    if flags & CloneFlags::SYSVSEM.bits() != 0 {
        // Adjustments are done where nobody else is left who would do them.
        crate::ipc::sem::process_ended(task.process.pid);
    }
    Ok(())
}

/// `struct clone_args`, first version.
const CLONE_ARGS_MIN: u64 = 64;

/// What follows the first version of `struct clone_args`: ids that the child is to have, and a control group.
fn check_rest(at: u64, len: u64) -> Result<()> {
    const KNOWN: usize = 24;
    let mut bytes = alloc::vec![0; usize::try_from(len).unwrap_or(0)];
    guest::read(at, &mut bytes)?;
    if bytes.iter().skip(KNOWN).any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let is_set = |word: usize| bytes.iter().skip(word * 8).take(8).any(|byte| *byte != 0);
    match (is_set(0), is_set(1)) {
        (false, false) => Ok(()),
        // Nobody may choose ids.
        (true, true) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// Creates a thread or process: clone3(2).
pub(super) fn clone3(task: &Task, args: UserPtr<u64>, size: u64) -> Result<Pid> {
    if size < CLONE_ARGS_MIN {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let [flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls] =
        guest::read_value::<[u64; 8]>(args.addr())?;
    check_rest(args.addr().wrapping_add(CLONE_ARGS_MIN), size - CLONE_ARGS_MIN)?;
    let flags = CloneFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let is_told = !flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT);
    if exit_signal > 64 || exit_signal != 0 && !is_told || (stack == 0) != (stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(CloneFlags::DETACHED) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) && pidfd == parent_tid {
        return Err(Errno::EINVAL);
    }
    let stack = stack.wrapping_add(stack_size);
    let exit_signal = i32::try_from(exit_signal).map_err(|_| Errno::EINVAL)?;
    clone_with_pidfd(task, Request { flags, exit_signal, stack, parent_tid, child_tid, tls }, pidfd)
}

pub(super) fn fork(task: &Task) -> Result<Pid> {
    fork::clone(task, fork::fork_request(), |_| Ok(()))
}

pub(super) fn vfork(task: &Task) -> Result<Pid> {
    let flags = CloneFlags::VM | CloneFlags::VFORK;
    fork::clone(task, Request { flags, exit_signal: SIGCHLD, ..fork::fork_request() }, |_| Ok(()))
}

pub(super) fn execve(task: &Task, path: UserPath, argv: u64, env: u64) -> Result<()> {
    execveat(task, AT_FDCWD, path, argv, env, 0)
}

pub(super) fn execveat(task: &Task, dirfd: Fd, path: UserPath, argv: u64, env: u64, flags: u32) -> Result<()> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = path.read()?;
    let mut total = path.len();
    let argv = exec::read_strings(argv, &mut total)?;
    let env = exec::read_strings(env, &mut total)?;
    let plan = exec::prepare(task, dirfd, &path, flags, argv, env)?;
    // What goes elsewhere does not return.
    drop(path);
    // The handler's borrow is the thread's own task, which lives until the thread ends.
    let task = Task::current().ok_or(Errno::ESRCH)?;
    exec::exec(task, plan)
}

/// Ends the calling thread: _exit(2).
pub(super) fn exit(task: &Task, code: i32) -> Result<()> {
    task.exit_status.store(exit::exited(code), Ordering::Relaxed);
    task.must_exit.store(true, Ordering::SeqCst);
    machine::cpu::current().mark_pending();
    Ok(())
}

pub(super) fn exit_group(task: &Task, code: i32) -> Result<()> {
    exit::exit_group(task, exit::exited(code));
    Ok(())
}

fn write_rusage(to: UserPtr<u64>, usage: Usage) -> Result<()> {
    if to.is_null() { Ok(()) } else { guest::write_value(to.addr(), &usage.to_words()) }
}

pub(super) fn wait4(task: &Task, pid: Pid, status: UserPtr<i32>, options: u32, usage: UserPtr<u64>) -> Result<Pid> {
    let known =
        Options::NOHANG | Options::STOPPED | Options::CONTINUED | Options::NOTHREAD | Options::ALL | Options::CLONE;
    let options = Options::from_bits(options).filter(|o| known.contains(*o)).ok_or(Errno::EINVAL)?;
    let which = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => Which::Any,
        0 => Which::Group(0),
        pid if pid < 0 => Which::Group(-pid),
        pid => Which::Pid(pid),
    };
    let Some(found) = wait::wait(task, which, options | Options::EXITED)? else { return Ok(0) };
    status.write_optional(&found.change.wait_status())?;
    write_rusage(usage, found.usage)?;
    Ok(found.pid)
}

pub(super) fn waitid(
    task: &Task,
    kind: u32,
    id: Pid,
    info: UserPtr<u8>,
    options: u32,
    usage: UserPtr<u64>,
) -> Result<()> {
    let options = Options::from_bits(options).ok_or(Errno::EINVAL)?;
    if !options.intersects(Options::EXITED | Options::STOPPED | Options::CONTINUED) {
        return Err(Errno::EINVAL);
    }
    let (which, may_wait) = match kind {
        0 => (Which::Any, true),
        1 if id > 0 => (Which::Pid(id), true),
        2 if id >= 0 => (Which::Group(id), true),
        3 if id >= 0 => pidfd_child(task, Fd(id))?,
        _ => return Err(Errno::EINVAL),
    };
    let at_once = if may_wait { Options::empty() } else { Options::NOHANG };
    let found = wait::wait(task, which, options | at_once)?;
    if found.is_none() && !options.contains(Options::NOHANG) {
        return Err(Errno::EAGAIN);
    }
    if !info.is_null() {
        guest::write(info.addr(), &waitid_info(found))?;
    }
    found.map_or(Ok(()), |found| write_rusage(usage, found.usage))
}

/// The child of a pidfd, and whether it may be waited for: not by O_NONBLOCK.
fn pidfd_child(task: &Task, fd: Fd) -> Result<(Which, bool)> {
    let file = task.file(fd)?;
    let process =
        pidfd::process_of(&file).map_err(|errno| if errno == Errno::ESRCH { Errno::ECHILD } else { errno })?;
    Ok((Which::Pid(process.pid), !file.is_nonblocking()))
}

fn waitid_info(found: Option<Found>) -> [u8; 128] {
    let Some(found) = found else { return [0; 128] };
    let (code, status) = found.change.code_and_status();
    let value = u64::from(status.cast_unsigned());
    crate::signal::SigInfo { signal: SIGCHLD, code, pid: found.pid, value, ..Default::default() }.to_bytes()
}

pub(super) fn setpgid(task: &Task, pid: Pid, pgid: Pid) -> Result<()> {
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    let tree = tree::lock();
    let own = &task.process;
    let target = if pid == 0 { Arc::clone(own) } else { tree.process(pid).ok_or(Errno::ESRCH)? };
    let is_self = Arc::ptr_eq(&target, own);
    if !is_self {
        let links = target.links();
        if target.parent() != own.pid {
            return Err(Errno::ESRCH);
        }
        if links.session.sid != own.links_of_other().1 {
            return Err(Errno::EPERM);
        }
        if target.has_execed.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    }
    let session = target.session();
    if session.sid == target.pid {
        return Err(Errno::EPERM);
    }
    let pgid = if pgid == 0 { target.pid } else { pgid };
    if pgid != target.pid && !tree.group_in_session(pgid, &session) {
        return Err(Errno::EPERM);
    }
    target.links().pgid = pgid;
    Ok(())
}

fn find(task: &Task, pid: Pid) -> Result<Arc<Process>> {
    if pid == 0 { Ok(Arc::clone(&task.process)) } else { tree::process(pid).ok_or(Errno::ESRCH) }
}

pub(super) fn getpgid(task: &Task, pid: Pid) -> Result<Pid> {
    Ok(find(task, pid)?.links_of_other().0)
}

pub(super) fn getpgrp(task: &Task) -> Result<Pid> {
    getpgid(task, 0)
}

pub(super) fn getsid(task: &Task, pid: Pid) -> Result<Pid> {
    Ok(find(task, pid)?.links_of_other().1)
}

pub(super) fn setsid(task: &Task) -> Result<Pid> {
    let pid = task.process.pid;
    let group = tree::collect_group(pid);
    let _tree = tree::lock();
    if !group.is_empty() {
        return Err(Errno::EPERM);
    }
    let mut links = task.process.links();
    links.session = Session::new(pid);
    links.pgid = pid;
    Ok(pid)
}
