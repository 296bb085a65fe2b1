//! fcntl(2), flock(2).

use crate::fs::fd_table::{Fd, OnExec};
use crate::fs::locks::{self, LockKind, Owner, Patience, Record};
use crate::fs::sigio::Target;
use crate::fs::{File, OpenFlags};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use machine::guest;

/// Commands of fcntl(2).
enum Command {
    DupFd(OnExec),
    GetFd,
    SetFd,
    GetFlags,
    SetFlags,
    GetLock(LockOwner),
    SetLock(LockOwner, Patience),
    GetOwner,
    SetOwner,
    GetOwnerEx,
    SetOwnerEx,
    GetSignal,
    SetSignal,
    GetLease,
    GetPipeSize,
    SetPipeSize,
    AddSeals,
    GetSeals,
}

/// Whose record locks a command is about.
#[derive(Clone, Copy)]
enum LockOwner {
    Process,
    OpenFile,
}

impl Command {
    fn parse(number: u32) -> Result<Command> {
        Ok(match number {
            0 => Command::DupFd(OnExec::Keep),
            1 => Command::GetFd,
            2 => Command::SetFd,
            3 => Command::GetFlags,
            4 => Command::SetFlags,
            5 => Command::GetLock(LockOwner::Process),
            6 => Command::SetLock(LockOwner::Process, Patience::Now),
            7 => Command::SetLock(LockOwner::Process, Patience::Wait),
            8 => Command::SetOwner,
            9 => Command::GetOwner,
            10 => Command::SetSignal,
            11 => Command::GetSignal,
            15 => Command::SetOwnerEx,
            16 => Command::GetOwnerEx,
            36 => Command::GetLock(LockOwner::OpenFile),
            37 => Command::SetLock(LockOwner::OpenFile, Patience::Now),
            38 => Command::SetLock(LockOwner::OpenFile, Patience::Wait),
            1025 => Command::GetLease,
            1030 => Command::DupFd(OnExec::Close),
            1031 => Command::SetPipeSize,
            1032 => Command::GetPipeSize,
            1033 => Command::AddSeals,
            1034 => Command::GetSeals,
            _ => return Err(Errno::EINVAL),
        })
    }

    /// Whether it works on a descriptor of O_PATH.
    fn needs_no_file(&self) -> bool {
        matches!(self, Command::DupFd(_) | Command::GetFd | Command::SetFd | Command::GetFlags)
    }
}

pub(super) fn fcntl(task: &Task, fd: Fd, command: u32, argument: u64) -> Result<u64> {
    const F_UNLCK: u64 = 2;
    let files = task.files();
    let file = files.get(fd)?;
    let word = u32::try_from(argument & 0xffff_ffff).unwrap_or(0);
    let command = Command::parse(command);
    if file.is_place() && !command.as_ref().is_ok_and(Command::needs_no_file) {
        return Err(Errno::EBADF);
    }
    match command? {
        Command::DupFd(on_exec) => duplicate(task, file, word, on_exec),
        Command::GetFd => Ok(u64::from(files.on_exec(fd)? == OnExec::Close)),
        Command::SetFd => files.set_on_exec(fd, OnExec::from_flag(word & 1 != 0)).map(|()| 0),
        Command::GetFlags => Ok(u64::from(file.flags().bits())),
        Command::SetFlags => file.set_status(OpenFlags::from_bits_truncate(word)).map(|()| 0),
        Command::GetLock(owner) => get_lock(task, &file, owner, argument).map(|()| 0),
        Command::SetLock(owner, patience) => set_lock(task, &file, owner, patience, argument).map(|()| 0),
        Command::GetOwner => Ok(owner_number(file.sigio().settings().target)),
        Command::SetOwner => set_owner(&file, word.cast_signed()).map(|()| 0),
        Command::GetOwnerEx => get_owner_ex(&file, argument).map(|()| 0),
        Command::SetOwnerEx => set_owner_ex(&file, argument).map(|()| 0),
        Command::GetSignal => Ok(u64::from(file.sigio().settings().signal.unsigned_abs())),
        Command::SetSignal => set_signal(&file, word).map(|()| 0),
        Command::GetLease => Ok(F_UNLCK),
        Command::GetPipeSize => pipe_size(&file),
        Command::SetPipeSize => set_pipe_size(&file, word),
        Command::AddSeals => add_seals(&file, word).map(|()| 0),
        Command::GetSeals => file.ops().seals(None).map(u64::from),
    }
}

fn duplicate(task: &Task, file: Arc<File>, lowest: u32, on_exec: OnExec) -> Result<u64> {
    let lowest = usize::try_from(lowest.cast_signed()).map_err(|_| Errno::EINVAL)?;
    task.files().insert_from(lowest, file, on_exec).map(|fd| u64::from(fd.0.unsigned_abs()))
}

fn pipe_size(file: &File) -> Result<u64> {
    crate::fs::pipe::pipe_of(file).map(|pipe| pipe.capacity() as u64).ok_or(Errno::EBADF)
}

fn set_pipe_size(file: &File, size: u32) -> Result<u64> {
    let pipe = crate::fs::pipe::pipe_of(file).ok_or(Errno::EBADF)?;
    pipe.set_capacity(usize::try_from(size).unwrap_or(usize::MAX)).map(|size| size as u64)
}

fn add_seals(file: &File, seals: u32) -> Result<()> {
    if !file.flags().is_writable() {
        return Err(Errno::EPERM);
    }
    file.ops().seals(Some(seals)).map(|_| ())
}

/// What F_GETOWN returns: a group's number is negative.
fn owner_number(target: Target) -> u64 {
    match target {
        Target::None => 0,
        Target::Thread(id) | Target::Process(id) => i64::from(id).cast_unsigned(),
        Target::Group(id) => (-i64::from(id)).cast_unsigned(),
    }
}

fn set_owner(file: &File, id: i32) -> Result<()> {
    let target = match id {
        0 => Target::None,
        1.. => Target::Process(id),
        i32::MIN => return Err(Errno::EINVAL),
        _ => Target::Group(-id),
    };
    check_target(target)?;
    file.set_owner(target);
    Ok(())
}

fn check_target(target: Target) -> Result<()> {
    use crate::process::tree;
    let exists = match target {
        Target::None => true,
        Target::Thread(tid) => tree::task(tid).is_some(),
        Target::Process(pid) => tree::process(pid).is_some(),
        Target::Group(pgid) => !tree::collect_group(pgid).is_empty(),
    };
    if exists { Ok(()) } else { Err(Errno::ESRCH) }
}

const OWNER_THREAD: i32 = 0;
const OWNER_PROCESS: i32 = 1;
const OWNER_GROUP: i32 = 2;

fn get_owner_ex(file: &File, to: u64) -> Result<()> {
    let (kind, id) = match file.sigio().settings().target {
        Target::None => (OWNER_PROCESS, 0),
        Target::Thread(id) => (OWNER_THREAD, id),
        Target::Process(id) => (OWNER_PROCESS, id),
        Target::Group(id) => (OWNER_GROUP, id),
    };
    guest::write_value(to, &[kind, id])
}

fn set_owner_ex(file: &File, from: u64) -> Result<()> {
    let [kind, id]: [i32; 2] = guest::read_value(from)?;
    let target = match (kind, id) {
        (OWNER_THREAD | OWNER_PROCESS | OWNER_GROUP, 0) => Target::None,
        (OWNER_THREAD, id) => Target::Thread(id),
        (OWNER_PROCESS, id) => Target::Process(id),
        (OWNER_GROUP, id) => Target::Group(id),
        _ => return Err(Errno::EINVAL),
    };
    check_target(target)?;
    file.set_owner(target);
    Ok(())
}

fn set_signal(file: &File, signal: u32) -> Result<()> {
    let signal = i32::try_from(signal).ok().filter(|s| (0..=64).contains(s)).ok_or(Errno::EINVAL)?;
    file.sigio().set_signal(signal);
    Ok(())
}

/// `struct flock`: type and whence in one word, start, length, process id.
type RawLock = [u64; 4];

const F_RDLCK: u16 = 0;
const F_WRLCK: u16 = 1;
const F_UNLCK: u16 = 2;

/// What a `struct flock` asks for: the range, and a kind unless it unlocks.
struct Wanted {
    kind: Option<LockKind>,
    start: u64,
    end: u64,
    pid: u32,
}

fn low_words(word: u64) -> (u16, u16) {
    let low = |shift: u32| u16::try_from(word >> shift & 0xffff).unwrap_or(0);
    (low(0), low(16))
}

fn parse_lock(file: &File, raw: &RawLock) -> Result<Wanted> {
    let (kind, whence) = low_words(raw[0]);
    let base = match whence {
        0 => 0,
        1 => file.current_position().cast_signed(),
        2 => file.ops().size().unwrap_or(0).cast_signed(),
        _ => return Err(Errno::EINVAL),
    };
    let (offset, len) = (raw[1].cast_signed(), raw[2].cast_signed());
    let first = base.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = match len {
        0 => (first, i64::MAX),
        1.. => (first, first.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        _ => (first.checked_add(len).ok_or(Errno::EINVAL)?, first.checked_sub(1).ok_or(Errno::EINVAL)?),
    };
    if first < 0 || start < 0 {
        return Err(Errno::EINVAL);
    }
    let kind = match kind {
        F_RDLCK => Some(LockKind::Shared),
        F_WRLCK => Some(LockKind::Exclusive),
        F_UNLCK => None,
        _ => return Err(Errno::EINVAL),
    };
    let end = if end == i64::MAX { u64::MAX } else { end.cast_unsigned() };
    let pid = u32::try_from(raw[3] & 0xffff_ffff).unwrap_or(0);
    Ok(Wanted { kind, start: start.cast_unsigned(), end, pid })
}

fn read_lock(task: &Task, file: &File, owner: LockOwner, from: u64) -> Result<(Wanted, Owner, i32)> {
    let wanted = parse_lock(file, &guest::read_value(from)?)?;
    match owner {
        LockOwner::Process => Ok((wanted, Owner::process(&task.files()), task.process.pid)),
        // The field is reserved.
        LockOwner::OpenFile if wanted.pid != 0 => Err(Errno::EINVAL),
        LockOwner::OpenFile => Ok((wanted, Owner::file(file), -1)),
    }
}

fn set_lock(task: &Task, file: &File, owner: LockOwner, patience: Patience, from: u64) -> Result<()> {
    let (wanted, owner, pid) = read_lock(task, file, owner, from)?;
    let Wanted { kind, start, end, .. } = wanted;
    let Some(kind) = kind else {
        locks::unlock_records(file, owner, start, end);
        return Ok(());
    };
    let is_open = match kind {
        LockKind::Shared => file.flags().is_readable(),
        LockKind::Exclusive => file.flags().is_writable(),
    };
    if !is_open {
        return Err(Errno::EBADF);
    }
    locks::lock_record(file, Record { owner, pid, kind, start, end }, patience)
}

fn get_lock(task: &Task, file: &File, owner: LockOwner, at: u64) -> Result<()> {
    let (wanted, owner, pid) = read_lock(task, file, owner, at)?;
    let kind = wanted.kind.ok_or(Errno::EINVAL)?;
    let mut raw: RawLock = guest::read_value(at)?;
    let wanted = Record { owner, pid, kind, start: wanted.start, end: wanted.end };
    match locks::find_blocker(file, &wanted) {
        None => raw[0] = raw[0] & !0xffff | u64::from(F_UNLCK),
        Some(found) => {
            let kind = if found.kind == LockKind::Shared { F_RDLCK } else { F_WRLCK };
            let len = if found.end == u64::MAX { 0 } else { found.end - found.start + 1 };
            // l_whence becomes SEEK_SET.
            raw = [raw[0] & !0xffff_ffff | u64::from(kind), found.start, len, raw[3]];
            raw[3] = raw[3] & !0xffff_ffff | u64::from(found.pid.cast_unsigned());
        }
    }
    guest::write_value(at, &raw)
}

/// flock(2).
///
/// # Errors
/// EBADF, EINVAL, EAGAIN, INTERRUPTED.
pub(super) fn flock(task: &Task, fd: Fd, operation: u32) -> Result<()> {
    const NONBLOCKING: u32 = 4;
    let patience = if operation & NONBLOCKING != 0 { Patience::Now } else { Patience::Wait };
    let file = task.file(fd)?;
    match operation & !NONBLOCKING {
        1 => locks::lock_whole(&file, LockKind::Shared, patience),
        2 => locks::lock_whole(&file, LockKind::Exclusive, patience),
        8 => {
            locks::unlock_whole(&file);
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}
