//! Memory that a process need not hold while its container is at rest: elf(5), dl_iterate_phdr(3), madvise(2).

use std::ffi::c_int;
use std::ops::Range;

const PAGE: usize = 4096;

/// Unmaps the pages of code and constants, which are as their files have them: the next use brings them back. Gives
/// free memory of the heap back as well.
pub fn drop_clean_pages() {
    for range in clean_ranges() {
        // SAFETY: nobody can write to the range, and no page of it differs from its file, which serves the next use.
        unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
    }
    // SAFETY: releases memory that nobody has.
    unsafe { libc::malloc_trim(0) };
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
    use super::{PAGE, clean_range, clean_ranges, drop_clean_pages};

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
        let code = drop_clean_pages as fn() as usize;
        assert!(clean_ranges().iter().any(|range| range.contains(&(code / PAGE * PAGE))));
    }

    #[test]
    fn code_and_constants_come_back() {
        static CONSTANT: &str = "a constant";
        let before = format!("{CONSTANT} and {:?}", clean_ranges as fn() -> _);
        drop_clean_pages();
        assert_eq!(before, format!("{CONSTANT} and {:?}", clean_ranges as fn() -> _));
    }
}
