//! `xc`: programs of this machine, or of a directory, in containers on a library OS.

/// A line for a stream that the caller may have closed: what nobody reads is no failure. The library's macro panics there.
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod args;
mod configure;
mod container;
mod doctor;
mod environment;
mod features;
mod image;
mod machine;
mod mounts;
mod name;
mod news;
mod profile;
mod report;
mod size;
mod streams;
mod terminal;
mod usage;
mod user;

use anyhow::Context as _;
use args::{Command, Options};
use clap::Parser as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use xkernel::loader::LoadError;
use xkernel::sandbox::SandboxError;

/// Our own failure, as podman has it.
const OWN_FAILURE: u8 = 125;

/// What to do where the host did not give what a container needs.
fn hint(error: &anyhow::Error) -> &'static str {
    let is_host = error.chain().any(|cause| cause.is::<SandboxError>() || cause.is::<LoadError>());
    if is_host { ": `xc doctor` says what this host lacks" } else { "" }
}

/// What a command answers, on standard output: a full disk is a failure, whoever reads no further is none.
fn answer(text: &str) -> anyhow::Result<()> {
    told(writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()))
}

fn told(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

fn run() -> anyhow::Result<u8> {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            let _ = error.print();
            return Ok(OWN_FAILURE);
        }
        // What was asked for.
        Err(help) => return told(help.print()).map(|()| 0),
    };
    match &arguments.command {
        Command::Do(Options { .. }) | Command::Run(_) => container::run(&arguments.command),
        Command::Doctor(options) => doctor::run(options),
        Command::Features => features::print(),
        Command::Version => answer(&format!("xc {}", env!("CARGO_PKG_VERSION"))).map(|()| 0),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xc: {error:#}{}", hint(&error));
            ExitCode::from(OWN_FAILURE)
        }
    }
}
