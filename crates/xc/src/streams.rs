//! The caller's standard streams.

use abi::config::{HostKind, Stdio};
use rustix::fs::{FileType, fstat, major, minor};
use std::os::fd::AsFd as _;

/// Classifies one standard stream.
pub fn classify(number: i32) -> Stdio {
    let (Some(stream), Some(flags)) = (xkernel::sys::standard_stream(number), xkernel::sys::descriptor_flags(number))
    else {
        return Stdio::Closed;
    };
    let Ok(stat) = fstat(stream.as_fd()) else { return Stdio::Closed };
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => HostKind::File,
        FileType::Fifo => HostKind::Pipe,
        FileType::Socket => HostKind::Socket,
        FileType::CharacterDevice if (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3) => return Stdio::Null,
        FileType::CharacterDevice if rustix::termios::isatty(stream) => return Stdio::Terminal,
        FileType::CharacterDevice => HostKind::Device,
        _ => return Stdio::Null,
    };
    let access = flags & libc::O_ACCMODE;
    Stdio::Host {
        kind,
        readable: access != libc::O_WRONLY,
        writable: access != libc::O_RDONLY,
        append: flags & libc::O_APPEND != 0,
    }
}
