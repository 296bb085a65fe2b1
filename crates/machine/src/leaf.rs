//! Leaves: calls that never sleep. The entry serves them without a whole frame ([`crate::frame`]).
//!
//! A call that seldom waits is attempted as a leaf: where it would have to, it begins again with a whole frame.

use crate::cpu::Cpu;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Serves a leaf and answers what goes to rax. It never sleeps, takes no lock that is held for long and little memory, makes no
/// thread, and of the frame reads the arguments alone.
pub type Leaf = extern "C" fn(cpu: &'static Cpu) -> u64;

/// What a leaf answers whose call is to begin again with a whole frame. No call answers that.
pub const AGAIN: u64 = -4096_i64 as u64;

impl Cpu {
    /// Serves a call that must not wait now.
    #[inline]
    pub fn attempt<R>(&self, serve: impl FnOnce() -> R) -> R {
        self.attempts.set(true);
        let served = serve();
        self.attempts.set(false);
        served
    }

    /// Does what may wait, also in an attempt, and is not done again: the registers are whole when its function has returned.
    #[inline]
    pub fn for_good<R>(&self, act: impl FnOnce() -> R) -> R {
        let was_attempt = self.attempts.replace(false);
        let done = act();
        self.attempts.set(was_attempt);
        done
    }

    /// Whether the call that the thread serves is an attempt: who would wait, or do what a second one does again, ends it as if
    /// it had been interrupted.
    #[inline]
    #[must_use]
    pub fn is_attempt(&self) -> bool {
        self.attempts.get()
    }
}

/// How many numbers of calls the image's table of leaves, `kernel_leaves`, covers.
pub const NUMBERS: usize = 470;

/// How the entry serves calls, by number.
#[repr(C)]
pub struct Table {
    /// The leaves.
    pub leaves: [Option<Leaf>; NUMBERS],
    /// Which of the thread's words is the answer, from 1; 0 for none. Such a call has no arguments and cannot fail. [`MASK`] for the
    /// call that changes the thread's signal mask.
    pub answers: [u8; NUMBERS],
}

/// The entry serves rt_sigprocmask(2) by itself where the mask lets nothing through that it did not before; else its leaf does.
pub const MASK: u8 = u8::MAX;

/// How many calls a word answers.
pub const WORDS: usize = 7;

/// The kernel's object for a thread ([`Cpu::set_task`]).
pub trait Thread: Send + Sync + 'static {
    /// The words that answer calls, in the order of [`Table::answers`].
    fn words(&self) -> [&AtomicI32; WORDS];

    /// Its signal mask, bit n-1 for signal n. Only the thread itself changes it.
    fn mask(&self) -> &AtomicU64;
}

/// Numbers below are looked up there.
pub(crate) static LIMIT: AtomicU64 = AtomicU64::new(0);

/// From now on leaves are served as such.
pub fn serve() {
    LIMIT.store(NUMBERS as u64, Ordering::SeqCst);
}

/// From now on they are calls as all others, as they are at first: where each call is counted or traced.
pub fn serve_none() {
    LIMIT.store(0, Ordering::SeqCst);
}
