//! When the I/O loop of a connection last ran. An arbiter that stood still for long has lost its connection
//! without knowing it: no heartbeat was sent, and nothing was read.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Shared by a connection and its channels.
#[derive(Debug)]
pub(crate) struct IoClock {
    start: Instant,
    /// In milliseconds since the start.
    ran_at: AtomicU64,
    /// In milliseconds; the maximum stands for no limit.
    limit: AtomicU64,
}

impl IoClock {
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, ran_at: AtomicU64::new(0), limit: AtomicU64::new(u64::MAX) }
    }

    /// Sets how long the loop may stand still until its connection counts as lost.
    pub(crate) fn set_limit(&self, limit: Duration) {
        self.limit.store(millis(limit), Ordering::Relaxed);
    }

    pub(crate) fn ran(&self, now: Instant) {
        self.ran_at.store(self.since_start(now), Ordering::Relaxed);
    }

    /// Returns whether the loop has not run for longer than the limit.
    pub(crate) fn stands_still(&self, now: Instant) -> bool {
        let idle = self.since_start(now).saturating_sub(self.ran_at.load(Ordering::Relaxed));
        idle > self.limit.load(Ordering::Relaxed)
    }

    fn since_start(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.start))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_loop_stands_still_when_it_has_not_run_for_longer_than_the_limit() {
        let start = Instant::now();
        let clock = IoClock::new(start);
        assert!(!clock.stands_still(start + 1000 * SECOND), "without heartbeats there is no limit");
        clock.set_limit(3 * SECOND);
        clock.ran(start + 10 * SECOND);
        assert!(!clock.stands_still(start + 13 * SECOND));
        assert!(clock.stands_still(start + 13 * SECOND + Duration::from_millis(1)));
        assert!(!clock.stands_still(start));
    }
}
