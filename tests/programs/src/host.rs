//! The host's view of a container: its processes and what they hold.

use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Each process of the host with its parent.
#[must_use]
pub fn processes() -> Vec<(u32, u32)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, behind_name) = stat.rsplit_once(") ")?;
        Some((pid, behind_name.split(' ').nth(1)?.parse().ok()?))
    })
    .collect()
}

/// Children of a process, their children, and so on.
#[must_use]
pub fn descendants(of: u32) -> Vec<u32> {
    let all = processes();
    let mut found = vec![of];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(all.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

/// A process's mappings of a file of this name: start, end and permissions, lowest first.
#[must_use]
pub fn mappings(pid: u32, name: &str) -> Vec<(u64, u64, String)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let named = maps.lines().filter(|line| line.contains(name));
    named
        .filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let hex = |text| u64::from_str_radix(text, 16).ok();
            Some((hex(start)?, hex(end)?, rest.split(' ').next()?.to_owned()))
        })
        .collect()
}

/// The executable mapping of the LibOS in a process: start and end.
#[must_use]
pub fn libos_text(pid: u32) -> Option<(u64, u64)> {
    let arena = mappings(pid, "/memfd:arena").first()?.0;
    let below = arena.checked_sub(abi::boot::ARENA_OFFSET)?..arena - abi::boot::PAGE;
    let text = mappings(pid, "/").into_iter().find(|(start, _, how)| below.contains(start) && how == "r-xp")?;
    Some((text.0, text.1))
}

/// Whether a process runs the LibOS: the service process or a guest.
#[must_use]
pub fn runs_libos(pid: u32) -> bool {
    !mappings(pid, "/memfd:arena").is_empty()
}

/// What a process's descriptors show.
#[must_use]
pub fn descriptors(pid: u32) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, std::fs::read_link(entry.path()).ok()?))
    });
    numbers.collect()
}

/// A container that runs a command, its first two standard streams here.
#[derive(Debug)]
pub struct Container {
    /// The `xc` that supervises it.
    pub xc: Child,
    /// The guest's standard input.
    pub stdin: Option<ChildStdin>,
    /// The guest's standard output.
    pub stdout: ChildStdout,
}

impl Drop for Container {
    /// Nothing is left of one whose test has failed.
    fn drop(&mut self) {
        let _ = self.xc.kill();
        let _ = self.xc.wait();
    }
}

impl Container {
    /// Starts one; `command` is an `xc` command line.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        match command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
            Ok(mut xc) => match (xc.stdin.take(), xc.stdout.take()) {
                (stdin, Some(stdout)) => Self { xc, stdin, stdout },
                _ => panic!("{command:?} has no standard output"),
            },
            Err(error) => panic!("cannot run {command:?}: {error}"),
        }
    }

    /// Reads the guest's next line, without its newline; panics at the end of its output.
    #[must_use]
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            match std::io::Read::read(&mut self.stdout, &mut byte) {
                Ok(1) if byte != *b"\n" => line.extend(byte),
                Ok(1) => return String::from_utf8_lossy(&line).into_owned(),
                other => panic!("the guest's output ends in {:?}: {other:?}", String::from_utf8_lossy(&line)),
            }
        }
    }

    /// Every process of the container but `xc`.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        descendants(self.xc.id())
    }

    /// Those that run the LibOS.
    #[must_use]
    pub fn libos_processes(&self) -> Vec<u32> {
        self.processes().into_iter().filter(|pid| runs_libos(*pid)).collect()
    }
}

/// The user namespace of a process, as a name that no other has.
#[must_use]
pub fn user_namespace(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/user")).ok()
}

/// Processes of a user namespace, zombies that nobody has reaped included as long as they are in it.
#[must_use]
pub fn in_user_namespace(namespace: &std::path::Path) -> Vec<u32> {
    let all = processes().into_iter().map(|(pid, _)| pid);
    all.filter(|pid| user_namespace(*pid).as_deref() == Some(namespace)).collect()
}

/// Asks until the answer is yes; false when a minute has passed.
#[must_use]
pub fn comes_true(mut question: impl FnMut() -> bool) -> bool {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        match question() {
            true => return true,
            false if std::time::Instant::now() > end => return false,
            false => std::thread::sleep(std::time::Duration::from_millis(2)),
        }
    }
}
