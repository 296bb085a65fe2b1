//! Waiting for many files: poll(2), ppoll(2), select(2), pselect6(2).

use super::timeout::{from_millis, left_until, read_timespec, to_timespec};
use crate::fs::File;
use crate::fs::fd_table::Fd;
use crate::signal::SigSet;
use crate::wait::{Deadline, Events, WaitQueue, wait_until, with_kept_deadline};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use machine::guest::{self, UserPtr};

/// Largest descriptor number plus one that select(2) looks at.
const SELECT_MAX: usize = 1 << 20;

/// What makes a descriptor readable, writable or exceptional for select(2).
const SELECT_IN: Events = Events::IN.union(Events::RDNORM).union(Events::RDBAND).union(Events::HUP).union(Events::ERR);
const SELECT_OUT: Events = Events::OUT.union(Events::WRNORM).union(Events::WRBAND).union(Events::ERR);
const SELECT_EXCEPT: Events = Events::PRI;

/// What is asked of a descriptor; None for none.
struct Asked {
    fd: Option<Fd>,
    wanted: Events,
}

impl Asked {
    fn of(&self, file: &File) -> Events {
        file.poll() & (self.wanted | Events::ERR | Events::HUP)
    }
}

/// Looks at each; the number of those where something holds.
fn look_at_all<T>(all: &[T], found: &mut [Events], look: impl Fn(&T) -> Events) -> usize {
    let mut count = 0;
    for (one, slot) in all.iter().zip(found.iter_mut()) {
        *slot = look(one);
        count += usize::from(!slot.is_empty());
    }
    count
}

/// Waits until something holds for any, or the deadline. Files are held for that alone.
fn wait_for_any(task: &Task, asked: &[Asked], found: &mut [Events], deadline: Deadline) -> Result<usize> {
    let count = look_at_all(asked, found, |one| {
        let held = one.fd.map(|fd| task.with_file(fd, |file| Ok(one.of(file))));
        held.map_or(Events::empty(), |held| held.unwrap_or(Events::NVAL))
    });
    if count > 0 || deadline == Some(1) {
        return Ok(count);
    }
    let watched: Vec<_> = asked.iter().map(|one| (one, one.fd.map(|fd| task.file(fd)))).collect();
    let files = watched.iter().filter_map(|(_, file)| file.as_ref()?.as_ref().ok());
    let queues: Vec<&WaitQueue> = files.filter_map(|file| file.ops().wait_queue()).collect();
    let look = |(one, file): &(&Asked, Option<Result<Arc<File>>>)| match file {
        None => Events::empty(),
        Some(Err(_)) => Events::NVAL,
        Some(Ok(file)) => one.of(file),
    };
    let ready = wait_until(&queues, deadline, || match look_at_all(&watched, found, look) {
        0 => None,
        count => Some(count),
    })?;
    Ok(ready.unwrap_or(0))
}

/// A `struct pollfd`: descriptor, wanted events, events found.
fn read_pollfds(at: u64, count: usize) -> Result<Vec<Asked>> {
    let mut asked = Vec::with_capacity(count);
    for i in 0..count as u64 {
        let raw: u64 = guest::read_value(at.wrapping_add(i * 8))?;
        let [f0, f1, f2, f3, e0, e1, _, _] = raw.to_le_bytes();
        let fd = i32::from_le_bytes([f0, f1, f2, f3]);
        let wanted = Events::from_bits_truncate(u32::from(u16::from_le_bytes([e0, e1])));
        asked.push(Asked { fd: (fd >= 0).then_some(Fd(fd)), wanted });
    }
    Ok(asked)
}

fn poll_with(task: &Task, at: u64, count: u64, deadline: Deadline) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    if count > task.files().limit() {
        return Err(Errno::EINVAL);
    }
    let asked = read_pollfds(at, count)?;
    let mut found = vec![Events::empty(); count];
    let ready = wait_for_any(task, &asked, &mut found, deadline)?;
    for (i, events) in (0_u64..).zip(&found) {
        let bits = u16::try_from(events.bits()).unwrap_or(0);
        guest::write(at.wrapping_add(i * 8 + 6), &bits.to_le_bytes())?;
    }
    Ok(ready)
}

/// Waits for events on descriptors: poll(2).
///
/// # Errors
/// EINVAL for more descriptors than RLIMIT_NOFILE, EFAULT, INTERRUPTED.
pub(super) fn poll(task: &Task, fds: u64, count: u32, timeout_ms: i32) -> Result<usize> {
    with_kept_deadline(task, from_millis(timeout_ms), |deadline| poll_with(task, fds, u64::from(count), deadline))
}

/// As poll, with a mask of signals for the time of the wait: ppoll(2).
///
/// # Errors
/// As [`poll`]; EINVAL for a bad timeout or size of the mask.
pub(super) fn ppoll(
    task: &Task,
    fds: u64,
    count: u32,
    timeout: UserPtr<[i64; 2]>,
    mask: UserPtr<u64>,
    mask_size: usize,
) -> Result<usize> {
    let timeout_ns = read_timespec(timeout)?;
    let mask = read_mask(mask, mask_size)?;
    with_kept_deadline(task, timeout_ns, |deadline| {
        let result = crate::signal::with_mask(task, mask, || poll_with(task, fds, u64::from(count), deadline));
        write_left(timeout, deadline);
        result
    })
}

/// Reads the mask of a call that waits; None for NULL.
///
/// # Errors
/// EINVAL for a size other than 8, EFAULT.
pub(super) fn read_mask(mask: UserPtr<u64>, size: usize) -> Result<Option<SigSet>> {
    let Some(mask) = mask.non_null() else {
        return Ok(None);
    };
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    Ok(Some(SigSet(mask.read()?)))
}

/// Writes the time left, as Linux's ppoll and pselect6 do; a read-only timeout is no error.
fn write_left(timeout: UserPtr<[i64; 2]>, deadline: Deadline) {
    if let (Some(at), Some(left)) = (timeout.non_null(), left_until(deadline)) {
        let _ = at.write(&to_timespec(left));
    }
}

/// The three sets of select(2), as addresses.
#[derive(Clone, Copy)]
struct Sets([u64; 3]);

/// What each set asks for.
const SET_EVENTS: [Events; 3] = [SELECT_IN, SELECT_OUT, SELECT_EXCEPT];

fn read_sets(sets: Sets, words: usize) -> Result<[Vec<u64>; 3]> {
    let mut out = [Vec::new(), Vec::new(), Vec::new()];
    for (at, bits) in sets.0.into_iter().zip(out.iter_mut()) {
        *bits = if at == 0 { vec![0; words] } else { UserPtr::<u64>::new(at).read_slice(words)? };
    }
    Ok(out)
}

/// The descriptors that the sets name, in order, with what is wanted of each.
fn named(bits: &[Vec<u64>; 3], count: usize) -> Result<(Vec<usize>, Vec<Asked>)> {
    let (mut numbers, mut asked) = (Vec::new(), Vec::new());
    for number in 0..count {
        let is_in = |set: &Vec<u64>| set.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1);
        let wanted = bits.iter().zip(SET_EVENTS).filter(|(set, _)| is_in(set)).map(|(_, events)| events);
        let wanted = wanted.fold(Events::empty(), Events::union);
        if !wanted.is_empty() {
            numbers.push(number);
            asked.push(Asked { fd: Some(Fd(i32::try_from(number).map_err(|_| Errno::EBADF)?)), wanted });
        }
    }
    Ok((numbers, asked))
}

fn select_with(task: &Task, count: i32, sets: Sets, deadline: Deadline) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(SELECT_MAX);
    let words = count.div_ceil(64);
    let bits = read_sets(sets, words)?;
    let (numbers, asked) = named(&bits, count)?;
    let mut found = vec![Events::empty(); asked.len()];
    wait_for_any(task, &asked, &mut found, deadline)?;
    if found.iter().any(|events| events.contains(Events::NVAL)) {
        return Err(Errno::EBADF);
    }
    let mut total = 0;
    for ((at, asked), events) in sets.0.into_iter().zip(&bits).zip(SET_EVENTS) {
        let mut answer = vec![0_u64; words];
        for (&number, held) in numbers.iter().zip(&found) {
            let bit = 1 << (number % 64);
            let is_asked = asked.get(number / 64).is_some_and(|word| word & bit != 0);
            if let (true, Some(word)) = (is_asked && held.intersects(events), answer.get_mut(number / 64)) {
                *word |= bit;
                total += 1;
            }
        }
        write_set(at, &answer)?;
    }
    Ok(total)
}

fn write_set(at: u64, words: &[u64]) -> Result<()> {
    if at == 0 {
        return Ok(());
    }
    (0..).zip(words).try_for_each(|(i, word)| UserPtr::<u64>::new(at).at(i).write(word))
}

/// Waits for descriptors to be ready: select(2).
///
/// # Errors
/// EBADF, EINVAL for a negative count or timeout, EFAULT, INTERRUPTED.
pub(super) fn select(
    task: &Task,
    count: i32,
    readable: u64,
    writable: u64,
    except: u64,
    timeout: UserPtr<[i64; 2]>,
) -> Result<usize> {
    let timeout_ns = match timeout.non_null() {
        None => None,
        Some(at) => Some(timeval_ns(at.read()?)?),
    };
    with_kept_deadline(task, timeout_ns, |deadline| {
        let result = select_with(task, count, Sets([readable, writable, except]), deadline);
        if let (Some(at), Some(left)) = (timeout.non_null(), left_until(deadline)) {
            let [sec, nsec] = to_timespec(left);
            let _ = at.write(&[sec, nsec / 1000]);
        }
        result
    })
}

/// A timeval as nanoseconds; microseconds beyond a second carry over, as Linux has it.
fn timeval_ns([sec, usec]: [i64; 2]) -> Result<u64> {
    let (Ok(sec), Ok(usec)) = (u64::try_from(sec), u64::try_from(usec)) else {
        return Err(Errno::EINVAL);
    };
    Ok(sec.saturating_mul(1_000_000_000).saturating_add(usec.saturating_mul(1000)))
}

/// As select, with a timespec and a mask of signals for the time of the wait: pselect6(2).
///
/// # Errors
/// As [`select`].
pub(super) fn pselect6(
    task: &Task,
    count: i32,
    readable: u64,
    writable: u64,
    except: u64,
    timeout: UserPtr<[i64; 2]>,
    mask: UserPtr<[u64; 2]>,
) -> Result<usize> {
    let timeout_ns = read_timespec(timeout)?;
    let mask = match mask.non_null() {
        None => None,
        Some(at) => {
            let [address, size] = at.read()?;
            read_mask(UserPtr::new(address), usize::try_from(size).unwrap_or(0))?
        }
    };
    with_kept_deadline(task, timeout_ns, |deadline| {
        let sets = Sets([readable, writable, except]);
        let result = crate::signal::with_mask(task, mask, || select_with(task, count, sets, deadline));
        write_left(timeout, deadline);
        result
    })
}
