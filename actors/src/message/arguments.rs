//! Typed arguments of queues and exchanges: names and units of the arguments that RabbitMQ supports.
//!
//! They are sent in the `arguments` table of a declare. Which of them apply to a queue depends on its type
//! and on the broker's version. The broker refuses the others with 406, or ignores them.

use std::time::Duration;

use super::{DeclareExchange, DeclareQueue};
use crate::wire::Value;

/// Selects how a queue stores its messages (`x-queue-type`).
///
/// Only classic queues may be transient or exclusive.
///
/// Source: <https://www.rabbitmq.com/docs/queues> ("Queue types")
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
    /// Stored on one node.
    Classic,
    /// Replicated over several nodes; always durable.
    Quorum,
    /// An append-only log; reading it, from any position, does not remove messages. Always durable.
    Stream,
}

impl QueueType {
    /// Returns the name that the broker uses.
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

/// Selects what the broker does with a publish to a full queue (`x-overflow`).
///
/// Source: <https://www.rabbitmq.com/docs/maxlength>
///
/// # Examples
/// ```
/// # use actix_pika_actors::{DeclareQueue, Overflow};
/// let bounded = DeclareQueue::new("jobs").max_length(10_000).overflow(Overflow::RejectPublish);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest message is dropped, or dead-lettered if the queue has a dead-letter exchange. The broker's
    /// default.
    DropHead,
    /// The publish is refused. With confirms this is an error of kind `Nacked`.
    RejectPublish,
    /// Like `RejectPublish`, and the refused message is dead-lettered. Classic queues only.
    RejectPublishDlx,
}

impl Overflow {
    /// Returns the name that the broker uses.
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

/// Selects how safely a quorum queue dead-letters messages (`x-dead-letter-strategy`).
///
/// Source: <https://www.rabbitmq.com/docs/quorum-queues> ("At-least-once dead lettering")
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
    /// A message may be lost between the queues. The broker's default.
    AtMostOnce,
    /// Messages stay in the queue until the target queue confirms them. Requires [`Overflow::RejectPublish`].
    AtLeastOnce,
}

impl DeadLetterStrategy {
    /// Returns the name that the broker uses.
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

/// Selects which of the messages that return to a quorum queue are delayed before they are delivered again
/// (`x-delayed-retry-type`).
///
/// Source: <https://www.rabbitmq.com/docs/quorum-queues> ("Delayed retries")
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use actix_pika_actors::{DeclareQueue, DelayedRetry};
/// let orders = DeclareQueue::new("orders")
///     .quorum()
///     .delayed_retry(DelayedRetry::All, Duration::from_secs(1), Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DelayedRetry {
    /// All of them.
    All,
    /// Those whose delivery failed, which also count towards the delivery limit: rejected with requeue, or
    /// their consumer's channel closed.
    Failed,
    /// Those that were returned without a failure: `basic.nack` with requeue, or a consumer timeout.
    Returned,
}

impl DelayedRetry {
    /// Returns the name that the broker uses.
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

/// Selects the node of a cluster that hosts the leader of a new queue (`x-queue-leader-locator`).
///
/// Source: <https://www.rabbitmq.com/docs/clustering> ("Queue leader location")
///
/// # Examples
/// ```
/// # use actix_pika_actors::{DeclareQueue, LeaderLocator};
/// let spread = DeclareQueue::new("jobs").quorum().leader_locator(LeaderLocator::Balanced);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaderLocator {
    /// The node that the declaring client is connected to. The broker's default.
    ClientLocal,
    /// A node with few leaders.
    Balanced,
}

impl LeaderLocator {
    /// Returns the name that the broker uses.
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
    /// Returns the name; empty if the broker chooses it.
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

    /// Sets the queue type (`x-queue-type`). Quorum queues and streams become durable, which they must be.
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

    /// Sets the type to classic (`x-queue-type`), whatever the default queue type of the virtual host is.
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

    /// Sets the type to stream (`x-queue-type`). A stream is read with
    /// [`Consume::stream_offset`](super::Consume::stream_offset); reading does not remove messages.
    ///
    /// **Over a reconnect**: a consumer continues after the highest offset up to which all deliveries are
    /// settled.
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

    /// Sets how long a message may stay in the queue before it is dropped or dead-lettered (`x-message-ttl`).
    ///
    /// Whole milliseconds, rounded up; at most 2^32 - 1 (406 beyond). With zero, a message expires unless it
    /// can be delivered at once.
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

    /// Sets after which time without use the broker deletes the queue (`x-expires`). Use is a consumer, a
    /// `basic.get` or a declare.
    ///
    /// Whole milliseconds, rounded up; from 1 to 2^32 - 1 (406 beyond).
    ///
    /// **Over a reconnect**: a queue that expired in the meantime is redeclared, empty.
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

    /// Sets the maximum number of ready messages (`x-max-length`). [`overflow`](Self::overflow) selects what
    /// happens to further ones.
    ///
    /// Source: <https://www.rabbitmq.com/docs/maxlength>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let latest = DeclareQueue::new("latest").max_length(1);
    /// ```
    pub fn max_length(self, messages: u64) -> Self {
        self.argument("x-max-length", saturate(messages))
    }

    /// Sets the maximum size of all ready message bodies in bytes (`x-max-length-bytes`).
    ///
    /// Source: <https://www.rabbitmq.com/docs/maxlength>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let jobs = DeclareQueue::new("jobs").max_length_bytes(64 << 20);
    /// ```
    pub fn max_length_bytes(self, bytes: u64) -> Self {
        self.argument("x-max-length-bytes", saturate(bytes))
    }

    /// Sets what the broker does with a publish while the queue is full (`x-overflow`).
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

    /// Sets the exchange that receives expired, rejected and overflowing messages (`x-dead-letter-exchange`).
    ///
    /// An empty name is the default exchange. The exchange need not exist yet, but such messages are lost
    /// until it does.
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

    /// Sets the routing key of dead-lettered messages (`x-dead-letter-routing-key`). They keep their own
    /// unless set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let jobs = DeclareQueue::new("jobs").dead_letter_exchange("").dead_letter_routing_key("jobs.dead");
    /// ```
    pub fn dead_letter_routing_key(self, routing_key: &str) -> Self {
        self.argument("x-dead-letter-routing-key", routing_key)
    }

    /// Sets how safely the queue dead-letters messages (`x-dead-letter-strategy`). Quorum queues only.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeadLetterStrategy, DeclareQueue};
    /// let jobs = DeclareQueue::new("jobs").quorum().dead_letter_strategy(DeadLetterStrategy::AtLeastOnce);
    /// ```
    pub fn dead_letter_strategy(self, strategy: DeadLetterStrategy) -> Self {
        self.argument("x-dead-letter-strategy", strategy.as_str())
    }

    /// Sets the highest priority (`x-max-priority`); messages have priorities from 0 to this one. Classic
    /// queues only.
    ///
    /// Each level costs memory and CPU on the broker; 5 levels are enough for most uses.
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

    /// Sets whether only one consumer at a time gets deliveries (`x-single-active-consumer`). When it ends,
    /// another consumer of the queue takes over.
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

    /// Sets how often a message may be returned to the queue before it is dropped or dead-lettered
    /// (`x-delivery-limit`). Quorum queues only.
    ///
    /// RabbitMQ 4 applies a limit of 20 if none is set.
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

    /// Sets how long a returned message is delayed before it is delivered again (`x-delayed-retry-type`,
    /// `x-delayed-retry-min`, `x-delayed-retry-max`). The delay is `min` the first time, grows by `min` each
    /// time, and is at most `max`.
    ///
    /// Whole milliseconds, rounded up. Quorum queues of RabbitMQ 4.3 and later; older brokers ignore it.
    ///
    /// Source: <https://www.rabbitmq.com/docs/quorum-queues>
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::{DeclareQueue, DelayedRetry};
    /// let orders = DeclareQueue::new("orders")
    ///     .quorum()
    ///     .delivery_limit(5)
    ///     .delayed_retry(DelayedRetry::Failed, Duration::from_secs(1), Duration::from_secs(60));
    /// ```
    pub fn delayed_retry(self, which: DelayedRetry, min: Duration, max: Duration) -> Self {
        self.argument("x-delayed-retry-type", which.as_str())
            .argument("x-delayed-retry-min", millis(min))
            .argument("x-delayed-retry-max", millis(max))
    }

    /// Sets the node on which the leader of the queue is created (`x-queue-leader-locator`).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeclareQueue, LeaderLocator};
    /// let jobs = DeclareQueue::new("jobs").quorum().leader_locator(LeaderLocator::Balanced);
    /// ```
    pub fn leader_locator(self, locator: LeaderLocator) -> Self {
        self.argument("x-queue-leader-locator", locator.as_str())
    }

    /// Sets how long a consumer may leave a delivery unsettled (`x-consumer-timeout`).
    ///
    /// Whole milliseconds, rounded up. RabbitMQ 3.12 and later; the broker's default is 30 minutes. Up to 4.2
    /// the broker then closes the channel (406), which is reopened on a connection that recovers. From 4.3 on
    /// only quorum queues have such a limit: the broker cancels the consumer, which is started again on a
    /// connection that recovers, and takes its deliveries back; settling one fails with `StaleDelivery`.
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

    /// Sets how long a stream keeps its messages (`x-max-age`). Streams only.
    ///
    /// Whole seconds, rounded up.
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

    /// Sets the size of a stream's segment files in bytes (`x-stream-max-segment-size-bytes`), at most 3 GB.
    /// Streams only.
    ///
    /// The limits of age and length apply to whole segments.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let log = DeclareQueue::new("log").stream().max_segment_size(100_000_000);
    /// ```
    pub fn max_segment_size(self, bytes: u64) -> Self {
        self.argument("x-stream-max-segment-size-bytes", saturate(bytes))
    }

    /// Sets whether messages are kept on disk instead of in memory (`x-queue-mode`). Classic queues before
    /// RabbitMQ 3.12 only; later versions always keep them on disk, and some from 4.3 on may refuse the
    /// argument (406).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let archive = DeclareQueue::new("archive").lazy(true);
    /// ```
    pub fn lazy(self, lazy: bool) -> Self {
        self.argument("x-queue-mode", if lazy { "lazy" } else { "default" })
    }

    /// Returns the type that the arguments select, if any.
    pub(crate) fn declared_type(&self) -> Option<QueueType> {
        let name = self.arguments.get("x-queue-type").and_then(Value::as_str)?;
        [QueueType::Classic, QueueType::Quorum, QueueType::Stream]
            .into_iter()
            .find(|known| known.as_str() == name)
    }
}

impl DeclareExchange {
    /// Sets the exchange that receives messages that this one cannot route (`alternate-exchange`).
    ///
    /// A message that the alternate exchange routes counts as routed: a mandatory one is not returned.
    ///
    /// Source: <https://www.rabbitmq.com/docs/ae>
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

/// Formats a duration as the broker expects it, such as `90s`; rounded up.
pub(super) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    format!("{seconds}s")
}

/// Returns whole milliseconds, rounded up.
fn millis(duration: Duration) -> i64 {
    let up = u128::from(!duration.subsec_nanos().is_multiple_of(1_000_000));
    (duration.as_millis() + up).try_into().unwrap_or(i64::MAX)
}

fn saturate(value: u64) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_and_saturate() {
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
