//! Waits for one of many futexes: futex_waitv(2).
//!
//! The host waits for one word at a time, so a wait for many sleeps here. Each wake that passes through the LibOS looks
//! for such sleepers where the host has not woken enough; without any that costs one load. The table's lock is a leaf.

use crate::fs::file::Sharing;
use crate::fs::inode::InodeId;
use crate::mm::{Backing, PAGE};
use crate::process::Pid;
use crate::wait::{Deadline, Events, WaitQueue, wait_until};
use crate::{Errno, Result, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use machine::guest;
use machine::sync::Mutex;

/// What makes two words one futex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// An address of an address space, as FUTEX_PRIVATE_FLAG says or because the memory is not shared.
    Private(usize, u64, Scope),
    /// An offset of shared zeros.
    Zeros(u64, u64),
    /// An offset of a file.
    File(InodeId, u64),
}

/// Whether a word may be in memory that processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// FUTEX_PRIVATE_FLAG.
    Private,
    /// Without it.
    Shared,
}

/// One word that is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// Its address.
    pub address: u64,
    /// What it is expected to hold.
    pub value: u32,
    /// Where its wakers may be.
    pub scope: Scope,
}

/// One who waits: which of its words was woken, or none.
struct Waiter {
    tid: Pid,
    woken: AtomicUsize,
    queue: WaitQueue,
}

const NONE: usize = usize::MAX;

/// By word, in the order in which they came: key, waiter, number of the word.
static TABLE: Mutex<Vec<(Key, Arc<Waiter>, usize)>> = Mutex::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn key_of(task: &Task, address: u64, scope: Scope) -> Key {
    let mm = task.mm();
    let private = Key::Private(Arc::as_ptr(&mm) as usize, address, scope);
    if scope == Scope::Private {
        return private;
    }
    let page = address & !(PAGE - 1);
    let found = mm.vmas_in(page, PAGE).ok().and_then(|(vmas, _)| vmas.into_iter().next());
    let Some(vma) = found else { return private };
    let inside = address.wrapping_sub(vma.start);
    match &vma.backing {
        Backing::SharedZero { id, offset } => Key::Zeros(*id, offset.wrapping_add(inside)),
        Backing::File { file, offset, sharing: Sharing::Shared, .. } => {
            let id = file.path().map(|path| path.inode().id());
            id.map_or(private, |id| Key::File(id, offset.wrapping_add(inside)))
        }
        _ => private,
    }
}

/// Wakes at most `limit` of those who wait for many words, this one among them. Returns how many.
pub fn wake(task: &Task, address: u64, scope: Scope, limit: u64) -> u64 {
    if COUNT.load(Ordering::SeqCst) == 0 || limit == 0 {
        return 0;
    }
    let key = key_of(task, address, scope);
    let matching: Vec<(Arc<Waiter>, usize)> = {
        let table = TABLE.lock();
        let same = table.iter().filter(|(other, _, _)| *other == key);
        same.map(|(_, waiter, index)| (Arc::clone(waiter), *index)).collect()
    };
    let mut woken = 0;
    for (waiter, index) in matching {
        if woken < limit && waiter.woken.compare_exchange(NONE, index, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            waiter.queue.wake(Events::all());
            woken += 1;
        }
    }
    woken
}

/// Entries of one wait; removed when dropped.
struct Registered(Arc<Waiter>);

impl Drop for Registered {
    fn drop(&mut self) {
        remove(|waiter| core::ptr::eq(waiter, &raw const *self.0));
    }
}

fn remove(is_meant: impl Fn(&Waiter) -> bool) {
    let removed: Vec<_> = TABLE.lock().extract_if(.., |(_, waiter, _)| is_meant(waiter)).collect();
    COUNT.fetch_sub(removed.len(), Ordering::SeqCst);
}

/// A thread died without the LibOS's doing: it takes no more wakes.
pub fn forget(tid: Pid) {
    if COUNT.load(Ordering::SeqCst) != 0 {
        remove(|waiter| waiter.tid == tid);
    }
}

/// Sleeps until one of the words is woken; returns which.
///
/// # Errors
/// EAGAIN where a word holds another value, EFAULT, ETIMEDOUT, INTERRUPTED.
pub fn wait(task: &Task, words: &[Word], deadline: Deadline) -> Result<usize> {
    let waiter = Arc::new(Waiter { tid: task.tid(), woken: AtomicUsize::new(NONE), queue: WaitQueue::new() });
    let entries: Vec<_> = words.iter().map(|word| key_of(task, word.address, word.scope)).collect();
    let _registered = Registered(Arc::clone(&waiter));
    {
        let mut table = TABLE.lock();
        table.extend(entries.into_iter().enumerate().map(|(index, key)| (key, Arc::clone(&waiter), index)));
    }
    COUNT.fetch_add(words.len(), Ordering::SeqCst);
    let woken = || Some(waiter.woken.load(Ordering::SeqCst)).filter(|index| *index != NONE);
    for word in words {
        let seen: u32 = guest::read_value(word.address)?;
        if seen != word.value {
            return woken().ok_or(Errno::EAGAIN);
        }
    }
    wait_until(&[&waiter.queue], deadline, woken)?.ok_or(Errno::ETIMEDOUT)
}

#[cfg(test)]
mod tests {
    use super::{COUNT, Key, NONE, Scope, TABLE, Waiter, forget};
    use crate::wait::WaitQueue;
    use alloc::sync::Arc;
    use core::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn who_died_takes_no_wake() {
        for tid in [-5, -6] {
            let waiter = Waiter { tid, woken: AtomicUsize::new(NONE), queue: WaitQueue::new() };
            TABLE.lock().push((Key::Private(0, 4, Scope::Private), Arc::new(waiter), 0));
            COUNT.fetch_add(1, Ordering::SeqCst);
        }
        forget(-5);
        assert_eq!((COUNT.load(Ordering::SeqCst), TABLE.lock().len()), (1, 1));
        forget(-6);
        assert_eq!((COUNT.load(Ordering::SeqCst), TABLE.lock().len()), (0, 0));
    }
}
