//! Deliveries as a stream: what a channel has read is taken a batch at a time, under one lock.

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

/// Hands out the deliveries of one consumer, in order. `next` is cancel-safe: what is not handed out stays.
///
/// It ends when the consumer does; [`end`](Self::end) tells why. What cannot be settled any more is not handed out.
/// Dropping it cancels the consumer and puts back into the queue, in order, what was prefetched.
///
/// **Over a reconnect**: it goes on, with the same tag, and skips what it had not handed out of the earlier life: the
/// broker delivers that again.
///
/// Source: AMQP 0-9-1 section 1.8 (`basic.consume`); <https://www.rabbitmq.com/docs/consumers>.
///
/// # Examples
/// ```no_run
/// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
/// use futures_util::StreamExt;
///
/// let mut deliveries = jobs.deliveries().await?;
/// while let Some(delivery) = deliveries.next().await {
///     println!("{:?}", delivery.body());
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
    feed: Arc<StreamSink>,
    /// Once the consumer is there.
    tag: Option<Arc<str>>,
    taken: VecDeque<Delivery>,
    /// Of the feed, when `taken` was taken.
    generation: u64,
    end: Option<ConsumerEnd>,
}

impl DeliveryStream {
    pub(crate) async fn open(channel: Channel, options: Consume) -> Result<Self> {
        let feed = Arc::new(StreamSink::default());
        // Before it is open, so that dropping the call drops the stream.
        let mut stream = Self { channel, feed, tag: None, taken: VecDeque::new(), generation: 0, end: None };
        let options = facade::deliver_into(options, stream.feed.clone());
        stream.tag = Some(stream.channel.call(options).await?.tag);
        Ok(stream)
    }

    /// Tells the consumer tag.
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

    /// Counts the deliveries that have come and were not handed out yet; the prefetch bounds them.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(deliveries: actix_pika::DeliveryStream) {
    /// println!("{} wait here", deliveries.waiting());
    /// # }
    /// ```
    pub fn waiting(&self) -> usize {
        self.taken.len() + self.feed.waiting()
    }

    /// Tells why the stream has ended, once it has given its last delivery.
    ///
    /// **Over a reconnect**: a stream that is to go on has not ended.
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

    /// Ends the consumer; what was handed out `unseen` goes back as well.
    pub(crate) async fn end_now(&mut self, unseen: Vec<Delivery>) -> Result<()> {
        self.give_back(unseen);
        self.feed.give_back(std::mem::take(&mut self.taken));
        let answer = self.channel.call(CancelConsumer::new(self.tag())).await;
        // Not before: the call may be given up before it has reached the channel.
        self.end = Some(ConsumerEnd::Cancelled);
        answer
    }

    /// Takes deliveries back, in front of all others.
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
            if this.feed.generation() != this.generation {
                this.taken.drain(..).for_each(facade::discard);
            }
            if let Some(delivery) = this.taken.pop_front() {
                if this.feed.is_closed() && !delivery.is_no_ack() {
                    continue;
                }
                return Poll::Ready(Some(delivery));
            }
            if this.end.is_some() {
                return Poll::Ready(None);
            }
            match ready!(this.feed.poll_take(&mut this.taken, cx)) {
                Ok(generation) => this.generation = generation,
                Err(end) => this.end = Some(end),
            }
        }
    }
}

impl Drop for DeliveryStream {
    fn drop(&mut self) {
        match &self.tag {
            None => self.feed.abandon(),
            Some(tag) if self.end.is_none() => {
                self.feed.give_back(std::mem::take(&mut self.taken));
                self.channel.actor().do_send(CancelConsumer::new(&**tag));
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
