//! `--strace`: calls in strace's format, a line each.

use super::Row;
use crate::{Result, Task};
use abi::broker::Request;
use alloc::string::String;

/// A call begins. Calls that may not return are written at once.
pub fn enter(task: &Task, number: u64, row: Option<&Row>, arguments: &[u64; 6]) {
    let is_last = matches!(row.map(|row| row.name), Some("exit" | "exit_group" | "execve" | "rt_sigreturn"));
    if is_last {
        let name = row.map_or("?", |row| row.name);
        write(&alloc::format!(
            "[pid {}] {name}({:#x}, {:#x}, {:#x}) ...\n",
            task.tid(),
            arguments[0],
            arguments[1],
            arguments[2]
        ));
    } else if row.is_none() {
        write(&alloc::format!("[pid {}] syscall_{number:#x}() = -1 ENOSYS\n", task.tid()));
    }
}

/// A call ends.
pub fn leave(task: &Task, row: Option<&'static Row>, arguments: &[u64; 6], result: Result<u64>) {
    let Some(row) = row else { return };
    let mut line = alloc::format!("[pid {}] {}(", task.tid(), row.name);
    let described = row.arguments.split_terminator(';').filter_map(|argument| argument.split_once(": "));
    for (index, ((name, kind), value)) in described.zip(arguments).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let text = match kind {
            "UserPath" => {
                let path = machine::guest::read_string(*value, 256).unwrap_or_default();
                alloc::format!("\"{}\"", String::from_utf8_lossy(&path))
            }
            "i32" | "Fd" | "Pid" => alloc::format!("{}", (*value as u32).cast_signed()),
            _ => alloc::format!("{value:#x}"),
        };
        line.push_str(&alloc::format!("{separator}{name}={text}"));
    }
    match result {
        Ok(value) if value < 1 << 20 => line.push_str(&alloc::format!(") = {value}\n")),
        Ok(value) => line.push_str(&alloc::format!(") = {value:#x}\n")),
        Err(errno) => line.push_str(&alloc::format!(") = -1 {}\n", errno.name())),
    }
    write(&line);
}

fn write(line: &str) {
    let _ = crate::fs::broker::request_done(&Request::Log { text: line.as_bytes() });
}
