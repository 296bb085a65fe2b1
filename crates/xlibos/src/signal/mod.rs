//! Signals: signal(7). Sets, actions and queues here; sending in `send`, delivery to guest code in `deliver` and `frame`.
//!
//! Locks: a process's pending queue and a task's are leaves; the action table's is a leaf.

mod actions;
pub mod deliver;
pub mod frame;
mod info;
pub mod send;
mod set;

use crate::process::Task;
pub use actions::Actions;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
pub use info::SigInfo;
use machine::sync::Mutex;
pub use send::{send_all, send_group, send_process, send_task};
pub use set::SigSet;

macro_rules! signals {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(#[doc = concat!("`", stringify!($name), "`.")] pub const $name: i32 = $number;)*

        /// The name of a signal, as signal(7) spells it.
        #[must_use]
        pub fn name(signal: i32) -> &'static str {
            match signal {
                $($number => stringify!($name),)*
                _ => "SIGRT",
            }
        }
    };
}

signals! {
    SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8,
    SIGKILL = 9, SIGUSR1 = 10, SIGSEGV = 11, SIGUSR2 = 12, SIGPIPE = 13, SIGALRM = 14, SIGTERM = 15,
    SIGSTKFLT = 16, SIGCHLD = 17, SIGCONT = 18, SIGSTOP = 19, SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22,
    SIGURG = 23, SIGXCPU = 24, SIGXFSZ = 25, SIGVTALRM = 26, SIGPROF = 27, SIGWINCH = 28, SIGIO = 29,
    SIGPWR = 30, SIGSYS = 31,
}

/// First real-time signal of the kernel.
pub const SIGRTMIN: i32 = 32;
/// Number of signals.
pub const NSIG: i32 = 64;

/// Signals that cannot be blocked, caught or ignored.
pub const UNBLOCKABLE: SigSet = SigSet(SigSet::of(SIGKILL).0 | SigSet::of(SIGSTOP).0);
/// Signals that stop a process.
pub const STOPPING: SigSet =
    SigSet(SigSet::of(SIGSTOP).0 | SigSet::of(SIGTSTP).0 | SigSet::of(SIGTTIN).0 | SigSet::of(SIGTTOU).0);
/// Signals that faults raise at the thread itself.
pub const SYNCHRONOUS: SigSet = SigSet(
    SigSet::of(SIGSEGV).0
        | SigSet::of(SIGBUS).0
        | SigSet::of(SIGILL).0
        | SigSet::of(SIGFPE).0
        | SigSet::of(SIGTRAP).0
        | SigSet::of(SIGSYS).0,
);

/// si_code of kill(2).
pub const SI_USER: i32 = 0;
/// si_code of the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// si_code of sigqueue(3).
pub const SI_QUEUE: i32 = -1;
/// si_code of a POSIX timer.
pub const SI_TIMER: i32 = -2;
/// si_code of tgkill(2).
pub const SI_TKILL: i32 = -6;

/// SA_NOCLDSTOP.
pub const SA_NOCLDSTOP: u64 = 1;
/// SA_NOCLDWAIT.
pub const SA_NOCLDWAIT: u64 = 2;
/// SA_SIGINFO.
pub const SA_SIGINFO: u64 = 4;
/// SA_ONSTACK.
pub const SA_ONSTACK: u64 = 0x0800_0000;
/// SA_RESTART.
pub const SA_RESTART: u64 = 0x1000_0000;
/// SA_NODEFER.
pub const SA_NODEFER: u64 = 0x4000_0000;
/// SA_RESETHAND.
pub const SA_RESETHAND: u64 = 0x8000_0000;

/// Flags that are kept: those above, SA_RESTORER and SA_EXPOSE_TAGBITS. Others are cleared, so that programs see what is known.
pub const SA_KNOWN: u64 = SA_NOCLDSTOP
    | SA_NOCLDWAIT
    | SA_SIGINFO
    | SA_ONSTACK
    | SA_RESTART
    | SA_NODEFER
    | SA_RESETHAND
    | 0x0400_0000
    | 0x800;

/// What a process does on a signal: struct kernel_sigaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// SIG_DFL 0, SIG_IGN 1, or an address.
    pub handler: u64,
    /// SA_* bits.
    pub flags: u64,
    /// Return trampoline of libc.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: SigSet,
}

/// SIG_DFL.
pub const SIG_DFL: u64 = 0;
/// SIG_IGN.
pub const SIG_IGN: u64 = 1;

/// What happens by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default_ {
    /// Nothing.
    Ignore,
    /// The process ends.
    Terminate,
    /// The process ends, with the core-dump bit.
    Core,
    /// The process stops.
    Stop,
    /// The process continues.
    Continue,
}

/// The default action of a signal.
#[must_use]
pub fn default_action(signal: i32) -> Default_ {
    match signal {
        SIGCHLD | SIGURG | SIGWINCH => Default_::Ignore,
        SIGCONT => Default_::Continue,
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => Default_::Stop,
        SIGQUIT | SIGILL | SIGTRAP | SIGABRT | SIGBUS | SIGFPE | SIGSEGV | SIGXCPU | SIGXFSZ | SIGSYS => Default_::Core,
        _ => Default_::Terminate,
    }
}

/// Pending signals, of a task or of a process.
#[derive(Debug, Default)]
pub struct Pending {
    /// Changed with the queue locked.
    set: AtomicU64,
    queue: Mutex<VecDeque<SigInfo>>,
}

impl Pending {
    /// What is pending.
    #[must_use]
    pub fn set(&self) -> SigSet {
        SigSet(self.set.load(Ordering::SeqCst))
    }

    /// Adds a signal; a standard one that is pending already is dropped.
    pub fn add(&self, info: SigInfo) {
        let mut queue = self.queue.lock();
        // Where memory is short every signal is like a standard one: pending once.
        let is_single = info.signal < SIGRTMIN || machine::heap::is_short();
        if is_single && self.set().has(info.signal) {
            return;
        }
        queue.push_back(info);
        // A barrier too: the sender looks at the receiver's mask and waiters next.
        self.set.fetch_or(SigSet::of(info.signal).0, Ordering::SeqCst);
    }

    /// Takes the first signal of the wanted ones: faults first, then by number.
    pub fn take(&self, wanted: SigSet) -> Option<SigInfo> {
        if self.set().0 & wanted.0 == 0 {
            return None;
        }
        let mut queue = self.queue.lock();
        let ready = SigSet(self.set().0 & wanted.0);
        let faults = SigSet(ready.0 & SYNCHRONOUS.0);
        let signal = if faults.is_empty() { ready.first()? } else { faults.first()? };
        let at = queue.iter().position(|info| info.signal == signal)?;
        let info = queue.remove(at)?;
        if !queue.iter().any(|other| other.signal == signal) {
            self.set.store(self.set().without(SigSet::of(signal)).0, Ordering::Release);
        }
        Some(info)
    }

    /// Throws away all of some signals.
    pub fn discard(&self, unwanted: SigSet) {
        let mut queue = self.queue.lock();
        queue.retain(|info| !unwanted.has(info.signal));
        self.set.store(self.set().without(unwanted).0, Ordering::Release);
    }

    /// How many are queued.
    #[must_use]
    pub fn count(&self) -> usize {
        self.queue.lock().len()
    }

    /// Copies of what is queued.
    #[must_use]
    pub fn collect(&self) -> Vec<SigInfo> {
        self.queue.lock().iter().copied().collect()
    }
}

/// An alternate signal stack: sigaltstack(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AltStack {
    /// Lowest address.
    pub sp: u64,
    /// SS_* flags as set.
    pub flags: u32,
    /// Length in bytes; 0 where there is none.
    pub size: u64,
}

/// No mask has SIGKILL.
const IS_SAVED: SigSet = SigSet::of(SIGKILL);

/// Signal state of a task.
#[derive(Debug, Default)]
pub struct TaskSignals {
    mask: AtomicU64,
    /// Mask to restore once the handler's frame has been built (sigsuspend, ppoll, …), with [`IS_SAVED`]; 0 where there is
    /// none. Only the task itself changes it.
    saved: AtomicU64,
    /// Pending for this thread alone.
    pub pending: Pending,
    /// Its alternate stack: [`AltStack`], of which only the task itself knows.
    alt_sp: AtomicU64,
    alt_flags: AtomicU32,
    alt_size: AtomicU64,
}

impl TaskSignals {
    /// A new thread's: the maker's mask, nothing pending.
    #[must_use]
    pub fn with_mask(mask: SigSet) -> TaskSignals {
        TaskSignals { mask: AtomicU64::new(mask.0), ..TaskSignals::default() }
    }

    /// Its alternate stack. For the task itself, and its maker.
    #[must_use]
    pub fn alt_stack(&self) -> AltStack {
        AltStack {
            sp: self.alt_sp.load(Ordering::Relaxed),
            flags: self.alt_flags.load(Ordering::Relaxed),
            size: self.alt_size.load(Ordering::Relaxed),
        }
    }

    /// Replaces the alternate stack. For the task itself, and its maker.
    pub fn set_alt_stack(&self, stack: AltStack) {
        self.alt_sp.store(stack.sp, Ordering::Relaxed);
        self.alt_flags.store(stack.flags, Ordering::Relaxed);
        self.alt_size.store(stack.size, Ordering::Relaxed);
    }

    /// Blocked signals.
    #[must_use]
    pub fn mask(&self) -> SigSet {
        SigSet(self.mask.load(Ordering::SeqCst))
    }

    /// Where the mask is: for the entry, as [`TaskSignals::replace_mask`].
    pub(crate) fn mask_word(&self) -> &AtomicU64 {
        &self.mask
    }

    /// Replaces the mask. The thread looks at its pending signals before it returns.
    pub fn set_mask(&self, mask: SigSet) {
        self.replace_mask(mask);
        machine::cpu::current().mark_pending();
    }

    /// Replaces the mask, for who looks at what is pending afterwards: a sender adds its signal before it looks at the mask. Only
    /// the task itself does. Returns whether the mask lets something through that the old one did not; where it does not, the
    /// store needs no barrier, since whoever is told of a signal that it blocks passes it on.
    pub fn replace_mask(&self, mask: SigSet) -> bool {
        let (was, now) = (self.mask(), mask.without(UNBLOCKABLE));
        let lets_through = !was.without(now).is_empty();
        let order = if lets_through { Ordering::SeqCst } else { Ordering::Release };
        self.mask.store(now.0, order);
        lets_through
    }

    /// Replaces the mask for the length of one call; delivery or [`TaskSignals::restore_mask`] ends it.
    pub fn set_temporary_mask(&self, mask: SigSet) {
        if self.saved().is_none() {
            self.saved.store(self.mask().0 | IS_SAVED.0, Ordering::SeqCst);
        }
        self.set_mask(mask);
    }

    /// Puts the mask back that a temporary one replaced; true where there was one.
    pub fn restore_mask(&self) -> bool {
        self.take_saved().is_some_and(|mask| {
            self.set_mask(mask);
            true
        })
    }

    /// Whether a signal is blocked now, or was until a call took another mask for its own length: such a
    /// signal is queued even where it would be ignored (sigtimedwait(2) waits for it).
    #[must_use]
    pub fn blocks_or_did(&self, signal: i32) -> bool {
        self.mask().has(signal) || self.saved().is_some_and(|mask| mask.has(signal))
    }

    /// The mask that a handler's frame must restore.
    #[must_use]
    pub fn mask_to_restore(&self) -> SigSet {
        self.saved().unwrap_or_else(|| self.mask())
    }

    /// Forgets the mask that a temporary one replaced: a handler's frame has it, or the caller puts it back.
    #[must_use]
    pub fn take_saved(&self) -> Option<SigSet> {
        let saved = self.saved();
        if saved.is_some() {
            self.saved.store(0, Ordering::SeqCst);
        }
        saved
    }

    fn saved(&self) -> Option<SigSet> {
        let saved = SigSet(self.saved.load(Ordering::SeqCst));
        (!saved.is_empty()).then(|| saved.without(IS_SAVED))
    }
}

/// Runs a call with another mask (ppoll, pselect, epoll_pwait). Where the call was interrupted the mask stays until the
/// handler's frame is built, so that the very signal that interrupted is delivered.
///
/// # Errors
/// The call's.
pub fn with_mask<T>(task: &Task, mask: Option<SigSet>, call: impl FnOnce() -> crate::Result<T>) -> crate::Result<T> {
    let Some(mask) = mask else { return call() };
    if machine::cpu::current().is_attempt() {
        return Err(crate::Errno::INTERRUPTED);
    }
    task.signals.set_temporary_mask(mask);
    // The new mask's own mark would end every sleep: what there is to do is looked at right here.
    machine::cpu::current().clear_pending();
    let result =
        if task.must_exit() || deliver::has_deliverable(task) { Err(crate::Errno::INTERRUPTED) } else { call() };
    if !matches!(result, Err(crate::Errno::INTERRUPTED)) {
        task.signals.restore_mask();
    }
    result
}

/// Sends a signal to the calling task, as the kernel does for SIGPIPE.
pub fn raise(task: &Task, signal: i32) {
    send_task(task, SigInfo::from_task(task, signal, SI_USER));
}
