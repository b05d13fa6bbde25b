//! How long a delivery may stay unacked, and what happens then.

use super::{
    ChannelAt, Core,
    error::Close,
    keys::{ConsumerKey, QueueKey},
    line::Rules,
    queue::{Return, Stored},
    session::{Consumer, Ending},
    settings::{QueueKind, QueueSettings},
    time::Time,
    timers::Timer,
};

/// Returns how long a delivery may stay unacked, in milliseconds; `usual` is what holds where nothing else is said.
pub(super) fn timeout(
    rules: &Rules,
    settings: &QueueSettings,
    consumer: Option<&Consumer>,
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
    consumer.and_then(|consumer| consumer.timeout).or(settings.consumer_timeout).or(usual)
}

impl Core {
    /// Sets the timer for a delivery, if none is set for an earlier time.
    pub(super) fn watch_delivery(&mut self, at: ChannelAt, timeout: Option<u64>) {
        let Some(timeout) = timeout else { return };
        let due = self.now.after_millis(timeout);
        let Ok(channel) = self.channel(at) else { return };
        if channel.watched.is_none_or(|set| due < set) {
            channel.watched = Some(due);
            self.timers.set(due, Timer::Unacked(at.connection, at.number));
        }
    }

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
        if channel.watched.is_some_and(|set| set > now) {
            return;
        }
        channel.watched = None;
        self.look_at_unacked(at);
    }

    fn look_at_unacked(&mut self, at: ChannelAt) {
        if self.rules.timeout_returns {
            return self.return_late(at);
        }
        let now = self.now;
        let Ok(channel) = self.channel(at) else { return };
        if channel.ending != Ending::No {
            return;
        }
        // Only the oldest is looked at.
        let (usual, Some(oldest)) = (channel.consumer_timeout, channel.unacked.first()) else { return };
        let (since, queue) = (oldest.since, oldest.queue);
        let timeout = match self.topology.queues.get(queue) {
            Some(queue) => timeout(self.rules, queue.queue.settings(), None, usual),
            None => usual,
        };
        let Some(timeout) = timeout else { return };
        let due = since.after_millis(timeout);
        if due > now {
            return self.watch_until(at, due);
        }
        let text = format!(
            "delivery acknowledgement on channel {} timed out. Timeout value used: {timeout} ms. This timeout value \
             can be configured, see consumers doc guide to learn more",
            at.number
        );
        self.close_channel_with(at, Close::new(406, text));
    }

    fn watch_until(&mut self, at: ChannelAt, due: Time) {
        let Ok(channel) = self.channel(at) else { return };
        if channel.watched.is_none_or(|set| due < set) {
            channel.watched = Some(due);
            self.timers.set(due, Timer::Unacked(at.connection, at.number));
        }
    }

    /// From 4.3 on, quorum queues take late messages back and cancel the consumer.
    fn return_late(&mut self, at: ChannelAt) {
        let now = self.now;
        let Self { topology, connections, consumers, rules, .. } = self;
        let connection = connections.get_mut(at.connection);
        let Some(channel) = connection.and_then(|connection| connection.channels.get_mut(&at.number)) else {
            return;
        };
        let usual = channel.consumer_timeout;
        let mut late: Vec<(QueueKey, Option<ConsumerKey>, Stored)> = Vec::new();
        let mut next: Option<Time> = None;
        for (_, delivered) in channel.unacked.iter_mut().filter(|(_, delivered)| delivered.stored.is_some()) {
            let Some(queue) = topology.queues.get(delivered.queue) else { continue };
            let consumer = delivered.consumer.and_then(|key| consumers.get(key));
            let Some(timeout) = timeout(rules, queue.queue.settings(), consumer, usual) else { continue };
            let due = delivered.since.after_millis(timeout);
            if due <= now {
                let stored = delivered.stored.take();
                late.extend(stored.map(|stored| (delivered.queue, delivered.consumer, stored)));
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
        for (queue, consumer, stored) in late {
            self.return_to(queue, vec![stored], Return::TimedOut);
            if let Some(consumer) = consumer.filter(|consumer| self.consumers.contains_key(*consumer)) {
                self.cancel_by_broker(consumer);
                self.consumer_left(queue);
            }
        }
    }
}
