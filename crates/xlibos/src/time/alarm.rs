//! Timers of a process: timer_create(2), setitimer(2). The service process runs them; they send signals.
//!
//! Locks: a process's table, then a timer's state, then the queue of [`super::timer`]. Signals are sent without any.

use super::Setting;
use super::clock::{Clock, wait_ns};
use super::timer::{Timer, TimerTarget};
use crate::process::limits;
use crate::process::{Pid, Process, Task};
use crate::signal::{SI_KERNEL, SI_TIMER, SIGKILL, SIGXCPU, SigInfo, send_process, send_task};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};
use machine::sync::Mutex;

/// Who is told.
pub enum Notify {
    /// Nobody: SIGEV_NONE.
    Nobody,
    /// The process.
    Process(Weak<Process>),
    /// One thread: SIGEV_THREAD_ID.
    Thread(Weak<Task>),
}

#[derive(Debug, Default)]
struct State {
    /// On the timer's own clock; None while off.
    target: Option<u64>,
    interval: u64,
    /// Expiries beyond the one that the signal stands for, until it is taken.
    overrun: u64,
    /// Those of the signal that was taken last.
    told: u64,
    /// What a CPU clock showed last, and how often it stood still since.
    shown: u64,
    still: u32,
}

const SECOND_NS: u64 = 1_000_000_000;
/// Longest wait between two looks at a CPU clock that stands still.
const LONGEST_LOOK_NS: u64 = 200_000_000;

/// One timer.
pub struct Alarm {
    timer: Timer,
    clock: Clock,
    notify: Notify,
    signal: SigInfo,
    state: Mutex<State>,
}

impl core::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Alarm({:?}, {:?})", self.clock, self.timer)
    }
}

impl Alarm {
    /// A timer that is off.
    #[must_use]
    pub fn new(clock: Clock, notify: Notify, signal: SigInfo) -> Arc<Alarm> {
        Arc::new_cyclic(|me: &Weak<Alarm>| Alarm {
            timer: Timer::new(Weak::clone(me) as Weak<dyn TimerTarget>),
            clock,
            notify,
            signal,
            state: Mutex::default(),
        })
    }

    /// Sets it; `absolute` takes the first expiry as a time on its clock. Returns what it was.
    pub fn set(&self, setting: Setting, absolute: bool) -> Setting {
        let now = self.clock.read_ns().unwrap_or(0);
        let mut state = self.state.lock();
        let old = left(&state, now);
        state.target = (setting.first_ns != 0)
            .then(|| if absolute { setting.first_ns } else { now.saturating_add(setting.first_ns) });
        state.interval = setting.interval_ns;
        (state.overrun, state.told) = (0, 0);
        state.still = 0;
        self.arm(&mut state, now);
        old
    }

    /// What is left.
    #[must_use]
    pub fn setting(&self) -> Setting {
        let now = self.clock.read_ns().unwrap_or(0);
        left(&self.state.lock(), now)
    }

    /// Expiries that the last signal that was taken stands for beside its own.
    #[must_use]
    pub fn overrun(&self) -> i32 {
        i32::try_from(self.state.lock().told).unwrap_or(i32::MAX)
    }

    /// A signal of this timer as it is taken: what has expired by now counts, whether or not the service process has run for it.
    fn taken(&self, info: SigInfo) -> SigInfo {
        // Whoever forges one leaves the timer alone.
        if (info.signal, info.value) != (self.signal.signal, self.signal.value) {
            return info;
        }
        let more = self.advance();
        let mut state = self.state.lock();
        state.told = core::mem::take(&mut state.overrun).saturating_add(more);
        SigInfo { uid: u32::try_from(state.told.min(i32::MAX.unsigned_abs().into())).unwrap_or(0), ..info }
    }

    /// An idle process's CPU clock is looked at less and less often.
    fn arm(&self, state: &mut State, shown: u64) {
        let target = if matches!(self.notify, Notify::Nobody) { None } else { state.target };
        let deadline = target.map(|target| {
            let mut wait = wait_ns(&self.clock, shown, target);
            if self.clock.is_cpu() && wait > 0 {
                state.still = if shown == state.shown { (state.still + 1).min(8) } else { 0 };
                state.shown = shown;
                let longer = wait.saturating_mul(1 << state.still);
                wait = longer.min(LONGEST_LOOK_NS.max(wait));
            }
            machine::clock::monotonic_ns().saturating_add(wait)
        });
        self.timer.arm(deadline);
    }

    /// Moves the target on when it has come; returns how many expiries there were.
    fn advance(&self) -> u64 {
        let now = self.clock.read_ns();
        let mut state = self.state.lock();
        let Some(target) = state.target else { return 0 };
        // A process on its way to another host process has no clock for a moment: it is looked at again.
        let now = now.unwrap_or(state.shown);
        let mut count = 0;
        if target <= now {
            count = (now - target).checked_div(state.interval).map_or(1, |more| more + 1);
            state.target = (state.interval != 0).then(|| target.saturating_add(state.interval.saturating_mul(count)));
        }
        self.arm(&mut state, now);
        count
    }

    /// Whether its last signal still waits to be taken.
    fn is_pending(&self, queue: &crate::signal::Pending) -> bool {
        queue.set().has(self.signal.signal)
            && queue.collect().iter().any(|info| info.code == self.signal.code && info.pid == self.signal.pid)
    }

    /// Counts expiries; returns the signal to send, if a new one is due.
    fn count(&self, count: u64, is_pending: bool) -> Option<SigInfo> {
        let mut state = self.state.lock();
        let is_told = is_pending && self.signal.code == SI_TIMER;
        // A signal may be out of the queue and not yet through `taken`, which takes what it finds here.
        state.overrun = state.overrun.saturating_add(count - u64::from(!is_told));
        (!is_told).then_some(self.signal)
    }
}

fn left(state: &State, now: u64) -> Setting {
    let Some(target) = state.target else {
        return Setting { first_ns: 0, interval_ns: state.interval };
    };
    let mut first = target.saturating_sub(now);
    if first == 0 {
        // Due, and not run yet (or told to nobody): what is left until the next one.
        first = (now - target).checked_rem(state.interval).map_or(0, |over| state.interval - over);
    }
    // An armed timer never seems to be off, but a one-shot for nobody that has expired is.
    Setting { first_ns: first, interval_ns: state.interval }
}

impl TimerTarget for Alarm {
    fn expired(&self) {
        let count = self.advance();
        if count == 0 {
            return;
        }
        match &self.notify {
            Notify::Nobody => {}
            Notify::Process(process) => {
                let Some(process) = process.upgrade() else { return };
                if let Some(info) = self.count(count, self.is_pending(&process.pending)) {
                    send_process(&process, info);
                }
            }
            Notify::Thread(task) => {
                let Some(task) = task.upgrade() else { return };
                if let Some(info) = self.count(count, self.is_pending(&task.signals.pending)) {
                    send_task(&task, info);
                }
            }
        }
    }
}

/// The timers of a process.
#[derive(Debug, Default)]
pub struct Alarms {
    posix: Mutex<BTreeMap<i32, Arc<Alarm>>>,
    next: AtomicI32,
    intervals: [Mutex<Option<Arc<Alarm>>>; 3],
    /// Those of RLIMIT_CPU.
    cpu_limit: Mutex<Vec<Arc<Alarm>>>,
}

/// ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF and their signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Real time, SIGALRM.
    Real,
    /// CPU time in guest code, SIGVTALRM.
    Virtual,
    /// CPU time, SIGPROF.
    Prof,
}

impl Alarms {
    /// A number for a new timer.
    pub fn allocate_id(&self) -> i32 {
        let timers = self.posix.lock();
        loop {
            let id = self.next.fetch_add(1, Ordering::Relaxed) & i32::MAX;
            if !timers.contains_key(&id) {
                return id;
            }
        }
    }

    /// Adds a timer.
    pub fn add(&self, id: i32, alarm: Arc<Alarm>) {
        self.posix.lock().insert(id, alarm);
    }

    /// A timer.
    #[must_use]
    pub fn get(&self, id: i32) -> Option<Arc<Alarm>> {
        self.posix.lock().get(&id).cloned()
    }

    /// A signal as it is taken: one of a timer tells of all expiries until now.
    #[must_use]
    pub fn taken(&self, info: SigInfo) -> SigInfo {
        let alarm = if info.code == SI_TIMER { self.get(info.pid) } else { None };
        alarm.map_or(info, |alarm| alarm.taken(info))
    }

    /// Removes a timer.
    pub fn remove(&self, id: i32) -> Option<Arc<Alarm>> {
        self.posix.lock().remove(&id)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.posix.lock().len()
    }

    /// exec: POSIX timers go, interval timers stay.
    pub fn clear_for_exec(&self) {
        let old = core::mem::take(&mut *self.posix.lock());
        drop(old);
    }

    /// The end of the process.
    pub fn clear(&self) {
        self.clear_for_exec();
        for slot in &self.intervals {
            let old = slot.lock().take();
            drop(old);
        }
        let old = core::mem::take(&mut *self.cpu_limit.lock());
        drop(old);
    }

    /// RLIMIT_CPU as it is now: SIGXCPU each second from the soft limit on, SIGKILL at the hard one.
    pub fn limit_cpu(&self, process: &Arc<Process>) {
        let Some(limit) = process.limits.get(limits::CPU) else { return };
        let alarm = |signal: i32, seconds: u64, interval_ns: u64| {
            let notify = Notify::Process(Arc::downgrade(process));
            let alarm = Alarm::new(Clock::Process(Arc::clone(process)), notify, SigInfo::kernel(signal));
            let first_ns = seconds.max(1).saturating_mul(SECOND_NS);
            let _ = alarm.set(Setting { first_ns, interval_ns }, true);
            alarm
        };
        let bounds = [(SIGXCPU, limit.current, SECOND_NS), (SIGKILL, limit.max, 0)];
        let wanted = bounds.into_iter().filter(|(_, seconds, _)| *seconds != limits::INFINITY);
        let new: Vec<_> = wanted.map(|(signal, seconds, interval)| alarm(signal, seconds, interval)).collect();
        let old = core::mem::replace(&mut *self.cpu_limit.lock(), new);
        drop(old);
    }

    /// An interval timer, made at first use.
    #[must_use]
    pub fn interval(&self, process: &Arc<Process>, which: Interval) -> Arc<Alarm> {
        let (index, signal) = match which {
            Interval::Real => (0, crate::signal::SIGALRM),
            Interval::Virtual => (1, crate::signal::SIGVTALRM),
            Interval::Prof => (2, crate::signal::SIGPROF),
        };
        let make = || {
            let clock = if which == Interval::Real { Clock::Real(1) } else { Clock::Process(Arc::clone(process)) };
            let info = SigInfo { signal, code: SI_KERNEL, ..SigInfo::default() };
            Alarm::new(clock, Notify::Process(Arc::downgrade(process)), info)
        };
        match self.intervals.get(index) {
            Some(slot) => Arc::clone(slot.lock().get_or_insert_with(make)),
            None => make(),
        }
    }

    /// An interval timer, if it was ever used.
    #[must_use]
    pub fn used_interval(&self, which: Interval) -> Option<Arc<Alarm>> {
        let index = match which {
            Interval::Real => 0,
            Interval::Virtual => 1,
            Interval::Prof => 2,
        };
        self.intervals.get(index).and_then(|slot| slot.lock().clone())
    }
}

/// The signal of a POSIX timer.
#[must_use]
pub fn posix_signal(signal: i32, id: Pid, value: u64) -> SigInfo {
    SigInfo { signal, code: SI_TIMER, pid: id, value, ..SigInfo::default() }
}

#[cfg(test)]
mod tests {
    use super::{Alarm, Notify, posix_signal};
    use crate::time::Setting;
    use crate::time::clock::Clock;
    use crate::time::timer::TimerTarget;

    fn silent() -> std::sync::Arc<Alarm> {
        Alarm::new(Clock::Real(1), Notify::Nobody, posix_signal(14, 0, 0))
    }

    #[test]
    fn setting_tells_what_was_left() {
        let alarm = silent();
        let hour = 3_600_000_000_000;
        assert_eq!(alarm.set(Setting { first_ns: hour, interval_ns: 5 }, false), Setting::default());
        let left = alarm.set(Setting::default(), false);
        assert!(left.first_ns > hour / 2 && left.first_ns <= hour);
        assert_eq!(left.interval_ns, 5);
        assert_eq!(alarm.setting(), Setting::default());
    }

    #[test]
    fn expiries_that_nobody_saw_are_overruns() {
        let alarm = silent();
        let _ = alarm.set(Setting { first_ns: 1, interval_ns: 1_000 }, true);
        let count = alarm.advance();
        assert!(count > 1000);
        let info = alarm.count(count, false);
        assert!(alarm.count(5, true).is_none());
        assert!(info.is_some_and(|info| alarm.taken(info).uid > 1000));
        assert!(alarm.overrun() > 1000);
        alarm.expired();
    }

    #[test]
    fn what_nobody_ran_for_counts_when_the_signal_is_taken() {
        let alarm = silent();
        let info = alarm.count(1, false).unwrap_or_default();
        // Its first time is long past, and the service process does not run here.
        let _ = alarm.set(Setting { first_ns: 1, interval_ns: 1_000 }, true);
        assert!(alarm.count(1, true).is_none());
        let taken = alarm.taken(info);
        assert!(taken.uid > 1000 && taken.uid.cast_signed() == alarm.overrun(), "{taken:?}");
        let forged = crate::signal::SigInfo { value: 9, ..info };
        assert_eq!(alarm.taken(forged), forged);
    }

    #[test]
    fn a_one_shot_is_off_once_it_has_expired() {
        let alarm = silent();
        let _ = alarm.set(Setting { first_ns: 1, interval_ns: 0 }, true);
        assert_eq!((alarm.advance(), alarm.advance()), (1, 0));
        assert_eq!(alarm.setting(), Setting::default());
    }
}
