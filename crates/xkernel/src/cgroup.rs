//! A control group of the container's own, which bounds the memory of its processes: version 2, or the memory hierarchy of
//! version 1, alone or beside it. Supervisor and reaper stay outside: what runs out of memory in it is the container's.
//!
//! The group goes with [`Group`], and, where the supervisor is killed, by a process that waits for that. Where that was killed
//! too, the next container removes it.

use crate::mountinfo::{self, Mount};
use crate::sys::{self, Side};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take until it has let go of a group's last process.
const PATIENCE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(2);
/// What a group's name begins with; process and time of its maker follow.
const PREFIX: &str = "xc-";
/// Seconds in which a group may still be empty.
const YOUTH_S: i64 = 60;

/// Why there is no group.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The host has no memory controller that this process could see.
    #[error("no memory controller is mounted")]
    None,
    /// The caller may make none with a limit.
    #[error("no group with a memory limit can be made at or above {0}")]
    Place(PathBuf),
    /// A step failed on the host.
    #[error("cannot {step} in {at}: {error}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// In which group.
        at: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
}

/// Which files a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// memory.limit_in_bytes
    One,
    /// memory.max
    Two,
}

impl Version {
    fn limit(self) -> &'static str {
        match self {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        }
    }

    /// Says how many processes were killed, in a line of its own.
    fn events(self) -> &'static str {
        match self {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        }
    }

    /// What the group may have in swap: with the limit of memory itself, nothing. Not every host counts it.
    fn swap(self, bytes: u64) -> (&'static str, u64) {
        match self {
            Version::One => ("memory.memsw.limit_in_bytes", bytes),
            Version::Two => ("memory.swap.max", 0),
        }
    }
}

/// The caller's own group in the hierarchy that counts memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    version: Version,
    mount: PathBuf,
    group: PathBuf,
}

/// A container's group; it is removed with this, once its processes have ended.
#[derive(Debug)]
pub struct Group {
    parent: OwnedFd,
    name: String,
    version: Version,
    /// Removes the group where we cannot. None while the group is only tried.
    keeper: Option<i32>,
}

impl Group {
    /// Makes a group whose processes have at most so many bytes, and the process that waits to remove it. The caller
    /// has one thread.
    ///
    /// # Errors
    /// [`CgroupError`]: the host has none, or the caller may make none.
    pub fn create(bytes: u64) -> Result<Self, CgroupError> {
        let (mut group, at) = Self::planned()?;
        remove_forgotten(&group.parent, now().tv_sec);
        // First, for we may be killed at any moment.
        let keeper =
            start_keeper(&group.parent, &group.name).map_err(step("start a process to remove a group", &at))?;
        group.keeper = Some(keeper);
        group.make(bytes).map_err(step("make a group with a limit", &at))?;
        Ok(group)
    }

    /// Makes such a group and removes it again; says of which version it was.
    ///
    /// # Errors
    /// As [`Group::create`].
    pub fn attempt() -> Result<Version, CgroupError> {
        let (group, at) = Self::planned()?;
        group.make(1 << 30).map_err(step("make a group with a limit", &at))?;
        Ok(group.version)
    }

    /// A group that is still to be made, and in which one.
    fn planned() -> Result<(Self, PathBuf), CgroupError> {
        let (own, at) = place()?;
        let parent = openat(CWD, &at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let parent = parent.map_err(step("open the group", &at))?;
        let time = now();
        let pid = rustix::process::getpid().as_raw_nonzero();
        let name = format!("{PREFIX}{pid}-{}.{}", time.tv_sec, time.tv_nsec);
        Ok((Self { parent, name, version: own.version, keeper: None }, at))
    }

    fn make(&self, bytes: u64) -> io::Result<()> {
        mkdirat(&self.parent, &self.name, Mode::from_raw_mode(0o755))?;
        self.write(self.version.limit(), bytes)?;
        let (file, bytes) = self.version.swap(bytes);
        match self.write(file, bytes) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn open(&self, file: &str) -> io::Result<OwnedFd> {
        let path = Path::new(&self.name).join(file);
        Ok(openat(&self.parent, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn write(&self, file: &str, bytes: u64) -> io::Result<()> {
        rustix::io::write(self.open(file)?, bytes.to_string().as_bytes())?;
        Ok(())
    }

    /// Whether the host killed a process for want of memory.
    #[must_use]
    pub fn ran_out(&self) -> bool {
        let path = Path::new(&self.name).join(self.version.events());
        let open = openat(&self.parent, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut text = String::new();
        open.is_ok_and(|file| File::from(file).read_to_string(&mut text).is_ok()) && kills(&text) != 0
    }

    /// The file by which a process joins the group.
    ///
    /// # Errors
    /// The host's errno.
    pub fn entrance(&self) -> io::Result<OwnedFd> {
        self.open("cgroup.procs")
    }
}

/// Puts the calling process into the group whose [`Group::entrance`] it has.
pub(crate) fn join(entrance: BorrowedFd<'_>) -> io::Result<()> {
    rustix::io::write(entrance, b"0")?;
    Ok(())
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(self.parent.as_fd(), &self.name);
        if let Some(keeper) = self.keeper {
            sys::kill(keeper, libc::SIGKILL);
            let _ = sys::reap(keeper);
        }
    }
}

/// Removes a group as soon as its last process has gone.
fn remove(parent: BorrowedFd<'_>, name: &str) {
    let end = Instant::now() + PATIENCE;
    while unlinkat(parent, name, AtFlags::REMOVEDIR) == Err(Errno::BUSY) && Instant::now() < end {
        std::thread::sleep(MOMENT);
    }
}

fn now() -> rustix::time::Timespec {
    rustix::time::clock_gettime(rustix::time::ClockId::Monotonic)
}

/// Groups whose supervisor and keeper were killed together. One with processes stays, and one that is still young, for these
/// are about to join.
fn remove_forgotten(parent: &OwnedFd, now_s: i64) {
    let Ok(entries) = openat(parent, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(rustix::fs::Dir::new)
    else {
        return;
    };
    let is_old = |name: &str| made_at(name).is_some_and(|made_s| now_s.saturating_sub(made_s) > YOUTH_S);
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_ok_and(is_old) {
            let _ = unlinkat(parent, entry.file_name(), AtFlags::REMOVEDIR);
        }
    }
}

/// Second of CLOCK_MONOTONIC that a group's name tells; None for one of somebody else.
fn made_at(name: &str) -> Option<i64> {
    let (pid, time) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let (seconds, nanoseconds) = time.split_once('.')?;
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    if is_number(pid) && is_number(nanoseconds) { seconds.parse().ok() } else { None }
}

/// A process that outlives the supervisor, and then removes the group.
fn start_keeper(parent: &OwnedFd, name: &str) -> io::Result<i32> {
    let supervisor = sys::own_handle()?;
    match sys::fork_with(0)? {
        Side::Parent(keeper) => Ok(keeper),
        Side::Child => {
            // Nothing of the caller's is kept: not its terminal, its directory nor what it has open. Nor is the name: who kills
            // all that is called xc would leave the group.
            let _ = rustix::thread::set_name(c"cgroup-keeper");
            let _ = rustix::process::setsid();
            let _ = rustix::process::chdir("/");
            if let Ok([parent, supervisor]) = sys::keep_only([parent.as_fd(), supervisor.as_fd()]) {
                wait_for_end(supervisor);
                remove(parent, name);
            }
            sys::exit_now(0)
        }
    }
}

/// Waits until a process has ended.
fn wait_for_end(process: BorrowedFd<'_>) {
    use rustix::event::{PollFd, PollFlags, poll};
    while poll(&mut [PollFd::from_borrowed_fd(process, PollFlags::IN)], None) == Err(Errno::INTR) {}
}

/// The caller's own group, and the one in which a new one can be made.
fn place() -> Result<(Own, PathBuf), CgroupError> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mounts = mountinfo::of_host().unwrap_or_default();
    let own = find(&read("/proc/self/cgroup"), &mounts).ok_or(CgroupError::None)?;
    let place = own.place().ok_or_else(|| CgroupError::Place(own.group.clone()))?;
    Ok((own, place))
}

impl Own {
    /// The nearest group that takes one with a limit. Of version 2, a group with processes gives its children none: then
    /// one above does, as long as no limit is left behind on the way.
    fn place(&self) -> Option<PathBuf> {
        let may_write = |path: &Path| accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
        if self.version == Version::One {
            return may_write(&self.group).then(|| self.group.clone());
        }
        let read = |group: &Path, file: &str| std::fs::read_to_string(group.join(file)).unwrap_or_default();
        for group in self.group.ancestors().take_while(|group| group.starts_with(&self.mount)) {
            let gives = read(group, "cgroup.subtree_control").split_whitespace().any(|name| name == "memory");
            // The caller moves a process from its own group into the new one, below this.
            if gives && may_write(&group.join("cgroup.procs")) {
                return Some(group.to_owned());
            }
            // The root has no limit, and no file for it.
            if !matches!(read(group, "memory.max").trim(), "max" | "") {
                return None;
            }
        }
        None
    }
}

/// Finds the caller's group by what /proc/self/cgroup and the table of mounts say.
fn find(cgroup: &str, mounts: &[Mount]) -> Option<Own> {
    let lines = || cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let first = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let (version, (_, group)) = match first {
        Some(line) => (Version::One, line),
        None => (Version::Two, lines().find(|(controllers, _)| controllers.is_empty())?),
    };
    // Where the hierarchy is mounted that counts memory.
    let mount = mounts.iter().find(|mount| match version {
        Version::One => mount.kind == "cgroup" && mount.options.split(',').any(|option| option == "memory"),
        Version::Two => mount.kind == "cgroup2",
    })?;
    let below = Path::new(group).strip_prefix(&mount.root).ok()?;
    Some(Own { version, group: mount.target.join(below), mount: mount.target.clone() })
}

/// Processes that the host killed, by what the group's file of events says.
fn kills(events: &str) -> u64 {
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn step<E: Into<io::Error>>(step: &'static str, at: &Path) -> impl Fn(E) -> CgroupError {
    move |error| CgroupError::Step { step, at: at.to_owned(), error: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "30 25 0:27 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n";
    const SECOND: &str = "31 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";

    fn find(cgroup: &str, table: &str) -> Option<Own> {
        super::find(cgroup, &mountinfo::parse(table.as_bytes()))
    }

    fn own(version: Version, mount: &str, group: &str) -> Option<Own> {
        Some(Own { version, mount: mount.into(), group: group.into() })
    }

    #[test]
    fn the_memory_controller_is_found_where_it_is() {
        let hybrid = find("4:memory:/user/a\n0::/b\n", &[SECOND, FIRST].concat());
        assert_eq!(hybrid, own(Version::One, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/user/a"));
        let second = find("1:name=systemd:/x\n0::/b/c\n", SECOND);
        assert_eq!(second, own(Version::Two, "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/b/c"));
        assert_eq!(find("3:cpu,memory:/\n", SECOND), None);
        assert_eq!(find("", ""), None);
    }

    /// A directory stands for the group.
    #[test]
    fn old_empty_groups_of_ours_are_removed() {
        let directory = tempfile::tempdir().expect("directory");
        let at = |name: &str| directory.path().join(name);
        let names = ["xc-7-100.5", "xc-8-100.5/child", "xc-9-190.5", "xc-a-100.5", "xc-7-100", "other"];
        names.iter().for_each(|name| std::fs::create_dir_all(at(name)).expect("group"));
        std::fs::write(at("xc-1-1.1"), "").expect("file");
        let parent = openat(CWD, directory.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("parent");
        remove_forgotten(&parent, 200);
        assert!(!at(names[0]).exists());
        assert!(names[1..].iter().all(|name| at(name).exists()) && at("xc-1-1.1").exists());
    }

    #[test]
    fn kills_are_told_by_a_line_of_either_version() {
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(kills("low 0\nhigh 0\nmax 9\noom 3\noom_kill 0\noom_group_kill 0\n"), 0);
    }

    #[test]
    fn a_mount_of_a_part_shows_groups_below_that_part() {
        let part = "30 25 0:27 /pod/a /mem rw shared:1 - cgroup cgroup rw,memory\n";
        assert_eq!(find("4:memory:/pod/a/b\n", part), own(Version::One, "/mem", "/mem/b"));
        assert_eq!(find("4:memory:/pod\n", part), None);
    }

    /// A directory stands for the hierarchy: it has the same files.
    #[test]
    fn of_version_two_a_group_above_takes_the_new_one_unless_a_limit_is_left_behind() {
        let directory = tempfile::tempdir().expect("directory");
        let mount = directory.path();
        let leaf = mount.join("slice/leaf");
        std::fs::create_dir_all(&leaf).expect("groups");
        let write = |file: &str, text: &str| std::fs::write(mount.join(file), text).expect(file);
        let own = || Own { version: Version::Two, mount: mount.into(), group: leaf.clone() };
        assert_eq!(own().place(), None);
        write("slice/cgroup.subtree_control", "cpu memory\n");
        write("slice/cgroup.procs", "");
        write("slice/leaf/memory.max", "max\n");
        assert_eq!(own().place(), Some(mount.join("slice")));
        write("slice/leaf/memory.max", "1000\n");
        assert_eq!(own().place(), None);
        write("slice/leaf/cgroup.subtree_control", "memory\n");
        write("slice/leaf/cgroup.procs", "");
        assert_eq!(own().place(), Some(leaf.clone()));
    }
}
