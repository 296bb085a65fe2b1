//! Names and directories: stat, link, rename, mkdir, getdents and their like.

use crate::kit::{as_nobody, assert_errno, cases, close, file, fstat, int, name, open, or_skip, read, size, stat, text};
use crate::sys::{self, Result, memory, sys};
use core::ffi::CStr;
use libc as c;
use std::sync::atomic::Ordering::SeqCst;

cases! { dir;
    fn look_ups_beside_changes_find_what_stays() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/stays", b"1")?)?;
        std::thread::scope(|scope| {
            let changer = scope.spawn(|| {
                for _ in 0..300 {
                    for (old, new) in [(c"d/a", c"d/b"), (c"d/c", c"d/e"), (c"d/f", c"d/g")] {
                        close(file(old, b"")?)?;
                        sys!(rename, old, new)?;
                        sys!(unlink, new)?;
                    }
                    sys!(rename, c"d", c"other")?;
                    sys!(rename, c"other", c"d")?;
                }
                Ok::<(), sys::Errno>(())
            });
            while !changer.is_finished() {
                match stat(c"d/stays").or_else(|_| stat(c"other/stays")) {
                    Ok(st) => assert_eq!((st.st_size, st.st_nlink), (1, 1)),
                    // Between the two looks it moved back.
                    Err(errno) => assert_eq!(errno, sys::Errno(c::ENOENT)),
                }
                assert!(stat(c"d/never").is_err());
            }
            let Ok(Ok(())) = changer.join() else { panic!("a change failed") };
        });
        assert_eq!(stat(c"d/stays")?.st_size, 1);
    }
    fn files_that_threads_make_in_one_directory_are_their_own() {
        sys!(mkdir, c"d", 0o755)?;
        std::thread::scope(|scope| {
            let makers = [(c"d/a", c"d/b"), (c"d/c", c"d/e"), (c"d/f", c"d/g")].map(|(name, other)| {
                scope.spawn(move || {
                    for round in 0..300_u32 {
                        let content = [name.to_bytes(), &round.to_ne_bytes()].concat();
                        // A descriptor of a table that all of them share.
                        let fd = file(name, &content)?;
                        assert_eq!(read(fd, 64)?, content);
                        sys!(rename, name, other)?;
                        let st = fstat(fd)?;
                        assert_eq!((size(st.st_size), st.st_nlink), (content.len(), 1));
                        sys!(unlink, other)?;
                        assert_eq!(fstat(fd)?.st_nlink, 0);
                        close(fd)?;
                    }
                    Ok::<(), sys::Errno>(())
                })
            });
            for maker in makers {
                let Ok(Ok(())) = maker.join() else { panic!("a maker failed") };
            }
        });
        // Nothing is left.
        sys!(rmdir, c"d")?;
    }
    fn stat_of_a_file() {
        close(file(c"f", b"hello")?)?;
        let st = stat(c"f")?;
        assert_eq!((st.st_mode, st.st_size, st.st_nlink), (c::S_IFREG | 0o644, 5, 1));
        assert_eq!(i64::from(st.st_uid), sys!(geteuid)?);
        let same = fstat(open(c"f", c::O_RDONLY, 0)?)?;
        assert_eq!((same.st_ino, same.st_dev), (st.st_ino, st.st_dev));
    }
    fn stat_errors() {
        close(file(c"f", b"")?)?;
        assert_errno(stat(c"none").map(drop), c::ENOENT);
        assert_errno(stat(c"").map(drop), c::ENOENT);
        assert_errno(stat(c"f/x").map(drop), c::ENOTDIR);
        assert_errno(sys!(stat, c"f", memory::hole()?), c::EFAULT);
        assert_errno(sys!(stat, memory::hole()?, 0), c::EFAULT);
        assert_errno(sys!(fstat, 899, memory::pages(1)?), c::EBADF);
    }
    fn lstat_sees_the_link() {
        sys!(symlink, c"nowhere", c"l")?;
        let mut st: c::stat = sys::zeroed();
        sys!(lstat, c"l", &mut st)?;
        assert_eq!((st.st_mode, st.st_size), (c::S_IFLNK | 0o777, 7));
        assert_errno(stat(c"l").map(drop), c::ENOENT);
    }
    fn newfstatat_flags() {
        sys!(symlink, c"nowhere", c"l")?;
        let fd = file(c"f", b"abc")?;
        let mut st: c::stat = sys::zeroed();
        sys!(newfstatat, c::AT_FDCWD, c"l", &mut st, c::AT_SYMLINK_NOFOLLOW)?;
        assert_eq!(st.st_mode & c::S_IFMT, c::S_IFLNK);
        sys!(newfstatat, fd, c"", &mut st, c::AT_EMPTY_PATH)?;
        assert_eq!(st.st_size, 3);
        assert_errno(sys!(newfstatat, fd, c"", &mut st, 0), c::ENOENT);
        assert_errno(sys!(newfstatat, fd, c"f", &mut st, 0), c::ENOTDIR);
        assert_errno(sys!(newfstatat, 899, c"f", &mut st, 0), c::EBADF);
        assert_errno(sys!(newfstatat, c::AT_FDCWD, c"f", &mut st, 1 << 30), c::EINVAL);
    }
    fn statx_gives_what_stat_gives() {
        close(file(c"f", b"hello")?)?;
        let mut stx: c::statx = sys::zeroed();
        sys!(statx, c::AT_FDCWD, c"f", 0, c::STATX_BASIC_STATS, &mut stx)?;
        let st = stat(c"f")?;
        assert_eq!((stx.stx_ino, stx.stx_size, u32::from(stx.stx_mode)), (st.st_ino, 5, st.st_mode));
        assert_eq!(stx.stx_mask & c::STATX_BASIC_STATS, c::STATX_BASIC_STATS);
        assert_eq!((stx.stx_mtime.tv_sec, i64::from(stx.stx_mtime.tv_nsec)), (st.st_mtime, st.st_mtime_nsec));
    }
    fn statx_errors() {
        let mut stx: c::statx = sys::zeroed();
        assert_errno(sys!(statx, c::AT_FDCWD, c"none", 0, 0, &mut stx), c::ENOENT);
        assert_errno(sys!(statx, c::AT_FDCWD, c".", 0, 1u32 << 31, &mut stx), c::EINVAL);
        assert_errno(sys!(statx, c::AT_FDCWD, c".", 1 << 30, 0, &mut stx), c::EINVAL);
        assert_errno(sys!(statx, 899, c".", 0, 0, &mut stx), c::EBADF);
    }
    fn access_as_root_and_not() {
        close(file(c"f", b"")?)?;
        sys!(access, c"f", c::R_OK | c::W_OK)?;
        assert_errno(sys!(access, c"f", c::X_OK), c::EACCES);
        assert_errno(sys!(access, c"none", c::F_OK), c::ENOENT);
        assert_errno(sys!(access, c"f", 8), c::EINVAL);
        as_nobody(|| {
            sys!(access, c"f", c::R_OK)?;
            assert_errno(sys!(access, c"f", c::W_OK), c::EACCES);
            Ok(())
        })?;
    }
    fn access_uses_real_ids_and_faccessat2_effective_ones() {
        crate::kit::need_root()?;
        close(file(c"f", b"")?)?;
        sys!(chmod, c"f", 0o600)?;
        sys!(setresuid, 65534, 0, 0)?;
        assert_errno(sys!(access, c"f", c::R_OK), c::EACCES);
        sys!(faccessat2, c::AT_FDCWD, c"f", c::R_OK, c::AT_EACCESS)?;
        assert_errno(sys!(faccessat2, c::AT_FDCWD, c"f", c::R_OK, 1 << 30), c::EINVAL);
    }
    fn faccessat2_of_a_link_itself() {
        sys!(symlink, c"nowhere", c"l")?;
        sys!(faccessat2, c::AT_FDCWD, c"l", c::F_OK, c::AT_SYMLINK_NOFOLLOW)?;
        assert_errno(sys!(faccessat, c::AT_FDCWD, c"l", c::F_OK), c::ENOENT);
    }
    fn mkdir_mode_and_links() {
        sys!(mkdir, c"d", 0o777)?;
        let st = stat(c"d")?;
        assert_eq!(st.st_mode, c::S_IFDIR | 0o755);
        sys!(mkdirat, open(c"d", c::O_PATH, 0)?, c"e", 0o700)?;
        assert_eq!(stat(c"d/e")?.st_mode, c::S_IFDIR | 0o700);
    }
    fn mkdir_errors() {
        close(file(c"f", b"")?)?;
        assert_errno(sys!(mkdir, c".", 0o755), c::EEXIST);
        assert_errno(sys!(mkdir, c"f", 0o755), c::EEXIST);
        assert_errno(sys!(mkdir, c"f/d", 0o755), c::ENOTDIR);
        assert_errno(sys!(mkdir, c"none/d", 0o755), c::ENOENT);
        assert_errno(sys!(mkdir, memory::hole()?, 0o755), c::EFAULT);
        sys!(mkdir, c"d/", 0o755)?;
    }
    fn mkdir_without_permission_is_eacces() {
        sys!(mkdir, c"d", 0o755)?;
        as_nobody(|| {
            assert_errno(sys!(mkdir, c"d/e", 0o755), c::EACCES);
            Ok(())
        })?;
    }
    fn setgid_directory_hands_its_group_down() {
        crate::kit::need_root()?;
        sys!(mkdir, c"d", 0o755)?;
        sys!(chown, c"d", 0, 1234)?;
        sys!(chmod, c"d", 0o2755)?;
        sys!(mkdir, c"d/e", 0o755)?;
        close(file(c"d/f", b"")?)?;
        assert_eq!(stat(c"d/f")?.st_gid, 1234);
        let sub = stat(c"d/e")?;
        assert_eq!((sub.st_gid, sub.st_mode & 0o7777), (1234, 0o2755));
    }
    fn rmdir_errors() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/f", b"")?)?;
        assert_errno(sys!(rmdir, c"d"), c::ENOTEMPTY);
        assert_errno(sys!(rmdir, c"d/f"), c::ENOTDIR);
        assert_errno(sys!(rmdir, c"none"), c::ENOENT);
        assert_errno(sys!(rmdir, c"d/."), c::EINVAL);
        assert_errno(sys!(rmdir, c"d/.."), c::ENOTEMPTY);
        sys!(unlink, c"d/f")?;
        sys!(rmdir, c"d")?;
        assert_errno(sys!(rmdir, c"d"), c::ENOENT);
    }
    fn removed_directory_is_empty_and_closed_to_new_names() {
        sys!(mkdir, c"d", 0o755)?;
        sys!(chdir, c"d")?;
        sys!(rmdir, c"../d")?;
        assert_errno(open(c"f", c::O_CREAT | c::O_WRONLY, 0o600), c::ENOENT);
        let mut buffer = [0u8; 4096];
        assert_errno(sys!(getcwd, &mut buffer, 4096), c::ENOENT);
        sys!(chdir, c"/")?;
    }
    fn unlink_errors() {
        close(file(c"f", b"")?)?;
        assert_errno(sys!(unlink, c"none"), c::ENOENT);
        assert_errno(sys!(unlink, c"f/x"), c::ENOTDIR);
        assert_errno(sys!(unlink, c"."), c::EISDIR);
        assert_errno(sys!(unlinkat, c::AT_FDCWD, c"f", 1), c::EINVAL);
        assert_errno(sys!(unlinkat, c::AT_FDCWD, c"f", c::AT_REMOVEDIR), c::ENOTDIR);
        assert_errno(sys!(unlinkat, 899, c"f", 0), c::EBADF);
        sys!(unlinkat, c::AT_FDCWD, c"f", 0)?;
        assert_errno(stat(c"f").map(drop), c::ENOENT);
    }
    fn unlink_in_a_sticky_directory_is_eperm() {
        sys!(mkdir, c"d", 0o755)?;
        sys!(chmod, c"d", 0o1777)?;
        close(file(c"d/f", b"")?)?;
        as_nobody(|| {
            assert_errno(sys!(unlink, c"d/f"), c::EPERM);
            assert_errno(sys!(rename, c"d/f", c"d/g"), c::EPERM);
            close(file(c"d/mine", b"")?)?;
            sys!(unlink, c"d/mine")?;
            Ok(())
        })?;
    }
    fn link_counts_and_shares() {
        close(file(c"f", b"abc")?)?;
        sys!(link, c"f", c"g")?;
        assert_eq!(stat(c"f")?.st_nlink, 2);
        assert_eq!(stat(c"f")?.st_ino, stat(c"g")?.st_ino);
        sys!(unlink, c"f")?;
        assert_eq!(stat(c"g")?.st_nlink, 1);
        assert_eq!(text(c"g")?, "abc");
    }
    fn a_directorys_links_count_its_directories() {
        sys!(mkdir, c"d", 0o755)?;
        sys!(mkdir, c"d/e", 0o755)?;
        sys!(mkdir, c"d/f", 0o755)?;
        close(file(c"d/g", b"")?)?;
        assert_eq!(stat(c"d")?.st_nlink, 4);
        sys!(rename, c"d/e", c"d/f")?;
        assert_eq!(stat(c"d")?.st_nlink, 3);
        sys!(rename, c"d/f", c"f")?;
        assert_eq!((stat(c"d")?.st_nlink, stat(c"f")?.st_nlink), (2, 2));
        let gone = open(c"f", c::O_RDONLY, 0)?;
        sys!(rmdir, c"f")?;
        assert_eq!(fstat(gone)?.st_nlink, 0);
    }
    fn link_errors() {
        close(file(c"f", b"")?)?;
        sys!(mkdir, c"d", 0o755)?;
        assert_errno(sys!(link, c"none", c"g"), c::ENOENT);
        assert_errno(sys!(link, c"f", c"d"), c::EEXIST);
        assert_errno(sys!(link, c"d", c"e"), c::EPERM);
        assert_errno(sys!(link, c"f", c"f/x"), c::ENOTDIR);
        assert_errno(sys!(linkat, c::AT_FDCWD, c"f", c::AT_FDCWD, c"g", 1), c::EINVAL);
    }
    fn link_does_not_follow_and_linkat_does_on_request() {
        close(file(c"f", b"")?)?;
        sys!(symlink, c"f", c"l")?;
        sys!(link, c"l", c"l2")?;
        let mut st: c::stat = sys::zeroed();
        sys!(lstat, c"l2", &mut st)?;
        assert_eq!(st.st_mode & c::S_IFMT, c::S_IFLNK);
        sys!(linkat, c::AT_FDCWD, c"l", c::AT_FDCWD, c"f2", c::AT_SYMLINK_FOLLOW)?;
        assert_eq!(stat(c"f2")?.st_ino, stat(c"f")?.st_ino);
    }
    fn symlink_and_readlink() {
        sys!(symlink, c"some/where", c"l")?;
        let mut buffer = [b'#'; 16];
        assert_eq!(sys!(readlink, c"l", &mut buffer, 16)?, 10);
        assert_eq!(&buffer[..11], b"some/where#");
        assert_eq!(sys!(readlink, c"l", &mut buffer, 4)?, 4);
        assert_errno(sys!(symlink, c"x", c"l"), c::EEXIST);
        assert_errno(sys!(symlink, c"", c"m"), c::ENOENT);
        assert_errno(sys!(readlink, c"l", &mut buffer, 0), c::EINVAL);
        assert_errno(sys!(readlink, c".", &mut buffer, 16), c::EINVAL);
        assert_errno(sys!(readlink, c"none", &mut buffer, 16), c::ENOENT);
        assert_errno(sys!(readlink, c"l", memory::hole()?, 16), c::EFAULT);
    }
    fn links_are_followed_in_the_middle_and_relative_to_their_place() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/f", b"1")?)?;
        sys!(symlink, c"f", c"d/l")?;
        sys!(symlink, c"d", c"e")?;
        assert_eq!(text(c"e/l")?, "1");
        assert_eq!(text(c"e/../d/./l")?, "1");
    }
    fn rename_replaces() {
        close(file(c"a", b"1")?)?;
        let old = file(c"b", b"2")?;
        sys!(rename, c"a", c"b")?;
        assert_eq!(text(c"b")?, "1");
        assert_errno(stat(c"a").map(drop), c::ENOENT);
        assert_eq!(fstat(old)?.st_nlink, 0);
        assert_eq!(read(old, 9)?, b"2");
    }
    fn rename_directories() {
        sys!(mkdir, c"a", 0o755)?;
        sys!(mkdir, c"b", 0o755)?;
        close(file(c"a/f", b"x")?)?;
        sys!(rename, c"a", c"b")?;
        assert_eq!(text(c"b/f")?, "x");
        sys!(mkdir, c"a", 0o755)?;
        assert_errno(sys!(rename, c"a", c"b"), c::ENOTEMPTY);
        assert_errno(sys!(rename, c"b", c"b/c"), c::EINVAL);
    }
    fn rename_errors() {
        close(file(c"f", b"")?)?;
        sys!(mkdir, c"d", 0o755)?;
        assert_errno(sys!(rename, c"none", c"x"), c::ENOENT);
        assert_errno(sys!(rename, c"f", c"d"), c::EISDIR);
        assert_errno(sys!(rename, c"d", c"f"), c::ENOTDIR);
        assert_errno(sys!(rename, c"f", c"f/x"), c::ENOTDIR);
        assert_errno(sys!(rename, c"f", c"none/x"), c::ENOENT);
        assert_errno(sys!(rename, c"d/.", c"x"), c::EBUSY);
        assert_errno(sys!(rename, c"f", c"g/"), c::ENOTDIR);
        assert_errno(sys!(rename, c"f", c"/proc/x"), c::EXDEV);
    }
    fn rename_of_two_links_to_one_file_does_nothing() {
        close(file(c"f", b"")?)?;
        sys!(link, c"f", c"g")?;
        sys!(rename, c"f", c"g")?;
        assert_eq!(stat(c"f")?.st_nlink, 2);
    }
    fn rename_of_two_names_of_one_file_asks_for_no_rights() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/f", b"")?)?;
        sys!(link, c"d/f", c"d/g")?;
        sys!(chmod, c"d", 0o555)?;
        let rename = |old: &CStr, new: &CStr, flags| sys!(renameat2, c::AT_FDCWD, old, c::AT_FDCWD, new, flags);
        as_nobody(|| {
            rename(c"d/f", c"d/g", 0)?;
            rename(c"d/f", c"d/g", c::RENAME_EXCHANGE)?;
            rename(c"d/f", c"d/f", 0)?;
            assert_errno(rename(c"d/f", c"d/g", c::RENAME_NOREPLACE), c::EEXIST);
            assert_errno(rename(c"d/f", c"d/f", c::RENAME_NOREPLACE), c::EEXIST);
            assert_errno(rename(c"d/f/", c"d/f", 0), c::ENOTDIR);
            assert_errno(rename(c"d/f", c"d/f/", 0), c::ENOTDIR);
            assert_errno(rename(c"d/f", c"d/h", 0), c::EACCES);
            Ok(())
        })?;
    }
    fn the_device_of_names_that_are_gone_is_for_everybody() {
        sys!(chmod, c".", 0o777)?;
        as_nobody(|| {
            sys!(mknod, c"gone", c::S_IFCHR | 0o600, 0)?;
            sys!(mknodat, c::AT_FDCWD, c"too", c::S_IFCHR, 0)?;
            let st = stat(c"gone")?;
            assert_eq!((st.st_mode, st.st_rdev, st.st_size), (c::S_IFCHR | 0o600, 0, 0));
            assert_errno(open(c"gone", c::O_RDONLY, 0), c::ENXIO);
            assert_errno(sys!(mknod, c"gone", c::S_IFCHR | 0o600, 0), c::EEXIST);
            assert_errno(sys!(mknod, c"block", c::S_IFBLK | 0o600, 0), c::EPERM);
            sys!(rename, c"gone", c"too")?;
            assert_errno(stat(c"gone").map(drop), c::ENOENT);
            sys!(unlink, c"too")?;
            Ok(())
        })?;
    }
    fn renameat2_noreplace() {
        close(file(c"a", b"1")?)?;
        close(file(c"b", b"2")?)?;
        let rename = |to: &CStr, flags: u32| sys!(renameat2, c::AT_FDCWD, c"a", c::AT_FDCWD, to, flags);
        assert_errno(rename(c"b", c::RENAME_NOREPLACE), c::EEXIST);
        assert_errno(rename(c"b", 1 << 20), c::EINVAL);
        assert_errno(rename(c"b", c::RENAME_NOREPLACE | c::RENAME_EXCHANGE), c::EINVAL);
        rename(c"c", c::RENAME_NOREPLACE)?;
        assert_eq!(text(c"c")?, "1");
    }
    fn renameat2_exchange() {
        close(file(c"a", b"1")?)?;
        sys!(mkdir, c"d", 0o755)?;
        or_skip(sys!(renameat2, -100, c"a", -100, c"d", c::RENAME_EXCHANGE), &[c::EINVAL], "RENAME_EXCHANGE")?;
        assert_eq!(text(c"d")?, "1");
        assert_eq!(stat(c"a")?.st_mode & c::S_IFMT, c::S_IFDIR);
    }
    fn a_name_made_in_a_directory_that_is_replaced_is_not_lost() {
        let done = std::sync::atomic::AtomicBool::new(false);
        sys!(mkdir, c"t", 0o755)?;
        let lost = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    sys!(mkdir, c"s", 0o755).ok();
                    sys!(rename, c"s", c"t").ok();
                }
            });
            let enough = std::time::Instant::now() + std::time::Duration::from_secs(1);
            let mut lost = 0;
            while std::time::Instant::now() < enough {
                let Ok(fd) = open(c"t/f", c::O_CREAT | c::O_EXCL | c::O_RDWR, 0o644) else { continue };
                close(fd).ok();
                lost += i32::from(stat(c"t/f").is_err());
                sys!(unlink, c"t/f").ok();
            }
            done.store(true, SeqCst);
            lost
        });
        assert_eq!(lost, 0);
    }
    fn a_name_goes_up_while_its_directory_is_removed() {
        // Who removes locks the upper one first; so must who moves.
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    sys!(mkdir, c"d", 0o755).ok();
                    sys!(rmdir, c"d").ok();
                }
            });
            let enough = std::time::Instant::now() + std::time::Duration::from_secs(1);
            while std::time::Instant::now() < enough {
                if let Ok(fd) = open(c"d/f", c::O_CREAT | c::O_RDWR, 0o644) {
                    close(fd).ok();
                    sys!(rename, c"d/f", c"f").ok();
                    sys!(rename, c"f", c"d/f").ok();
                    sys!(unlink, c"d/f").ok();
                }
            }
            done.store(true, SeqCst);
        });
    }
    fn a_name_that_is_replaced_is_in_every_listing() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/name", b"")?)?;
        std::thread::scope(|scope| {
            let changer = scope.spawn(|| {
                for _ in 0..2000 {
                    close(file(c"d/new", b"")?)?;
                    sys!(rename, c"d/new", c"d/name")?;
                }
                Ok::<(), sys::Errno>(())
            });
            while !changer.is_finished() {
                // One call, which sees the directory as it was at one moment.
                let fd = open(c"d", c::O_RDONLY | c::O_DIRECTORY, 0)?;
                let found = entries(fd, 1000)?;
                close(fd)?;
                assert_eq!(found.iter().filter(|entry| entry.name == "name").count(), 1);
            }
            let Ok(done) = changer.join() else { panic!("the changer failed") };
            done
        })?;
    }
    fn getdents_lists_each_name_once() {
        sys!(mkdir, c"d", 0o755)?;
        sys!(mkdir, c"d/sub", 0o755)?;
        sys!(symlink, c"x", c"d/link")?;
        for i in 0..300 {
            close(file(&name(&format!("d/file-with-a-name-{i}")), b"")?)?;
        }
        let found = list(c"d", 1000)?;
        assert_eq!(found.len(), 304);
        let mut names: Vec<_> = found.iter().map(|e| e.name.clone()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 304);
        for entry in &found {
            let mut st: c::stat = sys::zeroed();
            sys!(lstat, name(&format!("d/{}", entry.name)).as_c_str(), &mut st)?;
            assert!(entry.kind == c::DT_UNKNOWN || u32::from(entry.kind) == (st.st_mode & c::S_IFMT) >> 12);
            assert_eq!(entry.ino, st.st_ino);
        }
    }
    fn getdents_errors() {
        let fd = open(c".", c::O_RDONLY, 0)?;
        let mut buffer = [0u8; 512];
        assert_errno(sys!(getdents64, fd, &mut buffer, 8), c::EINVAL);
        assert_errno(sys!(getdents64, fd, memory::hole()?, 512), c::EFAULT);
        assert_errno(sys!(getdents64, file(c"f", b"")?, &mut buffer, 512), c::ENOTDIR);
        assert_errno(sys!(getdents64, 899, &mut buffer, 512), c::EBADF);
    }
    fn getdents_of_old_lists_the_same() {
        sys!(mkdir, c"d", 0o755)?;
        sys!(symlink, c"x", c"d/link")?;
        for i in 0..20 {
            close(file(&name(&format!("d/{}", "n".repeat(i + 1))), b"")?)?;
        }
        let (new, old) = (open(c"d", c::O_RDONLY, 0)?, open(c"d", c::O_RDONLY, 0)?);
        loop {
            let mut buffer = [0u8; 300];
            let (some, len) = (entries(new, 300)?, size(sys!(getdents, old, &mut buffer, 300)?));
            let some_old = records(&buffer[..len], 18);
            assert_eq!(some_old.len(), some.len());
            for (old, new) in some_old.iter().zip(&some) {
                assert_eq!((&old.name, old.ino, old.last), (&new.name, new.ino, new.kind));
            }
            if some.is_empty() {
                break;
            }
        }
        assert_errno(sys!(getdents, open(c"d", c::O_RDONLY, 0)?, &mut [0u8; 8], 8), c::EINVAL);
        assert_errno(sys!(getdents, open(c"d", c::O_RDONLY, 0)?, memory::hole()?, 512), c::EFAULT);
        assert_errno(sys!(getdents, file(c"f", b"")?, &mut [0u8; 512], 512), c::ENOTDIR);
        assert_errno(sys!(getdents, 899, &mut [0u8; 512], 512), c::EBADF);
        sys!(mkdir, c"gone", 0o755)?;
        let gone = open(c"gone", c::O_RDONLY, 0)?;
        sys!(rmdir, c"gone")?;
        assert_errno(sys!(getdents, gone, &mut [0u8; 512], 512), c::ENOENT);
    }
    fn getdents_while_removing_finds_all() {
        sys!(mkdir, c"d", 0o755)?;
        for i in 0..200 {
            close(file(&name(&format!("d/{i}")), b"")?)?;
        }
        let fd = open(c"d", c::O_RDONLY, 0)?;
        loop {
            let some = entries(fd, 256)?;
            if some.is_empty() {
                break;
            }
            for entry in some.iter().filter(|e| !e.name.starts_with('.')) {
                sys!(unlinkat, fd, name(&entry.name).as_c_str(), 0)?;
            }
        }
        sys!(rmdir, c"d")?;
    }
    fn getdents_after_rewinding_sees_new_names() {
        sys!(mkdir, c"d", 0o755)?;
        let fd = open(c"d", c::O_RDONLY, 0)?;
        assert_eq!(entries(fd, 4096)?.len(), 2);
        assert_eq!(entries(fd, 4096)?.len(), 0);
        close(file(c"d/f", b"")?)?;
        sys!(lseek, fd, 0, c::SEEK_SET)?;
        assert_eq!(entries(fd, 4096)?.len(), 3);
    }
    fn chdir_and_getcwd() {
        sys!(mkdir, c"d", 0o755)?;
        let before = cwd()?;
        sys!(chdir, c"d")?;
        assert_eq!(cwd()?, format!("{before}/d"));
        sys!(rename, c"../d", c"../e")?;
        assert_eq!(cwd()?, format!("{before}/e"));
        sys!(fchdir, open(c"..", c::O_RDONLY, 0)?)?;
        assert_eq!(cwd()?, before);
    }
    fn chdir_errors() {
        let fd = file(c"f", b"")?;
        let mut small = [0u8; 2];
        assert_errno(sys!(chdir, c"f"), c::ENOTDIR);
        assert_errno(sys!(chdir, c"none"), c::ENOENT);
        assert_errno(sys!(fchdir, fd), c::ENOTDIR);
        assert_errno(sys!(fchdir, 899), c::EBADF);
        assert_errno(sys!(getcwd, &mut small, 2), c::ERANGE);
        assert_errno(sys!(getcwd, memory::hole()?, 4096), c::EFAULT);
        sys!(mkdir, c"d", 0o700)?;
        as_nobody(|| {
            assert_errno(sys!(chdir, c"d"), c::EACCES);
            Ok(())
        })?;
    }
    fn chroot_confines() {
        crate::kit::need_root()?;
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/f", b"in")?)?;
        sys!(chroot, c"d")?;
        assert_eq!(text(c"/f")?, "in");
        sys!(chdir, c"/")?;
        assert_eq!(text(c"../../f")?, "in");
        assert_errno(sys!(chroot, c"f"), c::ENOTDIR);
    }
    fn mknod_makes_fifos_and_files() {
        sys!(mknod, c"p", c::S_IFIFO | 0o600, 0)?;
        assert_eq!(stat(c"p")?.st_mode, c::S_IFIFO | 0o600);
        sys!(mknod, c"f", c::S_IFREG | 0o600, 0)?;
        sys!(mknodat, c::AT_FDCWD, c"s", c::S_IFSOCK | 0o600, 0)?;
        assert_eq!(stat(c"s")?.st_mode & c::S_IFMT, c::S_IFSOCK);
        assert_errno(open(c"s", c::O_RDONLY, 0), c::ENXIO);
        assert_errno(sys!(mknod, c"f", c::S_IFREG | 0o600, 0), c::EEXIST);
        assert_errno(sys!(mknod, c"d", c::S_IFDIR | 0o600, 0), c::EPERM);
        assert_errno(sys!(mknod, c"x", 0o170000, 0), c::EINVAL);
    }
    fn path_lookup_of_trailing_slashes_and_dots() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"f", b"")?)?;
        stat(c"d/")?;
        stat(c"d//.//")?;
        stat(c".//d")?;
        assert_errno(stat(c"f/").map(drop), c::ENOTDIR);
        assert_errno(stat(c"f/..").map(drop), c::ENOTDIR);
        assert_errno(open(c"g/", c::O_CREAT | c::O_WRONLY, 0o600), c::EISDIR);
        stat(c"/../../..")?;
    }
    fn names_in_use_are_ebusy() {
        assert_errno(sys!(rmdir, c"/"), c::EBUSY);
        assert_errno(sys!(rmdir, c"/proc"), c::EBUSY);
        assert_errno(sys!(rename, c"/proc", c"/x"), c::EBUSY);
        assert_errno(sys!(renameat2, -100, c"/", -100, c"x", 0), c::EBUSY);
        assert_errno(sys!(unlinkat, -100, c"/proc", c::AT_REMOVEDIR), c::EBUSY);
        assert_errno(sys!(mkdir, c"/", 0o700), c::EEXIST);
        assert_errno(sys!(unlink, c"/"), c::EISDIR);
    }
    fn links_across_file_systems_are_exdev() {
        close(file(c"f", b"")?)?;
        assert_errno(sys!(link, c"f", c"/dev/shm/conformance-x"), c::EXDEV);
        assert_errno(sys!(linkat, -100, c"f", -100, c"/dev/shm/conformance-x", 0), c::EXDEV);
        assert_errno(sys!(renameat, -100, c"f", -100, c"/proc/x"), c::EXDEV);
        assert_errno(sys!(renameat2, -100, c"f", -100, c"/proc/x", 0), c::EXDEV);
    }
    fn renames_of_all_kinds_refuse_alike() {
        close(file(c"f", b"")?)?;
        sys!(mkdir, c"d", 0o755)?;
        sys!(mkdir, c"full", 0o755)?;
        close(file(c"full/x", b"")?)?;
        type Rename = fn(&CStr, &CStr) -> Result<i64>;
        let all: [Rename; 3] = [
            |old, new| sys!(rename, old, new),
            |old, new| sys!(renameat, -100, old, -100, new),
            |old, new| sys!(renameat2, -100, old, -100, new, 0),
        ];
        for rename in all {
            assert_errno(rename(c"f", c"d"), c::EISDIR);
            assert_errno(rename(c"d", c"f"), c::ENOTDIR);
            assert_errno(rename(c"d", c"full"), c::ENOTEMPTY);
            assert_errno(rename(c"full", c"full/x/y"), c::ENOTDIR);
            assert_errno(rename(c"full", c"full/y"), c::EINVAL);
            assert_errno(rename(c"full/..", c"x"), c::EBUSY);
        }
    }
    fn links_of_directories_and_removals_of_files() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"f", b"")?)?;
        assert_errno(sys!(linkat, -100, c"d", -100, c"e", 0), c::EPERM);
        assert_errno(sys!(unlinkat, -100, c"d", 0), c::EISDIR);
        assert_errno(sys!(unlinkat, -100, c"f", c::AT_REMOVEDIR), c::ENOTDIR);
        sys!(mkdir, c"d/e", 0o755)?;
        assert_errno(sys!(unlinkat, -100, c"d", c::AT_REMOVEDIR), c::ENOTEMPTY);
        assert_errno(sys!(unlinkat, -100, c"d/e/.", c::AT_REMOVEDIR), c::EINVAL);
    }
    fn sticky_directories_keep_all_kinds() {
        sys!(mkdir, c"d", 0o755)?;
        sys!(chmod, c"d", 0o1777)?;
        sys!(mkdir, c"d/e", 0o755)?;
        close(file(c"d/f", b"")?)?;
        as_nobody(|| {
            assert_errno(sys!(rmdir, c"d/e"), c::EPERM);
            assert_errno(sys!(unlinkat, -100, c"d/f", 0), c::EPERM);
            assert_errno(sys!(unlinkat, -100, c"d/e", c::AT_REMOVEDIR), c::EPERM);
            assert_errno(sys!(renameat, -100, c"d/f", -100, c"d/g"), c::EPERM);
            assert_errno(sys!(renameat2, -100, c"d/e", -100, c"d/g", 0), c::EPERM);
            close(file(c"d/mine", b"")?)?;
            assert_errno(sys!(rename, c"d/mine", c"d/f"), c::EPERM);
            Ok(())
        })?;
    }
    fn a_removed_directory_lists_nothing() {
        sys!(mkdir, c"d", 0o755)?;
        let fd = open(c"d", c::O_RDONLY | c::O_DIRECTORY, 0)?;
        sys!(rmdir, c"d")?;
        assert_errno(sys!(getdents64, fd, &mut [0u8; 512], 512), c::ENOENT);
        assert_errno(sys!(openat, fd, c"n", c::O_CREAT | c::O_WRONLY, 0o600), c::ENOENT);
        assert_errno(sys!(mkdirat, fd, c"n", 0o700), c::ENOENT);
    }
    fn fchdir_into_a_closed_directory_is_eacces() {
        sys!(mkdir, c"d", 0o600)?;
        let fd = open(c"d", c::O_RDONLY, 0)?;
        as_nobody(|| {
            assert_errno(sys!(fchdir, fd), c::EACCES);
            Ok(())
        })?;
    }
    fn modes_and_masks_that_are_none() {
        close(file(c"f", b"")?)?;
        let f = |flags: i32| sys!(faccessat2, -100, c"f", 0, flags);
        assert_errno(f(1 << 30), c::EINVAL);
        assert_errno(sys!(faccessat, -100, c"f", 8), c::EINVAL);
        assert_errno(sys!(faccessat2, -100, c"f", 8, 0), c::EINVAL);
        assert_errno(sys!(mknodat, -100, c"x", 0o170000, 0), c::EINVAL);
        assert_errno(sys!(mknodat, -100, c"x", c::S_IFDIR | 0o600, 0), c::EPERM);
        assert_errno(sys!(readlinkat, -100, c"f", &mut [0u8; 9], 0), c::EINVAL);
        assert_errno(sys!(readlinkat, -100, c"f", &mut [0u8; 9], 9), c::EINVAL);
        assert_errno(sys!(symlinkat, c"", -100, c"l"), c::ENOENT);
        assert_errno(sys!(statx, -100, c"f", c::AT_STATX_FORCE_SYNC | c::AT_STATX_DONT_SYNC, 0, memory::pages(1)?), c::EINVAL);
    }
    fn a_working_directory_too_deep_for_a_path() {
        let long = "x".repeat(255);
        for _ in 0..17 {
            sys!(mkdir, name(&long).as_c_str(), 0o755)?;
            sys!(chdir, name(&long).as_c_str())?;
        }
        let mut room = [0u8; 8192];
        assert_errno(sys!(getcwd, &mut room, room.len()), c::ENAMETOOLONG);
        for _ in 0..3 {
            sys!(chdir, c"..")?;
        }
        assert!(sys!(getcwd, &mut room, room.len())? > 3000);
    }
    fn places_that_take_no_names() {
        for (made, plain) in [(c"/dev/pts/n", c::EACCES), (c"/sys/n", c::EACCES)] {
            for result in [
                sys!(mkdir, made, 0o700),
                sys!(mkdirat, c::AT_FDCWD, made, 0o700),
                sys!(symlink, c"x", made),
                sys!(symlinkat, c"x", c::AT_FDCWD, made),
                sys!(mknod, made, c::S_IFIFO | 0o600, 0),
            ] {
                assert_errno(result, c::EPERM);
            }
            assert_errno(open(made, c::O_CREAT | c::O_WRONLY, 0o600), plain);
            assert_errno(sys!(mknod, made, c::S_IFREG | 0o600, 0), plain);
        }
        for made in [c"/proc/n", c"/proc/self/n", c"/proc/self/fd/n"] {
            for result in [
                sys!(mkdir, made, 0o700),
                sys!(symlink, c"x", made),
                sys!(mknod, made, c::S_IFREG | 0o600, 0),
                sys!(creat, made, 0o600),
            ] {
                assert_errno(result, c::ENOENT);
            }
        }
    }
    fn names_relative_to_descriptors() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/f", b"")?)?;
        let dir = open(c"d", c::O_RDONLY, 0)?;
        sys!(renameat, dir, c"f", c::AT_FDCWD, c"g")?;
        sys!(symlinkat, c"../g", dir, c"l")?;
        sys!(faccessat, dir, c"l", c::R_OK)?;
        assert_errno(stat(c"d/f").map(drop), c::ENOENT);
    }
    fn rights_come_before_what_a_name_is() {
        sys!(mkdir, c"d", 0o755)?;
        sys!(mkdir, c"d/e", 0o755)?;
        close(file(c"d/f", b"")?)?;
        as_nobody(|| {
            sys!(mkdir, c"dir", 0o755)?;
            close(file(c"plain", b"")?)?;
            for result in [
                sys!(rename, c"plain", c"d/e"),
                sys!(rename, c"dir", c"d/f"),
                sys!(unlink, c"d/e"),
                sys!(rmdir, c"d/f"),
                sys!(link, c"dir", c"d/x"),
                sys!(mknod, c"d/x", c::S_IFBLK | 0o600, 0x103),
            ] {
                assert_errno(result, c::EACCES);
            }
            assert_errno(sys!(mknod, c"plain", c::S_IFCHR | 0o600, 0x103), c::EEXIST);
            assert_errno(sys!(mknod, c"none", c::S_IFCHR | 0o600, 0x103), c::EPERM);
            Ok(())
        })?;
    }
}

struct Entry {
    name: String,
    ino: u64,
    kind: u8,
    /// Of the record: where the old form has the kind.
    last: u8,
}

/// One getdents64.
fn entries(fd: i32, limit: usize) -> Result<Vec<Entry>> {
    let mut buffer = vec![0u8; limit];
    let len = size(sys!(getdents64, fd, &mut buffer[..], limit)?);
    Ok(records(&buffer[..len], 19))
}

/// Entries whose names begin at `name_at`.
fn records(bytes: &[u8], name_at: usize) -> Vec<Entry> {
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let record = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
        let text = bytes[at + name_at..at + record].split(|b| *b == 0).next().unwrap_or_default();
        found.push(Entry {
            name: String::from_utf8_lossy(text).into_owned(),
            ino: sys::read_plain(&bytes[at..]),
            kind: bytes[at + 18],
            last: bytes[at + record - 1],
        });
        at += record;
    }
    found
}

fn list(path: &CStr, limit: usize) -> Result<Vec<Entry>> {
    let fd = open(path, c::O_RDONLY | c::O_DIRECTORY, 0)?;
    let mut all = Vec::new();
    loop {
        let mut some = entries(fd, limit)?;
        if some.is_empty() {
            return Ok(all);
        }
        all.append(&mut some);
    }
}

fn cwd() -> core::result::Result<String, crate::kit::Fail> {
    let mut buffer = [0u8; 4096];
    let len = int(sys!(getcwd, &mut buffer, 4096)?);
    let text = &buffer[..size(len.into()) - 1];
    Ok(String::from_utf8_lossy(text).into_owned())
}

