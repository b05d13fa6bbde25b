//! What is said to a channel about itself.

use actix::Message;

use super::closing::closing;
use crate::error::Result;

/// Sets the prefetch (`basic.qos`): deliveries that a consumer may have unsettled.
///
/// Applies to consumers that start afterwards, each for itself. 0 means no bound.
/// Source: RabbitMQ, "Consumer Prefetch".
///
/// Sends `basic.qos`. A channel begins with 250 for each consumer. A consumer with a prefetch of [its
/// own](crate::Consume::prefetch) does not look at this one, and a consumer with `no_ack` has no use for the
/// broker's bound.
///
/// # Errors
/// Those of every call ([`Channel`](crate::Channel)). A size in bytes, which RabbitMQ lacks (540), cannot be
/// said.
///
/// **Over a reconnect**: it is set again when the channel opens again, before its consumers.
///
/// Source: AMQP 0-9-1 section 1.8.3.1; <https://www.rabbitmq.com/docs/consumer-prefetch>
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, Qos, Result};
/// # async fn bound(channel: Addr<Channel>) -> Result<()> {
/// channel.send(Qos::new(32)).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct Qos {
    pub(crate) prefetch_count: u16,
    pub(crate) global: bool,
}

impl Qos {
    /// Bounds each new consumer to `prefetch_count` unsettled deliveries.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Qos;
    /// let one_at_a_time = Qos::new(1);
    /// ```
    pub fn new(prefetch_count: u16) -> Self {
        Self { prefetch_count, global: false }
    }

    /// Sets whether all consumers of the channel share the bound. Without it, each consumer has its own.
    ///
    /// Quorum queues and streams have no such bound: to consume from one then is refused here where its type is known,
    /// from its declare, and costs the connection (540) where it is not. RabbitMQ 4.3 refuses it for all, unless allowed.
    ///
    /// Each consumer keeps its own bound beside it. Set that one first: RabbitMQ lifts a shared bound for a moment when
    /// it is told another one for each consumer.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Qos;
    /// let ten_together = Qos::new(10).global(true);
    /// ```
    pub fn global(mut self, global: bool) -> Self {
        self.global = global;
        self
    }
}

impl Message for Qos {
    type Result = Result<()>;
}

closing! {
    /// Closes the channel (`channel.close`), after the publishes under way are confirmed or their deadline has passed.
    ///
    /// What consumers of the channel have not settled goes back into its queues. Closing twice is fine.
    ///
    /// # Errors
    /// `Timeout` where publishes were not confirmed when their deadline passed, or where the broker does not
    /// answer: `Blocked` while it blocks the connection. The channel is closed all the same.
    ///
    /// **Over a reconnect**: a channel that was closed stays closed.
    ///
    /// Source: AMQP 0-9-1 section 1.5.2.5
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::Addr;
    /// # use actix_pika_actors::{Channel, CloseChannel, Result};
    /// # async fn close(channel: Addr<Channel>) -> Result<()> {
    /// channel.send(CloseChannel::new()).await??;
    /// # Ok(()) }
    /// ```
    CloseChannel
}

/// Tells the Channel actor that the last handle is gone: it closes when nothing else needs it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ReleaseChannel;

impl Message for ReleaseChannel {
    type Result = ();
}
