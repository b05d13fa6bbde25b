//! How long a delivery may stay unacked, and what happens then.

use std::collections::BTreeSet;

use super::{
    ChannelAt, Core,
    error::Close,
    keys::{ConsumerKey, QueueKey},
    queue::{Return, Stored},
    rules::Rules,
    session::{Channel, Ending},
    settings::{QueueKind, QueueSettings},
    time::Time,
    timers::{Timer, Timers},
};

/// Returns how long a delivery may stay unacked, in milliseconds; `own` is what its consumer has asked for, `usual` what holds where
/// nothing else is said.
pub(super) fn timeout(
    rules: &Rules,
    settings: &QueueSettings,
    own: Option<u64>,
    usual: Option<u64>,
) -> Option<u64> {
    if !rules.timeout_by_queue {
        return usual;
    }
    if !rules.timeout_returns {
        return settings.consumer_timeout.or(usual);
    }
    // Only quorum queues have one.
    let QueueKind::Quorum { .. } = settings.kind else { return None };
    own.or(settings.consumer_timeout).or(usual)
}

/// Sets the timer for a delivery of a channel, unless one is set for an earlier time: that of the first one, if all have
/// the same timeout.
pub(super) fn watch(timers: &mut Timers, at: ChannelAt, channel: &mut Channel, due: Time) {
    if channel.watched.is_none_or(|set| due < set) {
        channel.watched = Some(due);
        timers.set(due, Timer::Unacked(at.connection, at.number));
    }
}

impl Core {
    /// The time within which deliveries of a queue have to be acked has changed.
    pub(super) fn watch_all_deliveries(&mut self) {
        let all: Vec<ChannelAt> = self
            .connections
            .iter()
            .flat_map(|(connection, record)| {
                record.channels.keys().map(move |number| ChannelAt { connection, number: *number })
            })
            .collect();
        for at in all {
            self.look_at_unacked(at);
        }
    }

    /// The timer of a channel's deliveries.
    pub(super) fn unacked_too_long(&mut self, at: ChannelAt) {
        let now = self.now;
        let Ok(channel) = self.channel(at) else { return };
        if channel.watched.take_if(|set| *set <= now).is_some() {
            self.look_at_unacked(at);
        }
    }

    /// Deliveries of a channel are unacked again.
    pub(super) fn watch_again(&mut self, at: ChannelAt) {
        // A queue that takes late messages back does not know of acks that wait for a commit.
        if !self.rules.timeout_returns
            && let Some((due, _)) = self.oldest_due(at)
        {
            self.watch_until(at, due.max(self.now));
        }
    }

    fn look_at_unacked(&mut self, at: ChannelAt) {
        if self.rules.timeout_returns {
            return self.return_late(at);
        }
        match self.oldest_due(at) {
            Some((due, _)) if due > self.now => self.watch_until(at, due),
            Some((_, timeout)) => self.close_late(at, &timeout.to_string()),
            None => {}
        }
    }

    /// Returns until when the oldest delivery of a channel has to be acked, and the timeout. No other one is looked at.
    fn oldest_due(&mut self, at: ChannelAt) -> Option<(Time, u64)> {
        let channel = self.channel(at).ok().filter(|channel| channel.ending == Ending::No)?;
        let (usual, oldest) = (channel.consumer_timeout, channel.unacked.first()?);
        let (since, queue) = (oldest.since, oldest.queue);
        let timeout = match self.topology.queues.get(queue) {
            Some(queue) => timeout(self.rules, queue.queue.settings(), None, usual)?,
            None => usual?,
        };
        Some((since.after_millis(timeout), timeout))
    }

    fn close_late(&mut self, at: ChannelAt, timeout: &str) {
        let text = format!(
            "delivery acknowledgement on channel {} timed out. Timeout value used: {timeout} ms. This timeout value \
             can be configured, see consumers doc guide to learn more",
            at.number
        );
        self.close_channel_with(at, Close::new(406, text));
    }

    /// Sets the timer for a delivery of a channel.
    pub(super) fn watch_until(&mut self, at: ChannelAt, due: Time) {
        let channels = self.connections.get_mut(at.connection).map(|connection| &mut connection.channels);
        if let Some(channel) = channels.and_then(|channels| channels.get_mut(&at.number)) {
            watch(&mut self.timers, at, channel, due);
        }
    }

    /// From 4.3 on, quorum queues take late messages back, also those whose acks wait for a commit, and cancel the consumer.
    /// Where that is gone, or the client cannot be told, the channel is closed.
    fn return_late(&mut self, at: ChannelAt) {
        let now = self.now;
        let Self { topology, connections, rules, .. } = self;
        let connection = connections.get_mut(at.connection);
        let Some(channel) = connection.and_then(|connection| connection.channels.get_mut(&at.number)) else {
            return;
        };
        let usual = channel.consumer_timeout;
        let mut late: Vec<(QueueKey, Option<ConsumerKey>, Stored)> = Vec::new();
        let mut next: Option<Time> = None;
        for delivered in channel.held_mut().filter(|delivered| delivered.stored.is_some()) {
            let Some(queue) = topology.queues.get(delivered.queue) else { continue };
            let own = delivered.timeout();
            let Some(timeout) = timeout(rules, queue.queue.settings(), own, usual) else { continue };
            let due = delivered.since.after_millis(timeout);
            if due <= now {
                let stored = delivered.stored.take();
                late.extend(stored.map(|stored| (delivered.queue, delivered.consumer(), stored)));
            } else if next.is_none_or(|next| due < next) {
                next = Some(due);
            }
        }
        if let Some(next) = next {
            self.watch_until(at, next);
        }
        for consumer in late.iter().filter_map(|(_, consumer, _)| *consumer) {
            self.leave_round(consumer);
        }
        let is_told =
            self.connections.get(at.connection).is_some_and(|connection| connection.info.cancel_notify);
        let mut cancelled = BTreeSet::new();
        let mut closes = false;
        for (queue, consumer, stored) in late {
            self.return_to(queue, vec![stored], Return::TimedOut);
            match consumer.filter(|consumer| is_told && self.consumers.contains_key(*consumer)) {
                Some(consumer) => {
                    cancelled.insert(consumer);
                    self.cancel_by_broker(consumer);
                    self.consumer_left(queue);
                }
                None => closes |= consumer.is_none_or(|consumer| !cancelled.contains(&consumer)),
            }
        }
        if closes {
            self.close_late(at, "-1");
        }
    }
}
