//! What the threads of a container tell the supervisor's first one. It waits by a descriptor, so that a rest takes one host call.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
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

    /// The next, for which one waits no longer than `timeout`; earlier where one of `others` can be read, or the host ends the wait.
    pub(crate) fn wait(&self, others: [BorrowedFd<'_>; 2], timeout: &Timespec) -> Option<T> {
        self.next().or_else(|| {
            let mut waits = self.with(others).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            let _ = poll(&mut waits, Some(timeout));
            self.next()
        })
    }

    fn with<'a>(&'a self, [one, other]: [BorrowedFd<'a>; 2]) -> [BorrowedFd<'a>; 3] {
        [self.bell.as_fd(), one, other]
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

    /// Waits for the next, or for one of `others`, with as little memory as possible.
    pub(crate) fn rest(&self, others: [BorrowedFd<'_>; 2]) {
        sys::rest_until_readable(self.with(others));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_AT_ALL: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

    /// Nobody writes to it.
    fn silent() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe().unwrap()
    }

    #[test]
    fn all_that_is_told_is_heard_in_order() {
        let Ok(news) = News::new() else { panic!("no descriptor") };
        let (silent, _writer) = silent();
        let others = [silent.as_fd(); 2];
        assert_eq!(news.wait(others, &NOT_AT_ALL), None);
        [1, 2, 3].into_iter().for_each(|item| news.tell(item));
        // There is something: no rest.
        news.rest(others);
        assert_eq!([(); 4].map(|()| news.wait(others, &NOT_AT_ALL)), [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn a_rest_ends_with_what_another_thread_tells() {
        let Ok(news) = News::new() else { panic!("no descriptor") };
        let (silent, _writer) = silent();
        std::thread::scope(|scope| {
            scope.spawn(|| news.tell("end"));
            news.rest([silent.as_fd(); 2]);
            assert_eq!(news.wait([silent.as_fd(); 2], &NOT_AT_ALL), Some("end"));
        });
    }

    #[test]
    fn waits_and_rests_end_where_another_descriptor_can_be_read() {
        let Ok(news) = News::<()>::new() else { panic!("no descriptor") };
        let ((silent, _keeps), (ready, writer)) = (silent(), silent());
        rustix::io::write(&writer, b"x").unwrap();
        for others in [[silent.as_fd(), ready.as_fd()], [ready.as_fd(), silent.as_fd()]] {
            assert_eq!(news.wait(others, &Timespec { tv_sec: i64::MAX, tv_nsec: 0 }), None);
            news.rest(others);
        }
    }
}
