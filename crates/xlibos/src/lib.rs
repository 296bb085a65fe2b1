//! The library OS: a Unix-like kernel, one instance a container, in memory that all its processes share.
//!
//! Layers, callers above callees: `syscall` (table and handlers, one family a file) over `process`, `signal`, `mm`, `fs`,
//! `net`, `ipc`, `time`, `tty`, over `wait` and `uio`, over the `machine` crate.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod fs;
pub mod ipc;
pub mod kernel;
pub mod mm;
pub mod net;
pub mod process;
pub mod quiesce;
pub mod random;
pub mod signal;
mod stats;
pub mod syscall;
pub mod time;
pub mod tty;
pub mod uio;
pub mod wait;

pub use machine::{Errno, Result};
pub use process::Task;
