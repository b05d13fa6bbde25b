//! Deliveries many at a time: by size and by time, and one acknowledgement for all.

use std::{
    fmt,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep};

use crate::{ConsumerEnd, Delivery, DeliveryStream, Result};

/// Hands out the deliveries of one consumer in batches: each ends when it is full, or when its first delivery has
/// waited long enough.
///
/// `next` is cancel-safe: what was collected stays. An actor takes batches by `ctx.add_stream`. Dropping it cancels
/// the consumer and puts back into the queue, in order, what was not handed out.
///
/// **Over a reconnect**: it goes on. A batch that was being collected may still hold deliveries of the earlier life:
/// acknowledging it answers `StaleDelivery` for these, and acknowledges the others.
///
/// Source: <https://www.rabbitmq.com/docs/confirms>, on acknowledging multiple deliveries at once.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// use std::time::Duration;
/// use actix_pika::Consume;
/// use futures_util::StreamExt;
///
/// let deliveries = channel.queue("jobs").deliveries_with(Consume::new().prefetch(200)).await?;
/// let mut batches = deliveries.batches(100, Duration::from_millis(50));
/// while let Some(batch) = batches.next().await {
///     println!("{} jobs, the first is {:?}", batch.len(), batch[0].body());
///     batch.ack_all()?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Batches {
    stream: DeliveryStream,
    max: usize,
    wait: Duration,
    batch: Vec<Delivery>,
    /// Runs while the batch has something.
    timer: Option<Pin<Box<Sleep>>>,
}

impl DeliveryStream {
    /// Hands out deliveries in batches of up to `max`, at least 1, each `wait` after its first delivery at the
    /// latest.
    ///
    /// A prefetch below `max` keeps batches from becoming full: they then come by time only. Give it at least twice
    /// `max`, so that the next batch fills while the last one is worked on.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use std::time::Duration;
    ///
    /// let batches = jobs.deliveries().await?.batches(100, Duration::from_millis(50)); // 250 are prefetched
    /// # Ok(())
    /// # }
    /// ```
    pub fn batches(self, max: usize, wait: Duration) -> Batches {
        // As long as the clock can bear.
        let wait = wait.min(Duration::from_secs(10 * 365 * 86_400));
        Batches { stream: self, max: max.max(1), wait, batch: Vec::new(), timer: None }
    }
}

impl Batches {
    /// Tells the consumer tag.
    ///
    /// **Over a reconnect**: it stays the same.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(batches: actix_pika::stream::Batches) {
    /// println!("{} collects", batches.tag());
    /// # }
    /// ```
    pub fn tag(&self) -> &str {
        self.stream.tag()
    }

    /// Tells why the stream has ended, once it has given its last delivery.
    ///
    /// **Over a reconnect**: a stream that is to go on has not ended.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(mut batches: actix_pika::stream::Batches) -> actix_pika::Result<()> {
    /// use futures_util::StreamExt;
    ///
    /// while let Some(batch) = batches.next().await {
    ///     batch.ack_all()?;
    /// }
    /// println!("no more jobs: {:?}", batches.end());
    /// # Ok(())
    /// # }
    /// ```
    pub fn end(&self) -> Option<&ConsumerEnd> {
        self.stream.end()
    }

    /// Ends the consumer and puts back into the queue, in order, what was not handed out.
    ///
    /// Sends `basic.cancel`. On a channel that is closed already it returns at once.
    ///
    /// # Errors
    /// `Timeout`, or `Blocked` while the broker blocks the connection, after the channel's deadline.
    ///
    /// **Over a reconnect**: it stays closed.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.cancel`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(batches: actix_pika::stream::Batches) -> actix_pika::Result<()> {
    /// batches.close().await
    /// # }
    /// ```
    pub async fn close(mut self) -> Result<()> {
        self.stream.end_now(std::mem::take(&mut self.batch)).await
    }

    fn take(&mut self) -> DeliveryBatch {
        let next = Vec::with_capacity(self.batch.len());
        DeliveryBatch(std::mem::replace(&mut self.batch, next))
    }
}

impl Stream for Batches {
    type Item = DeliveryBatch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<DeliveryBatch>> {
        let this = &mut *self;
        while this.batch.len() < this.max {
            match Pin::new(&mut this.stream).poll_next(cx) {
                Poll::Ready(Some(delivery)) => {
                    if this.batch.is_empty() {
                        let until = Instant::now() + this.wait;
                        match &mut this.timer {
                            Some(timer) => timer.as_mut().reset(until),
                            None => this.timer = Some(Box::pin(sleep(this.wait))),
                        }
                    }
                    this.batch.push(delivery);
                }
                Poll::Ready(None) if this.batch.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) => break,
                Poll::Pending if this.batch.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    let waits = this.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_pending());
                    if waits {
                        return Poll::Pending;
                    }
                    break;
                }
            }
        }
        Poll::Ready(Some(this.take()))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.stream.give_back(std::mem::take(&mut self.batch));
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("tag", &self.tag())
            .field("max", &self.max)
            .field("wait", &self.wait)
            .field("collected", &self.batch.len())
            .finish_non_exhaustive()
    }
}

/// Holds some deliveries of one consumer, oldest first; never empty.
///
/// It reads like a slice. What is dropped unsettled goes back into its queue.
///
/// **Over a reconnect**: those that were delivered before cannot be settled any more, and come again.
///
/// # Examples
/// ```no_run
/// # async fn run(batch: actix_pika::stream::DeliveryBatch) -> actix_pika::Result<()> {
/// let bytes: usize = batch.iter().map(|delivery| delivery.body().len()).sum();
/// println!("{} deliveries, {bytes} bytes", batch.len());
/// batch.ack_all()
/// # }
/// ```
#[derive(Debug)]
#[must_use = "what is dropped unsettled goes back into its queue"]
pub struct DeliveryBatch(Vec<Delivery>);

impl DeliveryBatch {
    /// Acknowledges all of them.
    ///
    /// Sends `basic.ack`: one with `multiple` where nothing older is unsettled, else as few as can be. They leave
    /// with the next flush; there is no answer.
    ///
    /// # Errors
    /// `StaleDelivery` where the channel has begun another life since: those of the earlier one come again, the
    /// others are acknowledged. `ChannelClosed` or `ConnectionClosed` when that is closed: all of them come again.
    ///
    /// **Over a reconnect**: those that were delivered before cannot be settled any more, and come again.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.ack`); <https://www.rabbitmq.com/docs/confirms>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(batch: actix_pika::stream::DeliveryBatch) -> actix_pika::Result<()> {
    /// batch.ack_all()
    /// # }
    /// ```
    pub fn ack_all(self) -> Result<()> {
        Delivery::ack_many(self.0)
    }

    /// Refuses all of them: back into their queue, or dropped or dead-lettered.
    ///
    /// Sends `basic.nack`, a RabbitMQ extension.
    ///
    /// # Errors
    /// Those of [`ack_all`](Self::ack_all).
    ///
    /// **Over a reconnect**: as for [`ack_all`](Self::ack_all).
    ///
    /// Source: <https://www.rabbitmq.com/docs/nack>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(batch: actix_pika::stream::DeliveryBatch) -> actix_pika::Result<()> {
    /// batch.nack_all(false) // dead-lettered, where the queue has a dead-letter exchange
    /// # }
    /// ```
    pub fn nack_all(self, requeue: bool) -> Result<()> {
        Delivery::nack_many(self.0, requeue)
    }

    /// Hands out the deliveries, to settle them one by one.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(batch: actix_pika::stream::DeliveryBatch) -> actix_pika::Result<()> {
    /// for delivery in batch.into_vec() {
    ///     match delivery.body().is_empty() {
    ///         true => delivery.reject(false)?,
    ///         false => delivery.ack()?,
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_vec(self) -> Vec<Delivery> {
        self.0
    }
}

impl Deref for DeliveryBatch {
    type Target = [Delivery];

    fn deref(&self) -> &[Delivery] {
        &self.0
    }
}

impl IntoIterator for DeliveryBatch {
    type Item = Delivery;
    type IntoIter = vec::IntoIter<Delivery>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a DeliveryBatch {
    type Item = &'a Delivery;
    type IntoIter = std::slice::Iter<'a, Delivery>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
