//! Semaphore sets: semget(2), semop(2).

use super::table::{self, NOWAIT, Object, READ, Table, WRITE, Wanted, seconds};
use crate::process::Pid;
use crate::wait::{Deadline, wait_until};
use crate::{Errno, Result, Task};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use machine::Cpu;
use machine::sync::{Mutex, MutexGuard};

/// Highest value of a semaphore: SEMVMX.
pub const HIGHEST: u16 = 32_767;
/// Most semaphores of a set, and of the container: SEMMSL, SEMMNS.
pub const MOST: usize = 32_000;
/// Most sets: SEMMNI.
pub const MOST_SETS: usize = 4096;
/// Most operations of one semop(2): SEMOPM.
pub const MOST_OPERATIONS: u64 = 500;
const UNDO: u32 = 0o1_0000;

/// The container's sets.
static SETS: Mutex<Table<Set>> = Mutex::new(Table::new(MOST_SETS));
/// Semaphores of all sets.
static SEMAPHORES: AtomicUsize = AtomicUsize::new(0);
/// Adjustments of all sets, so that an end of a process without any costs nothing.
static ADJUSTMENTS: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Copy, Debug, Default)]
struct Semaphore {
    value: u16,
    last: Pid,
}

/// What a sleeper waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Obstacle {
    number: u16,
    /// For zero, rather than for more.
    is_for_zero: bool,
    must_not_wait: bool,
}

/// Who sleeps until all its operations can be made.
#[derive(Debug)]
struct Sleeper {
    cpu: &'static Cpu,
    operations: Vec<Operation>,
    obstacle: Obstacle,
}

#[derive(Debug)]
struct State {
    semaphores: Vec<Semaphore>,
    /// What a process's end adds, by process and semaphore.
    undo: BTreeMap<(Pid, u16), i32>,
    /// Sleepers by their thread.
    waiting: BTreeMap<Pid, Sleeper>,
    operated: u64,
    changed: u64,
}

/// A set of semaphores.
#[derive(Debug)]
pub struct Set {
    count: usize,
    state: Mutex<State>,
}

impl Drop for Set {
    fn drop(&mut self) {
        SEMAPHORES.fetch_sub(self.count, Ordering::Relaxed);
        let left = core::mem::take(&mut self.state.lock().undo).len();
        ADJUSTMENTS.fetch_sub(left, Ordering::SeqCst);
    }
}

/// One operation of semop(2).
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Which semaphore.
    pub number: u16,
    /// What is added; 0 waits for zero.
    pub change: i16,
    /// IPC_NOWAIT, SEM_UNDO.
    pub flags: u32,
}

impl State {
    /// All operations, or none: what is in the way.
    fn attempt(&mut self, pid: Pid, operations: &[Operation]) -> Result<core::result::Result<(), Obstacle>> {
        if let Err(obstacle) = self.change_values(operations)? {
            return Ok(Err(obstacle));
        }
        for operation in operations {
            if let Some(semaphore) = self.semaphores.get_mut(usize::from(operation.number)) {
                semaphore.last = pid;
            }
        }
        self.operated = seconds();
        operations.iter().filter(|operation| operation.flags & UNDO != 0).for_each(|operation| {
            self.note_undo(pid, operation);
        });
        Ok(Ok(()))
    }

    /// Changes the values by all operations, or by none.
    fn change_values(&mut self, operations: &[Operation]) -> Result<core::result::Result<(), Obstacle>> {
        for (done, operation) in operations.iter().enumerate() {
            let changed = self.change_value(operation);
            if !matches!(changed, Ok(Ok(()))) {
                self.change_back(operations.iter().take(done));
                return changed;
            }
        }
        Ok(Ok(()))
    }

    fn change_value(&mut self, operation: &Operation) -> Result<core::result::Result<(), Obstacle>> {
        let Operation { number, change, flags } = *operation;
        let semaphore = self.semaphores.get_mut(usize::from(number)).ok_or(Errno::EFBIG)?;
        let is_for_zero = change == 0;
        match semaphore.value.checked_add_signed(change) {
            Some(value) if !is_for_zero || value == 0 => {
                semaphore.value = Some(value).filter(|value| *value <= HIGHEST).ok_or(Errno::ERANGE)?;
                Ok(Ok(()))
            }
            _ => Ok(Err(Obstacle { number, is_for_zero, must_not_wait: flags & NOWAIT != 0 })),
        }
    }

    fn change_back<'a>(&mut self, made: impl Iterator<Item = &'a Operation>) {
        for operation in made {
            if let Some(semaphore) = self.semaphores.get_mut(usize::from(operation.number)) {
                semaphore.value = semaphore.value.wrapping_add_signed(operation.change.wrapping_neg());
            }
        }
    }

    /// What a sleeper would sleep for again.
    fn obstacle_to(&mut self, operations: &[Operation]) -> Option<Obstacle> {
        match self.change_values(operations) {
            Ok(Ok(())) => {
                self.change_back(operations.iter());
                None
            }
            Ok(Err(obstacle)) => Some(obstacle).filter(|obstacle| !obstacle.must_not_wait),
            Err(_) => None,
        }
    }

    /// Wakes those that can go on now, each by itself: the others would only look and sleep again.
    fn wake(mut state: MutexGuard<'_, State>) {
        let mut woken = None;
        let mut waiting = core::mem::take(&mut state.waiting);
        for sleeper in waiting.values_mut() {
            match state.obstacle_to(&sleeper.operations) {
                Some(obstacle) => sleeper.obstacle = obstacle,
                None => woken.replace(sleeper.cpu).into_iter().for_each(machine::sync::unpark),
            }
        }
        state.waiting = waiting;
        // Usually the only one: it finds the lock free.
        drop(state);
        woken.into_iter().for_each(machine::sync::unpark);
    }

    fn note_undo(&mut self, pid: Pid, operation: &Operation) {
        let before = self.undo.len();
        let key = (pid, operation.number);
        let adjustment = self.undo.entry(key).or_insert(0);
        *adjustment -= i32::from(operation.change);
        if *adjustment == 0 {
            self.undo.remove(&key);
        }
        count_adjustments(before, self.undo.len());
    }

    /// SETVAL and SETALL: what a process's end would add is forgotten.
    fn set(&mut self, pid: Pid, number: u16, value: u16) -> Result<()> {
        if value > HIGHEST {
            return Err(Errno::ERANGE);
        }
        let semaphore = self.semaphores.get_mut(usize::from(number)).ok_or(Errno::EINVAL)?;
        *semaphore = Semaphore { value, last: pid };
        let before = self.undo.len();
        self.undo.retain(|(_, its), _| *its != number);
        count_adjustments(before, self.undo.len());
        self.changed = seconds();
        Ok(())
    }

    /// A process has ended.
    fn undo_of(&mut self, pid: Pid) -> bool {
        let before = self.undo.len();
        let keys: Vec<_> = self.undo.range((pid, 0)..=(pid, u16::MAX)).map(|(key, change)| (*key, *change)).collect();
        for (key, change) in &keys {
            self.undo.remove(key);
            if let Some(semaphore) = self.semaphores.get_mut(usize::from(key.1)) {
                let sum = (i32::from(semaphore.value) + change).clamp(0, HIGHEST.into());
                *semaphore = Semaphore { value: u16::try_from(sum).unwrap_or(0), last: pid };
            }
        }
        count_adjustments(before, self.undo.len());
        !keys.is_empty()
    }
}

fn count_adjustments(before: usize, after: usize) {
    ADJUSTMENTS.fetch_add(after, Ordering::SeqCst);
    ADJUSTMENTS.fetch_sub(before, Ordering::SeqCst);
}

/// The set of a key: semget(2).
///
/// # Errors
/// EINVAL, ENOENT, EEXIST, EACCES, ENOSPC.
pub fn get(task: &Task, want: Wanted, count: i32) -> Result<i32> {
    let count = usize::try_from(count).ok().filter(|count| *count <= MOST).ok_or(Errno::EINVAL)?;
    let fits = |set: &Set| count <= set.count;
    table::get(&SETS, task, want, fits, || {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        if SEMAPHORES.fetch_add(count, Ordering::Relaxed) + count > MOST {
            SEMAPHORES.fetch_sub(count, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        let state = State {
            semaphores: vec![Semaphore::default(); count],
            undo: BTreeMap::new(),
            waiting: BTreeMap::new(),
            operated: 0,
            changed: seconds(),
        };
        Ok(Set { count, state: Mutex::new(state) })
    })
}

/// Semaphores of all sets.
pub fn count() -> usize {
    SEMAPHORES.load(Ordering::Relaxed)
}

/// The highest place that a set has.
pub fn highest_place() -> i32 {
    SETS.lock().highest()
}

/// The id of who is at a place: SEM_STAT.
///
/// # Errors
/// EINVAL.
pub fn id_at(place: i32) -> Result<i32> {
    SETS.lock().id_at(place)
}

/// Whether a process's end changes a value.
pub fn has_adjustments(pid: Pid) -> bool {
    let sets = if ADJUSTMENTS.load(Ordering::SeqCst) == 0 { Vec::new() } else { SETS.lock().collect() };
    let own = (pid, 0)..=(pid, u16::MAX);
    sets.iter().any(|object| object.body.state.lock().undo.range(own.clone()).next().is_some())
}

fn find(id: i32) -> Result<Arc<Object<Set>>> {
    SETS.lock().find(id)
}

/// Operates on a set, all at once, when nothing is in the way: semop(2).
///
/// # Errors
/// EINVAL, EFBIG, EACCES, ERANGE, EAGAIN, EIDRM, INTERRUPTED.
pub fn operate(task: &Task, id: i32, operations: &[Operation], deadline: Deadline) -> Result<()> {
    let object = find(id)?;
    let set = &object.body;
    if operations.iter().any(|operation| usize::from(operation.number) >= set.count) {
        return Err(Errno::EFBIG);
    }
    let alters = operations.iter().any(|operation| operation.change != 0);
    object.check(task, if alters { WRITE } else { READ })?;
    let (pid, tid) = (task.process.pid, task.tid());
    let attempt = || {
        let mut state = set.state.lock();
        if object.is_removed() {
            return Some(Err(Errno::EIDRM));
        }
        match state.attempt(pid, operations) {
            Ok(Ok(())) => {
                state.waiting.remove(&tid);
                if alters {
                    State::wake(state);
                }
                Some(Ok(()))
            }
            Ok(Err(obstacle)) if obstacle.must_not_wait => Some(Err(Errno::EAGAIN)),
            Ok(Err(obstacle)) => {
                // Each time anew: one of the same id that died in its sleep may have left its own.
                let cpu = machine::cpu::current();
                state.waiting.insert(tid, Sleeper { cpu, operations: operations.to_vec(), obstacle });
                None
            }
            Err(errno) => Some(Err(errno)),
        }
    };
    // Who changes the set wakes those that it lets go: there is no queue.
    let waited = wait_until(&[], deadline, attempt);
    let result = waited.and_then(|done| done.unwrap_or(Err(Errno::EAGAIN)));
    if result.is_err() {
        set.state.lock().waiting.remove(&tid);
    }
    result
}

/// A process has ended: SEM_UNDO.
pub fn process_ended(pid: Pid) {
    if ADJUSTMENTS.load(Ordering::SeqCst) == 0 {
        return;
    }
    let sets = SETS.lock().collect();
    for object in sets {
        let mut state = object.body.state.lock();
        if state.undo_of(pid) {
            State::wake(state);
        }
    }
}

/// IPC_RMID.
///
/// # Errors
/// EINVAL, EPERM.
pub fn remove(task: &Task, id: i32) -> Result<()> {
    find(id)?.check_owner(task)?;
    let removed = SETS.lock().remove(id);
    if let Some(object) = removed {
        object.body.state.lock().waiting.values().for_each(|sleeper| machine::sync::unpark(sleeper.cpu));
    }
    Ok(())
}

/// IPC_SET.
///
/// # Errors
/// EINVAL, EPERM.
pub fn set_owner(task: &Task, id: i32, uid: u32, gid: u32, mode: u32) -> Result<()> {
    let object = find(id)?;
    object.check_owner(task)?;
    object.set_owner(uid, gid, mode);
    object.body.state.lock().changed = seconds();
    Ok(())
}

/// As [`status`], for anybody: SEM_STAT_ANY.
///
/// # Errors
/// EINVAL.
pub fn status_for_any(id: i32) -> Result<[u64; 13]> {
    find(id).map(|object| words(&object))
}

/// IPC_STAT, as `struct semid64_ds`.
///
/// # Errors
/// EINVAL, EACCES.
pub fn status(task: &Task, id: i32) -> Result<[u64; 13]> {
    let object = find(id)?;
    object.check(task, READ)?;
    Ok(words(&object))
}

/// All of them, as IPC_STAT tells of each.
pub fn list() -> Vec<(i32, [u64; 13])> {
    let all = SETS.lock().numbered();
    all.iter().map(|(id, object)| (*id, words(object))).collect()
}

fn words(object: &Object<Set>) -> [u64; 13] {
    let state = object.body.state.lock();
    let mut words = [0; 13];
    words.iter_mut().zip(object.permissions().to_words()).for_each(|(to, from)| *to = from);
    words[6] = state.operated;
    words[8] = state.changed;
    words[10] = object.body.count as u64;
    words
}

/// What is asked of one semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// GETVAL.
    Value,
    /// GETPID.
    Last,
    /// GETNCNT.
    WaitingForMore,
    /// GETZCNT.
    WaitingForZero,
}

/// GETVAL, GETPID, GETNCNT and GETZCNT.
///
/// # Errors
/// EINVAL, EACCES.
pub fn ask(task: &Task, id: i32, number: i32, question: Question) -> Result<u64> {
    let object = find(id)?;
    object.check(task, READ)?;
    let number = u16::try_from(number).map_err(|_| Errno::EINVAL)?;
    let state = object.body.state.lock();
    let semaphore = state.semaphores.get(usize::from(number)).ok_or(Errno::EINVAL)?;
    let waiting = |is_for_zero: bool| {
        let obstacles = state.waiting.values().map(|sleeper| &sleeper.obstacle);
        let its = obstacles.filter(|one| one.number == number && one.is_for_zero == is_for_zero);
        its.count() as u64
    };
    Ok(match question {
        Question::Value => semaphore.value.into(),
        Question::Last => semaphore.last.cast_unsigned().into(),
        Question::WaitingForMore => waiting(false),
        Question::WaitingForZero => waiting(true),
    })
}

/// GETALL.
///
/// # Errors
/// EINVAL, EACCES.
pub fn values(task: &Task, id: i32) -> Result<Vec<u16>> {
    let object = find(id)?;
    object.check(task, READ)?;
    let state = object.body.state.lock();
    Ok(state.semaphores.iter().map(|semaphore| semaphore.value).collect())
}

/// How many semaphores a set has.
///
/// # Errors
/// EINVAL, EACCES where the task may not change it.
pub fn count_to_set(task: &Task, id: i32) -> Result<usize> {
    let object = find(id)?;
    object.check(task, WRITE)?;
    Ok(object.body.count)
}

/// SETVAL and SETALL: gives semaphores from `first` on their values.
///
/// # Errors
/// EINVAL, EACCES, ERANGE.
pub fn set_values(task: &Task, id: i32, first: u16, values: &[u16]) -> Result<()> {
    let object = find(id)?;
    object.check(task, WRITE)?;
    if values.iter().any(|value| *value > HIGHEST) {
        return Err(Errno::ERANGE);
    }
    let pid = task.process.pid;
    let mut state = object.body.state.lock();
    (first..).zip(values).try_for_each(|(number, value)| state.set(pid, number, *value))?;
    State::wake(state);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Obstacle, Operation, Semaphore, State};
    use crate::Errno;
    use std::collections::BTreeMap;

    fn state(values: &[u16]) -> State {
        let semaphores = values.iter().map(|value| Semaphore { value: *value, last: 0 }).collect();
        State { semaphores, undo: BTreeMap::new(), waiting: BTreeMap::new(), operated: 0, changed: 0 }
    }

    fn operation(number: u16, change: i16, flags: u32) -> Operation {
        Operation { number, change, flags }
    }

    #[test]
    fn operations_happen_together_or_not_at_all() {
        let mut state = state(&[1, 0]);
        let blocked = state.attempt(7, &[operation(0, -1, 0), operation(1, -1, 0)]);
        assert_eq!(blocked, Ok(Err(Obstacle { number: 1, is_for_zero: false, must_not_wait: false })));
        assert_eq!(state.semaphores[0].value, 1);
        assert_eq!(state.attempt(7, &[operation(0, 32_767, 0)]), Err(Errno::ERANGE));
        assert_eq!(state.attempt(7, &[operation(0, -1, 0), operation(0, 0, 0)]), Ok(Ok(())));
    }

    #[test]
    fn only_who_can_go_on_is_let_go() {
        let mut state = state(&[1, 0]);
        let asked = |state: &mut State| {
            [operation(0, -1, 0), operation(0, -2, 0), operation(1, 0, 0), operation(0, 0, 0), operation(0, 32_767, 0)]
                .map(|one| state.obstacle_to(&[operation(1, 0, 0), one]).is_none())
        };
        // Who would be refused goes on, too.
        assert_eq!(asked(&mut state), [true, false, true, false, true]);
        assert!(state.obstacle_to(&[operation(0, -2, super::NOWAIT)]).is_none());
        assert_eq!((state.semaphores[0].value, state.semaphores[1].value), (1, 0));
        assert_eq!(state.attempt(7, &[operation(1, 1, 0)]), Ok(Ok(())));
        assert_eq!(asked(&mut state), [false; 5]);
    }

    #[test]
    fn the_end_of_a_process_takes_its_changes_back() {
        let mut state = state(&[3]);
        assert_eq!(state.attempt(7, &[operation(0, -2, super::UNDO)]), Ok(Ok(())));
        assert_eq!(state.semaphores[0].value, 1);
        assert!(state.undo_of(7) && !state.undo_of(7));
        assert_eq!(state.semaphores[0].value, 3);
    }
}
