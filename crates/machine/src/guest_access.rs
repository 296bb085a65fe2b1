//! Accesses to guest memory, which may fault: routines that the handler of faults ([`crate::trap`]) sends on to where they say so.
//!
//! Invariant: what faults in a routine here is the guest's side, and nothing is lost but how far it came.
//! The module comes behind `boot`, whose `_start` begins the text: `cargo xtask steps` counts from there.

use crate::entry::address;
use core::arch::global_asm;

global_asm!(
    r"
    // rdi = to, rsi = from, rdx = length; returns how much is left.
    .global xlibos_guest_copy
xlibos_guest_copy:
    cmp rdx, 192
    jae 3f
    mov rcx, rdx
    and rcx, -8
    jz 4f
    // From the ends of the words, backwards counted: rcx is how many bytes of them are left, negative.
    add rdi, rcx
    add rsi, rcx
    sub rdx, rcx
    neg rcx
    .global xlibos_copy_words
xlibos_copy_words:
1:
    mov rax, [rsi + rcx]
    mov [rdi + rcx], rax
    add rcx, 8
    jnz 1b
    .global xlibos_copy_words_end
xlibos_copy_words_end:
4:
    cmp rdx, 4
    jb xlibos_copy_bytes
    .global xlibos_copy_half
xlibos_copy_half:
    mov eax, [rsi]
    mov [rdi], eax
    add rsi, 4
    add rdi, 4
    sub rdx, 4
    .global xlibos_copy_bytes
xlibos_copy_bytes:
    test rdx, rdx
    jz 2f
    mov al, [rsi]
    mov [rdi], al
    inc rsi
    inc rdi
    dec rdx
    jmp xlibos_copy_bytes
2:
    xor eax, eax
    ret
3:
    mov rcx, rdx
    .global xlibos_copy_block
xlibos_copy_block:
    rep movsb
    .global xlibos_copy_end
xlibos_copy_end:
    xor eax, eax
    ret
    // A word faults: byte by byte up to the one that does.
    .global xlibos_copy_fault_words
xlibos_copy_fault_words:
    add rdi, rcx
    add rsi, rcx
    sub rdx, rcx
    jmp xlibos_copy_bytes
    // rdi = address, rsi = length; returns how much is left.
    .global xlibos_guest_zero
xlibos_guest_zero:
    mov rcx, rsi
    xor eax, eax
    .global xlibos_zero_block
xlibos_zero_block:
    rep stosb
    .global xlibos_zero_end
xlibos_zero_end:
    ret
    .global xlibos_copy_fault_bytes
xlibos_copy_fault_bytes:
    mov rax, rdx
    ret
    .global xlibos_copy_fault_block
xlibos_copy_fault_block:
    mov rax, rcx
    ret

    // rdi = address, rsi = expected (in), seen (out), edx = new.
    .global xlibos_guest_cmpxchg
xlibos_guest_cmpxchg:
    mov eax, [rsi]
    .global xlibos_cmpxchg_at
xlibos_cmpxchg_at:
    lock cmpxchg [rdi], edx
    .global xlibos_cmpxchg_end
xlibos_cmpxchg_end:
    mov [rsi], eax
    xor eax, eax
    ret

    // rdi = address; returns whether that failed, and the word.
    .global xlibos_guest_load
xlibos_guest_load:
    .global xlibos_load_at
xlibos_load_at:
    mov rdx, [rdi]
    xor eax, eax
    ret
    // rdi = address, rsi = word.
    .global xlibos_guest_store
xlibos_guest_store:
    mov [rdi], rsi
    .global xlibos_store_end
xlibos_store_end:
    xor eax, eax
    ret

    // rdi = area in guest memory, rsi = mask.
    .global xlibos_guest_xsave
xlibos_guest_xsave:
    mov eax, esi
    mov rdx, rsi
    shr rdx, 32
    .global xlibos_xsave_at
xlibos_xsave_at:
    // The header must be clean: XSAVE leaves its reserved bytes as they are.
    .irp at, 512, 520, 528, 536, 544, 552, 560, 568
    mov qword ptr [rdi + \at], 0
    .endr
    xsave64 [rdi]
    .global xlibos_xsave_end
xlibos_xsave_end:
    xor eax, eax
    ret
    .global xlibos_guest_xrstor
xlibos_guest_xrstor:
    mov eax, esi
    mov rdx, rsi
    shr rdx, 32
    .global xlibos_xrstor_at
xlibos_xrstor_at:
    xrstor64 [rdi]
    .global xlibos_xrstor_end
xlibos_xrstor_end:
    xor eax, eax
    ret
    .global xlibos_fault_one
xlibos_fault_one:
    mov eax, 1
    ret

    "
);

/// What a load of a guest's word gave.
#[repr(C)]
pub(crate) struct Loaded {
    /// 0 where it did not fault.
    pub(crate) failed: u64,
    pub(crate) word: u64,
}

unsafe extern "C" {
    #[link_name = "xlibos_guest_copy"]
    pub(crate) fn guest_copy(to: u64, from: u64, len: u64) -> u64;
    #[link_name = "xlibos_guest_zero"]
    pub(crate) fn guest_zero(to: u64, len: u64) -> u64;
    #[link_name = "xlibos_guest_load"]
    pub(crate) fn guest_load(addr: u64) -> Loaded;
    #[link_name = "xlibos_guest_store"]
    pub(crate) fn guest_store(addr: u64, word: u64) -> u64;
    #[link_name = "xlibos_guest_cmpxchg"]
    pub(crate) fn guest_compare_exchange(addr: u64, expected: *mut u32, new: u32) -> u64;
    #[link_name = "xlibos_guest_xsave"]
    pub(crate) fn guest_xsave(addr: u64, mask: u64) -> u64;
    #[link_name = "xlibos_guest_xrstor"]
    pub(crate) fn guest_xrstor(addr: u64, mask: u64) -> u64;

    fn xlibos_copy_words();
    fn xlibos_copy_words_end();
    fn xlibos_copy_fault_words();
    fn xlibos_copy_half();
    fn xlibos_copy_bytes();
    fn xlibos_copy_block();
    fn xlibos_copy_end();
    fn xlibos_zero_block();
    fn xlibos_zero_end();
    fn xlibos_copy_fault_bytes();
    fn xlibos_copy_fault_block();
    fn xlibos_load_at();
    fn xlibos_store_end();
    fn xlibos_cmpxchg_at();
    fn xlibos_cmpxchg_end();
    fn xlibos_xsave_at();
    fn xlibos_xsave_end();
    fn xlibos_xrstor_at();
    fn xlibos_xrstor_end();
    fn xlibos_fault_one();
}

/// Where a fault at `rip` goes on.
pub(crate) fn fault_fixup(rip: u64) -> Option<u64> {
    let table: [[unsafe extern "C" fn(); 3]; 9] = [
        [xlibos_copy_words, xlibos_copy_words_end, xlibos_copy_fault_words],
        [xlibos_copy_half, xlibos_copy_bytes, xlibos_copy_bytes],
        [xlibos_copy_bytes, xlibos_copy_block, xlibos_copy_fault_bytes],
        [xlibos_copy_block, xlibos_copy_end, xlibos_copy_fault_block],
        [xlibos_zero_block, xlibos_zero_end, xlibos_copy_fault_block],
        [xlibos_load_at, xlibos_store_end, xlibos_fault_one],
        [xlibos_cmpxchg_at, xlibos_cmpxchg_end, xlibos_fault_one],
        [xlibos_xsave_at, xlibos_xsave_end, xlibos_fault_one],
        [xlibos_xrstor_at, xlibos_xrstor_end, xlibos_fault_one],
    ];
    table
        .iter()
        .find(|[from, to, _]| (address(*from)..address(*to)).contains(&rip))
        .map(|[_, _, fixup]| address(*fixup))
}
