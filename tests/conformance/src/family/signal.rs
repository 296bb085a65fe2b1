//! Signals: actions, masks, queues, waits, alternate stacks.

use crate::kit::{Gate, as_nobody, assert_errno, assert_interrupted, assert_never_restarted, cases, child, int, ms, now, pid, pipe, read, shared, tid, until, wait};
use crate::sys::{self, Result, memory, signal, sys};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use libc as c;
use signal::{LAST, bit};

cases! { signal;
    fn a_frame_without_room_is_a_segmentation_fault() {
        let closed = memory::map(16 * memory::PAGE, c::PROT_NONE, memory::ANON, -1)?;
        let raise = |prepare: &dyn Fn() -> Result<()>| child(|| {
            sys!(sigaltstack, &[closed, 0, 16 * memory::PAGE], 0)?;
            signal::record(c::SIGUSR1, c::SA_ONSTACK)?;
            prepare()?;
            sys!(kill, pid()?, c::SIGUSR1)?;
            Ok(())
        });
        raise(&|| Ok(()))?.dies_of(c::SIGSEGV)?;
        raise(&|| signal::ignore(c::SIGSEGV))?.dies_of(c::SIGSEGV)?;
        raise(&|| signal::record(c::SIGSEGV, c::SA_ONSTACK))?.dies_of(c::SIGSEGV)?;
        raise(&|| {
            signal::record(c::SIGSEGV, 0)?;
            signal::mask(c::SIG_BLOCK, bit(c::SIGSEGV)).map(drop)
        })?.dies_of(c::SIGSEGV)?;
        // A handler that has a stack hears of it.
        child(|| {
            sys!(sigaltstack, &[closed, 0, 16 * memory::PAGE], 0)?;
            signal::record(c::SIGUSR1, c::SA_ONSTACK)?;
            signal::record_masked(c::SIGSEGV, 0, bit(c::SIGUSR2))?;
            let masked = signal::mask(c::SIG_BLOCK, bit(c::SIGHUP))?;
            sys!(kill, pid()?, c::SIGUSR1)?;
            assert_eq!((signal::order(), LAST.code.load(SeqCst)), (vec![c::SIGSEGV], c::SI_KERNEL));
            // The signal that had no room has gone, and blocks nothing.
            assert_eq!(LAST.mask.load(SeqCst), masked | bit(c::SIGHUP));
            assert_eq!(signal::mask(c::SIG_BLOCK, 0)?, masked | bit(c::SIGHUP));
            Ok(())
        })?.succeeds()?;
        // That signal itself without room is the end.
        child(|| {
            sys!(sigaltstack, &[closed, 0, 16 * memory::PAGE], 0)?;
            signal::record(c::SIGSEGV, c::SA_ONSTACK)?;
            sys!(kill, pid()?, c::SIGSEGV)?;
            Ok(())
        })?.dies_of(c::SIGSEGV)?;
    }
    fn an_alternate_stack_does_not_overflow_into_what_lies_below() {
        let below = 16 * memory::PAGE;
        let memory = memory::map(2 * below, memory::RW, memory::SHARED, -1)?;
        let top = memory::pages(16)? + 16 * memory::PAGE;
        sys!(sigaltstack, &[top - 16 * memory::PAGE, 0, 16 * memory::PAGE], 0)?;
        signal::record(c::SIGUSR2, c::SA_ONSTACK)?;
        sys!(kill, pid()?, c::SIGUSR2)?;
        // Room for one frame and what its handler needs, not for another one.
        let len = (top - LAST.frame.load(SeqCst)).next_multiple_of(64) + 1024;
        for flags in [0, c::SA_ONSTACK] {
            child(|| {
                sys!(sigaltstack, &[memory + below, 0, len], 0)?;
                signal::handle(c::SIGUSR1, raises_itself, c::SA_ONSTACK | c::SA_NODEFER)?;
                signal::record(c::SIGSEGV, flags)?;
                sys!(kill, pid()?, c::SIGUSR1)?;
                Ok(())
            })?.dies_of(c::SIGSEGV)?;
            assert!((memory..memory + below).step_by(8).all(|at| memory::peek::<u64>(at) == 0));
        }
    }
    fn a_stack_is_disarmed_by_any_handler() {
        const AUTODISARM: usize = 1 << 31;
        let stack = memory::pages(16)?;
        let now = || -> Result<usize> {
            let mut old = [0usize; 3];
            sys!(sigaltstack, 0, &mut old)?;
            Ok(old[1] & 0xffff_ffff)
        };
        sys!(sigaltstack, &[stack, AUTODISARM, 16 * memory::PAGE], 0)?;
        signal::handle(c::SIGUSR1, notes_stack, 0)?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert_eq!((STACK_FLAGS.load(SeqCst), now()?), (2, AUTODISARM));
    }
    fn a_handler_that_is_reset_leaves_flags_and_mask() {
        const RESTORER: u64 = 0x0400_0000;
        let flags = c::SA_RESETHAND | c::SA_RESTART | c::SA_NODEFER;
        signal::record_masked(c::SIGUSR1, flags, bit(c::SIGHUP))?;
        let raw = || -> Result<[u64; 4]> {
            let mut raw = [0u64; 4];
            sys!(rt_sigaction, c::SIGUSR1, 0, &mut raw, 8)?;
            Ok(raw)
        };
        let before = raw()?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        let expected = u64::from((flags | c::SA_SIGINFO).cast_unsigned()) | RESTORER;
        assert_eq!(raw()?, [0, expected, before[2], bit(c::SIGHUP)]);
    }
    fn a_frame_has_the_extended_state() {
        signal::record(c::SIGUSR1, 0)?;
        for value in [1, u64::MAX] {
            assert_eq!(sys::process::xmm_across_a_signal(c::SIGUSR1, value)?, value);
        }
        let [first, components, len, end] = [0, 1, 2, 3].map(|at| signal::STATE_MARKS[at].load(SeqCst));
        assert_eq!((first & 0xffff_ffff, first >> 32, end), (0x4650_5853, len + 4, 0x4650_5845));
        assert!(components & 3 == 3 && len >= 576);
        // What the handler leaves there counts.
        signal::XMM15.store(77, SeqCst);
        assert_eq!(sys::process::xmm_across_a_signal(c::SIGUSR1, 1)?, 77);
    }
    fn a_handler_runs_with_its_own_mask_while_actions_change() {
        const ROUNDS: usize = 30_000;
        let done = AtomicBool::new(false);
        signal::handle_masked(c::SIGUSR1, expects_usr2, bit(c::SIGUSR2))?;
        std::thread::scope(|scope| {
            let changer = scope.spawn(|| {
                while !done.load(SeqCst) {
                    signal::handle_masked(c::SIGUSR1, expects_hup, bit(c::SIGHUP))?;
                    signal::handle_masked(c::SIGUSR1, expects_usr2, bit(c::SIGUSR2))?;
                }
                Result::Ok(())
            });
            let raised = (0..ROUNDS).try_for_each(|_| sys!(tgkill, pid()?, tid()?, c::SIGUSR1).map(drop));
            done.store(true, SeqCst);
            let Ok(changed) = changer.join() else { panic!("the thread failed") };
            raised.and(changed)
        })?;
        assert_eq!((HANDLED.load(SeqCst), MASK_SEEN.load(SeqCst)), (ROUNDS, 0));
    }
    fn what_one_raises_comes_behind_what_was_let_through() {
        // Blocked ones that are sent meanwhile wait, and do not come before their time.
        signal::record_masked(c::SIGUSR1, 0, 0)?;
        signal::record(c::SIGUSR2, 0)?;
        signal::mask(c::SIG_BLOCK, bit(c::SIGUSR2))?;
        let raise = |number| sys!(tgkill, pid()?, tid()?, number).map(drop);
        raise(c::SIGUSR2)?;
        raise(c::SIGUSR1)?;
        raise(c::SIGUSR2)?;
        assert_eq!(signal::order(), [c::SIGUSR1]);
        signal::mask(c::SIG_UNBLOCK, bit(c::SIGUSR2))?;
        assert_eq!(signal::order(), [c::SIGUSR1, c::SIGUSR2]);
        // Who continues itself takes back that it was to stop.
        signal::record(c::SIGCONT, 0)?;
        signal::mask(c::SIG_BLOCK, bit(c::SIGTSTP))?;
        raise(c::SIGTSTP)?;
        raise(c::SIGCONT)?;
        signal::mask(c::SIG_UNBLOCK, bit(c::SIGTSTP))?;
        assert_eq!(signal::order(), [c::SIGUSR1, c::SIGUSR2, c::SIGCONT]);
    }
    fn others_reach_who_waits_for_one_signal() {
        /// At each moment of the way back into the wait, many times.
        const ROUNDS: usize = 20_000;
        let handled = memory::atomic64(memory::map(memory::PAGE, memory::RW, c::MAP_SHARED | c::MAP_ANONYMOUS, -1)?);
        HANDLED.store(core::ptr::from_ref(handled).addr(), SeqCst);
        signal::mask(c::SIG_BLOCK, bit(c::SIGUSR1))?;
        signal::handle(c::SIGUSR2, counts_in_shared_memory, 0)?;
        let waits = child(|| loop {
            sys!(rt_sigtimedwait, &bit(c::SIGUSR1), 0, 0, 8).ok();
        })?;
        for round in 0..ROUNDS {
            sys!(kill, waits.pid, c::SIGUSR1)?;
            (0..round % 512).for_each(|_| core::hint::spin_loop());
            sys!(kill, waits.pid, c::SIGUSR2)?;
            until(|| usize::try_from(handled.load(SeqCst)) == Ok(round + 1));
        }
        waits.kill(c::SIGKILL)?;
        waits.dies_of(c::SIGKILL)?;
    }
    fn calls_that_ask_for_an_id_are_interrupted_at_any_moment() {
        /// So many that some signals come between the look at what is pending and the guest's next instruction.
        const ROUNDS: u32 = 10_000;
        let (words, me) = (shared()?, pid()?);
        let (round_word, handled) = (&words[0], &words[1]);
        HANDLED.store(core::ptr::from_ref(handled).addr(), SeqCst);
        signal::handle(c::SIGUSR1, counts_in_shared_word, 0)?;
        let asks = child(|| {
            let own = pid()?;
            for round in 1..=ROUNDS {
                round_word.store(round, SeqCst);
                for _ in 0..round % 300 {
                    assert_eq!(int(sys!(getppid)?), me);
                }
                assert_eq!((pid()?, tid()?), (own, own));
                // It must come without a further call.
                while handled.load(SeqCst) != round { core::hint::spin_loop(); }
            }
            Ok(())
        })?;
        for round in 1..=ROUNDS {
            until(|| round_word.load(SeqCst) == round);
            sys!(kill, asks.pid, c::SIGUSR1)?;
        }
        asks.exits(0)?;
    }
    fn who_blocks_a_signal_leaves_it_to_another_thread() {
        const ROUNDS: u32 = 2_000;
        let (words, me) = (shared()?, pid()?);
        let (round_word, handled) = (&words[0], &words[1]);
        HANDLED.store(core::ptr::from_ref(handled).addr(), SeqCst);
        signal::handle(c::SIGUSR1, counts_in_shared_word, 0)?;
        let sender = child(|| {
            for round in 1..=ROUNDS {
                until(|| round_word.load(SeqCst) == round);
                (0..round % 300).for_each(|_| core::hint::spin_loop());
                sys!(kill, me, c::SIGUSR1)?;
            }
            Ok(())
        })?;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // It takes signals at any time, and makes no call.
            scope.spawn(|| while !done.load(SeqCst) { core::hint::spin_loop(); });
            for round in 1..=ROUNDS {
                signal::mask(c::SIG_UNBLOCK, bit(c::SIGUSR1))?;
                round_word.store(round, SeqCst);
                (0..round % 700).for_each(|_| core::hint::spin_loop());
                signal::mask(c::SIG_BLOCK, bit(c::SIGUSR1))?;
                until(|| handled.load(SeqCst) == round);
            }
            done.store(true, SeqCst);
            Result::Ok(())
        })?;
        sender.succeeds()?;
    }
    fn handler_runs_before_kill_returns() {
        signal::record(c::SIGUSR1, 0)?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert_eq!(signal::count(c::SIGUSR1), 1);
        assert_eq!(LAST.code.load(SeqCst), c::SI_USER);
        assert_eq!(LAST.pid.load(SeqCst), pid()?);
        assert_eq!(i64::from(LAST.uid.load(SeqCst)), sys!(getuid)?);
    }
    fn tkill_and_tgkill_reach_the_thread() {
        signal::record(c::SIGUSR1, 0)?;
        sys!(tkill, tid()?, c::SIGUSR1)?;
        assert_eq!((signal::count(c::SIGUSR1), LAST.code.load(SeqCst)), (1, c::SI_TKILL));
        let other = std::thread::spawn(|| {
            sys!(tgkill, sys!(getpid)?, sys!(gettid)?, c::SIGUSR1)?;
            sys!(gettid)
        });
        let Ok(Ok(thread)) = other.join() else { panic!("the thread failed") };
        assert_eq!(i64::from(LAST.thread.load(SeqCst)), thread);
    }
    fn kill_errors() {
        assert_errno(sys!(kill, 999_999_999, 0), c::ESRCH);
        assert_errno(sys!(kill, pid()?, 65), c::EINVAL);
        assert_errno(sys!(kill, pid()?, -1), c::EINVAL);
        assert_errno(sys!(kill, -999_999_999, 0), c::ESRCH);
        assert_errno(sys!(tgkill, pid()?, 999_999_999, 0), c::ESRCH);
        assert_errno(sys!(tgkill, 0, tid()?, 0), c::EINVAL);
        assert_errno(sys!(tkill, -1, 0), c::EINVAL);
        sys!(kill, pid()?, 0)?;
        let me = pid()?;
        as_nobody(|| {
            assert_errno(sys!(kill, me, 0), c::EPERM);
            Ok(())
        })?;
    }
    fn kill_reaches_a_group() {
        let ready = Gate::new()?;
        let victims = (0..3).map(|_| child(|| {
            signal::record(c::SIGUSR1, 0)?;
            ready.open()?;
            until(|| signal::count(c::SIGUSR1) > 0);
            Ok(())
        })).collect::<Result<Vec<_>>>()?;
        for _ in 0..3 {
            ready.pass()?;
        }
        signal::record(c::SIGUSR1, 0)?;
        sys!(kill, 0, c::SIGUSR1)?;
        assert_eq!(signal::count(c::SIGUSR1), 1);
        for victim in victims {
            victim.succeeds()?;
        }
    }
    fn sigaction_returns_the_old_action() {
        assert_eq!(signal::action(c::SIGUSR1)?.0, c::SIG_DFL);
        signal::record(c::SIGUSR1, c::SA_RESTART | c::SA_NODEFER)?;
        let (handler, flags) = signal::action(c::SIGUSR1)?;
        assert!(handler > 1);
        let wanted = c::SA_RESTART | c::SA_NODEFER | c::SA_SIGINFO;
        assert_eq!(flags & wanted, wanted);
    }
    fn sigaction_errors() {
        let action = [0u64; 4];
        assert_errno(sys!(rt_sigaction, c::SIGKILL, &action, 0, 8), c::EINVAL);
        assert_errno(sys!(rt_sigaction, c::SIGSTOP, &action, 0, 8), c::EINVAL);
        assert_errno(sys!(rt_sigaction, 65, &action, 0, 8), c::EINVAL);
        assert_errno(sys!(rt_sigaction, 0, &action, 0, 8), c::EINVAL);
        assert_errno(sys!(rt_sigaction, c::SIGUSR1, &action, 0, 4), c::EINVAL);
        assert_errno(sys!(rt_sigaction, c::SIGUSR1, memory::hole()?, 0, 8), c::EFAULT);
        assert_errno(sys!(rt_sigaction, c::SIGUSR1, 0, memory::hole()?, 8), c::EFAULT);
        sys!(rt_sigaction, c::SIGKILL, 0, &mut [0u64; 4], 8)?;
    }
    fn blocked_signal_waits_until_it_is_unblocked() {
        signal::record(c::SIGUSR1, 0)?;
        signal::mask(c::SIG_BLOCK, bit(c::SIGUSR1))?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        let mut pending = 0u64;
        sys!(rt_sigpending, &mut pending, 8)?;
        assert_eq!((signal::count(c::SIGUSR1), pending), (0, bit(c::SIGUSR1)));
        signal::mask(c::SIG_UNBLOCK, bit(c::SIGUSR1))?;
        assert_eq!(signal::count(c::SIGUSR1), 1);
    }
    fn sigprocmask_never_blocks_kill_and_stop() {
        signal::mask(c::SIG_SETMASK, u64::MAX)?;
        let all = signal::mask(c::SIG_BLOCK, 0)?;
        assert_eq!(all, !(bit(c::SIGKILL) | bit(c::SIGSTOP)));
    }
    fn sigprocmask_errors() {
        assert_errno(sys!(rt_sigprocmask, 9, &0u64, 0, 8), c::EINVAL);
        assert_errno(sys!(rt_sigprocmask, c::SIG_BLOCK, &0u64, 0, 4), c::EINVAL);
        assert_errno(sys!(rt_sigprocmask, c::SIG_BLOCK, memory::hole()?, 0, 8), c::EFAULT);
        assert_errno(sys!(rt_sigprocmask, c::SIG_BLOCK, 0, memory::hole()?, 8), c::EFAULT);
        assert_errno(sys!(rt_sigpending, memory::hole()?, 8), c::EFAULT);
        assert_errno(sys!(rt_sigpending, 0, 9), c::EINVAL);
        sys!(rt_sigprocmask, 9, 0, 0, 8)?;
    }
    fn sigprocmask_tells_the_old_mask_after_the_change() {
        let (one, both) = (bit(c::SIGUSR1), bit(c::SIGUSR1) | bit(c::SIGUSR2));
        assert_errno(sys!(rt_sigprocmask, c::SIG_BLOCK, &one, memory::hole()?, 8), c::EFAULT);
        assert_eq!(signal::mask(c::SIG_BLOCK, 0)?, one);
        assert_errno(sys!(rt_sigprocmask, c::SIG_SETMASK, &both, memory::hole()?, 8), c::EFAULT);
        assert_eq!(signal::mask(c::SIG_UNBLOCK, one)?, both);
        assert_errno(sys!(rt_sigprocmask, c::SIG_SETMASK, &0u64, memory::hole()?, 8), c::EFAULT);
        assert_eq!(signal::mask(c::SIG_BLOCK, 0)?, 0);
        // Both at one place.
        let mut set = both;
        let place = &raw mut set as usize;
        sys!(rt_sigprocmask, c::SIG_SETMASK, place, place, 8)?;
        assert_eq!((memory::peek::<u64>(place), signal::mask(c::SIG_BLOCK, 0)?), (0, both));
    }
    fn sigprocmask_takes_whole_words() {
        let end = memory::hole()?;
        let page = memory::map_at(end - memory::PAGE, memory::PAGE)?;
        memory::fill(page, memory::PAGE, 0xff);
        for at in (end - 7..end).chain([0usize.wrapping_sub(8), 0usize.wrapping_sub(4), 1 << 47, (1 << 47) - 4]) {
            assert_errno(sys!(rt_sigprocmask, c::SIG_BLOCK, at, 0, 8), c::EFAULT);
            assert_errno(sys!(rt_sigprocmask, c::SIG_BLOCK, 0, at, 8), c::EFAULT);
        }
        assert_eq!(signal::mask(c::SIG_BLOCK, 0)?, 0);
        sys!(rt_sigprocmask, c::SIG_BLOCK, 0, end - 8, 8)?;
        assert_eq!(memory::peek::<u64>(end - 8), 0);
        sys!(rt_sigprocmask, c::SIG_BLOCK, end - 8, 0, 8)?;
    }
    fn standard_signals_merge_and_realtime_ones_queue() {
        signal::record(c::SIGUSR1, 0)?;
        signal::record(40, 0)?;
        signal::mask(c::SIG_BLOCK, bit(c::SIGUSR1) | bit(40))?;
        for _ in 0..5 {
            sys!(kill, pid()?, c::SIGUSR1)?;
            sys!(kill, pid()?, 40)?;
        }
        signal::mask(c::SIG_SETMASK, 0)?;
        assert_eq!((signal::count(c::SIGUSR1), signal::count(40)), (1, 5));
    }
    fn pending_signals_come_lowest_first() {
        let all = [64, 34, 50, c::SIGTERM, c::SIGUSR1];
        let mut set = 0;
        for number in all {
            // A mask over all, so that one handler ends before the next begins.
            signal::record_masked(number, 0, u64::MAX)?;
            set |= bit(number);
        }
        signal::mask(c::SIG_BLOCK, set)?;
        for number in all {
            sys!(kill, pid()?, number)?;
        }
        signal::mask(c::SIG_UNBLOCK, set)?;
        assert_eq!(signal::order(), [c::SIGUSR1, c::SIGTERM, 34, 50, 64]);
    }
    fn queued_signal_carries_a_value() {
        signal::record(c::SIGUSR1, 0)?;
        let info = queue_info(c::SIGUSR1, c::SI_QUEUE, 0x1234_5678_9abc);
        sys!(rt_sigqueueinfo, pid()?, c::SIGUSR1, &info)?;
        assert_eq!((LAST.value.load(SeqCst), LAST.code.load(SeqCst)), (0x1234_5678_9abc, c::SI_QUEUE));
        sys!(rt_tgsigqueueinfo, pid()?, tid()?, c::SIGUSR1, &info)?;
        assert_eq!(signal::count(c::SIGUSR1), 2);
    }
    fn queueing_errors() {
        let info = queue_info(c::SIGUSR1, c::SI_USER, 0);
        child(|| {
            assert_errno(sys!(rt_sigqueueinfo, sys!(getppid)?, c::SIGUSR1, &info), c::EPERM);
            Ok(())
        })?.succeeds()?;
        let info = queue_info(c::SIGUSR1, c::SI_QUEUE, 0);
        assert_errno(sys!(rt_sigqueueinfo, 999_999_999, c::SIGUSR1, &info), c::ESRCH);
        assert_errno(sys!(rt_sigqueueinfo, pid()?, 99, &info), c::EINVAL);
        assert_errno(sys!(rt_sigqueueinfo, pid()?, c::SIGUSR1, memory::hole()?), c::EFAULT);
    }
    fn handler_blocks_its_signal_and_its_mask() {
        signal::record_masked(c::SIGUSR1, 0, bit(c::SIGUSR2))?;
        signal::mask(c::SIG_SETMASK, bit(c::SIGHUP))?;
        signal::handle(c::SIGTERM, notes_mask, 0)?;
        sys!(kill, pid()?, c::SIGTERM)?;
        assert_eq!(MASK_SEEN.load(SeqCst) as u64, bit(c::SIGHUP) | bit(c::SIGTERM));
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert_eq!(LAST.mask.load(SeqCst), bit(c::SIGHUP));
        assert_eq!(signal::mask(c::SIG_BLOCK, 0)?, bit(c::SIGHUP));
    }
    fn handler_with_nodefer_nests() {
        signal::handle(c::SIGUSR1, raises_itself_twice, c::SA_NODEFER)?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert_eq!((DEPTH.load(SeqCst), DEEPEST.load(SeqCst)), (0, 3));
    }
    fn handler_without_nodefer_runs_one_after_another() {
        signal::handle(c::SIGUSR1, raises_itself_twice, 0)?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert_eq!((DEPTH.load(SeqCst), DEEPEST.load(SeqCst), RUNS.load(SeqCst)), (0, 1, 3));
    }
    fn handler_with_resethand_runs_once() {
        child(|| {
            signal::record(c::SIGUSR1, c::SA_RESETHAND)?;
            sys!(kill, pid()?, c::SIGUSR1)?;
            assert_eq!(signal::action(c::SIGUSR1)?.0, c::SIG_DFL);
            sys!(kill, pid()?, c::SIGUSR1)?;
            Ok(())
        })?.dies_of(c::SIGUSR1)?;
    }
    fn ignoring_drops_what_is_pending() {
        signal::mask(c::SIG_BLOCK, bit(c::SIGUSR1))?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        signal::ignore(c::SIGUSR1)?;
        let mut pending = 0u64;
        sys!(rt_sigpending, &mut pending, 8)?;
        assert_eq!(pending, 0);
    }
    fn default_actions() {
        for ignored in [c::SIGCHLD, c::SIGURG, c::SIGWINCH, c::SIGCONT] {
            sys!(kill, pid()?, ignored)?;
        }
        for number in [c::SIGQUIT, c::SIGABRT, c::SIGXCPU, c::SIGSYS, c::SIGPIPE, c::SIGPROF, c::SIGIO, c::SIGPWR] {
            let victim = child(|| {
                sys!(setrlimit, c::RLIMIT_CORE, &[0u64; 2])?;
                sys!(kill, pid()?, number)?;
                Ok(())
            })?;
            assert_eq!(victim.wait()? & 0x7f, number);
        }
    }
    fn stop_and_continue() {
        for number in [c::SIGSTOP, c::SIGTSTP, c::SIGTTIN, c::SIGTTOU] {
            let victim = child(|| {
                sys!(kill, pid()?, number)?;
                Ok(())
            })?;
            assert_eq!(wait(victim.pid, c::WUNTRACED)?, number << 8 | 0x7f);
            victim.kill(c::SIGCONT)?;
            victim.succeeds()?;
        }
    }
    fn stopped_process_handles_signals_after_it_goes_on() {
        let (ready, ends) = (Gate::new()?, pipe(0)?);
        let victim = child(|| {
            signal::record(c::SIGUSR1, 0)?;
            ready.open()?;
            until(|| signal::count(c::SIGUSR1) > 0);
            Ok(crate::kit::write(ends[1], b"handled")?)
        })?;
        ready.pass()?;
        victim.kill(c::SIGSTOP)?;
        wait(victim.pid, c::WUNTRACED)?;
        victim.kill(c::SIGUSR1)?;
        assert_eq!(sys!(wait4, victim.pid, 0, c::WNOHANG, 0)?, 0);
        victim.kill(c::SIGCONT)?;
        victim.succeeds()?;
        assert_eq!(read(ends[0], 99)?, b"handled");
    }
    fn stopped_process_can_be_killed() {
        let victim = child(|| loop { sys!(pause).ok(); })?;
        victim.kill(c::SIGSTOP)?;
        wait(victim.pid, c::WUNTRACED)?;
        victim.kill(c::SIGKILL)?;
        victim.dies_of(c::SIGKILL)?;
    }
    fn continue_is_handled_too() {
        let ready = Gate::new()?;
        let victim = child(|| {
            signal::record(c::SIGCONT, 0)?;
            ready.open()?;
            until(|| signal::count(c::SIGCONT) > 0);
            Ok(())
        })?;
        ready.pass()?;
        victim.kill(c::SIGSTOP)?;
        wait(victim.pid, c::WUNTRACED)?;
        victim.kill(c::SIGCONT)?;
        victim.succeeds()?;
    }
    fn pause_is_interrupted() {
        assert_interrupted(|| sys!(pause))?;
        assert_never_restarted(|| sys!(pause))?;
    }
    fn sigsuspend_waits_with_another_mask() {
        signal::record(c::SIGUSR1, c::SA_RESTART)?;
        signal::mask(c::SIG_SETMASK, bit(c::SIGUSR1) | bit(c::SIGHUP))?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert_errno(sys!(rt_sigsuspend, &bit(c::SIGHUP), 8), c::EINTR);
        assert_eq!(signal::count(c::SIGUSR1), 1);
        assert_eq!(signal::mask(c::SIG_BLOCK, 0)?, bit(c::SIGUSR1) | bit(c::SIGHUP));
        assert_errno(sys!(rt_sigsuspend, &0u64, 4), c::EINVAL);
        assert_errno(sys!(rt_sigsuspend, memory::hole()?, 8), c::EFAULT);
    }
    fn sigtimedwait_takes_the_signal() {
        signal::mask(c::SIG_BLOCK, bit(c::SIGUSR1))?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        let mut info: c::siginfo_t = sys::zeroed();
        assert_eq!(int(sys!(rt_sigtimedwait, &bit(c::SIGUSR1), &mut info, 0, 8)?), c::SIGUSR1);
        assert_eq!((info.si_signo, info.si_code), (c::SIGUSR1, c::SI_USER));
        assert_errno(sys!(rt_sigtimedwait, &bit(c::SIGUSR1), 0, &ms(0), 8), c::EAGAIN);
    }
    fn sigtimedwait_waits_for_another_process() {
        signal::mask(c::SIG_BLOCK, bit(c::SIGUSR1))?;
        let parent = pid()?;
        let info = queue_info(c::SIGUSR1, c::SI_QUEUE, 99);
        let sender = child(|| Ok(sys!(rt_sigqueueinfo, parent, c::SIGUSR1, &info).map(drop)?))?;
        let mut got: c::siginfo_t = sys::zeroed();
        sys!(rt_sigtimedwait, &bit(c::SIGUSR1), &mut got, 0, 8)?;
        assert_eq!(signal::value(&got), 99);
        sender.succeeds()?;
    }
    fn sigtimedwait_times_out_and_is_interrupted() {
        let begin = now(c::CLOCK_MONOTONIC)?;
        assert_errno(sys!(rt_sigtimedwait, &bit(c::SIGUSR2), 0, &ms(20), 8), c::EAGAIN);
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 20_000_000);
        assert_never_restarted(|| sys!(rt_sigtimedwait, &bit(c::SIGUSR2), 0, 0, 8))?;
        let bad = c::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
        assert_errno(sys!(rt_sigtimedwait, &bit(c::SIGUSR2), 0, &bad, 8), c::EINVAL);
        assert_errno(sys!(rt_sigtimedwait, &bit(c::SIGUSR2), 0, 0, 9), c::EINVAL);
        assert_errno(sys!(rt_sigtimedwait, memory::hole()?, 0, 0, 8), c::EFAULT);
    }
    fn process_signal_goes_to_a_thread_that_lets_it_in() {
        signal::record(c::SIGUSR1, 0)?;
        let stop = Gate::new()?;
        signal::mask(c::SIG_BLOCK, bit(c::SIGUSR1))?;
        std::thread::scope(|scope| {
            let open = scope.spawn(|| {
                signal::mask(c::SIG_UNBLOCK, bit(c::SIGUSR1))?;
                until(|| signal::count(c::SIGUSR1) > 0);
                stop.open()?;
                sys!(gettid)
            });
            sys!(kill, pid()?, c::SIGUSR1)?;
            stop.pass()?;
            let Ok(Ok(thread)) = open.join() else { panic!("the thread failed") };
            assert_eq!(i64::from(LAST.thread.load(SeqCst)), thread);
            Ok::<(), crate::kit::Fail>(())
        })?;
    }
    fn signal_interrupts_computing() {
        signal::record(c::SIGUSR1, 0)?;
        let me = pid()?;
        let sender = child(|| Ok(sys!(kill, me, c::SIGUSR1).map(drop)?))?;
        while signal::count(c::SIGUSR1) == 0 {
            core::hint::spin_loop();
        }
        sender.succeeds()?;
    }
    fn alternate_stack_is_used_on_request() {
        let stack = memory::pages(8)?;
        let new = [stack, 0, 8 * memory::PAGE];
        sys!(sigaltstack, &new, 0)?;
        signal::record(c::SIGUSR1, c::SA_ONSTACK)?;
        signal::record(c::SIGUSR2, 0)?;
        let on_it = || (stack..stack + 8 * memory::PAGE).contains(&LAST.frame.load(SeqCst));
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert!(on_it());
        sys!(kill, pid()?, c::SIGUSR2)?;
        assert!(!on_it());
        let mut old = [0usize; 3];
        sys!(sigaltstack, 0, &mut old)?;
        assert_eq!((old[0], old[1] & 0xffff_ffff, old[2]), (stack, 0, 8 * memory::PAGE));
    }
    fn alternate_stack_of_8_kib_holds_a_frame() {
        // SIGSTKSZ, below which nothing is mapped.
        let stack = memory::pages(4)? + 2 * memory::PAGE;
        sys!(munmap, stack - 2 * memory::PAGE, 2 * memory::PAGE)?;
        sys!(sigaltstack, &[stack, 0, 2 * memory::PAGE], 0)?;
        signal::record(c::SIGUSR1, c::SA_ONSTACK)?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert!((stack..stack + 2 * memory::PAGE).contains(&LAST.frame.load(SeqCst)));
    }
    fn alternate_stack_errors() {
        let stack = memory::pages(8)?;
        assert_errno(sys!(sigaltstack, &[stack, 0, 1000], 0), c::ENOMEM);
        assert_errno(sys!(sigaltstack, &[stack, 99, 8 * memory::PAGE], 0), c::EINVAL);
        assert_errno(sys!(sigaltstack, memory::hole()?, 0), c::EFAULT);
        assert_errno(sys!(sigaltstack, 0, memory::hole()?), c::EFAULT);
        ALT_STACK.store(stack, SeqCst);
        sys!(sigaltstack, &[stack, 0, 8 * memory::PAGE], 0)?;
        signal::handle(c::SIGUSR1, changes_alternate_stack, c::SA_ONSTACK)?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        assert_eq!(ALT_RESULT.load(SeqCst), c::EPERM);
    }
    fn signal_while_blocked_in_a_thread_wakes_only_that_thread() {
        signal::record(c::SIGUSR1, 0)?;
        let (ends, ready) = (pipe(0)?, Gate::new()?);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                ready.open()?;
                read(ends[0], 1)
            });
            ready.pass()?;
            for _ in 0..20 {
                sys!(tgkill, pid()?, tid()?, c::SIGUSR1)?;
            }
            crate::kit::write(ends[1], b"x")?;
            let Ok(Ok(byte)) = sleeper.join() else { panic!("the other thread was interrupted") };
            assert_eq!(byte, b"x");
            Ok::<(), crate::kit::Fail>(())
        })?;
    }
    fn sigkill_ends_all_threads_in_any_sleep() {
        let ready = Gate::new()?;
        let victim = child(|| {
            let ends = pipe(0)?;
            std::thread::spawn(move || read(ends[0], 1));
            std::thread::spawn(|| loop { core::hint::spin_loop(); });
            std::thread::spawn(|| sys!(futex, &0u32, c::FUTEX_WAIT, 0, 0));
            ready.open()?;
            loop { sys!(pause).ok(); }
        })?;
        ready.pass()?;
        victim.kill(c::SIGKILL)?;
        victim.dies_of(c::SIGKILL)?;
    }
    fn a_queue_without_room_is_eagain() {
        sys!(setrlimit, c::RLIMIT_SIGPENDING, &[0u64, 0])?;
        signal::mask(c::SIG_BLOCK, bit(40) | bit(c::SIGUSR1))?;
        let info = queue_info(40, c::SI_QUEUE, 1);
        for result in [
            sys!(rt_sigqueueinfo, pid()?, 40, &info),
            sys!(rt_tgsigqueueinfo, pid()?, tid()?, 40, &info),
            sys!(tkill, tid()?, 40),
            sys!(tgkill, pid()?, tid()?, 40),
            sys!(timer_create, c::CLOCK_MONOTONIC, 0, &mut 0i32),
        ] {
            assert_errno(result, c::EAGAIN);
        }
        // kill(2) never fails so, nor do standard signals: what they tell is lost.
        sys!(kill, pid()?, 40)?;
        sys!(tkill, tid()?, c::SIGUSR1)?;
        let mut pending = 0u64;
        sys!(rt_sigpending, &mut pending, 8)?;
        assert_eq!(pending, bit(40) | bit(c::SIGUSR1));
    }
    fn waits_with_a_wrong_size_or_time() {
        assert_errno(sys!(rt_sigsuspend, &0u64, 7), c::EINVAL);
        assert_errno(sys!(rt_sigpending, memory::pages(1)?, 16), c::EINVAL);
        assert_errno(sys!(rt_sigtimedwait, &0u64, 0, &c::timespec { tv_sec: -1, tv_nsec: 0 }, 8), c::EINVAL);
        assert_errno(sys!(signalfd4, -1, &0u64, 16, 0), c::EINVAL);
        assert_errno(sys!(signalfd, -1, &0u64, 4), c::EINVAL);
        assert_errno(sys!(sigaltstack, &[0usize, 0x10, 8192], 0), c::EINVAL);
        for number in [-1, 65] {
            assert_errno(sys!(tkill, tid()?, number), c::EINVAL);
            assert_errno(sys!(tgkill, pid()?, tid()?, number), c::EINVAL);
            assert_errno(sys!(rt_tgsigqueueinfo, pid()?, tid()?, number, &queue_info(0, c::SI_QUEUE, 0)), c::EINVAL);
        }
    }
    fn another_process_is_not_told_of_kernel_codes() {
        let info = queue_info(c::SIGUSR1, c::SI_TKILL, 0);
        child(|| {
            let parent = sys!(getppid)?;
            assert_errno(sys!(rt_sigqueueinfo, parent, c::SIGUSR1, &info), c::EPERM);
            assert_errno(sys!(rt_tgsigqueueinfo, parent, parent, c::SIGUSR1, &info), c::EPERM);
            Ok(())
        })?.succeeds()?;
    }
}

static MASK_SEEN: AtomicUsize = AtomicUsize::new(0);
static DEPTH: AtomicI32 = AtomicI32::new(0);
static DEEPEST: AtomicI32 = AtomicI32::new(0);
static RUNS: AtomicI32 = AtomicI32::new(0);
static ALT_STACK: AtomicUsize = AtomicUsize::new(0);
static ALT_RESULT: AtomicI32 = AtomicI32::new(-1);

extern "C" fn notes_mask(_: i32) {
    let mask = signal::mask(c::SIG_BLOCK, 0).unwrap_or(0);
    MASK_SEEN.store(usize::try_from(mask).unwrap_or(0), SeqCst);
}

extern "C" fn expects_usr2(_: i32) {
    expects(bit(c::SIGUSR2));
}

extern "C" fn expects_hup(_: i32) {
    expects(bit(c::SIGHUP));
}

/// Counts how often it runs, and how often with another mask.
fn expects(own: u64) {
    HANDLED.fetch_add(1, SeqCst);
    let mask = signal::mask(c::SIG_BLOCK, 0).unwrap_or(0) & (bit(c::SIGUSR2) | bit(c::SIGHUP));
    MASK_SEEN.fetch_add(usize::from(mask != own), SeqCst);
}

extern "C" fn raises_itself_twice(_: i32) {
    let depth = DEPTH.fetch_add(1, SeqCst) + 1;
    DEEPEST.fetch_max(depth, SeqCst);
    if RUNS.fetch_add(1, SeqCst) < 2 {
        let _ = sys!(kill, sys!(getpid).unwrap_or(0), c::SIGUSR1);
    }
    DEPTH.fetch_sub(1, SeqCst);
}

extern "C" fn changes_alternate_stack(_: i32) {
    let new = [ALT_STACK.load(SeqCst), 0, 4 * memory::PAGE];
    ALT_RESULT.store(sys!(sigaltstack, &new, 0).err().map_or(0, |e| e.0), SeqCst);
}

/// A siginfo as sigqueue(3) makes it.
fn queue_info(number: i32, code: i32, value: u64) -> [u64; 16] {
    let mut info = [0u64; 16];
    info[0] = u64::from(number.cast_unsigned());
    info[1] = u64::from(code.cast_unsigned());
    info[3] = value;
    info
}

/// Where a counter lies that processes share.
static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn counts_in_shared_word(_: i32) {
    memory::atomic(HANDLED.load(SeqCst)).fetch_add(1, SeqCst);
}

extern "C" fn counts_in_shared_memory(_: i32) {
    memory::atomic64(HANDLED.load(SeqCst)).fetch_add(1, SeqCst);
}

extern "C" fn raises_itself(signal: i32) {
    let me = sys!(getpid).unwrap_or(0);
    let _ = sys!(kill, me, signal);
}

static STACK_FLAGS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn notes_stack(_: i32) {
    let mut old = [0usize; 3];
    let _ = sys!(sigaltstack, 0, &mut old);
    STACK_FLAGS.store(old[1] & 0xffff_ffff, SeqCst);
}
