//! Files in memory have a limit. What meets it is told so, and the container goes on.

use programs::{run, script, xc};
use std::process::Command;

/// What a shell script prints in a container with so much memory.
fn with_memory(size: &str, text: &str) -> String {
    let mut command = Command::new(xc());
    command.args(["do", "--memory", size, "--", "bash", "-c", text]);
    let output = run(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes names as long as it works; says why no more.
const MAKE: &str = "mkdir '/tmp/many'; $_ = '/tmp/many/'; 1 while eval $ARGV[0]; print qq($!\\n)";

#[test]
fn a_file_beyond_the_limit_ends_with_enospc() {
    let text = "dd if=/dev/zero of=/tmp/big bs=1M 2>&1 | head -1; rm /tmp/big; echo goes on >/tmp/f; cat /tmp/f";
    let (output, status) = script(text);
    assert_eq!(
        (output.as_str(), status),
        ("dd: error writing '/tmp/big': No space left on device\ngoes on\n", Some(0))
    );
}

/// Directories and links take memory too, though no file has a byte.
#[test]
fn names_without_end_end_with_enospc() {
    for make in ["mkdir $_ . $n++", "symlink 'x' x 4000, $_ . $n++"] {
        let text = "perl -e \"$0\" \"$1\"; echo goes on | cat";
        let output = run(programs::in_container(&["bash", "-c", text, MAKE, make]));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!((printed.as_str(), output.status.code()), ("No space left on device\ngoes on\n", Some(0)), "{make}");
    }
}

#[test]
fn files_count_towards_the_memory_limit() {
    let text =
        "dd if=/dev/zero of=/tmp/big bs=1M 2>&1 | head -1; stat -c %s /tmp/big; rm /tmp/big; echo goes on >/tmp/f";
    let output = with_memory("64m", text);
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("dd: error writing '/tmp/big': No space left on device"));
    let size: u64 = lines.next().and_then(|size| size.parse().ok()).unwrap_or(0);
    assert!((40 << 20..64 << 20).contains(&size), "{size}");
}

/// Grows by a MiB until there is no more, then says how often.
const HOG: &str = "
import sys
held = []
try:
    while True: held.append(bytearray(1 << 20))
except MemoryError: print(len(held))
";

#[test]
fn a_program_that_wants_more_than_the_limit_gets_enomem_and_others_go_on() {
    let output = with_memory("64m", &format!("python3 -c '{HOG}'; head -1 /proc/meminfo; echo goes on | cat"));
    let mut lines = output.lines();
    let got: u64 = lines.next().and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!((20..64).contains(&got), "{output}");
    assert_eq!(lines.collect::<Vec<_>>(), ["MemTotal:          65536 kB", "goes on"]);
}

#[test]
fn what_a_process_had_is_free_again_when_it_has_ended() {
    let hog = "python3 -c 'bytearray(40 << 20)' || exit 1";
    assert_eq!(with_memory("64m", &format!("for i in 1 2 3 4 5; do {hog}; done; echo all")), "all\n");
}

#[test]
fn a_child_that_does_not_fit_is_not_made() {
    let text = "
import os
held = bytearray(40 << 20)
try:
    os.fork()
    print('made')
except OSError as error: print(error.strerror)
";
    assert_eq!(with_memory("64m", &format!("python3 -c \"{text}\"")), "Cannot allocate memory\n");
}

/// What `guest/exhaust.c` asks for until it is refused, and the errors that this may have.
const THINGS: &[(&str, &[&str])] = &[
    ("files", &["ENOSPC"]),
    ("links", &["ENOSPC"]),
    ("symlinks", &["ENOSPC"]),
    ("directories", &["ENOSPC"]),
    ("fifos", &["ENOSPC"]),
    ("xattrs", &["ENOSPC"]),
    ("memfds", &["ENOSPC", "ENOMEM"]),
    ("pipes", &["ENFILE", "ENOMEM"]),
    ("packets", &["ENFILE", "ENOMEM"]),
    ("streams", &["ENOBUFS", "ENOMEM"]),
    ("datagrams", &["ENOBUFS", "ENOMEM"]),
    ("eventfds", &["ENOMEM", "EMFILE"]),
    ("timerfds", &["ENOMEM", "EMFILE"]),
    ("epolls", &["ENOMEM", "EMFILE"]),
    ("watches", &["ENOSPC", "ENOMEM"]),
    ("splits", &["ENOMEM"]),
    ("signals", &["ENOMEM", "EAGAIN"]),
    ("timers", &["EAGAIN"]),
    ("semaphores", &["ENOSPC"]),
    ("segments", &["ENOSPC", "ENOMEM"]),
    ("messages", &["ENOSPC", "ENOMEM"]),
    ("locks", &["ENOLCK", "ENOMEM", "ENOSPC"]),
    ("memory", &["ENOMEM"]),
    ("shared", &["ENOMEM"]),
];

/// No kind of object wedges or stops the container: its maker is refused, and others go on.
#[test]
fn whatever_a_program_asks_for_without_end_is_refused() {
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory: {error}"));
    let program = programs::compile("exhaust.c", &["-O2"], directory.path());
    for (thing, errors) in THINGS {
        let text = format!("setsid -w {} {thing} 2>/dev/null; echo alive | cat", program.display());
        let output = with_memory("64m", &text);
        let mut lines = output.lines();
        let error = lines.next().and_then(|line| line.split(' ').next()).unwrap_or("");
        assert!(errors.contains(&error), "{thing}: {output}");
        assert_eq!(lines.next(), Some("alive"), "{thing}: {output}");
    }
}
