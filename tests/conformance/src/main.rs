//! Small cases of what Linux promises its programs, one family of system calls a file.
//!
//! The program runs on the host's Linux, where every case must be green, and then as a guest.
//! `conformance --help` says how. Nothing in here sleeps to wait for something.

mod family;
mod helper;
mod ipc;
mod kit;
mod net;
mod place;
mod pty;
mod report;
mod runner;
mod sys;

use std::process::ExitCode;

const HELP: &str = "usage: conformance [--list] [--exact NAME]… [--skip PATTERN]… [--verbose] [--coverage] [FILTER…]
Runs the cases whose name (family::case) contains a filter, or all, each in a process and a
temporary directory of its own.
  --list            names only
  --exact NAME      this case (may be repeated)
  --skip PATTERN    not those whose name contains this (may be repeated)
  --verbose         name each case before it runs
  --coverage        at the end, each call made with the errnos seen";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == "--helper") {
        return helper::run(&args[2..]);
    }
    if args.get(1).is_some_and(|a| a.starts_with("--script")) {
        println!("{}", args[1..].join("|"));
        return ExitCode::SUCCESS;
    }
    match Options::parse(&args[1..]) {
        Some(options) => run(&options),
        None => {
            println!("{HELP}");
            ExitCode::from(2)
        }
    }
}

#[derive(Default)]
struct Options {
    list: bool,
    verbose: bool,
    coverage: bool,
    exact: Vec<String>,
    skip: Vec<String>,
    filters: Vec<String>,
}

impl Options {
    fn parse(args: &[String]) -> Option<Self> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => options.list = true,
                "--verbose" => options.verbose = true,
                "--coverage" => options.coverage = true,
                "--exact" => options.exact.push(args.next()?.clone()),
                "--skip" => options.skip.push(args.next()?.clone()),
                other if other.starts_with('-') => return None,
                filter => options.filters.push(filter.to_owned()),
            }
        }
        Some(options)
    }

    fn wants(&self, name: &str) -> bool {
        let any = self.exact.is_empty() && self.filters.is_empty();
        let named = self.exact.iter().any(|e| e == name) || self.filters.iter().any(|f| name.contains(f.as_str()));
        (any || named) && !self.skip.iter().any(|s| name.contains(s.as_str()))
    }
}

fn run(options: &Options) -> ExitCode {
    let cases = family::all().filter(|c| options.wants(&c.full_name()));
    if options.list {
        cases.for_each(|case| println!("{}", case.full_name()));
        return ExitCode::SUCCESS;
    }
    if options.coverage
        && let Err(errno) = sys::coverage::start()
    {
        println!("--coverage: {errno:?}");
        return ExitCode::from(2);
    }
    let mut tally = runner::Tally::default();
    for case in cases {
        if options.verbose {
            println!("run {}", case.full_name());
        }
        tally.run(&case);
    }
    if options.coverage {
        sys::coverage::report().iter().for_each(|line| println!("# {line}"));
    }
    tally.finish()
}
