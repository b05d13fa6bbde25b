//! How many tries there were, and how long to wait before the next.

use std::time::Duration;

use tokio::time::Instant;

use crate::options::Backoff;

/// How long the broker may refuse login or virtual host before that is taken for its last word: one that restarts does so
/// for a while.
const REFUSED_FOR_GOOD: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct ReconnectBackoff {
    made: u32,
    since: Option<Instant>,
    /// Since when every try was refused.
    refused_since: Option<Instant>,
}

impl ReconnectBackoff {
    /// The number of the next try, and the wait before it; `None` when it is to be given up.
    pub(super) fn next(&mut self, backoff: &Backoff, now: Instant) -> Option<(u32, Duration)> {
        let since = *self.since.get_or_insert(now);
        let out_of_time = backoff.within.is_some_and(|within| now.saturating_duration_since(since) >= within);
        if out_of_time || backoff.attempts.is_some_and(|attempts| self.made >= attempts) {
            return None;
        }
        let longest = backoff.first.saturating_mul(1 << self.made.min(20)).min(backoff.most);
        self.made = self.made.saturating_add(1);
        let wait = if backoff.jitter { longest.mul_f64(fastrand::f64()) } else { longest };
        Some((self.made, wait))
    }

    /// Notes whether a try was refused; tells whether it has been so for long enough to be given up.
    pub(super) fn is_refused_for_good(&mut self, refused: bool, now: Instant) -> bool {
        self.refused_since = if refused { self.refused_since.or(Some(now)) } else { None };
        self.refused_since.is_some_and(|since| now.saturating_duration_since(since) >= REFUSED_FOR_GOOD)
    }

    /// A connection came about.
    pub(super) fn connected(&mut self) {
        self.since = None;
        self.refused_since = None;
    }

    /// And it has lasted.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Recovery;

    fn backoff(recovery: Recovery) -> Backoff {
        match recovery {
            Recovery::After(backoff) => backoff,
            Recovery::Never => unreachable!("not in these tests"),
        }
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// REC-32: a growing wait has a cap, and is random up to all of it, so that a thousand clients do not come at once.
    #[test]
    fn waits_are_random_and_their_limits_double_up_to_the_cap() {
        let policy = backoff(Recovery::exponential(secs(1), secs(5)));
        let now = Instant::now();
        for (at, limit) in [1, 2, 4, 5, 5].into_iter().enumerate() {
            let waits: Vec<_> = (0..200)
                .map(|_| {
                    let mut attempts = ReconnectBackoff::default();
                    for _ in 0..at {
                        attempts.next(&policy, now).unwrap();
                    }
                    let (number, wait) = attempts.next(&policy, now).unwrap();
                    assert_eq!(number as usize, at + 1);
                    wait
                })
                .collect();
            assert!(waits.iter().all(|&wait| wait <= secs(limit)), "try {at}");
            assert!(waits.iter().any(|&wait| wait > secs(limit) / 2), "try {at}");
            assert!(waits.iter().any(|&wait| wait < secs(limit) / 2), "try {at}");
        }
    }

    /// REC-32: a fixed wait.
    #[test]
    fn a_fixed_wait_stays_the_same_and_never_overflows() {
        let policy = backoff(Recovery::fixed(secs(5)));
        let mut attempts = ReconnectBackoff::default();
        for number in 1..100 {
            assert_eq!(attempts.next(&policy, Instant::now()), Some((number, secs(5))));
        }
        let huge = backoff(Recovery::exponential(Duration::MAX, Duration::MAX));
        let mut attempts = ReconnectBackoff::default();
        assert!((0..50).all(|_| attempts.next(&huge, Instant::now()).is_some()));
    }

    /// REC-33: tries count from 1 and end at their number, or with their time; none is made where none is allowed.
    #[test]
    fn tries_and_time_are_limited_and_counted_anew_after_a_quiet_time() {
        let policy = backoff(Recovery::fixed(secs(1)).attempts(2));
        let mut attempts = ReconnectBackoff::default();
        let now = Instant::now();
        let tries: Vec<_> = (0..4).map(|_| attempts.next(&policy, now)).collect();
        assert_eq!(tries, [Some((1, secs(1))), Some((2, secs(1))), None, None]);
        let none = backoff(Recovery::fixed(secs(1)).attempts(0));
        assert_eq!(ReconnectBackoff::default().next(&none, now), None);
        attempts.connected();
        assert_eq!(attempts.next(&policy, now), None, "it did not last");
        attempts.reset();
        assert_eq!(attempts.next(&policy, now), Some((1, secs(1))));

        let policy = backoff(Recovery::fixed(secs(1)).within(secs(60)));
        let mut attempts = ReconnectBackoff::default();
        assert!(attempts.next(&policy, now).is_some());
        assert!(attempts.next(&policy, now + secs(59)).is_some());
        assert_eq!(attempts.next(&policy, now + secs(60)), None);
        attempts.connected();
        assert!(attempts.next(&policy, now + secs(61)).is_some());
    }

    /// Design 7.9: refusals of the login or the virtual host are the last word after a minute of nothing else.
    #[test]
    fn refusals_end_it_after_a_minute_of_nothing_else() {
        let mut attempts = ReconnectBackoff::default();
        let now = Instant::now();
        assert!(!attempts.is_refused_for_good(true, now));
        assert!(!attempts.is_refused_for_good(true, now + secs(59)));
        assert!(attempts.is_refused_for_good(true, now + secs(60)));
        // Another failure in between, or a connection, and the minute begins anew.
        assert!(!attempts.is_refused_for_good(false, now + secs(61)));
        assert!(!attempts.is_refused_for_good(true, now + secs(62)));
        assert!(!attempts.is_refused_for_good(true, now + secs(121)));
        attempts.connected();
        assert!(!attempts.is_refused_for_good(true, now + secs(200)));
        assert!(!attempts.is_refused_for_good(true, now + secs(259)));
        assert!(attempts.is_refused_for_good(true, now + secs(260)));
    }
}
