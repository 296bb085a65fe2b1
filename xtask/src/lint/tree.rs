//! Checks of files as text: nothing that only this machine knows may be committed.

use super::Finding;
use crate::command;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Folders that every machine has: their name gives nothing away.
const COMMON: &[&str] = &["/", "/build", "/builds", "/home", "/mnt", "/opt", "/root", "/srv", "/src", "/tmp", "/usr"];

/// Looks for paths of this machine in the tracked files.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn check(files: &[PathBuf]) -> Result<Vec<Finding>> {
    let private = private_paths();
    let mut findings = Vec::new();
    for path in files {
        let bytes = std::fs::read(command::root().join(path))?;
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        for (index, line) in text.lines().enumerate() {
            if private.iter().any(|prefix| mentions(line, prefix)) {
                let place = format!("{}:{}", path.display(), index + 1);
                findings.push(Finding { place, message: "a path of this machine".to_owned() });
            }
        }
    }
    Ok(findings)
}

/// The checkout, the folder around it, and Cargo's home.
fn private_paths() -> Vec<String> {
    let root = command::root();
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let candidates = [Some(root.to_owned()), root.parent().map(Path::to_owned), cargo];
    let all = candidates.into_iter().flatten().map(|path| path.to_string_lossy().into_owned());
    all.filter(|path| !COMMON.contains(&path.as_str())).collect()
}

/// Whether the path stands in the line as a path of its own, not as the tail of a longer one.
fn mentions(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let starts = before.is_none_or(|c| !c.is_alphanumeric() && !"._-/})$".contains(c));
        starts && after.is_none_or(|c| !c.is_alphanumeric() && !"._-".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_count() {
        assert!(mentions("cd /w/main && make", "/w/main"));
        assert!(mentions("\"/w/main/target\"", "/w/main"));
        assert!(!mentions("$dir/w/main", "/w/main"));
        assert!(!mentions("/w/mainly", "/w/main"));
    }
}
