//! System calls: the table, and the handlers, one family a file.
//!
//! A handler parses nothing, logs nothing and maps no errno: decoding, tracing, restart and counting live in
//! dispatch ([`crate::kernel`]). Handlers check in the order in which Linux checks.

pub mod args;
mod attr;
mod control;
mod creds;
mod dir;
mod epoll;
mod event;
mod fcntl;
mod futex;
mod futex_pi;
mod inotify;
mod ipc;
mod kcmp;
mod message;
mod mm;
mod mount;
mod mqueue;
mod open;
mod pidfd;
mod pipe;
mod poll;
pub mod prctl;
mod process;
mod ptrace;
mod rlimit;
mod rw;
pub mod sched;
pub(crate) mod shortage;
mod signal;
mod socket;
mod stat;
mod sync;
pub mod system;
pub mod table;
mod time;
pub mod timeout;
mod timer;
mod timerfd;
pub mod trace;
mod usage;
mod xattr;

use crate::{Result, Task};
use machine::leaf::{AGAIN, Leaf};

/// How much of a call there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// All that its man page promises.
    Full,
    /// What is missing, in words.
    Partial(&'static str),
    /// Answers ENOSYS.
    Absent,
}

/// What happens to a call that was interrupted (its handler answered INTERRUPTED); signal(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Restart {
    /// Begins again whatever runs: the guest never sees that the call was interrupted.
    Untold = 1,
    /// Begins again after a handler with SA_RESTART, or where no handler runs; else EINTR.
    Always,
    /// Begins again only where no handler runs; else EINTR.
    NoHandler,
    /// EINTR.
    Never,
}

impl Restart {
    /// From its number; None for 0.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Restart> {
        let classes = [Restart::Untold, Restart::Always, Restart::NoHandler, Restart::Never];
        classes.into_iter().find(|class| *class as u8 == number)
    }
}

/// One row of the table.
pub struct Row {
    /// Number.
    pub number: u16,
    /// Name.
    pub name: &'static str,
    /// Names and types of the arguments, for tracing: `name: type;` each. One text, for each address in a constant is a
    /// relocation of every start.
    pub arguments: &'static str,
    /// Support.
    pub support: Support,
    /// Restart class.
    pub restart: Restart,
    /// Decodes the registers and calls the handler.
    pub handler: Option<Handler>,
    /// The same for the entry's short way, of a call that is a leaf.
    pub leaf: Option<Leaf>,
    /// What the entry does without a function.
    pub answer: Answer,
}

/// How the entry answers by itself: see [`machine::leaf::Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not at all.
    None,
    /// By one of the thread's words.
    Word,
    /// By a change of the thread's mask.
    Mask,
}

/// Decodes a call's registers and serves it.
pub type Handler = fn(&Task, &machine::TrapFrame) -> Result<u64>;

/// How the entry serves rows with `#[leaf]`, `#[attempt]`, `#[word]` and `#[mask]` in the table.
pub const LEAVES: machine::leaf::Table = leaves_by_number();

const fn leaves_by_number() -> machine::leaf::Table {
    let mut table = machine::leaf::Table { leaves: [None; NUMBERS], answers: [0; NUMBERS] };
    let (mut i, mut words) = (0, 0);
    while i < table::ROWS.len() {
        let row = &table::ROWS[i];
        table.leaves[row.number as usize] = row.leaf;
        table.answers[row.number as usize] = match row.answer {
            Answer::None => 0,
            Answer::Mask => machine::leaf::MASK,
            Answer::Word => {
                words += 1;
                words
            }
        };
        i += 1;
    }
    assert!(words as usize == machine::leaf::WORDS);
    table
}

/// How many numbers the table covers.
pub const NUMBERS: usize = machine::leaf::NUMBERS;

/// Rows by number; None for numbers that x86-64 does not have.
pub static TABLE: [Option<&'static Row>; NUMBERS] = by_number();

const fn by_number() -> [Option<&'static Row>; NUMBERS] {
    let mut table: [Option<&'static Row>; NUMBERS] = [None; NUMBERS];
    let mut i = 0;
    while i < table::ROWS.len() {
        table[table::ROWS[i].number as usize] = Some(&table::ROWS[i]);
        i += 1;
    }
    table
}

/// Serves a leaf from its registers. What it answers is no restart: it never sleeps.
#[inline]
fn serve_leaf(cpu: &'static machine::Cpu, serve: impl FnOnce(&Task, &machine::TrapFrame) -> Result<u64>) -> u64 {
    let served = cpu.task::<Task>().ok_or(crate::Errno::ENOSYS).and_then(|task| serve(task, cpu.frame()));
    served.unwrap_or_else(crate::Errno::as_return)
}

/// Attempts a call as a leaf: what would be a restart has it begin again with a whole frame.
#[inline]
fn attempt(cpu: &'static machine::Cpu, serve: impl FnOnce(&Task, &machine::TrapFrame) -> Result<u64>) -> u64 {
    let Some(task) = cpu.task::<Task>().filter(|_| !machine::heap::is_short()) else { return AGAIN };
    let served = cpu.attempt(|| serve(task, cpu.frame()));
    machine::epoch::settle();
    match crate::kernel::end_call(task, served) {
        Ok(value) => value,
        Err(errno) if errno.is_interruption() => AGAIN,
        Err(errno) => errno.as_return(),
    }
}

macro_rules! syscalls {
    ($($(#[$leaf:ident])? $number:literal $name:ident ( $($arg:ident : $ty:ty),* ) $(-> $ret:ty = $handler:path,)? $support:ident $(($missing:literal))? $(, $restart:expr)?;)*) => {
        /// Every row, in the order of the numbers.
        pub static ROWS: &[super::Row] = &[$(
            super::Row {
                number: $number,
                name: stringify!($name),
                arguments: concat!($(stringify!($arg), ": ", stringify!($ty), ";"),*),
                support: super::syscalls!(@support $support $($missing)?),
                restart: super::syscalls!(@restart $($restart)?),
                handler: super::syscalls!(@handler $name ($($arg: $ty),*) $($handler)?),
                leaf: super::syscalls!(@leaf $($leaf)? $name ($($arg: $ty),*) $($handler)?),
                answer: super::syscalls!(@answer $($leaf)?),
            },
        )*];
    };
    (@support $support:ident) => { super::Support::$support };
    (@support $support:ident $missing:literal) => { super::Support::$support($missing) };
    (@restart) => { Restart::Always };
    (@restart $restart:expr) => { $restart };
    (@handler $name:ident ($($arg:ident : $ty:ty),*)) => { None };
    (@handler $name:ident ($($arg:ident : $ty:ty),*) $handler:path) => {{
        // Not a closure: profiles and the order of the text know the row by its name.
        fn $name(task: &crate::Task, frame: &machine::TrapFrame) -> crate::Result<u64> {
            super::syscalls!(@call task, frame, $handler, $($arg: $ty),*)
        }
        Some($name)
    }};
    (@call $task:ident, $frame:ident, $handler:path, $($arg:ident : $ty:ty),*) => {{
        let mut _registers = $frame.arguments().into_iter();
        $(let $arg = <$ty as super::args::FromReg>::from_reg(_registers.next().unwrap_or(0))?;)*
        $handler($task $(, $arg)*).map(super::args::IntoReg::into_reg)
    }};
    (@answer word) => { super::Answer::Word };
    (@answer mask) => { super::Answer::Mask };
    (@answer $($leaf:ident)?) => { super::Answer::None };
    (@leaf word $name:ident () $handler:path) => { None };
    (@leaf $name:ident ($($arg:ident : $ty:ty),*) $($handler:path)?) => { None };
    (@leaf attempt $name:ident ($($arg:ident : $ty:ty),*) $handler:path) => {{
        extern "C" fn $name(cpu: &'static machine::Cpu) -> u64 {
            super::attempt(cpu, |task, frame| super::syscalls!(@call task, frame, $handler, $($arg: $ty),*))
        }
        Some($name)
    }};
    (@leaf mask $name:ident ($($arg:ident : $ty:ty),*) $handler:path) => {
        super::syscalls!(@leaf leaf $name ($($arg: $ty),*) $handler)
    };
    (@leaf leaf $name:ident ($($arg:ident : $ty:ty),*) $handler:path) => {{
        extern "C" fn $name(cpu: &'static machine::Cpu) -> u64 {
            super::serve_leaf(cpu, |task, frame| super::syscalls!(@call task, frame, $handler, $($arg: $ty),*))
        }
        Some($name)
    }};
}
pub(crate) use syscalls;
