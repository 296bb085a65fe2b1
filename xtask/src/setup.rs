//! Installs what a verb needs and this machine lacks. A second run costs one `dpkg-query`.

mod debian;

use crate::command;
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// What every build needs besides Rust: a linker and the C library's objects.
const BUILD: &[&str] = &["gcc", "libc6-dev"];

/// What the programs of the demo are.
const DEMO: &[&str] = &["bash", "coreutils", "python3"];

/// What tests/programs runs.
const TEST: &[&str] = &[
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "debootstrap",
    "dpkg-dev",
    "findutils",
    "g++",
    "gawk",
    "gdb",
    "git",
    "golang-go",
    "grep",
    "gzip",
    "less",
    "linux-perf",
    "make",
    "musl-tools",
    "nodejs",
    "openjdk-17-jdk-headless",
    "openssl",
    "perl",
    "procps",
    "python3",
    "sed",
    "sqlite3",
    "strace",
    "tar",
    "vim-tiny",
    "xz-utils",
];

/// What bench runs and measures against.
const BENCH: &[&str] = &[
    "bash",
    "crun",
    "gcc",
    "golang-github-containers-common",
    "libc6-dev",
    "linux-perf",
    "python3",
    "redis-tools",
    "rt-tests",
    "runc",
    "runsc",
    "util-linux",
];

/// What profile samples with.
const PROFILE: &[&str] = &["linux-perf"];

/// The target of the LibOS image.
pub(crate) const IMAGE_TARGET: &str = "x86_64-unknown-none";

/// A verb, as far as its needs differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Lint,
    Build,
    Demo,
    Test,
    Bench,
    Profile,
}

/// Installs what the verb needs.
///
/// # Errors
/// When something is missing and cannot be installed here.
pub(crate) fn ensure(needs: Needs) -> Result<()> {
    image_target()?;
    match needs {
        Needs::Lint => components(),
        Needs::Build => packages(BUILD.iter()),
        Needs::Demo => packages(BUILD.iter().chain(DEMO)),
        Needs::Test => {
            packages(BUILD.iter().chain(TEST))?;
            debian::source()?;
            debian::root()
        }
        Needs::Bench => {
            packages(BUILD.iter())?;
            wished(BENCH)
        }
        Needs::Profile => packages(BUILD.iter().chain(PROFILE)),
    }
}

/// rust-toolchain.toml names the target; a toolchain that was there before may still lack it.
fn image_target() -> Result<()> {
    let query = ["--print", "target-libdir", "--target", IMAGE_TARGET];
    let dir = command::output(Command::new("rustc").args(query).current_dir(command::root()))?;
    if Path::new(dir.trim()).is_dir() {
        return Ok(());
    }
    rustup(&["target", "add", IMAGE_TARGET])
}

fn components() -> Result<()> {
    for (verb, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let mut probe = command::cargo();
        probe.args([verb, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
        if !command::status(&mut probe)?.success() {
            rustup(&["component", "add", component])?;
        }
    }
    Ok(())
}

fn rustup(args: &[&str]) -> Result<()> {
    eprintln!("setup: rustup {}", args.join(" "));
    command::run(Command::new("rustup").args(args).current_dir(command::root()))
        .context("without rustup, install the target and the components of rust-toolchain.toml another way")
}

fn packages<'a>(wanted: impl Iterator<Item = &'a &'static str>) -> Result<()> {
    let missing = missing_packages(&wanted.copied().collect::<Vec<_>>())?;
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root()? {
        bail!("Debian packages are missing; as root: apt-get install {}", missing.join(" "));
    }
    eprintln!("setup: apt-get install {}", missing.join(" "));
    command::run(&mut apt_get(&["update"]))?;
    let mut install = apt_get(&["install", "--yes", "--no-install-recommends"]);
    command::run(install.args(&missing))
}

/// Packages without which less can be done: root installs them, others are told.
fn wished(wanted: &[&'static str]) -> Result<()> {
    if is_root()? {
        return packages(wanted.iter());
    }
    let missing = missing_packages(wanted)?;
    if !missing.is_empty() {
        eprintln!("setup: rows that need them are left out; as root: apt-get install {}", missing.join(" "));
    }
    Ok(())
}

/// It waits for another that is at work, as a fresh machine's own upgrades are.
fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["--quiet=2", "--option=DPkg::Lock::Timeout=600"]).args(args);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Those of the packages that are not installed. Where there is no dpkg, the programs themselves will tell.
fn missing_packages(wanted: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status} ${Package}\n"]).args(wanted);
    let output = match query.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("cannot start dpkg-query"),
    };
    let installed: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    Ok(wanted.iter().copied().filter(|name| !installed.contains(name)).collect())
}

/// Whether we may do what only root may.
///
/// # Errors
/// Where `id` cannot be run.
pub(crate) fn is_root() -> Result<bool> {
    Ok(command::output(Command::new("id").arg("-u"))?.trim() == "0")
}
