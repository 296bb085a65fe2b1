//! What calls are refused by the place of a file: read-only, full, mounted on; and what mount(2) and its like look at
//! before they ask for a privilege.

use super::refusal::{Calls, answer};
use crate::kit::{as_nobody, assert_errno, cases, close, file, fstat, int, name, open, write};
use crate::place::Place;
use crate::sys::{self, Errno, memory, sys};
use libc as c;

const CWD: i32 = c::AT_FDCWD;

/// Changes of what is in a read-only place, by anybody.
const CHANGES: Calls<i32> = &[
    ("open, a new file", |_| sys!(open, c"n", c::O_CREAT, 0o600)),
    ("open, no name", |_| sys!(open, c".", c::O_TMPFILE | c::O_RDWR, 0o600)),
    ("openat, a new file", |_| sys!(openat, CWD, c"n", c::O_CREAT, 0o600)),
    ("creat, a new file", |_| sys!(creat, c"n", 0o600)),
    ("mkdir", |_| sys!(mkdir, c"n", 0o700)),
    ("mkdirat", |_| sys!(mkdirat, CWD, c"n", 0o700)),
    ("mknod", |_| sys!(mknod, c"n", c::S_IFREG | 0o600, 0)),
    ("mknodat", |_| sys!(mknodat, CWD, c"n", c::S_IFIFO | 0o600, 0)),
    ("mknod of a device", |_| sys!(mknod, c"n", c::S_IFCHR | 0o600, 0x103)),
    ("symlink", |_| sys!(symlink, c"x", c"n")),
    ("symlinkat", |_| sys!(symlinkat, c"x", CWD, c"n")),
    ("link", |_| sys!(link, c"f", c"n")),
    ("linkat", |_| sys!(linkat, CWD, c"f", CWD, c"n", 0)),
    ("linkat from elsewhere", |_| sys!(linkat, CWD, c"/proc/self/exe", CWD, c"n", 0)),
    ("unlink", |_| sys!(unlink, c"f")),
    ("unlink of none", |_| sys!(unlink, c"n")),
    ("unlinkat", |_| sys!(unlinkat, CWD, c"f", 0)),
    ("unlinkat of no directory", |_| sys!(unlinkat, CWD, c"n", c::AT_REMOVEDIR)),
    ("rmdir", |_| sys!(rmdir, c"d")),
    ("rmdir of none", |_| sys!(rmdir, c"n")),
    ("rename", |_| sys!(rename, c"f", c"n")),
    ("rename of none", |_| sys!(rename, c"n", c"f")),
    ("renameat", |_| sys!(renameat, CWD, c"f", CWD, c"n")),
    ("renameat2", |_| sys!(renameat2, CWD, c"f", CWD, c"d", c::RENAME_EXCHANGE)),
    ("chmod", |_| sys!(chmod, c"f", 0o600)),
    ("fchmod", |fd| sys!(fchmod, fd, 0o600)),
    ("fchmodat", |_| sys!(fchmodat, CWD, c"f", 0o600)),
    ("chown", |_| sys!(chown, c"f", 1, 1)),
    ("lchown", |_| sys!(lchown, c"f", 1, 1)),
    ("fchown", |fd| sys!(fchown, fd, 1, 1)),
    ("fchownat", |_| sys!(fchownat, CWD, c"f", 1, 1, 0)),
    ("utime", |_| sys!(utime, c"f", 0)),
    ("utimes", |_| sys!(utimes, c"f", 0)),
    ("futimesat", |_| sys!(futimesat, CWD, c"f", 0)),
    ("utimensat", |_| sys!(utimensat, CWD, c"f", &[1i64, 0, 1, 0], 0)),
    ("setxattr", |_| sys!(setxattr, c"f", c"user.a", b"1", 1, 0)),
    ("lsetxattr", |_| sys!(lsetxattr, c"f", c"user.a", b"1", 1, 0)),
    ("fsetxattr", |fd| sys!(fsetxattr, fd, c"user.a", b"1", 1, 0)),
    ("removexattr", |_| sys!(removexattr, c"f", c"user.a")),
];

/// Uses of a file of a read-only place, by one with rights to it.
const USES: Calls<()> = &[
    ("open to write", |()| sys!(open, c"f", c::O_WRONLY, 0)),
    ("open to cut", |()| sys!(open, c"f", c::O_TRUNC, 0)),
    ("openat to write", |()| sys!(openat, CWD, c"f", c::O_RDWR | c::O_CREAT, 0o600)),
    ("creat", |()| sys!(creat, c"f", 0o600)),
    ("truncate", |()| sys!(truncate, c"f", 0)),
    ("access", |()| sys!(access, c"f", c::W_OK)),
    ("faccessat", |()| sys!(faccessat, CWD, c"d", c::W_OK)),
    ("faccessat2", |()| sys!(faccessat2, CWD, c"f", c::W_OK, c::AT_EACCESS)),
];

/// New names, where one is there.
const NAMES: Calls<()> = &[
    ("open", |()| sys!(open, c"f", c::O_CREAT | c::O_EXCL, 0o600)),
    ("mkdir", |()| sys!(mkdir, c"d", 0o700)),
    ("mknod", |()| sys!(mknod, c"f", c::S_IFREG | 0o600, 0)),
    ("symlink", |()| sys!(symlink, c"x", c"f")),
    ("link", |()| sys!(link, c"f", c"d")),
];

/// Every call that makes a name.
const MAKERS: Calls<()> = &[
    ("open", |()| sys!(open, c"n", c::O_CREAT | c::O_WRONLY, 0o600)),
    ("openat", |()| sys!(openat, CWD, c"n", c::O_CREAT | c::O_WRONLY, 0o600)),
    ("open, no name", |()| sys!(open, c".", c::O_TMPFILE | c::O_RDWR, 0o600)),
    ("creat", |()| sys!(creat, c"n", 0o600)),
    ("mkdir", |()| sys!(mkdir, c"n", 0o700)),
    ("mkdirat", |()| sys!(mkdirat, CWD, c"n", 0o700)),
    ("mknod", |()| sys!(mknod, c"n", c::S_IFREG | 0o600, 0)),
    ("mknodat", |()| sys!(mknodat, CWD, c"n", c::S_IFIFO | 0o600, 0)),
    ("symlink", |()| sys!(symlink, c"x", c"n")),
    ("symlinkat", |()| sys!(symlinkat, c"x", CWD, c"n")),
    ("link", |()| sys!(link, c"0", c"n")),
    ("linkat", |()| sys!(linkat, CWD, c"0", CWD, c"n", 0)),
];

/// Every call that makes a file longer, where no block is left.
const GROWTHS: Calls<i32> = &[
    ("write", |fd| sys!(write, fd, b"x", 1)),
    ("writev", |fd| sys!(writev, fd, &[crate::kit::vector(b"x")], 1)),
    ("pwrite64", |fd| sys!(pwrite64, fd, b"x", 1, 1 << 20)),
    ("pwritev", |fd| sys!(pwritev, fd, &[crate::kit::vector(b"x")], 1, 1 << 20, 0)),
    ("pwritev2", |fd| sys!(pwritev2, fd, &[crate::kit::vector(b"x")], 1, 1 << 20, 0, 0)),
    ("fallocate", |fd| sys!(fallocate, fd, 0, 0, 1 << 20)),
    ("copy_file_range", |fd| sys!(copy_file_range, open(c"0", c::O_RDONLY, 0)?, &mut 0u64, fd, &mut (1u64 << 20), 1, 0)),
    ("sendfile", |fd| sys!(sendfile, fd, open(c"0", c::O_RDONLY, 0)?, &mut 0u64, 1)),
];

/// What of mount(2)'s and umount2(2)'s arguments is looked at before the privilege is asked for.
const BAD_FLAGS: Calls<()> = &[
    ("mount", |()| sys!(mount, c"none", c".", c"tmpfs", 1u64 << 31, 0)),
    ("mount, a long type", |()| sys!(mount, c"none", c".", name(&"x".repeat(5000)).as_c_str(), 0, 0)),
    ("umount2", |()| sys!(umount2, c".", 16)),
    ("swapon", |()| sys!(swapon, c"f", 1 << 20)),
    ("quotactl", |()| sys!(quotactl, 3, c"f", 0, 0)),
];

cases! { mount;
    fn a_read_only_place_is_not_changed() {
        Place::ReadOnly.enter()?;
        let fd = open(c"f", c::O_RDONLY, 0)?;
        answer(CHANGES, fd, c::EROFS);
        answer(USES, (), c::EROFS);
        answer(NAMES, (), c::EEXIST);
        open(c"f", c::O_RDONLY | c::O_CREAT, 0o600)?;
        // What is written to a FIFO changes no file.
        sys!(access, c"p", c::W_OK)?;
        assert_errno(sys!(truncate, c"d", 0), c::EISDIR);
        let socket = int(sys!(socket, c::AF_UNIX, c::SOCK_STREAM, 0)?);
        assert_errno(sys!(bind, socket, b"\x01\0n\0", 4), c::EROFS);
        assert_eq!(crate::kit::text(c"f")?, "text");
    }
    fn a_read_only_place_is_that_before_it_is_anothers() {
        Place::ReadOnly.enter()?;
        let fd = open(c"f", c::O_RDONLY, 0)?;
        as_nobody(|| {
            answer(CHANGES, fd, c::EROFS);
            for result in [open(c"f", c::O_WRONLY, 0).map(i64::from), sys!(truncate, c"f", 0), sys!(access, c"f", c::W_OK)] {
                assert_errno(result, c::EACCES);
            }
            Ok(())
        })?;
    }
    fn no_room_for_names() {
        Place::Small.enter()?;
        for number in 0..7 {
            close(file(name(&number.to_string()).as_c_str(), b"")?)?;
        }
        answer(MAKERS, (), c::ENOSPC);
        // A name in the same directory needs no room.
        sys!(rename, c"1", c"n")?;
        sys!(unlink, c"n")?;
        sys!(link, c"0", c"n")?;
        assert_errno(sys!(mkdir, c"d", 0o700), c::ENOSPC);
        let mut figures: c::statfs = sys::zeroed();
        sys!(statfs, c".", &mut figures)?;
        assert_eq!((figures.f_files, figures.f_ffree), (8, 0));
        empty()?;
    }
    fn no_room_for_bytes() {
        Place::Small.enter()?;
        let fd = file(c"0", b"")?;
        write(fd, &[1; 16384])?;
        answer(GROWTHS, fd, c::ENOSPC);
        assert_eq!(fstat(fd)?.st_size, 16384);
        assert_errno(sys!(symlink, name(&"x".repeat(4000)).as_c_str(), c"l"), c::ENOSPC);
        // What is there can be changed.
        assert_eq!(sys!(pwrite64, fd, b"x", 1, 0)?, 1);
        sys!(fsync, fd)?;
        empty()?;
    }
    fn a_file_that_is_mounted_on_stays() {
        let path = name(&Place::Busy.path()?);
        let path = path.as_c_str();
        close(file(c"f", b"")?)?;
        for result in [
            sys!(unlink, path),
            sys!(unlinkat, CWD, path, 0),
        ] {
            assert_errno(result, c::EBUSY);
        }
        assert_errno(sys!(rmdir, path), c::ENOTDIR);
        assert_errno(sys!(unlink, c"/proc"), c::EISDIR);
        crate::kit::stat(path)?;
    }
    fn mount_looks_at_its_arguments_first() {
        close(file(c"f", b"")?)?;
        as_nobody(|| {
            answer(BAD_FLAGS, (), c::EINVAL);
            let bad = memory::closed()?;
            for result in [
                sys!(mount, bad, c".", c"tmpfs", 0, 0),
                sys!(mount, c"none", c".", bad, 0, 0),
                sys!(mount, c"none", c".", c"tmpfs", 0, bad),
            ] {
                assert_errno(result, c::EFAULT);
            }
            assert_errno(sys!(mount, c"none", c".", c"tmpfs", 0, 0), c::EPERM);
            assert_errno(sys!(umount2, c".", 0), c::EPERM);
            Ok(())
        })?;
    }
    fn quotas_are_of_block_devices() {
        close(file(c"f", b"")?)?;
        // Q_SYNC of users, of all file systems.
        sys!(quotactl, 0x8000_0100_u32, 0, 0, 0)?;
        for path in [c"f", c".", c"/dev/null"] {
            assert_errno(sys!(quotactl, 0x8000_0700_u32, path, 0, 0), c::ENOTBLK);
        }
        assert_errno(sys!(quotactl, 0x8000_0700_u32, 0, 0, 0), c::ENODEV);
        assert_errno(sys!(quotactl, 0x8000_0700_u32, memory::closed()?, 0, 0), c::EFAULT);
        assert_errno(sys!(quotactl, 0x8000_0700_u32, c"none", 0, 0), c::ENOENT);
        sys!(mkdir, c"closed", 0o700)?;
        as_nobody(|| {
            assert_errno(sys!(quotactl, 0x8000_0700_u32, c"closed/x", 0, 0), c::EACCES);
            Ok(())
        })?;
    }
}

/// Empties the working directory, which other cases use too.
fn empty() -> crate::kit::Case {
    for entry in std::fs::read_dir(".").into_iter().flatten().flatten() {
        std::fs::remove_file(entry.path()).map_err(|error| Errno(error.raw_os_error().unwrap_or(0)))?;
    }
    Ok(())
}
