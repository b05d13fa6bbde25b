//! Deliveries in batches, limited by size and by time, and settled together.

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

/// A stream of the deliveries of one consumer in batches. A batch ends when it is full, or when its first
/// delivery has waited for the maximum time.
///
/// `next` is cancel-safe: collected deliveries are kept. An actor receives batches with `ctx.add_stream`.
/// Dropping the stream cancels the consumer. Deliveries that it has not yielded return to the queue, in
/// order.
///
/// **Over a reconnect**: the stream continues. A batch that was being collected may contain deliveries of the
/// lost connection: acknowledging it returns `StaleDelivery` for these, and acknowledges the others.
///
/// Source: <https://www.rabbitmq.com/docs/confirms#consumer-acks-multiple-parameter>
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
///     println!("{} jobs, the first is {}", batch.len(), String::from_utf8_lossy(batch[0].body()));
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
    /// Runs while the batch is not empty.
    timer: Option<Pin<Box<Sleep>>>,
}

impl DeliveryStream {
    /// Returns deliveries in batches of up to `max`, at least 1, each at most `wait` after its first
    /// delivery.
    ///
    /// With a prefetch below `max`, batches never become full and end by time only. Set it to at least twice
    /// `max`, so that the next batch fills while the last one is processed.
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
        // Caps `wait`, so that the deadline cannot overflow.
        let wait = wait.min(Duration::from_secs(10 * 365 * 86_400));
        Batches { stream: self, max: max.max(1), wait, batch: Vec::new(), timer: None }
    }
}

impl Batches {
    /// Returns the consumer tag.
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

    /// Returns why the stream has ended, once it has yielded its last delivery.
    ///
    /// **Over a reconnect**: a stream that is being recovered has not ended.
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

    /// Cancels the consumer. Deliveries that were not yielded return to the queue, in order.
    ///
    /// Sends `basic.cancel`. On a closed channel it returns at once.
    ///
    /// # Errors
    /// `Timeout`, or `Blocked` while the broker blocks the connection, after the channel's deadline.
    ///
    /// **Over a reconnect**: it stays closed.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.5 (`basic.cancel`)
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

/// Deliveries of one consumer, oldest first; never empty.
///
/// It dereferences to a slice. Deliveries that are dropped unsettled return to their queue.
///
/// **Over a reconnect**: earlier deliveries can no longer be settled, and are delivered again.
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
#[must_use = "deliveries that are dropped unsettled return to their queue"]
pub struct DeliveryBatch(Vec<Delivery>);

impl DeliveryBatch {
    /// Acknowledges all deliveries of the batch.
    ///
    /// Sends `basic.ack`: one frame with `multiple` if nothing older is unsettled, otherwise as few frames as
    /// possible. They are sent with the next flush; there is no reply.
    ///
    /// # Errors
    /// `StaleDelivery` if the channel was reopened since some of them were delivered: these are delivered
    /// again, the others are acknowledged. `ChannelClosed` or `ConnectionClosed` if the channel or the
    /// connection is closed: all of them are delivered again.
    ///
    /// **Over a reconnect**: earlier deliveries can no longer be settled, and are delivered again.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.13 (`basic.ack`); <https://www.rabbitmq.com/docs/confirms>
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

    /// Refuses all deliveries of the batch. With `requeue` they return to the queue, without it they are
    /// dropped or dead-lettered.
    ///
    /// Sends `basic.nack`, a RabbitMQ extension.
    ///
    /// # Errors
    /// Those of [`ack_all`](Self::ack_all).
    ///
    /// **Over a reconnect**: as for [`ack_all`](Self::ack_all).
    ///
    /// Source: <https://www.rabbitmq.com/docs/nack>
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

    /// Returns the deliveries, to settle them one by one.
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
