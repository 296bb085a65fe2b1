//! Memory that a supervisor need not hold while its container is at rest: proc_pid_smaps(5), madvise(2).

use std::io;
use std::ops::Range;

/// Unmaps the pages of files that are as the files have them, code and constants: the next use brings them back. Gives
/// free memory of the heap back as well.
///
/// # Errors
/// When the process cannot read its own mappings.
pub fn drop_clean_pages() -> io::Result<()> {
    let smaps = std::fs::read_to_string("/proc/self/smaps")?;
    for range in clean_ranges(&smaps) {
        // SAFETY: nobody can write to the range, and no page of it differs from its file, which serves the next use.
        unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
    }
    // SAFETY: releases memory that nobody has.
    unsafe { libc::malloc_trim(0) };
    Ok(())
}

/// Private mappings of files that are not writable, and of which no page was ever written (relocated constants are).
fn clean_ranges(smaps: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let field = line
            .split_once(':')
            .filter(|(key, _)| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        match field.map(|(key, value)| (key, value.trim())) {
            Some(("Anonymous" | "Swap", size)) if size != "0 kB" => candidate = None,
            // Last of those that are asked for.
            Some(("Locked", _)) => found.extend(candidate.take()),
            Some(_) => {}
            None => candidate = file_range(line),
        }
    }
    found
}

/// `START-END r-xp OFFSET DEVICE INODE PATH`: the range where it is a file's, and not writable.
fn file_range(header: &str) -> Option<Range<usize>> {
    let mut fields = header.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_constant = matches!(fields.next()?, "r--p" | "r-xp");
    let inode = fields.nth(2)?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (is_constant && inode != "0").then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::{clean_ranges, drop_clean_pages};

    fn mapping(header: &str, anonymous: &str, swap: &str) -> String {
        format!(
            "{header}\nSize: 8 kB\nPss:  4 kB\nAnonymous:  {anonymous} kB\nSwap: {swap} kB\nLocked: 0 kB\nVmFlags: rd mr\n"
        )
    }

    #[test]
    fn only_unwritten_constants_of_files_are_clean() {
        let clean = "1000-3000 r-xp 00000000 fe:00 42                  /usr/bin/a b: c";
        let smaps = [
            mapping(clean, "0", "0"),
            mapping("3000-4000 r--p 00000000 fe:00 42 /usr/bin/relocated", "4", "0"),
            mapping("4000-5000 r--p 00000000 fe:00 42 /usr/bin/swapped", "0", "4"),
            mapping("5000-6000 rw-p 00000000 fe:00 42 /usr/bin/data", "0", "0"),
            mapping("6000-7000 r--p 00000000 00:00 0", "0", "0"),
            mapping("7000-8000 r--s 00000000 fe:00 42 /shared", "0", "0"),
            mapping("8000-9000 r-xp 00000000 00:00 0 [vdso]", "0", "0"),
            mapping("9000-a000 r--p 00000000 fe:00 42 /usr/bin/a", "0", "0"),
        ];
        assert_eq!(clean_ranges(&smaps.concat()), [0x1000..0x3000, 0x9000..0xa000]);
        assert_eq!(clean_ranges("1000-3000 r-xp"), []);
    }

    #[test]
    fn code_and_constants_come_back() {
        static CONSTANT: &str = "a constant";
        let before = format!("{CONSTANT} and {:?}", super::file_range as fn(&str) -> _);
        drop_clean_pages().unwrap();
        assert_eq!(before, format!("{CONSTANT} and {:?}", super::file_range as fn(&str) -> _));
    }
}
