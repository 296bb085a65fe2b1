//! Resource limits: getrlimit(2).

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use machine::sync::Mutex;

/// RLIM_INFINITY.
pub const INFINITY: u64 = u64::MAX;
/// RLIMIT_CPU.
pub const CPU: usize = 0;
/// RLIMIT_FSIZE.
pub const FSIZE: usize = 1;
/// RLIMIT_STACK.
pub const STACK: usize = 3;
/// RLIMIT_NPROC.
pub const NPROC: usize = 6;
/// RLIMIT_NOFILE.
pub const NOFILE: usize = 7;
/// RLIMIT_SIGPENDING.
pub const SIGPENDING: usize = 11;

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Soft limit.
    pub current: u64,
    /// Hard limit.
    pub max: u64,
}

/// The limits of a process, by RLIMIT_ number.
#[derive(Debug)]
pub struct Limits {
    table: Mutex<[Limit; 16]>,
    /// The soft RLIMIT_FSIZE again: each write looks at it.
    file_size: AtomicU64,
    /// /proc/PID/oom_score_adj: kept for who asks.
    oom_adjustment: AtomicI32,
    /// /proc/PID/coredump_filter: kept for who asks, since no core is written.
    core_filter: AtomicU32,
}

/// Which mappings a core has where nobody says so, and all that can be said.
const CORE_FILTER: u32 = 0x33;
const CORE_FILTER_ALL: u32 = 0x1ff;

impl Default for Limits {
    fn default() -> Self {
        let infinite = Limit { current: INFINITY, max: INFINITY };
        let mut table = [infinite; 16];
        table[STACK].current = 8 << 20;
        table[4].current = 0;
        table[NPROC] = Limit { current: 96_365, max: 96_365 };
        table[NOFILE] = Limit { current: 1024, max: 1 << 20 };
        table[8] = Limit { current: 8 << 20, max: 8 << 20 };
        table[SIGPENDING] = table[NPROC];
        table[12] = Limit { current: 819_200, max: 819_200 };
        table[13] = Limit { current: 0, max: 0 };
        table[14] = Limit { current: 0, max: 0 };
        Limits::with(table, 0, CORE_FILTER)
    }
}

impl Limits {
    fn with(table: [Limit; 16], oom_adjustment: i32, core_filter: u32) -> Limits {
        let file_size = AtomicU64::new(table[FSIZE].current);
        let (oom_adjustment, core_filter) = (AtomicI32::new(oom_adjustment), AtomicU32::new(core_filter));
        Limits { table: Mutex::new(table), file_size, oom_adjustment, core_filter }
    }

    /// The soft RLIMIT_FSIZE.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        self.file_size.load(Ordering::Relaxed)
    }

    /// A limit; None for a number that is none.
    #[must_use]
    pub fn get(&self, resource: usize) -> Option<Limit> {
        self.table.lock().get(resource).copied()
    }

    /// Sets a limit.
    pub fn set(&self, resource: usize, limit: Limit) {
        if let Some(slot) = self.table.lock().get_mut(resource) {
            *slot = limit;
        }
        if resource == FSIZE {
            self.file_size.store(limit.current, Ordering::Relaxed);
        }
    }

    /// /proc/PID/oom_score_adj.
    #[must_use]
    pub fn oom_adjustment(&self) -> i32 {
        self.oom_adjustment.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set_oom_adjustment(&self, value: i32) {
        self.oom_adjustment.store(value, Ordering::Relaxed);
    }

    /// /proc/PID/coredump_filter.
    #[must_use]
    pub fn core_filter(&self) -> u32 {
        self.core_filter.load(Ordering::Relaxed)
    }

    /// Sets it; what is not known is left out.
    pub fn set_core_filter(&self, value: u32) {
        self.core_filter.store(value & CORE_FILTER_ALL, Ordering::Relaxed);
    }

    /// A copy: fork.
    #[must_use]
    pub fn copy(&self) -> Limits {
        Limits::with(*self.table.lock(), self.oom_adjustment(), self.core_filter())
    }
}
