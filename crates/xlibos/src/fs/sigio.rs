//! Signal-driven I/O: O_ASYNC, F_SETOWN, F_SETSIG, and SIGURG of sockets. fcntl(2).
//!
//! A queue's observer may only take notes, so the signal is sent by the service process, as a timer's end.

use super::file::FileOps;
use crate::process::{Task, tree};
use crate::signal::{SIGURG, SigInfo, send};
use crate::time::timer::{Timer, TimerTarget};
use crate::wait::{Events, Observer};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use machine::sync::Mutex;

const SIGIO: i32 = 29;

/// Who gets the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nobody.
    None,
    /// A thread.
    Thread(i32),
    /// A process.
    Process(i32),
    /// A process group.
    Group(i32),
}

/// Owner and signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who.
    pub target: Target,
    /// Which; 0 for SIGIO.
    pub signal: i32,
}

/// A file's owner for signals.
pub struct SigIo {
    this: Weak<SigIo>,
    settings: Mutex<Settings>,
    timer: Timer,
    /// O_ASYNC is set.
    is_async: AtomicBool,
    /// Events that were not yet told.
    events: AtomicU32,
    /// Urgent data came that was not yet told of.
    is_urgent: AtomicBool,
}

impl SigIo {
    /// No owner yet.
    #[must_use]
    pub(super) fn new() -> Arc<SigIo> {
        Arc::new_cyclic(|this: &Weak<SigIo>| SigIo {
            this: this.clone(),
            settings: Mutex::new(Settings { target: Target::None, signal: 0 }),
            timer: Timer::new(this.clone() as Weak<dyn TimerTarget>),
            is_async: AtomicBool::new(false),
            events: AtomicU32::new(0),
            is_urgent: AtomicBool::new(false),
        })
    }

    /// Owner and signal.
    #[must_use]
    pub fn settings(&self) -> Settings {
        *self.settings.lock()
    }

    /// F_SETOWN.
    pub fn set_target(&self, target: Target) {
        self.settings.lock().target = target;
    }

    /// F_SETSIG.
    pub fn set_signal(&self, signal: i32) {
        self.settings.lock().signal = signal;
    }

    fn key(&self) -> u64 {
        core::ptr::from_ref(self) as u64
    }

    /// Looks at the object's changes from now on: the owner is told of urgent data.
    pub(super) fn watch(&self, ops: &dyn FileOps) {
        let (Some(queue), Some(this)) = (ops.wait_queue(), self.this.upgrade()) else { return };
        queue.remove(self.key());
        queue.observe(self.key(), this);
    }

    /// Does not any more.
    pub(super) fn unwatch(&self, ops: &dyn FileOps) {
        if let Some(queue) = ops.wait_queue() {
            queue.remove(self.key());
        }
    }

    /// O_ASYNC: tells of all changes, or of none.
    pub(super) fn set_async(&self, ops: &dyn FileOps, is_async: bool) {
        self.is_async.store(is_async, Ordering::Relaxed);
        if is_async {
            self.watch(ops);
        } else if !ops.has_urgent_data() {
            self.unwatch(ops);
        }
    }
}

impl Observer for SigIo {
    fn notify(&self, events: Events) -> bool {
        let is_async = self.is_async.load(Ordering::Relaxed);
        if is_async {
            self.events.fetch_or(events.bits(), Ordering::Relaxed);
        }
        // An end is told with all events.
        let is_urgent = events.contains(Events::PRI) && !events.contains(Events::HUP);
        if is_urgent {
            self.is_urgent.store(true, Ordering::Relaxed);
        }
        if is_async || is_urgent {
            self.timer.arm(Some(1));
        }
        false
    }
}

impl TimerTarget for SigIo {
    fn expired(&self) {
        let events = Events::from_bits_truncate(self.events.swap(0, Ordering::Relaxed));
        let Settings { target, signal } = self.settings();
        if self.is_urgent.swap(false, Ordering::Relaxed) {
            tell(target, SIGURG);
        }
        if !events.is_empty() {
            tell(target, if signal == 0 { SIGIO } else { signal });
        }
    }
}

fn tell(target: Target, signal: i32) {
    let info = SigInfo::kernel(signal);
    match target {
        Target::None => {}
        Target::Thread(tid) => tree::task(tid).iter().for_each(|task: &Arc<Task>| send::send_task(task, info)),
        Target::Process(pid) => tree::process(pid).iter().for_each(|process| send::send_process(process, info)),
        Target::Group(pgid) => send::send_group(pgid, info),
    }
}
