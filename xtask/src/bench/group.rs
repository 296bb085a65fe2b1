//! A cgroup a run: CPU time and memory of all that runs in it, whoever waits for whom.
//!
//! It lies below our own on cgroup v1, where a tree is that of one controller, and beside our own on v2, where a group
//! with processes may hand no controllers down. CPU time is counted without the controller that shares it out.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const MOUNTS: &str = "/sys/fs/cgroup";

/// How often processes are killed before that is given up.
const KILLS: u32 = 500;

/// Groups made so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Directories of one group. It is removed with the value, and must be empty of processes then.
#[derive(Debug)]
pub(super) struct Group {
    /// Where CPU time is counted.
    cpu: PathBuf,
    /// Where memory is counted on v1, if anywhere.
    memory: Option<PathBuf>,
    /// On v2: what a runtime that makes cgroups of its own makes it below.
    inner: Option<String>,
}

impl Group {
    /// # Errors
    /// Where there are no cgroups that we may change.
    pub(super) fn create() -> Result<Group> {
        let own = std::fs::read_to_string("/proc/self/cgroup").context("cannot read our own cgroup")?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("xc-bench-{}-{number}", std::process::id());
        let group = if Path::new(MOUNTS).join("cgroup.controllers").exists() {
            Group::version_2(&own, &name)?
        } else {
            Group::version_1(&own, &name)?
        };
        for directory in group.directories() {
            std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        if group.inner.is_some() {
            // Where it is refused, reading memory will tell.
            let _ = std::fs::write(group.sums().join("cgroup.subtree_control"), "+memory");
        }
        Ok(group)
    }

    fn version_1(own: &str, name: &str) -> Result<Group> {
        let find = |controller: &str| {
            let tree = Path::new(MOUNTS).join(controller);
            let path = path_of(own, controller)?;
            let directory = tree.join(path.trim_start_matches('/'));
            directory.is_dir().then(|| directory.join(name))
        };
        let Some(cpu) = find("cpuacct") else { bail!("{MOUNTS} has no cpuacct tree") };
        Ok(Group { cpu, memory: find("memory"), inner: None })
    }

    fn version_2(own: &str, name: &str) -> Result<Group> {
        let path = path_of(own, "").context("we are in no cgroup")?;
        let parent = Path::new(path).parent().unwrap_or(Path::new("/")).join(name);
        let outer = Path::new(MOUNTS).join(parent.strip_prefix("/").unwrap_or(&parent));
        let inner = parent.join("inside").to_str().map(str::to_owned);
        Ok(Group { cpu: outer.join("outside"), memory: None, inner })
    }

    /// Those that a process joins.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        [Some(self.cpu.as_path()), self.memory.as_deref()].into_iter().flatten()
    }

    pub(super) fn cpu(&self) -> PathBuf {
        self.cpu.clone()
    }

    pub(super) fn inner(&self) -> Option<&str> {
        self.inner.as_deref()
    }

    /// Where the sums of all below are.
    fn sums(&self) -> &Path {
        if self.inner.is_some() { self.cpu.parent().unwrap_or(&self.cpu) } else { &self.cpu }
    }

    /// Memory of all that runs in the group.
    ///
    /// # Errors
    /// Where it is not counted.
    pub(super) fn memory_bytes(&self) -> Result<f64> {
        match (&self.memory, &self.inner) {
            (_, Some(_)) => read_number(&self.sums().join("memory.current")),
            (Some(memory), None) => read_number(&memory.join("memory.usage_in_bytes")),
            (None, None) => bail!("{MOUNTS} has no memory tree"),
        }
    }

    /// Who runs in the group: process ids.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) fn processes(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(self.cpu.join("cgroup.procs"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Kills all that runs in the group and waits until it is gone.
    ///
    /// # Errors
    /// Where somebody stays.
    pub(super) fn kill_all(&self) -> Result<()> {
        for _ in 0..KILLS {
            let processes = self.processes()?;
            if processes.is_empty() {
                return Ok(());
            }
            // Who has gone meanwhile is no failure.
            let _ = Command::new("kill").arg("-KILL").args(processes).output()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("processes of {} do not end", self.cpu.display())
    }

    /// CPU time of all that ever ran in the group.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) fn cpu_ns(&self) -> Result<f64> {
        if self.inner.is_none() {
            return read_number(&self.sums().join("cpuacct.usage"));
        }
        let text = std::fs::read_to_string(self.sums().join("cpu.stat"))?;
        let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse::<f64>().ok());
        Ok(micros.context("cpu.stat names no usage_usec")? * 1000.0)
    }
}

fn read_number(path: &Path) -> Result<f64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.trim().parse().with_context(|| format!("{} has no number", path.display()))
}

/// Our path in a controller's tree, from the lines of /proc/self/cgroup; that of v2 has no name.
fn path_of<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        names.split(',').any(|name| name == controller).then_some(path)
    })
}

impl Drop for Group {
    /// What is left of it is empty directories: nothing to fail for.
    fn drop(&mut self) {
        for directory in self.directories() {
            let _ = std::fs::remove_dir(directory);
        }
        if self.inner.is_some() {
            let _ = std::fs::remove_dir(self.sums().join("inside"));
            let _ = std::fs::remove_dir(self.sums());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_found_among_those_that_share_a_tree() {
        let own = "4:memory:/one\n3:cpu,cpuacct:/two\n0::/three\n";
        assert_eq!(
            ["memory", "cpuacct", "", "pids"].map(|name| path_of(own, name)),
            [Some("/one"), Some("/two"), Some("/three"), None]
        );
    }
}
