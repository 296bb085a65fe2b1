//! Values that are read without a lock or a count. Who reads has pinned the time; what was replaced meanwhile is dropped when
//! no pin is left that may have seen it.
//!
//! A pin lasts for microseconds: nobody asks the host or the broker for something below one, or waits for an event. One costs a
//! single atomic exchange, whatever is read below it.

use crate::cpu::{self, Cpu};
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Counts what was replaced; never 0.
static TURN: AtomicU64 = AtomicU64::new(1);
/// What pins may still see, with the turn at which it was replaced.
static REPLACED: Mutex<Vec<(u64, Box<dyn Send>)>> = Mutex::new(Vec::new());
/// How many those are: looked at without the lock.
static REPLACED_COUNT: AtomicUsize = AtomicUsize::new(0);

/// While it lives, nothing that was there since is dropped.
#[derive(Debug)]
pub struct Pin {
    cpu: &'static Cpu,
    not_send: PhantomData<*const ()>,
}

/// Pins the time for the calling thread.
#[inline]
#[must_use]
pub fn pin() -> Pin {
    let cpu = cpu::current();
    let depth = cpu.pin_depth.get();
    if depth == 0 {
        // An exchange, so that it comes before every load below the pin.
        cpu.outside().pinned_at.swap(TURN.load(Ordering::SeqCst), Ordering::SeqCst);
    }
    cpu.pin_depth.set(depth + 1);
    Pin { cpu, not_send: PhantomData }
}

impl Drop for Pin {
    #[inline]
    fn drop(&mut self) {
        let depth = self.cpu.pin_depth.get() - 1;
        self.cpu.pin_depth.set(depth);
        if depth == 0 {
            self.cpu.outside().pinned_at.store(0, Ordering::Release);
        }
    }
}

/// The turn of the oldest pin.
fn oldest_pin() -> u64 {
    cpu::all()
        .map(|cpu| cpu.outside().pinned_at.load(Ordering::SeqCst))
        .filter(|turn| *turn != 0)
        .min()
        .unwrap_or(u64::MAX)
}

/// Drops a value that nobody can reach any more, now or when the pins that may have seen it have ended.
pub fn retire<T: Send + 'static>(value: T) {
    let turn = TURN.fetch_add(1, Ordering::SeqCst);
    if turn < oldest_pin() {
        drop(value);
    } else {
        let mut replaced = REPLACED.lock();
        replaced.push((turn, Box::new(value)));
        REPLACED_COUNT.store(replaced.len(), Ordering::Relaxed);
    }
    settle();
}

/// Drops what no pin can see any more. Called at the end of each call, when no lock is held.
#[inline]
pub fn settle() {
    if REPLACED_COUNT.load(Ordering::Relaxed) != 0 {
        collect();
    }
}

#[cold]
fn collect() {
    let oldest = oldest_pin();
    let mut replaced = REPLACED.lock();
    let (unseen, seen) = core::mem::take(&mut *replaced).into_iter().partition(|(turn, _)| *turn < oldest);
    *replaced = seen;
    REPLACED_COUNT.store(replaced.len(), Ordering::Relaxed);
    drop(replaced);
    // They may retire others.
    let unseen: Vec<_> = unseen;
    drop(unseen);
}

/// A value that is replaced as a whole, and read below a pin.
#[derive(Debug)]
pub struct Shared<T: Send + Sync + 'static> {
    /// From `Arc::into_raw`.
    value: AtomicPtr<T>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// With a first value.
    #[must_use]
    pub fn new(value: Arc<T>) -> Shared<T> {
        Shared { value: AtomicPtr::new(Arc::into_raw(value).cast_mut()) }
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn get<'a>(&'a self, _pin: &'a Pin) -> &'a T {
        // SAFETY: the count that `self` holds is given up only by `set`, which retires it, and by the drop of `self`.
        unsafe { &*self.value.load(Ordering::SeqCst) }
    }

    /// The value, to keep.
    #[must_use]
    pub fn hold(&self) -> Arc<T> {
        let _pin = pin();
        let value = self.value.load(Ordering::SeqCst);
        // SAFETY: from `Arc::into_raw`, and below the pin `self` or who retires it holds a count.
        unsafe { Arc::increment_strong_count(value) };
        // SAFETY: the count made above is ours.
        unsafe { Arc::from_raw(value) }
    }

    /// Replaces the value.
    pub fn set(&self, value: Arc<T>) {
        drop(self.replace(value));
    }

    /// Replaces the value, for who holds locks.
    #[must_use = "to be dropped when no lock is held"]
    pub fn replace(&self, value: Arc<T>) -> Replaced<T> {
        let old = self.value.swap(Arc::into_raw(value).cast_mut(), Ordering::SeqCst);
        // SAFETY: from `Arc::into_raw`; its count was ours.
        Replaced(Some(unsafe { Arc::from_raw(old) }))
    }
}

/// What a [`Shared`] had before.
#[derive(Debug)]
pub struct Replaced<T: Send + Sync + 'static>(Option<Arc<T>>);

impl<T: Send + Sync + 'static> Drop for Replaced<T> {
    fn drop(&mut self) {
        retire(self.0.take());
    }
}

impl<T: Send + Sync + 'static> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: from `Arc::into_raw`; its count was ours, and nobody borrows `self`.
        drop(unsafe { Arc::from_raw(*self.value.get_mut()) });
    }
}

/// A counted value that is looked at without a count of its own: somebody has one for as long as this lives.
pub struct Counted<'a, T> {
    /// As from `Arc::into_raw`.
    value: NonNull<T>,
    held: PhantomData<&'a Arc<T>>,
}

impl<T> Clone for Counted<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Counted<'_, T> {}

impl<'a, T> From<&'a Arc<T>> for Counted<'a, T> {
    #[inline]
    fn from(held: &'a Arc<T>) -> Counted<'a, T> {
        // SAFETY: an Arc's address is not null.
        Counted { value: unsafe { NonNull::new_unchecked(Arc::as_ptr(held).cast_mut()) }, held: PhantomData }
    }
}

impl<T> core::ops::Deref for Counted<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.get()
    }
}

impl<'a, T> Counted<'a, T> {
    /// What lies behind an address, if that is not null.
    ///
    /// # Safety
    /// It is null, or from `Arc::into_raw`, and somebody has a count for all of `'a`.
    #[inline]
    pub(crate) unsafe fn at(address: *mut T) -> Option<Counted<'a, T>> {
        NonNull::new(address).map(|value| Counted { value, held: PhantomData })
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn get(self) -> &'a T {
        // SAFETY: somebody has a count for all of `'a`.
        unsafe { self.value.as_ref() }
    }

    /// The value, to keep.
    #[inline]
    #[must_use]
    pub fn hold(self) -> Arc<T> {
        // SAFETY: from `Arc::into_raw`, and somebody has a count.
        unsafe { Arc::increment_strong_count(self.value.as_ptr()) };
        // SAFETY: the count made above is ours.
        unsafe { Arc::from_raw(self.value.as_ptr()) }
    }

    /// How many counts there are.
    #[must_use]
    pub fn count(self) -> usize {
        // SAFETY: from `Arc::into_raw`; the count is not ours, and is not given back.
        let held = ManuallyDrop::new(unsafe { Arc::from_raw(self.value.as_ptr()) });
        Arc::strong_count(&held)
    }
}

/// A value that is set at most once.
#[derive(Debug)]
pub struct SetOnce<T> {
    value: AtomicPtr<T>,
    owns: PhantomData<T>,
}

impl<T> Default for SetOnce<T> {
    fn default() -> SetOnce<T> {
        SetOnce::new()
    }
}

impl<T: Send + Sync> From<T> for SetOnce<T> {
    fn from(value: T) -> SetOnce<T> {
        SetOnce { value: AtomicPtr::new(Box::into_raw(Box::new(value))), owns: PhantomData }
    }
}

impl<T> SetOnce<T> {
    /// Not set.
    #[must_use]
    pub const fn new() -> SetOnce<T> {
        SetOnce { value: AtomicPtr::new(core::ptr::null_mut()), owns: PhantomData }
    }
}

impl<T: Send + Sync> SetOnce<T> {
    /// The value, once there is one.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: null, or from `Box::into_raw` and never changed until `self` ends.
        unsafe { self.value.load(Ordering::Acquire).as_ref() }
    }

    /// The value, which is made where there is none yet.
    pub fn get_or_make(&self, make: impl FnOnce() -> T) -> &T {
        self.get().unwrap_or_else(|| self.get_or_set(make()))
    }

    /// Sets the value unless there is one; returns the one that is there.
    pub fn get_or_set(&self, value: T) -> &T {
        let fresh = Box::into_raw(Box::new(value));
        match self.value.compare_exchange(core::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // SAFETY: just made, and from now on never changed until `self` ends.
                unsafe { &*fresh }
            }
            Err(there) => {
                // SAFETY: made above and not given away.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: from `Box::into_raw`, and never changed until `self` ends.
                unsafe { &*there }
            }
        }
    }
}

impl<T> Drop for SetOnce<T> {
    fn drop(&mut self) {
        let value = *self.value.get_mut();
        if !value.is_null() {
            // SAFETY: from `Box::into_raw`, and nobody borrows `self`.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SetOnce, Shared, pin, retire};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Dropped(Arc<AtomicBool>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_a_pin_may_see_outlives_it() {
        let is_dropped = Arc::new(AtomicBool::new(false));
        let outer = pin();
        let inner = pin();
        retire(Dropped(Arc::clone(&is_dropped)));
        drop(inner);
        super::settle();
        assert!(!is_dropped.load(Ordering::SeqCst));
        drop(outer);
        // Other tests pin too, but not for ever.
        while !is_dropped.load(Ordering::SeqCst) {
            super::settle();
        }
    }

    #[test]
    fn a_reader_sees_whole_values_while_others_replace_them() {
        let shared = Arc::new(Shared::new(Arc::new(vec![0_u64; 8])));
        let writer = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || (1..5000).for_each(|turn| shared.set(Arc::new(vec![turn; 8]))))
        };
        while !writer.is_finished() {
            let pin = pin();
            let value = shared.get(&pin);
            assert!(value.len() == 8 && value.iter().all(|word| *word == value[0]));
        }
        assert!(writer.join().is_ok());
        assert_eq!(*shared.hold(), vec![4999; 8]);
    }

    #[test]
    fn only_the_first_value_is_kept() {
        let cell = SetOnce::default();
        assert_eq!(cell.get(), None);
        assert_eq!((cell.get_or_set(1), cell.get_or_set(2), cell.get()), (&1, &1, Some(&1)));
    }
}
