//! Tasks (threads) and processes, and what fork, exec, exit and wait do with them.
//!
//! Lock order: process tree ([`tree`]) > a process's own locks > a task's own locks. None is held while sleeping.

pub mod creds;
pub mod elf;
pub mod exec;
pub mod exit;
pub mod fork;
pub mod inspect;
pub mod limits;
pub mod ptrace;
pub mod robust;
pub mod run_state;
pub mod scheduled;
pub mod session;
pub mod settings;
pub mod spare;
pub mod stack;
pub mod standstill;
pub mod task;
pub mod thread_group;
pub mod threads;
pub mod tree;
pub mod usage;
pub mod visit;
pub mod wait;
pub mod yields;

pub use task::{Pid, Task};
pub use thread_group::Process;
