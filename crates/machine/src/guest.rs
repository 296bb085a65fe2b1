//! Guest memory: alleged until a copy succeeds. Every access is a fallible copy; nothing is borrowed, and
//! what is read is read once, since other threads and processes write it meanwhile.

use crate::cpu;
use crate::errno::{Errno, Result};
use alloc::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[cfg(target_os = "none")]
use crate::guest_access::guest_compare_exchange;
#[cfg(target_os = "none")]
pub(crate) use crate::guest_access::guest_copy;
#[cfg(target_os = "none")]
use crate::guest_access::{guest_load, guest_store, guest_zero};

/// Copies between guest and kernel memory; returns how many bytes were not copied.
///
/// # Safety
/// The kernel side must be valid for the length.
#[cfg(not(target_os = "none"))]
unsafe fn guest_copy(to: u64, from: u64, len: u64) -> u64 {
    if to < 4096 || from < 4096 {
        return len;
    }
    // SAFETY: unit tests pass addresses of live buffers.
    unsafe { core::ptr::copy(from as *const u8, to as *mut u8, len as usize) };
    0
}

/// Reads guest memory into `buffer`.
///
/// # Errors
/// EFAULT where any byte cannot be read.
#[inline]
pub fn read(addr: u64, buffer: &mut [u8]) -> Result<()> {
    if read_some(addr, buffer)? == buffer.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Reads as much as can be read; returns how many bytes.
///
/// # Errors
/// EFAULT where none can (and some were asked for).
#[inline]
pub fn read_some(addr: u64, buffer: &mut [u8]) -> Result<usize> {
    let len = buffer.len() as u64;
    if len == 0 {
        return Ok(0);
    }
    if !cpu::is_guest_range(addr, len) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the buffer is an exclusive borrow of that length; the guest side may fault, which is reported.
    let left = unsafe { guest_copy(buffer.as_mut_ptr() as u64, addr, len) };
    if left == len { Err(Errno::EFAULT) } else { Ok((len - left) as usize) }
}

/// Reads at most `len` bytes to the end of a vector, no more than it has room for, as far as they can be read; returns how many.
///
/// # Errors
/// EFAULT where none can (and some were asked for).
#[inline]
pub fn read_more(addr: u64, to: &mut Vec<u8>, len: usize) -> Result<usize> {
    let room = to.spare_capacity_mut();
    let len = len.min(room.len());
    if len == 0 {
        return Ok(0);
    }
    if !cpu::is_guest_range(addr, len as u64) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the room is an exclusive borrow of at least that length; the guest side may fault, which is reported.
    let left = unsafe { guest_copy(room.as_mut_ptr() as u64, addr, len as u64) };
    let count = len - left as usize;
    // SAFETY: so many bytes of the room were written just now.
    unsafe { to.set_len(to.len() + count) };
    if count == 0 { Err(Errno::EFAULT) } else { Ok(count) }
}

/// Writes `bytes` to guest memory.
///
/// # Errors
/// EFAULT where any byte cannot be written (those before it are).
#[inline]
pub fn write(addr: u64, bytes: &[u8]) -> Result<()> {
    if write_some(addr, bytes)? == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Writes as much as can be written; returns how many bytes.
///
/// # Errors
/// EFAULT where none can (and some were given).
#[inline]
pub fn write_some(addr: u64, bytes: &[u8]) -> Result<usize> {
    let len = bytes.len() as u64;
    if len == 0 {
        return Ok(0);
    }
    if !cpu::is_guest_range(addr, len) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: `bytes` is borrowed for the length; the guest side may fault, which is reported.
    let left = unsafe { guest_copy(addr, bytes.as_ptr() as u64, len) };
    if left == len { Err(Errno::EFAULT) } else { Ok((len - left) as usize) }
}

/// Fills guest memory with zeros.
///
/// # Errors
/// EFAULT where any byte cannot be written.
pub fn zero(addr: u64, len: u64) -> Result<()> {
    if zero_some(addr, len)? == len { Ok(()) } else { Err(Errno::EFAULT) }
}

/// As much as can be written; returns how many bytes.
///
/// # Errors
/// EFAULT where none can (and some were asked for).
pub fn zero_some(addr: u64, len: u64) -> Result<u64> {
    if len == 0 {
        return Ok(0);
    }
    if !cpu::is_guest_range(addr, len) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the guest side may fault, which is reported.
    let left = unsafe { guest_zero(addr, len) };
    if left == len { Err(Errno::EFAULT) } else { Ok(len - left) }
}

/// As the image's.
///
/// # Safety
/// Unit tests pass addresses of live buffers.
#[cfg(not(target_os = "none"))]
unsafe fn guest_zero(to: u64, len: u64) -> u64 {
    if to < 4096 {
        return len;
    }
    // SAFETY: by the caller.
    unsafe { core::ptr::write_bytes(to as *mut u8, 0, len as usize) };
    0
}

/// Reads a value.
///
/// # Errors
/// EFAULT.
#[inline]
pub fn read_value<T: FromBytes + IntoBytes>(addr: u64) -> Result<T> {
    let mut value = T::new_zeroed();
    match value.as_mut_bytes().as_mut_array() {
        Some(word) => *word = read_word(addr)?.to_ne_bytes(),
        None => read(addr, value.as_mut_bytes())?,
    }
    Ok(value)
}

/// Writes a value.
///
/// # Errors
/// EFAULT.
#[inline]
pub fn write_value<T: IntoBytes + Immutable>(addr: u64, value: &T) -> Result<()> {
    match value.as_bytes().as_chunks::<8>() {
        ([word], []) => write_word(addr, u64::from_ne_bytes(*word)),
        ([first, second], []) if cpu::is_guest_range(addr, 16) => {
            store(addr, u64::from_ne_bytes(*first))?;
            store(addr + 8, u64::from_ne_bytes(*second))
        }
        _ => write(addr, value.as_bytes()),
    }
}

/// What is copied most often is a word: it stays in a register.
#[inline]
fn read_word(addr: u64) -> Result<u64> {
    if !cpu::is_guest_range(addr, 8) {
        return Err(Errno::EFAULT);
    }
    load(addr).ok_or(Errno::EFAULT)
}

/// A word of memory that is known to be the guest's; None where it cannot be read.
#[inline]
fn load(addr: u64) -> Option<u64> {
    #[cfg(target_os = "none")]
    {
        // SAFETY: the guest side may fault, which is reported.
        let loaded = unsafe { guest_load(addr) };
        (loaded.failed == 0).then_some(loaded.word)
    }
    #[cfg(not(target_os = "none"))]
    {
        let mut word = [0; 8];
        read(addr, &mut word).ok().map(|()| u64::from_ne_bytes(word))
    }
}

#[inline]
fn write_word(addr: u64, word: u64) -> Result<()> {
    if !cpu::is_guest_range(addr, 8) {
        return Err(Errno::EFAULT);
    }
    store(addr, word)
}

/// Stores a word where memory is known to be the guest's.
#[inline]
fn store(addr: u64, word: u64) -> Result<()> {
    #[cfg(target_os = "none")]
    {
        // SAFETY: the guest side may fault, which is reported.
        let failed = unsafe { guest_store(addr, word) };
        if failed == 0 { Ok(()) } else { Err(Errno::EFAULT) }
    }
    #[cfg(not(target_os = "none"))]
    write(addr, &word.to_ne_bytes())
}

/// Reads a string up to its NUL, at most `max` bytes.
///
/// # Errors
/// EFAULT; ENAMETOOLONG where no NUL comes within `max` bytes.
pub fn read_string(addr: u64, max: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = addr;
    let mut chunk = [0_u8; SHORT];
    while out.len() < max {
        // Never across a page: the string may end right before an unmapped one.
        let to_page_end = 4096 - (at & 4095) as usize;
        let want = to_page_end.min(SHORT).min(max - out.len());
        let piece = chunk.get_mut(..want).ok_or(Errno::EFAULT)?;
        read(at, piece)?;
        if let Some(end) = piece.iter().position(|&b| b == 0) {
            out.extend_from_slice(piece.get(..end).unwrap_or(piece));
            return Ok(out);
        }
        out.extend_from_slice(piece);
        at += want as u64;
    }
    Err(Errno::ENAMETOOLONG)
}

/// Compares and exchanges an aligned 32-bit word of guest memory; returns what it held before.
///
/// # Errors
/// EFAULT; EINVAL where it is not aligned.
pub fn compare_exchange(addr: u64, expected: u32, new: u32) -> Result<u32> {
    if addr & 3 != 0 {
        return Err(Errno::EINVAL);
    }
    if !cpu::is_guest_range(addr, 4) {
        return Err(Errno::EFAULT);
    }
    #[cfg(target_os = "none")]
    {
        let mut seen = expected;
        // SAFETY: a fault is reported; `seen` is a live local.
        let failed = unsafe { guest_compare_exchange(addr, &raw mut seen, new) };
        if failed != 0 { Err(Errno::EFAULT) } else { Ok(seen) }
    }
    #[cfg(not(target_os = "none"))]
    {
        // SAFETY: unit tests pass addresses of live words.
        let word = unsafe { core::sync::atomic::AtomicU32::from_ptr(addr as *mut u32) };
        let (Ok(seen) | Err(seen)) = word.compare_exchange(
            expected,
            new,
            core::sync::atomic::Ordering::SeqCst,
            core::sync::atomic::Ordering::SeqCst,
        );
        Ok(seen)
    }
}

/// Longest string that [`read_short_string`] reads, with its NUL.
pub const SHORT: usize = 64;

/// As [`read_string`], into a buffer of the caller's; None for a string that is longer, comes near the end of a page, or cannot
/// be read.
#[inline]
pub fn read_short_string(addr: u64, buffer: &mut [u8; SHORT]) -> Option<&[u8]> {
    const LOWEST: u64 = 0x0101_0101_0101_0101;
    if (addr & 4095) as usize > 4096 - SHORT || !cpu::is_guest_range(addr, SHORT as u64) {
        return None;
    }
    // The lowest bit that is left belongs to the first byte that is 0.
    let zeros = |word: u64| word.wrapping_sub(LOWEST) & !word & LOWEST << 7;
    let mut before = 0;
    for place in buffer.as_chunks_mut::<8>().0 {
        let word = load(addr + before as u64)?;
        *place = word.to_le_bytes();
        let zeros = zeros(word);
        if zeros != 0 {
            return buffer.get(..before + (zeros.trailing_zeros() / 8) as usize);
        }
        before += 8;
    }
    None
}

/// An address of a `T` in guest memory, as a call's argument.
#[derive(Debug)]
pub struct UserPtr<T> {
    addr: u64,
    kind: core::marker::PhantomData<fn() -> T>,
}

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for UserPtr<T> {}

impl<T> UserPtr<T> {
    /// From a register.
    #[must_use]
    pub fn new(addr: u64) -> UserPtr<T> {
        UserPtr { addr, kind: core::marker::PhantomData }
    }

    /// The address.
    #[must_use]
    pub fn addr(self) -> u64 {
        self.addr
    }

    /// Whether it is NULL.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.addr == 0
    }

    /// None for NULL.
    #[must_use]
    pub fn non_null(self) -> Option<UserPtr<T>> {
        if self.addr == 0 { None } else { Some(self) }
    }

    /// The pointer `index` elements on.
    #[must_use]
    pub fn at(self, index: usize) -> UserPtr<T> {
        UserPtr::new(self.addr.wrapping_add(index as u64 * size_of::<T>() as u64))
    }
}

impl<T: FromBytes + IntoBytes + Immutable> UserPtr<T> {
    /// Reads the value.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read(self) -> Result<T> {
        read_value(self.addr)
    }

    /// Writes the value.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write(self, value: &T) -> Result<()> {
        write_value(self.addr, value)
    }

    /// Writes the value unless the pointer is NULL.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write_optional(self, value: &T) -> Result<()> {
        if self.is_null() { Ok(()) } else { self.write(value) }
    }

    /// Reads `count` values.
    ///
    /// # Errors
    /// EFAULT; EINVAL for a count of more than 1 MiB in bytes.
    pub fn read_slice(self, count: usize) -> Result<Vec<T>> {
        if count.saturating_mul(size_of::<T>()) > 1 << 20 {
            return Err(Errno::EINVAL);
        }
        let mut out = Vec::with_capacity(count);
        for i in 0..count {
            out.push(self.at(i).read()?);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::{SHORT, read_short_string, read_string};

    #[test]
    fn short_strings_are_those_that_end_soon() {
        for len in [0, 1, 7, 8, 9, 31, 62, 63, 64, 80] {
            for at in [0, 1, 5, 4096 - 64, 4096 - 63] {
                let mut memory = vec![1_u8; 3 * 4096];
                let start = (memory.as_ptr() as u64).next_multiple_of(4096) + at;
                let index = (start - memory.as_ptr() as u64) as usize;
                memory[index + len] = 0;
                if len > 2 {
                    memory[index + 1] = 0x80;
                }
                let mut buffer = [0; SHORT];
                let short = read_short_string(start, &mut buffer).map(<[u8]>::to_vec);
                let is_short = len < SHORT && at <= 4096 - SHORT as u64;
                assert_eq!(short, is_short.then(|| read_string(start, 4096).unwrap_or_default()), "{len} at {at}");
            }
        }
        assert_eq!(read_short_string(16, &mut [0; SHORT]), None);
    }
}
