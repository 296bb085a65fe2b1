//! Arbitrary datagrams, as a hostile container sends them, against a broker over a throw-away directory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use xkernel::broker::{Broker, Export, Options};

struct World {
    broker: Broker,
    _directory: tempfile::TempDir,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("file"), b"content").expect("a file");
    std::fs::create_dir(directory.path().join("dir")).expect("a directory");
    let open = |read_only| Export::open(directory.path(), read_only).expect("an export");
    let mut options = Options::new(|_| {});
    options.memory_limit = 1 << 20;
    options.images = None;
    World { broker: Broker::new(vec![open(false), open(true)], options), _directory: directory }
});

fuzz_target!(|datagram: &[u8]| {
    let _ = WORLD.broker.answer(datagram);
});
