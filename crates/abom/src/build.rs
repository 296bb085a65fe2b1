//! From a file to its plan.

use crate::decode::{Body, Budget};
use crate::elf::Elf;
use crate::emit::{Emitter, Job};
use crate::functions::Functions;
use crate::plan::{Kind, Limits, Obstacle, PAGE, Plan, PlanError, Site, Stats};
use crate::prove::{Proofs, Proven};
use crate::select::{self, Choice};
use crate::{discover, holes, names, references, scan, verify};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

/// One in so many occurrences without a function makes the search for more functions worth its time.
const UNPROVEN_SHARE: usize = 32;

/// Analyses an ELF file (all its bytes) and says how to turn its sites into jumps.
///
/// Pure and deterministic: the same bytes give the same plan. The plan has passed [`verify`].
///
/// # Errors
/// When the file is no x86-64 executable or shared object, when no loader would accept its layout, when a limit is
/// exceeded, or when verification fails, which is a bug here. Nothing in the file makes this panic.
pub fn plan(file: &[u8], limits: &Limits) -> Result<Plan, PlanError> {
    let elf = Elf::parse(file, limits)?;
    let mut plan = empty_plan(&elf)?;
    let occurrences = scan::occurrences(&elf, limits)?;
    if occurrences.is_empty() {
        return Ok(plan);
    }
    let mut functions = Functions::collect(&elf, limits)?;
    let text_len = elf.text().map(|text| text.bytes.len() as u64).sum();
    let mut budget = Budget::new(text_len);
    let mut proofs = Proofs::collect(&elf, &functions, &occurrences, &mut budget);
    // Calls are followed only where it pays: a few left are data or stray bytes.
    let unproven = usize::try_from(proofs.stats.unproven).unwrap_or(usize::MAX);
    let is_sparse = unproven.saturating_mul(UNPROVEN_SHARE) > occurrences.len();
    if is_sparse && discover::by_calls(&elf, &mut functions, limits) > 0 {
        proofs = Proofs::collect(&elf, &functions, &occurrences, &mut budget);
    }
    plan.stats = proofs.stats;
    let choices = choices(&elf, &functions, &proofs, &mut budget);
    assemble(&elf, &proofs, &choices, &mut plan);
    names::resolve(&elf, &functions, &mut plan.sites);
    verify::verify_parsed(&elf, &plan).map_err(PlanError::Verify)?;
    Ok(plan)
}

fn empty_plan(elf: &Elf<'_>) -> Result<Plan, PlanError> {
    let span = elf.span();
    let slot_vaddr = span.end;
    let file_len = elf.file.len() as u64;
    Ok(Plan {
        stub_vaddr: slot_vaddr.checked_add(PAGE).ok_or(PlanError::Layout)?,
        slot_vaddr,
        span,
        patches: Vec::new(),
        stubs: Vec::new(),
        stub_file_offset: file_len.checked_next_multiple_of(PAGE).ok_or(PlanError::TooLarge)?,
        moved: Vec::new(),
        sites: Vec::new(),
        stats: Stats::default(),
    })
}

/// The admissible rewrites of each site, best first.
fn choices(elf: &Elf<'_>, functions: &Functions, proofs: &Proofs, budget: &mut Budget) -> Vec<Vec<Choice>> {
    let mut all: Vec<_> = proofs.sites.iter().map(|site| site_choices(elf, functions, proofs, site, budget)).collect();
    let doubtful = |choices: &&Vec<Choice>| !choices.first().is_some_and(select::is_certain);
    let questions = all.iter().filter(doubtful).flatten().flat_map(|choice| choice.interiors.iter().copied());
    let referenced = references::referenced(elf, functions, questions.collect(), budget);
    for choices in &mut all {
        let is_certain = choices.first().is_some_and(select::is_certain);
        choices.retain(|choice| match choice.interiors.as_slice() {
            [] => true,
            // Not asked about.
            _ if is_certain => false,
            interiors => interiors.iter().all(|interior| referenced.binary_search(interior).is_err()),
        });
    }
    all
}

fn site_choices(
    elf: &Elf<'_>,
    functions: &Functions,
    proofs: &Proofs,
    site: &Proven,
    budget: &mut Budget,
) -> Vec<Choice> {
    let Some(body) = proofs.bodies.get(site.body) else { return Vec::new() };
    let Some(insn) = body.insns.get(site.insn).filter(|_| site.obstacle.is_none()) else { return Vec::new() };
    let range = body.function.start..body.function.end;
    let entries = functions.starts_in(range);
    let mut found = select::choices(body, site.insn, site.kind, entries);
    if !found.first().is_some_and(select::is_certain) {
        let holes = holes::near(elf, functions, body, site.vaddr, budget);
        found.extend(holes.into_iter().filter_map(|hole| select::by_hole(insn, site.insn, hole)));
        select::sort(&mut found);
    }
    found
}

/// Takes the first rewrite of each site that does not get in another's way, in the order of addresses.
fn assemble(elf: &Elf<'_>, proofs: &Proofs, choices: &[Vec<Choice>], plan: &mut Plan) {
    let emitter = Emitter {
        stub_vaddr: plan.stub_vaddr,
        slot_vaddr: plan.slot_vaddr,
        stubs: Vec::new(),
        moved: Vec::new(),
        patches: Vec::new(),
    };
    let mut assembly = Assembly { emitter, taken: Taken::default() };
    for (proven, choices) in proofs.sites.iter().zip(choices) {
        let Some(body) = proofs.bodies.get(proven.body) else { continue };
        let site = match assembly.rewrite(elf, body, proven, choices) {
            Some(site) => site,
            None => {
                let obstacle = if choices.is_empty() { Obstacle::NoRoom } else { Obstacle::Taken };
                unpatched(body, proven, proven.obstacle.unwrap_or(obstacle))
            }
        };
        let counts = match site.kind {
            Kind::Syscall => &mut plan.stats.syscall,
            Kind::Cpuid => &mut plan.stats.cpuid,
        };
        if let Some(count) = counts.get_mut(usize::from(site.tier.saturating_sub(1))) {
            *count += 1;
        }
        plan.sites.push(site);
    }
    let mut emitter = assembly.emitter;
    emitter.patches.sort_by_key(|patch| patch.vaddr);
    plan.patches = emitter.patches;
    plan.stubs = emitter.stubs;
    plan.moved = emitter.moved;
}

/// What has been rewritten so far.
struct Assembly {
    emitter: Emitter,
    taken: Taken,
}

impl Assembly {
    fn rewrite(&mut self, elf: &Elf<'_>, body: &Body, proven: &Proven, choices: &[Choice]) -> Option<Site> {
        let insn = body.insns.get(proven.insn)?;
        let text = elf.text_at(proven.vaddr)?;
        for choice in choices {
            if !self.taken.is_free(choice) {
                continue;
            }
            let before = body.get(choice.before.clone());
            let after = body.get(choice.after.clone());
            let stub_start = self.emitter.here();
            let job = Job { site: insn, kind: proven.kind, choice, before, after, text };
            if self.emitter.emit(&job).is_none() {
                continue;
            }
            self.taken.take(choice);
            return Some(Site {
                tier: choice.tier,
                window_start: choice.overwritten.start,
                window_end: choice.overwritten.end.max(insn.end()),
                stub_start,
                stub_end: self.emitter.here(),
                ..unpatched(body, proven, Obstacle::NoRoom)
            })
            .map(|site| Site { obstacle: None, ..site });
        }
        None
    }
}

fn unpatched(body: &Body, proven: &Proven, obstacle: Obstacle) -> Site {
    let end = body.insns.get(proven.insn).map_or(proven.vaddr, |insn| insn.end());
    Site {
        kind: proven.kind,
        obstacle: Some(obstacle),
        window_end: end,
        ..Site::unpatched(proven.vaddr, body.function.start, body.function.source)
    }
}

/// Overwritten ranges, by start.
#[derive(Default)]
struct Taken {
    ranges: BTreeMap<u64, u64>,
}

impl Taken {
    fn is_free(&self, choice: &Choice) -> bool {
        let hole = choice.hole.map(|hole| hole..hole.saturating_add(select::JUMP_LEN));
        self.is_range_free(&choice.overwritten) && hole.is_none_or(|hole| self.is_range_free(&hole))
    }

    fn is_range_free(&self, range: &Range<u64>) -> bool {
        self.ranges.range(..range.end).next_back().is_none_or(|(_, end)| *end <= range.start)
    }

    fn take(&mut self, choice: &Choice) {
        self.ranges.insert(choice.overwritten.start, choice.overwritten.end);
        if let Some(hole) = choice.hole {
            self.ranges.insert(hole, hole.saturating_add(select::JUMP_LEN));
        }
    }
}
