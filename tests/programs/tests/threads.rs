//! Threads that come and go.

use programs::{assert_same, compile};

#[test]
fn threads_that_end_together_take_nothing_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile("ends.c", &["-O2", "-pthread"], directory.path());
    assert_same(&[&program.display().to_string()]);
}
