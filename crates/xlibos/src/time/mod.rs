//! Time: timers that the service process runs.

pub mod timer;
