//! Taking single messages from a queue.

use actix::Message;

use super::Delivery;
use crate::error::Result;

/// Takes one message from a queue (`basic.get`), if there is one.
///
/// Each message costs a round trip; a consumer is faster.
///
/// # Errors
/// - `Refused` with 403 if permission is missing, 404 if the queue does not exist, 405 if it is exclusive to
///   another connection. Each closes the channel.
/// - `ConnectionClosed` with 540 if the queue is a stream.
/// - `Limit` if the body is larger than `body_max` (128 MiB unless set), or was the largest when the incomplete
///   bodies of the connection were over their limit. The message returns to its queue (`basic.reject`), unless
///   [`no_ack`](Self::no_ack) is set: then it is lost. The channel stays open.
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: an unsettled delivery returns to the queue, and settling it fails with
/// `StaleDelivery`.
///
/// Source: AMQP 0-9-1 section 1.8.3.10 (`basic.get`)
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, Get, Result};
/// # async fn take(channel: Addr<Channel>) -> Result<()> {
/// while let Some(delivery) = channel.send(Get::new("jobs")).await?? {
///     println!("{}, {:?} left", String::from_utf8_lossy(delivery.body()), delivery.message_count());
///     delivery.ack()?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct Get {
    pub(crate) queue: String,
    pub(crate) no_ack: bool,
}

impl Get {
    /// Takes a message from the queue with this name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Get;
    /// let get = Get::new("jobs");
    /// ```
    pub fn new(queue: impl Into<String>) -> Self {
        Self { queue: queue.into(), no_ack: false }
    }

    /// Sets whether the message needs no acknowledgement. The broker then removes it from the queue when it
    /// sends it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Get;
    /// let get = Get::new("jobs").no_ack(true);
    /// ```
    pub fn no_ack(mut self, no_ack: bool) -> Self {
        self.no_ack = no_ack;
        self
    }
}

impl Message for Get {
    type Result = Result<Option<Delivery>>;
}
