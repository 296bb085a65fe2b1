//! What a container takes that does nothing: memory, and CPU time.
//!
//! Memory is that of a cgroup with all processes of the run, to which what they map of the runtime's own executable
//! comes: that is nobody's, or the group's that read it first. CPU time is the cgroup's too.

use super::alive::Alive;
use super::group::Group;
use super::rows::{Measure, Rest};
use super::run::Sample;
use super::runtime::{Job, Runtime};
use super::site::Site;
use anyhow::{Context as _, Result};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// After the program has said that it is ready, it and the runtime still do things.
const SETTLE: Duration = Duration::from_secs(2);
/// How long CPU time is watched.
const WATCH: Duration = Duration::from_secs(10);
/// CPU time of a tick of the clock that processes are accounted by.
const TICK_NS: f64 = 1e7;

/// Measures once.
///
/// # Errors
/// Where the container does not start, or there are no cgroups.
pub(super) fn once(site: &Site, rest: &Rest, runtime: &Runtime) -> Result<Sample> {
    // One a run: a group keeps what was read from files after its processes have gone.
    let group = Group::create()?;
    let mut job = Job { is_detached: true, ..Job::new(rest.words) };
    job.groups = group.directories().map(Path::to_owned).collect();
    let value = Alive::start(site, runtime, &job, rest.ready).and_then(|_alive| {
        std::thread::sleep(SETTLE);
        match rest.measure {
            Measure::Memory => memory(&group, runtime),
            Measure::Ticks => ticks(&group),
        }
    });
    group.kill_all()?;
    Ok(Sample { value: value?, cpu_ns: None })
}

fn ticks(group: &Group) -> Result<f64> {
    let before = group.cpu_ns()?;
    std::thread::sleep(WATCH);
    Ok((group.cpu_ns()? - before) / TICK_NS)
}

fn memory(group: &Group, runtime: &Runtime) -> Result<f64> {
    let mut bytes = group.memory_bytes()?;
    if let Some(executable) = runtime.executable() {
        let file = std::fs::metadata(executable)?;
        for process in group.processes()? {
            let process = Path::new("/proc").join(process);
            // Who has gone meanwhile has nothing.
            let is_ours = std::fs::metadata(process.join("exe"))
                .is_ok_and(|exe| (exe.dev(), exe.ino()) == (file.dev(), file.ino()));
            if is_ours {
                bytes += mapped_files(&std::fs::read_to_string(process.join("smaps_rollup"))?)?;
            }
        }
    }
    Ok(bytes)
}

/// Bytes of files that a process maps, its part of what others map too: smaps_rollup of proc(5).
fn mapped_files(rollup: &str) -> Result<f64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss_File:")?.trim().strip_suffix(" kB"));
    let kib: f64 = line.context("smaps_rollup names no Pss_File")?.parse()?;
    Ok(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_files_are_read_in_bytes() {
        let rollup = "Pss:                1000 kB\nPss_Anon:            200 kB\nPss_File:            700 kB\n";
        assert_eq!(mapped_files(rollup).ok(), Some(700.0 * 1024.0));
        assert!(mapped_files("Pss: 1 kB\n").is_err());
    }
}
