//! Patched images of objects that a program loaded itself, into memory that no file is behind: see
//! `docs/design/0014-live-text.md`.
//!
//! Code that a program made says nowhere where its instructions start; an object does, wherever it lies. So the object is
//! written out as it is in memory, the broker makes an image of that, and the image lies over the text while the text is what it
//! was: mapped, executable, not writable. The text's own pages are set aside meanwhile, in room kept from the guest, and come back whole.

use super::image::Image;
use super::map::{MAP_FIXED, MAP_PRIVATE, Placement, Wish};
use super::place;
use super::space::{Mm, State};
use super::vma::{Backing, Prot, Vma, VmaFlags};
use super::{PAGE, page_align};
use crate::fs::image_of_memory;
use crate::process::elf::{self, HEADER, PHENT, PT_LOAD};
use crate::{Errno, Result};
use alloc::vec::Vec;
use core::ops::Range;
use machine::host::{self, HostFd, IoVec};

/// Traps of such text after which its object is looked for.
const WORTH_IMAGE: u32 = 256;
/// How many mappings below text are looked at for the object's beginning.
const MOST_BELOW: usize = 8;
/// Most mappings of an object.
const MOST_PIECES: usize = 32;
/// Longest object.
const MOST_BYTES: u64 = 64 << 20;
/// How far from the object its stubs may lie.
const REACH: u64 = 1 << 30;
const PROGRAM_HEADER: usize = PHENT as usize;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const TEXT: Prot = Prot::READ.union(Prot::EXEC);

const MAYMOVE: u32 = 1;
const FIXED: u32 = 2;

/// An object in memory.
#[derive(Debug)]
struct Object {
    span: Range<u64>,
    /// What says where its functions start.
    frames: Range<u64>,
    /// What is mapped of it.
    pieces: Vec<(Range<u64>, Prot)>,
    /// A free page, behind which there is room for slot page and stubs.
    end: u64,
}

/// Text whose own pages lie elsewhere while its image is in their place.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    text: Range<u64>,
    /// Where its pages lie: as many addresses, kept from the guest.
    kept: Range<u64>,
}

impl Mm {
    /// Whether text at `pc` is such and worth to look for its object, after so many traps of the process.
    #[must_use]
    pub fn may_patch_live(&self, pc: u64, traps: u32) -> bool {
        traps >= WORTH_IMAGE && self.state().tree.find(pc).is_some_and(is_live_text)
    }

    /// Puts an image over the text of the object that holds `pc`, if there is one. Asks the broker: no lock is held.
    /// Nobody else runs in the memory; all go on at [`Mm::resume_pc`].
    pub fn patch_live(&self, pc: u64) {
        let Some(object) = self.state().object_around(pc) else { return };
        let Some(image) = image_of_memory(object.file_len(), |file| object.write(file)) else { return };
        let mut state = self.state();
        let Some(placed) = state.place_image(&image, 0, object.span.clone()) else { return };
        for text in image.text_ranges() {
            // Where the host has no room for more mappings, the text stays as it was.
            let _ = state.set_aside(&image, text);
        }
        self.add_image(placed);
    }
}

/// Text that no file is behind, nobody can write, and a forked child has as it is.
fn is_live_text(vma: &Vma) -> bool {
    let other = VmaFlags::SHARED | VmaFlags::PATCHED | VmaFlags::DONTFORK | VmaFlags::WIPEONFORK;
    vma.prot == TEXT && matches!(vma.backing, Backing::Zero) && !vma.flags.intersects(other)
}

impl State {
    /// The object whose text holds `pc`, all of it as the program has it.
    fn object_around(&mut self, pc: u64) -> Option<Object> {
        let text = self.tree.find(pc).filter(|vma| is_live_text(vma))?.start;
        let near = self.tree.overlapping(text.saturating_sub(REACH)..text + 1).rev().take(MOST_BELOW);
        let starts: Vec<u64> = near.filter(|vma| vma.prot.contains(Prot::READ)).map(|vma| vma.start).collect();
        let (span, frames) = starts.into_iter().find_map(|start| read_headers(start, pc))?;
        self.bring_back(&span).ok()?;
        let pieces = self.pieces(&span)?;
        let room = page_align(span.end - span.start)?.checked_add(16 * PAGE)?;
        let end = self.tree.find_gap_above(span.end..span.end.checked_add(REACH)?, room)?;
        Some(Object { span, frames, pieces, end })
    }

    /// What is mapped of an object and can be read; None where not all of its code is such.
    fn pieces(&self, span: &Range<u64>) -> Option<Vec<(Range<u64>, Prot)>> {
        let is_readable = |vma: &Vma| vma.prot.contains(Prot::READ) && matches!(vma.backing, Backing::Zero);
        let mut pieces = Vec::new();
        for vma in self.tree.overlapping(span.clone()) {
            let part = vma.clipped(span);
            if is_readable(vma) {
                pieces.push((part.start..part.end, vma.prot));
            } else if vma.prot.contains(Prot::EXEC) {
                return None;
            }
        }
        let bytes: u64 = pieces.iter().map(|(range, _)| range.end - range.start).sum();
        (pieces.len() <= MOST_PIECES && bytes <= MOST_BYTES).then_some(pieces)
    }

    /// Puts the image in the place of text, whose pages go where the guest does not find them.
    fn set_aside(&mut self, image: &Image, text: Range<u64>) -> Result<()> {
        let len = text.end - text.start;
        let is_whole = self.tree.is_covered(text.clone()) && self.tree.overlapping(text.clone()).all(is_live_text);
        let from = image.offset_of(text.start).filter(|_| is_whole).ok_or(Errno::EINVAL)?;
        let wish = Wish { addr: 0, placement: Placement::Anywhere, backing: Backing::Zero };
        let room = place::with_fresh_range(self, &wish, len, |addr| place::reserve(addr, len))?;
        if let Err(errno) = host::mremap(text.start, len, len, MAYMOVE | FIXED, room) {
            let _ = host::munmap(room, len);
            return Err(errno);
        }
        let (flags, fd) = (MAP_PRIVATE | MAP_FIXED, image.handle().raw());
        if let Err(errno) = host::mmap(text.start, len, TEXT.bits(), flags, fd, from) {
            let _ = host::mremap(room, len, len, MAYMOVE | FIXED, text.start);
            return Err(errno);
        }
        self.tree.keep(room..room + len);
        self.tree.update(text.clone(), |vma| vma.flags |= VmaFlags::PATCHED);
        self.aside.push(Aside { text, kept: room..room + len });
        Ok(())
    }

    /// Puts the own pages of all text that a range touches back into their place: in one step, for threads may run in it, and
    /// whole, for the host takes what comes back in pieces for several mappings.
    ///
    /// # Errors
    /// ENOMEM where the host has too many mappings.
    #[inline]
    pub(super) fn bring_back(&mut self, range: &Range<u64>) -> Result<()> {
        self.settle(range)?;
        if self.aside.is_empty() { Ok(()) } else { self.bring_aside_back(range) }
    }

    #[cold]
    fn bring_aside_back(&mut self, range: &Range<u64>) -> Result<()> {
        let touches = |aside: &Aside| aside.text.start < range.end && range.start < aside.text.end;
        while let Some(at) = self.aside.iter().position(touches) {
            let Some(Aside { text, kept }) = self.aside.get(at).cloned() else { break };
            let len = text.end - text.start;
            host::mremap(kept.start, len, len, MAYMOVE | FIXED, text.start)?;
            self.aside.swap_remove(at);
            self.tree.unkeep(&kept);
            self.tree.update(text, |vma| vma.flags -= VmaFlags::PATCHED);
        }
        Ok(())
    }
}

/// What the headers of an object that begins at `start` say, if one does and has code at `pc`: its addresses, and those of
/// its unwind information's table.
fn read_headers(start: u64, pc: u64) -> Option<(Range<u64>, Range<u64>)> {
    let mut head = [0; elf::HEAD];
    machine::guest::read(start, &mut head).ok()?;
    let (offset, len) = elf::header_range(&head).ok()?;
    let at = usize::try_from(offset).ok()?;
    let headers = head.get(at..at.checked_add(len)?)?;
    let object = elf::parse(&head, headers).ok()?;
    let first = object.segments.first().filter(|segment| segment.offset == 0)?;
    let bias = start.wrapping_sub(first.vaddr & !(PAGE - 1));
    let holds = |segment: &&elf::Segment| pc.wrapping_sub(segment.vaddr.wrapping_add(bias)) < segment.mem_len;
    object.segments.iter().find(holds)?;
    let frames = headers.chunks_exact(PROGRAM_HEADER).find(|raw| raw.starts_with(&PT_GNU_EH_FRAME.to_le_bytes()))?;
    let word = |at: usize| frames.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let from = word(16)?.wrapping_add(bias);
    let (low, high) = object.span();
    let span = low.wrapping_add(bias)..high.wrapping_add(bias);
    (span.start < span.end && span.end <= place::USER_END).then_some(())?;
    Some((span, from..from.checked_add(word(40)?)?))
}

impl Object {
    /// Length of the file that holds it.
    fn file_len(&self) -> u64 {
        self.pieces.iter().map(|(range, _)| range.end - range.start).sum::<u64>().saturating_add(PAGE)
    }

    /// Writes it as a file whose addresses are those where it lies: a page of headers, then what is mapped.
    fn write(&self, file: &HostFd) -> Result<()> {
        host::write_file(file.raw(), &self.headers(), 0, 0)?;
        let mut offset = PAGE;
        for (range, _) in &self.pieces {
            let mut at = range.start;
            while at < range.end {
                let part = [IoVec { base: at, len: range.end - at }];
                let count = host::write_file_guest(file.raw(), &part, offset, 0)? as u64;
                if count == 0 {
                    return Err(Errno::EIO);
                }
                at += count;
                offset += count;
            }
        }
        Ok(())
    }

    fn headers(&self) -> Vec<u8> {
        let mut segments = Vec::new();
        let mut offset = PAGE;
        for (range, prot) in &self.pieces {
            let len = range.end - range.start;
            segments.push(segment(PT_LOAD, *prot, offset, range.start..range.end, len));
            offset += len;
        }
        // Nothing is mapped there: slot page and stubs go behind.
        segments.push(segment(PT_LOAD, Prot::READ, 0, self.end..self.end + PAGE, 0));
        segments.push(segment(PT_GNU_EH_FRAME, Prot::READ, 0, self.frames.clone(), 0));
        let mut bytes = file_header(segments.len()).to_vec();
        segments.iter().for_each(|segment| bytes.extend_from_slice(segment));
        bytes
    }
}

/// An ELF header: a program at fixed addresses, for words in its memory hold such.
fn file_header(segments: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let count = u8::try_from(segments).unwrap_or(u8::MAX);
    let fields: [(usize, &[u8]); 7] = [
        (0, b"\x7fELF\x02\x01\x01"),
        (16, &[2, 0, 62, 0, 1]),
        (32, &[HEADER as u8]),
        (52, &[HEADER as u8, 0, PROGRAM_HEADER as u8]),
        (56, &[count]),
        (58, &[HEADER as u8]),
        (60, &[0]),
    ];
    for (at, bytes) in fields {
        header.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }
    header
}

fn segment(kind: u32, prot: Prot, offset: u64, addresses: Range<u64>, file_len: u64) -> [u8; PROGRAM_HEADER] {
    let pairs = [(Prot::READ, 4), (Prot::WRITE, 2), (Prot::EXEC, 1_u64)];
    let flags = pairs.iter().filter(|(bit, _)| prot.contains(*bit)).fold(0, |all, (_, flag)| all | flag);
    let len = addresses.end - addresses.start;
    let words = [u64::from(kind) | flags << 32, offset, addresses.start, addresses.start, file_len, len, PAGE];
    let mut header = [0; PROGRAM_HEADER];
    for (to, word) in header.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::{Object, PAGE, Prot, TEXT, elf};

    #[test]
    fn an_object_is_written_as_a_file_at_its_own_addresses() {
        const START: u64 = 0x7f12_3456_7000;
        let pieces = vec![(START..START + PAGE, Prot::READ), (START + PAGE..START + 3 * PAGE, TEXT)];
        let frames = START + 8..START + 24;
        let object = Object { span: START..START + 3 * PAGE, frames, pieces, end: START + 9 * PAGE };
        let headers = object.headers();
        let (at, len) = elf::header_range(&headers).unwrap_or_default();
        let rows = usize::try_from(at).ok().and_then(|at| headers.get(at..at + len)).unwrap_or_default();
        let Ok(parsed) = elf::parse(&headers, rows) else { panic!("{headers:02x?}") };
        let segments: Vec<_> =
            parsed.segments.iter().map(|s| (s.flags, s.offset, s.vaddr, s.file_len, s.mem_len)).collect();
        let expected = [
            (4, PAGE, START, PAGE, PAGE),
            (5, 2 * PAGE, START + PAGE, 2 * PAGE, 2 * PAGE),
            (4, 0, START + 9 * PAGE, 0, PAGE),
        ];
        assert_eq!(segments, expected);
        assert_eq!(object.file_len(), 4 * PAGE);
        assert!(headers.len() < usize::try_from(PAGE).unwrap_or(0));
    }
}
