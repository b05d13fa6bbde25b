//! Publishing by a message to the Channel actor, and the confirmation of a publish.

use actix::Message;

use super::Publishing;
use crate::error::Result;

/// Publishes a message (`basic.publish`) by a message to the Channel actor.
///
/// Handles publish without passing through a mailbox. The reply is sent when the broker has confirmed the
/// publish or, on a channel without confirms, when the window had room and it is queued. Once the actor has
/// started, the publish is sent even if the caller drops the reply.
///
/// # Errors
/// Before anything is sent:
///
/// - `Limit` for a name of more than 255 bytes, or headers that exceed the connection's frame size.
/// - `Codec` for properties that cannot be encoded.
/// - `Refused` for properties that RabbitMQ accepts from nobody (406): an `expiration` that is not a number of
///   milliseconds, or is longer than ten years, and headers `CC` or `BCC` that are not arrays.
/// - `Timeout` or `Blocked` if the publish window had no room within the deadline.
///
/// Afterwards; [`may_have_arrived`](crate::Error::may_have_arrived) returns whether the publish was written:
///
/// - `Unroutable` if it is mandatory and no queue received it.
/// - `Nacked` if the broker did not take responsibility. Of several queues, those that did not refuse it have
///   it.
/// - `Timeout` or `Blocked` if it was not confirmed within the deadline.
/// - `ChannelClosed` with the broker's reason, if it closed the channel: 404 for a missing exchange, 403 if
///   permission is missing or for an internal exchange, 406 for properties that the broker refuses or a body
///   that is too large.
///
/// **Over a reconnect**: an unconfirmed publish is resent in the original order, before newer ones and within
/// its deadline. A publish that starts while the connection is down waits. With `on_outage(Fail)` it fails
/// with `ConnectionClosed` instead, and may have arrived. On a channel without consumers, a publish that is
/// nacked within five seconds after a reconnect is resent, too; the channel is closed and reopened for that.
///
/// Source: AMQP 0-9-1 section 1.8.3.7 (`basic.publish`);
/// <https://www.rabbitmq.com/docs/confirms#publisher-confirms>
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, Publish, Publishing, Result};
/// # async fn publish(channel: Addr<Channel>) -> Result<()> {
/// let event = Publishing::new("{}").content_type("application/json");
/// let confirmation = channel.send(Publish::new("orders", "order.created", event)).await??;
/// assert!(confirmation.is_confirmed());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct Publish {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) content: Publishing,
}

impl Publish {
    /// Creates a publish to an exchange. An empty name is the default exchange, which routes to the queue
    /// whose name is the routing key.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publish;
    /// let publish = Publish::new("", "jobs", "resize 7.png");
    /// ```
    pub fn new(
        exchange: impl Into<String>,
        routing_key: impl Into<String>,
        content: impl Into<Publishing>,
    ) -> Self {
        Self { exchange: exchange.into(), routing_key: routing_key.into(), content: content.into() }
    }

    /// Returns the exchange; empty for the default exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publish;
    /// assert_eq!(Publish::new("logs", "info", "hello").exchange(), "logs");
    /// ```
    pub fn exchange(&self) -> &str {
        &self.exchange
    }

    /// Returns the routing key.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publish;
    /// assert_eq!(Publish::new("logs", "info", "hello").routing_key(), "info");
    /// ```
    pub fn routing_key(&self) -> &str {
        &self.routing_key
    }

    /// Returns the message: its body, properties and options.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publish;
    /// assert_eq!(Publish::new("logs", "info", "hello").message().body(), "hello");
    /// ```
    pub fn message(&self) -> &Publishing {
        &self.content
    }

    /// Returns whether a message that no queue receives is an error. See [`Publishing::is_mandatory`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Publish, Publishing};
    /// assert!(Publish::new("logs", "info", "hello").is_mandatory());
    /// assert!(!Publish::new("logs", "info", Publishing::new("hello").mandatory(false)).is_mandatory());
    /// ```
    pub fn is_mandatory(&self) -> bool {
        self.content.outgoing(&self.exchange, &self.routing_key).mandatory
    }
}

impl Message for Publish {
    type Result = Result<Confirmation>;
}

/// Reports that the broker has confirmed a publish, or that it was sent on a channel without confirms.
///
/// Source: <https://www.rabbitmq.com/docs/confirms#when-publishes-are-confirmed>
///
/// # Examples
/// ```
/// # use actix_pika_actors::Confirmation;
/// fn print(confirmation: Confirmation) {
///     println!("confirmed: {}", confirmation.is_confirmed());
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmation {
    pub(crate) sequence: u64,
    /// 0 without confirms, or if it is not known.
    pub(crate) epoch: u32,
}

impl Confirmation {
    pub(crate) fn new(sequence: u64, epoch: u32) -> Self {
        Self { sequence, epoch }
    }

    /// Creates the confirmation of a publish with this sequence number, for actors of tests that answer a
    /// [`Publish`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Confirmation;
    /// assert!(Confirmation::for_test(1).is_confirmed());
    /// ```
    #[cfg(feature = "testing")]
    pub fn for_test(sequence: u64) -> Self {
        Self::new(sequence, 1)
    }

    /// Returns the sequence number of the publish on its channel, from 1 on; `None` on a channel without
    /// confirms.
    ///
    /// **Over a reconnect**: the numbers continue.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Confirmation;
    /// fn print(confirmation: Confirmation) {
    ///     println!("publish {:?} is confirmed", confirmation.sequence());
    /// }
    /// ```
    pub fn sequence(&self) -> Option<u64> {
        (self.sequence > 0).then_some(self.sequence)
    }

    /// Returns the channel epoch in which the broker confirmed the publish: how often it had opened the channel
    /// then, from 1 on. `None` on a channel without confirms, and for a confirm that is awaited only after the
    /// channel was opened more than 1,000 times again.
    ///
    /// **Over a reconnect**: a publish that is resent has the epoch of the confirm, not of its first write.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Confirmation;
    /// fn print(confirmation: Confirmation) {
    ///     println!("confirmed in channel epoch {:?}", confirmation.epoch());
    /// }
    /// ```
    pub fn epoch(&self) -> Option<u32> {
        (self.epoch > 0).then_some(self.epoch)
    }

    /// Returns whether the broker has confirmed the publish; false on a channel without confirms.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Confirmation;
    /// fn is_safe(confirmation: Confirmation) -> bool {
    ///     confirmation.is_confirmed()
    /// }
    /// ```
    pub fn is_confirmed(&self) -> bool {
        self.sequence > 0
    }
}
