//! The caller's standard streams, where they are no terminal: host descriptors, used as they are. They are never made
//! O_NONBLOCK, which would change the caller's own; a blocking transfer sleeps in the host call.

use super::file::{File, FileOps, OpenFlags};
use super::hostpoll::{self, HostReady, Watch, from_host};
use super::inode::{Stat, Time};
use crate::uio::{Sink, Source};
use crate::wait::{Events, READABLE, WRITABLE, WaitQueue};
use crate::{Errno, Result};
use abi::config::{HostKind, Stdio};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use machine::host::{self, RawFd};
use machine::sync::Mutex;

/// RWF_NOWAIT.
const NOWAIT: u32 = 8;

/// What is known of a stream's readiness.
#[derive(Debug)]
struct Readiness {
    bits: AtomicU32,
    /// A transfer happened since the bits were set.
    is_stale: AtomicBool,
    queue: WaitQueue,
}

impl HostReady for Readiness {
    fn ready(&self, events: Events) {
        self.bits.store(events.bits(), Ordering::SeqCst);
        self.is_stale.store(false, Ordering::SeqCst);
        self.queue.wake(events);
    }
}

/// Whether the stream can be watched.
#[derive(Debug)]
enum Watching {
    NotTried,
    Yes(Watch),
    /// It is always ready.
    No,
}

/// One of the caller's standard streams.
#[derive(Debug)]
pub struct HostStream {
    fd: RawFd,
    kind: HostKind,
    access: OpenFlags,
    readiness: Arc<Readiness>,
    watching: Mutex<Watching>,
}

impl HostStream {
    /// The stream of descriptor `number` (0, 1, 2), as an open file; None where it is no host descriptor.
    #[must_use]
    pub fn open(number: i32, stdio: Stdio) -> Option<Arc<File>> {
        let Stdio::Host { kind, readable, writable, append } = stdio else { return None };
        let access = match (readable, writable) {
            (true, true) => OpenFlags::RDWR,
            (false, true) => OpenFlags::WRONLY,
            _ => OpenFlags::empty(),
        };
        let stream = Arc::new(HostStream {
            fd: abi::boot::STDIO_FD + number,
            kind,
            access,
            readiness: Arc::new(Readiness {
                bits: AtomicU32::new(0),
                is_stale: AtomicBool::new(true),
                queue: WaitQueue::new(),
            }),
            watching: Mutex::new(Watching::NotTried),
        });
        let append = if append { OpenFlags::APPEND } else { OpenFlags::empty() };
        Some(File::new(stream, access | append))
    }

    /// Begins to watch, once; whether readiness is told.
    fn is_watched(&self) -> bool {
        let mut watching = self.watching.lock();
        if matches!(*watching, Watching::NotTried) {
            let target: Arc<dyn HostReady> = Arc::clone(&self.readiness) as Arc<dyn HostReady>;
            let tried = if self.kind == HostKind::File { None } else { hostpoll::watch(self.fd, &target).ok() };
            *watching = tried.map_or(Watching::No, Watching::Yes);
        }
        matches!(*watching, Watching::Yes(_))
    }

    fn rearm(&self) {
        if let Watching::Yes(watch) = &*self.watching.lock() {
            watch.rearm();
        }
    }

    /// Asks the host where a transfer may have changed what is known.
    fn current(&self) -> Events {
        if self.readiness.is_stale.swap(false, Ordering::SeqCst) {
            self.readiness.bits.store(0, Ordering::SeqCst);
            self.rearm();
            hostpoll::harvest();
        }
        Events::from_bits_truncate(self.readiness.bits.load(Ordering::SeqCst))
    }

    /// Does a transfer with the host's flags; `ready` says what allows one that the host cannot do without waiting.
    fn transfer(&self, file: &File, ready: Events, mut attempt: impl FnMut(u32) -> Result<usize>) -> Result<usize> {
        if machine::cpu::current().is_attempt() {
            return Err(Errno::INTERRUPTED);
        }
        let must_not_wait = file.is_nonblocking() && self.kind != HostKind::File;
        let mut result = attempt(if must_not_wait { NOWAIT } else { 0 });
        if must_not_wait && result == Err(Errno::EOPNOTSUPP) {
            let is_ready = !self.is_watched() || file.poll().intersects(ready | Events::HUP | Events::ERR);
            result = if is_ready { attempt(0) } else { Err(Errno::EAGAIN) };
        }
        self.readiness.is_stale.store(true, Ordering::SeqCst);
        if result == Err(Errno::EAGAIN) && self.is_watched() {
            // The caller may sleep on the queue next: the host must tell what holds by then.
            self.rearm();
        }
        result.map_err(from_host)
    }
}

impl FileOps for HostStream {
    fn read(&self, file: &File, to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        let count = self.transfer(file, READABLE, |flags| match to.guest_buffers() {
            Some(buffers) => host::preadv2_guest(self.fd, &buffers, None, flags),
            None => host::preadv2(self.fd, to.kernel_buffer().unwrap_or(&mut []), None, flags),
        })?;
        to.advance(count);
        Ok(count)
    }

    fn write(&self, file: &File, from: &mut Source<'_>, _offset: u64) -> Result<usize> {
        let result = self.transfer(file, WRITABLE, |flags| match from.guest_buffers() {
            Some(buffers) => host::pwritev2_guest(self.fd, &buffers, None, flags),
            None => host::pwritev2(self.fd, from.kernel_buffer().unwrap_or(&[]), None, flags),
        });
        if result == Err(Errno::EPIPE) {
            super::pipe::send_sigpipe();
        }
        let count = result?;
        from.advance(count);
        Ok(count)
    }

    fn poll(&self, _file: &File) -> Events {
        let mut allowed = Events::HUP | Events::ERR | Events::RDHUP;
        allowed.set(READABLE, self.access.is_readable());
        allowed.set(WRITABLE, self.access.is_writable());
        if !self.is_watched() {
            return allowed & (READABLE | WRITABLE);
        }
        let mut events = self.current();
        events.set(Events::RDNORM, events.contains(Events::IN));
        events.set(Events::WRNORM, events.contains(Events::OUT));
        events & allowed
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        self.is_watched().then_some(&self.readiness.queue)
    }

    fn stat(&self) -> Result<Stat> {
        let found = host::fstat(self.fd)?;
        let time = |[sec, nsec]: [i64; 2]| Time { sec, nsec: u32::try_from(nsec).unwrap_or(0) };
        Ok(Stat {
            dev: found.dev,
            ino: found.ino,
            mode: found.mode,
            nlink: u32::try_from(found.nlink).unwrap_or(1),
            uid: found.uid,
            gid: found.gid,
            rdev: found.rdev,
            size: u64::try_from(found.size).unwrap_or(0),
            blksize: u32::try_from(found.blksize).unwrap_or(4096),
            blocks: u64::try_from(found.blocks).unwrap_or(0),
            atime: time(found.atime),
            mtime: time(found.mtime),
            ctime: time(found.ctime),
        })
    }

    fn describe(&self) -> Vec<u8> {
        let ino = host::fstat(self.fd).map_or(0, |found| found.ino);
        match self.kind {
            HostKind::Pipe => format!("pipe:[{ino}]"),
            HostKind::Socket => format!("socket:[{ino}]"),
            HostKind::File | HostKind::Device => format!("host:[{ino}]"),
        }
        .into_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
