//! The patched file, as pages to write.

use crate::elf::{Elf, page_floor};
use crate::plan::{Limits, PAGE, Plan, PlanError};
use crate::verify;
use alloc::vec::Vec;
use core::ops::Range;

/// A page of text that the plan changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchedPage {
    /// Where the page starts in the file; a multiple of [`PAGE`].
    pub offset: u64,
    /// Its bytes; fewer than a page at the end of the file.
    pub bytes: Vec<u8>,
}

/// What to write into an empty file to get the patched one: first `text` from the original at the same offsets,
/// then `pages` over it, then the stubs. Ranges in between stay holes. Executable segments map from it at the
/// offsets that the program headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchedImage<'a> {
    /// Page-rounded file ranges of text segments, cut at the end of the file.
    pub text: Vec<Range<u64>>,
    /// Changed pages, sorted.
    pub pages: Vec<PatchedPage>,
    /// Where the stubs go, page aligned, behind the original's end.
    pub stub_file_offset: u64,
    /// The stubs.
    pub stubs: &'a [u8],
    /// Length of the patched file, whole pages.
    pub len: u64,
}

impl Plan {
    /// Applies the plan to the file that it was made for.
    ///
    /// # Errors
    /// When `file` is not that file.
    pub fn apply(&self, file: &[u8]) -> Result<PatchedImage<'_>, PlanError> {
        let elf = Elf::parse(file, &Limits { max_file_len: u64::MAX, ..Limits::default() })?;
        let file_len = file.len() as u64;
        verify::check_patches(&elf, self).map_err(PlanError::Verify)?;
        let text = elf.text().map(|text| {
            let end = text.offset.saturating_add(text.bytes.len() as u64).next_multiple_of(PAGE);
            page_floor(text.offset)..end.min(file_len)
        });
        let text: Vec<_> = text.collect();
        let mut pages: Vec<PatchedPage> = Vec::new();
        for patch in &self.patches {
            for (index, byte) in patch.bytes.iter().enumerate() {
                let at = patch.offset.checked_add(index as u64).ok_or(PlanError::Encoding)?;
                write(&mut pages, file, at, *byte).ok_or(PlanError::Encoding)?;
            }
        }
        pages.sort_by_key(|page| page.offset);
        let end = self.stub_file_offset.checked_add(self.stubs.len() as u64);
        let len = end.and_then(|end| end.checked_next_multiple_of(PAGE)).ok_or(PlanError::Encoding)?;
        Ok(PatchedImage { text, pages, stub_file_offset: self.stub_file_offset, stubs: &self.stubs, len })
    }
}

/// Sets one byte, in a page that is copied from the file when it is first written.
fn write(pages: &mut Vec<PatchedPage>, file: &[u8], at: u64, byte: u8) -> Option<()> {
    let start = page_floor(at);
    if pages.last().is_none_or(|page| page.offset != start) {
        let from = usize::try_from(start).ok()?;
        let to = from.checked_add(usize::try_from(PAGE).ok()?)?.min(file.len());
        pages.push(PatchedPage { offset: start, bytes: file.get(from..to)?.to_vec() });
    }
    let page = pages.last_mut()?;
    *page.bytes.get_mut(usize::try_from(at - start).ok()?)? = byte;
    Some(())
}
