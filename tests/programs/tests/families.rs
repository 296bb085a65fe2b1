//! Families of programs: the scripts of `scripts/`, each with the same output and status on the host and in a container.

use programs::{assert_same, debian};
use std::path::Path;

fn script(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name).display().to_string()
}

fn bash(name: &str) {
    assert_same(&["bash", &script(name)]);
}

/// Debian's, whichever python3 comes first on PATH.
fn python(name: &str) {
    assert_same(&["/usr/bin/python3", &script(name)]);
}

#[test]
fn git_keeps_a_history() {
    bash("git.sh");
}

#[test]
fn make_builds_a_project_of_40_files() {
    bash("make.sh");
}

#[test]
fn make_and_gcc_build_lua_from_debians_source() {
    assert_same(&["bash", &script("lua.sh"), &debian("lua5.4")]);
}

#[test]
fn a_static_go_program_runs() {
    bash("go.sh");
}

#[test]
fn static_and_musl_programs_run() {
    bash("static.sh");
}

#[test]
fn openssl_makes_keys_and_speaks_tls() {
    bash("openssl.sh");
}

#[test]
fn perl_runs_threads_forks_and_sockets() {
    bash("perl.sh");
}

#[test]
fn python_runs_pools_and_shared_memory() {
    python("python_processes.py");
}

#[test]
fn python_writes_sqlite_from_several_processes() {
    python("python_sqlite.py");
}

#[test]
fn python_serves_and_waits_with_asyncio() {
    python("python_asyncio.py");
}

#[test]
fn python_maps_polls_and_drives_a_terminal() {
    python("python_files.py");
}

#[test]
fn the_sqlite3_shell_logs_and_rolls_back() {
    bash("sqlite.sh");
}

#[test]
fn node_serves_works_in_threads_and_spawns() {
    assert_same(&["node", &script("node.js")]);
}

#[test]
fn java_runs_threads_files_sockets_and_children() {
    bash("java.sh");
}

#[test]
fn text_and_file_utilities_agree() {
    bash("utilities.sh");
}

#[test]
fn archives_come_back_whole() {
    bash("archives.sh");
}

#[test]
fn static_busybox_runs_its_applets() {
    bash("busybox.sh");
}

#[test]
fn bash_runs_jobs_traps_and_substitutions() {
    bash("jobs.sh");
}
