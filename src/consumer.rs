//! The handle of a consumer.

use std::{fmt, sync::Arc, time::Duration};

use actix_pika_actors::{ConsumerState, facade};

use crate::{
    Channel, ConsumerEnd, Result,
    message::{CancelConsumer, Consumed, PauseConsumer},
};

/// Cancels, pauses and drains a consumer that feeds an actor, and tells when it has ended. Dropping the handle does
/// not cancel it. Clones are the same consumer.
///
/// **Over a reconnect**: it stays the same consumer, with its tag and its actor.
///
/// Source: AMQP 0-9-1 section 1.8 (class basic); <https://www.rabbitmq.com/docs/consumers>.
///
/// # Examples
/// ```no_run
/// # async fn run(jobs: actix_pika::Queue, worker: actix::Recipient<actix_pika::Delivery>) -> actix_pika::Result<()> {
/// use std::time::Duration;
///
/// let consumer = jobs.consume(worker).await?;
/// // At the end of the day: nothing new, and what is in hand is finished.
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

    /// Tells the consumer tag: the one that [`Consume::tag`](crate::Consume::tag) gave, or one that is made up here.
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

    /// Ends the consumer: when it returns, nothing more comes.
    ///
    /// Sends `basic.cancel`. What the application holds can still be settled; what it has not seen goes back into the
    /// queue, but for a `no_ack` consumer, whose broker has forgotten it: that is lost. Cancelling twice is fine, and
    /// so is cancelling on a closed channel.
    ///
    /// # Errors
    /// `Timeout`, or `Blocked` while the broker blocks the connection, after the channel's deadline.
    ///
    /// **Over a reconnect**: what was cancelled stays gone.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.cancel`).
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

    /// Keeps deliveries back from the actor, until [`resume`](Self::resume).
    ///
    /// Nothing is sent: the broker still counts the consumer and fills its prefetch, which is held here, unsettled,
    /// and goes on in order. What is in the actor's mailbox already is still handled. A broker closes the channel of
    /// a consumer that keeps a delivery for too long (406), or cancels the consumer, after 30 minutes by default: for
    /// longer pauses, cancel.
    ///
    /// # Errors
    /// `Refused` without a code when the consumer has ended; `ChannelClosed` or `ConnectionClosed` when its channel
    /// or its connection is closed.
    ///
    /// **Over a reconnect**: it stays paused.
    ///
    /// Source: <https://www.rabbitmq.com/docs/consumers>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::Consumer) -> actix_pika::Result<()> {
    /// consumer.pause().await?;
    /// // Nothing is handed on meanwhile.
    /// consumer.resume().await
    /// # }
    /// ```
    pub async fn pause(&self) -> Result<()> {
        self.channel.call(PauseConsumer::pause(&*self.tag)).await
    }

    /// Hands deliveries on again, those first that were held back. Nothing is sent.
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

    /// Tells why the consumer has ended, if it has.
    ///
    /// **Over a reconnect**: a consumer that is to be started again has not ended.
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

    /// Waits until the consumer has ended, whoever ended it, and tells why.
    ///
    /// **Over a reconnect**: it goes on to wait; a consumer that is to be started again has not ended.
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
        self.state.ended().await
    }

    /// Ends the consumer and waits until the application has settled, or dropped, all that it holds of it: the
    /// orderly way to shut a worker down.
    ///
    /// Sends `basic.cancel`.
    ///
    /// # Errors
    /// `Timeout` when it still holds something after `limit`; the consumer has ended all the same. Those of
    /// [`cancel`](Self::cancel).
    ///
    /// **Over a reconnect**: what the application holds becomes stale, and still has to be settled or dropped.
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
        let drained = async {
            self.cancel().await?;
            self.state.settled().await;
            Ok(())
        };
        match tokio::time::timeout(limit, drained).await {
            Ok(answer) => answer,
            Err(_) => Err(facade::timed_out(format!("deliveries were still unsettled after {limit:?}"))),
        }
    }

    /// Hands out the channel of the handle.
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
