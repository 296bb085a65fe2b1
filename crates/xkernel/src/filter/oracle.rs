//! What the filter must answer, read from the table without the assembler, and the comparison of a
//! program with it: of a program just built, and of one read out of a running guest.

use super::{ALLOW, ARCH_X86_64, Data, Fault, Instruction, NO_SUCH_CALL, REFUSE, TRAP, evaluate};
use abi::hostcall::{Check, HOST_CALLS, HostCall};

/// `AUDIT_ARCH_I386`.
const ARCH_I386: u32 = 0x4000_0003;
/// `AUDIT_ARCH_AARCH64`: a machine that this one is not.
const ARCH_OTHER: u32 = 0xc000_00b7;
/// Bit of x32 call numbers.
const X32: u32 = 0x4000_0000;
/// Call numbers tried, alone and as x32's.
const NUMBERS: std::ops::Range<u32> = 0..1024;

/// A call that a program answers otherwise than the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The call.
    pub data: Data,
    /// What the table says.
    pub expected: u32,
    /// What the program answers.
    pub answered: Result<u32, Fault>,
}

/// Answer of the table to a call, for a LibOS whose text lies in `[text_start, text_end)`.
#[must_use]
pub fn expected(data: &Data, (text_start, text_end): (u64, u64)) -> u32 {
    if data.arch != ARCH_X86_64 {
        return NO_SUCH_CALL;
    }
    if data.address < text_start + 2 || data.address > text_end {
        return TRAP;
    }
    let Some(call) = HOST_CALLS.iter().find(|call| call.number == data.number) else {
        return REFUSE;
    };
    if call.checks.iter().all(|check| holds(check, &data.arguments)) { ALLOW } else { REFUSE }
}

fn holds(check: &Check, arguments: &[u64; 6]) -> bool {
    let argument = |i: u8| arguments.get(usize::from(i)).copied().unwrap_or_default();
    match *check {
        Check::Within(i, mask) => argument(i) & !u64::from(mask) == 0,
        Check::Without(i, mask) => argument(i) & u64::from(mask) == 0,
        Check::OneOf(i, values) => values.contains(&argument(i)),
        Check::MaskedOneOf(i, mask, values) => {
            let masked = argument(i) & u64::from(mask);
            values.iter().any(|value| u64::from(*value) == masked)
        }
        Check::Zero(i) => argument(i) == 0,
    }
}

/// First of many calls that the program answers otherwise than the table: every number from 0 to 1023,
/// x32's too, of three architectures, from addresses around and in the text; and for each listed call
/// patterns of each argument.
#[must_use]
pub fn first_difference(program: &[Instruction], text: (u64, u64)) -> Option<Difference> {
    arguments(text).chain(origins(text)).find_map(|data| {
        let (expected, answered) = (expected(&data, text), evaluate(program, &data));
        (answered != Ok(expected)).then_some(Difference { data, expected, answered })
    })
}

/// Each number, from each place.
fn origins((start, end): (u64, u64)) -> impl Iterator<Item = Data> {
    let middle = u64::midpoint(start, end);
    let other_half = start ^ 1 << 32;
    let addresses =
        [0, start - 1, start, start + 1, start + 2, middle, end - 1, end, end + 1, other_half + 2, u64::MAX, 1 << 32];
    let numbers = NUMBERS.chain(NUMBERS.map(|number| number | X32)).chain([u32::MAX]);
    numbers.flat_map(move |number| {
        [ARCH_X86_64, ARCH_I386, 0, ARCH_OTHER].into_iter().flat_map(move |arch| {
            addresses.into_iter().map(move |address| Data { number, arch, address, arguments: [0; 6] })
        })
    })
}

/// Each listed call with each pattern in each argument, the others zero or what its first check wants.
fn arguments((start, end): (u64, u64)) -> impl Iterator<Item = Data> {
    let values = patterns();
    let address = u64::midpoint(start, end);
    HOST_CALLS.iter().flat_map(move |call| {
        let values = values.clone();
        (0..6).flat_map(move |index| {
            let values = values.clone();
            [0, favourable(call)].into_iter().flat_map(move |others| {
                values.clone().into_iter().map(move |value| {
                    let mut arguments = [others; 6];
                    if let Some(slot) = arguments.get_mut(index) {
                        *slot = value;
                    }
                    Data { number: call.number, arch: ARCH_X86_64, address, arguments }
                })
            })
        })
    })
}

/// Values at the borders of every check.
fn patterns() -> Vec<u64> {
    let mut values = vec![0, 1, u64::MAX, 0xffff_ffff, 0x1_0000_0000, 1 << 63];
    values.extend((0..64).map(|bit| 1u64 << bit));
    for check in HOST_CALLS.iter().flat_map(|call| call.checks) {
        let (mask, listed): (u32, Vec<u64>) = match *check {
            Check::Within(_, mask) | Check::Without(_, mask) => (mask, vec![]),
            Check::OneOf(_, values) => (0, values.to_vec()),
            Check::MaskedOneOf(_, mask, values) => (mask, values.iter().map(|value| u64::from(*value)).collect()),
            Check::Zero(_) => (0, vec![]),
        };
        values.push(u64::from(mask));
        values.push(u64::from(!mask));
        for value in listed {
            values.extend([value, value | 1 << 32, value ^ 1, value | 0x100, value | 0x80]);
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// A value that satisfies a call's first check, so that others are reached.
fn favourable(call: &HostCall) -> u64 {
    match call.checks.first() {
        Some(Check::OneOf(_, [first, ..])) => *first,
        Some(Check::MaskedOneOf(_, _, [first, ..])) => u64::from(*first),
        _ => 0,
    }
}
