//! More functions, for files that name few: a direct call from a known function shows where another one starts.

use crate::decode::{Body, Budget};
use crate::elf::Elf;
use crate::functions::{Function, Functions};
use crate::plan::{Limits, Source};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Most bytes decoded for this: beyond it, a file that hides its functions keeps some traps.
const MAX_DECODED: u64 = 8 << 20;
/// Longest chain of calls followed.
const MAX_ROUNDS: usize = 32;

/// Adds the functions that known ones call, and those that these call; returns how many.
pub(crate) fn by_calls(elf: &Elf<'_>, functions: &mut Functions, limits: &Limits) -> usize {
    let mut budget = Budget::exactly(MAX_DECODED);
    let mut known: BTreeSet<_> = functions.all().iter().map(|function| function.start).collect();
    let before = known.len();
    if elf.text_at(elf.entry).is_some() && known.insert(elf.entry) {
        functions.add_starts(elf, &[elf.entry]);
    }
    let mut round: Vec<Function> = functions.all().to_vec();
    for _ in 0..MAX_ROUNDS {
        if round.is_empty() {
            break;
        }
        let mut starts = Vec::new();
        for function in &round {
            let Some(body) = Body::decode(elf, function, &mut budget) else { continue };
            let outside = body.targets.iter().filter(|target| !(function.start..function.end).contains(target));
            let new = outside.filter(|target| may_start(elf, functions, **target) && known.insert(**target));
            starts.extend(new.copied());
        }
        if known.len() > limits.max_functions {
            break;
        }
        functions.add_starts(elf, &starts);
        let added = |start: &u64| functions.starting_in(*start..start.saturating_add(1)).first().copied();
        round = starts.iter().filter_map(added).collect();
    }
    known.len() - before
}

/// Whether a function may start there: in text, not inside one whose end is known.
fn may_start(elf: &Elf<'_>, functions: &Functions, vaddr: u64) -> bool {
    let is_inside =
        |function: &Function| function.start < vaddr && !function.is_open && function.source != Source::Call;
    elf.text_at(vaddr).is_some() && !functions.covering(vaddr).iter().any(is_inside)
}
