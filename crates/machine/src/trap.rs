//! Host signal handlers. They run on the thread area's alternate stack and only redirect: a SIGSYS becomes a
//! jump to the call entry, an interrupt or a fault in guest code becomes an event with the registers saved.
//! Invariant: the thread area is found from the signal stack, never from GS, which a guest may have changed.

use crate::cpu::{
    ALIGNMENT_FLAG, Cpu, DIRECTION_FLAG, EXIT_FULL, Fault, INTERRUPT_SIGNAL, STEPPED, TRAP_FLAG, TRAPPED,
};
use crate::entry::Answering;
use crate::host::{nr, raw};
use crate::stack::{self, SIGNAL_STACK_LEN};
use crate::{SigContext, TrapFrame, cpuid, entry};

const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;
const SIGPIPE: u64 = 13;
const SIGSYS: i32 = 31;

const SA_SIGINFO: u64 = 4;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTORER: u64 = 0x0400_0000;
const SS_AUTODISARM: u32 = 1 << 31;

#[repr(C)]
struct KernelSigaction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

#[repr(C)]
struct StackT {
    sp: u64,
    flags: u32,
    pad: u32,
    size: u64,
}

/// The part of the host's `ucontext` that handlers use.
#[repr(C)]
struct HostContext {
    flags: u64,
    link: u64,
    stack: StackT,
    registers: SigContext,
}

#[repr(C)]
struct HostSiginfo {
    signo: i32,
    errno: i32,
    code: i32,
    pad: i32,
    addr: u64,
    /// SIGSYS: number and architecture.
    syscall: i32,
    arch: u32,
}

/// Installs the handlers. Called once, before the filter.
///
/// # Safety
/// Only at boot: rt_sigaction is not among the allowed host calls later.
pub(crate) unsafe fn install() {
    for signal in [SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS, INTERRUPT_SIGNAL as i32] {
        let action = KernelSigaction {
            handler: on_signal as *const () as u64,
            flags: SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
            restorer: entry::sigreturn_address(),
            mask: u64::MAX,
        };
        // SAFETY: rt_sigaction(2) with a valid action.
        unsafe { raw(13, [signal as u64, &raw const action as u64, 0, 8, 0, 0]) };
    }
    // A closed stream of the caller's answers EPIPE; the kernel sends the guest its SIGPIPE itself.
    let ignore = KernelSigaction { handler: 1, flags: SA_RESTORER, restorer: entry::sigreturn_address(), mask: 0 };
    // SAFETY: rt_sigaction(2) with a valid action.
    unsafe { raw(13, [SIGPIPE, &raw const ignore as u64, 0, 8, 0, 0]) };
}

/// Gives the calling thread its own signal stack.
pub(crate) fn set_signal_stack(cpu: &Cpu) {
    let (sp, size) = (cpu.this.get() - SIGNAL_STACK_LEN, SIGNAL_STACK_LEN);
    let stack = StackT { sp, flags: SS_AUTODISARM, pad: 0, size };
    // SAFETY: the stack is part of the thread's own area.
    unsafe { raw(nr::SIGALTSTACK, [&raw const stack as u64, 0, 0, 0, 0, 0]) };
}

extern "C" fn on_signal(signal: i32, info: &HostSiginfo, context: &mut HostContext) {
    // Sent from outside, not raised by what the thread did.
    if info.code <= 0 && signal != INTERRUPT_SIGNAL as i32 {
        return;
    }
    end_alignment_checks();
    let area = stack::area_of(core::ptr::from_ref(context) as u64);
    // SAFETY: handlers run on the signal stack (or, nested, the LibOS stack) inside the thread's area.
    let cpu = unsafe { &*((area + stack::BLOCK) as *const Cpu) };
    let context = &mut context.registers;
    let in_libos = is_libos(cpu, context);
    if signal == SIGILL && in_libos && on_cpuid(cpu, context) {
        return;
    }
    if !in_libos || entry::is_bad_gs(context.rip) {
        note_guest_gs(cpu);
    }
    if signal == SIGSYS {
        redirect_call(cpu, info, context, in_libos);
    } else if signal == INTERRUPT_SIGNAL as i32 {
        on_interrupt(cpu, context, in_libos);
    } else {
        on_fault(cpu, signal, info, context, in_libos);
    }
}

/// The host clears the direction flag for a handler, and leaves this one.
fn end_alignment_checks() {
    #[cfg(target_os = "none")]
    // SAFETY: our code has no use for the flag.
    unsafe {
        core::arch::asm!("pushfq", "and dword ptr [rsp], {}", "popfq", const !(ALIGNMENT_FLAG as i32));
    }
}

/// The entry for `cpuid` trapped on purpose; false where it was not that.
fn on_cpuid(cpu: &Cpu, context: &mut SigContext) -> bool {
    let registers = cpuid::Registers {
        rax: &mut context.rax,
        rbx: &mut context.rbx,
        rcx: &mut context.rcx,
        rdx: &mut context.rdx,
        rip: &mut context.rip,
        rflags: &mut context.rflags,
    };
    match cpuid::on_trap(cpu, registers) {
        cpuid::Trap::None => false,
        cpuid::Trap::Answered => true,
        cpuid::Trap::Interrupted => {
            note_guest_gs(cpu);
            send_event(cpu, context, Fault::default());
            true
        }
    }
}

/// Whether the thread was in LibOS code, or in the vDSO on the LibOS's behalf.
fn is_libos(cpu: &Cpu, context: &SigContext) -> bool {
    crate::boot::is_text(context.rip) || stack::area_of(context.rsp) == stack::area_of(cpu.this.get())
}

/// Notes what the guest made of GS, and sets ours.
fn note_guest_gs(cpu: &Cpu) {
    let gs: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("rdgsbase {}", out(reg) gs, options(nomem, nostack)) };
    if gs != cpu.this.get() {
        cpu.guest_gs.set(gs);
        cpu.gs_foreign.set(1);
        set_our_gs(cpu);
    }
}

fn set_our_gs(cpu: &Cpu) {
    // SAFETY: GS is the LibOS's pointer to the area.
    unsafe { core::arch::asm!("wrgsbase {}", in(reg) cpu.this.get(), options(nomem, nostack)) };
}

/// A call outside of the LibOS text: make it a jump.
fn redirect_call(cpu: &Cpu, info: &HostSiginfo, context: &mut SigContext, in_libos: bool) {
    if in_libos {
        // The filter refused a call of ours by trap: the vDSO's fallback, or a bug. Answer ENOSYS.
        context.rax = (-38_i64).cast_unsigned();
        return;
    }
    cpu.signalled.set(TRAPPED);
    context.rax = u64::from(info.syscall.cast_unsigned());
    context.rcx = context.rip;
    context.r11 = context.rflags;
    context.rip = entry::trapped_entry_address();
    hide_steps(cpu, context);
}

/// The LibOS does not run in single steps; the guest goes on so afterwards.
fn hide_steps(cpu: &Cpu, context: &mut SigContext) {
    if context.rflags & TRAP_FLAG != 0 {
        context.rflags &= !TRAP_FLAG;
        cpu.signalled.set(cpu.signalled.get() | STEPPED);
    }
}

fn on_interrupt(cpu: &Cpu, context: &mut SigContext, in_libos: bool) {
    if !in_libos {
        send_event(cpu, context, Fault::default());
        return;
    }
    if cpuid::on_interrupt(cpu, context.rip, &mut context.rdx) {
        return;
    }
    if let Some(way) = entry::answering(context.rip) {
        set_our_gs(cpu);
        context.rcx = return_address(cpu);
        match way {
            Answering::Begun => context.rip = entry::trapped_entry_address(),
            Answering::Given => {
                context.rip = context.rcx;
                context.r11 = context.rflags;
                send_event(cpu, context, Fault::default());
            }
        }
    } else if let Some(rip) = entry::exit_restart(context.rip) {
        set_our_gs(cpu);
        context.rip = rip;
        context.rsp = cpu.stack_top.get();
        context.rflags &= !GUEST_FLAGS;
    } else if let Some(rip) = entry::sleep_abort(context.rip) {
        context.rip = rip;
    }
}

fn on_fault(cpu: &Cpu, signal: i32, info: &HostSiginfo, context: &mut SigContext, in_libos: bool) {
    let fault = Fault {
        signal,
        code: info.code,
        address: info.addr,
        trapno: context.trapno,
        error: context.err,
        cr2: context.cr2,
    };
    if !in_libos {
        send_event(cpu, context, fault);
    } else if signal == SIGTRAP && context.rflags & TRAP_FLAG != 0 {
        // The guest steps into the LibOS; through the entry for `cpuid`, which keeps the flags, it steps on.
        if context.rip == entry::syscall_entry_address() {
            hide_steps(cpu, context);
            context.rip = entry::trapped_entry_address();
        }
    } else if entry::is_bad_gs(context.rip) {
        context.rip = entry::syscall_entry_address();
    } else if let Some(rip) = entry::fault_fixup(context.rip) {
        context.rip = rip;
    } else if matches!(entry::answering(context.rip), Some(Answering::Given)) {
        // To a non-canonical address, as below.
        set_our_gs(cpu);
        context.rip = return_address(cpu);
        send_event(cpu, context, fault);
    } else if entry::exit_restart(context.rip).is_some() {
        // To a non-canonical address: the guest's fault.
        set_our_gs(cpu);
        if entry::is_leaf_exit(context.rip) {
            // Nothing but its last instruction faults, and there the registers are the guest's.
            context.rip = context.rcx;
            send_event(cpu, context, fault);
            return;
        }
        cpu.fault.set(fault);
        context.rip = entry::event_entry_address();
        context.rsp = cpu.stack_top.get();
        context.rflags &= !GUEST_FLAGS;
    } else {
        crate::boot::die(cpu, &fault, context.rip);
    }
}

/// Where the call returns that a word answers.
fn return_address(cpu: &Cpu) -> u64 {
    // SAFETY: the thread's own, which stands in its entry.
    unsafe { (*cpu.frame.get()).rip }
}

/// Direction, trap and alignment-check flags are the guest's, not ours.
const GUEST_FLAGS: u64 = DIRECTION_FLAG | TRAP_FLAG | ALIGNMENT_FLAG;

/// Saves the guest's registers and sends the thread into the LibOS.
fn send_event(cpu: &Cpu, context: &mut SigContext, fault: Fault) {
    // SAFETY: the thread was in guest code, so nobody uses the frame.
    unsafe { *cpu.frame.get() = TrapFrame::from(&*context) };
    cpu.fault.set(fault);
    cpu.exit_kind.set(EXIT_FULL);
    context.rip = entry::event_entry_address();
    context.rsp = cpu.stack_top.get();
    context.rflags &= !GUEST_FLAGS;
}
