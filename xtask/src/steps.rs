//! `cargo xtask steps`: how many instructions a service of the workload takes, function by function. A count that no other work on
//! the machine, and no machine, changes.

use crate::follow::{Followed, Site};
use anyhow::{Context as _, Result};
use nix::sys::ptrace::Options;
use std::process::ExitCode;

/// What follows `cargo xtask steps`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A service of the workload program (benches/workload): eventfd, stat-present, fork-exit-wait…
    service: String,
    /// How many calls in a row are shown: as many as the service makes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    calls: u32,
}

/// Instructions that a call may take at most, as these are found.
const MOST_OF_A_CALL: u64 = 100_000;
/// Calls before the first that is shown: the program has begun by then, and what happens once has happened.
const CALLS_BEFORE: usize = 100;

/// Where a guest's calls come in.
const ENTRY: &str = "xlibos_syscall_entry";
/// What is none of the LibOS's functions.
const GUEST: &str = "(guest)";

/// Builds, follows, and shows.
///
/// # Errors
/// Where something cannot be built, or followed, or makes too few calls.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let site = Site::build()?;
    let followed = Followed::begin(&site, &args.service, Options::empty())?;
    let text = followed.guest.text.clone();
    let mut names = Vec::new();
    let wanted = CALLS_BEFORE + args.calls as usize + 1;
    while begins(&names).len() < wanted && (names.len() as u64) < MOST_OF_A_CALL * wanted as u64 {
        followed.walk(1000, |_, at| {
            let name = text.contains(&at).then(|| site.symbols.at(at - text.start).unwrap_or("?"));
            names.push(name.unwrap_or(GUEST));
        })?;
    }
    drop(followed);
    let begins = begins(&names);
    let (from, to) = begins.get(CALLS_BEFORE).zip(begins.get(wanted - 1)).context("it makes too few calls")?;
    let shown = names.get(*from..*to).unwrap_or(&[]);
    for (count, name) in runs(shown) {
        println!("{count:6}  {:#}", rustc_demangle::demangle(name));
    }
    let of_guest = shown.iter().filter(|name| **name == GUEST).count();
    println!("{:6}  instructions, {of_guest} of them the guest's own", shown.len());
    Ok(ExitCode::SUCCESS)
}

/// Where calls begin.
fn begins(names: &[&str]) -> Vec<usize> {
    let comes_in = |pair: &[&str]| matches!(pair, [before, now] if *before == GUEST && *now == ENTRY);
    names.windows(2).enumerate().filter(|(_, pair)| comes_in(pair)).map(|(at, _)| at + 1).collect()
}

/// Names with how often each comes in a row.
fn runs<'a>(names: &[&'a str]) -> Vec<(usize, &'a str)> {
    names.chunk_by(|one, other| one == other).filter_map(|run| Some((run.len(), *run.first()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::{ENTRY, GUEST, begins, runs};

    #[test]
    fn a_call_begins_where_the_guest_comes_in() {
        let names = [ENTRY, "f", GUEST, GUEST, ENTRY, ENTRY, "f", ENTRY, GUEST, ENTRY];
        assert_eq!(begins(&names), [4, 9]);
        assert_eq!(runs(names.get(4..9).unwrap_or(&[])), [(2, ENTRY), (1, "f"), (1, ENTRY), (1, GUEST)]);
    }
}
