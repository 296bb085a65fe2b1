//! The files of the repository, and Rust files with what is known of each.

use crate::command;
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::process::Command;

/// Paths, relative to the root, that git tracks or would add.
///
/// # Errors
/// When git fails.
pub(crate) fn tracked() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(command::root());
    let mut paths: Vec<PathBuf> = command::output(&mut git)?.split_terminator('\0').map(PathBuf::from).collect();
    // A path with a conflict is listed more than once; a deleted one is listed and absent.
    paths.sort();
    paths.dedup();
    paths.retain(|path| command::root().join(path).is_file());
    Ok(paths)
}

/// A Rust file.
pub(crate) struct Source {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// `crates/abi`, `xtask`, …
    pub(crate) package: String,
    /// Its lines.
    pub(crate) lines: Vec<String>,
    /// Its tree.
    pub(crate) syntax: syn::File,
    /// Code that only tests use, as a whole.
    pub(crate) is_test: bool,
}

/// Reads and parses the Rust files among the paths.
///
/// # Errors
/// When one cannot be read or is no Rust.
pub(crate) fn parse(files: &[PathBuf]) -> Result<Vec<Source>> {
    let rust = files.iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| {
        let text = std::fs::read_to_string(command::root().join(path));
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Source::parse(&path.to_string_lossy(), &text)
    })
    .collect()
}

impl Source {
    /// One file from its text.
    ///
    /// # Errors
    /// When it is no Rust.
    pub(crate) fn parse(path: &str, text: &str) -> Result<Self> {
        let syntax = syn::parse_file(text);
        let syntax = syntax.map_err(|e| anyhow::anyhow!("{path}:{}: no Rust: {e}", e.span().start().line))?;
        Ok(Self {
            path: path.to_owned(),
            package: package(path),
            lines: text.lines().map(str::to_owned).collect(),
            syntax,
            is_test: is_test(path),
        })
    }

    /// The line with this number, counted from 1; empty outside the file.
    pub(crate) fn line(&self, number: usize) -> &str {
        number.checked_sub(1).and_then(|i| self.lines.get(i)).map_or("", |line| line.trim())
    }

    /// Whether the file as a whole may exceed its cap: a line `// budget(file): why`.
    pub(crate) fn is_excused(&self) -> bool {
        self.lines.iter().any(|line| has_reason(line, "// budget(file):"))
    }

    /// Whether the item that starts on this line, doc and attributes included, has `// budget: why` above it.
    pub(crate) fn is_item_excused(&self, first_line: usize) -> bool {
        has_reason(self.line(first_line.saturating_sub(1)), "// budget:")
    }
}

fn has_reason(line: &str, mark: &str) -> bool {
    line.trim().strip_prefix(mark).is_some_and(|reason| !reason.trim().is_empty())
}

fn package(path: &str) -> String {
    let depth = if path.starts_with("crates/") || path.starts_with("tests/") { 2 } else { 1 };
    path.split('/').take(depth).collect::<Vec<_>>().join("/")
}

/// Packages of tests, `tests.rs` beside the code, and what only test drivers, fuzzers and examples compile.
fn is_test(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "fuzz" | "examples"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_the_folders_of_the_workspace() {
        assert_eq!(package("crates/abi/src/lib.rs"), "crates/abi");
        assert_eq!(package("xtask/src/main.rs"), "xtask");
        assert_eq!(package("tests/hostile/src/main.rs"), "tests/hostile");
    }

    #[test]
    fn excuse_needs_a_reason() {
        let source = |line: &str| Source::parse("a.rs", &format!("{line}\nfn f() {{}}\n")).unwrap();
        assert!(source("// budget: one honest match").is_item_excused(2));
        assert!(!source("// budget:").is_item_excused(2));
        assert!(!source("// budget: one honest match").is_excused());
        assert!(source("// budget(file): a table").is_excused());
    }
}
