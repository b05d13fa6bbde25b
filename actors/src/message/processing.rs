//! A guard over the work on a delivery: whatever becomes of the work, the delivery is settled.

use std::ops::Deref;

use super::Delivery;
use crate::{error::Result, outbox::Outcome};

/// Says what becomes of a delivery whose work fails: ends in an error, panics, or is given up.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Delivery, Requeue, Result};
/// fn work(delivery: Delivery) -> Result<()> {
///     let job = delivery.process(Requeue::OnceThenDrop);
///     println!("{:?}", job.body());
///     job.done()
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Requeue {
    /// Back into its queue, every time. Work that always fails then comes again at once and for ever; give such queues
    /// a delivery limit, or take [`OnceThenDrop`](Self::OnceThenDrop).
    Yes,
    /// Dropped, or dead-lettered where its queue has a dead-letter exchange.
    No,
    /// Back into its queue the first time; dropped or dead-lettered when it had been delivered before.
    #[doc(alias = "reject_on_redelivered")]
    OnceThenDrop,
}

impl Requeue {
    fn verdict(self, redelivered: bool) -> Outcome {
        match self {
            Self::OnceThenDrop if redelivered => Outcome::Reject { requeue: false },
            // Held back, not sent round in circles, while the consumer is being cancelled.
            Self::Yes | Self::OnceThenDrop => Outcome::Dropped,
            Self::No => Outcome::Reject { requeue: false },
        }
    }
}

/// Guards a delivery that is being worked on: [`done`](Self::done) acknowledges it; dropped without that, by an early
/// return or a panic, it is refused (`basic.reject`) as its [`Requeue`] says.
///
/// It reads like the [`Delivery`] that it guards. Settling it otherwise takes the guard, so nothing is settled twice.
///
/// **Over a reconnect**: what it guards comes again, and [`done`](Self::done) says `StaleDelivery`; dropped,
/// it sends nothing.
///
/// # Examples
/// ```
/// use actix_pika_actors::{Delivery, Requeue, Result};
///
/// async fn resize(_: &[u8]) -> std::io::Result<()> {
///     Ok(())
/// }
///
/// async fn work(delivery: Delivery) -> Result<(), Box<dyn std::error::Error>> {
///     let job = delivery.process(Requeue::OnceThenDrop);
///     resize(job.body()).await?; // an error, or a panic, refuses the job
///     Ok(job.done()?)
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping it refuses the delivery"]
pub struct Processing(Delivery);

impl Delivery {
    /// Begins the work on it, under a guard that settles it whatever happens.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Requeue, Result};
    /// fn work(delivery: Delivery) -> Result<()> {
    ///     let job = delivery.process(Requeue::No);
    ///     let Ok(text) = std::str::from_utf8(job.body()) else {
    ///         return Ok(()); // refused as the guard is dropped
    ///     };
    ///     println!("{text}");
    ///     job.done()
    /// }
    /// ```
    pub fn process(mut self, requeue: Requeue) -> Processing {
        self.fate = Some(requeue.verdict(self.redelivered()));
        Processing(self)
    }
}

impl Processing {
    /// Says that the work is done, and acknowledges the delivery (`basic.ack`).
    ///
    /// # Errors
    /// Those of [`Delivery::ack`]: the channel has begun another life or is closed, and the delivery comes again.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Processing, Result};
    /// fn end(job: Processing) -> Result<()> {
    ///     job.done()
    /// }
    /// ```
    pub fn done(self) -> Result<()> {
        self.0.ack()
    }

    /// Refuses the delivery (`basic.reject`), otherwise than its policy would.
    ///
    /// # Errors
    /// Those of [`Delivery::reject`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Processing, Result};
    /// fn drop_it(job: Processing) -> Result<()> {
    ///     job.reject(false)
    /// }
    /// ```
    pub fn reject(self, requeue: bool) -> Result<()> {
        self.0.reject(requeue)
    }

    /// Refuses the delivery as its policy says, and tells whether that could still be done.
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
    pub fn fail(self) -> Result<()> {
        let requeue = !matches!(self.0.fate, Some(Outcome::Reject { requeue: false }));
        self.0.reject(requeue)
    }

    /// Ends the guard and hands the delivery back, unsettled; dropped then, it goes back into its queue.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Processing};
    /// fn hand_on(job: Processing) -> Delivery {
    ///     job.into_delivery()
    /// }
    /// ```
    pub fn into_delivery(mut self) -> Delivery {
        self.0.fate = None;
        self.0
    }
}

impl Deref for Processing {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.0
    }
}
