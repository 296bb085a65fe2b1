//! Finds the bytes of the two instructions. An occurrence is a question, never an answer.

use crate::elf::Elf;
use crate::plan::{Kind, Limits, PlanError};
use alloc::vec::Vec;

const BLOCK: usize = 64;

/// Addresses of all `0f 05` and `0f a2` in text, ascending.
pub(crate) fn occurrences(elf: &Elf<'_>, limits: &Limits) -> Result<Vec<u64>, PlanError> {
    let mut found = Vec::new();
    for text in elf.text() {
        let bytes = text.bytes;
        let seconds = bytes.get(1..).unwrap_or_default();
        for (block, (first, second)) in bytes.chunks(BLOCK).zip(seconds.chunks(BLOCK)).enumerate() {
            if !any_pair(first, second) {
                continue;
            }
            let base = text.vaddr.saturating_add((block * BLOCK) as u64);
            let pairs = first.iter().zip(second).enumerate();
            let hits = pairs.filter(|(_, (first, second))| kind_of([**first, **second]).is_some());
            found.extend(hits.map(|(index, _)| base.saturating_add(index as u64)));
            if found.len() > limits.max_occurrences {
                return Err(PlanError::TooLarge);
            }
        }
    }
    Ok(found)
}

/// The instruction that the bytes could be.
pub(crate) fn kind_of(bytes: [u8; 2]) -> Option<Kind> {
    [Kind::Syscall, Kind::Cpuid].into_iter().find(|kind| kind.bytes() == bytes)
}

/// Branch-free, so that the compiler uses vectors.
fn any_pair(first: &[u8], second: &[u8]) -> bool {
    let mut any = 0_u8;
    for (first, second) in first.iter().zip(second) {
        let hit = (*first == 0x0f) & ((*second == 0x05) | (*second == 0xa2));
        any |= u8::from(hit);
    }
    any != 0
}
