//! Memory of another process. The host lets none into another's, so one of its own threads copies, on its way out of the
//! LibOS: the visitor posts what it wants, interrupts the threads, and sleeps until one has answered.

use super::{Process, Task};
use crate::wait::{Events, WaitQueue, wait_until};
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use machine::guest;
use machine::sync::Mutex;

/// Bytes of one visit.
const MOST: usize = 64 * 1024;
/// A process that the host has stopped, or that waits for a file of the host, may not answer: so often it is asked.
const ROUNDS: u32 = 20;
/// Between two times; a thread that changes its mask for a sleep may overlook one.
const ROUND_NS: u64 = 50_000_000;

/// What is wanted, then what came of it.
enum Work {
    Read(usize),
    Write(Vec<u8>),
    /// As a write, whatever the protection: see [`crate::mm::Mm::poke`].
    Poke(Vec<u8>),
    /// Bytes that were read, or written and left.
    Done(Result<Vec<u8>>),
    Taken,
}

/// One request of a visitor.
struct Visit {
    address: u64,
    work: Mutex<Work>,
    done: WaitQueue,
}

/// Visits that wait for one of a process's threads.
#[derive(Default)]
pub struct Visits {
    count: AtomicUsize,
    waiting: Mutex<VecDeque<Weak<Visit>>>,
}

impl core::fmt::Debug for Visits {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Visits({})", self.count.load(Ordering::Relaxed))
    }
}

impl Visits {
    fn post(&self, visit: &Arc<Visit>) {
        self.waiting.lock().push_back(Arc::downgrade(visit));
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// A visitor that went away meanwhile is passed over.
    fn next(&self) -> Option<Arc<Visit>> {
        while self.count.load(Ordering::SeqCst) > 0 {
            let visit = self.waiting.lock().pop_front()?;
            self.count.fetch_sub(1, Ordering::SeqCst);
            if let Some(visit) = visit.upgrade() {
                return Some(visit);
            }
        }
        None
    }
}

impl Visit {
    /// Runs in the process whose memory is wanted.
    fn answer(&self, task: &Task) {
        let work = core::mem::replace(&mut *self.work.lock(), Work::Taken);
        let done = match work {
            Work::Read(len) => {
                let mut bytes = vec![0; len];
                guest::read_some(self.address, &mut bytes).map(|count| {
                    bytes.truncate(count);
                    bytes
                })
            }
            Work::Write(mut bytes) => guest::write_some(self.address, &bytes).map(|count| {
                bytes.truncate(count);
                bytes
            }),
            Work::Poke(mut bytes) => poke(task, self.address, &bytes).map(|count| {
                bytes.truncate(count);
                bytes
            }),
            Work::Done(_) | Work::Taken => return,
        };
        *self.work.lock() = Work::Done(done);
        self.done.wake(Events::all());
    }

    fn take_result(&self) -> Option<Result<Vec<u8>>> {
        let mut work = self.work.lock();
        if !matches!(*work, Work::Done(_)) {
            return None;
        }
        match core::mem::replace(&mut *work, Work::Taken) {
            Work::Done(done) => Some(done),
            _ => None,
        }
    }
}

/// Answers those who visit the calling thread's process.
pub fn serve(task: &Task) {
    while let Some(visit) = task.process.visits.next() {
        visit.answer(task);
    }
}

/// # Errors
/// ESRCH where the process has ended, EIO where it does not answer, EFAULT; INTERRUPTED.
fn make(process: &Arc<Process>, address: u64, work: Work) -> Result<Vec<u8>> {
    if machine::cpu::current().is_attempt() {
        return Err(Errno::INTERRUPTED);
    }
    let visit = Arc::new(Visit { address, work: Mutex::new(work), done: WaitQueue::new() });
    process.visits.post(&visit);
    let over = || process.thread_count() == 0;
    let answer = || visit.take_result().or_else(|| over().then_some(Err(Errno::ESRCH)));
    for _ in 0..ROUNDS {
        process.tasks().iter().for_each(|task| task.cpu().kick());
        let end = machine::clock::monotonic_ns().saturating_add(ROUND_NS);
        if let Some(done) = wait_until(&[&visit.done, &process.events], Some(end), answer)? {
            return done;
        }
    }
    Err(Errno::EIO)
}

/// Reads a process's memory up to the first byte that is not there; returns how much.
///
/// # Errors
/// EFAULT where the first is not, ESRCH, EIO; INTERRUPTED.
pub fn read(process: &Arc<Process>, address: u64, buffer: &mut [u8]) -> Result<usize> {
    if is_own(process) {
        return guest::read_some(address, buffer);
    }
    let bytes = make(process, address, Work::Read(buffer.len().min(MOST)))?;
    buffer.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
    Ok(bytes.len())
}

/// Writes a process's memory up to the first byte that is not there; returns how much.
///
/// # Errors
/// As [`read`].
pub fn write(process: &Arc<Process>, address: u64, bytes: &[u8]) -> Result<usize> {
    if is_own(process) {
        return guest::write_some(address, bytes);
    }
    let part = bytes.get(..bytes.len().min(MOST)).unwrap_or(bytes);
    make(process, address, Work::Write(part.to_vec())).map(|bytes| bytes.len())
}

/// Writes a process's memory as a tracer does (ptrace(2), /proc/PID/mem): read-only pages of its own too.
///
/// # Errors
/// As [`read`].
pub fn write_forced(process: &Arc<Process>, address: u64, bytes: &[u8]) -> Result<usize> {
    let part = bytes.get(..bytes.len().min(MOST)).unwrap_or(bytes);
    match Task::current().filter(|_| is_own(process)) {
        Some(task) => poke(task, address, part),
        None => make(process, address, Work::Poke(part.to_vec())).map(|bytes| bytes.len()),
    }
}

/// Text may not be executed while it is written: the process's other threads stand, where they can.
fn poke(task: &Task, address: u64, bytes: &[u8]) -> Result<usize> {
    if let Ok(count) = guest::write_some(address, bytes) {
        return Ok(count);
    }
    let mm = task.mm();
    super::standstill::alone(task, || mm.poke(address, bytes)).unwrap_or_else(|| mm.poke(address, bytes))
}

fn is_own(process: &Arc<Process>) -> bool {
    Task::current().is_some_and(|task| Arc::ptr_eq(&task.process, process))
}
