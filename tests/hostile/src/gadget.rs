//! Host calls as a guest can make them: through a `syscall` instruction of the LibOS.

use abi::boot::{ARENA_OFFSET, BootBlock, MAGIC, NEAR_HEAP};
use std::arch::asm;

/// `syscall; ret`.
const GADGET: [u8; 3] = [0x0f, 0x05, 0xc3];
/// errno of a call that the filter refuses.
pub(crate) const EPERM: i64 = -1;

/// The LibOS of this process, found without any help: from GS, down to the boot block.
#[derive(Clone, Copy)]
pub(crate) struct Libos {
    pub(crate) boot: BootBlock,
    gadget: u64,
}

impl Libos {
    pub(crate) fn find() -> Self {
        let area: u64;
        // SAFETY: reads a register.
        unsafe { asm!("rdgsbase {}", out(reg) area, options(nomem, nostack)) };
        // Below the thread areas, which have holes, the arena is mapped as a whole; it starts where the distance to an
        // aligned base says.
        let mut at = (area - NEAR_HEAP) & !(abi::boot::BASE_ALIGN - 1);
        at += ARENA_OFFSET % abi::boot::BASE_ALIGN;
        while read(at) != MAGIC {
            at -= abi::boot::BASE_ALIGN;
        }
        // SAFETY: the magic number says that it lies here.
        let boot = unsafe { std::ptr::read_volatile(at as *const BootBlock) };
        let len = usize::try_from(boot.text_end - boot.text_start).expect("a length");
        // SAFETY: the text is mapped and readable in every guest.
        let text = unsafe { std::slice::from_raw_parts(boot.text_start as *const u8, len) };
        let offset = text.windows(GADGET.len()).position(|bytes| bytes == GADGET).expect("a syscall instruction");
        Self { boot, gadget: boot.text_start + offset as u64 }
    }

    /// Makes a host call; returns what the host does.
    pub(crate) fn call(&self, number: u64, arguments: [u64; 6]) -> i64 {
        let [a, b, c, d, e, f] = arguments;
        let ret: i64;
        // SAFETY: what the host does to this process is the test's matter.
        unsafe {
            asm!(
                "call {gadget}",
                gadget = in(reg) self.gadget,
                inlateout("rax") number => ret,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
                lateout("rcx") _, lateout("r11") _,
            );
        }
        ret
    }

    /// Makes a host call with up to six arguments.
    pub(crate) fn host(&self, number: u32, some: &[u64]) -> i64 {
        let mut arguments = [0; 6];
        arguments[..some.len()].copy_from_slice(some);
        self.call(u64::from(number), arguments)
    }

    /// Leaves a host process behind that ends the container in a moment, whatever has become of the LibOS.
    pub(crate) fn end_container_soon(&self) {
        const WAIT: u64 = 0;
        const FLAGS: u64 = abi::hostcall::CLONE_FORK_FLAGS;
        let (word, moment, mut tid) = (0u32, [0u64, 300_000_000], 0u32);
        if self.host(CLONE, &[FLAGS, 0, &raw mut tid as u64]) == 0 {
            self.host(FUTEX, &[&raw const word as u64, WAIT, 0, moment.as_ptr() as u64]);
            self.end_container();
        }
    }

    /// Kills the service process, and the container with it.
    pub(crate) fn end_container(&self) -> ! {
        // It is the first of its pid namespace after init.
        self.host(TGKILL, &[2, 2, 9]);
        loop {
            self.host(EXIT, &[0]);
        }
    }
}

pub(crate) fn read(at: u64) -> u64 {
    // SAFETY: the callers' addresses lie in the arena, which is mapped.
    unsafe { std::ptr::read_volatile(at as *const u64) }
}

pub(crate) const MMAP: u32 = 9;
pub(crate) const MUNMAP: u32 = 11;
pub(crate) const MADVISE: u32 = 28;
pub(crate) const SENDTO: u32 = 44;
pub(crate) const SENDMSG: u32 = 46;
pub(crate) const RECVMSG: u32 = 47;
pub(crate) const CLONE: u32 = 56;
pub(crate) const FTRUNCATE: u32 = 77;
pub(crate) const SIGALTSTACK: u32 = 131;
pub(crate) const FUTEX: u32 = 202;
pub(crate) const EXIT: u32 = 60;
pub(crate) const TGKILL: u32 = 234;
pub(crate) const FALLOCATE: u32 = 285;
pub(crate) const SENDMMSG: u32 = 307;
pub(crate) const PWRITEV2: u32 = 328;
pub(crate) const CLOSE: u32 = 3;
pub(crate) const CLONE3: u32 = 435;
