//! A guard for the processing of a delivery, which settles the delivery in every case.

use std::ops::Deref;

use super::{Delivery, Failures, delivery::OnDrop};
use crate::error::Result;

/// Selects what happens to a delivery whose processing fails: it returns an error, panics or is cancelled.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Delivery, Requeue, Result};
/// fn work(delivery: Delivery) -> Result<()> {
///     let job = delivery.process(Requeue::OnceThenDrop);
///     println!("{}", String::from_utf8_lossy(job.body()));
///     job.done()
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Requeue {
    /// The delivery returns to its queue, every time: at once the first time, later each time after it, as
    /// [`Delivery`] describes. A message whose processing always fails is redelivered endlessly; set a
    /// delivery limit on such queues, or use [`OnceThenDrop`](Self::OnceThenDrop).
    Yes,
    /// The delivery is dropped, or dead-lettered if its queue has a dead-letter exchange.
    No,
    /// The delivery returns to its queue the first time. A redelivered one is dropped or dead-lettered, unless
    /// the counts of its queue tell that it did not fail there: RabbitMQ 4.3 marks dead letters as redelivered
    /// when they come for the first time, and what was returned with `basic.nack`.
    #[doc(alias = "reject_on_redelivered")]
    OnceThenDrop,
}

impl Requeue {
    fn on_drop(self, delivery: &Delivery) -> OnDrop {
        match self {
            Self::OnceThenDrop if delivery.redelivered() && delivery.failures() != Failures::Counted(0) => {
                OnDrop::Reject
            }
            Self::Yes | Self::OnceThenDrop => OnDrop::RequeueFailed,
            Self::No => OnDrop::Reject,
        }
    }
}

/// Guards a delivery while it is processed. [`done`](Self::done) acknowledges it. If the guard is dropped
/// without that, by an early return or a panic, the delivery is rejected (`basic.reject`) as its [`Requeue`]
/// selects.
///
/// The guard dereferences to the [`Delivery`]. Every method that settles the delivery consumes the guard, so
/// nothing is settled twice.
///
/// **Over a reconnect**: the broker delivers the message again. [`done`](Self::done) then fails with
/// `StaleDelivery`, and dropping the guard sends nothing.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Delivery, Requeue, Result};
/// async fn resize(_: &[u8]) -> std::io::Result<()> {
///     Ok(())
/// }
///
/// async fn work(delivery: Delivery) -> Result<(), Box<dyn std::error::Error>> {
///     let job = delivery.process(Requeue::OnceThenDrop);
///     resize(job.body()).await?; // an error or a panic rejects the delivery
///     Ok(job.done()?)
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping the guard rejects the delivery"]
pub struct Processing(Delivery);

impl Delivery {
    /// Starts processing the delivery: returns a guard that settles it in every case.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Requeue, Result};
    /// fn work(delivery: Delivery) -> Result<()> {
    ///     let job = delivery.process(Requeue::No);
    ///     let Ok(text) = std::str::from_utf8(job.body()) else {
    ///         return Ok(()); // dropping the guard rejects the delivery
    ///     };
    ///     println!("{text}");
    ///     job.done()
    /// }
    /// ```
    pub fn process(mut self, requeue: Requeue) -> Processing {
        self.on_drop = requeue.on_drop(&self);
        Processing(self)
    }
}

impl Processing {
    /// Acknowledges the delivery (`basic.ack`): the processing succeeded.
    ///
    /// # Errors
    /// Those of [`Delivery::ack`]: the channel was reopened or is closed, and the broker delivers the message
    /// again.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Processing, Result};
    /// fn finish(job: Processing) -> Result<()> {
    ///     job.done()
    /// }
    /// ```
    pub fn done(self) -> Result<()> {
        self.0.ack()
    }

    /// Rejects the delivery (`basic.reject`) with a requeue flag that overrides its [`Requeue`]. It is sent at
    /// once.
    ///
    /// # Errors
    /// Those of [`Delivery::reject`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Processing, Result};
    /// fn discard(job: Processing) -> Result<()> {
    ///     job.reject(false)
    /// }
    /// ```
    pub fn reject(self, requeue: bool) -> Result<()> {
        self.0.reject(requeue)
    }

    /// Rejects the delivery (`basic.reject`) as its [`Requeue`] selects, as dropping the guard does, or
    /// returns the error that prevents it.
    ///
    /// # Errors
    /// Those of [`Delivery::reject`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Processing, Result};
    /// fn give_up(job: Processing) -> Result<()> {
    ///     job.fail()
    /// }
    /// ```
    pub fn fail(mut self) -> Result<()> {
        self.0.fail()
    }

    /// Removes the guard and returns the delivery, unsettled. Dropping the delivery returns it to its queue.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Processing};
    /// fn forward(job: Processing) -> Delivery {
    ///     job.into_delivery()
    /// }
    /// ```
    pub fn into_delivery(mut self) -> Delivery {
        self.0.on_drop = OnDrop::Requeue;
        self.0
    }
}

impl Deref for Processing {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.0
    }
}
