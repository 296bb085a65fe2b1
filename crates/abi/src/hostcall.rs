//! The host calls that the LibOS may make: data from which the filter, `xc features` and the test of
//! the installed filter are made (design, section 4).

/// A check of one argument, made by the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The argument (index, low 32 bits) has no bit outside the mask; the high half is zero.
    Within(u8, u32),
    /// The argument's low 32 bits have none of these bits.
    Without(u8, u32),
    /// The argument is one of these values (64 bits compared).
    OneOf(u8, &'static [u64]),
    /// Low 32 bits masked are one of these values.
    MaskedOneOf(u8, u32, &'static [u32]),
    /// The argument is zero (64 bits compared).
    Zero(u8),
}

/// One allowed host call.
#[derive(Clone, Copy, Debug)]
pub struct HostCall {
    /// x86-64 number.
    pub number: u32,
    /// Name.
    pub name: &'static str,
    /// All must hold.
    pub checks: &'static [Check],
    /// What the LibOS needs it for.
    pub why: &'static str,
}

/// clone flags of a new thread: VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, PARENT_SETTID, CHILD_CLEARTID.
pub const CLONE_THREAD_FLAGS: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000 | 0x10_0000 | 0x20_0000;
/// clone flags of fork: FILES, PARENT, PARENT_SETTID.
pub const CLONE_FORK_FLAGS: u64 = 0x400 | 0x8000 | 0x10_0000;
/// clone flags of a vfork child: VM, FILES, PARENT, PARENT_SETTID.
pub const CLONE_VFORK_FLAGS: u64 = 0x100 | 0x400 | 0x8000 | 0x10_0000;

const fn call(number: u32, name: &'static str, checks: &'static [Check], why: &'static str) -> HostCall {
    HostCall { number, name, checks, why }
}

/// The table, ordered by number.
pub const HOST_CALLS: &[HostCall] = &[
    call(3, "close", &[], "drop a handle"),
    call(5, "fstat", &[], "attributes of a held handle"),
    call(9, "mmap", &[Check::Without(3, 0x4_0000 | 0x2000)], "guest memory and mapped files; no HUGETLB, no LOCKED"),
    call(10, "mprotect", &[], "protection of guest memory"),
    call(11, "munmap", &[], "guest memory, and the page below a stack of the LibOS"),
    call(15, "rt_sigreturn", &[], "end of a host signal handler"),
    call(25, "mremap", &[], "guest memory"),
    call(
        28,
        "madvise",
        &[Check::OneOf(2, &[0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 25])],
        "guest memory, a large page of the LibOS; no MERGEABLE, HWPOISON, SOFT_OFFLINE, REMOVE",
    ),
    call(
        44,
        "sendto",
        &[Check::Within(3, 0x40 | 0x4000 | 0x8000), Check::Zero(4)],
        "broker requests, console and host stream sockets; never with an address",
    ),
    call(47, "recvmsg", &[], "broker replies with handles, events, host sockets"),
    call(
        56,
        "clone",
        &[Check::OneOf(0, &[CLONE_THREAD_FLAGS, CLONE_FORK_FLAGS, CLONE_VFORK_FLAGS])],
        "a host process or thread for each of the guest's",
    ),
    call(60, "exit", &[], "end of a thread, and of a process with its last one"),
    call(131, "sigaltstack", &[], "stack of the host signal handlers, per thread"),
    call(202, "futex", &[Check::MaskedOneOf(1, 0xffff_fe7f, &[0, 1, 3, 4, 5, 9, 10])], "sleep and wake; no PI"),
    call(
        203,
        "sched_setaffinity",
        &[Check::OneOf(1, &[128])],
        "processors of a thread: two that wake each other in turn share one",
    ),
    call(219, "restart_syscall", &[], "the host re-enters sleeps after a stop"),
    call(
        228,
        "clock_gettime",
        &[Check::MaskedOneOf(0, 0x8000_0007, &[2, 3, 0x8000_0002, 0x8000_0006])],
        "CPU clocks; the others come from the vDSO",
    ),
    call(233, "epoll_ctl", &[], "interest in host handles"),
    call(234, "tgkill", &[], "interrupt a thread of the container"),
    call(281, "epoll_pwait", &[], "wait for host handles"),
    call(288, "accept4", &[], "connections of a published listener"),
    call(
        324,
        "membarrier",
        &[Check::OneOf(0, &[0, 1, 8, 16, 32, 64, 128, 256])],
        "passes the guest's barriers through: private expedited ones, and the slow global one",
    ),
    call(327, "preadv2", &[Check::Within(5, 0x1e)], "read a handle"),
    call(328, "pwritev2", &[Check::Within(5, 0x1e)], "write a handle"),
    call(334, "rseq", &[], "passes the guest's registration through"),
];
