//! A cgroup a run: CPU time and memory of all that runs in it, whoever waits for whom.
//!
//! It lies below our own on cgroup v1, where a tree is that of one controller, and beside our own on v2, where a group
//! with processes may hand no controllers down. CPU time is counted without the controller that shares it out.
//!
//! Groups have our process's number in their names: what a bench leaves behind that is killed, the next one finds.

use anyhow::{Context as _, Result, bail};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const MOUNTS: &str = "/sys/fs/cgroup";

/// How the names of groups begin; a process's number and one of the group's follow.
const NAME: &str = "xc-bench-";

/// How often processes are killed before that is given up.
const KILLS: u32 = 500;

/// Groups made so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Where groups are made.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Takes the groups that count CPU time; on v2 all.
    cpu: PathBuf,
    /// Takes those that count memory on v1, if that is counted.
    memory: Option<PathBuf>,
    /// On v2, how runtimes name it.
    path: Option<PathBuf>,
}

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

/// Kills what runs in the groups of benches that are no more, or in those of one, and removes them.
///
/// # Errors
/// Where processes stay.
pub(super) fn remove_left_behind(of: Option<u32>) -> Result<()> {
    // Who may make no groups left none.
    let Ok(place) = Place::of_host() else { return Ok(()) };
    let is_over = |pid: u32| of.map_or_else(|| !Path::new("/proc").join(pid.to_string()).exists(), |of| of == pid);
    place.left_behind(is_over).iter().try_for_each(|group| remove(group))
}

/// Removes a group with those below, which is how many runtimes make them.
fn remove(group: &Path) -> Result<()> {
    for below in directories(group) {
        remove(&below)?;
    }
    kill_all(group)?;
    std::fs::remove_dir(group).with_context(|| format!("cannot remove {}", group.display()))
}

fn directories(of: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Whose group has this name.
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix(NAME)?.split('-').next()?.parse().ok()
}

/// Kills all that runs in a group and waits until it is gone.
fn kill_all(group: &Path) -> Result<()> {
    for _ in 0..KILLS {
        let processes = processes(group)?;
        if processes.is_empty() {
            return Ok(());
        }
        // Who has gone meanwhile is no failure.
        let _ = Command::new("kill").arg("-KILL").args(processes).output()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("processes of {} do not end", group.display())
}

fn processes(group: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(group.join("cgroup.procs"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

impl Place {
    fn of_host() -> Result<Place> {
        let own = std::fs::read_to_string("/proc/self/cgroup").context("cannot read our own cgroup")?;
        Place::find(Path::new(MOUNTS), &own)
    }

    fn find(mounts: &Path, own: &str) -> Result<Place> {
        if mounts.join("cgroup.controllers").exists() {
            let path = Path::new(path_of(own, "").context("we are in no cgroup")?);
            let path = path.parent().unwrap_or(Path::new("/")).to_owned();
            let cpu = mounts.join(path.strip_prefix("/").unwrap_or(&path));
            return Ok(Place { cpu, memory: None, path: Some(path) });
        }
        let find = |controller: &str| {
            let directory = mounts.join(controller).join(path_of(own, controller)?.trim_start_matches('/'));
            directory.is_dir().then_some(directory)
        };
        let Some(cpu) = find("cpuacct") else { bail!("{} has no cpuacct tree", mounts.display()) };
        Ok(Place { cpu, memory: find("memory"), path: None })
    }

    fn create(&self, name: &str) -> Result<Group> {
        let memory = self.memory.as_ref().map(|memory| memory.join(name));
        let inner = self.path.as_ref().and_then(|path| path.join(name).join("inside").to_str().map(str::to_owned));
        let cpu = self.cpu.join(name);
        let group = Group { cpu: if inner.is_some() { cpu.join("outside") } else { cpu }, memory, inner };
        for directory in group.directories() {
            std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        if group.inner.is_some() {
            // Where it is refused, reading memory will tell.
            let control = OpenOptions::new().write(true).open(group.sums().join("cgroup.subtree_control"));
            let _ = control.and_then(|mut control| control.write_all(b"+memory"));
        }
        Ok(group)
    }

    /// Groups of those who are over.
    fn left_behind(&self, is_over: impl Fn(u32) -> bool) -> Vec<PathBuf> {
        let trees = [Some(&self.cpu), self.memory.as_ref()].into_iter().flatten();
        let is_left = |group: &PathBuf| group.file_name().and_then(|name| maker(name.to_str()?)).is_some_and(&is_over);
        trees.flat_map(|tree| directories(tree)).filter(is_left).collect()
    }
}

impl Group {
    /// # Errors
    /// Where there are no cgroups that we may change.
    pub(super) fn create() -> Result<Group> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        Place::of_host()?.create(&format!("{NAME}{}-{number}", std::process::id()))
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
        processes(&self.cpu)
    }

    /// Kills all that runs in the group and waits until it is gone.
    ///
    /// # Errors
    /// Where somebody stays.
    pub(super) fn kill_all(&self) -> Result<()> {
        kill_all(&self.cpu)
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

    /// A directory stands for the mounts of cgroups.
    fn mounts(directories: &[&str]) -> tempfile::TempDir {
        let mounts = tempfile::tempdir().unwrap();
        directories.iter().for_each(|below| std::fs::create_dir_all(mounts.path().join(below)).unwrap());
        mounts
    }

    #[test]
    fn a_controller_is_found_among_those_that_share_a_tree() {
        let own = "4:memory:/one\n3:cpu,cpuacct:/two\n0::/three\n";
        assert_eq!(
            ["memory", "cpuacct", "", "pids"].map(|name| path_of(own, name)),
            [Some("/one"), Some("/two"), Some("/three"), None]
        );
    }

    #[test]
    fn of_version_1_a_group_lies_below_our_own_in_each_tree_that_is_there() {
        let mounts = mounts(&["cpuacct/two"]);
        let own = "4:memory:/one\n3:cpu,cpuacct:/two\n0::/three\n";
        let group = Place::find(mounts.path(), own).and_then(|place| place.create("xc-bench-7-0")).unwrap();
        let directory = mounts.path().join("cpuacct/two/xc-bench-7-0");
        assert_eq!(group.directories().collect::<Vec<_>>(), [&directory]);
        std::fs::write(directory.join("cpuacct.usage"), "1200\n").unwrap();
        assert_eq!(group.cpu_ns().ok(), Some(1200.0));
        assert!(group.memory_bytes().is_err_and(|error| error.to_string().contains("no memory tree")));
        assert!(Place::find(mounts.path(), "0::/\n").is_err());
    }

    #[test]
    fn of_version_2_a_group_lies_beside_our_own_and_sums_what_is_inside_and_outside() {
        let mounts = mounts(&["user/session"]);
        std::fs::write(mounts.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        let place = Place::find(mounts.path(), "0::/user/session\n").unwrap();
        let group = place.create("xc-bench-7-0").unwrap();
        let sums = mounts.path().join("user/xc-bench-7-0");
        assert_eq!(group.directories().collect::<Vec<_>>(), [&sums.join("outside")]);
        assert_eq!(group.inner(), Some("/user/xc-bench-7-0/inside"));
        std::fs::write(sums.join("cpu.stat"), "usage_usec 12\nuser_usec 5\n").unwrap();
        std::fs::write(sums.join("memory.current"), "4096\n").unwrap();
        assert_eq!((group.cpu_ns().ok(), group.memory_bytes().ok()), (Some(12000.0), Some(4096.0)));
        std::fs::remove_file(sums.join("cpu.stat")).unwrap();
        std::fs::remove_file(sums.join("memory.current")).unwrap();
        std::fs::create_dir(sums.join("inside")).unwrap();
        drop(group);
        assert!(!sums.exists());
    }

    #[test]
    fn of_version_2_the_root_takes_groups_where_we_are_in_it() {
        let mounts = mounts(&[]);
        std::fs::write(mounts.path().join("cgroup.controllers"), "").unwrap();
        let group = Place::find(mounts.path(), "0::/\n").and_then(|place| place.create("xc-bench-7-0")).unwrap();
        assert_eq!(group.cpu(), mounts.path().join("xc-bench-7-0/outside"));
        assert_eq!(group.inner(), Some("/xc-bench-7-0/inside"));
    }

    #[test]
    fn groups_of_those_who_are_over_are_found_in_each_tree() {
        let mounts =
            mounts(&["cpuacct/xc-bench-7-0", "cpuacct/xc-bench-8-0", "cpuacct/other-7-0", "memory/xc-bench-7-1"]);
        let place = Place::find(mounts.path(), "2:cpuacct:/\n1:memory:/\n").unwrap();
        let found = place.left_behind(|pid| pid == 7);
        assert_eq!(found, ["cpuacct/xc-bench-7-0", "memory/xc-bench-7-1"].map(|below| mounts.path().join(below)));
    }

    #[test]
    fn what_runs_in_a_group_that_was_left_behind_is_killed() {
        // A file with the numbers of its processes stands for the group.
        let mounts = mounts(&["group/below"]);
        let group = mounts.path().join("group");
        let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(group.join("cgroup.procs"), format!("{}\n", sleeper.id())).unwrap();
        let emptied = std::thread::scope(|scope| {
            let killing = scope.spawn(|| kill_all(&group));
            let killed = sleeper.wait();
            std::fs::write(group.join("cgroup.procs"), "").unwrap();
            killing.join().map(|killing| (killing.is_ok(), killed.is_ok()))
        });
        assert!(emptied.is_ok_and(|emptied| emptied == (true, true)));
    }
}
