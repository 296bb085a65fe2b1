//! Writes the runner: an `ET_EXEC` file with a few instructions that map the LibOS's constants and text from the file in which they came.
//! All containers share the pages of that file, none has a copy. Constants that hold addresses lie in the arena; a segment below it that is
//! not as in the image's file would come with the runner, and there is none.

use super::elf::{Relocated, Segment};
use super::{LoadError, align_up, length, make_unreadable, seal, write_at};
use abi::boot::{PAGE, TEXT_FD};
use rustix::fd::BorrowedFd;
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

const FILE_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
const PT_LOAD: u32 = 1;
const PT_GNU_STACK: u32 = 0x6474_e551;
const READ: u32 = 4;
const READ_EXECUTE: u32 = 5;
const READ_WRITE: u32 = 6;

/// Writes and seals the file.
///
/// `image_offset` is where the image lies in the file at [`TEXT_FD`].
pub(super) fn write(file: BorrowedFd<'_>, image: &Relocated<'_>, image_offset: u64) -> Result<(), LoadError> {
    let mut headers = Vec::new();
    let mut count = 1u16;
    let mut free = PAGE;
    for segment in image.runner_segments() {
        let offset = free + segment.start % PAGE;
        free = align_up(offset + segment.memory_len, PAGE);
        // What the file lacks is zero in the memory file too: no segment needs a writable tail.
        write_at(file, &segment.bytes, offset)?;
        let range = (segment.start, segment.memory_len);
        program_header(&mut headers, PT_LOAD, READ, offset, range);
        count += 1;
    }
    let entry = image.arena_start() - PAGE;
    let stub = stub(image, image_offset);
    write_at(file, &stub, free)?;
    program_header(&mut headers, PT_LOAD, READ_EXECUTE, free, (entry, length(&stub)));
    free += PAGE;
    count += 1;
    program_header(&mut headers, PT_GNU_STACK, READ_WRITE, 0, (0, 0));
    let mut head = file_header(entry, count);
    head.append(&mut headers);
    if length(&head) > PAGE {
        return Err(LoadError::Elf(super::ElfError::Kind));
    }
    write_at(file, &head, 0)?;
    rustix::fs::ftruncate(file, free).map_err(super::host("size the runner"))?;
    make_unreadable(file)?;
    seal(file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
}

/// Maps the segments, closes their file, and goes on at the LibOS's own entry, all registers but those of a call as they were.
fn stub(image: &Relocated<'_>, image_offset: u64) -> Vec<u8> {
    let mut code = Vec::new();
    for segment in image.mapped_segments() {
        map(&mut code, segment, image_offset);
    }
    load(&mut code, RDI, u64::from(TEXT_FD.unsigned_abs()));
    load(&mut code, RAX, SYS_CLOSE);
    code.extend_from_slice(SYSCALL);
    load(&mut code, RAX, image.entry);
    code.extend_from_slice(JUMP_TO_RAX);
    code
}

fn map(code: &mut Vec<u8>, segment: &Segment<'_>, image_offset: u64) {
    let within = segment.start % PAGE;
    let execute = if segment.executable { ProtFlags::EXEC } else { ProtFlags::empty() };
    let values = [
        (RDI, segment.start - within),
        (RSI, align_up(segment.memory_len + within, PAGE)),
        (RDX, u64::from((ProtFlags::READ | execute).bits())),
        (R10, u64::from((MapFlags::PRIVATE | MapFlags::FIXED).bits())),
        (R8, u64::from(TEXT_FD.unsigned_abs())),
        (R9, image_offset + segment.offset - within),
        (RAX, SYS_MMAP),
    ];
    values.iter().for_each(|(register, value)| load(code, *register, *value));
    code.extend_from_slice(SYSCALL);
    code.extend_from_slice(UNLESS_RAX_IS_RDI_STOP);
}

const SYS_MMAP: u64 = 9;
const SYS_CLOSE: u64 = 3;
const SYSCALL: &[u8] = &[0x0f, 0x05];
/// `cmp rax, rdi; je +2; ud2`.
const UNLESS_RAX_IS_RDI_STOP: &[u8] = &[0x48, 0x39, 0xf8, 0x74, 0x02, 0x0f, 0x0b];
const JUMP_TO_RAX: &[u8] = &[0xff, 0xe0];
/// `mov REGISTER, imm64`: prefix and opcode.
const RAX: [u8; 2] = [0x48, 0xb8];
const RDX: [u8; 2] = [0x48, 0xba];
const RSI: [u8; 2] = [0x48, 0xbe];
const RDI: [u8; 2] = [0x48, 0xbf];
const R8: [u8; 2] = [0x49, 0xb8];
const R9: [u8; 2] = [0x49, 0xb9];
const R10: [u8; 2] = [0x49, 0xba];

fn load(code: &mut Vec<u8>, register: [u8; 2], value: u64) {
    code.extend_from_slice(&register);
    code.extend_from_slice(&value.to_le_bytes());
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
