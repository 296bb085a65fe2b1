//! Single instructions that fault, of a known length, so that a handler can step over them.

use core::arch::{asm, naked_asm};

/// Loads a byte (2 bytes of code).
pub(crate) fn load(addr: usize) {
    // SAFETY: faults when the address is bad, which the case's handler steps over.
    unsafe { asm!("mov al, byte ptr [{0}]", in(reg) addr, out("al") _) }
}

/// Loads a byte by way of rdi, so that the instruction has exactly 2 bytes.
pub(crate) fn load_2(addr: usize) {
    // SAFETY: as for `load`.
    unsafe { asm!("mov al, byte ptr [rdi]", in("rdi") addr, out("al") _) }
}

/// Stores a byte by way of rdi (3 bytes of code).
pub(crate) fn store_3(addr: usize) {
    // SAFETY: faults when the address is bad, which the case's handler steps over.
    unsafe { asm!("mov byte ptr [rdi], 1", in("rdi") addr) }
}

/// Divides by zero (2 bytes of code).
pub(crate) fn divide_2() {
    // SAFETY: faults, and the case's handler steps over it.
    unsafe { asm!("div ecx", in("ecx") 0, inout("eax") 1 => _, inout("edx") 0 => _) }
}

/// An instruction that is none (2 bytes of code).
pub(crate) fn illegal_2() {
    // SAFETY: faults, and the case's handler steps over it.
    unsafe { asm!("ud2") }
}

/// An instruction that only a kernel may execute (1 byte of code).
pub(crate) fn privileged_1() {
    // SAFETY: faults, and the case's handler steps over it.
    unsafe { asm!("hlt") }
}

/// A breakpoint: the program counter is already behind it when the handler runs.
pub(crate) fn breakpoint() {
    // SAFETY: int3 raises SIGTRAP and changes nothing.
    unsafe { asm!("int3") }
}

/// Sets the trap flag for one instruction; the handler clears it in the frame.
pub(crate) fn single_step() {
    // SAFETY: the flag only makes SIGTRAP come after the next instruction.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop") }
}

/// Divides 1.0 by 0.0 with that exception unmasked (4 bytes of code), and masks it again.
pub(crate) fn divide_float_4() {
    let unmasked: u32 = 0x1f80 & !0x200;
    let masked: u32 = 0x1f80;
    // SAFETY: faults, and the case's handler steps over it; mxcsr is as before at the end.
    unsafe {
        asm!(
            "ldmxcsr [{0}]", "divss xmm0, xmm1", "ldmxcsr [{1}]",
            in(reg) &unmasked, in(reg) &masked, inout("xmm0") 1.0f32 => _, in("xmm1") 0.0f32,
        );
    }
}

/// Calls an address; where nothing executable is, the handler returns to here.
#[unsafe(naked)]
pub(crate) extern "C" fn call_address(addr: usize) {
    naked_asm!("sub rsp, 8", "call rdi", "add rsp, 8", "ret")
}

/// Raises SIGTRAP with known values in registers, and returns what is in them afterwards.
pub(crate) fn registers_across_trap() -> ([u64; 6], [f64; 2]) {
    let (mut ints, mut floats) = ([1, 2, 3, 4, 5, 6], [1.5, 2.5]);
    let [a, b, c, d, e, f] = &mut ints;
    let [x, y] = &mut floats;
    // SAFETY: int3 raises SIGTRAP; the registers are declared.
    unsafe {
        asm!(
            "int3",
            inout("rax") * a,
            inout("rcx") * b,
            inout("rdx") * c,
            inout("r8") * d,
            inout("r11") * e,
            inout("r15") * f,
            inout("xmm0") * x,
            inout("xmm15") * y,
        );
    }
    (ints, floats)
}

/// Computes for a moment with the carry and direction flags set and known values in rcx and r11; whether they stayed.
pub(crate) fn flags_and_registers_stay() -> bool {
    let (flags, rcx, r11): (u64, u64, u64);
    // SAFETY: no memory but the stack is used; the direction flag is clear again at the end, as Rust wants it.
    unsafe {
        asm!(
            "mov rcx, 21", "mov r11, 22", "std", "stc",
            "2:", "dec eax", "jnz 2b",
            "pushfq", "cld", "pop rax",
            inout("rax") 2000u64 => flags, out("rcx") rcx, out("r11") r11,
        );
    }
    flags & 0x401 == 0x401 && (rcx, r11) == (21, 22)
}

/// Makes a call without arguments, and returns whether registers are as before, rcx is the return address, and r11 the flags.
pub(crate) fn registers_across_call(number: libc::c_long) -> bool {
    // SAFETY: the call takes no argument and writes no memory.
    unsafe { registers_across(number, 0, [11, 12, 13, 14, 15]) }
}

/// The same of rt_sigprocmask(2).
pub(crate) fn registers_across_mask(how: u64, set: &u64, old: &mut u64) -> bool {
    let (set, old) = (core::ptr::from_ref(set) as u64, core::ptr::from_mut(old) as u64);
    // SAFETY: the call reads and writes those words.
    unsafe { registers_across(libc::SYS_rt_sigprocmask, how, [old, set, 13, 14, 8]) }
}

/// Blocks no signal by rt_sigprocmask(2) with a flag of the processor set; whether it stays set.
pub(crate) fn mask_with_flag(flag: u64) -> bool {
    let (set, mut old, after) = (0u64, 0u64, &mut 0u64);
    // SAFETY: the call reads and writes those words; the flag is clear again at the end, and no instruction in between depends on it.
    unsafe {
        asm!(
            "pushfq", "or [rsp], {flag}", "popfq", "syscall", "pushfq", "pop {after}",
            "pushfq", "and [rsp], {clear}", "popfq",
            flag = in(reg) flag, clear = in(reg) !flag, after = out(reg) *after,
            inout("rax") libc::SYS_rt_sigprocmask => _, in("rdi") 0, in("rsi") &raw const set, in("rdx") &raw mut old,
            in("r10") 8, out("rcx") _, out("r11") _,
        );
    }
    *after & flag != 0
}

/// The same of a call with these in rdi, and in rdx, rsi, r8, r9, and r10.
///
/// # Safety
/// As the call's.
unsafe fn registers_across(number: libc::c_long, rdi: u64, arguments: [u64; 5]) -> bool {
    let (mut kept, mut taken) = (arguments, [16, 17, 18, 19u64]);
    let (distance, flags): (u64, u64);
    let [rdx, rsi, r8, r9, r10] = &mut kept;
    let [r12, r13, r14, r15] = &mut taken;
    // SAFETY: the call is the caller's; all registers used are declared.
    unsafe {
        asm!(
            "syscall",
            "2:",
            "lea rdi, [rip + 2b]",
            "sub rcx, rdi",
            inout("rax") number => _, out("rcx") distance, out("r11") flags, inout("rdi") rdi => _,
            inout("rdx") * rdx, inout("rsi") * rsi, inout("r8") * r8, inout("r9") * r9, inout("r10") * r10,
            inout("r12") * r12, inout("r13") * r13, inout("r14") * r14, inout("r15") * r15,
        );
    }
    // Interrupts are on, direction is up, nothing steps.
    let has_flags = flags & 0x700 == 0x200;
    has_flags && (kept, taken, distance) == (arguments, [16, 17, 18, 19], 0)
}
