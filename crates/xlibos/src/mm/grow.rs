//! Mappings that grow downwards where something below them is touched: MAP_GROWSDOWN.

use super::map::may_lock;
use super::place::{self, HOST_ANONYMOUS, HOST_FIXED_NOREPLACE, HOST_NORESERVE, HOST_PRIVATE};
use super::space::{self, Mm, State};
use super::vma::{Prot, Vma, VmaFlags};
use super::{PAGE, STACK_GUARD_GAP};
use crate::process::limits;
use crate::{Errno, Result};
use machine::host;

impl Mm {
    /// Lets the mapping above an address grow down to it, if it is one that grows; whether the address is mapped now.
    #[must_use]
    pub fn grow(&self, addr: u64) -> bool {
        let mut state = self.state();
        let grows = |vma: &&Vma| vma.flags.contains(VmaFlags::GROWSDOWN);
        if let Some(vma) = state.tree.find(addr) {
            // Another thread was faster.
            return grows(&vma);
        }
        let Some(vma) = state.tree.first_from(addr).filter(grows).cloned() else { return false };
        state.grow(vma, addr & !(PAGE - 1)).is_ok()
    }
}

impl State {
    fn grow(&mut self, vma: Vma, start: u64) -> Result<()> {
        let grown = Vma { end: vma.start, start, ..vma };
        self.cool(&(grown.start..grown.end));
        self.check_room(&grown, vma.end)?;
        let reserve = if grown.flags.contains(VmaFlags::NORESERVE) { HOST_NORESERVE } else { 0 };
        let flags = HOST_PRIVATE | HOST_ANONYMOUS | HOST_FIXED_NOREPLACE | reserve;
        host::mmap(start, grown.len(), grown.prot.bits(), flags, -1, 0)?;
        self.tree.insert(grown);
        self.note_peak();
        Ok(())
    }

    /// Whether a mapping up to `end` may grow by a part below it: limits, what lies below, and the gap to that.
    fn check_room(&self, grown: &Vma, end: u64) -> Result<()> {
        place::check_fixed(grown.start, grown.len())?;
        let below = self.tree.last_until(grown.start);
        let is_guard = |vma: &Vma| vma.flags.contains(VmaFlags::GROWSDOWN) || vma.prot == Prot::empty();
        let is_near = |vma: &Vma| !is_guard(vma) && grown.start - vma.end < STACK_GUARD_GAP;
        if below.is_some_and(is_near) || !self.tree.is_free(grown.start..grown.end) {
            return Err(Errno::ENOMEM);
        }
        let is_locked = grown.flags.contains(VmaFlags::LOCKED);
        let is_beyond = end - grown.start > space::limit(limits::STACK);
        if is_beyond || is_locked && !may_lock(self.tree.totals().locked.saturating_add(grown.len())) {
            return Err(Errno::ENOMEM);
        }
        self.check_growth(grown.len(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::map::{MAP_FIXED, MAP_PRIVATE};
    use super::super::{MAP_ANONYMOUS, MapRequest, STACK_GUARD_GAP};
    use super::{Mm, PAGE};
    use crate::mm::Backing;

    const MAP_GROWSDOWN: u32 = 0x100;

    fn map(mm: &Mm, addr: u64, prot: u32, flags: u32) -> u64 {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | flags;
        let request = MapRequest { addr, len: PAGE, prot, flags, backing: Backing::Zero };
        mm.map(request).unwrap_or_default()
    }

    #[test]
    fn a_mapping_grows_down_to_the_gap_above_the_next() {
        let mm = Mm::new();
        let len = 4 * STACK_GUARD_GAP;
        let base = mm.choose(0, len).unwrap_or_default();
        let top = base + len - PAGE;
        assert!(base > 0 && map(&mm, top, 3, MAP_FIXED | MAP_GROWSDOWN) == top);
        assert!(mm.grow(top - 1) && mm.grow(base + 2 * STACK_GUARD_GAP + 5));
        let starts = |mm: &Mm| mm.collect_vmas().iter().map(|vma| vma.start).collect::<Vec<_>>();
        assert_eq!(starts(&mm), [base + 2 * STACK_GUARD_GAP]);
        assert_eq!(map(&mm, base, 3, MAP_FIXED), base);
        assert!(!mm.grow(base + STACK_GUARD_GAP) && mm.grow(base + STACK_GUARD_GAP + PAGE));
        // Nothing is placed within the gap below it, unless it is insisted on.
        assert_ne!(map(&mm, base + STACK_GUARD_GAP, 3, 0), base + STACK_GUARD_GAP);
        // What nobody can use is a gap by itself.
        assert_eq!(map(&mm, base, 0, MAP_FIXED), base);
        assert!(mm.grow(base + PAGE) && !mm.grow(base - PAGE));
    }
}
