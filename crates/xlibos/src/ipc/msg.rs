//! Message queues: msgget(2), msgsnd(2), msgrcv(2).

use super::table::{self, NOWAIT, Object, READ, Table, WRITE, Wanted, seconds};
use crate::process::Pid;
use crate::process::creds::CAP_SYS_RESOURCE;
use crate::wait::{Events, WaitQueue, wait_until};
use crate::{Errno, Result, Task};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::Mutex;

/// Longest message: MSGMAX.
pub const LONGEST: usize = 8192;
/// Bytes of a queue: MSGMNB.
pub const ROOM: usize = 16_384;
/// Most queues: MSGMNI.
pub const MOST: usize = 1024;
/// MSG_NOERROR: what is too long is cut.
const NOERROR: u32 = 0o1_0000;
/// MSG_EXCEPT.
const EXCEPT: u32 = 0o2_0000;
/// MSG_COPY, which only kernels with checkpoints have.
const COPY: u32 = 0o4_0000;

/// The container's queues.
static QUEUES: Mutex<Table<Queue>> = Mutex::new(Table::new(MOST));

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type, above zero.
    pub kind: i64,
    /// Its text.
    pub text: Vec<u8>,
}

#[derive(Debug)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    room: usize,
    last: (Pid, Pid),
    sent: u64,
    received: u64,
    changed: u64,
}

/// A queue.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    queue: WaitQueue,
}

/// Which message is wanted: the type of msgrcv(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    First,
    Kind(i64),
    Except(i64),
    /// The lowest type up to this one.
    Lowest(i64),
}

impl Choice {
    fn new(kind: i64, flags: u32) -> Choice {
        match kind {
            0 => Choice::First,
            kind if kind < 0 => Choice::Lowest(kind.checked_neg().unwrap_or(i64::MAX)),
            kind if flags & EXCEPT != 0 => Choice::Except(kind),
            kind => Choice::Kind(kind),
        }
    }
}

impl State {
    fn position(&self, choice: Choice) -> Option<usize> {
        let mut kinds = self.messages.iter().map(|message| message.kind);
        match choice {
            Choice::First => kinds.next().map(|_| 0),
            Choice::Kind(wanted) => kinds.position(|kind| kind == wanted),
            Choice::Except(unwanted) => kinds.position(|kind| kind != unwanted),
            Choice::Lowest(highest) => {
                let lowest = kinds.filter(|kind| *kind <= highest).min()?;
                self.messages.iter().position(|message| message.kind == lowest)
            }
        }
    }

    fn take(&mut self, choice: Choice, limit: usize, flags: u32) -> Result<Option<Message>> {
        let Some(at) = self.position(choice) else { return Ok(None) };
        let len = self.messages.get(at).map_or(0, |message| message.text.len());
        if len > limit && flags & NOERROR == 0 {
            return Err(Errno::E2BIG);
        }
        self.bytes -= len;
        Ok(self.messages.remove(at))
    }

    fn has_room(&self, len: usize) -> bool {
        self.bytes + len <= self.room && self.messages.len() < self.room
    }
}

/// The queue of a key: msgget(2).
///
/// # Errors
/// ENOENT, EEXIST, EACCES, ENOSPC.
pub fn get(task: &Task, want: Wanted) -> Result<i32> {
    table::get(
        &QUEUES,
        task,
        want,
        |_| true,
        || {
            let state = State {
                messages: VecDeque::new(),
                bytes: 0,
                room: ROOM,
                last: (0, 0),
                sent: 0,
                received: 0,
                changed: seconds(),
            };
            Ok(Queue { state: Mutex::new(state), queue: WaitQueue::new() })
        },
    )
}

/// The highest place that a queue has.
pub fn highest() -> i32 {
    QUEUES.lock().highest()
}

/// The id of who is at a place: MSG_STAT.
///
/// # Errors
/// EINVAL.
pub fn id_at(place: i32) -> Result<i32> {
    QUEUES.lock().id_at(place)
}

fn find(id: i32) -> Result<Arc<Object<Queue>>> {
    QUEUES.lock().find(id)
}

/// Sends a message: msgsnd(2).
///
/// # Errors
/// EINVAL, EACCES, EAGAIN, EIDRM, INTERRUPTED.
pub fn send(task: &Task, id: i32, message: Message, flags: u32) -> Result<()> {
    let object = find(id)?;
    object.check(task, WRITE)?;
    let queue = &object.body;
    let mut message = Some(message);
    let attempt = || {
        let mut state = queue.state.lock();
        if object.is_removed() {
            return Some(Err(Errno::EIDRM));
        }
        let len = message.as_ref().map_or(0, |message| message.text.len());
        if !state.has_room(len) {
            return if flags & NOWAIT != 0 { Some(Err(Errno::EAGAIN)) } else { None };
        }
        state.bytes += len;
        state.messages.extend(message.take());
        state.last.0 = task.process.pid;
        state.sent = seconds();
        Some(Ok(()))
    };
    wait_until(&[&queue.queue], None, attempt)?.unwrap_or(Err(Errno::EAGAIN))?;
    queue.queue.wake(Events::all());
    Ok(())
}

/// Receives a message: msgrcv(2).
///
/// # Errors
/// EINVAL, EACCES, E2BIG, ENOMSG, EIDRM, INTERRUPTED; ENOSYS for MSG_COPY.
pub fn receive(task: &Task, id: i32, limit: usize, kind: i64, flags: u32) -> Result<Message> {
    if flags & COPY != 0 {
        return Err(Errno::ENOSYS);
    }
    let object = find(id)?;
    object.check(task, READ)?;
    let (queue, choice) = (&object.body, Choice::new(kind, flags));
    let attempt = || {
        let mut state = queue.state.lock();
        if object.is_removed() {
            return Some(Err(Errno::EIDRM));
        }
        match state.take(choice, limit, flags) {
            Ok(None) if flags & NOWAIT != 0 => Some(Err(Errno::ENOMSG)),
            Ok(None) => None,
            Ok(Some(message)) => {
                state.last.1 = task.process.pid;
                state.received = seconds();
                Some(Ok(message))
            }
            Err(errno) => Some(Err(errno)),
        }
    };
    let message = wait_until(&[&queue.queue], None, attempt)?.unwrap_or(Err(Errno::ENOMSG))?;
    queue.queue.wake(Events::all());
    Ok(message)
}

/// IPC_RMID.
///
/// # Errors
/// EINVAL, EPERM.
pub fn remove(task: &Task, id: i32) -> Result<()> {
    find(id)?.check_owner(task)?;
    let removed = QUEUES.lock().remove(id);
    if let Some(object) = removed {
        object.body.queue.wake(Events::all());
    }
    Ok(())
}

/// IPC_SET: owner, mode and room.
///
/// # Errors
/// EINVAL, EPERM, also for more room than others may have.
pub fn set(task: &Task, id: i32, owner: (u32, u32), mode: u32, room: u64) -> Result<()> {
    let object = find(id)?;
    object.check_owner(task)?;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if room > ROOM && !task.creds().has(CAP_SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    object.set_owner(owner.0, owner.1, mode);
    {
        let mut state = object.body.state.lock();
        state.room = room.min(ROOM * 64);
        state.changed = seconds();
    }
    object.body.queue.wake(Events::all());
    Ok(())
}

/// As [`status`], for anybody: MSG_STAT_ANY.
///
/// # Errors
/// EINVAL.
pub fn status_for_any(id: i32) -> Result<[u64; 15]> {
    find(id).map(|object| words(&object))
}

/// Where the bytes and the messages of a queue stand.
pub(super) const BYTES_WORD: usize = 9;
/// As [`BYTES_WORD`].
pub(super) const COUNT_WORD: usize = 10;

/// IPC_STAT, as `struct msqid64_ds`.
///
/// # Errors
/// EINVAL, EACCES.
pub fn status(task: &Task, id: i32) -> Result<[u64; 15]> {
    let object = find(id)?;
    object.check(task, READ)?;
    Ok(words(&object))
}

/// All of them, as IPC_STAT tells of each.
pub fn list() -> Vec<(i32, [u64; 15])> {
    let all = QUEUES.lock().numbered();
    all.iter().map(|(id, object)| (*id, words(object))).collect()
}

fn words(object: &Object<Queue>) -> [u64; 15] {
    let state = object.body.state.lock();
    let mut words = [0; 15];
    words.iter_mut().zip(object.permissions().to_words()).for_each(|(to, from)| *to = from);
    words[6] = state.sent;
    words[7] = state.received;
    words[8] = state.changed;
    words[BYTES_WORD] = state.bytes as u64;
    words[COUNT_WORD] = state.messages.len() as u64;
    words[11] = state.room as u64;
    words[12] = u64::from(state.last.0.cast_unsigned()) | u64::from(state.last.1.cast_unsigned()) << 32;
    words
}

#[cfg(test)]
mod tests {
    use super::{Choice, EXCEPT, Message, ROOM, State};
    use crate::Errno;

    fn state(kinds: &[i64]) -> State {
        let messages: std::collections::VecDeque<_> =
            kinds.iter().map(|kind| Message { kind: *kind, text: b"text".to_vec() }).collect();
        let bytes = messages.len() * 4;
        State { messages, bytes, room: ROOM, last: (0, 0), sent: 0, received: 0, changed: 0 }
    }

    #[test]
    fn a_type_chooses_the_message() {
        let state = state(&[5, 2, 9, 2]);
        let position = |kind, flags| state.position(Choice::new(kind, flags));
        assert_eq!([position(0, 0), position(9, 0), position(5, EXCEPT)], [Some(0), Some(2), Some(1)]);
        assert_eq!([position(-4, 0), position(-1, 0), position(7, 0)], [Some(1), None, None]);
    }

    #[test]
    fn what_is_too_long_stays() {
        let mut state = state(&[1]);
        assert_eq!(state.take(Choice::First, 3, 0), Err(Errno::E2BIG));
        assert!(matches!(state.take(Choice::First, 4, 0), Ok(Some(_))));
        assert_eq!((state.bytes, state.take(Choice::First, 4, 0)), (0, Ok(None)));
    }
}
