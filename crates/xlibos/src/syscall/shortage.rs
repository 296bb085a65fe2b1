//! What calls answer while the LibOS's own memory is short: those that would keep some of it are refused, with the errno
//! that their man pages have for it. Calls that give memory back, wait, read or end go on.
//!
//! Writers of pipes and sockets, locks, signals, look-ups and files in memory are refused where they would grow: not here.

use super::Row;
use crate::Errno;

/// A poll of fewer takes no more than any call does.
const FEW: u64 = 1024;

/// The errno of a call that is not made; None for one that is.
pub(crate) fn errno_of(row: &Row, arguments: &[u64; 6]) -> Option<Errno> {
    let errno = match row.name {
        "poll" | "ppoll" if arguments[1] > FEW => Errno::ENOMEM,
        // Not MADV_DONTNEED and MADV_FREE: they give memory back.
        "madvise" if arguments[2] != 4 && arguments[2] != 8 => Errno::EAGAIN,
        "open" | "creat" | "openat" | "openat2" | "memfd_create" | "execve" | "execveat" => Errno::ENOMEM,
        "mmap" | "mprotect" | "mremap" | "mlock" | "mlockall" | "mlock2" | "pkey_mprotect" | "shmat" => Errno::ENOMEM,
        "clone" | "fork" | "vfork" | "clone3" => Errno::ENOMEM,
        "epoll_create" | "epoll_ctl" | "epoll_create1" | "eventfd" | "eventfd2" | "signalfd" | "signalfd4"
        | "timerfd_create" => Errno::ENOMEM,
        "inotify_init" | "inotify_add_watch" | "inotify_init1" | "semop" | "semtimedop" | "setgroups" => Errno::ENOMEM,
        "shmget" | "msgsnd" | "mq_open" | "mq_timedsend" | "pidfd_open" => Errno::ENOMEM,
        "pipe" | "pipe2" => Errno::ENFILE,
        "socket" | "connect" | "accept" | "socketpair" | "accept4" | "bind" => Errno::ENOBUFS,
        "sendto" | "sendmsg" | "sendmmsg" => Errno::ENOBUFS,
        "timer_create" => Errno::EAGAIN,
        "semget" | "msgget" => Errno::ENOSPC,
        "mkdir" | "link" | "symlink" | "mknod" | "mkdirat" | "mknodat" | "linkat" | "symlinkat" => Errno::ENOSPC,
        "rename" | "renameat" | "renameat2" | "setxattr" | "lsetxattr" | "fsetxattr" => Errno::ENOSPC,
        _ => return None,
    };
    Some(errno)
}
