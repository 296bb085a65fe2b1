//! The parts of an ELF file that matter here, bounds checked once.

use crate::plan::{Limits, PAGE, PlanError};
use alloc::vec::Vec;
use core::ops::Range;
use object::LittleEndian;
use object::elf;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable};

type Header = elf::FileHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;
/// First address that no user-space object can have.
const ADDRESS_END: u64 = 1 << 47;
const MAX_SEGMENTS: usize = 1024;

/// A loadable segment, the part that comes from the file.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) vaddr: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: &'a [u8],
    /// First address after the segment in memory.
    end: u64,
    executable: bool,
    writable: bool,
}

impl<'a> Segment<'a> {
    /// Text whose image can be shared: nobody writes it.
    pub(crate) fn is_text(&self) -> bool {
        self.executable && !self.writable
    }

    /// First address after the bytes from the file.
    pub(crate) fn file_end(&self) -> u64 {
        self.vaddr.saturating_add(self.bytes.len() as u64)
    }

    /// The bytes at `range`, if the file provides all of them.
    pub(crate) fn slice(&self, range: &Range<u64>) -> Option<&'a [u8]> {
        let start = usize::try_from(range.start.checked_sub(self.vaddr)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.vaddr)?).ok()?;
        self.bytes.get(start..end)
    }

    fn pages(&self) -> Range<u64> {
        page_floor(self.vaddr)..self.end.next_multiple_of(PAGE)
    }

    fn file_pages(&self) -> Range<u64> {
        page_floor(self.offset)..self.offset.saturating_add(self.bytes.len() as u64).next_multiple_of(PAGE)
    }
}

/// A parsed file.
pub(crate) struct Elf<'a> {
    pub(crate) file: &'a [u8],
    pub(crate) segments: Vec<Segment<'a>>,
    pub(crate) sections: Option<SectionTable<'a, Header>>,
    /// Addresses of `.eh_frame_hdr`.
    pub(crate) frame_header: Option<Range<u64>>,
    /// Where the program starts.
    pub(crate) entry: u64,
    /// Linked to a fixed address, so code may hold absolute addresses.
    pub(crate) is_fixed: bool,
}

/// A section's place in file and memory.
pub(crate) struct Section<'a> {
    pub(crate) vaddr: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Elf<'a> {
    /// Parses headers. Sections are optional: a file without them, or with damaged ones, still runs.
    pub(crate) fn parse(file: &'a [u8], limits: &Limits) -> Result<Self, PlanError> {
        if file.len() as u64 > limits.max_file_len {
            return Err(PlanError::TooLarge);
        }
        let header = Header::parse(file).map_err(|_| PlanError::NotX86Elf)?;
        let kind = header.e_type(ENDIAN);
        let is_little = header.endian().is_ok() && header.is_little_endian();
        if !is_little || header.e_machine(ENDIAN) != elf::EM_X86_64 || (kind != elf::ET_EXEC && kind != elf::ET_DYN) {
            return Err(PlanError::NotX86Elf);
        }
        let headers = header.program_headers(ENDIAN, file).map_err(|_| PlanError::Layout)?;
        if headers.len() > MAX_SEGMENTS {
            return Err(PlanError::TooLarge);
        }
        let mut segments = Vec::new();
        let mut frame_header = None;
        for header in headers {
            let kind = header.p_type(ENDIAN);
            if kind == elf::PT_LOAD {
                segments.extend(load_segment(header, file)?);
            } else if kind == elf::PT_GNU_EH_FRAME {
                let start: u64 = header.p_vaddr(ENDIAN);
                frame_header = start.checked_add(header.p_memsz(ENDIAN)).map(|end| start..end);
            }
        }
        check_layout(&segments)?;
        let sections = header.sections(ENDIAN, file).ok();
        let entry = header.e_entry(ENDIAN);
        Ok(Self { file, segments, sections, frame_header, entry, is_fixed: kind == elf::ET_EXEC })
    }

    /// The page-rounded addresses that the object takes.
    pub(crate) fn span(&self) -> Range<u64> {
        let start = self.segments.first().map_or(0, |segment| segment.pages().start);
        let end = self.segments.last().map_or(0, |segment| segment.pages().end);
        start..end
    }

    /// Segments of read-only text.
    pub(crate) fn text(&self) -> impl Iterator<Item = &Segment<'a>> {
        self.segments.iter().filter(|segment| segment.is_text())
    }

    /// The text segment that holds `vaddr`.
    pub(crate) fn text_at(&self, vaddr: u64) -> Option<&Segment<'a>> {
        self.segment_at(vaddr).filter(|segment| segment.is_text())
    }

    /// The segment whose file part holds `vaddr`.
    pub(crate) fn segment_at(&self, vaddr: u64) -> Option<&Segment<'a>> {
        let after = self.segments.partition_point(|segment| segment.vaddr <= vaddr);
        self.segments.get(after.checked_sub(1)?).filter(|segment| vaddr < segment.file_end())
    }

    /// The first section called `name`.
    pub(crate) fn section(&self, name: &str) -> Option<Section<'a>> {
        let sections = self.sections.as_ref()?;
        let (_, header) = sections.section_by_name(ENDIAN, name.as_bytes())?;
        let bytes = header.data(ENDIAN, self.file).ok()?;
        Some(Section { vaddr: header.sh_addr(ENDIAN), offset: header.sh_offset(ENDIAN), bytes })
    }
}

/// Rounds down to a page.
pub(crate) const fn page_floor(value: u64) -> u64 {
    value & !(PAGE - 1)
}

fn load_segment<'a>(
    header: &elf::ProgramHeader64<LittleEndian>,
    file: &'a [u8],
) -> Result<Option<Segment<'a>>, PlanError> {
    let vaddr: u64 = header.p_vaddr(ENDIAN);
    let offset: u64 = header.p_offset(ENDIAN);
    let memory_len: u64 = header.p_memsz(ENDIAN);
    if memory_len == 0 {
        return Ok(None);
    }
    let end = vaddr.checked_add(memory_len).filter(|end| *end <= ADDRESS_END).ok_or(PlanError::Layout)?;
    let bytes = header.data(ENDIAN, file).map_err(|()| PlanError::Layout)?;
    if bytes.len() as u64 > memory_len || vaddr % PAGE != offset % PAGE {
        return Err(PlanError::Layout);
    }
    let flags = header.p_flags(ENDIAN);
    let has = |flag: elf::ProgramFlags| flags.0 & flag.0 != 0;
    Ok(Some(Segment { vaddr, offset, bytes, end, executable: has(elf::PF_X), writable: has(elf::PF_W) }))
}

/// Segments ascend, share no page in memory, and text segments share no page of the file with each other.
fn check_layout(segments: &[Segment<'_>]) -> Result<(), PlanError> {
    if segments.is_empty() {
        return Err(PlanError::Layout);
    }
    let ascending = segments.windows(2).all(|pair| match pair {
        [first, second] => first.pages().end <= second.pages().start,
        _ => true,
    });
    let mut file_pages: Vec<_> =
        segments.iter().filter(|segment| segment.executable).map(Segment::file_pages).collect();
    file_pages.sort_by_key(|range| range.start);
    let disjoint = file_pages.windows(2).all(|pair| match pair {
        [first, second] => first.end <= second.start,
        _ => true,
    });
    if ascending && disjoint { Ok(()) } else { Err(PlanError::Layout) }
}
