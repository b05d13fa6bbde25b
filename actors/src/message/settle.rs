//! Settling a delivery by a message to the Channel actor.

use actix::Message;

use super::{Outcome, Token};
use crate::error::Result;

/// Settles a delivery by a message to the Channel actor. It is given as a delivery, or as its token.
///
/// The methods of [`Delivery`](super::Delivery) and [`Token`] do the same without passing through a mailbox. The delivery is settled on its
/// own channel, whichever Channel actor receives the message.
///
/// # Errors
/// Those of [`Delivery::ack`](super::Delivery::ack).
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
    pub(crate) token: Token,
    pub(crate) outcome: Outcome,
}

impl Settle {
    /// Acknowledges the delivery (`basic.ack`), see [`Delivery::ack`](super::Delivery::ack).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn finish(delivery: Delivery) -> Settle {
    ///     Settle::ack(delivery)
    /// }
    /// ```
    pub fn ack(delivery: impl Into<Token>) -> Self {
        Self { token: delivery.into(), outcome: Outcome::Ack }
    }

    /// Acknowledges the delivery and all older ones of its consumer or queue (`basic.ack`), see
    /// [`Delivery::ack_all`](super::Delivery::ack_all).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn finish_all(last: Delivery) -> Settle {
    ///     Settle::ack_all(last)
    /// }
    /// ```
    pub fn ack_all(delivery: impl Into<Token>) -> Self {
        Self { token: delivery.into(), outcome: Outcome::AckAll }
    }

    /// Refuses the delivery and all older ones of its consumer (`basic.nack`), see
    /// [`Delivery::nack_all`](super::Delivery::nack_all).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn return_all(last: Delivery) -> Settle {
    ///     Settle::nack_all(last, true)
    /// }
    /// ```
    pub fn nack_all(delivery: impl Into<Token>, requeue: bool) -> Self {
        Self { token: delivery.into(), outcome: Outcome::NackAll { requeue } }
    }

    /// Refuses the delivery (`basic.nack`), see [`Delivery::nack`](super::Delivery::nack).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn retry_later(delivery: Delivery) -> Settle {
    ///     Settle::nack(delivery, true)
    /// }
    /// ```
    pub fn nack(delivery: impl Into<Token>, requeue: bool) -> Self {
        Self { token: delivery.into(), outcome: Outcome::Nack { requeue } }
    }

    /// Rejects the delivery (`basic.reject`), see [`Delivery::reject`](super::Delivery::reject).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn discard(delivery: Delivery) -> Settle {
    ///     Settle::reject(delivery, false)
    /// }
    /// ```
    pub fn reject(delivery: impl Into<Token>, requeue: bool) -> Self {
        Self { token: delivery.into(), outcome: Outcome::Reject { requeue } }
    }

    pub(crate) fn run(self) -> Result<()> {
        self.token.settle(self.outcome)
    }
}

impl Message for Settle {
    type Result = Result<()>;
}
