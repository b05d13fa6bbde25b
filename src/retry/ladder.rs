//! The ladder of a queue that is consumed: publishes the copies of messages that failed.

use std::time::{Duration, SystemTime};

use actix_pika_actors::facade;

use super::{
    Retry,
    check::missing,
    copy::{self, Detail},
    declare::{declare_explained, declare_steps},
    plan::Plan,
};
use crate::{
    Channel, ErrorKind, Publishing, Queue, Result,
    hook::PublishKind,
    message::{Content, Properties},
};

/// What became of a message that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retried {
    /// A copy is in the step with this delay.
    Step(Duration),
    /// It had its last try; a copy is in the queue of dead letters.
    DeadLettered,
}

/// Publishes what failed to the steps and the dead letters of one queue, over a channel of its own, so that a refused
/// publish does not cost the consumer its deliveries.
pub(crate) struct RetryLadder {
    plan: Plan,
    channel: Channel,
}

impl RetryLadder {
    /// Checks the arguments that the handle knows, and declares dead letters and steps.
    ///
    /// # Errors
    /// `Refused` without a code that names an argument that the queue lacks, and those of
    /// [`Channel::declare_jobs`].
    pub(crate) async fn attach(queue: &Queue, retry: &Retry) -> Result<Self> {
        let plan = Plan::new(retry, queue.name())?;
        let connection = queue.channel().connection();
        let lacks = queue.arguments().and_then(|known| missing(known, &plan, connection.rules().as_ref()));
        if let Some(lacks) = lacks {
            let why = format!(
                "the queue has no retries without its argument {} = {}: {}; declare it by Channel::declare_jobs under \
                 a new name, and move its messages with Queue::redrive",
                lacks.argument, lacks.value, lacks.why
            );
            return Err(facade::queue_refused(why, queue.name()));
        }
        let ladder = Self { plan, channel: connection.channel().await? };
        ladder.declare().await?;
        Ok(ladder)
    }

    async fn declare(&self) -> Result<()> {
        declare_explained(&self.channel, self.plan.dead_letter_queue()).await?;
        declare_steps(&self.channel, &self.plan).await
    }

    /// Publishes a copy of a message whose `attempt`th try (from 1 on) has failed to its step, or after the last step to
    /// the dead letters, and awaits the confirm. The original can be acknowledged then.
    ///
    /// # Errors
    /// Those of a publish: nothing was done, or the copy [may have arrived](crate::Error::may_have_arrived).
    pub(crate) async fn retry(
        &self,
        content: &Content,
        attempt: u32,
        at_least: Option<Duration>,
        cause: &str,
    ) -> Result<Retried> {
        let Some(step) = self.plan.step(attempt, at_least) else {
            self.bury(content, attempt, cause).await?;
            return Ok(Retried::DeadLettered);
        };
        self.copy(content, &step.queue, |detail| copy::retried(content, attempt, cause, detail)).await?;
        Ok(Retried::Step(step.delay))
    }

    /// Publishes a copy of a message to the dead letters, and awaits the confirm.
    ///
    /// # Errors
    /// As for [`retry`](Self::retry).
    pub(crate) async fn dead_letter(&self, content: &Content, cause: &str) -> Result<()> {
        self.bury(content, copy::attempts(content).saturating_add(1), cause).await
    }

    async fn bury(&self, content: &Content, attempt: u32, cause: &str) -> Result<()> {
        let now = SystemTime::now();
        let properties = |detail| copy::dead(content, attempt, cause, now, detail);
        self.copy(content, &self.plan.dead_letters, properties).await
    }

    /// Publishes a copy to a queue of the ladder.
    async fn copy(
        &self,
        content: &Content,
        queue: &str,
        properties: impl Fn(Detail) -> Properties,
    ) -> Result<()> {
        let publish = |detail| self.publish(copy::message(content, properties(detail)), queue);
        match publish(Detail::Full).await {
            // The headers of the original leave no room in their frame.
            Err(error) if error.kind() == ErrorKind::Limit => publish(Detail::Least).await,
            result => result,
        }
    }

    /// Publishes to a queue of the ladder, and declares it again if somebody has deleted it.
    async fn publish(&self, message: Publishing, queue: &str) -> Result<()> {
        match self.publish_once(message.clone(), queue).await {
            Err(error) if error.kind() == ErrorKind::Unroutable => {
                log::warn!("queue {queue:?} of a ladder is missing, and is declared again");
                self.declare().await?;
                self.publish_once(message, queue).await
            }
            result => result,
        }
    }

    async fn publish_once(&self, message: Publishing, queue: &str) -> Result<()> {
        let exchange = self.channel.default_exchange();
        exchange.publish_hooked(PublishKind::Retry, message, queue).await.map(drop)
    }
}
