//! From a datagram to its answer.

use super::create::Rights;
use super::export::{Access, Export, Named};
use super::listing::{Chunk, Directory};
use super::watch::Then;
use super::{Broker, Control, change, create, walk, xattr};
use abi::broker::{Envelope, FileAt, MAX_REPLY, MAX_REQUEST, MOST_BESIDE, NewNode, Reply, Request, XattrOperation};
use abi::stats::TrappedSite;
use rustix::event::epoll;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A reply datagram and the descriptors that travel with it.
#[derive(Debug)]
pub struct Answer {
    /// An encoded `Envelope<Reply>`, at most [`MAX_REPLY`] bytes.
    pub bytes: Vec<u8>,
    /// They go out by SCM_RIGHTS.
    pub descriptors: Vec<Arc<OwnedFd>>,
    /// The asker's [`Envelope::runs_on`].
    pub asker_runs_on: u16,
}

/// A channel, as far as an answer depends on it.
pub(super) trait Untaken {
    /// Whether the container has not taken all that was sent to it.
    fn has_untaken(&self) -> bool;
}

/// Where there is no channel.
struct AllTaken;

impl Untaken for AllTaken {
    fn has_untaken(&self) -> bool {
        false
    }
}

/// A reply before it is encoded.
struct Outcome {
    reply: Reply,
    descriptors: Vec<Arc<OwnedFd>>,
}

impl Outcome {
    /// A reply with a descriptor.
    fn with(reply: Reply, descriptor: impl Into<Arc<OwnedFd>>) -> Self {
        Self { reply, descriptors: vec![descriptor.into()] }
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self { reply, descriptors: Vec::new() }
    }
}

impl Broker {
    /// Answers one datagram as the container sent it; `None` where the protocol has no answer.
    ///
    /// What is too long or malformed gets `Failed(EPROTO)` with sequence number 0.
    pub fn answer(&self, datagram: &[u8]) -> Option<Answer> {
        self.answer_on(datagram, &AllTaken)
    }

    /// The same on a channel.
    pub(super) fn answer_on(&self, datagram: &[u8], channel: &dyn Untaken) -> Option<Answer> {
        if datagram.len() > MAX_REQUEST {
            return encode(0, 0, Err(Errno::PROTO));
        }
        match abi::decode::<Envelope<Request<'_>>>(datagram) {
            Ok(Envelope { sequence, runs_on, body }) => match self.perform(body, channel) {
                Ok(None) => None,
                Ok(Some(outcome)) => encode(sequence, runs_on, Ok(outcome)),
                Err(errno) => encode(sequence, runs_on, Err(errno)),
            },
            Err(_) => encode(0, 0, Err(Errno::PROTO)),
        }
    }

    /// The name of the function that holds each of the container's trapped sites, where its file tells.
    pub fn function_names(&self, sites: &[TrappedSite]) -> Vec<Option<String>> {
        crate::images::functions(sites, |export, path| {
            let (file, attributes) = self.export(export).ok()?.file(FileAt::any(path), Access::Read).ok()?;
            Some((file, attributes.size))
        })
    }

    fn perform(&self, request: Request<'_>, channel: &dyn Untaken) -> Result<Option<Outcome>, Errno> {
        let control = &self.options.control;
        match request {
            Request::Exit { status, stats } => control(Control::Exit { status, stats: Box::new(stats) }),
            Request::StartFailed { step, errno, what } => {
                control(Control::StartFailed { step, errno, what: what.to_vec() });
            }
            Request::Quiesced { threads } => control(Control::Quiesced { threads }),
            request => return self.perform_answered(request, channel).map(Some),
        }
        Ok(None)
    }

    fn perform_answered(&self, request: Request<'_>, channel: &dyn Untaken) -> Result<Outcome, Errno> {
        match request {
            Request::Walk { export, from, path } => {
                Ok(Reply::Nodes(walk::walk(&self.watches, self.export(export)?, from, path)?).into())
            }
            Request::ReadDir { export: number, path, from, attributes, open } => {
                let (export, open) = (self.export(number)?, may_open(open.into(), channel)?);
                let (watches, bucket) = (&self.watches, &self.bucket);
                let of = Directory { watches, bucket, number, export, path, wants_attributes: attributes, open };
                let Chunk { directory, entries, opened, more } = self.listings.read(&of, from)?;
                let (opened, files): (Vec<u16>, Vec<OwnedFd>) = opened.into_iter().unzip();
                let descriptors = files.into_iter().map(Arc::new).collect();
                Ok(Outcome { reply: Reply::Entries { directory, entries, more, opened }, descriptors })
            }
            Request::Open { export, file, writable, beside } => {
                let count = may_open(beside.len(), channel)?;
                let access = if writable { Access::Write } else { Access::Read };
                self.open(self.export(export)?, file, access, beside.get(..count).unwrap_or_default())
            }
            Request::Image { export, file } => {
                let (file, attributes) = self.export(export)?.file(file, Access::Read)?;
                let image = self.images.patched(&file, &attributes)?;
                Ok(Outcome::with(Reply::Image(attributes, image.layout.clone()), Arc::clone(&image.file)))
            }
            Request::MemoryImage { id } => {
                let (attributes, image) = self.images.of_memory(&*self.memories.file(id)?)?;
                Ok(Outcome::with(Reply::Image(attributes, image.layout), image.file))
            }
            Request::Space { export } => Ok(Reply::Space(change::space(self.export(export)?)?).into()),
            Request::Memory { size } => {
                let (id, file) = self.memories.create(size)?;
                Ok(Outcome::with(Reply::Memory { id }, file))
            }
            Request::ResizeMemory { id, size } => self.memories.resize(id, size).map(done),
            Request::DropMemory { id } => self.memories.forget(id).map(done),
            Request::Epoll => Ok(Outcome::with(Reply::Done, epoll::create(epoll::CreateFlags::CLOEXEC)?)),
            Request::Log { text } => {
                (self.options.control)(Control::Log(text.to_vec()));
                Ok(done(()))
            }
            request => self.perform_change(request),
        }
    }

    /// Opens a file, and others in its directory for reading.
    fn open(&self, export: &Export, file: FileAt<'_>, access: Access, beside: &[&[u8]]) -> Result<Outcome, Errno> {
        if access == Access::Read && beside.is_empty() {
            let (file, attributes) = export.file(file, access)?;
            return Ok(Outcome::with(Reply::Opened { attributes, beside: Vec::new() }, file));
        }
        let named = export.named(file.path);
        let (file, attributes) = export.file_named(&named, file.inode, access)?;
        let mut descriptors = vec![Arc::new(file)];
        let mut opened = Vec::new();
        // Each is as much work as a request.
        beside.iter().for_each(|_| self.bucket.take());
        for (at, file, attributes) in named.files_beside(beside) {
            descriptors.push(Arc::new(file));
            opened.push((at, attributes));
        }
        if access == Access::Write {
            self.watches.writes(export, &named);
        }
        Ok(Outcome { reply: Reply::Opened { attributes, beside: opened }, descriptors })
    }

    /// What changes files of an export, or its state on the host.
    fn perform_change(&self, request: Request<'_>) -> Result<Outcome, Errno> {
        let (number, paths, then) = match request {
            Request::Create { export, path, kind: NewNode::File, .. } => (export, vec![path], Then::Write),
            // Who asks for it has the file open.
            Request::Allocate { export, file, .. } => (export, vec![file.path], Then::Write),
            Request::Create { export, path, .. } => (export, vec![path], Then::NoDirectory),
            Request::Remove { export, path, directory: false } => (export, vec![path], Then::Remove),
            Request::Remove { export, path, .. } => (export, vec![path], Then::Nothing),
            Request::SetAttributes { export, file, .. }
            | Request::Xattr { export, file, operation: XattrOperation::Set(..) | XattrOperation::Remove(_), .. } => {
                (export, vec![file.path], Then::Nothing)
            }
            Request::Rename { export, from, to, .. } => (export, vec![from, to], Then::Move),
            Request::Link { export, to, .. } => (export, vec![to], Then::NoDirectory),
            request => return self.perform_unseen(request),
        };
        let export = self.export(number)?;
        let names: Vec<Named<'_>> = paths.into_iter().map(|path| export.named(path)).collect();
        self.watches.changing(export, &names, then, || perform_seen(export, request, &names))
    }

    /// What the host tells nobody of.
    fn perform_unseen(&self, request: Request<'_>) -> Result<Outcome, Errno> {
        match request {
            Request::Xattr { export, file, operation } => {
                Ok(xattr::perform(self.export(export)?, file, operation)?.into())
            }
            Request::Sync { export, file } => change::sync(self.export(export)?, file).map(done),
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    fn export(&self, number: u16) -> Result<&Export, Errno> {
        self.exports.get(usize::from(number)).ok_or(Errno::NODEV)
    }
}

/// How many files may be opened beside what is asked for: none while the container has not taken what it asked for before, so
/// that the descriptors under way to it are bounded by its channels.
fn may_open(count: usize, channel: &dyn Untaken) -> Result<usize, Errno> {
    if count > MOST_BESIDE {
        return Err(Errno::INVAL);
    }
    Ok(if count == 0 || channel.has_untaken() { 0 } else { count })
}

/// What the host tells those of who watch; `names` are those that it changes.
fn perform_seen(export: &Export, request: Request<'_>, names: &[Named<'_>]) -> Result<Outcome, Errno> {
    match (request, names) {
        (Request::Create { kind, mode, owner, .. }, [named]) => {
            let (attributes, file) = create::create(export, named, kind, Rights { mode, owner })?;
            Ok(Outcome { reply: Reply::Node(attributes), descriptors: file.map(Arc::new).into_iter().collect() })
        }
        (Request::Remove { directory, .. }, [named]) => create::remove(export, named, directory).map(done),
        (Request::Rename { flags, .. }, [from, to]) => create::rename(export, from, to, flags).map(done),
        (Request::Link { from, .. }, [to]) => create::link(export, from, to).map(done),
        (request, _) => perform_seen_on_node(export, request),
    }
}

fn perform_seen_on_node(export: &Export, request: Request<'_>) -> Result<Outcome, Errno> {
    match request {
        Request::SetAttributes { file, change, .. } => {
            Ok(Reply::Node(change::set_attributes(export, file, change)?).into())
        }
        Request::Allocate { file, mode, offset, len, .. } => {
            change::allocate(export, file, mode, (offset, len)).map(done)
        }
        Request::Xattr { file, operation, .. } => Ok(xattr::perform(export, file, operation)?.into()),
        _ => Err(Errno::OPNOTSUPP),
    }
}

fn done(_: ()) -> Outcome {
    Reply::Done.into()
}

fn encode(sequence: u32, asker_runs_on: u16, outcome: Result<Outcome, Errno>) -> Option<Answer> {
    let outcome = outcome.unwrap_or_else(|errno| Reply::Failed(errno.raw_os_error()).into());
    let bytes = abi::encode(&Envelope { runs_on: 0, sequence, body: &outcome.reply }).ok()?;
    if bytes.len() > MAX_REPLY {
        return encode(sequence, asker_runs_on, Err(Errno::TOOBIG));
    }
    Some(Answer { bytes, descriptors: outcome.descriptors, asker_runs_on })
}
