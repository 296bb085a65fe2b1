//! Puts the LibOS into a new container: relocates its image to a random base, writes the runner (an
//! ELF of fixed addresses, which maps text and rodata) into one memfd and `.data`, the boot block,
//! the filter and the configuration into the other, the arena. See [`abi::boot`] for the layout.

use crate::filter::{self, FilterError};
use abi::boot::{
    ARENA_OFFSET, BASE_ALIGN, BASE_MAX, BASE_MIN, BootBlock, MAGIC, NEAR_HEAP, NEAR_LEN, PAGE, TABLE, THREAD_COUNT,
    WINDOW_COUNT, WINDOW_LEN,
};
use abi::config::Config;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, Mode, SealFlags};
use rustix::io::Errno;

mod boot_block;
mod elf;
mod runner;

pub use elf::ElfError;

/// Length of an arena where nothing else is said; it is sparse.
pub const DEFAULT_ARENA: u64 = 2 << 30;

/// Why the LibOS could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// This program was built without a LibOS.
    #[error("this xc was built without a LibOS")]
    NoImage,
    /// The image is not what the loader understands.
    #[error("the LibOS image is damaged")]
    Elf(#[from] ElfError),
    /// The filter could not be made.
    #[error("cannot make the filter")]
    Filter(#[from] FilterError),
    /// The configuration could not be encoded.
    #[error("cannot encode the container's configuration")]
    Config,
    /// The arena is too small or too large.
    #[error("an arena of {0} bytes does not work")]
    ArenaSize(u64),
    /// The host refused a step.
    #[error("cannot {step}: {errno}")]
    Host {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        errno: Errno,
    },
}

/// A LibOS image, and the file in which it lies.
#[derive(Debug)]
pub struct Image<'a> {
    /// The image: an ELF file.
    pub bytes: &'a [u8],
    /// The file; whoever can change it can change the LibOS.
    pub file: OwnedFd,
    /// Where the image begins in the file: a multiple of the page size.
    pub offset: u64,
}

/// The files of a container's memory.
#[derive(Debug)]
pub struct Memory {
    /// The file of the LibOS's text.
    pub text: OwnedFd,
    /// The runner's ELF.
    pub runner: OwnedFd,
    /// The arena.
    pub arena: OwnedFd,
}

/// Where things lie in a loaded container.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// First byte of the text.
    pub text_start: u64,
    /// End of the text.
    pub text_end: u64,
    /// Start of the arena.
    pub arena_start: u64,
    /// Its length.
    pub arena_len: u64,
}

impl Memory {
    /// Makes the memory files, still empty.
    fn create(text: OwnedFd) -> Result<Self, LoadError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        Ok(Self {
            text,
            runner: memory_file(c"xlibos", flags, MemfdFlags::EXEC)?,
            arena: memory_file(c"arena", flags, MemfdFlags::NOEXEC_SEAL)?,
        })
    }
}

/// Old kernels know no `extra` flag and behave as if it were given.
fn memory_file(name: &std::ffi::CStr, flags: MemfdFlags, extra: MemfdFlags) -> Result<OwnedFd, LoadError> {
    rustix::fs::memfd_create(name, flags | extra)
        .or_else(|errno| match errno {
            Errno::INVAL => rustix::fs::memfd_create(name, flags),
            other => Err(other),
        })
        .map_err(host("make a memory file"))
}

/// Loads the LibOS `image` for one container.
///
/// # Errors
/// Fails on a damaged image and where the host refuses memory.
pub fn load(image: Image<'_>, config: &Config, arena_len: u64, started_ns: u64) -> Result<(Memory, Layout), LoadError> {
    let Image { bytes, file, offset } = image;
    if bytes.is_empty() {
        return Err(LoadError::NoImage);
    }
    if !offset.is_multiple_of(PAGE) {
        return Err(LoadError::Elf(ElfError::Text));
    }
    let memory = Memory::create(file)?;
    let mut random = [0u8; 72];
    fill_random(&mut random)?;
    let (seed, draw) = random.split_at(64);
    let image = elf::parse(bytes)?;
    let base = choose_base(arena_len, draw)?;
    let image = image.relocate(base)?;
    let text = image.text()?;
    let (text_start, text_end) = (text.start, text.end());
    runner::write(memory.runner.as_fd(), &image, offset)?;

    let arena_start = base + ARENA_OFFSET;
    let filter_bytes: Vec<u8> =
        filter::build(text_start, text_end)?.into_iter().flat_map(filter::Instruction::to_bytes).collect();
    let config = abi::encode(config).map_err(|_| LoadError::Config)?;
    let filter_addr = align_up(image.end(), PAGE);
    let config_addr = filter_addr + length(&filter_bytes);
    let heap_start = align_up(config_addr + length(&config), PAGE);
    let threads_start = arena_start + NEAR_HEAP;
    if heap_start >= threads_start {
        return Err(LoadError::ArenaSize(arena_len));
    }
    let block = BootBlock {
        magic: MAGIC,
        base,
        text_start,
        text_end,
        arena_start,
        arena_len,
        far_start: align_up(arena_start + NEAR_LEN, TABLE),
        far_len: arena_len - NEAR_LEN,
        heap_start,
        heap_end: threads_start,
        threads_start,
        thread_count: THREAD_COUNT,
        filter_addr,
        filter_len: length(&filter_bytes) / 8,
        config_addr,
        config_len: length(&config),
        started_ns,
        seed: seed.try_into().map_err(|_| LoadError::Config)?,
        vdso: 0,
        panic_addr: 0,
        panic_len: 0,
    };
    write_arena(memory.arena.as_fd(), &image, &block, &[filter_bytes, config].concat())?;
    Ok((memory, Layout { text_start, text_end, arena_start, arena_len }))
}

/// Fills the arena: boot block, the image's writable segments, and `tail` (filter and configuration) behind them.
fn write_arena(
    arena: BorrowedFd<'_>,
    image: &elf::Relocated<'_>,
    block: &BootBlock,
    tail: &[u8],
) -> Result<(), LoadError> {
    rustix::fs::ftruncate(arena, block.arena_len).map_err(host("size the arena"))?;
    write_at(arena, &boot_block::to_bytes(block), 0)?;
    for segment in image.arena_segments() {
        write_at(arena, &segment.bytes, segment.start - block.arena_start)?;
    }
    write_at(arena, tail, block.filter_addr - block.arena_start)?;
    seal(arena, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
}

/// The record that a panicking LibOS left, read from its arena. The container wrote it: it is text
/// for people, at most 64 KiB, with everything but printable characters and newlines replaced.
#[must_use]
pub fn panic_record(arena: impl AsFd, layout: &Layout) -> Option<String> {
    const LONGEST: u64 = 64 * 1024;
    let mut block = [0u8; boot_block::LEN];
    read_at(arena.as_fd(), &mut block, 0)?;
    let (addr, len) = boot_block::panic_record(&block);
    let offset = addr.checked_sub(layout.arena_start)?;
    if len == 0 || addr == 0 || offset >= layout.arena_len {
        return None;
    }
    let len = len.min(LONGEST).min(layout.arena_len - offset);
    let mut text = vec![0u8; usize::try_from(len).ok()?];
    read_at(arena.as_fd(), &mut text, offset)?;
    Some(printable(&text))
}

/// Text that a container chose, safe to show on a terminal.
#[must_use]
pub fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| match c {
            '\n' => c,
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Bytes from the base to the end of the windows.
const NEAR_SPAN: u64 = ARENA_OFFSET + NEAR_LEN + WINDOW_COUNT * WINDOW_LEN;
const _: () = assert!(NEAR_SPAN <= TABLE && BASE_MIN.is_multiple_of(TABLE) && BASE_MAX.is_multiple_of(TABLE));

/// A random base. All but the arena's far part lies in one table; so the text lies within one 4 GiB
/// window, as the filter compares 32-bit halves.
fn choose_base(arena_len: u64, draw: &[u8]) -> Result<u64, LoadError> {
    let fits = arena_len.is_multiple_of(BASE_ALIGN) && arena_len > NEAR_LEN;
    let far = arena_len.saturating_sub(NEAR_LEN).div_ceil(TABLE);
    let tables = ((BASE_MAX - BASE_MIN) / TABLE).checked_sub(far).filter(|tables| *tables > 0);
    let (Some(tables), true) = (tables, fits) else {
        return Err(LoadError::ArenaSize(arena_len));
    };
    let places = (TABLE - NEAR_SPAN) / BASE_ALIGN + 1;
    let draw = draw.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    Ok(BASE_MIN + draw / places % tables * TABLE + draw % places * BASE_ALIGN)
}

fn fill_random(buffer: &mut [u8]) -> Result<(), LoadError> {
    let read = rustix::rand::getrandom(&mut *buffer, rustix::rand::GetRandomFlags::empty())
        .map_err(host("read random bytes"))?;
    // Up to 256 bytes come whole.
    if read == buffer.len() { Ok(()) } else { Err(LoadError::Host { step: "read random bytes", errno: Errno::IO }) }
}

fn seal(file: impl AsFd, seals: SealFlags) -> Result<(), LoadError> {
    rustix::fs::fcntl_add_seals(file, seals).map_err(host("seal a memory file"))
}

/// Makes the runner executable for its own user but readable for nobody: the kernel then keeps its
/// processes undumpable.
fn make_unreadable(file: impl AsFd) -> Result<(), LoadError> {
    rustix::fs::fchmod(file, Mode::XUSR | Mode::XGRP | Mode::XOTH).map_err(host("set the runner's mode"))
}

fn write_at(file: impl AsFd, bytes: &[u8], offset: u64) -> Result<(), LoadError> {
    let file = file.as_fd();
    let mut rest = bytes;
    let mut offset = offset;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, rest, offset))
            .map_err(host("write a memory file"))?;
        offset += written as u64;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Option<()> {
    let read = rustix::io::pread(file, &mut *buffer, offset).ok()?;
    (read == buffer.len()).then_some(())
}

fn host(step: &'static str) -> impl Fn(Errno) -> LoadError {
    move |errno| LoadError::Host { step, errno }
}

fn length(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

fn align_up(value: u64, to: u64) -> u64 {
    value.div_ceil(to) * to
}

#[cfg(test)]
mod tests;
