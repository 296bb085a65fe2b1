//! Containers that stay until they are no longer wanted.

use super::runtime::{Job, Runtime};
use super::site::Site;
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a container may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A container whose program has said that it is ready. It ends with the value.
#[derive(Debug)]
pub(super) struct Alive {
    child: Child,
    /// What ends a container that its runtime has left alone.
    ending: Option<Command>,
}

impl Alive {
    /// Starts the job and waits for a line that has `ready` in it.
    ///
    /// # Errors
    /// Where it ends before.
    pub(super) fn start(site: &Site, runtime: &Runtime, job: &Job, ready: &str) -> Result<Alive> {
        let mut command = runtime.command(site, job)?;
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().context("cannot start the runtime")?;
        let mut alive = Alive { child, ending: runtime.ending(job) };
        let stdout = alive.child.stdout.take().context("no standard output")?;
        let ready = ready.to_owned();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let _ = sender.send(lines.any(|line| line.contains(&ready)));
            // Whoever says more must find somebody who reads it.
            lines.for_each(drop);
        });
        match receiver.recv_timeout(PATIENCE) {
            Ok(true) => Ok(alive),
            Ok(false) => bail!("it ended before it was ready"),
            Err(_) => bail!("it was not ready in {} s", PATIENCE.as_secs()),
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(ending) = &mut self.ending {
            let _ = ending.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
