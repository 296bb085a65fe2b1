//! Programs that a fixed seed picks from /usr/bin: what they say of themselves is the same in a container.

use programs::{in_container, on_host, run};
use std::process::Output;

const SEED: u64 = 20;
const WANTED: usize = 40;

/// Names of /usr/bin in order, then every step of a generator one of them.
fn picked() -> Vec<String> {
    let entries = std::fs::read_dir("/usr/bin").into_iter().flatten().flatten();
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

fn said(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// What a program says differs between two runs on the host where it names a process or the time: no use comparing then.
fn differs(name: &str, option: &str) -> Option<String> {
    let program = format!("/usr/bin/{name}");
    let words = ["timeout", "20", &program, option];
    let host = said(&run(on_host(&words)));
    let guest = said(&run(in_container(&words)));
    let is_other = guest != host && host == said(&run(on_host(&words)));
    is_other.then(|| format!("{name} {option}: host {host:?}, container {guest:?}"))
}

#[test]
fn forty_programs_say_the_same() {
    let names = picked();
    assert_eq!(names.len(), WANTED, "/usr/bin holds too little");
    let different: Vec<String> =
        names.iter().flat_map(|name| ["--version", "--help"].map(|option| differs(name, option))).flatten().collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}
