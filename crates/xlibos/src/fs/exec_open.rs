//! Opening of programs for exec, and of the first process's standard streams and directory.

use super::fd_table::{Fd, OnExec};
use super::file::{File, OpenFlags};
use super::inode::Kind;
use super::object::Ops;
use super::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, Follow, access, resolve, text_busy};
use crate::{Errno, Result, Task};
use abi::config::{Config, Stdio};
use alloc::sync::Arc;

/// Opens a program: a regular file that the task may execute.
///
/// # Errors
/// ETXTBSY for what is open for writing, EACCES for what is no regular file or lacks the permission, ELOOP for a link with AT_SYMLINK_NOFOLLOW; those of
/// the walk.
pub fn open_for_exec(task: &Task, dirfd: Fd, path: &[u8], flags: u32) -> Result<Arc<File>> {
    let place = if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        task.any_file(dirfd)?.path().cloned().ok_or(Errno::EACCES)?
    } else {
        resolve(task, dirfd, path, Follow::unless(flags & AT_SYMLINK_NOFOLLOW != 0))?
    };
    let inode = place.inode();
    match inode.kind() {
        Kind::File => {}
        Kind::Symlink => return Err(Errno::ELOOP),
        _ => return Err(Errno::EACCES),
    }
    let stat = inode.stat()?;
    if place.mount.flags.no_exec || stat.mode & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    access::check(&**inode, &task.creds(), access::EXECUTE)?;
    let claim = text_busy::to_run(&**inode)?;
    let ops = Arc::clone(inode).open(OpenFlags::empty())?;
    // The mappings of the program keep the file, and with it the claim.
    Ok(File::claimed(Ops::Held(ops), OpenFlags::empty(), Some(place), claim))
}

/// Gives the first process the caller's standard streams.
///
/// # Errors
/// Those of opening /dev/null.
pub fn open_standard_streams(task: &Task, config: &Config) -> Result<()> {
    for (number, stdio) in (0..).zip(config.stdio) {
        let file = match stdio {
            Stdio::Closed => continue,
            Stdio::Null => {
                let flags = if number == 0 { OpenFlags::empty() } else { OpenFlags::WRONLY };
                super::open(task, super::AT_FDCWD, b"/dev/null", flags, 0)?
            }
            Stdio::Terminal => crate::tty::open_console(task, config.terminal)?,
            Stdio::Host { .. } => super::stdio::HostStream::open(number, stdio).ok_or(Errno::EBADF)?,
        };
        task.files().replace(Fd(number), file, OnExec::Keep)?;
    }
    Ok(())
}

/// Makes a directory the task's working directory.
///
/// # Errors
/// Those of chdir(2).
pub fn change_directory(task: &Task, path: &[u8]) -> Result<()> {
    let place = resolve(task, super::AT_FDCWD, path, Follow::Yes)?;
    if place.inode().kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    access::check(&**place.inode(), &task.creds(), access::EXECUTE)?;
    task.fs().set_cwd(place);
    Ok(())
}
