//! Memory by address: what a case mapped itself.

use super::{Plain, Result, sys};
use core::sync::atomic::{AtomicU32, AtomicU64};

/// The size of a page.
pub(crate) const PAGE: usize = 4096;
/// Readable and writable.
pub(crate) const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
/// Private memory of no file.
pub(crate) const ANON: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
/// Memory of no file that children share.
pub(crate) const SHARED: i32 = libc::MAP_SHARED | libc::MAP_ANONYMOUS;

/// Maps memory anywhere: mmap(2).
///
/// # Errors
/// Those of mmap.
pub(crate) fn map(len: usize, prot: i32, flags: i32, fd: i32) -> Result<usize> {
    sys!(mmap, 0, len, prot, flags, fd, 0).map(|a| usize::try_from(a).unwrap_or(0))
}

/// Maps fresh private memory.
///
/// # Errors
/// Those of mmap.
pub(crate) fn pages(count: usize) -> Result<usize> {
    map(count * PAGE, RW, ANON, -1)
}

/// An address at which nothing is mapped, with room for a page.
///
/// # Errors
/// Those of mmap and munmap.
pub(crate) fn hole() -> Result<usize> {
    let addr = map(3 * PAGE, libc::PROT_NONE, ANON, -1)?;
    sys!(munmap, addr, 3 * PAGE)?;
    Ok(addr + PAGE)
}

/// A page that nobody may use, and that no other mapping takes the place of.
///
/// # Errors
/// Those of mmap.
pub(crate) fn closed() -> Result<usize> {
    map(PAGE, libc::PROT_NONE, ANON, -1)
}

/// Reads a value at an address.
pub(crate) fn peek<T: Plain>(addr: usize) -> T {
    // SAFETY: the caller mapped this address readable; if not, the case dies, which is its report.
    unsafe { core::ptr::with_exposed_provenance::<T>(addr).read_volatile() }
}

/// Writes a value at an address.
pub(crate) fn poke<T: Plain>(addr: usize, value: T) {
    // SAFETY: the caller mapped this address writable; if not, the case dies, which is its report.
    unsafe { core::ptr::with_exposed_provenance_mut::<T>(addr).write_volatile(value) }
}

/// Fills memory with one byte.
pub(crate) fn fill(addr: usize, len: usize, byte: u8) {
    for at in addr..addr + len {
        poke(at, byte);
    }
}

/// A word in memory that other threads, processes and the kernel change too.
pub(crate) fn atomic(addr: usize) -> &'static AtomicU32 {
    // SAFETY: the caller mapped this address, aligned and for the rest of the process's life.
    unsafe { &*core::ptr::with_exposed_provenance::<AtomicU32>(addr) }
}

/// As [`atomic`], of 8 bytes.
pub(crate) fn atomic64(addr: usize) -> &'static AtomicU64 {
    // SAFETY: the caller mapped this address, aligned and for the rest of the process's life.
    unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(addr) }
}

/// Words shared with all children that are forked from here on, all zero.
///
/// # Errors
/// Those of mmap.
pub(crate) fn shared() -> Result<&'static [AtomicU32; 1024]> {
    let addr = map(PAGE, RW, SHARED, -1)?;
    // SAFETY: the page was just mapped and stays mapped.
    Ok(unsafe { &*core::ptr::with_exposed_provenance::<[AtomicU32; 1024]>(addr) })
}

/// Calls code that the case wrote itself, a function without arguments that returns an int.
pub(crate) fn run_code(addr: usize) -> i32 {
    let code = core::ptr::with_exposed_provenance::<u8>(addr);
    // SAFETY: the caller wrote a whole function there.
    let function = unsafe { core::mem::transmute::<*const u8, extern "C" fn() -> i32>(code) };
    function()
}

/// Maps private memory at an address at which nothing is mapped.
///
/// # Errors
/// Those of mmap.
pub(crate) fn map_at(addr: usize, len: usize) -> Result<usize> {
    let flags = ANON | libc::MAP_FIXED_NOREPLACE;
    sys!(mmap, addr, len, RW, flags, -1, 0).map(|a| usize::try_from(a).unwrap_or(0))
}
