//! What calls answer while the LibOS's own memory is short: those that would keep some of it are refused, with the errno
//! that their man pages have for it. Calls that give memory back, wait, read or end go on.
//!
//! Writers of pipes and sockets, locks, signals, look-ups and files in memory are refused where they would grow: not here.

use crate::Errno;

/// A poll of fewer takes no more than any call does.
const FEW: u64 = 1024;

/// The errno of a call that is not made; None for one that is.
pub(crate) fn errno_of(number: u64, arguments: &[u64; 6]) -> Option<Errno> {
    let errno = match number {
        // poll, ppoll
        7 | 271 if arguments[1] > FEW => Errno::ENOMEM,
        // madvise, but with MADV_DONTNEED and MADV_FREE
        28 if arguments[2] != 4 && arguments[2] != 8 => Errno::EAGAIN,
        // open, creat, openat, openat2; memfd_create; execve, execveat
        2 | 85 | 257 | 437 | 319 | 59 | 322 => Errno::ENOMEM,
        // mmap, mprotect, mremap, mlock, mlockall, mlock2, pkey_mprotect, shmat
        9 | 10 | 25 | 149 | 151 | 325 | 329 | 30 => Errno::ENOMEM,
        // clone, fork, vfork, clone3
        56 | 57 | 58 | 435 => Errno::ENOMEM,
        // epoll_create, epoll_ctl, epoll_create1; eventfd, eventfd2; signalfd, signalfd4; timerfd_create
        213 | 233 | 291 | 284 | 290 | 282 | 289 | 283 => Errno::ENOMEM,
        // inotify_init, inotify_add_watch, inotify_init1; semop, semtimedop; setgroups
        253 | 254 | 294 | 65 | 220 | 116 => Errno::ENOMEM,
        // shmget, msgsnd
        29 | 69 => Errno::ENOMEM,
        // pipe, pipe2
        22 | 293 => Errno::ENFILE,
        // socket, connect, accept, socketpair, accept4, bind
        41 | 42 | 43 | 53 | 288 | 49 => Errno::ENOBUFS,
        // sendto, sendmsg, sendmmsg
        44 | 46 | 307 => Errno::ENOBUFS,
        // timer_create
        222 => Errno::EAGAIN,
        // semget, msgget
        64 | 68 => Errno::ENOSPC,
        // mkdir, link, symlink, mknod, mkdirat, mknodat, linkat, symlinkat
        83 | 86 | 88 | 133 | 258 | 259 | 265 | 266 => Errno::ENOSPC,
        // rename, renameat, renameat2; setxattr, lsetxattr, fsetxattr
        82 | 264 | 316 | 188 | 189 | 190 => Errno::ENOSPC,
        _ => return None,
    };
    Some(errno)
}
