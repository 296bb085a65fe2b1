//! Credentials: credentials(7). A task's are immutable and shared; a change makes new ones.

use alloc::vec::Vec;

/// Identity of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of credentials(7)")]
pub struct Creds {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    /// Effective, permitted and inheritable capabilities, bounding and ambient set.
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
}

/// Every capability that Linux knows.
pub const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// CAP_CHOWN.
pub const CAP_CHOWN: u32 = 0;
/// CAP_DAC_OVERRIDE.
pub const CAP_DAC_OVERRIDE: u32 = 1;
/// CAP_FOWNER.
pub const CAP_FOWNER: u32 = 3;
/// CAP_KILL.
pub const CAP_KILL: u32 = 5;
/// CAP_SETGID.
pub const CAP_SETGID: u32 = 6;
/// CAP_SETUID.
pub const CAP_SETUID: u32 = 7;
/// CAP_SYS_CHROOT.
pub const CAP_SYS_CHROOT: u32 = 18;
/// CAP_SYS_PTRACE.
pub const CAP_SYS_PTRACE: u32 = 19;
/// CAP_SYS_ADMIN.
pub const CAP_SYS_ADMIN: u32 = 21;
/// CAP_SYS_NICE.
pub const CAP_SYS_NICE: u32 = 23;
/// CAP_SYS_RESOURCE.
pub const CAP_SYS_RESOURCE: u32 = 24;

impl Creds {
    /// A process's first credentials: root has every capability, others none.
    #[must_use]
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Creds {
        let all = if uid == 0 { ALL_CAPABILITIES } else { 0 };
        Creds {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups,
            effective: all,
            permitted: all,
            inheritable: 0,
            bounding: ALL_CAPABILITIES,
            ambient: 0,
        }
    }

    /// Whether a capability is effective.
    #[must_use]
    pub fn has(&self, capability: u32) -> bool {
        self.effective >> capability & 1 == 1
    }

    /// Whether the group is the file-system group or a supplementary one.
    #[must_use]
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
