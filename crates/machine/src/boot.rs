//! From the runner's first instruction to the kernel's `main`: map the arena, install handlers and filter.
//!
//! The runner is a fresh exec of the LibOS's own image with an empty environment. Until the filter is on, the code
//! is trusted: no guest instruction has run.

use crate::cpu::{self, Cpu, Fault};
use crate::{entry, heap, trap};
use abi::boot::{BootBlock, NEAR_LEN, PAGE};
use core::arch::global_asm;
use core::fmt::Write as _;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

unsafe extern "Rust" {
    safe fn kernel_main(boot: &'static BootBlock) -> !;
}

unsafe extern "C" {
    static xlibos_arena: [u64; 512];
}

global_asm!(
    r"
    .global _start
_start:
    mov r15, rsp
    // The boot block's page first: it tells of the arena's far part.
    lea r14, [rip + xlibos_arena]
    mov rdi, r14
    mov esi, 4096
    xor r9d, r9d
    call 5f
    mov rdi, r14
    mov esi, {near_len}
    xor r9d, r9d
    call 5f
    mov rdi, [r14 + {far_start}]
    mov rsi, [r14 + {far_len}]
    mov r9d, {near_len}
    call 5f
    mov rdi, r15
    and rsp, -16
    call {start}
    ud2
5:
    mov edx, 3
    mov r10d, 0x11
    mov r8d, 3
    mov eax, 9
    syscall
    cmp rax, rdi
    jne 6f
    ret
6:
    mov edi, 125
    mov eax, 231
    syscall
    ud2
    ",
    near_len = const NEAR_LEN,
    far_start = const core::mem::offset_of!(BootBlock, far_start),
    far_len = const core::mem::offset_of!(BootBlock, far_len),
    start = sym start,
);

static TEXT_START: AtomicU64 = AtomicU64::new(0);
static TEXT_END: AtomicU64 = AtomicU64::new(0);
/// An address in the last page of the stack that the host gave.
static FIRST_STACK: AtomicU64 = AtomicU64::new(0);

/// Whether an address is LibOS text.
pub(crate) fn is_text(rip: u64) -> bool {
    (TEXT_START.load(Ordering::Relaxed)..TEXT_END.load(Ordering::Relaxed)).contains(&rip)
}

fn block() -> *mut BootBlock {
    (&raw const xlibos_arena).cast_mut().cast()
}

/// The boot block.
#[must_use]
pub fn boot_block() -> &'static BootBlock {
    // SAFETY: mapped and filled by the supervisor; later writes are of the panic record only.
    unsafe { &*block() }
}

/// The words in which the supervisor tells of changes on the host, behind the boot block.
pub(crate) fn change_words() -> &'static [AtomicU32; abi::boot::CHANGE_WORDS] {
    let words = block().cast::<u8>().wrapping_add(abi::boot::CHANGES_OFFSET as usize).cast();
    // SAFETY: they lie in the boot block's page, which is mapped for good, and nothing else does.
    unsafe { &*words }
}

/// A range of the arena that the boot block names, as bytes; empty where it is out of the near part.
#[must_use]
pub fn boot_bytes(addr: u64, len: u64) -> &'static [u8] {
    let boot = boot_block();
    let end = boot.arena_start.saturating_add(NEAR_LEN);
    if addr < boot.arena_start || addr.saturating_add(len) > end {
        return &[];
    }
    // SAFETY: boot data lies between .bss and the heap and is never written.
    unsafe { core::slice::from_raw_parts(addr as *const u8, len as usize) }
}

/// First Rust code, on the stack that the host gave.
extern "C" fn start(stack: *const u64) -> ! {
    let boot = boot_block();
    TEXT_START.store(boot.text_start, Ordering::Relaxed);
    TEXT_END.store(boot.text_end, Ordering::Relaxed);
    let end = boot.far_start + boot.far_len;
    cpu::set_libos_range(boot.base, end);
    crate::window::place(boot.arena_start + NEAR_LEN);
    cpu::set_areas(boot.threads_start, boot.thread_count);
    entry::AREAS_START.store(boot.threads_start, Ordering::Relaxed);
    entry::AREAS_END.store(boot.threads_start + boot.thread_count * abi::boot::THREAD_AREA, Ordering::Relaxed);
    crate::cpuid::fill_slots();
    // SAFETY: first use of area 0.
    let cpu = unsafe { cpu::init_area(0) };
    // SAFETY: GS is the LibOS's pointer to the area.
    unsafe { core::arch::asm!("wrgsbase {}", in(reg) cpu.this.get(), options(nomem, nostack)) };
    cpu.memory.set(crate::stack::new_memory());
    crate::stack::guard(cpu);
    // SAFETY: the host's initial stack is read-only for us here.
    let vdso = unsafe { auxiliary(stack, AT_SYSINFO_EHDR) };
    // SAFETY: as above.
    FIRST_STACK.store(unsafe { auxiliary(stack, AT_EXECFN) }, Ordering::Relaxed);
    // SAFETY: nobody else runs yet.
    unsafe { (*block()).vdso = vdso };
    // SAFETY: the vDSO is an ELF image of the host.
    crate::clock::set_vdso_function(unsafe { vdso_symbol(vdso, b"__vdso_clock_gettime") });
    // SAFETY: the heap's range is free arena memory.
    unsafe { heap::init(boot.heap_start..boot.heap_end, boot.far_start..end) };
    lock_down(cpu, boot);
    // SAFETY: switches to area 0's LibOS stack for good.
    unsafe {
        core::arch::asm!(
            "mov rsp, {stack}", "xor ebp, ebp", "mov rdi, {boot}", "call {main}", "ud2",
            stack = in(reg) cpu.stack_top.get(),
            boot = in(reg) block(),
            main = sym main,
            options(noreturn),
        )
    }
}

extern "C" fn main(boot: &'static BootBlock) -> ! {
    give_back_first_stack();
    give_back_runner(boot);
    kernel_main(boot)
}

/// Unmaps the page of code in which the runner began.
fn give_back_runner(boot: &BootBlock) {
    // SAFETY: it has jumped to the text for good.
    unsafe { crate::host::raw(crate::host::nr::MUNMAP, [boot.arena_start - PAGE, PAGE, 0, 0, 0, 0]) };
}

/// Unmaps the stack that the host gave: each process of the container would have it, with two page tables of its own.
fn give_back_first_stack() {
    const MUNMAP: u64 = 11;
    /// More than the host maps at first, less than the gap that it keeps below.
    const LEN: u64 = 256 << 10;
    // The name of the program is the last that lies there, and is in the last page: it is short.
    let end = (FIRST_STACK.load(Ordering::Relaxed) & !(PAGE - 1)) + PAGE;
    // SAFETY: this runs on another stack, and nothing refers to the first. What was not mapped stays so.
    unsafe { crate::host::raw(MUNMAP, [end.saturating_sub(LEN), LEN, 0, 0, 0, 0]) };
}

/// Handlers, limits of the process, the filter: after this only the listed host calls work.
fn lock_down(cpu: &Cpu, boot: &BootBlock) {
    const PR_SET_DUMPABLE: u64 = 4;
    const PR_SET_NO_NEW_PRIVS: u64 = 38;
    const GETTID: u64 = 186;
    const DUP2: u64 = 33;
    const CLOSE: u64 = 3;
    const PRCTL: u64 = 157;
    const SECCOMP: u64 = 317;
    // SAFETY: plain queries and settings of the process itself.
    let tid = u32::try_from(unsafe { crate::host::raw(GETTID, [0; 6]) }).unwrap_or(0);
    cpu.outside().tid.store(tid, Ordering::Relaxed);
    // SAFETY: at boot.
    unsafe { trap::install() };
    trap::set_signal_stack(cpu);
    cpu.ready.store(1, Ordering::Relaxed);
    crate::host::learn_processors();
    for limit in [16_383_u64, 4_095, 1_023] {
        // The table is grown before it is shared: growing a shared one is slow.
        // SAFETY: only descriptors are touched.
        let ret = unsafe { crate::host::raw(DUP2, [3, limit, 0, 0, 0, 0]) };
        if ret == limit {
            // SAFETY: closes the duplicate.
            unsafe { crate::host::raw(CLOSE, [limit, 0, 0, 0, 0, 0]) };
            break;
        }
    }
    // SAFETY: settings of the process itself.
    unsafe { crate::host::raw(PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0, 0]) };
    // SAFETY: as above.
    unsafe { crate::host::raw(PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0]) };
    let program = [boot.filter_len, boot.filter_addr];
    // SAFETY: struct sock_fprog with the supervisor's filter.
    let ret = unsafe { crate::host::raw(SECCOMP, [1, 0, program.as_ptr() as u64, 0, 0, 0]) };
    if ret != 0 {
        panic!("the host refused the filter: {}", ret.cast_signed());
    }
}

/// The vDSO.
const AT_SYSINFO_EHDR: u64 = 33;
/// The name of the program.
const AT_EXECFN: u64 = 31;

/// Finds a value of the auxiliary vector behind arguments and environment, 0 where it is missing.
///
/// # Safety
/// `stack` is the initial stack of a process.
unsafe fn auxiliary(stack: *const u64, kind: u64) -> u64 {
    // SAFETY: a process begins with argc, argv, NULL, envp, NULL, auxv.
    let word = |index: usize| unsafe { *stack.wrapping_add(index) };
    let mut index = 1 + word(0) as usize + 1;
    while word(index) != 0 {
        index += 1;
    }
    index += 1;
    loop {
        match word(index) {
            0 => return 0,
            found if found == kind => return word(index + 1),
            _ => index += 2,
        }
    }
}

/// The host's vDSO. Invariant: it is mapped and well formed, so what its tables point at lies within it.
struct Vdso(u64);

/// What finds a symbol; zero where the vDSO does not say.
#[derive(Default)]
struct SymbolTables {
    strings: u64,
    symbols: u64,
    hash: u64,
}

/// Address of a function in the vDSO, 0 where it is missing.
///
/// # Safety
/// `vdso` is 0 or the host's vDSO.
unsafe fn vdso_symbol(vdso: u64, name: &[u8]) -> u64 {
    if vdso == 0 {
        return 0;
    }
    let vdso = Vdso(vdso);
    let tables = vdso.symbol_tables();
    if tables.symbols == 0 || tables.strings == 0 {
        return 0;
    }
    vdso.find(&tables, name)
}

impl Vdso {
    fn byte(&self, at: u64) -> u8 {
        // SAFETY: by the invariant.
        unsafe { *(at as *const u8) }
    }

    fn half(&self, at: u64) -> u16 {
        // SAFETY: by the invariant; tables of an ELF file are aligned.
        unsafe { *(at as *const u16) }
    }

    fn int(&self, at: u64) -> u32 {
        // SAFETY: as above.
        unsafe { *(at as *const u32) }
    }

    fn word(&self, at: u64) -> u64 {
        // SAFETY: as above.
        unsafe { *(at as *const u64) }
    }

    /// Offsets are those of Elf64_Ehdr, Elf64_Phdr and Elf64_Dyn; the vDSO is linked at 0.
    fn symbol_tables(&self) -> SymbolTables {
        const PT_DYNAMIC: u32 = 2;
        let headers = (0..u64::from(self.half(self.0 + 56))).map(|i| self.0 + self.word(self.0 + 32) + i * 56);
        let mut tables = SymbolTables::default();
        for header in headers.filter(|header| self.int(*header) == PT_DYNAMIC) {
            let mut dynamic = self.0 + self.word(header + 16);
            while self.word(dynamic) != 0 {
                let value = self.0 + self.word(dynamic + 8);
                match self.word(dynamic) {
                    4 => tables.hash = value,
                    5 => tables.strings = value,
                    6 => tables.symbols = value,
                    _ => {}
                }
                dynamic += 16;
            }
        }
        tables
    }

    fn find(&self, tables: &SymbolTables, name: &[u8]) -> u64 {
        // Without a SysV hash table: symbols end where the strings begin.
        let count = match tables.hash {
            0 => tables.strings.saturating_sub(tables.symbols) / 24,
            hash => u64::from(self.int(hash + 4)),
        };
        let mut symbols = (0..count).map(|i| tables.symbols + i * 24);
        let found = symbols.find(|symbol| self.is_named(tables.strings + u64::from(self.int(*symbol)), name));
        found.map_or(0, |symbol| self.0 + self.word(symbol + 8))
    }

    /// Strings end with NUL, so the comparison stops within them.
    fn is_named(&self, text: u64, name: &[u8]) -> bool {
        (text..).zip(name.iter().chain(&[0])).all(|(at, byte)| self.byte(at) == *byte)
    }
}

/// A fixed buffer for the panic record.
struct Record {
    bytes: [u8; 2048],
    len: usize,
}

static RECORD: crate::sync::Mutex<Record> = crate::sync::Mutex::new(Record { bytes: [0; 2048], len: 0 });

impl core::fmt::Write for Record {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for &byte in text.as_bytes() {
            if let Some(slot) = self.bytes.get_mut(self.len) {
                *slot = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

/// Writes the panic record and stops the container: the service process is told by its own death.
fn stop(write: impl FnOnce(&mut Record)) -> ! {
    if let Some(mut record) = RECORD.try_lock() {
        write(&mut record);
        write_last_calls(&mut record);
        // SAFETY: the record is written once, by whoever holds its lock; the supervisor reads it by pread.
        unsafe { (*block()).panic_addr = record.bytes.as_ptr() as u64 }
        // SAFETY: as above.
        unsafe { (*block()).panic_len = record.len as u64 }
        // The lock stays held: the first record is the one that counts.
        core::mem::forget(record);
    }
    stop_service()
}

/// The last call of each guest thread, under way or made, by host thread.
fn write_last_calls(record: &mut Record) {
    /// More than anybody reads.
    const MOST: usize = 32;
    let _ = write!(record, "; last calls");
    for cpu in cpu::all().filter(|cpu| cpu.has_task()).take(MOST) {
        let _ = write!(record, " {}:{}", cpu.tid(), cpu.frame().orig_rax.cast_signed());
    }
}

/// Kills the service process, whose death ends the container, and ends the caller.
pub(crate) fn stop_service() -> ! {
    // Area 0 is the service process's.
    let service = cpu::area(0);
    let (pid, tid) = (service.pid(), service.tid());
    const SIGKILL: u64 = 9;
    // SAFETY: a signal to a host process of the container.
    unsafe { crate::host::raw(crate::host::nr::TGKILL, [u64::from(pid), u64::from(tid), SIGKILL, 0, 0, 0]) };
    crate::host::exit(125)
}

/// A fault in LibOS code.
pub(crate) fn die(cpu: &Cpu, fault: &Fault, rip: u64) -> ! {
    let base = boot_block().base;
    let what = if crate::stack::is_guard(cpu, fault.cr2) { "stack overflow" } else { "fault" };
    stop(|record| {
        let _ = write!(
            record,
            "{what} in the LibOS: signal {} at text offset {:#x}, address {:#x}, error {:#x}, call {}, host thread {}",
            fault.signal,
            rip.wrapping_sub(base),
            fault.cr2,
            fault.error,
            cpu.frame().orig_rax.cast_signed(),
            cpu.tid(),
        );
    })
}

#[panic_handler]
fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let cpu = cpu::current();
    stop(|record| {
        let _ = write!(record, "{info}; call {}, host thread {}", cpu.frame().orig_rax.cast_signed(), cpu.tid());
    })
}
