//! Mounts that cases need: of the host's Linux in a namespace of the case's own, in a container those that it was started with.

use crate::kit::{self, Fail, close, file, name, or_skip};
use crate::sys::{Result, sys};
use core::ffi::CStr;

/// Names the directory where a container has them.
const VARIABLE: &str = "CONFORMANCE_MOUNTS";

/// A mount.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// Read-only: a file `f`, a directory `d`, a FIFO `p`.
    ReadOnly,
    /// Of 16 KiB, and 8 files with its root; empty.
    Small,
    /// In memory, and empty.
    Memory,
    /// A file on a file.
    Busy,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Small => "small",
            Self::Memory => "memory",
            Self::Busy => "busy",
        }
    }

    /// Its path.
    pub(crate) fn path(self) -> core::result::Result<String, Fail> {
        match std::env::var(VARIABLE) {
            Ok(directory) => Ok(format!("{directory}/{}", self.name())),
            Err(_) => self.make(),
        }
    }

    /// Makes it the working directory.
    pub(crate) fn enter(self) -> kit::Case {
        sys!(chdir, name(&self.path()?).as_c_str())?;
        Ok(())
    }

    fn make(self) -> core::result::Result<String, Fail> {
        kit::need_root()?;
        or_skip(sys!(unshare, libc::CLONE_NEWNS), &[libc::ENOSYS, libc::EPERM, libc::EINVAL], "a namespace of mounts")?;
        mount(0, c"/", 0, libc::MS_REC | libc::MS_PRIVATE, 0)?;
        let here = std::env::current_dir().map_err(|error| Fail::Broken(error.to_string()))?;
        let path = here.join(self.name()).display().to_string();
        self.mount_on(name(&path).as_c_str())?;
        Ok(path)
    }

    fn mount_on(self, at: &CStr) -> Result<()> {
        let tmpfs = |options: &CStr| mount_tmpfs(at, options);
        match self {
            Self::ReadOnly => {
                tmpfs(c"mode=755")?;
                let path = at.to_string_lossy();
                close(file(name(&format!("{path}/f")).as_c_str(), b"text")?)?;
                sys!(mkdir, name(&format!("{path}/d")).as_c_str(), 0o755)?;
                sys!(mknod, name(&format!("{path}/p")).as_c_str(), libc::S_IFIFO | 0o644, 0)?;
                mount(0, at, 0, libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, 0)
            }
            Self::Small => tmpfs(c"size=16k,nr_inodes=8"),
            Self::Memory => tmpfs(c""),
            Self::Busy => {
                close(file(at, b"")?)?;
                close(file(c"mounted", b"")?)?;
                mount(c"mounted".as_ptr().addr(), at, 0, libc::MS_BIND, 0)
            }
        }
    }
}

fn mount_tmpfs(at: &CStr, options: &CStr) -> Result<()> {
    sys!(mkdir, at, 0o755)?;
    mount(c"none".as_ptr().addr(), at, c"tmpfs".as_ptr().addr(), 0, options.as_ptr().addr())
}

fn mount(source: usize, at: &CStr, kind: usize, flags: u64, options: usize) -> Result<()> {
    sys!(mount, source, at, kind, flags, options).map(drop)
}
