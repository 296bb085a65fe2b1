//! Writes stubs and patches for the chosen rewrites.

use crate::decode::{Flow, Insn, decoder};
use crate::elf::Segment;
use crate::plan::{Code, Kind, Moved, MovedKind, Patch};
use crate::select::{Choice, is_movable_end};
use alloc::vec::Vec;
use iced_x86::Instruction;

/// The recommended multi-byte no-ops, by length.
const NOPS: [&[u8]; 10] = [
    &[],
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
    &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
];
const MAX_NOP: usize = 9;

/// The growing stub area and the patches into it.
pub(crate) struct Emitter {
    pub(crate) stub_vaddr: u64,
    pub(crate) slot_vaddr: u64,
    pub(crate) stubs: Vec<u8>,
    pub(crate) moved: Vec<Moved>,
    pub(crate) patches: Vec<Patch>,
}

/// A site and what is to be done to it.
pub(crate) struct Job<'a> {
    pub(crate) site: &'a Insn,
    pub(crate) kind: Kind,
    pub(crate) choice: &'a Choice,
    pub(crate) before: &'a [Insn],
    pub(crate) after: &'a [Insn],
    pub(crate) text: &'a Segment<'a>,
}

impl Emitter {
    /// Address of the next stub byte.
    pub(crate) fn here(&self) -> u64 {
        self.stub_vaddr.saturating_add(self.stubs.len() as u64)
    }

    /// Writes the stub and the patches of one site; nothing if something is out of reach.
    pub(crate) fn emit(&mut self, job: &Job<'_>) -> Option<()> {
        let (stubs, moved, patches) = (self.stubs.len(), self.moved.len(), self.patches.len());
        let done = self.try_emit(job);
        if done.is_none() {
            self.stubs.truncate(stubs);
            self.moved.truncate(moved);
            self.patches.truncate(patches);
        }
        done
    }

    fn try_emit(&mut self, job: &Job<'_>) -> Option<()> {
        let stub = self.here();
        self.patch(job, stub)?;
        for insn in job.before {
            self.copy(insn, job.text)?;
        }
        let behind = job.site.end();
        let enter = self.here();
        let has_after = !job.after.is_empty();
        // Two instructions of 7 and 6 bytes lie between here and the code after the call.
        let resume = if has_after { enter.checked_add(13)? } else { behind };
        self.lea(job.kind, resume)?;
        self.push(&[0xff, 0x25]);
        let slot = self.slot_vaddr.checked_add(job.kind.slot_offset())?;
        self.push_relative(slot)?;
        self.record(enter, job.site.addr, MovedKind::Enter);
        if !has_after {
            return Some(());
        }
        if job.kind == Kind::Syscall {
            let start = self.here();
            self.lea(Kind::Syscall, behind)?;
            self.record(start, behind, MovedKind::Restore);
        }
        for insn in job.after {
            self.copy(insn, job.text)?;
            if is_movable_end(insn) {
                return Some(());
            }
        }
        let start = self.here();
        self.push(&[0xe9]);
        self.push_relative(job.choice.overwritten.end)?;
        self.record(start, job.choice.overwritten.end, MovedKind::Leave);
        Some(())
    }

    /// Overwrites the site, and the hole if one is used.
    fn patch(&mut self, job: &Job<'_>, stub: u64) -> Option<()> {
        let overwritten = &job.choice.overwritten;
        let len = usize::try_from(overwritten.end.checked_sub(overwritten.start)?).ok()?;
        let code = match job.choice.hole {
            None => long_jump(overwritten.start, stub, len)?,
            Some(hole) => {
                self.add_patch(job.text, hole, &long_jump(hole, stub, 5)?)?;
                let distance = i8::try_from(hole.wrapping_sub(overwritten.start.checked_add(2)?).cast_signed()).ok()?;
                alloc::vec![0xeb, distance.cast_unsigned()]
            }
        };
        self.add_patch(job.text, overwritten.start, &code)
    }

    fn add_patch(&mut self, text: &Segment<'_>, vaddr: u64, code: &[u8]) -> Option<()> {
        let offset = text.offset.checked_add(vaddr.checked_sub(text.vaddr)?)?;
        self.patches.push(Patch { offset, vaddr, bytes: Code::new(code)? });
        Some(())
    }

    /// Copies an instruction so that it means the same here.
    fn copy(&mut self, insn: &Insn, text: &Segment<'_>) -> Option<()> {
        let start = self.here();
        match insn.flow {
            Flow::Jump(target) => {
                self.push(&[0xe9]);
                self.push_relative(target)?;
            }
            _ => {
                let bytes = text.slice(&(insn.addr..insn.end()))?;
                let code = relocate(bytes, insn.addr, start)?;
                self.push(&code);
            }
        }
        self.record(start, insn.addr, MovedKind::Copy);
        Some(())
    }

    /// Puts an address into the register that carries it for `kind`.
    fn lea(&mut self, kind: Kind, target: u64) -> Option<()> {
        let modrm = match kind {
            Kind::Syscall => 0x0d,
            Kind::Cpuid => 0x15,
        };
        self.push(&[0x48, 0x8d, modrm]);
        self.push_relative(target)
    }

    fn push(&mut self, bytes: &[u8]) {
        self.stubs.extend_from_slice(bytes);
    }

    /// A displacement to `target` that ends an instruction.
    fn push_relative(&mut self, target: u64) -> Option<()> {
        let displacement = displacement(self.here().checked_add(4)?, target)?;
        self.push(&displacement.to_le_bytes());
        Some(())
    }

    fn record(&mut self, start: u64, original: u64, kind: MovedKind) {
        let stub_end = self.here();
        self.moved.push(Moved { stub_start: start, stub_end, original, kind });
    }
}

/// `jmp rel32` from `at`, filled up to `len` with no-ops.
fn long_jump(at: u64, target: u64, len: usize) -> Option<Vec<u8>> {
    let mut code = Vec::with_capacity(len);
    code.push(0xe9);
    code.extend_from_slice(&displacement(at.checked_add(5)?, target)?.to_le_bytes());
    while code.len() < len {
        let fill = (len - code.len()).min(MAX_NOP);
        code.extend_from_slice(NOPS.get(fill)?);
    }
    (code.len() == len).then_some(code)
}

fn displacement(from: u64, to: u64) -> Option<i32> {
    i32::try_from(to.wrapping_sub(from).cast_signed()).ok()
}

/// The bytes of an instruction moved from one address to another: the same but for an rip-relative displacement.
fn relocate(bytes: &[u8], from: u64, to: u64) -> Option<Vec<u8>> {
    let mut decoder = decoder(bytes, from);
    let mut instruction = Instruction::default();
    decoder.decode_out(&mut instruction);
    let mut code = bytes.to_vec();
    if instruction.is_ip_rel_memory_operand() {
        let offsets = decoder.get_constant_offsets(&instruction);
        let start = offsets.displacement_offset();
        let end = to.checked_add(bytes.len() as u64)?;
        let value = displacement(end, instruction.ip_rel_memory_address())?;
        code.get_mut(start..start.checked_add(4)?)?.copy_from_slice(&value.to_le_bytes());
    }
    Some(code)
}
