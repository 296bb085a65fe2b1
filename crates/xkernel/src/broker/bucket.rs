//! A token bucket: a flood of requests slows its container down instead of the host.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tokens that refill at a fixed rate, at most one second's worth.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(rate: u32) -> Self {
        let rate = rate.max(1);
        let state = State { tokens: f64::from(rate), filled: Instant::now() };
        Self { rate, state: Mutex::new(state) }
    }

    /// Takes one token; sleeps first where there is none.
    pub(super) fn take(&self) {
        if let Some(delay) = self.take_at(Instant::now()) {
            std::thread::sleep(delay);
        }
    }

    /// Takes one token and says how long its taker has to wait for it.
    fn take_at(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = f64::from(self.rate);
        let refill = now.saturating_duration_since(state.filled).as_secs_f64() * rate;
        state.tokens = (state.tokens + refill).min(rate) - 1.0;
        state.filled = now;
        (state.tokens < 0.0).then(|| Duration::from_secs_f64(-state.tokens / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_waits() {
        let bucket = Bucket::new(10);
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(bucket.take_at(start), None);
        }
        let delay = bucket.take_at(start).unwrap_or_default();
        assert!(delay > Duration::from_millis(99) && delay < Duration::from_millis(101));
    }

    #[test]
    fn tokens_come_back_with_time() {
        let bucket = Bucket::new(10);
        let start = Instant::now();
        for _ in 0..10 {
            bucket.take_at(start);
        }
        assert_eq!(bucket.take_at(start + Duration::from_millis(150)), None);
    }
}
