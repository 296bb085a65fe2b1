//! Linear decoding of one function, and what may be said about each instruction.

use crate::elf::Elf;
use crate::functions::Function;
use crate::plan::Kind;
use alloc::vec::Vec;
use core::ops::Range;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// Where control goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// To the next one.
    Next,
    /// To the target.
    Jump(u64),
    /// To the target or the next one.
    Branch(u64),
    /// To a function and, most likely, back.
    Call,
    /// Through a register or memory.
    Indirect,
    /// To the caller.
    Return,
    /// Nowhere: it faults.
    Stop,
    /// Into the kernel or the processor's identification.
    Site(Kind),
    /// Interrupts and transactions.
    Other,
}

/// One instruction of a decoded function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Insn {
    pub(crate) addr: u64,
    pub(crate) len: u8,
    pub(crate) flow: Flow,
    /// Means the same at another address, given a corrected displacement.
    pub(crate) is_movable: bool,
    /// `nop` or `int3`.
    pub(crate) is_padding: bool,
    /// `mov $imm,%eax` or `mov $imm,%rax`.
    pub(crate) is_number: Option<u32>,
}

impl Insn {
    pub(crate) fn end(&self) -> u64 {
        self.addr.saturating_add(u64::from(self.len))
    }
}

/// A function's instructions up to its end, or to the first bytes that are none.
pub(crate) struct Body {
    pub(crate) function: Function,
    pub(crate) insns: Vec<Insn>,
    /// Targets of direct branches, sorted.
    pub(crate) targets: Vec<u64>,
    /// Decoding ended exactly at the function's end.
    pub(crate) is_complete: bool,
}

impl Body {
    /// Decodes `function`; `None` when its bytes are not there or the budget is used up.
    pub(crate) fn decode(elf: &Elf<'_>, function: &Function, budget: &mut Budget) -> Option<Self> {
        let range = function.start..function.end;
        let bytes = elf.text_at(range.start)?.slice(&range)?;
        budget.spend(bytes.len())?;
        let mut insns = Vec::with_capacity(bytes.len() / 4);
        let mut targets = Vec::new();
        let mut decoder = decoder(bytes, range.start);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                break;
            }
            let insn = classify(&decoder, &instruction);
            targets.extend(direct_target(&instruction));
            insns.push(insn);
        }
        targets.sort_unstable();
        targets.dedup();
        let is_complete = insns.last().is_some_and(|last| last.end() == range.end);
        Some(Self { function: *function, insns, targets, is_complete })
    }

    /// Index of the instruction that starts at `addr`.
    pub(crate) fn index_of(&self, addr: u64) -> Option<usize> {
        self.insns.binary_search_by_key(&addr, |insn| insn.addr).ok()
    }

    /// The instruction that covers `addr`, wherever it starts.
    pub(crate) fn covering(&self, addr: u64) -> Option<&Insn> {
        let after = self.insns.partition_point(|insn| insn.addr <= addr);
        self.insns.get(after.checked_sub(1)?).filter(|insn| addr < insn.end())
    }

    /// Whether a direct branch of the function goes to an address in `range`.
    pub(crate) fn has_target_in(&self, range: Range<u64>) -> bool {
        let first = self.targets.partition_point(|target| *target < range.start);
        self.targets.get(first).is_some_and(|target| *target < range.end)
    }

    /// The instructions in `range` of indices.
    pub(crate) fn get(&self, range: Range<usize>) -> &[Insn] {
        self.insns.get(range).unwrap_or_default()
    }
}

/// How many bytes may still be decoded for a file.
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    /// Enough to decode `text` bytes a few times over.
    pub(crate) fn new(text: u64) -> Self {
        Self { left: text.saturating_mul(4).saturating_add(1 << 20) }
    }

    fn spend(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes as u64)?;
        Some(())
    }
}

/// A decoder of 64-bit code at `vaddr`.
pub(crate) fn decoder(bytes: &[u8], vaddr: u64) -> Decoder<'_> {
    Decoder::with_ip(64, bytes, vaddr, DecoderOptions::NONE)
}

/// The target of a direct branch or call.
fn direct_target(instruction: &Instruction) -> Option<u64> {
    matches!(instruction.op0_kind(), OpKind::NearBranch64).then(|| instruction.near_branch64())
}

/// Describes a decoded instruction; `decoder` has just decoded it.
pub(crate) fn classify(decoder: &Decoder<'_>, instruction: &Instruction) -> Insn {
    let flow = flow(instruction);
    let is_ip_relative = instruction.is_ip_rel_memory_operand();
    let is_relocatable = !is_ip_relative
        || (instruction.memory_base() == Register::RIP
            && decoder.get_constant_offsets(instruction).displacement_size() == 4);
    let is_landing = matches!(instruction.code(), Code::Endbr64 | Code::Endbr32);
    // A load of SS holds off interrupts for one instruction; nobody does that here, so it need not move.
    let loads_segment = instruction.mnemonic() == Mnemonic::Mov && instruction.op0_register().is_segment_register();
    let is_padding = matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3);
    let number = matches!(instruction.code(), Code::Mov_r32_imm32 | Code::Mov_rm64_imm32)
        && matches!(instruction.op0_register(), Register::EAX | Register::RAX);
    Insn {
        addr: instruction.ip(),
        len: u8::try_from(instruction.len()).unwrap_or(0),
        flow,
        is_movable: flow == Flow::Next && is_relocatable && !is_landing && !loads_segment,
        is_padding,
        is_number: number.then(|| instruction.immediate32()),
    }
}

fn flow(instruction: &Instruction) -> Flow {
    match instruction.code() {
        Code::Syscall => return Flow::Site(Kind::Syscall),
        Code::Cpuid => return Flow::Site(Kind::Cpuid),
        Code::Int3 | Code::Hlt => return Flow::Stop,
        _ => {}
    }
    match (instruction.flow_control(), direct_target(instruction)) {
        (FlowControl::Next, _) => Flow::Next,
        (FlowControl::UnconditionalBranch, Some(target)) => Flow::Jump(target),
        (FlowControl::ConditionalBranch, Some(target)) => Flow::Branch(target),
        (FlowControl::IndirectBranch, _) => Flow::Indirect,
        (FlowControl::Return, _) => Flow::Return,
        (FlowControl::Call | FlowControl::IndirectCall, _) => Flow::Call,
        (FlowControl::Exception, _) => Flow::Stop,
        _ => Flow::Other,
    }
}
