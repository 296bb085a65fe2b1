//! Function ranges from `.eh_frame` (the format: Linux Standard Base, "Exception Frames").

use crate::elf::Elf;
use crate::functions::{Function, push};
use crate::plan::{PlanError, Source};
use crate::reader::Reader;
use alloc::vec::Vec;

const OMIT: u8 = 0xff;
const INDIRECT: u8 = 0x80;
/// Longest augmentation string read.
const MAX_AUGMENTATION: usize = 16;

/// `mov $15,%rax; syscall` and `mov $15,%eax; syscall`: the ways to return from a signal handler.
const SIGNAL_RETURNS: [&[u8]; 2] = [&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05], &[0xb8, 15, 0, 0, 0, 0x0f, 0x05]];

/// What a common information entry says about its frames.
#[derive(Clone, Copy)]
struct Common {
    pointer_encoding: u8,
    landing_encoding: u8,
    has_augmentation_data: bool,
    is_signal_frame: bool,
}

/// Adds the range of every frame entry.
pub(crate) fn collect(elf: &Elf<'_>, limit: usize, list: &mut Vec<Function>) -> Result<(), PlanError> {
    let Some(mut reader) = locate(elf) else { return Ok(()) };
    let mut cache = None;
    while let Some((start, body, next)) = entry(&mut reader) {
        let found = frame(&reader, start, body, next, &mut cache);
        if let Some(function) = found.and_then(|function| code_of(elf, function)) {
            push(list, function, limit)?;
        }
        reader.seek(next);
    }
    Ok(())
}

/// A signal frame's function as it is called: its entry begins one byte early, in whatever lies before, because
/// unwinders look for the byte in front of a return address. Only the code itself says where that is.
fn code_of(elf: &Elf<'_>, function: Function) -> Option<Function> {
    if !function.is_signal_frame {
        return Some(function);
    }
    let text = elf.text_at(function.start)?;
    let begins = |start: &u64| {
        let bytes = text.slice(&(*start..function.end)).unwrap_or_default();
        SIGNAL_RETURNS.iter().any(|code| bytes.starts_with(code))
    };
    let start = [function.start, function.start.checked_add(1)?].into_iter().find(begins)?;
    Some(Function { start, ..function })
}

/// The frame section by name, or by what its header points at when sections are stripped.
fn locate<'a>(elf: &Elf<'a>) -> Option<Reader<'a>> {
    if let Some(section) = elf.section(".eh_frame") {
        return Some(Reader::new(section.bytes, section.vaddr));
    }
    let header = elf.frame_header.clone()?;
    let mut reader = Reader::new(elf.segment_at(header.start)?.slice(&header)?, header.start);
    let [_version, encoding, _, _] = [reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?];
    let start = pointer(&mut reader, encoding)?;
    let segment = elf.segment_at(start)?;
    Some(Reader::new(segment.slice(&(start..segment.file_end()))?, start))
}

/// The next entry: its id field's position, its position after the id, and the next entry's position.
fn entry(reader: &mut Reader<'_>) -> Option<(usize, usize, usize)> {
    let short = reader.u32()?;
    let len = match short {
        0 => return None,
        u32::MAX => usize::try_from(reader.u64()?).ok()?,
        len => usize::try_from(len).ok()?,
    };
    let id = reader.pos();
    let next = id.checked_add(len).filter(|_| len >= 4)?;
    Some((id, id.checked_add(4)?, next))
}

fn frame(
    section: &Reader<'_>,
    id_pos: usize,
    body: usize,
    next: usize,
    cache: &mut Option<(usize, Common)>,
) -> Option<Function> {
    let mut reader = section.clone();
    reader.seek(id_pos);
    let back = usize::try_from(reader.u32()?).ok().filter(|back| *back != 0)?;
    let common_pos = id_pos.checked_sub(back)?;
    let common = match *cache {
        Some((pos, common)) if pos == common_pos => common,
        _ => {
            let common = common(section, common_pos)?;
            *cache = Some((common_pos, common));
            common
        }
    };
    reader.seek(body);
    let start = pointer(&mut reader, common.pointer_encoding)?;
    let len = value(&mut reader, common.pointer_encoding)?;
    let mut function = Function::new(start..start.checked_add(len)?, Source::Frame);
    function.is_signal_frame = common.is_signal_frame;
    if common.has_augmentation_data && common.landing_encoding != OMIT {
        let data_len = reader.uleb()?;
        function.has_landing_pads = data_len > 0 && value(&mut reader, common.landing_encoding)? != 0;
    }
    (reader.pos() <= next).then_some(function)
}

fn common(section: &Reader<'_>, pos: usize) -> Option<Common> {
    let mut reader = section.clone();
    reader.seek(pos);
    let (id_pos, body, _) = entry(&mut reader)?;
    reader.seek(id_pos);
    if reader.u32()? != 0 {
        return None;
    }
    reader.seek(body);
    let version = reader.u8().filter(|version| matches!(version, 1 | 3))?;
    let augmentation = reader.string(MAX_AUGMENTATION)?;
    reader.uleb()?;
    reader.uleb()?;
    if version == 1 {
        u64::from(reader.u8()?)
    } else {
        reader.uleb()?
    };
    let mut common =
        Common { pointer_encoding: 0, landing_encoding: OMIT, has_augmentation_data: false, is_signal_frame: false };
    let Some((b'z', rest)) = augmentation.split_first() else {
        return augmentation.is_empty().then_some(common);
    };
    common.has_augmentation_data = true;
    reader.uleb()?;
    for letter in rest {
        match letter {
            b'R' => common.pointer_encoding = reader.u8()?,
            b'L' => common.landing_encoding = reader.u8()?,
            b'P' => {
                let encoding = reader.u8()?;
                value(&mut reader, encoding)?;
            }
            b'S' => common.is_signal_frame = true,
            b'B' => {}
            _ => return None,
        }
    }
    Some(common)
}

/// An encoded pointer, absolute or relative to its own place.
fn pointer(reader: &mut Reader<'_>, encoding: u8) -> Option<u64> {
    let base = match encoding & 0x70 {
        0x00 => 0,
        0x10 => reader.vaddr(),
        _ => return None,
    };
    if encoding & INDIRECT != 0 {
        return None;
    }
    Some(base.wrapping_add(value(reader, encoding)?))
}

/// The value of an encoded pointer before anything is added, sign-extended.
fn value(reader: &mut Reader<'_>, encoding: u8) -> Option<u64> {
    let sign_extend = |value: i64| value.cast_unsigned();
    match encoding & 0x0f {
        0x00 | 0x04 | 0x0c => reader.u64(),
        0x01 => reader.uleb(),
        0x02 => reader.u16().map(u64::from),
        0x03 => reader.u32().map(u64::from),
        0x0a => reader.u16().map(|value| sign_extend(i64::from(value.cast_signed()))),
        0x0b => reader.i32().map(|value| sign_extend(i64::from(value))),
        _ => None,
    }
}
