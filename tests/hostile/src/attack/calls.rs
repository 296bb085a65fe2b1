//! Calls that the filter must refuse, whoever makes them.

use crate::gadget::{CLONE, CLONE3, CLOSE, EPERM, FUTEX, Libos, MADVISE, MMAP, SENDMMSG, SENDMSG, SENDTO};
use abi::boot::{BROKER_FD, STDIO_FD};
use abi::hostcall::{CLONE_FORK_FLAGS, HOST_CALLS};
use std::arch::asm;

const ENOSYS: i64 = -38;
const X32: u32 = 0x4000_0000;

/// Calls of the host's own trampolines, which newer kernels pass by every filter; elsewhere they do nothing
/// but raise SIGILL: `uprobe`.
const UNFILTERED: [u32; 2] = [335, 336];

fn is_listed(number: u32) -> bool {
    HOST_CALLS.iter().any(|call| call.number == number) || UNFILTERED.contains(&number)
}

/// Every call that is not in the list, and each as x32's.
pub(crate) fn unlisted(libos: &Libos, _: &[String]) {
    for number in (0..1024).filter(|number| !is_listed(*number)).chain((0..1024).map(|number| number | X32)) {
        for argument in [0, 1, u64::MAX] {
            assert_eq!(libos.call(u64::from(number), [argument; 6]), EPERM, "call {number:#x}");
        }
    }
}

/// Listed calls with arguments that the list refuses.
pub(crate) fn arguments(libos: &Libos, _: &[String]) {
    const HUGETLB: u64 = 0x4_0000;
    const LOCKED: u64 = 0x2000;
    const ANONYMOUS_PRIVATE: u64 = 0x22;
    let page = vec![0u8; 8192];
    let address = (page.as_ptr() as u64).next_multiple_of(4096);
    for flag in [HUGETLB, LOCKED] {
        assert_eq!(libos.host(MMAP, &[0, 4096, 3, ANONYMOUS_PRIVATE | flag, u64::MAX, 0]), EPERM, "mmap {flag:#x}");
    }
    // REMOVE, DONTFORK's neighbours that merge, and those that poison or offline a page of the host.
    for advice in [9, 12, 13, 100, 101, 102, 1 << 32] {
        assert_eq!(libos.host(MADVISE, &[address, 4096, advice]), EPERM, "madvise {advice}");
    }
    let word = 0u32;
    // LOCK_PI, UNLOCK_PI, TRYLOCK_PI, WAIT_REQUEUE_PI, CMP_REQUEUE_PI, LOCK_PI2, FD.
    for operation in [2, 6, 7, 8, 11, 12, 13, 6 | 128] {
        assert_eq!(libos.host(FUTEX, &[&raw const word as u64, operation]), EPERM, "futex {operation}");
    }
    // Clocks of other processes; membarrier's expedited commands that reach other containers; RWF_APPEND and later flags.
    assert_eq!(libos.host(228, &[0xffff_fff0, 0]), EPERM);
    for command in [2, 4] {
        assert_eq!(libos.host(324, &[command]), EPERM, "membarrier {command}");
    }
    for flags in [0x20, 0x40, 0x80, 1 << 31] {
        assert_eq!(libos.host(327, &[3, 0, 0, 0, 0, flags]), EPERM, "preadv2 {flags:#x}");
        assert_eq!(libos.host(328, &[3, 0, 0, 0, 0, flags]), EPERM, "pwritev2 {flags:#x}");
    }
}

/// The guest's own code in the place of the LibOS's: the address passes then, the list stays.
pub(crate) fn remapped_text(libos: &Libos, _: &[String]) {
    const READ_WRITE_EXECUTE: u64 = 7;
    const FIXED_ANONYMOUS_PRIVATE: u64 = 0x32;
    // The text's last whole page, which is needed again once the program makes a call.
    let page = (libos.boot.text_end & !4095) - 4096;
    let mut original = [0u8; 4096];
    // SAFETY: text is mapped, and can be read.
    unsafe { std::ptr::copy_nonoverlapping(page as *const u8, original.as_mut_ptr(), original.len()) };
    let mapped = libos.host(MMAP, &[page, 4096, READ_WRITE_EXECUTE, FIXED_ANONYMOUS_PRIVATE, u64::MAX, 0]);
    assert_eq!(mapped.cast_unsigned(), page);
    let code = [0x0f, 0x05, 0xc3];
    // SAFETY: just mapped, writable.
    unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), page as *mut u8, code.len()) };
    for number in (0..1024).filter(|number| !is_listed(*number)) {
        assert_eq!(call_at(page, u64::from(number)), EPERM, "call {number}");
    }
    // SAFETY: as above.
    unsafe { std::ptr::copy_nonoverlapping(original.as_ptr(), page as *mut u8, original.len()) };
}

/// uretprobe and uprobe: refused, or a trap.
pub(crate) fn probes(libos: &Libos, _: &[String]) {
    const ENXIO: i64 = -6;
    for number in UNFILTERED.iter().rev() {
        let ret = libos.host(*number, &[]);
        assert!([EPERM, ENXIO].contains(&ret), "{ret}");
    }
}

fn call_at(address: u64, number: u64) -> i64 {
    let ret;
    // SAFETY: `syscall; ret`, of a call that the filter refuses.
    unsafe {
        asm!(
            "call {}", in(reg) address, inlateout("rax") number => ret,
            in("rdi") 0, in("rsi") 0, in("rdx") 0, in("r10") 0, in("r8") 0, in("r9") 0,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    ret
}

/// `int 0x80` and x32 numbers from the guest's own code: no such calls.
pub(crate) fn other_modes(_: &Libos, _: &[String]) {
    for number in 0..512u32 {
        // exit and its like of i386 would end the guest, were they answered.
        let ret: i32;
        // SAFETY: no pointer is passed.
        unsafe {
            asm!(
                "push rbx", "xor ebx, ebx", "int 0x80", "pop rbx",
                inlateout("eax") number => ret, in("ecx") 0, in("edx") 0, in("esi") 0, in("edi") 0,
            );
        }
        assert_eq!(i64::from(ret), ENOSYS, "int 0x80, call {number}");
        let ret: i64;
        // SAFETY: as above.
        unsafe {
            asm!(
                "syscall", inlateout("rax") u64::from(number | X32) => ret,
                in("rdi") 0, in("rsi") 0, in("rdx") 0, in("r10") 0, in("r8") 0, in("r9") 0,
                lateout("rcx") _, lateout("r11") _,
            );
        }
        assert_eq!(ret, ENOSYS, "x32 call {number}");
    }
}

/// A message for an address (127.0.0.1 and the port given), a path or a descriptor's owner, on every descriptor
/// of the container: the caller's sockets among them, and the broker's channels.
pub(crate) fn addresses(libos: &Libos, words: &[String]) {
    let port: u16 = words[0].parse().expect("a port");
    let [high, low] = port.to_be_bytes();
    let inet = [2, 0, high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut unix = vec![1, 0];
    unix.extend_from_slice(words[1].as_bytes());
    unix.push(0);
    let text = b"out";
    let part = [text.as_ptr() as u64, text.len() as u64];
    for fd in 0..64u64 {
        for address in [&inet[..], &unix] {
            let (to, len) = (address.as_ptr() as u64, address.len() as u64);
            let message = [to, len, part.as_ptr() as u64, 1, 0, 0, 0];
            // MSG_FASTOPEN and none; sendto with an address, and with an address of no length.
            for flags in [0, 0x2000_0000] {
                assert_eq!(libos.host(SENDTO, &[fd, part[0], part[1], flags, to, len]), EPERM);
                assert_eq!(libos.host(SENDMSG, &[fd, message.as_ptr() as u64, flags]), EPERM);
                assert_eq!(libos.host(SENDMMSG, &[fd, message.as_ptr() as u64, 1, flags]), EPERM);
            }
            assert_eq!(libos.host(SENDTO, &[fd, part[0], part[1], 0, to, 0]), EPERM);
        }
    }
    // A descriptor for the broker: SCM_RIGHTS of the arena.
    let control: [u64; 3] = [20, 1 | 1 << 32, 3];
    let message = [0, 0, part.as_ptr() as u64, 1, control.as_ptr() as u64, 24, 0];
    for fd in BROKER_FD..STDIO_FD {
        assert_eq!(libos.host(SENDMSG, &[fd.unsigned_abs().into(), message.as_ptr() as u64, 0]), EPERM);
    }
    // shutdown, connect, bind, listen, setsockopt, and io_uring, which could do all of it.
    for number in [48, 42, 49, 50, 54, 425, 426, 427] {
        assert_eq!(libos.host(number, &[14, inet.as_ptr() as u64, 16]), EPERM, "call {number}");
    }
}

/// clone with every flag beside the three allowed words, clone3, fork and vfork.
pub(crate) fn clone_flags(libos: &Libos, _: &[String]) {
    const SIGCHLD: u64 = 17;
    let words = (0..64).map(|bit| 1u64 << bit);
    let near = words.clone().map(|bit| CLONE_FORK_FLAGS ^ bit).filter(|flags| *flags != CLONE_FORK_FLAGS);
    for flags in words.chain(near).chain([0, SIGCHLD, u64::MAX, CLONE_FORK_FLAGS | SIGCHLD]) {
        if !is_allowed(flags) {
            assert_eq!(libos.host(CLONE, &[flags]), EPERM, "clone {flags:#x}");
        }
    }
    let arguments = [SIGCHLD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(libos.host(CLONE3, &[arguments.as_ptr() as u64, 88]), EPERM);
    for number in [57, 58, 59, 322] {
        assert_eq!(libos.host(number, &[]), EPERM);
    }
}

fn is_allowed(flags: u64) -> bool {
    use abi::hostcall::{CLONE_THREAD_FLAGS, CLONE_VFORK_FLAGS};
    [CLONE_FORK_FLAGS, CLONE_THREAD_FLAGS, CLONE_VFORK_FLAGS].contains(&flags)
}

/// Host processes that the LibOS knows nothing of, and that never end by themselves.
pub(crate) fn stray_child(libos: &Libos, _: &[String]) {
    let word = 0u32;
    for _ in 0..8 {
        let mut tid = 0u32;
        if libos.host(CLONE, &[CLONE_FORK_FLAGS, 0, &raw mut tid as u64]) == 0 {
            loop {
                libos.host(FUTEX, &[&raw const word as u64, 0, 0]);
            }
        }
    }
}

/// No descriptor is left: arena, events, broker.
pub(crate) fn close_all(libos: &Libos, _: &[String]) {
    for fd in 0..1024 {
        libos.host(CLOSE, &[fd]);
    }
    std::process::exit(3);
}
