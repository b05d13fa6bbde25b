//! Consumers whose deliveries have too many bytes: what the application has not begun returns to the queue, and
//! the consumer starts again with a smaller prefetch.
//!
//! Reading is not paused for a consumer with a prefetch: confirms and replies come on the same socket, and the
//! application may wait for them before it settles anything.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    ChannelMachine,
    consumers::{ConsumerEntry, Volume},
};
use crate::message::{ChannelEvent, QueueType};

/// Without another reduction for so long, a consumer that starts again for another reason has its own prefetch.
///
/// It is not started again for that alone: a cancel lets other consumers take over, and what the broker does at a
/// cancel is not known for each queue.
const CALM: Duration = Duration::from_secs(600);

/// The last time that a consumer got a smaller prefetch.
#[derive(Clone, Copy, Debug)]
pub(in crate::channel) struct Reduced {
    /// The prefetch that the application has set.
    own: u16,
    at: Instant,
}

impl Reduced {
    /// Returns the prefetch for a start that has another reason, if the smaller one is not needed any more.
    fn restored(self, now: Instant) -> Option<u16> {
        (now.saturating_duration_since(self.at) >= CALM).then_some(self.own)
    }
}

/// What one consumer has unsettled since its last start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    count: usize,
    /// The average size.
    average: usize,
    prefetch: u16,
    /// What was unsettled when it started. RabbitMQ lets as many more come once these are settled, because they
    /// have its consumer tag.
    carried: usize,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    Nothing,
    /// It starts again with this prefetch.
    Reduce(u16),
    /// The broker does not keep the prefetch: reading pauses instead.
    PauseReading,
}

impl Held {
    fn bytes(self) -> usize {
        self.count.saturating_mul(self.average)
    }

    /// Returns the remedy, given the most bytes of unsettled deliveries.
    fn remedy(self, bound: usize) -> Remedy {
        if self.count > usize::from(self.prefetch) + self.carried {
            return Remedy::PauseReading;
        }
        // What is unsettled since before its last start says nothing about its prefetch.
        if self.prefetch <= 1 || self.bytes() < bound / 8 {
            return Remedy::Nothing;
        }
        let fitting = bound / 2 / self.average.max(1);
        let half = self.prefetch / 2;
        Remedy::Reduce(u16::try_from(fitting).map_or(half, |fitting| fitting.min(half)).max(1))
    }
}

impl ChannelMachine {
    /// The unsettled deliveries of the connection have too many bytes, most of them on this channel.
    pub(super) fn reduce_prefetch(&mut self, now: Instant) {
        let Some(connection) = &self.connection else { return };
        // In a transaction nothing returns before the commit.
        if !self.state.is_open() || self.transaction.selected() {
            return;
        }
        let bound = connection.credit.memory().bound();
        let held = |entry: &ConsumerEntry| {
            let (id, prefetch) = (entry.id(), entry.subscription.prefetch);
            let Volume { since, average, carried, .. } = entry.volume;
            (id, Held { count: self.outbox.unsettled_since(since, id), average, prefetch, carried })
        };
        let bounded = self.consumers.all().filter(|entry| {
            let (subscription, volume) = (&entry.subscription, &entry.volume);
            // A stream would go back to where it began, and returns nothing.
            let is_stream = volume.of_stream || subscription.queue_type == Some(QueueType::Stream);
            let is_bounded = !subscription.no_ack && subscription.prefetch > 0 && !volume.beyond;
            // A queue with auto_delete goes with its last consumer, and its messages with it.
            let is_bounded = is_bounded && !subscription.auto_delete;
            // One that starts again has deliveries from before, and a smaller prefetch already.
            is_bounded && !is_stream && entry.phase.is_active()
        });
        let largest = bounded.map(held).max_by_key(|(_, held)| held.bytes());
        let Some((id, held)) = largest else { return };
        match held.remedy(bound) {
            Remedy::Nothing => {}
            Remedy::Reduce(prefetch) => {
                self.restart_with(id, prefetch, bound, now);
            }
            Remedy::PauseReading => self.count_as_unlimited(id, held),
        }
    }

    /// The deliveries of a consumer without a prefetch would pause reading while the application waits for the
    /// broker: it starts again with a prefetch.
    pub(super) fn limit_prefetch(&mut self, id: u32, now: Instant) {
        let Some(limit) = self.connection.as_ref().map(|connection| connection.credit.limit()) else {
            return;
        };
        let can_restart = self.state.is_open() && !self.transaction.selected();
        let Some(entry) = self.consumers.by_id(id) else { return };
        let Some(account) = entry.acker.credit.clone() else { return };
        let (volume, queue_type) = (&entry.volume, entry.subscription.queue_type);
        let auto_delete = entry.subscription.auto_delete;
        if !can_restart || auto_delete || volume.of_stream || queue_type == Some(QueueType::Stream) {
            return account.set_unlimitable();
        }
        let fitting = u16::try_from(limit / 2 / volume.average.max(1)).unwrap_or(u16::MAX);
        if self.restart_with(id, fitting.max(1), limit, now) {
            // The reply to the cancel must not wait for what the application has begun.
            account.close();
        } else {
            account.set_unlimitable();
        }
    }

    /// Returns whether the consumer starts again.
    fn restart_with(&mut self, id: u32, prefetch: u16, bound: usize, now: Instant) -> bool {
        let channel = self.number();
        let Some(entry) = self.consumers.by_id(id) else { return false };
        if !entry.phase.reduce() {
            return false;
        }
        let (tag, from) = (entry.tag().clone(), entry.subscription.prefetch);
        log::warn!(
            "channel {channel}: consumer {tag:?} starts again with a prefetch of {prefetch} instead of {from}: \
             unsettled deliveries have more than {bound} bytes"
        );
        entry.subscription.prefetch = prefetch;
        let own = entry.volume.reduced.map_or(from, |reduced| reduced.own);
        entry.volume.reduced = Some(Reduced { own, at: now });
        entry.volume.returns = true;
        // What returns now would come to this consumer again.
        self.outbox.hold_back(id);
        if let Some(drops) = &entry.acker.drops {
            drops.take_back_before(self.outbox.next_delivery());
        }
        entry.sink.take_back();
        self.send_cancel(&tag, Some(id), Vec::new(), now);
        self.notify(ChannelEvent::PrefetchReduced { tag, from, to: prefetch });
        self.outputs.request_tick();
        true
    }

    /// A consumer starts again for whatever reason.
    pub(super) fn restore_prefetch(&mut self, id: u32, now: Instant) {
        let channel = self.number();
        let Some(entry) = self.consumers.by_id(id) else { return };
        if let Some(own) = entry.volume.reduced.and_then(|reduced| reduced.restored(now)) {
            let (tag, from) = (entry.tag(), entry.subscription.prefetch);
            log::info!(
                "channel {channel}: consumer {tag:?} has its prefetch of {own} again, instead of {from}"
            );
            entry.subscription.prefetch = own;
            entry.volume.reduced = None;
        }
    }

    /// The broker sends more than the prefetch allows: reading pauses for this consumer.
    fn count_as_unlimited(&mut self, id: u32, held: Held) {
        let (channel, credit) = (self.number(), self.open_account(true, id, true));
        let Some(entry) = self.consumers.by_id(id) else { return };
        log::warn!(
            "channel {channel}: consumer {:?}: the broker has sent {} deliveries where the prefetch is {}; reading \
             pauses while more than read_ahead wait",
            entry.tag(),
            held.count,
            held.prefetch
        );
        entry.volume.beyond = true;
        entry.acker = std::sync::Arc::new(entry.acker.with_credit(credit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn remedy(count: usize, average: usize, prefetch: u16) -> Remedy {
        Held { count, average, prefetch, carried: 0 }.remedy(64 * MIB)
    }

    #[test]
    fn the_next_prefetch_fits_into_half_of_the_bound() {
        assert_eq!(remedy(32, 2 * MIB, 250), Remedy::Reduce(16));
        assert_eq!(remedy(2, 40 * MIB, 250), Remedy::Reduce(1));
        assert_eq!(remedy(60_000, 1100, 65_535), Remedy::Reduce(30_504));
        // It goes down in any case.
        assert_eq!(remedy(16, 2 * MIB, 16), Remedy::Reduce(8));
        assert_eq!(remedy(250, 40_000, 250), Remedy::Reduce(125));
    }

    #[test]
    fn little_is_not_reduced() {
        assert_eq!(remedy(3, 2 * MIB, 250), Remedy::Nothing);
        assert_eq!(remedy(1, 100 * MIB, 1), Remedy::Nothing, "a consumer may have one message");
        assert_eq!(remedy(0, 0, 250), Remedy::Nothing);
    }

    #[test]
    fn reading_pauses_for_more_than_the_prefetch() {
        assert_eq!(remedy(11, 10 * MIB, 10), Remedy::PauseReading);
        assert_eq!(remedy(2, 40 * MIB, 1), Remedy::PauseReading);
        let carried = |carried| Held { count: 13, average: 2 * MIB, prefetch: 4, carried }.remedy(64 * MIB);
        assert_eq!((carried(9), carried(8)), (Remedy::Reduce(2), Remedy::PauseReading));
    }
}
