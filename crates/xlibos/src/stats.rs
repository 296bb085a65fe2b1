//! What `--stats` reports: counters of the container, and of its threads when they end.
//!
//! Locks: the totals' lock is a leaf.

use crate::Task;
use crate::process::tree;
use abi::stats::{OUTSIDE_CALLS, Patched, SITE_BYTES, SITE_LEAD, Stats, TrappedSite};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use machine::cpu::Cpu;
use machine::process::Kind;
use machine::sync::Mutex;

static STARTED: AtomicU64 = AtomicU64::new(0);
static FIRST_INSTRUCTION: AtomicU64 = AtomicU64::new(0);
static FORKS: AtomicU64 = AtomicU64::new(0);
static EXECS: AtomicU64 = AtomicU64::new(0);

/// Counters of ended threads, and of guest calls by number.
#[derive(Default)]
struct Totals {
    calls: u64,
    traps: u64,
    without_host_call: u64,
    /// By guest call and number.
    host_calls: BTreeMap<(u16, u16), u64>,
    lock_waits: u64,
    lock_sleeps: u64,
    guest_calls: BTreeMap<u16, u64>,
    unimplemented: BTreeMap<u16, u64>,
    jumps_by_tier: [u64; 3],
    /// By name and offset in the file.
    trapped_sites: BTreeMap<(Vec<u8>, u64), TrappedSite>,
    patched: Patched,
}

static TOTALS: Mutex<Totals> = Mutex::new(Totals {
    calls: 0,
    traps: 0,
    without_host_call: 0,
    host_calls: BTreeMap::new(),
    lock_waits: 0,
    lock_sleeps: 0,
    guest_calls: BTreeMap::new(),
    unimplemented: BTreeMap::new(),
    jumps_by_tier: [0; 3],
    trapped_sites: BTreeMap::new(),
    patched: Patched { mapped: 0, private: 0 },
});

/// When the container was started, in nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn note_start(started_ns: u64) {
    STARTED.store(started_ns, Ordering::Relaxed);
}

/// The first guest instruction comes next, if it has not come.
pub(crate) fn note_first_instruction() {
    if FIRST_INSTRUCTION.load(Ordering::Relaxed) == 0 {
        let now = machine::clock::monotonic_ns().wrapping_sub(STARTED.load(Ordering::Relaxed));
        FIRST_INSTRUCTION.store(now, Ordering::Relaxed);
    }
}

/// Counts a new thread or process.
pub(crate) fn count_fork(kind: Kind) {
    if kind != Kind::Thread {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many processes were made.
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Counts a program start.
pub(crate) fn count_exec() {
    EXECS.fetch_add(1, Ordering::Relaxed);
}

/// Notes what patching cost the memory of a program that ends.
pub(crate) fn note_patched(task: &Task) {
    if crate::kernel::is_counting() {
        let patched = task.mm().patched();
        let mut totals = TOTALS.lock();
        totals.patched = totals.patched.most(patched);
    }
}

/// Counts a call by its number.
pub(crate) fn count_guest_call(number: u64, implemented: bool) {
    let Ok(number) = u16::try_from(number) else { return };
    let mut totals = TOTALS.lock();
    *totals.guest_calls.entry(number).or_default() += 1;
    if !implemented {
        *totals.unimplemented.entry(number).or_default() += 1;
    }
}

/// Most sites that are told apart.
const MAX_TRAPPED_SITES: usize = 1024;
/// Most sites in the report.
const REPORTED_SITES: usize = 64;
/// Most bytes that they take there: the report is one datagram.
const REPORTED_BYTES: usize = abi::broker::MAX_REQUEST / 2;

/// Counts the site of a call: a jump by its tier, a trap by its place.
pub(crate) fn count_site(cpu: &Cpu, task: &Task) {
    let back = task.mm().original_pc(cpu.frame().rip);
    if !cpu.is_trapped() {
        let tier = task.mm().tier_of(back).unwrap_or(0);
        let index = usize::from(tier).wrapping_sub(1);
        if let Some(count) = TOTALS.lock().jumps_by_tier.get_mut(index) {
            *count += 1;
        }
        return;
    }
    let site = back.wrapping_sub(2);
    let found = trapped_site(task, site);
    let place = (found.file.clone(), found.offset);
    let mut totals = TOTALS.lock();
    if totals.trapped_sites.len() < MAX_TRAPPED_SITES || totals.trapped_sites.contains_key(&place) {
        totals.trapped_sites.entry(place).or_insert(found).count += 1;
    }
}

/// What the report says of the site at an address.
fn trapped_site(task: &Task, addr: u64) -> TrappedSite {
    let mut bytes = [0; SITE_BYTES];
    let around = machine::guest::read(addr.wrapping_sub(SITE_LEAD as u64), &mut bytes);
    let mut bytes = bytes.to_vec();
    if around.is_err() {
        bytes = SYSCALL.to_vec();
    }
    let Some((file, offset)) = task.mm().file_at(addr) else {
        return TrappedSite { offset: addr, bytes, ..TrappedSite::default() };
    };
    let path = file.path();
    let origin = path.and_then(|path| path.inode().host_name());
    let name = path.map(|path| path.display(&task.root())).unwrap_or_default();
    TrappedSite { file: name, origin, offset, bytes, count: 0 }
}

/// The instruction.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The sites that trapped most often, as many as a report has room for.
fn reported_sites(totals: &Totals) -> Vec<TrappedSite> {
    let mut sites: Vec<_> = totals.trapped_sites.values().cloned().collect();
    sites.sort_by_key(|site| core::cmp::Reverse(site.count));
    let mut room = REPORTED_BYTES;
    let fits = |site: &TrappedSite| {
        let origin = site.origin.as_ref().map_or(0, |(_, path)| path.len());
        let len = site.file.len() + origin + size_of::<TrappedSite>();
        room = room.saturating_sub(len);
        room > 0
    };
    sites.into_iter().take(REPORTED_SITES).take_while(fits).collect()
}

/// Adds a thread's counters to the container's, where a report is wanted.
pub(crate) fn collect_counters(cpu: &Cpu) {
    if !crate::kernel::is_counting() {
        return;
    }
    let mut totals = TOTALS.lock();
    let counts = cpu.take_call_counts();
    totals.calls += counts.calls;
    totals.traps += counts.traps;
    totals.without_host_call += counts.without_host_call;
    let (waits, sleeps) = cpu.take_lock_waits();
    totals.lock_waits += waits;
    totals.lock_sleeps += sleeps;
    drop(totals);
    collect_host_calls(cpu, OUTSIDE_CALLS);
}

/// Adds the host calls of a thread since the last time, as those of one guest call.
pub(crate) fn collect_host_calls(cpu: &Cpu, guest: u16) {
    let mut totals = TOTALS.lock();
    cpu.drain_host_calls(|number, count| *totals.host_calls.entry((guest, number)).or_default() += count);
}

/// Most pairs of guest call and host call in a report.
const REPORTED_PAIRS: usize = 256;

/// Host calls by the guest's call, most often first.
fn reported_host_calls(totals: &Totals) -> Vec<(u16, u16, u64)> {
    let mut pairs: Vec<_> = totals.host_calls.iter().map(|(&(guest, number), &count)| (guest, number, count)).collect();
    pairs.sort_by_key(|&(.., count)| core::cmp::Reverse(count));
    pairs.truncate(REPORTED_PAIRS);
    pairs
}

/// The report, with what the living threads have counted.
pub(crate) fn collect_stats() -> Stats {
    for task in tree::collect_processes().iter().flat_map(|process| process.tasks()) {
        collect_counters(task.cpu());
    }
    collect_counters(machine::cpu::current());
    let totals = TOTALS.lock();
    let pairs = |map: &BTreeMap<u16, u64>| map.iter().map(|(&n, &c)| (n, c)).collect();
    let trapped_sites = reported_sites(&totals);
    let mut host_calls = BTreeMap::<u16, u64>::new();
    totals.host_calls.iter().for_each(|(&(_, number), count)| *host_calls.entry(number).or_default() += count);
    Stats {
        jumps: totals.calls.saturating_sub(totals.traps),
        traps: totals.traps,
        without_host_call: totals.without_host_call,
        first_instruction_ns: FIRST_INSTRUCTION.load(Ordering::Relaxed),
        host_calls: pairs(&host_calls),
        host_calls_by_guest: reported_host_calls(&totals),
        guest_calls: pairs(&totals.guest_calls),
        unimplemented: pairs(&totals.unimplemented),
        broker_requests: crate::fs::broker::counts(),
        lock_waits: totals.lock_waits,
        lock_sleeps: totals.lock_sleeps,
        forks: FORKS.load(Ordering::Relaxed),
        execs: EXECS.load(Ordering::Relaxed),
        arena_peak: arena_peak(),
        jumps_by_tier: totals.jumps_by_tier,
        trapped_sites,
        abom_ns: crate::mm::image::spent_ns(),
        patched: totals.patched,
    }
}

/// Largest number of heap bytes that were in use.
fn arena_peak() -> u64 {
    machine::heap::usage().1
}
