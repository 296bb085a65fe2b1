//! `cargo xtask bench`.

use anyhow::{Result, bail};
use std::process::ExitCode;

/// Says that there is nothing to run yet.
///
/// # Errors
/// Always, until the benchmarks exist.
pub(crate) fn run() -> Result<ExitCode> {
    bail!("bench: not built yet; there is nothing to measure until the benchmarks exist")
}
