//! The arguments of queues and exchanges that RabbitMQ knows, typed: nobody need remember their names and units.
//!
//! They go out as the `arguments` table of a declare. Which of them a queue takes depends on its type and on the
//! broker's version; what it does not take, it refuses with 406 or ignores.

use std::time::Duration;

use super::{DeclareExchange, DeclareQueue};
use crate::wire::Value;

/// Says how a queue keeps its messages (`x-queue-type`).
///
/// Source: RabbitMQ, "Queues", section "Queue types".
///
/// Only classic queues may be transient or exclusive.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{DeclareQueue, QueueType};
/// let orders = DeclareQueue::new("orders").queue_type(QueueType::Quorum);
/// assert_eq!(QueueType::Quorum.as_str(), "quorum");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueType {
    /// On one node.
    Classic,
    /// Replicated over several nodes; always durable.
    Quorum,
    /// An append-only log that is read from any point, without being consumed; always durable.
    Stream,
}

impl QueueType {
    /// Names it as the broker does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::QueueType;
    /// assert_eq!(QueueType::Stream.as_str(), "stream");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }
}

/// Says what becomes of a publish to a queue that is full (`x-overflow`).
///
/// Source: RabbitMQ, "Queue Length Limit".
///
/// # Examples
/// ```
/// # use actix_pika_actors::{DeclareQueue, Overflow};
/// let bounded = DeclareQueue::new("jobs").max_length(10_000).overflow(Overflow::RejectPublish);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest message goes, dead-lettered if the queue does that. The broker's default.
    DropHead,
    /// The publish is refused: with confirms, an error of kind `Nacked`.
    RejectPublish,
    /// Like `RejectPublish`, and the refused message is dead-lettered. Classic queues only.
    RejectPublishDlx,
}

impl Overflow {
    /// Names it as the broker does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Overflow;
    /// assert_eq!(Overflow::DropHead.as_str(), "drop-head");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DropHead => "drop-head",
            Self::RejectPublish => "reject-publish",
            Self::RejectPublishDlx => "reject-publish-dlx",
        }
    }
}

/// Says how safely a quorum queue dead-letters (`x-dead-letter-strategy`).
///
/// Source: RabbitMQ, "Quorum Queues", section "At-least-once dead lettering".
///
/// # Examples
/// ```
/// # use actix_pika_actors::{DeadLetterStrategy, DeclareQueue, Overflow};
/// let safe = DeclareQueue::new("jobs")
///     .quorum()
///     .dead_letter_exchange("dead")
///     .dead_letter_strategy(DeadLetterStrategy::AtLeastOnce)
///     .overflow(Overflow::RejectPublish);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadLetterStrategy {
    /// A message may be lost on its way. The broker's default.
    AtMostOnce,
    /// Messages stay until the target has them; needs [`Overflow::RejectPublish`] to take effect.
    AtLeastOnce,
}

impl DeadLetterStrategy {
    /// Names it as the broker does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeadLetterStrategy;
    /// assert_eq!(DeadLetterStrategy::AtMostOnce.as_str(), "at-most-once");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtMostOnce => "at-most-once",
            Self::AtLeastOnce => "at-least-once",
        }
    }
}

/// Says which of the messages that come back to a quorum queue wait before they are delivered again
/// (`x-delayed-retry-type`).
///
/// Source: RabbitMQ, "Quorum Queues", section "Delayed retries".
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use actix_pika_actors::{DeclareQueue, DelayedRetry};
/// let patient = DeclareQueue::new("orders")
///     .quorum()
///     .delayed_retry(DelayedRetry::All, Duration::from_secs(1), Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DelayedRetry {
    /// All.
    All,
    /// Those whose delivery failed, which is what counts toward the delivery limit: rejected with requeue, or their
    /// consumer's channel is gone.
    Failed,
    /// Those that were given back without having failed: `basic.nack` with requeue, or a consumer that took too long.
    Returned,
}

impl DelayedRetry {
    /// Names it as the broker does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DelayedRetry;
    /// assert_eq!(DelayedRetry::Failed.as_str(), "failed");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failed => "failed",
            Self::Returned => "returned",
        }
    }
}

/// Says on which node of a cluster the leader of a queue begins (`x-queue-leader-locator`).
///
/// Source: RabbitMQ, "Clustering", section "Queue leader location".
///
/// # Examples
/// ```
/// # use actix_pika_actors::{DeclareQueue, LeaderLocator};
/// let spread = DeclareQueue::new("jobs").quorum().leader_locator(LeaderLocator::Balanced);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaderLocator {
    /// On the node that the declaring client is connected to. The broker's default.
    ClientLocal,
    /// Where few leaders are.
    Balanced,
}

impl LeaderLocator {
    /// Names it as the broker does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::LeaderLocator;
    /// assert_eq!(LeaderLocator::Balanced.as_str(), "balanced");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientLocal => "client-local",
            Self::Balanced => "balanced",
        }
    }
}

impl DeclareQueue {
    /// Tells the name; empty where the broker is to choose one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// assert_eq!(DeclareQueue::new("jobs").name(), "jobs");
    /// assert_eq!(DeclareQueue::server_named().name(), "");
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the type (`x-queue-type`); quorum queues and streams become durable, as they must be.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeclareQueue, QueueType};
    /// let log = DeclareQueue::new("log").queue_type(QueueType::Stream);
    /// ```
    pub fn queue_type(mut self, queue_type: QueueType) -> Self {
        if queue_type != QueueType::Classic {
            self.durable = true;
        }
        self.argument("x-queue-type", queue_type.as_str())
    }

    /// Makes it a classic queue (`x-queue-type`), whatever the virtual host makes of queues that do not say.
    ///
    /// Source: <https://www.rabbitmq.com/docs/classic-queues>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let replies = DeclareQueue::new("replies").classic().durable(false).exclusive(true);
    /// ```
    pub fn classic(self) -> Self {
        self.queue_type(QueueType::Classic)
    }

    /// Makes it a stream (`x-queue-type`): read with [`Consume::stream_offset`](super::Consume::stream_offset), never
    /// consumed.
    ///
    /// **Over a reconnect**: a consumer resumes behind the highest offset up to which all is settled.
    ///
    /// Source: <https://www.rabbitmq.com/docs/streams>
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::DeclareQueue;
    /// let log = DeclareQueue::new("log").stream().max_age(Duration::from_secs(7 * 24 * 3600));
    /// ```
    pub fn stream(self) -> Self {
        self.queue_type(QueueType::Stream)
    }

    /// Drops or dead-letters messages that have waited this long (`x-message-ttl`).
    ///
    /// Whole milliseconds, rounded up, 2^32 - 1 at most (406 beyond). Zero: what cannot be delivered at once expires.
    ///
    /// Source: <https://www.rabbitmq.com/docs/ttl>
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::DeclareQueue;
    /// let jobs = DeclareQueue::new("jobs").message_ttl(Duration::from_secs(60));
    /// ```
    pub fn message_ttl(self, ttl: Duration) -> Self {
        self.argument("x-message-ttl", millis(ttl))
    }

    /// Deletes the queue once it was unused for this long (`x-expires`): no consumer, no `get`, no declare.
    ///
    /// Whole milliseconds, rounded up, from 1 to 2^32 - 1 (406 beyond).
    ///
    /// **Over a reconnect**: where it has expired meanwhile, it is declared again, empty.
    ///
    /// Source: <https://www.rabbitmq.com/docs/ttl#queue-ttl>
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::DeclareQueue;
    /// let basket = DeclareQueue::new("basket.7").expires(Duration::from_secs(1800));
    /// ```
    pub fn expires(self, unused_for: Duration) -> Self {
        self.argument("x-expires", millis(unused_for))
    }

    /// Bounds how many messages may be ready (`x-max-length`); [`overflow`](Self::overflow) tells what goes.
    ///
    /// Source: <https://www.rabbitmq.com/docs/maxlength>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let latest = DeclareQueue::new("latest").max_length(1);
    /// ```
    pub fn max_length(self, messages: u64) -> Self {
        self.argument("x-max-length", long(messages))
    }

    /// Bounds how many bytes of bodies may be ready (`x-max-length-bytes`).
    ///
    /// Source: <https://www.rabbitmq.com/docs/maxlength>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let jobs = DeclareQueue::new("jobs").max_length_bytes(64 << 20);
    /// ```
    pub fn max_length_bytes(self, bytes: u64) -> Self {
        self.argument("x-max-length-bytes", long(bytes))
    }

    /// Sets what becomes of publishes when it is full (`x-overflow`).
    ///
    /// Source: <https://www.rabbitmq.com/docs/maxlength#overflow-behaviour>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeclareQueue, Overflow};
    /// let jobs = DeclareQueue::new("jobs").max_length(1000).overflow(Overflow::RejectPublish);
    /// ```
    pub fn overflow(self, overflow: Overflow) -> Self {
        self.argument("x-overflow", overflow.as_str())
    }

    /// Names the exchange that gets what expires, is rejected or overflows (`x-dead-letter-exchange`).
    ///
    /// An empty name is the default exchange. It need not exist yet; while it does not, messages are lost.
    ///
    /// Source: <https://www.rabbitmq.com/docs/dlx>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let jobs = DeclareQueue::new("jobs").dead_letter_exchange("dead");
    /// ```
    #[doc(alias = "dlx")]
    pub fn dead_letter_exchange(self, exchange: &str) -> Self {
        self.argument("x-dead-letter-exchange", exchange)
    }

    /// Sets the routing key of dead letters (`x-dead-letter-routing-key`), which else is their own.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let jobs = DeclareQueue::new("jobs").dead_letter_exchange("").dead_letter_routing_key("jobs.dead");
    /// ```
    pub fn dead_letter_routing_key(self, routing_key: &str) -> Self {
        self.argument("x-dead-letter-routing-key", routing_key)
    }

    /// Sets how safely it dead-letters (`x-dead-letter-strategy`). Quorum queues only.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeadLetterStrategy, DeclareQueue};
    /// let jobs = DeclareQueue::new("jobs").quorum().dead_letter_strategy(DeadLetterStrategy::AtLeastOnce);
    /// ```
    pub fn dead_letter_strategy(self, strategy: DeadLetterStrategy) -> Self {
        self.argument("x-dead-letter-strategy", strategy.as_str())
    }

    /// Delivers by priority, from 0 to this (`x-max-priority`). Classic queues only; each level costs, 5 are plenty.
    ///
    /// Source: <https://www.rabbitmq.com/docs/priority>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeclareQueue, Publishing};
    /// let jobs = DeclareQueue::new("jobs").max_priority(5);
    /// let urgent = Publishing::new("resize 7.png").priority(5);
    /// ```
    pub fn max_priority(self, highest: u8) -> Self {
        self.argument("x-max-priority", i32::from(highest))
    }

    /// Sets whether one consumer at a time gets deliveries (`x-single-active-consumer`). When it ends, another consumer
    /// of the queue takes over.
    ///
    /// Source: <https://www.rabbitmq.com/docs/consumers#single-active-consumer>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let ordered = DeclareQueue::new("ledger").single_active_consumer(true);
    /// ```
    pub fn single_active_consumer(self, single_active_consumer: bool) -> Self {
        self.argument("x-single-active-consumer", single_active_consumer)
    }

    /// Drops or dead-letters a message that came back this often (`x-delivery-limit`). Quorum queues only.
    ///
    /// RabbitMQ 4 has a limit of 20 where none is set.
    ///
    /// Source: <https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let jobs = DeclareQueue::new("jobs").quorum().delivery_limit(5).dead_letter_exchange("poison");
    /// ```
    pub fn delivery_limit(self, deliveries: u32) -> Self {
        self.argument("x-delivery-limit", i64::from(deliveries))
    }

    /// Lets messages that come back wait before they are delivered again: `min` the first time, as much more each time
    /// after, `max` at most (`x-delayed-retry-type`, `-min`, `-max`).
    ///
    /// Whole milliseconds, rounded up. Quorum queues of RabbitMQ 4.3 and later; older brokers ignore it.
    ///
    /// Source: <https://www.rabbitmq.com/docs/quorum-queues>
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::{DeclareQueue, DelayedRetry};
    /// let patient = DeclareQueue::new("orders")
    ///     .quorum()
    ///     .delivery_limit(5)
    ///     .delayed_retry(DelayedRetry::Failed, Duration::from_secs(1), Duration::from_secs(60));
    /// ```
    pub fn delayed_retry(self, which: DelayedRetry, min: Duration, max: Duration) -> Self {
        self.argument("x-delayed-retry-type", which.as_str())
            .argument("x-delayed-retry-min", millis(min))
            .argument("x-delayed-retry-max", millis(max))
    }

    /// Sets where its leader begins (`x-queue-leader-locator`).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeclareQueue, LeaderLocator};
    /// let jobs = DeclareQueue::new("jobs").quorum().leader_locator(LeaderLocator::Balanced);
    /// ```
    pub fn leader_locator(self, locator: LeaderLocator) -> Self {
        self.argument("x-queue-leader-locator", locator.as_str())
    }

    /// Bounds how long a consumer may keep a delivery unsettled before its channel is closed (`x-consumer-timeout`).
    ///
    /// Whole milliseconds, rounded up. RabbitMQ 3.12 and later; the broker's own default is 30 minutes.
    ///
    /// Source: <https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout>
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::DeclareQueue;
    /// let slow = DeclareQueue::new("transcode").consumer_timeout(Duration::from_secs(4 * 3600));
    /// ```
    pub fn consumer_timeout(self, timeout: Duration) -> Self {
        self.argument("x-consumer-timeout", millis(timeout))
    }

    /// Bounds how long a stream keeps its messages (`x-max-age`); whole seconds, rounded up. Streams only.
    ///
    /// Source: <https://www.rabbitmq.com/docs/streams#retention>
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::DeclareQueue;
    /// let log = DeclareQueue::new("log").stream().max_age(Duration::from_secs(24 * 3600));
    /// ```
    pub fn max_age(self, age: Duration) -> Self {
        self.argument("x-max-age", seconds(age))
    }

    /// Sets the size of a stream's segment files in bytes (`x-stream-max-segment-size-bytes`), up to 3 GB. Streams
    /// only.
    ///
    /// Limits of age and length take effect a segment at a time.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let log = DeclareQueue::new("log").stream().max_segment_size(100_000_000);
    /// ```
    pub fn max_segment_size(self, bytes: u64) -> Self {
        self.argument("x-stream-max-segment-size-bytes", long(bytes))
    }

    /// Sets whether messages are kept on disk rather than in memory (`x-queue-mode`). For classic queues before
    /// RabbitMQ 3.12; later versions always do so.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let archive = DeclareQueue::new("archive").lazy(true);
    /// ```
    pub fn lazy(self, lazy: bool) -> Self {
        self.argument("x-queue-mode", if lazy { "lazy" } else { "default" })
    }

    /// Tells which type the arguments say.
    #[doc(hidden)]
    pub fn said_type(&self) -> Option<QueueType> {
        let said = self.arguments.get("x-queue-type").and_then(Value::as_str)?;
        [QueueType::Classic, QueueType::Quorum, QueueType::Stream]
            .into_iter()
            .find(|known| known.as_str() == said)
    }
}

impl DeclareExchange {
    /// Names the exchange that gets what this one cannot route (`alternate-exchange`).
    ///
    /// A message that it routes counts as routed: a mandatory one does not come back.
    /// Source: RabbitMQ, "Alternate Exchanges".
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let orders = DeclareExchange::topic("orders").alternate_exchange("unrouted");
    /// ```
    pub fn alternate_exchange(self, exchange: &str) -> Self {
        self.argument("alternate-exchange", exchange)
    }
}

/// As the broker writes a time, such as `90s`; rounded up.
pub(super) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    format!("{seconds}s")
}

fn millis(duration: Duration) -> i64 {
    let up = u128::from(!duration.subsec_nanos().is_multiple_of(1_000_000));
    (duration.as_millis() + up).try_into().unwrap_or(i64::MAX)
}

fn long(value: u64) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_and_never_wrap() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_micros(1)), 1);
        assert_eq!(millis(Duration::from_micros(2001)), 3);
        assert_eq!(millis(Duration::MAX), i64::MAX);
        let declare = DeclareQueue::new("s").max_age(Duration::from_millis(1500)).max_length(u64::MAX);
        assert_eq!(declare.arguments.get("x-max-age").and_then(Value::as_str), Some("2s"));
        assert_eq!(declare.arguments.get("x-max-length").and_then(Value::as_i64), Some(i64::MAX));
    }

    #[test]
    fn quorum_queues_and_streams_are_durable() {
        assert!(DeclareQueue::new("q").durable(false).quorum().durable);
        assert!(DeclareQueue::new("q").durable(false).stream().durable);
        assert!(!DeclareQueue::new("q").durable(false).queue_type(QueueType::Classic).durable);
    }
}
