//! The tree of mappings: what lies where. Pure: no host call, no lock.

use super::{PAGE, STACK_GUARD_GAP};
use crate::fs::File;
use crate::fs::file::{Sharing, WritableMappings};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

bitflags::bitflags! {
    /// Protection: PROT_*.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// PROT_READ.
        const READ = 1;
        /// PROT_WRITE.
        const WRITE = 2;
        /// PROT_EXEC.
        const EXEC = 4;
    }
}

bitflags::bitflags! {
    /// Properties of a mapping other than its protection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VmaFlags: u32 {
        /// Writes are seen by others: MAP_SHARED.
        const SHARED = 1;
        /// mlock(2).
        const LOCKED = 2;
        /// MAP_NORESERVE.
        const NORESERVE = 4;
        /// MAP_GROWSDOWN.
        const GROWSDOWN = 8;
        /// MADV_DONTFORK.
        const DONTFORK = 16;
        /// MADV_WIPEONFORK.
        const WIPEONFORK = 32;
        /// MADV_DONTDUMP.
        const DONTDUMP = 64;
        /// A patched image lies in its place: see [`super::live`].
        const PATCHED = 128;
        /// A private mapping of a file that could be written once: pages of it may be the process's own.
        const WRITTEN = 256;
    }
}

/// How the host holds a file's mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A mapping of the host's handle.
    Handle,
    /// Memory of the process, filled by reading the file.
    Copied,
    /// A mapping of the file's patched image: see [`super::image`].
    Image,
}

/// Where a mapping's contents come from.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Zeros.
    Zero,
    /// A file from an offset on.
    File {
        /// The open file.
        file: Arc<File>,
        /// Offset of the first byte in the file.
        offset: u64,
        /// Whether writes reach the file.
        sharing: Sharing,
        /// How the host holds it.
        form: Form,
        /// Of a shared mapping that can write, for files that count those.
        counted: Option<Arc<WritableMappings>>,
    },
    /// Zeros that forked children share. The number tells one such object from another.
    SharedZero {
        /// Number of the object.
        id: u64,
        /// Offset of the first byte in the object.
        offset: u64,
    },
    /// The stack of the first thread.
    Stack,
    /// The heap that brk(2) moves.
    Heap,
    /// Code that the kernel gives to programs.
    Vdso,
}

impl Backing {
    /// A private mapping of a file.
    #[must_use]
    pub fn file(file: Arc<File>, offset: u64) -> Backing {
        Backing::File { file, offset, sharing: Sharing::Private, form: Form::Handle, counted: None }
    }

    /// The backing `bytes` further on.
    fn advanced(&self, bytes: u64) -> Backing {
        let mut new = self.clone();
        match &mut new {
            Backing::File { offset, .. } | Backing::SharedZero { offset, .. } => *offset = offset.wrapping_add(bytes),
            Backing::Zero | Backing::Stack | Backing::Heap | Backing::Vdso => {}
        }
        new
    }

    /// Whether `next` goes on where this one ends after `len` bytes.
    fn continues(&self, len: u64, next: &Backing) -> bool {
        match (self, next) {
            (Backing::Zero, Backing::Zero)
            | (Backing::Stack, Backing::Stack)
            | (Backing::Heap, Backing::Heap)
            | (Backing::Vdso, Backing::Vdso) => true,
            (Backing::SharedZero { id, offset }, Backing::SharedZero { id: next_id, offset: next_offset }) => {
                id == next_id && offset.wrapping_add(len) == *next_offset
            }
            (
                Backing::File { file, offset, sharing, form, .. },
                Backing::File { file: next_file, offset: next_offset, sharing: next_sharing, form: next_form, .. },
            ) => {
                Arc::ptr_eq(file, next_file)
                    && sharing == next_sharing
                    && form == next_form
                    && offset.wrapping_add(len) == *next_offset
            }
            _ => false,
        }
    }
}

/// One mapping: a range with one protection and one backing.
#[derive(Clone, Debug)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Protection.
    pub prot: Prot,
    /// What mprotect(2) may give at most.
    pub max_prot: Prot,
    /// Properties.
    pub flags: VmaFlags,
    /// Contents.
    pub backing: Backing,
}

impl Vma {
    /// Bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether others see writes.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.flags.contains(VmaFlags::SHARED)
    }

    /// Whether RLIMIT_DATA counts it: private and writable, no stack.
    #[must_use]
    pub fn is_data(&self) -> bool {
        is_data(self.prot, self.flags, &self.backing)
    }

    /// Whether no file is behind it.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self.backing, Backing::Zero | Backing::Stack | Backing::Heap)
    }

    /// Whether the host's memory must be filled from the file after it was emptied.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        matches!(self.backing, Backing::File { form: Form::Copied, .. })
    }

    /// Whether the host's memory is that of the file's patched image.
    #[must_use]
    pub fn is_patched(&self) -> bool {
        matches!(self.backing, Backing::File { form: Form::Image, .. }) || self.flags.contains(VmaFlags::PATCHED)
    }

    /// The part within a range, which it must touch.
    #[must_use]
    pub fn clipped(&self, range: &Range<u64>) -> Vma {
        let start = self.start.max(range.start);
        let end = self.end.min(range.end);
        Vma { start, end, backing: self.backing.advanced(start - self.start), ..self.clone() }
    }

    /// Notes that it can be written, if it can.
    pub(super) fn note_writable(&mut self) {
        if self.prot.contains(Prot::WRITE) && !self.is_shared() && matches!(self.backing, Backing::File { .. }) {
            self.flags |= VmaFlags::WRITTEN;
        }
    }

    /// Whether the host has a file's own pages there, which nobody could write, and no more than that.
    #[must_use]
    pub fn is_pristine(&self) -> bool {
        let is_files = matches!(self.backing, Backing::File { form: Form::Handle | Form::Image, .. });
        is_files && self.flags.is_empty() && !self.prot.contains(Prot::WRITE)
    }

    fn merges_with(&self, next: &Vma) -> bool {
        // As on Linux, constants do not merge with what has pages of its own.
        self.end == next.start
            && self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.flags == next.flags
            && self.backing.continues(self.len(), &next.backing)
    }
}

/// Whether RLIMIT_DATA counts such a mapping.
#[must_use]
pub fn is_data(prot: Prot, flags: VmaFlags, backing: &Backing) -> bool {
    prot.contains(Prot::WRITE)
        && !flags.intersects(VmaFlags::SHARED | VmaFlags::GROWSDOWN)
        && !matches!(backing, Backing::Stack)
}

/// Sums over the tree, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All mappings.
    pub mapped: u64,
    /// Private writable ones.
    pub data: u64,
    /// Zeros that are shared.
    pub shared: u64,
    /// Files that are shared.
    pub shared_files: u64,
    /// Locked ones.
    pub locked: u64,
    /// The stack.
    pub stack: u64,
    /// Executable ones.
    pub exec: u64,
    /// Those that grow.
    pub growing: u64,
}

impl Totals {
    fn add(&mut self, vma: &Vma) {
        self.change(vma, u64::wrapping_add);
    }

    fn subtract(&mut self, vma: &Vma) {
        self.change(vma, u64::wrapping_sub);
    }

    fn change(&mut self, vma: &Vma, operation: fn(u64, u64) -> u64) {
        let apply = |total: &mut u64, counts: bool| {
            if counts {
                *total = operation(*total, vma.len());
            }
        };
        apply(&mut self.mapped, true);
        apply(&mut self.data, vma.is_data());
        apply(&mut self.shared, matches!(vma.backing, Backing::SharedZero { .. }));
        apply(&mut self.shared_files, vma.is_shared() && matches!(vma.backing, Backing::File { .. }));
        apply(&mut self.locked, vma.flags.contains(VmaFlags::LOCKED));
        apply(&mut self.stack, matches!(vma.backing, Backing::Stack));
        apply(&mut self.exec, vma.prot.contains(Prot::EXEC));
        apply(&mut self.growing, vma.flags.contains(VmaFlags::GROWSDOWN));
    }
}

/// The mappings of an address space, by start. They never overlap; neighbours that can be one are one.
#[derive(Clone, Debug, Default)]
pub struct VmaTree {
    map: BTreeMap<u64, Vma>,
    /// Ranges that are taken without being the guest's: stubs of patched images. Ordered by nothing.
    kept: Vec<Range<u64>>,
    totals: Totals,
}

impl VmaTree {
    /// No mapping.
    #[must_use]
    pub const fn new() -> VmaTree {
        VmaTree {
            map: BTreeMap::new(),
            kept: Vec::new(),
            totals: Totals { mapped: 0, data: 0, shared: 0, shared_files: 0, locked: 0, stack: 0, exec: 0, growing: 0 },
        }
    }

    /// Sums.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// How many mappings there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.map.len()
    }

    /// All, from low to high.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.map.values()
    }

    /// The mapping that holds an address.
    #[must_use]
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..=addr).next_back().map(|(_, vma)| vma).filter(|vma| vma.end > addr)
    }

    /// The lowest mapping that starts at an address or above.
    #[must_use]
    pub fn first_from(&self, addr: u64) -> Option<&Vma> {
        self.map.range(addr..).next().map(|(_, vma)| vma)
    }

    /// The highest mapping that ends at an address or below.
    #[must_use]
    pub fn last_until(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..addr).next_back().map(|(_, vma)| vma).filter(|vma| vma.end <= addr)
    }

    /// The start of a mapping that grows down towards an address, where there is no gap between.
    #[must_use]
    pub fn grows_towards(&self, addr: u64) -> Option<u64> {
        if self.totals.growing == 0 {
            return None;
        }
        let next = self.first_from(addr).filter(|vma| vma.flags.contains(VmaFlags::GROWSDOWN));
        next.map(|vma| vma.start).filter(|start| start - addr < STACK_GUARD_GAP)
    }

    /// Mappings that touch a range, from low to high.
    pub fn overlapping(&self, range: Range<u64>) -> impl DoubleEndedIterator<Item = &Vma> {
        let from = self.find(range.start).map_or(range.start, |vma| vma.start);
        let to = range.end.max(from);
        self.map.range(from..to).map(|(_, vma)| vma)
    }

    /// Whether nothing is mapped or kept in a range.
    #[must_use]
    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.kept_in(&range).is_none() && self.overlapping(range).next().is_none()
    }

    /// Keeps a free range from mappings.
    pub fn keep(&mut self, range: Range<u64>) {
        self.kept.push(range);
    }

    /// Gives a kept range free again.
    pub fn unkeep(&mut self, range: &Range<u64>) {
        self.kept.retain(|kept| kept != range);
    }

    /// The ranges that are kept.
    #[must_use]
    pub fn kept(&self) -> &[Range<u64>] {
        &self.kept
    }

    /// The lowest kept range that a range touches.
    #[must_use]
    pub fn kept_in(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let touches = |kept: &&Range<u64>| kept.start < range.end && range.start < kept.end;
        self.kept.iter().filter(touches).min_by_key(|kept| kept.start).cloned()
    }

    /// Whether all of a range is mapped.
    #[must_use]
    pub fn is_covered(&self, range: Range<u64>) -> bool {
        self.covered_until(&range) == range.end
    }

    /// Up to where a range is mapped without a hole.
    #[must_use]
    pub fn covered_until(&self, range: &Range<u64>) -> u64 {
        let mut at = range.start;
        for vma in self.overlapping(range.clone()) {
            if vma.start > at {
                break;
            }
            at = vma.end.min(range.end);
        }
        at
    }

    /// Mapped parts of a range without the borders between mappings.
    #[must_use]
    pub fn runs(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for vma in self.overlapping(range.clone()) {
            let (start, end) = (vma.start.max(range.start), vma.end.min(range.end));
            match runs.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => runs.push(start..end),
            }
        }
        runs
    }

    /// Sums of what a range holds.
    #[must_use]
    pub fn totals_in(&self, range: &Range<u64>) -> Totals {
        let mut totals = Totals::default();
        self.overlapping(range.clone()).for_each(|vma| totals.add(&vma.clipped(range)));
        totals
    }

    /// The highest free range of `len` bytes within `bounds`.
    #[must_use]
    pub fn find_gap_below(&self, bounds: Range<u64>, len: u64) -> Option<u64> {
        let mut top = bounds.end;
        loop {
            let start = self.unmapped_below(bounds.start..top, len)?;
            match self.kept_in(&(start..start + len)) {
                None => return Some(start),
                Some(kept) => top = kept.start.min(top),
            }
        }
    }

    fn unmapped_below(&self, bounds: Range<u64>, len: u64) -> Option<u64> {
        let mut top = bounds.end;
        for vma in self.map.range(..bounds.end).rev().map(|(_, vma)| vma).take_while(|vma| vma.end > bounds.start) {
            if top.checked_sub(len).is_some_and(|start| start >= vma.end) {
                break;
            }
            top = vma.start;
        }
        top.checked_sub(len).filter(|start| *start >= bounds.start)
    }

    /// The lowest free range of `len` bytes within `bounds`.
    #[must_use]
    pub fn find_gap_above(&self, bounds: Range<u64>, len: u64) -> Option<u64> {
        let mut from = bounds.start;
        loop {
            let start = self.unmapped_above(from..bounds.end, len)?;
            match self.kept_in(&(start..start + len)) {
                None => return Some(start),
                Some(kept) => from = kept.end.max(from),
            }
        }
    }

    fn unmapped_above(&self, bounds: Range<u64>, len: u64) -> Option<u64> {
        let mut at = bounds.start;
        for vma in self.overlapping(bounds.clone()) {
            if vma.start.saturating_sub(at) >= len {
                break;
            }
            at = at.max(vma.end);
        }
        at.checked_add(len).filter(|end| *end <= bounds.end).map(|_| at)
    }

    /// Whether a range lies in the middle of a mapping, which makes two without it.
    #[must_use]
    pub fn is_inside_one(&self, range: &Range<u64>) -> bool {
        self.overlapping(range.clone()).next().is_some_and(|vma| vma.start < range.start && range.end < vma.end)
    }

    /// Whether a range is a mapping: most that are unmapped are.
    #[must_use]
    pub fn is_one(&self, range: &Range<u64>) -> bool {
        self.map.get(&range.start).is_some_and(|vma| vma.end == range.end)
    }

    /// Puts a mapping where nothing is.
    pub fn insert(&mut self, vma: Vma) {
        self.totals.add(&vma);
        let (start, end) = (vma.start, vma.end);
        self.map.insert(start, vma);
        self.merge_at(end);
        self.merge_at(start);
    }

    /// Takes a range out; returns what was there.
    pub fn remove(&mut self, range: Range<u64>) -> Vec<Vma> {
        if let Some(whole) = self.remove_whole(&range) {
            return Vec::from([whole]);
        }
        self.split_at(range.start);
        self.split_at(range.end);
        let keys = self.keys_in(&range);
        let removed: Vec<Vma> = keys.iter().filter_map(|key| self.map.remove(key)).collect();
        removed.iter().for_each(|vma| self.totals.subtract(vma));
        removed
    }

    fn remove_whole(&mut self, range: &Range<u64>) -> Option<Vma> {
        if !self.is_one(range) {
            return None;
        }
        let whole = self.map.remove(&range.start)?;
        self.totals.subtract(&whole);
        Some(whole)
    }

    /// Changes every mapping of a range, splitting those at its ends.
    pub fn update(&mut self, range: Range<u64>, change: impl Fn(&mut Vma)) {
        self.split_at(range.start);
        self.split_at(range.end);
        let keys = self.keys_in(&range);
        for key in &keys {
            if let Some(vma) = self.map.get_mut(key) {
                self.totals.subtract(vma);
                change(vma);
                self.totals.add(vma);
            }
        }
        self.merge_at(range.end);
        keys.iter().rev().for_each(|key| self.merge_at(*key));
    }

    fn keys_in(&self, range: &Range<u64>) -> Vec<u64> {
        if range.is_empty() {
            return Vec::new();
        }
        self.map.range(range.clone()).map(|(key, _)| *key).collect()
    }

    fn split_at(&mut self, at: u64) {
        let Some((_, vma)) = self.map.range_mut(..at).next_back() else { return };
        if vma.end <= at {
            return;
        }
        let right = vma.clipped(&(at..vma.end));
        vma.end = at;
        self.map.insert(at, right);
    }

    /// Makes the mappings on both sides of an address one, where they can be.
    fn merge_at(&mut self, at: u64) {
        let mut downwards = self.map.range(..=at).rev().map(|(_, vma)| vma);
        let (Some(right), Some(left)) = (downwards.next(), downwards.next()) else { return };
        if right.start != at || !left.merges_with(right) {
            return;
        }
        let end = right.end;
        let key = left.start;
        self.map.remove(&at);
        if let Some(left) = self.map.get_mut(&key) {
            left.end = end;
        }
    }
}

/// Pages of a number of bytes.
#[must_use]
pub fn pages(bytes: u64) -> u64 {
    bytes / PAGE
}

#[cfg(test)]
mod tests;
