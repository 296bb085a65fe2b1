//! Patched images of program text (design, section 3): mapped in the text's place, with their stubs behind the
//! object. The broker makes them; here they are found, placed and forgotten, and program counters are translated.
//!
//! An object's first mapping brings its room: the slot page and the stubs lie behind its span, kept from the guest.
//! They go when nothing is mapped in the span any more. Locks: the list of placed images is a leaf inside the address
//! space's lock; the cache of images is a leaf; the broker is asked outside of both.

use super::map::MAP_PRIVATE;
use super::place::{self, HOST_FIXED, HOST_FIXED_NOREPLACE};
use super::space::{Mm, State};
use super::vma::{Backing, Form, Prot, Vma};
use super::{PAGE, page_align, unmoved};
use crate::fs::File;
use crate::fs::broker;
use crate::fs::file::MapObject;
use crate::{Errno, Result};
use abi::broker::{Attributes, FileAt, Moved, Reply, Request, Text};
use abi::stats::Patched;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use machine::host::{self, HostFd};
use machine::sync::Mutex;

const HOST_SHARED: u32 = 1;
const HOST_POPULATE: u32 = 0x8000;

/// A file's patched image.
#[derive(Debug)]
pub struct Image {
    layout: abi::broker::Image,
    /// Instructions that have a copy to run in their stead: (original, copy), ordered.
    resume: Vec<(u64, u64)>,
    handle: HostFd,
}

/// An image in an address space.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// What is added to its virtual addresses.
    bias: u64,
    /// The object's addresses.
    span: Range<u64>,
    image: Arc<Image>,
    /// Slot page and stubs.
    area: Range<u64>,
}

/// What is known of a file: the version asked about, and its image if it has one.
type Known = (Attributes, Option<Arc<Image>>);

/// Images by device and inode of their files.
static CACHE: Mutex<BTreeMap<(u64, u64), Known>> = Mutex::new(BTreeMap::new());
/// Most files that are remembered.
const CACHE_LIMIT: usize = 512;

/// Nanoseconds spent here, while `--stats` counts.
static SPENT_NS: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds that finding, placing and mapping images took.
#[must_use]
pub fn spent_ns() -> u64 {
    SPENT_NS.load(Ordering::Relaxed)
}

/// Does a piece of abom's work, and counts its time for the report.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> T {
    if !crate::kernel::is_counting() {
        return work();
    }
    let started = machine::clock::monotonic_ns();
    let result = work();
    SPENT_NS.fetch_add(machine::clock::monotonic_ns().saturating_sub(started), Ordering::Relaxed);
    result
}

/// The patched image of a file; None where it has none. May ask the broker: no lock is held.
#[must_use]
pub fn of(file: &Arc<File>) -> Option<Arc<Image>> {
    timed(|| match host_version(file) {
        Some(version) => known(&version).unwrap_or_else(|| ask(file, &version)),
        None => file.ops().image(),
    })
}

/// What is known of the host's file behind an open one.
pub(crate) fn host_version(file: &File) -> Option<Attributes> {
    file.path()?.inode().host_attributes()
}

/// The patched image of a memfd that the broker made, by its number. Asks the broker: no lock is held.
pub(crate) fn of_memory(id: u32) -> Option<Arc<Image>> {
    match broker::request(&Request::MemoryImage { id }) {
        Ok((Reply::Image(_, layout), Some(handle))) => Image::new(layout, handle).map(Arc::new),
        _ => None,
    }
}

/// The image of a file of which `len` bytes from `offset` on are mapped as a loader begins with an object: all of its
/// span at once.
pub(super) fn of_whole_object(file: &Arc<File>, offset: u64, len: u64) -> Option<Arc<Image>> {
    if offset != 0 || len <= PAGE {
        return None;
    }
    timed(|| {
        let image = match host_version(file) {
            Some(version) => match known(&version) {
                Some(image) => image,
                None if begins_as_elf(file) => ask(file, &version),
                None => None,
            },
            None => file.ops().image(),
        };
        image.filter(|image| image.layout.span == len)
    })
}

/// What the cache says of a version of a file; None where it says nothing.
fn known(version: &Attributes) -> Option<Option<Arc<Image>>> {
    let cache = CACHE.lock();
    let (of, image) = cache.get(&(version.device, version.inode))?;
    is_same_version(of, version).then(|| image.clone())
}

/// Asks the broker, and remembers what it says.
fn ask(file: &File, version: &Attributes) -> Option<Arc<Image>> {
    let (export, path) = file.path()?.inode().host_name()?;
    let image = match broker::request(&Request::Image { export, file: FileAt { path: &path, inode: version.inode } }) {
        Ok((Reply::Image(attributes, layout), Some(handle))) if is_same_version(&attributes, version) => {
            Image::new(layout, handle).map(Arc::new)
        }
        Ok(_) | Err(Errno::ENOEXEC) => None,
        // Nothing was said about the file.
        Err(_) => return None,
    };
    let mut cache = CACHE.lock();
    let old = if cache.len() >= CACHE_LIMIT { core::mem::take(&mut *cache) } else { BTreeMap::new() };
    let replaced = cache.insert((version.device, version.inode), (*version, image.clone()));
    drop(cache);
    drop((old, replaced));
    image
}

fn begins_as_elf(file: &File) -> bool {
    let mut magic = [0; 4];
    let read = file.ops().read(file, &mut crate::uio::Sink::kernel(&mut magic), 0);
    read == Ok(magic.len()) && crate::process::elf::is_elf(&magic)
}

pub(super) fn is_same_version(a: &Attributes, b: &Attributes) -> bool {
    (a.device, a.inode, a.size, a.mtime, a.ctime) == (b.device, b.inode, b.size, b.mtime, b.ctime)
}

impl Image {
    /// Checks what the broker said as far as the LibOS relies on it.
    fn new(layout: abi::broker::Image, handle: HostFd) -> Option<Image> {
        let aligned = [layout.span, layout.base_vaddr, layout.slot_vaddr, layout.stub_vaddr, layout.stub_offset];
        let end = layout.base_vaddr.checked_add(layout.span)?;
        let stub_end = layout.stub_vaddr.checked_add(page_align(layout.stub_len)?)?;
        let ordered = end <= layout.slot_vaddr && layout.slot_vaddr.checked_add(PAGE)? <= layout.stub_vaddr;
        let is_aligned = aligned.iter().all(|value| value.is_multiple_of(PAGE));
        if !ordered || !is_aligned || layout.stub_len == 0 || stub_end > super::USER_END {
            return None;
        }
        let mut resume: Vec<_> =
            layout.moved.iter().filter(|moved| moved.resumes).map(|moved| (moved.original, moved.start)).collect();
        resume.sort_unstable();
        Some(Image { layout, resume, handle })
    }

    /// Bytes of address space that the object, its slot page and its stubs need, from its lowest address.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.area().end - self.layout.base_vaddr
    }

    /// Virtual addresses of slot page and stubs.
    fn area(&self) -> Range<u64> {
        let len = self.layout.stub_len.next_multiple_of(PAGE);
        self.layout.slot_vaddr..self.layout.stub_vaddr.saturating_add(len)
    }

    /// What is added to virtual addresses where a mapping of text lies.
    fn bias_of(&self, vma: &Vma) -> Option<u64> {
        let Backing::File { offset, .. } = &vma.backing else { return None };
        let holds = |text: &&Text| (text.offset..text.offset.saturating_add(text.len)).contains(offset);
        let text = self.layout.text.iter().find(holds)?;
        Some(vma.start.wrapping_sub(text.vaddr).wrapping_sub(*offset - text.offset))
    }

    fn span(&self) -> Range<u64> {
        self.layout.base_vaddr..self.layout.base_vaddr.saturating_add(self.layout.span)
    }

    /// Virtual addresses of its text.
    pub(super) fn text_ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.layout.text.iter().map(|text| text.vaddr..text.vaddr.saturating_add(text.len))
    }

    /// Where a virtual address of its text lies in it.
    pub(super) fn offset_of(&self, vaddr: u64) -> Option<u64> {
        let text = self.layout.text.iter().find(|text| vaddr.wrapping_sub(text.vaddr) < text.len)?;
        Some(text.offset + (vaddr - text.vaddr))
    }

    /// What is mapped of it.
    pub(super) fn handle(&self) -> &HostFd {
        &self.handle
    }
}

impl Placed {
    /// Whether it is that of an object with these addresses.
    pub(super) fn is_at(&self, span: &Range<u64>) -> bool {
        self.span == *span
    }

    /// The image, and where slot page and stubs lie.
    pub(super) fn with_area(&self) -> (Arc<Image>, Range<u64>) {
        (Arc::clone(&self.image), self.area.clone())
    }

    /// Parts of a mapping of the object's file that the image replaces.
    fn parts(&self, addr: u64, offset: u64, len: u64) -> impl Iterator<Item = (Range<u64>, u64)> {
        self.image.layout.text.iter().filter_map(move |text| part(text, self.bias, addr, offset, len))
    }

    fn original(&self, pc: u64) -> Option<u64> {
        self.moved_at(pc).map(|(_, moved)| moved.original.wrapping_add(self.bias))
    }

    /// The piece of a stub, or hole, at an address, with the piece before it.
    fn moved_at(&self, pc: u64) -> Option<(Option<&Moved>, &Moved)> {
        if !self.area.contains(&pc) && !self.span.contains(&pc) {
            return None;
        }
        let at = pc.wrapping_sub(self.bias);
        let moved = &self.image.layout.moved;
        let index = moved.partition_point(|moved| moved.start <= at).checked_sub(1)?;
        let found = moved.get(index).filter(|moved| at < moved.end)?;
        Some((index.checked_sub(1).and_then(|before| moved.get(before)), found))
    }

    /// Whether single steps that lead to `pc` are none of the guest's: it lies behind the beginning of what stands for
    /// an instruction, in a hole, or where a call has returned to and no more.
    fn is_amid(&self, pc: u64) -> bool {
        self.moved_at(pc).is_some_and(|(before, moved)| {
            let is_returned = before.is_some_and(|before| !before.resumes && before.original == moved.original);
            moved.start.wrapping_add(self.bias) != pc || self.span.contains(&pc) || is_returned
        })
    }

    fn resume(&self, pc: u64) -> Option<u64> {
        let at = pc.wrapping_sub(self.bias);
        let index = self.image.resume.binary_search_by_key(&at, |(original, _)| *original).ok()?;
        self.image.resume.get(index).map(|(_, copy)| copy.wrapping_add(self.bias))
    }

    /// Whether nothing at `pc` was moved, or comes from elsewhere.
    pub(super) fn leaves(&self, pc: u64) -> bool {
        self.original(pc).is_none() && !(self.span.contains(&pc) && self.resume(pc).is_some())
    }

    fn tier(&self, pc: u64) -> Option<u8> {
        let at = self.original(pc).unwrap_or(pc).wrapping_sub(self.bias).wrapping_sub(SYSCALL_LEN);
        let sites = &self.image.layout.sites;
        let index = sites.binary_search_by_key(&at, |(vaddr, _)| *vaddr).ok()?;
        sites.get(index).map(|(_, tier)| *tier)
    }
}

/// Bytes of the `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

/// Where a range of text lies in a mapping of the file at `addr`, if it lies where the stubs expect it: addresses, and
/// the offset of the first.
fn part(text: &Text, bias: u64, addr: u64, offset: u64, len: u64) -> Option<(Range<u64>, u64)> {
    let start = text.offset.max(offset);
    let end = text.offset.checked_add(page_align(text.len)?)?.min(offset.checked_add(len)?);
    let at = addr.checked_add(start.checked_sub(offset)?)?;
    let expected = bias.wrapping_add(text.vaddr).wrapping_add(start - text.offset);
    (start < end && at == expected).then(|| (at..at + (end - start), start))
}

impl Mm {
    /// Puts slot page and stubs of an object at `bias` behind it. Where they have no room, its calls trap.
    pub fn place_image(&self, image: &Arc<Image>, bias: u64) {
        let start = image.layout.base_vaddr.wrapping_add(bias);
        let mut state = self.state();
        timed(|| self.place_locked(&mut state, image, start));
    }

    /// As [`Mm::place_image`], for an object that starts at `start`.
    pub(super) fn place_locked(&self, state: &mut State, image: &Arc<Image>, start: u64) {
        let bias = start.wrapping_sub(image.layout.base_vaddr);
        let span = image.span();
        let span = span.start.wrapping_add(bias)..span.end.wrapping_add(bias);
        if let Some(placed) = state.place_image(image, bias, span) {
            self.add_image(placed);
        }
    }

    pub(super) fn add_image(&self, placed: Placed) {
        self.images.lock().push(placed);
        unmoved::note_change();
    }

    /// The image's handle, if it replaces all of a mapping of its file's text.
    pub(super) fn image_handle(&self, image: &Arc<Image>, addr: u64, offset: u64, len: u64) -> Option<i32> {
        let images = self.images.lock();
        let mut parts = placed_of(&images, image).flat_map(|placed| placed.parts(addr, offset, len));
        parts.any(|(part, _)| part == (addr..addr + len)).then(|| image.handle.raw())
    }

    /// Maps the image over the parts of a fresh mapping that it replaces.
    pub(super) fn overlay_image(&self, state: &mut State, image: &Arc<Image>, vma: &Vma) -> Result<()> {
        let Backing::File { offset, .. } = &vma.backing else { return Ok(()) };
        let images = self.images.lock();
        let parts = placed_of(&images, image).flat_map(|placed| placed.parts(vma.start, *offset, vma.len()));
        for (part, from) in parts {
            place::map_file(&part, vma.prot, HOST_FIXED, &image.handle, from)?;
            state.tree.update(part, mark_patched);
        }
        Ok(())
    }

    /// A call trapped. Returns how many did, where it is time to look for a patched image: ever more rarely.
    pub fn note_trap(&self) -> Option<u32> {
        let traps = self.traps.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        traps.is_power_of_two().then_some(traps)
    }

    /// The image that text of a file, mapped without one, could have. May ask the broker: no lock is held.
    pub fn image_to_adopt(&self, file: &Arc<File>, pc: u64) -> Option<Arc<Image>> {
        let _ = self.state().text_without_image(file, pc)?;
        of(file)
    }

    /// Puts a file's image over its text where it is mapped already. No thread but the caller's runs in it; all go on at
    /// [`Mm::resume_pc`]. Text that differs from the file's stays as it is.
    pub fn adopt_image(&self, file: &Arc<File>, image: &Arc<Image>, pc: u64) {
        let mut state = self.state();
        let Some(vma) = state.text_without_image(file, pc) else { return };
        let Some(bias) = image.bias_of(&vma) else { return };
        if !holds_file(file, &vma) {
            return;
        }
        self.place_locked(&mut state, image, image.layout.base_vaddr.wrapping_add(bias));
        // Where the host has no room for another mapping, the text stays as it was.
        let _ = self.overlay_image(&mut state, image, &vma);
    }

    /// Forgets images of whose object nothing is mapped any more. `removed` is what was just unmapped.
    pub(super) fn forget_images(&self, state: &mut State, removed: &[Vma]) {
        if removed.is_empty() {
            return;
        }
        let touches = |span: &Range<u64>| removed.iter().any(|vma| vma.start < span.end && span.start < vma.end);
        self.images.lock().retain(|placed| {
            let span = placed.span.clone();
            let is_gone = touches(&span) && state.tree.overlapping(span).next().is_none();
            if is_gone {
                let _ = host::munmap(placed.area.start, placed.area.end - placed.area.start);
                state.tree.unkeep(&placed.area);
            }
            !is_gone
        });
    }

    /// The original place of a moved instruction, and the site for the hole that its jump leads through; other
    /// addresses stay. A guest never sees a stub.
    #[must_use]
    pub fn original_pc(&self, pc: u64) -> u64 {
        let found = {
            let images = self.images.lock();
            images.iter().rev().find_map(|placed| Some((placed.original(pc)?, placed.span.contains(&pc))))
        };
        match found {
            Some((original, is_hole)) if !is_hole || self.is_patched(pc) => original,
            _ => pc,
        }
    }

    /// Whether single steps that lead to `pc` are none of the guest's.
    #[must_use]
    pub fn is_amid_moved(&self, pc: u64) -> bool {
        let is_amid = self.images.lock().iter().any(|placed| placed.is_amid(pc));
        is_amid && self.original_pc(pc) != pc
    }

    /// Where a guest goes on that wants to run at `pc`: its copy, if the instruction there was moved.
    #[must_use]
    pub fn resume_pc(&self, pc: u64) -> u64 {
        let copy = {
            let images = self.images.lock();
            // An object that was loaded by the program may have had another before.
            let placed = images.iter().rev().find(|placed| placed.span.contains(&pc));
            placed.and_then(|placed| placed.resume(pc))
        };
        copy.filter(|_| self.is_patched(pc)).unwrap_or(pc)
    }

    /// Whether text is the image's: it may have been written since.
    fn is_patched(&self, pc: u64) -> bool {
        self.state().tree.find(pc).is_some_and(Vma::is_patched)
    }

    /// Tier of the site whose call returns to `pc`.
    #[must_use]
    pub fn tier_of(&self, pc: u64) -> Option<u8> {
        let images = self.images.lock();
        images.iter().find_map(|placed| placed.tier(pc))
    }

    /// How much of the address space patching made, and how much of that the guest may write.
    #[must_use]
    pub fn patched(&self) -> Patched {
        let state = self.state();
        let behind = self
            .images
            .lock()
            .iter()
            .fold(0, |sum: u64, placed| sum.saturating_add(placed.area.end.saturating_sub(placed.area.start)));
        state.tree.iter().filter(|vma| vma.is_patched()).fold(Patched { mapped: behind, private: 0 }, |sum, vma| {
            let private = if vma.prot.contains(Prot::WRITE) { vma.len() } else { 0 };
            Patched { mapped: sum.mapped.saturating_add(vma.len()), private: sum.private.saturating_add(private) }
        })
    }

    /// File and offset of an address, for reports.
    #[must_use]
    pub fn file_at(&self, addr: u64) -> Option<(Arc<File>, u64)> {
        let state = self.state();
        let vma = state.tree.find(addr)?.clone();
        drop(state);
        match vma.backing {
            Backing::File { file, offset, .. } => Some((file, offset + (addr - vma.start))),
            _ => None,
        }
    }
}

/// Whether a mapping holds what its file does: the program has not written it.
fn holds_file(file: &File, vma: &Vma) -> bool {
    let Backing::File { offset, .. } = &vma.backing else { return false };
    let (mut memory, mut bytes) = ([0; COMPARED], [0; COMPARED]);
    let mut at = 0;
    while at < vma.len() {
        let sink = &mut crate::uio::Sink::kernel(&mut bytes);
        let Ok(got @ 1..) = file.ops().read(file, sink, offset.wrapping_add(at)) else { break };
        let Some(memory) = memory.get_mut(..got) else { return false };
        if machine::guest::read(vma.start + at, memory).is_err() || bytes.get(..got) != Some(memory) {
            return false;
        }
        at += got as u64;
    }
    true
}

/// Bytes compared at a time.
const COMPARED: usize = 1024;

/// Where an image lies: one object can be loaded more than once.
fn placed_of<'a>(images: &'a [Placed], image: &'a Arc<Image>) -> impl Iterator<Item = &'a Placed> {
    images.iter().filter(move |placed| Arc::ptr_eq(&placed.image, image))
}

/// What a mapping is once the image lies in its place.
pub(super) fn mark_patched(vma: &mut Vma) {
    if let Backing::File { form, .. } = &mut vma.backing {
        *form = Form::Image;
    }
}

impl State {
    /// Refuses to map over stubs, as over the LibOS itself.
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn check_not_kept(&self, range: &Range<u64>) -> Result<()> {
        if self.tree.kept_in(range).is_some() { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// A private mapping of a file's text that is the file's own, by an address in it.
    fn text_without_image(&self, file: &Arc<File>, pc: u64) -> Option<Vma> {
        let vma = self.tree.find(pc)?;
        let is_file = matches!(&vma.backing, Backing::File { file: own, form, .. }
            if Arc::ptr_eq(own, file) && *form != Form::Image);
        (is_file && !vma.is_shared() && vma.prot == Prot::READ | Prot::EXEC).then(|| vma.clone())
    }

    pub(super) fn place_image(&mut self, image: &Arc<Image>, bias: u64, span: Range<u64>) -> Option<Placed> {
        let area = image.area();
        let area = area.start.wrapping_add(bias)..area.end.wrapping_add(bias);
        if area.start >= area.end {
            return None;
        }
        self.cool(&area);
        if !self.tree.is_free(area.clone()) {
            return None;
        }
        let stubs = area.start + PAGE..area.end;
        if image.layout.stub_vaddr.wrapping_add(bias) != stubs.start {
            return None;
        }
        if self.claim_area(image, &area) {
            self.tree.keep(area.clone());
            return Some(Placed { bias, span, image: Arc::clone(image), area });
        }
        let (slot_fd, slot_offset) = machine::process::slot_page()?;
        let read = Prot::READ.bits();
        // Whatever object has stubs makes calls.
        let flags = HOST_FIXED_NOREPLACE | HOST_POPULATE;
        host::mmap(area.start, PAGE, read, HOST_SHARED | flags, slot_fd, slot_offset).ok()?;
        let flags = MAP_PRIVATE | flags;
        let prot = (Prot::READ | Prot::EXEC).bits();
        let fd = image.handle.raw();
        if host::mmap(stubs.start, stubs.end - stubs.start, prot, flags, fd, image.layout.stub_offset).is_err() {
            let _ = host::munmap(area.start, PAGE);
            return None;
        }
        self.tree.keep(area.clone());
        Some(Placed { bias, span, image: Arc::clone(image), area })
    }

    /// Maps the file itself again where its image was: the text is about to move away from its stubs, or to be written.
    pub(super) fn unpatch(&mut self, range: &Range<u64>) -> Result<()> {
        self.bring_back(range)?;
        let parts: Vec<Vma> = self.tree.overlapping(range.clone()).filter(|vma| vma.is_patched()).cloned().collect();
        for vma in parts {
            let vma = vma.clipped(range);
            let Backing::File { file, offset, sharing, .. } = &vma.backing else { continue };
            let MapObject::Handle(handle) = file.ops().map(file, *sharing)? else { return Err(Errno::EFAULT) };
            place::map_file(&(vma.start..vma.end), vma.prot, HOST_FIXED, &handle, *offset)?;
            self.tree.update(vma.start..vma.end, |vma| {
                if let Backing::File { form, .. } = &mut vma.backing {
                    *form = Form::Handle;
                }
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::map::MAP_FIXED;
    use super::super::{MAP_ANONYMOUS, MapRequest};
    use super::{Backing, Errno, File, MAP_PRIVATE, Mm, PAGE, Patched, Prot, mark_patched};
    use crate::fs::eventfd::{EventFile, Mode};
    use crate::fs::file::OpenFlags;

    fn request(addr: u64, flags: u32) -> MapRequest {
        MapRequest { addr, len: PAGE, prot: 3, flags: MAP_PRIVATE | MAP_ANONYMOUS | flags, backing: Backing::Zero }
    }

    #[test]
    fn nothing_is_mapped_or_moved_over_stubs() {
        const MAYMOVE_FIXED: u32 = 3;
        let mm = Mm::new();
        let own = mm.map(request(0, 0)).unwrap_or_default();
        let stubs = mm.map(request(0, 0)).unwrap_or_default();
        assert!(own != 0 && stubs != 0 && mm.unmap(stubs, PAGE).is_ok());
        mm.state().tree.keep(stubs..stubs + PAGE);
        assert_eq!(mm.map(request(stubs, MAP_FIXED)), Err(Errno::ENOMEM));
        assert_eq!(mm.remap(own, PAGE, PAGE, MAYMOVE_FIXED, stubs), Err(Errno::ENOMEM));
        mm.state().tree.unkeep(&(stubs..stubs + PAGE));
        assert_eq!(mm.remap(own, PAGE, PAGE, MAYMOVE_FIXED, stubs), Ok(stubs));
        assert!(mm.unmap(stubs, PAGE).is_ok());
    }

    #[test]
    fn patched_text_that_the_guest_may_write_is_told_apart() {
        let mm = Mm::new();
        let (own, other) = (mm.map(request(0, 0)).unwrap_or_default(), mm.map(request(0, 0)).unwrap_or_default());
        assert_eq!(mm.patched(), Patched::default());
        let patch = |addr: u64, prot: Prot| {
            mm.state().tree.update(addr..addr + PAGE, |vma| {
                // Any file: only the form counts.
                vma.backing = Backing::file(File::new(EventFile::new(0, Mode::Counter), OpenFlags::RDWR), 0);
                vma.prot = prot;
                mark_patched(vma);
            });
        };
        patch(own, Prot::READ | Prot::EXEC);
        assert_eq!(mm.patched(), Patched { mapped: PAGE, private: 0 });
        patch(other, Prot::READ | Prot::WRITE);
        assert_eq!(mm.patched(), Patched { mapped: 2 * PAGE, private: PAGE });
    }
}
