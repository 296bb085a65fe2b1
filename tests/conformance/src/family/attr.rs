//! What a file carries: mode, owner, times, size, extended attributes, and the file system's figures.

use crate::kit::{as_nobody, assert_errno, cases, child, close, file, fstat, int, need_root, now, open, or_skip, pipe, read, stat, text};
use crate::sys::{self, Errno, Result, memory, sys};
use libc as c;

cases! { attr;
    fn lists_decide_instead_of_the_group() {
        need_root()?;
        close(file(c"f", b"x")?)?;
        sys!(chown, c"f", 1000, 1001)?;
        let list = acl(&[(1, 6, -1), (2, 4, 65534), (4, 6, -1), (8, 2, 77), (0x10, 6, -1), (0x20, 0, -1)]);
        or_skip(set_acl(c"f", ACCESS, &list), &[c::EOPNOTSUPP], "lists")?;
        // The group's bits are the mask.
        assert_eq!((stat(c"f")?.st_mode & 0o777, get_acl(c"f", ACCESS)?), (0o660, list));
        let open_as = |uid: i32, gid: i32, flags: i32, errno: i32| child(|| {
            sys!(setgroups, 0, 0)?;
            sys!(setresgid, gid, gid, gid)?;
            sys!(setresuid, uid, uid, uid)?;
            match errno {
                0 => drop(open(c"f", flags, 0)?),
                _ => assert_errno(open(c"f", flags, 0), errno),
            }
            Ok(())
        });
        open_as(65534, 65534, c::O_RDONLY, 0)?.succeeds()?;
        open_as(65534, 1001, c::O_WRONLY, c::EACCES)?.succeeds()?;
        open_as(5, 1001, c::O_RDWR, 0)?.succeeds()?;
        open_as(5, 77, c::O_WRONLY, 0)?.succeeds()?;
        open_as(5, 77, c::O_RDONLY, c::EACCES)?.succeeds()?;
        open_as(5, 5, c::O_RDONLY, c::EACCES)?.succeeds()?;
        // chmod changes the mask, not the group.
        sys!(chmod, c"f", 0o640)?;
        let less = acl(&[(1, 6, -1), (2, 4, 65534), (4, 6, -1), (8, 2, 77), (0x10, 4, -1), (0x20, 0, -1)]);
        assert_eq!(get_acl(c"f", ACCESS)?, less);
        open_as(5, 77, c::O_WRONLY, c::EACCES)?.succeeds()?;
        open_as(5, 1001, c::O_RDONLY, 0)?.succeeds()?;
        open_as(1000, 5, c::O_RDWR, 0)?.succeeds()?;
        let mut names = [0u8; 64];
        let len = sys!(listxattr, c"f", &mut names[..], 64)? as usize;
        assert_eq!(&names[..len], b"system.posix_acl_access\0");
        sys!(removexattr, c"f", ACCESS)?;
        sys!(removexattr, c"f", ACCESS)?;
        assert_errno(get_acl(c"f", ACCESS), c::ENODATA);
        assert_eq!(stat(c"f")?.st_mode & 0o777, 0o640);
        // A list that the mode says all of is none.
        set_acl(c"f", ACCESS, &acl(&[(1, 7, -1), (4, 5, -1), (0x20, 1, -1)]))?;
        assert_errno(get_acl(c"f", ACCESS), c::ENODATA);
        assert_eq!(stat(c"f")?.st_mode & 0o777, 0o751);
    }
    fn defaults_are_inherited_in_place_of_the_umask() {
        sys!(mkdir, c"d", 0o755)?;
        let list = acl(&[(1, 7, -1), (2, 7, 5), (4, 7, -1), (0x10, 7, -1), (0x20, 5, -1)]);
        or_skip(set_acl(c"d", DEFAULT, &list), &[c::EOPNOTSUPP], "lists")?;
        assert_eq!(stat(c"d")?.st_mode & 0o777, 0o755);
        assert_errno(get_acl(c"d", ACCESS), c::ENODATA);
        sys!(umask, 0o077)?;
        close(open(c"d/f", c::O_CREAT | c::O_WRONLY, 0o664)?)?;
        assert_eq!(stat(c"d/f")?.st_mode & 0o777, 0o664);
        assert_eq!(get_acl(c"d/f", ACCESS)?, acl(&[(1, 6, -1), (2, 7, 5), (4, 7, -1), (0x10, 6, -1), (0x20, 4, -1)]));
        sys!(mkdir, c"d/d", 0o770)?;
        assert_eq!((stat(c"d/d")?.st_mode & 0o777, get_acl(c"d/d", DEFAULT)?), (0o770, list));
        sys!(symlink, c"f", c"d/l")?;
        let mut link: c::stat = sys::zeroed();
        sys!(lstat, c"d/l", &mut link)?;
        assert_eq!(link.st_mode & 0o777, 0o777);
        let fd = open(c"d", c::O_TMPFILE | c::O_RDWR, 0o666);
        if let Ok(fd) = fd {
            assert_eq!(fstat(fd)?.st_mode & 0o777, 0o664);
        }
        sys!(removexattr, c"d", DEFAULT)?;
        close(open(c"d/g", c::O_CREAT | c::O_WRONLY, 0o664)?)?;
        assert_eq!(stat(c"d/g")?.st_mode & 0o777, 0o600);
    }
    fn lists_close_a_way_that_was_gone_before() {
        sys!(chmod, c".", 0o755)?;
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/f", b"x")?)?;
        let nobody = |errno: i32| as_nobody(|| {
            for _ in 0..3 {
                let found = [stat(c"d/f").map(|_| ()), open(c"d/f", c::O_RDONLY, 0).and_then(close), sys!(access, c"d/f", 0).map(|_| ())];
                assert_eq!(found.map(|found| found.err().map_or(0, |error| error.0)), [errno; 3]);
            }
            Ok(())
        });
        nobody(0)?;
        let list = acl(&[(1, 7, -1), (2, 0, 65534), (4, 5, -1), (0x10, 5, -1), (0x20, 5, -1)]);
        or_skip(set_acl(c"d", ACCESS, &list), &[c::EOPNOTSUPP], "lists")?;
        nobody(c::EACCES)?;
        sys!(removexattr, c"d", ACCESS)?;
        nobody(0)?;
    }
    fn lists_that_are_none() {
        let fd = file(c"f", b"")?;
        let good = acl(&[(1, 6, -1), (2, 4, 5), (4, 6, -1), (0x10, 6, -1), (0x20, 0, -1)]);
        or_skip(set_acl(c"f", ACCESS, &good), &[c::EOPNOTSUPP], "lists")?;
        assert_errno(set_acl(c"f", DEFAULT, &good), c::EACCES);
        assert_errno(set_acl(c"f", ACCESS, &good[..5]), c::EINVAL);
        assert_errno(set_acl(c"f", ACCESS, &[3, 0, 0, 0]), c::EOPNOTSUPP);
        // Neither a user without a mask, nor what is out of its order.
        assert_errno(set_acl(c"f", ACCESS, &acl(&[(1, 6, -1), (2, 4, 5), (4, 6, -1), (0x20, 0, -1)])), c::EINVAL);
        assert_errno(set_acl(c"f", ACCESS, &acl(&[(4, 6, -1), (1, 6, -1), (0x20, 0, -1)])), c::EINVAL);
        assert_errno(set_acl(c"f", ACCESS, &acl(&[(1, 9, -1), (4, 6, -1), (0x20, 0, -1)])), c::EINVAL);
        let mut short = [0u8; 8];
        assert_errno(sys!(fgetxattr, fd, ACCESS, &mut short, 8), c::ERANGE);
        assert_eq!(sys!(fgetxattr, fd, ACCESS, 0, 0)?, good.len() as i64);
        sys!(symlink, c"f", c"l")?;
        assert_errno(sys!(lsetxattr, c"l", ACCESS, &good[..], good.len(), 0), c::EOPNOTSUPP);
        as_nobody(|| {
            assert_errno(set_acl(c"f", ACCESS, &good), c::EPERM);
            assert_eq!(get_acl(c"f", ACCESS)?, good);
            Ok(())
        })?;
    }
    fn pipes_and_sockets_have_attributes_of_their_own() {
        let [first, second] = crate::kit::socket_pair(c::SOCK_STREAM)?;
        let [reading, writing] = pipe(0)?;
        let (uid, gid) = (sys!(geteuid)?, sys!(getegid)?);
        let of = |fd: i32| fstat(fd).map(|st| (st.st_mode, i64::from(st.st_uid), i64::from(st.st_gid), st.st_size, st.st_nlink));
        assert_eq!((of(first)?, of(reading)?), ((0o140_777, uid, gid, 0, 1), (0o10600, uid, gid, 0, 1)));
        let made = fstat(writing)?.st_mtime;
        let clock = now(c::CLOCK_REALTIME)? / 1_000_000_000;
        assert!((clock - 60..=clock + 1).contains(&made), "{made} at {clock}");
        for fd in [first, reading] {
            sys!(fchmod, fd, 0o640)?;
            assert_eq!(fstat(fd)?.st_mode & 0o7777, 0o640);
            let times = [c::timespec { tv_sec: 5, tv_nsec: 7 }, c::timespec { tv_sec: 6, tv_nsec: 8 }];
            sys!(utimensat, fd, 0, &times, 0)?;
            let st = fstat(fd)?;
            assert_eq!((st.st_atime, st.st_atime_nsec, st.st_mtime, st.st_mtime_nsec), (5, 7, 6, 8));
            as_nobody(|| {
                assert_errno(sys!(fchmod, fd, 0o777), c::EPERM);
                assert_errno(sys!(fchown, fd, 65534, -1), c::EPERM);
                Ok(())
            })?;
        }
        // Both ends are one pipe, and two sockets.
        assert_eq!((fstat(writing)?.st_mode & 0o7777, fstat(second)?.st_mode & 0o7777), (0o640, 0o777));
        need_root()?;
        sys!(fchown, writing, 65534, 7)?;
        assert_eq!((fstat(reading)?.st_uid, fstat(reading)?.st_gid), (65534, 7));
        as_nobody(|| Ok(sys!(fchmod, reading, 0o600).map(drop)?))?;
    }
    fn anonymous_inodes_keep_their_attributes() {
        let fd = int(sys!(eventfd2, 0, 0)?);
        assert_errno(sys!(fchmod, fd, 0o640), c::EOPNOTSUPP);
        assert_errno(sys!(fchown, fd, 1, 2), c::EOPNOTSUPP);
        assert_eq!(fstat(fd)?.st_mode & 0o7777, 0o600);
    }
    fn an_owner_outside_of_the_group_sets_no_group_bit() {
        need_root()?;
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"f", b"")?)?;
        for path in [c"d", c"f"] {
            sys!(chown, path, 65534, 1234)?;
        }
        as_nobody(|| {
            sys!(chmod, c"d", 0o3755)?;
            assert_eq!(stat(c"d")?.st_mode & 0o7777, 0o1755);
            sys!(fchmod, open(c"f", c::O_RDONLY, 0)?, 0o6750)?;
            assert_eq!(stat(c"f")?.st_mode & 0o7777, 0o4750);
            Ok(())
        })?;
        sys!(chown, c"d", 65534, 65534)?;
        as_nobody(|| {
            sys!(chmod, c"d", 0o2755)?;
            assert_eq!(stat(c"d")?.st_mode & 0o7777, 0o2755);
            Ok(())
        })?;
    }
    fn chmod_and_fchmod() {
        let fd = file(c"f", b"")?;
        sys!(chmod, c"f", 0o4751)?;
        assert_eq!(stat(c"f")?.st_mode & 0o7777, 0o4751);
        sys!(fchmod, fd, 0o600)?;
        assert_eq!(fstat(fd)?.st_mode & 0o7777, 0o600);
        sys!(fchmodat, c::AT_FDCWD, c"f", 0o640)?;
        assert_eq!(stat(c"f")?.st_mode & 0o7777, 0o640);
    }
    fn chmod_errors() {
        close(file(c"f", b"")?)?;
        assert_errno(sys!(chmod, c"none", 0o600), c::ENOENT);
        assert_errno(sys!(chmod, c"f/x", 0o600), c::ENOTDIR);
        assert_errno(sys!(fchmod, 899, 0o600), c::EBADF);
        as_nobody(|| {
            assert_errno(sys!(chmod, c"f", 0o777), c::EPERM);
            Ok(())
        })?;
    }
    fn chown_and_its_variants() {
        need_root()?;
        let fd = file(c"f", b"")?;
        sys!(symlink, c"f", c"l")?;
        sys!(chown, c"l", 10, 20)?;
        assert_eq!((fstat(fd)?.st_uid, fstat(fd)?.st_gid), (10, 20));
        sys!(lchown, c"l", 11, -1)?;
        assert_eq!(fstat(fd)?.st_uid, 10);
        sys!(fchown, fd, -1, 21)?;
        assert_eq!((fstat(fd)?.st_uid, fstat(fd)?.st_gid), (10, 21));
        let mut st: c::stat = sys::zeroed();
        sys!(newfstatat, c::AT_FDCWD, c"l", &mut st, c::AT_SYMLINK_NOFOLLOW)?;
        assert_eq!(st.st_uid, 11);
        sys!(fchownat, fd, c"", 12, 22, c::AT_EMPTY_PATH)?;
        assert_eq!((fstat(fd)?.st_uid, fstat(fd)?.st_gid), (12, 22));
        assert_errno(sys!(fchownat, c::AT_FDCWD, c"f", 0, 0, 1), c::EINVAL);
        assert_errno(sys!(chown, c"none", 0, 0), c::ENOENT);
        assert_errno(sys!(fchown, 899, 0, 0), c::EBADF);
    }
    fn chown_clears_set_id_bits_of_programs() {
        need_root()?;
        close(file(c"f", b"")?)?;
        sys!(chmod, c"f", 0o6755)?;
        sys!(chown, c"f", 1000, 1000)?;
        assert_eq!(stat(c"f")?.st_mode & 0o7777, 0o755);
    }
    fn chown_by_others_is_eperm() {
        close(file(c"f", b"")?)?;
        as_nobody(|| {
            assert_errno(sys!(chown, c"f", 65534, -1), c::EPERM);
            close(file(c"mine", b"")?)?;
            assert_errno(sys!(chown, c"mine", 0, -1), c::EPERM);
            sys!(chown, c"mine", -1, 65534)?;
            Ok(())
        })?;
    }
    fn pipes_and_sockets_belong_to_who_made_them() {
        as_nobody(|| {
            let [reader, writer] = pipe(0)?;
            assert_eq!((fstat(reader)?.st_uid, fstat(writer)?.st_gid), (65534, 65534));
            let mut pair = [0_i32; 2];
            sys!(socketpair, c::AF_UNIX, c::SOCK_STREAM, 0, &mut pair)?;
            assert_eq!((fstat(pair[0])?.st_uid, fstat(pair[1])?.st_gid), (65534, 65534));
            // So a shell's <(...) opens.
            sys!(fcntl, reader, c::F_DUPFD, 150)?;
            close(open(c"/proc/self/fd/150", c::O_RDONLY, 0)?)?;
            Ok(())
        })?;
    }
    fn umask_returns_the_old_one() {
        assert_eq!(sys!(umask, 0o7077)?, 0o022);
        assert_eq!(sys!(umask, 0o022)?, 0o077);
    }
    fn utimensat_sets_both_times() {
        let fd = file(c"f", b"")?;
        let times = [c::timespec { tv_sec: 1, tv_nsec: 2 }, c::timespec { tv_sec: 3_000_000_000, tv_nsec: 999_999_999 }];
        sys!(utimensat, c::AT_FDCWD, c"f", &times, 0)?;
        let st = fstat(fd)?;
        assert_eq!((st.st_atime, st.st_atime_nsec), (1, 2));
        assert_eq!((st.st_mtime, st.st_mtime_nsec), (3_000_000_000, 999_999_999));
    }
    fn utimensat_now_and_omit() {
        let fd = file(c"f", b"")?;
        let old = [c::timespec { tv_sec: 5, tv_nsec: 0 }; 2];
        sys!(utimensat, fd, 0, &old, 0)?;
        let half = [c::timespec { tv_sec: 0, tv_nsec: c::UTIME_OMIT }, c::timespec { tv_sec: 0, tv_nsec: c::UTIME_NOW }];
        sys!(utimensat, fd, 0, &half, 0)?;
        let st = fstat(fd)?;
        assert_eq!(st.st_atime, 5);
        assert!((st.st_mtime - now(c::CLOCK_REALTIME)? / 1_000_000_000).abs() < 100);
        sys!(utimensat, fd, 0, 0, 0)?;
        assert!(fstat(fd)?.st_atime > 5);
    }
    fn utimensat_errors_and_links() {
        sys!(symlink, c"nowhere", c"l")?;
        let times = [c::timespec { tv_sec: 7, tv_nsec: 0 }; 2];
        assert_errno(sys!(utimensat, c::AT_FDCWD, c"l", &times, 0), c::ENOENT);
        sys!(utimensat, c::AT_FDCWD, c"l", &times, c::AT_SYMLINK_NOFOLLOW)?;
        let bad = [c::timespec { tv_sec: 7, tv_nsec: 1_000_000_000 }; 2];
        assert_errno(sys!(utimensat, c::AT_FDCWD, c".", &bad, 0), c::EINVAL);
        assert_errno(sys!(utimensat, 899, c"f", &times, 0), c::EBADF);
        close(file(c"f", b"")?)?;
        as_nobody(|| {
            assert_errno(sys!(utimensat, c::AT_FDCWD, c"f", &times, 0), c::EPERM);
            assert_errno(sys!(utimensat, c::AT_FDCWD, c"f", 0, 0), c::EACCES);
            Ok(())
        })?;
    }
    fn utime_and_utimes() {
        close(file(c"f", b"")?)?;
        sys!(utime, c"f", &[10i64, 20])?;
        assert_eq!((stat(c"f")?.st_atime, stat(c"f")?.st_mtime), (10, 20));
        sys!(utimes, c"f", &[30i64, 1, 40, 2])?;
        assert_eq!((stat(c"f")?.st_mtime, stat(c"f")?.st_mtime_nsec), (40, 2000));
        assert_errno(sys!(utimes, c"f", &[30i64, 1_000_000, 40, 2]), c::EINVAL);
    }
    fn writing_changes_mtime_and_ctime() {
        let fd = file(c"f", b"")?;
        let old = [c::timespec { tv_sec: 5, tv_nsec: 0 }; 2];
        sys!(utimensat, fd, 0, &old, 0)?;
        crate::kit::write(fd, b"x")?;
        assert!(fstat(fd)?.st_mtime > 5);
        sys!(utimensat, fd, 0, &old, 0)?;
        assert!(fstat(fd)?.st_ctime > 5);
    }
    fn changing_a_directory_changes_its_mtime() {
        sys!(mkdir, c"d", 0o755)?;
        let old = [c::timespec { tv_sec: 5, tv_nsec: 0 }; 2];
        for change in [
            || sys!(mknod, c"d/f", c::S_IFREG | 0o600, 0),
            || sys!(link, c"d/f", c"d/g"),
            || sys!(rename, c"d/g", c"d/h"),
            || sys!(unlink, c"d/h"),
        ] {
            sys!(utimensat, c::AT_FDCWD, c"d", &old, 0)?;
            change()?;
            assert!(stat(c"d")?.st_mtime > 5);
        }
    }
    fn truncate_shortens_and_grows() {
        let fd = file(c"f", b"hello")?;
        sys!(truncate, c"f", 2)?;
        assert_eq!(text(c"f")?, "he");
        sys!(ftruncate, fd, 4)?;
        assert_eq!(read(fd, 9)?, b"he\0\0");
        sys!(ftruncate, fd, 5000)?;
        assert_eq!(fstat(fd)?.st_size, 5000);
    }
    fn truncate_errors() {
        let fd = file(c"f", b"hello")?;
        assert_errno(sys!(truncate, c"f", -1), c::EINVAL);
        assert_errno(sys!(truncate, c"none", 0), c::ENOENT);
        assert_errno(sys!(truncate, c".", 0), c::EISDIR);
        assert_errno(sys!(ftruncate, fd, -1), c::EINVAL);
        assert_errno(sys!(ftruncate, 899, 0), c::EBADF);
        assert_errno(sys!(ftruncate, open(c"f", c::O_RDONLY, 0)?, 0), c::EINVAL);
        assert_errno(sys!(ftruncate, pipe(0)?[1], 0), c::EINVAL);
        as_nobody(|| {
            assert_errno(sys!(truncate, c"f", 0), c::EACCES);
            Ok(())
        })?;
    }
    fn fallocate_grows_or_keeps_the_size() {
        let fd = file(c"f", b"hello")?;
        or_skip(sys!(fallocate, fd, 0, 0, 100), &[c::EOPNOTSUPP], "fallocate")?;
        assert_eq!(fstat(fd)?.st_size, 100);
        sys!(fallocate, fd, c::FALLOC_FL_KEEP_SIZE, 0, 100_000)?;
        assert_eq!(fstat(fd)?.st_size, 100);
        assert_eq!(read(fd, 6)?, b"hello\0");
    }
    fn fallocate_punches_holes() {
        let fd = file(c"f", b"hello")?;
        let mode = c::FALLOC_FL_PUNCH_HOLE | c::FALLOC_FL_KEEP_SIZE;
        or_skip(sys!(fallocate, fd, mode, 1, 3), &[c::EOPNOTSUPP], "punching holes")?;
        assert_eq!(read(fd, 9)?, b"h\0\0\0o");
    }
    fn fallocate_errors() {
        let fd = file(c"f", b"")?;
        or_skip(sys!(fallocate, fd, 0, 0, 1), &[c::EOPNOTSUPP], "fallocate")?;
        assert_errno(sys!(fallocate, fd, 0, 0, 0), c::EINVAL);
        assert_errno(sys!(fallocate, fd, 0, -1, 1), c::EINVAL);
        assert_errno(sys!(fallocate, 899, 0, 0, 1), c::EBADF);
        assert_errno(sys!(fallocate, open(c"f", c::O_RDONLY, 0)?, 0, 0, 1), c::EBADF);
        assert_errno(sys!(fallocate, pipe(0)?[1], 0, 0, 1), c::ESPIPE);
        assert_errno(sys!(fallocate, fd, 1 << 20, 0, 1), c::EOPNOTSUPP);
    }
    fn sync_calls() {
        let fd = file(c"f", b"abc")?;
        sys!(fsync, fd)?;
        sys!(fdatasync, fd)?;
        sys!(sync_file_range, fd, 0, 0, c::SYNC_FILE_RANGE_WRITE)?;
        for bad in [sys!(fsync, 899), sys!(fdatasync, 899), sys!(syncfs, 899)] {
            assert_errno(bad, c::EBADF);
        }
        assert_errno(sys!(fsync, pipe(0)?[1]), c::EINVAL);
    }
    fn statfs_and_fstatfs_agree() {
        let fd = file(c"f", b"")?;
        let (mut a, mut b): (c::statfs, c::statfs) = (sys::zeroed(), sys::zeroed());
        sys!(statfs, c"f", &mut a)?;
        sys!(fstatfs, fd, &mut b)?;
        assert_eq!((a.f_type, a.f_bsize, a.f_namelen), (b.f_type, b.f_bsize, 255));
        assert!(a.f_bfree <= a.f_blocks);
        assert_errno(sys!(statfs, c"none", &mut a), c::ENOENT);
        assert_errno(sys!(fstatfs, 899, &mut a), c::EBADF);
        assert_errno(sys!(statfs, c"f", memory::hole()?), c::EFAULT);
        sys!(statfs, c"/proc", &mut a)?;
        assert_eq!(a.f_type, 0x9fa0);
    }
    fn fadvise_and_readahead() {
        let fd = file(c"f", b"abc")?;
        for advice in 0..6 {
            assert_eq!(sys!(fadvise64, fd, 0, 0, advice)?, 0);
        }
        assert_errno(sys!(fadvise64, fd, 0, 0, 99), c::EINVAL);
        assert_errno(sys!(fadvise64, pipe(0)?[0], 0, 0, 0), c::ESPIPE);
        assert_errno(sys!(fadvise64, 899, 0, 0, 0), c::EBADF);
        assert_errno(sys!(readahead, 899, 0, 1), c::EBADF);
    }
    fn xattr_round_trip() {
        let fd = file(c"f", b"")?;
        supported(sys!(setxattr, c"f", c"user.one", b"value", 5, 0))?;
        let mut buffer = [0u8; 64];
        assert_eq!(sys!(getxattr, c"f", c"user.one", &mut buffer, 64)?, 5);
        assert_eq!(&buffer[..5], b"value");
        assert_eq!(sys!(fgetxattr, fd, c"user.one", 0, 0)?, 5);
        sys!(fsetxattr, fd, c"user.two", b"", 0, 0)?;
        let len = int(sys!(listxattr, c"f", &mut buffer, 64)?);
        let names = String::from_utf8_lossy(&buffer[..crate::kit::size(len.into())]).into_owned();
        assert!(names.contains("user.one\0") && names.contains("user.two\0"), "{names}");
        sys!(removexattr, c"f", c"user.one")?;
        assert_errno(sys!(getxattr, c"f", c"user.one", &mut buffer, 64), c::ENODATA);
    }
    fn xattr_create_and_replace() {
        close(file(c"f", b"")?)?;
        supported(sys!(setxattr, c"f", c"user.a", b"1", 1, c::XATTR_CREATE))?;
        assert_errno(sys!(setxattr, c"f", c"user.a", b"2", 1, c::XATTR_CREATE), c::EEXIST);
        assert_errno(sys!(setxattr, c"f", c"user.b", b"2", 1, c::XATTR_REPLACE), c::ENODATA);
        assert_errno(sys!(setxattr, c"f", c"user.b", b"2", 1, 8), c::EINVAL);
        sys!(setxattr, c"f", c"user.a", b"22", 2, c::XATTR_REPLACE)?;
        let mut small = [0u8; 1];
        assert_errno(sys!(getxattr, c"f", c"user.a", &mut small, 1), c::ERANGE);
        assert_errno(sys!(listxattr, c"f", &mut small, 1), c::ERANGE);
    }
    fn xattr_of_a_directory() {
        sys!(mkdir, c"d", 0o755)?;
        supported(sys!(setxattr, c"d", c"user.one", b"value", 5, 0))?;
        let mut buffer = [0u8; 64];
        assert_eq!(sys!(getxattr, c"d", c"user.one", &mut buffer, 64)?, 5);
        sys!(removexattr, c"d", c"user.one")?;
        assert_errno(sys!(getxattr, c"d", c"user.one", &mut buffer, 64), c::ENODATA);
    }
    fn xattr_errors() {
        close(file(c"f", b"")?)?;
        supported(sys!(setxattr, c"f", c"user.a", b"1", 1, 0))?;
        let mut buffer = [0u8; 8];
        assert_errno(sys!(getxattr, c"none", c"user.a", &mut buffer, 8), c::ENOENT);
        assert_errno(sys!(getxattr, c"f", c"nonsense", &mut buffer, 8), c::EOPNOTSUPP);
        assert_errno(sys!(removexattr, c"f", c"user.none"), c::ENODATA);
        assert_errno(sys!(fgetxattr, 899, c"user.a", &mut buffer, 8), c::EBADF);
        assert_errno(sys!(getxattr, memory::hole()?, c"user.a", &mut buffer, 8), c::EFAULT);
        assert_errno(sys!(setxattr, c"f", c"", b"1", 1, 0), c::ERANGE);
        sys!(symlink, c"f", c"l")?;
        assert_errno(sys!(lsetxattr, c"l", c"user.a", b"1", 1, 0), c::EPERM);
    }
    fn times_of_others() {
        let times = [1i64, 0, 1, 0];
        close(file(c"f", b"")?)?;
        as_nobody(|| {
            for now in [sys!(utime, c"f", 0), sys!(utimes, c"f", 0), sys!(futimesat, c::AT_FDCWD, c"f", 0), sys!(utimensat, c::AT_FDCWD, c"f", 0, 0)] {
                assert_errno(now, c::EACCES);
            }
            Ok(())
        })?;
        assert_errno(sys!(utimensat, c::AT_FDCWD, c"f", &times, 1 << 30), c::EINVAL);
        assert_errno(sys!(utimensat, c::AT_FDCWD, c"f", &[1i64, -1, 1, 0], 0), c::EINVAL);
        assert_errno(sys!(futimesat, c::AT_FDCWD, c"f", &[1i64, -1, 1, 0]), c::EINVAL);
    }
    fn files_that_cannot_be_synced_or_allocated() {
        let ends = pipe(0)?;
        assert_errno(sys!(fdatasync, ends[1]), c::EINVAL);
        assert_errno(sys!(sync_file_range, ends[1], 0, 0, 0), c::ESPIPE);
        let fd = file(c"f", b"")?;
        assert_errno(sys!(sync_file_range, fd, 0, 0, 8), c::EINVAL);
        assert_errno(sys!(sync_file_range, fd, -1, 0, 0), c::EINVAL);
        assert_errno(sys!(sync_file_range, fd, 0, -1, 0), c::EINVAL);
        assert_errno(sys!(fallocate, open(c"/dev/null", c::O_RDWR, 0)?, 0, 0, 1), c::ENODEV);
        // To punch a hole is not to change the size.
        assert_errno(sys!(fallocate, fd, c::FALLOC_FL_PUNCH_HOLE, 0, 1), c::EOPNOTSUPP);
        assert_errno(sys!(readahead, ends[0], 0, 1), c::EINVAL);
        assert_errno(sys!(readahead, open(c"f", c::O_WRONLY, 0)?, 0, 1), c::EBADF);
    }
    fn xattrs_by_every_way_refuse_alike() {
        let fd = file(c"f", b"")?;
        supported(sys!(setxattr, c"f", c"user.a", b"1", 1, 0))?;
        type Set = fn(i32, &core::ffi::CStr, &[u8], usize, i32) -> Result<i64>;
        let set: [Set; 3] = [
            |_, name, value, len, flags| sys!(setxattr, c"f", name, value, len, flags),
            |_, name, value, len, flags| sys!(lsetxattr, c"f", name, value, len, flags),
            |fd, name, value, len, flags| sys!(fsetxattr, fd, name, value, len, flags),
        ];
        let (long, large) = (crate::kit::name(&("user.".to_owned() + &"x".repeat(251))), vec![0u8; 65537]);
        for set in set {
            assert_errno(set(fd, c"user.a", b"2", 1, c::XATTR_CREATE), c::EEXIST);
            assert_errno(set(fd, c"user.none", b"2", 1, c::XATTR_REPLACE), c::ENODATA);
            assert_errno(set(fd, c"user.b", b"2", 1, 8), c::EINVAL);
            assert_errno(set(fd, c"", b"2", 1, 0), c::ERANGE);
            assert_errno(set(fd, &long, b"2", 1, 0), c::ERANGE);
            assert_errno(set(fd, c"user.b", &large, large.len(), 0), c::E2BIG);
            assert_errno(set(fd, c"nonsense", b"2", 1, 0), c::EOPNOTSUPP);
        }
        let mut small = [0u8; 0];
        type Get = fn(i32, &core::ffi::CStr, usize) -> Result<i64>;
        let get: [Get; 3] = [
            |_, name, to| sys!(getxattr, c"f", name, to, 0),
            |_, name, to| sys!(lgetxattr, c"f", name, to, 0),
            |fd, name, to| sys!(fgetxattr, fd, name, to, 0),
        ];
        for get in get {
            assert_errno(get(fd, c"user.none", 0), c::ENODATA);
            assert_errno(get(fd, c"nonsense", 0), c::EOPNOTSUPP);
            assert_errno(get(fd, &long, 0), c::ERANGE);
            assert_eq!(get(fd, c"user.a", 0)?, 1);
        }
        supported(sys!(setxattr, c"f", c"user.a", b"22", 2, 0))?;
        let mut byte = [0u8; 1];
        for result in [
            sys!(lgetxattr, c"f", c"user.a", &mut byte, 1),
            sys!(fgetxattr, fd, c"user.a", &mut byte, 1),
            sys!(llistxattr, c"f", &mut byte, 1),
            sys!(flistxattr, fd, &mut byte, 1),
        ] {
            assert_errno(result, c::ERANGE);
        }
        for result in [sys!(lremovexattr, c"f", c"user.none"), sys!(fremovexattr, fd, c"user.none")] {
            assert_errno(result, c::ENODATA);
        }
        for result in [sys!(removexattr, c"f", c"nonsense"), sys!(lremovexattr, c"f", c"nonsense"), sys!(fremovexattr, fd, c"nonsense")] {
            assert_errno(result, c::EOPNOTSUPP);
        }
        sys!(getxattr, c"f", c"user.a", &mut small, 0)?;
    }
    fn xattrs_of_others() {
        close(file(c"f", b"")?)?;
        supported(sys!(setxattr, c"f", c"user.a", b"1", 1, 0))?;
        sys!(chmod, c"f", 0o600)?;
        as_nobody(|| {
            assert_errno(sys!(setxattr, c"f", c"user.a", b"1", 1, 0), c::EACCES);
            assert_errno(sys!(getxattr, c"f", c"user.a", 0, 0), c::EACCES);
            assert_errno(sys!(removexattr, c"f", c"user.a"), c::EACCES);
            assert_errno(sys!(setxattr, c"f", c"trusted.a", b"1", 1, 0), c::EPERM);
            assert_errno(sys!(getxattr, c"f", c"trusted.a", 0, 0), c::ENODATA);
            Ok(())
        })?;
    }
    fn unprivileged_changes_of_owner_and_group() {
        need_root()?;
        close(file(c"f", b"")?)?;
        sys!(chown, c"f", 65534, 65534)?;
        as_nobody(|| {
            let fd = open(c"f", c::O_RDONLY, 0)?;
            for result in [
                sys!(chown, c"f", 1, -1),
                sys!(lchown, c"f", -1, 1),
                sys!(fchown, fd, 1, -1),
                sys!(fchownat, c::AT_FDCWD, c"f", -1, 1, 0),
            ] {
                assert_errno(result, c::EPERM);
            }
            Ok(())
        })?;
    }
    fn xattrs_by_link_and_descriptor() {
        let fd = file(c"f", b"")?;
        supported(sys!(lsetxattr, c"f", c"user.a", b"1", 1, 0))?;
        let list = |call: fn(i32, &mut [u8]) -> Result<i64>| -> Result<String> {
            let mut names = [0u8; 256];
            let len = crate::kit::size(call(fd, &mut names)?);
            Ok(String::from_utf8_lossy(&names[..len]).into_owned())
        };
        assert!(list(|_, to| sys!(llistxattr, c"f", to, 256))?.contains("user.a\0"));
        sys!(lremovexattr, c"f", c"user.a")?;
        sys!(fsetxattr, fd, c"user.b", b"1", 1, 0)?;
        assert!(list(|fd, to| sys!(flistxattr, fd, to, 256))?.contains("user.b\0"));
        sys!(fremovexattr, fd, c"user.b")?;
        assert!(!list(|fd, to| sys!(flistxattr, fd, to, 256))?.contains("user."));
    }
    fn xattrs_of_what_is_no_plain_file() {
        sys!(mknod, c"p", c::S_IFIFO | 0o600, 0)?;
        close(file(c"f", b"")?)?;
        supported(sys!(setxattr, c"f", c"user.a", b"1", 1, 0))?;
        assert_errno(sys!(fsetxattr, open(c"p", c::O_RDWR, 0)?, c"user.a", b"1", 1, 0), c::EPERM);
        assert_errno(sys!(setxattr, c"p", c"user.a", b"1", 1, 0), c::EPERM);
    }
    fn xattrs_without_room() {
        let fd = file(c"f", b"")?;
        supported(sys!(setxattr, c"f", c"user.a", b"1", 1, 0))?;
        let large = vec![0u8; 60_000];
        type Set = fn(i32, &core::ffi::CStr, &[u8]) -> Result<i64>;
        let set: [Set; 3] = [
            |_, name, value| sys!(setxattr, c"f", name, value, value.len(), 0),
            |_, name, value| sys!(lsetxattr, c"f", name, value, value.len(), 0),
            |fd, name, value| sys!(fsetxattr, fd, name, value, value.len(), 0),
        ];
        for set in set {
            let refused = (0..100).find_map(|i| set(fd, crate::kit::name(&format!("user.{i}")).as_c_str(), &large).err());
            assert_eq!(refused, Some(Errno(c::ENOSPC)));
        }
        assert_eq!(sys!(getxattr, c"f", c"user.a", 0, 0)?, 1);
    }
    fn more_xattrs_than_a_list_holds() {
        crate::place::Place::Memory.enter()?;
        let fd = file(c"xattrs", b"")?;
        for i in 0..300 {
            let name = crate::kit::name(&format!("user.{i}.{}", "x".repeat(240)));
            supported(sys!(setxattr, c"xattrs", name.as_c_str(), b"", 0, 0))?;
        }
        let mut list = vec![0u8; 1 << 17];
        for len in [1usize << 16, 1 << 17] {
            assert_errno(sys!(listxattr, c"xattrs", &mut list[..], len), c::E2BIG);
            assert_errno(sys!(llistxattr, c"xattrs", &mut list[..], len), c::E2BIG);
            assert_errno(sys!(flistxattr, fd, &mut list[..], len), c::E2BIG);
        }
        assert_errno(sys!(listxattr, c"xattrs", &mut list[..], 65535), c::ERANGE);
        assert!(sys!(listxattr, c"xattrs", 0, 0)? > 65536);
        sys!(unlink, c"xattrs")?;
    }
    fn times_below_a_directory() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/f", b"")?)?;
        let dir = open(c"d", c::O_RDONLY, 0)?;
        sys!(futimesat, dir, c"f", &[10i64, 1, 20, 2])?;
        assert_eq!((stat(c"d/f")?.st_mtime, stat(c"d/f")?.st_mtime_nsec), (20, 2000));
    }
}

/// Skips where the file system keeps no attributes of users.
fn supported(result: Result<i64>) -> core::result::Result<i64, crate::kit::Fail> {
    or_skip(result.map_err(|e| Errno(e.0)), &[c::EOPNOTSUPP], "extended attributes")
}

const ACCESS: &core::ffi::CStr = c"system.posix_acl_access";
const DEFAULT: &core::ffi::CStr = c"system.posix_acl_default";

/// An attribute's value out of tag, permissions and id of each entry.
fn acl(entries: &[(u16, u16, i32)]) -> Vec<u8> {
    let entries = entries.iter().flat_map(|(tag, permissions, id)| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    2u32.to_le_bytes().into_iter().chain(entries).collect()
}

fn set_acl(path: &core::ffi::CStr, name: &core::ffi::CStr, value: &[u8]) -> Result<()> {
    sys!(setxattr, path, name, value, value.len(), 0).map(drop)
}

fn get_acl(path: &core::ffi::CStr, name: &core::ffi::CStr) -> Result<Vec<u8>> {
    let mut value = vec![0u8; 1024];
    let len = sys!(getxattr, path, name, &mut value[..], 1024)?;
    value.truncate(crate::kit::size(len));
    Ok(value)
}
