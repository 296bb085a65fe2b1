//! Spare host processes. That of an ended guest, its memory given back, waits for the next program that wants a host
//! process of its own (posix_spawn, vfork): making one costs the host more than loading a program.
//!
//! Nothing of the old guest is left: its memory is unmapped, its rseq area and robust list were undone at its end, and
//! exec resets registers. Spares that nobody wants end after [`LIFE`].
//!
//! Locks: the pool's is a leaf; a task is given to a spare under it.

use super::task::{Start, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use machine::Cpu;
use machine::sync::Mutex;

/// Most spares.
const MOST: usize = 8;
/// How long a spare waits at most, in nanoseconds: a container at rest keeps none.
const LIFE: u64 = 500_000_000;

struct Pool {
    /// When they came, and who; the last one first is taken.
    spares: Vec<(u64, &'static Cpu)>,
    /// When the service process looks next; None while there is nothing to look for.
    next_look: Option<u64>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { spares: Vec::new(), next_look: None });

/// Whether the calling host process, whose last guest thread ends, may serve another: it has memory of its own, and
/// nothing runs in it but its first thread.
#[must_use]
pub fn may_serve_again(task: &Task) -> bool {
    let cpu = machine::cpu::current();
    let process = &task.process;
    process.pid != 1
        && !process.borrows_memory.load(Ordering::SeqCst)
        && cpu.tid() == cpu.pid()
        && !crate::quiesce::is_asked()
        && POOL.lock().spares.len() < MOST
}

/// Unmaps the ending guest's memory, before anybody is told of the end: what was mapped is free by then. False where it is
/// still used: by a vfork child that outlives its parent, by a reader of /proc.
pub fn give_memory_back(task: &Task) -> bool {
    let mm = task.process.mm();
    // The process's, and ours.
    if Arc::strong_count(&mm) > 2 {
        return false;
    }
    crate::syscall::prctl::undo_rseq(task);
    mm.unmap_all();
    true
}

/// The end of a guest: its host process waits for another program, or ends.
pub fn wait_for_program(cpu: &'static Cpu) -> ! {
    if !enter(cpu) {
        end(cpu);
    }
    loop {
        let is_waiting = {
            let pool = POOL.lock();
            pool.spares.iter().any(|(_, spare)| core::ptr::eq(*spare, cpu))
        };
        match cpu.task::<Task>() {
            Some(task) => {
                task.note_cpu_base();
                machine::process::restart()
            }
            None if is_waiting => {}
            None => end(cpu),
        }
        let _ = machine::sync::park_uninterruptible(None);
    }
}

fn end(cpu: &'static Cpu) -> ! {
    machine::cpu::release(cpu);
    machine::host::exit(0)
}

fn enter(cpu: &'static Cpu) -> bool {
    let now = machine::clock::monotonic_ns();
    let is_first_look = {
        let mut pool = POOL.lock();
        if pool.spares.len() >= MOST {
            return false;
        }
        pool.spares.push((now, cpu));
        let is_first_look = pool.next_look.is_none();
        pool.next_look.get_or_insert(now + LIFE);
        is_first_look
    };
    if is_first_look {
        crate::kernel::wake_service();
    }
    true
}

/// Gives a task's start to a spare; the start comes back where there is none.
///
/// # Errors
/// The start, unused.
pub fn hand_over(task: &Arc<Task>, start: Start) -> Result<(), Start> {
    let spare = {
        let mut pool = POOL.lock();
        let Some((_, spare)) = pool.spares.pop() else { return Err(start) };
        *task.start.lock() = Some(start);
        task.set_cpu(spare);
        spare.set_task(Arc::clone(task));
        spare
    };
    machine::hand_over::passes_on_to(spare);
    machine::sync::unpark(spare);
    Ok(())
}

/// A spare was killed from outside.
pub fn forget(cpu: &Cpu) {
    POOL.lock().spares.retain(|(_, spare)| !core::ptr::eq(*spare, cpu));
}

/// Ends all spares: the container is to stand still.
pub fn retire_all() {
    let retired = core::mem::take(&mut POOL.lock().spares);
    retired.iter().for_each(|(_, spare)| machine::sync::unpark(spare));
}

/// Ends spares that have waited long enough; when to look again, in nanoseconds of CLOCK_MONOTONIC.
pub fn retire(now: u64) -> Option<u64> {
    let (retired, next) = {
        let mut pool = POOL.lock();
        let next = pool.next_look?;
        if now < next {
            return Some(next);
        }
        let stays = pool.spares.iter().position(|(since, _)| since + LIFE > now).unwrap_or(pool.spares.len());
        let retired: Vec<_> = pool.spares.drain(..stays).collect();
        pool.next_look = pool.spares.first().map(|(since, _)| since + LIFE);
        (retired, pool.next_look)
    };
    retired.iter().for_each(|(_, spare)| machine::sync::unpark(spare));
    next
}
