//! What is laid out for a run: directories, the workload, trees of files, a cgroup.

use super::group::Group;
use crate::{command, setup};
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether PATH of what is measured has a program of this name.
pub(super) fn is_on_path(name: &str) -> bool {
    PATH.split(':').any(|directory| Path::new(directory).join(name).exists())
}

/// Whether containers see a path as it is: all have a /tmp of their own, and words have no spaces.
pub(super) fn is_seen(path: &str) -> bool {
    !path.contains(char::is_whitespace) && !path.starts_with("/tmp/")
}

/// The places of one run.
#[derive(Debug, Default)]
pub(super) struct Site {
    pub(super) directory: PathBuf,
    pub(super) workload: String,
    /// A tree of files that containers see on the host's root.
    pub(super) tree: String,
    /// One that they may write to.
    pub(super) volume: String,
    /// Why there is none is in `lacks`.
    pub(super) group: Option<Group>,
    pub(super) is_root: bool,
    pub(super) lacks: Vec<String>,
}

/// target/bench/.
///
/// # Errors
/// Where it cannot be made.
pub(super) fn directory() -> Result<PathBuf> {
    let directory = command::target_dir().join("bench");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

impl Site {
    /// # Errors
    /// Where the workload does not compile, or a directory cannot be made.
    pub(super) fn prepare() -> Result<Site> {
        let directory = directory()?;
        let name = |name: &str| directory.join(name).to_str().map(str::to_owned).context("a path is no UTF-8");
        let mut site = Site {
            workload: name("workload")?,
            tree: name("tree")?,
            volume: name("volume")?,
            directory: directory.clone(),
            is_root: setup::is_root()?,
            ..Site::default()
        };
        if !is_seen(&site.workload) {
            bail!("{} lies below /tmp or has a space: bench needs another CARGO_TARGET_DIR", directory.display());
        }
        build_workload(Path::new(&site.workload))?;
        for tree in [&site.tree, &site.volume] {
            command::run(Command::new(&site.workload).args(["--make-tree", tree]))?;
        }
        match Group::create() {
            Ok(group) => site.group = Some(group),
            Err(error) => site.lacks.push(format!("no CPU times, and nothing of containers at rest: {error:#}")),
        }
        Ok(site)
    }
}

/// The workload is static, so that the same file runs everywhere.
pub(crate) fn build_workload(program: &Path) -> Result<()> {
    let source = command::root().join("benches/workload");
    let entries = std::fs::read_dir(&source).with_context(|| format!("cannot list {}", source.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-Wall", "-static", "-pthread", "-o"]).arg(program);
    gcc.args(paths.filter(|path| path.extension().is_some_and(|kind| kind == "c")));
    command::run(&mut gcc)
}
