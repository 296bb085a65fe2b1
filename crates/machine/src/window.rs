//! Windows: the first pages of host files, mapped for reading in a part of the process that is the LibOS's own, so that a read
//! of them is a copy. Which file a window shows is the business of `xlibos::mm`.
//!
//! Rust borrows nothing there: the host's writers change the pages, and a file that has become shorter has none to show, so
//! every access is a copy that can fail.

use crate::errno::Result;
use crate::host::HostFd;

/// How many windows a process has.
pub const COUNT: usize = abi::boot::WINDOW_COUNT as usize;
/// Bytes that one shows at most.
pub const LEN: u64 = abi::boot::WINDOW_LEN;

#[cfg(target_os = "none")]
mod host_calls {
    use super::{COUNT, HostFd, LEN, Result};
    use crate::guest;
    use crate::host::{check, nr, raw};
    use core::sync::atomic::{AtomicU64, Ordering};

    /// Where the first one lies. Set at boot.
    static START: AtomicU64 = AtomicU64::new(0);

    pub(crate) fn place(start: u64) {
        START.store(start, Ordering::Relaxed);
    }

    fn start(window: usize) -> u64 {
        START.load(Ordering::Relaxed) + window.min(COUNT - 1) as u64 * LEN
    }

    pub fn map(window: usize, file: &HostFd) -> Result<()> {
        const PROT_READ: u64 = 1;
        const MAP_SHARED_FIXED: u64 = 0x11;
        const MADV_DONTFORK: u64 = 10;
        let (addr, fd) = (start(window), i64::from(file.raw()).cast_unsigned());
        // SAFETY: the range is for windows alone, which Rust never borrows.
        check(unsafe { raw(nr::MMAP, [addr, LEN, PROT_READ, MAP_SHARED_FIXED, fd, 0]) })?;
        // SAFETY: as above; children find nothing there.
        let kept = check(unsafe { raw(nr::MADVISE, [addr, LEN, MADV_DONTFORK, 0, 0, 0]) });
        kept.inspect_err(|_| unmap(addr, LEN)).map(|_| ())
    }

    fn unmap(addr: u64, len: u64) {
        // SAFETY: the range is for windows alone, which Rust never borrows.
        let _ = unsafe { raw(nr::MUNMAP, [addr, len, 0, 0, 0, 0]) };
    }

    pub fn unmap_all() {
        unmap(start(0), COUNT as u64 * LEN);
    }

    pub fn read(window: usize, offset: u64, to: u64, len: u64) -> bool {
        let end = offset.saturating_add(len);
        if len == 0 || end > LEN || !crate::cpu::is_guest_range(to, len) {
            return false;
        }
        let from = start(window) + offset;
        // SAFETY: the window is no memory of Rust's, nor is the guest's; either may fault, which is reported.
        let left = unsafe { guest::guest_copy(to, from, len) };
        let mut last = [0];
        if left != 0 || guest::read(to + len - 1, &mut last).is_err() {
            return false;
        }
        // What the file lost of a page reads as zeros, and whole pages fault.
        last != [0] || has_byte(window, end.next_multiple_of(abi::boot::PAGE))
    }

    fn has_byte(window: usize, offset: u64) -> bool {
        let mut byte = 0_u8;
        // SAFETY: `byte` is a live local; the window may fault, which is reported.
        offset < LEN && unsafe { guest::guest_copy(&raw mut byte as u64, start(window) + offset, 1) } == 0
    }
}

#[cfg(target_os = "none")]
pub(crate) use host_calls::place;

/// Shows a file in a window of the calling process, instead of what it showed. A child that is forked later has it not.
///
/// # Errors
/// The host's: a file that cannot be mapped, no memory.
pub fn map(window: usize, file: &HostFd) -> Result<()> {
    #[cfg(target_os = "none")]
    return host_calls::map(window, file);
    #[cfg(not(target_os = "none"))]
    {
        // On the build machine there is no place for them.
        let _ = (window, file);
        Err(crate::Errno::ENOSYS)
    }
}

/// Takes all windows of the calling process away.
pub fn unmap_all() {
    #[cfg(target_os = "none")]
    host_calls::unmap_all();
}

/// Copies from a window to guest memory. True only where all was copied, and the file was so long all the while: a last byte that
/// is not zero tells of that, or a page behind it. Else what was written may not be the file's.
#[inline]
#[must_use]
pub fn read(window: usize, offset: u64, to: u64, len: u64) -> bool {
    #[cfg(target_os = "none")]
    return host_calls::read(window, offset, to, len);
    #[cfg(not(target_os = "none"))]
    {
        let _ = (window, offset, to, len);
        false
    }
}
