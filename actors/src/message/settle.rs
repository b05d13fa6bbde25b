//! Settling a delivery by a message to the Channel actor.

use actix::Message;

use super::{Delivery, Outcome};
use crate::error::Result;

/// Settles a delivery by a message to the Channel actor.
///
/// The methods of [`Delivery`] do the same without passing through a mailbox. The delivery is settled on its
/// own channel, whichever Channel actor receives the message.
///
/// # Errors
/// Those of [`Delivery::ack`].
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
    pub(crate) delivery: Delivery,
    pub(crate) outcome: Outcome,
}

impl Settle {
    /// Acknowledges the delivery (`basic.ack`), see [`Delivery::ack`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn finish(delivery: Delivery) -> Settle {
    ///     Settle::ack(delivery)
    /// }
    /// ```
    pub fn ack(delivery: Delivery) -> Self {
        Self { delivery, outcome: Outcome::Ack }
    }

    /// Acknowledges the delivery and all older ones of its consumer or queue (`basic.ack`), see [`Delivery::ack_all`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn finish_all(last: Delivery) -> Settle {
    ///     Settle::ack_all(last)
    /// }
    /// ```
    pub fn ack_all(delivery: Delivery) -> Self {
        Self { delivery, outcome: Outcome::AckAll }
    }

    /// Refuses the delivery and all older ones of its consumer (`basic.nack`), see [`Delivery::nack_all`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn return_all(last: Delivery) -> Settle {
    ///     Settle::nack_all(last, true)
    /// }
    /// ```
    pub fn nack_all(delivery: Delivery, requeue: bool) -> Self {
        Self { delivery, outcome: Outcome::NackAll { requeue } }
    }

    /// Refuses the delivery (`basic.nack`), see [`Delivery::nack`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn retry_later(delivery: Delivery) -> Settle {
    ///     Settle::nack(delivery, true)
    /// }
    /// ```
    pub fn nack(delivery: Delivery, requeue: bool) -> Self {
        Self { delivery, outcome: Outcome::Nack { requeue } }
    }

    /// Rejects the delivery (`basic.reject`), see [`Delivery::reject`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Settle};
    /// fn discard(delivery: Delivery) -> Settle {
    ///     Settle::reject(delivery, false)
    /// }
    /// ```
    pub fn reject(delivery: Delivery, requeue: bool) -> Self {
        Self { delivery, outcome: Outcome::Reject { requeue } }
    }

    pub(crate) fn run(self) -> Result<()> {
        self.delivery.settle(self.outcome)
    }
}

impl Message for Settle {
    type Result = Result<()>;
}
