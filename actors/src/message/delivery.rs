//! A message from the broker, and the right to settle it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use actix::Message;
use bytes::Bytes;

use super::{Acker, DeliveryParts, Outcome, Unsettled};
use crate::{
    error::{Error, Result},
    wire::{DecodeError, Properties, Span, decode_properties},
};

/// Holds a message from the broker, and the right to settle it once.
///
/// The methods that settle a delivery consume it, so nothing is settled twice. Dropping an unsettled delivery
/// returns it to its queue:
///
/// - With `basic.reject`, if an application drops it. The first time at once, up to 100 messages in a second of
///   a consumer; a message whose processing has failed before waits, for 100 ms and twice as long each time, up to 10 s. Until then the delivery is
///   unsettled and counts to the prefetch. If its consumer is cancelled, the wait ends. Deliveries of
///   [`Get`](super::Get) do not wait, and neither does an explicit [`nack`](Self::nack) or
///   [`reject`](Self::reject).
/// - With `basic.nack`, if the application has not begun it: its consumer is cancelled, its actor has
///   stopped, or its stream was dropped. In RabbitMQ 4.3 that does not count towards the delivery limit of a
///   quorum queue; up to 4.2 both count.
///
/// **Over a reconnect**: a delivery from before can no longer be settled ([`is_stale`](Self::is_stale)). The
/// broker delivers the message again.
///
/// Source: AMQP 0-9-1 section 1.8.3.9 (`basic.deliver`); <https://www.rabbitmq.com/docs/confirms>
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Delivery, Result};
/// fn work(delivery: Delivery) -> Result<()> {
///     if delivery.body().is_empty() {
///         return delivery.reject(false);
///     }
///     delivery.ack()
/// }
/// ```
#[doc(alias = "IncomingMessage")]
#[must_use = "a delivery that is dropped unsettled returns to its queue"]
pub struct Delivery {
    acker: Option<Arc<dyn Acker>>,
    parts: DeliveryParts,
    decoded: OnceLock<Box<Decoded>>,
    pub(super) on_drop: OnDrop,
}

/// What becomes of a delivery that is dropped unsettled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDrop {
    /// It returns to its queue.
    Requeue,
    /// It returns to its queue: it was dropped by the guard of its processing.
    RequeueFailed,
    /// It is dropped, or dead-lettered.
    Reject,
}

/// What is decoded on demand only.
struct Decoded {
    properties: Result<Properties>,
    /// Exchange and routing key, if they are not UTF-8.
    lossy: [String; 2],
}

impl Delivery {
    pub(crate) fn new(acker: Arc<dyn Acker>, parts: DeliveryParts) -> Self {
        Self { acker: Some(acker), parts, decoded: OnceLock::new(), on_drop: OnDrop::Requeue }
    }

    /// Creates a delivery that settles nothing.
    pub(super) fn without_acker(parts: DeliveryParts) -> Self {
        Self { acker: None, parts, decoded: OnceLock::new(), on_drop: OnDrop::Requeue }
    }

    /// Returns the body.
    ///
    /// A body that came in several frames is reassembled. One of more than `body_max` (128 MiB unless set)
    /// is not delivered: see [`Consume::oversized`](super::Consume::oversized).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn text(delivery: &Delivery) -> Option<&str> {
    ///     std::str::from_utf8(delivery.body()).ok()
    /// }
    /// ```
    pub fn body(&self) -> &[u8] {
        self.parts.body()
    }

    /// Returns the body as `Bytes`, to keep it.
    ///
    /// A large body is returned as a view of the block that was read from the socket. A small one (below 4
    /// KiB) is copied, because the view would keep the whole block in memory.
    ///
    /// # Examples
    /// ```
    /// # use bytes::Bytes;
    /// # use actix_pika_actors::Delivery;
    /// fn keep(delivery: &Delivery) -> Bytes {
    ///     delivery.body_bytes()
    /// }
    /// ```
    pub fn body_bytes(&self) -> Bytes {
        self.parts.body_bytes()
    }

    /// Returns the body without a copy. Use it for deliveries that need no settling (`no_ack`).
    ///
    /// This drops the delivery: one that is not `no_ack` returns to its queue, as every unsettled delivery
    /// that is dropped. To settle a delivery later and keep its body, use [`body_bytes`](Self::body_bytes).
    /// The returned `Bytes` is a view of the block that was read from the socket, and keeps all of it in
    /// memory.
    ///
    /// # Examples
    /// ```
    /// # use bytes::Bytes;
    /// # use actix_pika_actors::Delivery;
    /// fn keep(price: Delivery) -> Bytes {
    ///     assert!(price.is_no_ack());
    ///     price.into_body()
    /// }
    /// ```
    pub fn into_body(self) -> Bytes {
        self.parts.body_view()
    }

    /// Returns the exchange that the message was published to; empty for the default exchange.
    ///
    /// Bytes that are not UTF-8 are replaced.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn is_dead_letter(delivery: &Delivery) -> bool {
    ///     delivery.exchange() == "dead"
    /// }
    /// ```
    pub fn exchange(&self) -> &str {
        let bytes = self.parts.exchange.of(&self.parts.bytes);
        std::str::from_utf8(bytes).unwrap_or_else(|_| &self.decoded().lossy[0])
    }

    /// Returns the routing key. Bytes that are not UTF-8 are replaced.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn level(delivery: &Delivery) -> &str {
    ///     delivery.routing_key().split('.').next().unwrap_or_default()
    /// }
    /// ```
    pub fn routing_key(&self) -> &str {
        std::str::from_utf8(self.routing_key_bytes()).unwrap_or_else(|_| &self.decoded().lossy[1])
    }

    /// Returns the routing key as the broker sent it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn is_binary(delivery: &Delivery) -> bool {
    ///     !delivery.routing_key_bytes().is_ascii()
    /// }
    /// ```
    pub fn routing_key_bytes(&self) -> &[u8] {
        self.parts.routing_key.of(&self.parts.bytes)
    }

    /// Returns whether the broker may have delivered the message before.
    ///
    /// With `false` the queue did not deliver it before. With `true` it may or may not have reached a
    /// consumer. RabbitMQ 4.3 and later deliver a dead-lettered message with `true` from the first time on, earlier
    /// ones with `false` ([`BrokerRules::dead_letter_is_redelivered`](crate::BrokerRules::dead_letter_is_redelivered)).
    ///
    /// **Over a reconnect**: unsettled deliveries are delivered again with `true`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn may_be_duplicate(delivery: &Delivery) -> bool {
    ///     delivery.redelivered()
    /// }
    /// ```
    pub fn redelivered(&self) -> bool {
        self.parts.redelivered
    }

    /// Returns the delivery tag, the number of the delivery on its channel.
    ///
    /// Tags begin at 1, and again at 1 when the channel is reopened.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn print(delivery: &Delivery) {
    ///     println!("delivery {} of {:?}", delivery.delivery_tag(), delivery.consumer_tag());
    /// }
    /// ```
    pub fn delivery_tag(&self) -> u64 {
        self.parts.tag
    }

    /// Returns the tag of the consumer that received it; empty for a delivery of [`Get`](super::Get).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn came_from_get(delivery: &Delivery) -> bool {
    ///     delivery.consumer_tag().is_empty()
    /// }
    /// ```
    pub fn consumer_tag(&self) -> &str {
        self.acker.as_ref().map_or("", |acker| acker.consumer_tag())
    }

    /// Returns the queue that delivered the message.
    ///
    /// It is the name with which the consumer or [`Get`](super::Get) was made; empty if that was, for the queue
    /// that the channel declared last.
    ///
    /// **Over a reconnect**: the name of a queue that the broker named changes, and this returns the one that
    /// the queue has now.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn print(delivery: &Delivery) {
    ///     println!("{} bytes from {:?}", delivery.body().len(), delivery.queue());
    /// }
    /// ```
    pub fn queue(&self) -> &str {
        self.acker.as_ref().map_or("", |acker| acker.queue().as_str())
    }

    /// Returns how many messages were left in the queue; `None` unless it is a delivery of
    /// [`Get`](super::Get).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn was_the_last(delivery: &Delivery) -> bool {
    ///     delivery.message_count() == Some(0)
    /// }
    /// ```
    pub fn message_count(&self) -> Option<u32> {
        self.parts.message_count
    }

    /// Returns whether the delivery needs no settling (`no_ack`).
    ///
    /// Settling it anyway is no error and sends nothing.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn needs_settling(delivery: &Delivery) -> bool {
    ///     !delivery.is_no_ack()
    /// }
    /// ```
    pub fn is_no_ack(&self) -> bool {
        self.parts.no_ack
    }

    /// Returns the properties. They are decoded at the first call.
    ///
    /// # Errors
    /// `Codec` if the list of properties ends too early. The delivery can still be settled. A single property
    /// that cannot be decoded is no error and hides no other: see [`Properties`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn is_json(delivery: &Delivery) -> Result<bool> {
    ///     Ok(delivery.properties()?.content_type() == Some("application/json"))
    /// }
    /// ```
    pub fn properties(&self) -> Result<&Properties> {
        self.decoded().properties.as_ref().map_err(Clone::clone)
    }

    /// Returns the property flags and the property list as the broker sent them.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn flags(delivery: &Delivery) -> Option<&[u8]> {
    ///     delivery.raw_properties().get(..2)
    /// }
    /// ```
    pub fn raw_properties(&self) -> &[u8] {
        self.parts.properties()
    }

    /// Returns whether the delivery can no longer be settled: its channel was reopened or is closed, an
    /// [`ack_all`](Self::ack_all) or [`nack_all`](Self::nack_all) of a later delivery has settled it, the
    /// broker has requeued it after [`Recover`](crate::Recover), or RabbitMQ 4.3 or later has cancelled its consumer
    /// of a quorum queue, and has taken it back.
    ///
    /// **Over a reconnect**: deliveries from before are stale. The broker delivers the messages again.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn should_process(delivery: &Delivery) -> bool {
    ///     !delivery.is_stale() // the broker delivers stale ones again
    /// }
    /// ```
    pub fn is_stale(&self) -> bool {
        let tag = if self.parts.no_ack { 0 } else { self.parts.tag };
        self.acker.as_ref().is_none_or(|acker| acker.is_stale(self.parts.channel_epoch, tag))
    }

    /// Acknowledges the delivery (`basic.ack`): the broker removes the message.
    ///
    /// The frame is sent with the next flush; acknowledgements of adjacent deliveries are merged into one.
    /// The broker does not reply: the message is settled when the frame reaches the broker. For a delivery
    /// with `no_ack` nothing is sent.
    ///
    /// # Errors
    /// `StaleDelivery` if the channel was reopened, if an [`ack_all`](Self::ack_all) settled the delivery, or if
    /// RabbitMQ 4.3 or later has cancelled its consumer of a quorum queue, and has taken it back. Also if the
    /// arbiter of the connection stood still for three heartbeat intervals, after which the broker has closed
    /// the connection: the message is delivered again. Only the first settlement since the connection has written is
    /// checked for that, because the clock is not read for each.
    /// `ChannelClosed` or `ConnectionClosed` if the channel or connection is closed. In these cases no frame
    /// is sent, and nothing is closed.
    ///
    /// **Over a reconnect**: a delivery from before fails with `StaleDelivery`. The broker delivers the
    /// message again.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.13 (`basic.ack`); <https://www.rabbitmq.com/docs/confirms>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn finish(delivery: Delivery) -> Result<()> {
    ///     delivery.ack()
    /// }
    /// ```
    pub fn ack(self) -> Result<()> {
        self.settle(Outcome::Ack)
    }

    /// Acknowledges the delivery and all older unsettled ones of the same consumer (`basic.ack`); if it is one
    /// of [`Get`](super::Get), all older unsettled ones that were got from the same queue.
    ///
    /// Sends one frame with `multiple`, unless unsettled deliveries of other consumers or gets of the channel
    /// lie between them. Those that it covers are [stale](Self::is_stale) from then on.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn finish_all(last: Delivery) -> Result<()> {
    ///     last.ack_all()
    /// }
    /// ```
    pub fn ack_all(self) -> Result<()> {
        self.settle(Outcome::AckAll)
    }

    /// Refuses the delivery (`basic.nack`, a RabbitMQ extension).
    ///
    /// With `requeue` the message returns to its queue; without, it is dropped, or dead-lettered if its queue
    /// has a dead-letter exchange. A requeue by nack counts toward the delivery limit of a quorum queue up to
    /// RabbitMQ 4.2, and not from 4.3 on ([`BrokerRules::nack_counts`](crate::BrokerRules::nack_counts)); one
    /// by [`reject`](Self::reject) always does.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    ///
    /// Source: <https://www.rabbitmq.com/docs/nack>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn retry_later(delivery: Delivery) -> Result<()> {
    ///     delivery.nack(true)
    /// }
    /// ```
    pub fn nack(self, requeue: bool) -> Result<()> {
        self.settle(Outcome::Nack { requeue })
    }

    /// Refuses the delivery and all older unsettled ones of the same consumer (`basic.nack`), or of the same
    /// queue as [`ack_all`](Self::ack_all) does.
    ///
    /// Sends one frame for each delivery, without `multiple`.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn return_all(last: Delivery) -> Result<()> {
    ///     last.nack_all(true)
    /// }
    /// ```
    pub fn nack_all(self, requeue: bool) -> Result<()> {
        self.settle(Outcome::NackAll { requeue })
    }

    /// Rejects the delivery (`basic.reject`).
    ///
    /// With `requeue` the message returns to its queue; without, it is dropped, or dead-lettered if its queue
    /// has a dead-letter exchange. A `reject` with `requeue` counts towards the delivery limit of a quorum
    /// queue; a `nack` does not, since RabbitMQ 4.3.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.14 (`basic.reject`)
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn discard(delivery: Delivery) -> Result<()> {
    ///     delivery.reject(false)
    /// }
    /// ```
    pub fn reject(self, requeue: bool) -> Result<()> {
        self.settle(Outcome::Reject { requeue })
    }

    pub(super) fn acker(&self) -> Option<&dyn Acker> {
        self.acker.as_deref()
    }

    /// Returns a delivery with the same content that settles nothing.
    pub(super) fn clone_content(&self) -> Self {
        Self::without_acker(self.parts.clone())
    }

    /// The same, with the properties that are decoded already.
    pub(super) fn take_content(&mut self) -> Self {
        let mut content = self.clone_content();
        content.decoded = std::mem::take(&mut self.decoded);
        content
    }

    pub(super) fn body_view(&self) -> Bytes {
        self.parts.body_view()
    }

    /// Returns the size with which it counts against limits in bytes.
    pub(crate) fn size(&self) -> usize {
        self.parts.size()
    }

    /// Returns the bytes of the block that it is a view of; `None` if its body has a buffer of its own.
    pub(crate) fn view_len(&self) -> Option<usize> {
        self.parts.view_len()
    }

    /// Returns whether both deliveries belong to the same consumer and channel epoch.
    pub(super) fn same_consumer(&self, other: &Self) -> bool {
        let same = match (&self.acker, &other.acker) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same && self.parts.channel_epoch == other.parts.channel_epoch
    }

    /// Settles deliveries of one consumer and channel epoch, and empties the vector.
    pub(super) fn settle_group(group: &mut Vec<Self>, outcome: Outcome) -> Result<()> {
        let Some(first) = group.first() else { return Ok(()) };
        let result = match &first.acker {
            _ if first.parts.no_ack => Ok(()),
            Some(acker) => {
                let mut tags = group.iter().map(|delivery| delivery.parts.tag);
                acker.settle_all(first.parts.channel_epoch, &mut tags, outcome)
            }
            None => Err(Error::stale("the delivery is already settled")),
        };
        group.drain(..).for_each(Self::discard);
        result
    }

    /// Drops a delivery that is already settled, or that the broker delivers again, without sending anything.
    pub(crate) fn discard(mut self) {
        if let Some(acker) = self.acker.take() {
            acker.ended(self.parts.size());
        }
    }

    /// Returns a delivery that the application has not begun to its queue.
    pub(crate) fn hand_back(mut self) {
        // An error means that the broker returns the message to its queue anyway.
        let _ = self.return_unsettled(Unsettled::NotBegun);
    }

    /// Rejects the delivery as its guard selects.
    pub(super) fn fail(&mut self) -> Result<()> {
        match self.on_drop {
            // Its headers need not be decoded for that.
            _ if self.parts.no_ack => self.settle_with(|_, _| Ok(())),
            OnDrop::Requeue => self.return_unsettled(Unsettled::Dropped(self.failures())),
            OnDrop::RequeueFailed => self.return_unsettled(Unsettled::Failed(self.failures())),
            OnDrop::Reject => self.settle_with(|acker, parts| {
                acker.settle(parts.channel_epoch, parts.tag, Outcome::Reject { requeue: false })
            }),
        }
    }

    fn return_unsettled(&mut self, why: Unsettled) -> Result<()> {
        self.settle_with(|acker, parts| acker.return_unsettled(parts.channel_epoch, parts.tag, why))
    }

    #[inline]
    fn settle_with(&mut self, settle: impl FnOnce(&dyn Acker, &DeliveryParts) -> Result<()>) -> Result<()> {
        let Some(acker) = self.acker.take() else {
            return Err(Error::stale("the delivery is already settled"));
        };
        let result = if self.parts.no_ack { Ok(()) } else { settle(&*acker, &self.parts) };
        acker.ended(self.parts.size());
        result
    }

    fn decoded(&self) -> &Decoded {
        self.decoded.get_or_init(|| {
            let text = |span: Span| match std::str::from_utf8(span.of(&self.parts.bytes)) {
                Ok(_) => String::new(),
                Err(_) => String::from_utf8_lossy(span.of(&self.parts.bytes)).into_owned(),
            };
            Box::new(Decoded {
                properties: decode_properties(self.raw_properties())
                    .map_err(|fault| DecodeError::from(fault).into()),
                lossy: [text(self.parts.exchange), text(self.parts.routing_key)],
            })
        })
    }

    pub(super) fn settle(mut self, outcome: Outcome) -> Result<()> {
        self.settle_with(|acker, parts| acker.settle(parts.channel_epoch, parts.tag, outcome))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.acker.is_some() {
            // An error means that the broker returns the message to its queue anyway.
            let _ = self.fail();
        }
    }
}

impl Message for Delivery {
    type Result = ();
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("delivery_tag", &self.parts.tag)
            .field("exchange", &self.exchange())
            .field("routing_key", &self.routing_key())
            .field("redelivered", &self.parts.redelivered)
            .field("body_len", &self.body().len())
            .finish_non_exhaustive()
    }
}
