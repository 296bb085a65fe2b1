//! What whole classes of calls refuse alike: bad paths, directories, descriptors; no room for a descriptor, no rights.

use crate::kit::{as_nobody, assert_errno, cases, close, file, int, ms, name, need_root, open, or_skip, pipe, vector, vector_mut};
use crate::sys::{Arg as _, Errno, Result, memory, sys};
use core::ffi::CStr;
use libc as c;

const CWD: i32 = c::AT_FDCWD;
/// Not open.
const CLOSED: i32 = 899;

/// Calls by name, with the one argument that the case chooses.
pub(super) type Calls<T> = &'static [(&'static str, fn(T) -> Result<i64>)];

/// Every call that takes a path, as an address.
const PATHS: Calls<usize> = &[
    ("open", |p| sys!(open, p, c::O_RDONLY, 0)),
    ("openat", |p| sys!(openat, CWD, p, c::O_RDONLY, 0)),
    ("openat2", |p| sys!(openat2, CWD, p, &[0u64; 3], 24)),
    ("creat", |p| sys!(creat, p, 0o600)),
    ("stat", |p| sys!(stat, p, room())),
    ("lstat", |p| sys!(lstat, p, room())),
    ("newfstatat", |p| sys!(newfstatat, CWD, p, room(), 0)),
    ("statx", |p| sys!(statx, CWD, p, 0, 0, room())),
    ("access", |p| sys!(access, p, c::F_OK)),
    ("faccessat", |p| sys!(faccessat, CWD, p, c::F_OK)),
    ("faccessat2", |p| sys!(faccessat2, CWD, p, c::F_OK, 0)),
    ("truncate", |p| sys!(truncate, p, 0)),
    ("chdir", |p| sys!(chdir, p)),
    ("chroot", |p| sys!(chroot, p)),
    ("rename, old", |p| sys!(rename, p, c"other")),
    ("rename, new", |p| sys!(rename, c"f", p)),
    ("renameat, old", |p| sys!(renameat, CWD, p, CWD, c"other")),
    ("renameat, new", |p| sys!(renameat, CWD, c"f", CWD, p)),
    ("renameat2, old", |p| sys!(renameat2, CWD, p, CWD, c"other", 0)),
    ("renameat2, new", |p| sys!(renameat2, CWD, c"f", CWD, p, 0)),
    ("mkdir", |p| sys!(mkdir, p, 0o700)),
    ("mkdirat", |p| sys!(mkdirat, CWD, p, 0o700)),
    ("rmdir", |p| sys!(rmdir, p)),
    ("link, old", |p| sys!(link, p, c"other")),
    ("link, new", |p| sys!(link, c"f", p)),
    ("linkat, old", |p| sys!(linkat, CWD, p, CWD, c"other", 0)),
    ("linkat, new", |p| sys!(linkat, CWD, c"f", CWD, p, 0)),
    ("unlink", |p| sys!(unlink, p)),
    ("unlinkat", |p| sys!(unlinkat, CWD, p, 0)),
    ("symlink", |p| sys!(symlink, c"x", p)),
    ("symlinkat", |p| sys!(symlinkat, c"x", CWD, p)),
    ("readlink", |p| sys!(readlink, p, room(), 64)),
    ("readlinkat", |p| sys!(readlinkat, CWD, p, room(), 64)),
    ("chmod", |p| sys!(chmod, p, 0o600)),
    ("fchmodat", |p| sys!(fchmodat, CWD, p, 0o600)),
    ("chown", |p| sys!(chown, p, -1, -1)),
    ("lchown", |p| sys!(lchown, p, -1, -1)),
    ("fchownat", |p| sys!(fchownat, CWD, p, -1, -1, 0)),
    ("utime", |p| sys!(utime, p, 0)),
    ("utimes", |p| sys!(utimes, p, 0)),
    ("futimesat", |p| sys!(futimesat, CWD, p, 0)),
    ("utimensat", |p| sys!(utimensat, CWD, p, 0, 0)),
    ("mknod", |p| sys!(mknod, p, c::S_IFREG | 0o600, 0)),
    ("mknodat", |p| sys!(mknodat, CWD, p, c::S_IFREG | 0o600, 0)),
    ("mknod of a device", |p| sys!(mknod, p, c::S_IFCHR | 0o600, 0x103)),
    ("statfs", |p| sys!(statfs, p, room())),
    ("setxattr", |p| sys!(setxattr, p, c"user.a", b"1", 1, 0)),
    ("lsetxattr", |p| sys!(lsetxattr, p, c"user.a", b"1", 1, 0)),
    ("getxattr", |p| sys!(getxattr, p, c"user.a", 0, 0)),
    ("lgetxattr", |p| sys!(lgetxattr, p, c"user.a", 0, 0)),
    ("listxattr", |p| sys!(listxattr, p, 0, 0)),
    ("llistxattr", |p| sys!(llistxattr, p, 0, 0)),
    ("removexattr", |p| sys!(removexattr, p, c"user.a")),
    ("lremovexattr", |p| sys!(lremovexattr, p, c"user.a")),
    ("inotify_add_watch", |p| sys!(inotify_add_watch, sys!(inotify_init1, 0)?, p, c::IN_CREATE)),
    ("execve", |p| sys!(execve, p, 0, 0)),
    ("execveat", |p| sys!(execveat, CWD, p, 0, 0, 0)),
    ("mount", |p| sys!(mount, c"none", p, c"none", 0, 0)),
    ("umount2", |p| sys!(umount2, p, 0)),
];

/// Every call that takes a directory for its path, which is relative.
const DIRECTORIES: Calls<i32> = &[
    ("openat", |d| sys!(openat, d, c"f", c::O_RDONLY, 0)),
    ("openat2", |d| sys!(openat2, d, c"f", &[0u64; 3], 24)),
    ("newfstatat", |d| sys!(newfstatat, d, c"f", room(), 0)),
    ("statx", |d| sys!(statx, d, c"f", 0, 0, room())),
    ("faccessat", |d| sys!(faccessat, d, c"f", c::F_OK)),
    ("faccessat2", |d| sys!(faccessat2, d, c"f", c::F_OK, 0)),
    ("renameat, old", |d| sys!(renameat, d, c"f", CWD, c"other")),
    ("renameat, new", |d| sys!(renameat, CWD, c"f", d, c"other")),
    ("renameat2, old", |d| sys!(renameat2, d, c"f", CWD, c"other", 0)),
    ("renameat2, new", |d| sys!(renameat2, CWD, c"f", d, c"other", 0)),
    ("mkdirat", |d| sys!(mkdirat, d, c"n", 0o700)),
    ("linkat, old", |d| sys!(linkat, d, c"f", CWD, c"other", 0)),
    ("linkat, new", |d| sys!(linkat, CWD, c"f", d, c"other", 0)),
    ("unlinkat", |d| sys!(unlinkat, d, c"f", 0)),
    ("symlinkat", |d| sys!(symlinkat, c"x", d, c"n")),
    ("readlinkat", |d| sys!(readlinkat, d, c"f", room(), 64)),
    ("fchmodat", |d| sys!(fchmodat, d, c"f", 0o600)),
    ("fchownat", |d| sys!(fchownat, d, c"f", -1, -1, 0)),
    ("futimesat", |d| sys!(futimesat, d, c"f", 0)),
    ("utimensat", |d| sys!(utimensat, d, c"f", 0, 0)),
    ("mknodat", |d| sys!(mknodat, d, c"n", c::S_IFREG | 0o600, 0)),
    ("execveat", |d| sys!(execveat, d, c"f", 0, 0, 0)),
];

/// Every call that takes a descriptor and does something with the file: one of O_PATH is as good as none.
const DESCRIPTORS: Calls<i32> = &[
    ("read", |fd| sys!(read, fd, room(), 1)),
    ("write", |fd| sys!(write, fd, b"x", 1)),
    ("pread64", |fd| sys!(pread64, fd, room(), 1, 0)),
    ("pwrite64", |fd| sys!(pwrite64, fd, b"x", 1, 0)),
    ("readv", |fd| sys!(readv, fd, &[vector_mut(&mut [0; 1])], 1)),
    ("writev", |fd| sys!(writev, fd, &[vector(b"x")], 1)),
    ("preadv", |fd| sys!(preadv, fd, &[vector_mut(&mut [0; 1])], 1, 0, 0)),
    ("pwritev", |fd| sys!(pwritev, fd, &[vector(b"x")], 1, 0, 0)),
    ("preadv2", |fd| sys!(preadv2, fd, &[vector_mut(&mut [0; 1])], 1, 0, 0, 0)),
    ("pwritev2", |fd| sys!(pwritev2, fd, &[vector(b"x")], 1, 0, 0, 0)),
    ("lseek", |fd| sys!(lseek, fd, 0, c::SEEK_SET)),
    ("ioctl", |fd| sys!(ioctl, fd, c::FIOCLEX)),
    ("fcntl F_SETFL", |fd| sys!(fcntl, fd, c::F_SETFL, 0)),
    ("fcntl F_GETLK", |fd| sys!(fcntl, fd, c::F_GETLK, room())),
    ("flock", |fd| sys!(flock, fd, c::LOCK_SH)),
    ("fsync", |fd| sys!(fsync, fd)),
    ("fdatasync", |fd| sys!(fdatasync, fd)),
    ("syncfs", |fd| sys!(syncfs, fd)),
    ("sync_file_range", |fd| sys!(sync_file_range, fd, 0, 0, 0)),
    ("ftruncate", |fd| sys!(ftruncate, fd, 0)),
    ("fallocate", |fd| sys!(fallocate, fd, 0, 0, 1)),
    ("fadvise64", |fd| sys!(fadvise64, fd, 0, 0, 0)),
    ("readahead", |fd| sys!(readahead, fd, 0, 1)),
    ("fchmod", |fd| sys!(fchmod, fd, 0o600)),
    ("fchown", |fd| sys!(fchown, fd, -1, -1)),
    ("getdents64", |fd| sys!(getdents64, fd, room(), 512)),
    ("fsetxattr", |fd| sys!(fsetxattr, fd, c"user.a", b"1", 1, 0)),
    ("fgetxattr", |fd| sys!(fgetxattr, fd, c"user.a", 0, 0)),
    ("flistxattr", |fd| sys!(flistxattr, fd, 0, 0)),
    ("fremovexattr", |fd| sys!(fremovexattr, fd, c"user.a")),
    ("sendfile, from", |fd| sys!(sendfile, writable()?, fd, 0, 1)),
    ("sendfile, to", |fd| sys!(sendfile, fd, readable()?, 0, 1)),
    ("copy_file_range, from", |fd| sys!(copy_file_range, fd, 0, writable()?, 0, 1, 0)),
    ("copy_file_range, to", |fd| sys!(copy_file_range, readable()?, 0, fd, 0, 1, 0)),
    ("splice, from", |fd| sys!(splice, fd, 0, pipe(0)?[1], 0, 1, 0)),
    ("splice, to", |fd| sys!(splice, pipe(0)?[0], 0, fd, 0, 1, 0)),
    ("tee, from", |fd| sys!(tee, fd, pipe(0)?[1], 1, 0)),
    ("tee, to", |fd| sys!(tee, pipe(0)?[0], fd, 1, 0)),
    ("vmsplice", |fd| sys!(vmsplice, fd, &[vector(b"x")], 1, 0)),
    ("mmap", |fd| sys!(mmap, 0, 4096, c::PROT_READ, c::MAP_PRIVATE, fd, 0)),
    ("epoll_ctl, epoll", |fd| sys!(epoll_ctl, fd, c::EPOLL_CTL_ADD, pipe(0)?[0], &[0u64; 2])),
    ("epoll_ctl, file", |fd| sys!(epoll_ctl, sys!(epoll_create1, 0)?, c::EPOLL_CTL_ADD, fd, &[0u64; 2])),
    ("epoll_wait", |fd| sys!(epoll_wait, fd, room(), 1, 0)),
    ("epoll_pwait", |fd| sys!(epoll_pwait, fd, room(), 1, 0, 0, 8)),
    ("epoll_pwait2", |fd| sys!(epoll_pwait2, fd, room(), 1, &ms(0), 0, 8)),
    ("inotify_add_watch", |fd| sys!(inotify_add_watch, fd, c".", c::IN_CREATE)),
    ("inotify_rm_watch", |fd| sys!(inotify_rm_watch, fd, 1)),
    ("timerfd_settime", |fd| sys!(timerfd_settime, fd, 0, &[0u64; 4], 0)),
    ("timerfd_gettime", |fd| sys!(timerfd_gettime, fd, room())),
    ("signalfd", |fd| sys!(signalfd, fd, &0u64, 8)),
    ("signalfd4", |fd| sys!(signalfd4, fd, &0u64, 8, 0)),
    ("mq_timedsend", |fd| sys!(mq_timedsend, fd, b"x", 1, 0, 0)),
    ("mq_timedreceive", |fd| sys!(mq_timedreceive, fd, room(), 64, 0, 0)),
    ("mq_notify", |fd| sys!(mq_notify, fd, 0)),
    ("mq_getsetattr", |fd| sys!(mq_getsetattr, fd, 0, room())),
    ("pidfd_send_signal", |fd| sys!(pidfd_send_signal, fd, 0, 0, 0)),
    ("pidfd_getfd", |fd| sys!(pidfd_getfd, fd, 0, 0)),
    ("waitid", |fd| sys!(waitid, c::P_PIDFD, fd, room(), c::WEXITED, 0)),
];

/// Those that serve a descriptor of O_PATH too.
const OF_NUMBERS: Calls<i32> = &[
    ("close", |fd| sys!(close, fd)),
    ("fstat", |fd| sys!(fstat, fd, room())),
    ("fstatfs", |fd| sys!(fstatfs, fd, room())),
    ("fchdir", |fd| sys!(fchdir, fd)),
    ("dup", |fd| sys!(dup, fd)),
    ("dup2", |fd| sys!(dup2, fd, 50)),
    ("dup3", |fd| sys!(dup3, fd, 50, 0)),
    ("fcntl F_GETFD", |fd| sys!(fcntl, fd, c::F_GETFD)),
    ("fcntl F_GETFL", |fd| sys!(fcntl, fd, c::F_GETFL)),
    ("fcntl F_DUPFD", |fd| sys!(fcntl, fd, c::F_DUPFD, 0)),
    ("newfstatat", |fd| sys!(newfstatat, fd, c"", room(), c::AT_EMPTY_PATH)),
    ("statx", |fd| sys!(statx, fd, c"", c::AT_EMPTY_PATH, 0, room())),
    ("fchownat", |fd| sys!(fchownat, fd, c"", -1, -1, c::AT_EMPTY_PATH)),
    ("linkat", |fd| sys!(linkat, fd, c"", CWD, c"other", c::AT_EMPTY_PATH)),
    ("execveat", |fd| sys!(execveat, fd, c"", 0, 0, c::AT_EMPTY_PATH)),
];

/// Every call of sockets.
const SOCKETS: Calls<i32> = &[
    ("connect", |fd| sys!(connect, fd, &[1u16, 0], 4)),
    ("accept", |fd| sys!(accept, fd, 0, 0)),
    ("accept4", |fd| sys!(accept4, fd, 0, 0, 0)),
    ("bind", |fd| sys!(bind, fd, &[1u16, 0], 4)),
    ("listen", |fd| sys!(listen, fd, 1)),
    ("getsockname", |fd| sys!(getsockname, fd, room(), &mut 16u32)),
    ("getpeername", |fd| sys!(getpeername, fd, room(), &mut 16u32)),
    ("shutdown", |fd| sys!(shutdown, fd, c::SHUT_RD)),
    ("sendto", |fd| sys!(sendto, fd, b"x", 1, 0, 0, 0)),
    ("recvfrom", |fd| sys!(recvfrom, fd, room(), 1, 0, 0, 0)),
    ("sendmsg", |fd| sys!(sendmsg, fd, room(), 0)),
    ("recvmsg", |fd| sys!(recvmsg, fd, room(), 0)),
    ("sendmmsg", |fd| sys!(sendmmsg, fd, room(), 1, 0)),
    ("recvmmsg", |fd| sys!(recvmmsg, fd, room(), 1, 0, 0)),
    ("setsockopt", |fd| sys!(setsockopt, fd, c::SOL_SOCKET, c::SO_REUSEADDR, &1i32, 4)),
    ("getsockopt", |fd| sys!(getsockopt, fd, c::SOL_SOCKET, c::SO_TYPE, room(), &mut 4u32)),
];

/// Every call that makes a descriptor; what it takes is there already.
const MAKERS: Calls<Held> = &[
    ("open", |_| sys!(open, c".", c::O_RDONLY, 0)),
    ("openat", |_| sys!(openat, CWD, c".", c::O_RDONLY, 0)),
    ("openat2", |_| sys!(openat2, CWD, c".", &[0u64; 3], 24)),
    ("creat", |_| sys!(creat, c"made", 0o600)),
    ("dup", |held| sys!(dup, held.pidfd)),
    ("fcntl F_DUPFD", |held| sys!(fcntl, held.pidfd, c::F_DUPFD, 0)),
    ("fcntl F_DUPFD_CLOEXEC", |held| sys!(fcntl, held.pidfd, c::F_DUPFD_CLOEXEC, 0)),
    ("pipe", |held| sys!(pipe, held.room)),
    ("pipe2", |held| sys!(pipe2, held.room, 0)),
    ("socket", |_| sys!(socket, c::AF_UNIX, c::SOCK_STREAM, 0)),
    ("socketpair", |held| sys!(socketpair, c::AF_UNIX, c::SOCK_STREAM, 0, held.room)),
    ("accept", |held| sys!(accept, held.listener, 0, 0)),
    ("accept4", |held| sys!(accept4, held.listener, 0, 0, 0)),
    ("epoll_create", |_| sys!(epoll_create, 1)),
    ("epoll_create1", |_| sys!(epoll_create1, 0)),
    ("eventfd", |_| sys!(eventfd, 0)),
    ("eventfd2", |_| sys!(eventfd2, 0, 0)),
    ("timerfd_create", |_| sys!(timerfd_create, c::CLOCK_MONOTONIC, 0)),
    ("signalfd", |_| sys!(signalfd, -1, &0u64, 8)),
    ("signalfd4", |_| sys!(signalfd4, -1, &0u64, 8, 0)),
    ("inotify_init", |_| sys!(inotify_init)),
    ("inotify_init1", |_| sys!(inotify_init1, 0)),
    ("memfd_create", |_| sys!(memfd_create, c"m", 0)),
    ("pidfd_open", |_| sys!(pidfd_open, sys!(getpid)?, 0)),
    ("pidfd_getfd", |held| sys!(pidfd_getfd, held.pidfd, held.pidfd, 0)),
];

/// Every call that only a privileged process may make, or only so.
const PRIVILEGED: Calls<()> = &[
    ("chroot", |()| sys!(chroot, c"/")),
    ("mount", |()| sys!(mount, c"none", c"/", c"tmpfs", 0, 0)),
    ("umount2", |()| sys!(umount2, c"/proc", 0)),
    ("swapon", |()| sys!(swapon, c"f", 0)),
    ("swapoff", |()| sys!(swapoff, c"f")),
    ("acct", |()| sys!(acct, 0)),
    ("vhangup", |()| sys!(vhangup)),
    ("reboot", |()| sys!(reboot, 0xfee1_dead_u32, 672_274_793, 0x89ab_cdef_u32, 0)),
    ("sethostname", |()| sys!(sethostname, b"x", 1)),
    ("setdomainname", |()| sys!(setdomainname, b"x", 1)),
    ("settimeofday", |()| sys!(settimeofday, &[1i64, 0], 0)),
    ("clock_settime", |()| sys!(clock_settime, c::CLOCK_REALTIME, &ms(1))),
    ("adjtimex", |()| sys!(adjtimex, &mut tick())),
    ("clock_adjtime", |()| sys!(clock_adjtime, c::CLOCK_REALTIME, &mut tick())),
    ("syslog", |()| sys!(syslog, 5, 0, 0)),
    ("mknod", |()| sys!(mknod, c"dev", c::S_IFCHR | 0o600, 0x103)),
    ("mknodat", |()| sys!(mknodat, CWD, c"dev", c::S_IFBLK | 0o600, 0x103)),
    ("chown", |()| sys!(chown, c"f", 0, 0)),
    ("lchown", |()| sys!(lchown, c"f", 0, 0)),
    ("fchown", |()| sys!(fchown, readable()?, 0, 0)),
    ("fchownat", |()| sys!(fchownat, CWD, c"f", 0, 0, 0)),
    ("chmod", |()| sys!(chmod, c"f", 0o777)),
    ("fchmod", |()| sys!(fchmod, readable()?, 0o777)),
    ("fchmodat", |()| sys!(fchmodat, CWD, c"f", 0o777)),
    ("utime", |()| sys!(utime, c"f", &[1i64, 1])),
    ("utimes", |()| sys!(utimes, c"f", &[1i64, 1, 1, 1])),
    ("futimesat", |()| sys!(futimesat, CWD, c"f", &[1i64, 1, 1, 1])),
    ("utimensat", |()| sys!(utimensat, CWD, c"f", &[1i64, 1, 1, 1], 0)),
    ("setuid", |()| sys!(setuid, 0)),
    ("setgid", |()| sys!(setgid, 0)),
    ("setreuid", |()| sys!(setreuid, 0, -1)),
    ("setregid", |()| sys!(setregid, 0, -1)),
    ("setresuid", |()| sys!(setresuid, -1, -1, 0)),
    ("setresgid", |()| sys!(setresgid, -1, -1, 0)),
    ("setgroups", |()| sys!(setgroups, 0, 0)),
    ("sched_setscheduler", |()| sys!(sched_setscheduler, 0, c::SCHED_FIFO, &1i32)),
    ("sched_setattr", |()| sys!(sched_setattr, 0, &[48u64 | 1 << 32, 0, 1 << 32, 0, 0, 0], 0)),
    ("prctl PR_CAPBSET_DROP", |()| sys!(prctl, c::PR_CAPBSET_DROP, 0, 0, 0, 0)),
    ("prlimit64", |()| sys!(prlimit64, sys!(getppid)?, c::RLIMIT_CORE, 0, room())),
    ("kill", |()| sys!(kill, sys!(getppid)?, 0)),
    ("tkill", |()| sys!(tkill, sys!(getppid)?, 0)),
    ("tgkill", |()| sys!(tgkill, sys!(getppid)?, sys!(getppid)?, 0)),
    ("rt_sigqueueinfo", |()| sys!(rt_sigqueueinfo, sys!(getppid)?, 0, &queued())),
    ("rt_tgsigqueueinfo", |()| sys!(rt_tgsigqueueinfo, sys!(getppid)?, sys!(getppid)?, 0, &queued())),
    ("setpriority", |()| sys!(setpriority, c::PRIO_PROCESS, sys!(getppid)?, 5)),
    ("sched_setaffinity", |()| sys!(sched_setaffinity, sys!(getppid)?, 8, &1u64)),
    ("sched_setscheduler of another", |()| sys!(sched_setscheduler, sys!(getppid)?, c::SCHED_BATCH, &0i32)),
    ("sched_setparam of another", |()| sys!(sched_setparam, sys!(getppid)?, &0i32)),
    ("ioprio_set", |()| sys!(ioprio_set, 1, sys!(getppid)?, 2 << 13)),
    ("get_robust_list", |()| sys!(get_robust_list, sys!(getppid)?, room(), room())),
    ("process_vm_readv", |()| sys!(process_vm_readv, sys!(getppid)?, &vector(b"x"), 1, &vector(b"x"), 1, 0)),
    ("process_vm_writev", |()| sys!(process_vm_writev, sys!(getppid)?, &vector(b"x"), 1, &vector(b"x"), 1, 0)),
];

cases! { refusal;
    fn paths_at_bad_addresses() {
        close(file(c"f", b"")?)?;
        for address in [memory::closed()?, 0, usize::MAX] {
            answer(PATHS, address, c::EFAULT);
        }
    }
    fn paths_that_lead_nowhere() {
        close(file(c"f", b"")?)?;
        for path in [c"", c"none/x"] {
            answer(PATHS, at(path), c::ENOENT);
        }
    }
    fn paths_below_files() {
        close(file(c"f", b"")?)?;
        answer(PATHS, at(c"f/x"), c::ENOTDIR);
    }
    fn paths_in_circles() {
        close(file(c"f", b"")?)?;
        sys!(symlink, c"circle", c"circle")?;
        answer(PATHS, at(c"circle/x"), c::ELOOP);
    }
    fn paths_too_long() {
        close(file(c"f", b"")?)?;
        answer(PATHS, at(&name(&"x".repeat(256))), c::ENAMETOOLONG);
        answer(PATHS, at(&name(&"./".repeat(2048))), c::ENAMETOOLONG);
    }
    fn paths_through_closed_directories() {
        sys!(mkdir, c"closed", 0o700)?;
        as_nobody(|| {
            close(file(c"f", b"")?)?;
            answer(PATHS, at(c"closed/x"), c::EACCES);
            Ok(())
        })?;
    }
    fn names_in_directories_of_others() {
        sys!(mkdir, c"d", 0o755)?;
        close(file(c"d/f", b"")?)?;
        sys!(mkdir, c"d/e", 0o755)?;
        as_nobody(|| {
            close(file(c"f", b"")?)?;
            let makers = ["creat", "rename, new", "renameat, new", "renameat2, new", "mkdir", "mkdirat", "link, new", "linkat, new", "symlink", "symlinkat", "mknod", "mknodat"];
            answer(PATHS.iter().filter(|(name, _)| makers.contains(name)), at(c"d/n"), c::EACCES);
            let takers = ["rename, old", "renameat, old", "renameat2, old", "unlink", "unlinkat"];
            answer(PATHS.iter().filter(|(name, _)| takers.contains(name)), at(c"d/f"), c::EACCES);
            answer(PATHS.iter().filter(|(name, _)| *name == "rmdir"), at(c"d/e"), c::EACCES);
            Ok(())
        })?;
    }
    fn names_that_exist() {
        close(file(c"f", b"")?)?;
        close(file(c"g", b"")?)?;
        let makers = ["mkdir", "mkdirat", "link, new", "linkat, new", "symlink", "symlinkat", "mknod", "mknodat"];
        answer(PATHS.iter().filter(|(name, _)| makers.contains(name)), at(c"g"), c::EEXIST);
    }
    fn directories_that_are_none() {
        let fd = file(c"f", b"")?;
        answer(DIRECTORIES, CLOSED, c::EBADF);
        answer(DIRECTORIES, fd, c::ENOTDIR);
        answer(DIRECTORIES, open(c"f", c::O_PATH, 0)?, c::ENOTDIR);
    }
    fn descriptors_that_are_closed() {
        close(file(c"f", b"")?)?;
        for fd in [CLOSED, i32::MAX] {
            answer(DESCRIPTORS, fd, c::EBADF);
            answer(OF_NUMBERS, fd, c::EBADF);
            answer(SOCKETS, fd, c::EBADF);
        }
    }
    fn descriptors_of_paths_alone() {
        close(file(c"f", b"")?)?;
        answer(DESCRIPTORS, open(c"f", c::O_PATH, 0)?, c::EBADF);
        answer(SOCKETS, open(c"f", c::O_PATH, 0)?, c::EBADF);
    }
    fn descriptors_that_are_no_sockets() {
        let fd = file(c"f", b"")?;
        answer(SOCKETS, fd, c::ENOTSOCK);
        answer(SOCKETS, pipe(0)?[0], c::ENOTSOCK);
    }
    fn no_room_for_descriptors() {
        let held = Held::new()?;
        sys!(prlimit64, 0, c::RLIMIT_NOFILE, &[3u64, 256], 0)?;
        answer(MAKERS, held, c::EMFILE);
        // Whoever waits is still there.
        sys!(prlimit64, 0, c::RLIMIT_NOFILE, &[256u64, 256], 0)?;
        sys!(accept, held.listener, 0, 0)?;
        assert_errno(crate::kit::stat(c"made").map(drop), c::ENOENT);
    }
    fn modules_are_of_root() {
        as_nobody(|| {
            // A kernel may be built without.
            or_skip(sys!(delete_module, c"x", 0), &[c::ENOSYS], "modules").or_else(|fail| match fail {
                crate::kit::Fail::Broken(_) => Ok(0),
                skip => Err(skip),
            })?;
            for call in [sys!(init_module, 0, 0, c""), sys!(finit_module, CLOSED, c"", 0), sys!(delete_module, c"x", 0)] {
                assert_errno(call, c::EPERM);
            }
            Ok(())
        })?;
    }
    fn no_rights() {
        need_root()?;
        close(file(c"f", b"")?)?;
        as_nobody(|| {
            answer(PRIVILEGED, (), c::EPERM);
            Ok(())
        })?;
    }
}

/// What [`MAKERS`] take.
#[derive(Clone, Copy)]
struct Held {
    pidfd: i32,
    listener: i32,
    room: usize,
}

impl Held {
    fn new() -> Result<Self> {
        let listener = crate::net::unix_listener(b"s")?;
        crate::net::unix_client(b"s")?;
        Ok(Self { pidfd: int(sys!(pidfd_open, sys!(getpid)?, 0)?), listener, room: room() })
    }
}

/// Panics unless each call answers so; names all that do not.
#[track_caller]
pub(super) fn answer<T: Copy + 'static>(
    calls: impl IntoIterator<Item = &'static (&'static str, fn(T) -> Result<i64>)>,
    argument: T,
    errno: i32,
) {
    let results = calls.into_iter().map(|(name, call)| (name, call(argument)));
    let wrong = results.filter(|(_, result)| *result != Err(Errno(errno)));
    let wrong: Vec<String> = wrong.map(|(name, result)| format!("{name}: {result:?}")).collect();
    assert!(wrong.is_empty(), "{:?} expected; {}", Errno(errno), wrong.join("; "));
}

fn at(path: &CStr) -> usize {
    path.as_ptr().word()
}

/// A page that a call may fill.
fn room() -> usize {
    memory::pages(1).unwrap_or(0)
}

fn readable() -> Result<i32> {
    open(c"f", c::O_RDONLY, 0)
}

fn writable() -> Result<i32> {
    open(c"f", c::O_WRONLY, 0)
}

/// A change of the clock: ADJ_TICK.
fn tick() -> [u64; 26] {
    let mut all = [0; 26];
    (all[0], all[11]) = (0x4000, 10_000);
    all
}

/// A siginfo of sigqueue(3).
fn queued() -> [u64; 16] {
    let mut info = [0; 16];
    info[1] = u64::from(c::SI_QUEUE.cast_unsigned());
    info
}
