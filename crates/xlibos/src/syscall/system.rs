//! The system as a whole: uname(2), sethostname(2), sysinfo(2), getrandom(2), and calls that need a privilege that no
//! container has.

use crate::process::creds::CAP_SYS_ADMIN;
use crate::{Errno, Result, Task};
use alloc::vec::Vec;
use machine::guest::{self, UserPtr};
use machine::sync::Mutex;

/// Longest host name: __NEW_UTS_LEN.
const NAME_MAX: usize = 64;
const FIELD: usize = 65;

struct Uts {
    hostname: Vec<u8>,
    domain: Vec<u8>,
}

static UTS: Mutex<Uts> = Mutex::new(Uts { hostname: Vec::new(), domain: Vec::new() });

/// Release of the kernel that programs see.
pub const RELEASE: &str = "6.1.0-xlibos";
/// Version of it.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC xlibos";

/// Sets the host name at boot.
pub fn set_hostname(name: &[u8]) {
    UTS.lock().hostname = name.iter().copied().take(NAME_MAX).collect();
}

/// The host name.
#[must_use]
pub fn hostname() -> Vec<u8> {
    UTS.lock().hostname.clone()
}

/// The NIS domain name.
#[must_use]
pub fn domain_name() -> Vec<u8> {
    UTS.lock().domain.clone()
}

pub(super) fn uname(_task: &Task, buffer: UserPtr<u8>) -> Result<()> {
    let (hostname, domain) = {
        let uts = UTS.lock();
        (uts.hostname.clone(), uts.domain.clone())
    };
    let fields: [&[u8]; 6] = [b"Linux", &hostname, RELEASE.as_bytes(), VERSION.as_bytes(), b"x86_64", &domain];
    let mut out = [0_u8; FIELD * 6];
    for (slot, field) in out.chunks_exact_mut(FIELD).zip(fields) {
        slot.iter_mut().zip(field).for_each(|(to, from)| *to = *from);
    }
    guest::write(buffer.addr(), &out)
}

fn read_name(task: &Task, name: u64, len: i32) -> Result<Vec<u8>> {
    if !task.creds().has(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(len).ok().filter(|&len| len <= NAME_MAX).ok_or(Errno::EINVAL)?;
    let mut bytes = alloc::vec![0; len];
    guest::read(name, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn sethostname(task: &Task, name: u64, len: i32) -> Result<()> {
    let name = read_name(task, name, len)?;
    UTS.lock().hostname = name;
    Ok(())
}

pub(super) fn setdomainname(task: &Task, name: u64, len: i32) -> Result<()> {
    let name = read_name(task, name, len)?;
    UTS.lock().domain = name;
    Ok(())
}

/// Random bytes: getrandom(2). The generator is seeded at boot, so nothing ever waits for it.
///
/// # Errors
/// EINVAL, EFAULT.
pub(super) fn getrandom(task: &Task, buffer: u64, len: u64, flags: u32) -> Result<u64> {
    const NONBLOCK: u32 = 1;
    const RANDOM: u32 = 2;
    const INSECURE: u32 = 4;
    if flags & !(NONBLOCK | RANDOM | INSECURE) != 0 || flags & (RANDOM | INSECURE) == RANDOM | INSECURE {
        return Err(Errno::EINVAL);
    }
    let len = len.min(i32::MAX.unsigned_abs().into());
    let mut chunk = [0; 256];
    let mut done = 0;
    // Long requests end early when something is pending, as on Linux.
    while done < len && (done < 256 || !task.cpu().is_pending()) {
        let step = usize::try_from(len - done).unwrap_or(chunk.len()).min(chunk.len());
        let piece = chunk.get_mut(..step).ok_or(Errno::EFAULT)?;
        crate::random::fill(piece);
        match guest::write(buffer.wrapping_add(done), piece) {
            Ok(()) => done += step as u64,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Uptime, memory, processes: sysinfo(2).
///
/// # Errors
/// EFAULT.
pub(super) fn sysinfo(_task: &Task, to: UserPtr<[u64; 14]>) -> Result<()> {
    let figures = crate::mm::figures::now();
    let processes = crate::process::tree::collect_processes();
    let threads: usize = processes.iter().map(|process| process.thread_count()).sum();
    let mut words = [0_u64; 14];
    words[0] = machine::clock::read_ns(7) / 1_000_000_000;
    words[4] = figures.total;
    words[5] = figures.free;
    words[6] = figures.files;
    words[10] = u64::try_from(threads.min(0xffff)).unwrap_or(0);
    // mem_unit: bytes.
    words[13] = 1;
    to.write(&words)
}

/// The processor that the thread runs on: getcpu(2). Always one that the thread may use.
///
/// # Errors
/// EFAULT.
pub(super) fn getcpu(task: &Task, cpu: UserPtr<u32>, node: UserPtr<u32>) -> Result<()> {
    let (number, its_node) = machine::clock::processor();
    cpu.write_optional(&super::sched::processor_of(task, number))?;
    node.write_optional(&its_node)
}

/// The level of access to ports: iopl(2). It stays 0.
///
/// # Errors
/// EINVAL, EPERM.
pub(super) fn iopl(_task: &Task, level: u32) -> Result<()> {
    match level {
        0 => Ok(()),
        1..=3 => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// Access to single ports: ioperm(2). There is none that could be taken away.
///
/// # Errors
/// EINVAL, EPERM.
pub(super) fn ioperm(_task: &Task, from: u64, count: u64, on: i32) -> Result<()> {
    const PORTS: u64 = 65_536;
    from.checked_add(count).filter(|end| *end > from && *end <= PORTS).ok_or(Errno::EINVAL)?;
    if on == 0 { Ok(()) } else { Err(Errno::EPERM) }
}

/// A call that needs a privilege over the machine, which no container has.
///
/// # Errors
/// EPERM.
pub(super) fn privileged(_task: &Task) -> Result<()> {
    Err(Errno::EPERM)
}
