//! The pauses before a channel is reopened that the broker has closed.
//!
//! They bound what a wrong call or publish costs its neighbours on the channel. If it is known and taken out, each
//! reopening gets on: [`AT_ONCE`] of them are without a pause, the next ones after [`SHORT_PAUSE`], which makes
//! ten in a second at most. If not, the same may close the channel again, and pauses double to [`MAX_PAUSE`].

use std::time::Duration;

use tokio::time::Instant;

/// The first pause before a channel is reopened that was closed twice.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How many reopenings are without a pause, if what was refused is taken out.
const AT_ONCE: u32 = 8;
/// The pause before the next ones.
const SHORT_PAUSE: Duration = Duration::from_millis(100);

/// How long a channel has to stay open for its next reopening to be without a pause.
const STABLE: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct ReopenBackoff {
    /// The next pause where nothing is taken out.
    pause: Duration,
    /// How often something was taken out.
    taken_out: u32,
    open_since: Option<Instant>,
}

impl ReopenBackoff {
    /// The broker has closed the channel; returns the pause before it is reopened.
    pub(super) fn closed(&mut self, is_taken_out: bool, now: Instant) -> Duration {
        let since = self.open_since.take();
        if since.is_some_and(|since| now.saturating_duration_since(since) >= STABLE) {
            *self = Self::default();
        }
        if is_taken_out {
            self.taken_out = self.taken_out.saturating_add(1);
            return if self.taken_out > AT_ONCE { SHORT_PAUSE } else { Duration::ZERO };
        }
        let next = (self.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
        std::mem::replace(&mut self.pause, next)
    }

    /// The channel is open again.
    pub(super) fn opened(&mut self, now: Instant) {
        self.open_since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_begin_at_nothing_and_double_to_a_limit() {
        let (mut backoff, now) = (ReopenBackoff::default(), Instant::now());
        let pauses: Vec<u128> = (0..10).map(|_| backoff.closed(false, now).as_millis()).collect();
        assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn pauses_are_short_while_what_was_refused_is_taken_out() {
        let (mut backoff, mut now) = (ReopenBackoff::default(), Instant::now());
        let pauses: Vec<u128> = (0..1000)
            .map(|_| {
                backoff.opened(now);
                now += Duration::from_millis(1);
                backoff.closed(true, now).as_millis()
            })
            .collect();
        assert_eq!((&pauses[..8], &pauses[8..]), (&[0; 8][..], &[100; 992][..]));
        assert_eq!(backoff.closed(false, now), Duration::ZERO, "another cause");
        assert_eq!((backoff.closed(true, now), backoff.closed(false, now)), (SHORT_PAUSE, FIRST_PAUSE));
    }

    #[test]
    fn a_channel_that_stood_open_is_reopened_at_once() {
        let (mut backoff, mut now) = (ReopenBackoff::default(), Instant::now());
        for _ in 0..4 {
            backoff.closed(false, now);
        }
        backoff.opened(now);
        now += STABLE - Duration::from_millis(1);
        assert_eq!(backoff.closed(false, now), Duration::from_millis(400));
        backoff.opened(now);
        now += STABLE;
        assert_eq!(backoff.closed(false, now), Duration::ZERO);
        now += STABLE;
        assert_eq!(backoff.closed(false, now), Duration::from_millis(50), "it was not open");
    }
}
