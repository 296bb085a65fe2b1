//! abom, the automatic binary optimization module: turns proven `syscall` and `cpuid` instructions of an x86-64
//! ELF file into jumps. Bytes in, plan out; it does no input or output and touches no process.
//!
//! ```text
//! tier 1   site:  mov $nr,%eax    →   site:  jmp stub             stub:  mov $nr,%eax
//!                 syscall                    syscall                     lea ret(%rip),%rcx
//!          ret:   ...                 ret:   ...                         jmp *slot(%rip)
//! tier 2   the two bytes of the instruction become a short jump into unreachable padding, which jumps to the stub
//! tier 3   another instruction in front of the site, or the ones behind it, give up their place; the stub has copies
//! tier 4   left as it is: it traps
//! ```
//!
//! **How a site is proven.** The start of its function is known (`.eh_frame`, a symbol, Go's pclntab); decoding
//! forward from there arrives at it on an instruction boundary; every other function that claims the address agrees;
//! no branch of the function lands inside an instruction at the site. Byte patterns prove nothing.
//!
//! **What is overwritten.** Whole instructions. A single one of five bytes or more, in the straight run of code that
//! ends at the site, needs no knowledge of branches: whoever jumps behind it runs the original and traps. It is
//! preferred unless a branch of the function goes there. Everything else overwrites addresses at which a branch could
//! arrive, so nothing in the file may refer to them: no direct branch from any byte of text, no word, no jump table,
//! no landing pad (functions that have some are left out).
//!
//! **What the entries may rely on** is in [`Kind`]. rcx and r11 after a call are the kernel's business; a call that
//! returns into a stub (tier 3) gets rcx as the hardware leaves it from the stub.
//!
//! **Program counters.** A guest never sees a stub address, nor runs at an overwritten one: pass the first through
//! [`Plan::original_pc`], the second through [`Plan::resume_pc`].
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod build;
mod codec;
mod decode;
mod discover;
mod elf;
mod emit;
mod frames;
mod functions;
mod holes;
mod image;
mod names;
mod pclntab;
mod plan;
mod prove;
mod reader;
mod references;
mod scan;
mod select;
mod verify;

pub use build::plan;
pub use image::{PatchedImage, PatchedPage};
pub use names::Names;
pub use plan::{
    Code, Kind, Limits, Moved, MovedKind, Name, Obstacle, PAGE, Patch, Plan, PlanError, Site, Source, Stats,
    VerifyError,
};
pub use verify::verify;
