//! Tasks (threads) and processes, and what fork, exec, exit and wait do with them.
//!
//! Lock order: process tree ([`tree`]) > a process's own locks > a task's own locks. None is held while sleeping.

pub mod creds;
pub mod process;
pub mod task;

pub use task::Task;
