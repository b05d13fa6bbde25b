//! From queues to consumers.

use std::{collections::BTreeMap, sync::Arc};

use actix_pika_actors::Value;
use bytes::Bytes;

use super::{
    ChannelAt, Core, Outgoing,
    delivery_timeout::{timeout, watch},
    keys::{ConsumerKey, QueueKey},
    message::Message,
    output::Output,
    properties::{kept, sorted},
    queue::{HandOut, Stored},
    session::{Delivered, Ending, Taker},
    settings::{QueueKind, QueueSettings},
};

/// How many deliveries of a connection wait as outputs at most.
const PENDING_MAX: u32 = 1024;
/// How many octets their bodies have at most, above that of the last one.
const PENDING_OCTETS_MAX: usize = 1 << 20;

impl Core {
    /// Puts a queue in the list of those to deliver from.
    pub(super) fn make_due(&mut self, key: QueueKey) {
        if let Some(queue) = self.topology.queues.get_mut(key)
            && !queue.is_due
        {
            queue.is_due = true;
            self.due.push_back(key);
        }
    }

    /// Hands out messages until there are none, or no consumer that is ready.
    pub(super) fn deliver_from(&mut self, key: QueueKey) {
        let mut dead = Vec::new();
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        queue.is_due = false;
        if matches!(queue.queue.settings().kind, QueueKind::Stream { .. }) {
            return self.deliver_from_stream(key);
        }
        let is_quorum = matches!(queue.queue.settings().kind, QueueKind::Quorum { .. });
        let mut holding = Vec::new();
        while let Some(queue) = self.topology.queues.get_mut(key) {
            queue.queue.expire(self.now, &mut dead);
            if queue.queue.ready() == 0 {
                break;
            }
            if !queue.roster.peek() {
                queue.roster.set_aside();
                break;
            }
            let Some(consumer) = queue.roster.next() else { break };
            let Some(stored) = queue.queue.take(self.now, &mut dead) else { break };
            self.hand_over(key, consumer, stored);
            if is_quorum {
                self.hold_for_round(key, consumer, &mut holding);
            }
        }
        if let Some(queue) = self.topology.queues.get_mut(key) {
            queue.queue.end_round(self.now, &mut dead);
        }
        self.bury(key, &mut dead);
        self.watch_messages(key);
        for consumer in holding {
            if let Some(record) = self.consumers.get_mut(consumer) {
                record.used = record.used.saturating_sub(1);
            }
            self.review_consumer(consumer);
        }
    }

    /// The limit of a consumer of a quorum queue holds without acks, too: what it gets in one round is settled after the
    /// round.
    fn hold_for_round(&mut self, key: QueueKey, consumer_key: ConsumerKey, holding: &mut Vec<ConsumerKey>) {
        let Some(consumer) = self.consumers.get_mut(consumer_key).filter(|consumer| consumer.no_ack) else {
            return;
        };
        holding.push(consumer_key);
        consumer.used += 1;
        if consumer.used >= u32::from(consumer.prefetch)
            && !consumer.blocked
            && let Some(queue) = self.topology.queues.get_mut(key)
        {
            consumer.blocked = true;
            queue.roster.block(consumer_key);
        }
    }

    /// Each consumer of a stream reads on its own.
    fn deliver_from_stream(&mut self, key: QueueKey) {
        let Some(queue) = self.topology.queues.get(key) else { return };
        let consumers: Vec<ConsumerKey> = queue.roster.iter().collect();
        for consumer in consumers {
            while let Some(record) = self.consumers.get_mut(consumer).filter(|record| !record.blocked) {
                let Some(queue) = self.topology.queues.get(key) else { return };
                let next = queue.queue.stream().and_then(|stream| record.reader.next(stream));
                let Some(stored) = next.cloned() else { break };
                self.hand_over(key, consumer, stored);
            }
        }
    }

    /// Sends a message to a consumer.
    pub(super) fn hand_over(&mut self, key: QueueKey, consumer_key: ConsumerKey, stored: Stored) {
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        let Some(consumer) = self.consumers.get_mut(consumer_key) else { return };
        let Some(connection) = self.connections.get_mut(consumer.connection) else { return };
        let Some(channel) = connection.channels.get_mut(&consumer.channel) else { return };
        let is_heard = channel.ending != Ending::Silent;
        if is_heard {
            connection.pending += 1;
            connection.pending_octets += stored.message.body.len();
        }
        let is_throttled = !connection.is_throttled
            && (connection.pending >= PENDING_MAX || connection.pending_octets >= PENDING_OCTETS_MAX);
        if is_throttled {
            connection.is_throttled = true;
        }
        channel.last_tag += 1;
        let delivery_tag = channel.last_tag;
        let (message, properties) = content_of(&stored, queue.queue.settings(), HandOut::Deliver);
        let output = Output::Deliver {
            consumer_tag: consumer.tag.clone(),
            delivery_tag,
            redelivered: stored.redelivered,
            properties,
            message,
        };
        if is_heard {
            self.outputs.push_back(Outgoing {
                connection: consumer.connection,
                channel: consumer.channel,
                output,
            });
        }
        let at = ChannelAt { connection: consumer.connection, number: consumer.channel };
        if consumer.no_ack && is_heard {
            queue.queue.settle(&stored);
            if is_throttled {
                self.review_connection(at.connection);
            }
            return;
        }
        consumer.used += 1;
        if is_shared_by(queue.queue.settings()) {
            channel.shared.used += 1;
        }
        let (tag, serial) = (consumer.tag.clone(), consumer.serial);
        let by = Taker::Consumer { key: consumer_key, tag, serial, timeout: consumer.timeout };
        let delivered = Delivered { queue: key, by, stored: Some(stored), since: self.now };
        channel.unacked.push(delivery_tag, delivered);
        if consumer.used == 1 {
            queue.roster.set_busy(consumer_key, true);
        }
        if consumer.prefetch != 0 && consumer.used >= u32::from(consumer.prefetch) && !consumer.blocked {
            consumer.blocked = true;
            queue.roster.block(consumer_key);
        }
        let is_reached = channel.shared.is_reached();
        let usual = channel.consumer_timeout;
        if let Some(timeout) = timeout(self.rules, queue.queue.settings(), consumer.timeout, usual) {
            watch(&mut self.timers, at, channel, self.now.after_millis(timeout));
        }
        if is_throttled {
            self.review_connection(at.connection);
        } else if is_reached {
            self.review_consumers(at);
        }
    }

    /// Takes all consumers of a channel out of the round, or back into it, as its limits are.
    pub(super) fn review_consumers(&mut self, at: ChannelAt) {
        let Ok(channel) = self.channel(at) else { return };
        let mut consumers: Vec<ConsumerKey> = channel.consumers.values().copied().collect();
        if channel.shared.limit != 0 && !channel.shared.is_reached() && !consumers.is_empty() {
            // Another queue is first each time, so that none is served alone. RabbitMQ draws lots.
            channel.shared.turn = (channel.shared.turn + 1) % consumers.len();
            consumers.rotate_left(channel.shared.turn);
        }
        // Those of one queue come back into its round in the order in which they left it.
        let queue_of = |key: &ConsumerKey| self.consumers.get(*key).map(|consumer| consumer.queue);
        let mut places = BTreeMap::new();
        for (place, key) in consumers.iter().enumerate() {
            places.entry(queue_of(key)).or_insert(place);
        }
        consumers.sort_by_cached_key(|key| {
            let queue = queue_of(key);
            let record = queue.and_then(|queue| self.topology.queues.get(queue));
            let aside = record.and_then(|record| record.roster.set_aside_at(*key));
            (places.get(&queue).copied(), aside)
        });
        for consumer in consumers {
            self.review_consumer(consumer);
        }
    }

    pub(super) fn review_consumer(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(connection) = self.connections.get(consumer.connection) else { return };
        let is_reached =
            connection.channels.get(&consumer.channel).is_some_and(|channel| channel.shared.is_reached());
        let shares = self.topology.queues.get(consumer.queue);
        let is_reached = is_reached && shares.is_some_and(|queue| is_shared_by(queue.queue.settings()));
        let is_full = consumer.prefetch != 0 && consumer.used >= u32::from(consumer.prefetch);
        let blocked = !connection.writable || connection.is_throttled || is_full || is_reached;
        if blocked == consumer.blocked {
            return;
        }
        consumer.blocked = blocked;
        let queue_key = consumer.queue;
        if let Some(queue) = self.topology.queues.get_mut(queue_key) {
            if blocked {
                queue.roster.block(key);
            } else {
                queue.roster.unblock(key);
                self.make_due(queue_key);
            }
        }
    }
}

/// Whether the consumers of a queue heed the limit that those of a channel share.
fn is_shared_by(settings: &QueueSettings) -> bool {
    matches!(settings.kind, QueueKind::Classic { .. })
}

/// The message of a delivery, and its properties with the headers that the queue adds.
pub(super) fn content_of(stored: &Stored, settings: &QueueSettings, by: HandOut) -> (Arc<Message>, Bytes) {
    let message = Arc::clone(&stored.message);
    let mut added = stored.headers_to_add(settings, by).peekable();
    let properties = if added.peek().is_none() {
        message.properties.clone()
    } else {
        let mut headers = message.headers().cloned().unwrap_or_default();
        if settings.line.rules().stream_drops_nested && matches!(settings.kind, QueueKind::Stream { .. }) {
            headers = kept(&headers, |_, value| !matches!(value, Value::Array(_) | Value::Table(_)));
        }
        for (key, value) in added {
            headers.insert(key, value);
        }
        message.summary.rewrite(&message.properties, &sorted(headers), false)
    };
    (message, properties)
}
