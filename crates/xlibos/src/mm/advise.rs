//! Advice: madvise(2), and what mincore(2) and msync(2) ask of the tree.

use super::space::Mm;
use super::vma::{Backing, Prot, Vma, VmaFlags};
use super::{is_aligned, page_align, remap};
use crate::{Errno, Result};
use alloc::vec::Vec;
use core::ops::Range;
use machine::host;

/// What an advice does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advice {
    /// The host's affair only.
    Host,
    /// Contents go: MADV_DONTNEED.
    Empty,
    /// Contents may go: MADV_FREE.
    Free,
    /// Recorded, and the host's affair: flag and whether it is set.
    Flag(VmaFlags, bool),
    /// Recorded only: no core dump is written.
    Record(VmaFlags, bool),
    /// Pages of a shared object go: MADV_REMOVE.
    Remove,
}

/// The advice of a number.
fn decode(advice: u32) -> Result<Advice> {
    Ok(match advice {
        0..=3 | 14 | 15 | 20..=23 => Advice::Host,
        4 => Advice::Empty,
        8 => Advice::Free,
        9 => Advice::Remove,
        10 => Advice::Flag(VmaFlags::DONTFORK, true),
        11 => Advice::Flag(VmaFlags::DONTFORK, false),
        16 => Advice::Record(VmaFlags::DONTDUMP, true),
        17 => Advice::Record(VmaFlags::DONTDUMP, false),
        18 => Advice::Flag(VmaFlags::WIPEONFORK, true),
        19 => Advice::Flag(VmaFlags::WIPEONFORK, false),
        100 | 101 => return Err(Errno::EPERM),
        // MADV_MERGEABLE and COLLAPSE: as a kernel without them.
        _ => return Err(Errno::EINVAL),
    })
}

/// A range of pages as madvise, mincore and msync take it.
fn range_of(addr: u64, len: u64, overflow: Errno) -> Result<Range<u64>> {
    if !is_aligned(addr) {
        return Err(Errno::EINVAL);
    }
    let len = page_align(len).ok_or(overflow)?;
    let end = addr.checked_add(len).ok_or(overflow)?;
    Ok(addr..end)
}

impl Mm {
    /// Takes advice on a range. Holes are passed over and reported at the end.
    ///
    /// # Errors
    /// EINVAL, ENOMEM for a hole, EPERM.
    pub fn advise(&self, addr: u64, len: u64, number: u32) -> Result<()> {
        let advice = decode(number)?;
        let range = range_of(addr, len, Errno::EINVAL)?;
        if range.is_empty() {
            return Ok(());
        }
        if let Some(done) = self.advise_plain(&range, number, advice) {
            return done;
        }
        let mut refill = Vec::new();
        let result = {
            let mut state = self.state();
            let covered = state.tree.is_covered(range.clone());
            state.tree.overlapping(range.clone()).try_for_each(|vma| check(vma, advice))?;
            if !matches!(advice, Advice::Record(..) | Advice::Host) {
                state.bring_back(&range)?;
            }
            if !matches!(advice, Advice::Record(..)) {
                for run in state.tree.runs(range.clone()) {
                    host::madvise(run.start, run.end - run.start, number)?;
                }
            }
            if let Advice::Flag(flag, on) | Advice::Record(flag, on) = advice {
                state.tree.update(range.clone(), |vma| vma.flags.set(flag, on));
            }
            if advice == Advice::Empty {
                refill.extend(state.tree.overlapping(range.clone()).filter(|vma| vma.is_copied()).cloned());
            }
            if covered { Ok(()) } else { Err(Errno::ENOMEM) }
        };
        refill.iter().try_for_each(|vma| remap::refill(vma, &range))?;
        result
    }

    /// Advice that is the host's affair, on a part of one mapping that is nothing but the host's memory: other threads may change
    /// mappings while the host takes it, for the host's own order of both is as good as any. None for other advice.
    fn advise_plain(&self, range: &Range<u64>, number: u32, advice: Advice) -> Option<Result<()>> {
        if !matches!(advice, Advice::Host | Advice::Empty | Advice::Free) {
            return None;
        }
        {
            let state = self.state();
            let vma = state.tree.find(range.start).filter(|vma| vma.end >= range.end)?;
            // Text may have an image, or lie aside.
            if vma.is_copied() || vma.prot.contains(Prot::EXEC) {
                return None;
            }
            if let Err(errno) = check(vma, advice) {
                return Some(Err(errno));
            }
        }
        Some(host::madvise(range.start, range.end - range.start, number))
    }

    /// Whether all of a range is mapped: mincore(2). Returns the number of pages.
    ///
    /// # Errors
    /// EINVAL, ENOMEM for a hole.
    pub fn pages_of(&self, addr: u64, len: u64) -> Result<u64> {
        let range = range_of(addr, len, Errno::ENOMEM)?;
        if !self.state().tree.is_covered(range.clone()) {
            return Err(Errno::ENOMEM);
        }
        Ok(super::vma::pages(range.end - range.start))
    }

    /// The mappings of a range for msync(2), and whether they cover it.
    ///
    /// # Errors
    /// EINVAL; ENOMEM for an overflow.
    pub(crate) fn vmas_in(&self, addr: u64, len: u64) -> Result<(Vec<Vma>, bool)> {
        let range = range_of(addr, len, Errno::ENOMEM)?;
        let state = self.state();
        let vmas = state.tree.overlapping(range.clone()).cloned().collect();
        Ok((vmas, state.tree.is_covered(range)))
    }
}

/// Whether a mapping takes the advice.
fn check(vma: &Vma, advice: Advice) -> Result<()> {
    let locked = vma.flags.contains(VmaFlags::LOCKED);
    let refused = match advice {
        Advice::Empty => locked,
        Advice::Free => locked || !vma.is_anonymous(),
        Advice::Flag(VmaFlags::WIPEONFORK, true) => !vma.is_anonymous(),
        Advice::Remove if locked || !matches!(vma.backing, Backing::File { .. } | Backing::SharedZero { .. }) => true,
        Advice::Remove if !vma.is_shared() || !vma.max_prot.contains(Prot::WRITE) => return Err(Errno::EACCES),
        // No file system here punches holes for it.
        Advice::Remove => return Err(Errno::EOPNOTSUPP),
        Advice::Host | Advice::Flag(..) | Advice::Record(..) => false,
    };
    if refused { Err(Errno::EINVAL) } else { Ok(()) }
}
