//! What a process used: getrusage(2).

const SECOND: u64 = 1_000_000_000;
const KIB_A_PAGE: u64 = 4;

/// CPU time and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, all of it told as user time.
    pub cpu_ns: u64,
    /// Most pages that were mapped. The host does not tell which of them are in memory: an upper bound.
    pub peak_pages: u64,
}

impl Usage {
    /// As `struct rusage`.
    #[must_use]
    pub fn to_words(self) -> [u64; 18] {
        let mut words = [0; 18];
        words[0] = self.cpu_ns / SECOND;
        words[1] = self.cpu_ns % SECOND / 1000;
        words[4] = self.peak_pages.saturating_mul(KIB_A_PAGE);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::Usage;

    #[test]
    fn rusage_has_seconds_microseconds_and_kilobytes() {
        let words = Usage { cpu_ns: 3_000_004_999, peak_pages: 10 }.to_words();
        assert_eq!((words[0], words[1], words[4]), (3, 4, 40));
    }
}
