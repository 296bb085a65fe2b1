//! The heap's end: brk(2).

use super::map::{MAP_ANONYMOUS, MAP_POPULATE};
use super::place::{self, HOST_FIXED_NOREPLACE};
use super::space::{LIMIT_DATA, Mm, State, limit};
use super::vma::{Backing, Prot, Vma};
use super::{PAGE, page_align};
use crate::{Errno, Result};
use alloc::vec::Vec;
use machine::host;

const HOST_PRIVATE: u32 = 2;
/// Most bytes of a heap's growth that are there at once: what the C library asks for where it wants a page or less. For more
/// it asks for as much more, of which nobody knows how much is used.
const MOST_AT_ONCE: u64 = 33 * PAGE;

impl Mm {
    /// Sets where the heap starts; it is empty then.
    pub fn set_brk_start(&self, addr: u64) {
        let mut state = self.state();
        state.brk_start = addr;
        state.brk = addr;
    }

    /// Moves the heap's end; returns where it is then, which is where it was if it cannot move.
    pub fn brk(&self, wanted: u64) -> u64 {
        let mut state = self.state();
        let removed = state.move_brk(wanted);
        let now = state.brk;
        drop(state);
        drop(removed);
        now
    }
}

impl State {
    fn move_brk(&mut self, wanted: u64) -> Result<Vec<Vma>> {
        if wanted < self.brk_start || self.brk_start == 0 {
            return Err(Errno::EINVAL);
        }
        if wanted - self.brk_start > limit(LIMIT_DATA) {
            return Err(Errno::ENOMEM);
        }
        let old_end = page_align(self.brk).ok_or(Errno::ENOMEM)?;
        let new_end = page_align(wanted).ok_or(Errno::ENOMEM)?;
        let mut removed = Vec::new();
        if new_end < old_end {
            removed = self.unmap(new_end..old_end)?;
            self.brk_sank = true;
        }
        if new_end > old_end {
            self.grow_brk(old_end, new_end)?;
        }
        self.brk = wanted;
        Ok(removed)
    }

    fn grow_brk(&mut self, start: u64, end: u64) -> Result<()> {
        place::check_fixed(start, end - start)?;
        // A page is left free below the next mapping, as on Linux.
        self.cool(&(start..end + PAGE));
        if !self.tree.is_free(start..end + PAGE) {
            return Err(Errno::ENOMEM);
        }
        self.check_growth(end - start, end - start)?;
        let prot = Prot::READ | Prot::WRITE;
        // A heap that grew by as much before, and never shrank, was used up: a call takes half of what a fault for each page does.
        let len = end - start;
        let is_used_up = !self.brk_sank && len <= start - self.brk_start && len <= MOST_AT_ONCE;
        let populate = if is_used_up { MAP_POPULATE } else { 0 };
        let flags = HOST_PRIVATE | MAP_ANONYMOUS | HOST_FIXED_NOREPLACE | populate;
        host::mmap(start, end - start, prot.bits(), flags, -1, 0)?;
        let (backing, flags) = (Backing::Heap, self.default_flags);
        self.tree.insert(Vma { start, end, prot, max_prot: Prot::all(), flags, backing });
        self.note_peak();
        Ok(())
    }
}
