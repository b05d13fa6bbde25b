//! The slow-consumer watchdog: what happens while reading is paused because consumers hold too many bytes.
//!
//! After a quarter of the limit it warns. At the limit it has the consumer that holds most cancelled; while
//! reading stays paused, another one every twentieth of the limit.
//!
//! A plain machine: the I/O loop holds the timer and calls [`expire`](SlowConsumerWatchdog::expire) with the
//! time.

use std::time::Duration;

use tokio::time::Instant;

/// What to do when the timer of the watchdog is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchdogAction {
    Warn,
    CancelSlowestConsumer,
}

/// Counts from the moment at which reading was paused; dropped when reading resumes.
#[derive(Debug)]
pub(super) struct SlowConsumerWatchdog {
    limit: Duration,
    due: Instant,
    warned: bool,
}

impl SlowConsumerWatchdog {
    pub(super) fn start(now: Instant, limit: Duration) -> Self {
        Self { limit, due: now + limit / 4, warned: false }
    }

    /// Returns when to call [`expire`](Self::expire).
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Returns what to do now, at the time [`due`](Self::due).
    pub(super) fn expire(&mut self, now: Instant) -> WatchdogAction {
        let (action, wait) = if self.warned {
            (WatchdogAction::CancelSlowestConsumer, self.limit / 20)
        } else {
            (WatchdogAction::Warn, self.limit - self.limit / 4)
        };
        self.warned = true;
        self.due = now + wait.max(Duration::from_millis(1));
        action
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_once_and_then_cancels_one_consumer_after_the_other() {
        let start = Instant::now();
        let mut watchdog = SlowConsumerWatchdog::start(start, Duration::from_secs(20));
        let mut actions = Vec::new();
        for _ in 0..4 {
            let now = watchdog.due();
            actions.push(((now - start).as_secs(), watchdog.expire(now)));
        }
        let cancel = WatchdogAction::CancelSlowestConsumer;
        assert_eq!(actions, [(5, WatchdogAction::Warn), (20, cancel), (21, cancel), (22, cancel)]);
    }

    #[test]
    fn a_limit_of_0_does_not_spin() {
        let start = Instant::now();
        let mut watchdog = SlowConsumerWatchdog::start(start, Duration::ZERO);
        assert_eq!(watchdog.due(), start);
        for _ in 0..3 {
            let now = watchdog.due();
            watchdog.expire(now);
            assert!(watchdog.due() > now);
        }
    }
}
