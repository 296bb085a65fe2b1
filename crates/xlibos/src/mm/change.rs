//! Changes of what is mapped: munmap(2), mprotect(2), mlock(2).

use super::map::may_lock;
use super::space::{Mm, State};
use super::vma::{self, Backing, Prot, VmaFlags};
use super::{PAGE, is_aligned, page_align, place};
use crate::{Errno, Result};
use core::ops::Range;
use machine::{guest, host};

/// PROT_SEM: no meaning on x86.
const PROT_SEM: u32 = 8;
const PROT_GROWSDOWN: u32 = 0x100_0000;
const PROT_GROWSUP: u32 = 0x200_0000;

impl Mm {
    /// Unmaps a range.
    ///
    /// # Errors
    /// EINVAL for what is no range of user addresses; ENOMEM where the host has too many mappings.
    pub fn unmap(&self, addr: u64, len: u64) -> Result<()> {
        let len = page_align(len).filter(|len| *len != 0).ok_or(Errno::EINVAL)?;
        let end = addr.checked_add(len).filter(|end| *end <= place::USER_END).ok_or(Errno::EINVAL)?;
        if !is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state();
        let removed = state.unmap(addr..end)?;
        self.forget_images(&mut state, &removed);
        drop(state);
        drop(removed);
        Ok(())
    }

    /// Changes the protection of a range. As on Linux, what lies before the first obstacle is changed.
    ///
    /// # Errors
    /// EINVAL, ENOMEM for a hole, EACCES beyond what the mapping allows.
    pub fn protect(&self, addr: u64, len: u64, prot: u32) -> Result<()> {
        let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
        if grows == PROT_GROWSDOWN | PROT_GROWSUP || !is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let end = page_align(len).and_then(|len| addr.checked_add(len)).filter(|end| *end > addr);
        let end = end.ok_or(Errno::ENOMEM)?;
        let bits = prot & !grows;
        if bits & !(Prot::all().bits() | PROT_SEM) != 0 {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state();
        let start = state.protect_start(addr, grows)?;
        state.protect(start..end, Prot::from_bits_truncate(bits))
    }
}

impl Mm {
    /// Writes to pages that the guest itself may not write, as a tracer does; returns how much. Pages that others share stay as
    /// they are. While a page is written it cannot be executed: no other thread of the process may run.
    ///
    /// # Errors
    /// EFAULT.
    pub fn poke(&self, addr: u64, bytes: &[u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let at = addr.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let room = usize::try_from(PAGE - at % PAGE).unwrap_or(0);
            match self.poke_page(at, rest.get(..room).unwrap_or(rest)) {
                Ok(count) => done += count,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn poke_page(&self, addr: u64, bytes: &[u8]) -> Result<usize> {
        let (prot, may_write) = {
            let state = self.state();
            let vma = state.tree.find(addr).ok_or(Errno::EFAULT)?;
            (vma.prot, !vma.flags.contains(VmaFlags::SHARED))
        };
        if prot.contains(Prot::WRITE) {
            return guest::write_some(addr, bytes);
        }
        if !may_write {
            return Err(Errno::EFAULT);
        }
        let page = addr & !(PAGE - 1);
        self.protect(page, PAGE, (Prot::READ | Prot::WRITE).bits())?;
        let written = guest::write_some(addr, bytes);
        self.protect(page, PAGE, prot.bits())?;
        written
    }
}

impl State {
    /// With PROT_GROWSDOWN the change begins at the mapping's start.
    fn protect_start(&self, addr: u64, grows: u32) -> Result<u64> {
        if grows == 0 {
            return Ok(addr);
        }
        let vma = self.tree.find(addr).ok_or(Errno::ENOMEM)?;
        let is_stack = matches!(vma.backing, Backing::Stack) || vma.flags.contains(VmaFlags::GROWSDOWN);
        if grows == PROT_GROWSDOWN && is_stack { Ok(vma.start) } else { Err(Errno::EINVAL) }
    }

    fn protect(&mut self, range: Range<u64>, prot: Prot) -> Result<()> {
        let (end, outcome) = self.may_protect(&range, prot);
        let done = range.start..end;
        if !done.is_empty() {
            self.settle(&done)?;
            if prot.contains(Prot::WRITE) {
                // Who writes text finds it as the file has it.
                self.unpatch(&done)?;
            } else if prot != Prot::READ | Prot::EXEC {
                self.bring_back(&done)?;
            }
            if self.tree.overlapping(done.clone()).any(|vma| vma.prot != prot) {
                host::mprotect(done.start, done.end - done.start, prot.bits())?;
            }
            self.tree.update(done, |vma| {
                vma.prot = prot;
                vma.note_writable();
            });
        }
        outcome
    }

    /// Up to where the protection may be given, and what stands there.
    fn may_protect(&self, range: &Range<u64>, prot: Prot) -> (u64, Result<()>) {
        let mut at = range.start;
        let mut new_data = 0;
        for vma in self.tree.overlapping(range.clone()) {
            if vma.start > at {
                return (at, Err(Errno::ENOMEM));
            }
            if !vma.max_prot.contains(prot) {
                return (at, Err(Errno::EACCES));
            }
            let end = vma.end.min(range.end);
            if vma::is_data(prot, vma.flags, &vma.backing) && !vma.is_data() {
                new_data += end - at;
            }
            if let Err(errno) = self.check_growth(0, new_data) {
                return (at, Err(errno));
            }
            at = end;
        }
        (at, if at < range.end { Err(Errno::ENOMEM) } else { Ok(()) })
    }
}

/// mlock(2) and munlock(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locking {
    /// Pages stay in memory.
    Lock,
    /// They need not.
    Unlock,
}

impl Mm {
    /// Marks a range as locked or not. Nothing is locked on the host: a guest cannot tell, but by the marks.
    ///
    /// # Errors
    /// EPERM without any allowance, ENOMEM beyond it or for a hole, EINVAL.
    pub(crate) fn lock_range(&self, addr: u64, len: u64, locking: Locking) -> Result<()> {
        let start = addr & !(PAGE - 1);
        let len = page_align(len.wrapping_add(addr - start)).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        let mut state = self.state();
        if locking == Locking::Lock {
            let already = state.tree.totals_in(&(start..end)).locked;
            check_lock(state.tree.totals().locked.saturating_sub(already).saturating_add(len))?;
        }
        if start == end {
            return Ok(());
        }
        let done = state.tree.covered_until(&(start..end));
        state.tree.update(start..done, |vma| vma.flags.set(VmaFlags::LOCKED, locking == Locking::Lock));
        if done < end { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// mlockall(2) and munlockall(2): what is mapped (`current`) and what will be (`future`).
    ///
    /// # Errors
    /// EPERM, ENOMEM.
    pub(crate) fn lock_all(&self, current: Option<Locking>, future: Locking) -> Result<()> {
        let mut state = self.state();
        if current == Some(Locking::Lock) {
            check_lock(state.tree.totals().mapped)?;
        } else if future == Locking::Lock {
            check_lock(0)?;
        }
        if let Some(locking) = current {
            state.tree.update(0..u64::MAX, |vma| vma.flags.set(VmaFlags::LOCKED, locking == Locking::Lock));
        }
        state.default_flags.set(VmaFlags::LOCKED, future == Locking::Lock);
        Ok(())
    }
}

/// Whether the caller may have so many bytes locked.
///
/// # Errors
/// EPERM without any allowance, ENOMEM beyond it.
pub(crate) fn check_lock(bytes: u64) -> Result<()> {
    // Who may lock nothing may not even ask.
    if may_lock(bytes.max(1)) {
        return Ok(());
    }
    let none = super::space::limit(super::space::LIMIT_MEMLOCK) == 0;
    Err(if none { Errno::EPERM } else { Errno::ENOMEM })
}
