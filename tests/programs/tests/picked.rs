//! Programs that a fixed seed picks from the machine's /usr/bin.

use programs::picked::assert_forty_say_the_same;
use programs::{in_container, on_host};
use std::path::Path;

#[test]
fn forty_programs_say_the_same() {
    assert_forty_say_the_same(Path::new("/"), on_host, in_container);
}
