//! `--strace`: calls in strace's format, a line each.

use super::Row;
use crate::{Result, Task};
use abi::broker::Request;
use alloc::format;
use alloc::string::{String, ToString as _};

/// Longest part of a path that is shown.
const LONGEST_PATH: usize = 1024;
/// Arguments that are shown as decimal numbers: what they hold is counted.
const COUNTS: [&str; 4] = ["count", "len", "offset", "size"];

/// The line of a call as it begins: a call that replaces the program takes its arguments away.
pub fn enter(task: &Task, number: u64, row: Option<&Row>, arguments: &[u64; 6]) -> String {
    let Some(row) = row else { return format!("[pid {}] syscall_{number:#x}()", task.tid()) };
    let described = row.arguments.split_terminator(';').filter_map(|argument| argument.split_once(": "));
    let shown = described.zip(arguments).map(|((name, kind), value)| argument(name, kind, *value));
    let mut line = format!("[pid {}] {}(", task.tid(), row.name);
    for (index, text) in shown.enumerate() {
        line.push_str(if index == 0 { "" } else { ", " });
        line.push_str(&text);
    }
    line.push(')');
    line
}

/// The call ends, and its line is written.
pub fn leave(mut line: String, row: Option<&Row>, result: Result<u64>) {
    let result = match result {
        Ok(_) if matches!(row.map(|row| row.name), Some("exit" | "exit_group")) => "?".to_string(),
        Ok(value) if value < 1 << 20 => value.to_string(),
        Ok(value) => format!("{value:#x}"),
        Err(errno) => format!("-1 {}", errno.name()),
    };
    line.push_str(&format!(" = {result}\n"));
    let _ = crate::fs::broker::request_done(&Request::Log { text: line.as_bytes() });
}

fn argument(name: &str, kind: &str, value: u64) -> String {
    const AT_FDCWD: i32 = -100;
    let low = value as u32;
    match kind {
        "UserPath" => path(value),
        "UserPtr" if value == 0 => "NULL".to_string(),
        "Fd" if low.cast_signed() == AT_FDCWD => "AT_FDCWD".to_string(),
        "i32" | "Fd" | "Pid" => low.cast_signed().to_string(),
        "u32" if name == "mode" => format!("0{low:02o}"),
        "u32" if low == 0 => "0".to_string(),
        "u32" => format!("{low:#x}"),
        _ if value == 0 || COUNTS.contains(&name) => value.to_string(),
        _ => format!("{value:#x}"),
    }
}

/// A path as a line can hold it. One that cannot be read is its address.
fn path(address: u64) -> String {
    match machine::guest::read_string(address, LONGEST_PATH) {
        Ok(path) => format!("\"{}\"", path.escape_ascii()),
        Err(_) if address == 0 => "NULL".to_string(),
        Err(_) => format!("{address:#x}"),
    }
}
