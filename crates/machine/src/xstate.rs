//! The extended state (x87, SSE, AVX, …) of a guest thread. LibOS code is built without vector
//! instructions, so the guest's state stays in the registers while the thread is in the LibOS; it is stored
//! only into signal frames, in the host's layout (Intel SDM volume 1, chapter 13).

use crate::errno::Result;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What the processor said; asked once, since a hypervisor answers in microseconds.
static SIZE: AtomicU64 = AtomicU64::new(0);
static ENABLED: AtomicU64 = AtomicU64::new(0);

/// The tiles of AMX, 8 KiB. The host lets no process use them that has not asked (arch_prctl(2), ARCH_REQ_XCOMP_PERM), and
/// no guest can ask; as on Linux they are no part of its signal frames then.
const TILE_DATA: u32 = 18;

/// Bytes of an area that holds every component of [`mask`] in standard form.
#[must_use]
pub fn size() -> u64 {
    use core::arch::x86_64::__cpuid_count;
    asked_once(&SIZE, || {
        // The tiles come last.
        let has_tiles = enabled() & 1 << TILE_DATA != 0;
        let size = if has_tiles { __cpuid_count(0x0d, TILE_DATA).ebx } else { __cpuid_count(0x0d, 0).ebx };
        u64::from(size).max(576)
    })
}

/// Components that guests may use.
#[must_use]
pub fn mask() -> u64 {
    enabled() & !(1 << TILE_DATA)
}

/// Enabled components: XCR0.
fn enabled() -> u64 {
    asked_once(&ENABLED, || {
        let (low, high): (u32, u32);
        // SAFETY: OSXSAVE is set on every host that has a 64-bit seccomp filter and AVX; read-only.
        unsafe {
            core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
        }
        u64::from(high) << 32 | u64::from(low)
    })
}

/// What the processor offers, as AT_HWCAP tells it: CPUID leaf 1, EDX.
#[must_use]
pub fn hwcap() -> u64 {
    static HWCAP: AtomicU64 = AtomicU64::new(0);
    asked_once(&HWCAP, || u64::from(core::arch::x86_64::__cpuid(1).edx))
}

/// `cpuid` is slow in a virtual machine.
fn asked_once(cache: &AtomicU64, ask: impl FnOnce() -> u64) -> u64 {
    let known = cache.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let answer = ask();
    cache.store(answer, Ordering::Relaxed);
    answer
}

/// Stores the live state to guest memory at `addr` (64-byte aligned) in standard form.
///
/// # Errors
/// EFAULT.
#[cfg(target_os = "none")]
pub fn save(addr: u64, mask: u64) -> Result<()> {
    if addr & 63 != 0 || !crate::cpu::is_guest_range(addr, size()) {
        return Err(crate::Errno::EFAULT);
    }
    // SAFETY: a fault is reported; the area is guest memory.
    let failed = unsafe { crate::guest_access::guest_xsave(addr, mask) };
    if failed == 0 { Ok(()) } else { Err(crate::Errno::EFAULT) }
}

/// Loads the live state from guest memory.
///
/// # Errors
/// EFAULT for memory that cannot be read and for a state that the processor refuses.
#[cfg(target_os = "none")]
pub fn load(addr: u64, mask: u64) -> Result<()> {
    if addr & 63 != 0 || !crate::cpu::is_guest_range(addr, size()) {
        return Err(crate::Errno::EFAULT);
    }
    // SAFETY: a fault is reported; only registers that the LibOS does not use change.
    let failed = unsafe { crate::guest_access::guest_xrstor(addr, mask) };
    if failed == 0 { Ok(()) } else { Err(crate::Errno::EFAULT) }
}

/// 64 bytes where the processor wants them.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
struct Line([u8; 64]);

/// An extended state apart from the registers, in standard form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Area(Vec<Line>);

impl Area {
    /// The live state.
    #[cfg(target_os = "none")]
    #[must_use]
    pub fn of_thread() -> Area {
        let lines = usize::try_from(size().div_ceil(64)).unwrap_or(0);
        let area = Area(alloc::vec![Line([0; 64]); lines]);
        // SAFETY: the memory is the area's own, aligned, as long as the processor said, and zero where XSAVE leaves it alone.
        let _ = unsafe { crate::guest_access::guest_xsave(area.0.as_ptr() as u64, mask()) };
        area
    }

    /// No state (build machine).
    #[cfg(not(target_os = "none"))]
    #[must_use]
    pub fn of_thread() -> Area {
        Area::default()
    }

    /// Makes it the live state.
    ///
    /// # Errors
    /// EINVAL for one that the processor refuses.
    pub fn load(&self) -> Result<()> {
        #[cfg(target_os = "none")]
        {
            if (self.0.len() as u64) < size().div_ceil(64) {
                return Err(crate::Errno::EINVAL);
            }
            // SAFETY: a fault is reported; only registers that the LibOS does not use change.
            let failed = unsafe { crate::guest_access::guest_xrstor(self.0.as_ptr() as u64, mask()) };
            if failed != 0 {
                return Err(crate::Errno::EINVAL);
            }
        }
        Ok(())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let bytes = self.0.as_bytes();
        bytes.get(..usize::try_from(size()).unwrap_or(0)).unwrap_or(bytes)
    }

    /// Its bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = usize::try_from(size()).unwrap_or(0);
        let bytes = self.0.as_mut_bytes();
        let len = len.min(bytes.len());
        bytes.split_at_mut(len).0
    }
}

/// Sets the live state to what exec(2) starts with.
#[cfg(target_os = "none")]
pub fn reset() {
    // SAFETY: only registers that the LibOS does not use change.
    unsafe { crate::entry::reset_xstate(mask()) };
}

/// Stores the live state (build machine: not there).
///
/// # Errors
/// ENOSYS.
#[cfg(not(target_os = "none"))]
pub fn save(_addr: u64, _mask: u64) -> Result<()> {
    Err(crate::Errno::ENOSYS)
}

/// Loads the live state (build machine: not there).
///
/// # Errors
/// ENOSYS.
#[cfg(not(target_os = "none"))]
pub fn load(_addr: u64, _mask: u64) -> Result<()> {
    Err(crate::Errno::ENOSYS)
}

/// Sets the live state (build machine: nothing).
#[cfg(not(target_os = "none"))]
pub fn reset() {}
