//! Reads the LibOS image, a static position independent ELF, and relocates it.

use super::length;
use abi::boot::{ARENA_OFFSET, PAGE};
use std::borrow::Cow;

/// What is wrong with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Not an x86-64 position independent ELF.
    #[error("it is no position independent x86-64 ELF file")]
    Kind,
    /// A table or segment lies outside the file.
    #[error("it is truncated")]
    Truncated,
    /// Segments overlap or lie where the layout has no place.
    #[error("a segment at {0:#x} has no place in the layout")]
    Segment(u64),
    /// A relocation that is not relative, or lies outside the segments.
    #[error("a relocation at {0:#x} cannot be applied")]
    Relocation(u64),
    /// There is not exactly one executable segment, or it cannot be mapped from the file.
    #[error("it has not exactly one executable segment that can be mapped")]
    Text,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PF_X: u32 = 1;
const R_RELATIVE: u64 = 8;
const PROGRAM_HEADER: u64 = 56;
const RELA: u64 = 24;

/// A loadable segment. Before relocation `start` is the linked address, after it the final one.
#[derive(Clone, Debug)]
pub(super) struct Segment<'a> {
    pub(super) start: u64,
    pub(super) memory_len: u64,
    pub(super) executable: bool,
    /// Where in the file its bytes are.
    pub(super) offset: u64,
    pub(super) bytes: Cow<'a, [u8]>,
}

impl Segment<'_> {
    pub(super) fn end(&self) -> u64 {
        self.start + self.memory_len
    }

    /// Whether the segment is whole in the file, at the same place in a page there as in memory, and was not relocated.
    fn is_as_in_file(&self) -> bool {
        matches!(self.bytes, Cow::Borrowed(_))
            && length(&self.bytes) == self.memory_len
            && self.offset % PAGE == self.start % PAGE
    }
}

/// A parsed image.
#[derive(Clone, Debug)]
pub(super) struct Parsed<'a> {
    file: &'a [u8],
    entry: u64,
    segments: Vec<Segment<'a>>,
    dynamic: Option<(u64, u64)>,
}

/// An image at its final addresses.
#[derive(Clone, Debug)]
pub(super) struct Relocated<'a> {
    pub(super) entry: u64,
    arena_start: u64,
    segments: Vec<Segment<'a>>,
}

/// Reads headers and segments.
pub(super) fn parse(file: &[u8]) -> Result<Parsed<'_>, ElfError> {
    let identity = slice(file, 0, 20)?;
    let wanted: [(usize, &[u8]); 3] = [(0, b"\x7fELF\x02\x01"), (16, &[3, 0]), (18, &[62, 0])];
    for (at, bytes) in wanted {
        if identity.get(at..at + bytes.len()) != Some(bytes) {
            return Err(ElfError::Kind);
        }
    }
    let table = word(file, 32)?;
    let count = u64::from(half(file, 56)?);
    let mut parsed = Parsed { file, entry: word(file, 24)?, segments: Vec::new(), dynamic: None };
    for index in 0..count {
        let at = table.checked_add(index * PROGRAM_HEADER).ok_or(ElfError::Truncated)?;
        parsed.add_header(at)?;
    }
    parsed.check_places()?;
    Ok(parsed)
}

impl<'a> Parsed<'a> {
    fn add_header(&mut self, at: u64) -> Result<(), ElfError> {
        slice(self.file, at, PROGRAM_HEADER)?;
        let (kind, flags) = (word32(self.file, at)?, word32(self.file, at + 4)?);
        let (offset, start) = (word(self.file, at + 8)?, word(self.file, at + 16)?);
        let (file_len, memory_len) = (word(self.file, at + 32)?, word(self.file, at + 40)?);
        match kind {
            PT_DYNAMIC => self.dynamic = Some((offset, file_len)),
            PT_LOAD if memory_len > 0 => {
                if file_len > memory_len || start.checked_add(memory_len).is_none() {
                    return Err(ElfError::Segment(start));
                }
                self.segments.push(Segment {
                    start,
                    memory_len,
                    executable: flags & PF_X != 0,
                    offset,
                    bytes: Cow::Borrowed(slice(self.file, offset, file_len)?),
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Segments are ordered, share no page, and lie wholly before the arena or behind its first page.
    fn check_places(&self) -> Result<(), ElfError> {
        let mut free = 0u64;
        for segment in &self.segments {
            let first_page = segment.start / PAGE * PAGE;
            // The page before the arena is the runner's own.
            let before = segment.end() <= ARENA_OFFSET - PAGE;
            let behind = segment.start >= ARENA_OFFSET + PAGE && segment.end() < 1 << 32;
            if first_page < free || !(before || behind) || (behind && segment.executable) {
                return Err(ElfError::Segment(segment.start));
            }
            free = segment.end();
        }
        Ok(())
    }

    /// Moves everything to `base`.
    pub(super) fn relocate(mut self, base: u64) -> Result<Relocated<'a>, ElfError> {
        let tables = self.relocation_tables()?;
        if tables.rela_len > 0 {
            let bytes = self.linked_bytes(tables.rela, tables.rela_len)?.to_vec();
            for entry in bytes.chunks_exact(24) {
                let (at, info, addend) = (word(entry, 0)?, word(entry, 8)?, word(entry, 16)?);
                if info != R_RELATIVE {
                    return Err(ElfError::Relocation(at));
                }
                self.patch(at, base.wrapping_add(addend))?;
            }
        }
        for segment in &mut self.segments {
            segment.start += base;
        }
        Ok(Relocated {
            entry: base.wrapping_add(self.entry),
            arena_start: base + ARENA_OFFSET,
            segments: self.segments,
        })
    }

    fn relocation_tables(&self) -> Result<Tables, ElfError> {
        const DT_RELA: u64 = 7;
        const DT_RELASZ: u64 = 8;
        const DT_RELAENT: u64 = 9;
        // Forms that the link of the LibOS never makes: REL, PLT and packed relocations.
        const OTHERS: [u64; 5] = [17, 18, 2, 35, 36];
        let mut tables = Tables::default();
        let Some((offset, len)) = self.dynamic else {
            return Ok(tables);
        };
        for entry in slice(self.file, offset, len)?.chunks_exact(16) {
            let (tag, value) = (word(entry, 0)?, word(entry, 8)?);
            match tag {
                0 => break,
                DT_RELA => tables.rela = value,
                DT_RELASZ => tables.rela_len = value,
                DT_RELAENT if value != RELA => return Err(ElfError::Relocation(0)),
                tag if OTHERS.contains(&tag) && value != 0 => return Err(ElfError::Relocation(0)),
                _ => {}
            }
        }
        Ok(tables)
    }

    /// Bytes of the image at a linked address.
    fn linked_bytes(&self, start: u64, len: u64) -> Result<&[u8], ElfError> {
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.start <= start && start < segment.end())
            .ok_or(ElfError::Truncated)?;
        slice(&segment.bytes, start - segment.start, len)
    }

    fn patch(&mut self, at: u64, value: u64) -> Result<(), ElfError> {
        let segment = self
            .segments
            .iter_mut()
            .find(|segment| segment.start <= at && at < segment.end())
            .ok_or(ElfError::Relocation(at))?;
        let start = usize::try_from(at - segment.start).map_err(|_| ElfError::Relocation(at))?;
        if segment.executable {
            return Err(ElfError::Relocation(at));
        }
        let slot = start
            .checked_add(8)
            .and_then(|end| segment.bytes.to_mut().get_mut(start..end))
            .ok_or(ElfError::Relocation(at))?;
        slot.copy_from_slice(&value.to_le_bytes());
        Ok(())
    }
}

#[derive(Default)]
struct Tables {
    rela: u64,
    rela_len: u64,
}

impl<'a> Relocated<'a> {
    /// The executable segment, whole in the file, and at the same place in a page there as in memory.
    pub(super) fn text(&self) -> Result<&Segment<'a>, ElfError> {
        let mut texts = self.segments.iter().filter(|segment| segment.executable);
        match (texts.next(), texts.next()) {
            (Some(text), None) if text.is_as_in_file() => Ok(text),
            _ => Err(ElfError::Text),
        }
    }

    /// Segments before the arena that are mapped from the file.
    pub(super) fn mapped_segments(&self) -> impl Iterator<Item = &Segment<'a>> {
        self.segments.iter().filter(|segment| segment.start < self.arena_start && segment.is_as_in_file())
    }

    /// Segments before the arena that become the runner's, all only to read.
    pub(super) fn runner_segments(&self) -> impl Iterator<Item = &Segment<'a>> {
        self.segments.iter().filter(|segment| segment.start < self.arena_start && !segment.is_as_in_file())
    }

    /// Start of the arena.
    pub(super) fn arena_start(&self) -> u64 {
        self.arena_start
    }

    /// Segments that lie in the arena.
    pub(super) fn arena_segments(&self) -> impl Iterator<Item = &Segment<'a>> {
        self.segments.iter().filter(|segment| segment.start >= self.arena_start)
    }

    /// End of the last segment, at least the end of the boot block.
    pub(super) fn end(&self) -> u64 {
        self.segments.iter().map(Segment::end).fold(self.arena_start + PAGE, u64::max)
    }
}

fn slice(bytes: &[u8], start: u64, len: u64) -> Result<&[u8], ElfError> {
    let range = usize::try_from(start).ok().and_then(|start| {
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        bytes.get(start..end)
    });
    range.ok_or(ElfError::Truncated)
}

fn word(bytes: &[u8], at: u64) -> Result<u64, ElfError> {
    let field = slice(bytes, at, 8)?.try_into();
    field.map(u64::from_le_bytes).map_err(|_| ElfError::Truncated)
}

fn word32(bytes: &[u8], at: u64) -> Result<u32, ElfError> {
    let field = slice(bytes, at, 4)?.try_into();
    field.map(u32::from_le_bytes).map_err(|_| ElfError::Truncated)
}

fn half(bytes: &[u8], at: u64) -> Result<u16, ElfError> {
    let field = slice(bytes, at, 2)?.try_into();
    field.map(u16::from_le_bytes).map_err(|_| ElfError::Truncated)
}
