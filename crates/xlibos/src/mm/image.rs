//! Patched images of program text (design, section 3): which instructions moved where.

use super::space::Mm;
use crate::fs::File;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A file's patched image.
#[derive(Debug)]
pub struct Image {
    layout: abi::broker::Image,
}

impl Image {
    /// Bytes of address space that the object and its stubs need, from its lowest address.
    #[must_use]
    pub fn room(&self) -> u64 {
        let stubs = self.layout.stub_vaddr.saturating_add(self.layout.stub_len);
        stubs.saturating_sub(self.layout.base_vaddr).max(self.layout.span)
    }
}

/// An image in an address space.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// What is added to its virtual addresses.
    pub(super) bias: u64,
    pub(super) image: Arc<Image>,
}

/// The patched image of a file; None where it has none.
#[must_use]
pub fn of(_file: &Arc<File>) -> Option<Arc<Image>> {
    None
}

impl Mm {
    /// The original place of a moved instruction, for signal frames; other addresses stay.
    #[must_use]
    pub fn original_pc(&self, pc: u64) -> u64 {
        let images = self.images.lock();
        images.iter().find_map(|placed| placed.original(pc)).unwrap_or(pc)
    }
}

impl Placed {
    fn original(&self, pc: u64) -> Option<u64> {
        let at = pc.wrapping_sub(self.bias);
        let moved: &Vec<(u64, u64, u64)> = &self.image.layout.moved;
        let index = moved.partition_point(|(start, _, _)| *start <= at).checked_sub(1)?;
        let (start, end, original) = *moved.get(index)?;
        (start..end).contains(&at).then(|| original.wrapping_add(at - start).wrapping_add(self.bias))
    }
}
