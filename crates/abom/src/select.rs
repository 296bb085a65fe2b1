//! The ways in which one site could be rewritten, best first.

use crate::decode::{Body, Flow, Insn};
use crate::plan::{Code, Kind};
use alloc::vec::Vec;
use core::ops::Range;

/// Length of `jmp rel32`.
pub(crate) const JUMP_LEN: u64 = 5;
/// Most instructions moved on either side of a site.
const MAX_BEFORE: usize = 8;
const MAX_AFTER: usize = 4;
/// One instruction in the straight run before the site.
const RANK_CERTAIN: u8 = 0;
/// Padding; what ranks behind it is in [`window`].
const RANK_HOLE: u8 = 1;

/// One way to rewrite a site.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) tier: u8,
    /// Overwritten addresses at the site, whole instructions.
    pub(crate) overwritten: Range<u64>,
    /// Indices of the instructions copied before the call.
    pub(crate) before: Range<usize>,
    /// Indices of the instructions copied after it.
    pub(crate) after: Range<usize>,
    /// Where the jump to the stub lies if it is not at the site.
    pub(crate) hole: Option<u64>,
    /// Addresses at which nothing may arrive from outside the plain flow, to be checked against the whole file.
    pub(crate) interiors: Vec<u64>,
    /// Better is less.
    rank: u8,
}

/// The ways for the site at index `site` of `body`, best first. `entries` are known entry points, sorted.
pub(crate) fn choices(body: &Body, site: usize, kind: Kind, entries: &[u64]) -> Vec<Choice> {
    let mut found = Vec::new();
    let first = first_before(body, site);
    let last = last_after(body, site);
    for start in first..=site {
        for end in start + 1..=last + 1 {
            found.extend(window(body, site, start..end, kind, entries));
        }
    }
    found.sort_by_key(|choice| (choice.rank, u64::MAX - choice.overwritten.start, choice.overwritten.end));
    found.dedup_by(|later, first| later.rank == first.rank && later.overwritten.start == first.overwritten.start);
    found
}

/// The way by a hole: two bytes at the site, five at `hole`.
pub(crate) fn by_hole(site: &Insn, index: usize, hole: u64) -> Option<Choice> {
    let distance = hole.wrapping_sub(site.end()).cast_signed();
    i8::try_from(distance).ok()?;
    Some(Choice {
        tier: 2,
        overwritten: site.addr..site.end(),
        before: index..index,
        after: index + 1..index + 1,
        hole: Some(hole),
        interiors: (hole..hole.checked_add(JUMP_LEN)?).collect(),
        rank: RANK_HOLE,
    })
}

/// Puts holes where they rank.
pub(crate) fn sort(choices: &mut [Choice]) {
    choices.sort_by_key(|choice| choice.rank);
}

/// Whether the choice needs nothing but the straight run in front of the site.
pub(crate) fn is_certain(choice: &Choice) -> bool {
    choice.rank == RANK_CERTAIN
}

/// The earliest instruction from which control runs straight to the site and that may move.
fn first_before(body: &Body, site: usize) -> usize {
    let limit = site.saturating_sub(MAX_BEFORE);
    let mut next = body.insns.get(site).map_or(0, |insn| insn.addr);
    let mut first = site;
    for insn in body.get(limit..site).iter().rev() {
        if !insn.is_movable || insn.end() != next {
            break;
        }
        next = insn.addr;
        first -= 1;
    }
    first
}

/// The last instruction that may move after the site: a return or jump ends the run, and padding behind it counts.
fn last_after(body: &Body, site: usize) -> usize {
    let mut last = site;
    let mut has_ended = false;
    let mut next = body.insns.get(site).map_or(0, Insn::end);
    for insn in body.get(site + 1..(site + 1 + MAX_AFTER).min(body.insns.len())) {
        let may_join = if has_ended { insn.is_padding } else { insn.is_movable || is_movable_end(insn) };
        if !may_join || insn.addr != next {
            break;
        }
        next = insn.end();
        has_ended |= is_movable_end(insn);
        last += 1;
    }
    last
}

/// A return or direct jump: has a copy that means the same, and nothing follows.
pub(crate) fn is_movable_end(insn: &Insn) -> bool {
    matches!(insn.flow, Flow::Return | Flow::Jump(_))
}

/// The choice that overwrites the instructions `range`, if it is one.
fn window(body: &Body, site: usize, range: Range<usize>, kind: Kind, entries: &[u64]) -> Option<Choice> {
    let insns = body.get(range.clone());
    let (head, rest) = insns.split_first()?;
    let end = insns.last()?.end();
    let overwritten = head.addr..end;
    let len = end.checked_sub(head.addr)?;
    if len < JUMP_LEN || len > Code::MAX as u64 {
        return None;
    }
    let interiors: Vec<_> = rest.iter().map(|insn| insn.addr).collect();
    let is_entered =
        |address: &u64| body.targets.binary_search(address).is_ok() || entries.binary_search(address).is_ok();
    if interiors.iter().any(is_entered) || (!interiors.is_empty() && body.function.has_landing_pads) {
        return None;
    }
    // Another reading of the same bytes: not proven.
    let run = body.get(range.start..range.end.max(site + 1));
    if run.iter().any(|insn| body.has_target_in(insn.addr.saturating_add(1)..insn.end())) {
        return None;
    }
    let site_insn = body.insns.get(site)?;
    let covers_site = range.contains(&site);
    // Whoever jumps between the patch and the site runs the original and traps.
    let is_partial = !covers_site && {
        let behind = overwritten.start.checked_add(1)?..site_insn.end();
        body.has_target_in(behind.clone())
            || entries
                .get(entries.partition_point(|entry| *entry < behind.start))
                .is_some_and(|entry| behind.contains(entry))
    };
    let is_number = range.len() == 1 && head.is_number.is_some() && kind == Kind::Syscall;
    let rank = match (covers_site, range.start == site, is_partial, interiors.is_empty()) {
        (false, _, false, true) => RANK_CERTAIN,
        (true, true, ..) => RANK_HOLE + 1,
        (false, _, false, false) => RANK_HOLE + 2,
        (false, _, true, true) => RANK_HOLE + 3,
        (false, _, true, false) => RANK_HOLE + 4,
        (true, false, ..) => RANK_HOLE + 5,
    };
    let after_end = if covers_site { range.end } else { site + 1 };
    Some(Choice {
        tier: if is_number { 1 } else { 3 },
        overwritten,
        before: range.start..site,
        after: site + 1..after_end,
        hole: None,
        interiors,
        rank,
    })
}
