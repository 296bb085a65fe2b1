//! Linear decoding of one function, and what may be said about each instruction.

use crate::elf::Elf;
use crate::functions::Function;
use crate::plan::Kind;
use alloc::vec::Vec;
use core::ops::Range;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// Most bytes decoded for one file. What is kept of them takes some 12 times as much memory.
const MAX_DECODED: u64 = 24 << 20;
const MAX_RESERVED: usize = 1 << 14;

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

impl Flow {
    /// Whether control does not go on behind the instruction.
    fn ends(self) -> bool {
        matches!(self, Self::Jump(_) | Self::Indirect | Self::Return | Self::Stop | Self::Other)
    }
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
    /// Control may arrive from a table or the unwinder.
    has_hidden_flow: bool,
    /// By instruction: control reaches it from the function's start without an indirect jump.
    is_reached: Vec<bool>,
}

impl Body {
    /// Decodes `function`: all of it if its end is known, else what control reaches. `None` when its bytes are not
    /// there, make no sense, or the budget is used up.
    pub(crate) fn decode(elf: &Elf<'_>, function: &Function, budget: &mut Budget) -> Option<Self> {
        if function.is_open {
            return Self::decode_reachable(elf, function, budget);
        }
        let body = Self::decode_linear(elf, function, budget)?;
        if body.is_complete { Some(body) } else { Self::decode_reachable(elf, function, budget) }
    }

    fn decode_linear(elf: &Elf<'_>, function: &Function, budget: &mut Budget) -> Option<Self> {
        let range = function.start..function.end;
        let bytes = elf.text_at(range.start)?.slice(&range)?;
        budget.spend(bytes.len())?;
        let mut insns = Vec::with_capacity((bytes.len() / 4).min(MAX_RESERVED));
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
        let has_hidden_flow = function.has_landing_pads || insns.iter().any(|insn| insn.flow == Flow::Indirect);
        let is_reached = alloc::vec![false; insns.len()];
        let mut body = Self { function: *function, insns, targets, is_complete, has_hidden_flow, is_reached };
        body.reach();
        Some(body)
    }

    /// Marks what control reaches from the start.
    fn reach(&mut self) {
        let mut pending = alloc::vec![0];
        while let Some(mut index) = pending.pop() {
            while let (Some(insn), Some(mark @ false)) = (self.insns.get(index), self.is_reached.get_mut(index)) {
                *mark = true;
                let flow = insn.flow;
                if let Flow::Jump(target) | Flow::Branch(target) = flow {
                    pending.extend(self.index_of(target));
                }
                if flow.ends() {
                    break;
                }
                index += 1;
            }
        }
    }

    /// Whether the instruction at `index` is one for certain: control reaches it, or the function jumps to where
    /// only a table or the unwinder knows and decodes without a break from its start to its end.
    pub(crate) fn is_proven(&self, index: usize) -> bool {
        let is_reached = self.is_reached.get(index).is_some_and(|is_reached| *is_reached);
        is_reached || (self.is_complete && self.has_hidden_flow)
    }

    /// Decodes only what control reaches from the function's start without an indirect jump: what lies behind a
    /// return may be anything. `None` also if two readings overlap.
    fn decode_reachable(elf: &Elf<'_>, function: &Function, budget: &mut Budget) -> Option<Self> {
        let range = function.start..function.end;
        let bytes = elf.text_at(range.start)?.slice(&range)?;
        let mut flow = Reachable { bytes, start: range.start, lens: alloc::vec![0; bytes.len()], pending: Vec::new() };
        let mut insns = Vec::new();
        let mut targets = Vec::new();
        flow.pending.push(range.start);
        while let Some(at) = flow.pending.pop() {
            flow.run(at, &mut insns, &mut targets, budget)?;
        }
        insns.sort_unstable_by_key(|insn: &Insn| insn.addr);
        targets.sort_unstable();
        targets.dedup();
        let is_disjoint = insns.is_sorted_by(|first, second| first.end() <= second.addr);
        let is_reached = alloc::vec![true; insns.len()];
        is_disjoint.then_some(Self {
            function: *function,
            insns,
            targets,
            is_complete: false,
            has_hidden_flow: false,
            is_reached,
        })
    }

    /// Index of the instruction that starts at `addr`.
    pub(crate) fn index_of(&self, addr: u64) -> Option<usize> {
        self.insns.binary_search_by_key(&addr, |insn| insn.addr).ok()
    }

    /// Index of the instruction that covers `addr`, wherever it starts.
    pub(crate) fn index_covering(&self, addr: u64) -> Option<usize> {
        let index = self.insns.partition_point(|insn| insn.addr <= addr).checked_sub(1)?;
        (addr < self.insns.get(index)?.end()).then_some(index)
    }

    /// The instruction that covers `addr`.
    pub(crate) fn covering(&self, addr: u64) -> Option<&Insn> {
        self.insns.get(self.index_covering(addr)?)
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

/// A walk along the control flow of one function.
struct Reachable<'a> {
    bytes: &'a [u8],
    start: u64,
    /// Length of the instruction that starts at each byte, 0 if none is known.
    lens: Vec<u8>,
    pending: Vec<u64>,
}

impl Reachable<'_> {
    /// Decodes from `at` until control leaves or joins what is known.
    fn run(&mut self, at: u64, insns: &mut Vec<Insn>, targets: &mut Vec<u64>, budget: &mut Budget) -> Option<()> {
        let Some(mut index) = self.index(at) else { return Some(()) };
        let mut decoder = decoder(self.bytes.get(index..)?, at);
        let mut instruction = Instruction::default();
        while decoder.can_decode() && self.lens.get(index) == Some(&0) {
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                break;
            }
            let insn = classify(&decoder, &instruction);
            budget.spend(usize::from(insn.len))?;
            *self.lens.get_mut(index)? = insn.len;
            insns.push(insn);
            index = index.checked_add(usize::from(insn.len))?;
            targets.extend(direct_target(&instruction));
            if let Flow::Jump(target) | Flow::Branch(target) = insn.flow {
                self.pending.push(target);
            }
            if insn.flow.ends() {
                break;
            }
        }
        Some(())
    }

    fn index(&self, at: u64) -> Option<usize> {
        let index = usize::try_from(at.checked_sub(self.start)?).ok()?;
        (self.lens.get(index) == Some(&0)).then_some(index)
    }
}

/// How many bytes may still be decoded for a file.
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    /// Enough to decode `text` bytes a few times over, within what memory allows.
    pub(crate) fn new(text: u64) -> Self {
        Self { left: text.saturating_mul(4).saturating_add(1 << 20).min(MAX_DECODED) }
    }

    /// Enough for `left` bytes.
    pub(crate) fn exactly(left: u64) -> Self {
        Self { left }
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
