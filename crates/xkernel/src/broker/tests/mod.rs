//! Every request over a directory of its own, answered as a container would see it.

mod changes;
mod channels;
mod corpus;
mod files;
mod hostile;

use super::{Broker, Control, Export, Options};
use abi::broker::{Attributes, Envelope, FileAt, Node, Reply, Request};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A broker with two exports of one directory: 0 writable, 1 read-only; 2 is one file of it.
pub(super) struct Fixture {
    directory: TempDir,
    pub(super) broker: Arc<Broker>,
    control: Arc<Mutex<Vec<Control>>>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("mode");
        std::fs::write(directory.path().join("file"), b"content").expect("file");
        let open = |read_only| Export::open(directory.path(), read_only).expect("export");
        let file = Export::open(&directory.path().join("file"), true).expect("file export");
        let control = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&control);
        let mut options = Options::new(move |message| sink.lock().expect("control").push(message));
        options.memory_limit = 1 << 20;
        options.images = None;
        change(&mut options);
        let broker = Arc::new(Broker::new(vec![open(false), open(true), file], options));
        Self { directory, broker, control }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The answer and its only descriptor.
    fn ask(&self, request: Request<'_>) -> (Reply, Option<Arc<OwnedFd>>) {
        let (reply, mut descriptors) = self.ask_several(request);
        assert!(descriptors.len() <= 1);
        (reply, descriptors.pop())
    }

    fn ask_several(&self, request: Request<'_>) -> (Reply, Vec<Arc<OwnedFd>>) {
        let bytes = abi::encode(&Envelope { runs_on: 0, sequence: 7, body: request }).expect("encode");
        let answer = self.broker.answer(&bytes).expect("an answer");
        let envelope: Envelope<Reply> = abi::decode(&answer.bytes).expect("decode");
        assert_eq!(envelope.sequence, 7);
        (envelope.body, answer.descriptors)
    }

    fn walk(&self, from: &str, path: &str) -> Vec<Node> {
        let (from, path) = (from.as_bytes(), path.as_bytes());
        match self.ask(Request::Walk { export: 0, from, path }).0 {
            Reply::Nodes(nodes) => nodes,
            other => panic!("{other:?}"),
        }
    }

    fn attributes(&self, path: &str) -> Attributes {
        self.walk("", path).pop().expect("a node").attributes
    }

    fn open(&self, export: u16, path: &str, writable: bool) -> Result<std::fs::File, Errno> {
        match self.ask(Request::Open { export, file: FileAt::any(path.as_bytes()), writable, beside: vec![] }) {
            (Reply::Opened { .. }, Some(file)) => Ok(Arc::into_inner(file).expect("only owner").into()),
            (Reply::Failed(errno), None) => Err(Errno::from_raw_os_error(errno)),
            other => panic!("{other:?}"),
        }
    }

    /// The errno of a request, 0 for `Done`.
    fn errno(&self, request: Request<'_>) -> i32 {
        match self.ask(request).0 {
            Reply::Done => 0,
            Reply::Failed(errno) => errno,
            other => panic!("{other:?}"),
        }
    }
}
