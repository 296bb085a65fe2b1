//! Clocks, sleeping, timers that send signals, processor time.

use crate::kit::{Case, as_nobody, assert_errno, assert_never_restarted, cases, child, int, ms, now, pestered, pid, tid, until};
use crate::sys::{self, Result, memory, signal, sys};
use core::sync::atomic::Ordering::SeqCst;
use libc as c;

const CLOCKS: [i32; 9] = [
    c::CLOCK_REALTIME, c::CLOCK_MONOTONIC, c::CLOCK_PROCESS_CPUTIME_ID, c::CLOCK_THREAD_CPUTIME_ID,
    c::CLOCK_MONOTONIC_RAW, c::CLOCK_REALTIME_COARSE, c::CLOCK_MONOTONIC_COARSE, c::CLOCK_BOOTTIME, c::CLOCK_TAI,
];

cases! { time;
    fn clocks_go_forward() {
        for clock in CLOCKS {
            let first = now(clock)?;
            assert!(first >= 0);
            assert!(now(clock)? >= first, "clock {clock}");
        }
    }
    fn clock_errors() {
        let mut time = ms(0);
        assert_errno(sys!(clock_gettime, 99, &mut time), c::EINVAL);
        assert_errno(sys!(clock_gettime, c::CLOCK_MONOTONIC, memory::hole()?), c::EFAULT);
        assert_errno(sys!(clock_getres, 99, &mut time), c::EINVAL);
        assert_errno(sys!(clock_settime, c::CLOCK_MONOTONIC, &time), c::EINVAL);
        assert_errno(sys!(clock_settime, 99, &time), c::EINVAL);
    }
    fn clock_resolutions() {
        for clock in CLOCKS {
            let mut time = ms(0);
            sys!(clock_getres, clock, &mut time)?;
            assert!(time.tv_sec == 0 && (1..=10_000_000).contains(&time.tv_nsec), "clock {clock}");
        }
        sys!(clock_getres, c::CLOCK_MONOTONIC, 0)?;
    }
    fn times_agree() {
        let before = now(c::CLOCK_REALTIME)? / 1_000_000_000;
        let mut day: c::timeval = sys::zeroed();
        sys!(gettimeofday, &mut day, 0)?;
        let seconds = sys!(time, 0)?;
        let mut stored = 0i64;
        let again = sys!(time, &mut stored)?;
        let after = now(c::CLOCK_REALTIME)? / 1_000_000_000;
        assert!(before <= day.tv_sec && day.tv_sec <= after);
        // time(2) reads the coarse clock, a tick behind.
        assert!(before - 1 <= seconds && seconds <= again && again <= after);
        assert_eq!(stored, again);
        assert_errno(sys!(gettimeofday, memory::hole()?, 0), c::EFAULT);
        assert_errno(sys!(time, memory::hole()?), c::EFAULT);
    }
    fn library_clocks_agree_with_the_calls() {
        let before = now(c::CLOCK_MONOTONIC)?;
        let instant = std::time::Instant::now();
        let wall = std::time::SystemTime::now();
        assert!(instant.elapsed().as_secs() < 100);
        let since_epoch = wall.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        assert!((now(c::CLOCK_REALTIME)? / 1_000_000_000).abs_diff(since_epoch.cast_signed()) < 100);
        assert!(now(c::CLOCK_MONOTONIC)? >= before);
    }
    fn processor_time_is_what_was_used() {
        let begin = now(c::CLOCK_PROCESS_CPUTIME_ID)?;
        let wall = now(c::CLOCK_MONOTONIC)?;
        until(|| now(c::CLOCK_MONOTONIC).is_ok_and(|t| t - wall > 20_000_000));
        let used = now(c::CLOCK_PROCESS_CPUTIME_ID)? - begin;
        assert!(used > 0 && used <= now(c::CLOCK_MONOTONIC)? - wall + 20_000_000);
        assert!(now(c::CLOCK_THREAD_CPUTIME_ID)? <= now(c::CLOCK_PROCESS_CPUTIME_ID)? + 1_000_000);
    }
    fn nanosleep_sleeps() {
        let begin = now(c::CLOCK_MONOTONIC)?;
        sys!(nanosleep, &ms(20), 0)?;
        assert!(now(c::CLOCK_MONOTONIC)? - begin >= 20_000_000);
        sys!(nanosleep, &ms(0), 0)?;
    }
    fn nanosleep_errors() {
        let bad = |tv_sec, tv_nsec| c::timespec { tv_sec, tv_nsec };
        assert_errno(sys!(nanosleep, &bad(0, 1_000_000_000), 0), c::EINVAL);
        assert_errno(sys!(nanosleep, &bad(0, -1), 0), c::EINVAL);
        assert_errno(sys!(nanosleep, &bad(-1, 0), 0), c::EINVAL);
        assert_errno(sys!(nanosleep, memory::hole()?, 0), c::EFAULT);
    }
    fn nanosleep_interrupted_tells_what_is_left() {
        let mut left = ms(0);
        assert_errno(pestered(c::SA_RESTART, || sys!(nanosleep, &ms(60_000), &mut left))?, c::EINTR);
        assert!((40..=60).contains(&left.tv_sec), "{} s left", left.tv_sec);
    }
    fn nanosleep_goes_on_after_a_stop() {
        let sleeper = child(|| {
            let begin = now(c::CLOCK_MONOTONIC)?;
            sys!(nanosleep, &ms(100), 0)?;
            assert!(now(c::CLOCK_MONOTONIC)? - begin >= 100_000_000);
            Ok(())
        })?;
        for _ in 0..3 {
            sleeper.kill(c::SIGSTOP)?;
            crate::kit::wait(sleeper.pid, c::WUNTRACED)?;
            sleeper.kill(c::SIGCONT)?;
        }
        sleeper.succeeds()?;
    }
    fn clock_nanosleep_until_a_time() {
        let end = now(c::CLOCK_MONOTONIC)? + 20_000_000;
        let deadline = c::timespec { tv_sec: end / 1_000_000_000, tv_nsec: end % 1_000_000_000 };
        sys!(clock_nanosleep, c::CLOCK_MONOTONIC, c::TIMER_ABSTIME, &deadline, 0)?;
        assert!(now(c::CLOCK_MONOTONIC)? >= end);
        sys!(clock_nanosleep, c::CLOCK_REALTIME, c::TIMER_ABSTIME, &ms(1), 0)?;
        sys!(clock_nanosleep, c::CLOCK_REALTIME, 0, &ms(1), 0)?;
    }
    fn clock_nanosleep_errors() {
        assert_errno(sys!(clock_nanosleep, 99, 0, &ms(1), 0), c::EINVAL);
        assert_errno(sys!(clock_nanosleep, c::CLOCK_THREAD_CPUTIME_ID, 0, &ms(1), 0), c::ENOTSUP);
        let bad = c::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
        assert_errno(sys!(clock_nanosleep, c::CLOCK_MONOTONIC, 0, &bad, 0), c::EINVAL);
        assert_errno(sys!(clock_nanosleep, c::CLOCK_MONOTONIC, 0, memory::hole()?, 0), c::EFAULT);
        let far = c::timespec { tv_sec: i64::MAX / 2_000_000_000, tv_nsec: 0 };
        assert_never_restarted(|| sys!(clock_nanosleep, c::CLOCK_MONOTONIC, c::TIMER_ABSTIME, &far, 0))?;
    }
    fn alarm_comes_to_a_computing_process() {
        signal::record(c::SIGALRM, 0)?;
        assert_eq!(sys!(alarm, 1)?, 0);
        while signal::count(c::SIGALRM) == 0 {
            core::hint::spin_loop();
        }
        assert_eq!(signal::LAST.code.load(SeqCst), 0x80);
    }
    fn alarm_returns_and_cancels_the_old_one() {
        assert_eq!(sys!(alarm, 100)?, 0);
        assert!((99..=100).contains(&sys!(alarm, 0)?));
        assert_eq!(sys!(alarm, 0)?, 0);
    }
    fn interval_timer_repeats() {
        signal::record(c::SIGALRM, c::SA_RESTART)?;
        set_itimer(c::ITIMER_REAL, 2_000, 2_000)?;
        until(|| signal::count(c::SIGALRM) >= 5);
        let (off, mut old) = ([0i64; 4], [0i64; 4]);
        sys!(setitimer, c::ITIMER_REAL, &off, &mut old)?;
        assert_eq!(old[..2], [0, 2_000]);
    }
    fn interval_timer_of_processor_time() {
        signal::record(c::SIGVTALRM, 0)?;
        signal::record(c::SIGPROF, 0)?;
        set_itimer(c::ITIMER_VIRTUAL, 10_000, 0)?;
        while signal::count(c::SIGVTALRM) == 0 {
            core::hint::spin_loop();
        }
        set_itimer(c::ITIMER_PROF, 10_000, 0)?;
        while signal::count(c::SIGPROF) == 0 {
            core::hint::spin_loop();
        }
    }
    fn interval_timer_errors_and_fork() {
        assert_errno(sys!(setitimer, 9, &[0i64; 4], 0), c::EINVAL);
        assert_errno(sys!(setitimer, c::ITIMER_REAL, &[0i64, 0, 0, 1_000_000], 0), c::EINVAL);
        assert_errno(sys!(getitimer, 9, &mut [0i64; 4]), c::EINVAL);
        assert_errno(sys!(getitimer, c::ITIMER_REAL, memory::hole()?), c::EFAULT);
        sys!(setitimer, c::ITIMER_REAL, &[0i64, 0, 100, 0], 0)?;
        child(|| {
            let mut mine = [9i64; 4];
            sys!(getitimer, c::ITIMER_REAL, &mut mine)?;
            assert_eq!(mine, [0; 4]);
            Ok(())
        })?.succeeds()?;
        let mut mine = [0i64; 4];
        sys!(getitimer, c::ITIMER_REAL, &mut mine)?;
        assert!(mine[2] > 90);
    }
    fn default_action_of_the_timer_kills() {
        let victim = child(|| {
            set_itimer(c::ITIMER_REAL, 1_000, 0)?;
            loop { sys!(pause).ok(); }
        })?;
        victim.dies_of(c::SIGALRM)?;
    }
    fn posix_timer_sends_its_signal_and_value() {
        signal::record(c::SIGUSR2, 0)?;
        let id = create_timer(c::CLOCK_MONOTONIC, c::SIGEV_SIGNAL, c::SIGUSR2, 0x77)?;
        set_posix_timer(id, 2, 0)?;
        until(|| signal::count(c::SIGUSR2) > 0);
        assert_eq!((signal::LAST.code.load(SeqCst), signal::LAST.value.load(SeqCst)), (c::SI_TIMER, 0x77));
        sys!(timer_delete, id)?;
        assert_errno(sys!(timer_delete, id), c::EINVAL);
    }
    fn posix_timer_repeats_and_counts_overruns() {
        signal::mask(c::SIG_BLOCK, signal::bit(c::SIGUSR2))?;
        let id = create_timer(c::CLOCK_MONOTONIC, c::SIGEV_SIGNAL, c::SIGUSR2, 0)?;
        let begin = now(c::CLOCK_MONOTONIC)?;
        set_posix_timer(id, 1, 1)?;
        until(|| now(c::CLOCK_MONOTONIC).is_ok_and(|t| t - begin > 30_000_000));
        let mut info: c::siginfo_t = sys::zeroed();
        sys!(rt_sigtimedwait, &signal::bit(c::SIGUSR2), &mut info, 0, 8)?;
        assert!(sys!(timer_getoverrun, id)? >= 20);
    }
    fn posix_timer_for_one_thread() {
        signal::record(c::SIGUSR2, 0)?;
        let mine = tid()?;
        let id = create_timer(c::CLOCK_MONOTONIC, c::SIGEV_THREAD_ID, c::SIGUSR2, 0)?;
        set_posix_timer(id, 1, 0)?;
        until(|| signal::count(c::SIGUSR2) > 0);
        assert_eq!(signal::LAST.thread.load(SeqCst), mine);
    }
    fn posix_timer_without_a_signal() {
        let id = create_timer(c::CLOCK_REALTIME, c::SIGEV_NONE, 0, 0)?;
        set_posix_timer(id, 60_000, 0)?;
        let mut left: c::itimerspec = sys::zeroed();
        sys!(timer_gettime, id, &mut left)?;
        assert!((50..=60).contains(&left.it_value.tv_sec));
        assert_eq!(sys!(timer_getoverrun, id)?, 0);
    }
    fn posix_timer_errors() {
        assert_errno(create_timer(99, c::SIGEV_NONE, 0, 0), c::EINVAL);
        assert_errno(create_timer(c::CLOCK_MONOTONIC, c::SIGEV_SIGNAL, 99, 0), c::EINVAL);
        assert_errno(create_timer(c::CLOCK_MONOTONIC, 99, c::SIGUSR1, 0), c::EINVAL);
        assert_errno(sys!(timer_gettime, 12345, memory::pages(1)?), c::EINVAL);
        assert_errno(sys!(timer_settime, 12345, 0, &[0u64; 4], 0), c::EINVAL);
        let id = create_timer(c::CLOCK_MONOTONIC, c::SIGEV_NONE, 0, 0)?;
        assert_errno(sys!(timer_settime, id, 0, &[0u64, 0, 0, 1_000_000_000], 0), c::EINVAL);
        assert_errno(sys!(timer_settime, id, 0, 0, 0), c::EINVAL);
        assert_errno(sys!(timer_settime, id, 0, memory::hole()?, 0), c::EFAULT);
    }
    fn posix_timers_are_not_inherited() {
        let id = create_timer(c::CLOCK_MONOTONIC, c::SIGEV_NONE, 0, 0)?;
        child(|| {
            assert_errno(sys!(timer_gettime, id, memory::pages(1)?), c::EINVAL);
            Ok(())
        })?.succeeds()?;
    }
    fn times_and_getrusage() {
        let mut used: c::tms = sys::zeroed();
        let first = sys!(times, &mut used)?;
        assert!(sys!(times, 0)? >= first);
        assert_errno(sys!(times, memory::hole()?), c::EFAULT);
        let mut usage: c::rusage = sys::zeroed();
        for who in [c::RUSAGE_SELF, c::RUSAGE_CHILDREN, c::RUSAGE_THREAD] {
            sys!(getrusage, who, &mut usage)?;
        }
        assert_errno(sys!(getrusage, 99, &mut usage), c::EINVAL);
        assert_errno(sys!(getrusage, c::RUSAGE_SELF, memory::hole()?), c::EFAULT);
    }
    fn clock_of_another_process() {
        let me = pid()?;
        child(|| {
            let clock = (!me << 3) | 2;
            assert!(now(clock)? > 0);
            assert_errno(now((!999_999_999 << 3) | 2), c::EINVAL);
            Ok(())
        })?.succeeds()?;
    }
    fn times_that_are_none() {
        for bad in [c::timespec { tv_sec: 0, tv_nsec: -1 }, c::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }, c::timespec { tv_sec: -1, tv_nsec: 0 }] {
            assert_errno(sys!(clock_settime, c::CLOCK_REALTIME, &bad), c::EINVAL);
            assert_errno(sys!(clock_nanosleep, c::CLOCK_REALTIME, 0, &bad, 0), c::EINVAL);
            assert_errno(sys!(nanosleep, &bad, 0), c::EINVAL);
        }
        assert_errno(sys!(settimeofday, &[0i64, 1_000_000], 0), c::EINVAL);
        assert_errno(sys!(settimeofday, 0, &[16 * 60i32, 0]), c::EINVAL);
        assert_errno(sys!(setitimer, c::ITIMER_PROF, &[0i64, 0, -1, 0], 0), c::EINVAL);
        assert_errno(sys!(setitimer, c::ITIMER_REAL, &[0i64, -1, 0, 0], 0), c::EINVAL);
        let mut change = [0u64; 26];
        (change[0], change[11]) = (0x4000, 1);
        assert_errno(sys!(adjtimex, &mut change), c::EINVAL);
        assert_errno(sys!(clock_adjtime, c::CLOCK_REALTIME, &mut change), c::EINVAL);
        assert_errno(sys!(clock_adjtime, 99, &mut [0u64; 26]), c::EINVAL);
        assert_errno(sys!(clock_adjtime, c::CLOCK_MONOTONIC, &mut [0u64; 26]), c::EOPNOTSUPP);
        assert_errno(sys!(clock_nanosleep, c::CLOCK_MONOTONIC_COARSE, 0, &ms(1), 0), c::EOPNOTSUPP);
        assert_errno(sys!(timerfd_create, c::CLOCK_PROCESS_CPUTIME_ID, 0), c::EINVAL);
        assert_errno(sys!(timer_create, c::CLOCK_MONOTONIC_RAW, 0, &mut 0i32), c::EOPNOTSUPP);
    }
    fn alarms_that_wake_the_machine_are_not_for_everyone() {
        const REALTIME_ALARM: i32 = 8;
        const BOOTTIME_ALARM: i32 = 9;
        as_nobody(|| {
            for clock in [REALTIME_ALARM, BOOTTIME_ALARM] {
                assert_errno(sys!(timerfd_create, clock, 0), c::EPERM);
            }
            Ok(())
        })?;
    }
}

fn set_itimer(which: i32, value_us: i64, interval_us: i64) -> Case {
    sys!(setitimer, which, &[0, interval_us, 0, value_us], 0)?;
    Ok(())
}

/// timer_create(2): a `sigevent` is value, signal, kind and thread id.
fn create_timer(clock: i32, notify: i32, number: i32, value: u64) -> Result<i32> {
    let thread = u64::from(tid()?.cast_unsigned());
    let words = u64::from(number.cast_unsigned()) | u64::from(notify.cast_unsigned()) << 32;
    let mut id = 0i32;
    sys!(timer_create, clock, &[value, words, thread, 0, 0, 0, 0, 0], &mut id)?;
    Ok(id)
}

fn set_posix_timer(id: i32, value_ms: i64, interval_ms: i64) -> Result<()> {
    let setting = c::itimerspec { it_value: ms(value_ms), it_interval: ms(interval_ms) };
    sys!(timer_settime, id, 0, &setting, 0).map(int).map(drop)
}
