//! The unsafe half of the LibOS: entry and trap frames, host calls, copies from and to guest memory,
//! the arena's heap, locks and sleeping. `xlibos` is the kernel above, without unsafe code.
//!
//! The crate also builds for the build machine, where the kernel's unit tests run over the same locks and
//! sleeps; there is no entry from guest code there.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod call_counts;
pub mod changes;
pub mod clock;
pub mod cpu;
pub mod epoch;
pub mod errno;
pub mod frame;
#[cfg(any(target_os = "none", test))]
mod free_blocks;
mod futex;
pub mod guest;
pub mod hand_over;
pub mod host;
pub mod leaf;
pub mod name_map;
mod outside;
pub mod owned;
pub mod process;
pub mod sync;
mod turns;
pub mod window;
pub mod xstate;

#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
pub mod cpuid;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod guest_access;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(not(target_os = "none"))]
#[path = "host_heap.rs"]
pub mod heap;
#[cfg(target_os = "none")]
mod large_page;
#[cfg(target_os = "none")]
mod mem;
mod slots;
#[cfg(target_os = "none")]
mod stack;
#[cfg(target_os = "none")]
mod trap;

pub use cpu::Cpu;
pub use errno::{Errno, Result};
pub use frame::{SigContext, TrapFrame};
