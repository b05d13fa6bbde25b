//! The handle of a consumer.

use std::{fmt, sync::Arc, time::Duration};

use actix_pika_actors::ConsumerLife;

use crate::{CancelConsumer, Channel, Consumed, ConsumerEnd, Error, PauseConsumer, Result};

/// A consumer that feeds an actor. Dropping the handle does not cancel it.
#[derive(Clone)]
pub struct Consumer {
    channel: Channel,
    tag: Arc<str>,
    life: ConsumerLife,
}

impl Consumer {
    pub(crate) fn new(channel: Channel, consumed: Consumed) -> Self {
        Self { channel, tag: consumed.tag, life: consumed.life }
    }

    /// Tells the consumer tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Ends the consumer (`basic.cancel`): when it returns, nothing more comes.
    ///
    /// What the application holds can still be settled; what it has not seen goes back into the queue, but for a `no_ack`
    /// consumer, whose broker has forgotten it: that is lost. Cancelling twice is fine.
    ///
    /// # Errors
    /// `Timeout` after the channel's deadline.
    pub async fn cancel(&self) -> Result<()> {
        self.channel.call(CancelConsumer::new(&*self.tag)).await
    }

    /// Keeps deliveries back from the actor, until [`resume`](Self::resume).
    ///
    /// Nothing is cancelled: the broker still counts the consumer and fills its prefetch, which is held here, unsettled,
    /// and goes on in order. What is in the actor's mailbox already is still handled. A broker closes the channel of a
    /// consumer that keeps a delivery for too long (30 minutes by default): for longer pauses, cancel.
    ///
    /// # Errors
    /// `Refused` without a code when the consumer has ended; those of a closed channel.
    pub async fn pause(&self) -> Result<()> {
        self.channel.call(PauseConsumer::pause(&*self.tag)).await
    }

    /// Hands deliveries on again, those first that were held back.
    ///
    /// # Errors
    /// Those of [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<()> {
        self.channel.call(PauseConsumer::resume(&*self.tag)).await
    }

    /// Tells why the consumer has ended, if it has.
    pub fn end(&self) -> Option<ConsumerEnd> {
        self.life.end()
    }

    /// Waits until the consumer has ended, whoever ended it, and tells why.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) {
    /// use actix_pika::ConsumerEnd;
    /// if let ConsumerEnd::CancelledByBroker = consumer.ended().await {
    ///     println!("the queue is gone");
    /// }
    /// # }
    /// ```
    pub async fn ended(&self) -> ConsumerEnd {
        self.life.ended().await
    }

    /// Ends the consumer (`basic.cancel`) and waits until the application has settled, or dropped, all that it holds of
    /// it: the orderly way to shut a worker down.
    ///
    /// # Errors
    /// `Timeout` when it still holds something after `limit`; the consumer has ended all the same. Those of
    /// [`cancel`](Self::cancel).
    pub async fn drain(&self, limit: Duration) -> Result<()> {
        let drained = async {
            self.cancel().await?;
            self.life.settled().await;
            Ok(())
        };
        match tokio::time::timeout(limit, drained).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::timeout(format!("deliveries were still unsettled after {limit:?}"))),
        }
    }

    /// Hands out the channel of the handle.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("tag", &self.tag).field("channel", &self.channel.number()).finish()
    }
}
