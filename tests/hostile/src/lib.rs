//! What the tests of hostile guests need of the host: to stop a process and look at it.

use std::io::{Error, Result};

/// Kills a process at once.
///
/// # Errors
/// ESRCH where it has ended.
pub fn kill(pid: u32) -> Result<()> {
    // SAFETY: touches no memory.
    let ret = unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
    if ret == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Processes below this one that lose their parent come to it.
pub fn adopt_orphans() {
    // SAFETY: a setting of the process itself.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Reaps every child that has ended. Whoever calls it waits for no child of its own meanwhile.
pub fn reap_orphans() {
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Whether this process is root's.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: a query.
    unsafe { libc::geteuid() == 0 }
}

const PTRACE_SEIZE: u32 = 0x4206;
const PTRACE_INTERRUPT: u32 = 0x4207;
const PTRACE_SECCOMP_GET_FILTER: u32 = 0x420c;

fn ptrace(request: u32, pid: u32, address: usize, data: *mut u8) -> Result<usize> {
    // SAFETY: the requests used here write no more than the filter or the registers, for which the caller has room.
    let ret = unsafe { libc::ptrace(request, pid, address, data) };
    usize::try_from(ret).map_err(|_| Error::last_os_error())
}

/// A process that is traced and stopped; it goes on when this is dropped.
#[derive(Debug)]
pub struct Stopped(u32);

impl Stopped {
    /// Stops a process, wherever it is.
    ///
    /// # Errors
    /// ESRCH where it has ended, EPERM where the caller may not trace it.
    pub fn new(pid: u32) -> Result<Self> {
        ptrace(PTRACE_SEIZE, pid, 0, std::ptr::null_mut())?;
        ptrace(PTRACE_INTERRUPT, pid, 0, std::ptr::null_mut())?;
        // SAFETY: no status is asked for.
        match unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), libc::__WALL) } {
            -1 => Err(Error::last_os_error()),
            _ => Ok(Self(pid)),
        }
    }

    /// One of its filters as bytes of `struct sock_filter`, the most recent first (0).
    ///
    /// # Errors
    /// ENOENT where it has no such filter, EACCES without CAP_SYS_ADMIN in the first user namespace.
    pub fn filter(&self, index: usize) -> Result<Vec<[u8; 8]>> {
        let count = ptrace(PTRACE_SECCOMP_GET_FILTER, self.0, index, std::ptr::null_mut())?;
        let mut program = vec![[0; 8]; count];
        ptrace(PTRACE_SECCOMP_GET_FILTER, self.0, index, program.as_mut_ptr().cast())?;
        Ok(program)
    }

    /// Address of its next instruction.
    ///
    /// # Errors
    /// ESRCH where it has been killed meanwhile.
    pub fn address(&self) -> Result<u64> {
        // SAFETY: a structure of numbers.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        ptrace(libc::PTRACE_GETREGS, self.0, 0, (&raw mut registers).cast())?;
        Ok(registers.rip)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if ptrace(libc::PTRACE_DETACH, self.0, 0, std::ptr::null_mut()).is_err() {
            // It has been killed; its parent hears of it only once its tracer has.
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(self.0.cast_signed(), std::ptr::null_mut(), libc::__WALL) };
        }
    }
}
