//! Spare host processes and threads: making one costs the host more than what a guest does in it. The host process of an ended
//! guest, its memory given back, waits for the next program that wants a host process of its own (posix_spawn, vfork); the host
//! thread of an ended thread waits for the next one of its process, and the host process that a vfork child borrowed memory in for the
//! next child of its parent.
//!
//! A spare host process keeps what its last program had mapped of its files and could not write ([`crate::mm::Warm`]): who
//! executes the same program gets it before others, forked children too.
//!
//! Nothing else of the old guest is left: its memory is unmapped, its rseq area and robust list were undone at its end; exec resets
//! registers, and a thread or vfork child gets those of its maker. Spares that nobody wants end after [`LIFE`], those of a process with
//! it.
//!
//! Locks: the pool's is a leaf, but for a process's list of threads; a task is given to a spare process under it.

use super::exec::Plan;
use super::task::{Start, Task};
use super::thread_group::Process;
use super::tree;
use crate::mm::{Left, Warm};
use abi::broker::Attributes;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use machine::Cpu;
use machine::process::Kind;
use machine::sync::{Mutex, Wake};

/// Most spares of a kind.
const MOST: usize = 8;
/// How long a spare waits at most, in nanoseconds: a container at rest keeps none.
const LIFE: u64 = 500_000_000;

struct Spare {
    /// When it came.
    since: u64,
    cpu: &'static Cpu,
    of: Of,
}

impl Spare {
    /// Whether it ran that version of a program before.
    fn knows(&self, version: &Attributes) -> bool {
        matches!(&self.of, Of::Nobody(warm) if warm.iter().any(|warm| warm.is_of(version)))
    }
}

/// What a spare is.
enum Of {
    /// A host process with memory of its own, and what is mapped there of its last program.
    Nobody(Vec<Warm>),
    /// A host thread of a process.
    Threads(Arc<Process>),
    /// A host process in the memory of its children's parent.
    Children(Arc<Process>),
}

impl Of {
    fn process(&self) -> Option<&Arc<Process>> {
        match self {
            Of::Nobody(_) => None,
            Of::Threads(process) | Of::Children(process) => Some(process),
        }
    }

    fn is_alike(&self, other: &Of) -> bool {
        core::mem::discriminant(self) == core::mem::discriminant(other)
    }
}

struct Pool {
    /// The last one that came is taken first.
    spares: Vec<Spare>,
    /// How many are for nobody: who ends looks here, not at all of them.
    for_nobody: usize,
    /// When the service process looks next; None while there is nothing to look for.
    next_look: Option<u64>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { spares: Vec::new(), for_nobody: 0, next_look: None });

impl Pool {
    fn has_room(&self, of: &Of) -> bool {
        match of {
            Of::Nobody(_) => self.for_nobody < MOST,
            _ => self.spares.iter().filter(|spare| spare.of.is_alike(of)).count() < MOST,
        }
    }

    fn push(&mut self, spare: Spare) {
        self.for_nobody += usize::from(matches!(spare.of, Of::Nobody(_)));
        self.spares.push(spare);
    }

    fn remove(&mut self, at: usize) -> Spare {
        let spare = self.spares.remove(at);
        self.for_nobody -= usize::from(matches!(spare.of, Of::Nobody(_)));
        spare
    }

    fn take_where(&mut self, is_meant: impl Fn(&Spare) -> bool) -> Vec<Spare> {
        let taken: Vec<_> = self.spares.extract_if(.., |spare| is_meant(spare)).collect();
        self.for_nobody -= taken.iter().filter(|spare| matches!(spare.of, Of::Nobody(_))).count();
        taken
    }
}

/// Whether the calling host process, whose last guest thread ends or executes a program, has memory of its own, and nothing runs in
/// it but its first thread.
#[must_use]
pub fn is_left_to_itself(task: &Task) -> bool {
    let cpu = machine::cpu::current();
    let process = &task.process;
    process.pid != 1 && !process.borrows_memory.load(Ordering::SeqCst) && cpu.tid() == cpu.pid()
}

/// Whether the calling host process, whose last guest thread ends, may serve another.
#[must_use]
pub fn may_serve_again(task: &Task) -> bool {
    is_left_to_itself(task) && !crate::quiesce::is_asked() && POOL.lock().has_room(&Of::Nobody(Vec::new()))
}

/// Whether the calling host thread, whose guest thread ends, may serve another of the process, which has threads left. Its
/// first thread stays what it is: the host process's.
#[must_use]
pub fn may_serve_thread(process: &Process) -> bool {
    let cpu = machine::cpu::current();
    !process.borrows_memory.load(Ordering::SeqCst) && cpu.tid() != cpu.pid() && machine::hand_over::is_unconfined()
}

/// Unmaps the ending guest's memory, before anybody is told of the end: what was mapped is free by then. Returns what stays for
/// the next program. None where memory is still used: by a vfork child that outlives its parent, by a reader of /proc.
pub fn give_memory_back(task: &Task) -> Option<Vec<Warm>> {
    let mm = task.process.mm();
    // The process's, and ours.
    if Arc::strong_count(&mm) > 2 {
        return None;
    }
    crate::syscall::prctl::undo_rseq(task);
    Some(mm.unmap_all(Left::All))
}

/// The end of a guest: its host process waits for another program, or ends.
pub fn wait_for_program(cpu: &'static Cpu, warm: Vec<Warm>) -> ! {
    if !enter(cpu, Of::Nobody(warm)) {
        machine::process::exit_thread();
    }
    wait_for_task(cpu).note_process_cpu_base();
    machine::process::restart()
}

/// The end of a thread: its host thread waits for another one of the process, or ends.
pub fn wait_for_thread(cpu: &'static Cpu, process: Arc<Process>) -> ! {
    machine::cpu::renew();
    if !enter(cpu, Of::Threads(process)) {
        machine::process::exit_thread();
    }
    wait_for_task(cpu).note_cpu_base();
    machine::process::restart()
}

/// Whose memory the caller, a vfork child, borrows, if its host process may serve another child of that one.
#[must_use]
pub fn lender(task: &Task) -> Option<Arc<Process>> {
    let is_alone = !task.process.was_threaded.load(Ordering::Relaxed) && machine::hand_over::is_unconfined();
    let parent = tree::process(task.process.parent()).filter(|_| is_alone)?;
    Arc::ptr_eq(&parent.mm(), &task.mm()).then_some(parent)
}

/// The program of a vfork child is loaded elsewhere: its host process waits for another child of its parent, or ends.
pub fn wait_for_child(cpu: &'static Cpu, parent: Arc<Process>) -> ! {
    machine::cpu::renew();
    if !enter(cpu, Of::Children(parent)) {
        machine::process::exit_thread();
    }
    wait_for_task(cpu).note_process_cpu_base();
    machine::process::restart()
}

/// Ends the host thread where nobody gives it a task.
fn wait_for_task(cpu: &'static Cpu) -> &'static Task {
    let mut is_told = false;
    loop {
        if let Some(task) = cpu.task::<Task>() {
            if is_told {
                // What was told was for the task, if it had it by then.
                cpu.mark_pending();
            }
            return task;
        }
        if cpu.is_given_back() {
            machine::process::end_thread();
        }
        if machine::sync::park(None) == Wake::Interrupted {
            cpu.clear_pending();
            is_told = true;
        }
    }
}

/// The caller becomes a spare. Not where the container is to stand still, or was and has dismissed the caller, and not where its
/// process's last thread may have looked for it already.
fn enter(cpu: &'static Cpu, of: Of) -> bool {
    let now = machine::clock::monotonic_ns();
    let wakes_service = {
        let mut pool = POOL.lock();
        // First: a last thread that ends now sees either this or nobody.
        if let Some(process) = of.process() {
            process.has_spares.store(true, Ordering::SeqCst);
        }
        let is_over = of.process().is_some_and(|process| process.is_over());
        // Asked until all are dismissed: who is not yet sees the one, who is the other.
        if is_over || crate::quiesce::is_asked() || cpu.is_given_back() || !pool.has_room(&of) {
            return false;
        }
        pool.push(Spare { since: now, cpu, of });
        let is_first_look = pool.next_look.is_none();
        pool.next_look.get_or_insert(now + LIFE);
        is_first_look
    };
    if wakes_service {
        crate::kernel::wake_service();
    }
    true
}

/// Whether a spare ran a program before.
#[must_use]
pub fn knows(plan: &Plan) -> bool {
    let Some(version) = plan.version() else { return false };
    POOL.lock().spares.iter().any(|spare| spare.knows(&version))
}

/// Which spares may have a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One that ran it before, or any.
    Any,
    /// One that ran it before.
    Known,
}

/// Gives a program to a spare process, to one that ran it before if there is one; it comes back where there is no spare for it.
///
/// # Errors
/// The program, not started.
pub fn hand_over(task: &Arc<Task>, plan: Box<Plan>, choice: Choice) -> Result<(), Box<Plan>> {
    let version = plan.version();
    let is_spare = |spare: &Spare| choice == Choice::Any && matches!(spare.of, Of::Nobody(_));
    let knows_it = |spare: &Spare| version.is_some_and(|version| spare.knows(&version));
    let spare = {
        let mut pool = POOL.lock();
        let known = pool.spares.iter().rposition(knows_it);
        let Some(at) = known.or_else(|| pool.spares.iter().rposition(is_spare)) else { return Err(plan) };
        let Spare { cpu: spare, of, .. } = pool.remove(at);
        let warm = if let Of::Nobody(warm) = of { warm } else { Vec::new() };
        *task.start.lock() = Some(Start::Exec { plan, warm });
        task.set_cpu(spare);
        spare.set_task(Arc::clone(task));
        spare
    };
    machine::hand_over::passes_on_to(spare);
    machine::sync::unpark(spare);
    Ok(())
}

/// The area of a host thread of the caller's process, or of a host process in its memory, that waits for what the caller makes. Not
/// for a caller whose host thread has processors of its own.
#[must_use]
pub fn take(process: &Arc<Process>, kind: Kind) -> Option<&'static Cpu> {
    if !process.has_spares.load(Ordering::Relaxed) || !machine::hand_over::is_unconfined() {
        return None;
    }
    // A vfork child may have made some before it got memory of its own.
    let is_meant = |spare: &Spare| match (&spare.of, kind) {
        (Of::Threads(its), Kind::Thread) | (Of::Children(its), Kind::Vfork) => {
            Arc::ptr_eq(its, process) && machine::cpu::current().shares_memory_with(spare.cpu)
        }
        _ => false,
    };
    let spare = {
        let mut pool = POOL.lock();
        let at = pool.spares.iter().rposition(is_meant)?;
        pool.remove(at)
    };
    Some(spare.cpu)
}

/// Gives an area back that no task was started in. If a host thread waits there it ends.
pub fn dismiss(cpu: &Cpu) {
    machine::cpu::release(cpu);
    if cpu.tid() != 0 {
        machine::sync::unpark(cpu);
    }
}

/// A spare was killed from outside.
pub fn forget(cpu: &Cpu) {
    drop(take_where(|spare| core::ptr::eq(spare.cpu, cpu)));
}

/// Ends all spares: the container is to stand still.
pub fn retire_all() {
    take_where(|_| true).iter().for_each(|spare| dismiss(spare.cpu));
}

/// Ends the spares of a process, which has no thread left.
pub fn retire_those_of(process: &Arc<Process>) {
    if process.has_spares.load(Ordering::Relaxed) {
        let is_its = |spare: &Spare| spare.of.process().is_some_and(|its| Arc::ptr_eq(its, process));
        take_where(is_its).iter().for_each(|spare| dismiss(spare.cpu));
    }
}

fn take_where(is_meant: impl Fn(&Spare) -> bool) -> Vec<Spare> {
    POOL.lock().take_where(is_meant)
}

/// Ends spares that have waited long enough; when to look again, in nanoseconds of CLOCK_MONOTONIC.
pub fn retire(now: u64) -> Option<u64> {
    let (retired, next) = {
        let mut pool = POOL.lock();
        let next = pool.next_look?;
        let retired = if now < next { Vec::new() } else { pool.take_where(|spare| spare.since + LIFE <= now) };
        pool.next_look = pool.spares.first().map(|spare| spare.since + LIFE);
        (retired, pool.next_look)
    };
    retired.iter().for_each(|spare| dismiss(spare.cpu));
    next
}
