//! Registers of a tracee that stands, in the layouts of `struct user_regs_struct` and of the XSAVE area.

use super::super::Task;
use crate::{Errno, Result};
use machine::TrapFrame;
use machine::xstate::{self, Area};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of the old floating-point state: `struct user_fpregs_struct`.
pub const OLD_STATE: usize = 512;
/// Where Linux tells, in the XSAVE area, which components there are.
const COMPONENTS_AT: usize = 464;
/// XSTATE_BV, and what is reserved behind it.
const HEADER_AT: usize = 512;
const HEADER_LEN: usize = 64;
/// x87 and SSE.
const OLD_COMPONENTS: u8 = 3;
const USER_CODE: u64 = 0x33;
const USER_DATA: u64 = 0x2b;
/// Flags that a tracer may set, the trap flag among them; interrupts stay on.
const FLAGS: u64 = 0x4_0dd5 | 0x1_0000;
const ALWAYS_SET: u64 = 0x202;

/// `struct user_regs_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[expect(missing_docs, reason = "registers have their own names")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl Registers {
    /// The calling thread's, with the guest's own addresses in place of those of stubs.
    pub(super) fn of_thread(task: &Task) -> Registers {
        let frame = crate::signal::deliver::as_guest_sees(task, machine::cpu::current().frame());
        Registers {
            r15: frame.r15,
            r14: frame.r14,
            r13: frame.r13,
            r12: frame.r12,
            rbp: frame.rbp,
            rbx: frame.rbx,
            r11: frame.r11,
            r10: frame.r10,
            r9: frame.r9,
            r8: frame.r8,
            rax: frame.rax,
            rcx: frame.rcx,
            rdx: frame.rdx,
            rsi: frame.rsi,
            rdi: frame.rdi,
            orig_rax: frame.orig_rax,
            rip: frame.rip,
            cs: USER_CODE,
            eflags: frame.rflags,
            rsp: frame.rsp,
            ss: USER_DATA,
            fs_base: machine::process::fs_base(),
            gs_base: machine::process::guest_gs(),
            ..Registers::default()
        }
    }

    /// Gives them to the calling thread, which had `before`.
    pub(super) fn load(&self, task: &Task, before: &Registers) {
        let cpu = machine::cpu::current();
        let old = *cpu.frame();
        let rip = if self.rip == before.rip { old.rip } else { task.mm().resume_pc(self.rip) };
        cpu.set_frame(&TrapFrame {
            r15: self.r15,
            r14: self.r14,
            r13: self.r13,
            r12: self.r12,
            rbp: self.rbp,
            rbx: self.rbx,
            r11: self.r11,
            r10: self.r10,
            r9: self.r9,
            r8: self.r8,
            rax: self.rax,
            rcx: if self.rcx == before.rcx { old.rcx } else { self.rcx },
            rdx: self.rdx,
            rsi: self.rsi,
            rdi: self.rdi,
            orig_rax: self.orig_rax,
            rip,
            rflags: self.eflags & FLAGS | ALWAYS_SET,
            rsp: self.rsp,
        });
        if self.fs_base != before.fs_base {
            machine::process::set_fs_base(self.fs_base);
        }
        if self.gs_base != before.gs_base {
            machine::process::set_guest_gs(self.gs_base);
        }
    }

    /// # Errors
    /// EIO for selectors and bases that no user code can have.
    fn check(&self) -> Result<()> {
        let may_be_base = |base: u64| base < crate::mm::USER_END;
        let is_user = self.cs == USER_CODE && self.ss == USER_DATA;
        if is_user && may_be_base(self.fs_base) && may_be_base(self.gs_base) { Ok(()) } else { Err(Errno::EIO) }
    }
}

/// All registers of a tracee that stands.
#[derive(Default)]
pub struct State {
    general: Registers,
    extended: Area,
    is_changed: bool,
    is_extended_changed: bool,
}

impl State {
    /// The calling thread's.
    pub(super) fn of_thread(task: &Task) -> State {
        let mut extended = Area::of_thread();
        let mask = xstate::mask().to_le_bytes();
        extended.bytes_mut().iter_mut().skip(COMPONENTS_AT).zip(mask).for_each(|(to, from)| *to = from);
        State { general: Registers::of_thread(task), extended, is_changed: false, is_extended_changed: false }
    }

    /// Gives what was changed to the calling thread, which had `before`. Whether general ones were.
    pub(super) fn load(&self, task: &Task, before: &Registers) -> bool {
        if self.is_changed {
            self.general.load(task, before);
        }
        if self.is_extended_changed {
            // What the processor refuses was refused when it was set.
            let _ = self.extended.load();
        }
        self.is_changed
    }

    /// The general ones.
    #[must_use]
    pub fn general(&self) -> &Registers {
        &self.general
    }

    /// Shows another result of the call, without a change of the thread's.
    pub(super) fn show_result(&mut self, rax: u64) {
        self.general.rax = rax;
    }

    /// Shows flags without the tracer's own single steps.
    pub(super) fn hide_steps(&mut self) {
        self.general.eflags &= !super::TRAP_FLAG;
    }

    /// Replaces the general ones.
    ///
    /// # Errors
    /// EIO.
    pub fn set_general(&mut self, registers: Registers) -> Result<()> {
        registers.check()?;
        self.is_changed |= self.general != registers;
        self.general = registers;
        Ok(())
    }

    /// The XSAVE area.
    #[must_use]
    pub fn extended(&self) -> &[u8] {
        self.extended.bytes()
    }

    /// Replaces the extended state.
    ///
    /// # Errors
    /// EFAULT for another length, EINVAL for what is no such state.
    pub fn set_extended(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() < self.extended.bytes().len() {
            return Err(Errno::EFAULT);
        }
        check_extended(bytes)?;
        self.is_extended_changed = true;
        self.extended.bytes_mut().iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    /// Replaces x87 and SSE.
    ///
    /// # Errors
    /// EFAULT for fewer bytes, EINVAL.
    pub fn set_old(&mut self, bytes: &[u8]) -> Result<()> {
        let old = bytes.get(..OLD_STATE).ok_or(Errno::EFAULT)?;
        let mut all = self.extended.bytes().to_vec();
        all.iter_mut().zip(old).for_each(|(to, from)| *to = *from);
        if let Some(components) = all.get_mut(HEADER_AT) {
            *components |= OLD_COMPONENTS;
        }
        self.set_extended(&all)
    }
}

/// What XRSTOR would refuse.
fn check_extended(bytes: &[u8]) -> Result<()> {
    let word =
        |at: usize| bytes.get(at..at + 8).map(|word| word.iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b)));
    let components = word(HEADER_AT).ok_or(Errno::EFAULT)?;
    let rest = bytes.get(HEADER_AT + 8..HEADER_AT + HEADER_LEN).ok_or(Errno::EFAULT)?;
    let mxcsr = word(24).unwrap_or(0) & u64::from(u32::MAX);
    let is_known = components & !xstate::mask() == 0 && rest.iter().all(|byte| *byte == 0);
    if is_known && mxcsr & !0xffff == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}
