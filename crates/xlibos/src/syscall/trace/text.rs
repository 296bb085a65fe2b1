//! Names and texts of numbers, as strace spells them. Each list is one text: an address in a constant is a relocation of every
//! start.

use crate::Errno;
use alloc::format;
use alloc::string::{String, ToString as _};

/// By number, from 1.
const SIGNALS: &str = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU \
                       URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

const OPEN_FLAGS: &str = "40 O_CREAT|80 O_EXCL|100 O_NOCTTY|200 O_TRUNC|400 O_APPEND|800 O_NONBLOCK|101000 O_SYNC|1000 O_DSYNC|\
                          2000 O_ASYNC|4000 O_DIRECT|410000 O_TMPFILE|10000 O_DIRECTORY|20000 O_NOFOLLOW|40000 O_NOATIME|\
                          80000 O_CLOEXEC|200000 O_PATH";
const PROTECTION: &str = "1 PROT_READ|2 PROT_WRITE|4 PROT_EXEC";
const MAPPING_FLAGS: &str = "3 MAP_SHARED_VALIDATE|1 MAP_SHARED|2 MAP_PRIVATE|10 MAP_FIXED|20 MAP_ANONYMOUS|100 MAP_GROWSDOWN|\
                             800 MAP_DENYWRITE|2000 MAP_LOCKED|4000 MAP_NORESERVE|8000 MAP_POPULATE|10000 MAP_NONBLOCK|\
                             20000 MAP_STACK|40000 MAP_HUGETLB|100000 MAP_FIXED_NOREPLACE";

/// strerror(3), by number.
const ERRORS: &str = "1 Operation not permitted|2 No such file or directory|3 No such process|4 Interrupted system call|\
    5 Input/output error|6 No such device or address|7 Argument list too long|8 Exec format error|9 Bad file descriptor|\
    10 No child processes|11 Resource temporarily unavailable|12 Cannot allocate memory|13 Permission denied|14 Bad address|\
    15 Block device required|16 Device or resource busy|17 File exists|18 Invalid cross-device link|19 No such device|\
    20 Not a directory|21 Is a directory|22 Invalid argument|23 Too many open files in system|24 Too many open files|\
    25 Inappropriate ioctl for device|26 Text file busy|27 File too large|28 No space left on device|29 Illegal seek|\
    30 Read-only file system|31 Too many links|32 Broken pipe|33 Numerical argument out of domain|\
    34 Numerical result out of range|35 Resource deadlock avoided|36 File name too long|37 No locks available|\
    38 Function not implemented|39 Directory not empty|40 Too many levels of symbolic links|42 No message of desired type|\
    43 Identifier removed|61 No data available|62 Timer expired|71 Protocol error|75 Value too large for defined data type|\
    84 Invalid or incomplete multibyte or wide character|87 Too many users|88 Socket operation on non-socket|\
    89 Destination address required|90 Message too long|91 Protocol wrong type for socket|92 Protocol not available|\
    93 Protocol not supported|94 Socket type not supported|95 Operation not supported|96 Protocol family not supported|\
    97 Address family not supported by protocol|98 Address already in use|99 Cannot assign requested address|\
    100 Network is down|101 Network is unreachable|103 Software caused connection abort|104 Connection reset by peer|\
    105 No buffer space available|106 Transport endpoint is already connected|107 Transport endpoint is not connected|\
    108 Cannot send after transport endpoint shutdown|109 Too many references: cannot splice|110 Connection timed out|\
    111 Connection refused|113 No route to host|\
    114 Operation already in progress|115 Operation now in progress|116 Stale file handle|122 Disk quota exceeded|\
    125 Operation canceled|130 Owner died|131 State not recoverable";

/// A signal's name.
pub fn signal(number: i32) -> String {
    const FIRST_REAL_TIME: i32 = 32;
    match usize::try_from(number - 1).ok().and_then(|index| SIGNALS.split(' ').nth(index)) {
        Some(name) => format!("SIG{name}"),
        None if number == FIRST_REAL_TIME => "SIGRTMIN".to_string(),
        None => format!("SIGRT_{}", number - FIRST_REAL_TIME),
    }
}

/// What an errno says.
pub fn errno(errno: Errno) -> &'static str {
    let number = errno.number().to_string();
    ERRORS
        .split('|')
        .filter_map(|error| error.split_once(' '))
        .find(|(of, _)| *of == number)
        .map_or("?", |(_, text)| text)
}

/// Flags of open(2).
pub fn open_flags(value: u32) -> String {
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(value & 3) as usize];
    let rest = names(value & !3, OPEN_FLAGS);
    if rest.is_empty() { access.to_string() } else { format!("{access}|{rest}") }
}

/// PROT_ of mmap(2).
pub fn protection(value: u32) -> String {
    if value == 0 { "PROT_NONE".to_string() } else { names(value, PROTECTION) }
}

/// MAP_ of mmap(2).
pub fn mapping_flags(value: u32) -> String {
    if value == 0 { "0".to_string() } else { names(value, MAPPING_FLAGS) }
}

fn names(mut value: u32, list: &str) -> String {
    let mut text = String::new();
    let known = list.split('|').filter_map(|flag| flag.split_once(' '));
    for (bits, name) in known.filter_map(|(bits, name)| Some((u32::from_str_radix(bits, 16).ok()?, name))) {
        if value & bits == bits {
            value &= !bits;
            text.push_str(if text.is_empty() { "" } else { "|" });
            text.push_str(name);
        }
    }
    if value != 0 {
        text.push_str(if text.is_empty() { "" } else { "|" });
        text.push_str(&format!("{value:#x}"));
    }
    text
}

/// Bytes as C writes them, with octal numbers of no more digits than needed.
pub fn quoted(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, &byte) in bytes.iter().enumerate() {
        let is_before_digit = bytes.get(index + 1).is_some_and(u8::is_ascii_digit);
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\r' => text.push_str("\\r"),
            0x0b => text.push_str("\\v"),
            0x0c => text.push_str("\\f"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ if is_before_digit => text.push_str(&format!("\\{byte:03o}")),
            _ => text.push_str(&format!("\\{byte:o}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{errno, mapping_flags, open_flags, protection, quoted, signal};
    use crate::Errno;

    #[test]
    fn numbers_have_strace_s_names() {
        assert_eq!(open_flags(0x80042), "O_RDWR|O_CREAT|O_CLOEXEC");
        assert_eq!(open_flags(0x41_0001), "O_WRONLY|O_TMPFILE");
        assert_eq!(open_flags(0x4000_0000), "O_RDONLY|0x40000000");
        assert_eq!([protection(0), protection(5)], ["PROT_NONE", "PROT_READ|PROT_EXEC"]);
        assert_eq!(mapping_flags(0x812), "MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE");
        assert_eq!([signal(10), signal(31), signal(32), signal(34)], ["SIGUSR1", "SIGSYS", "SIGRTMIN", "SIGRT_2"]);
        assert_eq!(errno(Errno::ENOENT), "No such file or directory");
    }

    #[test]
    fn every_errno_has_a_text() {
        for number in (1..=131).map(Errno::from_raw).filter(|errno| errno.name() != "?") {
            assert_ne!(errno(number), "?", "{number}");
        }
    }

    #[test]
    fn bytes_are_quoted_as_in_c() {
        assert_eq!(quoted(b"a\n\"\\\xff\x001\x00z~\t"), r#"a\n\"\\\377\0001\0z~\t"#);
    }
}
