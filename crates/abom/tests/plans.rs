//! Plans as values: bytes and back, tampering, images, program counters.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use abom::{Limits, MovedKind, PAGE, Plan, PlanError};
use common::{Object, TEXT};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

/// A bit of everything: all tiers, both kinds, a hole, an embedded occurrence.
fn sample() -> Object {
    let forward = [0x89, 0xf8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x01, 0xc3, 0xc3];
    Object::new()
        .function("forward", &forward)
        .function("number", &[0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3])
        .function("identify", &[0xb8, 7, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0xc3])
        .function("embedded", &[0xb8, 0x0f, 0x05, 0, 0, 0xc3])
        .function("hole", &[0x89, 0xf8, 0x0f, 0x05, 0xc3])
        .bytes(&[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0])
        .function("relative", &[0x48, 0x8b, 0x3d, 0x10, 0, 0, 0, 0x0f, 0x05, 0xc3])
        .function("stuck", &[0x89, 0xf8, 0x0f, 0x05, 0x0f, 0x0b])
}

#[test]
fn sample_has_all_tiers() {
    let (_, plan) = sample().plan();
    assert_eq!(plan.stats.syscall, [1, 1, 2, 1]);
    assert_eq!(plan.stats.cpuid, [0, 0, 1, 0]);
    assert_eq!((plan.stats.embedded, plan.stats.unproven), (1, 0));
}

#[test]
fn plan_survives_its_serialisation() {
    let (file, plan) = sample().plan();
    let bytes = plan.to_bytes();
    let back = Plan::from_bytes(&bytes).unwrap();
    assert_eq!(back, plan);
    abom::verify(&file, &back).unwrap();
}

#[test]
fn truncated_or_longer_bytes_are_refused() {
    let (_, plan) = sample().plan();
    let mut bytes = plan.to_bytes();
    for len in 0..bytes.len() {
        assert_eq!(Plan::from_bytes(&bytes[..len]), Err(PlanError::Encoding), "{len}");
    }
    bytes.push(0);
    assert_eq!(Plan::from_bytes(&bytes), Err(PlanError::Encoding));
}

#[test]
fn counters_translate_both_ways() {
    let (_, plan) = sample().plan();
    for moved in &plan.moved {
        for pc in moved.stub_start..moved.stub_end {
            assert_eq!(plan.original_pc(pc), moved.original);
        }
        if matches!(moved.kind, MovedKind::Copy | MovedKind::Enter) {
            let resume = plan.resume_pc(moved.original);
            assert_eq!((resume, plan.original_pc(resume)), (moved.stub_start, moved.original));
        }
    }
    assert_eq!(plan.original_pc(TEXT), TEXT);
    for patch in &plan.patches {
        // Every instruction boundary under a patch has a copy, or is where the patch itself jumps on.
        let resumed = plan.resume_pc(patch.vaddr);
        assert!(resumed == patch.vaddr || plan.moved_at(resumed).is_some());
    }
}

#[test]
fn image_differs_from_the_file_by_the_patches_alone() {
    let (file, plan) = sample().plan();
    let image = plan.apply(&file).unwrap();
    assert_eq!((image.text.len(), image.text[0].clone()), (1, TEXT..TEXT + 0x1000));
    assert_eq!((image.pages.len(), image.pages[0].offset), (1, TEXT));
    assert_eq!(image.stub_file_offset % PAGE, 0);
    assert!(image.stub_file_offset >= file.len() as u64 && image.len > image.stub_file_offset);
    let mut expected = file[0x1000..0x2000].to_vec();
    for patch in &plan.patches {
        let start = (patch.offset - TEXT) as usize;
        expected[start..start + patch.bytes.len()].copy_from_slice(&patch.bytes);
    }
    assert_eq!(image.pages[0].bytes, expected);
    assert_eq!(image.stubs, plan.stubs);
}

#[test]
fn verification_sees_a_changed_stub() {
    let (file, plan) = sample().plan();
    for index in 0..plan.stubs.len() {
        let mut forged = plan.clone();
        forged.stubs[index] ^= 0x10;
        assert!(abom::verify(&file, &forged).is_err(), "byte {index} of the stubs");
    }
}

#[test]
fn verification_sees_a_changed_table() {
    let (file, plan) = sample().plan();
    for index in 0..plan.moved.len() {
        let mut forged = plan.clone();
        forged.moved[index].original += 1;
        assert!(abom::verify(&file, &forged).is_err(), "original of piece {index}");
        let mut forged = plan.clone();
        forged.moved.remove(index);
        assert!(abom::verify(&file, &forged).is_err(), "piece {index} missing");
    }
    for index in 0..plan.patches.len() {
        let mut forged = plan.clone();
        forged.patches.remove(index);
        assert!(abom::verify(&file, &forged).is_err(), "patch {index} missing");
        let mut forged = plan.clone();
        forged.patches[index].offset += 1;
        assert!(abom::verify(&file, &forged).is_err(), "patch {index} elsewhere");
    }
}

#[test]
fn verification_needs_the_same_file() {
    let (_, plan) = sample().plan();
    let other = Object::new().function("f", &[0xc3]).build();
    assert!(abom::verify(&other, &plan).is_err());
}

#[test]
fn other_files_are_refused() {
    let limits = Limits::default();
    assert_eq!(abom::plan(b"", &limits), Err(PlanError::NotX86Elf));
    assert_eq!(abom::plan(b"#!/bin/sh\n", &limits), Err(PlanError::NotX86Elf));
    let mut file = sample().build();
    file[18] = 183;
    assert_eq!(abom::plan(&file, &limits), Err(PlanError::NotX86Elf));
}

#[test]
fn limits_hold() {
    let file = sample().build();
    let limits = Limits { max_file_len: 100, ..Limits::default() };
    assert_eq!(abom::plan(&file, &limits), Err(PlanError::TooLarge));
    let limits = Limits { max_functions: 3, ..Limits::default() };
    assert_eq!(abom::plan(&file, &limits), Err(PlanError::TooLarge));
    let limits = Limits { max_occurrences: 3, ..Limits::default() };
    assert_eq!(abom::plan(&file, &limits), Err(PlanError::TooLarge));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), value in any::<u8>(), pc in any::<u64>()) {
        let (file, plan) = sample().plan();
        let mut bytes = plan.to_bytes();
        *at.get_mut(&mut bytes) = value;
        if let Ok(read) = Plan::from_bytes(&bytes) {
            let _ = abom::verify(&file, &read);
            let _ = read.apply(&file);
            read.original_pc(pc);
            for pc in read.stub_vaddr..read.stub_vaddr + 200 {
                read.original_pc(pc);
            }
            for pc in TEXT..TEXT + 100 {
                read.resume_pc(pc);
            }
        }
    }

    #[test]
    fn random_code_is_planned_soundly(code in prop::collection::vec(any::<u8>(), 1..200), at in 0_usize..200) {
        let mut code = code;
        let at = at % code.len();
        code.splice(at..at, [0x0f, 0x05]);
        let (file, plan) = Object::new().function("f", &code).plan();
        prop_assert!(abom::verify(&file, &plan).is_ok());
        prop_assert_eq!(abom::plan(&file, &Limits::default()), Ok(plan));
    }
}
