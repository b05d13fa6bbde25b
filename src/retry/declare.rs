//! Declaring the queues of a ladder.

use actix_pika_actors::facade;

use super::{Retry, check::how_to_migrate, plan::Plan};
use crate::{Channel, DeclareQueue, Error, Queue, Result};

impl Channel {
    /// Declares a queue of jobs with all that its retries need: the queue of dead letters, the job queue with its
    /// arguments, and the steps of the ladder, in this order.
    ///
    /// Sends `queue.declare` for each. The names, types and arguments are listed in the [module](crate::retry). What
    /// `declare` has is kept, such as another delivery limit; a queue type that it does not have is quorum.
    ///
    /// # Errors
    /// `Refused` without a code if `declare` contradicts the ladder: it is passive, exclusive or a stream, has dead
    /// letters of its own, or a queue type that the ladder is not for. `Limit` for more than 32 steps, a step over ten
    /// years, or a name over 255 bytes. `Refused` with 406 if one of the queues exists with other arguments, with the
    /// way to migrate; it closes the channel, as the other errors of [`declare_queue`](Self::declare_queue) do.
    ///
    /// **Over a reconnect**: all are redeclared. Their messages are kept by the broker.
    ///
    /// Source: <https://www.rabbitmq.com/docs/quorum-queues#dead-lettering>; <https://www.rabbitmq.com/docs/dlx>
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::{DeclareQueue, retry::Retry};
    ///
    /// let ladder = Retry::ladder(&[1, 30, 600].map(Duration::from_secs));
    /// let mail = channel.declare_jobs(DeclareQueue::new("mail").quorum(), &ladder).await?;
    /// # Ok(()) }
    /// ```
    pub async fn declare_jobs(&self, declare: impl Into<DeclareQueue>, retry: &Retry) -> Result<Queue> {
        let declare = declare.into();
        let plan = Plan::new(retry, declare.name())?;
        let jobs = plan.job_queue(declare)?;
        declare_explained(self, plan.dead_letter_queue()).await?;
        // The steps are at least once: without their target they would wait three minutes for it.
        let queue = declare_explained(self, jobs).await?;
        declare_steps(self, &plan).await?;
        Ok(queue)
    }
}

/// Declares the steps of a ladder.
pub(super) async fn declare_steps(channel: &Channel, plan: &Plan) -> Result<()> {
    for step in plan.step_queues() {
        declare_explained(channel, step).await?;
    }
    Ok(())
}

/// Declares a queue; a 406 tells how to migrate.
pub(super) async fn declare_explained(channel: &Channel, declare: DeclareQueue) -> Result<Queue> {
    let name = declare.name().to_owned();
    let declared = channel.declare_queue(declare).await;
    declared.map_err(|error| explained(error, &name))
}

fn explained(error: Error, queue: &str) -> Error {
    if error.code() != Some(406) {
        return error;
    }
    let mismatch = error.mismatch();
    let argument = mismatch.as_ref().map(|mismatch| mismatch.argument.as_str());
    facade::refused_because(how_to_migrate(queue, argument), error)
}
