//! What a task was told about itself and the kernel only keeps: scheduling, priorities, prctl(2).

use alloc::boxed::Box;
use machine::host::MASK_WORDS;
use machine::process::Kind;

/// A registration of restartable sequences: rseq(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rseq {
    /// Address of the area.
    pub area: u64,
    /// Its length.
    pub len: u32,
    /// Signature in front of abort handlers.
    pub signature: u32,
}

/// Settings of a task.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// SCHED_* policy.
    pub policy: u32,
    /// Priority of FIFO and RR, else 0.
    pub priority: u32,
    /// SCHED_RESET_ON_FORK.
    pub resets_on_fork: bool,
    /// sched_setaffinity(2); None for all processors.
    pub affinity: Option<Box<[u64; MASK_WORDS]>>,
    /// ioprio_set(2).
    pub io_priority: u32,
    /// PR_SET_TIMERSLACK, in nanoseconds.
    pub timer_slack_ns: u64,
    /// What PR_SET_TIMERSLACK with 0 goes back to: the creator's at the creation.
    pub default_timer_slack_ns: u64,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// Secure bits of capabilities(7); PR_SET_KEEPCAPS is one of them.
    pub secure_bits: u32,
    /// personality(2).
    pub personality: u32,
    /// It took a user's identity who has more processes than RLIMIT_NPROC: its next program is refused.
    pub is_over_limit: bool,
    /// rseq(2).
    pub rseq: Option<Rseq>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            nice: 0,
            policy: 0,
            priority: 0,
            resets_on_fork: false,
            affinity: None,
            io_priority: 0,
            timer_slack_ns: 50_000,
            default_timer_slack_ns: 50_000,
            no_new_privs: false,
            secure_bits: 0,
            personality: 0,
            is_over_limit: false,
            rseq: None,
        }
    }
}

impl Settings {
    /// Those of a new task that this one makes.
    #[must_use]
    pub fn for_child(&self, kind: Kind) -> Settings {
        let mut child = self.clone();
        child.default_timer_slack_ns = self.timer_slack_ns;
        child.is_over_limit = false;
        // The host forgets the registration wherever memory is shared with the parent.
        if kind != Kind::Fork {
            child.rseq = None;
        }
        if self.resets_on_fork {
            child.resets_on_fork = false;
            if self.policy == 1 || self.policy == 2 {
                child.policy = 0;
                child.priority = 0;
            }
            child.nice = self.nice.max(0);
        }
        child
    }

    /// PR_SET_TIMERSLACK, /proc/PID/timerslack_ns: 0 stands for what the task began with.
    pub fn set_timer_slack(&mut self, wanted_ns: u64) {
        self.timer_slack_ns = if wanted_ns == 0 { self.default_timer_slack_ns } else { wanted_ns };
    }

    /// exec: PR_SET_KEEPCAPS ends, the rest stays.
    pub fn reset_for_exec(&mut self) {
        const KEEP_CAPS: u32 = 1 << 4;
        self.secure_bits &= !KEEP_CAPS;
        self.rseq = None;
    }
}
