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
    /// Guest calls by number: (number, count).
    pub guest_calls: Vec<(u16, u64)>,
    /// Guest calls that are not implemented, by number.
    pub unimplemented: Vec<(u16, u64)>,
    /// Requests to the broker by kind.
    pub broker_requests: Vec<(u8, u64)>,
    /// Microseconds that guests waited for the broker.
    pub broker_wait_us: u64,
    /// Processes made.
    pub forks: u64,
    /// Programs started.
    pub execs: u64,
    /// Largest number of arena bytes in use.
    pub arena_peak: u64,
    /// Addresses of sites that trapped, by how often: (file's name, offset in it, count).
    pub trapped_sites: Vec<(Vec<u8>, u64, u64)>,
}
