use super::{ALLOW, ARCH_X86_64, Data, FilterError, NO_SUCH_CALL, REFUSE, TRAP, build, evaluate};
use abi::hostcall::{Check, HOST_CALLS, HostCall};

const START: u64 = 0x7e85_4020_1000;
const END: u64 = 0x7e85_4028_5000;
const ARCH_I386: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;

/// The table read directly, independent of the assembler.
fn expected(calls: &[HostCall], data: &Data) -> u32 {
    if data.arch != ARCH_X86_64 {
        return NO_SUCH_CALL;
    }
    if data.address < START + 2 || data.address > END {
        return TRAP;
    }
    let Some(call) = calls.iter().find(|call| call.number == data.number) else {
        return REFUSE;
    };
    let holds = |check: &Check| match *check {
        Check::Within(i, mask) => data.arguments[usize::from(i)] & !u64::from(mask) == 0,
        Check::Without(i, mask) => data.arguments[usize::from(i)] & u64::from(mask) == 0,
        Check::OneOf(i, values) => values.contains(&data.arguments[usize::from(i)]),
        Check::MaskedOneOf(i, mask, values) => {
            let masked = data.arguments[usize::from(i)] & u64::from(mask);
            values.iter().any(|value| u64::from(*value) == masked)
        }
        Check::Zero(i) => data.arguments[usize::from(i)] == 0,
    };
    if call.checks.iter().all(holds) { ALLOW } else { REFUSE }
}

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

#[test]
fn answers_as_the_table_says() {
    let program = build(START, END).unwrap();
    let addresses = [0, START - 1, START, START + 1, START + 2, END - 1, END, END + 1, 1 << 32 | 2];
    let values = patterns();
    for number in (0..1024).chain((0..1024).map(|number| number | X32)).chain([u32::MAX]) {
        for arch in [ARCH_X86_64, ARCH_I386, 0, 0xc000_00b7] {
            for address in addresses {
                let data = Data { number, arch, address, arguments: [0; 6] };
                assert_eq!(evaluate(&program, &data), Ok(expected(HOST_CALLS, &data)), "{data:?}");
            }
        }
    }
    for call in HOST_CALLS {
        for index in 0..6 {
            for value in &values {
                for others in [0, call_default(call)] {
                    let mut data =
                        Data { number: call.number, arch: ARCH_X86_64, address: START + 0x100, arguments: [others; 6] };
                    data.arguments[index] = *value;
                    let wanted = expected(HOST_CALLS, &data);
                    assert_eq!(evaluate(&program, &data), Ok(wanted), "{data:x?}");
                }
            }
        }
    }
}

/// A value that satisfies a call's first check, so that others are reached.
fn call_default(call: &HostCall) -> u64 {
    match call.checks.first() {
        Some(Check::OneOf(_, [first, ..])) => *first,
        Some(Check::MaskedOneOf(_, _, [first, ..])) => u64::from(*first),
        _ => 0,
    }
}

#[test]
fn table_is_ordered_and_small() {
    assert!(HOST_CALLS.is_sorted_by(|a, b| a.number < b.number));
    assert!(HOST_CALLS.len() <= 25);
}

#[test]
fn program_fits_the_kernel() {
    assert!(build(START, END).unwrap().len() <= 4096);
}

#[test]
fn text_across_a_boundary_is_refused() {
    let (start, end) = (0x7e80_ffff_f000, 0x7e81_0000_1000);
    assert_eq!(build(start, end), Err(FilterError::Text(start, end)));
    assert_eq!(build(start, start), Err(FilterError::Text(start, start)));
}

#[test]
fn instruction_bytes_round_trip() {
    for instruction in build(START, END).unwrap() {
        assert_eq!(super::Instruction::from_bytes(instruction.to_bytes()), instruction);
    }
}
