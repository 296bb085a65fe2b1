//! System V objects, removed when a case lets them go.

use crate::kit::{Fail, int, or_skip};
use crate::sys::{self, Result, sys};
use libc as c;

/// Kernels without System V IPC, or ours while it has none, skip.
pub(crate) fn available(result: Result<i64>) -> core::result::Result<i64, Fail> {
    or_skip(result, &[c::ENOSYS], "System V IPC")
}

pub(crate) struct Segment(pub(crate) i32);

impl Segment {
    pub(crate) fn new(size: usize) -> core::result::Result<Self, Fail> {
        available(sys!(shmget, c::IPC_PRIVATE, size, c::IPC_CREAT | 0o600)).map(|id| Self(int(id)))
    }

    pub(crate) fn attach(&self, flags: i32) -> Result<usize> {
        sys!(shmat, self.0, 0, flags).map(crate::kit::size)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let _ = sys!(shmctl, self.0, c::IPC_RMID, 0);
    }
}

pub(crate) struct Semaphores(pub(crate) i32);

impl Semaphores {
    pub(crate) fn new(count: i32) -> core::result::Result<Self, Fail> {
        available(sys!(semget, c::IPC_PRIVATE, count, c::IPC_CREAT | 0o600)).map(|id| Self(int(id)))
    }

    pub(crate) fn control(&self, number: i32, command: i32, value: i32) -> Result<i64> {
        sys!(semctl, self.0, number, command, value)
    }

    pub(crate) fn operate(&self, operations: &[(u16, i16, i32)]) -> Result<()> {
        let list: Vec<[i16; 3]> = operations
            .iter()
            .map(|(number, change, flags)| [number.cast_signed(), *change, i16::try_from(*flags).unwrap_or(0)])
            .collect();
        sys!(semop, self.0, &list[..], list.len()).map(drop)
    }
}

impl Drop for Semaphores {
    fn drop(&mut self) {
        let _ = sys!(semctl, self.0, 0, c::IPC_RMID, 0);
    }
}

pub(crate) struct Queue(pub(crate) i32);

impl Queue {
    pub(crate) fn new() -> core::result::Result<Self, Fail> {
        available(sys!(msgget, c::IPC_PRIVATE, c::IPC_CREAT | 0o600)).map(|id| Self(int(id)))
    }

    pub(crate) fn send(&self, kind: i64, content: &str, flags: i32) -> Result<()> {
        let message = [&kind.to_ne_bytes()[..], content.as_bytes()].concat();
        sys!(msgsnd, self.0, &message[..], content.len(), flags).map(drop)
    }

    pub(crate) fn receive(&self, kind: i64, limit: usize, flags: i32) -> Result<(i64, String)> {
        let mut message = vec![0u8; 8 + limit];
        let len = crate::kit::size(sys!(msgrcv, self.0, &mut message[..], limit, kind, flags)?);
        Ok((sys::read_plain(&message), String::from_utf8_lossy(&message[8..8 + len]).into_owned()))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = sys!(msgctl, self.0, c::IPC_RMID, 0);
    }
}
