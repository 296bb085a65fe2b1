//! `cargo xtask profile`: builds, and shows what takes most of a program's time under `xc do --profile`.

use crate::setup::{self, Needs};
use crate::{build, command};
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// What follows `cargo xtask profile`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the samples go, folded: a line a stack, as flame graph viewers read them
    #[arg(long, value_name = "FILE", default_value = "target/bench/profile.folded")]
    out: PathBuf,
    /// Program and arguments, for `xc do`
    #[arg(required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

/// How many lines the terminal gets.
const SHOWN: usize = 30;

/// Profiles, and shows what took most.
///
/// # Errors
/// Where something cannot be built, or there are no samples.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(Needs::Profile)?;
    let xc = build::all()?;
    let out = command::root().join(&args.out);
    if let Some(directory) = out.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut xc = Command::new(xc);
    let status = command::status(xc.args(["do", "--profile"]).arg(&out).arg("--").args(&args.words))?;
    let text = std::fs::read_to_string(&out).with_context(|| format!("cannot read {}", out.display()))?;
    busiest(&text).iter().take(SHOWN).for_each(|line| println!("{line}"));
    println!("{}", out.display());
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Stacks with their share of all samples, the largest first.
fn busiest(folded: &str) -> Vec<String> {
    let counted = |line: &str| {
        line.rsplit_once(' ').and_then(|(stack, count)| Some((stack.to_owned(), count.parse::<u64>().ok()?)))
    };
    let mut stacks: Vec<_> = folded.lines().filter_map(counted).collect();
    stacks.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let all = stacks.iter().map(|(_, count)| count).sum::<u64>().max(1) as f64;
    stacks
        .iter()
        .map(|(stack, count)| format!("{:5.1} %  {}", *count as f64 * 100.0 / all, stack.replacen(';', "  ", 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::busiest;

    #[test]
    fn shares_are_of_all_samples() {
        let lines = busiest("guest;a b;f 1\nlibos;g 3\nno count\n");
        assert_eq!(lines, [" 75.0 %  libos  g", " 25.0 %  guest  a b;f"]);
    }
}
