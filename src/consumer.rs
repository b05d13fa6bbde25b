//! The handle of a consumer.

use std::{fmt, sync::Arc, time::Duration};

use actix_pika_actors::{ConsumerState, Unhandled, facade};

use crate::{
    Channel, ConsumerEnd, Result,
    message::{CancelConsumer, Consumed, PauseConsumer},
};

/// Handle of a consumer that delivers to an actor: cancels, pauses and drains it, and reports its end.
/// Dropping the handle does not cancel the consumer. Clones are the same consumer.
///
/// **Over a reconnect**: the handle stays valid, and the consumer keeps its tag and its actor.
///
/// Source: AMQP 0-9-1 section 1.8 (class basic); <https://www.rabbitmq.com/docs/consumers>
///
/// # Examples
/// ```no_run
/// # async fn run(jobs: actix_pika::Queue, worker: actix::Recipient<actix_pika::Delivery>) -> actix_pika::Result<()> {
/// use std::time::Duration;
///
/// let consumer = jobs.consume(worker).await?;
/// // No new deliveries; waits for those that the worker has begun.
/// consumer.drain(Duration::from_secs(60)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Consumer {
    channel: Channel,
    tag: Arc<str>,
    state: ConsumerState,
}

impl Consumer {
    pub(crate) fn new(channel: Channel, consumed: Consumed) -> Self {
        Self { channel, tag: consumed.tag, state: consumed.state }
    }

    /// Returns the consumer tag: that of [`Consume::tag`](crate::Consume::tag), or a generated one.
    ///
    /// **Over a reconnect**: it stays the same.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) {
    /// println!("{} takes jobs", consumer.tag());
    /// # }
    /// ```
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Cancels the consumer. When it returns, no further delivery arrives.
    ///
    /// Sends `basic.cancel`. Deliveries that the application holds can still be settled. Those that the actor
    /// has not begun return to the queue ([`Unhandled::Requeue`]), or are lost with `no_ack`. Cancelling
    /// twice, or on a closed channel, succeeds.
    ///
    /// # Errors
    /// `Timeout`, or `Blocked` while the broker blocks the connection, after the channel's deadline.
    ///
    /// **Over a reconnect**: a cancelled consumer is not started again.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.5 (`basic.cancel`)
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) -> actix_pika::Result<()> {
    /// consumer.cancel().await
    /// # }
    /// ```
    pub async fn cancel(&self) -> Result<()> {
        self.channel.call(CancelConsumer::new(&*self.tag)).await
    }

    /// Stops delivering to the actor until [`resume`](Self::resume).
    ///
    /// Sends nothing. The broker still fills the prefetch of the consumer; these deliveries wait unsettled,
    /// in order. Deliveries that are in the actor's mailbox are still handled. A broker closes the channel of
    /// a consumer that keeps a delivery for too long (406), or cancels the consumer, after 30 minutes by
    /// default: for longer pauses, cancel.
    ///
    /// # Errors
    /// `Refused` without a code if the consumer has ended; `ChannelClosed` or `ConnectionClosed` if its
    /// channel or its connection is closed.
    ///
    /// **Over a reconnect**: it stays paused.
    ///
    /// Source: <https://www.rabbitmq.com/docs/consumers>
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) -> actix_pika::Result<()> {
    /// consumer.pause().await?;
    /// // The actor gets no deliveries.
    /// consumer.resume().await
    /// # }
    /// ```
    pub async fn pause(&self) -> Result<()> {
        self.channel.call(PauseConsumer::pause(&*self.tag)).await
    }

    /// Resumes delivering to the actor, waiting deliveries first. Sends nothing.
    ///
    /// # Errors
    /// Those of [`pause`](Self::pause).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) -> actix_pika::Result<()> {
    /// consumer.resume().await
    /// # }
    /// ```
    pub async fn resume(&self) -> Result<()> {
        self.channel.call(PauseConsumer::resume(&*self.tag)).await
    }

    /// Returns why the consumer has ended, or `None` if it has not.
    ///
    /// **Over a reconnect**: a consumer that is being recovered has not ended.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) -> actix_pika::Result<()> {
    /// use actix_pika::ConsumerEnd;
    ///
    /// assert!(consumer.end().is_none());
    /// consumer.cancel().await?;
    /// assert!(matches!(consumer.end(), Some(ConsumerEnd::Cancelled)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn end(&self) -> Option<ConsumerEnd> {
        self.state.end()
    }

    /// Waits until the consumer has ended for any reason, and returns it.
    ///
    /// **Over a reconnect**: it continues to wait. A consumer that is being recovered has not ended.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) {
    /// use actix_pika::ConsumerEnd;
    /// if let ConsumerEnd::CancelledByBroker = consumer.ended().await {
    ///     println!("the queue was deleted or is unavailable");
    /// }
    /// # }
    /// ```
    pub async fn ended(&self) -> ConsumerEnd {
        self.state.ended().await
    }

    /// Cancels the consumer, and waits until the application has settled or dropped the deliveries that it
    /// has begun. Use it to shut down a worker.
    ///
    /// Sends `basic.cancel`. Deliveries that the actor has not begun return to the queue
    /// ([`Unhandled::Requeue`]); [`drain_with`](Self::drain_with) has it handle them all.
    ///
    /// # Errors
    /// `Timeout` if deliveries are unsettled after `limit`; the consumer is cancelled nevertheless, and has
    /// [`ended`](Self::ended) when the broker has replied. And those of [`cancel`](Self::cancel).
    ///
    /// **Over a reconnect**: deliveries that the application holds become stale, and still have to be settled
    /// or dropped.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) -> actix_pika::Result<()> {
    /// use std::time::Duration;
    ///
    /// consumer.drain(Duration::from_secs(60)).await?;
    /// consumer.channel().connection().close().await
    /// # }
    /// ```
    pub async fn drain(&self, limit: Duration) -> Result<()> {
        self.drain_with(Unhandled::Requeue, limit).await
    }

    /// Cancels the consumer as [`drain`](Self::drain) does, and sets what becomes of the deliveries that its
    /// actor has not begun.
    ///
    /// Sends `basic.cancel`. The default prefetch is 250: with [`Unhandled::Process`], the actor may have as
    /// many to handle. A consumer that is paused is resumed for that.
    ///
    /// # Errors
    /// Those of [`drain`](Self::drain).
    ///
    /// **Over a reconnect**: as for [`drain`](Self::drain).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) -> actix_pika::Result<()> {
    /// use std::time::Duration;
    /// use actix_pika::options::Unhandled;
    ///
    /// consumer.drain_with(Unhandled::Process, Duration::from_secs(60)).await
    /// # }
    /// ```
    pub async fn drain_with(&self, unhandled: Unhandled, limit: Duration) -> Result<()> {
        let drained = async {
            self.channel.call(CancelConsumer::new(&*self.tag).unhandled(unhandled)).await?;
            self.state.settled().await;
            Ok(())
        };
        match tokio::time::timeout(limit, drained).await {
            Ok(result) => result,
            Err(_) => Err(facade::timed_out(format!("deliveries were still unsettled after {limit:?}"))),
        }
    }

    /// Returns the channel of the handle.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) {
    /// println!("on channel {}", consumer.channel().number());
    /// # }
    /// ```
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("tag", &self.tag).field("channel", &self.channel.number()).finish()
    }
}
