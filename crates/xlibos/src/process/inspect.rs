//! Who may look into another process: ptrace(2), "Ptrace access mode checking".

use super::creds::CAP_SYS_PTRACE;
use super::{Process, Task};
use alloc::sync::Arc;

/// Which of the caller's identities counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// PTRACE_MODE_FSCREDS: that of file accesses, for /proc.
    Files,
    /// PTRACE_MODE_REALCREDS: the real one, for calls.
    Real,
}

/// Whether the caller may read memory and files of a process. Its own it may.
#[must_use]
pub fn is_allowed(caller: &Task, process: &Arc<Process>, identity: Identity) -> bool {
    if Arc::ptr_eq(&caller.process, process) {
        return true;
    }
    let (own, Some(its)) = (caller.creds(), process.creds()) else { return false };
    if own.has(CAP_SYS_PTRACE) {
        return true;
    }
    let (uid, gid, capabilities) = match identity {
        Identity::Files => (own.fsuid, own.fsgid, own.effective),
        Identity::Real => (own.uid, own.gid, own.permitted),
    };
    let same = [its.uid, its.euid, its.suid].iter().all(|id| *id == uid)
        && [its.gid, its.egid, its.sgid].iter().all(|id| *id == gid);
    let dumpable = process.thread_count() > 0 && process.mm().info().dumpable == 1;
    same && dumpable && its.permitted & !capabilities == 0
}
