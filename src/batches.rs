//! Deliveries many at a time: by size and by time, and one acknowledgement for all.

use std::{
    fmt,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use actix_pika_actors::settle_all;
use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep};

use crate::{ConsumerEnd, Delivery, DeliveryStream, Result};

/// Deliveries of one consumer in batches: each ends when it is full, or when its first delivery has waited long enough.
///
/// `next` is cancel-safe: what was collected stays. An actor takes batches by `ctx.add_stream`. Dropping it cancels the
/// consumer and puts back into the queue, in order, what was not handed out.
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
pub struct Batches {
    stream: DeliveryStream,
    max: usize,
    wait: Duration,
    batch: Vec<Delivery>,
    /// Runs while the batch has something.
    timer: Option<Pin<Box<Sleep>>>,
}

impl DeliveryStream {
    /// Hands out deliveries in batches of up to `max`, at least 1, each `wait` after its first delivery at the latest.
    ///
    /// A prefetch below `max` keeps batches from becoming full: they then come by time only. Give it at least twice
    /// `max`, so that the next batch fills while the last one is worked on.
    pub fn batches(self, max: usize, wait: Duration) -> Batches {
        Batches { stream: self, max: max.max(1), wait, batch: Vec::new(), timer: None }
    }
}

impl Batches {
    /// Tells the consumer tag.
    pub fn tag(&self) -> &str {
        self.stream.tag()
    }

    /// Tells why the stream has ended, once it has.
    pub fn end(&self) -> Option<&ConsumerEnd> {
        self.stream.end()
    }

    /// Ends the consumer (`basic.cancel`) and puts back into the queue what was not handed out.
    ///
    /// # Errors
    /// `Timeout` after the channel's deadline.
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

/// Some deliveries of one consumer, oldest first; never empty.
///
/// It reads like a slice. What is dropped unsettled goes back into its queue.
#[derive(Debug)]
#[must_use = "what is dropped unsettled goes back into its queue"]
pub struct DeliveryBatch(Vec<Delivery>);

impl DeliveryBatch {
    /// Acknowledges all of them, in one frame (`basic.ack` with `multiple`) where nothing older is unsettled.
    ///
    /// # Errors
    /// `StaleDelivery` where the channel has begun another life since: those of the earlier one come again, the others
    /// are acknowledged. The cause when it is closed.
    pub fn ack_all(self) -> Result<()> {
        settle_all(self.0, true, false)
    }

    /// Refuses all of them (`basic.nack`): back into their queue, or dropped or dead-lettered.
    ///
    /// # Errors
    /// Those of [`ack_all`](Self::ack_all).
    pub fn nack_all(self, requeue: bool) -> Result<()> {
        settle_all(self.0, false, requeue)
    }

    /// Hands out the deliveries, to settle them one by one.
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
