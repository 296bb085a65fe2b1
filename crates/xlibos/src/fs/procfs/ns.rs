//! Namespaces as /proc/PID/ns shows them: namespaces(7). A container has one of each, and no way into others.

use crate::fs::fd_table::OnExec;
use crate::fs::file::{File, FileOps, OpenFlags};
use crate::fs::inode::{Kind, Stat};
use crate::syscall::args::IntoReg;
use crate::{Errno, Result, Task};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// Names of the links, types, numbers and flags of clone(2).
pub(super) const ALL: [(&str, &str, u64, u64); 10] = [
    ("cgroup", "cgroup", 4_026_531_835, 0x0200_0000),
    ("ipc", "ipc", 4_026_531_839, 0x0800_0000),
    ("mnt", "mnt", 4_026_531_841, 0x0002_0000),
    ("net", "net", 4_026_531_840, 0x4000_0000),
    ("pid", "pid", 4_026_531_836, 0x2000_0000),
    ("pid_for_children", "pid", 4_026_531_836, 0x2000_0000),
    ("time", "time", 4_026_531_834, 0x80),
    ("time_for_children", "time", 4_026_531_834, 0x80),
    ("user", "user", 4_026_531_837, 0x1000_0000),
    ("uts", "uts", 4_026_531_838, 0x0400_0000),
];
/// Device number of the file system that they lie in.
const DEV: u64 = 4;

#[derive(Clone, Copy)]
struct Namespace {
    kind: &'static str,
    number: u64,
    flag: u64,
}

/// What a link leads to.
pub(super) fn open(name: &str) -> Option<Arc<File>> {
    let (_, kind, number, flag) = *ALL.iter().find(|(known, ..)| *known == name)?;
    Some(File::new(Arc::new(Namespace { kind, number, flag }), OpenFlags::empty()))
}

impl FileOps for Namespace {
    fn stat(&self) -> Result<Stat> {
        Ok(Stat { dev: DEV, mode: Kind::File.mode_bits() | 0o444, ..Stat::anonymous(Kind::File, self.number) })
    }

    fn describe(&self) -> Vec<u8> {
        let text: String = format!("{}:[{}]", self.kind, self.number);
        text.into_bytes()
    }

    /// NS_GET_USERNS, NS_GET_PARENT, NS_GET_NSTYPE, NS_GET_OWNER_UID: ioctl_nsfs(2).
    fn ioctl(&self, task: &Task, _file: &File, command: u32, argument: u64) -> Result<u64> {
        let is_user = self.kind == "user";
        match command {
            0xb701 if !is_user => {
                let owner = open("user").ok_or(Errno::ENOENT)?;
                task.insert_file(owner, OnExec::Close).map(IntoReg::into_reg)
            }
            // What lies above is out of reach.
            0xb701 => Err(Errno::EPERM),
            0xb702 if is_user || self.kind == "pid" => Err(Errno::EPERM),
            0xb702 => Err(Errno::EINVAL),
            0xb703 => Ok(self.flag),
            0xb704 if is_user => machine::guest::write_value(argument, &0_u32).map(|()| 0),
            0xb704 => Err(Errno::EINVAL),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn reopen(&self, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(*self))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
