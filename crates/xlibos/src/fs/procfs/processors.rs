//! Which processors a thread may use, as /proc/PID/status has it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The mask as words of eight digits, the highest first, and as ranges.
pub(super) fn allowed(mask: &[u64]) -> String {
    let bits = u32::try_from(mask.len() * 64).unwrap_or(0);
    let has = |n: u32| mask.get(n as usize / 64).is_some_and(|word| word >> (n % 64) & 1 != 0);
    let mut ranges: Vec<String> = Vec::new();
    let mut next = 0;
    while let Some(start) = (next..bits).find(|n| has(*n)) {
        let end = (start..bits).find(|n| !has(*n)).unwrap_or(bits);
        ranges.push(if end - start == 1 { format!("{start}") } else { format!("{start}-{}", end - 1) });
        next = end;
    }
    let halves = mask.iter().flat_map(|word| [word & 0xffff_ffff, word >> 32]);
    let mut words: Vec<String> = halves.map(|half| format!("{half:08x}")).collect();
    while words.len() > 1 && words.last().is_some_and(|word| word == "00000000") {
        words.pop();
    }
    words.reverse();
    format!("Cpus_allowed:\t{}\nCpus_allowed_list:\t{}\n", words.join(","), ranges.join(","))
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn masks_are_words_and_ranges() {
        assert_eq!(allowed(&[0b111, 0]), "Cpus_allowed:\t00000007\nCpus_allowed_list:\t0-2\n");
        let two = allowed(&[1 << 63 | 0b101, 1]);
        assert_eq!(two, "Cpus_allowed:\t00000001,80000000,00000005\nCpus_allowed_list:\t0,2,63-64\n");
    }
}
