//! Signals: sigaction(2), sigprocmask(2), kill(2) and their families.

use super::timeout::read_timespec;
use crate::process::creds::CAP_KILL;
use crate::process::limits::{INFINITY, SIGPENDING};
use crate::process::{Pid, Process, Task, tree};
use crate::signal::{
    Action, AltStack, NSIG, SA_KNOWN, SI_TKILL, SI_USER, SIGCONT, SIGRTMIN, SigInfo, SigSet, UNBLOCKABLE, deliver,
    frame, send_all, send_process, send_task,
};
use crate::wait::{WaitQueue, wait_until, with_kept_deadline};
use crate::{Errno, Result};
use alloc::sync::Arc;
use machine::guest::{self, UserPtr};

fn check_size(size: u64) -> Result<()> {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}

pub(super) fn rt_sigaction(
    task: &Task,
    signal: i32,
    new: UserPtr<[u64; 4]>,
    old: UserPtr<[u64; 4]>,
    size: u64,
) -> Result<()> {
    check_size(size)?;
    if !(1..=NSIG).contains(&signal) {
        return Err(Errno::EINVAL);
    }
    let wanted = if new.is_null() { None } else { Some(new.read()?) };
    if wanted.is_some() && UNBLOCKABLE.has(signal) {
        return Err(Errno::EINVAL);
    }
    let actions = task.process.actions();
    let was = if let Some([handler, flags, restorer, mask]) = wanted {
        let mask = SigSet(mask).without(UNBLOCKABLE);
        let was = actions.replace(signal, Action { handler, flags: flags & SA_KNOWN, restorer, mask });
        if actions.ignores(signal) {
            task.process.pending.discard(SigSet::of(signal));
            task.process.tasks().iter().for_each(|t| t.signals.pending.discard(SigSet::of(signal)));
        }
        was
    } else {
        actions.get(signal)
    };
    old.write_optional(&[was.handler, was.flags, was.restorer, was.mask.0])
}

#[inline]
pub(super) fn rt_sigprocmask(task: &Task, how: u32, new: UserPtr<u64>, old: UserPtr<u64>, size: u64) -> Result<()> {
    check_size(size)?;
    let was = task.signals.mask();
    if !new.is_null() {
        let set = SigSet(new.read()?);
        let mask = match how {
            0 => was.union(set),
            1 => was.without(set),
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        deliver::set_mask(task, mask);
    }
    old.write_optional(&was.0)
}

pub(super) fn rt_sigpending(task: &Task, set: UserPtr<u8>, size: u64) -> Result<()> {
    if size > 8 {
        return Err(Errno::EINVAL);
    }
    let pending = task.signals.pending.set().union(task.process.pending.set());
    let blocked = pending.0 & task.signals.mask().0;
    let bytes = blocked.to_le_bytes();
    guest::write(set.addr(), bytes.get(..usize::try_from(size).unwrap_or(8)).unwrap_or(&bytes))
}

pub(super) fn rt_sigsuspend(task: &Task, mask: UserPtr<u64>, size: u64) -> Result<()> {
    check_size(size)?;
    task.signals.set_temporary_mask(SigSet(mask.read()?));
    sleep_for_signal(task)
}

pub(super) fn pause(task: &Task) -> Result<()> {
    sleep_for_signal(task)
}

/// Sleeps until a signal is to be delivered.
fn sleep_for_signal(task: &Task) -> Result<()> {
    let queue = WaitQueue::new();
    machine::cpu::current().clear_pending();
    loop {
        if deliver::has_deliverable(task) || task.must_exit() {
            return Err(Errno::INTERRUPTED);
        }
        wait_until::<()>(&[&queue], None, || None)?;
    }
}

pub(super) fn rt_sigtimedwait(
    task: &Task,
    set: UserPtr<u64>,
    info: UserPtr<u8>,
    timeout: UserPtr<[i64; 2]>,
    size: u64,
) -> Result<i32> {
    check_size(size)?;
    let wanted = SigSet(set.read()?).without(UNBLOCKABLE);
    let timeout_ns = read_timespec(timeout)?;
    // The wanted signals interrupt the sleep although they are blocked otherwise.
    task.signals.set_temporary_mask(task.signals.mask().without(wanted));
    machine::cpu::current().clear_pending();
    let queue = WaitQueue::new();
    let look = || match deliver::take(task, wanted) {
        // What came before the mark was cleared would not end the sleep.
        None if task.must_exit() || deliver::has_deliverable(task) => Some(Err(Errno::INTERRUPTED)),
        found => found.map(Ok),
    };
    let waited = with_kept_deadline(task, timeout_ns, |deadline| wait_until(&[&queue], deadline, look)?.transpose());
    task.signals.restore_mask();
    let found = waited?.ok_or(Errno::EAGAIN)?;
    if !info.is_null() {
        guest::write(info.addr(), &found.to_bytes())?;
    }
    Ok(found.signal)
}

pub(super) fn rt_sigreturn(task: &Task) -> Result<u64> {
    let cpu = machine::cpu::current();
    match frame::pop(task, cpu.frame().rsp) {
        Ok(registers) => {
            cpu.set_frame(&registers);
            Ok(registers.rax)
        }
        Err(_) => {
            crate::signal::send::force(task, SigInfo::kernel(crate::signal::SIGSEGV));
            Ok(0)
        }
    }
}

pub(super) fn sigaltstack(task: &Task, new: UserPtr<[u64; 3]>, old: UserPtr<[u64; 3]>) -> Result<()> {
    const SS_ONSTACK: u32 = 1;
    const SS_DISABLE: u32 = 2;
    const SS_AUTODISARM: u32 = 1 << 31;
    const MINSIGSTKSZ: u64 = 2048;
    let rsp = machine::cpu::current().frame().rsp;
    let was = task.signals.alt_stack();
    let now = frame::alt_stack_flags(&was, rsp);
    if !new.is_null() {
        let [sp, flags, size] = new.read()?;
        let flags = u32::try_from(flags & 0xffff_ffff).unwrap_or(0);
        if now & SS_ONSTACK != 0 {
            return Err(Errno::EPERM);
        }
        let mode = flags & !SS_AUTODISARM;
        if mode != 0 && mode != SS_ONSTACK && mode != SS_DISABLE {
            return Err(Errno::EINVAL);
        }
        let stack = if mode == SS_DISABLE {
            AltStack::default()
        } else if size < MINSIGSTKSZ {
            return Err(Errno::ENOMEM);
        } else {
            AltStack { sp, flags: flags & SS_AUTODISARM, size }
        };
        task.signals.set_alt_stack(stack);
    }
    old.write_optional(&[was.sp, now.into(), was.size])
}

/// Whether the caller may signal the process: kill(2).
fn may_signal(task: &Task, target: &Process, signal: i32) -> bool {
    if core::ptr::eq(&raw const *task.process, target) {
        return true;
    }
    let own = task.creds();
    if own.has(CAP_KILL) {
        return true;
    }
    let same_session = signal == SIGCONT && target.links_of_other().1 == task.process.links_of_other().1;
    let Some(other) = target.creds() else { return true };
    let matches = [own.uid, own.euid].iter().any(|&uid| uid == other.uid || uid == other.suid);
    matches || same_session
}

pub(super) fn check_signal(signal: i32) -> Result<()> {
    if (0..=NSIG).contains(&signal) { Ok(()) } else { Err(Errno::EINVAL) }
}

pub(super) fn kill(task: &Task, pid: Pid, signal: i32) -> Result<()> {
    check_signal(signal)?;
    let info = SigInfo::from_task(task, signal, SI_USER);
    // Where there is no other thread that could take it.
    let is_own = pid == task.process.pid && signal != 0 && task.process.thread_count() == 1;
    if is_own && deliver::at_once(task, info) {
        return Ok(());
    }
    if pid > 0 {
        return send_checked(task, &target_process(pid)?, info);
    }
    let group = match pid {
        0 => Some(task.process.links_of_other().0),
        -1 => None,
        pid => Some(pid.checked_neg().ok_or(Errno::ESRCH)?),
    };
    let is_meant = |process: &Process| match group {
        Some(pgid) => process.links_of_other().0 == pgid,
        None => process.pid > 1 && process.pid != task.process.pid,
    };
    let mut result = Err(Errno::EPERM);
    let any = send_all(signal, is_meant, |target| {
        if send_checked(task, target, info).is_ok() {
            result = Ok(());
        }
    });
    if any { result } else { Err(Errno::ESRCH) }
}

/// A process by its id or by a thread's.
fn target_process(pid: Pid) -> Result<Arc<Process>> {
    tree::process(pid).or_else(|| tree::task(pid).map(|t| Arc::clone(&t.process))).ok_or(Errno::ESRCH)
}

pub(super) fn send_checked(task: &Task, target: &Arc<Process>, info: SigInfo) -> Result<()> {
    if !may_signal(task, target, info.signal) {
        return Err(Errno::EPERM);
    }
    if info.signal != 0 {
        check_queue(target, &info)?;
        send_process(target, info);
    }
    Ok(())
}

/// RLIMIT_SIGPENDING: a real-time signal that tells more than kill(2) is refused where the queue is full.
fn check_queue(target: &Process, info: &SigInfo) -> Result<()> {
    if info.signal < SIGRTMIN || info.code == SI_USER {
        return Ok(());
    }
    let limit = target.limits.get(SIGPENDING).map_or(INFINITY, |limit| limit.current);
    let of_threads: usize = target.tasks().iter().map(|task| task.signals.pending.count()).sum();
    if ((target.pending.count() + of_threads) as u64) < limit { Ok(()) } else { Err(Errno::EAGAIN) }
}

pub(super) fn tkill(task: &Task, tid: Pid, signal: i32) -> Result<()> {
    send_to_thread(task, None, tid, SigInfo::from_task(task, signal, SI_TKILL))
}

pub(super) fn tgkill(task: &Task, pid: Pid, tid: Pid, signal: i32) -> Result<()> {
    if pid <= 0 {
        return Err(Errno::EINVAL);
    }
    send_to_thread(task, Some(pid), tid, SigInfo::from_task(task, signal, SI_TKILL))
}

fn send_to_thread(task: &Task, pid: Option<Pid>, tid: Pid, info: SigInfo) -> Result<()> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    check_signal(info.signal)?;
    // raise(3) and abort(3) ask nobody.
    let found = if tid == task.tid() { None } else { tree::task(tid) };
    if found.is_none() && tid != task.tid() {
        // A process that has ended, and was not waited for, hears nothing any more.
        let ended = tree::threadless(tid).ok_or(Errno::ESRCH)?;
        if pid.is_some_and(|pid| pid != ended.pid) {
            return Err(Errno::ESRCH);
        }
        return if may_signal(task, &ended, info.signal) { Ok(()) } else { Err(Errno::EPERM) };
    }
    let target = found.as_deref().unwrap_or(task);
    if pid.is_some_and(|pid| target.process.pid != pid) {
        return Err(Errno::ESRCH);
    }
    if !may_signal(task, &target.process, info.signal) {
        return Err(Errno::EPERM);
    }
    if info.signal != 0 {
        check_queue(&target.process, &info)?;
        if tid != task.tid() || !deliver::at_once(task, info) {
            send_task(target, info);
        }
    }
    Ok(())
}

/// What a caller wants to be told with a signal; to others than itself not all.
///
/// # Errors
/// EFAULT, EPERM.
pub(super) fn read_info(task: &Task, pid: Pid, info: UserPtr<u8>) -> Result<SigInfo> {
    let mut bytes = [0; 128];
    guest::read(info.addr(), &mut bytes)?;
    let info = SigInfo::from_bytes(&bytes);
    let is_forged = (info.code >= 0 || info.code == SI_TKILL) && pid != task.process.pid;
    if is_forged { Err(Errno::EPERM) } else { Ok(info) }
}

pub(super) fn rt_sigqueueinfo(task: &Task, pid: Pid, signal: i32, info: UserPtr<u8>) -> Result<()> {
    let info = SigInfo { signal, ..read_info(task, pid, info)? };
    check_signal(signal)?;
    send_checked(task, &target_process(pid)?, info)
}

pub(super) fn rt_tgsigqueueinfo(task: &Task, pid: Pid, tid: Pid, signal: i32, info: UserPtr<u8>) -> Result<()> {
    if pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = SigInfo { signal, ..read_info(task, pid, info)? };
    send_to_thread(task, Some(pid), tid, info)
}
