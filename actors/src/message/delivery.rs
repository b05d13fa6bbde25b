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
    outbox::Verdict,
    wire::{Place, Properties, Span},
};

/// Where a delivery says what became of it.
pub(crate) trait Settler: Send + Sync + fmt::Debug {
    fn settle(&self, incarnation: u32, tag: u64, verdict: Verdict) -> Result<()>;
    /// Settles several of one incarnation under one lock; the first error, after the rest is settled.
    fn settle_all(
        &self,
        incarnation: u32,
        tags: &mut dyn Iterator<Item = u64>,
        verdict: Verdict,
    ) -> Result<()>;
    fn is_stale(&self, incarnation: u32) -> bool;
    fn consumer_tag(&self) -> &str;
    /// The delivery is gone; `size` is what it was counted with.
    fn ended(&self, size: usize, unsettled: bool);
}

/// Where a consumer's deliveries go.
pub(crate) trait Inlet: Send + Sync + fmt::Debug {
    /// Learns whom it serves, before anything else.
    fn bind(&self, binding: Binding);
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
pub(crate) struct Binding {
    pub(crate) consumer: u32,
    /// Deliveries that the application may hold at once, where the broker does not bound them.
    pub(crate) permits: Option<usize>,
    pub(crate) lost: Recipient<Lost>,
}

/// Nobody takes the deliveries of this consumer any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) consumer: u32,
}

impl Message for Lost {
    type Result = ();
}

/// A message from the broker, and the right to settle it, once.
///
/// Settling takes the delivery, so nothing can be acknowledged twice. One that is dropped unsettled goes back into its
/// queue.
///
/// # Robust
/// A delivery of an earlier life of its channel cannot be settled any more ([`is_stale`](Self::is_stale)): the broker
/// delivers the message again.
///
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
pub struct Delivery {
    settler: Option<Arc<dyn Settler>>,
    parts: Parts,
    decoded: OnceLock<Box<Decoded>>,
    /// What is said of it when it is dropped by those who work on it.
    pub(super) fate: Option<Verdict>,
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
    pub(crate) incarnation: u32,
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
    Together { properties: Place, body: Place },
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
    pub(crate) fn new(settler: Arc<dyn Settler>, parts: Parts) -> Self {
        Self { settler: Some(settler), parts, decoded: OnceLock::new(), fate: None }
    }

    /// Shows the body.
    pub fn body(&self) -> &[u8] {
        self.parts.body()
    }

    /// Hands out the body to keep: a view of the block that was read where the body is large, a copy where it is small
    /// (below 4 KiB) and would hold on to a whole block.
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

    /// Names the exchange that it was published to; empty for the default exchange.
    pub fn exchange(&self) -> &str {
        let bytes = self.parts.exchange.of(&self.parts.bytes);
        std::str::from_utf8(bytes).unwrap_or_else(|_| &self.decoded().lossy[0])
    }

    /// Shows the routing key; octets that are not UTF-8 are replaced.
    pub fn routing_key(&self) -> &str {
        std::str::from_utf8(self.routing_key_bytes()).unwrap_or_else(|_| &self.decoded().lossy[1])
    }

    /// Shows the routing key as the broker sent it.
    pub fn routing_key_bytes(&self) -> &[u8] {
        self.parts.routing_key.of(&self.parts.bytes)
    }

    /// Tells whether the broker may have delivered it before.
    pub fn redelivered(&self) -> bool {
        self.parts.redelivered
    }

    /// Tells its number on the channel.
    pub fn delivery_tag(&self) -> u64 {
        self.parts.tag
    }

    /// Names the consumer that got it; empty for what [`Get`](super::Get) took.
    pub fn consumer_tag(&self) -> &str {
        self.settler.as_ref().map_or("", |s| s.consumer_tag())
    }

    /// Tells how many messages were left in the queue, for what [`Get`](super::Get) took.
    pub fn message_count(&self) -> Option<u32> {
        self.parts.message_count
    }

    /// Tells whether it needs no settling.
    pub fn is_no_ack(&self) -> bool {
        self.parts.no_ack
    }

    /// Decodes the properties, once.
    ///
    /// # Errors
    /// `Codec` where a publisher sent what cannot be decoded; the delivery can be settled all the same.
    pub fn properties(&self) -> Result<&Properties> {
        self.decoded().properties.as_ref().map_err(Clone::clone)
    }

    /// Shows the property flags and the property list as the broker sent them.
    pub fn raw_properties(&self) -> &[u8] {
        self.parts.properties()
    }

    /// Tells whether its channel has begun another life, so that it cannot be settled any more.
    pub fn is_stale(&self) -> bool {
        self.settler.as_ref().is_none_or(|s| s.is_stale(self.parts.incarnation))
    }

    /// Acknowledges it (`basic.ack`). The frame leaves with the next flush, merged with its neighbours.
    ///
    /// # Errors
    /// `StaleDelivery` when the channel has begun another life; the cause when it is closed. No frame is sent then.
    pub fn ack(self) -> Result<()> {
        self.settle(Verdict::Ack)
    }

    /// Acknowledges it and all older ones of the same consumer.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    pub fn ack_all(self) -> Result<()> {
        self.settle(Verdict::AckAll)
    }

    /// Refuses it (`basic.nack`): back into its queue, or dropped or dead-lettered.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    pub fn nack(self, requeue: bool) -> Result<()> {
        self.settle(Verdict::Nack { requeue })
    }

    /// Refuses it and all older ones of the same consumer.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    pub fn nack_all(self, requeue: bool) -> Result<()> {
        self.settle(Verdict::NackAll { requeue })
    }

    /// Refuses it (`basic.reject`): back into its queue, or dropped or dead-lettered.
    ///
    /// # Errors
    /// Those of [`ack`](Self::ack).
    pub fn reject(self, requeue: bool) -> Result<()> {
        self.settle(Verdict::Reject { requeue })
    }

    /// Tells whether both are settled by the same consumer in the same life of their channel.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        let same = match (&self.settler, &other.settler) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same && self.parts.incarnation == other.parts.incarnation
    }

    /// Settles deliveries that go with one another, and takes them.
    pub(super) fn settle_group(group: &mut Vec<Self>, verdict: Verdict) -> Result<()> {
        let Some(first) = group.first() else { return Ok(()) };
        let answer = match &first.settler {
            _ if first.parts.no_ack => Ok(()),
            Some(settler) => {
                let mut tags = group.iter().map(|delivery| delivery.parts.tag);
                settler.settle_all(first.parts.incarnation, &mut tags, verdict)
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
                properties: Properties::decode(self.raw_properties())
                    .map_err(|fault| Error::codec(format!("properties: {fault}"))),
                lossy: [text(self.parts.exchange), text(self.parts.routing_key)],
            })
        })
    }

    fn settle(mut self, verdict: Verdict) -> Result<()> {
        let Some(settler) = self.settler.take() else {
            return Err(Error::stale("the delivery is settled already"));
        };
        let answer = if self.parts.no_ack {
            Ok(())
        } else {
            settler.settle(self.parts.incarnation, self.parts.tag, verdict)
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
                let verdict = self.fate.unwrap_or(Verdict::Dropped);
                let _ = settler.settle(self.parts.incarnation, self.parts.tag, verdict);
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
#[derive(Debug)]
pub struct Settle {
    pub(crate) delivery: Delivery,
    pub(crate) verdict: Verdict,
}

impl Settle {
    /// Acknowledges.
    pub fn ack(delivery: Delivery) -> Self {
        Self { delivery, verdict: Verdict::Ack }
    }

    /// Acknowledges it and all older ones of the same consumer.
    pub fn ack_all(delivery: Delivery) -> Self {
        Self { delivery, verdict: Verdict::AckAll }
    }

    /// Refuses it and all older ones of the same consumer.
    pub fn nack_all(delivery: Delivery, requeue: bool) -> Self {
        Self { delivery, verdict: Verdict::NackAll { requeue } }
    }

    /// Refuses, with `basic.nack`.
    pub fn nack(delivery: Delivery, requeue: bool) -> Self {
        Self { delivery, verdict: Verdict::Nack { requeue } }
    }

    /// Refuses, with `basic.reject`.
    pub fn reject(delivery: Delivery, requeue: bool) -> Self {
        Self { delivery, verdict: Verdict::Reject { requeue } }
    }

    pub(crate) fn run(self) -> Result<()> {
        self.delivery.settle(self.verdict)
    }
}

impl Message for Settle {
    type Result = Result<()>;
}
