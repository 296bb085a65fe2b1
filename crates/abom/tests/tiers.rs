//! One small function a case: what becomes of its site.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use abom::{Kind, MovedKind, Obstacle};
use common::{DATA, Object, TEXT, jump_target, patch_at, stub};

const NOP8: [u8; 8] = [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn number_right_before_the_call_gives_up_its_place() {
    let code = join(&[&[0xb8, 39, 0, 0, 0], &[0x0f, 0x05], &[0xc3]]);
    let (plan, site) = Object::new().function("getpid", &code).only_site();
    assert_eq!((site.tier, site.kind, site.vaddr), (1, Kind::Syscall, TEXT + 5));
    let patch = patch_at(&plan, TEXT);
    assert_eq!((patch.len(), jump_target(&patch, TEXT)), (5, site.stub_start));
    assert_eq!(plan.patches.len(), 1, "the syscall stays as it was");
    let stub = stub(&plan, &site);
    assert_eq!(stub[..5], [0xb8, 39, 0, 0, 0]);
    assert_eq!(stub[5..8], [0x48, 0x8d, 0x0d]);
    let ret = (site.stub_start + 12).wrapping_add_signed(i32::from_le_bytes(stub[8..12].try_into().unwrap()).into());
    assert_eq!(ret, TEXT + 7);
    assert_eq!(stub[12..14], [0xff, 0x25]);
    let slot = (site.stub_start + 18).wrapping_add_signed(i32::from_le_bytes(stub[14..18].try_into().unwrap()).into());
    assert_eq!(slot, plan.slot_vaddr);
    assert_eq!(stub.len(), 18);
}

#[test]
fn long_form_of_the_number_is_filled_with_a_nop() {
    let code = join(&[&[0x48, 0xc7, 0xc0, 15, 1, 0, 0], &[0x0f, 0x05, 0xc3]]);
    let (plan, site) = Object::new().function("f", &code).only_site();
    assert_eq!(site.tier, 1);
    assert_eq!(patch_at(&plan, TEXT)[5..], [0x66, 0x90]);
}

#[test]
fn tail_of_a_longer_instruction_is_never_taken_for_a_number() {
    // gVisor issue 10849: the five bytes before the call read as `mov $0x10,%eax`, and eax even holds that.
    let code = [0xb8, 0x10, 0, 0, 0, 0xc7, 0x44, 0x24, 0xb8, 0x10, 0, 0, 0, 0x0f, 0x05, 0xc3];
    let (plan, site) = Object::new().function("f", &code).only_site();
    assert_eq!(site.tier, 3);
    assert_eq!(plan.patches.len(), 1);
    let patch = patch_at(&plan, TEXT + 5);
    assert_eq!(patch.len(), 8, "the whole movl moves");
    assert_eq!(stub(&plan, &site)[..8], code[5..13]);
}

#[test]
fn without_a_function_nothing_is_touched() {
    let code = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
    let (_, plan) = Object::new().symbol("other", 1).bytes(&[0xc3]).bytes(&code).plan();
    assert_eq!((plan.sites.len(), plan.patches.len(), plan.stats.unproven), (0, 0, 1));
}

#[test]
fn bytes_inside_an_instruction_are_no_site() {
    let code = [0xb8, 0x0f, 0x05, 0, 0, 0xc3];
    let (_, plan) = Object::new().function("f", &code).plan();
    assert_eq!((plan.sites.len(), plan.stats.embedded), (0, 1));
}

#[test]
fn data_behind_a_return_is_no_site() {
    let code = [0xc3, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
    let (_, plan) = Object::new().function("f", &code).plan();
    assert_eq!((plan.sites.len(), plan.stats.unproven), (0, 1));
}

#[test]
fn padding_nearby_takes_the_long_jump() {
    let code = [0x89, 0xf8, 0x0f, 0x05, 0xc3];
    let object = Object::new().function("f", &code).bytes(&NOP8).bytes(&[0x0f, 0x1f, 0]).function("g", &[0xc3]);
    let (plan, site) = object.only_site();
    assert_eq!(site.tier, 2);
    let short = patch_at(&plan, TEXT + 2);
    assert_eq!(short.len(), 2);
    let hole = jump_target(&short, TEXT + 2);
    assert_eq!(hole, TEXT + 5);
    assert_eq!(jump_target(&patch_at(&plan, hole), hole), site.stub_start);
    // Between the two jumps a thread is still at the site.
    assert!((hole..hole + 5).all(|pc| plan.original_pc(pc) == TEXT + 2));
    assert_eq!([hole - 1, hole + 5].map(|pc| plan.original_pc(pc)), [hole - 1, hole + 5]);
}

#[test]
fn two_sites_do_not_share_a_hole() {
    let code = [0x89, 0xf8, 0x0f, 0x05, 0x89, 0xf8, 0x0f, 0x05, 0xc3];
    let object = Object::new().function("f", &code).bytes(&NOP8).function("g", &[0xc3]);
    let (_, plan) = object.plan();
    assert_eq!(plan.sites.len(), 2);
    assert_eq!(plan.sites[0].tier, 2);
    assert_ne!(plan.sites[1].tier, 2);
}

#[test]
fn padding_behind_a_trap_instruction_is_no_hole() {
    let code = [0x89, 0xf8, 0x0f, 0x05, 0x0f, 0x0b];
    let object = Object::new().function("f", &code).bytes(&NOP8).function("g", &[0xc3]);
    let (_, site) = object.only_site();
    assert_eq!((site.tier, site.obstacle), (4, Some(Obstacle::NoRoom)));
}

/// `mov %edi,%eax; syscall; cmp $-4095,%rax; jae +1; ret; ret`: nothing in front is long enough.
const FORWARD: [u8; 15] = [0x89, 0xf8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x01, 0xc3, 0xc3, 0xc3];

#[test]
fn instruction_behind_the_call_moves_into_the_stub() {
    let (plan, site) = Object::new().function("f", &FORWARD).only_site();
    assert_eq!(site.tier, 3);
    let patch = patch_at(&plan, TEXT + 2);
    assert_eq!(patch.len(), 8);
    let stub = stub(&plan, &site);
    // lea, jmp, lea of the true return address, the copy, jmp back.
    assert_eq!(stub.len(), 7 + 6 + 7 + 6 + 5);
    assert_eq!(stub[20..26], FORWARD[4..10]);
    assert_eq!(jump_target(&stub[26..], site.stub_start + 26), TEXT + 10);
    let ret = site.stub_start + 13;
    assert_eq!((plan.moved_at(ret).unwrap().kind, plan.original_pc(ret)), (MovedKind::Restore, TEXT + 4));
    assert_eq!(plan.resume_pc(TEXT + 4), site.stub_start + 20);
    assert_eq!(plan.resume_pc(TEXT + 2), TEXT + 2 + (site.stub_start - TEXT - 2));
}

#[test]
fn nothing_moves_that_another_function_jumps_at() {
    // g: jmp back to the cmp.
    let distance = (TEXT + 4).wrapping_sub(TEXT + 15 + 5).cast_signed() as i32;
    let jump = join(&[&[0xe9], &distance.to_le_bytes()]);
    let (_, plan) = Object::new().function("f", &FORWARD).function("g", &jump).plan();
    assert_eq!((plan.sites[0].tier, plan.sites[0].obstacle), (4, Some(Obstacle::NoRoom)));
}

#[test]
fn nothing_moves_that_a_short_branch_of_unknown_code_jumps_at() {
    let distance = 4_i8 - 17;
    let (_, plan) = Object::new().function("f", &FORWARD).bytes(&[0xeb, distance.cast_unsigned()]).plan();
    assert_eq!(plan.sites[0].tier, 4);
}

#[test]
fn nothing_moves_that_a_word_of_data_points_at() {
    let (_, plan) = Object::new().function("f", &FORWARD).data(&(TEXT + 4).to_le_bytes()).plan();
    assert_eq!(plan.sites[0].tier, 4);
}

#[test]
fn nothing_moves_that_a_table_of_offsets_leads_to() {
    // g takes the table's address; its second entry leads to the cmp.
    let lea_at = TEXT + FORWARD.len() as u64;
    let lea = join(&[&[0x48, 0x8d, 0x05], &((DATA - lea_at - 7) as u32).to_le_bytes(), &[0xc3]]);
    let entry = |target: u64| (target.wrapping_sub(DATA).cast_signed() as i32).to_le_bytes();
    let table = join(&[&entry(TEXT), &entry(TEXT + 4), &entry(TEXT + 12)]);
    let object = Object::new().function("f", &FORWARD).function("g", &lea);
    assert_eq!(object.plan().1.sites[0].tier, 3);
    assert_eq!(object.data(&table).plan().1.sites[0].tier, 4);
}

#[test]
fn loop_to_the_call_itself_is_patched_at_the_call() {
    // mov $202,%eax; L: syscall; cmp...; jae L: the loop must not trap every time.
    let code = join(&[&[0xb8, 202, 0, 0, 0], &[0x0f, 0x05], &[0x48, 0x3d, 1, 0xf0, 0xff, 0xff], &[0x73, 0xf6, 0xc3]]);
    let (plan, site) = Object::new().function("f", &code).only_site();
    assert_eq!((site.tier, site.window_start), (3, TEXT + 5));
    assert_eq!(plan.patches.len(), 1);
}

#[test]
fn number_further_up_takes_what_lies_between_along() {
    // mov $60,%eax; xor %edi,%edi; syscall
    let code = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, 0xc3];
    let (plan, site) = Object::new().function("f", &code).only_site();
    assert_eq!((site.tier, site.window_start), (1, TEXT));
    assert_eq!(stub(&plan, &site)[..7], code[..7]);
    assert_eq!(plan.patches[0].bytes.len(), 5, "the xor stays for whoever jumps at it");
}

#[test]
fn rip_relative_operand_keeps_its_target() {
    // mov 0x10(%rip),%rdi; syscall
    let code = [0x48, 0x8b, 0x3d, 0x10, 0, 0, 0, 0x0f, 0x05, 0xc3];
    let (plan, site) = Object::new().function("f", &code).only_site();
    assert_eq!(site.tier, 3);
    let stub = stub(&plan, &site);
    assert_eq!(stub[..3], code[..3]);
    let target = (site.stub_start + 7).wrapping_add_signed(i32::from_le_bytes(stub[3..7].try_into().unwrap()).into());
    assert_eq!(target, TEXT + 7 + 0x10);
}

#[test]
fn cpuid_carries_its_return_in_rdx() {
    let code = [0xb8, 7, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0xc3];
    let (plan, site) = Object::new().function("f", &code).only_site();
    assert_eq!((site.kind, site.tier), (Kind::Cpuid, 3));
    let stub = stub(&plan, &site);
    assert_eq!(stub[7..10], [0x48, 0x8d, 0x15]);
    let slot = (site.stub_start + 20).wrapping_add_signed(i32::from_le_bytes(stub[16..20].try_into().unwrap()).into());
    assert_eq!(slot, plan.slot_vaddr + 8);
}

#[test]
fn return_behind_the_call_moves_with_the_padding() {
    // mov %edi,%eax; syscall; ret; nop padding to the function's own end, too far from any hole but its own.
    let code = [0x89, 0xf8, 0x0f, 0x05, 0xc3, 0x66, 0x90, 0x66, 0x90];
    let (plan, site) = Object::new().function("f", &code).only_site();
    assert!(matches!(site.tier, 2 | 3), "{site:?}");
    assert!(!plan.patches.is_empty());
}

#[test]
fn branch_into_an_instruction_leaves_the_site_alone() {
    // jmp into the immediate of the mov: two readings of the same bytes.
    let code = [0x74, 0x01, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
    let (_, site) = Object::new().function("f", &code).only_site();
    assert_eq!(site.tier, 4);
    let code = [0x74, 0x06, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
    let (_, site) = Object::new().function("f", &code).only_site();
    assert_eq!((site.tier, site.obstacle), (4, Some(Obstacle::Overlap)));
}

#[test]
fn signal_return_keeps_the_bytes_that_unwinders_know() {
    let code = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];
    let (plan, site) = Object::new().function("__restore_rt", &code).only_site();
    assert_eq!((site.tier, site.obstacle), (4, Some(Obstacle::SignalReturn)));
    assert!(plan.patches.is_empty());
}

#[test]
fn called_function_without_a_symbol_is_found() {
    let call = [0xe8, 1, 0, 0, 0, 0xc3];
    let hidden = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
    let (_, plan) = Object::new().function("f", &call).bytes(&hidden).plan();
    assert_eq!((plan.sites.len(), plan.sites[0].tier), (1, 1));
}

#[test]
fn musl_cancellation_point_moves_the_store_before_the_call() {
    // __syscall_cp_asm's end: mov 16(%rsp),%r9; mov %r11,8(%rsp); syscall; ret
    let code = [0x4c, 0x8b, 0x4c, 0x24, 0x10, 0x4c, 0x89, 0x5c, 0x24, 0x08, 0x0f, 0x05, 0xc3];
    let (plan, site) = Object::new().symbol("__syscall_cp_asm", 0).bytes(&code).only_site();
    assert_eq!((site.tier, site.window_start), (3, TEXT + 5));
    assert_eq!(plan.original_pc(site.stub_start), TEXT + 5);
    assert_eq!(plan.original_pc(site.stub_start + 5), TEXT + 10);
}

#[test]
fn glibc_syscall_function_is_covered() {
    let code = [
        0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6, 0x48, 0x89, 0xca, 0x4d, 0x89, 0xc2, 0x4d, 0x89, 0xc8,
        0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x01, 0xc3, 0xc3,
    ];
    let (_, site) = Object::new().function("syscall", &code).only_site();
    assert_eq!((site.tier, site.window_start), (3, TEXT + 18));
}

#[test]
fn name_and_function_are_reported() {
    let code = [0x90, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
    let object = Object::new().function("getpid", &code);
    let (file, plan) = object.plan();
    assert_eq!((plan.sites[0].name(&file), plan.sites[0].function), (Some("getpid"), TEXT));
}
