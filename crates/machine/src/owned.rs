//! A value that one thread reads without a lock: its owner, the only one that changes it while it lives. Others read below
//! the lock. What several threads change has no owner, and is read and changed below the lock by all.

use crate::cpu::{self, Cpu};
use crate::sync::Mutex;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

/// No owner yet: the value may be claimed.
const UNCLAIMED: u64 = 0;
/// No owner ever.
const SHARED: u64 = u64::MAX;

/// The value.
#[derive(Debug)]
pub struct Owned<T> {
    /// Identity of the owner's thread, or [`UNCLAIMED`] or [`SHARED`]. Changed below the lock.
    owner: AtomicU64,
    lock: Mutex<()>,
    value: UnsafeCell<T>,
}

// SAFETY: the owner reads without the lock, and nobody changes the value while it lives but itself, never during a look; all
// else happens below the lock.
unsafe impl<T: Send + Sync> Sync for Owned<T> {}

/// A look of the owner's: while this lives the thread changes nothing that it owns.
#[derive(Debug)]
pub struct Look<'a, T> {
    value: &'a T,
    cpu: &'static Cpu,
    not_send: PhantomData<*const ()>,
}

impl<T> core::ops::Deref for Look<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Look<'_, T> {
    /// Ends the look with a change of another value of the owner's, which the looked at one holds: nothing that was found by the look
    /// is borrowed any more.
    ///
    /// # Panics
    /// If the other value belongs to another thread that lives, or the calling one has a further look at something.
    #[inline]
    pub fn change_below<U, R>(self, inner: impl FnOnce(&T) -> &Owned<U>, change: impl FnOnce(&mut U) -> R) -> R {
        let inner = inner(self.value);
        let _locked = inner.lock.lock();
        let may_change = inner.may_change(inner.owner.load(Ordering::Relaxed), 1);
        assert!(may_change, "a value was changed beside its owner, or below another look");
        // SAFETY: readers without the lock are the owner's looks, of which this one is the only one, and of the outer value alone; the
        // lock excludes all others.
        change(unsafe { &mut *inner.value.get() })
    }
}

impl<T> Drop for Look<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.cpu.looks.set(self.cpu.looks.get() - 1);
    }
}

impl<T> Owned<T> {
    /// A value without an owner.
    #[must_use]
    pub const fn new(value: T) -> Owned<T> {
        Owned { owner: AtomicU64::new(UNCLAIMED), lock: Mutex::new(()), value: UnsafeCell::new(value) }
    }

    /// Makes the calling thread the owner, where there is none that lives, and the value is not shared.
    pub fn claim(&self) {
        // A read first: in a new host process it maps the pages around.
        if self.owner.load(Ordering::Relaxed) == cpu::current().identity() {
            return;
        }
        let _locked = self.lock.lock();
        let owner = self.owner.load(Ordering::Relaxed);
        if owner == UNCLAIMED || owner != SHARED && !cpu::is_alive(owner) {
            self.owner.store(cpu::current().identity(), Ordering::Release);
        }
    }

    /// The value loses its owner, which calls this, until it is claimed again.
    pub fn leave(&self) {
        self.disown(UNCLAIMED);
    }

    /// The value loses its owner, which calls this, for ever.
    pub fn share(&self) {
        self.disown(SHARED);
    }

    fn disown(&self, state: u64) {
        let _locked = self.lock.lock();
        let owner = self.owner.load(Ordering::Relaxed);
        if owner == SHARED {
            return;
        }
        assert!(self.may_change(owner, 0), "a value was disowned by another thread than its owner");
        self.owner.store(state, Ordering::Release);
    }

    /// Whether nobody reads without the lock now, with the lock held, while the owner has so many looks at other values.
    fn may_change(&self, owner: u64, looks: u32) -> bool {
        match owner {
            UNCLAIMED | SHARED => true,
            owner if owner == cpu::current().identity() => cpu::current().looks.get() == looks,
            owner => !cpu::is_alive(owner),
        }
    }

    /// Looks at the value without a lock, as its owner; None for other threads. It cannot be changed from within.
    #[inline]
    pub fn look(&self) -> Option<Look<'_, T>> {
        let cpu = cpu::current();
        if self.owner.load(Ordering::Acquire) != cpu.identity() {
            return None;
        }
        cpu.looks.set(cpu.looks.get() + 1);
        // SAFETY: only the calling thread changes the value, and not before the look ends.
        let value = unsafe { &*self.value.get() };
        Some(Look { value, cpu, not_send: PhantomData })
    }

    /// The same below a look at another value, which holds this one as well.
    #[inline]
    pub fn look_below<'a, U>(&'a self, look: &'a Look<'_, U>) -> Option<&'a T> {
        if self.owner.load(Ordering::Acquire) != look.cpu.identity() {
            return None;
        }
        // SAFETY: only the calling thread, whose look that is, changes the value, and not before that ends.
        Some(unsafe { &*self.value.get() })
    }

    /// Reads the value.
    #[inline]
    pub fn read<R>(&self, read: impl Fn(&T) -> R) -> R {
        if let Some(look) = self.look() {
            return read(&look);
        }
        let _locked = self.lock.lock();
        // SAFETY: all changes are made below the lock.
        read(unsafe { &*self.value.get() })
    }

    /// Changes the value.
    ///
    /// # Panics
    /// If it belongs to another thread that lives, or the calling one looks at it.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let _locked = self.lock.lock();
        assert!(self.may_change(self.owner.load(Ordering::Relaxed), 0), "a value was changed beside its owner");
        // SAFETY: readers without the lock are the owner's looks, of which there is none now; the lock excludes all others.
        change(unsafe { &mut *self.value.get() })
    }
}

/// A value that its owner alone uses, without any lock: for other threads there is none.
#[derive(Debug)]
pub struct Alone<T> {
    /// Identity of the owner's thread, or [`UNCLAIMED`].
    owner: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: only the owner's thread uses the value, and another one becomes the owner when that has left it, or has ended.
unsafe impl<T: Send> Sync for Alone<T> {}

impl<T> Alone<T> {
    /// A value without an owner.
    #[must_use]
    pub const fn new(value: T) -> Alone<T> {
        Alone { owner: AtomicU64::new(UNCLAIMED), value: UnsafeCell::new(value) }
    }

    /// Makes the calling thread the owner, where there is none that lives.
    pub fn claim(&self) {
        let owner = self.owner.load(Ordering::Acquire);
        if owner == UNCLAIMED || !cpu::is_alive(owner) {
            let own = cpu::current().identity();
            // Where another one was faster it is that one's.
            let _ = self.owner.compare_exchange(owner, own, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// The value loses its owner, if that calls this, until it is claimed again.
    pub fn leave(&self) {
        if self.is_own() {
            self.owner.store(UNCLAIMED, Ordering::Release);
        }
    }

    #[inline]
    fn is_own(&self) -> bool {
        self.owner.load(Ordering::Acquire) == cpu::current().identity()
    }

    /// Puts another value in its place and returns the old one, as its owner; the new one comes back to other threads.
    ///
    /// # Errors
    /// The new value.
    #[inline]
    pub fn replace(&self, value: T) -> Result<T, T> {
        if !self.is_own() {
            return Err(value);
        }
        // SAFETY: only this thread uses the value, and borrows it nowhere else: nothing of the caller's runs in here.
        Ok(core::mem::replace(unsafe { &mut *self.value.get() }, value))
    }
}

#[cfg(test)]
mod tests {
    use super::{Alone, Owned};
    use std::sync::Arc;

    #[test]
    fn only_the_owner_looks_without_the_lock() {
        let value = Arc::new(Owned::new(1));
        assert_eq!(value.look().map(|v| *v), None);
        value.claim();
        value.change(|v| *v = 2);
        assert_eq!(value.look().map(|v| *v), Some(2));
        let other = Arc::clone(&value);
        assert!(
            std::thread::spawn(move || assert_eq!((other.look().map(|v| *v), other.read(|v| *v)), (None, 2)))
                .join()
                .is_ok()
        );
        value.share();
        value.claim();
        assert_eq!((value.look().map(|v| *v), value.read(|v| *v)), (None, 2));
    }

    #[test]
    fn what_is_its_owners_alone_is_nobody_elses() {
        let value = Arc::new(Alone::new(1));
        assert_eq!(value.replace(2), Err(2));
        value.claim();
        let other = Arc::clone(&value);
        let tries = std::thread::spawn(move || {
            other.claim();
            other.leave();
            other.replace(3)
        });
        assert!(tries.join().is_ok_and(|tried| tried == Err(3)));
        assert_eq!((value.replace(4), value.replace(5)), (Ok(1), Ok(4)));
        value.leave();
        assert_eq!(value.replace(6), Err(6));
    }

    #[test]
    fn below_a_look_nothing_of_the_owners_changes() {
        let (outer, inner) = (Owned::new(1), Owned::new(2));
        outer.claim();
        let Some(look) = outer.look() else { panic!("it is the owner's") };
        assert_eq!(inner.look_below(&look), None);
        inner.claim();
        assert_eq!(inner.look_below(&look), Some(&2));
        let change = std::panic::AssertUnwindSafe(|| inner.change(|v| *v = 3));
        assert!(std::panic::catch_unwind(change).is_err());
        assert_eq!(inner.look_below(&look), Some(&2));
        drop(look);
        inner.change(|v| *v = 3);
        assert_eq!(inner.look().map(|v| *v), Some(3));
    }

    #[test]
    fn a_look_ends_with_a_change_below_it_alone() {
        let outer = Owned::new(Owned::new(1));
        outer.claim();
        outer.read(Owned::claim);
        let (Some(look), Some(other)) = (outer.look(), outer.look()) else { panic!("it is the owner's") };
        let change = std::panic::AssertUnwindSafe(|| look.change_below(|value| value, |value| *value = 2));
        assert!(std::panic::catch_unwind(change).is_err());
        other.change_below(|value| value, |value| *value = 3);
        assert_eq!(outer.read(|value| value.read(|value| *value)), 3);
    }

    #[test]
    fn nobody_else_changes_what_belongs_to_a_thread() {
        let value = Arc::new(Owned::new(1));
        value.claim();
        let other = std::panic::AssertUnwindSafe(Arc::clone(&value));
        let changer = std::thread::spawn(move || std::panic::catch_unwind(|| other.change(|v| *v = 3)).is_err());
        assert!(changer.join().is_ok_and(|panicked| panicked));
        assert_eq!(value.read(|v| *v), 1);
    }
}
