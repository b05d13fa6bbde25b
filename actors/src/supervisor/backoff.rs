//! The back-off between attempts to connect: how long to wait, and when to give up.

use std::time::Duration;

use tokio::time::Instant;

use crate::options::Backoff;

/// How long the broker may refuse the login or the virtual host before the connection gives up: a broker that
/// restarts refuses them for a while.
const REFUSED_FOR_GOOD: Duration = Duration::from_secs(60);
/// How long a connection has to stand after its recovery before attempts count from 1 again. Some losses
/// follow right after each recovery, because something that was recovered provokes them.
const STABLE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct ReconnectBackoff {
    attempts: u32,
    since: Option<Instant>,
    /// Since when every attempt was refused.
    refused_since: Option<Instant>,
    /// Since when the present connection is recovered.
    up_since: Option<Instant>,
}

impl ReconnectBackoff {
    /// Returns the number of the next attempt, and the wait before it, or `None` to give up.
    pub(super) fn next(&mut self, backoff: &Backoff, now: Instant) -> Option<(u32, Duration)> {
        let since = *self.since.get_or_insert(now);
        let out_of_time = backoff.within.is_some_and(|within| now.saturating_duration_since(since) >= within);
        if out_of_time || backoff.attempts.is_some_and(|attempts| self.attempts >= attempts) {
            return None;
        }
        let limit = backoff.first.saturating_mul(1 << self.attempts.min(20)).min(backoff.most);
        self.attempts = self.attempts.saturating_add(1);
        let wait = if backoff.jitter { limit.mul_f64(fastrand::f64()) } else { limit };
        Some((self.attempts, wait))
    }

    /// Notes whether an attempt was refused. Returns whether all were, for long enough to give up.
    pub(super) fn is_refused_for_good(&mut self, refused: bool, now: Instant) -> bool {
        self.refused_since = if refused { self.refused_since.or(Some(now)) } else { None };
        self.refused_since.is_some_and(|since| now.saturating_duration_since(since) >= REFUSED_FOR_GOOD)
    }

    /// A connection was opened.
    pub(super) fn connected(&mut self) {
        self.since = None;
        self.refused_since = None;
    }

    /// A connection is open and recovered.
    pub(super) fn came_up(&mut self, now: Instant) {
        self.up_since = Some(now);
    }

    /// The connection is lost. If it stood for a while, attempts count from 1 again.
    pub(super) fn lost(&mut self, now: Instant) {
        let up_since = self.up_since.take();
        if up_since.is_some_and(|since| now.saturating_duration_since(since) >= STABLE) {
            *self = Self::default();
        }
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

    /// REC-32: an exponential wait has a cap and is random below it, so that clients do not reconnect all at
    /// once.
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
            assert!(waits.iter().all(|&wait| wait <= secs(limit)), "attempt {at}");
            assert!(waits.iter().any(|&wait| wait > secs(limit) / 2), "attempt {at}");
            assert!(waits.iter().any(|&wait| wait < secs(limit) / 2), "attempt {at}");
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

    /// REC-33: attempts count from 1, and are limited in number and time; zero attempts are possible.
    #[test]
    fn attempts_and_time_are_limited_until_a_connection_stands() {
        let policy = backoff(Recovery::fixed(secs(1)).attempts(2));
        let mut attempts = ReconnectBackoff::default();
        let now = Instant::now();
        let delays: Vec<_> = (0..4).map(|_| attempts.next(&policy, now)).collect();
        assert_eq!(delays, [Some((1, secs(1))), Some((2, secs(1))), None, None]);
        let none = backoff(Recovery::fixed(secs(1)).attempts(0));
        assert_eq!(ReconnectBackoff::default().next(&none, now), None);
        attempts.connected();
        attempts.lost(now + secs(9));
        assert_eq!(attempts.next(&policy, now), None, "it was never recovered");
        attempts.came_up(now);
        attempts.lost(now + secs(4));
        assert_eq!(attempts.next(&policy, now), None, "it did not stand");
        attempts.came_up(now);
        attempts.lost(now + secs(5));
        assert_eq!(attempts.next(&policy, now), Some((1, secs(1))));

        let policy = backoff(Recovery::fixed(secs(1)).within(secs(60)));
        let mut attempts = ReconnectBackoff::default();
        assert!(attempts.next(&policy, now).is_some());
        assert!(attempts.next(&policy, now + secs(59)).is_some());
        assert_eq!(attempts.next(&policy, now + secs(60)), None);
        attempts.connected();
        assert!(attempts.next(&policy, now + secs(61)).is_some());
    }

    /// Design 7.9: only refusals of the login or the virtual host for a minute are final.
    #[test]
    fn a_minute_of_refusals_is_final() {
        let mut attempts = ReconnectBackoff::default();
        let now = Instant::now();
        assert!(!attempts.is_refused_for_good(true, now));
        assert!(!attempts.is_refused_for_good(true, now + secs(59)));
        assert!(attempts.is_refused_for_good(true, now + secs(60)));
        // The minute starts again after another failure, or a connection.
        assert!(!attempts.is_refused_for_good(false, now + secs(61)));
        assert!(!attempts.is_refused_for_good(true, now + secs(62)));
        assert!(!attempts.is_refused_for_good(true, now + secs(121)));
        attempts.connected();
        assert!(!attempts.is_refused_for_good(true, now + secs(200)));
        assert!(!attempts.is_refused_for_good(true, now + secs(259)));
        assert!(attempts.is_refused_for_good(true, now + secs(260)));
    }
}
