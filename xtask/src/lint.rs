//! `cargo xtask lint`: formatting, clippy, and the budgets of CONTRIBUTING.md.

mod budget;
mod duplicate;
mod function;
mod links;
mod safety;
mod source;
mod supply;
mod tree;

use crate::command;
use crate::setup::{self, IMAGE_TARGET, Needs};
use anyhow::Result;
use std::fmt;
use std::process::{Command, ExitCode};

/// What follows `cargo xtask lint`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the budgets and the checks of files, which need no compiler
    #[arg(long)]
    budgets: bool,
}

/// One thing to mend.
pub(crate) struct Finding {
    /// Where, relative to the root: `path` or `path:line`.
    place: String,
    /// What, with the figure and the cap.
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Runs every check, and says at the end which failed.
///
/// # Errors
/// When a check cannot be run.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut failed = Vec::new();
    if !args.budgets {
        setup::ensure(Needs::Lint)?;
        for (name, mut command) in tools() {
            eprintln!("lint: {name}");
            if !command::status(&mut command)?.success() {
                failed.push(name);
            }
        }
    }
    let files = source::tracked()?;
    let mut findings = tree::check(&files)?;
    findings.extend(links::check(&files)?);
    findings.extend(supply::check()?);
    findings.extend(budget::check(&source::parse(&files)?));
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    if !findings.is_empty() {
        failed.push("budgets");
    }
    if failed.is_empty() {
        println!("lint: all well");
        return Ok(ExitCode::SUCCESS);
    }
    println!("lint: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn tools() -> [(&'static str, Command); 3] {
    let mut fmt = command::cargo();
    fmt.args(["fmt", "--all", "--check"]);
    let mut host = command::cargo();
    host.args(["clippy", "--workspace", "--exclude", "xlibos-image", "--all-targets", "--", "-D", "warnings"]);
    let mut image = command::cargo();
    image.args(["clippy", "--package", "xlibos-image", "--target", IMAGE_TARGET, "--", "-D", "warnings"]);
    [("cargo fmt", fmt), ("cargo clippy, host", host), ("cargo clippy, LibOS image", image)]
}
