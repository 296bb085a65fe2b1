//! `cargo xtask bench`: the same workloads on every runtime of this machine, interleaved, as ratios.
//!
//! [`rows`] says what is measured and hoped for, [`site`] lays out what that needs, [`runtime`] starts words on the
//! bare host, under runc, crun and runsc, and under ours. [`run`] does one run of one row, [`counts`] counts what an
//! operation costs besides time; [`rest`] and [`crowd`] measure containers that stay. [`results`] makes medians and verdicts, [`table`] and [`page`] show them.
//! A benchmark is never a test.

mod against;
mod alive;
mod chart;
mod counts;
mod crowd;
mod group;
mod machine;
mod oci;
mod page;
mod progress;
mod rest;
mod results;
mod rows;
mod run;
mod runtime;
mod site;
mod table;

use crate::setup::{self, Needs};
use crate::{build, command};
use anyhow::{Context as _, Result, bail};
use progress::Progress;
use results::Results;
use rows::Row;
use runtime::Runtime;
use serde_json::{Value, json};
use site::Site;
use std::process::{Command, ExitCode};

/// What follows `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rows whose name contains one of these; all without
    groups: Vec<String>,
    /// How often each runtime runs each row
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Milliseconds that a service is measured in a round
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    ms: u32,
    /// Measure another commit of ours too, and name the rows that got more than 10 % worse or better
    #[arg(long, value_name = "REV")]
    against: Option<String>,
    /// Print the names of the rows and their goals
    #[arg(long)]
    list: bool,
    /// Write docs/benchmarks.md from this run
    #[arg(long)]
    write_docs: bool,
}

/// Measures and shows.
///
/// # Errors
/// Where something cannot be built, or no row has a name that was asked for.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let rows = wanted(args)?;
    if args.list {
        rows.iter().for_each(|row| println!("{:40} {}", row.name, rows::goal_text(row)));
        return Ok(ExitCode::SUCCESS);
    }
    let commit = args.against.as_deref().map(against::resolve).transpose()?;
    if !setup::is_root()? {
        bail!(
            "bench is not root, and needs mount namespaces and cgroups: run it as root, as with `sudo -E cargo xtask \
             bench`; `--list` needs none"
        );
    }
    setup::ensure(Needs::Bench)?;
    let xc = build::all()?;
    let site = Site::prepare()?;
    let (mut runtimes, refused) = runtime::find(&site)?;
    if let Some(commit) = &commit {
        let before = against::build(&site.directory, commit)?;
        runtimes.push(Runtime::ours(&before.name, &before.xc));
    }
    runtimes.push(Runtime::ours("ours", &xc));
    let notes: Vec<String> = refused.into_iter().chain(site.lacks.iter().cloned()).collect();
    notes.iter().for_each(|note| println!("{note}"));
    let mut results = measure(args, rows, &runtimes, &site);
    count(&mut results, &runtimes, &site);
    println!("{}", table::text(&results));
    if args.against.is_some() {
        println!("{}", table::changes_text(&results));
    }
    write(args, &results, &site, &notes)?;
    Ok(ExitCode::SUCCESS)
}

fn wanted(args: &Args) -> Result<Vec<Row>> {
    let mut rows = rows::all();
    rows.retain(|row| args.groups.is_empty() || args.groups.iter().any(|group| row.name.contains(group)));
    if rows.is_empty() {
        bail!("no row is named {}; `cargo xtask bench --list` names them", args.groups.join(" or "));
    }
    Ok(rows)
}

/// Every round runs every row on each runtime in turn, so that what disturbs the machine meets all of them.
fn measure(args: &Args, rows: Vec<Row>, runtimes: &[Runtime], site: &Site) -> Results {
    let names = runtimes.iter().map(|runtime| runtime.name.clone()).collect();
    let mut results = Results::new(rows.clone(), names);
    let steps: u32 = rows.iter().map(|row| row.most_rounds.min(args.rounds)).sum();
    let progress = Progress::new(steps);
    for round in 1..=args.rounds {
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| round <= row.most_rounds) {
            progress.tell(format!("round {round} of {}: {}", args.rounds, row.name));
            for (number, runtime) in in_turn(runtimes, round).filter(|(_, runtime)| row.runs_on(runtime)) {
                results.add(index, number, run::once(site, row, runtime, args.ms));
            }
        }
    }
    results
}

/// Who begins in one round comes last in the next: whatever one leaves behind meets each of the others.
fn in_turn(runtimes: &[Runtime], round: u32) -> impl Iterator<Item = (usize, &Runtime)> {
    let first = round as usize % runtimes.len().max(1);
    runtimes.iter().enumerate().cycle().skip(first).take(runtimes.len())
}

/// Counts on the bare host and ours, once.
fn count(results: &mut Results, runtimes: &[Runtime], site: &Site) {
    let rows = results.rows.clone();
    let progress = Progress::new(u32::try_from(rows.len()).unwrap_or(0));
    for (index, row) in rows.iter().enumerate() {
        progress.tell(format!("counting: {}", row.name));
        for (number, runtime) in runtimes.iter().enumerate().filter(|(_, runtime)| !runtime.is_peer()) {
            if let Some(ns) = results.median(index, number) {
                results.add_counts(index, number, counts::of_one(site, row, runtime, ns));
            }
        }
    }
}

fn write(args: &Args, results: &Results, site: &Site, notes: &[String]) -> Result<()> {
    let json = table::json(results, &about(args)?).to_string();
    let mut files = vec![(site.directory.join("results.json"), json)];
    files.extend(chart::all(results).map(|(name, svg)| (site.directory.join(name), svg)));
    if args.write_docs {
        files.push((command::root().join("docs/benchmarks.md"), page::text(results, &made_by(args)?, notes)));
    }
    for (path, text) in files {
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn about(args: &Args) -> Result<Value> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    Ok(json!({ "commit": commit()?, "rounds": args.rounds, "ms": args.ms,
        "command": format!("cargo xtask {}", words.join(" ")), "machine": machine::describe() }))
}

fn made_by(args: &Args) -> Result<String> {
    let about = about(args)?;
    let text = |key: &str| about[key].as_str().unwrap_or_default().to_owned();
    Ok(format!("Commit {}, {} rounds, `{}`.", text("commit"), args.rounds, text("command")))
}

/// The commit that was measured, and whether the files differ from it.
fn commit() -> Result<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"]).current_dir(command::root());
    Ok(command::output(&mut git)?.trim().to_owned())
}
