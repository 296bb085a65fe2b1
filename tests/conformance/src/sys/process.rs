//! New processes and threads by the calls that return twice.

use super::{Errno, Result};
use core::arch::asm;
use core::ffi::CStr;
use libc::{c_int, c_void};

/// A copy of this process: 0 in the child. By libc, so that its own records of the thread are right.
///
/// # Errors
/// Those of fork.
pub(crate) fn fork() -> Result<i32> {
    // SAFETY: cases are single-threaded when they fork, or their children make system calls only.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        pid => Ok(pid),
    }
}

fn last_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// What a cloned child runs; its result is its exit status.
pub(crate) type Body = extern "C" fn(*mut c_void) -> c_int;

/// Where clone stores thread ids and takes the new thread's pointer from.
#[derive(Clone, Copy, Default)]
pub(crate) struct Places {
    pub(crate) parent_tid: usize,
    pub(crate) tls: usize,
    pub(crate) child_tid: usize,
}

/// clone(2) with a stack of its own for the child, which runs `body(argument)`.
///
/// # Errors
/// Those of clone.
pub(crate) fn clone(flags: c_int, body: Body, argument: usize, places: Places) -> Result<i32> {
    const STACK: usize = 256 * 1024;
    let stack = super::memory::pages(STACK / super::memory::PAGE)?;
    let top = core::ptr::with_exposed_provenance_mut::<c_void>(stack + STACK);
    let pointer = core::ptr::with_exposed_provenance_mut::<c_void>;
    // SAFETY: the stack is fresh and never unmapped; the body makes system calls only.
    let pid = unsafe {
        libc::clone(
            body,
            top,
            flags,
            pointer(argument),
            pointer(places.parent_tid),
            pointer(places.tls),
            pointer(places.child_tid),
        )
    };
    let result = if pid == -1 { Err(last_errno()) } else { Ok(pid) };
    super::coverage::note(libc::SYS_clone, result.map(i64::from));
    result
}

/// Sends itself a signal that a tracer swallows, with a value in xmm15; returns what is there afterwards.
///
/// # Errors
/// Those of kill.
pub(crate) fn xmm_across_a_signal(signal: c_int, value: u64) -> Result<u64> {
    let pid = i64::from(std::process::id());
    let (result, after): (i64, u64);
    // SAFETY: kill touches no memory; all registers are declared.
    unsafe {
        asm!(
            "movq xmm15, {value}",
            "syscall",
            "movq {value}, xmm15",
            value = inout(reg) value => after,
            inlateout("rax") libc::SYS_kill => result,
            in("rdi") pid, in("rsi") i64::from(signal),
            out("rcx") _, out("r11") _, out("xmm15") _,
        );
    }
    if result == 0 { Ok(after) } else { Err(Errno(i32::try_from(-result).unwrap_or(0))) }
}

/// Makes three calls with more flags set, getppid, a close that fails, and uname; the flags after each.
pub(crate) fn flags_across_calls(more: u64) -> [u64; 3] {
    let mut name: libc::utsname = super::zeroed();
    let (first, second, third): (u64, u64, u64);
    // SAFETY: the calls write to the name alone, the flags are as before at the end; all registers are declared.
    unsafe {
        asm!(
            "pushfq",
            "or [rsp], r8",
            "popfq",
            "mov eax, 110",
            "syscall",
            "pushfq",
            "pop {first}",
            "mov rdi, -1",
            "mov eax, 3",
            "syscall",
            "pushfq",
            "pop {second}",
            "mov rdi, {name}",
            "mov eax, 63",
            "syscall",
            "pushfq",
            "pop {third}",
            "not r8",
            "pushfq",
            "and [rsp], r8",
            "popfq",
            name = in(reg) &raw mut name,
            first = out(reg) first, second = out(reg) second, third = out(reg) third,
            inout("r8") more => _, out("rax") _, out("rdi") _, out("rcx") _, out("r11") _,
        );
    }
    assert_ne!(name.sysname[0], 0);
    [first, second, third]
}

/// vfork(2), with a child that stores `value` at `place` and exits with `status`; returns its pid.
///
/// # Errors
/// Those of vfork.
pub(crate) fn vfork_store_exit(place: &mut u64, value: u64, status: i32) -> Result<i32> {
    let pid: i64;
    // SAFETY: the child touches no stack, stores one word and exits; all registers are declared.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov qword ptr [r12], r13",
            "mov edi, r14d",
            "mov eax, 60",
            "syscall",
            "2:",
            inlateout("rax") libc::SYS_vfork => pid,
            in("r12") &raw mut *place, in("r13") value, in("r14") status,
            out("rdi") _, out("rcx") _, out("r11") _,
        );
    }
    super::coverage::note(libc::SYS_vfork, Ok(pid));
    to_pid(pid)
}

/// vfork(2), with a child that executes a program, or exits with 127; returns its pid.
///
/// # Errors
/// Those of vfork.
pub(crate) fn vfork_exec(path: &CStr, argv: &[*const i8], envp: &[*const i8]) -> Result<i32> {
    let pid: i64;
    // SAFETY: the child touches no stack, executes or exits; all registers are declared.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, r12",
            "mov rsi, r13",
            "mov rdx, r14",
            "mov eax, 59",
            "syscall",
            "mov edi, 127",
            "mov eax, 60",
            "syscall",
            "2:",
            inlateout("rax") libc::SYS_vfork => pid,
            in("r12") path.as_ptr(), in("r13") argv.as_ptr(), in("r14") envp.as_ptr(),
            out("rdi") _, out("rsi") _, out("rdx") _, out("rcx") _, out("r11") _,
        );
    }
    to_pid(pid)
}

fn to_pid(raw: i64) -> Result<i32> {
    match i32::try_from(raw) {
        Ok(pid) if pid >= 0 => Ok(pid),
        Ok(errno) => Err(Errno(-errno)),
        Err(_) => Err(Errno(libc::ERANGE)),
    }
}

/// Ends the process at once: exit_group(2).
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: _exit ends the process and runs no handlers.
    unsafe { libc::_exit(status) }
}
