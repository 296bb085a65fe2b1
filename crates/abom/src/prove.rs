//! Proves which occurrences are instructions: by decoding forward from the start of their function.

use crate::decode::{Body, Budget, Flow};
use crate::elf::Elf;
use crate::functions::{Function, Functions};
use crate::plan::{Kind, Obstacle, Source, Stats};
use crate::scan;
use alloc::vec::Vec;

/// `rt_sigreturn`.
const SIGNAL_RETURN: u32 = 15;

/// A proven site.
pub(crate) struct Proven {
    pub(crate) vaddr: u64,
    pub(crate) kind: Kind,
    /// Index of its function in [`Proofs::bodies`].
    pub(crate) body: usize,
    /// Index of its instruction in the function.
    pub(crate) insn: usize,
    /// Set if it must stay as it is.
    pub(crate) obstacle: Option<Obstacle>,
}

/// What decoding found out about all occurrences.
pub(crate) struct Proofs {
    pub(crate) sites: Vec<Proven>,
    pub(crate) bodies: Vec<Body>,
    pub(crate) stats: Stats,
}

impl Proofs {
    /// Decodes each function that holds an occurrence, once.
    pub(crate) fn collect(elf: &Elf<'_>, functions: &Functions, occurrences: &[u64], budget: &mut Budget) -> Self {
        let mut proofs = Self { sites: Vec::new(), bodies: Vec::new(), stats: Stats::default() };
        for vaddr in occurrences {
            match proofs.examine(elf, functions, *vaddr, budget) {
                Some(Verdict::Site(site)) => proofs.sites.push(site),
                Some(Verdict::Embedded) => proofs.stats.embedded += 1,
                None => proofs.stats.unproven += 1,
            }
        }
        proofs
    }

    fn examine(&mut self, elf: &Elf<'_>, functions: &Functions, vaddr: u64, budget: &mut Budget) -> Option<Verdict> {
        let mut covering = functions.covering(vaddr);
        if covering.is_empty() {
            covering.extend(functions.running_into(elf, vaddr));
        }
        let (function, others) = covering.split_first()?;
        let index = self.body(elf, function, budget)?;
        let body = self.bodies.get(index)?;
        // Another function that covers the occurrence must see the same instructions.
        let disagrees = |other: &Function| other.start > function.start && body.index_of(other.start).is_none();
        if others.iter().any(disagrees) {
            return None;
        }
        let index_in_body = body.index_covering(vaddr)?;
        let insn = body.insns.get(index_in_body)?;
        let Flow::Site(kind) = insn.flow else { return Some(Verdict::Embedded) };
        if !body.is_proven(index_in_body) {
            return None;
        }
        let mut site = Proven { vaddr, kind, body: index, insn: index_in_body, obstacle: None };
        if insn.len != 2 {
            site.obstacle = Some(Obstacle::Prefixed);
        } else if body.has_target_in(vaddr.saturating_add(1)..insn.end()) {
            site.obstacle = Some(Obstacle::Overlap);
        } else if is_signal_return(body, index_in_body) && kind == Kind::Syscall {
            site.obstacle = Some(Obstacle::SignalReturn);
        }
        let bytes = elf.text_at(vaddr)?.slice(&(vaddr..vaddr.checked_add(2)?))?;
        if scan::kind_of(bytes.try_into().ok()?) != Some(kind) {
            return Some(Verdict::Embedded);
        }
        Some(Verdict::Site(site))
    }

    /// Index of the decoded function. Occurrences ascend, so it is the last one if it is there.
    fn body(&mut self, elf: &Elf<'_>, function: &Function, budget: &mut Budget) -> Option<usize> {
        if self.bodies.last().is_none_or(|last| last.function != *function) {
            self.bodies.push(Body::decode(elf, function, budget)?);
        }
        self.bodies.len().checked_sub(1)
    }
}

enum Verdict {
    Site(Proven),
    Embedded,
}

/// `mov $15,%eax; syscall` in a function without unwind information: unwinders compare these bytes.
fn is_signal_return(body: &Body, site: usize) -> bool {
    let has_frame = !matches!(body.function.source, Source::Symbol | Source::OpenSymbol);
    let before = site.checked_sub(1).and_then(|index| body.insns.get(index));
    !has_frame && before.is_some_and(|insn| insn.is_number == Some(SIGNAL_RETURN))
}
