//! Scheduling: sched(7), nice and I/O priorities. The host schedules all threads alike within their masks, which it
//! is told; policies and priorities are kept, checked and inherited as Linux does.

use crate::process::creds::{CAP_SYS_NICE, Creds};
use crate::process::scheduled::Scheduled;
use crate::process::settings::Settings;
use crate::process::yields::Yields;
use crate::process::{Pid, Task, tree};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use machine::guest::{self, UserPtr};
use machine::host::{MASK_WORDS, has_processor};

const OTHER: u32 = 0;
const FIFO: u32 = 1;
const RR: u32 = 2;
const BATCH: u32 = 3;
const IDLE: u32 = 5;
const DEADLINE: u32 = 6;
const RESET_ON_FORK: u32 = 0x4000_0000;
/// RLIMIT_NICE and RLIMIT_RTPRIO.
const LIMIT_NICE: usize = 13;
const LIMIT_RTPRIO: usize = 14;

/// Lets others run: sched_yield(2), see [`crate::process::yields`].
pub(super) fn sched_yield(task: &Task) -> Result<()> {
    let now = machine::clock::monotonic_ns();
    if task.yields.note(now) {
        let identity = task.cpu().identity();
        Yields::sleeps(identity);
        // As short as can be: until now. A notification or an interrupt ends it early, and is looked at on the way out.
        let _ = machine::sync::park(Some(now));
        task.yields.slept(identity, machine::clock::monotonic_ns());
    }
    Ok(())
}

/// How many processors the container may use.
pub(crate) fn processors() -> usize {
    let cpus = crate::kernel::config().map_or(1, |config| config.cpus);
    usize::try_from(cpus).unwrap_or(1).clamp(1, MASK_WORDS * 64)
}

/// The mask of all processors.
pub(crate) fn all_processors() -> [u64; MASK_WORDS] {
    let mut mask = [0; MASK_WORDS];
    let mut left = processors();
    for word in &mut mask {
        let bits = left.min(64);
        *word = if bits == 0 { 0 } else { u64::MAX >> (64 - bits) };
        left -= bits;
    }
    mask
}

/// A mask of processors as ranges: `0-2,4`.
pub(crate) fn ranges(mask: &[u64]) -> String {
    let bits = u32::try_from(mask.len() * 64).unwrap_or(0);
    let has = |n: u32| has_processor(mask, n);
    let mut ranges: Vec<String> = Vec::new();
    let mut next = 0;
    while let Some(start) = (next..bits).find(|n| has(*n)) {
        let end = (start..bits).find(|n| !has(*n)).unwrap_or(bits);
        ranges.push(if end - start == 1 { format!("{start}") } else { format!("{start}-{}", end - 1) });
        next = end;
    }
    ranges.join(",")
}

/// A mask of processors as words of eight digits, the highest first.
pub(crate) fn hexadecimal(mask: &[u64]) -> String {
    let halves = mask.iter().flat_map(|word| [word & 0xffff_ffff, word >> 32]);
    let mut words: Vec<String> = halves.map(|half| format!("{half:08x}")).collect();
    while words.len() > 1 && words.last().is_some_and(|word| word == "00000000") {
        words.pop();
    }
    words.reverse();
    words.join(",")
}

/// The processors that a thread may use.
#[must_use]
pub fn mask_of(task: &Task) -> [u64; MASK_WORDS] {
    mask_in(&mut task.settings.lock())
}

fn mask_in(settings: &mut Settings) -> [u64; MASK_WORDS] {
    settings.affinity.as_ref().map_or_else(all_processors, |mask| **mask)
}

/// The host's processor as one of those that the thread may use.
pub(super) fn processor_of(task: &Task, host: u32) -> u32 {
    within(&mask_of(task), from_host(host, &machine::host::processors()))
}

/// The container numbers the processors that it was given from 0 on: the number of one of the host's.
fn from_host(host: u32, given: &[u64; MASK_WORDS]) -> u32 {
    let below = |(n, word): (u32, &u64)| match host.saturating_sub(n * 64) {
        bits @ 0..64 => (word & ((1 << bits) - 1)).count_ones(),
        _ => word.count_ones(),
    };
    (0..).zip(given).map(below).sum()
}

/// A mask of the container's numbers as one of the host's.
fn to_host(mask: &[u64; MASK_WORDS], given: &[u64; MASK_WORDS]) -> [u64; MASK_WORDS] {
    let mut host = [0; MASK_WORDS];
    for (number, n) in (0..).zip((0..MASK_WORDS as u32 * 64).filter(|n| has_processor(given, *n))) {
        if let Some(word) = host.get_mut(n as usize / 64).filter(|_| has_processor(mask, number)) {
            *word |= 1 << (n % 64);
        }
    }
    host
}

/// Tells the host where a task's thread may run, which it does not know yet.
///
/// # Errors
/// EINVAL where the host has taken all these processors away.
pub fn apply_mask(task: &Task) -> Result<()> {
    let mask = task.settings.lock().affinity.as_ref().map(|mask| to_host(mask, &machine::host::processors()));
    match machine::hand_over::confine(task.cpu(), mask.as_ref()) {
        // It has just ended.
        Err(Errno::ESRCH) => Ok(()),
        done => done,
    }
}

fn within(mask: &[u64; MASK_WORDS], host: u32) -> u32 {
    if has_processor(mask, host) {
        return host;
    }
    let count = mask.iter().map(|word| word.count_ones()).sum::<u32>().max(1);
    (0..MASK_WORDS as u32 * 64).filter(|n| has_processor(mask, *n)).nth(host as usize % count as usize).unwrap_or(0)
}

/// Runs `then` on the thread that is meant; 0 is the caller.
fn with_task<T>(task: &Task, tid: Pid, then: impl FnOnce(&Scheduled<'_>) -> Result<T>) -> Result<T> {
    if tid == 0 || tid == task.tid() {
        return then(&Scheduled::Thread(task));
    }
    match tree::task(tid) {
        Some(other) => then(&Scheduled::Thread(&other)),
        None => then(&Scheduled::Ended(&*tree::threadless(tid).ok_or(Errno::ESRCH)?)),
    }
}

/// Whether the caller may change another's scheduling.
fn check_owner(task: &Task, other: &Scheduled<'_>) -> Result<()> {
    let (ours, theirs) = (task.creds(), other.creds()?);
    let same = ours.euid == theirs.uid || ours.euid == theirs.euid;
    if same || ours.has(CAP_SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Processors that a thread may use: sched_getaffinity(2). Answers how many bytes the mask has.
///
/// # Errors
/// EINVAL for too small a mask, ESRCH, EFAULT.
pub(super) fn sched_getaffinity(task: &Task, tid: Pid, len: u32, mask: u64) -> Result<u64> {
    let bytes = u64::try_from(processors().div_ceil(64) * 8).unwrap_or(8);
    if u64::from(len) * 8 < processors() as u64 || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let words = with_task(task, tid, |other| other.with_settings(mask_in))?;
    let step = bytes.min(u64::from(len));
    let flat: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let part = usize::try_from(step).ok().and_then(|n| flat.get(..n)).ok_or(Errno::EINVAL)?;
    guest::write(mask, part)?;
    Ok(step)
}

/// Sets the processors that a thread may use: sched_setaffinity(2).
///
/// # Errors
/// EINVAL where no processor is left, ESRCH, EPERM, EFAULT.
pub(super) fn sched_setaffinity(task: &Task, tid: Pid, len: u32, mask: u64) -> Result<()> {
    let mut bytes = [0_u8; MASK_WORDS * 8];
    let len = usize::try_from(len).unwrap_or(bytes.len()).min(bytes.len());
    guest::read(mask, bytes.get_mut(..len).unwrap_or(&mut []))?;
    let mut words = all_processors();
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut raw = [0; 8];
        raw.copy_from_slice(chunk);
        *word &= u64::from_le_bytes(raw);
    }
    with_task(task, tid, |other| {
        check_owner(task, other)?;
        if words == [0; MASK_WORDS] {
            return Err(Errno::EINVAL);
        }
        let is_all = words == all_processors();
        let mask = if is_all { None } else { Some(Box::new(words)) };
        let before = other.with_settings(|settings| core::mem::replace(&mut settings.affinity, mask))?;
        let Scheduled::Thread(other) = other else { return Ok(()) };
        apply_mask(other).inspect_err(|_| other.settings.lock().affinity = before)
    })
}

/// Whether a priority fits a policy.
fn check_priority(policy: u32, priority: i32) -> Result<u32> {
    let allowed = match policy {
        FIFO | RR => 1..=99,
        OTHER | BATCH | IDLE => 0..=0,
        _ => return Err(Errno::EINVAL),
    };
    if !allowed.contains(&priority) {
        return Err(Errno::EINVAL);
    }
    u32::try_from(priority).map_err(|_| Errno::EINVAL)
}

/// Whether the caller may give that policy.
fn check_policy(task: &Task, other: &Scheduled<'_>, policy: u32, priority: u32) -> Result<()> {
    let ours = task.creds();
    if ours.has(CAP_SYS_NICE) {
        return Ok(());
    }
    let now = other.with_settings(|settings| (settings.policy, settings.priority))?;
    let limit = other.process().limits.get(LIMIT_RTPRIO).map_or(0, |limit| limit.current);
    let real_time = policy == FIFO || policy == RR;
    let changes_policy = real_time && policy != now.0 && limit == 0;
    let raises = real_time && priority > now.1 && u64::from(priority) > limit;
    if changes_policy || raises { Err(Errno::EPERM) } else { check_owner(task, other) }
}

/// Sets policy and priority: sched_setscheduler(2).
///
/// # Errors
/// EINVAL, EPERM, ESRCH, EFAULT.
pub(super) fn sched_setscheduler(task: &Task, tid: Pid, policy: i32, param: UserPtr<i32>) -> Result<()> {
    let policy = u32::try_from(policy).map_err(|_| Errno::EINVAL)?;
    if tid < 0 || param.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = param.read()?;
    set_policy(task, tid, Some(policy), priority)
}

/// Sets the priority within the policy: sched_setparam(2).
///
/// # Errors
/// As [`sched_setscheduler`].
pub(super) fn sched_setparam(task: &Task, tid: Pid, param: UserPtr<i32>) -> Result<()> {
    if tid < 0 || param.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = param.read()?;
    set_policy(task, tid, None, priority)
}

fn set_policy(task: &Task, tid: Pid, policy: Option<u32>, priority: i32) -> Result<()> {
    with_task(task, tid, |other| {
        let (old, resets) = other.with_settings(|settings| (settings.policy, settings.resets_on_fork))?;
        let resets = policy.map_or(resets, |policy| policy & RESET_ON_FORK != 0);
        let policy = policy.map_or(old, |policy| policy & !RESET_ON_FORK);
        let priority = check_priority(policy, priority)?;
        check_policy(task, other, policy, priority)?;
        other.with_settings(|settings| {
            settings.policy = policy;
            settings.priority = priority;
            settings.resets_on_fork = resets;
        })
    })
}

/// The policy: sched_getscheduler(2).
///
/// # Errors
/// EINVAL, ESRCH.
pub(super) fn sched_getscheduler(task: &Task, tid: Pid) -> Result<u32> {
    if tid < 0 {
        return Err(Errno::EINVAL);
    }
    let flag = |settings: &Settings| if settings.resets_on_fork { RESET_ON_FORK } else { 0 };
    with_task(task, tid, |other| other.with_settings(|settings| settings.policy | flag(settings)))
}

/// The priority within the policy: sched_getparam(2).
///
/// # Errors
/// EINVAL, ESRCH, EFAULT.
pub(super) fn sched_getparam(task: &Task, tid: Pid, param: UserPtr<u32>) -> Result<()> {
    if tid < 0 || param.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = with_task(task, tid, |other| other.with_settings(|settings| settings.priority))?;
    param.write(&priority)
}

/// Highest priority of a policy: sched_get_priority_max(2).
///
/// # Errors
/// EINVAL.
pub(super) fn sched_get_priority_max(_task: &Task, policy: u32) -> Result<u32> {
    priority_bound(policy, 99)
}

/// Lowest priority of a policy: sched_get_priority_min(2).
///
/// # Errors
/// EINVAL.
pub(super) fn sched_get_priority_min(_task: &Task, policy: u32) -> Result<u32> {
    priority_bound(policy, 1)
}

fn priority_bound(policy: u32, real_time: u32) -> Result<u32> {
    match policy {
        FIFO | RR => Ok(real_time),
        OTHER | BATCH | IDLE | DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// The time slice of a thread: sched_rr_get_interval(2).
///
/// # Errors
/// EINVAL, ESRCH, EFAULT.
pub(super) fn sched_rr_get_interval(task: &Task, tid: Pid, to: UserPtr<[u64; 2]>) -> Result<()> {
    if tid < 0 {
        return Err(Errno::EINVAL);
    }
    let slice_ns = match with_task(task, tid, |other| other.with_settings(|settings| settings.policy))? {
        FIFO => 0,
        RR => 100_000_000,
        _ => 3_000_000,
    };
    to.write(&[0, slice_ns])
}

/// Words of struct sched_attr: size and policy, flags, nice and priority, runtime, deadline, period.
const ATTR_WORDS: usize = 6;
const ATTR_SIZE: u32 = 48;

fn pack(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn unpack(word: u64) -> (u32, u32) {
    let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0);
    (half(word), half(word >> 32))
}

/// Policy with all its parameters: sched_getattr(2).
///
/// # Errors
/// EINVAL, ESRCH, EFAULT.
pub(super) fn sched_getattr(task: &Task, tid: Pid, to: u64, size: u32, flags: u32) -> Result<()> {
    if tid < 0 || to == 0 || flags != 0 || !(ATTR_SIZE..=4096).contains(&size) {
        return Err(Errno::EINVAL);
    }
    guest::write_value(to, &with_task(task, tid, |other| other.with_settings(attributes))?)
}

fn attributes(settings: &mut Settings) -> [u64; ATTR_WORDS] {
    let nice = if matches!(settings.policy, FIFO | RR) { 0 } else { settings.nice.cast_unsigned() };
    [pack(ATTR_SIZE, settings.policy), u64::from(settings.resets_on_fork), pack(nice, settings.priority), 0, 0, 0]
}

/// Whether something is set behind the part of struct sched_attr that is known: the words above, and two for clamps.
fn has_more(from: u64, size: u32) -> Result<bool> {
    const KNOWN: u32 = ATTR_SIZE + 8;
    let mut bytes = alloc::vec![0; usize::try_from(size.saturating_sub(KNOWN)).unwrap_or(0)];
    guest::read(from.wrapping_add(KNOWN.into()), &mut bytes)?;
    Ok(bytes.iter().any(|byte| *byte != 0))
}

/// Sets the policy with all its parameters: sched_setattr(2).
///
/// # Errors
/// EINVAL, E2BIG, EPERM, ESRCH, EFAULT.
pub(super) fn sched_setattr(task: &Task, tid: Pid, from: u64, flags: u32) -> Result<()> {
    const KEEP_POLICY: u64 = 8;
    const KEEP_PARAMETERS: u64 = 16;
    if tid < 0 || from == 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let size: u32 = guest::read_value(from)?;
    if size != 0 && (!(ATTR_SIZE..=4096).contains(&size) || has_more(from, size)?) {
        guest::write_value(from, &ATTR_SIZE)?;
        return Err(Errno::E2BIG);
    }
    let words: [u64; ATTR_WORDS] = guest::read_value(from)?;
    let (policy, (nice, priority)) = (unpack(words[0]).1, unpack(words[2]));
    if words[1] & !0x7f != 0 || policy > DEADLINE {
        return Err(Errno::EINVAL);
    }
    if policy == DEADLINE {
        return Err(Errno::EPERM);
    }
    with_task(task, tid, |other| {
        let (old_policy, old_priority) = other.with_settings(|settings| (settings.policy, settings.priority))?;
        let policy = if words[1] & KEEP_POLICY != 0 { old_policy } else { policy };
        let keeps = words[1] & KEEP_PARAMETERS != 0;
        let priority = if keeps { old_priority } else { priority };
        let priority = check_priority(policy, i32::try_from(priority).map_err(|_| Errno::EINVAL)?)?;
        check_policy(task, other, policy, priority)?;
        let nice = nice.cast_signed().clamp(-20, 19);
        if !keeps && matches!(policy, OTHER | BATCH) {
            set_nice(task, other, nice)?;
        }
        other.with_settings(|settings| {
            settings.policy = policy;
            settings.priority = priority;
            settings.resets_on_fork = words[1] & 1 != 0;
        })
    })
}

/// Whom getpriority, setpriority and the I/O priorities mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Thread,
    Group,
    User,
}

/// Calls `each` for the threads that are meant, until it breaks.
///
/// # Errors
/// ESRCH for nobody; what `each` broke with.
fn for_each(
    task: &Task,
    whose: Whose,
    who: i32,
    mut each: impl FnMut(&Scheduled<'_>) -> ControlFlow<Errno>,
) -> Result<()> {
    let mut call = |other: &Scheduled<'_>| match each(other) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(errno) => Err(errno),
    };
    if whose == Whose::Thread {
        return with_task(task, who, call);
    }
    let processes = if whose == Whose::Group {
        tree::collect_group(if who == 0 { task.process.links_of_other().0 } else { who })
    } else {
        tree::collect_processes()
    };
    let uid = if who == 0 { task.creds().uid } else { who.cast_unsigned() };
    let is_meant = |other: &Scheduled<'_>| whose == Whose::Group || other.creds().is_ok_and(|creds| creds.uid == uid);
    let mut any = false;
    for process in &processes {
        let tasks = process.tasks();
        let rest = if tasks.is_empty() { Some(Scheduled::Ended(process)) } else { None };
        for other in tasks.iter().map(|task| Scheduled::Thread(task)).chain(rest).filter(is_meant) {
            any = true;
            call(&other)?;
        }
    }
    if any { Ok(()) } else { Err(Errno::ESRCH) }
}

fn whose(which: u32) -> Result<Whose> {
    match which {
        0 => Ok(Whose::Thread),
        1 => Ok(Whose::Group),
        2 => Ok(Whose::User),
        _ => Err(Errno::EINVAL),
    }
}

/// Highest nice priority of the threads that are meant: getpriority(2); the kernel answers 20 - nice.
///
/// # Errors
/// EINVAL, ESRCH.
pub(super) fn getpriority(task: &Task, which: u32, who: i32) -> Result<i32> {
    let mut best = i32::MIN;
    for_each(task, whose(which)?, who, |other| {
        best = best.max(other.with_settings(|settings| 20 - settings.nice).unwrap_or(i32::MIN));
        ControlFlow::Continue(())
    })?;
    Ok(best)
}

/// Sets the nice value of threads: setpriority(2).
///
/// # Errors
/// EINVAL, ESRCH, EPERM, EACCES.
pub(super) fn setpriority(task: &Task, which: u32, who: i32, nice: i32) -> Result<()> {
    let nice = nice.clamp(-20, 19);
    let mut refused = None;
    for_each(task, whose(which)?, who, |other| {
        if let Err(errno) = check_owner(task, other).and_then(|()| set_nice(task, other, nice)) {
            refused = Some(errno);
        }
        ControlFlow::Continue(())
    })?;
    refused.map_or(Ok(()), Err)
}

fn set_nice(task: &Task, other: &Scheduled<'_>, nice: i32) -> Result<()> {
    let ours = task.creds();
    let limit = other.process().limits.get(LIMIT_NICE).map_or(0, |limit| limit.current);
    other.with_settings(|settings| {
        if nice < settings.nice && !may_raise(&ours, nice, limit) {
            return Err(Errno::EACCES);
        }
        settings.nice = nice;
        Ok(())
    })?
}

/// RLIMIT_NICE allows down to 20 - limit.
fn may_raise(ours: &Creds, nice: i32, limit: u64) -> bool {
    ours.has(CAP_SYS_NICE) || u64::try_from(20 - nice).is_ok_and(|wanted| wanted <= limit)
}

/// I/O priority: ioprio_get(2). The highest of those meant; 0 where none was set.
///
/// # Errors
/// EINVAL, ESRCH.
pub(super) fn ioprio_get(task: &Task, which: u32, who: i32) -> Result<u32> {
    let mut best: Option<u32> = None;
    for_each(task, io_whose(which)?, who, |other| {
        // With the last thread its context of transfers has gone.
        let value = if let Scheduled::Thread(other) = other { other.settings.lock().io_priority } else { 0 };
        best = Some(best.map_or(value, |old| old.min(value)));
        ControlFlow::Continue(())
    })?;
    Ok(best.unwrap_or(0))
}

fn io_whose(which: u32) -> Result<Whose> {
    whose(which.wrapping_sub(1))
}

/// Sets the I/O priority: ioprio_set(2).
///
/// # Errors
/// EINVAL, EPERM, ESRCH.
pub(super) fn ioprio_set(task: &Task, which: u32, who: i32, priority: u32) -> Result<()> {
    let (class, level) = (priority >> 13 & 7, priority & 7);
    match class {
        0 if level != 0 => return Err(Errno::EINVAL),
        1 if !task.creds().has(CAP_SYS_NICE) => return Err(Errno::EPERM),
        0..=3 => {}
        _ => return Err(Errno::EINVAL),
    }
    for_each(task, io_whose(which)?, who, |other| match check_owner(task, other) {
        Ok(()) => {
            if let Scheduled::Thread(other) = other {
                other.settings.lock().io_priority = priority & 0xffff;
            }
            ControlFlow::Continue(())
        }
        Err(errno) => ControlFlow::Break(errno),
    })
}

#[cfg(test)]
mod tests {
    use super::{MASK_WORDS, all_processors, check_priority, from_host, hexadecimal, ranges, to_host, within};
    use crate::Errno;

    #[test]
    fn priorities_belong_to_policies() {
        assert_eq!(check_priority(1, 0), Err(Errno::EINVAL));
        assert_eq!(check_priority(2, 99), Ok(99));
        assert_eq!(check_priority(0, 0), Ok(0));
        assert_eq!(check_priority(4, 0), Err(Errno::EINVAL));
    }

    #[test]
    fn a_processor_outside_of_the_mask_stands_for_one_inside() {
        let mut mask = [0; MASK_WORDS];
        mask[1] = 0b110;
        assert_eq!([65, 66, 0, 1].map(|host| within(&mask, host)), [65, 66, 65, 66]);
    }

    #[test]
    fn the_container_numbers_from_0_what_it_was_given() {
        let mask = |first: u64, second: u64| core::array::from_fn(|at| [first, second].get(at).copied().unwrap_or(0));
        let given = mask(0b1010, 0b1);
        assert_eq!([1, 3, 64].map(|host| from_host(host, &given)), [0, 1, 2]);
        assert_eq!(to_host(&mask(0b111, 0), &given), given);
        assert_eq!(to_host(&mask(0b101, 0), &given), mask(0b0010, 0b1));
        assert_eq!(to_host(&mask(0b1000, 0), &given), [0; MASK_WORDS]);
    }

    #[test]
    fn the_mask_has_a_bit_for_each_processor() {
        assert_eq!(all_processors()[0], 1);
    }

    #[test]
    fn masks_are_words_and_ranges() {
        assert_eq!((hexadecimal(&[0b111, 0]).as_str(), ranges(&[0b111, 0]).as_str()), ("00000007", "0-2"));
        let mask = [1 << 63 | 0b101, 1];
        assert_eq!(hexadecimal(&mask), "00000001,80000000,00000005");
        assert_eq!(ranges(&mask), "0,2,63-64");
    }
}
