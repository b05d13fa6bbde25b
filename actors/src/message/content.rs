//! The first part of a delivery that was split: what was delivered. The other part is [`Token`].

use std::{fmt, sync::Arc};

use bytes::Bytes;

#[cfg(feature = "testing")]
use super::DeliveryParts;
use super::{Death, Delivery, Publishing, QueueName, Token};
use crate::{error::Result, wire::Properties};

/// What was delivered: body, properties and names, without the right to settle it ([`Delivery::split`]).
///
/// It can be read before and after the delivery is settled by its [`Token`]. Its methods are those of
/// [`Delivery`].
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Content, Delivery, Result};
/// fn handle(content: &Content) -> bool {
///     content.body().len() < 1000
/// }
///
/// fn run(delivery: Delivery) -> Result<()> {
///     let (content, token) = delivery.split();
///     if handle(&content) { token.ack() } else { token.reject(false) }
/// }
/// ```
pub struct Content {
    /// Without its acker, so that it settles nothing.
    delivery: Delivery,
    queue: QueueName,
    consumer_tag: Arc<str>,
}

macro_rules! delegate {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)*) => { $(
        $(#[$doc])*
        #[doc = concat!("See [`Delivery::", stringify!($name), "`].")]
        ///
        /// # Examples
        /// ```
        /// # use actix_pika_actors::Content;
        /// fn print(content: &Content) {
        #[doc = concat!("    println!(\"{:?}\", content.", stringify!($name), "());")]
        /// }
        /// ```
        pub fn $name(&self) -> $type {
            self.delivery.$name()
        }
    )* };
}

impl Content {
    delegate! {
        /// Returns the body.
        body -> &[u8];
        /// Returns the body as `Bytes`, to keep it.
        body_bytes -> Bytes;
        /// Returns the exchange that the message was published to; empty for the default exchange.
        exchange -> &str;
        /// Returns the routing key; bytes that are not UTF-8 are replaced.
        routing_key -> &str;
        /// Returns the routing key as the broker sent it.
        routing_key_bytes -> &[u8];
        /// Returns whether the broker may have delivered the message before.
        redelivered -> bool;
        /// Returns how many messages were left in the queue, for a delivery of [`Get`](crate::Get).
        message_count -> Option<u32>;
        /// Returns the properties. They are decoded at the first call.
        properties -> Result<&Properties>;
        /// Returns the property flags and the property list as the broker sent them.
        raw_properties -> &[u8];
        /// Returns how often the message was delivered before and returned to the queue.
        delivery_count -> Option<u64>;
        /// Returns how often a consumer received the message before and returned or lost it.
        acquired_count -> Option<u64>;
        /// Returns how often, where and why the message was dead-lettered.
        deaths -> Vec<Death>;
        /// Returns the offset of the message in its stream.
        stream_offset -> Option<u64>;
    }

    /// Returns the body without a copy, as a view of the block that was read from the socket.
    ///
    /// # Examples
    /// ```
    /// # use bytes::Bytes;
    /// # use actix_pika_actors::Content;
    /// fn keep(content: Content) -> Bytes {
    ///     content.into_body()
    /// }
    /// ```
    pub fn into_body(self) -> Bytes {
        self.delivery.into_body()
    }

    /// Returns the queue that delivered the message. See [`Delivery::queue`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Content;
    /// fn print(content: &Content) {
    ///     println!("from {:?}", content.queue());
    /// }
    /// ```
    pub fn queue(&self) -> &str {
        self.queue.as_str()
    }

    /// Returns the tag of the consumer that received it. See [`Delivery::consumer_tag`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Content;
    /// fn came_from_get(content: &Content) -> bool {
    ///     content.consumer_tag().is_empty()
    /// }
    /// ```
    pub fn consumer_tag(&self) -> &str {
        &self.consumer_tag
    }
}

impl Content {
    /// Creates what was delivered without a broker, for tests of applications.
    #[cfg(feature = "testing")]
    pub(crate) fn from_parts(parts: DeliveryParts, queue: &str, consumer_tag: &str) -> Self {
        let delivery = Delivery::without_acker(parts);
        Self { delivery, queue: QueueName::new(queue), consumer_tag: Arc::from(consumer_tag) }
    }
}

impl Delivery {
    /// Splits the delivery into what was delivered and the right to settle it, for code that handles messages
    /// apart from code that settles them.
    ///
    /// Nothing is copied. The delivery counts to its prefetch until its token is settled or dropped.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn work(delivery: Delivery) -> Result<()> {
    ///     let (content, token) = delivery.split();
    ///     println!("{} bytes from {:?}", content.body().len(), content.queue());
    ///     token.ack()
    /// }
    /// ```
    pub fn split(mut self) -> (Content, Token) {
        let delivery = self.take_content();
        (self.content_with(delivery), Token::new(self))
    }

    /// Returns what was delivered. Its properties are decoded again.
    pub(crate) fn content(&self) -> Content {
        self.content_with(self.clone_content())
    }

    fn content_with(&self, delivery: Self) -> Content {
        let (queue, consumer_tag) = match self.acker() {
            Some(acker) => (acker.queue().clone(), acker.consumer_tag().clone()),
            None => (QueueName::new(""), Arc::from("")),
        };
        Content { delivery, queue, consumer_tag }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("queue", &self.queue())
            .field("exchange", &self.exchange())
            .field("routing_key", &self.routing_key())
            .field("redelivered", &self.redelivered())
            .field("body_len", &self.body().len())
            .finish_non_exhaustive()
    }
}

/// Makes a publishing of what was delivered, to publish it again or elsewhere.
///
/// The body is shared, not copied. The properties are kept as they came, those too that cannot be decoded, and
/// so is the delivery mode: a message without one stays transient. Options are those of [`Publishing::new`].
/// Neither the exchange nor the routing key goes with it: the publish names its own.
///
/// All headers go with it, so that:
/// - the broker routes it to the keys in a `CC` header again, too; `BCC` never arrives;
/// - `x-death` is kept. Up to RabbitMQ 3.13 the broker counts on from there at the next dead-lettering; since
///   4.0 it begins anew;
/// - headers that grew beyond `frame_max` at the broker fail with `Limit`.
///
/// A `user_id` other than that of this login is refused by the broker with 406, which closes the channel.
/// Properties whose list ends too early fail with `Codec` when they are published.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Delivery, Publishing};
/// fn to_publish_elsewhere(delivery: &Delivery) -> Publishing {
///     Publishing::from(delivery).header("forwarded", true)
/// }
/// ```
impl From<&Delivery> for Publishing {
    fn from(delivery: &Delivery) -> Self {
        let properties = delivery.properties().cloned().unwrap_or_else(|_| Properties::undecodable());
        let mut publishing = Self::new(delivery.body_view());
        publishing.properties = properties;
        publishing
    }
}

/// The same as from the whole [`Delivery`].
impl From<&Content> for Publishing {
    fn from(content: &Content) -> Self {
        Self::from(&content.delivery)
    }
}
