//! Bytes of a regular file in memory: pages of the arena, or a memfd for good once the file is large, or mapped
//! shared, or is not small and mapped at all.
//!
//! Writers hold `writing`, a sleeping lock, so that a file can move to a memfd between two of them; the store's lock
//! is a leaf, held for one page's copy at a time. A write within one page takes the store's lock alone, and finds that nobody holds
//! `writing`: whoever does takes the store's lock before it relies on that.

use super::broker;
use super::budget::Budget;
use super::file::{Extent, MapObject, Sharing, WritableMappings};
use super::pages::{Page, Pages};
use super::sleep_lock::SleepLock;
use crate::mm::image::Image;
use crate::uio::{Sink, Source};
use crate::{Errno, Result};
use abi::broker::{Reply, Request};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use machine::host::{self, HostFd, IoVec};
use machine::sync::Mutex;

const PAGE: u64 = abi::boot::PAGE;
const PAGE_LEN: usize = abi::boot::PAGE as usize;
/// A larger file moves to a memfd.
const LARGE: u64 = 4 << 20;
/// A private mapping of a larger file is none of a copy.
const COPIED: u64 = 1 << 20;
/// Largest file.
pub(super) const MAX_SIZE: u64 = i64::MAX as u64;

/// F_SEAL_SEAL.
pub(super) const SEAL_SEAL: u32 = 1;
const SEAL_SHRINK: u32 = 2;
const SEAL_GROW: u32 = 4;
const SEAL_WRITE: u32 = 8;
const SEAL_FUTURE_WRITE: u32 = 16;
/// F_SEAL_EXEC.
pub(super) const SEAL_EXEC: u32 = 32;
const SEAL_ALL: u32 = 63;
/// Seals against all writing.
const SEALS_OF_WRITES: u32 = SEAL_WRITE | SEAL_FUTURE_WRITE;

/// The bytes of one file. In the order in which they are looked at: by who tells the size, by who reads, by who writes.
#[repr(C)]
pub(super) struct FileData {
    /// These two change with the store locked. Who only tells them looks without that.
    size: AtomicU64,
    charged: AtomicU64,
    store: Mutex<Store>,
    /// Change with `writing` held.
    seals: AtomicU32,
    /// Calls of its text that trapped.
    traps: AtomicU32,
    /// Counts changes of the bytes. Changes with the store locked.
    changes: AtomicU64,
    budget: &'static Budget,
    writing: SleepLock,
    /// Its shared mappings that can write. Their first is made, and they are looked for, with `writing` held.
    writable: Mutex<Weak<WritableMappings>>,
    /// It was mapped to be written: from then on changes are not all counted.
    is_written_unseen: AtomicBool,
    /// Its patched image, or that it has none, and the changes by then.
    image: Mutex<Option<(u64, Option<Arc<Image>>)>>,
}

/// So many calls that trapped are worth a patched image: it costs the broker the reading of all of the file.
const WORTH_IMAGE: u32 = 256;

enum Store {
    Pages(Pages),
    Memory(Arc<Memory>),
}

impl Store {
    fn is_in_pages(&self) -> bool {
        matches!(self, Store::Pages(_))
    }
}

/// A memfd. `mapped`: its length must follow the file's, for mappings see it.
struct Memory {
    handle: Arc<HostFd>,
    id: u32,
    mapped: AtomicBool,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Nothing is left to tell if the broker has gone.
        let _ = broker::request_done(&Request::DropMemory { id: self.id });
    }
}

impl Memory {
    fn make(size: u64) -> Result<Memory> {
        match broker::request(&Request::Memory { size })? {
            (Reply::Memory { id }, Some(handle)) => {
                Ok(Memory { handle: Arc::new(handle), id, mapped: AtomicBool::new(false) })
            }
            _ => Err(Errno::EIO),
        }
    }

    fn resize(&self, size: u64) -> Result<()> {
        broker::request_done(&Request::ResizeMemory { id: self.id, size })
    }

    fn len(&self) -> Result<u64> {
        Ok(u64::try_from(host::fstat(self.handle.raw())?.size).unwrap_or(0))
    }
}

/// The patched image of `len` bytes that `write` puts into a memfd. Asks the broker: no lock is held.
pub(crate) fn image_of_memory(len: u64, write: impl FnOnce(&HostFd) -> Result<()>) -> Option<Arc<Image>> {
    let memory = Memory::make(len).ok()?;
    write(&memory.handle).ok()?;
    crate::mm::image::of_memory(memory.id)
}

fn new_page() -> Result<Page> {
    let mut page = Vec::new();
    page.try_reserve_exact(PAGE_LEN).map_err(|_| Errno::ENOSPC)?;
    Ok(page)
}

/// Writes a range of a page; nothing is cleared that is written right after.
fn fill(page: &mut Page, range: Range<usize>, from: &mut Source<'_>) -> Result<usize> {
    if page.len() < range.start {
        page.resize(range.start, 0);
    }
    if page.len() == range.start {
        return from.take_more(page, range.len());
    }
    if page.len() < range.end {
        page.resize(range.end, 0);
    }
    from.take(page.get_mut(range).ok_or(Errno::EIO)?)
}

/// Page number, and the range within the page that `[pos, end)` covers of it.
fn page_range(pos: u64, end: u64) -> (u64, Range<usize>) {
    let start = pos % PAGE;
    let stop = (start + (end - pos)).min(PAGE);
    (pos / PAGE, usize::try_from(start).unwrap_or(0)..usize::try_from(stop).unwrap_or(0))
}

/// Cuts a list of buffers to `max` bytes in all.
pub(super) fn cut_vectors(mut vectors: Vec<IoVec>, max: u64) -> Vec<IoVec> {
    let mut left = max;
    for vector in &mut vectors {
        vector.len = vector.len.min(left);
        left -= vector.len;
    }
    vectors.retain(|v| v.len > 0);
    vectors
}

impl FileData {
    #[cfg(test)]
    pub(super) const SIZES: usize = core::mem::offset_of!(FileData, store);

    pub(super) fn new(budget: &'static Budget, seals: u32) -> FileData {
        FileData {
            budget,
            size: AtomicU64::new(0),
            charged: AtomicU64::new(0),
            store: Mutex::new(Store::Pages(Pages::default())),
            writing: SleepLock::new(),
            seals: AtomicU32::new(seals),
            writable: Mutex::default(),
            traps: AtomicU32::new(0),
            changes: AtomicU64::new(0),
            is_written_unseen: AtomicBool::new(false),
            image: Mutex::new(None),
        }
    }

    /// A call of its text trapped. Returns whether it is worth a patched image.
    pub(super) fn note_trap(&self) -> bool {
        self.traps.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= WORTH_IMAGE
    }

    fn is_worth_image(&self) -> bool {
        self.traps.load(Ordering::Relaxed) >= WORTH_IMAGE
    }

    /// The patched image of its text, if it is worth one and has one.
    pub(super) fn image(&self) -> Option<Arc<Image>> {
        if !self.is_worth_image() {
            return None;
        }
        let writing = self.writing.lock();
        let changes = self.changes.load(Ordering::Acquire);
        if let Some((of, image)) = &*self.image.lock()
            && *of == changes
            && !self.is_written_unseen.load(Ordering::Relaxed)
        {
            return image.clone();
        }
        self.move_to_memory(self.size());
        let memory = self.memory()?;
        memory.mapped.store(true, Ordering::Relaxed);
        if memory.len() != Ok(self.size()) {
            memory.resize(self.size()).ok()?;
        }
        drop(writing);
        let image = crate::mm::image::of_memory(memory.id);
        let old = self.image.lock().replace((changes, image.clone()));
        drop(old);
        image
    }

    /// Size in bytes, when a write within a page that is under way is through.
    pub(super) fn size(&self) -> u64 {
        self.size_of(&self.store.lock())
    }

    #[inline]
    fn size_of(&self, _locked: &Store) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn set_size(&self, _locked: &Store, size: u64) {
        self.size.store(size, Ordering::Relaxed);
    }

    /// Sets what is charged for the bytes, which is told by what it was.
    fn set_charged(&self, _locked: &Store, charged: impl FnOnce(u64) -> u64) {
        self.charged.store(charged(self.charged.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Size, and bytes that take memory, as they are now.
    #[inline]
    pub(super) fn sizes(&self) -> (u64, u64) {
        (self.size.load(Ordering::Relaxed), self.charged.load(Ordering::Relaxed))
    }

    pub(super) fn read(&self, to: &mut Sink<'_>, offset: u64) -> Result<usize> {
        let mut pos = offset;
        while to.remaining() > 0 {
            let store = self.store.lock();
            let size = self.size_of(&store);
            if pos >= size {
                break;
            }
            let (number, range) = page_range(pos, size);
            let copied = match &*store {
                Store::Memory(memory) => {
                    let memory = Arc::clone(memory);
                    drop(store);
                    read_memory(&memory, to, pos, size)
                }
                Store::Pages(pages) => match pages.get(number).and_then(|page| page.get(range.start..)) {
                    Some(bytes @ [_, ..]) => to.put(bytes.get(..range.len()).unwrap_or(bytes)),
                    _ => to.put_zeros(range.len()),
                },
            };
            match copied {
                Ok(0) => break,
                Ok(count) => pos += count as u64,
                Err(errno) if pos == offset => return Err(errno),
                Err(_) => break,
            }
        }
        usize::try_from(pos - offset).map_err(|_| Errno::EINVAL)
    }

    /// Writes at an offset, or at the end for `None`.
    pub(super) fn write(&self, from: &mut Source<'_>, offset: Option<u64>) -> Result<usize> {
        let want = from.remaining() as u64;
        if want == 0 {
            return Ok(0);
        }
        if let Some(written) = self.write_within_page(from, offset) {
            return written;
        }
        let _writing = self.writing.lock();
        let start = offset.unwrap_or_else(|| self.size());
        if start >= MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let end = start.saturating_add(want).min(MAX_SIZE);
        self.check_write_seals(end)?;
        self.note_change(&self.store.lock());
        if end > LARGE {
            self.move_to_memory(end.min(LARGE));
        }
        let mut pos = start;
        while pos < end {
            match self.write_piece(from, pos, end) {
                Ok(0) => break,
                Ok(count) => pos += count as u64,
                Err(errno) if pos == start => return Err(errno),
                Err(_) => break,
            }
        }
        usize::try_from(pos - start).map_err(|_| Errno::EINVAL)
    }

    /// The bytes are about to change.
    fn note_change(&self, _locked: &Store) {
        self.changes.store(self.changes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    fn check_write_seals(&self, end: u64) -> Result<()> {
        let seals = self.seals.load(Ordering::Relaxed);
        let sealed = seals & SEALS_OF_WRITES != 0 || (seals & SEAL_GROW != 0 && end > self.size());
        if sealed { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Writes what lies within one page of a file that is in pages; None where it is another write, or somebody holds `writing`.
    fn write_within_page(&self, from: &mut Source<'_>, offset: Option<u64>) -> Option<Result<usize>> {
        let mut store = self.store.lock();
        let size = self.size_of(&store);
        let start = offset.unwrap_or(size);
        let end = start.checked_add(from.remaining() as u64).filter(|end| *end <= LARGE)?;
        let seals = self.seals.load(Ordering::Relaxed);
        let is_plain = seals & SEALS_OF_WRITES == 0 && (seals & SEAL_GROW == 0 || end <= size);
        if start / PAGE != (end - 1) / PAGE || !is_plain || self.writing.is_taken() || !store.is_in_pages() {
            return None;
        }
        self.note_change(&store);
        Some(self.write_page(&mut store, from, start, end))
    }

    fn memory(&self) -> Option<Arc<Memory>> {
        match &*self.store.lock() {
            Store::Memory(memory) => Some(Arc::clone(memory)),
            Store::Pages(_) => None,
        }
    }

    fn write_piece(&self, from: &mut Source<'_>, pos: u64, end: u64) -> Result<usize> {
        if let Some(memory) = self.memory() {
            return self.write_memory(&memory, from, pos, end);
        }
        self.write_page(&mut self.store.lock(), from, pos, end)
    }

    fn write_page(&self, store: &mut Store, from: &mut Source<'_>, pos: u64, end: u64) -> Result<usize> {
        let (number, range) = page_range(pos, end);
        let Store::Pages(pages) = store else { return Err(Errno::EIO) };
        let taken = match pages.get_mut(number) {
            Some(page) => fill(page, range, from)?,
            None => {
                self.budget.charge(PAGE)?;
                let page = new_page().and_then(|mut page| {
                    let taken = fill(&mut page, range, from)?;
                    Ok((page, taken))
                });
                let (page, taken) = page.inspect_err(|_| self.budget.uncharge(PAGE))?;
                pages.insert(number, page);
                self.set_charged(store, |charged| charged + PAGE);
                taken
            }
        };
        if pos + taken as u64 > self.size_of(store) {
            self.set_size(store, pos + taken as u64);
        }
        Ok(taken)
    }

    fn write_memory(&self, memory: &Memory, from: &mut Source<'_>, pos: u64, end: u64) -> Result<usize> {
        let growth = end.saturating_sub(self.size()).min(end - pos);
        self.budget.charge(growth)?;
        let written = match (from.guest_buffers(), from.kernel_buffer()) {
            (Some(vectors), _) => host::write_file_guest(memory.handle.raw(), &cut_vectors(vectors, end - pos), pos, 0),
            (None, Some(bytes)) => host::write_file(memory.handle.raw(), bytes, pos, 0),
            (None, None) => Ok(0),
        };
        let count = *written.as_ref().unwrap_or(&0);
        from.advance(count);
        let store = self.store.lock();
        let (reached, size) = (pos + count as u64, self.size_of(&store));
        let grown = reached.saturating_sub(size).min(growth);
        self.set_charged(&store, |charged| charged + grown);
        self.set_size(&store, size.max(reached));
        drop(store);
        self.budget.uncharge(growth - grown);
        written
    }

    /// Moves the bytes to a memfd. Where there is none to be had the file stays in pages. The caller holds `writing`.
    fn move_to_memory(&self, size: u64) {
        if self.memory().is_some() {
            return;
        }
        let Ok(memory) = Memory::make(size.max(self.size())) else { return };
        let mut store = self.store.lock();
        let Store::Pages(pages) = &*store else { return };
        let write = |number: u64, page: &Page| host::write_file(memory.handle.raw(), page, number * PAGE, 0);
        if !pages.iter().all(|(number, page)| write(number, page) == Ok(page.len())) {
            return;
        }
        let old = core::mem::replace(&mut *store, Store::Memory(Arc::new(memory)));
        drop(store);
        drop(old);
    }

    pub(super) fn truncate(&self, size: u64) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let _writing = self.writing.lock();
        self.resize(size)
    }

    /// Makes it larger, unless it is; what others append meanwhile stays.
    fn grow(&self, size: u64) -> Result<()> {
        let _writing = self.writing.lock();
        if size > self.size() { self.resize(size) } else { Ok(()) }
    }

    /// Sets the size, with `writing` held.
    fn resize(&self, size: u64) -> Result<()> {
        let seals = self.seals.load(Ordering::Relaxed);
        let old = self.size();
        if (seals & SEAL_SHRINK != 0 && size < old) || (seals & SEAL_GROW != 0 && size > old) {
            return Err(Errno::EPERM);
        }
        self.note_change(&self.store.lock());
        if let Some(memory) = self.memory()
            && (size < memory.len()? || memory.mapped.load(Ordering::Relaxed))
        {
            memory.resize(size)?;
        }
        let mut store = self.store.lock();
        let mut released = Vec::new();
        let uncharged = if let Store::Pages(pages) = &mut *store {
            released = pages.split_off(size.div_ceil(PAGE));
            clear_tail(pages, size);
            released.len() as u64 * PAGE
        } else {
            self.charged.load(Ordering::Relaxed).saturating_sub(size)
        };
        self.budget.uncharge(uncharged);
        self.set_charged(&store, |charged| charged.saturating_sub(uncharged));
        self.set_size(&store, size);
        drop(store);
        drop(released);
        Ok(())
    }

    /// What a mapping is made of.
    pub(super) fn map(&self, sharing: Sharing, is_writable: bool) -> Result<MapObject> {
        let _writing = self.writing.lock();
        let writes = sharing == Sharing::Shared && is_writable;
        let is_sealed = writes && self.seals.load(Ordering::Relaxed) & SEALS_OF_WRITES != 0;
        if writes && !is_sealed {
            self.is_written_unseen.store(true, Ordering::Relaxed);
        }
        if sharing == Sharing::Shared || self.is_worth_image() || self.size() > COPIED {
            self.move_to_memory(self.size());
        }
        let Some(memory) = self.memory() else {
            let is_refused = sharing == Sharing::Shared || self.size() > LARGE;
            return if is_refused { Err(Errno::ENOMEM) } else { Ok(MapObject::Copy) };
        };
        memory.mapped.store(true, Ordering::Relaxed);
        // A memfd made for a coming write may be longer than the file, or shorter after an ftruncate.
        let size = self.size();
        if memory.len()? != size {
            memory.resize(size)?;
        }
        let handle = Arc::clone(&memory.handle);
        Ok(match (writes, is_sealed) {
            (false, _) => MapObject::Handle(handle),
            (true, false) => MapObject::Counted(handle, self.writable_mappings()),
            (true, true) => MapObject::Sealed(handle),
        })
    }

    fn writable_mappings(&self) -> Arc<WritableMappings> {
        let mut known = self.writable.lock();
        known.upgrade().unwrap_or_else(|| {
            let first = Arc::new(WritableMappings);
            *known = Arc::downgrade(&first);
            first
        })
    }

    pub(super) fn seek_extent(&self, what: Extent, offset: u64) -> Result<u64> {
        let store = self.store.lock();
        let size = self.size_of(&store);
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let Store::Pages(pages) = &*store else {
            return Ok(if what == Extent::Data { offset } else { size });
        };
        let first = offset / PAGE;
        if what == Extent::Data {
            let number = pages.next_from(first).ok_or(Errno::ENXIO)?;
            let found = (number * PAGE).max(offset);
            return if found < size { Ok(found) } else { Err(Errno::ENXIO) };
        }
        Ok((pages.hole_from(first) * PAGE).max(offset).min(size))
    }

    /// fallocate(2): plain, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE.
    pub(super) fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        const ZERO_RANGE: u32 = 16;
        let end = offset.checked_add(len).filter(|&end| end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        if mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 {
            if self.seals.load(Ordering::Relaxed) & SEALS_OF_WRITES != 0 {
                return Err(Errno::EPERM);
            }
            self.clear(offset, end)?;
        } else {
            // Space is promised by the budget alone: pages are made when they are written.
            self.budget.charge(len)?;
            self.budget.uncharge(len);
        }
        if mode & KEEP_SIZE == 0 { self.grow(end) } else { Ok(()) }
    }

    /// Zeros a range; whole pages become holes.
    fn clear(&self, offset: u64, end: u64) -> Result<()> {
        let _writing = self.writing.lock();
        self.note_change(&self.store.lock());
        let end = end.min(self.size());
        if let Some(memory) = self.memory() {
            return clear_memory(&memory, offset, end);
        }
        let mut store = self.store.lock();
        let Store::Pages(pages) = &mut *store else { return Ok(()) };
        let whole = offset.div_ceil(PAGE)..end / PAGE;
        let mut clear_part = |pos: u64, end: u64| {
            let (number, range) = page_range(pos, end);
            let part = pages.get_mut(number).and_then(|page| page.get_mut(range.start..));
            part.into_iter().flatten().take(range.len()).for_each(|byte| *byte = 0);
        };
        if offset < end && (whole.start > whole.end || offset < whole.start * PAGE) {
            clear_part(offset, end);
        }
        if whole.start <= whole.end && whole.end * PAGE < end {
            clear_part((whole.end * PAGE).max(offset), end);
        }
        let released = pages.remove(whole);
        let bytes = released.len() as u64 * PAGE;
        self.set_charged(&store, |charged| charged.saturating_sub(bytes));
        drop(store);
        self.budget.uncharge(bytes);
        Ok(())
    }

    /// What the file is sealed against.
    pub(super) fn seals(&self) -> u32 {
        self.seals.load(Ordering::Relaxed)
    }

    /// Adds seals. That of execution, of a program, brings those of changes.
    pub(super) fn add_seals(&self, add: u32, is_program: bool) -> Result<u32> {
        let _writing = self.writing.lock();
        // A write within a page that has seen other seals is through.
        let _store = self.store.lock();
        let seals = self.seals();
        if add & !SEAL_ALL != 0 {
            return Err(Errno::EINVAL);
        }
        if seals & SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        if add & SEAL_WRITE & !seals != 0 && self.writable.lock().strong_count() > 0 {
            return Err(Errno::EBUSY);
        }
        let more = if add & SEAL_EXEC != 0 && is_program { SEAL_SHRINK | SEAL_GROW | SEALS_OF_WRITES } else { 0 };
        Ok(self.seals.fetch_or(add | more, Ordering::Relaxed) | add | more)
    }
}

impl Drop for FileData {
    fn drop(&mut self) {
        self.budget.uncharge(*self.charged.get_mut());
    }
}

/// Zeros the bytes behind `size` in its last page.
fn clear_tail(pages: &mut Pages, size: u64) {
    let start = usize::try_from(size % PAGE).unwrap_or(0);
    if let Some(page) = pages.get_mut(size / PAGE) {
        page.truncate(start);
    }
}

fn read_memory(memory: &Memory, to: &mut Sink<'_>, pos: u64, size: u64) -> Result<usize> {
    let fd = memory.handle.raw();
    let want = usize::try_from(size - pos).unwrap_or(usize::MAX).min(to.remaining());
    let count = if let Some(vectors) = to.guest_buffers() {
        host::read_file_guest(fd, &cut_vectors(vectors, want as u64), pos, 0)?
    } else if let Some(buffer) = to.kernel_buffer() {
        let len = want.min(buffer.len());
        host::read_file(fd, buffer.get_mut(..len).ok_or(Errno::EFAULT)?, pos)?
    } else {
        0
    };
    to.advance(count);
    // The memfd ends before the file where ftruncate made the file longer.
    if count < want && memory.len()? <= pos + count as u64 {
        return Ok(count + to.put_zeros(want - count)?);
    }
    Ok(count)
}

fn clear_memory(memory: &Memory, offset: u64, end: u64) -> Result<()> {
    static ZEROS: [u8; PAGE_LEN] = [0; PAGE_LEN];
    let end = end.min(memory.len()?);
    let mut pos = offset;
    while pos < end {
        let (_, range) = page_range(pos, end);
        let zeros = ZEROS.get(..range.len()).unwrap_or(&ZEROS);
        let count = host::write_file(memory.handle.raw(), zeros, pos, 0)?;
        if count == 0 {
            return Err(Errno::EIO);
        }
        pos += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Budget, FileData, SEAL_WRITE};
    use crate::Errno;
    use crate::uio::{Sink, Source};
    use std::sync::Arc;

    fn file() -> Arc<FileData> {
        Arc::new(FileData::new(Box::leak(Box::new(Budget::optional(0))), 0))
    }

    fn bytes_of(data: &FileData) -> Vec<u8> {
        let mut bytes = vec![0; data.size() as usize];
        assert_eq!(data.read(&mut Sink::kernel(&mut bytes), 0), Ok(bytes.len()));
        bytes
    }

    #[test]
    fn short_appends_do_not_part_a_long_one() {
        let (data, start) = (file(), Arc::new(std::sync::Barrier::new(3)));
        let appends = [(b'a', 80_000, 8), (b'b', 7, 20_000), (b'c', 4096, 20)];
        let threads = appends.map(|(letter, len, times)| {
            let (data, start) = (Arc::clone(&data), Arc::clone(&start));
            std::thread::spawn(move || {
                let bytes = vec![letter; len];
                start.wait();
                (0..times).for_each(|_| assert_eq!(data.write(&mut Source::kernel(&bytes), None), Ok(len)));
            })
        });
        threads.into_iter().for_each(|thread| assert!(thread.join().is_ok()));
        let bytes = bytes_of(&data);
        assert_eq!(bytes.len(), appends.iter().map(|(_, len, times)| len * times).sum::<usize>());
        for run in bytes.chunk_by(|one, other| one == other) {
            let of = |(letter, len, _): &(u8, usize, usize)| (run.first() == Some(letter)).then_some(*len);
            assert_eq!(appends.iter().find_map(of).map(|len| run.len() % len), Some(0));
        }
    }

    #[test]
    fn what_was_never_written_or_is_cut_off_reads_as_zeros() {
        let data = file();
        let write = |letter: u8, len: usize, at: u64| {
            assert_eq!(data.write(&mut Source::kernel(&vec![letter; len]), Some(at)), Ok(len));
        };
        write(b'a', 10, 5000);
        write(b'b', 100, 100);
        let mut expected = vec![0; 5010];
        expected[100..200].fill(b'b');
        expected[5000..].fill(b'a');
        assert_eq!(bytes_of(&data), expected);
        // In the middle of a page, and then beyond what is left of it.
        assert_eq!((data.truncate(150), data.truncate(8000)), (Ok(()), Ok(())));
        write(b'c', 3, 4000);
        let mut expected = vec![0; 8000];
        expected[100..150].fill(b'b');
        expected[4000..4003].fill(b'c');
        assert_eq!(bytes_of(&data), expected);
        // A hole in what there is, and in what there is not.
        assert_eq!(data.allocate(3, 120, 6000), Ok(()));
        write(b'd', 2, 130);
        let mut expected = vec![0; 8000];
        expected[100..120].fill(b'b');
        expected[130..132].fill(b'd');
        assert_eq!(bytes_of(&data), expected);
        assert_eq!(data.sizes(), (8000, 4096));
    }

    #[test]
    fn space_is_promised_beside_appends() {
        for _ in 0..20 {
            let data = file();
            let appends = {
                let data = Arc::clone(&data);
                std::thread::spawn(move || {
                    (0..2000).for_each(|_| assert_eq!(data.write(&mut Source::kernel(b"a"), None), Ok(1)))
                })
            };
            while !appends.is_finished() {
                assert_eq!(data.allocate(0, data.size(), 1), Ok(()));
            }
            assert!(appends.join().is_ok());
            assert_eq!(bytes_of(&data).iter().filter(|byte| **byte == b'a').count(), 2000);
        }
    }

    #[test]
    fn nothing_is_written_once_a_seal_is_there() {
        for _ in 0..200 {
            let data = file();
            let writer = {
                let data = Arc::clone(&data);
                std::thread::spawn(move || {
                    let mut counts =
                        (0_u64..).map(|count| data.write(&mut Source::kernel(&count.to_ne_bytes()), Some(0)));
                    counts.find_map(Result::err)
                })
            };
            while data.size() == 0 {
                std::thread::yield_now();
            }
            assert_eq!(data.add_seals(SEAL_WRITE, false), Ok(SEAL_WRITE));
            let sealed = bytes_of(&data);
            assert!(writer.join().is_ok_and(|refused| refused == Some(Errno::EPERM)));
            assert_eq!(bytes_of(&data), sealed);
        }
    }
}
