//! Host calls: the one module that issues them (design, section 4; `abi::hostcall` is the list).
//!
//! Wrappers take handles and plain values; those that map or unmap refuse the LibOS's own range, so they
//! are safe to call. Invariant of this module: no wrapper lets the host write to memory that Rust borrows.

use crate::cpu;
use crate::errno::{Errno, Result};
use crate::{futex, hand_over};
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// A descriptor in the container's host table. Closed by its owner through [`close`].
pub type RawFd = i32;

/// A handle that closes itself.
#[derive(Debug)]
pub struct HostFd {
    fd: RawFd,
    identity: AtomicU64,
}

impl HostFd {
    /// Takes ownership of a descriptor.
    #[must_use]
    pub fn from_raw(fd: RawFd) -> HostFd {
        HostFd { fd, identity: AtomicU64::new(0) }
    }

    /// The number, for host calls.
    #[must_use]
    pub fn raw(&self) -> RawFd {
        self.fd
    }

    /// A number, not 0, that no other handle of the container ever has.
    #[inline]
    #[must_use]
    pub fn identity(&self) -> u64 {
        match self.identity.load(Ordering::Relaxed) {
            0 => self.take_identity(),
            known => known,
        }
    }

    #[cold]
    fn take_identity(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
        let taken = self.identity.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed);
        taken.map_or_else(|known| known, |_| fresh)
    }
}

impl Drop for HostFd {
    fn drop(&mut self) {
        close(self.fd);
    }
}

/// Numbers of the host calls.
pub(crate) mod nr {
    pub const CLOSE: u64 = 3;
    pub const FSTAT: u64 = 5;
    pub const MMAP: u64 = 9;
    pub const MPROTECT: u64 = 10;
    pub const MUNMAP: u64 = 11;
    pub const MREMAP: u64 = 25;
    pub const MADVISE: u64 = 28;
    pub const SENDTO: u64 = 44;
    pub const RECVMSG: u64 = 47;
    #[cfg(target_os = "none")]
    pub const SIGALTSTACK: u64 = 131;
    #[cfg(target_os = "none")]
    pub const CLONE: u64 = 56;
    pub const EXIT: u64 = 60;
    pub const FUTEX: u64 = 202;
    #[cfg(target_os = "none")]
    pub const SCHED_SETAFFINITY: u64 = 203;
    pub const CLOCK_GETTIME: u64 = 228;
    pub const EPOLL_CTL: u64 = 233;
    pub const TGKILL: u64 = 234;
    pub const EPOLL_PWAIT: u64 = 281;
    pub const ACCEPT4: u64 = 288;
    pub const MEMBARRIER: u64 = 324;
    pub const PREADV2: u64 = 327;
    pub const PWRITEV2: u64 = 328;
    pub const RSEQ: u64 = 334;
}

/// Issues a host call.
///
/// # Safety
/// The call with these arguments must not violate memory that Rust relies on.
#[inline]
pub(crate) unsafe fn raw(nr: u64, args: [u64; 6]) -> u64 {
    cpu::count_host_call(nr);
    let ret;
    // SAFETY: by the caller's promise; the clobbers are those of the instruction.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr => ret,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    ret
}

/// Issues a host call that may sleep: it returns EINTR at once where something is pending for the thread.
///
/// # Safety
/// As [`raw`].
#[inline]
pub(crate) unsafe fn raw_sleeping(nr: u64, args: [u64; 6]) -> u64 {
    cpu::count_host_call(nr);
    #[cfg(target_os = "none")]
    {
        let cpu = cpu::current();
        crate::stack::guard(cpu);
        cpu.asleep.store(true, Ordering::Relaxed);
        // SAFETY: by the caller's promise; the routine makes exactly this call.
        let ret = unsafe { crate::entry::sleeping_call(nr, &args) };
        cpu.asleep.store(false, Ordering::Relaxed);
        ret
    }
    #[cfg(not(target_os = "none"))]
    // SAFETY: by the caller's promise.
    unsafe {
        raw(nr, args)
    }
}

/// Turns a raw return value into a result.
#[inline]
pub(crate) fn check(ret: u64) -> Result<u64> {
    let signed = ret.cast_signed();
    if (-4095..0).contains(&signed) {
        return Err(Errno::from_raw(i32::try_from(-signed).unwrap_or(5)));
    }
    Ok(ret)
}

fn fd_arg(fd: RawFd) -> u64 {
    i64::from(fd).cast_unsigned()
}

/// Drops a handle.
pub fn close(fd: RawFd) {
    // SAFETY: closing a descriptor touches no memory.
    let _ = unsafe { raw(nr::CLOSE, [fd_arg(fd), 0, 0, 0, 0, 0]) };
}

/// A guest or kernel buffer for vectored transfers: address and length, as `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct IoVec {
    /// Address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Whether an offset is given or the descriptor's own position is used (-1).
fn offset_args(offset: Option<u64>) -> (u64, u64) {
    offset.map_or((u64::MAX, u64::MAX), |o| (o, 0))
}

/// Reads into guest memory. `offset` None reads at the descriptor's position (pipes, sockets, the
/// caller's streams). Sleeps unless `RWF_NOWAIT` (8) is in `flags`.
///
/// # Errors
/// EFAULT for buffers in the LibOS's range, else the host's errno; EINTR when interrupted.
pub fn preadv2_guest(fd: RawFd, iov: &[IoVec], offset: Option<u64>, flags: u32) -> Result<usize> {
    if iov.iter().any(|v| !cpu::is_guest_range(v.base, v.len)) {
        return Err(Errno::EFAULT);
    }
    let (low, high) = offset_args(offset);
    let args = [fd_arg(fd), iov.as_ptr() as u64, iov.len() as u64, low, high, u64::from(flags)];
    // SAFETY: every buffer lies in guest memory, which Rust never borrows.
    let ret = unsafe { raw_sleeping(nr::PREADV2, args) };
    check(ret).map(|n| n as usize)
}

/// Writes from guest memory; as [`preadv2_guest`].
///
/// # Errors
/// As [`preadv2_guest`].
pub fn pwritev2_guest(fd: RawFd, iov: &[IoVec], offset: Option<u64>, flags: u32) -> Result<usize> {
    if iov.iter().any(|v| !cpu::is_guest_range(v.base, v.len)) {
        return Err(Errno::EFAULT);
    }
    let (low, high) = offset_args(offset);
    let args = [fd_arg(fd), iov.as_ptr() as u64, iov.len() as u64, low, high, u64::from(flags)];
    // SAFETY: the host only reads the buffers.
    let ret = unsafe { raw_sleeping(nr::PWRITEV2, args) };
    check(ret).map(|n| n as usize)
}

/// Reads into a kernel buffer.
///
/// # Errors
/// The host's errno; EINTR when interrupted.
pub fn preadv2(fd: RawFd, buffer: &mut [u8], offset: Option<u64>, flags: u32) -> Result<usize> {
    let iov = IoVec { base: buffer.as_mut_ptr() as u64, len: buffer.len() as u64 };
    let (low, high) = offset_args(offset);
    let args = [fd_arg(fd), &raw const iov as u64, 1, low, high, u64::from(flags)];
    // SAFETY: the buffer is exclusively borrowed for the call.
    let ret = unsafe { raw_sleeping(nr::PREADV2, args) };
    check(ret).map(|n| n as usize)
}

/// Writes a kernel buffer.
///
/// # Errors
/// The host's errno; EINTR when interrupted.
pub fn pwritev2(fd: RawFd, buffer: &[u8], offset: Option<u64>, flags: u32) -> Result<usize> {
    let iov = IoVec { base: buffer.as_ptr() as u64, len: buffer.len() as u64 };
    let (low, high) = offset_args(offset);
    let args = [fd_arg(fd), &raw const iov as u64, 1, low, high, u64::from(flags)];
    // SAFETY: the host only reads the buffer.
    let ret = unsafe { raw_sleeping(nr::PWRITEV2, args) };
    check(ret).map(|n| n as usize)
}

/// Reads a regular file into guest memory at an offset. As on Linux, signals do not end it.
///
/// # Errors
/// EFAULT for buffers in the LibOS's range, else the host's errno.
pub fn read_file_guest(fd: RawFd, iov: &[IoVec], offset: u64, flags: u32) -> Result<usize> {
    if iov.iter().any(|v| !cpu::is_guest_range(v.base, v.len)) {
        return Err(Errno::EFAULT);
    }
    let args = [fd_arg(fd), iov.as_ptr() as u64, iov.len() as u64, offset, 0, u64::from(flags)];
    // SAFETY: every buffer lies in guest memory, which Rust never borrows.
    check(unsafe { raw(nr::PREADV2, args) }).map(|n| n as usize)
}

/// Writes a regular file from guest memory at an offset; as [`read_file_guest`].
///
/// # Errors
/// As [`read_file_guest`].
pub fn write_file_guest(fd: RawFd, iov: &[IoVec], offset: u64, flags: u32) -> Result<usize> {
    if iov.iter().any(|v| !cpu::is_guest_range(v.base, v.len)) {
        return Err(Errno::EFAULT);
    }
    let args = [fd_arg(fd), iov.as_ptr() as u64, iov.len() as u64, offset, 0, u64::from(flags)];
    // SAFETY: the host only reads the buffers.
    check(unsafe { raw(nr::PWRITEV2, args) }).map(|n| n as usize)
}

/// Reads a regular file into a kernel buffer at an offset; signals do not end it.
///
/// # Errors
/// The host's errno.
pub fn read_file(fd: RawFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let iov = IoVec { base: buffer.as_mut_ptr() as u64, len: buffer.len() as u64 };
    let args = [fd_arg(fd), &raw const iov as u64, 1, offset, 0, 0];
    // SAFETY: the buffer is exclusively borrowed for the call.
    check(unsafe { raw(nr::PREADV2, args) }).map(|n| n as usize)
}

/// Writes a kernel buffer to a regular file at an offset; signals do not end it.
///
/// # Errors
/// The host's errno.
pub fn write_file(fd: RawFd, buffer: &[u8], offset: u64, flags: u32) -> Result<usize> {
    let iov = IoVec { base: buffer.as_ptr() as u64, len: buffer.len() as u64 };
    let args = [fd_arg(fd), &raw const iov as u64, 1, offset, 0, u64::from(flags)];
    // SAFETY: the host only reads the buffer.
    check(unsafe { raw(nr::PWRITEV2, args) }).map(|n| n as usize)
}

/// Sends a request to the trusted side; signals do not end it. Waits for room, or not at all ([`Wait::No`]).
///
/// # Errors
/// The host's errno; EAGAIN where there is no room.
pub fn send_request(fd: RawFd, bytes: &[u8], wait: Wait) -> Result<usize> {
    const MSG_NOSIGNAL: u64 = 0x4000;
    let flags = MSG_NOSIGNAL | if wait == Wait::No { MSG_DONTWAIT } else { 0 };
    let args = [fd_arg(fd), bytes.as_ptr() as u64, bytes.len() as u64, flags, 0, 0];
    loop {
        // SAFETY: the host only reads the buffer.
        match check(unsafe { raw(nr::SENDTO, args) }) {
            Err(Errno::EINTR) => {}
            other => return other.map(|n| n as usize),
        }
    }
}

/// Sends on a connected socket of ours; `flags` within DONTWAIT, NOSIGNAL, MORE.
///
/// # Errors
/// The host's errno; EINTR when interrupted.
pub fn send(fd: RawFd, bytes: &[u8], flags: u32) -> Result<usize> {
    let args = [fd_arg(fd), bytes.as_ptr() as u64, bytes.len() as u64, u64::from(flags | 0x4000), 0, 0];
    // SAFETY: the host only reads the buffer.
    let ret = unsafe { raw_sleeping(nr::SENDTO, args) };
    check(ret).map(|n| n as usize)
}

#[repr(C)]
struct MsgHdr {
    name: u64,
    name_len: u32,
    pad: u32,
    iov: u64,
    iov_len: u64,
    control: u64,
    control_len: u64,
    flags: u32,
    pad2: u32,
}

/// One datagram.
#[derive(Debug)]
pub struct Received {
    /// Bytes in the buffer.
    pub len: usize,
    /// A descriptor that came with it.
    pub fd: Option<HostFd>,
}

/// How a receive waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until something comes or the thread is interrupted.
    Interruptible,
    /// Until something comes (answers of the trusted side).
    Uninterruptible,
    /// Not at all.
    No,
}

const MSG_DONTWAIT: u64 = 0x40;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;

/// Receives a datagram and at most one descriptor. A length of 0 means that the peer has gone.
///
/// # Errors
/// The host's errno; EINTR when interrupted.
pub fn receive(fd: RawFd, buffer: &mut [u8], wait: Wait) -> Result<Received> {
    let mut control = [0_u64; 3];
    let (len, control_len) =
        receive_at(fd, IoVec { base: buffer.as_mut_ptr() as u64, len: buffer.len() as u64 }, &mut control, wait)?;
    Ok(Received { len, fd: descriptors_in(&control, control_len).next() })
}

/// Receives into memory that is the caller's alone; returns how many bytes came, and of the control buffer.
fn receive_at(fd: RawFd, iov: IoVec, control: &mut [u64], wait: Wait) -> Result<(usize, usize)> {
    loop {
        let mut header = MsgHdr {
            name: 0,
            name_len: 0,
            pad: 0,
            iov: &raw const iov as u64,
            iov_len: 1,
            control: control.as_mut_ptr() as u64,
            control_len: size_of_val(control) as u64,
            flags: 0,
            pad2: 0,
        };
        let flags = MSG_CMSG_CLOEXEC | if wait == Wait::No { MSG_DONTWAIT } else { 0 };
        let args = [fd_arg(fd), &raw mut header as u64, flags, 0, 0, 0];
        let ret = if wait == Wait::Interruptible {
            // SAFETY: header, buffer and control are exclusively ours for the call.
            unsafe { raw_sleeping(nr::RECVMSG, args) }
        } else {
            // SAFETY: as above.
            unsafe { raw(nr::RECVMSG, args) }
        };
        match check(ret) {
            Err(Errno::EINTR) if wait == Wait::Uninterruptible => {}
            Err(errno) => return Err(errno),
            Ok(len) => return Ok((len as usize, header.control_len as usize)),
        }
    }
}

/// Most descriptors that come with one datagram.
pub const MOST_DESCRIPTORS: usize = 32;

/// As [`receive`], into the room of an empty vector, which takes memory for what comes and no more, with all descriptors that came.
///
/// # Errors
/// As [`receive`].
pub fn receive_into(fd: RawFd, buffer: &mut Vec<u8>, wait: Wait) -> Result<Vec<HostFd>> {
    buffer.clear();
    let room = buffer.spare_capacity_mut();
    let mut control = [0_u64; CONTROL_HEADER + MOST_DESCRIPTORS / 2];
    let iov = IoVec { base: room.as_mut_ptr() as u64, len: room.len() as u64 };
    let (len, control_len) = receive_at(fd, iov, &mut control, wait)?;
    // SAFETY: the host wrote so many bytes of the room, and no more than it has.
    unsafe { buffer.set_len(len.min(buffer.capacity())) };
    Ok(descriptors_in(&control, control_len).collect())
}

/// Words of a control message before its data.
const CONTROL_HEADER: usize = 2;

/// The descriptors in a control buffer that holds one SCM_RIGHTS message.
fn descriptors_in(control: &[u64], len: usize) -> impl Iterator<Item = HostFd> {
    const SCM_RIGHTS: u64 = 1 << 32 | 1; // level SOL_SOCKET, type SCM_RIGHTS
    let message_len = control.first().map_or(0, |len| *len as usize).min(len);
    let is_rights = control.get(1) == Some(&SCM_RIGHTS);
    let count = if is_rights { message_len.saturating_sub(CONTROL_HEADER * 8) / 4 } else { 0 };
    let halves = control.iter().skip(CONTROL_HEADER).flat_map(|word| [*word as u32, (*word >> 32) as u32]);
    halves.take(count).map(|number| HostFd::from_raw(number.cast_signed()))
}

/// Accepts a connection of a listener (nonblocking).
///
/// # Errors
/// The host's errno.
pub fn accept(fd: RawFd) -> Result<HostFd> {
    // SAFETY: no address is asked for; only descriptors are touched. Flags: SOCK_CLOEXEC | SOCK_NONBLOCK.
    let ret = unsafe { raw_sleeping(nr::ACCEPT4, [fd_arg(fd), 0, 0, 0x8_0800, 0, 0]) };
    check(ret).map(|fd| HostFd::from_raw(i32::try_from(fd).unwrap_or(-1)))
}

/// What fstat says of a handle (x86-64 `struct stat`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "fields of stat(2)")]
pub struct HostStat {
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub pad: u32,
    pub rdev: u64,
    pub size: i64,
    pub blksize: i64,
    pub blocks: i64,
    pub atime: [i64; 2],
    pub mtime: [i64; 2],
    pub ctime: [i64; 2],
    pub unused: [i64; 3],
}

/// Attributes of a held handle.
///
/// # Errors
/// The host's errno.
pub fn fstat(fd: RawFd) -> Result<HostStat> {
    let mut stat = HostStat::default();
    // SAFETY: the host writes one struct stat to our local.
    let ret = unsafe { raw(nr::FSTAT, [fd_arg(fd), &raw mut stat as u64, 0, 0, 0, 0]) };
    check(ret).map(|_| stat)
}

/// Adds, changes or removes (1, 3, 2) interest of a handle in a host epoll set.
///
/// # Errors
/// The host's errno.
pub fn epoll_ctl(set: RawFd, operation: u32, fd: RawFd, events: u32, data: u64) -> Result<()> {
    let event = EpollEvent { events, data };
    let args = [fd_arg(set), u64::from(operation), fd_arg(fd), &raw const event as u64, 0, 0];
    // SAFETY: the host reads one event.
    check(unsafe { raw(nr::EPOLL_CTL, args) }).map(|_| ())
}

/// `struct epoll_event`.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct EpollEvent {
    /// EPOLL* bits.
    pub events: u32,
    /// The registration's tag.
    pub data: u64,
}

/// Waits on a host epoll set; -1 waits for ever. Sleeping, interruptible.
///
/// # Errors
/// The host's errno.
pub fn epoll_wait(set: RawFd, events: &mut [EpollEvent], timeout_ms: i32) -> Result<usize> {
    let args =
        [fd_arg(set), events.as_mut_ptr() as u64, events.len() as u64, i64::from(timeout_ms).cast_unsigned(), 0, 0];
    // SAFETY: the host writes at most `events.len()` events into the exclusive borrow.
    let ret = unsafe { raw_sleeping(nr::EPOLL_PWAIT, args) };
    check(ret).map(|n| n as usize)
}

/// Sends the interrupt signal to a host thread of the container.
pub fn interrupt(pid: i32, tid: i32) {
    let args = [fd_arg(pid), fd_arg(tid), cpu::INTERRUPT_SIGNAL, 0, 0, 0];
    // SAFETY: the handler of the interrupt signal keeps all invariants.
    let _ = unsafe { raw(nr::TGKILL, args) };
}

/// Ends the calling host thread, the last one of its process that does not end by itself. Inlined: the page that it would lie on
/// alone is a fault for each process.
#[inline(always)]
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { raw(nr::EXIT, [fd_arg(status), 0, 0, 0, 0, 0]) };
    }
}

/// Words of a mask of processors: 1024 of them.
pub const MASK_WORDS: usize = 16;

/// The processors that the container was given, as the host numbers them; empty where the host did not say.
static PROCESSORS: [AtomicU64; MASK_WORDS] = [const { AtomicU64::new(0) }; MASK_WORDS];

/// Asks the host for the processors that it gave to the caller, before the filter is on.
#[cfg(target_os = "none")]
pub(crate) fn learn_processors() {
    const SCHED_GETAFFINITY: u64 = 204;
    let mut mask = [0_u64; MASK_WORDS];
    let args = [0, size_of_val(&mask) as u64, mask.as_mut_ptr() as u64, 0, 0, 0];
    // SAFETY: the host writes one mask to our local.
    if check(unsafe { raw(SCHED_GETAFFINITY, args) }).is_ok() {
        PROCESSORS.iter().zip(mask).for_each(|(word, given)| word.store(given, Ordering::Relaxed));
    }
}

/// The processors that the container was given, as the host numbers them.
#[must_use]
pub fn processors() -> [u64; MASK_WORDS] {
    core::array::from_fn(|at| PROCESSORS[at].load(Ordering::Relaxed))
}

/// Whether a mask has the processor of a number.
#[must_use]
pub fn has_processor(mask: &[u64], number: u32) -> bool {
    mask.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 != 0)
}

/// Has the host run a thread of the container on these processors alone.
///
/// # Errors
/// ESRCH where it has ended or has no id yet, EINVAL where the container was given none of them.
pub fn run_on(tid: u32, mask: &[u64; MASK_WORDS]) -> Result<()> {
    if tid == 0 {
        // The host would take the caller.
        return Err(Errno::ESRCH);
    }
    #[cfg(target_os = "none")]
    {
        let args = [u64::from(tid), size_of_val(mask) as u64, mask.as_ptr() as u64, 0, 0, 0];
        // SAFETY: the host only reads the mask.
        check(unsafe { raw(nr::SCHED_SETAFFINITY, args) }).map(|_| ())
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (tid, mask);
        Ok(())
    }
}

/// CPU time of the calling thread (3), the process (2), or of another by its dynamic clock id.
///
/// # Errors
/// The host's errno.
pub fn cpu_clock_ns(clock: u32) -> Result<u64> {
    let mut time = [0_i64; 2];
    // SAFETY: the host writes one timespec to our local.
    check(unsafe { raw(nr::CLOCK_GETTIME, [u64::from(clock), time.as_mut_ptr() as u64, 0, 0, 0, 0]) })?;
    Ok(time[0].cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(time[1].cast_unsigned()))
}

/// membarrier(2), passed through.
///
/// # Errors
/// The host's errno.
pub fn membarrier(command: u32, flags: u32, cpu_id: i32) -> Result<u64> {
    // SAFETY: a barrier touches no memory.
    check(unsafe { raw(nr::MEMBARRIER, [u64::from(command), u64::from(flags), fd_arg(cpu_id), 0, 0, 0]) })
}

/// rseq(2), passed through; the area must be guest memory.
///
/// # Errors
/// EFAULT for the LibOS's range, else the host's errno.
pub fn rseq(area: u64, len: u32, flags: u32, signature: u32) -> Result<u64> {
    if !cpu::is_guest_range(area, u64::from(len)) {
        return Err(Errno::EFAULT);
    }
    let args = [area, u64::from(len), u64::from(flags), u64::from(signature), 0, 0];
    // SAFETY: the host writes only to guest memory.
    check(unsafe { raw(nr::RSEQ, args) })
}

// budget: its parameters are those of the host call
/// futex(2) on guest memory (WAIT, WAKE, REQUEUE and their variants), with the guest's own operation
/// word. `timeout_ns` is absolute or relative as the operation says.
///
/// # Errors
/// EFAULT for the LibOS's range, else the host's errno; EINTR when interrupted.
pub fn futex_guest(word: u64, op: u32, val: u32, timeout: FutexArg, word2: u64, val3: u32) -> Result<u64> {
    if !cpu::is_guest_range(word, 4) || (word2 != 0 && !cpu::is_guest_range(word2, 4)) {
        return Err(Errno::EFAULT);
    }
    let spec;
    let fourth = match timeout {
        FutexArg::None => 0,
        FutexArg::Value(v) => u64::from(v),
        FutexArg::Timeout { sec, nsec } => {
            spec = [sec, nsec];
            spec.as_ptr() as u64
        }
    };
    let args = [word, u64::from(op), u64::from(val), fourth, word2, u64::from(val3)];
    // SAFETY: the words are guest memory, the timeout is a live local.
    check(unsafe { futex_call(word, op, args) })
}

/// Makes the call of [`futex_guest`].
///
/// # Safety
/// As [`raw`].
unsafe fn futex_call(word: u64, op: u32, args: [u64; 6]) -> u64 {
    // The host tells what is wrong with others.
    let is_counted = op & !FUTEX_COMMAND == FUTEX_PRIVATE && word.is_multiple_of(4);
    match op & FUTEX_COMMAND {
        FUTEX_WAIT | FUTEX_WAIT_BITSET => {
            let _waiter = (op & FUTEX_PRIVATE != 0).then(|| futex::Waiter::at(word));
            hand_over::sleeps_at(word);
            // SAFETY: by the caller's promise.
            let ret = unsafe { raw_sleeping(nr::FUTEX, args) };
            hand_over::slept_at();
            return ret;
        }
        FUTEX_WAKE if is_counted && !futex::may_sleep_at(word) => return 0,
        FUTEX_WAKE | FUTEX_WAKE_BITSET => hand_over::wakes_at(word),
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE if op & FUTEX_PRIVATE != 0 => futex::moves_to(args[4]),
        _ => {}
    }
    // Only waits sleep: a wake that is not made because something is pending would be lost.
    // SAFETY: by the caller's promise.
    unsafe { raw(nr::FUTEX, args) }
}

const FUTEX_COMMAND: u32 = 0x7f;
const FUTEX_WAIT: u32 = 0;
const FUTEX_WAKE: u32 = 1;
const FUTEX_REQUEUE: u32 = 3;
const FUTEX_CMP_REQUEUE: u32 = 4;
const FUTEX_PRIVATE: u32 = 128;
const FUTEX_WAIT_BITSET: u32 = 9;
const FUTEX_WAKE_BITSET: u32 = 10;

/// The fourth argument of futex(2).
#[derive(Clone, Copy, Debug)]
pub enum FutexArg {
    /// Zero.
    None,
    /// A count (`val2`).
    Value(u32),
    /// A timeout.
    Timeout {
        /// Seconds.
        sec: i64,
        /// Nanoseconds.
        nsec: i64,
    },
}

// budget: its parameters are those of the host call
/// Memory calls on guest ranges; see mmap(2). `addr` must be page aligned and is always used as given
/// (MAP_FIXED or MAP_FIXED_NOREPLACE in `flags`).
///
/// # Errors
/// ENOMEM for the LibOS's range, else the host's errno.
pub fn mmap(addr: u64, len: u64, prot: u32, flags: u32, fd: RawFd, offset: u64) -> Result<u64> {
    if !cpu::is_guest_range(addr, len) {
        return Err(Errno::ENOMEM);
    }
    let args = [addr, len, u64::from(prot), u64::from(flags), fd_arg(fd), offset];
    // SAFETY: the range is guest memory, which Rust never borrows.
    check(unsafe { raw(nr::MMAP, args) })
}

/// munmap(2) of a guest range.
///
/// # Errors
/// EINVAL for the LibOS's range, else the host's errno.
pub fn munmap(addr: u64, len: u64) -> Result<()> {
    guest_range_call(nr::MUNMAP, addr, len, 0)
}

/// mprotect(2) of a guest range.
///
/// # Errors
/// As [`munmap`].
pub fn mprotect(addr: u64, len: u64, prot: u32) -> Result<()> {
    guest_range_call(nr::MPROTECT, addr, len, u64::from(prot))
}

/// madvise(2) of a guest range.
///
/// # Errors
/// As [`munmap`].
pub fn madvise(addr: u64, len: u64, advice: u32) -> Result<()> {
    guest_range_call(nr::MADVISE, addr, len, u64::from(advice))
}

fn guest_range_call(nr: u64, addr: u64, len: u64, third: u64) -> Result<()> {
    if !cpu::is_guest_range(addr, len) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the range is guest memory, which Rust never borrows.
    check(unsafe { raw(nr, [addr, len, third, 0, 0, 0]) }).map(|_| ())
}

/// mremap(2) with both ranges in guest memory; `flags` as MREMAP_* (MAYMOVE 1, FIXED 2, DONTUNMAP 4).
///
/// # Errors
/// As [`munmap`].
pub fn mremap(addr: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<u64> {
    let target_ok = flags & 2 == 0 || cpu::is_guest_range(new_addr, new_len);
    if !cpu::is_guest_range(addr, old_len) || !cpu::is_guest_range(addr, new_len) || !target_ok {
        return Err(Errno::EINVAL);
    }
    // SAFETY: both ranges are guest memory. Without FIXED the kernel (xlibos) never passes MAYMOVE.
    check(unsafe { raw(nr::MREMAP, [addr, old_len, new_len, u64::from(flags), new_addr, 0]) })
}

/// Has the host make one page of those of an aligned range of the arena.
///
/// # Errors
/// The host's errno: EINVAL where it knows no large pages, ENOMEM, EAGAIN where a page is in use.
#[cfg(target_os = "none")]
pub(crate) fn collapse(addr: u64, len: u64) -> Result<()> {
    const MADV_COLLAPSE: u64 = 25;
    // SAFETY: the contents stay, and so do all addresses.
    check(unsafe { raw(nr::MADVISE, [addr, len, MADV_COLLAPSE, 0, 0, 0]) }).map(|_| ())
}

/// Populates arena memory that will be written soon, outside of locks. Best effort.
pub fn populate(addr: u64, len: u64) {
    const MADV_POPULATE_WRITE: u64 = 23;
    // SAFETY: populating changes no contents.
    let _ = unsafe { raw(nr::MADVISE, [addr, len, MADV_POPULATE_WRITE, 0, 0, 0]) };
}
