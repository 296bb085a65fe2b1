//! Tracing of other tasks: ptrace(2). What a tracee does is in [`crate::process::ptrace`].

use crate::process::ptrace::{self, Kind, Mode, OLD_STATE, Options, Registers, Stop};
use crate::process::{Pid, Task, tree, visit};
use crate::signal::{SIGKILL, SigInfo, SigSet, send_process};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::guest;
use zerocopy::IntoBytes;

const TRACEME: u64 = 0;
const PEEKTEXT: u64 = 1;
const PEEKDATA: u64 = 2;
const PEEKUSER: u64 = 3;
const POKETEXT: u64 = 4;
const POKEDATA: u64 = 5;
const POKEUSER: u64 = 6;
const CONT: u64 = 7;
const KILL: u64 = 8;
const SINGLESTEP: u64 = 9;
const GETREGS: u64 = 12;
const SETREGS: u64 = 13;
const GETFPREGS: u64 = 14;
const SETFPREGS: u64 = 15;
const ATTACH: u64 = 16;
const DETACH: u64 = 17;
const SYSCALL: u64 = 24;
const SETOPTIONS: u64 = 0x4200;
const GETEVENTMSG: u64 = 0x4201;
const GETSIGINFO: u64 = 0x4202;
const SETSIGINFO: u64 = 0x4203;
const GETREGSET: u64 = 0x4204;
const SETREGSET: u64 = 0x4205;
const SEIZE: u64 = 0x4206;
const INTERRUPT: u64 = 0x4207;
const LISTEN: u64 = 0x4208;
const PEEKSIGINFO: u64 = 0x4209;
const GETSIGMASK: u64 = 0x420a;
const SETSIGMASK: u64 = 0x420b;
const GET_SYSCALL_INFO: u64 = 0x420e;
const GET_RSEQ_CONFIGURATION: u64 = 0x420f;

/// Traces: each request's own meaning of `addr` and `data` is in the man page.
///
/// # Errors
/// ESRCH for what is no tracee of the caller that stands, EPERM, EIO, EINVAL, EFAULT, EBUSY.
pub(super) fn ptrace(task: &Task, request: u64, pid: Pid, addr: u64, data: u64) -> Result<u64> {
    if request == TRACEME {
        return ptrace::trace_me(task).map(|()| 0);
    }
    let target = tree::task(pid).ok_or(Errno::ESRCH)?;
    let tracer = task.process.pid;
    match request {
        ATTACH => ptrace::attach(task, &target, None)?,
        SEIZE => {
            let options = Options::from_bits(data).filter(|_| addr == 0).ok_or(Errno::EIO)?;
            ptrace::attach(task, &target, Some(options))?;
        }
        INTERRUPT => {
            target.trace.interrupt(tracer)?;
            target.cpu().kick();
        }
        KILL if target.trace.tracer() == tracer => send_process(&target.process, SigInfo::kernel(SIGKILL)),
        _ => return with_stopped(task, &target, request, addr, data),
    }
    Ok(0)
}

/// Requests for a tracee that stands.
fn with_stopped(task: &Task, target: &Arc<Task>, request: u64, addr: u64, data: u64) -> Result<u64> {
    let tracer = task.process.pid;
    let trace = &target.trace;
    trace.with_stop(tracer, |_| Ok(()))?;
    let is_memory = matches!(request, PEEKTEXT | PEEKDATA | POKETEXT | POKEDATA);
    if is_memory && target.mm().info().dumpable != 1 && !trace.lets_rights_grow() {
        return Err(Errno::EIO);
    }
    match request {
        PEEKTEXT | PEEKDATA => guest::write_value(data, &peek(target, addr)?)?,
        POKETEXT | POKEDATA => poke(target, addr, data)?,
        PEEKUSER => {
            let word = trace.with_stop(tracer, |stop| peek_user(stop, addr))?;
            guest::write_value(data, &word)?;
        }
        POKEUSER => trace.with_stop(tracer, |stop| poke_user(stop, addr, data))?,
        CONT => trace.resume(tracer, Mode::Free, signal(data)?)?,
        SYSCALL => trace.resume(tracer, Mode::Calls, signal(data)?)?,
        SINGLESTEP => trace.resume(tracer, Mode::Step, signal(data)?)?,
        DETACH => task.process.stop_tracing(target, signal(data)?),
        LISTEN => trace.listen(tracer)?,
        GETREGS | SETREGS | GETFPREGS | SETFPREGS | GETREGSET | SETREGSET => {
            move_registers(task, target, request, addr, data)?;
        }
        SETOPTIONS => trace.set_options(Options::from_bits(data).ok_or(Errno::EINVAL)?),
        GETEVENTMSG => {
            let message = trace.with_stop(tracer, |stop| Ok(stop.message))?;
            guest::write_value(data, &message)?;
        }
        GETSIGINFO | SETSIGINFO => move_signal_info(task, target, request, data)?,
        PEEKSIGINFO => return peek_signals(target, addr, data),
        GETSIGMASK | SETSIGMASK if addr != 8 => return Err(Errno::EINVAL),
        GETSIGMASK => guest::write_value(data, &target.signals.mask().0)?,
        SETSIGMASK => {
            // It stands, and looks at what is pending when it goes on.
            target.signals.replace_mask(SigSet(guest::read_value(data)?));
        }
        GET_SYSCALL_INFO => return call_info(task, target, addr, data),
        GET_RSEQ_CONFIGURATION => return rseq_configuration(target, addr, data),
        _ => return Err(Errno::EIO),
    }
    Ok(0)
}

/// PTRACE_GETREGS and its like.
fn move_registers(task: &Task, target: &Task, request: u64, addr: u64, data: u64) -> Result<()> {
    let (tracer, trace) = (task.process.pid, &target.trace);
    match request {
        GETREGS => {
            let registers = trace.with_stop(tracer, |stop| Ok(*stop.registers.general()))?;
            guest::write_value(data, &registers)?;
        }
        SETREGS => {
            let registers: Registers = guest::read_value(data)?;
            trace.with_stop(tracer, |stop| stop.registers.set_general(registers))?;
        }
        GETFPREGS => {
            let state = trace.with_stop(tracer, |stop| Ok(old_state(stop)))?;
            guest::write(data, &state)?;
        }
        SETFPREGS => {
            let mut state = [0; OLD_STATE];
            guest::read(data, &mut state)?;
            trace.with_stop(tracer, |stop| stop.registers.set_old(&state))?;
        }
        GETREGSET => get_register_set(task, target, addr, data)?,
        _ => set_register_set(task, target, addr, data)?,
    }
    Ok(())
}

/// PTRACE_GETSIGINFO and SETSIGINFO.
fn move_signal_info(task: &Task, target: &Task, request: u64, data: u64) -> Result<()> {
    let (tracer, trace) = (task.process.pid, &target.trace);
    if request == GETSIGINFO {
        let info = trace.with_stop(tracer, |stop| stop.signal_info().map(SigInfo::to_bytes))?;
        return guest::write(data, &info);
    }
    let mut bytes = [0; 128];
    guest::read(data, &mut bytes)?;
    trace.with_stop(tracer, |stop| {
        let continues = stop.signal_info()?.continues;
        stop.info = SigInfo { continues, ..SigInfo::from_bytes(&bytes) };
        Ok(())
    })
}

/// A signal to go on with; 0 for none.
fn signal(data: u64) -> Result<i32> {
    i32::try_from(data).ok().filter(|signal| *signal <= crate::signal::NSIG).ok_or(Errno::EIO)
}

fn peek(target: &Arc<Task>, addr: u64) -> Result<u64> {
    let mut word = [0; 8];
    match visit::read(&target.process, addr, &mut word) {
        Ok(8) => Ok(u64::from_le_bytes(word)),
        Err(Errno::INTERRUPTED) => Err(Errno::INTERRUPTED),
        _ => Err(Errno::EIO),
    }
}

fn poke(target: &Arc<Task>, addr: u64, word: u64) -> Result<()> {
    match visit::write_forced(&target.process, addr, &word.to_le_bytes()) {
        Ok(8) => Ok(()),
        Err(Errno::INTERRUPTED) => Err(Errno::INTERRUPTED),
        _ => Err(Errno::EIO),
    }
}

/// Bytes of `struct user`, and where it has the debug registers.
const USER_LEN: u64 = 928;
const DEBUG_REGISTERS: core::ops::Range<u64> = 848..912;
const REGISTERS_LEN: u64 = size_of::<Registers>() as u64;

/// A word of `struct user`.
fn peek_user(stop: &Stop, addr: u64) -> Result<u64> {
    if !addr.is_multiple_of(8) || addr >= USER_LEN {
        return Err(Errno::EIO);
    }
    let at = usize::try_from(addr).map_err(|_| Errno::EIO)?;
    let word = stop.registers.general().as_bytes().get(at..at + 8);
    // There are no debug registers, and the rest of the structure is of no use any more.
    Ok(word.and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes))
}

fn poke_user(stop: &mut Stop, addr: u64, word: u64) -> Result<()> {
    if !addr.is_multiple_of(8) || addr >= USER_LEN || DEBUG_REGISTERS.contains(&addr) && word != 0 {
        return Err(Errno::EIO);
    }
    if addr >= REGISTERS_LEN {
        return Ok(());
    }
    let mut registers = *stop.registers.general();
    let at = usize::try_from(addr).map_err(|_| Errno::EIO)?;
    registers.as_mut_bytes().iter_mut().skip(at).zip(word.to_le_bytes()).for_each(|(to, from)| *to = from);
    stop.registers.set_general(registers)
}

fn old_state(stop: &Stop) -> Vec<u8> {
    let all = stop.registers.extended();
    all.get(..OLD_STATE).unwrap_or(all).to_vec()
}

/// NT_PRSTATUS, NT_PRFPREG, NT_X86_XSTATE.
const GENERAL_SET: u64 = 1;
const OLD_SET: u64 = 2;
const EXTENDED_SET: u64 = 0x202;

/// As much of a set as a `struct iovec` has room for, whose length then tells how much that was.
fn get_register_set(task: &Task, target: &Task, kind: u64, vector: u64) -> Result<()> {
    let [base, len] = guest::read_value::<[u64; 2]>(vector)?;
    let set = target.trace.with_stop(task.process.pid, |stop| match kind {
        GENERAL_SET => Ok(stop.registers.general().as_bytes().to_vec()),
        OLD_SET => Ok(old_state(stop)),
        EXTENDED_SET => Ok(stop.registers.extended().to_vec()),
        _ => Err(Errno::EINVAL),
    })?;
    check_set_len(kind, len)?;
    let part = set.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(&set);
    guest::write(base, part)?;
    guest::write_value(vector + 8, &(part.len() as u64))
}

fn set_register_set(task: &Task, target: &Task, kind: u64, vector: u64) -> Result<()> {
    let [base, len] = guest::read_value::<[u64; 2]>(vector)?;
    check_set_len(kind, len)?;
    let read = |most: usize| {
        let mut bytes = alloc::vec![0; most.min(usize::try_from(len).unwrap_or(usize::MAX))];
        guest::read(base, &mut bytes).map(|()| bytes)
    };
    let pid = task.process.pid;
    let moved = match kind {
        GENERAL_SET => {
            let bytes = read(size_of::<Registers>())?;
            target.trace.with_stop(pid, |stop| {
                let mut registers = *stop.registers.general();
                registers.as_mut_bytes().iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
                stop.registers.set_general(registers)
            })?;
            bytes.len()
        }
        OLD_SET => {
            let bytes = read(OLD_STATE)?;
            target.trace.with_stop(pid, |stop| stop.registers.set_old(&bytes))?;
            bytes.len()
        }
        EXTENDED_SET => {
            let most = target.trace.with_stop(pid, |stop| Ok(stop.registers.extended().len()))?;
            let bytes = read(most)?;
            target.trace.with_stop(pid, |stop| stop.registers.set_extended(&bytes))?;
            bytes.len()
        }
        _ => return Err(Errno::EINVAL),
    };
    guest::write_value(vector + 8, &(moved as u64))
}

/// Whole registers only.
fn check_set_len(kind: u64, len: u64) -> Result<()> {
    match kind {
        GENERAL_SET | OLD_SET | EXTENDED_SET if len.is_multiple_of(8) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// `struct ptrace_peeksiginfo_args`: copies of queued signals, which stay queued.
fn peek_signals(target: &Task, args: u64, data: u64) -> Result<u64> {
    const SHARED: u32 = 1;
    const INFO_LEN: u64 = 128;
    let from: u64 = guest::read_value(args)?;
    let [flags, count] = guest::read_value::<[u32; 2]>(args.wrapping_add(8))?;
    let count = i32::try_from(count).map_err(|_| Errno::EINVAL)?;
    if flags & !SHARED != 0 {
        return Err(Errno::EINVAL);
    }
    let pending = if flags & SHARED != 0 { &target.process.pending } else { &target.signals.pending };
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let mut done = 0;
    for info in pending.collect().iter().skip(from).take(usize::try_from(count).unwrap_or(0)) {
        match guest::write(data.wrapping_add(done * INFO_LEN), &info.to_bytes()) {
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
            Ok(()) => done += 1,
        }
    }
    Ok(done)
}

/// AUDIT_ARCH_X86_64.
const ARCH: u32 = 0xc000_003e;

/// `struct ptrace_syscall_info`: as much as there is room for; returns how much there is.
fn call_info(task: &Task, target: &Task, room: u64, data: u64) -> Result<u64> {
    const NONE: u8 = 0;
    const ENTRY: u8 = 1;
    const EXIT: u8 = 2;
    let info = target.trace.with_stop(task.process.pid, |stop| {
        let registers = stop.registers.general();
        let mut rest = Vec::new();
        let kind = match stop.kind {
            Kind::Entry => {
                let Registers { orig_rax, rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
                rest.extend([orig_rax, rdi, rsi, rdx, r10, r8, r9].iter().flat_map(|word| word.to_le_bytes()));
                ENTRY
            }
            Kind::Exit => {
                rest.extend(registers.rax.to_le_bytes());
                rest.push(u8::from((-4095..0).contains(&registers.rax.cast_signed())));
                EXIT
            }
            Kind::Signal | Kind::Event | Kind::Group => NONE,
        };
        let mut info = alloc::vec![kind, 0, 0, 0];
        info.extend(ARCH.to_le_bytes());
        info.extend(registers.rip.to_le_bytes());
        info.extend(registers.rsp.to_le_bytes());
        info.extend(rest);
        Ok(info)
    })?;
    let part = info.get(..usize::try_from(room).unwrap_or(usize::MAX)).unwrap_or(&info);
    guest::write(data, part)?;
    Ok(info.len() as u64)
}

/// `struct ptrace_rseq_configuration`.
fn rseq_configuration(target: &Task, room: u64, data: u64) -> Result<u64> {
    let rseq = target.settings.lock().rseq;
    let (area, len, signature) = rseq.map_or((0, 0, 0), |rseq| (rseq.area, rseq.len, rseq.signature));
    let mut bytes = area.to_le_bytes().to_vec();
    bytes.extend([len, signature, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
    let part = bytes.get(..usize::try_from(room).unwrap_or(usize::MAX)).unwrap_or(&bytes);
    guest::write(data, part)?;
    Ok(bytes.len() as u64)
}
