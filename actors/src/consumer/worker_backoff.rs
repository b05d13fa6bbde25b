//! How long to wait before a worker that has stopped is built again. A plain machine.

use std::time::Duration;

use tokio::time::Instant;

/// The first wait; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(10);
/// After a worker has run this long, the waits start again with the first.
const SOUND_AFTER: Duration = Duration::from_secs(30);

/// The waits before a worker that has stopped is built again: 100 milliseconds, doubled up to 10 seconds, and short
/// again after a worker that ran for 30 seconds.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use actix_pika_actors::facade::WorkerBackoff;
/// # use tokio::time::Instant;
/// let now = Instant::now();
/// let mut backoff = WorkerBackoff::new(now);
/// assert_eq!(backoff.worker_stopped(now, 0.0), Duration::from_millis(100));
/// assert_eq!(backoff.worker_stopped(now, 0.0), Duration::from_millis(200));
/// ```
#[derive(Debug)]
pub struct WorkerBackoff {
    next_wait: Duration,
    built_at: Instant,
}

impl WorkerBackoff {
    /// Creates the back-off of a worker that is built now.
    pub fn new(now: Instant) -> Self {
        Self { next_wait: FIRST_WAIT, built_at: now }
    }

    /// Notes that a worker was built.
    pub fn worker_built(&mut self, now: Instant) {
        self.built_at = now;
    }

    /// Returns the wait before the next worker. `random`, from 0 to 1, shortens it by up to a half, so that
    /// workers that stopped together do not come back together.
    pub fn worker_stopped(&mut self, now: Instant, random: f64) -> Duration {
        if now.saturating_duration_since(self.built_at) >= SOUND_AFTER {
            self.next_wait = FIRST_WAIT;
        }
        let wait = self.next_wait;
        self.next_wait = (wait * 2).min(MAX_WAIT);
        wait.mul_f64(1.0 - random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum() {
        let now = Instant::now();
        let mut backoff = WorkerBackoff::new(now);
        let waits: Vec<_> = (0..9).map(|_| backoff.worker_stopped(now, 0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn waits_are_shortened_at_random_by_up_to_a_half() {
        let now = Instant::now();
        assert_eq!(WorkerBackoff::new(now).worker_stopped(now, 1.0), FIRST_WAIT / 2);
        assert_eq!(WorkerBackoff::new(now).worker_stopped(now, 0.5), FIRST_WAIT * 3 / 4);
    }

    #[test]
    fn a_worker_that_ran_long_starts_the_waits_again() {
        let mut now = Instant::now();
        let mut backoff = WorkerBackoff::new(now);
        for _ in 0..9 {
            backoff.worker_stopped(now, 0.0);
        }
        backoff.worker_built(now);
        now += SOUND_AFTER - Duration::from_millis(1);
        assert_eq!(backoff.worker_stopped(now, 0.0), MAX_WAIT);
        now += Duration::from_millis(1);
        assert_eq!(backoff.worker_stopped(now, 0.0), FIRST_WAIT);
    }
}
