//! The device nodes of terminals: /dev/tty, /dev/console, /dev/ptmx and /dev/pts/N.

use super::{Tty, console, find, pty};
use crate::fs::fd_table::OnExec;
use crate::fs::file::{File, FileOps, OpenFlags};
use crate::fs::inode::split_dev;
use crate::fs::path::Path;
use crate::fs::special::{CharDriver, register_char_driver};
use crate::{Errno, Result, Task};
use alloc::format;
use alloc::sync::Arc;

/// Major number of /dev/tty, /dev/console and /dev/ptmx.
pub const TTY_MAJOR: u32 = 5;
/// Major number of the line sides.
pub const PTS_MAJOR: u32 = 136;
/// Major and minor number of /dev/ptmx.
pub const PTMX: (u32, u32) = (TTY_MAJOR, 2);

struct Driver;

impl CharDriver for Driver {
    fn open(&self, task: &Task, rdev: u64, flags: OpenFlags, _path: &Path) -> Result<Arc<dyn FileOps>> {
        let (major, minor) = split_dev(rdev);
        Ok(match (major, minor) {
            (PTS_MAJOR, index) => find(index).ok_or(Errno::EIO)?.open_line(task, flags)?,
            (TTY_MAJOR, 0) => {
                let tty = task.process.session().tty().ok_or(Errno::ENXIO)?;
                tty.open_line(task, flags | OpenFlags::NOCTTY)?
            }
            (TTY_MAJOR, 1) => console::get().ok_or(Errno::ENXIO)?.open_line(task, flags | OpenFlags::NOCTTY)?,
            PTMX => pty::open_master(task)?,
            _ => return Err(Errno::ENXIO),
        })
    }
}

/// Registers the drivers, at the making of /dev.
pub fn register_drivers() {
    let driver = Arc::new(Driver);
    register_char_driver(TTY_MAJOR, Arc::clone(&driver) as Arc<dyn CharDriver>);
    register_char_driver(PTS_MAJOR, driver);
}

/// The line side as an open file, with its name where that can be found.
///
/// # Errors
/// EIO for one that is locked or hung up.
pub(super) fn open_named(task: &Task, tty: &Arc<Tty>, flags: OpenFlags) -> Result<Arc<File>> {
    let name = format!("/dev/pts/{}", tty.index);
    let path = crate::fs::resolve(task, crate::fs::AT_FDCWD, name.as_bytes(), crate::fs::Follow::Yes).ok();
    Ok(File::with_path(tty.open_line(task, flags)?, flags, path))
}

/// TIOCGPTPEER.
///
/// # Errors
/// EIO for a locked one, EMFILE.
pub(super) fn open_peer(task: &Task, tty: &Arc<Tty>, flags: OpenFlags) -> Result<u64> {
    let file = open_named(task, tty, flags)?;
    let fd = task.insert_file(file, OnExec::from_flag(flags.contains(OpenFlags::CLOEXEC)))?;
    Ok(u64::from(fd.0.unsigned_abs()))
}
