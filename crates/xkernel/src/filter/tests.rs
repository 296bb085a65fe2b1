use super::assembler::code::{IF_AT_LEAST, JUMP};
use super::{FilterError, REFUSE, build, first_difference};
use abi::hostcall::HOST_CALLS;

const START: u64 = 0x7e85_4020_1000;
const END: u64 = 0x7e85_4028_5000;

#[test]
fn answers_as_the_table_says() {
    assert_eq!(first_difference(&build(START, END).unwrap(), (START, END)), None);
}

/// Whatever the program allows or compares with, a change of it is seen: the comparison reaches it. Every
/// third instruction is tried, for time.
#[test]
fn no_instruction_can_change_unseen() {
    let program = build(START, END).unwrap();
    for at in (0..program.len()).step_by(3) {
        let mut changed = program.clone();
        // A refusal between neighbouring numbers is never reached; a jump may land on an equal answer, and a
        // border of the search lies anywhere between two numbers.
        if changed[at].operand != REFUSE && ![JUMP, IF_AT_LEAST].contains(&changed[at].code) {
            changed[at].operand ^= 0x10;
            assert!(first_difference(&changed, (START, END)).is_some(), "instruction {at}: {:?}", program[at]);
        }
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
