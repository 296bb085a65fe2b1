//! Many containers that run at once: whether the last starts as fast as the first.

use super::alive::Alive;
use super::rows::Crowd;
use super::run::Sample;
use super::runtime::{Job, Runtime};
use super::site::Site;
use anyhow::{Context as _, Result, anyhow};
use std::time::{Duration, Instant};

const CONTAINERS: usize = 100;
/// How many of the first and of the last are compared.
const COMPARED: usize = 10;

/// Starts all, lets them live until the last is ready, and gives the last ones' time to be ready by the first ones'.
///
/// # Errors
/// Where one does not start.
pub(super) fn once(site: &Site, crowd: Crowd, runtime: &Runtime) -> Result<Sample> {
    let job = Job::new(&["sh", "-c", "echo ready; exec sleep 1000"]);
    let start = || {
        let began = Instant::now();
        let alive = Alive::start(site, runtime, &job, "ready")?;
        Ok((alive, began.elapsed()))
    };
    let all: Vec<(Alive, Duration)> = match crowd {
        Crowd::InTurn => (0..CONTAINERS).map(|_| start()).collect::<Result<_>>()?,
        Crowd::AtOnce => at_once(start)?,
    };
    let times: Vec<f64> = all.iter().map(|(_, time)| time.as_secs_f64()).collect();
    Ok(Sample { value: last_by_first(&times).context("too few containers")?, cpu_ns: None })
}

fn at_once<T: Send>(start: impl Fn() -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONTAINERS).map(|_| scope.spawn(&start)).collect();
        let ends = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        ends.collect()
    })
}

fn last_by_first(times: &[f64]) -> Option<f64> {
    let median = |some: &[f64]| {
        let mut sorted = some.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    };
    Some(median(times.last_chunk::<COMPARED>()?)? / median(times.first_chunk::<COMPARED>()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_are_compared_with_the_first_ten() {
        let times: Vec<f64> = (0..100).map(|n| if n < 90 { 2.0 } else { 3.0 }).collect();
        assert_eq!(last_by_first(&times), Some(1.5));
        assert_eq!(last_by_first(&[1.0]), None);
    }
}
