//! Tracing: ptrace(2).

use crate::kit::{Case, Child, Gate, SELF, as_nobody, assert_errno, cases, child, helper_args, helper_env, need_root, pid, pipe, read, shared, until, wait, write};
use crate::sys::{Result, memory, process, signal, sys};
use core::sync::atomic::Ordering::SeqCst;
use libc as c;

const SYSCALL_STOP: i32 = c::SIGTRAP | 0x80;

/// A tracee's request without data.
fn request(which: u32, pid: i32, data: usize) -> Result<()> {
    sys!(ptrace, which, pid, 0, data).map(drop)
}

/// The signal with which a tracee stands, event above.
#[track_caller]
fn stopped(pid: i32) -> Result<i32> {
    let status = wait(pid, c::__WALL)?;
    assert_eq!(status & 0xff, 0x7f, "wait status {status:#x}");
    Ok(status >> 8)
}

/// A child that is traced from its first deed on, and stands.
fn tracee(body: impl FnOnce() -> Case) -> Result<Child> {
    let traced = child(|| {
        sys!(ptrace, c::PTRACE_TRACEME, 0, 0, 0)?;
        sys!(kill, pid()?, c::SIGSTOP)?;
        body()
    })?;
    assert_eq!(stopped(traced.pid)?, c::SIGSTOP);
    Ok(traced)
}

fn registers(pid: i32) -> Result<c::user_regs_struct> {
    let mut registers: c::user_regs_struct = crate::sys::zeroed();
    sys!(ptrace, c::PTRACE_GETREGS, pid, 0, &mut registers)?;
    Ok(registers)
}

fn set_registers(pid: i32, registers: &c::user_regs_struct) -> Result<()> {
    sys!(ptrace, c::PTRACE_SETREGS, pid, 0, registers).map(drop)
}

fn siginfo(pid: i32) -> Result<c::siginfo_t> {
    let mut info: c::siginfo_t = crate::sys::zeroed();
    sys!(ptrace, c::PTRACE_GETSIGINFO, pid, 0, &mut info)?;
    Ok(info)
}

fn message(pid: i32) -> Result<u64> {
    let mut message = 0u64;
    sys!(ptrace, c::PTRACE_GETEVENTMSG, pid, 0, &mut message)?;
    Ok(message)
}

/// The task that the tracee makes as it goes on, which stands; the tracee goes on behind its `event`.
#[track_caller]
fn followed(pid: i32, event: i32) -> Result<i32> {
    request(c::PTRACE_CONT, pid, 0)?;
    assert_eq!(stopped(pid)?, c::SIGTRAP | event << 8);
    let made = crate::kit::int(message(pid)?.cast_signed());
    assert_eq!(stopped(made)?, c::SIGSTOP);
    request(c::PTRACE_CONT, pid, 0)?;
    Ok(made)
}

/// Lets the tracee go on, and passes its verdict on.
#[track_caller]
fn ends_well(traced: &Child) -> Case {
    request(c::PTRACE_CONT, traced.pid, 0)?;
    traced.succeeds()
}

/// Goes on to the next stop of a call, through signals that are let through.
fn next_call(pid: i32) -> Result<()> {
    request(c::PTRACE_SYSCALL, pid, 0)?;
    assert_eq!(stopped(pid)?, SYSCALL_STOP);
    Ok(())
}

/// Goes on to the beginning of a call of this number.
fn until_call(pid: i32, number: i64) -> Result<c::user_regs_struct> {
    loop {
        next_call(pid)?;
        let begun = registers(pid)?;
        if begun.orig_rax.cast_signed() == number && begun.rax.cast_signed() == -i64::from(c::ENOSYS) {
            return Ok(begun);
        }
    }
}

fn state(pid: i32) -> String {
    let stat = crate::kit::text(&crate::kit::name(&format!("/proc/{pid}/stat"))).unwrap_or_default();
    stat.rsplit_once(") ").map(|(_, rest)| rest.chars().take(1).collect()).unwrap_or_default()
}

/// A child that waits at a gate.
fn waiting(gate: &Gate) -> Result<Child> {
    let other = child(|| gate.pass().map_err(Into::into))?;
    until(|| other.sleeps());
    Ok(other)
}

cases! { ptrace;
    fn tracee_stands_for_its_signals() {
        let traced = tracee(|| {
            signal::record(c::SIGUSR2, 0)?;
            sys!(kill, pid()?, c::SIGUSR1)?;
            sys!(kill, pid()?, c::SIGUSR1)?;
            assert_eq!(signal::count(c::SIGUSR2), 1);
            Ok(())
        })?;
        request(c::PTRACE_CONT, traced.pid, 0)?;
        // Swallowed, then put in another one's place.
        assert_eq!(stopped(traced.pid)?, c::SIGUSR1);
        assert_eq!(state(traced.pid), "t");
        assert_eq!(siginfo(traced.pid)?.si_signo, c::SIGUSR1);
        request(c::PTRACE_CONT, traced.pid, 0)?;
        assert_eq!(stopped(traced.pid)?, c::SIGUSR1);
        request(c::PTRACE_CONT, traced.pid, c::SIGUSR2 as usize)?;
        traced.succeeds()?;
    }
    fn signals_that_are_ignored_are_shown() {
        let traced = tracee(|| {
            signal::ignore(c::SIGUSR1)?;
            sys!(kill, pid()?, c::SIGUSR1)?;
            sys!(kill, pid()?, c::SIGCHLD)?;
            Ok(())
        })?;
        for shown in [c::SIGUSR1, c::SIGCHLD] {
            request(c::PTRACE_CONT, traced.pid, 0)?;
            assert_eq!(stopped(traced.pid)?, shown);
        }
        request(c::PTRACE_CONT, traced.pid, c::SIGCHLD as usize)?;
        traced.succeeds()?;
    }
    fn wait_tells_how_the_tracee_stands() {
        let traced = tracee(|| Ok(()))?;
        let mut info: c::siginfo_t = crate::sys::zeroed();
        request(c::PTRACE_CONT, traced.pid, c::SIGSTOP as usize)?;
        sys!(waitid, c::P_PID, traced.pid, &mut info, c::WSTOPPED | c::WNOWAIT, 0)?;
        let (_, code, pid, _, status) = signal::child_fields(&info);
        assert_eq!((code, pid, status), (c::CLD_TRAPPED, traced.pid, c::SIGSTOP));
        assert_eq!(stopped(traced.pid)?, c::SIGSTOP);
        // No signal is on its way while the process is stopped.
        assert_errno(siginfo(traced.pid).map(drop), c::EINVAL);
        ends_well(&traced)?;
    }
    fn attach_stops_and_detach_lets_go() {
        let gate = Gate::new()?;
        let other = waiting(&gate)?;
        request(c::PTRACE_ATTACH, other.pid, 0)?;
        assert_eq!(stopped(other.pid)?, c::SIGSTOP);
        let status = crate::kit::text(&crate::kit::name(&format!("/proc/{}/status", other.pid)))?;
        assert!(status.contains(&format!("TracerPid:\t{}\n", pid()?)), "{status}");
        // The read that was interrupted begins again.
        let seen = registers(other.pid)?;
        assert_eq!(seen.orig_rax.cast_signed(), c::SYS_read);
        assert_eq!(seen.rax.cast_signed(), -512);
        request(c::PTRACE_DETACH, other.pid, 0)?;
        gate.open()?;
        other.succeeds()?;
    }
    fn memory_is_read_and_written() {
        let word = memory::pages(1)?;
        let traced = tracee(|| {
            assert_eq!(memory::peek::<u64>(word), 0x1122_3344_5566_7788);
            Ok(())
        })?;
        sys!(ptrace, c::PTRACE_POKEDATA, traced.pid, word, 0x1122_3344_5566_7788_usize)?;
        let mut seen = 0u64;
        sys!(ptrace, c::PTRACE_PEEKDATA, traced.pid, word, &mut seen)?;
        assert_eq!(seen, 0x1122_3344_5566_7788);
        assert_errno(sys!(ptrace, c::PTRACE_PEEKDATA, traced.pid, 8, &mut seen), c::EIO);
        assert_errno(sys!(ptrace, c::PTRACE_POKEDATA, traced.pid, 8, 0), c::EIO);
        assert_errno(sys!(ptrace, c::PTRACE_PEEKDATA, traced.pid, word, 8), c::EFAULT);
        ends_well(&traced)?;
    }
    fn calls_stand_at_both_ends() {
        let traced = tracee(|| {
            // The tracer makes one call another, and lies about a third.
            assert_eq!(sys!(getppid)?, sys!(getpid)?);
            assert_eq!(sys!(getsid, 0)?, 4711);
            Ok(())
        })?;
        request(c::PTRACE_SETOPTIONS, traced.pid, c::PTRACE_O_TRACESYSGOOD as usize)?;
        let mut begun = until_call(traced.pid, c::SYS_getppid)?;
        assert_eq!(message(traced.pid)?, 1);
        begun.orig_rax = c::SYS_getpid.cast_unsigned();
        set_registers(traced.pid, &begun)?;
        next_call(traced.pid)?;
        assert_eq!(message(traced.pid)?, 2);
        assert_eq!(registers(traced.pid)?.rax, u64::from(traced.pid.unsigned_abs()));
        until_call(traced.pid, c::SYS_getsid)?;
        next_call(traced.pid)?;
        let mut ended = registers(traced.pid)?;
        ended.rax = 4711;
        set_registers(traced.pid, &ended)?;
        ends_well(&traced)?;
    }
    fn call_is_left_out() {
        let words = shared()?;
        let traced = tracee(|| {
            assert_errno(sys!(kill, pid()?, 0), c::EPERM);
            words[0].store(1, SeqCst);
            Ok(())
        })?;
        request(c::PTRACE_SETOPTIONS, traced.pid, c::PTRACE_O_TRACESYSGOOD as usize)?;
        let mut begun = until_call(traced.pid, c::SYS_kill)?;
        begun.orig_rax = u64::MAX;
        begun.rax = (-i64::from(c::EPERM)).cast_unsigned();
        set_registers(traced.pid, &begun)?;
        ends_well(&traced)?;
        assert_eq!(words[0].load(SeqCst), 1);
    }
    fn call_information() {
        let traced = tracee(|| sys!(dup2, 77, 88).map(drop).or(Ok(())))?;
        request(c::PTRACE_SETOPTIONS, traced.pid, c::PTRACE_O_TRACESYSGOOD as usize)?;
        let begun = until_call(traced.pid, c::SYS_dup2)?;
        let mut info = [0u64; 11];
        let len = sys!(ptrace, c::PTRACE_GET_SYSCALL_INFO, traced.pid, 88, &mut info)?;
        assert_eq!(len, 80);
        assert_eq!(info[0], 0xc000_003e_0000_0001);
        assert_eq!(info[1..6], [begun.rip, begun.rsp, c::SYS_dup2 as u64, 77, 88]);
        next_call(traced.pid)?;
        let len = sys!(ptrace, c::PTRACE_GET_SYSCALL_INFO, traced.pid, 88, &mut info)?;
        assert_eq!(len, 33);
        assert_eq!(info[0] as u8, 2);
        assert_eq!(info[3].cast_signed(), -i64::from(c::EBADF));
        assert_eq!(info[4] as u8, 1);
        ends_well(&traced)?;
    }
    fn interrupted_call_is_shown_and_begins_again() {
        let ends = pipe(0)?;
        let traced = tracee(|| {
            signal::record(c::SIGUSR1, c::SA_RESTART)?;
            assert_eq!(read(ends[0], 1)?, b"x");
            assert_eq!(signal::count(c::SIGUSR1), 1);
            Ok(())
        })?;
        request(c::PTRACE_SETOPTIONS, traced.pid, c::PTRACE_O_TRACESYSGOOD as usize)?;
        until_call(traced.pid, c::SYS_read)?;
        request(c::PTRACE_SYSCALL, traced.pid, 0)?;
        until(|| state(traced.pid) == "S");
        traced.kill(c::SIGUSR1)?;
        assert_eq!(stopped(traced.pid)?, SYSCALL_STOP);
        assert_eq!(registers(traced.pid)?.rax.cast_signed(), -512);
        request(c::PTRACE_SYSCALL, traced.pid, 0)?;
        assert_eq!(stopped(traced.pid)?, c::SIGUSR1);
        request(c::PTRACE_SYSCALL, traced.pid, c::SIGUSR1 as usize)?;
        assert_eq!(stopped(traced.pid)?, SYSCALL_STOP);
        next_call(traced.pid)?;
        until_call(traced.pid, c::SYS_rt_sigreturn)?;
        until_call(traced.pid, c::SYS_read)?;
        request(c::PTRACE_CONT, traced.pid, 0)?;
        write(ends[1], b"x")?;
        traced.succeeds()?;
    }
    fn children_are_followed() {
        let traced = tracee(|| child(|| Ok(()))?.succeeds())?;
        let options = c::PTRACE_O_TRACEFORK | c::PTRACE_O_TRACECLONE | c::PTRACE_O_TRACEVFORK;
        request(c::PTRACE_SETOPTIONS, traced.pid, options as usize)?;
        let second = followed(traced.pid, c::PTRACE_EVENT_FORK)?;
        request(c::PTRACE_CONT, second, 0)?;
        // The tracer hears of its end first.
        assert_eq!(wait(second, c::__WALL)?, 0);
        assert_eq!(stopped(traced.pid)?, c::SIGCHLD);
        request(c::PTRACE_CONT, traced.pid, c::SIGCHLD as usize)?;
        traced.succeeds()?;
    }
    fn threads_are_followed_to_their_end() {
        let traced = tracee(|| {
            std::thread::scope(|scope| scope.spawn(|| ()).join()).ok();
            Ok(())
        })?;
        request(c::PTRACE_SETOPTIONS, traced.pid, (c::PTRACE_O_TRACECLONE | c::PTRACE_O_TRACEEXIT) as usize)?;
        let thread = followed(traced.pid, c::PTRACE_EVENT_CLONE)?;
        request(c::PTRACE_CONT, thread, 0)?;
        assert_eq!(stopped(thread)?, c::SIGTRAP | c::PTRACE_EVENT_EXIT << 8);
        request(c::PTRACE_CONT, thread, 0)?;
        assert_eq!(wait(thread, c::__WALL)?, 0);
        assert_eq!(stopped(traced.pid)?, c::SIGTRAP | c::PTRACE_EVENT_EXIT << 8);
        assert_eq!(message(traced.pid)?, 0);
        ends_well(&traced)?;
    }
    fn exec_is_told_by_an_event_or_a_signal() {
        for (option, told) in [(0, c::SIGTRAP), (c::PTRACE_O_TRACEEXEC, c::SIGTRAP | c::PTRACE_EVENT_EXEC << 8)] {
            let traced = tracee(|| {
                let (args, env) = (helper_args(&["status", "7"]), helper_env(&[]));
                sys!(execve, SELF, &args.pointers[..], &env.pointers[..])?;
                Ok(())
            })?;
            request(c::PTRACE_SETOPTIONS, traced.pid, option as usize)?;
            request(c::PTRACE_CONT, traced.pid, 0)?;
            assert_eq!(stopped(traced.pid)?, told);
            request(c::PTRACE_CONT, traced.pid, 0)?;
            traced.exits(7)?;
        }
    }
    fn vfork_and_its_end_are_told() {
        let mut place = 0;
        let traced = tracee(|| {
            let pid = process::vfork_store_exit(&mut place, 5, 0)?;
            wait(pid, 0)?;
            Ok(())
        })?;
        request(c::PTRACE_SETOPTIONS, traced.pid, (c::PTRACE_O_TRACEVFORK | c::PTRACE_O_TRACEVFORKDONE) as usize)?;
        let second = followed(traced.pid, c::PTRACE_EVENT_VFORK)?;
        request(c::PTRACE_DETACH, second, 0)?;
        loop {
            match stopped(traced.pid)? {
                c::SIGCHLD => request(c::PTRACE_CONT, traced.pid, 0)?,
                told => {
                    assert_eq!(told, c::SIGTRAP | c::PTRACE_EVENT_VFORK_DONE << 8);
                    break;
                }
            }
        }
        request(c::PTRACE_DETACH, traced.pid, 0)?;
        traced.succeeds()?;
    }
    fn seized_tracee_is_interrupted_and_listens() {
        let gate = Gate::new()?;
        let other = waiting(&gate)?;
        sys!(ptrace, c::PTRACE_SEIZE, other.pid, 0, 0)?;
        request(c::PTRACE_INTERRUPT, other.pid, 0)?;
        assert_eq!(stopped(other.pid)?, c::SIGTRAP | c::PTRACE_EVENT_STOP << 8);
        assert_eq!(siginfo(other.pid)?.si_code, c::SIGTRAP | c::PTRACE_EVENT_STOP << 8);
        request(c::PTRACE_CONT, other.pid, 0)?;
        other.kill(c::SIGSTOP)?;
        assert_eq!(stopped(other.pid)?, c::SIGSTOP);
        request(c::PTRACE_CONT, other.pid, c::SIGSTOP as usize)?;
        assert_eq!(stopped(other.pid)?, c::SIGSTOP | c::PTRACE_EVENT_STOP << 8);
        request(c::PTRACE_LISTEN, other.pid, 0)?;
        assert_errno(registers(other.pid).map(drop), c::ESRCH);
        other.kill(c::SIGCONT)?;
        assert_eq!(stopped(other.pid)?, c::SIGTRAP | c::PTRACE_EVENT_STOP << 8);
        request(c::PTRACE_CONT, other.pid, 0)?;
        assert_eq!(stopped(other.pid)?, c::SIGCONT);
        assert_errno(request(c::PTRACE_LISTEN, other.pid, 0), c::EIO);
        request(c::PTRACE_DETACH, other.pid, 0)?;
        gate.open()?;
        other.succeeds()?;
    }
    fn single_steps() {
        let traced = tracee(|| Ok(()))?;
        let mut at = registers(traced.pid)?.rip;
        for _ in 0..200 {
            request(c::PTRACE_SINGLESTEP, traced.pid, 0)?;
            assert_eq!(stopped(traced.pid)?, c::SIGTRAP);
            assert_eq!(siginfo(traced.pid)?.si_code, c::TRAP_TRACE);
            let now = registers(traced.pid)?;
            assert_ne!(now.rip, at);
            assert_eq!(now.eflags & 0x100, 0);
            at = now.rip;
        }
        ends_well(&traced)?;
    }
    fn breakpoint_in_text() {
        let traced = tracee(|| {
            assert_eq!(marked(20), 41);
            Ok(())
        })?;
        let place = marked as *const () as usize;
        let mut text = 0u64;
        sys!(ptrace, c::PTRACE_PEEKTEXT, traced.pid, place, &mut text)?;
        sys!(ptrace, c::PTRACE_POKETEXT, traced.pid, place, (text & !0xff | 0xcc) as usize)?;
        request(c::PTRACE_CONT, traced.pid, 0)?;
        assert_eq!(stopped(traced.pid)?, c::SIGTRAP);
        let mut here = registers(traced.pid)?;
        assert_eq!(here.rip as usize, place + 1);
        assert_eq!(here.rdi, 20);
        sys!(ptrace, c::PTRACE_POKETEXT, traced.pid, place, text as usize)?;
        here.rip = place as u64;
        set_registers(traced.pid, &here)?;
        ends_well(&traced)?;
    }
    fn floating_point_registers() {
        let traced = tracee(|| {
            let value = process::xmm_across_a_signal(c::SIGUSR1, 0x0102_0304_0506_0708)?;
            assert_eq!(value, 0x1122_3344_5566_7788);
            Ok(())
        })?;
        request(c::PTRACE_CONT, traced.pid, 0)?;
        assert_eq!(stopped(traced.pid)?, c::SIGUSR1);
        let mut state = [0u64; 64];
        sys!(ptrace, c::PTRACE_GETFPREGS, traced.pid, 0, &mut state)?;
        let place = state.iter().position(|word| *word == 0x0102_0304_0506_0708);
        // xmm15 of the FXSAVE area.
        assert_eq!(place, Some((160 + 15 * 16) / 8));
        state[(160 + 15 * 16) / 8] = 0x1122_3344_5566_7788;
        sys!(ptrace, c::PTRACE_SETFPREGS, traced.pid, 0, &state)?;
        let mut all = [0u64; 2048];
        let mut vector = [&raw mut all as usize, size_of_val(&all)];
        sys!(ptrace, c::PTRACE_GETREGSET, traced.pid, 0x202, &mut vector)?;
        assert!(vector[1] >= 576);
        assert_eq!(all[(160 + 15 * 16) / 8], 0x1122_3344_5566_7788);
        sys!(ptrace, c::PTRACE_SETREGSET, traced.pid, 0x202, &mut vector)?;
        ends_well(&traced)?;
    }
    fn register_sets_have_lengths() {
        let traced = tracee(|| Ok(()))?;
        let mut words = [0u64; 32];
        let mut vector = [&raw mut words as usize, size_of_val(&words)];
        sys!(ptrace, c::PTRACE_GETREGSET, traced.pid, 1, &mut vector)?;
        assert_eq!(vector[1], 27 * 8);
        assert_eq!(words[19], registers(traced.pid)?.rsp);
        let mut word = 0u64;
        sys!(ptrace, c::PTRACE_PEEKUSER, traced.pid, 19 * 8, &mut word)?;
        assert_eq!(word, words[19]);
        sys!(ptrace, c::PTRACE_POKEUSER, traced.pid, 3 * 8, 99)?;
        assert_eq!(registers(traced.pid)?.r12, 99);
        sys!(ptrace, c::PTRACE_POKEUSER, traced.pid, 3 * 8, words[3] as usize)?;
        assert_errno(sys!(ptrace, c::PTRACE_PEEKUSER, traced.pid, 4, &mut word), c::EIO);
        assert_errno(sys!(ptrace, c::PTRACE_PEEKUSER, traced.pid, 4096, &mut word), c::EIO);
        vector[1] = 7;
        assert_errno(sys!(ptrace, c::PTRACE_GETREGSET, traced.pid, 1, &mut vector), c::EINVAL);
        assert_errno(sys!(ptrace, c::PTRACE_GETREGSET, traced.pid, 0x7777, &mut vector), c::EINVAL);
        let mut bad = registers(traced.pid)?;
        bad.fs_base = u64::MAX - 8;
        assert_errno(set_registers(traced.pid, &bad), c::EIO);
        ends_well(&traced)?;
    }
    fn masks_and_queued_signals() {
        let traced = tracee(|| Ok(()))?;
        let blocked = 1u64 << (c::SIGUSR1 - 1);
        sys!(ptrace, c::PTRACE_SETSIGMASK, traced.pid, 8, &blocked)?;
        let mut mask = 0u64;
        sys!(ptrace, c::PTRACE_GETSIGMASK, traced.pid, 8, &mut mask)?;
        assert_eq!(mask, blocked);
        assert_errno(sys!(ptrace, c::PTRACE_GETSIGMASK, traced.pid, 4, &mut mask), c::EINVAL);
        traced.kill(c::SIGUSR1)?;
        let mut queued: c::siginfo_t = crate::sys::zeroed();
        // Offset, flags (the process's), count.
        let args = [0u64, 1 | 5 << 32];
        assert_eq!(sys!(ptrace, c::PTRACE_PEEKSIGINFO, traced.pid, &args, &mut queued)?, 1);
        assert_eq!(queued.si_signo, c::SIGUSR1);
        let wrong = [0u64, 2 | 5 << 32];
        assert_errno(sys!(ptrace, c::PTRACE_PEEKSIGINFO, traced.pid, &wrong, &mut queued), c::EINVAL);
        ends_well(&traced)?;
    }
    fn signal_information_is_replaced() {
        let traced = tracee(|| {
            signal::record(c::SIGUSR1, c::SA_SIGINFO)?;
            sys!(kill, pid()?, c::SIGUSR1)?;
            assert_eq!(signal::count(c::SIGUSR1), 1);
            assert_eq!(signal::LAST.code.load(SeqCst), -77);
            Ok(())
        })?;
        request(c::PTRACE_CONT, traced.pid, 0)?;
        assert_eq!(stopped(traced.pid)?, c::SIGUSR1);
        let mut info = siginfo(traced.pid)?;
        info.si_code = -77;
        sys!(ptrace, c::PTRACE_SETSIGINFO, traced.pid, 0, &info)?;
        request(c::PTRACE_CONT, traced.pid, c::SIGUSR1 as usize)?;
        traced.succeeds()?;
    }
    fn another_number_in_the_information_changes_no_signal() {
        let traced = tracee(|| {
            signal::record(c::SIGUSR1, c::SA_SIGINFO)?;
            sys!(kill, pid()?, c::SIGUSR1)?;
            assert_eq!(signal::count(c::SIGUSR1), 1);
            Ok(())
        })?;
        request(c::PTRACE_CONT, traced.pid, 0)?;
        assert_eq!(stopped(traced.pid)?, c::SIGUSR1);
        let mut info = siginfo(traced.pid)?;
        for number in [c::SIGKILL, 0, -1, 9999, i32::MIN] {
            info.si_signo = number;
            sys!(ptrace, c::PTRACE_SETSIGINFO, traced.pid, 0, &info)?;
        }
        request(c::PTRACE_CONT, traced.pid, c::SIGUSR1 as usize)?;
        traced.succeeds()?;
    }
    fn parents_with_fewer_rights_do_not_trace() {
        need_root()?;
        let gate = Gate::new()?;
        child(|| {
            let traced = child(|| {
                gate.pass()?;
                assert_errno(sys!(ptrace, c::PTRACE_TRACEME, 0, 0, 0), c::EPERM);
                Ok(())
            })?;
            sys!(setresuid, 65534, 65534, 65534)?;
            gate.open()?;
            traced.succeeds()
        })?.succeeds()?;
    }
    fn thread_that_stands_at_its_end_holds_nobody_up() {
        let traced = tracee(|| {
            std::thread::spawn(|| sys!(exit, 0));
            loop { sys!(pause).ok(); }
        })?;
        request(c::PTRACE_SETOPTIONS, traced.pid, (c::PTRACE_O_TRACECLONE | c::PTRACE_O_TRACEEXIT) as usize)?;
        let thread = followed(traced.pid, c::PTRACE_EVENT_CLONE)?;
        request(c::PTRACE_CONT, thread, 0)?;
        assert_eq!(stopped(thread)?, c::SIGTRAP | c::PTRACE_EVENT_EXIT << 8);
        traced.kill(c::SIGKILL)?;
        // Its first thread may stand once more; the other's end is told too, in any order.
        let mut ends = Vec::new();
        loop {
            let mut status = 0i32;
            let Ok(one) = sys!(wait4, -1, &mut status, c::__WALL, 0) else { break };
            match c::WIFSTOPPED(status) {
                true => request(c::PTRACE_CONT, crate::kit::int(one), 0)?,
                false => ends.push((crate::kit::int(one), status)),
            }
        }
        assert!(ends.contains(&(traced.pid, c::SIGKILL)), "{ends:?}");
    }
    fn who_is_continued_while_it_stops_is_not_listened_to_for_ever() {
        const EVENT_STOP: i32 = 128;
        for _ in 0..200 {
            let other = child(|| Ok(sys!(kill, pid()?, c::SIGSTOP).map(drop)?))?;
            wait(other.pid, c::WUNTRACED)?;
            request(c::PTRACE_SEIZE, other.pid, 0)?;
            request(c::PTRACE_INTERRUPT, other.pid, 0)?;
            other.kill(c::SIGCONT)?;
            loop {
                let status = wait(other.pid, c::__WALL)?;
                if !c::WIFSTOPPED(status) {
                    assert_eq!(status, 0);
                    break;
                }
                match (status >> 16, c::WSTOPSIG(status)) {
                    (EVENT_STOP, c::SIGSTOP) => request(c::PTRACE_LISTEN, other.pid, 0)?,
                    (EVENT_STOP, _) => request(c::PTRACE_CONT, other.pid, 0)?,
                    (_, signal) => request(c::PTRACE_CONT, other.pid, usize::try_from(signal).unwrap_or(0))?,
                }
            }
        }
    }
    fn kill_ends_a_tracee_that_stands() {
        for kills in [0, 1] {
            let traced = tracee(|| Ok(()))?;
            match kills {
                0 => traced.kill(c::SIGKILL)?,
                _ => request(c::PTRACE_KILL, traced.pid, 0)?,
            }
            traced.dies_of(c::SIGKILL)?;
        }
    }
    fn tracers_end_lets_go_or_kills() {
        for (options, dies) in [(0, false), (c::PTRACE_O_EXITKILL, true)] {
            let gate = Gate::new()?;
            let other = child(|| gate.pass().map_err(Into::into))?;
            child(|| {
                sys!(ptrace, c::PTRACE_SEIZE, other.pid, 0, options)?;
                request(c::PTRACE_INTERRUPT, other.pid, 0)?;
                stopped(other.pid)?;
                Ok(())
            })?.succeeds()?;
            if dies {
                other.dies_of(c::SIGKILL)?;
            } else {
                gate.open()?;
                other.succeeds()?;
            }
        }
    }
    fn strangers_are_not_traced() {
        need_root()?;
        let gate = Gate::new()?;
        let other = waiting(&gate)?;
        as_nobody(|| {
            assert_errno(sys!(ptrace, c::PTRACE_SEIZE, other.pid, 0, 0), c::EPERM);
            assert_errno(request(c::PTRACE_ATTACH, other.pid, 0), c::EPERM);
            Ok(())
        })?;
        gate.open()?;
        other.succeeds()?;
    }
    fn refusals() {
        let own = pid()?;
        assert_errno(request(c::PTRACE_ATTACH, own, 0), c::EPERM);
        assert_errno(request(c::PTRACE_ATTACH, i32::MAX, 0), c::ESRCH);
        assert_errno(request(c::PTRACE_CONT, own, 0), c::ESRCH);
        let gate = Gate::new()?;
        let other = waiting(&gate)?;
        assert_errno(request(c::PTRACE_CONT, other.pid, 0), c::ESRCH);
        assert_errno(sys!(ptrace, c::PTRACE_SEIZE, other.pid, 1, 0), c::EIO);
        assert_errno(sys!(ptrace, c::PTRACE_SEIZE, other.pid, 0, 1 << 30), c::EIO);
        sys!(ptrace, c::PTRACE_SEIZE, other.pid, 0, 0)?;
        assert_errno(sys!(ptrace, c::PTRACE_SEIZE, other.pid, 0, 0), c::EPERM);
        // It runs.
        assert_errno(registers(other.pid).map(drop), c::ESRCH);
        request(c::PTRACE_INTERRUPT, other.pid, 0)?;
        stopped(other.pid)?;
        assert_errno(request(c::PTRACE_SETOPTIONS, other.pid, 1 << 30), c::EINVAL);
        assert_errno(request(c::PTRACE_CONT, other.pid, 65), c::EIO);
        assert_errno(request(99, other.pid, 0), c::EIO);
        assert_errno(sys!(ptrace, c::PTRACE_GETREGS, other.pid, 0, 8), c::EFAULT);
        assert_errno(sys!(ptrace, c::PTRACE_SETREGS, other.pid, 0, 8), c::EFAULT);
        let traced = tracee(|| {
            assert_errno(sys!(ptrace, c::PTRACE_TRACEME, 0, 0, 0), c::EPERM);
            Ok(())
        })?;
        assert_errno(request(c::PTRACE_INTERRUPT, traced.pid, 0), c::EIO);
        ends_well(&traced)?;
        request(c::PTRACE_DETACH, other.pid, 0)?;
        gate.open()?;
        other.succeeds()?;
    }
}

/// Where a breakpoint is set.
#[inline(never)]
extern "C" fn marked(value: u64) -> u64 {
    std::hint::black_box(value * 2 + 1)
}
