//! Checks a plan against its file by decoding what the patched code executes.
//!
//! Uses nothing of how the plan was made: for each site it walks the original instructions from the start of the
//! patch through the site, walks the patched bytes from the same address through every jump, and compares.

use crate::decode::decoder;
use crate::elf::Elf;
use crate::plan::{Kind, Limits, Moved, MovedKind, PAGE, Patch, Plan, PlanError, Site, VerifyError};
use alloc::vec::Vec;
use iced_x86::{Code, Instruction, OpKind, Register};

/// Most instructions that one site moves, with room.
const MAX_STEPS: usize = 32;
const MAX_INSN: u64 = 15;

/// Checks that `plan` keeps the meaning of `file`.
///
/// # Errors
/// [`PlanError::Verify`] with the first thing found wrong; [`PlanError`]'s other kinds for a file that has no plan.
pub fn verify(file: &[u8], plan: &Plan) -> Result<(), PlanError> {
    let elf = Elf::parse(file, &Limits { max_file_len: u64::MAX, ..Limits::default() })?;
    verify_parsed(&elf, plan).map_err(PlanError::Verify)
}

pub(crate) fn verify_parsed(elf: &Elf<'_>, plan: &Plan) -> Result<(), VerifyError> {
    check_layout(elf, plan)?;
    check_patches(elf, plan)?;
    let checker = Checker { elf, plan };
    let mut used = Vec::with_capacity(plan.patches.len());
    let mut stub_end = plan.stub_vaddr;
    let mut last_window = 0;
    for site in &plan.sites {
        if site.window_start < last_window || site.window_start > site.vaddr || site.window_end < site.vaddr + 2 {
            return Err(VerifyError::Site(site.vaddr));
        }
        last_window = site.window_end;
        checker.check_instruction(site)?;
        if site.tier == 4 {
            checker.check_untouched(site)?;
            continue;
        }
        if site.stub_start != stub_end || site.stub_end <= site.stub_start {
            return Err(VerifyError::Site(site.vaddr));
        }
        stub_end = site.stub_end;
        checker.check_patched(site, &mut used)?;
    }
    used.sort_unstable();
    let patches = plan.patches.iter().map(|patch| patch.vaddr);
    if let Some(stray) = plan.patches.iter().find(|patch| used.binary_search(&patch.vaddr).is_err()) {
        return Err(VerifyError::Patch(stray.vaddr));
    }
    let is_once = patches.eq(used.iter().copied());
    let covers_stubs = stub_end == plan.stub_vaddr.saturating_add(plan.stubs.len() as u64);
    if is_once && covers_stubs { Ok(()) } else { Err(VerifyError::Layout) }
}

fn check_layout(elf: &Elf<'_>, plan: &Plan) -> Result<(), VerifyError> {
    let is_laid_out = plan.span == elf.span()
        && plan.slot_vaddr == plan.span.end
        && Some(plan.stub_vaddr) == plan.slot_vaddr.checked_add(PAGE)
        && Some(plan.stub_file_offset) == (elf.file.len() as u64).checked_next_multiple_of(PAGE);
    if is_laid_out { Ok(()) } else { Err(VerifyError::Layout) }
}

/// Patches are sorted, disjoint, in text, and at the offsets that belong to their addresses.
pub(crate) fn check_patches(elf: &Elf<'_>, plan: &Plan) -> Result<(), VerifyError> {
    let mut last_end = 0;
    for patch in &plan.patches {
        let range = patch.range();
        let text = elf.text_at(range.start).filter(|text| range.end <= text.file_end());
        let offset = text.and_then(|text| text.offset.checked_add(range.start - text.vaddr));
        if range.start < last_end || patch.bytes.is_empty() || offset != Some(patch.offset) {
            return Err(VerifyError::Patch(patch.vaddr));
        }
        last_end = range.end;
    }
    Ok(())
}

struct Checker<'a, 'f> {
    elf: &'a Elf<'f>,
    plan: &'a Plan,
}

impl Checker<'_, '_> {
    fn patch_at(&self, vaddr: u64) -> Option<&Patch> {
        let index = self.plan.patches.binary_search_by_key(&vaddr, |patch| patch.vaddr).ok()?;
        self.plan.patches.get(index)
    }

    fn original(&self, vaddr: u64) -> Option<Instruction> {
        let text = self.elf.text_at(vaddr)?;
        decode(text.slice(&(vaddr..vaddr.saturating_add(MAX_INSN).min(text.file_end())))?, vaddr)
    }

    /// The instruction that runs at `vaddr` in the patched image.
    fn patched(&self, vaddr: u64) -> Option<Instruction> {
        if let Some(offset) = vaddr.checked_sub(self.plan.stub_vaddr) {
            return decode(self.plan.stubs.get(usize::try_from(offset).ok()?..)?, vaddr);
        }
        let text = self.elf.text_at(vaddr)?;
        let end = vaddr.saturating_add(MAX_INSN).min(text.file_end());
        let mut bytes = text.slice(&(vaddr..end))?.to_vec();
        let first = self.plan.patches.partition_point(|patch| patch.range().end <= vaddr);
        for patch in self.plan.patches.get(first..)?.iter().take_while(|patch| patch.vaddr < end) {
            for (at, byte) in (patch.vaddr..).zip(patch.bytes.iter()) {
                let index = at.checked_sub(vaddr).and_then(|index| usize::try_from(index).ok());
                if let Some(place) = index.and_then(|index| bytes.get_mut(index)) {
                    *place = *byte;
                }
            }
        }
        decode(&bytes, vaddr)
    }

    fn check_instruction(&self, site: &Site) -> Result<(), VerifyError> {
        let code = self.original(site.vaddr).map(|instruction| instruction.code());
        let expected = match site.kind {
            Kind::Syscall => Code::Syscall,
            Kind::Cpuid => Code::Cpuid,
        };
        if code == Some(expected) && (1..=4).contains(&site.tier) { Ok(()) } else { Err(VerifyError::Site(site.vaddr)) }
    }

    fn check_untouched(&self, site: &Site) -> Result<(), VerifyError> {
        let first = self.plan.patches.partition_point(|patch| patch.range().end <= site.vaddr);
        let touched = self.plan.patches.get(first).is_some_and(|patch| patch.vaddr < site.vaddr + 2);
        if touched { Err(VerifyError::Site(site.vaddr)) } else { Ok(()) }
    }

    /// Checks a site of tiers 1 to 3 and notes its patches.
    fn check_patched(&self, site: &Site, used: &mut Vec<u64>) -> Result<(), VerifyError> {
        let behaviour = || VerifyError::Behaviour(site.vaddr);
        let patch = self.patch_at(site.window_start).ok_or(VerifyError::Site(site.vaddr))?;
        used.push(patch.vaddr);
        let mut target = self.jump(patch.vaddr).ok_or_else(behaviour)?;
        if patch.bytes.len() == 2 {
            let hole = self.patch_at(target).filter(|hole| self.is_padding(hole)).ok_or_else(behaviour)?;
            used.push(hole.vaddr);
            target = self.jump(hole.vaddr).ok_or_else(behaviour)?;
        }
        if target != site.stub_start {
            return Err(behaviour());
        }
        let mut walk = Walk { checker: self, site, stub: target, text: site.window_start };
        let overwritten_end = walk.run(patch.range().end).ok_or_else(behaviour)?;
        // What is overwritten must be whole instructions, all of them walked.
        if overwritten_end != patch.range().end || site.window_end != overwritten_end.max(site.vaddr + 2) {
            return Err(behaviour());
        }
        walk.check_moved().ok_or(VerifyError::Moved(site.vaddr))
    }

    /// Target of the direct jump that the patched image executes at `vaddr`.
    fn jump(&self, vaddr: u64) -> Option<u64> {
        let instruction = self.patched(vaddr)?;
        matches!(instruction.code(), Code::Jmp_rel8_64 | Code::Jmp_rel32_64).then(|| instruction.near_branch64())
    }

    /// Whether the original bytes under a patch are padding; the last no-op may reach further.
    fn is_padding(&self, patch: &Patch) -> bool {
        let range = patch.range();
        let mut bytes = self.elf.text_at(range.start).and_then(|text| text.slice(&range)).unwrap_or_default();
        if bytes.iter().all(|byte| *byte == 0xcc) {
            return true;
        }
        // The patch may start inside a long no-op; its bytes are then zeros and parts of the encoding.
        while let Some((first, rest)) = bytes.split_first() {
            if !matches!(first, 0x90 | 0x66 | 0x2e | 0x0f | 0x1f | 0x00 | 0x40 | 0x44 | 0x80 | 0x84 | 0xcc) {
                return false;
            }
            bytes = rest;
        }
        true
    }
}

/// The two streams of instructions, side by side.
struct Walk<'a> {
    checker: &'a Checker<'a, 'a>,
    site: &'a Site,
    stub: u64,
    text: u64,
}

impl Walk<'_> {
    fn original(&mut self) -> Option<Instruction> {
        let instruction = self.checker.original(self.text)?;
        self.text = instruction.next_ip();
        Some(instruction)
    }

    fn stub(&mut self) -> Option<Instruction> {
        if self.stub >= self.site.stub_end {
            return None;
        }
        let instruction = self.checker.patched(self.stub)?;
        self.stub = instruction.next_ip();
        Some(instruction)
    }

    /// Compares everything that belongs to the site; returns where the overwritten instructions end.
    fn run(&mut self, patch_end: u64) -> Option<u64> {
        let mut boundary = None;
        for _ in 0..MAX_STEPS {
            boundary = boundary.or((self.text == patch_end).then_some(patch_end));
            if self.text == self.site.vaddr {
                break;
            }
            let (original, copy) = (self.original()?, self.stub()?);
            is_same(&original, &copy).then_some(())?;
        }
        (self.text == self.site.vaddr).then_some(())?;
        self.text = self.original()?.next_ip();
        let resume = self.enter()?;
        if resume == self.text {
            // The call returns into text: nothing behind the site may be overwritten.
            let is_whole = self.stub == self.site.stub_end && self.text >= patch_end;
            let boundary = boundary.or((self.text == patch_end).then_some(patch_end));
            return boundary.filter(|_| is_whole);
        }
        (resume == self.stub).then_some(())?;
        self.leave(patch_end)
    }

    /// `lea` of the return address and the jump through the slot.
    fn enter(&mut self) -> Option<u64> {
        let (register, kind) = match self.site.kind {
            Kind::Syscall => (Register::RCX, Kind::Syscall),
            Kind::Cpuid => (Register::RDX, Kind::Cpuid),
        };
        let lea = self.stub()?;
        let jump = self.stub()?;
        let slot = self.checker.plan.slot_vaddr.checked_add(kind.slot_offset())?;
        let is_jump = jump.code() == Code::Jmp_rm64
            && jump.is_ip_rel_memory_operand()
            && jump.ip_rel_memory_address() == slot
            && jump.segment_prefix() == Register::None;
        load_address(&lea, register).filter(|_| is_jump)
    }

    /// The instructions after the call.
    fn leave(&mut self, patch_end: u64) -> Option<u64> {
        if self.site.kind == Kind::Syscall {
            let restore = self.stub()?;
            (load_address(&restore, Register::RCX)? == self.text).then_some(())?;
        }
        for _ in 0..MAX_STEPS {
            let copy = self.stub()?;
            if self.text == patch_end {
                let is_back = copy.code() == Code::Jmp_rel32_64 && copy.near_branch64() == patch_end;
                return (is_back && self.stub == self.site.stub_end).then_some(patch_end);
            }
            let original = self.original()?;
            if let Some(target) = direct_jump(&original) {
                let is_end = direct_jump(&copy) == Some(target) && self.stub == self.site.stub_end;
                return is_end.then(|| self.skip_padding(patch_end))?;
            }
            is_same(&original, &copy).then_some(())?;
            if original.flow_control() == iced_x86::FlowControl::Return {
                return (self.stub == self.site.stub_end).then(|| self.skip_padding(patch_end))?;
            }
        }
        None
    }

    /// Padding behind a return or jump, up to the end of the patch.
    fn skip_padding(&mut self, patch_end: u64) -> Option<u64> {
        for _ in 0..MAX_STEPS {
            if self.text >= patch_end {
                break;
            }
            let original = self.original()?;
            matches!(original.mnemonic(), iced_x86::Mnemonic::Nop | iced_x86::Mnemonic::Int3).then_some(())?;
        }
        (self.text == patch_end).then_some(patch_end)
    }

    /// The table must describe the stub without gaps, at instruction boundaries, in the order of the text.
    fn check_moved(&self) -> Option<()> {
        let plan = self.checker.plan;
        let first = plan.moved.partition_point(|moved| moved.stub_start < self.site.stub_start);
        let pieces = plan.moved.get(first..)?.iter().take_while(|moved| moved.stub_start < self.site.stub_end);
        let mut at = self.site.stub_start;
        let mut text = self.site.window_start;
        for moved in pieces {
            (moved.stub_start == at && moved.stub_end <= self.site.stub_end).then_some(())?;
            self.check_piece(moved, &mut text)?;
            at = moved.stub_end;
        }
        (at == self.site.stub_end).then_some(())
    }

    fn check_piece(&self, moved: &Moved, text: &mut u64) -> Option<()> {
        let instruction = self.checker.patched(moved.stub_start)?;
        match moved.kind {
            MovedKind::Copy | MovedKind::Enter => {
                let is_site = moved.original == self.site.vaddr;
                (moved.original == *text && is_site == (moved.kind == MovedKind::Enter)).then_some(())?;
                *text = self.checker.original(*text)?.next_ip();
            }
            MovedKind::Restore | MovedKind::Leave => (moved.original == *text).then_some(())?,
        }
        let end = if moved.kind == MovedKind::Enter { 13 } else { instruction.len() as u64 };
        (moved.stub_end.checked_sub(moved.stub_start)? == end).then_some(())
    }
}

fn decode(bytes: &[u8], vaddr: u64) -> Option<Instruction> {
    let mut decoder = decoder(bytes, vaddr);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

fn direct_jump(instruction: &Instruction) -> Option<u64> {
    matches!(instruction.code(), Code::Jmp_rel8_64 | Code::Jmp_rel32_64).then(|| instruction.near_branch64())
}

fn load_address(instruction: &Instruction, register: Register) -> Option<u64> {
    let is_lea = instruction.code() == Code::Lea_r64_m
        && instruction.op0_register() == register
        && instruction.is_ip_rel_memory_operand();
    is_lea.then(|| instruction.ip_rel_memory_address())
}

/// Whether two instructions at different addresses mean the same. iced compares
/// instructions without their address and resolves an rip-relative operand to its target; relative branches never count as the same.
fn is_same(original: &Instruction, copy: &Instruction) -> bool {
    let is_branch = original.op0_kind() == OpKind::NearBranch64;
    original == copy && !is_branch
}
