//! Programs that a fixed seed picks from a directory: what each says of itself is the same in a container.

use crate::run;
use std::path::Path;
use std::process::{Command, Output};

const SEED: u64 = 20;
const WANTED: usize = 40;

/// The beginning of what a program says, and its status: some print without end once nobody types.
const SAYS: &str = "timeout 20 \"$@\" 2>&1 | head -c 100000; exit ${PIPESTATUS[0]}";

/// Names of `root`'s /usr/bin in order, then every step of a generator one of them.
fn picked(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join("usr/bin")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let mut state = SEED;
    let mut picked = Vec::new();
    while picked.len() < WANTED && !names.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        picked.push(names.swap_remove((state >> 33) as usize % names.len()));
    }
    picked
}

/// The lines, in no order: some programs start others, which speak at once.
fn said(output: &Output) -> (Vec<String>, Option<i32>) {
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    (lines, output.status.code())
}

/// Fails with what forty programs of a root say otherwise in a container of it. Both get words, and make a command of them.
///
/// What a program says differs between two runs on the host where it names a process or the time: no use comparing then.
pub fn assert_forty_say_the_same(root: &Path, host: impl Fn(&[&str]) -> Command, guest: impl Fn(&[&str]) -> Command) {
    let names = picked(root);
    assert_eq!(names.len(), WANTED, "/usr/bin of {} holds too little", root.display());
    let differs = |name: &String, option| {
        let program = format!("/usr/bin/{name}");
        let words = ["bash", "-c", SAYS, "bash", &program, option];
        let on_host = || said(&run(host(&words)));
        let (expected, found) = (on_host(), said(&run(guest(&words))));
        let is_other = found != expected && expected == on_host();
        is_other.then(|| format!("{name} {option}: host {expected:?}, container {found:?}"))
    };
    let different: Vec<String> =
        names.iter().flat_map(|name| ["--version", "--help"].map(|option| differs(name, option))).flatten().collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}
