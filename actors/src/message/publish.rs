//! Publishing by message, and what comes of a publish.

use actix::Message;

use super::Publishing;
use crate::error::Result;

/// Publishes by a message to the Channel actor, for people who speak in messages. Handles do the same without
/// a mailbox in the way.
///
/// Sends `basic.publish`. Answered when the broker has taken responsibility, or, on a channel without
/// confirms, when there was room in the window. Once the actor has begun with it, it goes on though nobody awaits it.
///
/// # Errors
/// Before anything is sent: `Limit` for a name over 255 bytes or headers over the connection's frame size,
/// `Codec` for properties that cannot be encoded, `Timeout` or `Blocked` where the window had no room within
/// the deadline. Then: `Unroutable` where no queue got it, `Nacked` where the broker cannot keep it,
/// `Timeout` or `Blocked` after the deadline. `ChannelClosed` with the broker's reason where it closed the
/// channel: 404 for a missing exchange, 403 without permission or for an internal exchange, 406 for
/// properties that it refuses or a body that is too large.
/// [`may_have_arrived`](crate::Error::may_have_arrived) tells whether it was on its way.
///
/// **Over a reconnect**: a publish that was not confirmed is sent again, in the old order and before newer
/// ones, within its deadline; one that begins while the connection is down waits. With `on_outage(Fail)` it
/// is `ConnectionClosed` instead, and may have arrived. Nacked within five seconds of the reconnect, it is sent
/// again, too, on a channel without consumers, which is closed and opened for that.
///
/// Source: AMQP 0-9-1 section 1.8.3.7; <https://www.rabbitmq.com/docs/confirms#publisher-confirms>
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
    /// Publishes to an exchange; an empty name is the default exchange, which routes to the queue named by the key.
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
}

impl Message for Publish {
    type Result = Result<Confirmation>;
}

/// Says that the broker has taken responsibility for a publish, or was not asked to.
///
/// Source: <https://www.rabbitmq.com/docs/confirms#when-publishes-are-confirmed>
///
/// # Examples
/// ```
/// # use actix_pika_actors::Confirmation;
/// fn is_safe(confirmation: Confirmation) -> bool {
///     confirmation.is_confirmed()
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmation {
    pub(crate) sequence: u64,
}

impl Confirmation {
    pub(crate) fn new(sequence: u64) -> Self {
        Self { sequence }
    }

    /// Tells the number of the publish on its channel, from 1 on; `None` on a channel without confirms, where the
    /// publish is only on its way.
    ///
    /// **Over a reconnect**: the numbers go on.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Confirmation;
    /// fn log(confirmation: Confirmation) {
    ///     println!("publish {:?} is safe", confirmation.sequence());
    /// }
    /// ```
    pub fn sequence(&self) -> Option<u64> {
        (self.sequence > 0).then_some(self.sequence)
    }

    /// Tells whether the broker confirmed it.
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
