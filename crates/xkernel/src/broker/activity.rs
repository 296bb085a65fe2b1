//! Whether a container asks for anything: while it does not, its supervisor gives memory back.

use std::sync::atomic::{AtomicU8, Ordering};

const BUSY: u8 = 0;
/// Nothing was asked since the supervisor looked.
const QUIET: u8 = 1;
/// The supervisor rests, and wants to know of the next request.
const RESTING: u8 = 2;

/// Changed by broker threads and by the supervisor that looks from time to time.
#[derive(Debug, Default)]
pub(super) struct Activity(AtomicU8);

impl Activity {
    /// A request came; true where it ended a rest.
    pub(super) fn note(&self) -> bool {
        self.0.load(Ordering::Relaxed) != BUSY && self.0.swap(BUSY, Ordering::Relaxed) == RESTING
    }

    /// Begins a rest where nothing was asked since the last look.
    pub(super) fn rest(&self) -> bool {
        let next = |state| Some(if state == BUSY { QUIET } else { RESTING });
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) != Ok(BUSY)
    }
}

#[cfg(test)]
mod tests {
    use super::Activity;

    #[test]
    fn a_rest_begins_at_the_second_look_and_ends_with_a_request() {
        let activity = Activity::default();
        assert!(!activity.rest());
        assert!(activity.rest());
        assert!(activity.note());
        assert!(!activity.note());
        assert!(!activity.rest());
        assert!(!activity.note());
        assert!(!activity.rest());
    }
}
