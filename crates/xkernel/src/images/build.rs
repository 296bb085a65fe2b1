//! Reading files whole and writing patched ones.

use abom::PatchedImage;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};
use std::os::fd::OwnedFd;

/// Reads some bytes from a position on.
///
/// # Errors
/// `EIO` at the end of the file: it was longer a moment ago.
pub(super) fn read_at(file: &OwnedFd, buffer: &mut [u8], at: usize) -> Result<usize, Errno> {
    let offset = u64::try_from(at).map_err(|_| Errno::OVERFLOW)?;
    match retry_on_intr(|| pread(file, &mut *buffer, offset))? {
        0 => Err(Errno::IO),
        got => Ok(got),
    }
}

/// The first `size` bytes of a file.
pub(super) fn read_whole(file: &OwnedFd, size: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; size];
    let mut at = 0;
    while let Some(room) = bytes.get_mut(at..).filter(|room| !room.is_empty()) {
        at += read_at(file, room, at)?;
    }
    Ok(bytes)
}

/// Writes the patched file: text at its own offsets, patched pages over it, stubs behind.
pub(super) fn write(to: &OwnedFd, original: &[u8], image: &PatchedImage<'_>) -> Result<(), Errno> {
    ftruncate(to, image.len)?;
    for range in &image.text {
        let (start, end) = (index(range.start)?, index(range.end)?);
        write_at(to, original.get(start..end).ok_or(Errno::NOEXEC)?, range.start)?;
    }
    for page in &image.pages {
        write_at(to, &page.bytes, page.offset)?;
    }
    write_at(to, image.stubs, image.stub_file_offset)
}

/// The patched file as a memfd that nobody can change.
pub(super) fn in_memory(original: &[u8], image: &PatchedImage<'_>) -> Result<OwnedFd, Errno> {
    let file = memfd_create("xc-image", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    write(&file, original, image)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Writes all of `bytes` at a position.
pub(super) fn write_at(to: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let done = retry_on_intr(|| pwrite(to, bytes, offset))?;
        bytes = bytes.get(done..).ok_or(Errno::IO)?;
        offset += u64::try_from(done).map_err(|_| Errno::OVERFLOW)?;
        if done == 0 {
            return Err(Errno::IO);
        }
    }
    Ok(())
}

fn index(offset: u64) -> Result<usize, Errno> {
    usize::try_from(offset).map_err(|_| Errno::NOEXEC)
}
