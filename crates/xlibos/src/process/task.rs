//! A task: one guest thread.

use super::creds::Creds;
use super::yields::Yields;
use crate::Errno;
use crate::fs::context::FsContext;
use crate::fs::fd_table::{Fd, OnExec, OwnFiles};
use crate::fs::{Closed, FdTable, File, Path};
use crate::mm::Mm;
use crate::process::settings::Settings;
use crate::process::thread_group::Process;
use crate::signal::{SIGKILL, TaskSignals};
use crate::syscall::Restart;
use crate::time::clock;
use crate::time::cpu_clock::CpuClock;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use machine::Cpu;
use machine::cpu::CpuCell;
use machine::epoch::{Pin, Shared, pin};
use machine::owned::{Alone, Owned};
use machine::sync::Mutex;

/// A thread id or process id of the guest.
pub type Pid = i32;

/// One guest thread. It shares no cache line with others: each call changes something of it.
#[repr(align(64))]
pub struct Task {
    /// Its id; the first thread's is the process's, and exec gives it to the thread that called.
    tid: AtomicI32,
    /// Its process.
    pub process: Arc<Process>,
    /// Its thread area: changes when exec moves the task to a fresh host process.
    cpu: CpuCell,
    /// What the task's host thread does first.
    pub start: Mutex<Option<Start>>,
    /// Restart class of a call that was interrupted, until delivery has dealt with it; 0 for none. The task's own.
    interrupted: AtomicU8,
    files: Owned<Arc<FdTable>>,
    /// The file that it closed last: programs open the same one again.
    closed: Alone<Option<Closed>>,
    fs: Shared<FsContext>,
    creds: Shared<Creds>,
    /// What of it and of the process answers calls.
    shown: Shown,
    /// Mask, pending signals, alternate stack.
    pub signals: TaskSignals,
    /// What /proc/PID/comm shows, NUL padded.
    pub name: Mutex<[u8; 16]>,
    /// Scheduling, priorities, prctl(2).
    pub settings: Mutex<Settings>,
    /// CLONE_CHILD_CLEARTID, set_tid_address(2): zeroed and woken at the end; 0 for none.
    pub clear_child_tid: AtomicU64,
    /// set_robust_list(2).
    pub robust_list: AtomicU64,
    /// Absolute deadline of an interrupted sleep that begins again without a handler; 0 for none.
    restart_deadline: AtomicU64,
    /// Bytes that an interrupted call has done, with which it ends where a handler runs; 0 for none.
    restart_progress: AtomicUsize,
    /// sched_yield(2).
    pub yields: Yields,
    /// The child, or thread, that it is making: until the host has made it.
    pub making: Mutex<Option<Arc<Task>>>,
    /// The vfork child whose end, or exec, the thread waits for before it returns; 0 for none.
    pub vfork_child: AtomicI32,
    /// The thread must end (exit_group, exec of another thread, a kill).
    pub must_exit: AtomicBool,
    /// Wait status that it leaves where it ends alone.
    pub exit_status: AtomicI32,
    /// It has begun to end.
    pub is_ending: AtomicBool,
    /// It has ended.
    pub ended: AtomicBool,
    /// CPU time.
    pub cpu_time: CpuClock,
    /// ptrace(2).
    pub trace: super::ptrace::Trace,
    /// Where it goes on most often.
    unmoved: crate::mm::unmoved::Unmoved,
}

impl core::fmt::Debug for Task {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Task({})", self.tid())
    }
}

/// First deed of a new host thread.
pub enum Start {
    /// Return to guest code with the frame that was prepared (clone, fork).
    Return {
        /// CLONE_CHILD_SETTID: where the child writes its id; 0 for nowhere.
        set_tid: u64,
        /// Its maker's extended state, where the host does not copy that: a host thread that waited runs it.
        state: Option<machine::xstate::Area>,
    },
    /// Load a program (first process, exec in another host process).
    Exec {
        /// The program.
        plan: Box<super::exec::Plan>,
        /// What the host process has of its program before.
        warm: Vec<crate::mm::Warm>,
    },
}

/// What a new task shares or copies.
pub struct Parts {
    /// Descriptor table.
    pub files: Arc<FdTable>,
    /// Root, working directory, umask.
    pub fs: Arc<FsContext>,
    /// Credentials.
    pub creds: Arc<Creds>,
}

/// Ids as words: the entry reads them ([`machine::leaf::Table`]). Ids of users and groups follow the credentials.
#[derive(Default)]
struct Shown {
    pid: AtomicI32,
    uid: AtomicI32,
    gid: AtomicI32,
    euid: AtomicI32,
    egid: AtomicI32,
}

impl Shown {
    fn new(pid: Pid, creds: &Creds) -> Shown {
        let shown = Shown { pid: AtomicI32::new(pid), ..Shown::default() };
        shown.set(creds);
        shown
    }

    fn set(&self, creds: &Creds) {
        let ids = [creds.uid, creds.gid, creds.euid, creds.egid];
        for (word, id) in [&self.uid, &self.gid, &self.euid, &self.egid].into_iter().zip(ids) {
            word.store(id.cast_signed(), Ordering::Relaxed);
        }
    }
}

impl machine::leaf::Thread for Task {
    fn words(&self) -> [&AtomicI32; machine::leaf::WORDS] {
        let Shown { pid, uid, gid, euid, egid } = &self.shown;
        [pid, uid, gid, euid, egid, self.process.parent_word(), &self.tid]
    }

    fn mask(&self) -> &AtomicU64 {
        self.signals.mask_word()
    }
}

impl Task {
    /// A task that has not started.
    #[must_use]
    pub fn new(
        tid: Pid,
        process: Arc<Process>,
        cpu: &'static Cpu,
        parts: Parts,
        signals: TaskSignals,
        name: [u8; 16],
    ) -> Arc<Task> {
        parts.files.enter();
        let process_id = process.pid;
        Arc::new(Task {
            tid: AtomicI32::new(tid),
            process,
            cpu: CpuCell::new(cpu),
            start: Mutex::new(None),
            interrupted: AtomicU8::new(0),
            files: Owned::new(parts.files),
            closed: Alone::new(None),
            fs: Shared::new(parts.fs),
            shown: Shown::new(process_id, &parts.creds),
            creds: Shared::new(parts.creds),
            signals,
            name: Mutex::new(name),
            settings: Mutex::default(),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            restart_deadline: AtomicU64::new(0),
            restart_progress: AtomicUsize::new(0),
            yields: Yields::default(),
            making: Mutex::new(None),
            vfork_child: AtomicI32::new(0),
            must_exit: AtomicBool::new(false),
            exit_status: AtomicI32::new(0),
            is_ending: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            cpu_time: CpuClock::default(),
            trace: super::ptrace::Trace::default(),
            unmoved: crate::mm::unmoved::Unmoved::default(),
        })
    }

    /// The calling host thread takes the task over: what it has used so far was for others.
    pub fn note_cpu_base(&self) {
        const THREAD_CPU: u32 = 3;
        self.cpu_time.arrives(machine::host::cpu_clock_ns(THREAD_CPU).unwrap_or(0));
    }

    /// As [`Task::note_cpu_base`], with all of the host process.
    pub fn note_process_cpu_base(&self) {
        const PROCESS_CPU: u32 = 2;
        self.note_cpu_base();
        self.process.cpu_time.arrives(machine::host::cpu_clock_ns(PROCESS_CPU).unwrap_or(0));
    }

    /// A host process that nobody ran in takes the task over, from another one if it comes from there.
    pub fn begin_cpu_time(&self) {
        for time in [&self.cpu_time, &self.process.cpu_time] {
            if time.is_moving() {
                time.arrives(0);
            }
        }
    }

    /// Another host process will run the task: what it has used counts there, too.
    pub fn carry_cpu_time(&self) {
        let used = clock::process_cpu_ns(&self.process).unwrap_or(0);
        let was_threaded = self.process.was_threaded.load(Ordering::Relaxed);
        let own = if was_threaded { clock::thread_cpu_ns(self).unwrap_or(0) } else { used };
        self.cpu_time.leaves(own);
        self.process.cpu_time.leaves(used);
    }

    /// Its id.
    #[must_use]
    pub fn tid(&self) -> Pid {
        self.tid.load(Ordering::Relaxed)
    }

    /// Gives the task another id (exec by a thread that is not the first).
    pub fn set_tid(&self, tid: Pid) {
        self.tid.store(tid, Ordering::Relaxed);
    }

    /// Its thread area: the way to interrupt or wake it.
    #[must_use]
    pub fn cpu(&self) -> &'static Cpu {
        self.cpu.get()
    }

    /// Moves the task to another thread area (exec in a fresh host process).
    pub fn set_cpu(&self, cpu: &'static Cpu) {
        self.cpu.set(cpu);
    }

    /// The wait status with which it ends: the process's once that is decided, else what it gave to exit(2).
    #[must_use]
    pub fn end_status(&self) -> i32 {
        self.process.exit_status().unwrap_or_else(|| self.exit_status.load(Ordering::Relaxed))
    }

    /// Whether the task must end instead of returning to guest code.
    #[must_use]
    pub fn must_exit(&self) -> bool {
        self.must_exit.load(Ordering::SeqCst)
    }

    /// Whether its process is stopped, and the thread with it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.process.is_stopped() && !self.trace.passes_stop()
    }

    /// Whether a SIGKILL waits for it.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.process.pending.set().union(self.signals.pending.set()).has(SIGKILL)
    }

    /// Whether the guest sees an address of its code as it is, and goes on there. For the task itself.
    #[inline]
    pub fn is_unmoved(&self, pc: u64) -> bool {
        self.unmoved.has(pc, |pin| self.process.mm_at(pin).is_unmoved(pc))
    }

    /// Notes that the call was interrupted.
    pub fn note_interrupted(&self, class: Restart) {
        self.interrupted.store(class as u8, Ordering::Relaxed);
    }

    /// The class of the call that was interrupted.
    #[must_use]
    pub fn interrupted(&self) -> Option<Restart> {
        Restart::from_number(self.interrupted.load(Ordering::Relaxed))
    }

    /// As [`Task::interrupted`]; delivery deals with it.
    #[must_use]
    pub fn take_interrupted(&self) -> Option<Restart> {
        let class = self.interrupted();
        self.interrupted.store(0, Ordering::Relaxed);
        class
    }

    /// The deadline of a wait that lasts `limit_ns`: that of the same call before it was interrupted, else from now.
    #[must_use]
    pub fn deadline_of(&self, limit_ns: u64) -> u64 {
        let kept = self.restart_deadline.load(Ordering::Relaxed);
        if kept == 0 {
            return machine::clock::monotonic_ns().saturating_add(limit_ns);
        }
        self.restart_deadline.store(0, Ordering::Relaxed);
        kept
    }

    /// Keeps a deadline for the call that begins again.
    pub fn keep_deadline(&self, deadline_ns: u64) {
        self.restart_deadline.store(deadline_ns, Ordering::Relaxed);
    }

    /// Keeps how many bytes are done, for the call that begins again.
    pub fn keep_progress(&self, bytes: usize) {
        self.restart_progress.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that the call did before it was interrupted.
    #[must_use]
    pub fn kept_progress(&self) -> usize {
        self.restart_progress.load(Ordering::Relaxed)
    }

    /// Takes the bytes that the call did before it was interrupted: it goes on behind them.
    #[must_use]
    pub fn take_progress(&self) -> usize {
        let bytes = self.kept_progress();
        if bytes != 0 {
            self.keep_progress(0);
        }
        bytes
    }

    /// Whether a call that was to begin again kept something.
    #[inline]
    #[must_use]
    pub fn keeps_something(&self) -> bool {
        self.restart_deadline.load(Ordering::Relaxed) != 0 || self.restart_progress.load(Ordering::Relaxed) != 0
    }

    /// The call has ended: nothing of it is kept.
    pub fn forget_progress(&self) {
        self.keep_deadline(0);
        self.keep_progress(0);
    }

    /// The calling thread's task; None in the service process.
    #[must_use]
    pub fn current() -> Option<&'static Task> {
        machine::cpu::current().task::<Task>()
    }

    /// Its descriptor table.
    #[must_use]
    pub fn files(&self) -> Arc<FdTable> {
        self.files.read(Arc::clone)
    }

    /// The file of a descriptor.
    ///
    /// # Errors
    /// EBADF, also where it stands for a place only (O_PATH).
    pub fn file(&self, fd: Fd) -> crate::Result<Arc<File>> {
        self.any_file(fd).and_then(|file| if file.is_place() { Err(Errno::EBADF) } else { Ok(file) })
    }

    /// The file of a descriptor, or of the place that it stands for (O_PATH).
    ///
    /// # Errors
    /// EBADF.
    pub fn any_file(&self, fd: Fd) -> crate::Result<Arc<File>> {
        self.files.read(|files| files.get(fd))
    }

    /// Does something with what [`Task::file`] gives: without a count, where no other task can close it.
    ///
    /// # Errors
    /// EBADF; what `act` answers.
    #[inline]
    pub fn with_file<R>(&self, fd: Fd, act: impl FnOnce(&File) -> crate::Result<R>) -> crate::Result<R> {
        self.with_any_file(fd, |file| if file.is_place() { Err(Errno::EBADF) } else { act(file) })
    }

    /// The same with what [`Task::any_file`] gives. Inlined: reads and writes lead here.
    ///
    /// # Errors
    /// EBADF; what `act` answers.
    #[inline(always)]
    pub fn with_any_file<R>(&self, fd: Fd, act: impl FnOnce(&File) -> crate::Result<R>) -> crate::Result<R> {
        if let Some(files) = self.files.look()
            && let Some(own) = files.look_below(&files)
        {
            return own.get(fd).and_then(act);
        }
        self.with_counted_file(fd, act)
    }

    /// Does something with many of its files; None where another task has the table too.
    pub fn with_own_files<R>(&self, act: impl FnOnce(&OwnFiles<'_>) -> R) -> Option<R> {
        let files = self.files.look()?;
        let own = files.look_below(&files)?;
        Some(act(&own))
    }

    /// Apart, for it seldom is anybody else's table.
    #[cold]
    fn with_counted_file<R>(&self, fd: Fd, act: impl FnOnce(&File) -> crate::Result<R>) -> crate::Result<R> {
        self.any_file(fd).and_then(|file| act(&file))
    }

    /// Puts a file into its lowest free descriptor.
    ///
    /// # Errors
    /// EMFILE.
    pub fn insert_file(&self, file: Arc<File>, on_exec: OnExec) -> crate::Result<Fd> {
        match self.files.look() {
            Some(own) => FdTable::insert_own(own, file, on_exec),
            None => self.files().insert(file, on_exec),
        }
    }

    /// Takes a descriptor out, whose file the caller ends.
    ///
    /// # Errors
    /// EBADF.
    pub fn remove_file(&self, fd: Fd) -> crate::Result<Arc<File>> {
        match self.files.look() {
            Some(own) => FdTable::remove_own(own, fd),
            None => self.files().remove(fd),
        }
    }

    /// As [`FdTable::check_room`] of its table.
    ///
    /// # Errors
    /// EMFILE.
    pub fn check_room(&self) -> crate::Result<()> {
        self.files.read(|files| files.check_room())
    }

    /// The calling thread runs the task from now on: what only that one changes is its own.
    pub fn own_files(&self) {
        self.closed.claim();
        self.files.claim();
        if let Some(files) = self.files.look() {
            files.claim();
        }
    }

    /// Another thread will run the task.
    pub fn leave_files(&self) {
        self.closed.leave();
        self.files().leave();
        self.files.leave();
    }

    /// Gives the task a descriptor table of its own; whether it shared one.
    pub fn unshare_files(&self) -> bool {
        let files = self.files();
        let is_shared = files.is_shared();
        if is_shared {
            self.change_files(files.copy());
        }
        is_shared
    }

    /// The task's descriptors are closed, unless others have them too: its end.
    pub fn drop_files(&self) {
        // Of one that has died, too.
        self.closed.claim();
        self.keep_closed(None);
        if self.files().is_shared() {
            self.change_files(FdTable::new(0));
        } else {
            self.close_all(&self.files());
        }
    }

    /// Replaces the descriptor table. Those who had the old one too may have left it meanwhile.
    fn change_files(&self, files: Arc<FdTable>) {
        files.enter();
        let old = self.files.change(|held| core::mem::replace(held, files));
        if old.exit() {
            self.close_all(&old);
        }
    }

    fn close_all(&self, files: &FdTable) {
        files.take_all().for_each(|file| file.closed_by(self, files));
    }

    /// Keeps a file that was closed in place of the one before.
    pub fn keep_closed(&self, closed: Option<Closed>) {
        let (Ok(old) | Err(old)) = self.closed.replace(closed);
        drop(old);
    }

    /// The file that was closed last.
    #[must_use]
    pub fn take_closed(&self) -> Option<Closed> {
        self.closed.replace(None).ok().flatten()
    }

    /// Root, working directory and umask.
    #[must_use]
    pub fn fs(&self) -> Arc<FsContext> {
        self.fs.hold()
    }

    /// Its root directory.
    #[must_use]
    pub fn root(&self) -> Path {
        self.fs.get(&pin()).root()
    }

    /// Its working directory.
    #[must_use]
    pub fn cwd(&self) -> Path {
        self.fs.get(&pin()).cwd()
    }

    /// Replaces them (unshare).
    pub fn set_fs(&self, fs: Arc<FsContext>) {
        self.fs.set(fs);
    }

    /// Its credentials.
    #[must_use]
    pub fn creds(&self) -> Arc<Creds> {
        self.creds.hold()
    }

    /// Root, working directory and umask, for a look.
    #[must_use]
    pub fn fs_at<'a>(&'a self, pin: &'a Pin) -> &'a FsContext {
        self.fs.get(pin)
    }

    /// Its credentials, for a look.
    #[must_use]
    pub fn creds_at<'a>(&'a self, pin: &'a Pin) -> &'a Creds {
        self.creds.get(pin)
    }

    /// Its real user id, without a look at the credentials.
    #[must_use]
    pub fn real_uid(&self) -> u32 {
        self.shown.uid.load(Ordering::Relaxed).cast_unsigned()
    }

    /// Replaces the credentials.
    pub fn set_creds(&self, creds: Creds) {
        self.shown.set(&creds);
        self.creds.set(Arc::new(creds));
    }

    /// Its address space.
    #[must_use]
    pub fn mm(&self) -> Arc<Mm> {
        self.process.mm()
    }
}
