//! What files in memory may use: a limit for each file system, and one for all of them.

use crate::{Errno, Result};
use core::sync::atomic::{AtomicU64, Ordering};

/// A counted limit in bytes.
#[derive(Debug)]
pub(super) struct Budget {
    limit: AtomicU64,
    used: AtomicU64,
}

/// All files in memory of the container.
static ALL: Budget = Budget::new(u64::MAX);

impl Budget {
    pub(super) const fn new(limit: u64) -> Budget {
        Budget { limit: AtomicU64::new(limit), used: AtomicU64::new(0) }
    }

    /// Counts, here alone.
    pub(super) fn take(&self, bytes: u64) -> Result<()> {
        let limit = self.limit.load(Ordering::Relaxed);
        let fits = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::ENOSPC),
        }
    }

    /// Gives back what was counted here alone.
    pub(super) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts bytes, here and for all.
    pub(super) fn charge(&self, bytes: u64) -> Result<()> {
        self.take(bytes)?;
        charge_all(bytes).inspect_err(|_| self.give(bytes))
    }

    /// Gives counted bytes back.
    pub(super) fn uncharge(&self, bytes: u64) {
        if bytes != 0 {
            self.give(bytes);
            uncharge_all(bytes);
        }
    }

    /// A limit where 0 is none.
    pub(super) fn optional(limit: u64) -> Budget {
        Budget::new(if limit == 0 { u64::MAX } else { limit })
    }

    /// Limit and use, as statfs(2) shows them.
    pub(super) fn sizes(&self) -> (u64, u64) {
        let (all_limit, _) = sizes_of_all();
        (self.limit.load(Ordering::Relaxed).min(all_limit), self.used.load(Ordering::Relaxed))
    }
}

/// Counts bytes that are in no file, for all: a file system's own limit is on what its files hold.
pub(super) fn charge_all(bytes: u64) -> Result<()> {
    if machine::heap::is_short() || !crate::mm::charge::has_room_for_files(bytes) {
        return Err(Errno::ENOSPC);
    }
    ALL.take(bytes)
}

/// Gives them back.
pub(super) fn uncharge_all(bytes: u64) {
    ALL.give(bytes);
}

/// Limit and use of all files in memory.
pub(super) fn sizes_of_all() -> (u64, u64) {
    (ALL.limit.load(Ordering::Relaxed), used_by_all())
}

/// Bytes that files in memory use.
pub(super) fn used_by_all() -> u64 {
    ALL.used.load(Ordering::Relaxed)
}

/// Sets the limit of all files in memory.
pub(super) fn set_limit_of_all(bytes: u64) {
    ALL.limit.store(bytes, Ordering::Relaxed);
}
