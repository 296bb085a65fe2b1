//! Moves and resizes: mremap(2).

use super::map::{Placement, Wish, fill, may_lock};
use super::space::{Mm, State};
use super::vma::{Backing, Vma, VmaFlags};
use super::{is_aligned, page_align, place};
use crate::{Errno, Result};
use alloc::vec::Vec;
use core::ops::Range;
use machine::host;

const MAYMOVE: u32 = 1;
const FIXED: u32 = 2;
const DONTUNMAP: u32 = 4;

/// mremap(2)'s arguments, lengths page aligned.
struct Remap {
    addr: u64,
    old_len: u64,
    new_len: u64,
    flags: u32,
    new_addr: u64,
}

/// What a change leaves to do without the lock.
#[derive(Default)]
struct After {
    removed: Vec<Vma>,
    /// Memory that copies a file and grew by this range.
    grown: Option<(Vma, Range<u64>)>,
}

impl Mm {
    /// Resizes or moves a mapping; returns where it is.
    ///
    /// # Errors
    /// Those of mremap(2).
    pub fn remap(&self, addr: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<u64> {
        let bad = flags & !(MAYMOVE | FIXED | DONTUNMAP) != 0
            || flags & FIXED != 0 && flags & MAYMOVE == 0
            || flags & DONTUNMAP != 0 && (flags & MAYMOVE == 0 || old_len != new_len)
            || !is_aligned(addr);
        let old_len = page_align(old_len).ok_or(Errno::EINVAL)?;
        let new_len = page_align(new_len).filter(|len| *len != 0).ok_or(Errno::EINVAL)?;
        if bad {
            return Err(Errno::EINVAL);
        }
        let request = Remap { addr, old_len, new_len, flags, new_addr };
        let mut after = After::default();
        let mut state = self.state();
        let result = state.remap(&request, &mut after);
        self.forget_images(&mut state, &after.removed);
        drop(state);
        drop(after.removed);
        if let Some((vma, range)) = after.grown {
            refill(&vma, &range)?;
        }
        result
    }
}

/// Reads what a copied mapping holds in a range from its file again.
///
/// # Errors
/// Those of the file.
pub(super) fn refill(vma: &Vma, range: &Range<u64>) -> Result<()> {
    let part = vma.clipped(range);
    let Backing::File { file, offset, .. } = &part.backing else { return Ok(()) };
    let writable = part.prot.contains(super::Prot::READ | super::Prot::WRITE);
    if !writable {
        host::mprotect(part.start, part.len(), (super::Prot::READ | super::Prot::WRITE).bits())?;
    }
    fill(file, *offset, part.start, part.len())?;
    if writable { Ok(()) } else { host::mprotect(part.start, part.len(), part.prot.bits()) }
}

impl State {
    fn remap(&mut self, r: &Remap, after: &mut After) -> Result<u64> {
        // What is patched is a mapping of its own here, and not for the guest.
        self.bring_back(&(r.addr..r.addr.saturating_add(r.old_len)))?;
        let vma = self.tree.find(r.addr).cloned().ok_or(Errno::EFAULT)?;
        if r.flags & (FIXED | DONTUNMAP) != 0 {
            return self.remap_to(r, &vma, after);
        }
        if r.old_len >= r.new_len {
            if r.old_len > r.new_len {
                let end = r.addr.checked_add(r.old_len).ok_or(Errno::EINVAL)?;
                after.removed = self.unmap(r.addr + r.new_len..end)?;
            }
            return Ok(r.addr);
        }
        self.check_resize(r, &vma)?;
        if r.old_len == vma.end - r.addr && self.grow_in_place(r, &vma, after) {
            return Ok(r.addr);
        }
        if r.flags & MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        self.remap_anywhere(r, &vma, after)
    }

    fn check_resize(&self, r: &Remap, vma: &Vma) -> Result<()> {
        if r.old_len == 0 && !vma.is_shared() {
            return Err(Errno::EINVAL);
        }
        if r.old_len > vma.end - r.addr {
            return Err(Errno::EFAULT);
        }
        let is_locked = vma.flags.contains(VmaFlags::LOCKED);
        if is_locked && !may_lock(self.tree.totals().locked.saturating_add(r.new_len.saturating_sub(r.old_len))) {
            return Err(Errno::EAGAIN);
        }
        let more = if r.flags & DONTUNMAP != 0 { r.new_len } else { r.new_len.saturating_sub(r.old_len) };
        self.check_growth(more, if vma.is_data() { more } else { 0 })
    }

    /// Whether the mapping could grow where it is.
    fn grow_in_place(&mut self, r: &Remap, vma: &Vma, after: &mut After) -> bool {
        let Some(end) = r.addr.checked_add(r.new_len) else { return false };
        self.cool(&(vma.end..end));
        if place::check_fixed(r.addr, r.new_len).is_err() || !self.tree.is_free(vma.end..end) {
            return false;
        }
        // An image has no more than its file's text.
        if self.unpatch(&(r.addr..vma.end)).is_err() || host::mremap(r.addr, r.old_len, r.new_len, 0, 0).is_err() {
            return false;
        }
        let Some(vma) = self.tree.find(r.addr).cloned() else { return false };
        let grown = Vma { end, ..vma.clone() };
        self.tree.insert(grown.clipped(&(vma.end..end)));
        self.note_peak();
        self.note_growth(&grown, vma.end..end, after);
        true
    }

    fn note_growth(&self, vma: &Vma, range: Range<u64>, after: &mut After) {
        if vma.is_copied() && !range.is_empty() {
            after.grown = Some((vma.clone(), range));
        }
    }

    /// To an address of the caller's (FIXED), or leaving the old range mapped (DONTUNMAP).
    fn remap_to(&mut self, r: &Remap, vma: &Vma, after: &mut After) -> Result<u64> {
        if r.flags & FIXED == 0 {
            self.check_resize(r, vma)?;
            return self.remap_anywhere(r, vma, after);
        }
        let old_end = r.addr.checked_add(r.old_len).ok_or(Errno::EINVAL)?;
        let new_end = r.new_addr.checked_add(r.new_len).ok_or(Errno::EINVAL)?;
        let overlap = r.addr < new_end && r.new_addr < old_end;
        if overlap || !is_aligned(r.new_addr) || new_end > place::USER_END {
            return Err(Errno::EINVAL);
        }
        place::check_fixed(r.new_addr, r.new_len)?;
        self.cool(&(r.new_addr..new_end));
        self.check_not_kept(&(r.new_addr..new_end))?;
        if r.old_len.min(r.new_len) > vma.end - r.addr || r.old_len > vma.end - r.addr && r.new_len >= r.old_len {
            return Err(Errno::EFAULT);
        }
        after.removed = self.unmap(r.new_addr..new_end)?;
        let shrunk;
        let mut step = r;
        if r.old_len > r.new_len {
            after.removed.extend(self.unmap(r.addr + r.new_len..old_end)?);
            shrunk = Remap { old_len: r.new_len, ..*r };
            step = &shrunk;
        }
        self.check_resize(step, vma)?;
        self.move_to(step, r.new_addr, after)
    }

    fn remap_anywhere(&mut self, r: &Remap, vma: &Vma, after: &mut After) -> Result<u64> {
        let wish = Wish {
            addr: if r.flags & DONTUNMAP != 0 { r.new_addr } else { 0 },
            placement: Placement::Anywhere,
            backing: vma.backing.clone(),
        };
        // Taken first, so that nothing of the host's is overwritten.
        let target = place::with_fresh_range(self, &wish, r.new_len, |addr| place::reserve(addr, r.new_len))?;
        let moved = self.move_to(r, target, after);
        if moved.is_err() {
            let _ = host::munmap(target, r.new_len);
        }
        moved
    }

    fn move_to(&mut self, r: &Remap, target: u64, after: &mut After) -> Result<u64> {
        let flags = MAYMOVE | FIXED | r.flags & DONTUNMAP;
        let end = r.addr.checked_add(r.old_len).ok_or(Errno::EINVAL)?;
        self.unpatch(&(r.addr..end))?;
        let vma = self.tree.find(r.addr).cloned().ok_or(Errno::EFAULT)?;
        host::mremap(r.addr, r.old_len, r.new_len, flags, target)?;
        let old = r.addr..r.addr + r.old_len;
        let mut moved = vma.clipped(&(r.addr..vma.end));
        moved.start = target;
        moved.end = target + r.new_len;
        if r.flags & DONTUNMAP == 0 && r.old_len != 0 {
            after.removed.extend(self.tree.remove(old));
        }
        self.note_growth(&moved, target + r.old_len..moved.end, after);
        self.tree.insert(moved);
        self.note_peak();
        Ok(target)
    }
}
