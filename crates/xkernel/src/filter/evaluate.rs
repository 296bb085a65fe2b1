//! An interpreter of the filter's BPF, for tests: of the table, and of a filter read out of a guest.

use super::assembler::{Instruction, code};

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// Call number.
    pub number: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Address behind the `syscall` instruction.
    pub address: u64,
    /// Arguments.
    pub arguments: [u64; 6],
}

/// Why a program has no answer: the kernel would not load it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An operation that the filter does not use.
    Code(u16),
    /// A load outside `struct seccomp_data` or unaligned.
    Load(u32),
    /// The program ends without an answer.
    End,
}

impl Data {
    fn word(&self, offset: u32) -> Option<u32> {
        let mut bytes = [0u8; 64];
        bytes[0..4].copy_from_slice(&self.number.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.arch.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.address.to_le_bytes());
        for (slot, argument) in bytes[16..].chunks_exact_mut(8).zip(self.arguments) {
            slot.copy_from_slice(&argument.to_le_bytes());
        }
        let start = usize::try_from(offset).ok()?;
        let word = bytes.get(start..start.checked_add(4)?)?;
        offset.is_multiple_of(4).then_some(())?;
        Some(u32::from_le_bytes(word.try_into().ok()?))
    }
}

/// What the program answers (`SECCOMP_RET_*`).
///
/// # Errors
/// Fails where the kernel would refuse the program.
pub fn evaluate(program: &[Instruction], data: &Data) -> Result<u32, Fault> {
    let mut accumulator = 0u32;
    let mut at = 0usize;
    while let Some(step) = program.get(at) {
        at += 1;
        let condition = match step.code {
            code::RETURN => return Ok(step.operand),
            code::LOAD => {
                accumulator = data.word(step.operand).ok_or(Fault::Load(step.operand))?;
                continue;
            }
            code::AND => {
                accumulator &= step.operand;
                continue;
            }
            code::JUMP => {
                at = at.saturating_add(usize::try_from(step.operand).unwrap_or(usize::MAX));
                continue;
            }
            code::IF_EQUAL => accumulator == step.operand,
            code::IF_ABOVE => accumulator > step.operand,
            code::IF_AT_LEAST => accumulator >= step.operand,
            code::IF_ANY => accumulator & step.operand != 0,
            other => return Err(Fault::Code(other)),
        };
        at += usize::from(if condition { step.jump_true } else { step.jump_false });
    }
    Err(Fault::End)
}
