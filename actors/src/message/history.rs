//! The history that the broker records in a message's headers: delivery count, dead-lettering, stream offset.

use std::time::{Duration, SystemTime};

use super::{Delivery, Failures};
use crate::wire::{Table, Value};

/// Lists the reasons for which a message is dead-lettered.
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
    /// A consumer rejected it without requeue.
    Rejected,
    /// Its time-to-live in the queue passed.
    Expired,
    /// The queue was full.
    MaxLength,
    /// It was delivered too often (quorum queues).
    DeliveryLimit,
    /// A reason that this version of the crate does not list.
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

/// Holds one entry of `x-death`: how often and why a message was dead-lettered from one queue.
///
/// Source: <https://www.rabbitmq.com/docs/dlx#effects>
///
/// # Examples
/// ```
/// # use actix_pika_actors::Delivery;
/// fn print_history(delivery: &Delivery) {
///     for death in delivery.deaths() {
///         println!("{} times in {}: {:?}", death.count, death.queue, death.reason);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Death {
    /// Queue from which it was dead-lettered.
    pub queue: String,
    /// Reason.
    pub reason: DeathReason,
    /// How often it was dead-lettered from this queue for this reason.
    pub count: u64,
    /// Time of the first such event, in whole seconds.
    pub time: Option<SystemTime>,
    /// Exchange that it was published to. After the first dead-lettering this is a dead-letter exchange.
    pub exchange: String,
    /// Routing keys that it was published with, including those of `CC`, but not those of `BCC`.
    pub routing_keys: Vec<String>,
    /// Original expiration of the message. The broker removes it, so that the message does not expire again.
    pub original_expiration: Option<Duration>,
}

impl Death {
    fn parse(entry: &Table) -> Self {
        let lossy = |value: &Value| value.as_bytes().map(|text| String::from_utf8_lossy(text).into_owned());
        let text = |key: &str| entry.get(key).and_then(lossy).unwrap_or_default();
        let keys = entry.get("routing-keys").and_then(Value::as_array).unwrap_or_default();
        let expiration = entry.get("original-expiration").and_then(Value::as_str);
        Self {
            queue: text("queue"),
            reason: DeathReason::new(&text("reason")),
            count: entry.get("count").and_then(Value::as_i64).map_or(1, |n| n.try_into().unwrap_or(0)),
            time: entry.get("time").and_then(Value::as_time),
            exchange: text("exchange"),
            routing_keys: keys.iter().filter_map(lossy).collect(),
            original_expiration: expiration.and_then(|ms| ms.parse().ok()).map(Duration::from_millis),
        }
    }
}

impl Delivery {
    /// Returns how often the message was delivered before and returned to the queue (`x-delivery-count`).
    ///
    /// `None` if the queue does not count deliveries; only quorum queues do. RabbitMQ omits the header from
    /// the first delivery.
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

    /// Returns how often a consumer received the message before and returned or lost it, with or without a
    /// failure (`x-acquired-count`).
    ///
    /// `None` if the queue does not count this; only quorum queues of RabbitMQ 4.3 and later do. They count a
    /// `basic.nack` with requeue and a consumer timeout here, and not in
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

    /// Returns how often, where and why the message was dead-lettered (`x-death`), the latest first; empty if
    /// it never was.
    ///
    /// Bytes of names and routing keys that are not UTF-8 are replaced. RabbitMQ 3.10 does not sort the entries after the first one.
    ///
    /// If the broker added no entry, the header is the publisher's own: do not trust it more than the
    /// publisher.
    ///
    /// Source: <https://www.rabbitmq.com/docs/dlx#effects>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn times_dead_lettered(delivery: &Delivery) -> u64 {
    ///     delivery.deaths().iter().map(|death| death.count).sum()
    /// }
    /// ```
    pub fn deaths(&self) -> Vec<Death> {
        let entries = self.header("x-death").and_then(Value::as_array).unwrap_or_default();
        entries.iter().filter_map(Value::as_table).map(Death::parse).collect()
    }

    /// Returns the offset of the message in its stream (`x-stream-offset`); `None` for a message of a queue.
    ///
    /// Source: <https://www.rabbitmq.com/docs/streams#consuming>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, StreamOffset};
    /// fn resume_after(delivery: &Delivery) -> Option<StreamOffset> {
    ///     delivery.stream_offset().map(|offset| StreamOffset::Offset(offset + 1))
    /// }
    /// ```
    pub fn stream_offset(&self) -> Option<u64> {
        self.header("x-stream-offset")?.as_i64()?.try_into().ok()
    }

    /// Returns how often the processing of the message has failed before. A dead letter of RabbitMQ 4.3 comes
    /// as redelivered although it did not fail in this queue, which its counts tell.
    pub(super) fn failures(&self) -> Failures {
        match (self.delivery_count(), self.acquired_count()) {
            (Some(count), _) if count > 0 => Failures::Counted(count),
            (_, None) if self.redelivered() => Failures::Uncounted,
            _ => Failures::Counted(0),
        }
    }

    fn header(&self, key: &str) -> Option<&Value> {
        self.properties().ok()?.headers()?.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_with_missing_fields_are_parsed() {
        let entry = Table::new()
            .with("queue", "q")
            .with("reason", "expired")
            .with("count", 3i64)
            .with("exchange", "")
            .with("routing-keys", vec![Value::from("a"), Value::from("b")])
            .with("original-expiration", "500");
        let death = Death::parse(&entry);
        assert_eq!((death.queue.as_str(), death.reason, death.count), ("q", DeathReason::Expired, 3));
        assert_eq!(death.routing_keys, ["a", "b"]);
        assert_eq!(death.original_expiration, Some(Duration::from_millis(500)));
        let keys = vec![Value::from("a"), Value::LongString(vec![0xff].into())];
        let death = Death::parse(&Table::new().with("routing-keys", keys));
        assert_eq!(death.routing_keys, ["a", "\u{fffd}"]);
        let death = Death::parse(&Table::new().with("count", -1i64).with("reason", "new"));
        assert_eq!((death.count, death.reason), (0, DeathReason::Other("new".into())));
        assert_eq!((death.time, death.original_expiration), (None, None));
    }
}
