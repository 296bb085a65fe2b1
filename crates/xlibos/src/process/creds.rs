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

/// What the set-user-ID and set-group-ID bits of a program make of its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetIds {
    /// The file's owner, where its bit is set.
    pub uid: Option<u32>,
    /// The file's group, where its bit is set.
    pub gid: Option<u32>,
}

impl SetIds {
    /// From a program's mode, owner and group. Without the group's right to execute, its bit is one for locks.
    #[must_use]
    pub fn of(mode: u32, uid: u32, gid: u32) -> SetIds {
        let is_group_bit = mode & 0o2010 == 0o2010;
        SetIds { uid: (mode & 0o4000 != 0).then_some(uid), gid: is_group_bit.then_some(gid) }
    }
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
/// CAP_NET_BIND_SERVICE.
pub const CAP_NET_BIND_SERVICE: u32 = 10;
/// CAP_IPC_LOCK.
pub const CAP_IPC_LOCK: u32 = 14;
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
/// CAP_SYS_TIME.
pub const CAP_SYS_TIME: u32 = 25;

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

    /// Those of the program that exec starts: execve(2), capabilities(7). Files have no capabilities here.
    #[must_use]
    pub fn after_exec(&self, set: SetIds, secure_bits: u32) -> Creds {
        const NO_ROOT: u32 = 1;
        let mut new = self.clone();
        new.euid = set.uid.unwrap_or(self.euid);
        new.egid = set.gid.unwrap_or(self.egid);
        let changed = new.euid != self.euid || new.egid != self.egid;
        if changed {
            new.ambient = 0;
        }
        let is_root = secure_bits & NO_ROOT == 0 && (new.euid == 0 || new.uid == 0);
        new.permitted = if is_root { self.inheritable | self.bounding } else { new.ambient };
        new.effective = if is_root && new.euid == 0 { new.permitted } else { new.ambient };
        (new.suid, new.fsuid, new.sgid, new.fsgid) = (new.euid, new.euid, new.egid, new.egid);
        new
    }

    /// Whether the program acts for another than its caller: AT_SECURE.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.uid != self.euid || self.gid != self.egid
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

#[cfg(test)]
mod tests {
    use super::{ALL_CAPABILITIES, Creds, SetIds};
    use alloc::vec::Vec;

    #[test]
    fn a_program_of_root_has_all_capabilities_and_one_of_others_none() {
        let user = Creds::new(6, 5, Vec::new());
        let root = user.after_exec(SetIds::of(0o4755, 0, 0), 0);
        assert_eq!((root.uid, root.euid, root.suid, root.effective), (6, 0, 0, ALL_CAPABILITIES));
        let other = user.after_exec(SetIds::of(0o6755, 12, 43), 0);
        assert_eq!([other.uid, other.euid, other.suid, other.egid, other.fsgid], [6, 12, 12, 43, 43]);
        assert!(other.is_secure() && other.permitted == 0 && !user.is_secure());
    }

    #[test]
    fn exec_ends_capabilities_that_setuid_left() {
        let kept = Creds { uid: 6, euid: 6, suid: 6, ..Creds::new(0, 0, Vec::new()) };
        assert_eq!(kept.after_exec(SetIds::default(), 0).permitted, 0);
        let ambient = Creds { ambient: 4, inheritable: 4, ..kept };
        let passed = ambient.after_exec(SetIds::default(), 0);
        assert_eq!((passed.permitted, passed.effective, passed.ambient), (4, 4, 4));
    }

    #[test]
    fn the_group_bit_alone_is_a_mark_for_locks() {
        assert_eq!(SetIds::of(0o2745, 1, 2), SetIds::default());
    }
}
