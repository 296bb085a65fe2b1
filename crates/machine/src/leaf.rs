//! Leaves: calls that never sleep. The entry serves them without a whole frame ([`crate::frame`]).

use crate::cpu::Cpu;
use core::sync::atomic::{AtomicU64, Ordering};

/// Serves a leaf and answers what goes to rax. It never sleeps, takes no lock that is held for long and no memory, makes no
/// thread, and of the frame reads the arguments alone.
pub type Leaf = extern "C" fn(cpu: &'static Cpu) -> u64;

/// How many numbers of calls the image's table of leaves, `kernel_leaves`, covers.
pub const NUMBERS: usize = 470;

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
