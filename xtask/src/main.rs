//! Builds, tests, checks and shows the project. `cargo xtask --help` lists the verbs.

mod bench;
mod build;
mod command;
mod demo;
mod follow;
mod lint;
mod order;
mod profile;
mod setup;
mod steps;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// One entry for people and for CI. Each verb installs what it needs and is missing: rustup's target and
/// components, and, as root, Debian packages.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the release executables into target/dist/: first the LibOS image, then `xc` with the image inside
    Build,
    /// Run a bash script, a python3 program and a C program over this machine's root, each in an X-Container,
    /// and report how their system calls were served
    Demo,
    /// Build, then run all tests: unit tests, conformance, programs and hostile guests
    Test(test::Args),
    /// Run the same workloads on every runtime of this machine and show ratios
    Bench(bench::Args),
    /// Run a program in a container and show where its time goes, by function
    Profile(profile::Args),
    /// Follow forks, threads and programs instruction by instruction, and put the LibOS's functions in the order of their use
    Order,
    /// Count the instructions of a service of the workload, by function
    Steps(steps::Args),
    /// Check formatting, clippy with warnings denied, and the budgets of CONTRIBUTING.md
    Lint(lint::Args),
}

fn main() -> ExitCode {
    match run(&Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb) -> Result<ExitCode> {
    match verb {
        Verb::Build => build::run(),
        Verb::Demo => demo::run(),
        Verb::Test(args) => test::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Profile(args) => profile::run(args),
        Verb::Order => order::run(),
        Verb::Steps(args) => steps::run(args),
        Verb::Lint(args) => lint::run(args),
    }
}
