//! Function ranges from Go's pclntab (layout: Go's `debug/gosym` documentation; versions 1.16 to 1.20 and on).

use crate::elf::Elf;
use crate::functions::{Function, push};
use crate::plan::{Name, PlanError, Source};
use crate::reader::Reader;
use alloc::vec::Vec;

const MAGIC_1_16: u32 = 0xffff_fffa;
const MAGIC_1_18: u32 = 0xffff_fff0;
const MAGIC_1_20: u32 = 0xffff_fff1;
const R_X86_64_RELATIVE: u64 = 8;
/// Places that look like a header and are tried.
const MAX_CANDIDATES: usize = 16;
const MAX_NAME: usize = 512;

/// The header's fields in use.
pub(crate) struct Table<'a> {
    bytes: &'a [u8],
    file_offset: u64,
    functions: u64,
    text_start: u64,
    names: u64,
    entries: u64,
    /// Width of an entry's two fields.
    width: usize,
}

/// Adds the range of every Go function.
pub(crate) fn collect(elf: &Elf<'_>, limit: usize, list: &mut Vec<Function>) -> Result<(), PlanError> {
    let Some(table) = locate(elf) else { return Ok(()) };
    let Some(bytes) = usize::try_from(table.entries).ok().and_then(|start| table.bytes.get(start..)) else {
        return Ok(());
    };
    let mut reader = Reader::new(bytes, 0);
    let mut previous: Option<(u64, u64)> = None;
    for _ in 0..=table.functions {
        let Some(offset) = field(&mut reader, table.width) else { break };
        let start = table.text_start.wrapping_add(offset);
        if let Some((from, record)) = previous {
            let mut function = Function::new(from..start, Source::Pclntab);
            function.record = table.file_offset.wrapping_add(table.entries).wrapping_add(record);
            push(list, function, limit)?;
        }
        // The last entry is the end alone.
        let Some(record) = field(&mut reader, table.width) else { break };
        previous = Some((start, record));
    }
    Ok(())
}

/// The name of the function whose record lies at `record` in the file.
pub(crate) fn name(table: &Table<'_>, record: u64) -> Option<Name> {
    let at = usize::try_from(record.checked_sub(table.file_offset)?).ok()?;
    let mut reader = Reader::new(table.bytes, 0);
    // A record opens with the entry again (as wide as in the table), then the name's offset.
    reader.seek(at.checked_add(table.width)?);
    let start = table.names.checked_add(u64::from(reader.u32()?))?;
    reader.seek(usize::try_from(start).ok()?);
    let len = reader.string(MAX_NAME)?.len();
    Some(Name { offset: table.file_offset.checked_add(start)?, len: u16::try_from(len).ok()? })
}

fn field(reader: &mut Reader<'_>, width: usize) -> Option<u64> {
    if width == 8 { reader.u64() } else { reader.u32().map(u64::from) }
}

/// Finds the table.
pub(crate) fn locate<'a>(elf: &Elf<'a>) -> Option<Table<'a>> {
    for name in [".gopclntab", ".data.rel.ro.gopclntab"] {
        if let Some(section) = elf.section(name) {
            return header(elf, section.bytes, section.offset);
        }
    }
    // Merged into another section by an external linker, or sections stripped: the header is aligned and begins
    // with the magic, two zero bytes, 1 and 8.
    let has_sections = elf.sections.as_ref().is_some_and(|sections| !sections.is_empty());
    if has_sections && elf.section(".go.buildinfo").is_none() {
        return None;
    }
    let segments = elf.segments.iter().filter(|segment| !segment.is_text());
    let places = segments.flat_map(|segment| {
        let chunks = segment.bytes.chunks_exact(8).enumerate();
        let is_magic = |chunk: &[u8]| matches!(chunk, [0xfa | 0xf0 | 0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8]);
        chunks.filter(move |(_, chunk)| is_magic(chunk)).map(move |(index, _)| (segment, index.saturating_mul(8)))
    });
    places.take(MAX_CANDIDATES).find_map(|(segment, start)| {
        let offset = segment.offset.checked_add(start as u64)?;
        header(elf, segment.bytes.get(start..)?, offset)
    })
}

fn header<'a>(elf: &Elf<'_>, bytes: &'a [u8], file_offset: u64) -> Option<Table<'a>> {
    let mut reader = Reader::new(bytes, 0);
    let magic = reader.u32()?;
    let [0, 0, _min_instruction, 8] = *reader.take(4)? else { return None };
    let functions = reader.u64()?;
    let _files = reader.u64()?;
    let is_relative = match magic {
        MAGIC_1_18 | MAGIC_1_20 => true,
        MAGIC_1_16 => false,
        _ => return None,
    };
    let text_start_pos = file_offset.checked_add(reader.pos() as u64)?;
    let mut text_start = if is_relative { reader.u64()? } else { 0 };
    if is_relative && text_start == 0 {
        text_start = relocated(elf, text_start_pos).or_else(|| own_text(elf))?;
    }
    let names = reader.u64()?;
    let [_units, _files, _pctab, entries] = [reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?];
    let width = if is_relative { 4 } else { 8 };
    Some(Table { bytes, file_offset, functions, text_start, names, entries, width })
}

/// What the dynamic linker puts at `offset` in the file of a position-independent executable.
fn relocated(elf: &Elf<'_>, offset: u64) -> Option<u64> {
    let segment = elf
        .segments
        .iter()
        .find(|segment| offset.checked_sub(segment.offset).is_some_and(|within| within < segment.bytes.len() as u64))?;
    let vaddr = segment.vaddr.checked_add(offset - segment.offset)?;
    let relocations = elf.section(".rela.dyn").or_else(|| elf.section(".rela"))?;
    let mut entries = relocations.bytes.chunks_exact(24).map(|entry| Reader::new(entry, 0));
    entries.find_map(|mut entry| {
        let [place, info, addend] = [entry.u64()?, entry.u64()?, entry.u64()?];
        (place == vaddr && info == R_X86_64_RELATIVE).then_some(addend)
    })
}

/// Go's own linker puts the runtime first into the section.
fn own_text(elf: &Elf<'_>) -> Option<u64> {
    elf.section(".interp").is_none().then(|| elf.section(".text"))?.map(|section| section.vaddr)
}
