//! `--strace`: calls, signals and ends in strace's format, a line each.

mod text;

use super::{Restart, Row};
use crate::signal::{SI_KERNEL, SI_QUEUE, SI_TIMER, SI_TKILL, SI_USER, SIGCHLD, SigInfo};
use crate::{Errno, Result, Task};
use abi::broker::Request;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

/// Longest part of a path that is shown.
const LONGEST_PATH: usize = 1024;
/// How much is shown of what a call reads or writes.
const LONGEST_DATA: u64 = 32;
/// Arguments that are shown as decimal numbers: what they hold is counted.
const COUNTS: [&str; 4] = ["count", "len", "offset", "size"];
/// Calls whose `buffer` holds what they write, and those that fill it.
const WRITERS: [&str; 3] = ["write", "pwrite64", "sendto"];
const READERS: [&str; 5] = ["read", "pread64", "recvfrom", "readlink", "readlinkat"];

/// The line of a call as it begins: a call that replaces the program takes its arguments away.
pub fn enter(task: &Task, number: u64, row: Option<&Row>, arguments: &[u64; 6]) -> String {
    let Some(row) = row else { return format!("[pid {}] syscall_{number:#x}()", task.tid()) };
    let data_len = if WRITERS.contains(&row.name) { Some(arguments[2]) } else { None };
    line(task, row, arguments, data_len)
}

/// The call ends, and its line is written.
pub fn leave(task: &Task, mut begun: String, row: Option<&Row>, arguments: &[u64; 6], result: Result<u64>) {
    if let (Some(row), Ok(count)) = (row.filter(|row| READERS.contains(&row.name)), result) {
        // MSG_TRUNC counts bytes that did not fit.
        begun = line(task, row, arguments, Some(count.min(arguments[2])));
    }
    begun.push_str(&format!(" = {}\n", outcome(row, result)));
    write(&begun);
}

/// A signal is delivered.
pub fn signal(task: &Task, info: &SigInfo) {
    let name = text::signal(info.signal);
    let mut line = format!("[pid {}] --- {name} {{si_signo={name}, si_code={}", task.tid(), code(info));
    match info.code {
        SI_TIMER => line.push_str(&format!(", si_timerid={:#x}, si_overrun={}", info.pid, info.uid)),
        SI_USER | SI_TKILL | SI_QUEUE => line.push_str(&format!(", si_pid={}, si_uid={}", info.pid, info.uid)),
        1..SI_KERNEL if info.signal == SIGCHLD => {
            line.push_str(&format!(", si_pid={}, si_uid={}, si_status={}", info.pid, info.uid, info.value));
        }
        1..SI_KERNEL => line.push_str(&format!(", si_addr={}", pointer(info.value))),
        _ => {}
    }
    line.push_str("} ---\n");
    write(&line);
}

/// A thread has ended, with the wait status of its process.
pub fn ended(task: &Task, status: i32) {
    let how = match status & 0x7f {
        0 => format!("exited with {}", status >> 8 & 0xff),
        number => format!("killed by {}", text::signal(number)),
    };
    write(&format!("[pid {}] +++ {how} +++\n", task.tid()));
}

fn write(line: &str) {
    let _ = crate::fs::broker::request_done(&Request::Log { text: line.as_bytes() });
}

fn line(task: &Task, row: &Row, arguments: &[u64; 6], data_len: Option<u64>) -> String {
    let described = row.arguments.split_terminator(';').filter_map(|argument| argument.split_once(": "));
    let shown: Vec<String> = described
        .zip(arguments)
        .filter(|((name, _), _)| !(*name == "mode" && row.name.starts_with("open") && !creates(row, arguments)))
        .map(|((name, kind), &value)| match data_len {
            Some(len) if name == "buffer" => data(value, len),
            _ => argument(row.name, name, kind, value),
        })
        .collect();
    format!("[pid {}] {}({})", task.tid(), row.name, shown.join(", "))
}

/// Whether an open(2) makes files: only then it has a mode.
fn creates(row: &Row, arguments: &[u64; 6]) -> bool {
    const O_CREAT: u64 = 0x40;
    const O_TMPFILE_BIT: u64 = 0x40_0000;
    arguments[if row.name == "open" { 1 } else { 2 }] & (O_CREAT | O_TMPFILE_BIT) != 0
}

fn outcome(row: Option<&Row>, result: Result<u64>) -> String {
    match result {
        Ok(_) if matches!(row.map(|row| row.name), Some("exit" | "exit_group")) => "?".to_string(),
        Ok(value) if value < 1 << 20 => value.to_string(),
        Ok(value) => format!("{value:#x}"),
        Err(Errno::INTERRUPTED) => interrupted(row.map_or(Restart::Never, |row| row.restart)),
        Err(Errno::INTERRUPTED_UNTOLD) => interrupted(Restart::Untold),
        Err(Errno::INTERRUPTED_TIMED) => interrupted(Restart::NoHandler),
        Err(errno) => format!("-1 {} ({})", errno.name(), text::errno(errno)),
    }
}

fn interrupted(class: Restart) -> String {
    match class {
        Restart::Untold => "? ERESTARTNOINTR (To be restarted)",
        Restart::Always => "? ERESTARTSYS (To be restarted if SA_RESTART is set)",
        Restart::NoHandler => "? ERESTARTNOHAND (To be restarted if no handler)",
        Restart::Never => "-1 EINTR (Interrupted system call)",
    }
    .to_string()
}

fn code(info: &SigInfo) -> String {
    const CHILD: [&str; 6] = ["CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"];
    const SIGSEGV: i32 = 11;
    match (info.code, info.signal) {
        (SI_USER, _) => "SI_USER".to_string(),
        (SI_KERNEL, _) => "SI_KERNEL".to_string(),
        (SI_QUEUE, _) => "SI_QUEUE".to_string(),
        (SI_TIMER, _) => "SI_TIMER".to_string(),
        (SI_TKILL, _) => "SI_TKILL".to_string(),
        (1, SIGSEGV) => "SEGV_MAPERR".to_string(),
        (2, SIGSEGV) => "SEGV_ACCERR".to_string(),
        (code, SIGCHLD) => match usize::try_from(code - 1).ok().and_then(|index| CHILD.get(index)) {
            Some(name) => (*name).to_string(),
            None => code.to_string(),
        },
        (code, _) => code.to_string(),
    }
}

fn argument(call: &str, name: &str, kind: &str, value: u64) -> String {
    const AT_FDCWD: i32 = -100;
    const POINTERS: [&str; 12] =
        ["addr", "address", "argv", "buffer", "child_tid", "env", "fds", "iov", "parent_tid", "stack", "timeout", "to"];
    let low = value as u32;
    match (kind, call, name) {
        ("UserPath", ..) => path(value),
        ("Fd", ..) if low.cast_signed() == AT_FDCWD => "AT_FDCWD".to_string(),
        ("i32" | "Fd" | "Pid", ..) => low.cast_signed().to_string(),
        (_, "open" | "openat", "flags") => text::open_flags(low),
        (_, "mmap" | "mprotect", "prot") => text::protection(low),
        (_, "mmap", "flags") => text::mapping_flags(low),
        (_, "mmap", "offset") if value != 0 => format!("{value:#x}"),
        ("u32", _, "mode") => format!("0{low:02o}"),
        ("u32", ..) if low == 0 => "0".to_string(),
        ("u32", ..) => format!("{low:#x}"),
        (kind, _, name) if kind.starts_with("UserPtr") || POINTERS.contains(&name) => pointer(value),
        _ if value == 0 || COUNTS.contains(&name) => value.to_string(),
        _ => format!("{value:#x}"),
    }
}

fn pointer(value: u64) -> String {
    if value == 0 { "NULL".to_string() } else { format!("{value:#x}") }
}

/// A path as a line can hold it. One that cannot be read is its address.
fn path(address: u64) -> String {
    match machine::guest::read_string(address, LONGEST_PATH) {
        Ok(path) => format!("\"{}\"", text::quoted(&path)),
        Err(_) => pointer(address),
    }
}

/// The beginning of what a call reads or writes.
fn data(address: u64, len: u64) -> String {
    let mut bytes = alloc::vec![0; len.min(LONGEST_DATA) as usize];
    match machine::guest::read(address, &mut bytes) {
        Ok(()) => format!("\"{}\"{}", text::quoted(&bytes), if len > LONGEST_DATA { "..." } else { "" }),
        Err(_) => pointer(address),
    }
}
