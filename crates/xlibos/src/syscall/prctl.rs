//! Settings of threads and processes: prctl(2), arch_prctl(2), personality(2), rseq(2) and thread addresses.

use crate::mm::USER_END;
use crate::process::creds::{ALL_CAPABILITIES, Creds};
use crate::process::settings::Rseq;
use crate::{Errno, Result, Task};
use core::sync::atomic::Ordering;
use machine::guest::{self, UserPtr};

const CAP_SETPCAP: u32 = 8;
/// SECBIT_KEEP_CAPS and its lock.
const KEEP_CAPS: u32 = 1 << 4;
const KEEP_CAPS_LOCKED: u32 = 1 << 5;
/// SECBIT_NO_CAP_AMBIENT_RAISE.
const NO_AMBIENT_RAISE: u32 = 1 << 6;
const SECURE_BITS: u32 = 0xff;
const SECURE_LOCKS: u32 = 0xaa;

/// Arguments of prctl(2) behind the option.
type Arguments = [u64; 4];

/// Settings by option: prctl(2).
///
/// # Errors
/// EINVAL for an unknown option and what the options refuse.
pub(super) fn prctl(task: &Task, option: u32, a: u64, b: u64, c: u64, d: u64) -> Result<u64> {
    let arguments = [a, b, c, d];
    match option {
        1 => set_parent_death_signal(task, a),
        2 => put_int(a, task.process.parent_death_signal.load(Ordering::Relaxed)),
        3 => Ok(u64::from(task.mm().info().dumpable)),
        4 => set_dumpable(task, a),
        15 => set_name(task, a),
        16 => guest::write(a, &*task.name.lock()).map(|()| 0),
        29 => set_timer_slack(task, a),
        30 => Ok(task.settings.lock().timer_slack_ns),
        36 => {
            task.process.subreaper.store(a != 0, Ordering::Relaxed);
            Ok(0)
        }
        37 => put_int(a, i32::from(task.process.is_subreaper())),
        40 => guest::write_value(a, &task.clear_child_tid.load(Ordering::Relaxed)).map(|()| 0),
        7 | 8 | 23 | 24 | 27 | 28 | 38 | 39 | 47 => privileges(task, option, arguments),
        _ => fixed(option, arguments),
    }
}

/// Options about what the thread may do.
fn privileges(task: &Task, option: u32, arguments: Arguments) -> Result<u64> {
    let a = arguments[0];
    match option {
        7 => Ok(u64::from(task.settings.lock().secure_bits & KEEP_CAPS != 0)),
        8 => set_keep_caps(task, a),
        23 => capability(a).map(|bit| u64::from(task.creds().bounding & bit != 0)),
        24 => drop_bounding(task, a),
        27 => Ok(u64::from(task.settings.lock().secure_bits)),
        28 => set_secure_bits(task, a),
        38 => set_no_new_privs(task, arguments),
        39 => get_no_new_privs(task, arguments),
        47 => ambient(task, arguments),
        _ => Err(Errno::EINVAL),
    }
}

/// Options whose setting is always the same here.
fn fixed(option: u32, arguments: Arguments) -> Result<u64> {
    let [a, b, c, d] = arguments;
    match option {
        // PR_GET_TIMING, PR_SET_TIMING: statistical only.
        13 => Ok(0),
        14 if a == 0 => Ok(0),
        // PR_GET_SECCOMP: the guest has no filter.
        21 => Ok(0),
        // PR_GET_TSC: enabled; PR_SET_TSC: as it is.
        25 => put_int(a, 1),
        26 if a == 1 => Ok(0),
        // PR_MCE_KILL_GET: the system's default.
        34 if arguments == [0; 4] => Ok(2),
        // PR_GET_THP_DISABLE.
        42 if arguments == [0; 4] => Ok(0),
        52 if [b, c, d] == [0; 3] => speculation(a),
        53 if [c, d] == [0; 2] => set_speculation(a, b),
        // PR_SET_MM, PR_SET_IO_FLUSHER.
        35 | 57 => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// PR_SPEC_ENABLE, PR_SPEC_DISABLE, PR_SPEC_FORCE_DISABLE.
const SPECULATE: u64 = 2;
const SPECULATE_NOT: u64 = 4;
const SPECULATE_NEVER: u64 = 8;

/// PR_GET_SPECULATION_CTRL: the host decides of store bypass and indirect branches, and nobody flushes caches for a thread.
fn speculation(what: u64) -> Result<u64> {
    match what {
        0 | 1 => Ok(SPECULATE),
        2 => Ok(SPECULATE_NEVER),
        _ => Err(Errno::ENODEV),
    }
}

/// PR_SET_SPECULATION_CTRL: nothing can be changed.
fn set_speculation(what: u64, value: u64) -> Result<u64> {
    match (what, value) {
        (0, _) => Err(Errno::ENXIO),
        (1, SPECULATE) => Ok(0),
        (1, SPECULATE_NOT | SPECULATE_NEVER) | (2, _) => Err(Errno::EPERM),
        (1, _) => Err(Errno::ERANGE),
        _ => Err(Errno::ENODEV),
    }
}

fn put_int(addr: u64, value: i32) -> Result<u64> {
    guest::write_value(addr, &value).map(|()| 0)
}

fn set_parent_death_signal(task: &Task, signal: u64) -> Result<u64> {
    let signal = i32::try_from(signal).ok().filter(|n| (0..=64).contains(n)).ok_or(Errno::EINVAL)?;
    task.process.parent_death_signal.store(signal, Ordering::Relaxed);
    Ok(0)
}

fn set_dumpable(task: &Task, value: u64) -> Result<u64> {
    let value = u8::try_from(value).ok().filter(|v| *v <= 1).ok_or(Errno::EINVAL)?;
    task.mm().info().dumpable = value;
    Ok(0)
}

fn set_keep_caps(task: &Task, value: u64) -> Result<u64> {
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    let mut settings = task.settings.lock();
    if settings.secure_bits & KEEP_CAPS_LOCKED != 0 {
        return Err(Errno::EPERM);
    }
    settings.secure_bits = settings.secure_bits & !KEEP_CAPS | if value == 1 { KEEP_CAPS } else { 0 };
    Ok(0)
}

/// Reads at most 15 bytes, as strncpy_from_user does.
fn set_name(task: &Task, addr: u64) -> Result<u64> {
    let mut name = [0_u8; 16];
    for (i, slot) in name.iter_mut().take(15).enumerate() {
        let byte: u8 = guest::read_value(addr.wrapping_add(i as u64))?;
        if byte == 0 {
            break;
        }
        *slot = byte;
    }
    *task.name.lock() = name;
    Ok(0)
}

/// The bit of a capability.
fn capability(number: u64) -> Result<u64> {
    let bit = u32::try_from(number).ok().and_then(|n| 1_u64.checked_shl(n)).unwrap_or(0);
    if bit & ALL_CAPABILITIES == 0 { Err(Errno::EINVAL) } else { Ok(bit) }
}

fn drop_bounding(task: &Task, number: u64) -> Result<u64> {
    let creds = task.creds();
    if !creds.has(CAP_SETPCAP) {
        return Err(Errno::EPERM);
    }
    let bit = capability(number)?;
    task.set_creds(Creds { bounding: creds.bounding & !bit, ..Creds::clone(&creds) });
    Ok(0)
}

fn set_secure_bits(task: &Task, value: u64) -> Result<u64> {
    let new = u32::try_from(value).ok().filter(|v| v & !SECURE_BITS == 0).ok_or(Errno::EPERM)?;
    let may = task.creds().has(CAP_SETPCAP);
    let mut settings = task.settings.lock();
    let old = settings.secure_bits;
    let locked = (old & SECURE_LOCKS) >> 1;
    let changes_locked = locked & (old ^ new) != 0 || old & SECURE_LOCKS & !new != 0;
    if changes_locked || !may {
        return Err(Errno::EPERM);
    }
    settings.secure_bits = new;
    Ok(0)
}

fn set_timer_slack(task: &Task, value: u64) -> Result<u64> {
    task.settings.lock().set_timer_slack(value);
    Ok(0)
}

fn set_no_new_privs(task: &Task, arguments: Arguments) -> Result<u64> {
    if arguments != [1, 0, 0, 0] {
        return Err(Errno::EINVAL);
    }
    task.settings.lock().no_new_privs = true;
    Ok(0)
}

fn get_no_new_privs(task: &Task, arguments: Arguments) -> Result<u64> {
    if arguments != [0; 4] {
        return Err(Errno::EINVAL);
    }
    Ok(u64::from(task.settings.lock().no_new_privs))
}

/// PR_CAP_AMBIENT.
fn ambient(task: &Task, [operation, number, c, d]: Arguments) -> Result<u64> {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    if c != 0 || d != 0 || operation == CLEAR_ALL && number != 0 {
        return Err(Errno::EINVAL);
    }
    let creds = task.creds();
    let bit = if operation == CLEAR_ALL { 0 } else { capability(number)? };
    let new = match operation {
        IS_SET => return Ok(u64::from(creds.ambient & bit != 0)),
        RAISE => {
            let refused = task.settings.lock().secure_bits & NO_AMBIENT_RAISE != 0;
            if refused || creds.permitted & creds.inheritable & bit == 0 {
                return Err(Errno::EPERM);
            }
            creds.ambient | bit
        }
        LOWER => creds.ambient & !bit,
        CLEAR_ALL => 0,
        _ => return Err(Errno::EINVAL),
    };
    task.set_creds(Creds { ambient: new, ..Creds::clone(&creds) });
    Ok(0)
}

/// Segment bases: arch_prctl(2).
///
/// # Errors
/// EPERM for an address that is none of user memory, ENODEV, EINVAL, EFAULT.
pub(super) fn arch_prctl(_task: &Task, code: u32, addr: u64) -> Result<u64> {
    const SET_GS: u32 = 0x1001;
    const SET_FS: u32 = 0x1002;
    const GET_FS: u32 = 0x1003;
    const GET_GS: u32 = 0x1004;
    const GET_CPUID: u32 = 0x1011;
    const SET_CPUID: u32 = 0x1012;
    match code {
        SET_GS | SET_FS if addr >= USER_END => Err(Errno::EPERM),
        SET_GS => {
            machine::process::set_guest_gs(addr);
            Ok(0)
        }
        SET_FS => {
            machine::process::set_fs_base(addr);
            Ok(0)
        }
        GET_FS => guest::write_value(addr, &machine::process::fs_base()).map(|()| 0),
        GET_GS => guest::write_value(addr, &machine::process::guest_gs()).map(|()| 0),
        GET_CPUID => Ok(1),
        SET_CPUID => Err(Errno::ENODEV),
        _ => Err(Errno::EINVAL),
    }
}

/// Execution domain: personality(2). Kept and inherited.
///
/// # Errors
/// None.
pub(super) fn personality(task: &Task, persona: u32) -> Result<u32> {
    const QUERY: u32 = u32::MAX;
    let mut settings = task.settings.lock();
    let old = settings.personality;
    if persona != QUERY {
        settings.personality = persona;
    }
    Ok(old)
}

/// Restartable sequences: rseq(2), passed through and remembered, so that exec can undo it.
///
/// # Errors
/// EINVAL, EBUSY, EPERM, EFAULT.
pub(super) fn rseq(task: &Task, area: u64, len: u32, flags: u32, signature: u32) -> Result<u64> {
    const UNREGISTER: u32 = 1;
    let result = machine::host::rseq(area, len, flags, signature)?;
    let registered = flags & UNREGISTER == 0;
    task.settings.lock().rseq = registered.then_some(Rseq { area, len, signature });
    Ok(result)
}

/// Takes back the host's registration before its memory goes: exec, and the end of a recycled thread.
pub fn undo_rseq(task: &Task) {
    const UNREGISTER: u32 = 1;
    let registered = task.settings.lock().rseq.take();
    if let Some(Rseq { area, len, signature }) = registered {
        let _ = machine::host::rseq(area, len, UNREGISTER, signature);
    }
}

/// The word that is cleared at the thread's end: set_tid_address(2).
///
/// # Errors
/// None.
pub(super) fn set_tid_address(task: &Task, addr: u64) -> Result<i32> {
    task.clear_child_tid.store(addr, Ordering::Relaxed);
    Ok(task.tid())
}

/// Size of struct robust_list_head.
const ROBUST_HEAD: u64 = 24;

/// The list of robust futexes: set_robust_list(2).
///
/// # Errors
/// EINVAL.
pub(super) fn set_robust_list(task: &Task, head: u64, len: u64) -> Result<()> {
    if len != ROBUST_HEAD {
        return Err(Errno::EINVAL);
    }
    task.robust_list.store(head, Ordering::Relaxed);
    Ok(())
}

/// The list of robust futexes of a thread: get_robust_list(2).
///
/// # Errors
/// ESRCH, EPERM, EFAULT.
pub(super) fn get_robust_list(task: &Task, tid: i32, head: UserPtr<u64>, len: UserPtr<u64>) -> Result<()> {
    let address = if tid == 0 || tid == task.tid() {
        task.robust_list.load(Ordering::Relaxed)
    } else {
        let other = crate::process::tree::task(tid).ok_or(Errno::ESRCH)?;
        if other.creds().uid != task.creds().euid && task.creds().euid != 0 {
            return Err(Errno::EPERM);
        }
        other.robust_list.load(Ordering::Relaxed)
    };
    len.write(&ROBUST_HEAD)?;
    head.write(&address)
}
