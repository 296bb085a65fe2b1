//! System V IPC: shmget(2), semget(2), msgget(2) and their families.

use super::timeout::read_timespec;
use crate::ipc::info::{self, Question as Info};
use crate::ipc::msg::{self, Message};
use crate::ipc::sem::{self, MOST_OPERATIONS, Operation, Question};
use crate::ipc::shm;
use crate::ipc::table::Wanted;
use crate::wait::{Deadline, with_kept_deadline};
use crate::{Errno, Result, Task};
use alloc::vec;
use alloc::vec::Vec;
use machine::guest::{self, UserPtr};
use zerocopy::{Immutable, IntoBytes};

const IPC_RMID: u32 = 0;
const IPC_SET: u32 = 1;
const IPC_STAT: u32 = 2;
const IPC_INFO: u32 = 3;
/// Where a message's text begins.
const TEXT: u64 = 8;

/// Owner and mode that IPC_SET gives.
struct Owner {
    uid: u32,
    gid: u32,
    mode: u32,
}

fn read_owner(at: u64) -> Result<Owner> {
    let [_key, uid, gid, _cuid, _cgid, mode] = guest::read_value::<[u32; 6]>(at)?;
    Ok(Owner { uid, gid, mode })
}

/// The shared memory segment of a key: shmget(2).
///
/// # Errors
/// EINVAL, ENOENT, EEXIST, EACCES, ENOSPC, ENOMEM, EPERM.
pub(super) fn shmget(task: &Task, key: i32, size: u64, flags: u32) -> Result<i32> {
    shm::get(task, Wanted { key, flags }, size)
}

/// Attaches a segment: shmat(2).
///
/// # Errors
/// EINVAL, EACCES, ENOMEM.
pub(super) fn shmat(task: &Task, id: i32, addr: u64, flags: u32) -> Result<u64> {
    shm::attach(task, id, addr, flags)
}

/// Detaches a segment: shmdt(2).
///
/// # Errors
/// EINVAL.
pub(super) fn shmdt(task: &Task, addr: u64) -> Result<()> {
    shm::detach(task, addr)
}

/// Asks about a segment, changes or removes it: shmctl(2).
///
/// # Errors
/// EINVAL, EACCES, EPERM, EFAULT, ENOMEM.
pub(super) fn shmctl(task: &Task, id: i32, command: u32, buffer: u64) -> Result<i32> {
    const SHM_LOCK: u32 = 11;
    const SHM_UNLOCK: u32 = 12;
    const SHM_STAT: u32 = 13;
    const SHM_INFO: u32 = 14;
    const SHM_STAT_ANY: u32 = 15;
    check_id(id)?;
    match command {
        IPC_RMID => shm::remove(task, id)?,
        IPC_SET => {
            let Owner { uid, gid, mode } = read_owner(buffer)?;
            shm::set_owner(task, id, uid, gid, mode)?;
        }
        IPC_STAT => guest::write_value(buffer, &shm::status(task, id)?)?,
        IPC_INFO => return write_told(buffer, &info::segment_limits()),
        SHM_INFO => return write_told(buffer, &info::segment_use()),
        SHM_STAT => return write_at_place(buffer, shm::id_at(id)?, |id| shm::status(task, id)),
        SHM_STAT_ANY => return write_at_place(buffer, shm::id_at(id)?, shm::status_for_any),
        SHM_LOCK => shm::lock(task, id)?,
        SHM_UNLOCK => shm::unlock(task, id)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn check_id(id: i32) -> Result<()> {
    if id < 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Writes what is told; the answer is the highest place that is taken.
fn write_told<const N: usize, T: IntoBytes + Immutable>(to: u64, (told, highest): &info::Told<N, T>) -> Result<i32> {
    guest::write_value(to, told)?;
    Ok(*highest)
}

/// Writes the status of who is at a place; the answer is its id.
fn write_at_place<const N: usize>(to: u64, id: i32, status: impl FnOnce(i32) -> Result<[u64; N]>) -> Result<i32> {
    guest::write_value(to, &status(id)?)?;
    Ok(id)
}

/// The semaphore set of a key: semget(2).
///
/// # Errors
/// EINVAL, ENOENT, EEXIST, EACCES, ENOSPC.
pub(super) fn semget(task: &Task, key: i32, count: i32, flags: u32) -> Result<i32> {
    sem::get(task, Wanted { key, flags }, count)
}

/// Operates on a set: semop(2).
///
/// # Errors
/// EINVAL, E2BIG, EFBIG, EACCES, ERANGE, EAGAIN, EIDRM, EFAULT, INTERRUPTED.
pub(super) fn semop(task: &Task, id: i32, operations: u64, count: u64) -> Result<()> {
    operate(task, id, (operations, count), None)
}

/// As [`semop`], for a time: semtimedop(2).
///
/// # Errors
/// As [`semop`].
pub(super) fn semtimedop(task: &Task, id: i32, operations: u64, count: u64, timeout: UserPtr<[i64; 2]>) -> Result<()> {
    let timeout_ns = read_timespec(timeout)?;
    with_kept_deadline(task, timeout_ns, |deadline| operate(task, id, (operations, count), deadline))
}

fn operate(task: &Task, id: i32, (at, count): (u64, u64), deadline: Deadline) -> Result<()> {
    match count {
        0 => return Err(Errno::EINVAL),
        1..=MOST_OPERATIONS => {}
        _ => return Err(Errno::E2BIG),
    }
    let operation = |n: u64| {
        let [number, change, flags] = guest::read_value::<[u16; 3]>(at.wrapping_add(n * 6))?;
        Ok(Operation { number, change: change.cast_signed(), flags: flags.into() })
    };
    let operations = (0..count).map(operation).collect::<Result<Vec<_>>>()?;
    sem::operate(task, id, &operations, deadline)
}

/// Asks about a set, sets values or removes it: semctl(2).
///
/// # Errors
/// EINVAL, EACCES, EPERM, ERANGE, EFAULT.
pub(super) fn semctl(task: &Task, id: i32, number: i32, command: u32, argument: u64) -> Result<u64> {
    const SETVAL: u32 = 16;
    const SEM_STAT: u32 = 18;
    const SEM_INFO: u32 = 19;
    const SEM_STAT_ANY: u32 = 20;
    check_id(id)?;
    match command {
        IPC_RMID => sem::remove(task, id)?,
        IPC_SET => {
            let Owner { uid, gid, mode } = read_owner(argument)?;
            sem::set_owner(task, id, uid, gid, mode)?;
        }
        IPC_STAT => guest::write_value(argument, &sem::status(task, id)?)?,
        IPC_INFO | SEM_INFO => {
            let question = if command == IPC_INFO { Info::Limits } else { Info::Use };
            return write_told(argument, &info::semaphores(question)).map(unsigned);
        }
        SEM_STAT => return write_at_place(argument, sem::id_at(id)?, |id| sem::status(task, id)).map(unsigned),
        SEM_STAT_ANY => return write_at_place(argument, sem::id_at(id)?, sem::status_for_any).map(unsigned),
        SETVAL => {
            // As Linux: an int, and a bad one is told before a bad set.
            let value = u16::try_from(argument & 0xffff_ffff).map_err(|_| Errno::ERANGE)?;
            let first = u16::try_from(number).map_err(|_| Errno::EINVAL)?;
            sem::set_values(task, id, first, &[value])?;
        }
        _ => return control_values(task, id, number, command, argument),
    }
    Ok(0)
}

fn unsigned(id: i32) -> u64 {
    id.unsigned_abs().into()
}

fn control_values(task: &Task, id: i32, number: i32, command: u32, argument: u64) -> Result<u64> {
    const GETPID: u32 = 11;
    const GETVAL: u32 = 12;
    const GETALL: u32 = 13;
    const GETNCNT: u32 = 14;
    const GETZCNT: u32 = 15;
    const SETALL: u32 = 17;
    match command {
        GETPID => sem::ask(task, id, number, Question::Last),
        GETVAL => sem::ask(task, id, number, Question::Value),
        GETNCNT => sem::ask(task, id, number, Question::WaitingForMore),
        GETZCNT => sem::ask(task, id, number, Question::WaitingForZero),
        GETALL => {
            let bytes: Vec<u8> = sem::values(task, id)?.iter().flat_map(|value| value.to_ne_bytes()).collect();
            guest::write(argument, &bytes).map(|()| 0)
        }
        SETALL => {
            let count = sem::count_to_set(task, id)?;
            let values = UserPtr::<u16>::new(argument).read_slice(count)?;
            sem::set_values(task, id, 0, &values).map(|()| 0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The message queue of a key: msgget(2).
///
/// # Errors
/// ENOENT, EEXIST, EACCES, ENOSPC.
pub(super) fn msgget(task: &Task, key: i32, flags: u32) -> Result<i32> {
    msg::get(task, Wanted { key, flags })
}

/// Sends a message: msgsnd(2).
///
/// # Errors
/// EINVAL, EACCES, EAGAIN, EIDRM, EFAULT, INTERRUPTED.
pub(super) fn msgsnd(task: &Task, id: i32, message: u64, len: u64, flags: u32) -> Result<()> {
    let kind: i64 = guest::read_value(message)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= msg::LONGEST).ok_or(Errno::EINVAL)?;
    if kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut text = vec![0; len];
    guest::read(message.wrapping_add(TEXT), &mut text)?;
    msg::send(task, id, Message { kind, text }, flags)
}

/// Receives a message: msgrcv(2).
///
/// # Errors
/// EINVAL, EACCES, E2BIG, ENOMSG, EIDRM, EFAULT, INTERRUPTED; ENOSYS for MSG_COPY.
pub(super) fn msgrcv(task: &Task, id: i32, to: u64, limit: u64, kind: i64, flags: u32) -> Result<usize> {
    let limit = usize::try_from(limit).ok().filter(|limit| *limit <= isize::MAX.unsigned_abs());
    let limit = limit.ok_or(Errno::EINVAL)?;
    let message = msg::receive(task, id, limit, kind, flags)?;
    let text = message.text.get(..limit).unwrap_or(&message.text);
    guest::write_value(to, &message.kind)?;
    guest::write(to.wrapping_add(TEXT), text)?;
    Ok(text.len())
}

/// Asks about a queue, changes or removes it: msgctl(2).
///
/// # Errors
/// EINVAL, EACCES, EPERM, EFAULT.
pub(super) fn msgctl(task: &Task, id: i32, command: u32, buffer: u64) -> Result<i32> {
    /// Offset of msg_qbytes.
    const ROOM: u64 = 88;
    const MSG_STAT: u32 = 11;
    const MSG_INFO: u32 = 12;
    const MSG_STAT_ANY: u32 = 13;
    check_id(id)?;
    match command {
        IPC_RMID => msg::remove(task, id)?,
        IPC_SET => {
            let Owner { uid, gid, mode } = read_owner(buffer)?;
            msg::set(task, id, (uid, gid), mode, guest::read_value(buffer.wrapping_add(ROOM))?)?;
        }
        IPC_STAT => guest::write_value(buffer, &msg::status(task, id)?)?,
        IPC_INFO => return write_told(buffer, &info::messages(Info::Limits)),
        MSG_INFO => return write_told(buffer, &info::messages(Info::Use)),
        MSG_STAT => return write_at_place(buffer, msg::id_at(id)?, |id| msg::status(task, id)),
        MSG_STAT_ANY => return write_at_place(buffer, msg::id_at(id)?, msg::status_for_any),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
