//! The seccomp filter of a container, made from [`abi::hostcall::HOST_CALLS`].
//!
//! It decides in this order: architecture (anything but x86-64: ENOSYS), address of the instruction
//! (outside the LibOS text: SIGSYS, which is how an unpatched guest call enters the LibOS), number
//! (by binary search; x32 numbers are in no table), then arguments. What the LibOS may not do gets
//! EPERM.

use abi::hostcall::{Check, HOST_CALLS, HostCall};

mod assembler;
mod evaluate;
mod oracle;

pub use assembler::Instruction;
pub use evaluate::{Data, Fault, evaluate};
pub use oracle::{Difference, expected, first_difference};

use assembler::{Assembler, Label};

/// `AUDIT_ARCH_X86_64`.
pub const ARCH_X86_64: u32 = 0xc000_003e;
/// `SECCOMP_RET_ALLOW`.
pub const ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_TRAP`.
pub const TRAP: u32 = 0x0003_0000;
/// `SECCOMP_RET_ERRNO` with EPERM.
pub const REFUSE: u32 = 0x0005_0001;
/// `SECCOMP_RET_ERRNO` with ENOSYS.
pub const NO_SUCH_CALL: u32 = 0x0005_0026;

/// Bytes of a `syscall` instruction: the address that the filter sees lies behind it.
const SYSCALL_LEN: u64 = 2;

/// Offsets in `struct seccomp_data`.
mod field {
    pub(super) const NUMBER: u32 = 0;
    pub(super) const ARCH: u32 = 4;
    pub(super) const ADDRESS_LOW: u32 = 8;
    pub(super) const ADDRESS_HIGH: u32 = 12;

    pub(super) fn low(argument: u8) -> u32 {
        16 + u32::from(argument) * 8
    }

    pub(super) fn high(argument: u8) -> u32 {
        low(argument) + 4
    }
}

/// Why no filter could be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text is empty or crosses a 4 GiB boundary.
    #[error("the LibOS text {0:#x}..{1:#x} is empty or crosses a 4 GiB boundary")]
    Text(u64, u64),
    /// A jump is too far for its field.
    #[error("a jump in the filter is too far")]
    Jump,
}

/// Makes the filter for a LibOS whose text lies in `[text_start, text_end)`.
///
/// # Errors
/// Fails where the text crosses a 4 GiB boundary.
pub fn build(text_start: u64, text_end: u64) -> Result<Vec<Instruction>, FilterError> {
    build_for(HOST_CALLS, text_start, text_end)
}

fn build_for(calls: &[HostCall], text_start: u64, text_end: u64) -> Result<Vec<Instruction>, FilterError> {
    // Addresses behind a `syscall` that lies wholly in the text: an instruction that a guest puts
    // before the text, or half into it, is outside.
    let first = text_start.saturating_add(SYSCALL_LEN);
    if first > text_end || halves(first).0 != halves(text_end).0 {
        return Err(FilterError::Text(text_start, text_end));
    }
    let mut asm = Assembler::default();
    check_origin(&mut asm, first, text_end);
    asm.load(field::NUMBER);
    let mut bodies = Vec::new();
    search(&mut asm, calls, &mut bodies);
    for (label, call) in bodies {
        asm.place(label);
        check_arguments(&mut asm, call.checks);
    }
    asm.finish().ok_or(FilterError::Jump)
}

/// Architecture, then address.
fn check_origin(asm: &mut Assembler, first: u64, last: u64) {
    let native = asm.label();
    asm.load(field::ARCH);
    asm.jump_if_equal(ARCH_X86_64, native);
    asm.answer(NO_SUCH_CALL);
    asm.place(native);

    let outside = asm.label();
    let inside = asm.label();
    asm.load(field::ADDRESS_HIGH);
    asm.jump_unless_equal(halves(first).0, outside);
    asm.load(field::ADDRESS_LOW);
    asm.jump_unless_at_least(halves(first).1, outside);
    asm.jump_unless_above(halves(last).1, inside);
    asm.place(outside);
    asm.answer(TRAP);
    asm.place(inside);
}

/// Binary search for the number in the accumulator. Calls with checks continue at their label.
fn search<'a>(asm: &mut Assembler, calls: &'a [HostCall], bodies: &mut Vec<(Label, &'a HostCall)>) {
    match calls {
        [] => asm.answer(REFUSE),
        [call] => {
            let other = asm.label();
            asm.jump_unless_equal(call.number, other);
            if call.checks.is_empty() {
                asm.answer(ALLOW);
            } else {
                let body = asm.label();
                asm.jump(body);
                bodies.push((body, call));
            }
            asm.place(other);
            asm.answer(REFUSE);
        }
        _ => {
            let (left, right) = calls.split_at(calls.len() / 2);
            let upper = asm.label();
            if let Some(middle) = right.first() {
                asm.jump_if_at_least(middle.number, upper);
            }
            search(asm, left, bodies);
            asm.place(upper);
            search(asm, right, bodies);
        }
    }
}

/// All checks must hold.
fn check_arguments(asm: &mut Assembler, checks: &[Check]) {
    let refuse = asm.label();
    for check in checks {
        match *check {
            Check::Within(argument, mask) => {
                asm.load(field::high(argument));
                asm.jump_unless_equal(0, refuse);
                asm.load(field::low(argument));
                asm.jump_if_any(!mask, refuse);
            }
            Check::Without(argument, mask) => {
                asm.load(field::low(argument));
                asm.jump_if_any(mask, refuse);
            }
            Check::OneOf(argument, values) => one_of(asm, argument, values, refuse),
            Check::MaskedOneOf(argument, mask, values) => {
                let found = asm.label();
                asm.load(field::low(argument));
                asm.and(mask);
                for value in values {
                    asm.jump_if_equal(*value, found);
                }
                asm.jump(refuse);
                asm.place(found);
            }
            Check::Zero(argument) => {
                asm.load(field::high(argument));
                asm.jump_unless_equal(0, refuse);
                asm.load(field::low(argument));
                asm.jump_unless_equal(0, refuse);
            }
        }
    }
    asm.answer(ALLOW);
    asm.place(refuse);
    asm.answer(REFUSE);
}

/// Compares 64 bits with each value; values are grouped by their high halves.
fn one_of(asm: &mut Assembler, argument: u8, values: &[u64], refuse: Label) {
    let mut highs: Vec<u32> = values.iter().map(|value| halves(*value).0).collect();
    highs.sort_unstable();
    highs.dedup();
    let found = asm.label();
    for high in highs {
        let next = asm.label();
        asm.load(field::high(argument));
        asm.jump_unless_equal(high, next);
        asm.load(field::low(argument));
        for value in values.iter().filter(|value| halves(**value).0 == high) {
            asm.jump_if_equal(halves(*value).1, found);
        }
        asm.place(next);
    }
    asm.jump(refuse);
    asm.place(found);
}

/// High and low half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

#[cfg(test)]
mod tests;
