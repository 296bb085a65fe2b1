//! Files in memory have a limit. What meets it is told so, and the container goes on.

use programs::script;

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
        let output = programs::run(programs::in_container(&["bash", "-c", text, MAKE, make]));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!((printed.as_str(), output.status.code()), ("No space left on device\ngoes on\n", Some(0)), "{make}");
    }
}
