//! Every case is green on the host's own Linux.

use std::process::Command;

#[test]
fn all_cases_are_green_on_this_kernel() {
    let output = match Command::new(env!("CARGO_BIN_EXE_conformance")).output() {
        Ok(output) => output,
        Err(error) => panic!("{}: {error}", env!("CARGO_BIN_EXE_conformance")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("FAIL")).collect();
    let last = text.lines().last().unwrap_or("no output");
    assert!(output.status.success() && failed.is_empty(), "{last}\n{}", failed.join("\n"));
    assert!(last.ends_with(" passed, 0 failed"), "{last}");
}

#[test]
fn names_are_unique_and_lead_to_their_case() {
    let list = |args: &[&str]| match Command::new(env!("CARGO_BIN_EXE_conformance")).args(args).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => panic!("{error}"),
    };
    let all = list(&["--list"]);
    let mut names: Vec<&str> = all.lines().collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert_eq!(list(&["--list", "--exact", names[0]]).trim(), names[0]);
}
