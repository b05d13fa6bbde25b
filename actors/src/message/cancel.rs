//! Cancelling and pausing a consumer.

use actix::Message;

use crate::error::Result;

/// Cancels a consumer (`basic.cancel`). The reply is sent after `basic.cancel-ok`.
///
/// Deliveries that the application holds can still be settled. Those that it has not begun return to the
/// queue, or are handled, as [`unhandled`](Self::unhandled) sets. An unknown tag is no error, and neither is a
/// closed channel. A consumer that has ended because its actor has stopped, or because it was too slow, is
/// given up: it is not missing any more in [`Health`](crate::Health).
///
/// # Errors
/// `Timeout` if the deadline passes, or `Blocked` if it passes while the broker blocks the connection.
///
/// **Over a reconnect**: a cancelled consumer does not start again.
///
/// Source: AMQP 0-9-1 section 1.8.3.5 (`basic.cancel`)
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{CancelConsumer, Channel, Result};
/// # async fn cancel(channel: Addr<Channel>) -> Result<()> {
/// channel.send(CancelConsumer::new("resizer")).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct CancelConsumer {
    pub(crate) tag: String,
    pub(crate) unhandled: Unhandled,
    /// Gives up a consumer that is missing, and cancels none.
    pub(crate) only_lost: bool,
}

/// What becomes of the deliveries of a cancelled consumer that its actor has not begun to handle.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{CancelConsumer, Unhandled};
/// let cancel = CancelConsumer::new("resizer").unhandled(Unhandled::Process);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unhandled {
    /// They return to their queue (`basic.nack` with requeue), in their order; with `no_ack` they are lost.
    ///
    /// A classic queue puts each back at its old place, a quorum queue before all that it has not delivered.
    /// In RabbitMQ 4.3 this does not count towards the delivery limit of a quorum queue; up to 4.2 it does. An
    /// actor that keeps up may still handle what is in its mailbox: at most as many deliveries as it handles
    /// in 100 milliseconds by its recent pace, a quarter of those that it has begun so far, and 4096.
    #[default]
    Requeue,
    /// The actor handles them all, which takes as long as it needs for a whole prefetch.
    Process,
}

impl CancelConsumer {
    /// Cancels the consumer with this tag.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::CancelConsumer;
    /// let cancel = CancelConsumer::new("resizer");
    /// ```
    pub fn new(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), unhandled: Unhandled::default(), only_lost: false }
    }

    /// Sets what becomes of the deliveries that the actor has not begun to handle:
    /// [`Requeue`](Unhandled::Requeue) by default.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{CancelConsumer, Unhandled};
    /// let cancel = CancelConsumer::new("resizer").unhandled(Unhandled::Process);
    /// ```
    pub fn unhandled(mut self, unhandled: Unhandled) -> Self {
        self.unhandled = unhandled;
        self
    }
}

impl Message for CancelConsumer {
    type Result = Result<()>;
}

/// Pauses or resumes a consumer: while it is paused, its actor gets no deliveries. Nothing is sent to the
/// broker.
///
/// Deliveries keep arriving up to the prefetch, and wait. A stream of deliveries is read on demand, so that
/// pausing it has no effect.
///
/// # Errors
/// `Refused` without a code if the channel has no consumer with this tag; `ChannelClosed` or
/// `ConnectionClosed` if the channel or connection is closed.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, PauseConsumer, Result};
/// # async fn pause(channel: Addr<Channel>) -> Result<()> {
/// channel.send(PauseConsumer::pause("resizer")).await??;
/// channel.send(PauseConsumer::resume("resizer")).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct PauseConsumer {
    pub(crate) tag: String,
    pub(crate) paused: bool,
}

impl PauseConsumer {
    /// Pauses the consumer with this tag.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::PauseConsumer;
    /// let pause = PauseConsumer::pause("resizer");
    /// ```
    pub fn pause(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), paused: true }
    }

    /// Resumes the consumer with this tag.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::PauseConsumer;
    /// let resume = PauseConsumer::resume("resizer");
    /// ```
    pub fn resume(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), paused: false }
    }
}

impl Message for PauseConsumer {
    type Result = Result<()>;
}
