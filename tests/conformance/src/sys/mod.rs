//! Everything unsafe of this program: the system call itself, memory by address, handlers, threads.
//!
//! These functions are safe to call although a case may pass them any number, a bad pointer
//! included: that is what cases are for. It is tolerable because each case is a process of its own
//! that is thrown away, and nothing it computes outlives it but a message.
#![allow(unsafe_code, reason = "a program that tests system calls makes system calls")]

pub(crate) mod coverage;
mod errno;
pub(crate) mod fault;
pub(crate) mod memory;
pub(crate) mod nr;
pub(crate) mod process;
pub(crate) mod signal;

use core::arch::asm;
use libc::c_long;

/// What a system call answered instead of a result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

/// The outcome of one system call.
pub(crate) type Result<T> = core::result::Result<T, Errno>;

/// A value that fits an argument register.
pub(crate) trait Arg {
    /// The register's content.
    fn word(self) -> usize;
}

macro_rules! integer_args {
    ($($ty:ty)*) => {
        $(impl Arg for $ty {
            fn word(self) -> usize {
                // Sign extension, as C does for an int passed to syscall(2).
                self as usize
            }
        })*
    };
}

integer_args! { i16 u16 i32 u32 i64 u64 usize isize }

impl<T> Arg for *const T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

impl<T> Arg for *mut T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

impl<T: ?Sized> Arg for &T {
    fn word(self) -> usize {
        (&raw const *self).cast::<u8>().expose_provenance()
    }
}

impl<T: ?Sized> Arg for &mut T {
    fn word(self) -> usize {
        (&raw mut *self).cast::<u8>().expose_provenance()
    }
}

/// Makes one system call.
///
/// # Errors
/// The errno that the kernel answered.
pub(crate) fn call(number: c_long, args: [usize; 6]) -> Result<i64> {
    let ret: i64;
    // SAFETY: the kernel changes rax, rcx, r11 and memory that the arguments point at; the module's
    // comment says why arguments are not checked.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => ret,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    let result = match ret {
        -4095..0 => Err(Errno(i32::try_from(-ret).unwrap_or(i32::MAX))),
        _ => Ok(ret),
    };
    coverage::note(number, result);
    result
}

/// `sys!(read, fd, &mut buf, 4)`: one system call by name, its arguments as in its man page.
macro_rules! sys {
    (@pad [$($done:expr),*]) => { $crate::sys::padded([$($done),*]) };
    ($name:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::call($crate::sys::nr::$name, $crate::sys::padded([$($crate::sys::Arg::word($arg)),*]))
    };
}
pub(crate) use sys;

/// Fills unused argument registers with zero.
pub(crate) fn padded<const N: usize>(args: [usize; N]) -> [usize; 6] {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&args);
    all
}

/// A C structure for which any bytes, zeros included, are a value.
pub(crate) trait Plain: Copy {}

macro_rules! plain {
    ($($ty:ty)*) => { $(impl Plain for $ty {})* };
}

plain! {
    libc::stat libc::statfs libc::statx libc::termios libc::winsize libc::rusage libc::tms
    libc::utsname libc::sysinfo libc::siginfo_t libc::sched_param libc::itimerval libc::itimerspec
    libc::timespec libc::timeval libc::rlimit libc::flock libc::signalfd_siginfo libc::ucred
    libc::sockaddr_un libc::sockaddr_in libc::sockaddr_in6 libc::sockaddr_storage libc::shmid_ds
    libc::semid_ds libc::msqid_ds libc::epoll_event libc::pollfd libc::cpu_set_t libc::sigevent
    libc::msghdr libc::iovec libc::linger libc::timex libc::timezone libc::mmsghdr libc::seminfo
    libc::user_regs_struct
    libc::clone_args libc::open_how libc::fd_set libc::stack_t
    u64 u32 i32 i64 u8 u16
}

impl<T: Plain, const N: usize> Plain for [T; N] {}

/// An all-zero value, for the kernel to fill in.
pub(crate) fn zeroed<T: Plain>() -> T {
    // SAFETY: `Plain` types are C structures of integers and raw pointers, valid when zero.
    unsafe { core::mem::zeroed() }
}

/// The bytes of a structure, to compare or to send.
pub(crate) fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    let start = (&raw const *value).cast::<u8>();
    // SAFETY: the value is readable for its size and `Plain` types are read as bytes only where
    // the kernel or `zeroed` has written every byte.
    unsafe { core::slice::from_raw_parts(start, size_of::<T>()) }
}

/// Reads a structure out of bytes, which need no alignment.
///
/// Panics when there are too few bytes.
pub(crate) fn read_plain<T: Plain>(bytes: &[u8]) -> T {
    assert!(bytes.len() >= size_of::<T>(), "{} bytes are too few", bytes.len());
    // SAFETY: the length was checked and any bytes are a `Plain` value.
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}

/// A value of the auxiliary vector: getauxval(3).
pub(crate) fn auxv(key: u64) -> u64 {
    // SAFETY: getauxval reads the process's own vector.
    unsafe { libc::getauxval(key) }
}
