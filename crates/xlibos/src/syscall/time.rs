//! Clocks and sleeps: clock_gettime(2), nanosleep(2), and getrandom(2) beside them.

use crate::wait::{WaitQueue, wait_until};
use crate::{Errno, Result, Task};
use core::sync::atomic::Ordering;
use machine::guest::{self, UserPtr};

const SECOND: u64 = 1_000_000_000;

fn clock_ns(task: &Task, clock: u32) -> Result<u64> {
    match clock {
        0 | 1 | 5 | 6 | 7 | 11 => Ok(machine::clock::read_ns(clock)),
        4 => Ok(machine::clock::read_ns(1)),
        8 | 9 => Ok(machine::clock::read_ns(if clock == 8 { 0 } else { 7 })),
        2 => {
            let ended = task.process.ended_cpu_ns.load(Ordering::Relaxed);
            machine::host::cpu_clock_ns(2).map(|ns| ns.max(ended))
        }
        3 => machine::host::cpu_clock_ns(3),
        _ => Err(Errno::EINVAL),
    }
}

fn spec(ns: u64) -> [u64; 2] {
    [ns / SECOND, ns % SECOND]
}

fn read_spec(addr: u64) -> Result<u64> {
    let [sec, nsec] = guest::read_value::<[i64; 2]>(addr)?;
    if sec < 0 || !(0..1_000_000_000).contains(&nsec) {
        return Err(Errno::EINVAL);
    }
    Ok(sec.cast_unsigned().saturating_mul(SECOND).saturating_add(nsec.cast_unsigned()))
}

pub(super) fn clock_gettime(task: &Task, clock: u32, to: UserPtr<[u64; 2]>) -> Result<()> {
    to.write(&spec(clock_ns(task, clock)?))
}

pub(super) fn clock_getres(task: &Task, clock: u32, to: UserPtr<[u64; 2]>) -> Result<()> {
    clock_ns(task, clock)?;
    let resolution = if clock == 5 || clock == 6 { 4_000_000 } else { 1 };
    to.write_optional(&[0, resolution])
}

pub(super) fn gettimeofday(_task: &Task, to: UserPtr<[u64; 2]>, zone: UserPtr<u64>) -> Result<()> {
    let ns = machine::clock::realtime_ns();
    to.write_optional(&[ns / SECOND, ns % SECOND / 1000])?;
    zone.write_optional(&0)
}

pub(super) fn time(_task: &Task, to: UserPtr<u64>) -> Result<u64> {
    let sec = machine::clock::realtime_ns() / SECOND;
    to.write_optional(&sec)?;
    Ok(sec)
}

pub(super) fn nanosleep(task: &Task, wanted: u64, left: UserPtr<[u64; 2]>) -> Result<()> {
    let length = read_spec(wanted)?;
    sleep(task, length, left)
}

/// Sleeps for a length; an interrupted sleep goes on to the same moment, or tells what is left.
fn sleep(task: &Task, length: u64, left: UserPtr<[u64; 2]>) -> Result<()> {
    let kept = task.restart_deadline.swap(0, Ordering::Relaxed);
    let deadline = if kept != 0 { kept } else { machine::clock::monotonic_ns().saturating_add(length) };
    let slept = sleep_until(deadline);
    if slept.is_err() {
        task.restart_deadline.store(deadline, Ordering::Relaxed);
        left.write_optional(&spec(deadline.saturating_sub(machine::clock::monotonic_ns())))?;
    }
    slept
}

fn sleep_until(deadline: u64) -> Result<()> {
    let queue = WaitQueue::new();
    wait_until::<()>(&[&queue], Some(deadline), || None).map(|_| ())
}

pub(super) fn clock_nanosleep(task: &Task, clock: u32, flags: u32, wanted: u64, left: UserPtr<[u64; 2]>) -> Result<()> {
    const TIMER_ABSTIME: u32 = 1;
    if !matches!(clock, 0 | 1 | 7 | 11) {
        return Err(if clock == 2 { Errno::EOPNOTSUPP } else { Errno::EINVAL });
    }
    let length = read_spec(wanted)?;
    if flags & TIMER_ABSTIME == 0 {
        return sleep(task, length, left);
    }
    let ahead = length.saturating_sub(machine::clock::read_ns(clock));
    if ahead == 0 { Ok(()) } else { sleep_until(machine::clock::monotonic_ns().saturating_add(ahead)) }
}

pub(super) fn getrandom(_task: &Task, buffer: u64, len: u64, flags: u32) -> Result<u64> {
    if flags & !7 != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let len = len.min(32 << 20);
    let mut chunk = [0; 256];
    let mut done = 0;
    while done < len {
        let step = (len - done).min(256);
        let piece = chunk.get_mut(..usize::try_from(step).unwrap_or(0)).ok_or(Errno::EFAULT)?;
        crate::random::fill(piece);
        match guest::write(buffer.wrapping_add(done), piece) {
            Ok(()) => done += step,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}
