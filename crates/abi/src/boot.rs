//! Where things lie in a container process, and the boot block that tells the LibOS.
//!
//! The LibOS image is a position independent ELF. The supervisor chooses a random base for each
//! container, applies the relative relocations and writes an ELF of fixed address into a memfd: a page of
//! code that maps rodata and text from the executable in which the image is embedded. Constants that hold
//! addresses, `.data` and `.bss` are linked at [`ARENA_OFFSET`] + one page;
//! the supervisor copies them into the arena, which is shared by all processes.
//!
//! ```text
//! base                    rodata, text (of the supervisor's file)
//! base + ARENA_OFFSET - 4096   the runner's own code, until the LibOS runs
//! base + ARENA_OFFSET     boot block, change words      \
//!        + 4096           addresses, .data, .bss         | the arena's near part     the arena: one sealed memfd,
//!        heap_start       heap                           |                           MAP_SHARED at the same
//!        threads_start    thread areas                  /                            addresses everywhere
//!        behind them      windows: pages of host files, each process's own
//! far_start               the rest of the heap             its far part
//! ```
//!
//! All but the far part lies in one [`TABLE`], and nothing else in those of the far part: when a process ends the host looks at
//! each 2 MiB that it maps in a table of which it uses anything.

/// Lowest base of the LibOS.
pub const BASE_MIN: u64 = 0x7e80_0000_0000;
/// The LibOS, arena and windows included, ends below this address; the host's own mappings lie above.
pub const BASE_MAX: u64 = 0x7ee0_0000_0000;
/// Alignment of the base.
pub const BASE_ALIGN: u64 = 0x20_0000;
/// Distance from the base to the arena.
pub const ARENA_OFFSET: u64 = 0x100_0000;
/// Bytes of one thread area: a guard page, which is not mapped, the LibOS stack, the alternate stack, the control block.
/// The host maps as much of a file around a fault as lies between holes: so the hole comes first.
pub const THREAD_AREA: u64 = 0x1_0000;
/// How many thread areas an arena has.
pub const THREAD_COUNT: u64 = 4096;
/// What the host has one table for, in steps of 2 MiB.
pub const TABLE: u64 = 1 << 30;
/// Bytes of the arena from its start to the thread areas: few containers need more.
pub const NEAR_HEAP: u64 = 64 << 20;
/// Bytes of the arena's near part, in the file too.
pub const NEAR_LEN: u64 = NEAR_HEAP + THREAD_COUNT * THREAD_AREA;
/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Bytes of a window: so much of a file, from its start, can be read in it.
pub const WINDOW_LEN: u64 = 0x4_0000;
/// How many windows a process has, behind the arena's near part.
pub const WINDOW_COUNT: u64 = 64;

/// Descriptor of the arena memfd in a fresh runner.
pub const ARENA_FD: i32 = 3;
/// Descriptor of the event channel: [`crate::event::Event`] datagrams from reaper and supervisor.
pub const EVENT_FD: i32 = 4;
/// Descriptor of the terminal's byte stream (a stream socket), where there is a terminal.
pub const CONSOLE_FD: i32 = 5;
/// First of [`BROKER_CHANNELS`] broker channels.
pub const BROKER_FD: i32 = 6;
/// How many broker channels a container has; each carries one request at a time.
pub const BROKER_CHANNELS: i32 = 8;
/// First descriptor of the caller's standard streams that are passed as they are (0, 1, 2 in order).
pub const STDIO_FD: i32 = 14;
/// Descriptor of the file with the LibOS's text; closed before its first instruction.
pub const TEXT_FD: i32 = 17;
/// First descriptor that the LibOS may see for anything else.
pub const FIRST_FREE_FD: i32 = 17;

/// Where the change words lie in the arena's first page: 32-bit words, written by the supervisor alone.
pub const CHANGES_OFFSET: u64 = 2048;
/// How many change words there are. Each changes before the supervisor forgets that the container knows something that
/// changed on the host; the first with every other. A word whose lowest bit is set tells of nothing any more: what it is
/// asked for is known for a second.
pub const CHANGE_WORDS: usize = 512;

/// The change word of a node's inode number.
#[must_use]
pub const fn change_word(inode: u64) -> usize {
    let mixed = (inode.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % CHANGE_WORDS;
    if mixed == 0 { 1 } else { mixed }
}

/// `BootBlock::magic`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"xlibos\x00\x01");

/// First page of the arena, written by the supervisor before the runner starts. Addresses are
/// absolute, lengths are bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BootBlock {
    /// [`MAGIC`].
    pub magic: u64,
    /// Base of the LibOS.
    pub base: u64,
    /// First byte of the text: calls from `[text_start, text_end)` pass the filter.
    pub text_start: u64,
    /// End of the text.
    pub text_end: u64,
    /// Start of the arena: `base + ARENA_OFFSET`, where this block lies.
    pub arena_start: u64,
    /// Length of the arena's file.
    pub arena_len: u64,
    /// Where the arena's far part lies: what follows [`NEAR_LEN`] bytes of the file.
    pub far_start: u64,
    /// Length of the far part.
    pub far_len: u64,
    /// Start of the heap (page aligned, behind `.bss` and the boot data).
    pub heap_start: u64,
    /// End of the heap's near part; all of the arena's far part is heap too.
    pub heap_end: u64,
    /// Start of the thread areas, aligned to [`THREAD_AREA`].
    pub threads_start: u64,
    /// How many thread areas there are.
    pub thread_count: u64,
    /// The seccomp filter: address of an array of `struct sock_filter` in the arena.
    pub filter_addr: u64,
    /// How many instructions the filter has.
    pub filter_len: u64,
    /// Address of the encoded [`crate::config::Config`].
    pub config_addr: u64,
    /// Its length.
    pub config_len: u64,
    /// CLOCK_MONOTONIC at which `xc` started, in nanoseconds.
    pub started_ns: u64,
    /// Random bytes: the LibOS's generator starts from them.
    pub seed: [u8; 64],
    /// Address of the host's vDSO, filled by the LibOS at boot.
    pub vdso: u64,
    /// Set by the LibOS when it panics: address and length of the record's text.
    pub panic_addr: u64,
    /// Length of the record.
    pub panic_len: u64,
}
