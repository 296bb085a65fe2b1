//! How far a run is, on a terminal; elsewhere nothing is drawn.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of so many steps, on standard error; it goes with the value.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(steps: u32) -> Progress {
        let bar = ProgressBar::new(u64::from(steps));
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}  {eta} left") {
            bar.set_style(style);
        }
        Progress(bar)
    }

    /// A step begins.
    pub(super) fn tell(&self, what: String) {
        self.0.set_message(what);
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
