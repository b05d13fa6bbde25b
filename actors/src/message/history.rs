//! What the broker notes on a message about its past: how often it came, where it died, where it stands in a stream.

use std::time::{Duration, SystemTime};

use super::Delivery;
use crate::wire::{Table, Value};

/// Tells why a message was dead-lettered.
///
/// Source: <https://www.rabbitmq.com/docs/dlx#effects>
///
/// # Examples
/// ```
/// # use actix_pika_actors::{DeathReason, Delivery};
/// fn has_expired(delivery: &Delivery) -> bool {
///     delivery.deaths().first().is_some_and(|death| death.reason == DeathReason::Expired)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeathReason {
    /// A consumer refused it without requeue.
    Rejected,
    /// It waited too long.
    Expired,
    /// The queue was full.
    MaxLength,
    /// It was delivered too often (quorum queues).
    DeliveryLimit,
    /// Something that this version does not know.
    Other(String),
}

impl DeathReason {
    fn new(name: &str) -> Self {
        match name {
            "rejected" => Self::Rejected,
            "expired" => Self::Expired,
            "maxlen" => Self::MaxLength,
            "delivery_limit" => Self::DeliveryLimit,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Holds one entry of `x-death`: how often, and why, a message was dead-lettered from one queue.
///
/// Source: RabbitMQ, "Dead Letter Exchanges", section "Dead-Lettered Effects on Messages".
///
/// # Examples
/// ```
/// # use actix_pika_actors::Delivery;
/// fn explain(delivery: &Delivery) {
///     for death in delivery.deaths() {
///         println!("{} times in {}: {:?}", death.count, death.queue, death.reason);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Death {
    /// The queue that it died in.
    pub queue: String,
    /// Why.
    pub reason: DeathReason,
    /// How often it died there for this reason.
    pub count: u64,
    /// When it did so first, in whole seconds.
    pub time: Option<SystemTime>,
    /// The exchange that it had been published to, which after the first death is a dead-letter exchange.
    pub exchange: String,
    /// The routing keys that it had been published with, `CC` included and `BCC` not.
    pub routing_keys: Vec<String>,
    /// The expiration that it had, which is removed so that it does not expire again.
    pub original_expiration: Option<Duration>,
}

impl Death {
    fn read(entry: &Table) -> Self {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let keys = entry.get("routing-keys").and_then(Value::as_array).unwrap_or_default();
        let expiration = entry.get("original-expiration").and_then(Value::as_str);
        Self {
            queue: text("queue"),
            reason: DeathReason::new(&text("reason")),
            count: entry.get("count").and_then(Value::as_i64).map_or(1, |n| n.try_into().unwrap_or(0)),
            time: entry.get("time").and_then(Value::as_time),
            exchange: text("exchange"),
            routing_keys: keys.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            original_expiration: expiration.and_then(|ms| ms.parse().ok()).map(Duration::from_millis),
        }
    }
}

impl Delivery {
    /// Tells how often it was delivered before and came back (`x-delivery-count`); `None` where the queue does not
    /// count, which only quorum queues do.
    ///
    /// RabbitMQ leaves the header out of the first delivery.
    ///
    /// Source: <https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn work(delivery: Delivery) -> Result<()> {
    ///     if delivery.delivery_count().is_some_and(|count| count >= 3) {
    ///         return delivery.reject(false);
    ///     }
    ///     delivery.ack()
    /// }
    /// ```
    pub fn delivery_count(&self) -> Option<u64> {
        self.header("x-delivery-count")?.as_i64()?.try_into().ok()
    }

    /// Tells how often a consumer had it before and gave it back or lost it, failed or not (`x-acquired-count`); `None`
    /// where the queue does not count it, which only quorum queues of RabbitMQ 4.3 and later do.
    ///
    /// There a `nack` with requeue and a consumer that took too long count here, and not in
    /// [`delivery_count`](Self::delivery_count).
    ///
    /// Source: <https://www.rabbitmq.com/docs/quorum-queues>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn work(delivery: Delivery) -> Result<()> {
    ///     match delivery.acquired_count() {
    ///         Some(100..) => delivery.reject(false),
    ///         _ => delivery.nack(true),
    ///     }
    /// }
    /// ```
    pub fn acquired_count(&self) -> Option<u64> {
        self.header("x-acquired-count")?.as_i64()?.try_into().ok()
    }

    /// Tells how often, where and why it was dead-lettered (`x-death`), the latest first; empty if it never was.
    ///
    /// Of those behind the first, RabbitMQ 3.10 keeps no order.
    ///
    /// The header is the publisher's where the broker added nothing to it: do not trust it further than the publisher.
    ///
    /// Source: <https://www.rabbitmq.com/docs/dlx#effects>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn attempts(delivery: &Delivery) -> u64 {
    ///     delivery.deaths().iter().map(|death| death.count).sum()
    /// }
    /// ```
    pub fn deaths(&self) -> Vec<Death> {
        let entries = self.header("x-death").and_then(Value::as_array).unwrap_or_default();
        entries.iter().filter_map(Value::as_table).map(Death::read).collect()
    }

    /// Tells where it stands in its stream (`x-stream-offset`); `None` where it is from a queue.
    ///
    /// Source: <https://www.rabbitmq.com/docs/streams#consuming>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, StreamOffset};
    /// fn go_on_behind(delivery: &Delivery) -> Option<StreamOffset> {
    ///     delivery.stream_offset().map(|offset| StreamOffset::Offset(offset + 1))
    /// }
    /// ```
    pub fn stream_offset(&self) -> Option<u64> {
        self.header("x-stream-offset")?.as_i64()?.try_into().ok()
    }

    fn header(&self, key: &str) -> Option<&Value> {
        self.properties().ok()?.headers()?.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_whatever_is_missing() {
        let entry = Table::new()
            .with("queue", "q")
            .with("reason", "expired")
            .with("count", 3i64)
            .with("exchange", "")
            .with("routing-keys", vec![Value::from("a"), Value::from("b")])
            .with("original-expiration", "500");
        let death = Death::read(&entry);
        assert_eq!((death.queue.as_str(), death.reason, death.count), ("q", DeathReason::Expired, 3));
        assert_eq!(death.routing_keys, ["a", "b"]);
        assert_eq!(death.original_expiration, Some(Duration::from_millis(500)));
        let death = Death::read(&Table::new().with("count", -1i64).with("reason", "new"));
        assert_eq!((death.count, death.reason), (0, DeathReason::Other("new".into())));
        assert_eq!((death.time, death.original_expiration), (None, None));
    }
}
