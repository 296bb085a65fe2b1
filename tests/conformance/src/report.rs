//! What a case says about itself: the pipe to the runner, and how a process of a case ends.

use crate::kit::{Case, Fail};
use crate::sys::{self, sys};
use core::sync::atomic::{AtomicI32, Ordering};
use std::panic::PanicHookInfo;

/// Exit status of a process of a case that failed.
pub(crate) const FAILED: i32 = 101;
/// Exit status of a case that cannot run here.
pub(crate) const SKIPPED: i32 = 102;

static PIPE: AtomicI32 = AtomicI32::new(-1);

/// From here on, failures of this process and its children go to this pipe.
pub(crate) fn to_pipe(fd: i32) {
    PIPE.store(fd, Ordering::Relaxed);
    std::panic::set_hook(Box::new(panicked));
}

fn panicked(info: &PanicHookInfo<'_>) {
    let text = info.payload_as_str().unwrap_or("panicked").replace('\n', " ");
    let place = info.location().map_or(String::new(), |l| format!("{}:{}: ", l.file(), l.line()));
    write(&format!("{place}{text}"));
    sys::process::exit(FAILED);
}

fn write(message: &str) {
    let line = format!("{message}\n");
    // Nobody is left to tell when this fails; the exit status still says that the case failed.
    let _ = sys!(write, PIPE.load(Ordering::Relaxed), line.as_bytes(), line.len());
}

/// Ends a process of a case with what it found.
pub(crate) fn finish(outcome: Case) -> ! {
    match outcome {
        Ok(()) => sys::process::exit(0),
        Err(Fail::Skip(reason)) => {
            write(&reason);
            sys::process::exit(SKIPPED)
        }
        Err(Fail::Broken(message)) => {
            write(&message);
            sys::process::exit(FAILED)
        }
    }
}
