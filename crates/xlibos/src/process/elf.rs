//! ELF headers, as exec(2) needs them: elf(5). The bytes are the guest's: every field is checked.

use crate::{Errno, Result};
use alloc::vec::Vec;

/// A segment that is mapped.
pub const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
/// Size of a program header.
pub const PHENT: u64 = 56;
/// First bytes of a file that exec reads at once; headers usually lie in them.
pub const HEAD: usize = 4096;
const PAGE: u64 = 4096;

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// PF_X 1, PF_W 2, PF_R 4.
    pub flags: u32,
    /// Offset in the file.
    pub offset: u64,
    /// Virtual address.
    pub vaddr: u64,
    /// Bytes from the file.
    pub file_len: u64,
    /// Bytes in memory.
    pub mem_len: u64,
}

/// A program's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Whether it may lie anywhere.
    pub is_relocatable: bool,
    /// Entry, before relocation.
    pub entry: u64,
    /// Address of the program headers, before relocation; 0 where no segment holds them.
    pub headers: u64,
    /// How many program headers.
    pub header_count: u64,
    /// Segments in order of address.
    pub segments: Vec<Segment>,
    /// Offset and length of the interpreter's path.
    pub interp: Option<(u64, u64)>,
    /// Whether the stack is to be executable.
    pub exec_stack: bool,
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let raw = bytes.get(at..at + 2).ok_or(Errno::ENOEXEC)?;
    Ok(u16::from_le_bytes([raw[0], raw[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let raw = bytes.get(at..at + 4).and_then(|raw| raw.try_into().ok()).ok_or(Errno::ENOEXEC)?;
    Ok(u32::from_le_bytes(raw))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    let raw = bytes.get(at..at + 8).and_then(|raw| raw.try_into().ok()).ok_or(Errno::ENOEXEC)?;
    Ok(u64::from_le_bytes(raw))
}

/// Bytes of the file's header.
pub const HEADER: usize = 64;

/// Whether the first bytes are an ELF file's.
#[must_use]
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

/// Where the program headers lie: offset and length in bytes.
///
/// # Errors
/// ENOEXEC for what is no x86-64 program.
pub fn header_range(head: &[u8]) -> Result<(u64, usize)> {
    let class_and_data = head.get(4..6).ok_or(Errno::ENOEXEC)?;
    let kind = u16_at(head, 16)?;
    if !is_elf(head) || class_and_data != [2, 1] || u16_at(head, 18)? != EM_X86_64 {
        return Err(Errno::ENOEXEC);
    }
    if (kind != ET_EXEC && kind != ET_DYN) || u64::from(u16_at(head, 54)?) != PHENT {
        return Err(Errno::ENOEXEC);
    }
    let count = usize::from(u16_at(head, 56)?);
    if count == 0 || count > 1000 {
        return Err(Errno::ENOEXEC);
    }
    Ok((u64_at(head, 32)?, count * 56))
}

/// Parses the headers: `head` is the file's beginning, `headers` the program headers' bytes.
///
/// # Errors
/// ENOEXEC.
pub fn parse(head: &[u8], headers: &[u8]) -> Result<Elf> {
    let headers_at = u64_at(head, 32)?;
    let mut elf = Elf {
        is_relocatable: u16_at(head, 16)? == ET_DYN,
        entry: u64_at(head, 24)?,
        headers: 0,
        header_count: headers.len() as u64 / PHENT,
        segments: Vec::new(),
        interp: None,
        exec_stack: false,
    };
    for raw in headers.chunks_exact(56) {
        let kind = u32_at(raw, 0)?;
        let flags = u32_at(raw, 4)?;
        let (offset, vaddr) = (u64_at(raw, 8)?, u64_at(raw, 16)?);
        let (file_len, mem_len) = (u64_at(raw, 32)?, u64_at(raw, 40)?);
        match kind {
            PT_LOAD => elf.segments.push(check_segment(Segment { flags, offset, vaddr, file_len, mem_len })?),
            PT_INTERP if elf.interp.is_some() => {}
            PT_INTERP if file_len > 1 && file_len <= 4096 => elf.interp = Some((offset, file_len)),
            PT_INTERP => return Err(Errno::ENOEXEC),
            PT_GNU_STACK => elf.exec_stack = flags & 1 != 0,
            _ => {}
        }
    }
    let holds_headers = |s: &&Segment| s.offset <= headers_at && headers_at - s.offset < s.file_len;
    if let Some(segment) = elf.segments.iter().find(holds_headers) {
        elf.headers = segment.vaddr.wrapping_add(headers_at - segment.offset);
    }
    let ordered = elf.segments.windows(2).all(|w| w[0].vaddr.saturating_add(w[0].mem_len) <= w[1].vaddr);
    if elf.segments.is_empty() || !ordered {
        return Err(Errno::ENOEXEC);
    }
    Ok(elf)
}

fn check_segment(segment: Segment) -> Result<Segment> {
    const USER_END: u64 = 0x7fff_ffff_f000;
    let end = segment.vaddr.checked_add(segment.mem_len).ok_or(Errno::ENOEXEC)?;
    let file_end = segment.offset.checked_add(segment.file_len).ok_or(Errno::ENOEXEC)?;
    let aligned = segment.vaddr % PAGE == segment.offset % PAGE;
    if end > USER_END || file_end > i64::MAX as u64 || segment.file_len > segment.mem_len || !aligned {
        return Err(Errno::ENOEXEC);
    }
    Ok(segment)
}

impl Elf {
    /// Page-aligned start of the lowest and end of the highest segment.
    #[must_use]
    pub fn span(&self) -> (u64, u64) {
        let start = self.segments.first().map_or(0, |s| s.vaddr & !(PAGE - 1));
        let end = self.segments.last().map_or(0, |s| (s.vaddr + s.mem_len + PAGE - 1) & !(PAGE - 1));
        (start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::{HEAD, header_range, parse};
    use proptest::prelude::{any, proptest};

    #[test]
    fn a_program_of_this_machine_parses() {
        let bytes = std::fs::read("/bin/true").unwrap_or_default();
        let (at, len) = header_range(&bytes).unwrap_or_default();
        let headers = bytes.get(at as usize..at as usize + len).unwrap_or(&[]);
        let elf = parse(&bytes, headers);
        assert!(elf.is_ok_and(|elf| elf.interp.is_some() && elf.segments.len() >= 2));
    }

    #[test]
    fn another_machine_is_refused() {
        let mut bytes = std::fs::read("/bin/true").unwrap_or_default();
        bytes[18] = 183;
        assert!(header_range(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn hostile_headers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..HEAD)) {
            let _ = header_range(&bytes);
            let _ = parse(&bytes, &bytes);
        }
    }
}
