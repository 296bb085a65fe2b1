//! Real programs in real containers, compared with the host. The tests lie in `tests/`.
//!
//! `XC_BIN` names the `xc` under test; `cargo xtask test` sets it. Without it the tests fail and say so.

pub mod caller;
pub mod host;
pub mod picked;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The `xc` under test.
#[must_use]
pub fn xc() -> PathBuf {
    match std::env::var_os("XC_BIN") {
        Some(path) => path.into(),
        None => panic!("XC_BIN is not set: run the tests with `cargo xtask test`"),
    }
}

/// Output and exit status of a command, standard input empty.
#[must_use]
pub fn run(mut command: Command) -> Output {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!("cannot run {command:?}: {error}"),
    }
}

/// A command line for the host.
#[must_use]
pub fn on_host(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// The same in a container over the host's root.
#[must_use]
pub fn in_container(words: &[&str]) -> Command {
    let mut command = Command::new(xc());
    command.args(["do", "--"]).args(words);
    command
}

/// Builds a source of `guest/` into a directory, under the source's name without its ending: by gcc, or by g++ where it
/// is C++.
#[must_use]
pub fn compile(source: &str, flags: &[&str], directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest").join(source);
    let program = directory.join(source.file_stem().unwrap_or_default());
    let is_plain = source.extension().is_some_and(|ending| ending == "c");
    let mut command = Command::new(if is_plain { "gcc" } else { "g++" });
    command.args(flags).arg("-o").arg(&program).arg(source);
    assert!(command.status().is_ok_and(|status| status.success()), "{command:?}");
    program
}

/// What `cargo xtask test` keeps of Debian below cargo's target directory, where the running test lies too.
#[must_use]
pub fn debian(name: &str) -> String {
    let test = std::env::current_exe().unwrap_or_default();
    let kept = test.ancestors().nth(3).unwrap_or(&test).join("debian").join(name);
    assert!(kept.exists(), "{} is missing: `cargo xtask test` fetches it", kept.display());
    kept.display().to_string()
}

/// The program behaves in the container as on the host: same output, same status.
pub fn assert_same(words: &[&str]) {
    let host = run(on_host(words));
    let guest = run(in_container(words));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&guest.stdout), text(&host.stdout), "standard output of {words:?}; stderr {}", text(&guest.stderr));
    assert_eq!(text(&guest.stderr), text(&host.stderr), "standard error of {words:?}");
    assert_eq!(guest.status.code(), host.status.code(), "exit status of {words:?}");
}

/// What a shell script prints in a container, and its status.
#[must_use]
pub fn script(text: &str) -> (String, Option<i32>) {
    let output = run(in_container(&["bash", "-c", text]));
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}
