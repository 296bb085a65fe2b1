//! Whether anything in the file could send control to an address in the middle of an overwritten run.
//!
//! The question is asked about few addresses, and answered without trust in decoding: over every byte of text,
//! four bytes that are a displacement to the address count, and two that are a short branch to it, unless the
//! function there decodes to something else; over the whole file, aligned words that hold the address (jump
//! tables, relocations, symbols) and tables of 32-bit offsets from any address that code takes (compilers'
//! position-independent jump tables). A wrong "yes" only costs a site a tier.

use crate::decode::{Body, Budget, Flow};
use crate::elf::{Elf, Segment};
use crate::functions::Functions;
use alloc::vec::Vec;
use core::ops::Range;

/// Reach of a branch with a one-byte displacement, with room for its own length.
const SHORT_REACH: u64 = 130;
/// Most entries read of all offset tables together.
const MAX_TABLE_ENTRIES: usize = 1 << 22;

/// Bytes looked at together for a rare pattern.
const BLOCK: usize = 32;
const FILTER_WORDS: usize = 1 << 10;

/// A set of addresses with a filter on their low 16 bits, which rejects almost everything.
struct Wanted {
    sorted: Vec<u64>,
    filter: [u64; FILTER_WORDS],
    hit: Vec<bool>,
}

impl Wanted {
    fn new(mut addresses: Vec<u64>) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        let mut filter = [0; FILTER_WORDS];
        for address in &addresses {
            let low = low(*address);
            if let Some(word) = filter.get_mut(usize::from(low >> 6)) {
                *word |= 1 << (low & 63);
            }
        }
        let hit = alloc::vec![false; addresses.len()];
        Self { sorted: addresses, filter, hit }
    }

    #[inline]
    fn may_have(&self, low: u16) -> bool {
        self.filter.get(usize::from(low >> 6)).is_some_and(|word| word >> (low & 63) & 1 != 0)
    }

    fn mark(&mut self, address: u64) {
        if !self.may_have(low(address)) {
            return;
        }
        if let Ok(index) = self.sorted.binary_search(&address)
            && let Some(hit) = self.hit.get_mut(index)
        {
            *hit = true;
        }
    }
}

fn low(address: u64) -> u16 {
    let [first, second, ..] = address.to_le_bytes();
    u16::from_le_bytes([first, second])
}

/// Those of `addresses` that may be reached by something that the file holds, sorted.
pub(crate) fn referenced(elf: &Elf<'_>, functions: &Functions, addresses: Vec<u64>, budget: &mut Budget) -> Vec<u64> {
    let mut wanted = Wanted::new(addresses);
    if wanted.sorted.is_empty() {
        return Vec::new();
    }
    let mut bases = Vec::new();
    for text in elf.text() {
        scan_relative(text, &mut wanted);
        scan_bases(text, &mut bases);
        if elf.is_fixed {
            scan_absolute(text, &mut wanted);
        }
    }
    scan_words(elf.file, &mut wanted);
    bases.sort_unstable();
    bases.dedup();
    scan_tables(elf, &bases, &mut wanted);
    scan_short(elf, functions, &mut wanted, budget);
    let marks = wanted.sorted.iter().zip(&wanted.hit);
    marks.filter(|(_, hit)| **hit).map(|(address, _)| *address).collect()
}

/// Four bytes that are the distance from behind them to an address. This loop runs once a byte of text.
fn scan_relative(text: &Segment<'_>, wanted: &mut Wanted) {
    let mut behind = low(text.vaddr.wrapping_add(4));
    for (index, window) in text.bytes.windows(4).enumerate() {
        let [a, b, c, d] = *window else { continue };
        if wanted.may_have(behind.wrapping_add(u16::from_le_bytes([a, b]))) {
            let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
            wanted.mark(text.vaddr.wrapping_add(index as u64 + 4).wrapping_add_signed(distance));
        }
        behind = behind.wrapping_add(1);
    }
}

/// Four bytes that are an address, in code that is linked to a fixed place.
fn scan_absolute(text: &Segment<'_>, wanted: &mut Wanted) {
    for window in text.bytes.windows(4) {
        let [a, b, c, d] = *window else { continue };
        if wanted.may_have(u16::from_le_bytes([a, b])) {
            wanted.mark(u64::from(u32::from_le_bytes([a, b, c, d])));
        }
    }
}

/// The addresses that `lea` takes relative to rip.
fn scan_bases(text: &Segment<'_>, bases: &mut Vec<u64>) {
    let opcodes = text.bytes.get(1..).unwrap_or_default();
    for (block, chunk) in opcodes.chunks(BLOCK).enumerate() {
        // Branch-free first, so that the compiler uses vectors.
        let count: u8 = chunk.iter().map(|byte| u8::from(*byte == 0x8d)).sum();
        if count == 0 {
            continue;
        }
        let start = block * BLOCK;
        let windows = text.bytes.get(start..).unwrap_or_default().windows(3).take(chunk.len()).enumerate();
        let hits = windows.filter(|(_, window)| matches!(window, [a, b, c] if is_lea(*a, *b, *c)));
        bases.extend(hits.filter_map(|(index, _)| lea_target(text, start + index)));
    }
}

/// 48 or 4c, 8d, then a modrm of [rip + displacement].
#[inline]
fn is_lea(rex: u8, opcode: u8, modrm: u8) -> bool {
    (rex & 0xfb == 0x48) & (opcode == 0x8d) & (modrm & 0xc7 == 0x05)
}

fn lea_target(text: &Segment<'_>, index: usize) -> Option<u64> {
    let displacement = text.bytes.get(index.checked_add(3)?..index.checked_add(7)?)?;
    let value = i32::from_le_bytes(displacement.try_into().ok()?);
    Some(text.vaddr.wrapping_add(index as u64 + 7).wrapping_add_signed(i64::from(value)))
}

/// Aligned 64-bit words anywhere in the file.
fn scan_words(file: &[u8], wanted: &mut Wanted) {
    for chunk in file.chunks_exact(8) {
        if let Ok(bytes) = chunk.try_into() {
            wanted.mark(u64::from_le_bytes(bytes));
        }
    }
}

/// Tables of 32-bit offsets from their own start: read until an entry does not lead into text.
fn scan_tables(elf: &Elf<'_>, bases: &[u64], wanted: &mut Wanted) {
    let mut left = MAX_TABLE_ENTRIES;
    for base in bases {
        let Some(segment) = elf.segment_at(*base) else { continue };
        let bytes = segment.slice(&(*base..segment.file_end())).unwrap_or_default();
        for chunk in bytes.chunks_exact(4) {
            let Ok(entry) = chunk.try_into() else { break };
            let target = base.wrapping_add_signed(i64::from(i32::from_le_bytes(entry)));
            if elf.text_at(target).is_none() {
                break;
            }
            left = left.saturating_sub(1);
            wanted.mark(target);
        }
        if left == 0 {
            // Too much to read: trust nothing.
            wanted.hit.fill(true);
            return;
        }
    }
}

/// Branches with one-byte displacements. Two bytes match often by chance, so a match inside an instruction of a
/// known function does not count.
fn scan_short(elf: &Elf<'_>, functions: &Functions, wanted: &mut Wanted, budget: &mut Budget) {
    let mut body: Option<Body> = None;
    for index in 0..wanted.sorted.len() {
        let Some(address) = wanted.sorted.get(index).copied() else { continue };
        let near = near_text(elf, address);
        let Some(bytes) = elf.text_at(near.start).and_then(|text| text.slice(&near)) else { continue };
        let is_hit = bytes.windows(2).zip(near.start..).any(|(pair, at)| {
            let [opcode, displacement] = *pair else { return false };
            let is_short = matches!(opcode, 0x70..=0x7f | 0xeb | 0xe0..=0xe3);
            let target = at.wrapping_add(2).wrapping_add_signed(i64::from(displacement.cast_signed()));
            is_short && target == address && may_branch(elf, functions, (at, address), &mut body, budget)
        });
        if let Some(hit) = wanted.hit.get_mut(index).filter(|_| is_hit) {
            *hit = true;
        }
    }
}

fn near_text(elf: &Elf<'_>, address: u64) -> Range<u64> {
    let Some(text) = elf.text_at(address) else { return 0..0 };
    let start = address.saturating_sub(SHORT_REACH).max(text.vaddr);
    start..address.saturating_add(SHORT_REACH).min(text.file_end())
}

/// Whether the bytes at the start of `from_to` may be a branch to its end: yes unless a known function decodes
/// across them.
fn may_branch(
    elf: &Elf<'_>,
    functions: &Functions,
    from_to: (u64, u64),
    body: &mut Option<Body>,
    budget: &mut Budget,
) -> bool {
    let (at, to) = from_to;
    let covering = functions.covering(at);
    let Some(function) = covering.first() else { return true };
    if body.as_ref().is_none_or(|body| body.function != *function) {
        *body = Body::decode(elf, function, budget);
    }
    let Some(insn) = body.as_ref().and_then(|body| body.covering(at)) else { return true };
    matches!(insn.flow, Flow::Jump(target) | Flow::Branch(target) if target == to)
}
