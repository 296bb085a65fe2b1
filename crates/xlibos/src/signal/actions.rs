//! What a process does on each signal: sigaction(2). Read by a sequence count, changed below a lock.

use super::{Action, Default_, SA_RESETHAND, SIG_DFL, SIG_IGN, SigSet, default_action};
use core::sync::atomic::{AtomicU64, Ordering, fence};
use machine::sync::Mutex;

/// The action table of a process.
#[derive(Debug)]
pub struct Actions {
    /// Handler, flags, restorer and mask of each signal.
    table: [[AtomicU64; 4]; 64],
    /// Odd while the table changes, or where who changed it has died: then it is read below the lock.
    turn: AtomicU64,
    /// Held by who changes the table.
    lock: Mutex<()>,
    /// Which have a handler, for who only asks that. Changed with the table locked.
    caught: AtomicU64,
}

impl Default for Actions {
    fn default() -> Self {
        Actions {
            table: [const { [const { AtomicU64::new(0) }; 4] }; 64],
            turn: AtomicU64::new(0),
            lock: Mutex::new(()),
            caught: AtomicU64::new(0),
        }
    }
}

impl Actions {
    fn slot(&self, signal: i32) -> Option<&[AtomicU64; 4]> {
        self.table.get(usize::try_from(signal.wrapping_sub(1)).ok()?)
    }

    /// The action of a signal.
    #[must_use]
    pub fn get(&self, signal: i32) -> Action {
        let Some(slot) = self.slot(signal) else { return Action::default() };
        let turn = self.turn.load(Ordering::Acquire);
        let action = load(slot);
        // The words are loaded before the count is looked at again.
        fence(Ordering::Acquire);
        if turn & 1 == 0 && self.turn.load(Ordering::Relaxed) == turn {
            return action;
        }
        let _locked = self.lock.lock();
        load(slot)
    }

    /// The action of a signal that is delivered. A handler that is to run once (SA_RESETHAND) is gone with it; mask and flags stay.
    #[must_use]
    pub fn take(&self, signal: i32) -> Action {
        let action = self.get(signal);
        if action.handler <= SIG_IGN || action.flags & SA_RESETHAND == 0 {
            return action;
        }
        self.change(|table| {
            // Another thread may have been faster.
            let Some(slot) = table.slot(signal) else { return Action::default() };
            let action = load(slot);
            if action.handler > SIG_IGN && action.flags & SA_RESETHAND != 0 {
                table.store(signal, Action { handler: SIG_DFL, ..action });
            }
            action
        })
    }

    /// Replaces an action; answers the one before, which nobody else has replaced.
    pub fn replace(&self, signal: i32, action: Action) -> Action {
        self.change(|table| {
            let was = table.slot(signal).map(load).unwrap_or_default();
            table.store(signal, action);
            was
        })
    }

    /// Replaces an action.
    pub fn set(&self, signal: i32, action: Action) {
        self.replace(signal, action);
    }

    /// Changes the table below the lock.
    fn change<R>(&self, change: impl FnOnce(&Actions) -> R) -> R {
        let _locked = self.lock.lock();
        let odd = self.turn.load(Ordering::Relaxed) | 1;
        self.turn.store(odd, Ordering::Relaxed);
        // Who sees a new word sees the odd count.
        fence(Ordering::Release);
        let changed = change(self);
        self.turn.store(odd.wrapping_add(1), Ordering::Release);
        changed
    }

    /// Within [`Actions::change`].
    fn store(&self, signal: i32, action: Action) {
        let Some(slot) = self.slot(signal) else { return };
        let words = [action.handler, action.flags, action.restorer, action.mask.0];
        for (word, value) in slot.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        let (own, others) = (SigSet::of(signal), SigSet(self.caught.load(Ordering::SeqCst)));
        let caught = if action.handler > SIG_IGN { others.union(own) } else { others.without(own) };
        self.caught.store(caught.0, Ordering::SeqCst);
    }

    /// Whether a signal has a handler.
    #[must_use]
    pub fn catches(&self, signal: i32) -> bool {
        SigSet(self.caught.load(Ordering::SeqCst)).has(signal)
    }

    /// A copy: fork.
    #[must_use]
    pub fn copy(&self) -> Actions {
        let _locked = self.lock.lock();
        let table =
            self.table.each_ref().map(|slot| slot.each_ref().map(|w| AtomicU64::new(w.load(Ordering::Relaxed))));
        let caught = AtomicU64::new(self.caught.load(Ordering::SeqCst));
        Actions { table, turn: AtomicU64::new(0), lock: Mutex::new(()), caught }
    }

    /// Caught signals go back to their default; ignored ones stay ignored: exec.
    pub fn reset_caught(&self) {
        self.change(|table| {
            for (signal, slot) in (1..).zip(&table.table) {
                let handler = if load(slot).handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
                table.store(signal, Action { handler, ..Action::default() });
            }
        });
    }

    /// Whether a signal would be thrown away.
    #[must_use]
    pub fn ignores(&self, signal: i32) -> bool {
        let action = self.get(signal);
        action.handler == SIG_IGN || (action.handler == 0 && default_action(signal) == Default_::Ignore)
    }

    /// Sets of ignored and caught signals, for /proc.
    #[must_use]
    pub fn summary(&self) -> (SigSet, SigSet) {
        let (mut ignored, mut caught) = (SigSet(0), SigSet(0));
        let _locked = self.lock.lock();
        for (signal, slot) in (1..).zip(&self.table) {
            match load(slot).handler {
                0 => {}
                SIG_IGN => ignored = ignored.union(SigSet::of(signal)),
                _ => caught = caught.union(SigSet::of(signal)),
            }
        }
        (ignored, caught)
    }
}

fn load(slot: &[AtomicU64; 4]) -> Action {
    let [handler, flags, restorer, mask] = slot.each_ref().map(|word| word.load(Ordering::Relaxed));
    Action { handler, flags, restorer, mask: SigSet(mask) }
}

#[cfg(test)]
mod tests {
    use super::Actions;
    use crate::signal::{Action, SA_RESETHAND, SIG_DFL, SigSet};
    use core::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn an_action_is_read_whole_while_it_changes() {
        let actions = Actions::default();
        let whole = |n: u64| Action { handler: n, flags: n << 32, restorer: n + 1, mask: SigSet(n) };
        actions.set(10, whole(2));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 2..200_000 {
                    actions.set(10, whole(n));
                }
                done.store(true, Ordering::SeqCst);
            });
            while !done.load(Ordering::SeqCst) {
                let action = actions.get(10);
                assert_eq!(action, whole(action.handler));
            }
        });
        // Amid a change the count is odd.
        actions.turn.store(7, Ordering::SeqCst);
        assert_eq!(actions.get(10), whole(199_999));
        actions.set(10, whole(5));
        assert_eq!((actions.get(10), actions.turn.load(Ordering::SeqCst)), (whole(5), 8));
    }

    #[test]
    fn what_threads_replace_goes_from_one_to_another() {
        let actions = Actions::default();
        let exchange = |mut own: u64| {
            for _ in 0..50_000 {
                own = actions.replace(10, Action { handler: own, ..Action::default() }).handler;
            }
            own
        };
        let exchange = &exchange;
        let mut all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (11..14).map(|own| scope.spawn(move || exchange(own))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        all.push(actions.get(10).handler);
        all.sort_unstable();
        assert_eq!(all, [0, 11, 12, 13]);
    }

    #[test]
    fn a_handler_that_runs_once_is_gone_as_it_is_taken() {
        const USR1: i32 = 10;
        let actions = Actions::default();
        let once = Action { handler: 0x1000, flags: SA_RESETHAND, ..Action::default() };
        actions.set(USR1, once);
        assert!(actions.take(USR1).handler == once.handler && !actions.catches(USR1));
        let left = actions.get(USR1);
        assert_eq!((left.handler, left.flags), (SIG_DFL, SA_RESETHAND));
        // One that stays is taken as often as it is wanted.
        actions.set(USR1, Action { flags: 0, ..once });
        assert_eq!([actions.take(USR1).handler, actions.take(USR1).handler], [once.handler; 2]);
        assert!(actions.catches(USR1));
    }
}
