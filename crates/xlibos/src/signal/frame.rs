//! Signal frames in the layout of Linux's x86-64 `struct rt_sigframe`: return address, ucontext, siginfo, and
//! the extended state above.

use super::{Action, AltStack, SA_ONSTACK, SigInfo, SigSet};
use crate::process::Task;
use crate::{Errno, Result};
use core::mem::offset_of;
use machine::{SigContext, TrapFrame, guest, xstate};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;
const UC_FLAGS: u64 = 7;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
const RED_ZONE: u64 = 128;

/// `struct ucontext` with its `sigcontext`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
struct Context {
    flags: u64,
    link: u64,
    stack_sp: u64,
    stack_flags: u32,
    pad: u32,
    stack_size: u64,
    registers: SigContext,
    mask: u64,
}

/// What sigaltstack(2) says of a stack, given where the thread is on it.
#[must_use]
pub fn alt_stack_flags(stack: &AltStack, rsp: u64) -> u32 {
    if stack.size == 0 {
        SS_DISABLE
    } else if is_on_stack(stack, rsp) {
        SS_ONSTACK | (stack.flags & SS_AUTODISARM)
    } else {
        stack.flags & SS_AUTODISARM
    }
}

fn is_on_stack(stack: &AltStack, rsp: u64) -> bool {
    stack.flags & SS_AUTODISARM == 0 && holds(stack, rsp)
}

/// Whether a stack pointer is within a stack.
fn holds(stack: &AltStack, rsp: u64) -> bool {
    rsp > stack.sp && rsp - stack.sp <= stack.size
}

/// `struct rt_sigframe`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable)]
struct Frame {
    restorer: u64,
    context: Context,
    info: [u64; 16],
}

/// Where the parts of a frame lie.
struct Place {
    frame: u64,
    fpstate: u64,
}

impl Place {
    fn context(&self) -> u64 {
        self.frame + offset_of!(Frame, context) as u64
    }

    fn info(&self) -> u64 {
        self.frame + offset_of!(Frame, info) as u64
    }
}

/// Where a handler's frame goes: on the alternate stack, or below the red zone.
///
/// # Errors
/// EFAULT where the alternate stack would overflow: what lies below is not the stack's.
fn place(alt: &AltStack, rsp: u64, action: &Action) -> Result<Place> {
    let is_nested = is_on_stack(alt, rsp);
    let enters = action.flags & SA_ONSTACK != 0 && alt.size != 0 && !is_nested;
    let top = if enters { alt.sp.wrapping_add(alt.size) } else { rsp.wrapping_sub(RED_ZONE) };
    let fpstate = top.wrapping_sub(xstate::size() + 4) & !63;
    let frame = (fpstate.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
    if (enters || is_nested) && !holds(alt, frame) { Err(Errno::EFAULT) } else { Ok(Place { frame, fpstate }) }
}

/// Writes a frame for a handler; returns the registers with which the handler starts.
///
/// # Errors
/// EFAULT where the stack cannot be written, or the alternate one overflows.
pub fn push(task: &Task, registers: &TrapFrame, info: SigInfo, action: &Action, mask: SigSet) -> Result<TrapFrame> {
    let alt = task.signals.alt_stack();
    let place = place(&alt, registers.rsp, action)?;
    let context = context_of(registers, place.fpstate, mask, &alt);
    let mut frame = Frame { restorer: action.restorer, context, info: info.to_words() };
    if info.is_trap() {
        let fault = machine::cpu::current().fault();
        let told = &mut frame.context.registers;
        (told.err, told.trapno, told.cr2) = (fault.error, fault.trapno, fault.cr2);
    }
    let write = || write(&place, &frame);
    // The stack may be one that grows.
    write().or_else(|errno| if task.mm().grow(place.frame) { write() } else { Err(errno) })?;
    if alt.flags & SS_AUTODISARM != 0 {
        task.signals.set_alt_stack(AltStack::default());
    }
    Ok(TrapFrame {
        rdi: info.signal.unsigned_abs().into(),
        rsi: place.info(),
        rdx: place.context(),
        rsp: place.frame,
        rip: action.handler,
        rax: 0,
        // Direction, trap and resume flags are clear in a handler.
        rflags: registers.rflags & !0x1_0500,
        orig_rax: u64::MAX,
        ..*registers
    })
}

fn write(place: &Place, frame: &Frame) -> Result<()> {
    save_state(place.fpstate, xstate::size())?;
    guest::write_value(place.frame, frame)
}

#[inline]
fn context_of(registers: &TrapFrame, fpstate: u64, mask: SigSet, alt: &AltStack) -> Context {
    Context {
        flags: UC_FLAGS,
        stack_sp: alt.sp,
        stack_flags: alt_stack_flags(alt, registers.rsp),
        stack_size: alt.size,
        registers: SigContext { segments: [0x33, 0, 0, 0x2b], oldmask: mask.0, fpstate, ..registers.into() },
        mask: mask.0,
        ..Context::default()
    }
}

/// Saves the extended state with Linux's software bytes, so that runtimes find it.
fn save_state(addr: u64, len: u64) -> Result<()> {
    let mask = xstate::mask();
    xstate::save(addr, mask)?;
    let software = [u64::from(FP_XSTATE_MAGIC1) | (len + 4) << 32, mask, len, 0, 0, 0];
    guest::write_value(addr + 464, &software)?;
    guest::write_value(addr + len, &FP_XSTATE_MAGIC2)
}

/// rt_sigreturn(2): registers, mask, alternate stack and extended state from the frame at `rsp`.
///
/// # Errors
/// EFAULT for a frame that cannot be read or holds a state that the processor refuses.
pub fn pop(task: &Task, rsp: u64) -> Result<TrapFrame> {
    let context: Context = guest::read_value(rsp)?;
    if context.registers.fpstate != 0 {
        xstate::load(context.registers.fpstate, xstate::mask())?;
    }
    super::deliver::set_mask(task, SigSet(context.mask));
    if context.stack_flags & (SS_ONSTACK) == 0 || context.stack_flags & SS_AUTODISARM != 0 {
        let disabled = context.stack_flags & SS_DISABLE != 0;
        let size = if disabled { 0 } else { context.stack_size };
        let flags = context.stack_flags & SS_AUTODISARM;
        task.signals.set_alt_stack(AltStack { sp: context.stack_sp, flags, size });
    }
    let registers = &context.registers;
    Ok(TrapFrame {
        rip: if task.is_unmoved(registers.rip) { registers.rip } else { task.mm().resume_pc(registers.rip) },
        // Only flags that user code may set; interrupts stay on.
        rflags: registers.rflags & 0x4_0dd5 | 0x202,
        ..registers.into()
    })
}
