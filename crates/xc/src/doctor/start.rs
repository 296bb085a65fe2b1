//! The proof: a container of a trivial program.

use super::Check;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NAME: &str = "a container";
/// Where the container has `xc`.
const PLACE: &str = "/xc-of-doctor";
/// How long it may take; a fast host needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `xc version` in a container: the one program that is surely there.
pub(super) fn check() -> Check {
    let started = Instant::now();
    let output = std::env::current_exe().and_then(|xc| {
        let mut command = Command::new(&xc);
        // Wherever xc lies: a container has /dev, /proc and /sys of its own.
        match xc.to_str().filter(|path| !path.contains(':')) {
            Some(path) => command.args(["do", "-v", &format!("{path}:{PLACE}:ro"), "-w", "/", "--", PLACE]),
            None => command.args(["do", "-w", "/", "--"]).arg(&xc),
        };
        command.arg("version");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        wait(command.spawn()?)
    });
    judge(output, started.elapsed())
}

/// What it printed on both streams, and, where it did not succeed, how it ended.
type Outcome = (Option<String>, String, String);

fn wait(mut child: Child) -> std::io::Result<Outcome> {
    let end = Instant::now() + PATIENCE;
    let failure = loop {
        match child.try_wait()? {
            Some(status) => break (!status.success()).then(|| status.to_string()),
            None if Instant::now() > end => {
                child.kill()?;
                child.wait()?;
                break Some(format!("no end within {} s", PATIENCE.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    // A line each: the pipes hold them.
    let (mut out, mut error) = (String::new(), String::new());
    if let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) {
        stdout.read_to_string(&mut out)?;
        stderr.read_to_string(&mut error)?;
    }
    Ok((failure, out, error))
}

fn judge(outcome: std::io::Result<Outcome>, elapsed: Duration) -> Check {
    let mend = "mend what is missing above; if nothing is, this is a bug of ours: send this report";
    match outcome {
        Ok((None, out, _)) if out.starts_with("xc ") => {
            Check::ok(NAME, format!("started and ended in {} ms", elapsed.as_millis()))
        }
        Ok((failure, _, error)) => {
            let how = failure.unwrap_or_else(|| "it printed something else".into());
            let said = error.lines().collect::<Vec<_>>().join("; ");
            Check::missing(NAME, format!("did not run ({how}) {said}").trim(), mend)
        }
        Err(error) => Check::missing(NAME, format!("could not be tried: {error}"), mend),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn only_what_the_program_prints_is_a_proof() {
        let of = |outcome| judge(outcome, Duration::from_millis(9));
        assert_eq!(of(Ok((None, "xc 1.0\n".into(), String::new()))).found, "started and ended in 9 ms");
        assert_eq!(of(Ok((None, String::new(), String::new()))).state, State::Missing);
        let failed = of(Ok((Some("exit status: 125".into()), String::new(), "xc: cannot make namespaces\n".into())));
        assert_eq!(
            (failed.state, failed.found.as_str()),
            (State::Missing, "did not run (exit status: 125) xc: cannot make namespaces")
        );
        assert_eq!(of(Err(std::io::Error::other("x"))).state, State::Missing);
    }
}
