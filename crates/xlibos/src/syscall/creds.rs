//! Identity: credentials(7), capabilities(7). Of the calling thread, as in the kernel; libc tells the others.

use crate::process::creds::{ALL_CAPABILITIES, CAP_SETGID, CAP_SETUID, Creds};
use crate::process::fork;
use crate::{Errno, Result, Task};
use core::sync::atomic::Ordering;
use machine::epoch::pin;
use machine::guest::{self, UserPtr};

/// "Leave as it is" in setreuid(2) and its kin.
const SAME: u32 = u32::MAX;
const CAP_SETPCAP: u32 = 8;
/// Capabilities that follow the file-system user: CAP_FS_SET.
const FILE_CAPABILITIES: u64 = 0x1f | 1 << 9 | 1 << 27 | 1 << 32;
/// Most groups of setgroups(2).
const NGROUPS_MAX: i32 = 65_536;

/// SECBIT_NO_SETUID_FIXUP.
const NO_SETUID_FIXUP: u32 = 1 << 2;
/// SECBIT_KEEP_CAPS.
const KEEP_CAPS: u32 = 1 << 4;

/// Real user: getuid(2).
pub(super) fn getuid(task: &Task) -> Result<u32> {
    Ok(task.creds_at(&pin()).uid)
}

/// Effective user: geteuid(2).
pub(super) fn geteuid(task: &Task) -> Result<u32> {
    Ok(task.creds_at(&pin()).euid)
}

/// Real group: getgid(2).
pub(super) fn getgid(task: &Task) -> Result<u32> {
    Ok(task.creds_at(&pin()).gid)
}

/// Effective group: getegid(2).
pub(super) fn getegid(task: &Task) -> Result<u32> {
    Ok(task.creds_at(&pin()).egid)
}

/// Real, effective and saved user: getresuid(2).
///
/// # Errors
/// EFAULT.
pub(super) fn getresuid(task: &Task, real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) -> Result<()> {
    let creds = task.creds();
    real.write(&creds.uid)?;
    effective.write(&creds.euid)?;
    saved.write(&creds.suid)
}

/// Real, effective and saved group: getresgid(2).
///
/// # Errors
/// EFAULT.
pub(super) fn getresgid(task: &Task, real: UserPtr<u32>, effective: UserPtr<u32>, saved: UserPtr<u32>) -> Result<()> {
    let creds = task.creds();
    real.write(&creds.gid)?;
    effective.write(&creds.egid)?;
    saved.write(&creds.sgid)
}

/// Replaces the credentials with what follows from a change of users.
fn change_users(task: &Task, old: &Creds, mut new: Creds) {
    if task.settings.lock().secure_bits & NO_SETUID_FIXUP == 0 {
        fix_capabilities(task, old, &mut new);
    }
    if new.uid != old.uid {
        // As on Linux, before this one counts.
        let is_over = new.uid != 0 && fork::is_over_limit(task, new.uid);
        task.settings.lock().is_over_limit = is_over;
    }
    commit(task, old, new);
}

/// What becomes of capabilities when users change: capabilities(7), "Effect of user ID changes".
fn fix_capabilities(task: &Task, old: &Creds, new: &mut Creds) {
    let is_root = |creds: &Creds| creds.uid == 0 || creds.euid == 0 || creds.suid == 0;
    if is_root(old) && !is_root(new) {
        if task.settings.lock().secure_bits & KEEP_CAPS == 0 {
            new.permitted = 0;
            new.effective = 0;
        }
        new.ambient = 0;
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = 0;
    }
    if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
}

/// Replaces the credentials. A change of effective identity makes the process undumpable and forgets its
/// parent-death signal.
fn commit(task: &Task, old: &Creds, new: Creds) {
    let gained = new.permitted & !old.permitted != 0;
    let other =
        old.euid != new.euid || old.egid != new.egid || old.fsuid != new.fsuid || old.fsgid != new.fsgid || gained;
    if other {
        task.mm().info().dumpable = 0;
        task.process.parent_death_signal.store(0, Ordering::Relaxed);
    }
    task.set_creds(new);
}

/// Sets the user: setuid(2).
///
/// # Errors
/// EINVAL, EPERM.
pub(super) fn setuid(task: &Task, uid: u32) -> Result<()> {
    if uid == SAME {
        return Err(Errno::EINVAL);
    }
    let old = task.creds();
    let mut new = Creds::clone(&old);
    if old.has(CAP_SETUID) {
        new.uid = uid;
        new.suid = uid;
    } else if uid != old.uid && uid != old.suid {
        return Err(Errno::EPERM);
    }
    new.euid = uid;
    new.fsuid = uid;
    change_users(task, &old, new);
    Ok(())
}

/// Sets the group: setgid(2).
///
/// # Errors
/// EINVAL, EPERM.
pub(super) fn setgid(task: &Task, gid: u32) -> Result<()> {
    if gid == SAME {
        return Err(Errno::EINVAL);
    }
    let old = task.creds();
    let mut new = Creds::clone(&old);
    if old.has(CAP_SETGID) {
        new.gid = gid;
        new.sgid = gid;
    } else if gid != old.gid && gid != old.sgid {
        return Err(Errno::EPERM);
    }
    new.egid = gid;
    new.fsgid = gid;
    commit(task, &old, new);
    Ok(())
}

/// Whether an id may be taken: unchanged, privileged, or among those held.
fn may_take(id: u32, privileged: bool, held: &[u32]) -> Result<()> {
    if id == SAME || privileged || held.contains(&id) { Ok(()) } else { Err(Errno::EPERM) }
}

fn replace(slot: &mut u32, id: u32) {
    if id != SAME {
        *slot = id;
    }
}

/// Sets real and effective user: setreuid(2).
///
/// # Errors
/// EPERM.
pub(super) fn setreuid(task: &Task, real: u32, effective: u32) -> Result<()> {
    let old = task.creds();
    let privileged = old.has(CAP_SETUID);
    may_take(real, privileged, &[old.uid, old.euid])?;
    may_take(effective, privileged, &[old.uid, old.euid, old.suid])?;
    let mut new = Creds::clone(&old);
    replace(&mut new.uid, real);
    replace(&mut new.euid, effective);
    if real != SAME || effective != SAME && effective != old.uid {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    change_users(task, &old, new);
    Ok(())
}

/// Sets real and effective group: setregid(2).
///
/// # Errors
/// EPERM.
pub(super) fn setregid(task: &Task, real: u32, effective: u32) -> Result<()> {
    let old = task.creds();
    let privileged = old.has(CAP_SETGID);
    may_take(real, privileged, &[old.gid, old.egid])?;
    may_take(effective, privileged, &[old.gid, old.egid, old.sgid])?;
    let mut new = Creds::clone(&old);
    replace(&mut new.gid, real);
    replace(&mut new.egid, effective);
    if real != SAME || effective != SAME && effective != old.gid {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    commit(task, &old, new);
    Ok(())
}

/// Sets real, effective and saved user: setresuid(2).
///
/// # Errors
/// EPERM.
pub(super) fn setresuid(task: &Task, real: u32, effective: u32, saved: u32) -> Result<()> {
    let old = task.creds();
    let privileged = old.has(CAP_SETUID);
    let held = [old.uid, old.euid, old.suid];
    [real, effective, saved].iter().try_for_each(|id| may_take(*id, privileged, &held))?;
    let mut new = Creds::clone(&old);
    replace(&mut new.uid, real);
    replace(&mut new.euid, effective);
    replace(&mut new.suid, saved);
    new.fsuid = new.euid;
    change_users(task, &old, new);
    Ok(())
}

/// Sets real, effective and saved group: setresgid(2).
///
/// # Errors
/// EPERM.
pub(super) fn setresgid(task: &Task, real: u32, effective: u32, saved: u32) -> Result<()> {
    let old = task.creds();
    let privileged = old.has(CAP_SETGID);
    let held = [old.gid, old.egid, old.sgid];
    [real, effective, saved].iter().try_for_each(|id| may_take(*id, privileged, &held))?;
    let mut new = Creds::clone(&old);
    replace(&mut new.gid, real);
    replace(&mut new.egid, effective);
    replace(&mut new.sgid, saved);
    new.fsgid = new.egid;
    commit(task, &old, new);
    Ok(())
}

/// Sets the user for file access: setfsuid(2). Answers the old one, changed or not.
///
/// # Errors
/// None.
pub(super) fn setfsuid(task: &Task, uid: u32) -> Result<u32> {
    let old = task.creds();
    let allowed = old.has(CAP_SETUID) || [old.uid, old.euid, old.suid, old.fsuid].contains(&uid);
    if uid != SAME && allowed && uid != old.fsuid {
        let mut new = Creds::clone(&old);
        new.fsuid = uid;
        if task.settings.lock().secure_bits & NO_SETUID_FIXUP == 0 {
            if old.fsuid == 0 {
                new.effective &= !FILE_CAPABILITIES;
            } else if uid == 0 {
                new.effective |= FILE_CAPABILITIES & new.permitted;
            }
        }
        commit(task, &old, new);
    }
    Ok(old.fsuid)
}

/// Sets the group for file access: setfsgid(2).
///
/// # Errors
/// None.
pub(super) fn setfsgid(task: &Task, gid: u32) -> Result<u32> {
    let old = task.creds();
    let allowed = old.has(CAP_SETGID) || [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid);
    if gid != SAME && allowed && gid != old.fsgid {
        let mut new = Creds::clone(&old);
        new.fsgid = gid;
        commit(task, &old, new);
    }
    Ok(old.fsgid)
}

/// Supplementary groups: getgroups(2).
///
/// # Errors
/// EINVAL for too small a list, EFAULT.
pub(super) fn getgroups(task: &Task, size: i32, list: UserPtr<u32>) -> Result<usize> {
    let room = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    let creds = task.creds();
    let count = creds.groups.len();
    if room == 0 {
        return Ok(count);
    }
    if count > room {
        return Err(Errno::EINVAL);
    }
    creds.groups.iter().enumerate().try_for_each(|(i, group)| list.at(i).write(group))?;
    Ok(count)
}

/// Sets the supplementary groups: setgroups(2).
///
/// # Errors
/// EPERM, EINVAL, EFAULT.
pub(super) fn setgroups(task: &Task, size: i32, list: UserPtr<u32>) -> Result<()> {
    let old = task.creds();
    if !old.has(CAP_SETGID) {
        return Err(Errno::EPERM);
    }
    if !(0..=NGROUPS_MAX).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let mut groups = list.read_slice(usize::try_from(size).map_err(|_| Errno::EINVAL)?)?;
    if groups.contains(&SAME) {
        return Err(Errno::EINVAL);
    }
    groups.sort_unstable();
    let new = Creds { groups, ..Creds::clone(&old) };
    commit(task, &old, new);
    Ok(())
}

/// struct __user_cap_header_struct: version and thread.
pub(super) type CapHeader = [u32; 2];

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// How many words a set has in this version; an unknown one is answered with ours.
fn set_words(header: UserPtr<CapHeader>, version: u32) -> Result<u32> {
    match version {
        VERSION_1 => Ok(1),
        VERSION_2 | VERSION_3 => Ok(2),
        _ => {
            guest::write_value(header.addr(), &VERSION_3)?;
            Err(Errno::EINVAL)
        }
    }
}

/// Capability sets of a thread: capget(2).
///
/// # Errors
/// EINVAL, ESRCH, EFAULT.
pub(super) fn capget(task: &Task, header: UserPtr<CapHeader>, data: UserPtr<[u32; 3]>) -> Result<()> {
    let [version, pid] = header.read()?;
    let words = match set_words(header, version) {
        // A question for the version only.
        Err(Errno::EINVAL) if data.is_null() => return Ok(()),
        other => other?,
    };
    let pid = pid.cast_signed();
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    let creds = if pid == 0 || pid == task.tid() {
        task.creds()
    } else {
        crate::process::tree::task(pid).ok_or(Errno::ESRCH)?.creds()
    };
    if data.is_null() {
        return Ok(());
    }
    for word in 0..words {
        let half = |set: u64| u32::try_from(set >> (32 * word) & 0xffff_ffff).unwrap_or(0);
        let sets = [half(creds.effective), half(creds.permitted), half(creds.inheritable)];
        data.at(usize::try_from(word).unwrap_or(0)).write(&sets)?;
    }
    Ok(())
}

/// Sets the capability sets of the calling thread: capset(2).
///
/// # Errors
/// EPERM, EINVAL, EFAULT.
pub(super) fn capset(task: &Task, header: UserPtr<CapHeader>, data: UserPtr<[u32; 3]>) -> Result<()> {
    let [version, pid] = header.read()?;
    let words = set_words(header, version)?;
    if pid != 0 && pid.cast_signed() != task.tid() {
        return Err(Errno::EPERM);
    }
    let mut sets = [0_u64; 3];
    for word in 0..words {
        let halves = data.at(usize::try_from(word).unwrap_or(0)).read()?;
        sets.iter_mut().zip(halves).for_each(|(set, half)| *set |= u64::from(half) << (32 * word));
    }
    let [effective, permitted, inheritable] = sets.map(|set| set & ALL_CAPABILITIES);
    let old = task.creds();
    let within = |set: u64, bound: u64| set & !bound == 0;
    let inheritable_ok = (old.has(CAP_SETPCAP) || within(inheritable, old.inheritable | old.permitted))
        && within(inheritable, old.inheritable | old.bounding);
    if !inheritable_ok || !within(permitted, old.permitted) || !within(effective, permitted) {
        return Err(Errno::EPERM);
    }
    let ambient = old.ambient & permitted & inheritable;
    let new = Creds { effective, permitted, inheritable, ambient, ..Creds::clone(&old) };
    commit(task, &old, new);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{FILE_CAPABILITIES, may_take};
    use crate::Errno;

    #[test]
    fn only_held_ids_are_taken_without_privilege() {
        assert_eq!(may_take(5, false, &[1, 2]), Err(Errno::EPERM));
        assert_eq!(may_take(2, false, &[1, 2]), Ok(()));
        assert_eq!(may_take(5, true, &[]), Ok(()));
        assert_eq!(may_take(u32::MAX, false, &[]), Ok(()));
    }

    #[test]
    fn file_capabilities_are_those_of_linux() {
        assert_eq!(FILE_CAPABILITIES.count_ones(), 8);
    }
}
