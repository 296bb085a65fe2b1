//! `cpuid` answered from a table. In a virtual machine the instruction traps to the hypervisor, and a C library
//! executes dozens of them at every start; patched sites jump here instead (design, section 3).
//!
//! The entry has rdx = return address, eax and ecx as the instruction takes them, rbx free, and keeps the flags. Upper
//! halves of rax and rcx are free as well, since the instruction clears them: both inputs travel packed in rbx.
//! A leaf is executed once a container and kept; one that differs by core once a core, whose number the host tells in a
//! segment's limit (as its own vDSO reads it). Invariant: entries below [`TABLE`]'s count with a set `is_valid` are complete and never
//! change.

use crate::cpu::Cpu;
use crate::entry::{AREAS_END, AREAS_START, check_area};
use core::arch::global_asm;
use core::arch::x86_64::CpuidResult;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Most answers that are kept.
const ENTRIES: usize = 256;

/// One answer.
#[repr(C)]
struct Entry {
    /// Leaf, and the subleaf with its bytes reversed in the upper half; of a leaf that differs by core the subleaf's last byte alone,
    /// and the core in the three below.
    key: AtomicU64,
    eax: AtomicU32,
    ebx: AtomicU32,
    ecx: AtomicU32,
    edx: AtomicU32,
    is_valid: AtomicU64,
}

#[repr(C)]
struct Table {
    /// How many entries were handed out; may exceed [`ENTRIES`].
    used: AtomicU64,
    entries: [Entry; ENTRIES],
}

static TABLE: Table = Table {
    used: AtomicU64::new(0),
    entries: [const {
        Entry {
            key: AtomicU64::new(0),
            eax: AtomicU32::new(0),
            ebx: AtomicU32::new(0),
            ecx: AtomicU32::new(0),
            edx: AtomicU32::new(0),
            is_valid: AtomicU64::new(0),
        }
    }; ENTRIES],
};

/// Addresses of the entries for calls and for `cpuid`, alone on a page that every object's stubs map.
#[repr(C, align(4096))]
struct Slots {
    syscall: AtomicU64,
    cpuid: AtomicU64,
    rest: [u8; 4080],
}

static SLOTS: Slots = Slots { syscall: AtomicU64::new(0), cpuid: AtomicU64::new(0), rest: [0; 4080] };

/// Fills the slots; at boot.
pub(crate) fn fill_slots() {
    SLOTS.syscall.store(crate::entry::syscall_entry_address(), Ordering::Relaxed);
    SLOTS.cpuid.store(xlibos_cpuid_entry as unsafe extern "C" fn() as usize as u64, Ordering::Relaxed);
    debug_assert!(SLOTS.rest.len() < 4096);
}

/// Where the slots lie.
pub(crate) fn slots_address() -> u64 {
    &raw const SLOTS as u64
}

/// Leaves below 32 that have subleaves: the others ignore ecx.
const SUBLEAVES: u32 = 1 << 4
    | 1 << 7
    | 1 << 0xb
    | 1 << 0xd
    | 1 << 0xf
    | 1 << 0x10
    | 1 << 0x12
    | 1 << 0x14
    | 1 << 0x17
    | 1 << 0x18
    | 1 << 0x1a
    | 1 << 0x1b
    | 1 << 0x1d
    | 1 << 0x1e
    | 1 << 0x1f;
/// Leaves below 32 that differ by core: APIC ids, kind of core.
const BY_CORE: u32 = 1 << 1 | 1 << 0xb | 1 << 0x1a | 1 << 0x1f;
/// Linux's segment whose limit is the number of the core, with that of its node above.
const CORE_SEGMENT: u32 = 0x7b;
/// Bits of a key in which the core is.
const CORE: u64 = 0x00ff_ffff << 32;

global_asm!(
    r"
    .global xlibos_cpuid_entry, xlibos_cpuid_saved, xlibos_cpuid_ask
    .global xlibos_cpuid_plain, xlibos_cpuid_bad_gs, xlibos_cpuid_interrupted, xlibos_cpuid_end
    .balign 64
xlibos_cpuid_entry:
    // rbx = ecx with its bytes reversed in the upper half, eax in the lower.
    mov eax, eax
    mov ecx, ecx
    bswap rcx
    lea rbx, [rcx + rax]
    lahf
    seto al
    rdgsbase rcx
    ",
    check_area!("rcx", "xlibos_cpuid_bad_gs"),
    r"
    mov [rcx + {ret}], rdx
xlibos_cpuid_saved:
    mov [rcx + {flags}], rax
    // rbx becomes the key: the subleaf counts only where there are some.
    mov ecx, ebx
    cmp ecx, 32
    jae 1f
    mov eax, {subleaves}
    bt eax, ecx
    jc 9f
    mov ebx, ebx
9:
    mov eax, {by_core}
    bt eax, ecx
    jnc 2f
    mov rax, rbx
    shr rax, 32
    and eax, 0x00ffffff
    jnz xlibos_cpuid_plain
    mov eax, {core_segment}
    lsl eax, eax
    jnz xlibos_cpuid_plain
    cmp eax, 0x00ffffff
    ja xlibos_cpuid_plain
    shl rax, 32
    or rbx, rax
    jmp 2f
1:
    cmp ecx, 0x8000001d
    jae 4f
    cmp ecx, 0x80000000
    jb 2f
3:
    mov ebx, ebx
    jmp 2f
4:
    cmp ecx, 0x8000001d
    jne xlibos_cpuid_plain
2:
    mov rdx, [rip + {table}]
    cmp rdx, {entries}
    jbe 5f
    mov edx, {entries}
5:
    lea rcx, [rip + {table} + 8]
6:
    sub rdx, 1
    jb xlibos_cpuid_ask
    cmp [rcx], rbx
    jne 7f
    cmp qword ptr [rcx + 24], 0
    jne 8f
7:
    add rcx, {size}
    jmp 6b
8:
    // Found. Flags first: what follows keeps them.
    mov eax, gs:[{flags}]
    add al, 0x7f
    sahf
    mov eax, [rcx + 8]
    mov ebx, [rcx + 12]
    mov edx, [rcx + 20]
    mov ecx, [rcx + 16]
    jmp gs:[{ret}]

// Places that trap on purpose: the handler does what is left.
xlibos_cpuid_ask:
    ud2
xlibos_cpuid_plain:
    ud2
xlibos_cpuid_bad_gs:
    ud2
xlibos_cpuid_interrupted:
    ud2
xlibos_cpuid_end:
    ",
    areas_start = sym AREAS_START,
    areas_end = sym AREAS_END,
    this = const offset_of!(Cpu, this),
    ret = const offset_of!(Cpu, cpuid_return),
    flags = const offset_of!(Cpu, cpuid_flags),
    by_core = const BY_CORE,
    core_segment = const CORE_SEGMENT,
    subleaves = const SUBLEAVES,
    table = sym TABLE,
    entries = const ENTRIES,
    size = const size_of::<Entry>(),
);
unsafe extern "C" {
    fn xlibos_cpuid_entry();
    fn xlibos_cpuid_saved();
    fn xlibos_cpuid_ask();
    fn xlibos_cpuid_plain();
    fn xlibos_cpuid_bad_gs();
    fn xlibos_cpuid_interrupted();
    fn xlibos_cpuid_end();
}

fn address(f: unsafe extern "C" fn()) -> u64 {
    f as usize as u64
}

/// What a thread that trapped in LibOS code was about.
pub(crate) enum Trap {
    /// None of ours.
    None,
    /// The answer is in the registers: the guest goes on.
    Answered,
    /// The guest goes on at `rip` once its interrupt was looked at.
    Interrupted,
}

/// Registers of a context that the entry uses.
pub(crate) struct Registers<'a> {
    pub(crate) rax: &'a mut u64,
    pub(crate) rbx: &'a mut u64,
    pub(crate) rcx: &'a mut u64,
    pub(crate) rdx: &'a mut u64,
    pub(crate) rip: &'a mut u64,
    pub(crate) rflags: &'a mut u64,
}

/// Does what the entry left to a trap.
pub(crate) fn on_trap(cpu: &Cpu, at: Registers<'_>) -> Trap {
    let is_kept = *at.rip == address(xlibos_cpuid_ask);
    let (back, flags) = if is_kept || *at.rip == address(xlibos_cpuid_plain) {
        (cpu.cpuid_return.get(), cpu.cpuid_flags.get())
    } else if *at.rip == address(xlibos_cpuid_bad_gs) {
        (*at.rdx, *at.rax)
    } else if *at.rip == address(xlibos_cpuid_interrupted) {
        *at.rip = cpu.cpuid_interrupted.get();
        return Trap::Interrupted;
    } else {
        return Trap::None;
    };
    let answer = if is_kept { ask_and_keep(*at.rbx) } else { ask(*at.rbx) };
    *at.rax = answer.eax.into();
    *at.rbx = answer.ebx.into();
    *at.rcx = answer.ecx.into();
    *at.rdx = answer.edx.into();
    *at.rip = back;
    // lahf put the low byte into ah, seto the overflow flag into al.
    const LOW: u64 = 0xd5;
    const OVERFLOW: u64 = 0x800;
    let overflow = if flags & 1 != 0 { OVERFLOW } else { 0 };
    *at.rflags = *at.rflags & !(LOW | OVERFLOW) | flags >> 8 & LOW | overflow;
    Trap::Answered
}

/// A thread was interrupted at `rip`: if it is answering, it traps when it has done so.
pub(crate) fn on_interrupt(cpu: &Cpu, rip: u64, rdx: &mut u64) -> bool {
    if !(address(xlibos_cpuid_entry)..address(xlibos_cpuid_end)).contains(&rip) {
        return false;
    }
    let trap = address(xlibos_cpuid_interrupted);
    let back = if rip < address(xlibos_cpuid_saved) || rip == address(xlibos_cpuid_bad_gs) {
        core::mem::replace(rdx, trap)
    } else {
        cpu.cpuid_return.replace(trap)
    };
    if back != trap && rip != trap {
        cpu.cpuid_interrupted.set(back);
    }
    true
}

/// Executes the instruction for a key without a core.
fn ask(key: u64) -> CpuidResult {
    core::arch::x86_64::__cpuid_count(key as u32, ((key >> 32) as u32).swap_bytes())
}

fn ask_and_keep(key: u64) -> CpuidResult {
    let leaf = key as u32;
    if leaf >= 32 || BY_CORE & 1 << leaf == 0 {
        let answer = ask(key);
        keep(key, &answer);
        return answer;
    }
    // The thread may be moved at any time: what two looks on one core agree in is that core's.
    let plain = key & !CORE;
    let (before, first) = (core_number(), ask(plain));
    let (between, second) = (core_number(), ask(plain));
    if before.is_some() && before == between && before == core_number() && first == second {
        keep(plain | u64::from(before.unwrap_or(0)) << 32, &second);
    }
    second
}

/// Leaves that C libraries ask for at each start, in about their order, and how many subleaves of each: Intel's caches, then AMD's.
/// Those that differ by core are of no use to others.
const USUAL: [(u32, u32); 15] = [
    (0, 1),
    (7, 2),
    (0xd, 2),
    (0x14, 1),
    (0x19, 1),
    (0x8000_0000, 1),
    (0x8000_0001, 1),
    (0x8000_0007, 1),
    (0x8000_0008, 1),
    (0xd, 8),
    (2, 1),
    (4, 5),
    (0x8000_0005, 1),
    (0x8000_0006, 1),
    (0x8000_001d, 4),
];

/// Asks for what programs will ask for, where nobody waits for it: in a virtual machine each takes microseconds, and a first
/// program asks for more than twenty.
pub fn ask_in_advance() {
    let _ = crate::xstate::size();
    for (leaf, subleaves) in USUAL {
        for subleaf in 0..subleaves {
            let key = u64::from(leaf) | u64::from(subleaf.swap_bytes()) << 32;
            if !is_kept(key) {
                keep(key, &ask(key));
            }
        }
    }
}

fn is_kept(key: u64) -> bool {
    let is_it = |entry: &Entry| entry.key.load(Ordering::Relaxed) == key && entry.is_valid.load(Ordering::Acquire) != 0;
    TABLE.entries.iter().any(is_it)
}

/// The core that runs this, as the entry reads it.
fn core_number() -> Option<u32> {
    let (limit, is_valid): (u32, u8);
    // SAFETY: reads a segment's limit, or nothing.
    unsafe {
        core::arch::asm!(
            "lsl {limit:e}, {segment:e}", "setz {valid}",
            limit = out(reg) limit, segment = in(reg) CORE_SEGMENT, valid = out(reg_byte) is_valid,
            options(nomem, nostack),
        )
    };
    (is_valid != 0 && u64::from(limit) <= CORE >> 32).then_some(limit)
}

/// Keeps an answer, where there is room.
fn keep(key: u64, answer: &CpuidResult) {
    let index = TABLE.used.fetch_add(1, Ordering::Relaxed);
    let Some(entry) = usize::try_from(index).ok().and_then(|index| TABLE.entries.get(index)) else {
        TABLE.used.store(ENTRIES as u64, Ordering::Relaxed);
        return;
    };
    entry.key.store(key, Ordering::Relaxed);
    entry.eax.store(answer.eax, Ordering::Relaxed);
    entry.ebx.store(answer.ebx, Ordering::Relaxed);
    entry.ecx.store(answer.ecx, Ordering::Relaxed);
    entry.edx.store(answer.edx, Ordering::Relaxed);
    entry.is_valid.store(1, Ordering::Release);
}
