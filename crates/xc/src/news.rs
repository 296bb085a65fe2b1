//! What the threads of a container tell the supervisor's first one. It waits by a descriptor, so that a rest takes one host call.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};
use xkernel::sys;

/// What was told and not heard yet.
#[derive(Debug)]
pub(crate) struct News<T> {
    told: Mutex<VecDeque<T>>,
    /// Can be read while there is something.
    bell: OwnedFd,
}

impl<T> News<T> {
    /// Nothing yet.
    ///
    /// # Errors
    /// Where there are no descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { told: Mutex::default(), bell })
    }

    pub(crate) fn tell(&self, item: T) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push_back(item);
        // It fails only where it has been rung more often than anybody can.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// The next, for which one waits no longer than `timeout`; earlier where the host ends the wait.
    pub(crate) fn wait(&self, timeout: &Timespec) -> Option<T> {
        self.next().or_else(|| {
            let _ = poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], Some(timeout));
            self.next()
        })
    }

    fn next(&self) -> Option<T> {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let next = told.pop_front();
        if !told.is_empty() {
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
        next
    }

    /// Waits for the next with as little memory as possible.
    pub(crate) fn rest(&self) {
        sys::rest_until_readable(self.bell.as_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_AT_ALL: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

    #[test]
    fn all_that_is_told_is_heard_in_order() {
        let Ok(news) = News::new() else { panic!("no descriptor") };
        assert_eq!(news.wait(&NOT_AT_ALL), None);
        [1, 2, 3].into_iter().for_each(|item| news.tell(item));
        // There is something: no rest.
        news.rest();
        assert_eq!([(); 4].map(|()| news.wait(&NOT_AT_ALL)), [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn a_rest_ends_with_what_another_thread_tells() {
        let Ok(news) = News::new() else { panic!("no descriptor") };
        std::thread::scope(|scope| {
            scope.spawn(|| news.tell("end"));
            news.rest();
            assert_eq!(news.wait(&NOT_AT_ALL), Some("end"));
        });
    }
}
