//! Programs that run one after the other in one host process.

use programs::{assert_same, compile};

#[test]
fn programs_in_one_host_process_find_fresh_memory() {
    let directory = tempfile::tempdir().unwrap();
    let with_library =
        compile("warm.c", &["-O2", "-Wno-unused-function", "-Wl,--no-as-needed", "-lm"], directory.path());
    let with_library = {
        let renamed = directory.path().join("with-library");
        std::fs::rename(with_library, &renamed).unwrap();
        renamed.display().to_string()
    };
    let plain = compile("warm.c", &["-O2", "-Wno-unused-function", "-DPLAIN"], directory.path()).display().to_string();
    assert_same(&[&with_library, &with_library, &plain]);
}
