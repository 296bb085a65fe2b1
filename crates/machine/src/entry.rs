//! The way in from guest code and out again, and the few routines that must be assembly.
//!
//! A patched site jumps to `xlibos_syscall_entry` with the call's number in rax, arguments as the hardware's
//! `syscall` takes them, and the return address in rcx. Nothing of the guest's stack is touched. Signal
//! handlers ([`crate::trap`]) send a thread here too, by rewriting its context.
//!
//! Calls that never sleep, the leaves, are served with few registers saved: the others stay where they are, since their
//! functions keep them as all do. Calls that a word answers, the thread's ids, are answered without any.
//!
//! Invariants: GS points at the thread's area while LibOS code runs; from `xlibos_exit_check` to
//! `xlibos_exit_end` the frame in memory is complete, so a handler may send the thread back to the check. From
//! `xlibos_leaf_check` to `xlibos_leaf_end` those registers are in the frame that a function need not keep, the others in place.
//! From `xlibos_answer_check` to `xlibos_answer_end`, and from `xlibos_mask_given` to `xlibos_mask_end`, all are in place but rcx, whose
//! value is the frame's rip.
//! Functions run with the direction and alignment-check flags clear: words and masks are answered with the guest's, and nobody is called
//! from there before they are.

use crate::cpu::{ALIGNMENT_FLAG, Cpu, DIRECTION_FLAG, EXIT_CALL, EXIT_FULL, LIBOS_END, LIBOS_START, USER_END};
use crate::frame::TrapFrame;
use crate::guest_access;
use crate::leaf::{AGAIN, LIMIT, Table};
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::AtomicU32;

const FRAME: usize = offset_of!(Cpu, frame);
/// Interrupts are on, two values were equal, and the bit that is always set.
const FLAGS_OF_EQUAL: u32 = 0x246;
/// The processor's direction and alignment-check flags, which our code wants to be clear.
const UNWANTED: u32 = (DIRECTION_FLAG | ALIGNMENT_FLAG) as u32;

/// `how` of sigprocmask(2). The first, 0, adds to the mask.
const SIG_SETMASK: u32 = 2;
/// All signals but SIGKILL and SIGSTOP, as the processor extends it.
const BLOCKABLE: i32 = !(1 << 8 | 1 << 18);
/// For the assembly.
static WORDS_END: u64 = USER_END;

// The kernel's hooks; the image crate defines them.
unsafe extern "Rust" {
    safe fn kernel_syscall(cpu: &'static Cpu);
    safe fn kernel_event(cpu: &'static Cpu);
    safe fn kernel_return(cpu: &'static Cpu);
    safe fn kernel_child(cpu: &'static Cpu);
}

/// A thread entered by a call.
extern "C" fn enter_call(cpu: &'static Cpu) {
    kernel_syscall(cpu);
}

/// A thread was interrupted, or faulted, in guest code.
extern "C" fn enter_event(cpu: &'static Cpu) {
    kernel_event(cpu);
}

/// Something is pending for a thread that is about to return.
extern "C" fn before_return(cpu: &'static Cpu) {
    kernel_return(cpu);
}

/// First code of a new host thread, on its LibOS stack.
extern "C" fn child_entry(cpu: &'static Cpu) {
    use core::sync::atomic::Ordering;
    cpu.touch_task();
    crate::trap::set_signal_stack(cpu);
    crate::stack::begin(cpu);
    crate::process::set_fs_base(cpu.start_fs.get());
    cpu.ready.store(1, Ordering::Release);
    kernel_child(cpu);
}

/// First code of a host thread that serves another guest.
extern "C" fn restart_entry(cpu: &'static Cpu) {
    crate::process::set_fs_base(cpu.start_fs.get());
    kernel_child(cpu);
}

/// Assembly that goes to a label unless a register holds the address of a thread area. Clobbers the flags.
macro_rules! check_area {
    ($register:literal, $otherwise:literal) => {
        concat!(
            "cmp ",
            $register,
            ", [rip + {areas_start}]\n",
            "jb ",
            $otherwise,
            "\n",
            "cmp ",
            $register,
            ", [rip + {areas_end}]\n",
            "jae ",
            $otherwise,
            "\n",
            "cmp [",
            $register,
            " + {this}], ",
            $register,
            "\n",
            "jne ",
            $otherwise,
            "\n",
        )
    };
}
pub(crate) use check_area;

global_asm!(
    r"
    .macro SAVE_ARGUMENTS
    mov [r11 + {rdi}], rdi
    mov [r11 + {rsi}], rsi
    mov [r11 + {rdx}], rdx
    mov [r11 + {r10}], r10
    mov [r11 + {r8}], r8
    mov [r11 + {r9}], r9
    .endm
    // What functions keep, and flags in rcx.
    .macro SAVE_KEPT
    mov rcx, [r11 + {rip}]
    mov [r11 + {rcx}], rcx
    mov [r11 + {rbx}], rbx
    mov [r11 + {rbp}], rbp
    mov [r11 + {r12}], r12
    mov [r11 + {r13}], r13
    mov [r11 + {r14}], r14
    mov [r11 + {r15}], r15
    pushfq
    pop rcx
    mov [r11 + {rflags}], rcx
    mov [r11 + {r11}], rcx
    mov dword ptr [r11 + {exit_kind}], {exit_call}
    .endm
    .macro LOAD_ARGUMENTS
    mov rdi, [r11 + {rdi}]
    mov rsi, [r11 + {rsi}]
    mov rdx, [r11 + {rdx}]
    mov r10, [r11 + {r10}]
    mov r8, [r11 + {r8}]
    mov r9, [r11 + {r9}]
    .endm
    .macro LOAD_REGISTERS
    mov rax, [r11 + {rax}]
    LOAD_ARGUMENTS
    mov rbx, [r11 + {rbx}]
    mov rbp, [r11 + {rbp}]
    mov r12, [r11 + {r12}]
    mov r13, [r11 + {r13}]
    mov r14, [r11 + {r14}]
    mov r15, [r11 + {r15}]
    .endm

    // On to the function unless the word there is the guest's. Clobbers rcx.
    .macro CHECK_WORD address
    lea rcx, [\address + 8]
    cmp \address, [rip + {libos_end}]
    jb .Llow_\address
.Lchecked_\address:
    cmp rcx, [rip + {user_end}]
    ja xlibos_mask_else
    .subsection 1
.Llow_\address:
    cmp rcx, [rip + {libos_start}]
    jbe .Lchecked_\address
    jmp xlibos_mask_else
    .previous
    .endm

    .global xlibos_syscall_entry
    .balign 64
xlibos_syscall_entry:
    // Ours says where it is. Reading GS itself would cost more than all the rest.
    mov r11, gs:[{this}]
    ",
    check_area!("r11", "xlibos_bad_gs"),
    r"
    mov [r11 + {rip}], rcx
    cmp rax, [rip + {leaf_limit}]
    jae xlibos_whole_call
    lea rcx, [rip + kernel_leaves]
    cmp byte ptr [rcx + rax + {answers}], 0
    jg xlibos_answer
    jl xlibos_mask
xlibos_leaf:
    mov [r11 + {rsp}], rsp
    mov rsp, [r11 + {stack_top}]
    SAVE_ARGUMENTS
    mov rcx, [rcx + rax * 8 + {leaves}]
    test rcx, rcx
    jz 2f
    mov [r11 + {orig}], rax
    // To look at the flags takes a third of the time of clearing the direction flag.
    pushfq
    pop rdi
    mov [r11 + {r11}], rdi
    test edi, {unwanted}
    jnz 2f
    mov rdi, r11
    call rcx
    cmp rax, {again}
    je 3f

    .global xlibos_leaf_check
xlibos_leaf_check:
    mov r11, gs:[{this}]
    cmp qword ptr [r11 + {pending}], 0
    jne xlibos_leaf_pending
    mov rcx, [r11 + {rip}]
    mov rsp, [r11 + {rsp}]
    LOAD_ARGUMENTS
    mov r11, [r11 + {r11}]
    jmp rcx
    .global xlibos_leaf_end
xlibos_leaf_end:

    // A word is the answer. Nothing is saved but where the guest goes on.
xlibos_answer:
    movzx ecx, byte ptr [rcx + rax + {answers}]
    mov rcx, [r11 + rcx * 8 + {words} - 8]
    .global xlibos_answer_check
xlibos_answer_check:
    cmp qword ptr [r11 + {pending}], 0
    jne xlibos_whole_call
    mov r11, [r11 + {rip}]
    mov eax, [rcx]
    .global xlibos_answer_given
xlibos_answer_given:
    mov rcx, r11
    // The flags, as the comparison has left them: to read them takes a stack.
    mov r11d, {flags_of_equal}
    jmp rcx
    .global xlibos_answer_end
xlibos_answer_end:

    // The thread's own mask. What blocks no less than before concerns nobody else, and is stored here; the rest is for the function,
    // and whatever faults: nothing is changed before the guest's words have been read and written.
xlibos_mask:
    mov [r11 + {orig}], rax
    cmp r10, 8
    jne xlibos_mask_else
    test rdx, rdx
    jnz 4f
5:
    test rsi, rsi
    jz 6f
    CHECK_WORD rsi
    mov rcx, [r11 + {mask}]
    mov rcx, [rcx]
    .global xlibos_mask_load
xlibos_mask_load:
    mov rax, [rsi]
    .global xlibos_mask_loaded
xlibos_mask_loaded:
    test edi, edi
    jnz 7f
    or rax, rcx
8:
    and rax, {blockable}
9:
    test rdx, rdx
    jnz xlibos_mask_store
xlibos_mask_set:
    mov rcx, [r11 + {mask}]
    mov [rcx], rax
    xor eax, eax
    // It is done, and rax is the answer.
    .global xlibos_mask_given
xlibos_mask_given:
    cmp qword ptr [r11 + {pending}], 0
    jne xlibos_mask_pending
    mov rcx, [r11 + {rip}]
    mov r11d, {flags_of_equal}
    jmp rcx
    .global xlibos_mask_end
xlibos_mask_end:
4:
    CHECK_WORD rdx
    jmp 5b
6:
    mov rcx, [r11 + {mask}]
    mov rcx, [rcx]
    mov rax, rcx
    jmp 9b
7:
    cmp edi, {set_mask}
    jne xlibos_mask_else
    not rax
    test rax, rcx
    jnz xlibos_mask_else
    not rax
    jmp 8b
    .global xlibos_mask_store
xlibos_mask_store:
    mov [rdx], rcx
    .global xlibos_mask_stored
xlibos_mask_stored:
    jmp xlibos_mask_set
    .global xlibos_mask_else
xlibos_mask_else:
    mov rax, [r11 + {orig}]
    lea rcx, [rip + kernel_leaves]
    jmp xlibos_leaf
xlibos_mask_pending:
    mov [r11 + {rsp}], rsp
    mov rsp, [r11 + {stack_top}]
    SAVE_ARGUMENTS
    jmp xlibos_leaf_pending

    // The frame becomes what any call leaves.
xlibos_leaf_pending:
    mov [r11 + {rax}], rax
    mov qword ptr [r11 + {orig}], -1
    SAVE_KEPT
    // The mask was changed with the guest's own flags, with which nothing of ours may run.
    test ecx, {unwanted}
    jz xlibos_exit_check
    and ecx, {wanted}
    push rcx
    popfq
    mov dword ptr [r11 + {exit_kind}], {exit_full}
    jmp xlibos_exit_check

    // An attempt would have to wait.
3:
    mov r11, gs:[{this}]
    mov rax, [r11 + {orig}]
    jmp 2f

    // The guest gets its flags back. They are in rcx.
xlibos_call_down:
    and ecx, {wanted}
    push rcx
    popfq
    mov dword ptr [r11 + {exit_kind}], {exit_full}
    jmp xlibos_call

    // Handlers send calls here: GS is ours.
    .global xlibos_trapped_entry
xlibos_trapped_entry:
    mov r11, gs:[{this}]
    mov [r11 + {rip}], rcx
xlibos_whole_call:
    mov [r11 + {rsp}], rsp
    mov rsp, [r11 + {stack_top}]
    SAVE_ARGUMENTS
2:
    mov [r11 + {rax}], rax
    mov [r11 + {orig}], rax
    SAVE_KEPT
    test ecx, {unwanted}
    jnz xlibos_call_down
xlibos_call:
    mov rdi, r11
    call {enter_call}

    .global xlibos_exit_check
xlibos_exit_check:
    mov r11, gs:[{this}]
    mov rsp, [r11 + {stack_top}]
    // Something is pending, or GS is the guest's own.
    cmp qword ptr [r11 + {pending}], 0
    jne xlibos_exit_seldom
xlibos_exit_load:
    cmp dword ptr [r11 + {exit_kind}], {exit_call}
    jne xlibos_exit_full
    LOAD_REGISTERS
    mov rsp, [r11 + {rsp}]
    mov rcx, [r11 + {rip}]
    mov r11, [r11 + {rflags}]
    jmp rcx
xlibos_exit_seldom:
    cmp dword ptr [r11 + {pending}], 0
    jne xlibos_exit_pending
    mov rax, [r11 + {guest_gs}]
    wrgsbase rax
    jmp xlibos_exit_load
xlibos_exit_full:
    // iretq is slow, but takes what the way below cannot: a GS that is not ours, and single steps.
    cmp dword ptr [r11 + {gs_foreign}], 0
    jne xlibos_exit_iret
    test dword ptr [r11 + {rflags}], 0x100
    jnz xlibos_exit_iret
    push [r11 + {rflags}]
    LOAD_REGISTERS
    mov rcx, [r11 + {rcx}]
    popfq
    mov rsp, [r11 + {rsp}]
    mov r11, [r11 + {r11}]
    jmp qword ptr gs:[{rip}]
xlibos_exit_iret:
    push 0x2b
    push [r11 + {rsp}]
    push [r11 + {rflags}]
    push 0x33
    push [r11 + {rip}]
    LOAD_REGISTERS
    mov rcx, [r11 + {rcx}]
    mov r11, [r11 + {r11}]
    iretq
    .global xlibos_exit_end
xlibos_exit_end:

xlibos_exit_pending:
    mov rdi, r11
    call {before_return}
    jmp xlibos_exit_check

    .global xlibos_bad_gs
xlibos_bad_gs:
    ud2

    // Sent here by a handler: GS is ours, rsp is the top of the LibOS stack, the frame is saved.
    .global xlibos_event_entry
xlibos_event_entry:
    rdgsbase rdi
    call {enter_event}
    jmp xlibos_exit_check

    // rdi = flags, rsi = area, rdx = its tid, which the host clears when the thread has ended.
    .global xlibos_host_clone
xlibos_host_clone:
    mov r9, rsi
    mov r10, rdx
    mov rsi, [r9 + {stack_top}]
    xor r8d, r8d
    mov eax, 56
    syscall
    test rax, rax
    jz 2f
    ret
2:
    wrgsbase r9
    xor ebp, ebp
    mov rsp, [r9 + {stack_top}]
    mov rdi, r9
    call {child_entry}
    jmp xlibos_exit_check

    // rdi = area.
    .global xlibos_restart
xlibos_restart:
    xor ebp, ebp
    mov rsp, [rdi + {stack_top}]
    call {restart_entry}
    jmp xlibos_exit_check

    .global xlibos_exit_thread
xlibos_exit_thread:
1:
    xor edi, edi
    mov eax, 60
    syscall
    jmp 1b

    .global xlibos_sigreturn
xlibos_sigreturn:
    mov eax, 15
    syscall
    ud2

    // rdi = number, rsi = six arguments. Between the check and the call a handler sends us to the abort.
    .global xlibos_sleeping_call
xlibos_sleeping_call:
    mov rax, rdi
    mov r11, rsi
    mov rdi, [r11]
    mov rsi, [r11 + 8]
    mov rdx, [r11 + 16]
    mov r10, [r11 + 24]
    mov r8, [r11 + 32]
    mov r9, [r11 + 40]
    .global xlibos_sleep_check
xlibos_sleep_check:
    cmp dword ptr gs:[{pending}], 0
    jne xlibos_sleep_abort
    .global xlibos_sleep_call
xlibos_sleep_call:
    syscall
    .global xlibos_sleep_end
xlibos_sleep_end:
    ret
    .global xlibos_sleep_abort
xlibos_sleep_abort:
    mov rax, -4
    ret

    // rdi = mask. An all-zero header restores every component to its initial state.
    .global xlibos_reset_xstate
xlibos_reset_xstate:
    mov eax, edi
    mov rdx, rdi
    shr rdx, 32
    xrstor64 [rip + xlibos_initial_xstate]
    ret

    .section .rodata
    .balign 64
xlibos_initial_xstate:
    .short 0x37f
    .zero 22
    .long 0x1f80
    .zero 996
    .zero 10240
    .text
    ",
    rax = const FRAME + offset_of!(TrapFrame, rax),
    rbx = const FRAME + offset_of!(TrapFrame, rbx),
    rcx = const FRAME + offset_of!(TrapFrame, rcx),
    rdx = const FRAME + offset_of!(TrapFrame, rdx),
    rsi = const FRAME + offset_of!(TrapFrame, rsi),
    rdi = const FRAME + offset_of!(TrapFrame, rdi),
    rbp = const FRAME + offset_of!(TrapFrame, rbp),
    rsp = const FRAME + offset_of!(TrapFrame, rsp),
    r8 = const FRAME + offset_of!(TrapFrame, r8),
    r9 = const FRAME + offset_of!(TrapFrame, r9),
    r10 = const FRAME + offset_of!(TrapFrame, r10),
    r11 = const FRAME + offset_of!(TrapFrame, r11),
    r12 = const FRAME + offset_of!(TrapFrame, r12),
    r13 = const FRAME + offset_of!(TrapFrame, r13),
    r14 = const FRAME + offset_of!(TrapFrame, r14),
    r15 = const FRAME + offset_of!(TrapFrame, r15),
    rip = const FRAME + offset_of!(TrapFrame, rip),
    rflags = const FRAME + offset_of!(TrapFrame, rflags),
    orig = const FRAME + offset_of!(TrapFrame, orig_rax),
    leaf_limit = sym LIMIT,
    leaves = const offset_of!(Table, leaves),
    answers = const offset_of!(Table, answers),
    words = const offset_of!(Cpu, words),
    mask = const offset_of!(Cpu, mask),
    set_mask = const SIG_SETMASK,
    blockable = const BLOCKABLE,
    libos_start = sym LIBOS_START,
    libos_end = sym LIBOS_END,
    user_end = sym WORDS_END,
    again = const AGAIN.cast_signed(),
    this = const offset_of!(Cpu, this),
    stack_top = const offset_of!(Cpu, stack_top),
    pending = const offset_of!(Cpu, pending),
    exit_kind = const offset_of!(Cpu, exit_kind),
    gs_foreign = const offset_of!(Cpu, gs_foreign),
    guest_gs = const offset_of!(Cpu, guest_gs),
    exit_call = const EXIT_CALL,
    exit_full = const EXIT_FULL,
    unwanted = const UNWANTED,
    flags_of_equal = const FLAGS_OF_EQUAL,
    wanted = const !UNWANTED,
    areas_start = sym AREAS_START,
    areas_end = sym AREAS_END,
    enter_call = sym enter_call,
    enter_event = sym enter_event,
    before_return = sym before_return,
    child_entry = sym child_entry,
    restart_entry = sym restart_entry,
);

/// Range of the thread areas, for the check of GS at entry.
pub(crate) static AREAS_START: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
/// End of the thread areas.
pub(crate) static AREAS_END: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

unsafe extern "C" {
    #[link_name = "xlibos_host_clone"]
    pub(crate) fn host_clone(flags: u64, area: &'static Cpu, tid: &'static AtomicU32) -> u64;
    #[link_name = "xlibos_restart"]
    pub(crate) fn restart(area: &'static Cpu) -> !;
    #[link_name = "xlibos_exit_thread"]
    pub(crate) fn exit_thread(area: &'static Cpu) -> !;
    #[link_name = "xlibos_sleeping_call"]
    pub(crate) fn sleeping_call(nr: u64, args: &[u64; 6]) -> u64;
    #[link_name = "xlibos_reset_xstate"]
    pub(crate) fn reset_xstate(mask: u64);

    fn xlibos_syscall_entry();
    fn xlibos_trapped_entry();
    fn xlibos_leaf_check();
    fn xlibos_leaf_end();
    fn xlibos_answer_check();
    fn xlibos_answer_given();
    fn xlibos_answer_end();
    fn xlibos_mask_given();
    fn xlibos_mask_end();
    fn xlibos_mask_load();
    fn xlibos_mask_loaded();
    fn xlibos_mask_store();
    fn xlibos_mask_stored();
    fn xlibos_mask_else();
    fn xlibos_exit_check();
    fn xlibos_exit_end();
    fn xlibos_bad_gs();
    fn xlibos_event_entry();
    fn xlibos_sigreturn();
    fn xlibos_sleep_check();
    fn xlibos_sleep_call();
    fn xlibos_sleep_abort();
}

pub(crate) fn address(f: unsafe extern "C" fn()) -> u64 {
    f as usize as u64
}

/// Where patched sites jump to.
pub(crate) fn syscall_entry_address() -> u64 {
    address(xlibos_syscall_entry)
}

/// Where handlers send a thread that makes a call, once GS is ours: no leaf is served as such.
pub(crate) fn trapped_entry_address() -> u64 {
    address(xlibos_trapped_entry)
}

/// Where handlers send a thread whose frame they saved.
pub(crate) fn event_entry_address() -> u64 {
    address(xlibos_event_entry)
}

/// The host handlers' restorer.
pub(crate) fn sigreturn_address() -> u64 {
    address(xlibos_sigreturn)
}

/// Whether `rip` is the check of GS that failed, or the load from a GS that is none.
pub(crate) fn is_bad_gs(rip: u64) -> bool {
    rip == address(xlibos_bad_gs) || rip == address(xlibos_syscall_entry)
}

/// Where a thread interrupted at `rip` on its way out must go instead.
pub(crate) fn exit_restart(rip: u64) -> Option<u64> {
    if is_leaf_exit(rip) {
        return Some(address(xlibos_leaf_check));
    }
    (address(xlibos_exit_check)..address(xlibos_exit_end)).contains(&rip).then(|| address(xlibos_exit_check))
}

/// Whether a thread at `rip` is on its way out of a leaf.
pub(crate) fn is_leaf_exit(rip: u64) -> bool {
    (address(xlibos_leaf_check)..address(xlibos_leaf_end)).contains(&rip)
}

/// How far a thread is whose call a word answers: its registers are the guest's but for rcx and r11.
pub(crate) enum Answering {
    /// rax has the call's number.
    Begun,
    /// rax has the answer.
    Given,
}

/// Whether a thread at `rip` has looked, or is to look next, at what is pending before a word answers.
pub(crate) fn answering(rip: u64) -> Option<Answering> {
    if (address(xlibos_answer_check)..address(xlibos_answer_given)).contains(&rip) {
        return Some(Answering::Begun);
    }
    let is_given = (address(xlibos_answer_given)..address(xlibos_answer_end)).contains(&rip)
        || (address(xlibos_mask_given)..address(xlibos_mask_end)).contains(&rip);
    is_given.then_some(Answering::Given)
}

/// Where a thread interrupted at `rip` right before a sleeping call must go instead.
pub(crate) fn sleep_abort(rip: u64) -> Option<u64> {
    (address(xlibos_sleep_check)..=address(xlibos_sleep_call)).contains(&rip).then(|| address(xlibos_sleep_abort))
}

/// Where a fault at `rip` in an access to guest memory goes on.
pub(crate) fn fault_fixup(rip: u64) -> Option<u64> {
    let of_mask: [(unsafe extern "C" fn(), unsafe extern "C" fn()); 2] =
        [(xlibos_mask_load, xlibos_mask_loaded), (xlibos_mask_store, xlibos_mask_stored)];
    let is_of_mask = of_mask.iter().any(|(from, to)| (address(*from)..address(*to)).contains(&rip));
    if is_of_mask { Some(address(xlibos_mask_else)) } else { guest_access::fault_fixup(rip) }
}
