//! Memory of the whole container: sysinfo(2), /proc/meminfo.

use super::{Backing, Mm, Vma, charge};

/// Where the host's size is not told.
const UNKNOWN: u64 = 4 << 30;

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// What there is: the limit, or the host's.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
    /// What programs could still get.
    pub available: u64,
    /// Files in memory.
    pub files: u64,
    /// Private writable memory of the processes; how much of it was touched, the host does not tell.
    pub committed: u64,
}

/// As they are now.
#[must_use]
pub fn now() -> Figures {
    let config = crate::kernel::config();
    let (limit, host, at_start) = config.map_or((0, 0, 0), |config| {
        (config.memory_limit, config.machine.memory_total, config.machine.memory_available)
    });
    figures((limit, host, at_start), charge::charged(), crate::fs::memory_used())
}

fn figures((limit, host, at_start): (u64, u64, u64), committed: u64, files: u64) -> Figures {
    let host = if host == 0 { UNKNOWN } else { host };
    let total = if limit == 0 { host } else { limit.min(host) };
    let at_start = if at_start == 0 { total } else { at_start.min(total) };
    // What is reserved and never touched must not look like a full machine.
    let available = at_start.saturating_sub(committed).saturating_sub(files).max(at_start / 16);
    Figures { total, free: available, available, files, committed }
}

impl Mm {
    /// Bytes that may be resident. The host does not tell; memory that cannot be touched, and a stack's unused part,
    /// are left out.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.state().tree.iter().map(Vma::resident).sum()
    }
}

impl Vma {
    /// Its part of [`Mm::resident`].
    #[must_use]
    pub fn resident(&self) -> u64 {
        /// What Linux gives a first stack at the start.
        const USED_STACK: u64 = 132 << 10;
        match &self.backing {
            _ if self.prot.is_empty() => 0,
            Backing::Stack => self.len().min(USED_STACK),
            _ => self.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_total_where_it_is_smaller_than_the_host() {
        assert_eq!(figures((1 << 20, 1 << 30, 1 << 29), 0, 0).total, 1 << 20);
        assert_eq!(figures((1 << 40, 1 << 30, 1 << 29), 0, 0).total, 1 << 30);
        assert_eq!(figures((0, 1 << 30, 1 << 29), 0, 0).available, 1 << 29);
    }

    #[test]
    fn use_lowers_what_is_available_and_never_to_nothing() {
        assert_eq!(figures((1 << 20, 0, 0), 1 << 18, 1 << 18).available, 1 << 19);
        assert_eq!(figures((1 << 20, 0, 0), 1 << 40, 0).available, 1 << 16);
    }
}
