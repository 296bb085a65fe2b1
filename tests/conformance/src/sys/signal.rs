//! Handlers: one that records all it sees, or one of a case's own.

use super::memory::{peek, poke};
use super::{Errno, Result, zeroed};
use core::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use libc::{c_int, c_void, siginfo_t, ucontext_t};

/// Bit of a signal in the kernel's set.
pub(crate) const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// What the recording handler saw last.
pub(crate) struct Last {
    pub(crate) signal: AtomicI32,
    pub(crate) code: AtomicI32,
    pub(crate) errno: AtomicI32,
    pub(crate) pid: AtomicI32,
    pub(crate) uid: AtomicI32,
    pub(crate) status: AtomicI32,
    pub(crate) value: AtomicU64,
    pub(crate) addr: AtomicUsize,
    pub(crate) frame: AtomicUsize,
    pub(crate) trap: AtomicU64,
    pub(crate) error: AtomicU64,
    pub(crate) cr2: AtomicUsize,
    pub(crate) mask: AtomicU64,
    pub(crate) thread: AtomicI32,
}

/// The last signal recorded.
pub(crate) static LAST: Last = Last {
    signal: AtomicI32::new(0),
    code: AtomicI32::new(0),
    errno: AtomicI32::new(0),
    pid: AtomicI32::new(0),
    uid: AtomicI32::new(0),
    status: AtomicI32::new(0),
    value: AtomicU64::new(0),
    addr: AtomicUsize::new(0),
    frame: AtomicUsize::new(0),
    trap: AtomicU64::new(0),
    error: AtomicU64::new(0),
    cr2: AtomicUsize::new(0),
    mask: AtomicU64::new(0),
    thread: AtomicI32::new(0),
};

static COUNTS: [AtomicI32; 65] = [const { AtomicI32::new(0) }; 65];
static ORDER: [AtomicI32; 256] = [const { AtomicI32::new(0) }; 256];
static SEEN: AtomicUsize = AtomicUsize::new(0);
static STEP: AtomicUsize = AtomicUsize::new(0);

/// As [`step_over`]: return from the function that was called instead.
pub(crate) const RETURN: usize = usize::MAX;

/// How many bytes of code the recording handler steps over before it returns.
pub(crate) fn step_over(bytes: usize) {
    STEP.store(bytes, SeqCst);
}

/// How often a signal was recorded.
pub(crate) fn count(signal: c_int) -> i32 {
    usize::try_from(signal).ok().and_then(|s| COUNTS.get(s)).map_or(0, |c| c.load(SeqCst))
}

/// The recorded signals in their order, at most 256.
pub(crate) fn order() -> Vec<i32> {
    let seen = SEEN.load(SeqCst).min(ORDER.len());
    ORDER[..seen].iter().map(|s| s.load(SeqCst)).collect()
}

extern "C" fn recorder(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let local = 0u8;
    LAST.frame.store((&raw const local).addr(), SeqCst);
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO.
    let info = unsafe { &*info };
    // SAFETY: the kernel passes a valid context to a handler with SA_SIGINFO.
    let context = unsafe { &mut *context.cast::<ucontext_t>() };
    record_info(info);
    look_at_state(context);
    let regs = &mut context.uc_mcontext.gregs;
    let at = |reg: c_int| usize::try_from(reg).unwrap_or(0);
    LAST.trap.store(regs[at(libc::REG_TRAPNO)].cast_unsigned(), SeqCst);
    LAST.error.store(regs[at(libc::REG_ERR)].cast_unsigned(), SeqCst);
    LAST.cr2.store(usize::from_ne_bytes(regs[at(libc::REG_CR2)].to_ne_bytes()), SeqCst);
    // SAFETY: the set begins with the 64 signals that the kernel saved.
    LAST.mask.store(unsafe { (&raw const context.uc_sigmask).cast::<u64>().read() }, SeqCst);
    match STEP.load(SeqCst) {
        RETURN => {
            let stack = core::ptr::with_exposed_provenance::<i64>(regs[at(libc::REG_RSP)].cast_unsigned() as usize);
            // SAFETY: a call just pushed its return address there.
            regs[at(libc::REG_RIP)] = unsafe { stack.read() };
            regs[at(libc::REG_RSP)] += 8;
        }
        bytes => regs[at(libc::REG_RIP)] += i64::try_from(bytes).unwrap_or(0),
    }
    if signal == libc::SIGTRAP {
        regs[at(libc::REG_EFL)] &= !0x100;
    }
    if let Some(count) = usize::try_from(signal).ok().and_then(|s| COUNTS.get(s)) {
        count.fetch_add(1, SeqCst);
    }
    if let Some(place) = ORDER.get(SEEN.fetch_add(1, SeqCst)) {
        place.store(signal, SeqCst);
    }
}

/// Low half of xmm15 that the recording handler puts into its frame; 0 to leave it.
pub(crate) static XMM15: AtomicU64 = AtomicU64::new(0);
/// What it found behind the state's legacy part, three words, and behind the whole state.
pub(crate) static STATE_MARKS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// The kernel passes a state of at least 576 bytes, and as many as it says, with a mark of four behind.
fn look_at_state(context: &ucontext_t) {
    let state = context.uc_mcontext.fpregs.addr();
    let marks = [464, 472, 480].map(|at| peek::<u64>(state + at));
    let len = usize::try_from(marks[2] & 0xffff_ffff).unwrap_or(0);
    let end = u64::from(peek::<u32>(state + len));
    for (place, mark) in STATE_MARKS.iter().zip(marks.into_iter().chain([end])) {
        place.store(mark, SeqCst);
    }
    let wanted = XMM15.load(SeqCst);
    if wanted != 0 {
        // The registers begin behind 160 bytes, 16 each.
        poke(state + 160 + 15 * 16, wanted);
    }
}

fn record_info(info: &siginfo_t) {
    LAST.signal.store(info.si_signo, SeqCst);
    LAST.code.store(info.si_code, SeqCst);
    LAST.errno.store(info.si_errno, SeqCst);
    // SAFETY: reading any field of the union is reading integers.
    LAST.pid.store(unsafe { info.si_pid() }, SeqCst);
    // SAFETY: as above.
    LAST.uid.store(unsafe { info.si_uid() }.cast_signed(), SeqCst);
    // SAFETY: as above.
    LAST.status.store(unsafe { info.si_status() }, SeqCst);
    // SAFETY: as above.
    LAST.value.store(unsafe { info.si_value() }.sival_ptr.addr() as u64, SeqCst);
    // SAFETY: as above.
    LAST.addr.store(unsafe { info.si_addr() }.addr(), SeqCst);
    LAST.thread.store(thread_id(), SeqCst);
}

fn thread_id() -> i32 {
    super::sys!(gettid).ok().and_then(|t| i32::try_from(t).ok()).unwrap_or(0)
}

/// The fields of a siginfo that a wait filled in: signal, code, pid, uid, status.
pub(crate) fn child_fields(info: &siginfo_t) -> (i32, i32, i32, u32, i32) {
    // SAFETY: reading any field of the union is reading integers.
    let (pid, uid) = (unsafe { info.si_pid() }, owner(info));
    // SAFETY: as above.
    (info.si_signo, info.si_code, pid, uid, unsafe { info.si_status() })
}

fn owner(info: &siginfo_t) -> u32 {
    // SAFETY: reading any field of the union is reading integers.
    unsafe { info.si_uid() }
}

/// The value that came with a queued signal.
pub(crate) fn value(info: &siginfo_t) -> usize {
    // SAFETY: reading any field of the union is reading integers.
    unsafe { info.si_value() }.sival_ptr.addr()
}

fn install(signal: c_int, handler: usize, flags: c_int, mask: u64) -> Result<()> {
    let mut action =
        libc::sigaction { sa_sigaction: handler, sa_mask: to_libc(mask), sa_flags: flags, sa_restorer: None };
    // SAFETY: the handler is a function of the right type, SIG_DFL or SIG_IGN.
    let done = unsafe { libc::sigaction(signal, &raw mut action, core::ptr::null_mut()) };
    match done {
        0 => Ok(()),
        _ => Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))),
    }
}

fn to_libc(mask: u64) -> libc::sigset_t {
    let mut set: [u64; 16] = zeroed();
    set[0] = mask;
    // SAFETY: libc's set is 128 bytes of bits.
    unsafe { core::mem::transmute(set) }
}

/// Installs the recording handler.
///
/// # Errors
/// Those of sigaction.
pub(crate) fn record(signal: c_int, flags: c_int) -> Result<()> {
    record_masked(signal, flags, 0)
}

/// Installs the recording handler with further signals blocked while it runs.
///
/// # Errors
/// Those of sigaction.
pub(crate) fn record_masked(signal: c_int, flags: c_int, mask: u64) -> Result<()> {
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = recorder;
    install(signal, handler as usize, flags | libc::SA_SIGINFO, mask)
}

/// Installs a case's own handler.
///
/// # Errors
/// Those of sigaction.
pub(crate) fn handle(signal: c_int, handler: extern "C" fn(c_int), flags: c_int) -> Result<()> {
    install(signal, handler as usize, flags, 0)
}

/// The same with further signals blocked while it runs.
///
/// # Errors
/// Those of sigaction.
pub(crate) fn handle_masked(signal: c_int, handler: extern "C" fn(c_int), mask: u64) -> Result<()> {
    install(signal, handler as usize, 0, mask)
}

/// Ignores a signal.
///
/// # Errors
/// Those of sigaction.
pub(crate) fn ignore(signal: c_int) -> Result<()> {
    install(signal, libc::SIG_IGN, 0, 0)
}

/// Gives a signal its default action, with flags such as SA_NOCLDWAIT.
///
/// # Errors
/// Those of sigaction.
pub(crate) fn default(signal: c_int, flags: c_int) -> Result<()> {
    install(signal, libc::SIG_DFL, flags, 0)
}

/// Handler (SIG_DFL is 0, SIG_IGN is 1) and flags of a signal.
///
/// # Errors
/// Those of sigaction.
pub(crate) fn action(signal: c_int) -> Result<(usize, c_int)> {
    let mut old = [0u64; 4];
    super::sys!(rt_sigaction, signal, 0, &mut old, 8)?;
    let flags = i32::try_from(old[1] & 0x7fff_ffff).unwrap_or(0);
    Ok((usize::try_from(old[0]).unwrap_or(0), flags))
}

/// Changes the thread's mask and returns the old one: rt_sigprocmask(2).
///
/// # Errors
/// Those of rt_sigprocmask.
pub(crate) fn mask(how: c_int, set: u64) -> Result<u64> {
    let mut old = 0u64;
    super::sys!(rt_sigprocmask, how, &set, &mut old, 8)?;
    Ok(old)
}
