//! `xc`: programs of this machine, or of a directory, in containers on a library OS.

/// A line for a stream that the caller may have closed: what nobody reads is no failure. The library's macros panic there.
macro_rules! line {
    ($stream:expr, $($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!($stream, $($text)*);
    }};
}
macro_rules! println {
    ($($text:tt)*) => { line!(std::io::stdout(), $($text)*) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { line!(std::io::stderr(), $($text)*) };
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

use args::{Command, Options};
use clap::Parser as _;
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

fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(OWN_FAILURE) } else { ExitCode::SUCCESS };
        }
    };
    let result = match &arguments.command {
        Command::Do(Options { .. }) | Command::Run(_) => container::run(&arguments.command),
        Command::Doctor(options) => doctor::run(options),
        Command::Features => features::print(),
        Command::Version => {
            println!("xc {}", env!("CARGO_PKG_VERSION"));
            Ok(0)
        }
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xc: {error:#}{}", hint(&error));
            ExitCode::from(OWN_FAILURE)
        }
    }
}
