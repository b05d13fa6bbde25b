//! Setting the prefetch of a channel, and closing it.

use actix::Message;

use super::closing::closing;
use crate::error::Result;

/// Sets the prefetch of a channel (`basic.qos`): how many unsettled deliveries a consumer may have.
///
/// It applies to each consumer that starts afterwards; 0 means no limit. A new channel has a limit of 250. A
/// consumer with a [limit of its own](crate::Consume::prefetch) does not use this one, and the broker applies
/// none to consumers with `no_ack`. There is no limit in bytes: RabbitMQ does not support one (540).
///
/// # Errors
/// - `Refused` without a code for a [shared limit](Self::global) that the broker would ignore.
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: the limit is set again when the channel is reopened, before its consumers start. On
/// a broker that would ignore a shared limit, a warning is logged, and each consumer has that limit instead.
///
/// Source: AMQP 0-9-1 section 1.8.3.1 (`basic.qos`); <https://www.rabbitmq.com/docs/consumer-prefetch>
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
    pub(crate) permitted: bool,
}

impl Qos {
    /// Creates a limit of `prefetch_count` unsettled deliveries for each new consumer.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Qos;
    /// let one_at_a_time = Qos::new(1);
    /// ```
    pub fn new(prefetch_count: u16) -> Self {
        Self { prefetch_count, global: false, permitted: false }
    }

    /// Sets whether all consumers of the channel share the limit. Otherwise each consumer has its own.
    ///
    /// Quorum queues and streams do not support a shared limit. If the type of the queue is known from its
    /// declare, the client refuses to consume from it; otherwise the broker closes the connection (540).
    ///
    /// RabbitMQ 4.3 and later have no shared limits unless their operator permits them: they answer with
    /// success, and then give each new consumer that limit. The call fails there instead, with `Refused`
    /// without a code, unless [`permitted`](Self::permitted) is set. A limit of 0, which removes a shared
    /// one, always succeeds. With earlier versions an operator can deny shared limits too, which the client
    /// cannot know.
    ///
    /// Each consumer keeps its own limit in addition. Set that one first: RabbitMQ suspends a shared limit
    /// for a moment when it receives a limit for each consumer.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Qos;
    /// let shared = Qos::new(10).global(true);
    /// ```
    pub fn global(mut self, global: bool) -> Self {
        self.global = global;
        self
    }

    /// Sets whether the operator of the broker has permitted limits that consumers share
    /// (`deprecated_features.permit.global_qos = true` in `rabbitmq.conf`). It has no effect on other limits.
    ///
    /// RabbitMQ 4.3 and later need that permission, and the handshake does not tell whether they have it. If
    /// they do not, the broker ignores the limit.
    ///
    /// Source: <https://www.rabbitmq.com/docs/deprecated-features>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Qos;
    /// let shared = Qos::new(10).global(true).permitted(true);
    /// ```
    pub fn permitted(mut self, permitted: bool) -> Self {
        self.permitted = permitted;
        self
    }
}

impl Message for Qos {
    type Result = Result<()>;
}

closing! {
    /// Closes the channel (`channel.close`), after all publishes are confirmed or their deadlines have
    /// passed.
    ///
    /// Unsettled deliveries of its consumers return to their queues. Closing twice is no error.
    ///
    /// # Errors
    /// `Timeout` if publishes were not confirmed within their deadline, or if the broker does not reply;
    /// `Blocked` if it blocks the connection meanwhile. The channel is closed nevertheless.
    ///
    /// **Over a reconnect**: a closed channel stays closed.
    ///
    /// Source: AMQP 0-9-1 section 1.5.2.5 (`channel.close`)
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

/// Reports that the last handle was dropped: the channel closes when its consumers and publishes are done.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseChannel;

impl Message for ReleaseChannel {
    type Result = ();
}
