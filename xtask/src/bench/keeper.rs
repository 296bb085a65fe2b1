//! What is left of a bench, however it ends: a process that outlives it clears away.

use super::{group, runtime};
use anyhow::{Context as _, Result};
use std::process::{Child, Command, Stdio};

/// A process that waits until this one is gone, or lets go of it.
#[derive(Debug)]
pub(super) struct Keeper(Child);

impl Keeper {
    /// # Errors
    /// Where it cannot be started.
    pub(super) fn start() -> Result<Keeper> {
        let own = std::env::current_exe().context("cannot find our own executable")?;
        // In a session of its own, where no ^C reaches it.
        let mut keeper = Command::new("setsid");
        keeper.arg(own).args(["bench", "--clear-away", &std::process::id().to_string()]);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null());
        Ok(Keeper(keeper.spawn().context("cannot start a process that clears away")?))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What the keeper of a bench does: it waits for the end of standard input, which is the bench's.
///
/// # Errors
/// Where something stays.
pub(super) fn clear_away(of: u32) -> Result<()> {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    runtime::delete_left_behind();
    group::remove_left_behind(Some(of))
}
