//! The system as a whole: uname(2), sethostname(2).

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

/// Sets the host name at boot.
pub fn set_hostname(name: &[u8]) {
    UTS.lock().hostname = name.iter().copied().take(NAME_MAX).collect();
}

/// The host name.
#[must_use]
pub fn hostname() -> Vec<u8> {
    UTS.lock().hostname.clone()
}

pub(super) fn uname(_task: &Task, buffer: UserPtr<u8>) -> Result<()> {
    let (hostname, domain) = {
        let uts = UTS.lock();
        (uts.hostname.clone(), uts.domain.clone())
    };
    let fields: [&[u8]; 6] =
        [b"Linux", &hostname, RELEASE.as_bytes(), b"#1 SMP PREEMPT_DYNAMIC xlibos", b"x86_64", &domain];
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
