//! futex, robust lists, and threads that use them.

use crate::kit::{Case, Fail, assert_errno, assert_interrupted, assert_never_restarted, cases, child, ms, now, pestered, pid, restarted, shared, tid, until};
use crate::sys::{Result, memory, signal, sys};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use libc as c;

const WAIT: i32 = c::FUTEX_WAIT | c::FUTEX_PRIVATE_FLAG;
const WAKE: i32 = c::FUTEX_WAKE | c::FUTEX_PRIVATE_FLAG;
const LOCK_PI: i32 = c::FUTEX_LOCK_PI | c::FUTEX_PRIVATE_FLAG;
const UNLOCK_PI: i32 = c::FUTEX_UNLOCK_PI | c::FUTEX_PRIVATE_FLAG;

/// A child does not wake who waits at the process's own private word; the process does.
fn is_woken_by_its_own_process(wait: impl FnOnce(&'static AtomicU32) -> Result<i64> + Send) -> Case {
    let word = memory::atomic(memory::pages(1)?);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(word));
        child(|| {
            assert_eq!(sys!(futex, word, WAKE, 9)?, 0);
            Ok(())
        })?
        .succeeds()?;
        until(|| sys!(futex, word, WAKE, 9).is_ok_and(|n| n == 1));
        let Ok(Ok(0)) = waiter.join() else { panic!("the waiter failed") };
        Ok(())
    })
}

cases! { futex;
    fn wait_with_another_value_is_eagain() {
        let word = AtomicU32::new(1);
        assert_errno(sys!(futex, &word, WAIT, 2, 0), c::EAGAIN);
    }
    fn wake_nobody() {
        let word = AtomicU32::new(0);
        assert_eq!(sys!(futex, &word, WAKE, 1)?, 0);
        assert_errno(sys!(futex, (&raw const word).addr() + 1, WAKE, 1), c::EINVAL);
        assert_errno(sys!(futex, &word, WAKE | c::FUTEX_CLOCK_REALTIME, 1), c::ENOSYS);
        // The word is not looked at.
        assert_eq!(sys!(futex, memory::hole()?, WAKE, 1)?, 0);
    }
    fn wait_times_out() {
        let (word, begin) = (AtomicU32::new(0), now(c::CLOCK_MONOTONIC)?);
        assert_errno(sys!(futex, &word, WAIT, 0, &ms(20)), c::ETIMEDOUT);
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 20_000_000);
        assert_errno(sys!(futex, &word, WAIT, 0, &ms(0)), c::ETIMEDOUT);
    }
    fn wait_until_an_absolute_time() {
        let word = AtomicU32::new(0);
        let end = now(c::CLOCK_MONOTONIC)? + 20_000_000;
        let deadline = c::timespec { tv_sec: end / 1_000_000_000, tv_nsec: end % 1_000_000_000 };
        let operation = c::FUTEX_WAIT_BITSET | c::FUTEX_PRIVATE_FLAG;
        assert_errno(sys!(futex, &word, operation, 0, &deadline, 0, -1), c::ETIMEDOUT);
        assert!(now(c::CLOCK_MONOTONIC)? >= end);
        let past = ms(1);
        let operation = operation | c::FUTEX_CLOCK_REALTIME;
        assert_errno(sys!(futex, &word, operation, 0, &past, 0, -1), c::ETIMEDOUT);
    }
    fn argument_errors() {
        let (word, bad) = (AtomicU32::new(0), c::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 });
        assert_errno(sys!(futex, &word, WAIT, 0, &bad), c::EINVAL);
        assert_errno(sys!(futex, &word, 0x7f, 0, 0), c::ENOSYS);
        assert_errno(sys!(futex, (&raw const word).addr() + 1, WAIT, 0, 0), c::EINVAL);
        assert_errno(sys!(futex, memory::hole()?, WAIT, 0, 0), c::EFAULT);
        assert_errno(sys!(futex, &word, WAIT, 0, memory::hole()?), c::EFAULT);
        assert_errno(sys!(futex, &word, c::FUTEX_WAIT_BITSET, 0, 0, 0, 0), c::EINVAL);
        assert_errno(sys!(futex, &word, c::FUTEX_WAKE_BITSET, 1, 0, 0, 0), c::EINVAL);
    }
    fn wait_is_interrupted() {
        let word = AtomicU32::new(0);
        assert_interrupted(|| sys!(futex, &word, WAIT, 0, 0))?;
        assert_errno(pestered(0, || sys!(futex, &word, WAIT, 0, &ms(10_000)))?, c::EINTR);
    }
    fn wait_is_restarted() {
        let word = AtomicU32::new(0);
        let done = restarted(|| sys!(futex, &word, WAIT, 0, 0), || {
            word.store(1, SeqCst);
            let _ = sys!(futex, &word, WAKE, 1);
        })?;
        // A wake between two restarts finds nobody; the restarted wait then sees the new value.
        assert!(matches!(done, Ok(0) | Err(crate::sys::Errno(c::EAGAIN))), "{done:?}");
    }
    fn timed_wait_is_not_restarted_after_a_handler() {
        let word = AtomicU32::new(0);
        assert_never_restarted(|| sys!(futex, &word, WAIT, 0, &ms(10_000)))?;
    }
    fn timed_wait_goes_on_after_a_stop() {
        let word = AtomicU32::new(0);
        let sleeper = child(|| {
            let begin = now(c::CLOCK_MONOTONIC)?;
            assert_errno(sys!(futex, &word, WAIT, 0, &ms(100)), c::ETIMEDOUT);
            assert!(now(c::CLOCK_MONOTONIC)? - begin >= 100_000_000);
            Ok(())
        })?;
        for _ in 0..3 {
            sleeper.kill(c::SIGSTOP)?;
            crate::kit::wait(sleeper.pid, c::WUNTRACED)?;
            sleeper.kill(c::SIGCONT)?;
            crate::kit::wait(sleeper.pid, c::WCONTINUED)?;
        }
        sleeper.succeeds()?;
    }
    fn wake_counts_the_woken() {
        let word = AtomicU32::new(0);
        with_waiters(3, &word, || {
            let mut woken = 0;
            while woken < 3 {
                let now = sys!(futex, &word, WAKE, 1)?;
                assert!(now <= 1);
                woken += now;
            }
            Ok(())
        })?;
    }
    fn bitset_chooses_the_waiter() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let waiters = [1u32, 2].map(|set| {
                let word = &word;
                scope.spawn(move || sys!(futex, word, c::FUTEX_WAIT_BITSET | c::FUTEX_PRIVATE_FLAG, 0, 0, 0, set).map(|_| set))
            });
            let wake = |set: u32| sys!(futex, &word, c::FUTEX_WAKE_BITSET | c::FUTEX_PRIVATE_FLAG, 9, 0, 0, set);
            until(|| wake(2).is_ok_and(|n| n == 1));
            assert_eq!(wake(2)?, 0);
            until(|| wake(1).is_ok_and(|n| n == 1));
            for waiter in waiters {
                let Ok(Ok(_)) = waiter.join() else { panic!("a waiter failed") };
            }
            Ok::<(), Fail>(())
        })?;
    }
    fn requeue_moves_waiters() {
        let (from, to) = (AtomicU32::new(0), AtomicU32::new(0));
        with_waiters(3, &from, || {
            let operation = c::FUTEX_CMP_REQUEUE | c::FUTEX_PRIVATE_FLAG;
            assert_errno(sys!(futex, &from, operation, 0, 9, &to, 1), c::EAGAIN);
            // Nobody is woken at the first word. A waiter that something else wakes begins again there, and is moved again.
            let mut woken = 0;
            while woken < 3 {
                sys!(futex, &from, operation, 0, 9, &to, 0)?;
                woken += sys!(futex, &to, WAKE, 9)?;
            }
            assert_eq!(woken, 3);
            Ok(())
        })?;
    }
    fn requeue_wakes_and_moves() {
        let (from, to) = (AtomicU32::new(0), AtomicU32::new(0));
        with_waiters(2, &from, || {
            let (mut total, operation) = (0, c::FUTEX_REQUEUE | c::FUTEX_PRIVATE_FLAG);
            until(|| {
                total += sys!(futex, &from, operation, 0, 9, &to).unwrap_or(0);
                total >= 2
            });
            // One is woken and the other moved back, unless something else woke it: then it is on its way there.
            let mut done = 0;
            while done == 0 {
                sys!(futex, &from, operation, 0, 9, &to)?;
                done = sys!(futex, &to, operation, 1, 9, &from)?;
            }
            assert!(done <= 2);
            until(|| sys!(futex, &from, WAKE, 9) == Ok(1));
            Ok(())
        })?;
    }
    fn wake_op_changes_and_wakes() {
        let (a, b) = (AtomicU32::new(0), AtomicU32::new(5));
        let add_three_if_it_was_five = (c::FUTEX_OP_ADD << 28) | (c::FUTEX_OP_CMP_EQ << 24) | (3 << 12) | 5;
        let operation = c::FUTEX_WAKE_OP | c::FUTEX_PRIVATE_FLAG;
        assert_eq!(sys!(futex, &a, operation, 1, 1, &b, add_three_if_it_was_five)?, 0);
        assert_eq!(b.load(SeqCst), 8);
    }
    fn shared_word_between_processes() {
        let words = shared()?;
        let waiter = child(|| {
            while words[0].load(SeqCst) == 0 {
                let _ = sys!(futex, &words[0], c::FUTEX_WAIT, 0, 0);
            }
            Ok(())
        })?;
        words[0].store(1, SeqCst);
        sys!(futex, &words[0], c::FUTEX_WAKE, 1)?;
        waiter.succeeds()?;
    }
    fn shared_word_in_a_file_mapped_twice() {
        let fd = crate::kit::file(c"f", &[0; 4096])?;
        let a = memory::atomic(memory::map(4096, memory::RW, c::MAP_SHARED, fd)?);
        let b = memory::atomic(memory::map(4096, memory::RW, c::MAP_SHARED, fd)?);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| sys!(futex, a, c::FUTEX_WAIT, 0, 0));
            until(|| sys!(futex, b, c::FUTEX_WAKE, 1).is_ok_and(|n| n == 1));
            let Ok(Ok(0)) = waiter.join() else { panic!("the waiter failed") };
        });
    }
    fn private_word_is_not_shared_with_a_forked_child() {
        is_woken_by_its_own_process(|word| sys!(futex, word, WAIT, 0, &ms(10_000)))?;
    }
    fn priority_inheritance_lock() {
        let word = AtomicU32::new(0);
        sys!(futex, &word, LOCK_PI, 0, 0)?;
        assert_eq!(word.load(SeqCst), tid()?.cast_unsigned());
        assert_errno(sys!(futex, &word, LOCK_PI, 0, 0), c::EDEADLK);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                assert_errno(sys!(futex, &word, UNLOCK_PI, 0, 0), c::EPERM);
                assert_errno(sys!(futex, &word, c::FUTEX_TRYLOCK_PI | c::FUTEX_PRIVATE_FLAG, 0, 0), c::EAGAIN);
                sys!(futex, &word, LOCK_PI, 0, 0)?;
                let mine = i64::from(word.load(SeqCst) & c::FUTEX_TID_MASK) == sys!(gettid)?;
                sys!(futex, &word, UNLOCK_PI, 0, 0)?;
                Ok::<bool, crate::sys::Errno>(mine)
            });
            until(|| word.load(SeqCst) & c::FUTEX_WAITERS != 0);
            sys!(futex, &word, UNLOCK_PI, 0, 0)?;
            let Ok(Ok(true)) = other.join() else { panic!("the other thread did not get the lock") };
            Ok::<(), Fail>(())
        })?;
        assert_eq!(word.load(SeqCst) & c::FUTEX_TID_MASK, 0);
    }
    fn priority_inheritance_lock_hides_signals() {
        let (word, release) = (AtomicU32::new(0), AtomicU32::new(0));
        signal::record(c::SIGUSR1, 0)?;
        let (process, sleeper) = (pid()?, tid()?);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sys!(futex, &word, LOCK_PI, 0, 0)?;
                until(|| release.load(SeqCst) != 0);
                sys!(futex, &word, UNLOCK_PI, 0, 0)
            });
            until(|| word.load(SeqCst) != 0);
            scope.spawn(|| {
                until(|| word.load(SeqCst) & c::FUTEX_WAITERS != 0);
                let _ = sys!(tgkill, process, sleeper, c::SIGUSR1);
                until(|| signal::count(c::SIGUSR1) == 1);
                release.store(1, SeqCst);
            });
            sys!(futex, &word, LOCK_PI, 0, 0)
        })?;
        assert_eq!(word.load(SeqCst) & c::FUTEX_TID_MASK, tid()?.cast_unsigned());
    }
    fn priority_inheritance_lock_times_out() {
        let word = AtomicU32::new(0);
        sys!(futex, &word, LOCK_PI, 0, 0)?;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let past = c::timespec { tv_sec: 1, tv_nsec: 0 };
                sys!(futex, &word, LOCK_PI, 0, &past)
            });
            let Ok(result) = other.join() else { panic!("the thread failed") };
            assert_errno(result, c::ETIMEDOUT);
        });
    }
    fn priority_inheritance_lock_of_nobody() {
        // A number that no thread has.
        let word = AtomicU32::new(c::FUTEX_TID_MASK);
        assert_errno(sys!(futex, &word, LOCK_PI, 0, 0), c::ESRCH);
        assert_errno(sys!(futex, &word, c::FUTEX_TRYLOCK_PI | c::FUTEX_PRIVATE_FLAG, 0, 0), c::ESRCH);
        assert_errno(sys!(futex, &word, UNLOCK_PI, 0, 0), c::EPERM);
    }
    fn robust_list_marks_locks_of_the_dead() {
        let page = memory::pages(1)?;
        let (head, node, word) = (page, page + 64, page + 128);
        std::thread::scope(|scope| {
            let owner = scope.spawn(|| {
                memory::poke(head, [node as u64, (word - node) as u64, 0]);
                memory::poke(node, head as u64);
                sys!(set_robust_list, head, 24)?;
                let mine = sys!(gettid)?;
                memory::atomic(word).store(u32::try_from(mine).unwrap_or(0) | c::FUTEX_WAITERS, SeqCst);
                sys!(exit, 0)
            });
            until(|| memory::atomic(word).load(SeqCst) & c::FUTEX_OWNER_DIED != 0);
            // The thread left without a word to its library: nobody can join it.
            core::mem::forget(owner);
            crate::sys::process::exit(0);
        });
    }
    fn robust_list_errors() {
        assert_errno(sys!(set_robust_list, 0, 23), c::EINVAL);
        let (mut head, mut len) = (0usize, 0usize);
        sys!(get_robust_list, 0, &mut head, &mut len)?;
        assert_eq!(len, 24);
        assert_errno(sys!(get_robust_list, 999_999_999, &mut head, &mut len), c::ESRCH);
        assert_errno(sys!(get_robust_list, 0, memory::hole()?, &mut len), c::EFAULT);
    }
    fn cleared_thread_id_wakes() {
        let page = memory::pages(1)?;
        let word = memory::atomic(page);
        word.store(1, SeqCst);
        let set = || sys!(set_tid_address, page);
        assert_eq!(set()?, i64::from(tid()?));
        let places = crate::sys::process::Places { child_tid: page, ..Default::default() };
        let flags = c::CLONE_VM | c::CLONE_CHILD_CLEARTID | c::CLONE_CHILD_SETTID | c::SIGCHLD;
        let pid = crate::sys::process::clone(flags, nothing, 0, places)?;
        while word.load(SeqCst) != 0 {
            let value = word.load(SeqCst);
            let _ = sys!(futex, page, c::FUTEX_WAIT, value, 0);
        }
        crate::kit::wait(pid, 0)?;
    }
    fn thread_id_is_not_cleared_where_nobody_shares_the_memory() {
        let words = memory::shared()?;
        let places = crate::sys::process::Places { child_tid: words.as_ptr().addr(), ..Default::default() };
        let flags = c::CLONE_CHILD_CLEARTID | c::CLONE_CHILD_SETTID | c::SIGCHLD;
        let pid = crate::sys::process::clone(flags, nothing, 0, places)?;
        crate::kit::wait(pid, 0)?;
        assert_eq!(words[0].load(SeqCst).cast_signed(), pid);
    }
    fn waitv_waits_for_many() {
        let words = [AtomicU32::new(0), AtomicU32::new(0)];
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| waitv(&[entry(&words[0], 0), entry(&words[1], 0)], 0));
            until(|| sys!(futex, &words[1], WAKE, 9).is_ok_and(|n| n == 1) || waiter.is_finished());
            let Ok(Ok(1)) = waiter.join() else { panic!("the waiter failed") };
        });
        // Nobody waits any more.
        assert_eq!((sys!(futex, &words[0], WAKE, 9)?, sys!(futex, &words[1], WAKE, 9)?), (0, 0));
    }
    fn waitv_shares_wakes_with_other_waiters() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let one = scope.spawn(|| sys!(futex, &word, WAIT, 0, 0));
            let many: Vec<_> = (0..2).map(|_| scope.spawn(|| waitv(&[entry(&word, 0)], 0))).collect();
            let mut woken = 0;
            while woken < 3 {
                let now = sys!(futex, &word, WAKE, 1)?;
                assert!(now <= 1);
                woken += now;
            }
            let Ok(Ok(0)) = one.join() else { panic!("a waiter failed") };
            for waiter in many {
                let Ok(Ok(0)) = waiter.join() else { panic!("a waiter failed") };
            }
            Ok::<(), Fail>(())
        })?;
    }
    fn waitv_with_another_value_is_eagain() {
        let words = [AtomicU32::new(0), AtomicU32::new(1)];
        assert_errno(waitv(&[entry(&words[0], 0), entry(&words[1], 0)], 0), c::EAGAIN);
    }
    fn waitv_errors() {
        let word = AtomicU32::new(0);
        let good = entry(&word, 0);
        assert_errno(sys!(futex_waitv, &[good], 1, 1, 0, 0), c::EINVAL);
        assert_errno(sys!(futex_waitv, &[good], 0, 0, 0, 0), c::EINVAL);
        assert_errno(sys!(futex_waitv, &[good], 129, 0, 0, 0), c::EINVAL);
        assert_errno(sys!(futex_waitv, 0, 1, 0, 0, 0), c::EINVAL);
        assert_errno(sys!(futex_waitv, memory::hole()?, 1, 0, 0, 0), c::EFAULT);
        for bad in [[0, good[1], 0x80], [0, good[1], 3], [0, good[1], 2 | 1 << 40], [0, good[1] + 1, 2]] {
            assert_errno(waitv(&[bad], 0), c::EINVAL);
        }
        assert_errno(waitv(&[[0, memory::hole()? as u64, 2]], 0), c::EFAULT);
        let bad = c::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
        assert_errno(sys!(futex_waitv, &[good], 1, 0, &bad, c::CLOCK_MONOTONIC), c::EINVAL);
        assert_errno(sys!(futex_waitv, &[good], 1, 0, &ms(1), 7), c::EINVAL);
        assert_errno(sys!(futex_waitv, &[good], 1, 0, memory::hole()?, c::CLOCK_MONOTONIC), c::EFAULT);
    }
    fn waitv_times_out() {
        let word = AtomicU32::new(0);
        for clock in [c::CLOCK_MONOTONIC, c::CLOCK_REALTIME] {
            let end = now(clock)? + 20_000_000;
            let at = c::timespec { tv_sec: end / 1_000_000_000, tv_nsec: end % 1_000_000_000 };
            assert_errno(sys!(futex_waitv, &[entry(&word, 0)], 1, 0, &at, clock), c::ETIMEDOUT);
            assert!(now(clock)? >= end);
        }
    }
    fn waitv_is_interrupted_and_restarted() {
        let word = AtomicU32::new(0);
        assert_interrupted(|| waitv(&[entry(&word, 0)], 0))?;
        let done = restarted(|| waitv(&[entry(&word, 0)], 0), || {
            word.store(1, SeqCst);
            let _ = sys!(futex, &word, WAKE, 1);
        })?;
        assert!(matches!(done, Ok(0) | Err(crate::sys::Errno(c::EAGAIN))), "{done:?}");
    }
    fn waitv_on_words_of_other_processes() {
        let words = shared()?;
        let shared_entry = |word: &AtomicU32| [0, (&raw const *word).addr() as u64, 2];
        let waiter = child(|| {
            while words[1].load(SeqCst) == 0 {
                let _ = waitv(&[shared_entry(&words[0]), shared_entry(&words[1])], 0);
            }
            Ok(())
        })?;
        words[1].store(1, SeqCst);
        sys!(futex, &words[1], c::FUTEX_WAKE, 1)?;
        waiter.succeeds()?;
        // A private word is another's in a child.
        is_woken_by_its_own_process(|word| waitv(&[entry(word, 0)], 0))?;
    }
    fn mutexes_of_threads_exclude() {
        let total = std::sync::Mutex::new(0u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        let Ok(mut guard) = total.lock() else { panic!("poisoned") };
                        *guard += 1;
                    }
                });
            }
        });
        assert_eq!(total.into_inner().unwrap_or(0), 20_000);
    }
    fn condition_variables_pass_a_turn() {
        let state = (std::sync::Mutex::new(0u32), std::sync::Condvar::new());
        std::thread::scope(|scope| {
            for turn in 0..3u32 {
                let state = &state;
                scope.spawn(move || {
                    for _ in 0..200 {
                        let Ok(guard) = state.0.lock() else { panic!("poisoned") };
                        let Ok(mut now) = state.1.wait_while(guard, |n| *n % 3 != turn) else { panic!("poisoned") };
                        *now += 1;
                        state.1.notify_all();
                    }
                });
            }
        });
        assert_eq!(state.0.into_inner().unwrap_or(0), 600);
    }
    fn two_hundred_threads_come_and_go() {
        let count = AtomicU32::new(0);
        for _ in 0..20 {
            std::thread::scope(|scope| {
                for _ in 0..10 {
                    scope.spawn(|| count.fetch_add(1, SeqCst));
                }
            });
        }
        assert_eq!(count.load(SeqCst), 200);
    }
    fn thread_local_storage_is_of_the_thread() {
        std::thread_local! { static VALUE: core::cell::Cell<u32> = const { core::cell::Cell::new(7) }; }
        VALUE.set(8);
        let seen = std::thread::spawn(|| VALUE.get()).join();
        assert_eq!((seen.ok(), VALUE.get()), (Some(7), 8));
    }
    fn fork_with_other_threads_has_one() {
        let stop = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| while stop.load(SeqCst) == 0 { let _ = sys!(futex, &stop, WAIT, 0, 0); });
            let only = child(|| {
                assert_eq!(tid()?, pid()?);
                Ok(())
            });
            stop.store(1, SeqCst);
            sys!(futex, &stop, WAKE, 9)?;
            only?.succeeds()
        })?;
    }
}

/// What futex_waitv takes for a private word that holds `value`.
fn entry(word: &AtomicU32, value: u64) -> [u64; 3] {
    [value, (&raw const *word).addr() as u64, 2 | 128]
}

fn waitv(entries: &[[u64; 3]], timeout: usize) -> Result<i64> {
    sys!(futex_waitv, entries, entries.len(), 0, timeout, 0)
}

extern "C" fn nothing(_: *mut core::ffi::c_void) -> i32 {
    0
}

/// Threads that wait on the word until a wake; `f` has to wake them all.
fn with_waiters(count: usize, word: &AtomicU32, f: impl FnOnce() -> Result<()>) -> Case {
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..count).map(|_| scope.spawn(|| sys!(futex, word, WAIT, 0, 0))).collect();
        f()?;
        for waiter in waiters {
            assert!(matches!(waiter.join(), Ok(Ok(0))), "a waiter failed");
        }
        Ok(())
    })
}
