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
mod keeper;
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
mod suites;
mod table;

use crate::setup::{self, Needs};
use crate::{build, command};
use anyhow::{Context as _, Result, bail};
use keeper::Keeper;
use progress::Progress;
use results::Results;
use rows::{Kind, Row};
use runtime::Runtime;
use serde_json::{Value, json};
use site::Site;
pub(crate) use site::build_workload;
use std::path::PathBuf;
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
    /// Where UnixBench, lmbench and will-it-scale are built: docs/suites.md
    #[arg(long, value_name = "DIR")]
    suites: Option<PathBuf>,
    /// Print the names of the rows and their goals
    #[arg(long)]
    list: bool,
    /// Write docs/benchmarks.md from this run
    #[arg(long)]
    write_docs: bool,
    /// Wait for the end of standard input, then clear away what the bench with this number has left
    #[arg(long, value_name = "PID", hide = true)]
    clear_away: Option<u32>,
}

/// Measures and shows.
///
/// # Errors
/// Where something cannot be built, or no row has a name that was asked for.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(of) = args.clear_away {
        keeper::clear_away(of)?;
        return Ok(ExitCode::SUCCESS);
    }
    let named = wanted(args)?;
    if args.list {
        named.iter().for_each(|row| {
            println!("{:40} {}", row.name, row.lacks.map_or_else(|| rows::goal_text(row), str::to_owned))
        });
        return Ok(ExitCode::SUCCESS);
    }
    let commit = args.against.as_deref().map(against::resolve).transpose()?;
    setup::ensure(Needs::Bench)?;
    let xc = build::all()?;
    // Once more: what they need is there now.
    let mut rows = wanted(args)?;
    let _keeper = Keeper::start()?;
    runtime::delete_left_behind();
    group::remove_left_behind(None)?;
    let site = Site::prepare()?;
    if site.group.is_none() {
        rows.iter_mut()
            .filter(|row| matches!(row.kind, Kind::Rest(_)))
            .for_each(|row| row.lacks = Some("needs a cgroup"));
    }
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
    let mut rows = rows::all(suites(args)?.as_deref());
    rows.retain(|row| args.groups.is_empty() || args.groups.iter().any(|group| row.name.contains(group)));
    if rows.is_empty() {
        bail!("no row is named {}; `cargo xtask bench --list` names them", args.groups.join(" or "));
    }
    Ok(rows)
}

/// The directory of suites, as containers see it.
fn suites(args: &Args) -> Result<Option<PathBuf>> {
    let Some(given) = &args.suites else { return Ok(None) };
    let directory = given.canonicalize().with_context(|| format!("--suites {}", given.display()))?;
    if !directory.to_str().is_some_and(site::is_seen) {
        bail!(
            "--suites {} lies below /tmp, where containers have a directory of their own, or has a space",
            directory.display()
        );
    }
    Ok(Some(directory))
}

/// Every round runs every row on each runtime in turn, so that what disturbs the machine meets all of them.
fn measure(args: &Args, rows: Vec<Row>, runtimes: &[Runtime], site: &Site) -> Results {
    let names = runtimes.iter().map(|runtime| runtime.name.clone()).collect();
    let mut results = Results::new(rows.clone(), names);
    let there = || rows.iter().enumerate().filter(|(_, row)| row.lacks.is_none());
    let steps: u32 = there().map(|(_, row)| row.most_rounds.min(args.rounds)).sum();
    let progress = Progress::new(steps);
    for round in 1..=args.rounds {
        for (index, row) in there().filter(|(_, row)| round <= row.most_rounds) {
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
