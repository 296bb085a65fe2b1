//! What is known of a thread's calls: how many there were, and how the one that is being served came in.

use crate::cpu::{Cpu, STEPPED, TRAP_FLAG, TRAPPED};
use crate::frame::TrapFrame;

/// Calls that a thread made.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// All.
    pub calls: u64,
    /// Those that came by a trap.
    pub traps: u64,
    /// Those that needed no host call.
    pub without_host_call: u64,
}

impl Cpu {
    /// Counts the call that ends now; `host_calls_before` is the total at its beginning.
    #[inline]
    pub fn count_call(&self, host_calls_before: u64) {
        let mut counts = self.counts.get();
        counts.calls += 1;
        counts.traps += u64::from(self.signalled.get() & TRAPPED);
        counts.without_host_call += u64::from(self.host_call_total.get() == host_calls_before);
        self.counts.set(counts);
    }

    /// The call ends: the next one's entry is looked at anew.
    #[inline]
    pub fn forget_signal(&self) {
        if self.is_signalled() {
            self.signalled.set(0);
        }
    }

    /// Whether the call that is being served came by a trap.
    #[must_use]
    pub fn is_trapped(&self) -> bool {
        self.signalled.get() & TRAPPED != 0
    }

    /// Whether a host signal took part in the entry of the call that is being served.
    #[must_use]
    #[inline]
    pub fn is_signalled(&self) -> bool {
        self.signalled.get() != 0
    }

    /// A guest that runs in single steps goes on so: its flag was taken away on the way in.
    pub fn keep_steps(&self) {
        let signalled = self.signalled.get();
        if signalled & STEPPED != 0 {
            self.signalled.set(signalled & !STEPPED);
            let frame = *self.frame();
            let (rflags, r11) = (frame.rflags | TRAP_FLAG, frame.r11 | TRAP_FLAG);
            self.set_frame(&TrapFrame { rflags, r11, ..frame });
        }
    }

    /// The counts since the last time.
    pub fn take_call_counts(&self) -> CallCounts {
        self.counts.take()
    }
}
