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
use zerocopy::IntoBytes;

/// Largest descriptor number plus one that select(2) looks at.
const SELECT_MAX: usize = 1 << 20;

/// What makes a descriptor readable, writable or exceptional for select(2).
const SELECT_IN: Events = Events::IN.union(Events::RDNORM).union(Events::RDBAND).union(Events::HUP).union(Events::ERR);
const SELECT_OUT: Events = Events::OUT.union(Events::WRNORM).union(Events::WRBAND).union(Events::ERR);
const SELECT_EXCEPT: Events = Events::PRI;

/// What holds of a descriptor's file now; EBADF where there is none.
type Look<'a> = &'a mut dyn FnMut(Fd) -> Result<Events>;

/// Looks at files by the task's descriptors, without holding them where nobody else can close them.
fn look_at_own(task: &Task, question: &mut impl Question) -> Result<usize> {
    let poll_file = |file: &File| if file.is_place() { Err(Errno::EBADF) } else { Ok(file.poll()) };
    let own = task.with_own_files(|files| question.look(&mut |fd| files.get(fd).and_then(poll_file)));
    own.unwrap_or_else(|| look_at_held(&task.files().get_all(&question.collect()), question))
}

/// Looks at files that are held: those of the descriptors that the question collects.
fn look_at_held(files: &[Result<Arc<File>>], question: &mut impl Question) -> Result<usize> {
    let mut files = files.iter();
    question.look(&mut |_| match files.next() {
        Some(Ok(file)) if !file.is_place() => Ok(file.poll()),
        _ => Err(Errno::EBADF),
    })
}

/// Looks at all that is asked about, by whatever gives a descriptor's events: asks in the same order each time.
trait Question {
    /// How many hold.
    fn look(&mut self, poll: Look<'_>) -> Result<usize>;
    /// The descriptors that it looks at.
    fn collect(&self) -> Vec<Fd>;
}

/// Waits until something holds for any, or the deadline.
fn wait_for_any(task: &Task, question: &mut impl Question, deadline: Deadline) -> Result<usize> {
    let count = look_at_own(task, question)?;
    if count > 0 || deadline == Some(1) {
        return Ok(count);
    }
    // A descriptor may be closed meanwhile, and another file have its number: the wait is for those that were there.
    let files = task.files().get_all(&question.collect());
    let queues: Vec<&WaitQueue> = files.iter().flatten().filter_map(|file| file.ops().wait_queue()).collect();
    let look = || Some(look_at_held(&files, question)).filter(|found| *found != Ok(0));
    wait_until(&queues, deadline, look)?.unwrap_or(Ok(0))
}

/// `struct pollfd`s: descriptor, wanted events, and what is found.
struct PollFds {
    asked: Vec<u64>,
    found: Vec<u16>,
}

impl PollFds {
    fn read(at: u64, count: usize) -> Result<PollFds> {
        let mut asked = vec![0_u64; count];
        guest::read(at, asked.as_mut_bytes())?;
        Ok(PollFds { asked, found: vec![0; count] })
    }

    /// Descriptor, unless it is to be passed over, and wanted events.
    fn parts(raw: u64) -> (Option<Fd>, Events) {
        let [f0, f1, f2, f3, e0, e1, _, _] = raw.to_le_bytes();
        let fd = i32::from_le_bytes([f0, f1, f2, f3]);
        let wanted = Events::from_bits_truncate(u32::from(u16::from_le_bytes([e0, e1])));
        ((fd >= 0).then_some(Fd(fd)), wanted)
    }
}

impl Question for PollFds {
    fn look(&mut self, poll: Look<'_>) -> Result<usize> {
        let mut count = 0;
        for (raw, found) in self.asked.iter().zip(&mut self.found) {
            let (Some(fd), wanted) = PollFds::parts(*raw) else { continue };
            let events = poll(fd).map_or(Events::NVAL, |held| held & (wanted | Events::ERR | Events::HUP));
            *found = u16::try_from(events.bits()).unwrap_or(0);
            count += usize::from(*found != 0);
        }
        Ok(count)
    }

    fn collect(&self) -> Vec<Fd> {
        self.asked.iter().filter_map(|raw| PollFds::parts(*raw).0).collect()
    }
}

fn poll_with(task: &Task, at: u64, count: u64, deadline: Deadline) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    if count > task.files().limit() {
        return Err(Errno::EINVAL);
    }
    let mut asked = PollFds::read(at, count)?;
    let ready = wait_for_any(task, &mut asked, deadline)?;
    for (i, events) in (0_u64..).zip(&asked.found) {
        guest::write_value(at.wrapping_add(i * 8 + 6), events)?;
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

/// A word of each set.
type Words = [u64; 3];

/// What the sets ask, and the answers.
struct Selected {
    asked: Vec<Words>,
    found: Vec<Words>,
}

impl Selected {
    fn read(sets: Sets, count: usize) -> Result<Selected> {
        let words = count.div_ceil(64);
        let mut asked = vec![[0; 3]; words];
        let mut set = vec![0_u64; words];
        for (index, at) in sets.0.into_iter().enumerate().filter(|(_, at)| *at != 0) {
            guest::read(at, set.as_mut_bytes())?;
            asked.iter_mut().zip(&set).for_each(|(words, word)| words[index] = *word);
        }
        let beyond = count % 64;
        if let Some(last) = asked.last_mut().filter(|_| beyond != 0) {
            last.iter_mut().for_each(|word| *word &= (1 << beyond) - 1);
        }
        Ok(Selected { asked, found: vec![[0; 3]; words] })
    }

    /// Does something with each descriptor that a word names: its bit, and which.
    fn each(index: usize, words: &Words, mut act: impl FnMut(u64, Fd) -> Result<()>) -> Result<()> {
        let mut left = words.iter().fold(0, |all, word| all | word);
        while left != 0 {
            let number = index * 64 + left.trailing_zeros() as usize;
            let bit = left & left.wrapping_neg();
            left ^= bit;
            act(bit, Fd(i32::try_from(number).map_err(|_| Errno::EBADF)?))?;
        }
        Ok(())
    }
}

impl Question for Selected {
    fn look(&mut self, poll: Look<'_>) -> Result<usize> {
        let mut count = 0;
        for (index, (asked, found)) in self.asked.iter().zip(&mut self.found).enumerate() {
            *found = [0; 3];
            Selected::each(index, asked, |bit, fd| {
                let held = poll(fd)?;
                for ((asked, found), events) in asked.iter().zip(found.iter_mut()).zip(SET_EVENTS) {
                    if asked & bit != 0 && held.intersects(events) {
                        *found |= bit;
                        count += 1;
                    }
                }
                Ok(())
            })?;
        }
        Ok(count)
    }

    fn collect(&self) -> Vec<Fd> {
        let mut all = Vec::new();
        for (index, words) in self.asked.iter().enumerate() {
            // Nothing fails that only collects.
            let _ = Selected::each(index, words, |_, fd| {
                all.push(fd);
                Ok(())
            });
        }
        all
    }
}

fn select_with(task: &Task, count: i32, sets: Sets, deadline: Deadline) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(SELECT_MAX);
    let mut selected = Selected::read(sets, count)?;
    let total = wait_for_any(task, &mut selected, deadline)?;
    for (index, at) in sets.0.into_iter().enumerate().filter(|(_, at)| *at != 0) {
        let answer: Vec<u64> = selected.found.iter().map(|words| words[index]).collect();
        guest::write(at, answer.as_bytes())?;
    }
    Ok(total)
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
