//! `cargo xtask steps`: how many instructions a service of the workload takes, function by function, and how many of them lock the
//! memory bus or wait for all stores: those cost as much as twenty others. Counts that no other work on the machine, and no machine,
//! changes.

use crate::follow::{Followed, Site};
use crate::{build, command};
use anyhow::{Context as _, Result};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use nix::sys::ptrace::Options;
use std::process::{Command, ExitCode};

/// What follows `cargo xtask steps`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A service of the workload program (benches/workload): eventfd, stat-present, fork-exit-wait…
    service: String,
    /// How many calls in a row are shown: as many as the service makes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    calls: u32,
    /// Shows each locked instruction, with the lines that it comes from, instead of functions
    #[arg(long)]
    locked: bool,
    /// Shows each function once, the longest first
    #[arg(long, conflicts_with = "locked")]
    by_function: bool,
    /// Options of the workload, as --make --files 1000
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<String>,
}

/// Instructions that a call may take at most, as these are found.
const MOST_OF_A_CALL: u64 = 100_000;
/// Calls before the first that is shown: the program has begun by then, and what happens once has happened.
const CALLS_BEFORE: usize = 100;

/// Where a guest's calls come in.
const ENTRY: &str = "xlibos_syscall_entry";
/// What is none of the LibOS's functions.
const GUEST: &str = "(guest)";

/// One instruction.
#[derive(Clone, Copy)]
struct Step<'a> {
    function: &'a str,
    /// Where it is in the LibOS's text.
    at: u64,
    is_locked: bool,
}

/// Builds, follows, and shows.
///
/// # Errors
/// Where something cannot be built, or followed, or makes too few calls.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let site = Site::build()?;
    let words: Vec<_> = args.options.iter().chain([&args.service]).map(String::as_str).collect();
    let followed = Followed::begin(&site, &words, Options::empty())?;
    let (range, text) = (followed.guest.text.clone(), followed.read_text()?);
    let mut steps = Vec::new();
    let wanted = CALLS_BEFORE + args.calls as usize + 1;
    while begins(&steps).len() < wanted && (steps.len() as u64) < MOST_OF_A_CALL * wanted as u64 {
        followed.walk(1000, |_, rip| {
            steps.push(if range.contains(&rip) {
                let at = rip - range.start;
                Step { function: site.symbols.at(at).unwrap_or("?"), at, is_locked: is_locked(&text, at) }
            } else {
                Step { function: GUEST, at: 0, is_locked: false }
            });
        })?;
    }
    drop(followed);
    let begins = begins(&steps);
    let (from, to) = begins.get(CALLS_BEFORE).zip(begins.get(wanted - 1)).context("it makes too few calls")?;
    let shown = steps.get(*from..*to).unwrap_or(&[]);
    if args.locked {
        show_locked(&site, shown)?;
    } else {
        for (count, locked, name) in if args.by_function { functions(shown) } else { runs(shown) } {
            let locked = if locked > 0 { locked.to_string() } else { String::new() };
            println!("{count:6} {locked:>4}  {:#}", rustc_demangle::demangle(name));
        }
    }
    let of_guest = shown.iter().filter(|step| step.function == GUEST).count();
    let locked = shown.iter().filter(|step| step.is_locked).count();
    println!("{:6} {locked:4}  instructions, {of_guest} of them the guest's own, and locked ones", shown.len());
    Ok(ExitCode::SUCCESS)
}

/// Whether the instruction at a place of the text locks memory, or is a barrier for stores and loads.
fn is_locked(text: &[u8], at: u64) -> bool {
    let code = usize::try_from(at).ok().and_then(|at| text.get(at..)).unwrap_or(&[]);
    let mut instruction = Instruction::default();
    Decoder::new(64, code, DecoderOptions::NONE).decode_out(&mut instruction);
    // An exchange with memory locks without being told to.
    let exchanges = instruction.mnemonic() == Mnemonic::Xchg
        && (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    instruction.has_lock_prefix() || exchanges || instruction.mnemonic() == Mnemonic::Mfence
}

/// Where calls begin.
fn begins(steps: &[Step<'_>]) -> Vec<usize> {
    let comes_in =
        |pair: &[Step<'_>]| matches!(pair, [before, now] if before.function == GUEST && now.function == ENTRY);
    steps.windows(2).enumerate().filter(|(_, pair)| comes_in(pair)).map(|(at, _)| at + 1).collect()
}

/// Functions with how long each runs in a row, and how many of the instructions are locked.
fn runs<'a>(steps: &[Step<'a>]) -> Vec<(usize, usize, &'a str)> {
    let locked = |run: &[Step<'_>]| run.iter().filter(|step| step.is_locked).count();
    let runs = steps.chunk_by(|one, other| one.function == other.function);
    runs.filter_map(|run| Some((run.len(), locked(run), run.first()?.function))).collect()
}

/// The same of each function in all, the longest first.
fn functions<'a>(steps: &[Step<'a>]) -> Vec<(usize, usize, &'a str)> {
    let mut sorted = steps.to_vec();
    sorted.sort_by_key(|step| step.function);
    let mut all = runs(&sorted);
    all.sort_by(|one, other| other.cmp(one));
    all
}

/// Shows locked instructions in turn: the innermost function's line first, and behind it those that it was inlined into.
fn show_locked(site: &Site, steps: &[Step<'_>]) -> Result<()> {
    for step in steps.iter().filter(|step| step.is_locked) {
        let mut lines = Command::new("addr2line");
        lines.args(["--inlines", "--pretty-print", "--basenames", "--exe"]).arg(build::image());
        let told = command::output(lines.arg(format!("{:#x}", step.at + site.symbols.start)))?;
        let places: Vec<_> = told.lines().map(|line| line.trim_start_matches(" (inlined by) ")).collect();
        println!("{:6x}  {}", step.at, places.join(" < "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ENTRY, GUEST, Step, begins, functions, is_locked, runs};

    fn steps<'a>(names: &[&'a str]) -> Vec<Step<'a>> {
        names.iter().map(|function| Step { function, at: 0, is_locked: *function == "f" }).collect()
    }

    #[test]
    fn a_call_begins_where_the_guest_comes_in() {
        let steps = steps(&[ENTRY, "f", GUEST, GUEST, ENTRY, ENTRY, "f", ENTRY, GUEST, ENTRY]);
        assert_eq!(begins(&steps), [4, 9]);
        let shown = steps.get(4..9).unwrap_or(&[]);
        assert_eq!(runs(shown), [(2, 0, ENTRY), (1, 1, "f"), (1, 0, ENTRY), (1, 0, GUEST)]);
        assert_eq!(functions(shown), [(3, 0, ENTRY), (1, 1, "f"), (1, 0, GUEST)]);
    }

    #[test]
    fn locked_are_prefixes_exchanges_with_memory_and_barriers() {
        // lock cmpxchg [rdi], esi; xchg [rdi], eax; xchg ecx, eax; mov [rdi], eax; mfence
        let text = [0xf0, 0x0f, 0xb1, 0x37, 0x87, 0x07, 0x87, 0xc8, 0x89, 0x07, 0x0f, 0xae, 0xf0];
        let locked = [0, 4, 6, 8, 10, 13].map(|at| is_locked(&text, at));
        assert_eq!(locked, [true, true, false, false, true, false]);
    }
}
