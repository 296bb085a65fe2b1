//! Memory that a process need not hold while its container is at rest: elf(5), dl_iterate_phdr(3), madvise(2).

use std::ffi::c_int;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd};

const PAGE: usize = 4096;

/// Objects of a process have no more segments than this that are not writable; of others the pages stay.
const MOST: usize = 16;

/// All threads take memory from one heap, made small at a rest: each would have one of its own.
pub fn share_heap() {
    // SAFETY: sets a parameter of the C library's allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives back what the process does not need while it waits until one of some descriptors can be read. May return early.
pub fn rest_until_readable<const N: usize>(fds: [BorrowedFd<'_>; N]) {
    let mut wanted = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // SAFETY: poll writes to `wanted` alone.
    unsafe { rest(libc::SYS_poll, [(&raw mut wanted) as usize, N, usize::MAX, 0, 0]) };
}

/// The same until a child has ended, which is then still to be reaped. May return early.
pub fn rest_until_child_ends() {
    let flags = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    // SAFETY: without a place for it nothing is written.
    unsafe { rest(libc::SYS_waitid, [libc::P_ALL as usize, 0, 0, flags.unsigned_abs() as usize, 0]) };
}

/// Gives free memory of the heap back, unmaps the pages of code and constants, which are as their files have them, and makes
/// a host call that waits. The next use brings the pages back, sixteen at a time: so what runs in between lies in one place.
///
/// # Safety
/// As the call.
unsafe fn rest(number: libc::c_long, args: [usize; 5]) {
    let call = |number: libc::c_long, [a, b, c, d, e]: [usize; 5]| [number.unsigned_abs() as usize, a, b, c, d, e];
    let mut calls = [[0; 6]; MOST + 1];
    let mut count = 0;
    let dontneed = libc::MADV_DONTNEED.unsigned_abs() as usize;
    for (slot, range) in calls.iter_mut().zip(clean_ranges()).take(MOST) {
        *slot = call(libc::SYS_madvise, [range.start, range.len(), dontneed, 0, 0]);
        count += 1;
    }
    calls[count] = call(number, args);
    // SAFETY: releases memory that nobody has.
    unsafe { libc::malloc_trim(0) };
    // SAFETY: one host call after the other, of so many rows of `calls`. Nobody can write to the ranges, and no page of them differs
    // from its file, which serves the next use; the rest is the caller's promise.
    unsafe {
        core::arch::asm!(
            "2:",
            "mov rax, [{row}]",
            "mov rdi, [{row} + 8]",
            "mov rsi, [{row} + 16]",
            "mov rdx, [{row} + 24]",
            "mov r10, [{row} + 32]",
            "mov r8, [{row} + 40]",
            "syscall",
            "add {row}, 48",
            "cmp {row}, {end}",
            "jbe 2b",
            row = inout(reg) calls.as_ptr() => _,
            end = in(reg) &raw const calls[count],
            out("rax") _, out("rdi") _, out("rsi") _, out("rdx") _, out("r10") _, out("r8") _, out("rcx") _, out("r11") _,
            options(nostack),
        )
    }
}

/// Whole pages of the segments that are not writable, of the program and its libraries: nothing in them is relocated.
fn clean_ranges() -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // SAFETY: `collect` takes the vector that it is given here, for the call alone.
    unsafe { libc::dl_iterate_phdr(Some(collect), (&raw mut found).cast()) };
    found
}

/// Adds one object's ranges.
///
/// # Safety
/// `object` is what dl_iterate_phdr(3) gives, `found` the vector of [`clean_ranges`].
unsafe extern "C" fn collect(object: *mut libc::dl_phdr_info, _: usize, found: *mut libc::c_void) -> c_int {
    // SAFETY: the vector of `clean_ranges`, which waits for the call.
    let found = unsafe { &mut *found.cast::<Vec<Range<usize>>>() };
    // SAFETY: the C library tells of an object that stays loaded for the call.
    let object = unsafe { &*object };
    // SAFETY: the object has so many headers there.
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    let base = usize::try_from(object.dlpi_addr).unwrap_or(0);
    // The vDSO is a file of the kernel's own, in which is nothing to be won.
    let is_file = Some(base) != vdso();
    found.extend(headers.iter().filter(|_| is_file).filter_map(|header| clean_range(base, header)));
    0
}

fn vdso() -> Option<usize> {
    // SAFETY: reads the auxiliary vector.
    usize::try_from(unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) }).ok()
}

/// The pages that are the segment's alone.
fn clean_range(base: usize, header: &libc::Elf64_Phdr) -> Option<Range<usize>> {
    if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
        return None;
    }
    let start = base.checked_add(usize::try_from(header.p_vaddr).ok()?)?;
    let end = start.checked_add(usize::try_from(header.p_memsz).ok()?)?;
    let range = start.next_multiple_of(PAGE)..end / PAGE * PAGE;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::{PAGE, clean_range, clean_ranges, rest_until_readable};
    use std::os::fd::AsFd as _;

    fn header(p_type: u32, p_flags: u32) -> libc::Elf64_Phdr {
        let (p_vaddr, p_memsz) = (0x1800, 0x2000);
        libc::Elf64_Phdr {
            p_type,
            p_flags,
            p_offset: 0,
            p_vaddr,
            p_paddr: 0,
            p_filesz: p_memsz,
            p_memsz,
            p_align: 4096,
        }
    }

    #[test]
    fn only_whole_pages_that_nobody_can_write_are_clean() {
        let (load, read, execute, write) = (libc::PT_LOAD, libc::PF_R, libc::PF_X, libc::PF_W);
        for flags in [read, read | execute] {
            assert_eq!(clean_range(0x10000, &header(load, flags)), Some(0x12000..0x13000));
        }
        assert_eq!(clean_range(0x10000, &header(load, read | write)), None);
        assert_eq!(clean_range(0x10000, &header(libc::PT_NOTE, read)), None);
    }

    #[test]
    fn the_program_is_among_them() {
        let code = super::share_heap as fn() as usize;
        let ranges = clean_ranges();
        assert!(ranges.iter().any(|range| range.contains(&(code / PAGE * PAGE))));
    }

    #[test]
    fn code_and_constants_come_back() {
        static CONSTANT: &str = "a constant";
        let before = format!("{CONSTANT} and {:?}", clean_ranges as fn() -> _);
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        rustix::io::write(&writer, b"x").expect("write");
        rest_until_readable([reader.as_fd()]);
        assert_eq!(before, format!("{CONSTANT} and {:?}", clean_ranges as fn() -> _));
    }

    #[test]
    fn a_rest_lasts_until_there_is_something() {
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        let other = std::thread::spawn(move || {
            std::thread::yield_now();
            rustix::io::write(&writer, b"x").map(|_| writer)
        });
        rest_until_readable([reader.as_fd()]);
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(1));
        assert!(other.join().is_ok());
    }
}
