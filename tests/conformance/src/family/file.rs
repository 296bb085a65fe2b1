//! open, read, write and their variants, on regular files.

use crate::kit::{as_nobody, assert_errno, assert_interrupted, cases, close, file, fstat, int, open, or_skip, pipe, read, restarted, size, stat, text, vector, vector_mut, write};
use crate::sys::{self, memory, sys};
use libc as c;

cases! { file;
    fn open_missing_is_enoent() {
        assert_errno(open(c"none", c::O_RDONLY, 0), c::ENOENT);
        assert_errno(open(c"", c::O_RDONLY, 0), c::ENOENT);
        assert_errno(open(c"none/x", c::O_RDONLY | c::O_CREAT, 0o600), c::ENOENT);
    }
    fn open_gives_the_lowest_free_number() {
        let [a, b] = [open(c".", c::O_RDONLY, 0)?, open(c".", c::O_RDONLY, 0)?];
        assert_eq!(b, a + 1);
        close(a)?;
        assert_eq!(open(c".", c::O_RDONLY, 0)?, a);
    }
    fn open_creates_with_mode_less_umask() {
        sys!(umask, 0o027)?;
        close(open(c"f", c::O_CREAT | c::O_WRONLY, 0o666)?)?;
        assert_eq!(stat(c"f")?.st_mode, c::S_IFREG | 0o640);
    }
    fn open_created_without_read_permission_can_be_written() {
        let fd = open(c"f", c::O_CREAT | c::O_WRONLY, 0)?;
        write(fd, b"x")?;
        assert_eq!(stat(c"f")?.st_size, 1);
    }
    fn open_exclusive() {
        close(open(c"f", c::O_CREAT | c::O_EXCL | c::O_WRONLY, 0o600)?)?;
        assert_errno(open(c"f", c::O_CREAT | c::O_EXCL | c::O_WRONLY, 0o600), c::EEXIST);
        sys!(symlink, c"nowhere", c"l")?;
        assert_errno(open(c"l", c::O_CREAT | c::O_EXCL | c::O_WRONLY, 0o600), c::EEXIST);
    }
    fn open_creates_through_a_dangling_link() {
        sys!(symlink, c"target", c"l")?;
        close(open(c"l", c::O_CREAT | c::O_WRONLY, 0o600)?)?;
        assert_eq!(stat(c"target")?.st_size, 0);
    }
    fn open_truncates() {
        close(file(c"f", b"hello")?)?;
        let fd = open(c"f", c::O_WRONLY | c::O_TRUNC, 0)?;
        assert_eq!(fstat(fd)?.st_size, 0);
    }
    fn open_for_append_writes_at_the_end() {
        close(file(c"f", b"hello")?)?;
        let fd = open(c"f", c::O_RDWR | c::O_APPEND, 0)?;
        sys!(lseek, fd, 1, c::SEEK_SET)?;
        write(fd, b"!")?;
        assert_eq!(sys!(lseek, fd, 0, c::SEEK_CUR)?, 6);
        assert_eq!(text(c"f")?, "hello!");
    }
    fn open_a_directory_for_writing_is_eisdir() {
        assert_errno(open(c".", c::O_WRONLY, 0), c::EISDIR);
        assert_errno(open(c".", c::O_RDWR, 0), c::EISDIR);
        assert_errno(open(c".", c::O_RDONLY | c::O_CREAT, 0o600), c::EISDIR);
    }
    fn open_below_a_file_is_enotdir() {
        close(file(c"f", b"")?)?;
        assert_errno(open(c"f/x", c::O_RDONLY, 0), c::ENOTDIR);
        assert_errno(open(c"f/", c::O_RDONLY, 0), c::ENOTDIR);
        assert_errno(open(c"f", c::O_RDONLY | c::O_DIRECTORY, 0), c::ENOTDIR);
    }
    fn open_nofollow_of_a_link_is_eloop() {
        close(file(c"f", b"")?)?;
        sys!(symlink, c"f", c"l")?;
        assert_errno(open(c"l", c::O_RDONLY | c::O_NOFOLLOW, 0), c::ELOOP);
        close(open(c"f", c::O_RDONLY | c::O_NOFOLLOW, 0)?)?;
    }
    fn open_too_many_links_is_eloop() {
        sys!(symlink, c"a", c"b")?;
        sys!(symlink, c"b", c"a")?;
        assert_errno(open(c"a", c::O_RDONLY, 0), c::ELOOP);
    }
    fn open_long_names_is_enametoolong() {
        let name = [vec![b'x'; 256], vec![0]].concat();
        assert_errno(sys!(open, &name[..], c::O_RDONLY, 0), c::ENAMETOOLONG);
        let path = [b"./".repeat(2048), vec![0]].concat();
        assert_errno(sys!(open, &path[..], c::O_RDONLY, 0), c::ENAMETOOLONG);
        let fits = [b"./".repeat(2047), vec![0]].concat();
        sys!(open, &fits[..], c::O_RDONLY, 0)?;
    }
    fn open_bad_pointer_is_efault() {
        assert_errno(sys!(open, memory::hole()?, c::O_RDONLY, 0), c::EFAULT);
        assert_errno(sys!(open, 0, c::O_RDONLY, 0), c::EFAULT);
        assert_errno(sys!(open, usize::MAX, c::O_RDONLY, 0), c::EFAULT);
    }
    fn open_name_up_to_the_end_of_a_page() {
        close(file(c"f", b"")?)?;
        let end = memory::hole()?;
        memory::map_at(end, memory::PAGE)?;
        memory::poke(end + memory::PAGE - 2, *b"f\0");
        sys!(open, end + memory::PAGE - 2, c::O_RDONLY, 0)?;
    }
    fn open_without_permission_is_eacces() {
        close(file(c"f", b"")?)?;
        sys!(chmod, c"f", 0o600)?;
        sys!(mkdir, c"d", 0o700)?;
        as_nobody(|| {
            assert_errno(open(c"f", c::O_RDONLY, 0), c::EACCES);
            assert_errno(open(c"d/x", c::O_RDONLY, 0), c::EACCES);
            Ok(())
        })?;
    }
    fn open_path_only() {
        close(file(c"f", b"abc")?)?;
        let fd = open(c"f", c::O_PATH, 0)?;
        assert_errno(read(fd, 1), c::EBADF);
        assert_errno(sys!(fchmod, fd, 0o600), c::EBADF);
        assert_eq!(fstat(fd)?.st_size, 3);
        assert_eq!(int(sys!(fcntl, fd, c::F_GETFL)?) & c::O_PATH, c::O_PATH);
    }
    fn open_path_only_of_a_link_itself() {
        sys!(symlink, c"nowhere", c"l")?;
        let fd = open(c"l", c::O_PATH | c::O_NOFOLLOW, 0)?;
        assert_eq!(fstat(fd)?.st_mode & c::S_IFMT, c::S_IFLNK);
        let mut buffer = [0u8; 16];
        assert_eq!(sys!(readlinkat, fd, c"", &mut buffer, 16)?, 7);
    }
    fn open_unnamed_temporary_file() {
        let fd = or_skip(open(c".", c::O_TMPFILE | c::O_RDWR, 0o600), &[c::EOPNOTSUPP, c::EISDIR], "O_TMPFILE")?;
        write(fd, b"abc")?;
        assert_eq!(fstat(fd)?.st_nlink, 0);
        let name = format!("/proc/self/fd/{fd}\0");
        sys!(linkat, c::AT_FDCWD, name.as_bytes(), c::AT_FDCWD, c"f", c::AT_SYMLINK_FOLLOW)?;
        assert_eq!(text(c"f")?, "abc");
    }
    fn openat_is_relative_to_a_directory() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/f", b"x")?)?;
        let dir = open(c"d", c::O_RDONLY | c::O_DIRECTORY, 0)?;
        assert_eq!(read(int(sys!(openat, dir, c"f", c::O_RDONLY, 0)?), 9)?, b"x");
        sys!(openat, -1, c"/", c::O_RDONLY, 0)?;
    }
    fn openat_bad_directory() {
        let fd = file(c"f", b"")?;
        assert_errno(sys!(openat, fd, c"f", c::O_RDONLY, 0), c::ENOTDIR);
        assert_errno(sys!(openat, 899, c"f", c::O_RDONLY, 0), c::EBADF);
    }
    fn openat2_resolve_flags() {
        sys!(mkdir, c"d", 0o755)?;
        sys!(symlink, c"d", c"l")?;
        let open2 = |path: &core::ffi::CStr, resolve: u64| {
            let how = [u64::from(c::O_RDONLY.cast_unsigned()), 0, resolve];
            sys!(openat2, c::AT_FDCWD, path, &how, 24)
        };
        open2(c"d", c::RESOLVE_BENEATH)?;
        open2(c"l", 0)?;
        assert_errno(open2(c"..", c::RESOLVE_BENEATH), c::EXDEV);
        assert_errno(open2(c"/", c::RESOLVE_BENEATH), c::EXDEV);
        assert_errno(open2(c"l", c::RESOLVE_NO_SYMLINKS), c::ELOOP);
        assert_errno(open2(c"/proc/self/exe", c::RESOLVE_NO_MAGICLINKS), c::ELOOP);
    }
    fn openat2_of_known_names_alone() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/f", b"")?)?;
        let open2 = |path: &core::ffi::CStr, flags: i32| {
            let how = [u64::from(flags.cast_unsigned()), 0, c::RESOLVE_CACHED];
            sys!(openat2, c::AT_FDCWD, path, &how, 24)
        };
        // A name may be forgotten, or change, at any time: then it is looked up again.
        let known = |path| crate::kit::until(|| open(path, c::O_RDONLY, 0).is_ok() && open2(path, c::O_RDONLY).is_ok());
        known(c"d");
        known(c"d/f");
        for flags in [c::O_CREAT, c::O_TRUNC, c::O_TMPFILE | c::O_RDWR] {
            assert_errno(open2(c"d", flags), c::EAGAIN);
        }
    }
    fn openat2_refuses_unknown_flags_and_sizes() {
        let how = [0u64, 0, 1 << 40, 1];
        assert_errno(sys!(openat2, c::AT_FDCWD, c".", &how, 24), c::EINVAL);
        assert_errno(sys!(openat2, c::AT_FDCWD, c".", &how, 8), c::EINVAL);
        let how = [1u64 << 40, 0, 0, 0];
        assert_errno(sys!(openat2, c::AT_FDCWD, c".", &how, 24), c::EINVAL);
        let how = [0u64, 0, 0, 1];
        assert_errno(sys!(openat2, c::AT_FDCWD, c".", &how, 32), c::E2BIG);
        let how = [0u64, 0o600, 0, 0];
        assert_errno(sys!(openat2, c::AT_FDCWD, c".", &how, 24), c::EINVAL);
    }
    fn creat_truncates_and_only_writes() {
        close(file(c"f", b"abc")?)?;
        let fd = int(sys!(creat, c"f", 0o600)?);
        assert_eq!(fstat(fd)?.st_size, 0);
        assert_errno(read(fd, 1), c::EBADF);
    }
    fn close_twice_is_ebadf() {
        let fd = file(c"f", b"")?;
        close(fd)?;
        assert_errno(close(fd), c::EBADF);
        assert_errno(close(-1), c::EBADF);
    }
    fn close_range_closes_and_marks() {
        let fds = [open(c".", 0, 0)?, open(c".", 0, 0)?, open(c".", 0, 0)?];
        sys!(close_range, fds[0], fds[0], c::CLOSE_RANGE_CLOEXEC)?;
        assert_eq!(sys!(fcntl, fds[0], c::F_GETFD)?, i64::from(c::FD_CLOEXEC));
        sys!(close_range, fds[0], fds[1], 0)?;
        assert_errno(fstat(fds[1]).map(drop), c::EBADF);
        fstat(fds[2])?;
        assert_errno(sys!(close_range, 9, 8, 0), c::EINVAL);
        assert_errno(sys!(close_range, 8, 9, 1 << 20), c::EINVAL);
    }
    fn read_ends_at_the_end() {
        let fd = file(c"f", b"hello")?;
        assert_eq!(read(fd, 3)?, b"hel");
        assert_eq!(read(fd, 9)?, b"lo");
        assert_eq!(read(fd, 9)?, b"");
    }
    fn read_at_the_end_ignores_a_bad_pointer() {
        let fd = file(c"f", b"")?;
        assert_eq!(sys!(read, fd, memory::hole()?, 1)?, 0);
    }
    fn read_bad_pointer_is_efault_and_moves_nothing() {
        let fd = file(c"f", b"abc")?;
        assert_errno(sys!(read, fd, memory::hole()?, 3), c::EFAULT);
        assert_eq!(sys!(lseek, fd, 0, c::SEEK_CUR)?, 0);
    }
    fn read_into_read_only_memory_is_efault() {
        let fd = file(c"f", b"abc")?;
        let page = memory::map(memory::PAGE, c::PROT_READ, memory::ANON, -1)?;
        assert_errno(sys!(read, fd, page, 3), c::EFAULT);
    }
    fn read_wrong_descriptors() {
        assert_errno(read(899, 1), c::EBADF);
        assert_errno(read(open(c".", c::O_RDONLY, 0)?, 1), c::EISDIR);
        close(file(c"f", b"")?)?;
        assert_errno(read(open(c"f", c::O_WRONLY, 0)?, 1), c::EBADF);
    }
    fn write_wrong_descriptors() {
        assert_errno(write(899, b"x"), c::EBADF);
        close(file(c"f", b"")?)?;
        assert_errno(write(open(c"f", c::O_RDONLY, 0)?, b"x"), c::EBADF);
        assert_errno(write(open(c".", c::O_RDONLY, 0)?, b"x"), c::EBADF);
    }
    fn write_bad_pointer_is_efault() {
        let fd = file(c"f", b"")?;
        assert_errno(sys!(write, fd, memory::hole()?, 1), c::EFAULT);
        assert_eq!(sys!(write, fd, 0, 0)?, 0);
        assert_eq!(fstat(fd)?.st_size, 0);
    }
    fn write_behind_the_end_leaves_a_hole() {
        let fd = file(c"f", b"")?;
        sys!(lseek, fd, 10000, c::SEEK_SET)?;
        write(fd, b"x")?;
        assert_eq!(fstat(fd)?.st_size, 10001);
        let mut buffer = [1u8; 10];
        sys!(pread64, fd, &mut buffer, 10, 9990)?;
        assert_eq!(buffer, [0; 10]);
    }
    fn pread_and_pwrite_leave_the_offset() {
        let fd = file(c"f", b"hello")?;
        let mut buffer = [0u8; 3];
        assert_eq!(sys!(pread64, fd, &mut buffer, 3, 1)?, 3);
        assert_eq!(&buffer, b"ell");
        assert_eq!(sys!(pwrite64, fd, b"LO", 2, 3)?, 2);
        assert_eq!(sys!(lseek, fd, 0, c::SEEK_CUR)?, 0);
        assert_eq!(read(fd, 9)?, b"helLO");
    }
    fn pread_and_pwrite_errors() {
        let fd = file(c"f", b"hello")?;
        let mut buffer = [0u8; 3];
        assert_errno(sys!(pread64, fd, &mut buffer, 3, -1), c::EINVAL);
        assert_errno(sys!(pwrite64, fd, &buffer, 3, -1), c::EINVAL);
        let ends = pipe(0)?;
        assert_errno(sys!(pread64, ends[0], &mut buffer, 3, 0), c::ESPIPE);
        assert_errno(sys!(pwrite64, ends[1], &buffer, 3, 0), c::ESPIPE);
    }
    fn pwrite_on_append_appends() {
        close(file(c"f", b"hello")?)?;
        let fd = open(c"f", c::O_WRONLY | c::O_APPEND, 0)?;
        sys!(pwrite64, fd, b"x", 1, 0)?;
        assert_eq!(text(c"f")?, "hellox");
    }
    fn readv_and_writev_in_order() {
        let fd = file(c"f", b"")?;
        let parts = [vector(b"he"), vector(b""), vector(b"llo")];
        assert_eq!(sys!(writev, fd, &parts, 3)?, 5);
        sys!(lseek, fd, 0, c::SEEK_SET)?;
        let (mut a, mut b) = ([0u8; 4], [0u8; 4]);
        let parts = [vector_mut(&mut a), vector_mut(&mut b)];
        assert_eq!(sys!(readv, fd, &parts, 2)?, 5);
        assert_eq!((&a, &b[..1]), (b"hell", &b"o"[..]));
    }
    fn readv_and_writev_errors() {
        let fd = file(c"f", b"abc")?;
        let parts = [vector(b"x")];
        assert_errno(sys!(writev, fd, &parts, -1), c::EINVAL);
        assert_errno(sys!(writev, fd, &parts, 1025), c::EINVAL);
        assert_errno(sys!(writev, fd, memory::hole()?, 1), c::EFAULT);
        assert_errno(sys!(readv, fd, memory::hole()?, 1), c::EFAULT);
        let huge = [c::iovec { iov_base: core::ptr::null_mut(), iov_len: usize::MAX }];
        assert_errno(sys!(writev, fd, &huge, 1), c::EINVAL);
        assert_eq!(sys!(writev, fd, 0, 0)?, 0);
    }
    fn writev_stops_at_a_bad_pointer() {
        let fd = file(c"f", b"")?;
        let bad = c::iovec { iov_base: core::ptr::with_exposed_provenance_mut(memory::hole()?), iov_len: 3 };
        assert_eq!(sys!(writev, fd, &[vector(b"abc"), bad], 2)?, 3);
    }
    fn preadv_and_pwritev_at_an_offset() {
        let fd = file(c"f", b"hello")?;
        let mut a = [0u8; 3];
        assert_eq!(sys!(preadv, fd, &[vector_mut(&mut a)], 1, 2, 0)?, 3);
        assert_eq!(&a, b"llo");
        assert_eq!(sys!(pwritev, fd, &[vector(b"HE")], 1, 0, 0)?, 2);
        assert_eq!(text(c"f")?, "HEllo");
    }
    fn preadv2_flags() {
        let fd = file(c"f", b"hello")?;
        let mut a = [0u8; 3];
        assert_eq!(sys!(preadv2, fd, &[vector_mut(&mut a)], 1, -1, -1, 0)?, 3);
        assert_eq!(sys!(lseek, fd, 0, c::SEEK_CUR)?, 3);
        assert_errno(sys!(preadv2, fd, &[vector_mut(&mut a)], 1, 0, 0, 1 << 30), c::EOPNOTSUPP);
        assert_eq!(sys!(pwritev2, fd, &[vector(b"!")], 1, 0, 0, c::RWF_APPEND)?, 1);
        assert_eq!(text(c"f")?, "hello!");
    }
    fn lseek_from_everywhere() {
        let fd = file(c"f", b"hello")?;
        assert_eq!(sys!(lseek, fd, 2, c::SEEK_SET)?, 2);
        assert_eq!(sys!(lseek, fd, 2, c::SEEK_CUR)?, 4);
        assert_eq!(sys!(lseek, fd, -1, c::SEEK_END)?, 4);
        assert_eq!(sys!(lseek, fd, 100, c::SEEK_END)?, 105);
        assert_eq!(fstat(fd)?.st_size, 5);
    }
    fn lseek_errors() {
        let fd = file(c"f", b"hello")?;
        assert_errno(sys!(lseek, fd, -1, c::SEEK_SET), c::EINVAL);
        assert_errno(sys!(lseek, fd, -6, c::SEEK_END), c::EINVAL);
        assert_errno(sys!(lseek, fd, 0, 99), c::EINVAL);
        assert_errno(sys!(lseek, 899, 0, c::SEEK_SET), c::EBADF);
        assert_errno(sys!(lseek, pipe(0)?[0], 0, c::SEEK_SET), c::ESPIPE);
    }
    fn lseek_data_and_hole() {
        let fd = file(c"f", b"hello")?;
        assert_eq!(sys!(lseek, fd, 0, c::SEEK_DATA)?, 0);
        assert_eq!(sys!(lseek, fd, 0, c::SEEK_HOLE)?, 5);
        assert_errno(sys!(lseek, fd, 5, c::SEEK_DATA), c::ENXIO);
        assert_errno(sys!(lseek, fd, 6, c::SEEK_HOLE), c::ENXIO);
    }
    fn offset_is_shared_by_dup_and_fork_only() {
        let fd = file(c"f", b"hello")?;
        let copy = int(sys!(dup, fd)?);
        let other = open(c"f", c::O_RDONLY, 0)?;
        read(fd, 2)?;
        assert_eq!(read(copy, 1)?, b"l");
        assert_eq!(read(other, 1)?, b"h");
        crate::kit::child(|| read(fd, 1).map(drop).map_err(Into::into))?.succeeds()?;
        assert_eq!(read(fd, 1)?, b"o");
    }
    fn large_io_in_pieces_is_what_was_written() {
        let fd = file(c"f", b"")?;
        let data: Vec<u8> = (0..300_000u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        for part in data.chunks(7001) {
            write(fd, part)?;
        }
        sys!(lseek, fd, 0, c::SEEK_SET)?;
        let mut back = vec![0u8; data.len()];
        let mut at = 0;
        while at < back.len() {
            let end = back.len().min(at + 65536);
            at += size(sys!(read, fd, &mut back[at..end], end - at)?);
        }
        assert!(back == data, "other data came back");
    }
    fn unlinked_file_lives_while_open() {
        let fd = file(c"f", b"abc")?;
        sys!(unlink, c"f")?;
        assert_eq!(fstat(fd)?.st_nlink, 0);
        assert_eq!(read(fd, 9)?, b"abc");
        write(fd, b"def")?;
    }
    fn open_flags_that_do_not_fit() {
        assert_errno(open(c".", c::O_TMPFILE | c::O_RDONLY, 0o600), c::EINVAL);
        assert_errno(open(c"n", c::O_DIRECTORY | c::O_CREAT | c::O_RDWR, 0o600), c::EINVAL);
        assert_errno(stat(c"n").map(drop), c::ENOENT);
        close(file(c"f", b"")?)?;
        as_nobody(|| {
            assert_errno(open(c"f", c::O_RDONLY | c::O_NOATIME, 0), c::EPERM);
            Ok(())
        })?;
    }
    fn open_a_socket_is_enxio() {
        close(crate::net::unix_listener(b"s")?)?;
        for flags in [c::O_RDONLY, c::O_WRONLY, c::O_RDWR | c::O_NONBLOCK] {
            assert_errno(open(c"s", flags, 0), c::ENXIO);
        }
    }
    fn vectors_out_of_bounds() {
        let fd = file(c"f", b"abc")?;
        let huge = [c::iovec { iov_base: core::ptr::null_mut(), iov_len: usize::MAX }];
        let one = [vector(b"x")];
        for count in [-1, 1025] {
            for result in [
                sys!(readv, fd, &one, count),
                sys!(preadv, fd, &one, count, 0, 0),
                sys!(pwritev, fd, &one, count, 0, 0),
                sys!(preadv2, fd, &one, count, 0, 0, 0),
                sys!(pwritev2, fd, &one, count, 0, 0, 0),
                sys!(vmsplice, pipe(0)?[1], &one, count, 0),
            ] {
                assert_errno(result, c::EINVAL);
            }
        }
        for result in [
            sys!(readv, fd, &huge, 1),
            sys!(preadv, fd, &huge, 1, 0, 0),
            sys!(pwritev, fd, &huge, 1, 0, 0),
            sys!(preadv2, fd, &huge, 1, 0, 0, 0),
            sys!(pwritev2, fd, &huge, 1, 0, 0, 0),
            sys!(preadv, fd, &one, 1, -1, -1),
            sys!(pwritev, fd, &one, 1, -1, -1),
            sys!(preadv2, fd, &one, 1, -2, -1, 0),
            sys!(pwritev2, fd, &one, 1, -2, -1, 0),
        ] {
            assert_errno(result, c::EINVAL);
        }
        let ends = pipe(0)?;
        for result in [
            sys!(preadv, ends[0], &one, 1, 0, 0),
            sys!(pwritev, ends[1], &one, 1, 0, 0),
            sys!(preadv2, ends[0], &one, 1, 0, 0, 0),
            sys!(pwritev2, ends[1], &one, 1, 0, 0, 0),
        ] {
            assert_errno(result, c::ESPIPE);
        }
        for result in [sys!(preadv2, fd, &one, 1, 0, 0, 1 << 30), sys!(pwritev2, fd, &one, 1, 0, 0, 1 << 30)] {
            assert_errno(result, c::EOPNOTSUPP);
        }
    }
    fn directories_are_not_read_or_written() {
        let fd = open(c".", c::O_RDONLY, 0)?;
        let (mut byte, one) = ([0u8; 1], [vector(b"x")]);
        for result in [
            sys!(pread64, fd, &mut byte, 1, 0),
            sys!(readv, fd, &one, 1),
            sys!(preadv, fd, &one, 1, 0, 0),
            sys!(preadv2, fd, &one, 1, 0, 0, 0),
            sys!(copy_file_range, fd, 0, file(c"f", b"")?, 0, 1, 0),
            sys!(copy_file_range, file(c"f", b"")?, 0, fd, 0, 1, 0),
        ] {
            assert!(matches!(result, Err(sys::Errno(c::EISDIR | c::EBADF))), "{result:?}");
        }
        assert_errno(sys!(truncate, c".", 0), c::EISDIR);
        assert_errno(sys!(ftruncate, fd, 0), c::EINVAL);
        assert_errno(sys!(fallocate, fd, 0, 0, 1), c::EBADF);
        assert_errno(sys!(creat, c".", 0o600), c::EISDIR);
    }
    fn sizes_that_no_file_has() {
        let fd = file(c"f", b"")?;
        assert_errno(sys!(fallocate, fd, 0, i64::MAX - 1, 4096), c::EFBIG);
        assert_errno(sys!(pwrite64, fd, b"x", 1, i64::MAX), c::EINVAL);
        assert_eq!(fstat(fd)?.st_size, 0);
    }
    fn new_files_and_what_lies_in_their_way() {
        close(file(c"f", b"")?)?;
        let openat = |path: &core::ffi::CStr, flags: i32| sys!(openat, c::AT_FDCWD, path, flags, 0o600);
        assert_errno(openat(c"f", c::O_CREAT | c::O_EXCL), c::EEXIST);
        assert_errno(openat(c".", c::O_WRONLY), c::EISDIR);
        assert_errno(openat(c".", c::O_TMPFILE | c::O_RDONLY), c::EINVAL);
        for place in [c"/proc", c"/dev/pts"] {
            assert_errno(open(place, c::O_TMPFILE | c::O_RDWR, 0o600), c::EOPNOTSUPP);
            assert_errno(openat(place, c::O_TMPFILE | c::O_RDWR), c::EOPNOTSUPP);
        }
        close(crate::net::unix_listener(b"s")?)?;
        sys!(mknod, c"p", c::S_IFIFO | 0o600, 0)?;
        assert_errno(sys!(creat, c"s", 0o600), c::ENXIO);
        assert_errno(openat(c"p", c::O_WRONLY | c::O_NONBLOCK), c::ENXIO);
        as_nobody(|| {
            assert_errno(openat(c"f", c::O_RDONLY | c::O_NOATIME), c::EPERM);
            Ok(())
        })?;
    }
    fn sealed_files_are_not_cut() {
        let fd = int(sys!(memfd_create, c"m", c::MFD_ALLOW_SEALING)?);
        write(fd, b"abc")?;
        sys!(fcntl, fd, c::F_ADD_SEALS, c::F_SEAL_SHRINK)?;
        let path = crate::kit::name(&format!("/proc/self/fd/{fd}"));
        for result in [
            sys!(creat, path.as_c_str(), 0o600),
            sys!(open, path.as_c_str(), c::O_TRUNC | c::O_WRONLY, 0),
            sys!(openat, c::AT_FDCWD, path.as_c_str(), c::O_TRUNC | c::O_WRONLY, 0),
            sys!(truncate, path.as_c_str(), 0),
            sys!(ftruncate, fd, 0),
        ] {
            assert_errno(result, c::EPERM);
        }
        assert_eq!(fstat(fd)?.st_size, 3);
    }
    fn opening_a_fifo_by_any_call_is_interrupted_and_restarted() {
        sys!(mknod, c"p", c::S_IFIFO | 0o600, 0)?;
        for open_to_write in [|| sys!(creat, c"p", 0o600), || sys!(openat, c::AT_FDCWD, c"p", c::O_WRONLY, 0), || sys!(openat2, c::AT_FDCWD, c"p", &[u64::from(c::O_WRONLY.cast_unsigned()), 0, 0], 24)] {
            assert_interrupted(open_to_write)?;
            let fd = restarted(open_to_write, || { let _ = open(c"p", c::O_RDONLY, 0).and_then(close); })??;
            close(int(fd))?;
        }
    }
    fn sizes_beyond_the_limit() {
        let (fd, from) = (file(c"f", b"")?, file(c"g", b"hello")?);
        sys::signal::ignore(c::SIGXFSZ)?;
        sys!(setrlimit, c::RLIMIT_FSIZE, &[100u64, 100])?;
        for result in [
            sys!(pwrite64, fd, b"x", 1, 100),
            sys!(pwritev, fd, &[vector(b"x")], 1, 100, 0),
            sys!(truncate, c"f", 101),
            sys!(ftruncate, fd, 101),
            sys!(fallocate, fd, 0, 100, 1),
            sys!(copy_file_range, from, 0, fd, &mut 100u64, 5, 0),
        ] {
            assert_errno(result, c::EFBIG);
        }
        assert_eq!(sys!(copy_file_range, from, &mut 0u64, fd, &mut 97u64, 5, 0)?, 3);
    }
    fn memory_that_is_not_there_cannot_be_written() {
        let fd = open(c"/proc/self/mem", c::O_RDWR, 0)?;
        assert_errno(sys!(pwrite64, fd, b"x", 1, memory::hole()?), c::EIO);
        assert_errno(sys!(pread64, fd, &mut [0u8; 1], 1, memory::hole()?), c::EIO);
    }
    fn writing_back_and_reading_ahead() {
        let fd = file(c"f", b"abc")?;
        sys!(sync)?;
        sys!(syncfs, fd)?;
        sys!(readahead, fd, 0, 3)?;
    }
}
