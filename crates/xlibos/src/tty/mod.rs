//! Terminals. The front end owns the caller's terminal; the LibOS's own tty is not there yet.

use crate::fs::File;
use crate::{Errno, Result, Task};
use abi::config::Winsize;
use alloc::sync::Arc;

/// The container's console as a file.
///
/// # Errors
/// ENXIO: there is no console yet.
pub fn open_console(_task: &Task) -> Result<Arc<File>> {
    Err(Errno::ENXIO)
}

/// The caller's terminal changed its size.
pub fn console_resized(_size: Winsize) {}

/// The caller's terminal has gone.
pub fn console_hung_up() {}
