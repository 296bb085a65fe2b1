//! Which calls the cases made and what was answered, gathered over all processes of a run.

use super::{Errno, Result, call, memory, nr};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use libc::c_long;

const CALLS: usize = 512;
const WORDS: usize = 4;
const SUCCESS: i32 = 0;

static TABLE: AtomicUsize = AtomicUsize::new(0);

/// Starts recording; children made from here on record into the same memory.
///
/// # Errors
/// Those of mmap.
pub(crate) fn start() -> Result<()> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let len = CALLS * WORDS * 8;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let table = call(nr::mmap, [0, len, super::Arg::word(prot), super::Arg::word(flags), usize::MAX, 0])?;
    TABLE.store(usize::try_from(table).unwrap_or(0), Ordering::Relaxed);
    Ok(())
}

/// Records one outcome.
pub(super) fn note(number: c_long, result: Result<i64>) {
    let errno = result.err().map_or(SUCCESS, |e| e.0);
    if let Some((word, bit)) = slot(number, errno) {
        word.fetch_or(bit, Ordering::Relaxed);
    }
}

fn slot(number: c_long, errno: i32) -> Option<(&'static AtomicU64, u64)> {
    let table = TABLE.load(Ordering::Relaxed);
    let number = usize::try_from(number).ok().filter(|n| *n < CALLS)?;
    let errno = usize::try_from(errno).ok().filter(|e| *e < WORDS * 64)?;
    (table != 0).then(|| (memory::atomic64(table + (number * WORDS + errno / 64) * 8), 1 << (errno % 64)))
}

/// One line a call that was made: its name, then `ok` and the errnos seen.
pub(crate) fn report() -> Vec<String> {
    let mut lines = Vec::new();
    for &(number, name) in nr::NAMES {
        let seen: Vec<String> = (0..134)
            .filter(|&errno| slot(number, errno).is_some_and(|(w, bit)| w.load(Ordering::Relaxed) & bit != 0))
            .map(|errno| if errno == SUCCESS { "ok".to_owned() } else { format!("{:?}", Errno(errno)) })
            .collect();
        if !seen.is_empty() {
            lines.push(format!("{name}: {}", seen.join(", ")));
        }
    }
    lines
}
