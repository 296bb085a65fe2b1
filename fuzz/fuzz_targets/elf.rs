//! Arbitrary files, as a hostile container has them executed, through what abom does with one: an error, or a plan that
//! verifies, fits its file and survives its own encoding.
#![no_main]

use abom::{Limits, Plan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(plan) = abom::plan(file, &Limits::default()) else { return };
    assert_eq!(abom::verify(file, &plan), Ok(()));
    assert!(plan.apply(file).is_ok());
    assert_eq!(Plan::from_bytes(&plan.to_bytes()), Ok(plan));
});
