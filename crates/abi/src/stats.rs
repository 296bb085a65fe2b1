//! The report of `--stats`: what the LibOS counted.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Counters of one container over its life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// System calls that came by a jump.
    pub jumps: u64,
    /// Those by the tier of their site, 1 to 3.
    pub jumps_by_tier: [u64; 3],
    /// System calls that came by a trap (SIGSYS).
    pub traps: u64,
    /// Calls answered without any host call.
    pub without_host_call: u64,
    /// Nanoseconds from the start of `xc` to the first guest instruction.
    pub first_instruction_ns: u64,
    /// Host calls by number: (number, count).
    pub host_calls: Vec<(u16, u64)>,
    /// Host calls by the guest call that made them: (guest call, host call, count), most often first. Those of faults, signals,
    /// ends and the service process stand under [`OUTSIDE_CALLS`].
    pub host_calls_by_guest: Vec<(u16, u16, u64)>,
    /// Guest calls by number: (number, count).
    pub guest_calls: Vec<(u16, u64)>,
    /// Guest calls that are not implemented, by number.
    pub unimplemented: Vec<(u16, u64)>,
    /// Requests to the broker by kind: (kind, count, microseconds until the answer).
    pub broker_requests: Vec<(u8, u64, u64)>,
    /// How often a thread found a lock of the LibOS taken.
    pub lock_waits: u64,
    /// How often it then slept.
    pub lock_sleeps: u64,
    /// Processes made.
    pub forks: u64,
    /// Programs started.
    pub execs: u64,
    /// Largest number of arena bytes in use.
    pub arena_peak: u64,
    /// Sites that trapped, most often first.
    pub trapped_sites: Vec<TrappedSite>,
    /// Nanoseconds that abom took: images found, placed and mapped.
    pub abom_ns: u64,
    /// What patching costs a process in memory.
    pub patched: Patched,
}

/// Bytes of patched text, stubs and slot pages: of each figure, the most that one process had when it ended its program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patched {
    /// All of it, which processes share as long as none writes to it.
    pub mapped: u64,
    /// What the process may write, so that its pages can be, dirty, its own.
    pub private: u64,
}

impl Patched {
    /// The larger of each figure.
    #[must_use]
    pub fn most(self, other: Patched) -> Patched {
        Patched { mapped: self.mapped.max(other.mapped), private: self.private.max(other.private) }
    }
}

/// The guest call of [`Stats::host_calls_by_guest`] that is none.
pub const OUTSIDE_CALLS: u16 = u16::MAX;

/// A `syscall` instruction that trapped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrappedSite {
    /// The guest's name of the file, empty for memory without one.
    pub file: Vec<u8>,
    /// Export and path of the file where it is the host's.
    pub origin: Option<(u16, Vec<u8>)>,
    /// Where in the file; for memory, the address.
    pub offset: u64,
    /// [`SITE_LEAD`] bytes before the instruction, it, and bytes behind it; it alone where those cannot be read.
    pub bytes: Vec<u8>,
    /// How often.
    pub count: u64,
}

/// Bytes before the instruction in [`TrappedSite::bytes`].
pub const SITE_LEAD: usize = 8;
/// Bytes of a site and its surroundings.
pub const SITE_BYTES: usize = 16;
