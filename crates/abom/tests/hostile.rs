//! Damaged files: an error or a plan that verifies, never a panic, never a hang.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use abom::Limits;
use common::Object;
use proptest::prelude::{ProptestConfig, any, prop, proptest};

fn survive(file: &[u8]) {
    let Ok(plan) = abom::plan(file, &Limits::default()) else { return };
    abom::verify(file, &plan).expect("its own plan");
    plan.apply(file).expect("its own file");
}

fn small() -> Vec<u8> {
    Object::new()
        .function("forward", &[0x89, 0xf8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x01, 0xc3, 0xc3])
        .function("number", &[0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3])
        .function("identify", &[0xb8, 7, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0xc3])
        .symbol("open", 0)
        .bytes(&[0xe8, 3, 0, 0, 0, 0x0f, 0x05, 0xc3, 0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xc3])
        .build()
}

/// Values that sit at the edges of arithmetic.
const EDGES: [u64; 8] = [0, 1, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_f000, i64::MAX as u64, u64::MAX - 7, u64::MAX];

#[test]
fn every_word_at_every_edge() {
    let file = small();
    for at in (0..file.len() - 8).step_by(4).filter(|at| *at < 0x120 || *at > 0x2f00) {
        for edge in EDGES {
            let mut damaged = file.clone();
            damaged[at..at + 8].copy_from_slice(&edge.to_le_bytes());
            survive(&damaged);
        }
    }
}

#[test]
fn every_length() {
    let file = small();
    for len in 0..file.len() {
        survive(&file[..len]);
    }
}

#[test]
fn overlapping_functions_cost_bounded_time() {
    // Thousands of symbols, each over the whole text, which is full of calls.
    let mut object = Object::new();
    for index in 0..4000 {
        object = object.symbol(&index.to_string(), 4000 - index).bytes(&[0x0f]).bytes(&[0x05]);
    }
    survive(&object.build());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_damage(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut file = small();
        for (at, value) in edits {
            *at.get_mut(&mut file) = value;
        }
        survive(&file);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Damage to a real file where it hurts: headers, dynamic symbols, unwind information, sections.
    #[test]
    fn random_damage_to_the_dynamic_linker(edits in prop::collection::vec((any::<u32>(), any::<u64>()), 1..40)) {
        let Ok(mut file) = std::fs::read("/lib64/ld-linux-x86-64.so.2") else { return Ok(()) };
        let spans = [(0, 0x400), (0x400, 0x1000), (file.len() * 3 / 4, file.len() / 4 - 8)];
        for (at, value) in edits {
            let at = usize::try_from(at).expect("index");
            let (start, len) = spans[at % spans.len()];
            let at = start + at % len;
            if value % 2 == 0 {
                file[at] = value.to_le_bytes()[1];
            } else {
                file[at..at + 8].copy_from_slice(&EDGES[usize::try_from(value >> 61).expect("index")].to_le_bytes());
            }
        }
        survive(&file);
    }
}
