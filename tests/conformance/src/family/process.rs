//! fork, clone, exit, wait, process groups and sessions.

use crate::kit::{Gate, SELF, assert_errno, assert_interrupted, cases, child, close, file, helper_args, int, need_root, now, open, pid, pipe, read, restarted, shared, skip, text, tid, until, wait, write};
use crate::sys::{self, Result, memory, process, signal, sys};
use core::ffi::c_void;
use core::sync::atomic::Ordering::SeqCst;
use libc as c;

cases! { process;
    fn the_last_thread_gives_the_status() {
        let first_has_ended = |pid: i32| {
            let stat = text(&crate::kit::name(&format!("/proc/{pid}/stat"))).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
        };
        let first_goes_first = child(|| {
            let me = pid()?;
            std::thread::spawn(move || {
                until(|| first_has_ended(me));
                sys!(exit, 5)
            });
            sys!(exit, 3)?;
            Ok(())
        })?;
        first_goes_first.exits(5)?;
        let first_goes_last = child(|| {
            let other = memory::atomic(memory::pages(1)?);
            std::thread::spawn(|| {
                other.store(tid().unwrap_or(0).cast_unsigned(), SeqCst);
                sys!(exit, 5)
            });
            until(|| other.load(SeqCst) != 0);
            let (me, other) = (pid()?, other.load(SeqCst));
            until(|| sys!(tgkill, me, other, 0).is_err());
            sys!(exit, 4)?;
            Ok(())
        })?;
        first_goes_last.exits(4)?;
    }
    fn threads_that_end_at_once_leave_the_status_of_one() {
        for _ in 0..50 {
            let both = child(|| {
                let there = memory::atomic(memory::pages(1)?);
                let together = || {
                    there.fetch_add(1, SeqCst);
                    while there.load(SeqCst) < 2 {}
                };
                std::thread::spawn(move || {
                    together();
                    sys!(exit, 5)
                });
                together();
                sys!(exit, 4)?;
                Ok(())
            })?;
            let status = both.wait()?;
            assert!(c::WIFEXITED(status) && matches!(c::WEXITSTATUS(status), 4 | 5), "wait status {status:#x}");
        }
    }
    fn a_thread_gets_files_and_places_of_its_own() {
        sys!(mkdir, c"d", 0o755)?;
        let fd = file(c"f", b"")?;
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                sys!(unshare, c::CLONE_FS | c::CLONE_FILES)?;
                sys!(chdir, c"d")?;
                sys!(umask, 0o777)?;
                close(fd)?;
                open(c"/", c::O_RDONLY, 0)
            });
            assert!(matches!(done.join(), Ok(Ok(_))));
        });
        crate::kit::stat(c"d")?;
        assert_eq!(crate::kit::fstat(fd)?.st_mode & c::S_IFMT, c::S_IFREG);
        assert_ne!(sys!(umask, 0)?, 0o777);
    }
    fn what_threads_have_in_common_stays_so() {
        child(|| {
            sys!(unshare, 0)?;
            sys!(unshare, c::CLONE_THREAD | c::CLONE_SIGHAND | c::CLONE_VM)?;
            assert_errno(sys!(unshare, 1u64 << 40), c::EINVAL);
            assert_errno(sys!(unshare, c::CLONE_VFORK), c::EINVAL);
            // What is locked stays: nobody shares the table.
            sys!(unshare, c::CLONE_FILES)?;
            Ok(())
        })?.succeeds()?;
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| {
                for flags in [c::CLONE_THREAD, c::CLONE_SIGHAND, c::CLONE_VM, c::CLONE_NEWUSER] {
                    assert_errno(sys!(unshare, flags), c::EINVAL);
                }
            });
            assert!(beside.join().is_ok());
        });
    }
    fn a_call_keeps_the_flags_of_direction_and_alignment_checks() {
        for flags in [0x400, 0x4_0000, 0x4_0400] {
            assert_eq!(process::flags_across_calls(flags).map(|after| after & 0x4_0400), [flags; 3]);
        }
    }
    fn fork_copies_memory() {
        let mut value = 1;
        child(|| {
            value += 1;
            assert_eq!(value, 2);
            Ok(())
        })?.succeeds()?;
        assert_eq!(value, 1);
    }
    fn fork_shares_open_files() {
        let ends = pipe(0)?;
        child(|| Ok(write(ends[1], b"from the child")?))?.succeeds()?;
        assert_eq!(read(ends[0], 99)?, b"from the child");
    }
    fn fork_child_closing_does_not_close_ours() {
        let ends = pipe(0)?;
        child(|| Ok(close(ends[1])?))?.succeeds()?;
        write(ends[1], b"x")?;
    }
    fn fork_keeps_mask_and_handlers_but_not_pending_signals() {
        signal::record(c::SIGUSR2, 0)?;
        signal::mask(c::SIG_BLOCK, signal::bit(c::SIGUSR1) | signal::bit(c::SIGUSR2))?;
        sys!(kill, pid()?, c::SIGUSR1)?;
        child(|| {
            let mut pending = 0u64;
            sys!(rt_sigpending, &mut pending, 8)?;
            assert_eq!(pending, 0);
            assert_eq!(signal::mask(c::SIG_BLOCK, 0)?, signal::bit(c::SIGUSR1) | signal::bit(c::SIGUSR2));
            assert!(signal::action(c::SIGUSR2)?.0 > 1);
            Ok(())
        })?.succeeds()?;
    }
    fn getpid_and_relatives() {
        let (me, parent) = (pid()?, sys!(getppid)?);
        assert_eq!(tid()?, me);
        assert!(parent > 0);
        child(|| {
            assert_eq!(int(sys!(getppid)?), me);
            assert_ne!(pid()?, me);
            assert_eq!(tid()?, pid()?);
            Ok(())
        })?.succeeds()?;
    }
    fn exit_status_is_eight_bits() {
        child(|| process::exit(0x1234))?.exits(0x34)?;
        child(|| process::exit(-1))?.exits(255)?;
        assert_eq!(child(|| process::exit(3))?.wait()?, 0x300);
    }
    fn death_by_signal_is_in_the_status() {
        for number in [c::SIGTERM, c::SIGKILL, c::SIGHUP, c::SIGUSR1, c::SIGALRM, 34, 64] {
            let victim = child(|| loop { sys!(pause).ok(); })?;
            victim.kill(number)?;
            assert_eq!(victim.wait()? & 0x7f, number);
        }
    }
    fn wait4_chooses() {
        let (a, b) = (child(|| process::exit(1))?, child(|| process::exit(2))?);
        let mut status = 0;
        assert_eq!(int(sys!(wait4, b.pid, &mut status, 0, 0)?), b.pid);
        assert_eq!(status, 0x200);
        assert_eq!(int(sys!(wait4, -1, &mut status, 0, 0)?), a.pid);
        assert_errno(sys!(wait4, -1, &mut status, 0, 0), c::ECHILD);
    }
    fn wait4_by_group() {
        let other = child(|| { sys!(setpgid, 0, 0)?; process::exit(1) })?;
        let same = child(|| process::exit(2))?;
        assert_eq!(int(sys!(wait4, 0, 0, 0, 0)?), same.pid);
        // The child may not have left yet when we ask for its group.
        sys!(setpgid, other.pid, other.pid).or_else(|e| if e.0 == c::EACCES { Ok(0) } else { Err(e) })?;
        assert_eq!(int(sys!(wait4, -other.pid, 0, 0, 0)?), other.pid);
    }
    fn wait4_errors() {
        assert_errno(sys!(wait4, -1, 0, 0, 0), c::ECHILD);
        assert_errno(sys!(wait4, 1, 0, 0, 0), c::ECHILD);
        assert_errno(sys!(wait4, -1, 0, 0x100, 0), c::EINVAL);
        let done = child(|| Ok(()))?;
        assert_errno(sys!(wait4, done.pid, memory::hole()?, 0, 0), c::EFAULT);
        assert_errno(sys!(wait4, done.pid, 0, 0, 0), c::ECHILD);
    }
    fn wait4_without_waiting() {
        let gate = Gate::new()?;
        let sleeper = child(|| Ok(gate.pass()?))?;
        assert_eq!(sys!(wait4, -1, 0, c::WNOHANG, 0)?, 0);
        gate.open()?;
        sleeper.succeeds()?;
    }
    fn wait4_is_interrupted() {
        let gate = Gate::new()?;
        let sleeper = child(|| Ok(gate.pass()?))?;
        assert_interrupted(|| wait(-1, 0))?;
        gate.open()?;
        sleeper.succeeds()?;
    }
    fn wait4_is_restarted() {
        let gate = Gate::new()?;
        let sleeper = child(|| Ok(gate.pass()?))?;
        assert_eq!(restarted(|| wait(sleeper.pid, 0), || { let _ = gate.open(); })??, 0);
    }
    fn wait4_reports_stop_and_continue() {
        let victim = child(|| loop { sys!(pause).ok(); })?;
        victim.kill(c::SIGSTOP)?;
        assert_eq!(wait(victim.pid, c::WUNTRACED)?, (c::SIGSTOP << 8) | 0x7f);
        assert_eq!(sys!(wait4, victim.pid, 0, c::WUNTRACED | c::WNOHANG, 0)?, 0);
        victim.kill(c::SIGCONT)?;
        assert_eq!(wait(victim.pid, c::WCONTINUED)?, 0xffff);
        victim.end()?;
    }
    fn a_process_that_stops_itself_is_killed_and_continued() {
        // The signal meets the process on its way from one stop to the next.
        for round in 0..100 {
            let victim = child(|| loop { sys!(kill, pid()?, c::SIGSTOP)?; })?;
            for _ in 0..round % 4 {
                assert_eq!(wait(victim.pid, c::WUNTRACED)?, (c::SIGSTOP << 8) | 0x7f);
                victim.kill(c::SIGCONT)?;
            }
            assert_eq!(wait(victim.pid, c::WUNTRACED)?, (c::SIGSTOP << 8) | 0x7f);
            victim.kill(c::SIGKILL)?;
            victim.dies_of(c::SIGKILL)?;
        }
    }
    fn wait4_gives_the_usage_of_the_child() {
        let worker = child(|| {
            let end = now(c::CLOCK_PROCESS_CPUTIME_ID)? + 20_000_000;
            until(|| now(c::CLOCK_PROCESS_CPUTIME_ID).is_ok_and(|t| t > end));
            Ok(())
        })?;
        let mut usage: c::rusage = sys::zeroed();
        sys!(wait4, worker.pid, 0, 0, &mut usage)?;
        let used = |u: &c::rusage| (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1_000_000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
        assert!(used(&usage) >= 15_000, "{} us", used(&usage));
        let mut children: c::rusage = sys::zeroed();
        sys!(getrusage, c::RUSAGE_CHILDREN, &mut children)?;
        assert!(used(&children) >= used(&usage));
    }
    fn wait4_counts_threads_that_ended_before() {
        let worker = child(|| {
            let busy = || {
                let end = now(c::CLOCK_THREAD_CPUTIME_ID)? + 20_000_000;
                until(|| now(c::CLOCK_THREAD_CPUTIME_ID).is_ok_and(|t| t > end));
                Ok(())
            };
            let ended: Result<()> = std::thread::spawn(busy).join().unwrap_or(Ok(()));
            ended?;
            Ok(())
        })?;
        let mut usage: c::rusage = sys::zeroed();
        sys!(wait4, worker.pid, 0, 0, &mut usage)?;
        let used = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1_000_000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
        assert!((15_000..1_000_000).contains(&used), "{used} us");
    }
    fn waitid_tells_how_it_ended() {
        let exited = child(|| process::exit(7))?;
        let mut info: c::siginfo_t = sys::zeroed();
        sys!(waitid, c::P_PID, exited.pid, &mut info, c::WEXITED | c::WNOWAIT, 0)?;
        sys!(waitid, c::P_PID, exited.pid, &mut info, c::WEXITED, 0)?;
        let uid = u32::try_from(sys!(getuid)?).unwrap_or(0);
        assert_eq!(signal::child_fields(&info), (c::SIGCHLD, c::CLD_EXITED, exited.pid, uid, 7));
        let killed = child(|| loop { sys!(pause).ok(); })?;
        killed.kill(c::SIGKILL)?;
        sys!(waitid, c::P_ALL, 0, &mut info, c::WEXITED, 0)?;
        assert_eq!(signal::child_fields(&info), (c::SIGCHLD, c::CLD_KILLED, killed.pid, uid, c::SIGKILL));
    }
    fn waitid_stop_and_continue() {
        let victim = child(|| loop { sys!(pause).ok(); })?;
        let mut info: c::siginfo_t = sys::zeroed();
        victim.kill(c::SIGSTOP)?;
        sys!(waitid, c::P_PID, victim.pid, &mut info, c::WSTOPPED, 0)?;
        assert_eq!((signal::child_fields(&info).1, signal::child_fields(&info).4), (c::CLD_STOPPED, c::SIGSTOP));
        victim.kill(c::SIGCONT)?;
        sys!(waitid, c::P_PID, victim.pid, &mut info, c::WCONTINUED, 0)?;
        assert_eq!((signal::child_fields(&info).1, signal::child_fields(&info).4), (c::CLD_CONTINUED, c::SIGCONT));
        victim.end()?;
    }
    fn waitid_errors() {
        let mut info: c::siginfo_t = sys::zeroed();
        assert_errno(sys!(waitid, c::P_ALL, 0, &mut info, 0, 0), c::EINVAL);
        assert_errno(sys!(waitid, 99, 0, &mut info, c::WEXITED, 0), c::EINVAL);
        assert_errno(sys!(waitid, c::P_ALL, 0, &mut info, c::WEXITED, 0), c::ECHILD);
        let gate = Gate::new()?;
        let sleeper = child(|| Ok(gate.pass()?))?;
        info.si_signo = 5;
        sys!(waitid, c::P_ALL, 0, &mut info, c::WEXITED | c::WNOHANG, 0)?;
        assert_eq!(info.si_signo, 0);
        gate.open()?;
        sleeper.succeeds()?;
    }
    fn sigchld_comes_with_the_death() {
        signal::record(c::SIGCHLD, 0)?;
        let gone = child(|| process::exit(5))?;
        until(|| signal::count(c::SIGCHLD) > 0);
        assert_eq!(signal::LAST.code.load(SeqCst), c::CLD_EXITED);
        assert_eq!(signal::LAST.pid.load(SeqCst), gone.pid);
        assert_eq!(signal::LAST.status.load(SeqCst), 5);
        gone.exits(5)?;
    }
    fn ignored_sigchld_reaps() {
        signal::ignore(c::SIGCHLD)?;
        let gone = child(|| Ok(()))?;
        assert_errno(sys!(wait4, gone.pid, 0, 0, 0), c::ECHILD);
    }
    fn nocldwait_reaps_and_nocldstop_is_silent() {
        signal::record(c::SIGCHLD, c::SA_NOCLDSTOP)?;
        let victim = child(|| loop { sys!(pause).ok(); })?;
        victim.kill(c::SIGSTOP)?;
        wait(victim.pid, c::WUNTRACED)?;
        assert_eq!(signal::count(c::SIGCHLD), 0);
        victim.end()?;
        assert_eq!(signal::count(c::SIGCHLD), 1);
        signal::default(c::SIGCHLD, c::SA_NOCLDWAIT)?;
        let gone = child(|| Ok(()))?;
        assert_errno(sys!(wait4, gone.pid, 0, 0, 0), c::ECHILD);
    }
    fn orphan_goes_to_the_subreaper() {
        sys!(prctl, c::PR_SET_CHILD_SUBREAPER, 1)?;
        let gate = Gate::new()?;
        let me = pid()?;
        let parent = child(|| {
            let _orphan = child(|| {
                gate.pass()?;
                assert_eq!(int(sys!(getppid)?), me);
                process::exit(9)
            })?;
            Ok(())
        })?;
        parent.succeeds()?;
        gate.open()?;
        assert_eq!(wait(-1, 0)?, 0x900);
    }
    fn parent_death_signal() {
        sys!(prctl, c::PR_SET_CHILD_SUBREAPER, 1)?;
        let ready = Gate::new()?;
        let parent = child(|| {
            let _orphan = child(|| {
                sys!(prctl, c::PR_SET_PDEATHSIG, c::SIGUSR1)?;
                ready.open()?;
                loop { sys!(pause).ok(); }
            })?;
            Ok(ready.pass()?)
        })?;
        parent.succeeds()?;
        assert_eq!(wait(-1, 0)?, c::SIGUSR1);
        assert_errno(sys!(prctl, c::PR_SET_PDEATHSIG, 99), c::EINVAL);
    }
    fn process_groups() {
        let (me, group) = (pid()?, sys!(getpgrp)?);
        assert_eq!((group, sys!(getpgid, 0)?), (me.into(), me.into()));
        let gate = Gate::new()?;
        let other = child(|| Ok(gate.pass()?))?;
        assert_eq!(sys!(getpgid, other.pid)?, group);
        sys!(setpgid, other.pid, 0)?;
        assert_eq!(int(sys!(getpgid, other.pid)?), other.pid);
        sys!(setpgid, other.pid, me)?;
        gate.open()?;
        other.succeeds()?;
    }
    fn setpgid_errors() {
        assert_errno(sys!(setpgid, 0, -1), c::EINVAL);
        assert_errno(sys!(setpgid, 999_999_999, 0), c::ESRCH);
        assert_errno(sys!(getpgid, 999_999_999), c::ESRCH);
        assert_errno(sys!(setpgid, 0, 999_999), c::EPERM);
        child(|| {
            sys!(setsid)?;
            assert_errno(sys!(setpgid, 0, 0), c::EPERM);
            Ok(())
        })?.succeeds()?;
    }
    fn setpgid_of_a_child_after_exec_is_eacces() {
        let (args, env) = (helper_args(&["wait"]), [0usize]);
        let ends = pipe(0)?;
        let other = child(|| {
            sys!(dup2, ends[1], 1)?;
            sys!(execve, SELF, &args.pointers[..], &env)?;
            Ok(())
        })?;
        assert_eq!(read(ends[0], 99)?, b"waiting\n");
        assert_errno(sys!(setpgid, other.pid, 0), c::EACCES);
        other.end()?;
    }
    fn sessions() {
        let session = sys!(getsid, 0)?;
        assert_errno(sys!(setsid), c::EPERM);
        child(|| {
            assert_eq!(sys!(getsid, 0)?, session);
            let new = sys!(setsid)?;
            assert_eq!((new, sys!(getpgrp)?, sys!(getsid, 0)?), (pid()?.into(), new, new));
            assert_errno(sys!(setsid), c::EPERM);
            Ok(())
        })?.succeeds()?;
        assert_errno(sys!(getsid, 999_999_999), c::ESRCH);
    }
    fn vfork_shares_memory_and_waits() {
        let mut word = 0;
        let pid = process::vfork_store_exit(&mut word, 77, 5)?;
        assert_eq!(word, 77);
        assert_eq!(wait(pid, 0)?, 0x500);
    }
    fn vfork_and_exec() {
        let (args, env) = (helper_args(&["status", "6"]), [core::ptr::null()]);
        let pid = process::vfork_exec(SELF, &args.pointers, &env)?;
        assert_eq!(wait(pid, 0)?, 0x600);
        let pid = process::vfork_exec(c"/none", &args.pointers, &env)?;
        assert_eq!(wait(pid, 0)?, 127 << 8);
    }
    fn clone_with_another_exit_signal() {
        signal::record(c::SIGUSR1, 0)?;
        let pid = process::clone(c::SIGUSR1, exits_with_argument, 3, process::Places::default())?;
        until(|| signal::count(c::SIGUSR1) > 0);
        assert_eq!(signal::LAST.pid.load(SeqCst), pid);
        assert_errno(sys!(wait4, pid, 0, 0, 0), c::ECHILD);
        assert_eq!(wait(pid, c::__WALL)?, 0x300);
    }
    fn parent_of_a_vfork_child_can_be_killed() {
        sys!(prctl, c::PR_SET_CHILD_SUBREAPER, 1)?;
        let words = shared()?;
        let parent = child(|| {
            let flags = c::CLONE_VM | c::CLONE_VFORK | c::SIGCHLD;
            process::clone(flags, tells_its_id_and_waits, words[0].as_ptr().addr(), process::Places::default())?;
            Ok(())
        })?;
        until(|| words[0].load(SeqCst) != 0);
        parent.kill(c::SIGKILL)?;
        parent.dies_of(c::SIGKILL)?;
        let left = words[0].load(SeqCst).cast_signed();
        sys!(kill, left, c::SIGKILL)?;
        assert_eq!(wait(left, 0)?, c::SIGKILL);
        sys!(prctl, c::PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)?;
    }
    fn clone_without_signal_needs_wclone() {
        let pid = process::clone(0, exits_with_argument, 4, process::Places::default())?;
        assert_eq!(wait(pid, c::__WCLONE)?, 0x400);
    }
    fn clone_shares_memory_on_request() {
        let words = shared()?;
        words[0].store(0, SeqCst);
        let addr = memory::pages(1)?;
        let pid = process::clone(c::CLONE_VM | c::SIGCHLD, stores_a_word, addr, process::Places::default())?;
        wait(pid, 0)?;
        assert_eq!(memory::peek::<u32>(addr), 0xabcd);
    }
    fn clone_shares_descriptors_on_request() {
        let pid = process::clone(c::CLONE_FILES | c::SIGCHLD, opens_the_root, 0, process::Places::default())?;
        let fd = (wait(pid, 0)? >> 8) & 0xff;
        crate::kit::fstat(fd)?;
    }
    fn clone_shares_directory_and_umask_on_request() {
        let pid = process::clone(c::CLONE_FS | c::SIGCHLD, changes_umask, 0, process::Places::default())?;
        wait(pid, 0)?;
        assert_eq!(sys!(umask, 0o022)?, 0o055);
    }
    fn clone_stores_ids() {
        let page = memory::pages(1)?;
        let places = process::Places { parent_tid: page, tls: 0, child_tid: page + 8 };
        let flags = c::CLONE_PARENT_SETTID | c::CLONE_CHILD_SETTID | c::CLONE_CHILD_CLEARTID | c::CLONE_VM | c::SIGCHLD;
        let pid = process::clone(flags, exits_with_argument, 0, places)?;
        assert_eq!(memory::peek::<i32>(page), pid);
        wait(pid, 0)?;
        assert_eq!(memory::peek::<i32>(page + 8), 0);
    }
    fn clone_with_parent_makes_a_sibling() {
        let ends = pipe(0)?;
        let maker = child(|| {
            let sibling = process::clone(c::CLONE_PARENT | c::SIGCHLD, exits_with_argument, 8, process::Places::default())?;
            Ok(write(ends[1], &sibling.to_ne_bytes())?)
        })?;
        maker.succeeds()?;
        let sibling: i32 = sys::read_plain(&read(ends[0], 4)?);
        assert_eq!(wait(sibling, 0)?, 0x800);
    }
    fn clone_refuses_bad_flags() {
        let try_clone = |flags: i32| process::clone(flags, exits_with_argument, 0, process::Places::default());
        assert_errno(try_clone(c::CLONE_THREAD | c::SIGCHLD), c::EINVAL);
        assert_errno(try_clone(c::CLONE_SIGHAND | c::SIGCHLD), c::EINVAL);
        assert_errno(try_clone(c::CLONE_FS | c::CLONE_NEWNS | c::SIGCHLD), c::EINVAL);
    }
    fn clone3_forks() {
        let mut args: c::clone_args = sys::zeroed();
        args.exit_signal = 17;
        let pid = crate::kit::or_skip(sys!(clone3, &args, 88), &[c::ENOSYS], "clone3")?;
        if pid == 0 {
            process::exit(12);
        }
        assert_eq!(wait(int(pid), 0)?, 0xc00);
    }
    fn clone3_errors() {
        let mut args: c::clone_args = sys::zeroed();
        args.exit_signal = 1000;
        assert_errno(crate::kit::or_skip(sys!(clone3, &args, 8), &[c::ENOSYS], "clone3").or_else(|f| match f {
            crate::kit::Fail::Broken(_) => Err(sys::Errno(c::EINVAL)),
            crate::kit::Fail::Skip(_) => Ok(0),
        }), c::EINVAL);
        assert_errno(sys!(clone3, &args, 88), c::EINVAL);
        assert_errno(sys!(clone3, memory::hole()?, 88), c::EFAULT);
        assert_errno(sys!(clone3, &args, 8192), c::E2BIG);
    }
    fn threads_share_the_process_and_have_ids() {
        let me = pid()?;
        let ids = std::thread::spawn(|| (sys!(getpid), sys!(gettid))).join();
        let Ok((Ok(process), Ok(thread))) = ids else { panic!("{ids:?}") };
        assert_eq!(int(process), me);
        assert_ne!(int(thread), me);
    }
    fn exit_group_ends_threads_that_are_being_made() {
        for turn in 0..100 {
            child(|| {
                make_threads();
                compute(turn % 20 * 100_000)?;
                process::exit(3)
            })?.exits(3)?;
        }
    }
    fn what_a_process_used_before_exec_counts() {
        let args = helper_args(&["status", "15"]);
        // The program may run where it ran the last time.
        for _ in 0..5 {
            let child = child(|| {
                let end = now(c::CLOCK_PROCESS_CPUTIME_ID)? + 20_000_000;
                until(|| now(c::CLOCK_PROCESS_CPUTIME_ID).is_ok_and(|t| t > end));
                Ok(sys!(execve, SELF, &args.pointers[..], 0).map(drop)?)
            })?;
            let (mut status, mut usage): (i32, c::rusage) = (0, sys::zeroed());
            sys!(wait4, child.pid, &mut status, 0, &mut usage)?;
            assert_eq!(status, 15 << 8);
            let used = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1_000_000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
            assert!((19_000..10_000_000).contains(&used), "{used} us");
        }
    }
    fn exec_ends_threads_that_are_being_made() {
        let args = helper_args(&["status", "15"]);
        for turn in 0..100 {
            child(|| {
                make_threads();
                compute(turn % 20 * 100_000)?;
                Ok(sys!(execve, SELF, &args.pointers[..], 0).map(drop)?)
            })?.exits(15)?;
        }
    }
    fn a_signal_to_a_group_misses_no_child_that_is_being_made() {
        sys!(prctl, c::PR_SET_CHILD_SUBREAPER, 1)?;
        for turn in 0..200 {
            let ends = pipe(0)?;
            let leader = child(|| {
                sys!(setpgid, 0, 0)?;
                write(ends[1], b"x")?;
                loop {
                    if process::fork()? == 0 {
                        loop { sys!(pause).ok(); }
                    }
                }
            })?;
            close(ends[1])?;
            assert_eq!(read(ends[0], 1)?, b"x");
            compute(turn % 30 * 50_000)?;
            sys!(kill, -leader.pid, c::SIGKILL)?;
            leader.dies_of(c::SIGKILL)?;
            // Whoever is left holds the other end.
            let mut left = c::pollfd { fd: ends[0], events: c::POLLIN, revents: 0 };
            let ended = sys!(poll, &mut left, 1, 5000)? == 1;
            sys!(kill, -leader.pid, c::SIGKILL).ok();
            assert!(ended, "a child lives on in turn {turn}");
            close(ends[0])?;
            // Who has closed its end is not gone yet.
            while sys!(wait4, -1, 0, 0, 0).is_ok() {}
        }
    }
    fn exit_ends_one_thread_and_exit_group_all() {
        child(|| {
            std::thread::spawn(|| process::exit(4));
            loop { sys!(pause).ok(); }
        })?.exits(4)?;
        child(|| {
            let main_is_gone = std::thread::spawn(|| {
                until(|| text(c"/proc/self/stat").is_ok_and(|t| t.contains(") Z ")));
                process::exit(6)
            });
            drop(main_is_gone);
            sys!(exit, 1)?;
            Ok(())
        })?.exits(6)?;
    }
    fn many_children_at_once() {
        let children = (0..50).map(|i| child(move || process::exit(i))).collect::<Result<Vec<_>>>()?;
        for (i, one) in (0..).zip(children) {
            one.exits(i)?;
        }
    }
    fn pidfd_waits_and_signals() {
        let victim = child(|| loop { sys!(pause).ok(); })?;
        let fd = int(crate::kit::or_skip(sys!(pidfd_open, victim.pid, 0), &[c::ENOSYS], "pidfd_open")?);
        assert_eq!(sys!(fcntl, fd, c::F_GETFD)?, 1);
        let mut poll = c::pollfd { fd, events: c::POLLIN, revents: 0 };
        assert_eq!(sys!(poll, &mut poll, 1, 0)?, 0);
        sys!(pidfd_send_signal, fd, c::SIGTERM, 0, 0)?;
        assert_eq!(sys!(poll, &mut poll, 1, -1)?, 1);
        let mut info: c::siginfo_t = sys::zeroed();
        sys!(waitid, c::P_PIDFD, fd, &mut info, c::WEXITED, 0)?;
        assert_eq!(signal::child_fields(&info).4, c::SIGTERM);
        assert_errno(sys!(pidfd_open, victim.pid, 0), c::ESRCH);
        assert_errno(sys!(pidfd_open, pid()?, 1 << 20), c::EINVAL);
    }
    fn a_process_that_leaves_no_core_says_so() {
        let pattern = text(c"/proc/sys/kernel/core_pattern")?;
        if pattern.starts_with('|') {
            return skip("a program of the host takes cores");
        }
        let dead = child(|| {
            sys!(setrlimit, c::RLIMIT_CORE, &[0u64; 2])?;
            sys!(kill, pid()?, c::SIGSEGV)?;
            Ok(())
        })?;
        assert_eq!(dead.wait()?, c::SIGSEGV);
    }
    fn kill_of_a_zombie_succeeds() {
        need_root()?;
        let gone = child(|| Ok(()))?;
        let mut info: c::siginfo_t = sys::zeroed();
        sys!(waitid, c::P_PID, gone.pid, &mut info, c::WEXITED | c::WNOWAIT, 0)?;
        gone.kill(0)?;
        gone.kill(c::SIGKILL)?;
        crate::kit::as_nobody(|| {
            assert_errno(gone.kill(0), c::EPERM);
            assert_errno(sys!(tgkill, gone.pid, gone.pid, 0), c::EPERM);
            Ok(())
        })?;
        gone.exits(0)?;
        assert_errno(gone.kill(0), c::ESRCH);
    }
    fn new_namespaces_are_of_root() {
        crate::kit::as_nobody(|| {
            for flag in [c::CLONE_NEWNS, c::CLONE_NEWUTS, c::CLONE_NEWIPC, c::CLONE_NEWNET, c::CLONE_NEWPID] {
                assert_errno(process::clone(flag | c::SIGCHLD, exits_with_argument, 0, process::Places::default()), c::EPERM);
                let mut args: c::clone_args = sys::zeroed();
                (args.flags, args.exit_signal) = (u64::from(flag.cast_unsigned()), 17);
                assert_errno(sys!(clone3, &args, 88), c::EPERM);
            }
            Ok(())
        })?;
    }
    fn clone3_refuses_what_does_not_fit() {
        let clone = |change: fn(&mut c::clone_args)| {
            let mut args: c::clone_args = sys::zeroed();
            args.exit_signal = 17;
            change(&mut args);
            sys!(clone3, &args, 88)
        };
        let wrong: [fn(&mut c::clone_args); 7] = [
            |args| args.flags = c::CLONE_THREAD as u64,
            |args| args.flags = c::CLONE_SIGHAND as u64,
            |args| args.flags = c::CLONE_DETACHED as u64,
            |args| args.flags = 0xff,
            |args| args.exit_signal = 65,
            |args| args.stack = 4096,
            |args| args.stack_size = 4096,
        ];
        for change in wrong {
            assert_errno(clone(change), c::EINVAL);
        }
        assert_errno(sys!(clone3, &[0u64; 8], 63), c::EINVAL);
        assert_errno(sys!(clone3, &[0u64, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 1], 96), c::E2BIG);
    }
    fn a_limit_of_processes_refuses_every_kind() {
        crate::kit::as_nobody(|| {
            sys!(setrlimit, c::RLIMIT_NPROC, &[0u64, 0])?;
            assert_errno(process::fork(), c::EAGAIN);
            assert_errno(sys!(fork), c::EAGAIN);
            assert_errno(sys!(vfork), c::EAGAIN);
            assert_errno(sys!(clone, c::SIGCHLD, 0, 0, 0, 0), c::EAGAIN);
            let mut args: c::clone_args = sys::zeroed();
            args.exit_signal = 17;
            assert_errno(sys!(clone3, &args, 88), c::EAGAIN);
            Ok(())
        })?;
    }
}

extern "C" fn exits_with_argument(argument: *mut c_void) -> i32 {
    i32::try_from(argument.addr()).unwrap_or(-1)
}

extern "C" fn stores_a_word(argument: *mut c_void) -> i32 {
    memory::atomic(argument.addr()).store(0xabcd, SeqCst);
    0
}

extern "C" fn tells_its_id_and_waits(argument: *mut c_void) -> i32 {
    let own = tid().unwrap_or(0);
    memory::atomic(argument.addr()).store(own.cast_unsigned(), SeqCst);
    loop {
        sys!(pause).ok();
    }
}

extern "C" fn opens_the_root(_: *mut c_void) -> i32 {
    sys!(open, c"/", c::O_PATH, 0).map_or(255, int)
}

extern "C" fn changes_umask(_: *mut c_void) -> i32 {
    sys!(umask, 0o055).map_or(1, |_| 0)
}

/// Another thread makes one after the other, which all sleep.
fn make_threads() {
    std::thread::spawn(|| {
        for _ in 0..100 {
            // Refused where the process is about to end.
            std::thread::Builder::new().spawn(|| loop { sys!(pause).ok(); }).ok();
        }
        loop { sys!(pause).ok(); }
    });
}

/// Computes for nanoseconds.
fn compute(length: i64) -> Result<()> {
    let end = now(c::CLOCK_MONOTONIC)? + length;
    while now(c::CLOCK_MONOTONIC)? < end {}
    Ok(())
}
