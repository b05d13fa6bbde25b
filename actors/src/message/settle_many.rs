//! Settling many deliveries at once, so that their frames are sent together.

use super::Delivery;
use crate::{error::Result, outbox::Outcome};

impl Delivery {
    /// Acknowledges many deliveries, of one or several consumers, and sends their frames together.
    ///
    /// Sends `basic.ack`. Neighbours of the same consumer are settled under one lock. A delivery that cannot be settled
    /// does not keep the others from being settled.
    ///
    /// # Errors
    /// The first error, of those of [`ack`](Self::ack).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn store(jobs: Vec<Delivery>) -> Result<()> {
    ///     Delivery::ack_many(jobs)
    /// }
    /// ```
    pub fn ack_many(deliveries: impl IntoIterator<Item = Self>) -> Result<()> {
        settle_many(deliveries, Outcome::Ack)
    }

    /// Refuses many deliveries, of one or several consumers, and sends their frames together. With `requeue` they go back
    /// into their queues, without it they are dropped or dead-lettered.
    ///
    /// Sends `basic.nack`. Neighbours of the same consumer are settled under one lock. A delivery that cannot be settled
    /// does not keep the others from being settled.
    ///
    /// # Errors
    /// The first error, of those of [`ack`](Self::ack).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Delivery, Result};
    /// fn give_back(jobs: Vec<Delivery>) -> Result<()> {
    ///     Delivery::nack_many(jobs, true)
    /// }
    /// ```
    pub fn nack_many(deliveries: impl IntoIterator<Item = Self>, requeue: bool) -> Result<()> {
        settle_many(deliveries, Outcome::Nack { requeue })
    }
}

fn settle_many(deliveries: impl IntoIterator<Item = Delivery>, outcome: Outcome) -> Result<()> {
    let mut result = Ok(());
    let mut group: Vec<Delivery> = Vec::new();
    for delivery in deliveries {
        if group.last().is_some_and(|last| !last.goes_with(&delivery)) {
            result = result.and(Delivery::settle_group(&mut group, outcome));
        }
        group.push(delivery);
    }
    result.and(Delivery::settle_group(&mut group, outcome))
}
