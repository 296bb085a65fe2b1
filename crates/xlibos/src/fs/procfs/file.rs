//! Open files of /proc.

use super::node::Node;
use super::{settings, system, text};
use crate::fs::file::{File, FileOps, OpenFlags};
use crate::fs::inode::Kind;
use crate::process::creds::CAP_SYS_RESOURCE;
use crate::process::{Pid, Task, tree};
use crate::uio::{Sink, Source};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use machine::guest;
use machine::sync::Mutex;

/// Opens a file or directory.
///
/// # Errors
/// EACCES for what cannot be written or is another's; ENOENT.
pub(super) fn open(node: Node, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    match node {
        Node::Text(who, "mem") => {
            let subject = who.subject()?;
            // Memory of other processes is not reachable from here.
            if !subject.is_own() {
                return Err(Errno::EACCES);
            }
            return Ok(Arc::new(Memory { pid: subject.process.pid }));
        }
        Node::Text(who, "auxv" | "environ" | "maps" | "personality") => who.subject()?.check_inspection()?,
        Node::DescriptorInfo(who, _) | Node::Descriptors(who) | Node::DescriptorInfos(who) => {
            who.subject()?.check_inspection()?;
        }
        _ if node.kind() == Kind::Symlink => return Err(Errno::ELOOP),
        _ => {}
    }
    if flags.is_writable() && !node.is_writable() {
        return Err(Errno::EACCES);
    }
    Ok(Arc::new(Text { node, bytes: Mutex::new(Vec::new()) }))
}

/// A file whose text is made anew by each read from its start, or a directory.
struct Text {
    node: Node,
    bytes: Mutex<Vec<u8>>,
}

impl Text {
    fn make(&self) -> Result<Vec<u8>> {
        let gone = |_| Errno::ESRCH;
        match self.node {
            Node::Global(name) => Ok(system::text(name).into_bytes()),
            Node::Setting(setting) => Ok(settings::text(setting).into_bytes()),
            Node::Text(who, name) => Ok(text::of_subject(&who.subject().map_err(gone)?, name)),
            Node::DescriptorInfo(who, fd) => {
                let file = who.subject().map_err(gone)?.open_file(fd)?;
                Ok(text::descriptor(&file).into_bytes())
            }
            _ => Err(Errno::EISDIR),
        }
    }
}

impl FileOps for Text {
    fn read(&self, _file: &File, to: &mut Sink<'_>, offset: u64) -> Result<usize> {
        // Made without the lock: texts look at other files and tasks.
        if offset == 0 {
            let bytes = self.make()?;
            *self.bytes.lock() = bytes;
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.bytes.lock().get(start..).unwrap_or(&[]).to_vec();
        to.put(&rest)
    }

    fn write(&self, _file: &File, from: &mut Source<'_>, _offset: u64) -> Result<usize> {
        let Node::Text(who, name) = self.node else { return Err(Errno::EINVAL) };
        let subject = who.subject().map_err(|_| Errno::ESRCH)?;
        let mut bytes = [0; 64];
        let count = from.take(&mut bytes)?;
        let bytes = bytes.get(..count).unwrap_or(&[]);
        match name {
            "comm" if !subject.is_own() => return Err(Errno::EINVAL),
            "comm" => {
                let mut new = [0; 16];
                new.iter_mut().take(15).zip(bytes).for_each(|(to, from)| *to = *from);
                let task = subject.task.ok_or(Errno::ESRCH)?;
                *task.name.lock() = new;
            }
            _ => adjust(&subject.process, bytes)?,
        }
        // What is too long counts as written.
        Ok(count + from.remaining())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// oom_score_adj: kept, and inherited.
fn adjust(process: &crate::process::Process, text: &[u8]) -> Result<()> {
    let value = core::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
    let value: i32 = value.filter(|value| (-1000..=1000).contains(value)).ok_or(Errno::EINVAL)?;
    let privileged = Task::current().is_some_and(|task| task.creds().has(CAP_SYS_RESOURCE));
    if value < process.limits.oom_adjustment() && !privileged {
        return Err(Errno::EACCES);
    }
    process.limits.set_oom_adjustment(value);
    Ok(())
}

/// The memory of the caller's own process.
struct Memory {
    pid: Pid,
}

impl Memory {
    /// EIO once another process has the file: it inherited it, or the caller executed another program.
    fn check(&self) -> Result<()> {
        let own = Task::current().is_some_and(|task| task.process.pid == self.pid);
        if own && tree::process(self.pid).is_some() { Ok(()) } else { Err(Errno::EIO) }
    }
}

/// Moves pieces of at most a page until one is short; EIO where not even the first byte is there.
fn in_pieces(len: usize, mut step: impl FnMut(u64, usize) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    while done < len {
        let wanted = (len - done).min(4096);
        match step(done as u64, wanted) {
            Ok(moved) if moved > 0 => done += moved,
            _ if done > 0 => break,
            _ => return Err(Errno::EIO),
        }
    }
    Ok(done)
}

impl FileOps for Memory {
    fn read(&self, _file: &File, to: &mut Sink<'_>, offset: u64) -> Result<usize> {
        self.check()?;
        in_pieces(to.remaining(), |done, wanted| {
            let mut piece = [0; 4096];
            let piece = piece.get_mut(..wanted).ok_or(Errno::EIO)?;
            let count = guest::read_some(offset.wrapping_add(done), piece)?;
            to.put(piece.get(..count).unwrap_or(&[]))
        })
    }

    fn write(&self, _file: &File, from: &mut Source<'_>, offset: u64) -> Result<usize> {
        self.check()?;
        in_pieces(from.remaining(), |done, wanted| {
            let mut piece = [0; 4096];
            let count = from.take(piece.get_mut(..wanted).ok_or(Errno::EIO)?)?;
            guest::write_some(offset.wrapping_add(done), piece.get(..count).unwrap_or(&[]))
        })
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Err(Errno::EINVAL)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
