//! A process: what its tasks share.

use super::run_state::RunState;
use super::session::Session;
use super::settings::Settings;
use super::task::{Pid, Task};
use super::usage::Usage;
use crate::mm::Mm;
use crate::signal::{Actions, Pending, SigInfo};
use crate::time::cpu_clock::CpuClock;
use crate::wait::{Events, WaitQueue, wait_until};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use machine::epoch::{Pin, Shared};
use machine::sync::{Mutex, MutexGuard};

/// Who a process belongs to. Changed with the tree locked.
#[derive(Debug)]
pub struct Links {
    /// Process group.
    pub pgid: Pid,
    /// Session.
    pub session: Arc<Session>,
    /// Children, zombies too.
    pub children: Vec<Pid>,
}

/// What of its state wait(2) has not reported.
#[derive(Debug, Default)]
struct Status {
    stop_unreported: bool,
    continue_unreported: bool,
}

/// CPU time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In guest code and LibOS together.
    pub user_ns: u64,
}

/// A thread group.
pub struct Process {
    /// Its id.
    pub pid: Pid,
    parent: AtomicI32,
    links: Mutex<Links>,
    status: Mutex<Status>,
    /// A [`RunState`], changed with the status locked.
    run: AtomicU64,
    tasks: Mutex<Vec<Arc<Task>>>,
    remains: Mutex<Option<Remains>>,
    mm: Shared<Mm>,
    /// What it has once it has ended, made by its parent: a new host process had better touch little of the heap.
    final_mm: Mutex<Option<Arc<Mm>>>,
    actions: Shared<Actions>,
    /// Signals for any of its threads.
    pub pending: Pending,
    /// Children that changed state.
    pub child_events: WaitQueue,
    /// Its own changes: resumed, signals for signalfd, vfork's child gone its way.
    pub events: WaitQueue,
    /// Signal to the parent at the end; SIGCHLD, or clone's choice.
    pub exit_signal: AtomicI32,
    /// exit_group(2) was called, or a signal kills it: the wait status, plus one; 0 while it lives.
    exiting: AtomicU64,
    /// The vfork child still uses its parent's memory.
    pub borrows_memory: AtomicBool,
    /// PR_SET_CHILD_SUBREAPER.
    pub subreaper: AtomicBool,
    /// A thread of it ends the others, to execute a program.
    pub is_executing: AtomicBool,
    /// It called exec since its fork: setpgid(2) by the parent is refused then.
    pub has_execed: AtomicBool,
    /// PR_SET_PDEATHSIG.
    pub parent_death_signal: AtomicI32,
    /// CLOCK_MONOTONIC of its start.
    pub started_ns: u64,
    /// It has, or had, more than one thread.
    pub was_threaded: AtomicBool,
    /// Host threads or processes wait, or waited, for its threads and vfork children.
    pub has_spares: AtomicBool,
    /// CPU time.
    pub cpu_time: CpuClock,
    /// CPU time at the end of the last thread.
    pub ended_cpu_ns: AtomicU64,
    /// CPU time of children that were waited for.
    pub children_cpu_ns: AtomicU64,
    /// Most pages that its earlier address spaces had.
    past_peak_pages: AtomicU64,
    /// Most pages that a child had that was waited for.
    pub children_peak_pages: AtomicU64,
    /// Resource limits.
    pub limits: super::limits::Limits,
    /// Timers: timer_create(2), setitimer(2).
    pub alarms: crate::time::alarm::Alarms,
    /// Next signal from outside of the container: init takes it without a handler.
    outside_signals: AtomicU64,
    /// How often SIGCONT was sent. It changes with the status locked.
    continues: AtomicU32,
    /// Others that want to see its memory.
    pub visits: super::visit::Visits,
    /// Where its threads stand while one of them changes what all run in.
    pub standstill: super::standstill::Standstill,
    /// Whom it traces.
    pub tracees: Mutex<Vec<super::ptrace::Tracee>>,
    /// It was waited for, and has no number any more.
    reaped: AtomicBool,
    /// Its end was told to a parent. Set with the tree locked.
    is_end_told: AtomicBool,
}

impl core::fmt::Debug for Process {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Process({})", self.pid)
    }
}

/// What the last thread of a process had.
#[derive(Debug)]
pub struct Remains {
    /// Its name.
    pub name: [u8; 16],
    /// Its credentials.
    pub creds: Arc<super::creds::Creds>,
    /// Its scheduling: that of a zombie is told, and changes.
    pub settings: Settings,
}

/// What a new process starts with.
pub struct Parts {
    /// Parent.
    pub parent: Pid,
    /// Group, session.
    pub links: Links,
    /// Address space.
    pub mm: Arc<Mm>,
    /// Signal actions.
    pub actions: Arc<Actions>,
    /// Limits.
    pub limits: super::limits::Limits,
    /// Signal at the end.
    pub exit_signal: i32,
}

impl Process {
    /// A process without threads yet.
    #[must_use]
    pub fn new(pid: Pid, parts: Parts) -> Arc<Process> {
        Arc::new(Process {
            pid,
            parent: AtomicI32::new(parts.parent),
            links: Mutex::new(parts.links),
            status: Mutex::new(Status::default()),
            run: AtomicU64::new(RunState::Running.to_bits()),
            tasks: Mutex::new(Vec::new()),
            remains: Mutex::new(None),
            mm: Shared::new(parts.mm),
            final_mm: Mutex::default(),
            actions: Shared::new(parts.actions),
            pending: Pending::default(),
            child_events: WaitQueue::new(),
            events: WaitQueue::new(),
            exit_signal: AtomicI32::new(parts.exit_signal),
            exiting: AtomicU64::new(0),
            borrows_memory: AtomicBool::new(false),
            subreaper: AtomicBool::new(false),
            is_executing: AtomicBool::new(false),
            has_execed: AtomicBool::new(false),
            parent_death_signal: AtomicI32::new(0),
            started_ns: machine::clock::monotonic_ns(),
            was_threaded: AtomicBool::new(false),
            has_spares: AtomicBool::new(false),
            cpu_time: CpuClock::default(),
            ended_cpu_ns: AtomicU64::new(0),
            children_cpu_ns: AtomicU64::new(0),
            past_peak_pages: AtomicU64::new(0),
            children_peak_pages: AtomicU64::new(0),
            limits: parts.limits,
            alarms: crate::time::alarm::Alarms::default(),
            outside_signals: AtomicU64::new(0),
            continues: AtomicU32::new(0),
            visits: super::visit::Visits::default(),
            standstill: super::standstill::Standstill::default(),
            tracees: Mutex::default(),
            reaped: AtomicBool::new(false),
            is_end_told: AtomicBool::new(false),
        })
    }

    /// The parent. It changes with the tree locked.
    pub fn parent(&self) -> Pid {
        self.parent.load(Ordering::Relaxed)
    }

    /// Where it stands.
    pub(super) fn parent_word(&self) -> &AtomicI32 {
        &self.parent
    }

    /// Gives the process another parent; the tree is locked.
    pub fn set_parent(&self, parent: Pid) {
        self.parent.store(parent, Ordering::Relaxed);
    }

    /// Group, session, children. To change them, the tree must be locked.
    pub fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock()
    }

    /// Group and session id, where another process's links are locked.
    #[must_use]
    pub fn links_of_other(&self) -> (Pid, Pid) {
        let links = self.links.lock();
        (links.pgid, links.session.sid)
    }

    /// Its session.
    #[must_use]
    pub fn session(&self) -> Arc<Session> {
        Arc::clone(&self.links.lock().session)
    }

    /// Its threads.
    #[must_use]
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.tasks.lock().clone()
    }

    /// Whether something holds for all its threads. `holds` takes no lock.
    pub fn is_so_of_all(&self, holds: impl Fn(&Task) -> bool) -> bool {
        self.tasks.lock().iter().all(|task| holds(task))
    }

    /// How many threads it has.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.tasks.lock().len()
    }

    /// Whether it has no thread left, or is to end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.exit_status().is_some() || self.thread_count() == 0
    }

    /// Adds a thread.
    pub fn add_task(&self, task: Arc<Task>) {
        self.tasks.lock().push(task);
    }

    /// Removes a thread; returns how many are left.
    pub fn remove_task(&self, task: &Task) -> usize {
        let mut tasks = self.tasks.lock();
        let removed = tasks.iter().position(|t| core::ptr::eq(&raw const **t, task)).map(|at| tasks.remove(at));
        let left = tasks.len();
        if left == 0 {
            // Before anybody sees that there is none: whose process it is can be told at any time.
            let settings = task.settings.lock().clone();
            *self.remains.lock() = Some(Remains { name: *task.name.lock(), creds: task.creds(), settings });
        }
        drop(tasks);
        drop(removed);
        left
    }

    /// Credentials of its first thread, or of its last one once that has ended; None before it has any.
    #[must_use]
    pub fn creds(&self) -> Option<Arc<super::creds::Creds>> {
        let first = self.tasks.lock().first().cloned();
        first.map_or_else(|| self.with_remains(|left| Arc::clone(&left.creds)), |first| Some(first.creds()))
    }

    /// Looks at what the last thread had, once there is none; changes it.
    pub fn with_remains<R>(&self, look: impl FnOnce(&mut Remains) -> R) -> Option<R> {
        self.remains.lock().as_mut().map(look)
    }

    /// Its address space.
    #[must_use]
    pub fn mm(&self) -> Arc<Mm> {
        self.mm.hold()
    }

    /// Its address space, for a look.
    #[must_use]
    pub fn mm_at<'a>(&'a self, pin: &'a Pin) -> &'a Mm {
        self.mm.get(pin)
    }

    /// The copy of its parent's memory, in place of none.
    pub fn begin_with(&self, copy: Arc<Mm>) {
        *self.final_mm.lock() = Some(self.mm());
        self.set_mm(copy);
    }

    /// It has ended, and has no memory any more.
    pub fn leave_mm(&self) {
        let empty = self.final_mm.lock().take();
        self.set_mm(empty.unwrap_or_else(Mm::new));
    }

    /// Replaces the address space: exec.
    pub fn set_mm(&self, mm: Arc<Mm>) {
        self.past_peak_pages.fetch_max(self.mm().peak_pages(), Ordering::Relaxed);
        self.replace_mm(mm);
    }

    /// Has an empty address space in place of one whose lock is left taken, at which nothing is looked any more.
    pub fn abandon_mm(&self) {
        self.replace_mm(Mm::new());
    }

    fn replace_mm(&self, mm: Arc<Mm>) {
        self.mm.set(mm);
        crate::mm::unmoved::note_change();
    }

    /// Most pages that it ever had mapped.
    #[must_use]
    pub fn peak_pages(&self) -> u64 {
        self.mm().peak_pages().max(self.past_peak_pages.load(Ordering::Relaxed))
    }

    /// What it used by itself, once it has ended.
    #[must_use]
    pub fn final_usage(&self) -> Usage {
        Usage {
            cpu_ns: self.ended_cpu_ns.load(Ordering::Relaxed),
            peak_pages: self.past_peak_pages.load(Ordering::Relaxed),
        }
    }

    /// A child was waited for: what it and its own children used counts as this process's children's.
    pub fn add_child_usage(&self, child: &Process) {
        let usage = child.final_usage();
        let cpu_ns = usage.cpu_ns + child.children_cpu_ns.load(Ordering::Relaxed);
        self.children_cpu_ns.fetch_add(cpu_ns, Ordering::Relaxed);
        let peak = usage.peak_pages.max(child.children_peak_pages.load(Ordering::Relaxed));
        self.children_peak_pages.fetch_max(peak, Ordering::Relaxed);
    }

    /// Its signal actions.
    #[must_use]
    pub fn actions(&self) -> Arc<Actions> {
        self.actions.hold()
    }

    /// What it does on signals, for a look.
    #[must_use]
    pub fn actions_at<'a>(&'a self, pin: &'a Pin) -> &'a Actions {
        self.actions.get(pin)
    }

    /// exec: caught signals go back to default, in a table of the process's own.
    pub fn reset_actions_for_exec(&self) {
        let own = Arc::new(self.actions().copy());
        own.reset_caught();
        self.actions.set(own);
    }

    /// Whether PR_SET_CHILD_SUBREAPER is set.
    #[must_use]
    pub fn is_subreaper(&self) -> bool {
        self.subreaper.load(Ordering::Relaxed)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.run_state(), RunState::Zombie(_))
    }

    /// Whether and how it runs.
    #[must_use]
    pub fn run_state(&self) -> RunState {
        RunState::from_bits(self.run.load(Ordering::SeqCst))
    }

    /// The status is locked.
    fn set_run_state(&self, state: RunState) {
        self.run.store(state.to_bits(), Ordering::SeqCst);
    }

    /// Sets the wait status with which the process ends; the first one counts. True for the first.
    pub fn begin_exit(&self, status: i32) -> bool {
        let value = u64::from(status.cast_unsigned()) + 1;
        // A new host process maps what lies around at a read, and one page at a write: it reads first.
        if self.exiting.load(Ordering::SeqCst) != 0 {
            return false;
        }
        self.exiting.compare_exchange(0, value, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// A thread begins to end. Where all the others have begun, its status is that of the process: as Linux since 5.16.
    pub fn begin_end_of(&self, task: &Task) {
        let is_last = {
            let tasks = self.tasks.lock();
            task.is_ending.store(true, Ordering::Relaxed);
            tasks.iter().all(|task| task.is_ending.load(Ordering::Relaxed))
        };
        if is_last {
            self.begin_exit(task.end_status());
        }
    }

    /// The wait status with which it ends, once that is decided.
    #[must_use]
    pub fn exit_status(&self) -> Option<i32> {
        let value = self.exiting.load(Ordering::SeqCst);
        let status = u32::try_from(value.checked_sub(1)?).ok()?;
        Some(status.cast_signed())
    }

    /// Its last thread has ended.
    pub fn set_zombie(&self, status: i32) {
        let locked = self.status.lock();
        self.set_run_state(RunState::Zombie(status));
        drop(locked);
        self.events.wake(Events::all());
    }

    /// Whether it was waited for.
    #[must_use]
    pub fn is_reaped(&self) -> bool {
        self.reaped.load(Ordering::SeqCst)
    }

    /// Whether its parent has the signal of its end and may wait for it, or does not want to; a hint where the tree is not locked.
    #[must_use]
    pub fn is_end_told(&self) -> bool {
        self.is_end_told.load(Ordering::Relaxed)
    }

    /// Its parent gets the signal of its end before it can wait for it: the tree is locked, where there is a parent.
    pub(super) fn tell_end(&self) {
        self.is_end_told.store(true, Ordering::Relaxed);
    }

    /// It was waited for; the tree is locked.
    pub(super) fn set_reaped(&self) {
        self.reaped.store(true, Ordering::SeqCst);
    }

    /// How often SIGCONT was sent.
    #[must_use]
    pub fn continues(&self) -> u32 {
        self.continues.load(Ordering::SeqCst)
    }

    /// Stops all its threads and tells the parent; each thread sleeps before it returns to guest code. A SIGCONT since
    /// the signal was sent, or a SIGKILL that waits, cancels the stop.
    pub fn stop(self: &Arc<Self>, task: &Task, info: SigInfo) {
        {
            let mut status = self.status.lock();
            if self.is_zombie() || task.is_killed() || info.continues != self.continues() {
                return;
            }
            self.set_run_state(RunState::Stopped(info.signal));
            status.stop_unreported = true;
            status.continue_unreported = false;
        }
        for other in self.tasks() {
            if !core::ptr::eq(&raw const *other, task) {
                other.cpu().kick();
            }
        }
        super::wait::notify_parent(self, super::wait::Change::Stopped(info.signal));
        machine::cpu::current().mark_pending();
    }

    /// Sleeps while the process is stopped. A kill ends the sleep; other signals stay pending until it continues, but the
    /// thread looks at what else there is to do, and sleeps again.
    pub fn sleep_while_stopped(&self, task: &Task) {
        let is_over = || (!self.is_stopped() || task.must_exit()).then_some(());
        // Where it was interrupted the mark is there already.
        let _ = wait_until(&[&self.events], None, is_over);
        machine::cpu::current().mark_pending();
    }

    /// Whether it is stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self.run_state(), RunState::Stopped(_))
    }

    /// SIGCONT (or SIGKILL, which tells nobody) arrived.
    pub fn resume(self: &Arc<Self>, tell: bool) {
        {
            let mut status = self.status.lock();
            if tell {
                self.continues.fetch_add(1, Ordering::SeqCst);
            }
            if !self.is_stopped() {
                return;
            }
            self.set_run_state(RunState::Running);
            status.stop_unreported = false;
            status.continue_unreported = tell;
        }
        for task in self.tasks() {
            task.trace.process_resumed();
            task.cpu().kick();
        }
        self.events.wake(Events::all());
        if tell {
            super::wait::notify_parent(self, super::wait::Change::Continued);
        }
    }

    /// What wait(2) can report of it now; takes the report unless `keep`.
    pub fn take_report(&self, stopped: bool, continued: bool, keep: bool) -> Option<super::wait::Change> {
        use super::wait::Change;
        let mut status = self.status.lock();
        match self.run_state() {
            RunState::Stopped(signal) if stopped && status.stop_unreported => {
                status.stop_unreported = keep;
                Some(Change::Stopped(signal))
            }
            RunState::Running if continued && status.continue_unreported => {
                status.continue_unreported = keep;
                Some(Change::Continued)
            }
            _ => None,
        }
    }

    /// A signal was queued: tells signalfd readers.
    pub fn signal_arrived(&self, signal: i32) {
        // By an exchange, where it is not pending since before.
        self.events.wake_exchanged(Events::IN);
        crate::fs::signalfd::signal_arrived(signal);
    }

    /// Marks a signal that comes from outside of the container: init takes it like any process.
    pub fn allow_outside_signal(&self, signal: i32) {
        self.outside_signals.fetch_or(crate::signal::SigSet::of(signal).0, Ordering::SeqCst);
    }

    /// Whether a signal for init was sent from outside.
    #[must_use]
    pub fn takes_outside_signal(&self, signal: i32) -> bool {
        let bit = crate::signal::SigSet::of(signal).0;
        self.outside_signals.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }
}
