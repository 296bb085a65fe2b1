//! Where mappings go: top-down, first fit, around the LibOS and what the host keeps for itself.

use super::map::{Placement, Wish};
use super::space::State;
use super::vma::{Backing, Prot};
use super::{PAGE, STACK_GUARD_GAP, page_align};
use crate::{Errno, Result, Task};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use machine::host::{self, HostFd};
use machine::sync::Mutex;

/// End of user addresses.
pub const USER_END: u64 = 0x7fff_ffff_f000;
/// vm.mmap_min_addr of most systems.
const MIN_ADDR: u64 = 0x1_0000;
/// Mappings go below this, minus a random distance.
const BASE: u64 = 0x7ff8_0000_0000;
/// 26 bits of pages: 256 GiB.
const BASE_RANDOM: u64 = 0x3ff_ffff;
/// Stacks of first threads go below this, minus a random distance of up to 8 GiB.
const STACK_TOP: u64 = 0x7ffc_0000_0000;
const STACK_RANDOM: u64 = 0x1f_ffff;
/// Where MAP_32BIT places.
const LOW: Range<u64> = 0x4000_0000..0x8000_0000;

/// Where relocatable programs lie before randomization, ELF_ET_DYN_BASE, and the pages of that.
const PROGRAMS: u64 = 0x5555_5555_4000;
const PROGRAM_RANDOM: u64 = 0xfff_ffff;
/// Where what is placed as a library may begin.
pub(super) const LIBRARIES: Range<u64> = PROGRAMS + (PROGRAM_RANDOM + 1) * PAGE..USER_END;

/// Where relocatable programs may begin.
#[must_use]
pub fn for_programs() -> Range<u64> {
    PROGRAMS..LIBRARIES.start
}

/// Where libraries and interpreters may begin that lie where there is room.
#[must_use]
pub fn for_libraries() -> Range<u64> {
    LIBRARIES
}

/// A random address for a relocatable program.
#[must_use]
pub fn of_program() -> u64 {
    PROGRAMS + (crate::random::next_u64() & PROGRAM_RANDOM) * PAGE
}

pub(super) const HOST_PRIVATE: u32 = 2;
pub(super) const HOST_ANONYMOUS: u32 = 0x20;
pub(super) const HOST_NORESERVE: u32 = 0x4000;
pub(super) const HOST_FIXED: u32 = 0x10;
pub(super) const HOST_FIXED_NOREPLACE: u32 = 0x10_0000;

/// Pages that the host keeps for itself (its vDSO, the runner's first stack), found when a mapping met one.
/// All processes of the container come from one runner, so they are the same in each.
static HOST_PAGES: Mutex<Vec<Range<u64>>> = Mutex::new(Vec::new());
/// None of them lies below: nearly all mappings do, and need no lock that the whole container shares.
static HOST_PAGES_START: AtomicU64 = AtomicU64::new(u64::MAX);

/// How far around a page that the host keeps is left alone.
const NEIGHBOURHOOD: u64 = 0x1_0000;

/// A base for a new address space.
pub(super) fn random_base() -> u64 {
    BASE - (crate::random::next_u64() & BASE_RANDOM) * PAGE
}

/// A soft limit of a task's process.
pub(super) fn limit_of(task: &Task, resource: usize) -> u64 {
    task.process.limits.get(resource).map_or(u64::MAX, |limit| limit.current)
}

/// Checks an address that the caller insists on.
///
/// # Errors
/// ENOMEM beyond user addresses or over the LibOS or the host's vDSO, EINVAL when unaligned, EPERM below
/// the lowest address.
pub(super) fn check_fixed(addr: u64, len: u64) -> Result<()> {
    let end = addr.checked_add(len).filter(|end| *end <= USER_END).ok_or(Errno::ENOMEM)?;
    if !super::is_aligned(addr) {
        return Err(Errno::EINVAL);
    }
    if !machine::cpu::is_guest_range(addr, len) || touches_host_pages(&(addr..end)).is_some() {
        return Err(Errno::ENOMEM);
    }
    if addr < MIN_ADDR { Err(Errno::EPERM) } else { Ok(()) }
}

/// The pages of the host that a range touches.
pub(super) fn touches_host_pages(range: &Range<u64>) -> Option<Range<u64>> {
    if range.end <= HOST_PAGES_START.load(Ordering::Relaxed) {
        return None;
    }
    let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
    HOST_PAGES.lock().iter().find(|pages| overlaps(pages)).cloned()
}

/// Keeps the pages around an address of the host's for the host.
pub fn reserve_host_page(addr: u64) {
    reserve_around(addr, NEIGHBOURHOOD);
}

fn reserve_around(addr: u64, room: u64) {
    let start = (addr & !(NEIGHBOURHOOD - 1)).saturating_sub(room);
    let mut pages = HOST_PAGES.lock();
    pages.push(start..start + NEIGHBOURHOOD + 2 * room);
    HOST_PAGES_START.fetch_min(start, Ordering::Relaxed);
}

impl State {
    /// A free range for `len` bytes (page aligned).
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn choose(&self, wish: &Wish, len: u64) -> Result<u64> {
        if let Some(addr) = self.wished(wish, len) {
            return Ok(addr);
        }
        if wish.placement == Placement::Low {
            return self.tree.find_gap_above(LOW, len).ok_or(Errno::ENOMEM);
        }
        let top = if matches!(wish.backing, Backing::Stack) {
            STACK_TOP - (crate::random::next_u64() & STACK_RANDOM) * PAGE
        } else {
            self.base
        };
        self.below(top, len)
    }

    fn wished(&self, wish: &Wish, len: u64) -> Option<u64> {
        let addr = page_align(wish.addr).filter(|addr| *addr != 0)?.max(MIN_ADDR);
        let end = addr.checked_add(len).filter(|end| *end <= USER_END)?;
        let free = machine::cpu::is_guest_range(addr, len)
            && touches_host_pages(&(addr..end)).is_none()
            && self.tree.is_free(addr..end)
            && self.tree.grows_towards(end).is_none();
        free.then_some(addr)
    }

    fn below(&self, top: u64, len: u64) -> Result<u64> {
        let libos = machine::cpu::libos_range();
        let found = self.below_within(libos.end..top.max(libos.end), len);
        let found = found.or_else(|| self.below_within(MIN_ADDR..libos.start, len));
        // Above the base is the last resort, as on Linux.
        found.or_else(|| self.below_within(libos.end..USER_END, len)).ok_or(Errno::ENOMEM)
    }

    fn below_within(&self, bounds: Range<u64>, len: u64) -> Option<u64> {
        let mut top = bounds.end;
        while top > bounds.start {
            let addr = self.tree.find_gap_below(bounds.start..top, len)?;
            match (touches_host_pages(&(addr..addr + len)), self.tree.grows_towards(addr + len)) {
                (None, None) => return Some(addr),
                (Some(pages), _) => top = pages.start,
                (None, Some(start)) => top = start - STACK_GUARD_GAP,
            }
        }
        None
    }
}

/// Asks the host for a fresh range with `ask`; where the host itself lies there, learns that and asks elsewhere.
///
/// # Errors
/// Those of the host; ENOMEM.
pub(super) fn with_fresh_range(state: &State, wish: &Wish, len: u64, ask: impl Fn(u64) -> Result<u64>) -> Result<u64> {
    for tries in 0..64 {
        let addr = state.choose(wish, len)?;
        match ask(addr) {
            // What lies there may be large: wider steps after every eight, 400 MiB in all.
            Err(Errno::EEXIST) => reserve_around(find_obstacle(addr, len), NEIGHBOURHOOD << (tries / 8)),
            other => return other.map(|_| addr),
        }
    }
    Err(Errno::ENOMEM)
}

/// A page of the host's in a range that has one, by halving.
fn find_obstacle(addr: u64, len: u64) -> u64 {
    let (mut start, mut len) = (addr, len);
    while len > PAGE {
        let half = (len / 2).next_multiple_of(PAGE);
        let half = if half >= len { len - PAGE } else { half };
        let is_free = reserve(start, half).is_ok();
        if is_free {
            let _ = host::munmap(start, half);
            start += half;
            len -= half;
        } else {
            len = half;
        }
    }
    start
}

/// Maps a part of a file privately: `fixed` is one of the host's ways to insist on the range.
///
/// # Errors
/// EEXIST, ENOMEM; those of the host for the file.
pub(super) fn map_file(range: &Range<u64>, prot: Prot, fixed: u32, handle: &HostFd, offset: u64) -> Result<u64> {
    host::mmap(range.start, range.end - range.start, prot.bits(), HOST_PRIVATE | fixed, handle.raw(), offset)
}

/// Takes an empty range without access, so that nothing of the host's can lie there.
///
/// # Errors
/// EEXIST, ENOMEM.
pub(super) fn reserve(addr: u64, len: u64) -> Result<u64> {
    let flags = HOST_PRIVATE | HOST_ANONYMOUS | HOST_NORESERVE | HOST_FIXED_NOREPLACE;
    host::mmap(addr, len, 0, flags, -1, 0)
}

#[cfg(test)]
mod tests {
    use super::super::{MAP_ANONYMOUS, MapRequest, Mm};
    use super::{Backing, HOST_PRIVATE, NEIGHBOURHOOD, PAGE, check_fixed, reserve, reserve_host_page};
    use crate::Errno;
    use machine::host;

    #[test]
    fn pages_that_the_host_keeps_are_refused_and_others_below_and_above_are_not() {
        const KEPT: u64 = 0x7fff_4000_0000;
        reserve_host_page(KEPT);
        assert_eq!(check_fixed(KEPT, PAGE), Err(Errno::ENOMEM));
        assert_eq!(check_fixed(KEPT - NEIGHBOURHOOD - PAGE, 2 * PAGE), Err(Errno::ENOMEM));
        assert_eq!(check_fixed(KEPT - NEIGHBOURHOOD - PAGE, PAGE), Ok(()));
        assert_eq!(check_fixed(KEPT + 2 * NEIGHBOURHOOD, PAGE), Ok(()));
        // Another one below.
        reserve_host_page(KEPT - 8 * NEIGHBOURHOOD);
        assert_eq!(check_fixed(KEPT - 8 * NEIGHBOURHOOD, PAGE), Err(Errno::ENOMEM));
        assert_eq!(check_fixed(KEPT, PAGE), Err(Errno::ENOMEM));
    }

    #[test]
    fn a_large_mapping_of_the_host_is_passed() {
        const LEN: u64 = 200 << 20;
        // Far below what other tests choose.
        let start = (1..64).map(|i| 0x7f80_0000_0000 + i * (2 << 30)).find(|start| reserve(*start, LEN).is_ok());
        let start = start.unwrap_or_default();
        assert_ne!(start, 0, "no free range");
        let mm = Mm::new();
        mm.state().base = start + LEN / 2;
        let request =
            MapRequest { addr: 0, len: PAGE, prot: 3, flags: HOST_PRIVATE | MAP_ANONYMOUS, backing: Backing::Zero };
        let addr = mm.map(request);
        let freed = host::munmap(start, LEN);
        assert!(addr.is_ok_and(|addr| addr < start && mm.unmap(addr, PAGE).is_ok()), "{addr:x?}");
        assert!(freed.is_ok());
    }
}
