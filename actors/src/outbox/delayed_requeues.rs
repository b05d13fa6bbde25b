//! Deliveries whose processing has failed again, and when they are requeued.
//!
//! Requeued at once, a message that its handler always fails would come back at once, for ever. So it waits,
//! unsettled: the prefetch bounds how many do. The wait doubles with each failure of the message, where its
//! queue counts them, or else with each round of failures of the consumer.
//!
//! [`DelayedRequeues`] is a plain machine. The Channel actor has one timer for all that wait: see
//! `channel/requeue.rs`.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{Outbox, acks::Acks};
use crate::{
    error::{Error, Result},
    message::{Failures, Outcome},
};

/// The wait after the second failure; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(10);
/// The most deliveries that wait, where no prefetch bounds them. More are requeued early.
const MAX_WAITING: usize = 32 * 1024;

#[derive(Debug, Default)]
pub(super) struct DelayedRequeues {
    /// Those that wait, by time and delivery tag.
    waiting: BTreeMap<(Instant, u64), Waiting>,
    /// Of consumers whose queue does not count failures.
    rounds: HashMap<u32, Rounds>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    consumer: u32,
    why: RequeueLater,
}

/// Why a delivery is requeued later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequeueLater {
    /// Its processing has failed before (`basic.reject`).
    Failed(Failures),
    /// It could not be read, and waits for this time (`basic.nack`).
    Unread(Duration),
}

impl RequeueLater {
    fn outcome(self) -> Outcome {
        match self {
            Self::Failed(_) => Outcome::Reject { requeue: true },
            Self::Unread(_) => Outcome::Nack { requeue: true },
        }
    }
}

/// The rounds of failures of a consumer: in each, every message may fail once.
#[derive(Clone, Copy, Debug)]
struct Rounds {
    count: u64,
    /// The end of the current round. When a second one has passed without a failure, the count starts again.
    until: Instant,
}

/// Returns how long a message waits after its `nth` failure but one.
fn wait(nth: u64) -> Duration {
    let doublings = u32::try_from(nth.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(2u32.saturating_pow(doublings)).min(MAX_WAIT)
}

impl DelayedRequeues {
    /// Adds a delivery. Returns whether it is the next one that is due.
    fn add(&mut self, tag: u64, consumer: u32, why: RequeueLater, now: Instant) -> bool {
        let wait = match why {
            RequeueLater::Failed(Failures::Counted(count)) => wait(count),
            RequeueLater::Failed(Failures::Uncounted) => self.wait_of_round(consumer, now),
            RequeueLater::Unread(wait) => wait,
        };
        let at = (now + wait, tag);
        self.waiting.insert(at, Waiting { consumer, why });
        self.waiting.first_key_value().is_some_and(|(first, _)| *first == at)
    }

    fn wait_of_round(&mut self, consumer: u32, now: Instant) -> Duration {
        let round = self.rounds.entry(consumer).or_insert(Rounds { count: 0, until: now });
        let ended = now.saturating_duration_since(round.until);
        if now >= round.until {
            round.count = if round.count > 0 && ended > 2 * wait(round.count) { 1 } else { round.count + 1 };
            round.until = now + wait(round.count);
        }
        wait(round.count)
    }

    /// Removes the deliveries of a consumer, and returns their tags with the outcome of each.
    pub(super) fn remove_consumer(&mut self, consumer: u32) -> impl Iterator<Item = (u64, Outcome)> {
        self.rounds.remove(&consumer);
        let mut tags = Vec::new();
        self.waiting.retain(|(_, tag), waiting| {
            let is_removed = waiting.consumer == consumer;
            if is_removed {
                tags.push((*tag, waiting.why.outcome()));
            }
            !is_removed
        });
        tags.into_iter()
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    fn next(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Removes the next delivery if it is due, or if too many wait.
    fn take_due(&mut self, now: Instant) -> Option<(u64, Outcome)> {
        let is_due = self.next()? <= now || self.waiting.len() > MAX_WAITING;
        is_due
            .then(|| self.waiting.pop_first())
            .flatten()
            .map(|((_, tag), waiting)| (tag, waiting.why.outcome()))
    }
}

impl Acks {
    /// Requeues a delivery later. Returns whether it is the next one that is due.
    pub(super) fn requeue_later(&mut self, tag: u64, consumer: u32, why: RequeueLater, now: Instant) -> bool {
        if !self.is_outstanding(tag) {
            return false;
        }
        // A transaction settles what was settled before its commit.
        if self.holds_back(consumer) || self.uncommitted.is_some() {
            self.requeue(tag, consumer, why.outcome());
            return false;
        }
        self.keep_back(tag);
        self.delayed.add(tag, consumer, why, now)
    }

    pub(super) fn requeue_due(&mut self, now: Instant) {
        while let Some((tag, outcome)) = self.delayed.take_due(now) {
            self.refuse(tag, outcome);
        }
    }
}

impl Outbox {
    /// Requeues a delivery after a wait; it is unsettled until then.
    ///
    /// # Errors
    /// `StaleDelivery`, or the error that closed the outbox.
    pub(crate) fn requeue_later(
        &self,
        channel_epoch: u32,
        tag: u64,
        consumer: u32,
        why: RequeueLater,
        now: Instant,
    ) -> Result<()> {
        self.with(|state, effects| {
            if let Some(error) = state.attachment.closed() {
                return Err(error.clone());
            }
            if channel_epoch != state.channel_epoch {
                return Err(Error::stale("the delivery is stale, the broker delivers it again"));
            }
            if state.acks.requeue_later(tag, consumer, why, now) {
                state.ticker.request(effects);
            }
            if state.acks.is_dirty() {
                state.request_flush(self.config.channel, effects);
            }
            Ok(())
        })
    }

    /// Requeues what is due. Returns when the next delivery is.
    pub(crate) fn requeue_due(&self, now: Instant) -> Option<Instant> {
        self.with(|state, effects| {
            state.acks.requeue_due(now);
            if state.acks.is_dirty() {
                state.request_flush(self.config.channel, effects);
            }
            state.acks.delayed.next()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const UNCOUNTED: RequeueLater = RequeueLater::Failed(Failures::Uncounted);

    fn counted(count: u64) -> RequeueLater {
        RequeueLater::Failed(Failures::Counted(count))
    }

    fn due(delayed: &mut DelayedRequeues, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| delayed.take_due(now)).map(|(tag, _)| tag).collect()
    }

    #[test]
    fn the_wait_doubles_with_the_count_of_the_queue() {
        let waits: Vec<u128> = (1..10).map(|nth| wait(nth).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(wait(u64::MAX), MAX_WAIT);
    }

    #[test]
    fn deliveries_are_due_in_the_order_of_their_times() {
        let now = Instant::now();
        let mut delayed = DelayedRequeues::default();
        assert!(delayed.add(1, 7, counted(2), now));
        assert!(delayed.add(2, 7, counted(1), now), "it is due before the other");
        assert!(!delayed.add(3, 7, counted(2), now));
        assert_eq!(delayed.next(), Some(now + FIRST_WAIT));
        assert!(due(&mut delayed, now + FIRST_WAIT - MILLISECOND).is_empty());
        assert_eq!(due(&mut delayed, now + FIRST_WAIT), [2]);
        assert_eq!(due(&mut delayed, now + 2 * FIRST_WAIT), [1, 3]);
        assert_eq!(delayed.next(), None);
    }

    #[test]
    fn what_was_not_read_is_not_counted_as_failed() {
        let now = Instant::now();
        let mut delayed = DelayedRequeues::default();
        assert!(delayed.add(1, 7, RequeueLater::Unread(MILLISECOND), now));
        delayed.add(2, 7, UNCOUNTED, now);
        assert_eq!(delayed.take_due(now + MILLISECOND), Some((1, Outcome::Nack { requeue: true })));
        assert_eq!(delayed.take_due(now + MAX_WAIT), Some((2, Outcome::Reject { requeue: true })));
    }

    /// A handler that drops each of 50 messages whenever it comes, for two minutes.
    #[test]
    fn a_handler_that_drops_everything_causes_few_redeliveries() {
        let start = Instant::now();
        let mut delayed = DelayedRequeues::default();
        for tag in 0..50 {
            delayed.add(tag, 7, UNCOUNTED, start);
        }
        let (mut now, mut redeliveries) = (start, 0);
        while now < start + Duration::from_secs(120) {
            for tag in due(&mut delayed, now) {
                redeliveries += 1;
                delayed.add(tag, 7, UNCOUNTED, now);
            }
            now += 10 * MILLISECOND;
        }
        assert_eq!(redeliveries, 50 * 17);
    }

    #[test]
    fn the_rounds_of_a_consumer_start_again_after_a_pause() {
        let start = Instant::now();
        let mut delayed = DelayedRequeues::default();
        let mut now = start;
        for _ in 0..3 {
            now += delayed.wait_of_round(7, now);
        }
        assert_eq!(delayed.wait_of_round(7, now), wait(4));
        now += 4 * wait(4);
        assert_eq!(delayed.wait_of_round(7, now), wait(1));
        assert_eq!(delayed.wait_of_round(8, now), wait(1), "of another consumer");
    }

    #[test]
    fn the_end_of_a_consumer_removes_its_deliveries() {
        let now = Instant::now();
        let mut delayed = DelayedRequeues::default();
        for (tag, consumer) in [(1, 7), (2, 8), (3, 7)] {
            delayed.add(tag, consumer, UNCOUNTED, now);
        }
        assert_eq!(delayed.remove_consumer(7).map(|(tag, _)| tag).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(due(&mut delayed, now + MAX_WAIT), [2]);
    }

    #[test]
    fn no_more_than_the_maximum_wait() {
        let now = Instant::now();
        let mut delayed = DelayedRequeues::default();
        for tag in 0..MAX_WAITING as u64 + 2 {
            delayed.add(tag, 7, UNCOUNTED, now);
        }
        assert_eq!(due(&mut delayed, now), [0, 1]);
    }
}
