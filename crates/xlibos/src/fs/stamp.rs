//! Times of files, as Linux stamps them: those of the last tick, which cost no look at the counter of the processor, and finer ones
//! for a file whose times somebody has seen since they changed last. No stamp is older than one that was given before it, nor than
//! what the host gave to a file of its own before.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use machine::clock;

const REALTIME_COARSE: u32 = 5;
/// No tick takes longer, in nanoseconds, on a processor that is held up either: what is later by more is of a clock that was set back.
const TICK: u64 = 1_000_000_000;

/// The last fine stamp.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The host has stamped files, as fine as it likes, or told of their times.
static HOST_STAMPED: AtomicBool = AtomicBool::new(false);

/// A file of the host's was changed, or may have been: stamps from here on are no older.
pub(super) fn host_stamped() {
    // A line that all read.
    if !HOST_STAMPED.load(Ordering::Relaxed) {
        HOST_STAMPED.store(true, Ordering::Relaxed);
    }
}

/// That of the last tick, or of the last fine one.
pub(super) fn coarse_ns() -> u64 {
    if HOST_STAMPED.load(Ordering::Relaxed) && HOST_STAMPED.swap(false, Ordering::Relaxed) {
        return fine_ns();
    }
    let tick = clock::read_ns(REALTIME_COARSE);
    no_older(tick, LAST.load(Ordering::Relaxed))
}

/// A stamp, or the one before where that is later.
pub(super) fn no_older(stamp: u64, before: u64) -> u64 {
    if stamp < before && before - stamp < TICK { before } else { stamp }
}

/// The time as it is now.
pub(super) fn fine_ns() -> u64 {
    let now = clock::realtime_ns();
    no_older(now, LAST.fetch_max(now, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::{coarse_ns, fine_ns, host_stamped};
    use machine::clock::realtime_ns;

    #[test]
    fn stamps_go_on() {
        for _ in 0..1000 {
            let (coarse, fine) = (coarse_ns(), fine_ns());
            assert!(coarse <= fine && fine <= coarse_ns());
        }
    }

    #[test]
    fn none_is_older_than_the_hosts() {
        for _ in 0..1000 {
            let of_the_host = realtime_ns();
            host_stamped();
            assert!(coarse_ns() >= of_the_host && coarse_ns() >= of_the_host);
        }
    }
}
