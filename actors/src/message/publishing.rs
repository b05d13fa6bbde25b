//! The message that is published: a body, its properties and options.

use std::{
    num::NonZeroU32,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::unacceptable::check_acceptable;
use crate::{
    error::Result,
    wire::{DeliveryMode, Properties, Table, Value, check_properties},
};

/// Holds the body, properties and options of a publish. It is persistent, and mandatory unless it is a direct
/// reply, if not set otherwise.
///
/// A string property has at most 255 bytes; a longer one fails with `Codec` when it is published, before
/// anything is sent.
///
/// Source: AMQP 0-9-1 section 1.8.3.7 (`basic.publish`);
/// <https://www.rabbitmq.com/docs/publishers#message-properties>
///
/// # Examples
/// ```
/// # use actix_pika_actors::Publishing;
/// let order = Publishing::new(r#"{"id": 7}"#).content_type("application/json").header("attempt", 1);
/// let event = Publishing::new("tick").persistent(false).mandatory(false);
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "Message")]
#[must_use = "a publishing does nothing until it is published"]
pub struct Publishing {
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
    /// Unless set, it depends on the destination.
    mandatory: Option<bool>,
    pub(crate) resend: bool,
    /// Milliseconds. As small as this, it costs no room.
    deadline: Option<NonZeroU32>,
}

impl Publishing {
    /// Wraps a body.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// assert_eq!(Publishing::new("resize 7.png").body(), "resize 7.png".as_bytes());
    /// ```
    pub fn new(body: impl IntoBody) -> Self {
        Self {
            properties: Properties::default().with_delivery_mode(DeliveryMode::Persistent),
            body: body.into_body(),
            mandatory: None,
            resend: true,
            deadline: None,
        }
    }

    /// Sets whether the publish is mandatory; it is unless set, except for direct replies.
    ///
    /// The broker returns a mandatory publish that no queue receives: it fails with `Unroutable`, or is
    /// reported as [`ChannelEvent::Returned`](crate::ChannelEvent::Returned) on a channel without confirms.
    /// Otherwise the broker drops and confirms such a publish.
    ///
    /// Some publishes are delivered although the broker returns them with 312, because no queue has them at
    /// that moment. `mandatory(false)` avoids that:
    ///
    /// - Direct replies, which are published through the default exchange to an address that begins with
    ///   `amq.rabbitmq.reply-to.`. RabbitMQ returns them up to version 4.1, though the client receives them,
    ///   so that they are not mandatory unless set.
    /// - Exchanges of the plug-in `rabbitmq_delayed_message_exchange` (`x-delayed-message`), which route a
    ///   message with the header `x-delay` later.
    /// - Exchanges of other plug-ins that store messages and route them later, or outside of the broker.
    ///
    /// An exchange that chooses one queue, such as `x-consistent-hash` or `x-random`, returns a mandatory
    /// publish only while no queue is bound to it; `x-recent-history` does so as well, and nevertheless
    /// delivers the message to a queue that is bound later.
    ///
    /// Source: <https://www.rabbitmq.com/docs/publishers#unroutable>;
    /// <https://www.rabbitmq.com/docs/direct-reply-to>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let event = Publishing::new("tick").mandatory(false);
    /// ```
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.mandatory = Some(mandatory);
        self
    }

    /// Sets whether the publish is resent if the connection is lost before its confirm; it is unless set.
    ///
    /// Otherwise it fails with `ConnectionClosed`, and [may have arrived](crate::Error::may_have_arrived). A
    /// publish that was not written yet waits for the next connection in any case. It has no effect on a
    /// connection that does not recover.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let question = Publishing::new("the time?").reply_to("answers").resend(false);
    /// ```
    pub fn resend(mut self, resend: bool) -> Self {
        self.resend = resend;
        self
    }

    /// Sets a deadline for this publish, shorter than that of the channel, which applies unless set.
    ///
    /// It runs from the first poll of the publish, or from [`try_publish`](crate::Outbox::try_publish) on, in
    /// milliseconds, rounded up. It is kept by the future that awaits the publish, and has no effect while
    /// nothing awaits that. When it has passed, the future fails with `Timeout`; the error names an alarm of
    /// the broker or a lost connection, if the publish waited for that. A publish that was not written yet is
    /// withdrawn, and has not [arrived](crate::Error::may_have_arrived). One that was written may have
    /// arrived, and has its place in the publish window until it is confirmed.
    ///
    /// **Over a reconnect**: it runs on; a publish whose deadline has passed is not resent.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Publishing;
    /// let quote = Publishing::new("4.20").deadline(Duration::from_millis(500));
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        let millis = deadline.as_nanos().div_ceil(1_000_000);
        let millis = u32::try_from(millis).unwrap_or(u32::MAX);
        self.deadline = NonZeroU32::new(millis.max(1));
        self
    }

    /// Sets whether the message survives a restart of the broker (`delivery-mode`), if its queue is durable;
    /// it does unless set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let event = Publishing::new("tick").persistent(false);
    /// ```
    pub fn persistent(self, persistent: bool) -> Self {
        let mode = if persistent { DeliveryMode::Persistent } else { DeliveryMode::Transient };
        self.with(|p| p.with_delivery_mode(mode))
    }

    /// Replaces all properties. Only the delivery mode is kept, unless they have one: the message stays
    /// persistent.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeliveryMode, Properties, Publishing};
    /// let order = Publishing::new("x").properties(Properties::new().with_message_type("order"));
    /// let event = Properties::new().with_delivery_mode(DeliveryMode::Transient);
    /// let event = Publishing::new("tick").properties(event);
    /// ```
    pub fn properties(mut self, properties: Properties) -> Self {
        let mode = self.properties.delivery_mode();
        self.properties = match (properties.delivery_mode(), mode) {
            (None, Some(mode)) => properties.with_delivery_mode(mode),
            _ => properties,
        };
        self
    }

    /// Sets the MIME type of the body.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let order = Publishing::new("{}").content_type("application/json");
    /// ```
    pub fn content_type(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_content_type(value))
    }

    /// Sets the MIME encoding of the body.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let compressed = Publishing::new(vec![0x1f, 0x8b]).content_encoding("gzip");
    /// ```
    pub fn content_encoding(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_content_encoding(value))
    }

    /// Sets the correlation id, with which a reply identifies its request.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let reply = Publishing::new("42").correlation_id("call-7");
    /// ```
    pub fn correlation_id(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_correlation_id(value))
    }

    /// Sets the correlation id to bytes that need not be UTF-8, such as those of a request.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Properties, Publishing};
    /// fn reply_to(request: &Properties) -> Publishing {
    ///     Publishing::new("42").correlation_id_bytes(request.correlation_id_bytes().unwrap_or_default())
    /// }
    /// ```
    pub fn correlation_id_bytes(self, value: impl Into<Vec<u8>>) -> Self {
        self.with(|p| p.with_correlation_id_bytes(value))
    }

    /// Sets the queue to reply to.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let call = Publishing::new("6*7").reply_to("amq.rabbitmq.reply-to").correlation_id("call-7");
    /// ```
    pub fn reply_to(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_reply_to(value))
    }

    /// Sets the message id.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let order = Publishing::new("{}").message_id("order-7");
    /// ```
    pub fn message_id(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_message_id(value))
    }

    /// Sets the name of the message's type.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let order = Publishing::new("{}").message_type("order.created");
    /// ```
    pub fn message_type(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_message_type(value))
    }

    /// Sets the name of the publishing application.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let order = Publishing::new("{}").app_id("shop");
    /// ```
    pub fn app_id(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_app_id(value))
    }

    /// Sets the user id. The broker refuses the publish if it differs from the login (406), unless that user has
    /// the tag `impersonator`. That closes the channel. On a connection that recovers, later publishes under
    /// another name than the login fail with the same error and are not sent, for a pause that grows from 1 to
    /// 60 seconds.
    ///
    /// Source: <https://www.rabbitmq.com/docs/validated-user-id>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let signed = Publishing::new("{}").user_id("guest");
    /// ```
    pub fn user_id(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_user_id(value))
    }

    /// Sets the priority, for queues with `x-max-priority`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let urgent = Publishing::new("resize 7.png").priority(5);
    /// ```
    pub fn priority(self, value: u8) -> Self {
        self.with(|p| p.with_priority(value))
    }

    /// Sets how long the message may stay in a queue before it expires.
    ///
    /// Whole milliseconds, rounded up; at most 2^32 - 1, more fails with `Codec` when it is published. With
    /// zero, the message expires unless it can be delivered at once. If the queue has a limit of its own, the
    /// shorter one applies.
    ///
    /// Source: <https://www.rabbitmq.com/docs/ttl#per-message-ttl-in-publishers>
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Publishing;
    /// let quote = Publishing::new("4.20").expiration(Duration::from_secs(5));
    /// ```
    pub fn expiration(self, value: Duration) -> Self {
        self.with(|p| p.with_expiration(value))
    }

    /// Sets the time of publishing; whole seconds.
    ///
    /// # Examples
    /// ```
    /// # use std::time::SystemTime;
    /// # use actix_pika_actors::Publishing;
    /// let order = Publishing::new("{}").timestamp(SystemTime::now());
    /// ```
    pub fn timestamp(self, value: SystemTime) -> Self {
        self.with(|p| p.with_timestamp(value))
    }

    /// Sets the headers.
    ///
    /// They must fit into one frame together; otherwise the publish fails with `Limit`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Publishing, Table};
    /// let image = Publishing::new("...").headers(Table::new().with("format", "png"));
    /// ```
    pub fn headers(self, headers: Table) -> Self {
        self.with(|p| p.with_headers(headers))
    }

    /// Sets one header.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let image = Publishing::new("...").header("format", "png").header("attempt", 1);
    /// ```
    pub fn header(self, key: &str, value: impl Into<Value>) -> Self {
        let mut headers = self.properties.headers().cloned().unwrap_or_default();
        headers.insert(key, value);
        self.headers(headers)
    }

    /// Returns the body.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// assert_eq!(Publishing::new("x").body().len(), 1);
    /// ```
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the properties, with the headers.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let message = Publishing::new("{}").content_type("application/json");
    /// assert_eq!(message.properties_ref().content_type(), Some("application/json"));
    /// ```
    pub fn properties_ref(&self) -> &Properties {
        &self.properties
    }

    /// Returns what [`mandatory`](Self::mandatory) has set, or `None` for the default.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// assert_eq!(Publishing::new("hello").is_mandatory(), None);
    /// assert_eq!(Publishing::new("hello").mandatory(false).is_mandatory(), Some(false));
    /// ```
    pub fn is_mandatory(&self) -> Option<bool> {
        self.mandatory
    }

    /// Returns whether it is resent after a reconnect. See [`resend`](Self::resend).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// assert!(Publishing::new("hello").is_resent());
    /// assert!(!Publishing::new("hello").resend(false).is_resent());
    /// ```
    pub fn is_resent(&self) -> bool {
        self.resend
    }

    /// Returns the deadline that [`deadline`](Self::deadline) has set, in whole milliseconds; `None` for that of the
    /// channel.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Publishing;
    /// let second = Duration::from_secs(1);
    /// assert_eq!(Publishing::new("hello").deadline(second).own_deadline(), Some(second));
    /// assert_eq!(Publishing::new("hello").own_deadline(), None);
    /// ```
    #[inline]
    pub fn own_deadline(&self) -> Option<Duration> {
        self.deadline.map(|millis| Duration::from_millis(millis.get().into()))
    }

    #[inline]
    pub(crate) fn outgoing<'a>(&'a self, exchange: &'a str, routing_key: &'a str) -> Outgoing<'a> {
        Outgoing {
            exchange,
            routing_key,
            mandatory: self.mandatory.unwrap_or_else(|| !is_direct_reply(exchange, routing_key)),
            resend: self.resend,
            properties: &self.properties,
            body: &self.body,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_properties(&self.properties)?;
        check_acceptable(&self.properties)
    }

    fn with(mut self, change: impl FnOnce(Properties) -> Properties) -> Self {
        self.properties = change(std::mem::take(&mut self.properties));
        self
    }
}

/// Returns whether a publish goes to the consumer of a direct reply-to, which is not a queue.
#[inline]
fn is_direct_reply(exchange: &str, routing_key: &str) -> bool {
    exchange.is_empty() && routing_key.starts_with("amq.rabbitmq.reply-to.")
}

/// The parts of a publish, by reference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// Empty for the default exchange.
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) mandatory: bool,
    /// Whether it is resent if the connection is lost before its confirm.
    pub(crate) resend: bool,
    pub(crate) properties: &'a Properties,
    pub(crate) body: &'a Bytes,
}

/// Converts into the body of a [`Publishing`].
///
/// Strings, byte slices, vectors and [`Bytes`] implement it. Only borrowed data is copied.
///
/// # Examples
/// ```
/// # use bytes::Bytes;
/// # use actix_pika_actors::{IntoBody, Publishing};
/// struct Order(u32);
///
/// impl IntoBody for Order {
///     fn into_body(self) -> Bytes {
///         format!("{{\"id\": {}}}", self.0).into()
///     }
/// }
///
/// assert_eq!(Publishing::new(Order(7)).body(), r#"{"id": 7}"#.as_bytes());
/// ```
pub trait IntoBody {
    /// Converts the value into bytes, without a copy if possible.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::IntoBody;
    /// assert_eq!("hello".into_body(), "hello".as_bytes());
    /// ```
    fn into_body(self) -> Bytes;
}

impl IntoBody for Bytes {
    fn into_body(self) -> Bytes {
        self
    }
}

impl IntoBody for &Bytes {
    fn into_body(self) -> Bytes {
        self.clone()
    }
}

impl IntoBody for Vec<u8> {
    fn into_body(self) -> Bytes {
        self.into()
    }
}

impl IntoBody for String {
    fn into_body(self) -> Bytes {
        self.into()
    }
}

impl IntoBody for &str {
    fn into_body(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl IntoBody for &[u8] {
    fn into_body(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoBody for &[u8; N] {
    fn into_body(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<B: IntoBody> From<B> for Publishing {
    fn from(body: B) -> Self {
        Self::new(body)
    }
}
