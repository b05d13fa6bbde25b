//! Deliveries whose body is over a limit, and how they are settled.

use std::sync::Arc;

use super::Consume;
use crate::error::Error;

/// Selects how a delivery is settled whose body is larger than
/// [`body_max`](crate::ConnectionOptions::body_max).
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Consume, OversizedDelivery};
/// // The queue has a dead-letter exchange.
/// let options = Consume::new().queue("jobs").oversized(OversizedDelivery::Reject);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OversizedDelivery {
    /// It stays unsettled for ten minutes, and then returns to its queue (`basic.nack`). No message is lost,
    /// and none comes in a loop. Until then it counts to the prefetch of the consumer: with a prefetch of 1
    /// nothing else is delivered. Once the consumer is cancelled it returns at once. The default.
    #[default]
    Requeue,
    /// It is rejected at once (`basic.reject` without requeue): the broker dead-letters the message, or drops
    /// it if its queue has no dead-letter exchange.
    Reject,
}

impl Consume {
    /// Sets how deliveries are settled whose body is larger than
    /// [`body_max`](crate::ConnectionOptions::body_max): unless set, they return to the queue after ten minutes.
    ///
    /// Their frames are dropped while they are read. Each is reported as
    /// [`ChannelEvent::DeliverySkipped`](crate::ChannelEvent::DeliverySkipped). One that needs no
    /// acknowledgement (`no_ack`) is lost: the broker has removed it. One of a stream stays in the stream, and is
    /// passed over.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Consume, OversizedDelivery};
    /// let options = Consume::new().oversized(OversizedDelivery::Reject);
    /// ```
    pub fn oversized(mut self, settle: OversizedDelivery) -> Self {
        self.oversized = settle;
        self
    }
}

/// Describes a delivery whose body was not read.
///
/// # Examples
/// ```
/// # use actix_pika_actors::ChannelEvent;
/// fn print(event: &ChannelEvent) {
///     if let ChannelEvent::DeliverySkipped(skipped) = event {
///         eprintln!("{} bytes for {:?} in {:?}", skipped.size, skipped.routing_key, skipped.queue);
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SkippedDelivery {
    /// Tag of the consumer.
    pub consumer_tag: Arc<str>,
    /// The queue of the consumer.
    pub queue: String,
    /// Exchange of the message; empty for the default exchange. Bytes that are not UTF-8 are replaced.
    pub exchange: String,
    /// Routing key of the message. Bytes that are not UTF-8 are replaced.
    pub routing_key: String,
    /// Size of the body in bytes, as the broker announced it.
    pub size: u64,
    /// Which limit the body is over; of kind [`Limit`](crate::ErrorKind::Limit).
    pub error: Error,
}
