//! Settling many deliveries at once, so that their frames are sent together.

use super::{Delivery, Outcome};
use crate::error::Result;

impl Delivery {
    /// Acknowledges many deliveries, of one or several consumers (`basic.ack`), and sends the frames
    /// together.
    ///
    /// Adjacent deliveries of the same consumer are settled under one lock. If a delivery cannot be settled,
    /// the others are settled nevertheless.
    ///
    /// # Errors
    /// The first error; the errors are those of [`ack`](Self::ack).
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

    /// Refuses many deliveries, of one or several consumers (`basic.nack`), and sends the frames together.
    ///
    /// With `requeue` the messages return to their queues; without, they are dropped or dead-lettered.
    /// Adjacent deliveries of the same consumer are settled under one lock. If a delivery cannot be settled,
    /// the others are settled nevertheless.
    ///
    /// # Errors
    /// The first error; the errors are those of [`ack`](Self::ack).
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

pub(super) fn settle_many(deliveries: impl IntoIterator<Item = Delivery>, outcome: Outcome) -> Result<()> {
    let mut result = Ok(());
    let mut group: Vec<Delivery> = Vec::new();
    for delivery in deliveries {
        if group.last().is_some_and(|last| !last.same_consumer(&delivery)) {
            result = result.and(Delivery::settle_group(&mut group, outcome));
        }
        group.push(delivery);
    }
    result.and(Delivery::settle_group(&mut group, outcome))
}
