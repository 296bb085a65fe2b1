//! Signals to others, and signal handling turned against the LibOS.

use crate::gadget::{Libos, SIGALTSTACK, TGKILL};
use crate::random::Random;
use std::arch::asm;

/// Signals to init, and to processes that are not of this container: those whose pids the harness gives.
pub(crate) fn strangers(libos: &Libos, words: &[String]) {
    const ESRCH: i64 = -3;
    for signal in [9, 19, 15, 6, 11, 31] {
        // Init ignores what comes from inside of its namespace.
        libos.host(TGKILL, &[1, 1, signal]);
        for pid in words {
            let pid: u64 = pid.parse().expect("a pid");
            assert_eq!(libos.host(TGKILL, &[pid, pid, signal]), ESRCH, "tgkill {pid}");
        }
    }
    // kill, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal: not listed.
    for number in [62, 200, 129, 297, 424] {
        assert_eq!(libos.host(number, &[u64::MAX, 9]), crate::gadget::EPERM);
    }
}

/// The service process dies.
pub(crate) fn end(libos: &Libos, _: &[String]) {
    libos.end_container();
}

/// The host's handlers run on a stack of the guest's, so that they take its memory for a thread area.
pub(crate) fn forged_stack(libos: &Libos, _: &[String]) {
    let mut area = vec![0u8; 1 << 17];
    let start = (area.as_mut_ptr() as u64).next_multiple_of(1 << 16);
    let stack = [start + 4096, 0, 20 * 1024];
    libos.host(SIGALTSTACK, &[stack.as_ptr() as u64]);
    // SAFETY: getpid by an instruction that traps.
    unsafe { asm!("syscall", inlateout("rax") 39u64 => _, lateout("rcx") _, lateout("r11") _) };
    libos.end_container();
}

/// A jump to any place of the text with any registers.
pub(crate) fn jump(libos: &Libos, words: &[String]) {
    libos.end_container_soon();
    let mut random = Random::new(words[0].parse().expect("a seed"));
    let boot = &libos.boot;
    let target = boot.text_start + random.below(boot.text_end - boot.text_start);
    let mut word = || match random.below(4) {
        0 => random.below(64),
        1 => boot.heap_start + random.below(1 << 20),
        2 => boot.text_start + random.below(boot.text_end - boot.text_start),
        _ => random.next(),
    };
    let registers = [(); 8].map(|()| word());
    // SAFETY: what comes of it is the test's matter; nothing of ours runs after it, unless it returns here.
    unsafe {
        asm!(
            "push rbp", "mov rbp, rsp", "sub rsp, 4096", "and rsp, -64",
            "mov rdi, [rax]", "mov rsi, [rax + 8]", "mov rdx, [rax + 16]", "mov rcx, [rax + 24]",
            "mov r8, [rax + 32]", "mov r9, [rax + 40]", "mov r10, [rax + 48]", "mov rax, [rax + 56]",
            "call r11",
            "mov rsp, rbp", "pop rbp",
            in("r11") target, in("rax") registers.as_ptr(), clobber_abi("sysv64"),
        );
    }
    libos.end_container();
}
