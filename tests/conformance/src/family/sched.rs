//! Scheduling, limits, and the calls that runtimes make of their threads.

use crate::kit::{as_nobody, assert_errno, cases, child, file, int, need_root, or_skip, pid, pipe, tid};
use crate::sys::{self, Result, memory, process, signal, sys};
use core::sync::atomic::Ordering::SeqCst;
use libc as c;

cases! { sched;
    fn who_has_ended_is_scheduled_until_waited_for() {
        let ended = child(|| {
            sys!(setpriority, c::PRIO_PROCESS, 0, 5)?;
            Ok(())
        })?;
        let (id, mut info) = (ended.pid, sys::zeroed::<c::siginfo_t>());
        sys!(waitid, c::P_PID, id, &mut info, c::WEXITED | c::WNOWAIT, 0)?;
        let (mut priority, mut all, mut time) = (7i32, [0u64; 16], crate::kit::ms(0));
        assert_eq!((sys!(sched_getscheduler, id)?, sys!(sched_getparam, id, &mut priority)?, priority), (0, 0, 0));
        sys!(sched_setscheduler, id, c::SCHED_BATCH, &0i32)?;
        assert_eq!(sys!(sched_getscheduler, id)?, i64::from(c::SCHED_BATCH));
        sys!(sched_setparam, id, &0i32)?;
        assert_errno(sys!(sched_setparam, id, &1i32), c::EINVAL);
        assert!(sys!(sched_getaffinity, id, 128, &mut all)? >= 8);
        sys!(sched_setaffinity, id, 128, &all)?;
        sys!(sched_rr_get_interval, id, &mut time)?;
        let mut attributes = [0u64; 8];
        sys!(sched_getattr, id, &mut attributes, 64, 0)?;
        assert_eq!(attributes[0] >> 32, c::SCHED_BATCH as u64);
        assert_eq!(sys!(getpriority, c::PRIO_PROCESS, id)?, 15);
        sys!(setpriority, c::PRIO_PROCESS, id, 6)?;
        assert_eq!(sys!(getpriority, c::PRIO_PROCESS, id)?, 14);
        sys!(setpgid, id, id)?;
        assert_eq!(sys!(getpriority, c::PRIO_PGRP, id)?, 14);
        sys!(ioprio_set, 1, id, 2 << 13 | 3)?;
        assert_eq!(sys!(ioprio_get, 1, id)?, 0);
        sys!(prlimit64, id, c::RLIMIT_NOFILE, 0, &mut [0u64; 2])?;
        assert_eq!((sys!(tgkill, id, id, 0)?, sys!(tkill, id, c::SIGTERM)?), (0, 0));
        ended.wait()?;
        assert_errno(sys!(sched_getscheduler, id), c::ESRCH);
        assert_errno(sys!(getpriority, c::PRIO_PROCESS, id), c::ESRCH);
        assert_errno(sys!(prlimit64, id, c::RLIMIT_NOFILE, 0, 0), c::ESRCH);
        assert_errno(sys!(tgkill, id, id, 0), c::ESRCH);
    }
    fn kcmp_of_transfers_adjustments_and_the_ended() {
        const IO: i32 = 5;
        const SYSVSEM: i32 = 6;
        let me = pid()?;
        let compare = |other: i32, what: i32| sys!(kcmp, me, other, what, 0, 0);
        or_skip(compare(me, IO), &[c::ENOSYS, c::EPERM], "kcmp")?;
        let set = crate::ipc::Semaphores::new(1)?;
        let gate = crate::kit::Gate::new()?;
        let other = child(|| Ok(gate.pass()?))?;
        assert_eq!((compare(other.pid, IO)?, compare(other.pid, SYSVSEM)?), (0, 0));
        sys!(ioprio_set, 1, 0, 2 << 13 | 3)?;
        set.operate(&[(0, 1, c::SEM_UNDO)])?;
        assert_ne!((compare(other.pid, IO)?, compare(other.pid, SYSVSEM)?), (0, 0));
        assert!(compare(other.pid, IO)? != 0 && compare(other.pid, SYSVSEM)? != 0);
        assert_eq!((compare(me, IO)?, compare(me, SYSVSEM)?), (0, 0));
        // A child has its own of both.
        child(|| {
            assert_ne!(sys!(kcmp, pid()?, me, IO, 0, 0)?, 0);
            assert_ne!(sys!(kcmp, pid()?, me, SYSVSEM, 0, 0)?, 0);
            Ok(())
        })?.succeeds()?;
        gate.open()?;
        let mut info = sys::zeroed::<c::siginfo_t>();
        sys!(waitid, c::P_PID, other.pid, &mut info, c::WEXITED | c::WNOWAIT, 0)?;
        for what in 1..=3 {
            assert!(compare(other.pid, what)? != 0, "{what}");
        }
        assert_errno(compare(other.pid, 0), c::EBADF);
        other.succeeds()?;
    }
    fn yield_and_cpu_number() {
        assert_eq!(sys!(sched_yield)?, 0);
        let (mut cpu, mut node) = (u32::MAX, u32::MAX);
        sys!(getcpu, &mut cpu, &mut node, 0)?;
        assert!(cpu < 4096 && node < 1024);
        sys!(getcpu, 0, 0, 0)?;
        assert_errno(sys!(getcpu, memory::hole()?, 0, 0), c::EFAULT);
    }
    fn affinity_round_trip() {
        let mut all = [0u64; 16];
        let len = sys!(sched_getaffinity, 0, 128, &mut all)?;
        assert!(len > 0 && len % 8 == 0);
        let first = all.iter().position(|w| *w != 0).unwrap_or(0);
        let one = first_processor()?;
        sys!(sched_setaffinity, 0, 128, &one)?;
        let mut now = [0u64; 16];
        sys!(sched_getaffinity, tid()?, 128, &mut now)?;
        assert_eq!(now, one);
        let shown = format!("Cpus_allowed_list:\t{}\n", first * 64 + one[first].trailing_zeros() as usize);
        assert!(crate::kit::text(c"/proc/self/status")?.contains(&shown), "{shown}");
        let mut cpu = 0u32;
        sys!(getcpu, &mut cpu, 0, 0)?;
        assert_eq!(usize::try_from(cpu).unwrap_or(0), first * 64 + one[first].trailing_zeros() as usize);
    }
    fn affinity_moves_threads_and_is_inherited() {
        let mut all = [0u64; 16];
        sys!(sched_getaffinity, 0, 128, &mut all)?;
        for n in (0..1024).filter(|n| all[n / 64] >> (n % 64) & 1 != 0) {
            let mut one = [0u64; 16];
            one[n / 64] = 1 << (n % 64);
            sys!(sched_setaffinity, 0, 128, &one)?;
            let runs_there = || -> Result<bool> {
                let (mut cpu, mut mask) = (0u32, [0u64; 16]);
                sys!(getcpu, &mut cpu, 0, 0)?;
                sys!(sched_getaffinity, 0, 128, &mut mask)?;
                Ok(cpu as usize == n && mask == one)
            };
            assert!(runs_there()?, "{n}");
            child(|| {
                assert!(runs_there()?, "the child of {n}");
                Ok(())
            })?
            .succeeds()?;
        }
        sys!(sched_setaffinity, 0, 128, &all)?;
    }
    fn affinity_errors() {
        let mut set = [0u64; 16];
        assert_errno(sys!(sched_setaffinity, 0, 128, &set), c::EINVAL);
        assert_errno(sys!(sched_getaffinity, 999_999_999, 128, &mut set), c::ESRCH);
        assert_errno(sys!(sched_getaffinity, 0, 3, &mut set), c::EINVAL);
        assert_errno(sys!(sched_getaffinity, 0, 128, memory::hole()?), c::EFAULT);
    }
    fn parameters_of_ordinary_processes() {
        let mut value = 9i32;
        sys!(sched_getparam, 0, &mut value)?;
        assert_eq!((sys!(sched_getscheduler, 0)?, value), (0, 0));
        assert_eq!(sys!(sched_get_priority_max, c::SCHED_OTHER)?, 0);
        assert_eq!(sys!(sched_get_priority_max, c::SCHED_FIFO)?, 99);
        assert_eq!(sys!(sched_get_priority_min, c::SCHED_RR)?, 1);
        assert_errno(sys!(sched_get_priority_max, 99), c::EINVAL);
        assert_errno(sys!(sched_getparam, 999_999_999, &mut value), c::ESRCH);
        assert_errno(sys!(sched_getparam, -1, &mut value), c::EINVAL);
        assert_errno(sys!(sched_getscheduler, -1), c::EINVAL);
        assert_errno(sys!(sched_setscheduler, 0, 99, &0i32), c::EINVAL);
        assert_errno(sys!(sched_setscheduler, 0, c::SCHED_OTHER, &5i32), c::EINVAL);
        sys!(sched_setscheduler, 0, c::SCHED_BATCH, &0i32)?;
        assert_eq!(sys!(sched_getscheduler, 0)?, i64::from(c::SCHED_BATCH));
    }
    fn real_time_interval() {
        let mut time = crate::kit::ms(0);
        sys!(sched_rr_get_interval, 0, &mut time)?;
        assert_errno(sys!(sched_rr_get_interval, -1, &mut time), c::EINVAL);
        assert_errno(sys!(sched_rr_get_interval, 0, memory::hole()?), c::EFAULT);
    }
    fn scheduling_attributes() {
        let mut attributes = [0u64; 8];
        sys!(sched_getattr, 0, &mut attributes, 56, 0)?;
        assert_eq!(attributes[0] >> 32, 0);
        assert_errno(sys!(sched_getattr, 0, &mut attributes, 8, 0), c::EINVAL);
        assert_errno(sys!(sched_getattr, 0, 0, 56, 0), c::EINVAL);
        assert_errno(sys!(sched_getattr, 999_999_999, &mut attributes, 56, 0), c::ESRCH);
    }
    fn nice_values() {
        let base = 20 - sys!(getpriority, c::PRIO_PROCESS, 0)?;
        sys!(setpriority, c::PRIO_PROCESS, 0, base + 3)?;
        assert_eq!(20 - sys!(getpriority, c::PRIO_PROCESS, pid()?)?, base + 3);
        child(|| {
            assert_eq!(20 - sys!(getpriority, c::PRIO_PROCESS, 0)?, base + 3);
            Ok(())
        })?.succeeds()?;
        assert_errno(sys!(getpriority, 9, 0), c::EINVAL);
        assert_errno(sys!(getpriority, c::PRIO_PROCESS, 999_999_999), c::ESRCH);
        assert_errno(sys!(setpriority, c::PRIO_PROCESS, 999_999_999, 0), c::ESRCH);
        sys!(setpriority, c::PRIO_PROCESS, 0, 1000)?;
        assert_eq!(sys!(getpriority, c::PRIO_PROCESS, 0)?, 1);
        as_nobody(|| {
            assert_errno(sys!(setpriority, c::PRIO_PROCESS, 0, 0), c::EACCES);
            Ok(())
        })?;
    }
    fn limits_are_read_and_set() {
        let (mut old, mut new) = ([0u64; 2], [0u64; 2]);
        sys!(getrlimit, c::RLIMIT_NOFILE, &mut old)?;
        assert!(old[0] <= old[1] && old[0] > 100);
        sys!(setrlimit, c::RLIMIT_NOFILE, &[old[0] - 1, old[1]])?;
        sys!(prlimit64, 0, c::RLIMIT_NOFILE, 0, &mut new)?;
        assert_eq!(new, [old[0] - 1, old[1]]);
        for resource in 0..16 {
            sys!(prlimit64, pid()?, resource, 0, &mut new)?;
        }
    }
    fn limit_errors() {
        let mut value = [0u64; 2];
        assert_errno(sys!(getrlimit, 99, &mut value), c::EINVAL);
        assert_errno(sys!(setrlimit, 99, &value), c::EINVAL);
        assert_errno(sys!(setrlimit, c::RLIMIT_CORE, &[2u64, 1]), c::EINVAL);
        assert_errno(sys!(getrlimit, c::RLIMIT_CORE, memory::hole()?), c::EFAULT);
        assert_errno(sys!(setrlimit, c::RLIMIT_CORE, memory::hole()?), c::EFAULT);
        assert_errno(sys!(prlimit64, 999_999_999, 0, 0, &mut value), c::ESRCH);
        as_nobody(|| {
            sys!(setrlimit, c::RLIMIT_CORE, &[0u64, 5])?;
            assert_errno(sys!(setrlimit, c::RLIMIT_CORE, &[0u64, 6]), c::EPERM);
            Ok(())
        })?;
    }
    fn limits_are_inherited() {
        sys!(setrlimit, c::RLIMIT_FSIZE, &[12345u64, 54321])?;
        child(|| {
            let mut mine = [0u64; 2];
            sys!(getrlimit, c::RLIMIT_FSIZE, &mut mine)?;
            assert_eq!(mine, [12345, 54321]);
            Ok(())
        })?.succeeds()?;
    }
    fn limit_of_another_process() {
        let victim = child(|| loop { sys!(pause).ok(); })?;
        let mut old = [0u64; 2];
        sys!(prlimit64, victim.pid, c::RLIMIT_CORE, &[0u64, 77], 0)?;
        sys!(prlimit64, victim.pid, c::RLIMIT_CORE, 0, &mut old)?;
        victim.end()?;
        assert_eq!(old, [0, 77]);
    }
    fn file_size_limit_sends_sigxfsz() {
        let fd = file(c"f", b"")?;
        sys!(setrlimit, c::RLIMIT_FSIZE, &[100u64, 100])?;
        signal::record(c::SIGXFSZ, 0)?;
        assert_eq!(sys!(write, fd, &[0u8; 200], 200)?, 100);
        assert_errno(sys!(write, fd, b"x", 1), c::EFBIG);
        assert_eq!(signal::count(c::SIGXFSZ), 1);
        assert_errno(sys!(ftruncate, fd, 101), c::EFBIG);
    }
    fn processor_time_limit_sends_sigxcpu() {
        let victim = child(|| {
            sys!(setrlimit, c::RLIMIT_CORE, &[0u64; 2])?;
            sys!(setrlimit, c::RLIMIT_CPU, &[1u64, 2])?;
            loop { core::hint::spin_loop(); }
        })?;
        victim.dies_of(c::SIGXCPU)?;
    }
    fn process_limit() {
        need_root()?;
        as_nobody(|| {
            sys!(setrlimit, c::RLIMIT_NPROC, &[1u64, 1])?;
            let refused = process::fork();
            if let Ok(0) = refused {
                process::exit(0);
            }
            match refused {
                // Others may run as nobody too; then even the first is too many.
                Err(errno) => assert_eq!(errno.0, c::EAGAIN),
                Ok(pid) => { crate::kit::wait(pid, 0)?; }
            }
            Ok(())
        })?;
    }
    fn membarrier_commands() {
        let commands = or_skip(sys!(membarrier, 0, 0), &[c::ENOSYS], "membarrier")?;
        assert_ne!(commands & 1, 0);
        assert_errno(sys!(membarrier, 8, 0).or_else(|e| if e.0 == c::EPERM { Err(e) } else { Ok(0) }), c::EPERM);
        sys!(membarrier, 16, 0)?;
        sys!(membarrier, 8, 0)?;
        assert_errno(sys!(membarrier, 1 << 30, 0), c::EINVAL);
        assert_errno(sys!(membarrier, 0, 1), c::EINVAL);
    }
    fn who_yields_lets_the_other_one_run() {
        /// Turns of each, and yields that a turn may take: with a slice of the processor for each they are tens of thousands.
        const TURNS: u64 = 200;
        const FEW: u64 = 5000;
        let words = memory::map(memory::PAGE, memory::RW, c::MAP_SHARED | c::MAP_ANONYMOUS, -1)?;
        sys!(sched_setaffinity, 0, 128, &first_processor()?)?;
        let turn = memory::atomic64(words);
        let play = move |own: u64| {
            let mut yields = 0;
            for _ in 0..TURNS {
                while turn.load(SeqCst) % 2 != own {
                    sys!(sched_yield)?;
                    yields += 1;
                }
                turn.fetch_add(1, SeqCst);
            }
            Ok::<u64, sys::Errno>(yields)
        };
        let other = child(move || Ok(play(1).map(drop)?))?;
        let yields = play(0)?;
        other.succeeds()?;
        assert!(yields < TURNS * FEW, "{yields} yields");
    }
    fn restartable_sequences() {
        let page = memory::pages(1)?;
        let other = std::thread::spawn(move || {
            // libc may have registered one for this thread; then ours is refused.
            match sys!(rseq, page, 32, 0, 0x5305_3053) {
                Err(sys::Errno(c::EINVAL | c::EBUSY | c::EPERM)) => Ok(None),
                Err(errno) => Err(errno),
                Ok(_) => {
                    sys!(sched_yield)?;
                    let cpu = memory::peek::<u32>(page + 4);
                    sys!(rseq, page, 32, 1, 0x5305_3053)?;
                    Ok(Some(cpu))
                }
            }
        });
        match other.join() {
            Ok(Ok(Some(cpu))) => assert!(cpu < 4096),
            Ok(Ok(None)) => {}
            Ok(Err(sys::Errno(c::ENOSYS))) => return crate::kit::skip("no rseq"),
            failed => panic!("{failed:?}"),
        }
        assert_errno(sys!(rseq, page + 1, 32, 0, 1), c::EINVAL);
        assert_errno(sys!(rseq, page, 32, 99, 1), c::EINVAL);
    }
    fn priority_of_input_and_output() {
        or_skip(sys!(ioprio_get, 1, 0), &[c::ENOSYS], "ioprio_get")?;
        sys!(ioprio_set, 1, 0, (2 << 13) | 5)?;
        assert_eq!(sys!(ioprio_get, 1, 0)?, (2 << 13) | 5);
        assert_errno(sys!(ioprio_get, 99, 0), c::EINVAL);
        assert_errno(sys!(ioprio_set, 1, 0, 7 << 13), c::EINVAL);
    }
    fn personality() {
        let old = sys!(personality, 0xffff_ffff_u32)?;
        assert_eq!(sys!(personality, old)?, old);
    }
    fn keyed_and_obsolete_calls_are_absent_or_refused() {
        assert_errno(sys!(_sysctl, 0), c::ENOSYS);
        assert_errno(sys!(uselib, c"x"), c::ENOSYS);
        assert_errno(sys!(nfsservctl, 0), c::ENOSYS);
        assert_errno(sys!(epoll_ctl_old, 0), c::ENOSYS);
    }
    fn kcmp_tells_same_from_different() {
        let (a, b) = (pipe(0)?, pipe(0)?);
        let copy = int(sys!(dup, a[0])?);
        let compare = |x: i32, y: i32| -> Result<i64> { sys!(kcmp, sys!(getpid)?, sys!(getpid)?, 0, x, y) };
        assert_eq!(or_skip(compare(a[0], copy), &[c::ENOSYS, c::EPERM], "kcmp")?, 0);
        assert_ne!(compare(a[0], b[0])?, 0);
        assert_errno(compare(a[0], 899), c::EBADF);
        // An order: one of two is the lesser.
        let mut both = [compare(a[0], b[0])?, compare(b[0], a[0])?];
        both.sort_unstable();
        assert_eq!(both, [1, 2]);
    }
    fn kcmp_of_threads_and_children() {
        let me = pid()?;
        let compare = |tid: i32, what: i32| sys!(kcmp, me, tid, what, 0, 0);
        or_skip(compare(me, 1), &[c::ENOSYS, c::EPERM], "kcmp")?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let own = tid()?;
                // Memory, descriptors, directories, handlers.
                (1..=4).map(|what| compare(own, what)).collect::<Result<Vec<_>>>()
            });
            let Ok(Ok(all)) = thread.join() else { panic!("the thread failed") };
            assert_eq!(all, [0; 4]);
        });
        let other = child(|| loop { sys!(pause).ok(); })?;
        for what in 1..=4 {
            assert_ne!(compare(other.pid, what)?, 0, "{what}");
        }
        assert_eq!(sys!(kcmp, me, other.pid, 0, 0, 0)?, 0);
        other.end()?;
    }
    fn kcmp_errors() {
        let me = pid()?;
        or_skip(sys!(kcmp, me, me, 1, 0, 0), &[c::ENOSYS, c::EPERM], "kcmp")?;
        assert_errno(sys!(kcmp, me, 4_194_303, 1, 0, 0), c::ESRCH);
        assert_errno(sys!(kcmp, me, me, 99, 0, 0), c::EINVAL);
        as_nobody(|| {
            assert_errno(sys!(kcmp, me, me, 1, 0, 0), c::EPERM);
            Ok(())
        })?;
    }
    fn nobody_has_that_number() {
        let (nobody, room) = (999_999_999, memory::pages(1)?);
        memory::poke(room, [48u64, 0, 0, 0, 0, 0]);
        for (name, result) in [
            ("sched_setparam", sys!(sched_setparam, nobody, &0i32)),
            ("sched_getparam", sys!(sched_getparam, nobody, room + 64)),
            ("sched_setscheduler", sys!(sched_setscheduler, nobody, c::SCHED_OTHER, &0i32)),
            ("sched_getscheduler", sys!(sched_getscheduler, nobody)),
            ("sched_rr_get_interval", sys!(sched_rr_get_interval, nobody, room + 64)),
            ("sched_setattr", sys!(sched_setattr, nobody, room, 0)),
            ("sched_getattr", sys!(sched_getattr, nobody, room + 64, 48, 0)),
            ("sched_setaffinity", sys!(sched_setaffinity, nobody, 8, &1u64)),
            ("sched_getaffinity", sys!(sched_getaffinity, nobody, 128, room + 64)),
            ("getpriority", sys!(getpriority, c::PRIO_PROCESS, nobody)),
            ("getpriority of a group", sys!(getpriority, c::PRIO_PGRP, nobody)),
            ("getpriority of a user", sys!(getpriority, c::PRIO_USER, nobody)),
            ("setpriority", sys!(setpriority, c::PRIO_PROCESS, nobody, 5)),
            ("setpriority of a group", sys!(setpriority, c::PRIO_PGRP, nobody, 5)),
            ("ioprio_get", sys!(ioprio_get, 1, nobody)),
            ("ioprio_set", sys!(ioprio_set, 1, nobody, 2 << 13)),
            ("prlimit64", sys!(prlimit64, nobody, c::RLIMIT_CORE, 0, room + 64)),
            ("getpgid", sys!(getpgid, nobody)),
            ("getsid", sys!(getsid, nobody)),
            ("capget", sys!(capget, &[0x2008_0522u32, 999_999_999], room + 64)),
            ("tkill", sys!(tkill, nobody, 0)),
            ("tgkill", sys!(tgkill, nobody, nobody, 0)),
            ("kill", sys!(kill, nobody, 0)),
            ("kill of a group", sys!(kill, -nobody, 0)),
            ("rt_tgsigqueueinfo", sys!(rt_tgsigqueueinfo, nobody, nobody, 0, &[0u64, 0xffff_ffff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            ("get_robust_list", sys!(get_robust_list, nobody, room + 64, room + 72)),
            ("process_vm_writev", sys!(process_vm_writev, nobody, &crate::kit::vector(b"x"), 1, &crate::kit::vector(b"x"), 1, 0)),
            ("kcmp", sys!(kcmp, nobody, nobody, 1, 0, 0)),
            ("pidfd_open", sys!(pidfd_open, 4_194_303, 0)),
            ("wait4 of the least number", sys!(wait4, i32::MIN, 0, 0, 0)),
        ] {
            if result == Err(sys::Errno(c::ENOSYS)) && ["kcmp"].contains(&name) {
                continue;
            }
            assert_eq!(result, Err(sys::Errno(c::ESRCH)), "{name}");
        }
    }
    fn numbers_below_zero_and_null_pointers() {
        let room = memory::pages(1)?;
        memory::poke(room, [48u64, 0, 0, 0, 0, 0]);
        for (name, result) in [
            ("sched_setparam", sys!(sched_setparam, -1, &0i32)),
            ("sched_setparam, null", sys!(sched_setparam, 0, 0)),
            ("sched_getparam", sys!(sched_getparam, -1, room + 64)),
            ("sched_getparam, null", sys!(sched_getparam, 0, 0)),
            ("sched_setscheduler", sys!(sched_setscheduler, -1, c::SCHED_OTHER, &0i32)),
            ("sched_setscheduler, null", sys!(sched_setscheduler, 0, c::SCHED_OTHER, 0)),
            ("sched_setscheduler, policy", sys!(sched_setscheduler, 0, -1, &0i32)),
            ("sched_setscheduler, priority", sys!(sched_setscheduler, 0, c::SCHED_FIFO, &100i32)),
            ("sched_setparam, priority", sys!(sched_setparam, 0, &5i32)),
            ("sched_setattr", sys!(sched_setattr, -1, room, 0)),
            ("sched_setattr, null", sys!(sched_setattr, 0, 0, 0)),
            ("sched_setattr, flags", sys!(sched_setattr, 0, room, 1)),
            ("sched_setattr, policy", sys!(sched_setattr, 0, &[48u64 | 99 << 32, 0, 0, 0, 0, 0], 0)),
            ("sched_setattr, own flags", sys!(sched_setattr, 0, &[48u64, 1 << 40, 0, 0, 0, 0], 0)),
            ("sched_getattr", sys!(sched_getattr, -1, room + 64, 48, 0)),
            ("sched_getattr, flags", sys!(sched_getattr, 0, room + 64, 48, 1)),
            ("sched_getattr, size", sys!(sched_getattr, 0, room + 64, 1 << 20, 0)),
            ("sched_get_priority_min", sys!(sched_get_priority_min, 99)),
            ("setpriority", sys!(setpriority, 9, 0, 0)),
            ("ioprio_get", sys!(ioprio_get, 0, 0)),
            ("ioprio_set", sys!(ioprio_set, 9, 0, 2 << 13)),
            ("prlimit64", sys!(prlimit64, 0, 99, 0, room)),
            ("prlimit64, soft above hard", sys!(prlimit64, 0, c::RLIMIT_CORE, &[2u64, 1], 0)),
            ("setpgid", sys!(setpgid, 0, -1)),
            ("tkill", sys!(tkill, 0, 0)),
            ("tgkill", sys!(tgkill, -1, 1, 0)),
            ("rt_tgsigqueueinfo", sys!(rt_tgsigqueueinfo, 0, 1, 0, &[0u64; 16])),
            ("process_vm_writev, flags", sys!(process_vm_writev, pid()?, room, 0, room, 0, 1)),
            ("timer_getoverrun", sys!(timer_getoverrun, 12345)),
            ("capget, version", sys!(capget, &mut [7u32, 0], room + 64)),
            ("capset, version", sys!(capset, &mut [7u32, 0], room + 64)),
            ("set_robust_list", sys!(set_robust_list, 0, 1)),
        ] {
            assert_eq!(result, Err(sys::Errno(c::EINVAL)), "{name}");
        }
        assert_errno(sys!(sched_setattr, 0, &mut [8u64, 0, 0, 0, 0, 0], 0), c::E2BIG);
        assert_errno(sys!(sched_setattr, 0, &mut [56u64, 0, 0, 0, 0, 0, 0, 1], 0).and_then(|_| sys!(sched_setattr, 0, &mut [64u64, 0, 0, 0, 0, 0, 0, 1], 0)), c::E2BIG);
        assert_errno(sys!(capset, &[0x2008_0522u32, 1], &[0u32; 6]), c::EPERM);
    }
    fn real_time_policies_of_root() {
        need_root()?;
        or_skip(sys!(sched_setscheduler, 0, c::SCHED_FIFO, &5i32), &[c::EPERM], "SCHED_FIFO")?;
        let mut now = 0i32;
        sys!(sched_getparam, 0, &mut now)?;
        assert_eq!((sys!(sched_getscheduler, 0)?, now), (i64::from(c::SCHED_FIFO), 5));
        sys!(sched_setparam, 0, &7i32)?;
        assert_errno(sys!(sched_setparam, 0, &0i32), c::EINVAL);
        sys!(sched_setscheduler, 0, c::SCHED_OTHER, &0i32)?;
    }
    fn prctl_refuses_what_does_not_fit() {
        for (name, result) in [
            ("PR_SET_PDEATHSIG", sys!(prctl, c::PR_SET_PDEATHSIG, 65, 0, 0, 0)),
            ("PR_SET_DUMPABLE", sys!(prctl, c::PR_SET_DUMPABLE, 2, 0, 0, 0)),
            ("PR_SET_KEEPCAPS", sys!(prctl, c::PR_SET_KEEPCAPS, 2, 0, 0, 0)),
            ("PR_SET_TIMING", sys!(prctl, c::PR_SET_TIMING, 1, 0, 0, 0)),
            ("PR_CAPBSET_READ", sys!(prctl, c::PR_CAPBSET_READ, 64, 0, 0, 0)),
            ("PR_CAPBSET_DROP", sys!(prctl, c::PR_CAPBSET_DROP, 64, 0, 0, 0)),
            ("PR_SET_NO_NEW_PRIVS", sys!(prctl, c::PR_SET_NO_NEW_PRIVS, 2, 0, 0, 0)),
            ("PR_SET_NO_NEW_PRIVS, more", sys!(prctl, c::PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0)),
            ("PR_GET_NO_NEW_PRIVS, more", sys!(prctl, c::PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0)),
            ("PR_CAP_AMBIENT", sys!(prctl, c::PR_CAP_AMBIENT, 99, 0, 0, 0)),
            ("PR_CAP_AMBIENT, more", sys!(prctl, c::PR_CAP_AMBIENT, c::PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0)),
            ("PR_GET_THP_DISABLE", sys!(prctl, c::PR_GET_THP_DISABLE, 1, 0, 0, 0)),
            ("PR_MCE_KILL_GET", sys!(prctl, c::PR_MCE_KILL_GET, 1, 0, 0, 0)),
            ("no option", sys!(prctl, 123_456, 0, 0, 0, 0)),
        ] {
            assert_eq!(result, Err(sys::Errno(c::EINVAL)), "{name}");
        }
        as_nobody(|| {
            assert_errno(sys!(prctl, c::PR_SET_SECUREBITS, 1, 0, 0, 0), c::EPERM);
            assert_errno(sys!(prctl, c::PR_CAP_AMBIENT, c::PR_CAP_AMBIENT_RAISE, 0, 0, 0), c::EPERM);
            Ok(())
        })?;
    }
}

/// A mask of the first processor that we may use.
fn first_processor() -> Result<[u64; 16]> {
    let (mut all, mut one) = ([0u64; 16], [0u64; 16]);
    sys!(sched_getaffinity, 0, 128, &mut all)?;
    let first = all.iter().position(|w| *w != 0).unwrap_or(0);
    one[first] = 1 << all[first].trailing_zeros();
    Ok(one)
}
