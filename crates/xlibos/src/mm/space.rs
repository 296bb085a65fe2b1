//! The address space itself: its lock, its copies, its end.

use super::info::Info;
use super::mappings::Mappings;
use super::vma::{Totals, Vma, VmaFlags};
use super::warm::{Left, Object, Ready, Warm};
use super::windows::Windows;
use super::{PAGE, charge, place};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use machine::host;
use machine::sync::{Mutex, MutexGuard, PrivateMutex, PrivateMutexGuard};

/// RLIMIT_DATA.
pub(super) const LIMIT_DATA: usize = 2;
/// RLIMIT_MEMLOCK.
pub(super) const LIMIT_MEMLOCK: usize = 8;
/// RLIMIT_AS.
pub(super) const LIMIT_AS: usize = 9;

/// What the lock protects.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tree: Mappings,
    /// Where brk(2) started and where it is.
    pub(super) brk_start: u64,
    pub(super) brk: u64,
    /// Whether it ever moved back.
    pub(super) brk_sank: bool,
    /// Mappings are placed below.
    pub(super) base: u64,
    /// Flags that new mappings get: mlockall(MCL_FUTURE).
    pub(super) default_flags: VmaFlags,
    /// Largest number of mapped bytes so far.
    pub(super) peak: u64,
    /// Pages of text that an image stands for.
    pub(super) aside: Vec<super::live::Aside>,
    /// Whether it is a copy, whose pages are its parent's until they are written.
    pub(super) is_forked: bool,
    /// Objects that its program was loaded from: see [`super::warm`].
    pub(super) objects: Arc<Vec<Object>>,
    /// Objects of the program before.
    pub(super) warm: Vec<Warm>,
    /// Of those, what is on the host and not in the tree.
    pub(super) ready: Vec<Ready>,
}

/// Holds the state; what it grew or shrank by is charged at the end.
#[derive(Debug)]
pub(super) struct StateGuard<'a> {
    state: PrivateMutexGuard<'a, State>,
    charged: &'a AtomicU64,
}

impl core::ops::Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl core::ops::DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        charge::settle(self.charged, self.state.cost());
    }
}

/// The address space of a guest process.
#[derive(Debug)]
pub struct Mm {
    state: PrivateMutex<State>,
    /// What the container's limit counts of it. Changes with the state locked.
    charged: AtomicU64,
    info: Mutex<Info>,
    /// Guest code whose instructions moved, if any does: see [`super::image`].
    pub(super) images: Mutex<Vec<super::image::Placed>>,
    /// Host files that the process reads in its own memory.
    pub(crate) windows: Windows,
    /// Calls that trapped.
    pub(super) traps: AtomicU32,
}

/// Holds the address space still: no mapping changes.
#[derive(Debug)]
pub struct MmGuard<'a>(StateGuard<'a>);

/// Numbers for shared memory without a name.
pub(super) fn next_shared_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A soft limit of the calling process.
pub(super) fn limit(resource: usize) -> u64 {
    Task::current().map_or(u64::MAX, |task| place::limit_of(task, resource))
}

impl Mm {
    /// An empty address space.
    #[must_use]
    pub fn new() -> Arc<Mm> {
        Mm::after(Vec::new())
    }

    /// An empty address space for a host process that has objects of its program before.
    #[must_use]
    pub fn after(warm: Vec<Warm>) -> Arc<Mm> {
        let mut state = State {
            tree: Mappings::default(),
            brk_start: 0,
            brk: 0,
            brk_sank: false,
            base: place::random_base(),
            default_flags: VmaFlags::empty(),
            peak: 0,
            aside: Vec::new(),
            is_forked: false,
            objects: Arc::default(),
            warm: Vec::new(),
            ready: Vec::new(),
        };
        state.keep_warm(warm);
        Mm::with(state, Info::default(), Vec::new())
    }

    fn with(state: State, info: Info, images: Vec<super::image::Placed>) -> Arc<Mm> {
        let charged = AtomicU64::new(0);
        let (state, windows) = (PrivateMutex::new(state), Windows::new());
        let (info, images, traps) = (Mutex::new(info), Mutex::new(images), AtomicU32::new(0));
        Arc::new(Mm { state, charged, info, images, windows, traps })
    }

    /// Holds the address space still, for fork's clone.
    #[must_use]
    pub fn lock(&self) -> MmGuard<'_> {
        MmGuard(self.state())
    }

    pub(super) fn state(&self) -> StateGuard<'_> {
        StateGuard { state: self.state.lock(), charged: &self.charged }
    }

    /// Whether a thread, which has ended, was changing it.
    #[must_use]
    pub fn is_left_locked(&self, by: &machine::Cpu) -> bool {
        machine::sync::is_left_locked(&self.state, by)
    }

    /// Nobody looks at it again: who held it died with its changes half made.
    pub fn abandon(self: Arc<Self>) {
        charge::settle(&self.charged, 0);
        core::mem::forget(self);
    }

    /// What /proc shows of the program.
    pub fn info(&self) -> MutexGuard<'_, Info> {
        self.info.lock()
    }

    /// The copy that a forked child gets; the host's clone copies the memory while `guard` is held.
    ///
    /// # Errors
    /// ENOMEM where the container's limit has no room for it.
    pub fn fork_copy(&self, guard: &mut MmGuard<'_>) -> Result<Arc<Mm>> {
        let old = &mut *guard.0;
        if !charge::has_room(old.tree.totals().data.saturating_add(charge::PROCESS)) {
            return Err(Errno::ENOMEM);
        }
        // Each mapping costs the child; none of these is its program's.
        old.cool(&(0..u64::MAX));
        let tree = old.tree.fork();
        let peak = tree.totals().mapped;
        let state = State {
            tree,
            brk_start: old.brk_start,
            brk: old.brk,
            brk_sank: old.brk_sank,
            base: old.base,
            default_flags: VmaFlags::empty(),
            peak,
            aside: old.aside.clone(),
            is_forked: true,
            objects: Arc::clone(&old.objects),
            warm: Vec::new(),
            ready: old.ready.clone(),
        };
        let info = self.info.lock().clone();
        let images = self.images.lock().clone();
        let copy = Mm::with(state, info, images);
        drop(copy.state());
        Ok(copy)
    }

    /// Unmaps everything: exec in place, or the end. Returns what stays on the host for the next program.
    pub fn unmap_all(&self, left: Left<'_>) -> Vec<Warm> {
        let (removed, warm) = {
            let mut state = self.state();
            let warm = state.left_warm(&self.images.lock(), left);
            state.ranges_to_unmap(&warm).iter().for_each(unmap_on_host);
            state.brk_start = 0;
            state.brk = 0;
            state.aside.clear();
            state.warm.clear();
            state.ready.clear();
            (core::mem::take(&mut state.tree), warm)
        };
        drop(removed);
        self.windows.clear();
        self.images.lock().clear();
        warm
    }

    /// Whether something is mapped at an address.
    #[must_use]
    pub fn has(&self, addr: u64) -> bool {
        self.state.lock().tree.find(addr).is_some()
    }

    /// Sums over the mappings, in bytes.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.state.lock().tree.totals()
    }

    /// Pages mapped at most so far.
    #[must_use]
    pub fn peak_pages(&self) -> u64 {
        let state = self.state.lock();
        state.peak.max(state.tree.totals().mapped) / PAGE
    }

    /// The mappings, from low to high, as they are now: /proc/PID/maps.
    #[must_use]
    pub fn collect_vmas(&self) -> Vec<Vma> {
        self.state.lock().tree.iter().cloned().collect()
    }

    /// Where the heap starts and ends.
    #[must_use]
    pub fn heap(&self) -> Range<u64> {
        let state = self.state.lock();
        state.brk_start..state.brk
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        charge::settle(&self.charged, 0);
    }
}

impl State {
    /// What the container's limit counts.
    fn cost(&self) -> u64 {
        let totals = self.tree.totals();
        let process = if totals.mapped == 0 { 0 } else { charge::PROCESS };
        process.saturating_add(totals.data).saturating_add(totals.shared)
    }

    /// All that is the guest's, stubs included, in as few ranges as go around the LibOS and what the host keeps.
    fn ranges_to_unmap(&self, warm: &[Warm]) -> Vec<Range<u64>> {
        let libos = machine::cpu::libos_range();
        let mut stay: Vec<_> = warm.iter().flat_map(Warm::ranges).cloned().collect();
        stay.sort_unstable_by_key(|range| range.start);
        let mut parts = self.tree.runs(0..u64::MAX);
        parts.extend(self.tree.kept().iter().cloned());
        parts.extend(self.ready_ranges());
        parts = without(parts, &stay);
        parts.sort_unstable_by_key(|part| part.start);
        let stays = |gap: &Range<u64>| {
            let next = stay.partition_point(|range| range.end <= gap.start);
            stay.get(next).is_some_and(|range| range.start < gap.end)
        };
        let is_guests = |gap: &Range<u64>| {
            (gap.end <= libos.start || gap.start >= libos.end)
                && place::touches_host_pages(gap).is_none()
                && !stays(gap)
        };
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for part in parts {
            match ranges.last_mut() {
                Some(last) if part.start <= last.end || is_guests(&(last.end..part.start)) => {
                    last.end = last.end.max(part.end);
                }
                _ => ranges.push(part),
            }
        }
        ranges
    }

    /// Notes the largest size.
    pub(super) fn note_peak(&mut self) {
        self.peak = self.peak.max(self.tree.totals().mapped);
    }

    /// Takes a range out of the tree and the host; returns what was there, to be dropped without the lock.
    pub(super) fn unmap(&mut self, range: Range<u64>) -> Result<Vec<Vma>> {
        if machine::heap::is_short() && self.tree.is_inside_one(&range) {
            return Err(Errno::ENOMEM);
        }
        self.bring_back(&range)?;
        if self.tree.is_one(&range) {
            host::munmap(range.start, range.end - range.start)?;
            return Ok(self.tree.remove(range));
        }
        for run in self.tree.runs(range.clone()) {
            host::munmap(run.start, run.end - run.start)?;
        }
        Ok(self.tree.remove(range))
    }
}

/// Ranges without what `others`, which are ordered, hold of them.
pub(super) fn without(ranges: Vec<Range<u64>>, others: &[Range<u64>]) -> Vec<Range<u64>> {
    if others.is_empty() {
        return ranges;
    }
    let mut rest = Vec::new();
    for range in ranges {
        let mut from = range.start;
        let first = others.partition_point(|other| other.end <= range.start);
        for other in others.iter().skip(first).take_while(|other| other.start < range.end) {
            if from < other.start {
                rest.push(from..other.start);
            }
            from = other.end;
        }
        if from < range.end {
            rest.push(from..range.end);
        }
    }
    rest
}

pub(super) fn unmap_on_host(run: &Range<u64>) {
    // The host refuses only when it has too many mappings: removing whole ones needs none.
    let _ = host::munmap(run.start, run.end - run.start);
}

#[cfg(test)]
mod tests {
    use super::super::{Backing, Mm};
    use super::super::{MAP_ANONYMOUS, MapRequest, PAGE, reserve_host_page};

    #[test]
    fn all_is_unmapped_by_a_call_for_each_side_of_what_is_not_the_guests() {
        const FIXED_PRIVATE: u32 = 0x12;
        // Above what other tests choose, and below what they take for the host's.
        const AT: u64 = 0x7ff9_0000_0000;
        let mm = Mm::new();
        let pages = [AT, AT + 4 * PAGE, AT + 100 * PAGE];
        for addr in pages {
            let flags = FIXED_PRIVATE | MAP_ANONYMOUS;
            let mapped = mm.map(MapRequest { addr, len: PAGE, prot: 3, flags, backing: Backing::Zero });
            assert_eq!(mapped, Ok(addr));
        }
        let stubs = AT + 200 * PAGE..AT + 202 * PAGE;
        mm.state().tree.keep(stubs.clone());
        let libos = machine::cpu::libos_range();
        let low = libos.start - PAGE..libos.start;
        mm.state().tree.keep(low.clone());
        assert_eq!(mm.state().ranges_to_unmap(&[]), [low.clone(), AT..stubs.end]);
        reserve_host_page(AT + 50 * PAGE);
        assert_eq!(mm.state().ranges_to_unmap(&[]), [low, AT..AT + 5 * PAGE, AT + 100 * PAGE..stubs.end]);
        pages.into_iter().for_each(|addr| assert_eq!(mm.unmap(addr, PAGE), Ok(())));
    }
}
