//! The back-off of one entity.

use std::time::Duration;

use tokio::time::Instant;

use crate::options::{Backoff, Recovery};

/// The pause after the first try that failed. It doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(in crate::supervisor) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long an entity must be in place before its back-off starts anew.
const STANDS: Duration = Duration::from_secs(5);

/// How often and how long an entity is tried. Without limits it is tried without end.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::supervisor) struct TryLimits {
    attempts: Option<u32>,
    within: Option<Duration>,
}

impl TryLimits {
    /// Returns whether that many tries since then are enough.
    pub(in crate::supervisor) fn are_reached(&self, tries: u32, since: Instant, now: Instant) -> bool {
        self.attempts.is_some_and(|attempts| tries >= attempts)
            || self.within.is_some_and(|within| now.saturating_duration_since(since) >= within)
    }

    pub(in crate::supervisor) fn of(recovery: Recovery) -> Self {
        match recovery {
            Recovery::After(Backoff { attempts, within, .. }) => Self { attempts, within },
            Recovery::Never => Self::default(),
        }
    }
}

/// The pauses before the tries of one entity. They go on growing when it is missing again shortly after it was
/// repaired.
#[derive(Clone, Copy, Debug)]
pub(in crate::supervisor) struct EntityBackoff {
    since: Instant,
    attempts: u32,
    pause: Duration,
}

impl EntityBackoff {
    pub(in crate::supervisor) fn new(now: Instant) -> Self {
        Self { since: now, attempts: 0, pause: FIRST_PAUSE }
    }

    pub(in crate::supervisor) fn since(&self) -> Instant {
        self.since
    }

    pub(in crate::supervisor) fn is_first(&self) -> bool {
        self.attempts == 0
    }

    pub(in crate::supervisor) fn tried(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Returns when the next try is due; the first one is due at once.
    pub(in crate::supervisor) fn next(&mut self, now: Instant, longest: Duration) -> Instant {
        if self.is_first() {
            return now;
        }
        let pause = self.pause.min(longest);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        now + pause
    }

    /// Returns when the next try is due after a refusal that does not pass by itself.
    pub(in crate::supervisor) fn last(&mut self, now: Instant) -> Instant {
        self.pause = LONGEST_PAUSE;
        now + LONGEST_PAUSE
    }

    /// It is missing again, having been in place since then.
    pub(in crate::supervisor) fn missing_again(&mut self, back: Instant, now: Instant) {
        if now.saturating_duration_since(back) >= STANDS {
            *self = Self::new(now);
        } else {
            self.since = now;
        }
    }

    pub(in crate::supervisor) fn has_stood(back: Instant, now: Instant) -> bool {
        now.saturating_duration_since(back) >= STANDS
    }

    pub(in crate::supervisor) fn is_over(&self, limits: &TryLimits, now: Instant) -> bool {
        limits.are_reached(self.attempts, self.since, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn pauses(backoff: &mut EntityBackoff, now: Instant, times: usize) -> Vec<u128> {
        (0..times)
            .map(|_| {
                let due = backoff.next(now, LONGEST_PAUSE);
                backoff.tried();
                (due - now).as_millis()
            })
            .collect()
    }

    #[test]
    fn the_first_try_is_due_at_once_and_later_pauses_double_up_to_five_seconds() {
        let now = Instant::now();
        let mut backoff = EntityBackoff::new(now);
        let expected = [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000];
        assert_eq!(pauses(&mut backoff, now, 10), expected);
    }

    #[test]
    fn a_repair_keeps_the_pauses_unless_it_stands() {
        let now = Instant::now();
        let mut backoff = EntityBackoff::new(now);
        pauses(&mut backoff, now, 4);
        backoff.missing_again(now, now + 4999 * MILLISECOND);
        assert_eq!(pauses(&mut backoff, now, 2), [400, 800]);
        backoff.missing_again(now, now + 5000 * MILLISECOND);
        assert_eq!(pauses(&mut backoff, now, 3), [0, 50, 100]);
    }

    #[test]
    fn the_limits_are_those_of_the_recovery() {
        let now = Instant::now();
        let limits = |recovery: Recovery| TryLimits::of(recovery);
        let mut backoff = EntityBackoff::new(now);
        let none = limits(Recovery::default());
        let two = limits(Recovery::default().attempts(2));
        let second = limits(Recovery::default().within(1000 * MILLISECOND));
        backoff.tried();
        assert!(!backoff.is_over(&two, now) && !backoff.is_over(&second, now + 999 * MILLISECOND));
        assert!(backoff.is_over(&second, now + 1000 * MILLISECOND));
        backoff.tried();
        assert!(backoff.is_over(&two, now));
        assert!(!backoff.is_over(&none, now + Duration::from_secs(1_000_000)));
    }
}
