//! The handle of a queue.

use std::fmt;

use actix::{Actor, Context, Handler, Recipient};

use crate::{
    BindQueue, Channel, Consume, Consumer, DeleteQueue, Delivery, DeliveryStream, Error, Get, PurgeQueue,
    QueueDeclared, Result, UnbindQueue, runtime,
};

/// A queue, by name, on a channel.
#[derive(Clone)]
pub struct Queue {
    channel: Channel,
    name: String,
    declared: Option<QueueDeclared>,
    /// It was declared as a stream.
    stream: bool,
}

impl Queue {
    pub(crate) fn new(channel: Channel, name: String, declared: Option<QueueDeclared>) -> Self {
        Self { channel, name, declared, stream: false }
    }

    pub(crate) fn of_stream(mut self, stream: bool) -> Self {
        self.stream = stream;
        self
    }

    fn options(&self, options: Consume) -> Consume {
        let options = options.queue(&*self.name);
        if self.stream { options.from_stream() } else { options }
    }

    /// Tells the name, as the broker knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells what the broker answered to the declare: counts as they were then.
    #[doc(alias = "declaration_result")]
    pub fn declared(&self) -> Option<&QueueDeclared> {
        self.declared.as_ref()
    }

    /// Binds the queue to an exchange (`queue.bind`).
    ///
    /// # Errors
    /// `Limit` for names and keys over 255 bytes, before anything is sent; `Refused` with 403, 404 or 405, which closes
    /// the channel.
    pub async fn bind(&self, exchange: &str, routing_key: &str) -> Result<()> {
        self.bind_with(BindQueue::new(&*self.name, exchange, routing_key)).await
    }

    /// Binds as the options say.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    pub async fn bind_with(&self, bind: BindQueue) -> Result<()> {
        self.channel.call(bind).await
    }

    /// Removes a binding (`queue.unbind`); a missing one is no error.
    ///
    /// # Errors
    /// `Limit` as for [`bind`](Self::bind).
    pub async fn unbind(&self, exchange: &str, routing_key: &str) -> Result<()> {
        self.unbind_with(UnbindQueue::new(&*self.name, exchange, routing_key)).await
    }

    /// Removes a binding as the options say.
    ///
    /// # Errors
    /// Those of [`unbind`](Self::unbind).
    pub async fn unbind_with(&self, unbind: UnbindQueue) -> Result<()> {
        self.channel.call(unbind).await
    }

    /// Sends deliveries to an actor (`basic.consume`), 250 unsettled at most unless the channel's prefetch says else.
    ///
    /// # Errors
    /// `Refused` with 403, 404 or 405, which closes the channel.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::prelude::*;
    /// # use actix_pika::Delivery;
    /// # struct Worker;
    /// # impl Actor for Worker { type Context = Context<Self>; }
    /// # impl Handler<Delivery> for Worker {
    /// #     type Result = ();
    /// #     fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) { delivery.ack().ok(); }
    /// # }
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let jobs = channel.declare_queue("jobs").await?;
    /// let consumer = jobs.consume(Worker.start().recipient()).await?;
    /// consumer.cancel().await
    /// # }
    /// ```
    pub async fn consume(&self, to: impl Into<Recipient<Delivery>>) -> Result<Consumer> {
        self.consume_with(Consume::new(), to).await
    }

    /// Sends deliveries to an actor as the options say.
    ///
    /// The Consumer actor between channel and target lives on the calling thread, if that has an arbiter.
    ///
    /// # Errors
    /// Those of [`consume`](Self::consume); `Refused` without a code for a tag in use on this channel.
    pub async fn consume_with(
        &self,
        options: Consume,
        to: impl Into<Recipient<Delivery>>,
    ) -> Result<Consumer> {
        let options = self.options(options).deliver_from(to.into(), runtime::here().as_ref());
        let consumed = self.channel.call(options).await?;
        Ok(Consumer::new(self.channel.clone(), consumed))
    }

    /// Sends deliveries to an actor that `factory` makes, and makes another one when that has panicked or stopped.
    ///
    /// The actors live on the calling thread, if that has an arbiter. Before each new one there is a wait, from 100 ms on
    /// and twice as long each time up to 10 s, short again after one that lived 30 s; meanwhile deliveries wait, no more
    /// than the prefetch. What an actor had begun when it panicked is settled as its [`process`](Delivery::process)
    /// guard says; what it had not begun goes back into the queue. A factory that panics ends the consumer.
    ///
    /// # Errors
    /// Those of [`consume_with`](Self::consume_with).
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::prelude::*;
    /// # use actix_pika::{Consume, Delivery, Requeue};
    /// # struct Worker;
    /// # impl Actor for Worker { type Context = Context<Self>; }
    /// # impl Handler<Delivery> for Worker {
    /// #     type Result = ();
    /// #     fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
    /// #         delivery.process(Requeue::OnceThenDrop).done().ok();
    /// #     }
    /// # }
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// channel.queue("jobs").consume_supervised(Consume::new().prefetch(8), || Worker).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn consume_supervised<A, F>(&self, options: Consume, mut factory: F) -> Result<Consumer>
    where
        A: Actor<Context = Context<A>> + Handler<Delivery>,
        F: FnMut() -> A + Send + 'static,
    {
        let build = move || factory().start().recipient();
        let options = self.options(options).deliver_by(build, runtime::here().as_ref());
        let consumed = self.channel.call(options).await?;
        Ok(Consumer::new(self.channel.clone(), consumed))
    }

    /// Hands out deliveries as a stream: the way with the least between channel and application.
    ///
    /// # Errors
    /// Those of [`consume`](Self::consume).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use futures_util::StreamExt;
    /// let mut deliveries = channel.declare_queue("jobs").await?.deliveries().await?;
    /// while let Some(delivery) = deliveries.next().await {
    ///     delivery.ack()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "iterator")]
    pub async fn deliveries(&self) -> Result<DeliveryStream> {
        self.deliveries_with(Consume::new()).await
    }

    /// Hands out deliveries as a stream, as the options say.
    ///
    /// # Errors
    /// Those of [`consume_with`](Self::consume_with).
    pub async fn deliveries_with(&self, options: Consume) -> Result<DeliveryStream> {
        DeliveryStream::open(self.channel.clone(), self.options(options)).await
    }

    /// Takes one message (`basic.get`), if there is one.
    ///
    /// # Errors
    /// `Refused` with 404 or 405, which closes the channel; without a code for a queue that was declared here as a stream,
    /// which would close the connection (540).
    pub async fn get(&self) -> Result<Option<Delivery>> {
        if self.stream {
            return Err(Error::refused_here("nothing can be taken from a stream (basic.get); consume it"));
        }
        self.get_with(Get::new(&*self.name)).await
    }

    /// Takes one message as the options say; the queue is that of the options.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub async fn get_with(&self, get: Get) -> Result<Option<Delivery>> {
        self.channel.call(get).await
    }

    /// Removes all ready messages (`queue.purge`) and tells how many there were.
    ///
    /// # Errors
    /// `Refused` with 404 or 405, which closes the channel.
    pub async fn purge(&self) -> Result<u32> {
        self.channel.call(PurgeQueue::new(&*self.name)).await
    }

    /// Deletes the queue (`queue.delete`) and tells how many messages were ready in it; a missing one is no error.
    ///
    /// # Errors
    /// `Refused` with 405, which closes the channel.
    pub async fn delete(&self) -> Result<u32> {
        self.channel.call(DeleteQueue::new(&*self.name)).await
    }

    /// Hands out the channel of the handle.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).field("channel", &self.channel.number()).finish()
    }
}
