//! Open files of /proc.

use super::node::Node;
use super::{net, settings, system, sysvipc, text};
use crate::fs::file::{File, FileOps, OpenFlags};
use crate::fs::inode::Kind;
use crate::mm::Mm;
use crate::process::creds::CAP_SYS_RESOURCE;
use crate::process::{Process, Task, visit};
use crate::uio::{Sink, Source};
use crate::wait::WaitQueue;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use machine::sync::Mutex;

/// Opens a file or directory.
///
/// # Errors
/// EACCES for what cannot be written or is another's; ENOENT.
pub(super) fn open(node: Node, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    match node {
        Node::Text(who, "mem") => {
            let subject = who.subject()?;
            subject.check_inspection()?;
            let mm = Arc::downgrade(&subject.process.mm());
            return Ok(Arc::new(Memory { process: subject.process, mm }));
        }
        Node::Text(who, "auxv" | "environ" | "maps" | "personality" | "smaps" | "smaps_rollup") => {
            who.subject()?.check_inspection()?;
        }
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
            Node::NetFile(_, name) => Ok(net::text(name).into_bytes()),
            Node::IpcFile(name) => Ok(sysvipc::text(name).into_bytes()),
            Node::Text(who, name) => text::of_subject(&who.subject().map_err(gone)?, name),
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
            "coredump_filter" => {
                let filter = parse(bytes, None)?;
                subject.process.limits.set_core_filter(u32::try_from(filter).map_err(|_| Errno::ERANGE)?);
            }
            "timerslack_ns" => {
                let wanted = parse(bytes, Some(10))?;
                subject.with_timer_slack(|settings| settings.set_timer_slack(wanted))?;
            }
            _ => adjust(&subject.process, bytes)?,
        }
        // What is too long counts as written.
        Ok(count + from.remaining())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    /// What Linux can wait for goes into an epoll; nothing ever changes here, mounts neither.
    fn wait_queue(&self) -> Option<&WaitQueue> {
        static CHANGES: WaitQueue = WaitQueue::new();
        let is_waitable = match self.node {
            Node::Text(_, name) => matches!(name, "mounts" | "mountinfo"),
            Node::Global(_) | Node::Setting(_) | Node::NetFile(..) | Node::IpcFile(_) => true,
            _ => false,
        };
        (is_waitable && self.node.kind() == Kind::File).then_some(&CHANGES)
    }

    fn size(&self) -> Result<u64> {
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A number as the kernel reads one: to a base, or to that which its beginning tells.
///
/// # Errors
/// EINVAL, ERANGE.
fn parse(text: &[u8], base: Option<u32>) -> Result<u64> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, base) = match (base, text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))) {
        (Some(base), _) => (text, base),
        (None, Some(digits)) => (digits, 16),
        (None, None) => (text, if text.starts_with('0') { 8 } else { 10 }),
    };
    u64::from_str_radix(digits, base).map_err(|error| match error.kind() {
        core::num::IntErrorKind::PosOverflow => Errno::ERANGE,
        _ => Errno::EINVAL,
    })
}

/// oom_score_adj: kept, and inherited.
fn adjust(process: &Process, text: &[u8]) -> Result<()> {
    let value = core::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
    let value: i32 = value.filter(|value| (-1000..=1000).contains(value)).ok_or(Errno::EINVAL)?;
    let privileged = Task::current().is_some_and(|task| task.creds().has(CAP_SYS_RESOURCE));
    if value < process.limits.oom_adjustment() && !privileged {
        return Err(Errno::EACCES);
    }
    process.limits.set_oom_adjustment(value);
    Ok(())
}

/// The memory that a process had when the file was opened.
struct Memory {
    process: Arc<Process>,
    mm: Weak<Mm>,
}

/// Bytes that are moved at once.
const PIECE: usize = 64 * 1024;

impl Memory {
    /// Whether the process has another memory, or none, by now: there is nothing to read then.
    fn is_gone(&self) -> bool {
        self.mm.upgrade().is_none_or(|mm| !Arc::ptr_eq(&mm, &self.process.mm()))
    }

    /// Moves pieces until one is short; EIO where not even the first byte is there.
    fn in_pieces(&self, len: usize, mut step: impl FnMut(u64, usize) -> Result<usize>) -> Result<usize> {
        let mut done = 0;
        while done < len && !self.is_gone() {
            let wanted = (len - done).min(PIECE);
            match step(done as u64, wanted) {
                Ok(moved) if moved > 0 => done += moved,
                Err(Errno::ESRCH) => break,
                _ if done > 0 => break,
                Err(Errno::INTERRUPTED) => return Err(Errno::INTERRUPTED),
                _ => return Err(Errno::EIO),
            }
        }
        Ok(done)
    }
}

impl FileOps for Memory {
    fn read(&self, _file: &File, to: &mut Sink<'_>, offset: u64) -> Result<usize> {
        self.in_pieces(to.remaining(), |done, wanted| {
            let mut piece = alloc::vec![0; wanted];
            let count = visit::read(&self.process, offset.wrapping_add(done), &mut piece)?;
            to.put(piece.get(..count).unwrap_or(&[]))
        })
    }

    fn write(&self, _file: &File, from: &mut Source<'_>, offset: u64) -> Result<usize> {
        self.in_pieces(from.remaining(), |done, wanted| {
            let mut piece = alloc::vec![0; wanted];
            from.peek(&mut piece)?;
            let count = visit::write_forced(&self.process, offset.wrapping_add(done), &piece)?;
            from.advance(count);
            Ok(count)
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

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::Errno;

    #[test]
    fn numbers_are_read_as_the_kernel_reads_them() {
        assert_eq!([parse(b"0x1f\n", None), parse(b"017", None), parse(b"17", None)], [Ok(31), Ok(15), Ok(17)]);
        assert_eq!([parse(b"0x1f", Some(10)), parse(b"-1", None), parse(b"", None)], [Err(Errno::EINVAL); 3]);
        assert_eq!(parse(b"99999999999999999999", Some(10)), Err(Errno::ERANGE));
    }
}
