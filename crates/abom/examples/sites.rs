//! Prints how a file's sites are rewritten: `sites FILE…`. With `-v`, every site; otherwise those left to trap.

use abom::{Limits, Plan, Site};
use std::time::Instant;

fn main() {
    let mut is_verbose = false;
    for path in std::env::args().skip(1) {
        if path == "-v" {
            is_verbose = true;
        } else if let Err(error) = report(&path, is_verbose) {
            eprintln!("{path}: {error}");
        }
    }
}

fn report(path: &str, is_verbose: bool) -> Result<(), Box<dyn std::error::Error>> {
    let file = std::fs::read(path)?;
    let start = Instant::now();
    let plan = abom::plan(&file, &Limits::default())?;
    let elapsed = start.elapsed();
    let stats = &plan.stats;
    println!(
        "{path}: {} KiB in {} µs; syscall {:?} cpuid {:?} by tier; {} embedded, {} unproven; {} patches, {} stub bytes",
        file.len() / 1024,
        elapsed.as_micros(),
        stats.syscall,
        stats.cpuid,
        stats.embedded,
        stats.unproven,
        plan.patches.len(),
        plan.stubs.len(),
    );
    for site in plan.sites.iter().filter(|site| is_verbose || site.tier == 4) {
        print_site(&plan, &file, site);
    }
    Ok(())
}

fn print_site(plan: &Plan, file: &[u8], site: &Site) {
    let name = site.name(file).unwrap_or("?");
    let obstacle = site.obstacle.map_or(String::new(), |obstacle| format!("{obstacle:?}"));
    println!(
        "  {:#x} {:?} tier {} {:?} {name}+{:#x} window {:#x}..{:#x} stub {} bytes {obstacle}",
        site.vaddr,
        site.kind,
        site.tier,
        site.source,
        site.vaddr - site.function,
        site.window_start,
        site.window_end,
        site.stub_end - site.stub_start,
    );
    for patch in plan.patches.iter().filter(|patch| patch.vaddr == site.window_start) {
        println!("    {:#x} (file {:#x}) {:02x?}", patch.vaddr, patch.offset, &*patch.bytes);
    }
}
