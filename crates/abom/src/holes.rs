//! Padding that nothing executes, as a place for a jump.

use crate::decode::{Body, Budget, Flow, Insn, classify, decoder};
use crate::elf::Elf;
use crate::functions::Functions;
use crate::select::JUMP_LEN;
use alloc::vec::Vec;
use core::ops::Range;
use iced_x86::Instruction;

/// Reach of the two-byte jump, with its own length.
const REACH: u64 = 130;
/// Neighbouring functions looked at for one site.
const MAX_NEIGHBOURS: usize = 8;
/// Longest function decoded only for the padding in it or behind it.
const MAX_NEIGHBOUR_LEN: u64 = 16 << 10;
/// Instructions of padding looked at behind one end.
const MAX_PADDING: usize = 64;
/// Holes offered for one site.
const MAX_HOLES: usize = 6;

/// Addresses of five-byte holes that a two-byte jump near `site` may reach.
pub(crate) fn near(elf: &Elf<'_>, functions: &Functions, body: &Body, site: u64, budget: &mut Budget) -> Vec<u64> {
    let reach = site.saturating_sub(REACH)..site.saturating_add(REACH);
    let mut found = in_body(elf, functions, body, &reach);
    let starts = reach.start.saturating_sub(MAX_NEIGHBOUR_LEN)..reach.end;
    let neighbours = functions.starting_in(starts).iter().rev().take(MAX_NEIGHBOURS);
    for neighbour in neighbours.filter(|neighbour| neighbour.end > reach.start && **neighbour != body.function) {
        if found.len() >= MAX_HOLES || neighbour.end.saturating_sub(neighbour.start) > MAX_NEIGHBOUR_LEN {
            break;
        }
        let Some(other) = Body::decode(elf, neighbour, budget) else { break };
        found.extend(in_body(elf, functions, &other, &reach));
    }
    found.sort_by_key(|hole| hole.abs_diff(site));
    found.dedup();
    found.truncate(MAX_HOLES);
    found
}

fn in_body(elf: &Elf<'_>, functions: &Functions, body: &Body, reach: &Range<u64>) -> Vec<u64> {
    let mut found = Vec::new();
    let first = body.insns.partition_point(|insn| insn.addr < reach.start);
    let last = body.insns.partition_point(|insn| insn.addr < reach.end);
    let ends = (first.saturating_sub(1)..last).filter(|index| body.insns.get(*index).is_some_and(ends_flow));
    for end in ends {
        let behind = body.get(end + 1..body.insns.len());
        let padding = behind.iter().take(MAX_PADDING).take_while(|insn| insn.is_padding).count();
        let Some(start) = body.insns.get(end).map(Insn::end) else { continue };
        let mut stop = behind.get(..padding).and_then(<[Insn]>::last).map_or(start, Insn::end);
        if body.is_complete && end + padding + 1 == body.insns.len() {
            stop = padding_end(elf, functions, stop).unwrap_or(stop);
        }
        if body.has_target_in(start..stop) || !functions.starting_in(start..stop).is_empty() {
            continue;
        }
        let last_start = stop.saturating_sub(JUMP_LEN);
        let holes = (start..=last_start).step_by(5);
        found.extend(holes.filter(|hole| *hole <= last_start && stop >= hole.saturating_add(JUMP_LEN)));
    }
    found
}

/// Only what cannot come back counts: a handler may step over `ud2`, `hlt` or `int3`.
fn ends_flow(insn: &Insn) -> bool {
    matches!(insn.flow, Flow::Jump(_) | Flow::Return | Flow::Indirect)
}

/// The end of the padding between the end of a function and the start of the next, if it is all padding.
fn padding_end(elf: &Elf<'_>, functions: &Functions, end: u64) -> Option<u64> {
    let next = functions.next_start(end)?;
    if next.saturating_sub(end) > 64 || functions.covering(end).iter().any(|function| function.start < end) {
        return None;
    }
    let bytes = elf.text_at(end)?.slice(&(end..next))?;
    let mut decoder = decoder(bytes, end);
    let mut instruction = Instruction::default();
    let mut at = end;
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let insn = classify(&decoder, &instruction);
        if instruction.is_invalid() || !insn.is_padding {
            return None;
        }
        at = insn.end();
    }
    (at == next).then_some(next)
}
