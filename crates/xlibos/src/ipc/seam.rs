//! Placeholders for what the signal code provides; removed when it lands.

use crate::{Result, Task};

/// As `crate::signal::raise`.
pub fn raise(_task: &Task, _signal: i32) {}

/// As `crate::signal::with_mask`.
///
/// # Errors
/// The call's.
pub fn with_mask<T>(_task: &Task, _mask: Option<crate::signal::SigSet>, call: impl FnOnce() -> Result<T>) -> Result<T> {
    call()
}
