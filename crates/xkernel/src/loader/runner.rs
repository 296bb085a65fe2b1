//! Writes the runner: an `ET_EXEC` file with the LibOS's read-only segments at their final addresses.

use super::elf::Relocated;
use super::{LoadError, align_up, length, make_unreadable, seal, write_at};
use abi::boot::PAGE;
use rustix::fd::BorrowedFd;
use rustix::fs::SealFlags;

const FILE_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
const PT_LOAD: u32 = 1;
const PT_GNU_STACK: u32 = 0x6474_e551;
const READ: u32 = 4;
const READ_EXECUTE: u32 = 5;
const READ_WRITE: u32 = 6;

/// Writes and seals the file.
pub(super) fn write(file: BorrowedFd<'_>, image: &Relocated<'_>) -> Result<(), LoadError> {
    let mut headers = Vec::new();
    let mut count = 1u16;
    let mut free = PAGE;
    for segment in image.runner_segments() {
        let offset = free + segment.start % PAGE;
        free = align_up(offset + segment.memory_len, PAGE);
        // What the file lacks is zero in the memory file too: no segment needs a writable tail.
        write_at(file, &segment.bytes, offset)?;
        let flags = if segment.executable { READ_EXECUTE } else { READ };
        let range = (segment.start, segment.memory_len);
        program_header(&mut headers, PT_LOAD, flags, offset, range);
        count += 1;
    }
    program_header(&mut headers, PT_GNU_STACK, READ_WRITE, 0, (0, 0));
    let mut head = file_header(image.entry, count);
    head.append(&mut headers);
    if length(&head) > PAGE {
        return Err(LoadError::Elf(super::ElfError::Kind));
    }
    write_at(file, &head, 0)?;
    rustix::fs::ftruncate(file, free).map_err(super::host("size the runner"))?;
    make_unreadable(file)?;
    seal(file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
}

fn file_header(entry: u64, count: u16) -> Vec<u8> {
    let mut head = Vec::with_capacity(1024);
    head.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    head.extend_from_slice(&2u16.to_le_bytes()); // ET_EXEC
    head.extend_from_slice(&62u16.to_le_bytes()); // x86-64
    head.extend_from_slice(&1u32.to_le_bytes());
    head.extend_from_slice(&entry.to_le_bytes());
    head.extend_from_slice(&u64::from(FILE_HEADER).to_le_bytes());
    head.extend_from_slice(&[0; 12]); // no sections, no flags
    for field in [FILE_HEADER, PROGRAM_HEADER, count, 0, 0, 0] {
        head.extend_from_slice(&field.to_le_bytes());
    }
    head
}

fn program_header(out: &mut Vec<u8>, kind: u32, flags: u32, offset: u64, memory: (u64, u64)) {
    let (start, len) = memory;
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    for field in [offset, start, start, len, len, PAGE] {
        out.extend_from_slice(&field.to_le_bytes());
    }
}
