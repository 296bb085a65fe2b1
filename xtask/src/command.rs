//! Where things are, and how other programs are run.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Cargo's target directory for what people and tests build on the host.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Cargo, as the one that runs us, at the repository's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root());
    command
}

/// Runs a command with our own standard streams.
///
/// # Errors
/// When it cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a command with our own standard streams, and says how it ended.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot start {}", line(command)))
}

/// What a command prints on its standard output.
///
/// # Errors
/// When it cannot be started, or fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", line(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Hands each line of a stream to `each`, as it comes. Bytes that are no UTF-8 are replaced.
///
/// # Errors
/// When the stream cannot be read.
pub(crate) fn each_line(stream: impl Read, mut each: impl FnMut(&str)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        each(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
    Ok(())
}

/// The lines of a stream as they come, for a caller that does not wait for ever. Ends at the stream's end, or behind an error.
pub(crate) fn lines(stream: impl Read + Send + 'static) -> Receiver<std::io::Result<String>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // The receiver is gone only when nobody wants the rest.
        let read = each_line(stream, |line| drop(sender.send(Ok(line.to_owned()))));
        read.unwrap_or_else(|error| drop(sender.send(Err(error))));
    });
    receiver
}

/// Kills what a process began, and what that began in turn, but not the process. All are stopped first: who dies loses
/// its children, and one that goes on begins others.
///
/// # Errors
/// When `pgrep` or `kill` cannot be started.
pub(crate) fn kill_below(pid: u32) -> Result<()> {
    let mut known = vec![pid.to_string()];
    loop {
        let mut pgrep = Command::new("pgrep");
        let children = pgrep.args(["--parent", &known.join(",")]).output().context("cannot start pgrep")?.stdout;
        let children = String::from_utf8_lossy(&children);
        let new: Vec<String> = children.lines().map(str::to_owned).filter(|child| !known.contains(child)).collect();
        if new.is_empty() {
            return signal("-KILL", known.get(1..).unwrap_or(&[]));
        }
        signal("-STOP", &new)?;
        known.extend(new);
    }
}

fn signal(signal: &str, pids: &[String]) -> Result<()> {
    // Some have ended meanwhile, of which it complains.
    status(Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()))?;
    Ok(())
}

/// A command as a person would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_began_is_killed_and_its_pipe_ends() {
        let mut shell = Command::new("sh");
        let mut shell = shell
            .args(["-c", "(sh -c 'echo begun; sleep 1000') & wait; echo over"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines(shell.stdout.take().unwrap());
        assert_eq!(lines.recv().unwrap().unwrap(), "begun");
        kill_below(shell.id()).unwrap();
        assert_eq!(lines.recv().unwrap().unwrap(), "over");
        assert!(lines.recv().is_err(), "nobody holds the pipe");
        assert!(shell.wait().unwrap().success());
    }
}
