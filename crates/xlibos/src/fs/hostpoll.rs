//! Readiness of host descriptors: one host epoll set a container, edge-triggered. It holds nothing that the arena cannot
//! rebuild: a tag stands for each watched descriptor, and what is ready is kept by the owner.
//!
//! Anybody may harvest: the service process's event thread does so when a descriptor becomes ready, and a thread that
//! polls does so itself when it must know now.

use crate::wait::Events;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};
use machine::host::{self, EpollEvent, HostFd, RawFd};
use machine::sync::Mutex;

/// EPOLLET.
const EDGE: u32 = 1 << 31;
/// Everything that can be asked for.
const INTEREST: u32 = EDGE | 0x1 | 0x2 | 0x4 | 0x2000;
const CTL_ADD: u32 = 1;
const CTL_DEL: u32 = 2;
const CTL_MOD: u32 = 3;

/// Who wants to know that a host descriptor is ready.
pub trait HostReady: Send + Sync {
    /// These hold now. May note it and wake queues.
    fn ready(&self, events: Events);
}

static SET: AtomicI32 = AtomicI32::new(-1);
static WATCHED: Mutex<Vec<Option<Weak<dyn HostReady>>>> = Mutex::new(Vec::new());

/// Gives the module its host epoll set, at boot.
pub fn install(set: HostFd) {
    SET.store(set.raw(), Ordering::Release);
    // It lives as long as the container.
    core::mem::forget(set);
}

fn set() -> Option<RawFd> {
    Some(SET.load(Ordering::Acquire)).filter(|fd| *fd >= 0)
}

/// A descriptor that is being watched. Dropping it ends that.
#[derive(Debug)]
pub struct Watch {
    fd: RawFd,
    tag: usize,
}

/// Begins to watch a descriptor; what holds already is reported at the next harvest.
///
/// # Errors
/// ENXIO without a set, EPERM for what is always ready (a regular file).
pub fn watch(fd: RawFd, target: &Arc<dyn HostReady>) -> Result<Watch> {
    let set = set().ok_or(Errno::ENXIO)?;
    let tag = take_tag(Arc::downgrade(target));
    let watch = Watch { fd, tag };
    match host::epoll_ctl(set, CTL_ADD, fd, INTEREST, tag as u64) {
        Ok(()) => Ok(watch),
        Err(errno) => {
            release_tag(tag);
            core::mem::forget(watch);
            Err(errno)
        }
    }
}

fn take_tag(target: Weak<dyn HostReady>) -> usize {
    let mut watched = WATCHED.lock();
    if let Some(tag) = watched.iter().position(Option::is_none) {
        if let Some(slot) = watched.get_mut(tag) {
            *slot = Some(target);
        }
        return tag;
    }
    watched.push(Some(target));
    watched.len() - 1
}

fn release_tag(tag: usize) {
    let old = WATCHED.lock().get_mut(tag).and_then(Option::take);
    drop(old);
}

impl Watch {
    /// Has the state reported again at the next harvest, whether or not it changes.
    pub fn rearm(&self) {
        if let Some(set) = set() {
            let _ = host::epoll_ctl(set, CTL_MOD, self.fd, INTEREST, self.tag as u64);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(set) = set() {
            let _ = host::epoll_ctl(set, CTL_DEL, self.fd, 0, 0);
        }
        release_tag(self.tag);
    }
}

/// Collects what is ready now.
pub fn harvest() {
    let _ = collect(0);
}

/// One round of the event thread: sleeps until a descriptor is ready, and tells its owner; at most so many milliseconds, -1
/// for ever.
///
/// # Errors
/// INTERRUPTED when something is pending for the thread, ENXIO without a set.
pub fn service_loop_step(limit_ms: i32) -> Result<()> {
    collect(limit_ms)
}

fn collect(timeout_ms: i32) -> Result<()> {
    let set = set().ok_or(Errno::ENXIO)?;
    let mut events = [EpollEvent::default(); 16];
    let count = host::epoll_wait(set, &mut events, timeout_ms).map_err(from_host)?;
    for event in events.iter().take(count) {
        let (bits, tag) = (event.events, event.data);
        let target = usize::try_from(tag).ok().and_then(target_of);
        if let Some(target) = target {
            target.ready(Events::from_bits_truncate(bits));
        }
    }
    Ok(())
}

fn target_of(tag: usize) -> Option<Arc<dyn HostReady>> {
    WATCHED.lock().get(tag)?.as_ref()?.upgrade()
}

/// The errno of a host call that may have been interrupted.
#[must_use]
pub fn from_host(errno: Errno) -> Errno {
    if errno == Errno::EINTR { Errno::INTERRUPTED } else { errno }
}
