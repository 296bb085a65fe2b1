//! This machine's own files.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use abom::{Limits, Plan, Source};

/// The file and its plan, if the file is here.
fn planned(path: &str) -> Option<(Vec<u8>, Plan)> {
    let file = std::fs::read(path).ok()?;
    let plan = abom::plan(&file, &Limits::default()).expect(path);
    abom::verify(&file, &plan).expect(path);
    assert_eq!(Plan::from_bytes(&plan.to_bytes()).as_ref(), Ok(&plan));
    Some((file, plan))
}

/// Shares of `counts` in tiers 1 to 3, in thousandths.
fn jumping(counts: [u32; 4]) -> u32 {
    let total: u32 = counts.iter().sum();
    (total - counts[3]) * 1000 / total.max(1)
}

#[test]
fn the_c_library_jumps() {
    let Some((file, plan)) = planned("/lib/x86_64-linux-gnu/libc.so.6") else { return };
    assert!(plan.sites.len() > 400, "{} sites", plan.sites.len());
    assert!(jumping(plan.stats.syscall) >= 990, "{:?}", plan.stats);
    assert_eq!(plan.stats.unproven, 0, "{:?}", plan.stats);
    let function = |name: &str| plan.sites.iter().filter(|site| site.name(&file) == Some(name)).count();
    for name in ["syscall", "read", "write", "close"] {
        assert!(function(name) > 0, "{name}");
    }
}

#[test]
fn the_return_from_handlers_is_found_behind_its_unwind_entry() {
    let Some((file, plan)) = planned("/lib/x86_64-linux-gnu/libc.so.6") else { return };
    let code = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];
    let text = plan.patches.first().expect("patch");
    let at = file.windows(code.len()).position(|bytes| bytes == code).expect("rt_sigreturn") as u64;
    let vaddr = at + 7 - text.offset + text.vaddr;
    let site = plan.sites.iter().find(|site| site.vaddr == vaddr).expect("site");
    assert_eq!((site.function, site.tier, site.source), (vaddr - 7, 1, Source::Frame));
}

#[test]
fn the_dynamic_linker_jumps() {
    let Some((_, plan)) = planned("/lib64/ld-linux-x86-64.so.2") else { return };
    assert!(jumping(plan.stats.syscall) >= 990, "{:?}", plan.stats);
    assert!(plan.stats.cpuid.iter().sum::<u32>() > 10 && jumping(plan.stats.cpuid) >= 990, "{:?}", plan.stats);
}

#[test]
fn programs_of_the_machine_have_plans() {
    for path in
        ["/usr/bin/python3", "/bin/bash", "/usr/bin/git", "/usr/bin/perl", "/usr/lib/x86_64-linux-gnu/libm.so.6"]
    {
        planned(path);
    }
}

#[test]
fn stripped_of_sections_the_unwind_table_still_serves() {
    let Some((mut file, plan)) = planned("/lib/x86_64-linux-gnu/libc.so.6") else { return };
    // e_shoff, e_shnum and e_shstrndx.
    file[40..48].fill(0);
    file[60..64].fill(0);
    let stripped = abom::plan(&file, &Limits::default()).expect("plan");
    assert!(stripped.sites.iter().all(|site| site.source == Source::Frame && site.name.is_none()));
    assert!(stripped.sites.len() + 8 > plan.sites.len(), "{} of {}", stripped.sites.len(), plan.sites.len());
}
