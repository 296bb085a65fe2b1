//! Shells: pipelines, substitutions, here-documents, traps, jobs, status.

use programs::{assert_same, script};

#[test]
fn pipelines_and_substitutions() {
    assert_same(&["bash", "-c", "echo hello | tr a-z A-Z | rev; x=$(seq 3 | wc -l); echo $x; exit 7"]);
}

#[test]
fn dash_runs_external_commands_in_a_loop() {
    assert_same(&["dash", "-c", "for i in 1 2 3 4 5; do /bin/echo $i; done; /bin/false || echo failed"]);
}

#[test]
fn here_documents_and_here_strings() {
    assert_same(&["bash", "-c", "cat <<END; cat <<< string\none\ntwo\nEND"]);
}

#[test]
fn process_substitution_goes_through_dev_fd() {
    assert_same(&["bash", "-c", "cat <(echo sub) <(echo two); diff <(seq 3) <(seq 4); echo $?"]);
}

#[test]
fn proc_self_names_the_program_and_its_directory() {
    assert_same(&["bash", "-c", "cd /usr; readlink /proc/self/exe /proc/self/cwd; cat /proc/$$/comm"]);
}

#[test]
fn traps_and_signals() {
    assert_same(&[
        "bash",
        "-c",
        "trap 'echo trapped' USR1; kill -USR1 $$; trap 'echo bye' EXIT; kill -0 $$ && echo alive",
    ]);
}

#[test]
fn background_jobs_are_waited_for() {
    assert_same(&["bash", "-c", "(exit 3) & wait $!; echo $?; sleep 0.01 & wait; echo done"]);
}

/// A child's end and its parent's wait took two locks in opposite orders.
#[test]
fn many_children_end_while_their_parents_wait() {
    assert_same(&[
        "bash",
        "-c",
        "for r in 1 2 3 4; do (for i in $(seq 60); do (exit 0) & done; wait) & done; wait; echo all",
    ]);
}

#[test]
fn a_killed_child_gives_128_plus_the_signal() {
    assert_same(&["bash", "-c", "(sh -c 'kill -TERM $$'; echo $?; sh -c 'kill -9 $$'; echo $?) 2>/dev/null"]);
}

#[test]
fn large_pipes_arrive_whole() {
    assert_same(&["bash", "-c", "seq 200000 | sort -rn | tail -1; seq 300000 | md5sum"]);
}

#[test]
fn writes_stay_in_the_container() {
    let (output, status) = script(
        "echo x > /tmp/xc-write-test && cat /tmp/xc-write-test && echo y >> /etc/hostname && tail -1 /etc/hostname",
    );
    assert_eq!((output.as_str(), status), ("x\ny\n", Some(0)));
    assert!(!std::path::Path::new("/tmp/xc-write-test").exists());
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    assert!(!hostname.ends_with("y\n"));
}

#[test]
fn trees_are_made_moved_and_removed() {
    let (output, status) = script(
        "cd /tmp && mkdir -p t/a/b && touch t/a/b/c && mv t/a t/d && find t | sort && ln t/d/b/c t/e && stat -c %h t/e && rm -r t && ls t 2>/dev/null; echo $?",
    );
    assert_eq!((output.as_str(), status), ("t\nt/d\nt/d/b\nt/d/b/c\n2\n2\n", Some(0)));
}
