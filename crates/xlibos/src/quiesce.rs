//! Quiesce: every guest thread stands at its entry frame, and the service process does nothing.
//!
//! A thread stands right before it returns to guest code ([`stand`]); one that sleeps in a call is interrupted and leaves
//! the call, of which the task keeps what the call needs to go on as if nothing had happened: the absolute deadline and
//! the bytes that are done. The event thread, the only one that opens and closes the gates, looks in rounds whether all
//! stand, tells the supervisor, and then waits for [`Event::Resume`](abi::event::Event::Resume) alone.

use crate::process::{Task, spare};
use machine::Cpu;
use machine::sync::Gate;

/// Where guest threads stand.
static GUESTS: Gate = Gate::new();
/// Where the service process's main thread stands, once no guest can need it.
static SERVICE: Gate = Gate::new();

/// Milliseconds from one round to the next.
pub const ROUND_MS: i32 = 1;

/// From now on threads stand instead of returning to guest code.
pub fn begin() {
    GUESTS.close();
    // A spare host process has no guest that could stand.
    spare::retire_all();
}

/// Lets everybody go on.
pub fn end() {
    SERVICE.open();
    GUESTS.open();
}

/// Whether threads are asked to stand.
#[must_use]
pub fn is_asked() -> bool {
    GUESTS.is_closed()
}

/// Stands while that is asked; a thread that must end does not. What is pending must be looked at afterwards.
pub fn stand(task: &Task) {
    if GUESTS.is_closed() {
        GUESTS.pass(|| task.must_exit());
    }
}

/// The service process's main thread stands while that is asked.
pub fn stand_as_service() {
    if SERVICE.is_closed() {
        SERVICE.pass(|| false);
    }
}

/// One round: how many guest threads stand, once all do and the service process's `main` thread too. Who does not is told
/// again, since a call that changes the mask of signals may have taken the first mark for one of a signal's.
pub fn round(main: &Cpu, own: &Cpu) -> Option<u32> {
    let mut standing = 0;
    let mut all = true;
    for cpu in machine::cpu::occupied().filter(|cpu| !core::ptr::eq(*cpu, own)) {
        if GUESTS.has_at_it(cpu) {
            standing += 1;
        } else {
            cpu.kick();
            all = false;
        }
    }
    if !all {
        return None;
    }
    if !SERVICE.is_closed() {
        SERVICE.close();
        machine::sync::unpark(main);
    }
    SERVICE.has_at_it(main).then_some(standing)
}
