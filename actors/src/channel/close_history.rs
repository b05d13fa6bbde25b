//! How often the broker has closed a channel lately: one that is closed again and again is given up.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// A channel reopens after so many closes within [`WITHIN`], and not after one more.
pub(super) const MOST: usize = 5;
const WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct CloseHistory(VecDeque<Instant>);

impl CloseHistory {
    /// Notes a close by the broker; returns whether the channel may reopen.
    pub(super) fn closed(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|at| now.saturating_duration_since(*at) > WITHIN) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_close_too_many_within_the_time_gives_the_channel_up() {
        let (mut history, start) = (CloseHistory::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!((0..5).all(|n| history.closed(start + n * second)));
        assert!(!history.closed(start + 5 * second));
    }

    #[test]
    fn old_closes_do_not_count() {
        let (mut history, start) = (CloseHistory::default(), Instant::now());
        assert!((0..50).all(|n| history.closed(start + n * Duration::from_secs(3))));
    }
}
