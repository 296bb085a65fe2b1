//! Threads that come and go.

use programs::assert_same;
use std::path::Path;
use std::process::Command;

#[test]
fn threads_that_end_together_take_nothing_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("ends");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/ends.c");
    let gcc = Command::new("gcc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).status().expect("gcc");
    assert!(gcc.success());
    assert_same(&[&program.display().to_string()]);
}
