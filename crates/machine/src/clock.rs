//! The time, from the host's vDSO: no host call.

use core::sync::atomic::{AtomicU64, Ordering};

/// Address of the vDSO's clock_gettime.
static CLOCK_GETTIME: AtomicU64 = AtomicU64::new(0);

/// CLOCK_REALTIME.
pub const REALTIME: u32 = 0;
/// CLOCK_MONOTONIC.
pub const MONOTONIC: u32 = 1;

#[cfg(target_os = "none")]
pub(crate) fn set_vdso_function(address: u64) {
    CLOCK_GETTIME.store(address, Ordering::Relaxed);
}

/// Reads a clock that the vDSO answers (REALTIME, MONOTONIC, their COARSE forms, BOOTTIME, TAI), in nanoseconds.
#[must_use]
pub fn read_ns(clock: u32) -> u64 {
    let [seconds, nanoseconds] = read(clock);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// The same in seconds, and nanoseconds of the last one.
#[must_use]
#[cfg(target_os = "none")]
pub fn read(clock: u32) -> [u64; 2] {
    let mut time = [0_u64; 2];
    let address = CLOCK_GETTIME.load(Ordering::Relaxed);
    if address != 0 {
        // SAFETY: the address was found in the vDSO's symbol table under this C signature.
        let function = unsafe { core::mem::transmute::<u64, extern "C" fn(u64, *mut u64) -> i32>(address) };
        let _ = function(u64::from(clock), time.as_mut_ptr());
    }
    time
}

/// The same (build machine).
#[must_use]
#[cfg(not(target_os = "none"))]
pub fn read(clock: u32) -> [u64; 2] {
    let _ = CLOCK_GETTIME.load(Ordering::Relaxed);
    let mut time = [0_u64; 2];
    // SAFETY: the host writes one timespec to our local.
    let _ = unsafe {
        crate::host::raw(crate::host::nr::CLOCK_GETTIME, [u64::from(clock), time.as_mut_ptr() as u64, 0, 0, 0, 0])
    };
    time
}

/// Nanoseconds of CLOCK_MONOTONIC.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read_ns(MONOTONIC)
}

/// Nanoseconds of CLOCK_REALTIME.
#[must_use]
pub fn realtime_ns() -> u64 {
    read_ns(REALTIME)
}

/// Number of the processor that runs the caller, and of its node, as Linux keeps them in TSC_AUX.
#[must_use]
pub fn processor() -> (u32, u32) {
    let mut aux = 0;
    // SAFETY: every x86-64 processor of the last decade has rdtscp; it writes one local.
    let _ = unsafe { core::arch::x86_64::__rdtscp(&raw mut aux) };
    (aux & 0xfff, aux >> 12)
}
