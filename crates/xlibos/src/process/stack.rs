//! The initial stack of a program: strings, auxiliary vector, pointers, argc, as the x86-64 ABI lays them out.

use super::exec::{Plan, map_stack};
use super::limits;
use super::task::Task;
use crate::mm::Mm;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::guest;

/// Largest stack that is mapped; larger limits get this.
const MAX_STACK: u64 = 1 << 30;
/// Stack of a process without limit.
const DEFAULT_STACK: u64 = 8 << 20;

/// Writes strings downwards from the top.
struct Builder {
    at: u64,
}

impl Builder {
    fn push(&mut self, bytes: &[u8], align: u64) -> Result<u64> {
        self.at = self.at.wrapping_sub(bytes.len() as u64) & !(align - 1);
        guest::write(self.at, bytes)?;
        Ok(self.at)
    }

    fn push_string(&mut self, string: &[u8]) -> Result<u64> {
        let mut bytes = Vec::with_capacity(string.len() + 1);
        bytes.extend_from_slice(string);
        bytes.push(0);
        self.push(&bytes, 1)
    }
}

/// Maps and fills the stack; returns the stack pointer.
///
/// # Errors
/// ENOMEM; E2BIG where arguments and environment do not fit.
pub(super) fn build(task: &Task, mm: &Arc<Mm>, plan: &Plan, base: u64, interpreter_base: u64) -> Result<u64> {
    let limit = task.process.limits.get(limits::STACK).map_or(DEFAULT_STACK, |l| l.current);
    let len = if limit == limits::INFINITY { DEFAULT_STACK } else { limit.clamp(256 << 10, MAX_STACK) } & !4095;
    let strings: usize = plan.argv.iter().chain(&plan.env).map(|s| s.len() + 9).sum();
    if strings as u64 + 8192 > len {
        return Err(Errno::E2BIG);
    }
    let start = map_stack(mm, len, plan.elf().exec_stack)?;
    let mut builder = Builder { at: start + len - 8 - (crate::random::next_u64() & 0x1ff) * 16 };
    let filename = builder.push_string(plan.filename())?;
    let env_end = builder.at;
    let env = push_all(&mut builder, &plan.env)?;
    let arg_end = builder.at;
    let argv = push_all(&mut builder, &plan.argv)?;
    mm.set_argument_range((builder.at, arg_end), (arg_end, env_end));
    let platform = builder.push_string(b"x86_64")?;
    let mut seed = [0; 16];
    crate::random::fill(&mut seed);
    let random = builder.push(&seed, 16)?;
    let auxv = auxiliary(task, plan, base, interpreter_base, (filename, platform, random));
    mm.set_auxv(&auxv);
    let mut words = Vec::with_capacity(argv.len() + env.len() + auxv.len() * 2 + 4);
    words.push(argv.len() as u64);
    words.extend_from_slice(&argv);
    words.push(0);
    words.extend_from_slice(&env);
    words.push(0);
    words.extend(auxv.iter().flat_map(|&(key, value)| [key, value]));
    let rsp = builder.at.wrapping_sub(words.len() as u64 * 8) & !15;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    guest::write(rsp, &bytes)?;
    mm.set_stack_start(rsp);
    Ok(rsp)
}

/// Pushes strings so that the first lies lowest; returns their addresses in order.
fn push_all(builder: &mut Builder, strings: &[Vec<u8>]) -> Result<Vec<u64>> {
    let mut addresses = Vec::with_capacity(strings.len());
    for string in strings.iter().rev() {
        addresses.push(builder.push_string(string)?);
    }
    addresses.reverse();
    Ok(addresses)
}

/// getauxval(3).
fn auxiliary(task: &Task, plan: &Plan, base: u64, interpreter_base: u64, strings: (u64, u64, u64)) -> Vec<(u64, u64)> {
    let elf = plan.elf();
    let creds = task.creds();
    let (filename, platform, random) = strings;
    let headers = if elf.headers == 0 { 0 } else { base.wrapping_add(elf.headers) };
    let mut auxv = Vec::with_capacity(24);
    let vdso = crate::kernel::vdso();
    if vdso != 0 {
        auxv.push((33, vdso));
    }
    auxv.extend_from_slice(&[
        (51, machine::xstate::size() + 2048),
        (16, machine::xstate::hwcap()),
        (6, 4096),
        (17, 100),
        (3, headers),
        (4, super::elf::PHENT),
        (5, elf.header_count),
        (7, interpreter_base),
        (8, 0),
        (9, base.wrapping_add(elf.entry)),
        (11, creds.uid.into()),
        (12, creds.euid.into()),
        (13, creds.gid.into()),
        (14, creds.egid.into()),
        (23, creds.is_secure().into()),
        (25, random),
        (26, 2),
        (31, filename),
        (15, platform),
        (0, 0),
    ]);
    auxv
}
