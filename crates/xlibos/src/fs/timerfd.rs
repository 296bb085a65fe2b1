//! Timers as files: timerfd_create(2). What has expired is computed from the clock when somebody looks; a timer of the service
//! process runs only while somebody waits.

use super::file::{File, FileOps};
use crate::time::Setting;
use crate::time::timer::{Timer, TimerTarget};
use crate::uio::Sink;
use crate::wait::{Events, READABLE, WaitQueue};
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use machine::clock;
use machine::sync::Mutex;

#[derive(Debug, Default)]
struct State {
    /// Next expiry on CLOCK_MONOTONIC.
    next: Option<u64>,
    interval: u64,
    /// Expiries that were not read.
    expirations: u64,
}

impl State {
    /// Counts what has expired until `now`; whether something has.
    fn advance(&mut self, now: u64) -> bool {
        let Some(next) = self.next.filter(|next| *next <= now) else { return false };
        if self.interval == 0 {
            self.next = None;
            self.expirations += 1;
            return true;
        }
        let count = (now - next) / self.interval + 1;
        self.expirations = self.expirations.saturating_add(count);
        self.next = Some(next.saturating_add(count.saturating_mul(self.interval)));
        true
    }

    fn setting(&self, now: u64) -> Setting {
        // An armed timer never shows zero.
        let first_ns = self.next.map_or(0, |next| next.saturating_sub(now).max(1));
        Setting { first_ns, interval_ns: self.interval }
    }
}

/// A timer as a file.
#[derive(Debug)]
pub struct TimerFile {
    clock: u32,
    state: Mutex<State>,
    queue: WaitQueue,
    timer: Timer,
}

impl TimerFile {
    /// A disarmed timer on a clock.
    #[must_use]
    pub fn new(clock: u32) -> Arc<TimerFile> {
        Arc::new_cyclic(|me: &Weak<TimerFile>| TimerFile {
            clock,
            state: Mutex::new(State::default()),
            queue: WaitQueue::new(),
            timer: Timer::new(Weak::clone(me) as Weak<dyn TimerTarget>),
        })
    }

    /// Sets the timer; `first_ns` is a time of its clock where `is_absolute`. Returns the setting before.
    pub fn set(&self, new: Setting, is_absolute: bool) -> Setting {
        let now = clock::monotonic_ns();
        let old = {
            let mut state = self.state.lock();
            state.advance(now);
            let old = state.setting(now);
            // The container's clocks are never set: an absolute time stays where it is.
            let delay =
                if is_absolute { new.first_ns.saturating_sub(clock::read_ns(self.clock)) } else { new.first_ns };
            let next = if new.first_ns == 0 { None } else { Some(now.saturating_add(delay)) };
            *state = State { next, interval: new.interval_ns, expirations: 0 };
            old
        };
        self.arm();
        // Those who sleep look at the new deadline.
        self.queue.wake(READABLE);
        old
    }

    /// What is left, and the interval.
    #[must_use]
    pub fn setting(&self) -> Setting {
        let now = clock::monotonic_ns();
        self.look(|state| state.setting(now))
    }

    /// Takes the number of expiries; None where there is none.
    pub fn take(&self) -> Option<u64> {
        let expirations = self.look(|state| core::mem::take(&mut state.expirations));
        (expirations > 0).then_some(expirations)
    }

    /// Looks at the timer as it is by now. Whoever finds that it has expired tells all that wait: the service process does not any more.
    fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let (has_expired, seen) = {
            let mut state = self.state.lock();
            (state.next.is_some() && state.advance(clock::monotonic_ns()), look(&mut state))
        };
        self.arm();
        if has_expired {
            self.queue.wake(READABLE);
        }
        seen
    }

    /// Has the service process wake those who wait.
    fn arm(&self) {
        let state = self.state.lock();
        let next = state.next.filter(|_| self.queue.has_waiters());
        if self.timer.deadline() != next {
            self.timer.arm(next);
        }
    }
}

impl TimerTarget for TimerFile {
    fn expired(&self) {
        self.state.lock().advance(clock::monotonic_ns());
        self.queue.wake(READABLE);
        self.arm();
    }
}

impl FileOps for TimerFile {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, _file: &File, to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let expirations = self.take().ok_or(Errno::EAGAIN)?;
        to.put(&expirations.to_ne_bytes())
    }

    fn poll(&self, _file: &File) -> Events {
        if self.look(|state| state.expirations > 0) { READABLE } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn tells_by_signal(&self) -> bool {
        false
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[timerfd]".to_vec()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{State, TimerFile};
    use crate::time::Setting;

    #[test]
    fn intervals_are_counted() {
        let mut state = State { next: Some(100), interval: 10, expirations: 0 };
        state.advance(99);
        assert_eq!(state.expirations, 0);
        state.advance(125);
        assert_eq!((state.expirations, state.next), (3, Some(130)));
        assert_eq!(state.setting(126), Setting { first_ns: 4, interval_ns: 10 });
    }

    #[test]
    fn one_shot_expires_once() {
        let timer = TimerFile::new(1);
        assert_eq!(timer.set(Setting { first_ns: 1, interval_ns: 0 }, true), Setting::default());
        assert_eq!([timer.take(), timer.take()], [Some(1), None]);
        assert_eq!(timer.setting(), Setting::default());
    }

    #[test]
    fn setting_returns_what_was_left() {
        let timer = TimerFile::new(1);
        let hour = Setting { first_ns: 3_600_000_000_000, interval_ns: 7 };
        let _ = timer.set(hour, false);
        let old = timer.set(Setting::default(), false);
        assert!(old.first_ns > 3_500_000_000_000 && old.interval_ns == 7);
        assert_eq!(timer.take(), None);
    }
}
