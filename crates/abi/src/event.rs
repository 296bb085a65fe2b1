//! Events: datagrams from the reaper and the supervisor on `EVENT_FD`, read by the service process.

use crate::config::Winsize;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Largest event datagram in bytes.
pub const MAX_EVENT: usize = 4096;

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Host processes of the container ended: (pid in the container's host pid namespace, wait status).
    Died(Vec<(i32, i32)>),
    /// The caller's terminal changed its size.
    Resized(Winsize),
    /// A signal for the first guest process, as `kill` from outside would send it.
    Signal(i32),
    /// The front end has gone: hang the terminal up.
    Hangup,
    /// Stop every thread at its entry frame; answered by `Request::Quiesced`.
    Quiesce,
    /// Let them go on.
    Resume,
}
