//! Address spaces: mmap(2). Guest memory is private host mappings; the tree of [`Vma`]s describes all of it.
//!
//! [`VmaTree`] is pure; [`Mm`] changes tree and host mappings together under its lock, the one lock that may be held
//! across (never sleeping) host memory calls and fork's clone. Only leaf locks are taken inside it. Files are
//! asked and read outside of it, and references to files are dropped outside of it.

pub mod charge;
pub mod fault;
pub mod figures;
pub mod image;

mod advise;
mod brk;
mod change;
mod grow;
mod info;
mod live;
mod map;
mod mappings;
mod place;
mod remap;
mod space;
pub mod unmoved;
mod vma;
mod warm;
mod windows;

pub(crate) use change::{Locking, check_lock};
pub use info::Info;
pub use map::MapRequest;
pub(crate) use map::{MAP_ANONYMOUS, MAP_HUGETLB, is_offset};
pub use place::{USER_END, for_libraries, for_programs, of_program, reserve_host_page};
pub use space::{Mm, MmGuard};
pub use vma::{Backing, Form, Prot, Totals, Vma, VmaFlags};
pub use warm::{Left, Warm};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// What stays free below a mapping that grows.
const STACK_GUARD_GAP: u64 = 256 * PAGE;

/// A length rounded up to pages; None where that overflows.
fn page_align(len: u64) -> Option<u64> {
    len.checked_add(PAGE - 1).map(|len| len & !(PAGE - 1))
}

/// Whether an address lies at the start of a page.
fn is_aligned(addr: u64) -> bool {
    addr.is_multiple_of(PAGE)
}
