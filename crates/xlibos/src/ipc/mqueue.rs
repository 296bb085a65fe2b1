//! POSIX message queues: mq_overview(7). A queue lives while it has a name or an open file.
//!
//! Locks: the names and the counts of bytes, then a queue's state, then the tree of processes.

use crate::fs::access::{self, READ, WRITE};
use crate::fs::file::{File, FileOps, OpenFlags};
use crate::fs::inode::{Kind, Stat, new_anonymous_ino};
use crate::net::socket::Socket;
use crate::process::creds::{CAP_FOWNER, CAP_SYS_RESOURCE, Creds};
use crate::process::{Pid, Process, Task, tree};
use crate::signal::{SigInfo, send_process};
use crate::uio::Sink;
use crate::wait::{Deadline, Events, READABLE, WRITABLE, WaitQueue, wait_until};
use crate::{Errno, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use machine::sync::Mutex;

/// Priorities are below: MQ_PRIO_MAX.
pub const PRIORITIES: u32 = 32_768;
/// Messages and bytes of one for who may not have more, and for who may: /proc/sys/fs/mqueue.
const USUAL: Size = Size { messages: 10, bytes: 8192 };
const MOST: Size = Size { messages: 65_536, bytes: 16 << 20 };
/// Queues for who may not have more: queues_max.
const MAX_QUEUES: usize = 256;
/// RLIMIT_MSGQUEUE.
const LIMIT_MSGQUEUE: usize = 12;
/// si_code of a message's arrival.
const SI_MESGQ: i32 = -3;

/// Room of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Messages.
    pub messages: usize,
    /// Bytes of one.
    pub bytes: usize,
}

impl Size {
    /// mq_maxmsg and mq_msgsize.
    ///
    /// # Errors
    /// EINVAL beyond what the caller may have.
    pub fn checked(creds: &Creds, messages: i64, bytes: i64) -> Result<Size> {
        let most = if creds.has(CAP_SYS_RESOURCE) { MOST } else { USUAL };
        let within = |value: i64, most: usize| {
            usize::try_from(value).ok().filter(|value| (1..=most).contains(value)).ok_or(Errno::EINVAL)
        };
        Ok(Size { messages: within(messages, most.messages)?, bytes: within(bytes, most.bytes)? })
    }

    /// What RLIMIT_MSGQUEUE counts.
    fn charge(self) -> u64 {
        /// Of a message, and of a priority, in Linux.
        const OVERHEAD: usize = 48;
        let each = self.bytes + 2 * OVERHEAD;
        self.messages.saturating_mul(each) as u64
    }
}

impl Default for Size {
    fn default() -> Self {
        USUAL
    }
}

/// How the arrival of a message at an empty queue is told: mq_notify(3).
pub enum Notice {
    /// Not at all, but nobody else is told.
    Silence,
    /// By a signal with a value.
    Signal(i32, u64),
    /// SIGEV_THREAD: the library's thread reads a netlink socket.
    Socket(Arc<dyn Socket>, [u8; COOKIE]),
}

/// Bytes that the library knows its thread by; the last says what happened.
pub const COOKIE: usize = 32;
const WOKEN: u8 = 1;
const REMOVED: u8 = 2;

impl Notice {
    fn send_cookie(&self, what: u8) {
        if let Notice::Socket(socket, cookie) = self {
            let mut bytes = *cookie;
            bytes[COOKIE - 1] = what;
            // Nobody reads any more: nobody is told.
            let _ = socket.put_notice(&bytes);
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The higher, the earlier it is received.
    pub priority: u32,
    /// Its text.
    pub text: Vec<u8>,
}

#[derive(Default)]
struct State {
    /// By falling priority, those of one in the order in which they came.
    messages: VecDeque<Message>,
    bytes: usize,
    /// Threads that sleep in a receive: a message that one of them takes is not told of.
    receivers: Vec<Pid>,
    notice: Option<(Weak<Process>, Notice)>,
}

impl State {
    fn insert(&mut self, message: Message) {
        self.bytes += message.text.len();
        let at = self.messages.partition_point(|other| other.priority >= message.priority);
        self.messages.insert(at, message);
    }

    fn take(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.text.len();
        Some(message)
    }

    /// The registration, where the message that comes now is to be told of.
    fn due_notice(&mut self) -> Option<(Weak<Process>, Notice)> {
        // One that died without a word receives nothing.
        let is_awaited = self.receivers.iter().any(|tid| tree::task(*tid).is_some());
        if self.messages.is_empty() && !is_awaited { self.notice.take() } else { None }
    }
}

/// A queue.
pub struct Queue {
    name: Vec<u8>,
    size: Size,
    stat: Stat,
    state: Mutex<State>,
    events: WaitQueue,
}

static NAMES: Mutex<BTreeMap<Vec<u8>, Arc<Queue>>> = Mutex::new(BTreeMap::new());
/// Bytes that each user's queues take.
static CHARGED: Mutex<BTreeMap<u32, u64>> = Mutex::new(BTreeMap::new());

impl Drop for Queue {
    fn drop(&mut self) {
        let mut charged = CHARGED.lock();
        let left = charged.get(&self.stat.uid).copied().unwrap_or(0).saturating_sub(self.size.charge());
        if left == 0 {
            charged.remove(&self.stat.uid);
        } else {
            charged.insert(self.stat.uid, left);
        }
    }
}

/// A name without a directory.
fn check_name(name: &[u8]) -> Result<()> {
    match name {
        b"" => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        _ if name.contains(&b'/') => Err(Errno::EACCES),
        _ if name.len() > 255 => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

fn make(task: &Task, name: &[u8], mode: u32, size: Size) -> Result<Arc<Queue>> {
    let creds = task.creds();
    let limit = task.process.limits.get(LIMIT_MSGQUEUE).map_or(u64::MAX, |limit| limit.current);
    {
        let mut charged = CHARGED.lock();
        let taken = charged.entry(creds.fsuid).or_default();
        let more = taken.saturating_add(size.charge());
        if more > limit {
            return Err(Errno::EMFILE);
        }
        *taken = more;
    }
    let mode = Kind::File.mode_bits() | mode & 0o777 & !task.fs().umask();
    let stat = Stat::anonymous(Kind::File, new_anonymous_ino());
    let stat = Stat { mode, uid: creds.fsuid, gid: creds.fsgid, size: TEXT_SIZE, ..stat };
    let name = name.to_vec();
    Ok(Arc::new(Queue { name, size, stat, state: Mutex::default(), events: WaitQueue::new() }))
}

/// Opens a queue, or makes it: mq_open(2). `size` is asked for only where it is made.
///
/// # Errors
/// ENOENT, EEXIST, EACCES, EINVAL, EMFILE, ENOSPC, ENAMETOOLONG; those of `size`.
pub fn open(
    task: &Task,
    name: &[u8],
    flags: OpenFlags,
    mode: u32,
    size: impl FnOnce() -> Result<Size>,
) -> Result<Arc<File>> {
    check_name(name)?;
    let found = NAMES.lock().get(name).cloned();
    let queue = match found {
        Some(_) if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) => return Err(Errno::EEXIST),
        Some(queue) => {
            let want = match flags.bits() & 3 {
                0 => READ,
                1 => WRITE,
                2 => READ | WRITE,
                _ => return Err(Errno::EINVAL),
            };
            access::check_stat(&queue.stat, &task.creds(), want)?;
            queue
        }
        None if flags.contains(OpenFlags::CREAT) => {
            let size = size()?;
            let many = NAMES.lock().len() >= MAX_QUEUES;
            if many && !task.creds().has(CAP_SYS_RESOURCE) {
                return Err(Errno::ENOSPC);
            }
            let made = make(task, name, mode, size)?;
            // Another may have been faster.
            Arc::clone(NAMES.lock().entry(name.to_vec()).or_insert(made))
        }
        None => return Err(Errno::ENOENT),
    };
    Ok(File::new(Arc::new(QueueFile { queue }), flags & (OpenFlags::WRONLY | OpenFlags::RDWR | OpenFlags::NONBLOCK)))
}

/// Takes a queue's name away: mq_unlink(2).
///
/// # Errors
/// ENOENT, EACCES for another's, ENAMETOOLONG.
pub fn unlink(creds: &Creds, name: &[u8]) -> Result<()> {
    check_name(name)?;
    let removed = {
        let mut names = NAMES.lock();
        let queue = names.get(name).ok_or(Errno::ENOENT)?;
        // The directory of all queues is root's, with the sticky bit.
        if queue.stat.uid != creds.fsuid && creds.fsuid != 0 && !creds.has(CAP_FOWNER) {
            return Err(Errno::EPERM);
        }
        names.remove(name)
    };
    drop(removed);
    Ok(())
}

/// A queue as an open file.
pub struct QueueFile {
    queue: Arc<Queue>,
}

/// Size that stat(2) shows.
const TEXT_SIZE: u64 = 80;

impl Queue {
    /// Its room.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// How many messages wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state.lock().messages.len()
    }

    /// Sends a message, waiting for room: mq_timedsend(2).
    ///
    /// # Errors
    /// EMSGSIZE, EAGAIN with `is_nonblocking`, ETIMEDOUT, INTERRUPTED.
    pub fn send(&self, task: &Task, message: Message, is_nonblocking: bool, deadline: Deadline) -> Result<()> {
        let mut message = Some(message);
        let attempt = || {
            let mut state = self.state.lock();
            if state.messages.len() >= self.size.messages {
                return is_nonblocking.then_some(Err(Errno::EAGAIN));
            }
            let due = state.due_notice();
            message.take().into_iter().for_each(|message| state.insert(message));
            Some(Ok(due))
        };
        let due = wait_until(&[&self.events], deadline, attempt)?.unwrap_or(Err(Errno::ETIMEDOUT))?;
        self.events.wake(READABLE);
        if let Some((owner, notice)) = due {
            tell(task, &owner, &notice);
        }
        Ok(())
    }

    /// Receives the first message of the highest priority, waiting for one: mq_timedreceive(2).
    ///
    /// # Errors
    /// EAGAIN with `is_nonblocking`, ETIMEDOUT, INTERRUPTED.
    pub fn receive(&self, task: &Task, is_nonblocking: bool, deadline: Deadline) -> Result<Message> {
        let take = || self.state.lock().take();
        let message = match take() {
            Some(message) => message,
            None if is_nonblocking => return Err(Errno::EAGAIN),
            None => {
                self.state.lock().receivers.push(task.tid());
                let waited = wait_until(&[&self.events], deadline, take);
                self.state.lock().receivers.retain(|tid| *tid != task.tid());
                waited?.ok_or(Errno::ETIMEDOUT)?
            }
        };
        self.events.wake(WRITABLE);
        Ok(message)
    }

    /// Registers the caller's process for the next message, or ends its registration: mq_notify(2).
    ///
    /// # Errors
    /// EBUSY where somebody is registered.
    pub fn set_notice(&self, task: &Task, notice: Option<Notice>) -> Result<()> {
        let old = {
            let mut state = self.state.lock();
            let owner = state.notice.as_ref().and_then(|(owner, _)| owner.upgrade());
            match (notice, owner) {
                (Some(_), Some(_)) => return Err(Errno::EBUSY),
                (Some(new), None) => state.notice.replace((Arc::downgrade(&task.process), new)),
                (None, Some(owner)) if Arc::ptr_eq(&owner, &task.process) => state.notice.take(),
                (None, _) => None,
            }
        };
        if let Some((_, notice)) = old {
            notice.send_cookie(REMOVED);
        }
        Ok(())
    }
}

fn tell(task: &Task, owner: &Weak<Process>, notice: &Notice) {
    notice.send_cookie(WOKEN);
    if let (Notice::Signal(signal, value), Some(owner)) = (notice, owner.upgrade()) {
        send_process(&owner, SigInfo { value: *value, ..SigInfo::from_task(task, *signal, SI_MESGQ) });
    }
}

impl QueueFile {
    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}

impl FileOps for QueueFile {
    fn read(&self, _file: &File, to: &mut Sink<'_>, offset: u64) -> Result<usize> {
        let text = {
            let state = self.queue.state.lock();
            let (kind, signal) = match &state.notice {
                Some((_, Notice::Signal(signal, _))) => (0, *signal),
                Some((_, Notice::Silence)) => (1, 0),
                Some((_, Notice::Socket(..))) => (2, 0),
                None => (0, 0),
            };
            let owner = state.notice.as_ref().and_then(|(owner, _)| owner.upgrade()).map_or(0, |owner| owner.pid);
            format!("QSIZE:{:<10} NOTIFY:{kind:<5} SIGNO:{signal:<5} NOTIFY_PID:{owner:<6}\n", state.bytes)
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        to.put(text.as_bytes().get(start..).unwrap_or(&[]))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Ok(TEXT_SIZE)
    }

    fn poll(&self, _file: &File) -> Events {
        let count = self.queue.count();
        let readable = if count > 0 { READABLE } else { Events::empty() };
        readable | if count < self.queue.size.messages { WRITABLE } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue.events)
    }

    fn tells_by_signal(&self) -> bool {
        false
    }

    fn stat(&self) -> Result<Stat> {
        Ok(self.queue.stat)
    }

    fn describe(&self) -> Vec<u8> {
        [b"/", &self.queue.name[..]].concat()
    }

    fn on_close(&self, _file: &File, task: &Task) {
        // Whoever is registered and closes any descriptor of the queue is not told any more.
        let _ = self.queue.set_notice(task, None);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, Notice, Size, State, USUAL};
    use crate::process::creds::Creds;
    use alloc::sync::Weak;
    use alloc::vec::Vec;

    fn message(priority: u32, text: u8) -> Message {
        Message { priority, text: alloc::vec![text] }
    }

    #[test]
    fn the_first_of_the_highest_priority_comes_first() {
        let mut state = State::default();
        [(1, 1), (3, 2), (1, 3), (3, 4), (0, 5)].into_iter().for_each(|(p, t)| state.insert(message(p, t)));
        let order: Vec<u8> = core::iter::from_fn(|| state.take()).flat_map(|message| message.text).collect();
        assert_eq!((order.as_slice(), state.bytes), (&[2, 4, 1, 3, 5][..], 0));
    }

    #[test]
    fn only_the_first_message_is_told_of() {
        // No thread has that number: whoever waited is dead.
        let receivers = Vec::from([-1]);
        let mut state = State { notice: Some((Weak::new(), Notice::Silence)), receivers, ..State::default() };
        state.insert(message(0, 0));
        assert!(state.due_notice().is_none());
        state.take();
        assert!(state.due_notice().is_some() && state.due_notice().is_none());
    }

    #[test]
    fn room_is_bounded_for_who_has_no_privilege() {
        let (user, root) = (Creds::new(5, 5, Vec::new()), Creds::new(0, 0, Vec::new()));
        assert_eq!(Size::checked(&user, 10, 8192), Ok(USUAL));
        assert!(Size::checked(&user, 11, 1).is_err() && Size::checked(&root, 11, 1).is_ok());
        assert!(Size::checked(&root, 0, 1).is_err() && Size::checked(&root, 1, -1).is_err());
    }
}
