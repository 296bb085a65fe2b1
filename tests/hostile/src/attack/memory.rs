//! The arena and the address space as a guest can spoil them.

use crate::gadget::{EPERM, FALLOCATE, FTRUNCATE, Libos, MADVISE, MUNMAP, PWRITEV2};
use crate::random::Random;
use abi::boot::{ARENA_FD, PAGE, THREAD_AREA};
use std::arch::asm;

/// The arena cannot change its size, nor get holes.
pub(crate) fn shrink(libos: &Libos, _: &[String]) {
    const PUNCH_HOLE_KEEP_SIZE: u64 = 3;
    const REMOVE: u64 = 9;
    let arena = u64::from(ARENA_FD.unsigned_abs());
    let boot = &libos.boot;
    for size in [0, PAGE, boot.arena_len * 2] {
        assert_eq!(libos.host(FTRUNCATE, &[arena, size]), EPERM);
        assert_eq!(libos.host(FALLOCATE, &[arena, 0, 0, size]), EPERM);
    }
    assert_eq!(libos.host(FALLOCATE, &[arena, PUNCH_HOLE_KEEP_SIZE, 0, boot.arena_len]), EPERM);
    assert_eq!(libos.host(MADVISE, &[boot.arena_start, boot.arena_len, REMOVE]), EPERM);
    // Writing behind the end would make it grow.
    let byte = 0u8;
    let part = [&raw const byte as u64, 1];
    assert_eq!(libos.host(PWRITEV2, &[arena, part.as_ptr() as u64, 1, boot.arena_len]), EPERM);
    // fcntl: no more seals, none taken away.
    assert_eq!(libos.host(72, &[arena, 1033, 8]), EPERM);
}

/// Nothing is mapped any more.
pub(crate) fn unmap_all(libos: &Libos, _: &[String]) {
    libos.host(MUNMAP, &[0, 0x7fff_ffff_f000]);
}

/// Words at random places of what the LibOS keeps in its arena, then some calls.
pub(crate) fn random_writes(libos: &Libos, words: &[String]) {
    libos.end_container_soon();
    let mut random = Random::new(words[0].parse().expect("a seed"));
    let boot = &libos.boot;
    // Data, the heap's used part, and the first thread areas.
    let ranges = [
        (boot.arena_start + PAGE, boot.heap_start),
        (boot.heap_start, boot.heap_start + (4 << 20)),
        (boot.threads_start, boot.threads_start + (1 << 18)),
    ];
    for _ in 0..random.below(2000) + 1 {
        let (start, end) = ranges[usize::try_from(random.below(3)).unwrap()];
        let at = start + random.below((end - start) / 8) * 8;
        if is_guard(libos, at) {
            continue;
        }
        let kinds = [random.next(), 0, u64::MAX, boot.heap_start + random.below(1 << 20), boot.text_start];
        // SAFETY: the arena is mapped and writable; whoever relies on its words is the test's matter.
        unsafe { std::ptr::write_volatile(at as *mut u64, kinds[usize::try_from(random.below(5)).unwrap()]) };
    }
    use_the_libos();
    libos.end_container();
}

/// A call of each kind: whatever they find.
fn use_the_libos() {
    let _ = std::fs::read("/etc/passwd");
    let _ = std::fs::write("/tmp/file", "text");
    let _ = std::process::Command::new("/bin/true").status();
    let _ = std::thread::spawn(|| ()).join();
}

/// All of the LibOS's memory is zero, boot block and thread areas too.
pub(crate) fn zero_arena(libos: &Libos, _: &[String]) {
    let boot = libos.boot;
    let threads = (boot.threads_start..boot.threads_start + (1 << 20)).step_by(4096);
    let rest = (boot.arena_start..boot.heap_start + (1 << 20)).step_by(4096);
    for page in threads.chain(rest).filter(|page| !is_guard(libos, *page)) {
        // SAFETY: as above.
        unsafe { std::ptr::write_bytes(page as *mut u8, 0, 4096) };
    }
    libos.end_container();
}

/// Whether nothing is mapped there: below the stack of a thread area.
fn is_guard(libos: &Libos, at: u64) -> bool {
    at >= libos.boot.threads_start && at % THREAD_AREA < PAGE
}

/// The LibOS runs with a stack of a few words, as if a bug of it had used up the rest.
pub(crate) fn small_stack(_: &Libos, _: &[String]) {
    let area: u64;
    // SAFETY: reads a register.
    unsafe { asm!("rdgsbase {}", out(reg) area, options(nomem, nostack)) };
    // The second word of its control block says where the stack begins. The guard page is the area's first.
    let (top, small) = ((area + 8) as *mut u64, (area & !(THREAD_AREA - 1)) + PAGE + 256);
    // SAFETY: the area is mapped and writable; what comes of it is the test's matter.
    unsafe { top.write_volatile(small) };
    let _ = std::fs::read("/etc/passwd");
}
