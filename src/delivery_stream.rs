//! Deliveries as a stream, which takes what a channel has read in batches, under one lock.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_pika_actors::facade::{self, StreamSink};
use futures_core::Stream;

use crate::{Channel, Consume, ConsumerEnd, Delivery, Result, message::CancelConsumer};

/// A stream of the deliveries of one consumer, in order. `next` is cancel-safe.
///
/// It ends with its consumer, for the reason that [`end`](Self::end) returns. Deliveries that can no longer
/// be settled are not yielded. Dropping the stream cancels the consumer. Prefetched deliveries return to the
/// queue, in order.
///
/// **Over a reconnect**: the stream continues, with the same tag. Deliveries of the lost connection that were
/// not yielded are skipped; the broker delivers them again.
///
/// Source: AMQP 0-9-1 section 1.8.3.3 (`basic.consume`); <https://www.rabbitmq.com/docs/consumers>
///
/// # Examples
/// ```no_run
/// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
/// use futures_util::StreamExt;
///
/// let mut deliveries = jobs.deliveries().await?;
/// while let Some(delivery) = deliveries.next().await {
///     println!("{}", String::from_utf8_lossy(delivery.body()));
///     delivery.ack()?;
/// }
/// println!("the stream has ended: {:?}", deliveries.end());
/// # Ok(())
/// # }
/// ```
#[doc(alias = "QueueIterator")]
#[must_use = "dropping the stream cancels its consumer"]
pub struct DeliveryStream {
    channel: Channel,
    sink: Arc<StreamSink>,
    /// Set when the consumer has started.
    tag: Option<Arc<str>>,
    taken: VecDeque<Delivery>,
    /// The generation of the sink when `taken` was filled.
    generation: u64,
    end: Option<ConsumerEnd>,
}

impl DeliveryStream {
    pub(crate) async fn open(channel: Channel, options: Consume) -> Result<Self> {
        let sink = Arc::new(StreamSink::default());
        // Created before the call, so that dropping the call drops the stream.
        let mut stream = Self { channel, sink, tag: None, taken: VecDeque::new(), generation: 0, end: None };
        let options = facade::deliver_into(options, stream.sink.clone());
        stream.tag = Some(stream.channel.call(options).await?.tag);
        Ok(stream)
    }

    /// Returns the consumer tag.
    ///
    /// **Over a reconnect**: it stays the same.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use actix_pika::Consume;
    ///
    /// let deliveries = jobs.deliveries_with(Consume::new().tag("reader")).await?;
    /// assert_eq!(deliveries.tag(), "reader");
    /// # Ok(())
    /// # }
    /// ```
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or_default()
    }

    /// Returns how many deliveries have arrived and were not yielded yet. The prefetch limits them.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(deliveries: actix_pika::DeliveryStream) {
    /// println!("{} wait here", deliveries.waiting());
    /// # }
    /// ```
    pub fn waiting(&self) -> usize {
        self.taken.len() + self.sink.waiting()
    }

    /// Returns why the stream has ended, once it has yielded its last delivery.
    ///
    /// **Over a reconnect**: a stream that is being recovered has not ended.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(mut deliveries: actix_pika::DeliveryStream) {
    /// use actix_pika::ConsumerEnd;
    /// use futures_util::StreamExt;
    ///
    /// while deliveries.next().await.is_some() {}
    /// if let Some(ConsumerEnd::Closed(cause)) = deliveries.end() {
    ///     println!("the channel is closed: {cause}");
    /// }
    /// # }
    /// ```
    pub fn end(&self) -> Option<&ConsumerEnd> {
        self.end.as_ref()
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
    /// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use futures_util::StreamExt;
    ///
    /// let mut deliveries = jobs.deliveries().await?;
    /// let first = deliveries.next().await;
    /// deliveries.close().await
    /// # }
    /// ```
    pub async fn close(mut self) -> Result<()> {
        self.end_now(Vec::new()).await
    }

    /// Returns the number of reconnects and reopenings before the delivery that was yielded last.
    pub(crate) fn yielded_generation(&self) -> u64 {
        self.generation
    }

    /// Returns their number now. What was yielded at a lower one is stale.
    pub(crate) fn generation(&self) -> u64 {
        self.sink.generation()
    }

    /// Cancels the consumer. Deliveries in `unseen`, which were yielded, go back as well.
    pub(crate) async fn end_now(&mut self, unseen: Vec<Delivery>) -> Result<()> {
        self.give_back(unseen);
        self.sink.give_back(std::mem::take(&mut self.taken));
        let cancel = match self.end {
            None => CancelConsumer::new(self.tag()),
            Some(_) => facade::give_up(self.tag()),
        };
        let result = self.channel.call(cancel).await;
        // Not earlier: the call may be dropped before the channel has received it.
        self.end = Some(ConsumerEnd::Cancelled);
        result
    }

    /// Puts deliveries back, in front of all others.
    pub(crate) fn give_back(&mut self, unseen: Vec<Delivery>) {
        for delivery in unseen.into_iter().rev() {
            self.taken.push_front(delivery);
        }
    }
}

impl Stream for DeliveryStream {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let this = &mut *self;
        loop {
            if this.sink.generation() != this.generation {
                this.taken.drain(..).for_each(facade::discard);
            }
            if let Some(delivery) = this.taken.pop_front() {
                if this.sink.is_closed() && !delivery.is_no_ack() {
                    continue;
                }
                return Poll::Ready(Some(delivery));
            }
            if this.end.is_some() {
                return Poll::Ready(None);
            }
            match ready!(this.sink.poll_take(&mut this.taken, cx)) {
                Ok(generation) => this.generation = generation,
                Err(end) => this.end = Some(end),
            }
        }
    }
}

impl Drop for DeliveryStream {
    fn drop(&mut self) {
        match &self.tag {
            None => self.sink.abandon(),
            Some(tag) if self.end.is_none() => {
                self.sink.give_back(std::mem::take(&mut self.taken));
                self.channel.actor().do_send(CancelConsumer::new(&**tag));
            }
            // Another consumer may have its tag.
            Some(tag) if matches!(self.end, Some(ConsumerEnd::TooSlow)) => {
                self.channel.actor().do_send(facade::give_up(tag));
            }
            Some(_) => {}
        }
    }
}

impl fmt::Debug for DeliveryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryStream")
            .field("tag", &self.tag())
            .field("waiting", &self.waiting())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
