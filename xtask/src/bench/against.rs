//! Another commit of ours, built beside this one.

use crate::build::Tree;
use crate::command;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An executable, and the commit that it was built from.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) name: String,
    pub(super) xc: PathBuf,
}

/// The commit that a revision names.
///
/// # Errors
/// Where there is none.
pub(super) fn resolve(revision: &str) -> Result<String> {
    let mut parse = git();
    parse.args(["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")]);
    let output = parse.output().context("cannot start git")?;
    if !output.status.success() {
        bail!("--against {revision}: there is no such commit; `git log` lists them");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Builds a commit in a work tree below `directory`, which goes again; the executable and what cargo made stay.
///
/// # Errors
/// Where it does not compile.
pub(super) fn build(directory: &Path, commit: &str) -> Result<Before> {
    let name = command::output(git().args(["rev-parse", "--short", commit]))?.trim().to_owned();
    let directory = directory.join("against");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let xc = directory.join(format!("xc-{commit}"));
    if !xc.exists() {
        let tree = WorkTree::add(directory.join("tree"), commit)?;
        let built = Tree { root: tree.0.clone(), target: directory.join("target") }.executables()?;
        let new = directory.join("xc.new");
        std::fs::copy(&built, &new).with_context(|| format!("cannot copy {}", built.display()))?;
        std::fs::rename(&new, &xc).with_context(|| format!("cannot make {}", xc.display()))?;
    }
    Ok(Before { name, xc })
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.current_dir(command::root());
    git
}

/// A work tree of our repository.
struct WorkTree(PathBuf);

impl WorkTree {
    fn add(path: PathBuf, commit: &str) -> Result<WorkTree> {
        // One that an interrupted run left.
        remove(&path);
        let mut add = git();
        add.args(["worktree", "add", "--quiet", "--force", "--detach"]).arg(&path).arg(commit);
        command::run(&mut add)?;
        Ok(WorkTree(path))
    }
}

impl Drop for WorkTree {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Git says no where there is none.
fn remove(path: &Path) {
    let _ = git().args(["worktree", "remove", "--force"]).arg(path).stderr(Stdio::null()).status();
    let _ = std::fs::remove_dir_all(path);
}
