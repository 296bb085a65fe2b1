//! What the container's /proc says of the host's processor and memory.

use abi::config::Machine;
use std::io::Read as _;

/// Lines that tell one processor from another: the LibOS writes its own.
const BY_PROCESSOR: [&str; 7] =
    ["processor", "physical id", "siblings", "core id", "cpu cores", "apicid", "initial apicid"];

/// Reads it; what the host does not tell stays empty.
pub fn read() -> Machine {
    let memory = first_bytes("/proc/meminfo", 512);
    Machine {
        processor: processor(&first_bytes("/proc/cpuinfo", 4096)),
        memory_total: bytes_of(&memory, "MemTotal:"),
        memory_available: bytes_of(&memory, "MemAvailable:"),
    }
}

/// How many processors the container has: as many as the caller.
pub fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

/// One read: the host writes a processor at a time, and a large one has hundreds.
fn first_bytes(path: &str, len: usize) -> String {
    let mut bytes = vec![0; len];
    let count = std::fs::File::open(path).and_then(|mut file| file.read(&mut bytes)).unwrap_or(0);
    bytes.truncate(count);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first processor's lines. One that was cut off is none.
fn processor(cpuinfo: &str) -> String {
    let complete = cpuinfo.split_once("\n\n").or_else(|| cpuinfo.rsplit_once('\n')).map_or("", |(lines, _)| lines);
    let key = |line: &str| line.split(':').next().unwrap_or("").trim().to_owned();
    let kept = complete.lines().filter(|line| !BY_PROCESSOR.contains(&key(line).as_str()));
    kept.map(|line| format!("{line}\n")).collect()
}

/// A line of /proc/meminfo: `NAME:   123 kB`.
fn bytes_of(meminfo: &str, name: &str) -> u64 {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    value.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_what_all_have_in_common() {
        let one = "processor\t: 0\nvendor_id\t: X\nflags\t\t: fpu\napicid\t\t: 0\n";
        assert_eq!(processor(&format!("{one}\nprocessor\t: 1\n")), "vendor_id\t: X\nflags\t\t: fpu\n");
    }

    #[test]
    fn a_line_that_is_cut_off_is_left_out() {
        assert_eq!(processor("processor\t: 0\nvendor_id\t: X\nflags\t\t: fpu ss"), "vendor_id\t: X\n");
        assert_eq!(processor(""), "");
    }

    #[test]
    fn memory_is_told_in_kib() {
        let text = "MemTotal:        2048 kB\nMemFree: 1 kB\nHugePages_Total:  3\n";
        assert_eq!(
            [bytes_of(text, "MemTotal:"), bytes_of(text, "MemAvailable:"), bytes_of(text, "HugePages_Total:")],
            [2 << 20, 0, 0]
        );
    }
}
