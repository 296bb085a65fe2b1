//! Signals read from a descriptor: signalfd(2). A file has a mask only; what is pending is the reader's own.

use super::file::{File, FileOps};
use crate::signal::{SI_QUEUE, SI_TIMER, SIGCHLD, SigInfo, SigSet, deliver};
use crate::uio::Sink;
use crate::wait::{Events, READABLE, WaitQueue};
use crate::{Errno, Result, Task};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use machine::sync::Mutex;

/// All signal files: whose signal arrived is known only to those who look. The lock is a leaf.
static FILES: Mutex<Vec<Weak<SignalFile>>> = Mutex::new(Vec::new());
/// How many there are: without any, a signal costs one load.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A signal became pending somewhere: wakes those who wait for it.
pub fn signal_arrived(signal: i32) {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return;
    }
    // None is dropped under the lock, which its end takes.
    let wanted: Vec<Arc<SignalFile>> = FILES.lock().iter().filter_map(Weak::upgrade).collect();
    wanted.iter().filter(|file| file.mask().has(signal)).for_each(|file| file.readers.wake(READABLE));
}

/// A set of signals as a file.
#[derive(Debug)]
pub struct SignalFile {
    mask: AtomicU64,
    readers: WaitQueue,
}

impl Drop for SignalFile {
    fn drop(&mut self) {
        FILES.lock().retain(|file| file.strong_count() > 0);
        COUNT.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SignalFile {
    /// A file for these signals.
    #[must_use]
    pub fn new(mask: SigSet) -> Arc<SignalFile> {
        let file = Arc::new(SignalFile { mask: AtomicU64::new(mask.0), readers: WaitQueue::new() });
        FILES.lock().push(Arc::downgrade(&file));
        COUNT.fetch_add(1, Ordering::SeqCst);
        file
    }

    /// Replaces the set.
    pub fn set_mask(&self, mask: SigSet) {
        self.mask.store(mask.0, Ordering::SeqCst);
        self.readers.wake(READABLE);
    }

    fn mask(&self) -> SigSet {
        SigSet(self.mask.load(Ordering::SeqCst))
    }
}

/// Length of `struct signalfd_siginfo`.
const RECORD: usize = 128;

/// `struct signalfd_siginfo`: what applies to the kind of signal, else zeros.
fn record(info: &SigInfo) -> [u8; RECORD] {
    let mut out = [0; RECORD];
    let mut put = |at: usize, bytes: &[u8]| {
        out.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    let value = info.value.to_le_bytes();
    let int = value.first_chunk::<4>().copied().unwrap_or_default();
    put(0, &info.signal.to_le_bytes());
    put(8, &info.code.to_le_bytes());
    if info.is_fault() {
        put(72, &value);
        return out;
    }
    if info.code == SI_TIMER {
        put(24, &info.pid.to_le_bytes());
        put(32, &info.uid.to_le_bytes());
    } else {
        put(12, &info.pid.to_le_bytes());
        put(16, &info.uid.to_le_bytes());
    }
    match (info.code, info.signal) {
        (SI_TIMER | SI_QUEUE, _) => {
            put(44, &int);
            put(48, &value);
        }
        (1.., SIGCHLD) => put(40, &int),
        _ => {}
    }
    out
}

impl FileOps for SignalFile {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, _file: &File, to: &mut Sink<'_>, _offset: u64) -> Result<usize> {
        if to.remaining() < RECORD {
            return Err(Errno::EINVAL);
        }
        let task = Task::current().ok_or(Errno::EIO)?;
        let mut total = 0;
        while to.remaining() >= RECORD {
            let Some(info) = deliver::take(task, self.mask()) else { break };
            total += to.put(&record(&info))?;
        }
        if total == 0 { Err(Errno::EAGAIN) } else { Ok(total) }
    }

    fn poll(&self, _file: &File) -> Events {
        let pending = Task::current().map(|task| task.signals.pending.set().union(task.process.pending.set()));
        let is_ready = pending.is_some_and(|pending| pending.0 & self.mask().0 != 0);
        if is_ready { READABLE } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.readers)
    }

    fn tells_by_signal(&self) -> bool {
        false
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[signalfd]".to_vec()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{SIGCHLD, SigInfo, SigSet, SignalFile, record, signal_arrived};
    use crate::fs::FileOps;
    use crate::wait::{Events, Observer};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Observer for Count {
        fn notify(&self, _events: Events) -> bool {
            self.0.fetch_add(1, Ordering::SeqCst);
            true
        }
    }

    #[test]
    fn readers_wake_for_the_signals_of_their_set_alone() {
        let (file, count) = (SignalFile::new(SigSet::of(40)), Arc::new(Count::default()));
        let queue = file.wait_queue().expect("a queue");
        queue.observe(1, Arc::clone(&count) as Arc<dyn Observer>);
        [41, 10, 17].into_iter().for_each(signal_arrived);
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        signal_arrived(40);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        queue.remove(1);
    }

    #[test]
    fn a_child_tells_its_status_and_a_plain_signal_its_sender() {
        let info = SigInfo { signal: SIGCHLD, code: 1, pid: 7, uid: 8, value: 3, continues: 0 };
        let child = record(&info);
        assert_eq!((child[12], child[16], child[40], child[44]), (7, 8, 3, 0));
        let plain = record(&SigInfo { signal: 10, code: 0, ..info });
        assert_eq!((plain[12], plain[16], plain[40], plain[44]), (7, 8, 0, 0));
    }
}
