//! What comes with a signal: siginfo_t.

use super::{SI_KERNEL, SYNCHRONOUS};
use crate::process::Task;

/// What a signal carries: the fields of siginfo_t that its kind has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigInfo {
    /// Signal number.
    pub signal: i32,
    /// si_code.
    pub code: i32,
    /// si_pid, or the timer id.
    pub pid: i32,
    /// si_uid, or the overrun count.
    pub uid: u32,
    /// si_value, si_status, or si_addr.
    pub value: u64,
    /// Of a stop: how often the process had been continued when it was sent. A later SIGCONT cancels it.
    pub continues: u32,
}

impl SigInfo {
    /// A signal that the kernel sends by itself.
    #[must_use]
    pub fn kernel(signal: i32) -> SigInfo {
        SigInfo { signal, code: SI_KERNEL, ..SigInfo::default() }
    }

    /// A signal that a task sends.
    #[must_use]
    pub fn from_task(task: &Task, signal: i32, code: i32) -> SigInfo {
        SigInfo { signal, code, pid: task.process.pid, uid: task.real_uid(), ..SigInfo::default() }
    }

    /// Whether the fault form of siginfo_t is meant: si_addr.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        SYNCHRONOUS.has(self.signal) && self.code > 0 && self.code != SI_KERNEL
    }

    /// Whether the processor raised it, with an address or (general protection, breakpoint) without.
    #[must_use]
    pub fn is_trap(&self) -> bool {
        SYNCHRONOUS.has(self.signal) && self.code > 0
    }

    /// As the words of siginfo_t.
    #[must_use]
    pub fn to_words(&self) -> [u64; 16] {
        let mut words = [0; 16];
        let (first, second) = if self.is_fault() {
            (self.value, 0)
        } else {
            (u64::from(self.pid.cast_unsigned()) | u64::from(self.uid) << 32, self.value)
        };
        [words[0], words[1]] = [self.signal, self.code].map(|number| number.cast_unsigned().into());
        [words[2], words[3]] = [first, second];
        words
    }

    /// As the 128 bytes of siginfo_t.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 128] {
        zerocopy::transmute!(self.to_words())
    }

    /// From a guest's siginfo_t (rt_sigqueueinfo).
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 128]) -> SigInfo {
        let word = |at: usize| {
            let mut raw = [0_u8; 4];
            raw.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
            u32::from_le_bytes(raw)
        };
        SigInfo {
            signal: word(0).cast_signed(),
            code: word(8).cast_signed(),
            pid: word(16).cast_signed(),
            uid: word(20),
            value: u64::from(word(24)) | u64::from(word(28)) << 32,
            continues: 0,
        }
    }
}
