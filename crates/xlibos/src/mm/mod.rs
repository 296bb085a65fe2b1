//! Address spaces (placeholder until the VMA tree lands).

/// The address space of a process.
#[derive(Debug)]
pub struct Mm;
