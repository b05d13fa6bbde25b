//! What the broker delivers, and how it is settled.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use actix::{Message, Recipient};
use bytes::Bytes;

use super::ConsumerEnd;
use crate::{
    error::{Error, Result},
    outbox::Outcome,
    wire::{LongSpan, Properties, Span, decode_properties},
};

/// Where a delivery says what became of it.
pub(crate) trait Acker: Send + Sync + fmt::Debug {
    fn settle(&self, channel_epoch: u32, tag: u64, verdict: Outcome) -> Result<()>;
    /// Settles several of one incarnation under one lock; the first error, after the rest is settled.
    fn settle_all(
        &self,
        channel_epoch: u32,
        tags: &mut dyn Iterator<Item = u64>,
        verdict: Outcome,
    ) -> Result<()>;
    fn is_stale(&self, channel_epoch: u32) -> bool;
    fn consumer_tag(&self) -> &str;
    /// The delivery is gone; `size` is what it was counted with.
    fn ended(&self, size: usize, unsettled: bool);
}

/// Where a consumer's deliveries go.
pub(crate) trait DeliverySink: Send + Sync + fmt::Debug {
    /// Learns whom it serves, before anything else.
    fn bind(&self, binding: SinkRegistration);
    /// Hands over what one run of frames held for the consumer.
    fn batch(&self, deliveries: Vec<Delivery>);
    /// A delivery is gone, so another may be handed on.
    fn ended(&self);
    /// Forgets the deliveries that were not handed on: the broker delivers them again.
    fn discard(&self);
    /// Keeps deliveries back, or hands them on again.
    fn pause(&self, paused: bool);
    /// The consumer is being cancelled, and what is dropped is held back until it is: lets go of what nobody takes, or,
    /// `at_once`, of everything, since it may keep the connection from reading the answer.
    fn leave(&self, at_once: bool);
    /// Says that nothing more will come.
    fn end(&self, end: ConsumerEnd);
}

/// A consumer as its inlet sees it.
#[derive(Debug)]
pub(crate) struct SinkRegistration {
    pub(crate) consumer: u32,
    /// Deliveries that the application may hold at once, where the broker does not bound them.
    pub(crate) permits: Option<usize>,
    pub(crate) lost: Recipient<TargetLost>,
}

/// Nobody takes the deliveries of this consumer any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TargetLost {
    pub(crate) consumer: u32,
}

impl Message for TargetLost {
    type Result = ();
}

/// Holds a message from the broker, and the right to settle it, once.
///
/// Settling takes the delivery, so nothing can be acknowledged twice. One that is dropped unsettled goes back into its
/// queue.
///
/// **Over a reconnect**: a delivery of an earlier life of its channel cannot be settled any more
/// ([`is_stale`](Self::is_stale)): the broker delivers the message again.
///
/// Source: AMQP 0-9-1 section 1.8.3.9; <https://www.rabbitmq.com/docs/confirms>
///
/// # Examples
/// ```
/// use actix_pika_actors::{Delivery, Result};
///
/// fn work(delivery: Delivery) -> Result<()> {
///     if delivery.body().is_empty() {
///         return delivery.reject(false);
///     }
///     delivery.ack()
/// }
/// ```
#[doc(alias = "IncomingMessage")]
#[must_use = "a delivery that is dropped unsettled goes back into its queue"]
pub struct Delivery {
    settler: Option<Arc<dyn Acker>>,
    parts: Parts,
    decoded: OnceLock<Box<Decoded>>,
    /// What is said of it when it is dropped by those who work on it.
    pub(super) fate: Option<Outcome>,
}

/// What is made of the raw bytes only when somebody looks.
struct Decoded {
    properties: Result<Properties>,
    /// Exchange and routing key, where they are not UTF-8.
    lossy: [String; 2],
}

/// What a delivery is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// From the payload of the method frame on; the spans point into it.
    pub(crate) bytes: Bytes,
    pub(crate) layout: Layout,
    pub(crate) tag: u64,
    pub(crate) channel_epoch: u32,
    /// How many were left in the queue, for `get`.
    pub(crate) message_count: Option<u32>,
    pub(crate) exchange: Span,
    pub(crate) routing_key: Span,
    pub(crate) redelivered: bool,
    pub(crate) no_ack: bool,
}

/// Where properties and body are.
#[derive(Debug)]
pub(crate) enum Layout {
    /// In the same bytes.
    Together { properties: LongSpan, body: LongSpan },
    /// In bytes of their own, because the body came in several frames.
    Apart(Box<(Bytes, Bytes)>),
}

/// A body of at least this size is handed out as a view of what was read; a smaller one would hold on to much more than
/// it is, and is copied.
const VIEW_FROM: usize = 4096;

impl Parts {
    fn body(&self) -> &[u8] {
        match &self.layout {
            Layout::Together { body, .. } => body.of(&self.bytes),
            Layout::Apart(apart) => &apart.1,
        }
    }

    fn properties(&self) -> &[u8] {
        match &self.layout {
            Layout::Together { properties, .. } => properties.of(&self.bytes),
            Layout::Apart(apart) => &apart.0,
        }
    }

    /// What the delivery weighs against byte budgets.
    pub(crate) fn size(&self) -> usize {
        match &self.layout {
            Layout::Together { .. } => self.bytes.len() + OVERHEAD,
            Layout::Apart(apart) => self.bytes.len() + apart.0.len() + apart.1.len() + OVERHEAD,
        }
    }
}

/// What a delivery costs beside its bytes, on its way through the mailboxes.
const OVERHEAD: usize = 256;

impl Delivery {
    pub(crate) fn new(settler: Arc<dyn Acker>, parts: Parts) -> Self {
        Self { settler: Some(settler), parts, decoded: OnceLock::new(), fate: None }
    }

    /// Shows the body.
    ///
    /// A body that came in several frames is put together; one of more than `body_max` (128 MiB unless set) closes the
    /// connection.
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

    /// Hands out the body to keep: a view of the block that was read where the body is large, a copy where it is small
    /// (below 4 KiB) and would hold on to a whole block.
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
        match &self.parts.layout {
            Layout::Apart(apart) => apart.1.clone(),
            Layout::Together { .. } => {
                let body = self.parts.body();
                if body.len() < VIEW_FROM {
                    Bytes::copy_from_slice(body)
                } else {
                    self.parts.bytes.slice_ref(body)
                }
            }
        }
    }

    /// Returns the body without a copy. Use it for deliveries that need no settling (`no_ack`).
    ///
    /// The delivery is dropped: one that is not `no_ack` goes back into its queue, as always when an unsettled delivery is
    /// dropped. To settle a delivery later and keep its body, use [`body_bytes`](Self::body_bytes). The returned `Bytes`
    /// is a view of the block that was read from the socket and keeps all of it in memory.
    ///
    /// # Examples
    /// ```
    /// # use bytes::Bytes;
    /// # use actix_pika_actors::Delivery;
    /// fn keep(tick: Delivery) -> Bytes {
    ///     assert!(tick.is_no_ack());
    ///     tick.into_body()
    /// }
    /// ```
    pub fn into_body(self) -> Bytes {
        match &self.parts.layout {
            Layout::Apart(apart) => apart.1.clone(),
            Layout::Together { .. } => self.parts.bytes.slice_ref(self.parts.body()),
        }
    }

    /// Names the exchange that it was published to; empty for the default exchange.
    ///
    /// Octets that are not UTF-8 are replaced.
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

    /// Shows the routing key; octets that are not UTF-8 are replaced.
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

    /// Shows the routing key as the broker sent it.
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

    /// Tells whether the broker may have delivered it before.
    ///
    /// `false` is a promise for a queue; `true` says only that somebody may have seen it.
    ///
    /// **Over a reconnect**: what was not settled comes again with `true`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn look_twice(delivery: &Delivery) -> bool {
    ///     delivery.redelivered()
    /// }
    /// ```
    pub fn redelivered(&self) -> bool {
        self.parts.redelivered
    }

    /// Tells its number on the channel.
    ///
    /// From 1 on, in each life of the channel anew.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn log(delivery: &Delivery) {
    ///     println!("delivery {} of {:?}", delivery.delivery_tag(), delivery.consumer_tag());
    /// }
    /// ```
    pub fn delivery_tag(&self) -> u64 {
        self.parts.tag
    }

    /// Names the consumer that got it; empty for what [`Get`](super::Get) took.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn was_taken(delivery: &Delivery) -> bool {
    ///     delivery.consumer_tag().is_empty()
    /// }
    /// ```
    pub fn consumer_tag(&self) -> &str {
        self.settler.as_ref().map_or("", |s| s.consumer_tag())
    }

    /// Tells how many messages were left in the queue, for what [`Get`](super::Get) took.
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

    /// Tells whether it needs no settling.
    ///
    /// To settle it all the same is no error, and sends nothing.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn can_come_again(delivery: &Delivery) -> bool {
    ///     !delivery.is_no_ack()
    /// }
    /// ```
    pub fn is_no_ack(&self) -> bool {
        self.parts.no_ack
    }

    /// Decodes the properties, once.
    ///
    /// # Errors
    /// `Codec` where a publisher sent what cannot be decoded; the delivery can be settled all the same.
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

    /// Shows the property flags and the property list as the broker sent them.
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

    /// Tells whether its channel has begun another life, so that it cannot be settled any more.
    ///
    /// True as well when its channel is closed, and after [`Recover`](crate::Recover).
    ///
    /// **Over a reconnect**: deliveries from before are stale; the broker delivers them again.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Delivery;
    /// fn begin(delivery: &Delivery) -> bool {
    ///     !delivery.is_stale() // else it comes again, so why work on it
    /// }
    /// ```
    pub fn is_stale(&self) -> bool {
        self.settler.as_ref().is_none_or(|s| s.is_stale(self.parts.channel_epoch))
    }

    /// Acknowledges it: the broker forgets the message.
    ///
    /// Sends `basic.ack`, with the next flush and merged with its neighbours. The broker does not answer: a
    /// delivery counts as settled when the frame has arrived. A delivery with `no_ack` needs none, and none
    /// is sent.
    ///
    /// # Errors
    /// `StaleDelivery` when the channel has begun another life or the delivery was settled by an
    /// [`ack_all`](Self::ack_all); the cause, `ChannelClosed` or `ConnectionClosed`, when it is closed. No
    /// frame is sent then, and nothing is closed for it.
    ///
    /// **Over a reconnect**: a delivery from before is `StaleDelivery`, and comes again.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.13; <https://www.rabbitmq.com/docs/confirms>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn done(delivery: Delivery) -> Result<()> {
    ///     delivery.ack()
    /// }
    /// ```
    pub fn ack(self) -> Result<()> {
        self.settle(Outcome::Ack)
    }

    /// Acknowledges it and all older ones of the same consumer.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    ///
    /// Sends `basic.ack`, with `multiple` where no other consumer's lie between them.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn all_done(last: Delivery) -> Result<()> {
    ///     last.ack_all()
    /// }
    /// ```
    pub fn ack_all(self) -> Result<()> {
        self.settle(Outcome::AckAll)
    }

    /// Refuses it: back into its queue, or dropped or dead-lettered.
    ///
    /// Sends `basic.nack`, a RabbitMQ extension.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    ///
    /// Source: <https://www.rabbitmq.com/docs/nack>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn later(delivery: Delivery) -> Result<()> {
    ///     delivery.nack(true)
    /// }
    /// ```
    pub fn nack(self, requeue: bool) -> Result<()> {
        self.settle(Outcome::Nack { requeue })
    }

    /// Refuses it and all older ones of the same consumer.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    ///
    /// Sends `basic.nack`, with `multiple` where no other consumer's lie between them.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn give_back(last: Delivery) -> Result<()> {
    ///     last.nack_all(true)
    /// }
    /// ```
    pub fn nack_all(self, requeue: bool) -> Result<()> {
        self.settle(Outcome::NackAll { requeue })
    }

    /// Refuses it: back into its queue, or dropped or dead-lettered.
    ///
    /// Sends `basic.reject`. With `requeue` it counts towards a quorum queue's delivery limit, which a `nack` does
    /// not since RabbitMQ 4.3.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.14
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn hopeless(delivery: Delivery) -> Result<()> {
    ///     delivery.reject(false)
    /// }
    /// ```
    pub fn reject(self, requeue: bool) -> Result<()> {
        self.settle(Outcome::Reject { requeue })
    }

    /// Tells whether both are settled by the same consumer in the same life of their channel.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        let same = match (&self.settler, &other.settler) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same && self.parts.channel_epoch == other.parts.channel_epoch
    }

    /// Settles deliveries that go with one another, and takes them.
    pub(super) fn settle_group(group: &mut Vec<Self>, verdict: Outcome) -> Result<()> {
        let Some(first) = group.first() else { return Ok(()) };
        let answer = match &first.settler {
            _ if first.parts.no_ack => Ok(()),
            Some(settler) => {
                let mut tags = group.iter().map(|delivery| delivery.parts.tag);
                settler.settle_all(first.parts.channel_epoch, &mut tags, verdict)
            }
            None => Err(Error::stale("the delivery is settled already")),
        };
        group.drain(..).for_each(Self::discard);
        answer
    }

    /// Forgets one of which all is said, or which the broker delivers again.
    #[doc(hidden)]
    pub fn discard(mut self) {
        if let Some(settler) = self.settler.take() {
            settler.ended(self.parts.size(), false);
        }
    }

    fn decoded(&self) -> &Decoded {
        self.decoded.get_or_init(|| {
            let text = |span: Span| match std::str::from_utf8(span.of(&self.parts.bytes)) {
                Ok(_) => String::new(),
                Err(_) => String::from_utf8_lossy(span.of(&self.parts.bytes)).into_owned(),
            };
            Box::new(Decoded {
                properties: decode_properties(self.raw_properties()).map_err(Error::properties),
                lossy: [text(self.parts.exchange), text(self.parts.routing_key)],
            })
        })
    }

    fn settle(mut self, verdict: Outcome) -> Result<()> {
        let Some(settler) = self.settler.take() else {
            return Err(Error::stale("the delivery is settled already"));
        };
        let answer = if self.parts.no_ack {
            Ok(())
        } else {
            settler.settle(self.parts.channel_epoch, self.parts.tag, verdict)
        };
        settler.ended(self.parts.size(), false);
        answer
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settler) = self.settler.take() {
            let unsettled = !self.parts.no_ack;
            if unsettled {
                // An error means that the broker requeues it anyway.
                let verdict = self.fate.unwrap_or(Outcome::Dropped);
                let _ = settler.settle(self.parts.channel_epoch, self.parts.tag, verdict);
            }
            settler.ended(self.parts.size(), unsettled && self.fate.is_none());
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

/// Settles a delivery by a message to the Channel actor, for people who speak in messages.
///
/// The methods of [`Delivery`] do the same without a mailbox in the way.
///
/// # Errors
/// Those of [`Delivery::ack`].
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, Delivery, Result, Settle};
/// # async fn settle(channel: Addr<Channel>, delivery: Delivery) -> Result<()> {
/// channel.send(Settle::ack(delivery)).await??;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct Settle {
    pub(crate) delivery: Delivery,
    pub(crate) verdict: Outcome,
}

impl Settle {
    /// Acknowledges, as [`Delivery::ack`] does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn done(delivery: Delivery) -> Settle {
    ///     Settle::ack(delivery)
    /// }
    /// ```
    pub fn ack(delivery: Delivery) -> Self {
        Self { delivery, verdict: Outcome::Ack }
    }

    /// Acknowledges it and all older ones of the same consumer, as [`Delivery::ack_all`] does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn all_done(last: Delivery) -> Settle {
    ///     Settle::ack_all(last)
    /// }
    /// ```
    pub fn ack_all(delivery: Delivery) -> Self {
        Self { delivery, verdict: Outcome::AckAll }
    }

    /// Refuses it and all older ones of the same consumer, as [`Delivery::nack_all`] does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn give_back(last: Delivery) -> Settle {
    ///     Settle::nack_all(last, true)
    /// }
    /// ```
    pub fn nack_all(delivery: Delivery, requeue: bool) -> Self {
        Self { delivery, verdict: Outcome::NackAll { requeue } }
    }

    /// Refuses with `basic.nack`, as [`Delivery::nack`] does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn later(delivery: Delivery) -> Settle {
    ///     Settle::nack(delivery, true)
    /// }
    /// ```
    pub fn nack(delivery: Delivery, requeue: bool) -> Self {
        Self { delivery, verdict: Outcome::Nack { requeue } }
    }

    /// Refuses with `basic.reject`, as [`Delivery::reject`] does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn hopeless(delivery: Delivery) -> Settle {
    ///     Settle::reject(delivery, false)
    /// }
    /// ```
    pub fn reject(delivery: Delivery, requeue: bool) -> Self {
        Self { delivery, verdict: Outcome::Reject { requeue } }
    }

    pub(crate) fn run(self) -> Result<()> {
        self.delivery.settle(self.verdict)
    }
}

impl Message for Settle {
    type Result = Result<()>;
}
