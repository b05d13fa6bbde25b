//! The handle of a queue.

use std::fmt;

use actix::{Actor, Context, Handler, Recipient};

use actix_pika_actors::{QueueName, facade};

use crate::{
    Channel, Consume, Consumer, Delivery, DeliveryStream, Result,
    message::{BindQueue, DeleteQueue, Get, PurgeQueue, QueueDeclared, UnbindQueue},
    options::QueueType,
    runtime,
};

/// Consumes from a queue, takes from it, binds, purges and deletes it: a name on a channel.
///
/// [`Channel::declare_queue`] makes one and hands it out, [`Channel::queue`] hands one out unasked. Clones are the
/// same; each keeps its channel open.
///
/// **Over a reconnect**: the handle stays good, and follows a queue that the broker names anew. What was declared,
/// bound and consumed by it is there again.
///
/// Source: AMQP 0-9-1 section 1.7 (class queue); <https://www.rabbitmq.com/docs/queues>.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// use actix_pika::DeclareQueue;
///
/// let votes = channel.declare_queue(DeclareQueue::new("votes").quorum()).await?;
/// votes.bind("amq.topic", "vote.#").await?;
/// while let Some(vote) = votes.get().await? {
///     vote.ack()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Queue {
    channel: Channel,
    name: QueueName,
    declared: Option<QueueDeclared>,
    /// What it was declared as, if that was said.
    queue_type: Option<QueueType>,
    /// It is declared again after a reconnect, as far as is known.
    robust: bool,
}

impl Queue {
    pub(crate) fn new(channel: Channel, name: QueueName, declared: Option<QueueDeclared>) -> Self {
        Self { channel, name, declared, queue_type: None, robust: true }
    }

    pub(crate) fn robust(mut self, robust: bool) -> Self {
        self.robust = robust;
        self
    }

    pub(crate) fn of_type(mut self, queue_type: Option<QueueType>) -> Self {
        self.queue_type = queue_type;
        self
    }

    fn options(&self, options: Consume) -> Consume {
        facade::consume_from_type(options.queue(self.name()), self.queue_type)
    }

    /// Refuses what would cost the connection, where `named` is this queue.
    fn refuse(&self, queue_type: QueueType, named: &str, why: &'static str) -> Result<()> {
        if self.queue_type == Some(queue_type) && named == self.name() {
            return Err(facade::queue_refused(why, named));
        }
        Ok(())
    }

    /// Tells the name, as the broker knows it: where an empty one was declared, the one that the broker chose.
    ///
    /// **Over a reconnect**: a name that the broker chose changes, and this tells the new one.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::{DeclareQueue, Publishing};
    ///
    /// let replies = channel.declare_queue(DeclareQueue::server_named()).await?;
    /// let request = Publishing::new("ping").reply_to(replies.name());
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Tells what the broker answered to the declare, with the counts as they were then; `None` where nothing was
    /// declared.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let jobs = channel.declare_queue("jobs").await?;
    /// assert!(jobs.declared().is_some_and(|declared| declared.consumer_count == 0));
    /// assert!(channel.queue("jobs").declared().is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "declaration_result")]
    pub fn declared(&self) -> Option<&QueueDeclared> {
        self.declared.as_ref()
    }

    /// Binds the queue to an exchange.
    ///
    /// Sends `queue.bind`. The same binding again changes nothing; another key or other arguments make another one.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, or without permission; 404 where either does not exist; 405 where the
    /// queue is exclusive to another connection. Each closes the channel. And [those of every
    /// call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: the binding is recorded and made again, after the queues; not that of a queue that was
    /// declared with `robust(false)`.
    ///
    /// Source: AMQP 0-9-1 section 1.7 (`queue.bind`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let vienna = channel.declare_queue("vienna").await?;
    /// vienna.bind("amq.topic", "weather.at.vienna").await
    /// # }
    /// ```
    pub async fn bind(&self, exchange: &str, routing_key: &str) -> Result<()> {
        self.bind_with(BindQueue::new(self.name(), exchange, routing_key)).await
    }

    /// Binds as the options say, which name both ends and may have arguments; the handle adds only its channel.
    ///
    /// Sends `queue.bind`.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    ///
    /// **Over a reconnect**: as for [`bind`](Self::bind), arguments included.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(queue: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use actix_pika::message::BindQueue;
    ///
    /// let urgent = BindQueue::new(queue.name(), "amq.headers", "");
    /// queue.bind_with(urgent.argument("x-match", "all").argument("urgent", true)).await
    /// # }
    /// ```
    pub async fn bind_with(&self, bind: BindQueue) -> Result<()> {
        let passing = !self.robust && facade::bound_queue(&bind) == self.name();
        let bind = if passing { bind.robust(false) } else { bind };
        self.channel.call(bind).await
    }

    /// Removes a binding; a missing one, a missing queue or a missing exchange is no error.
    ///
    /// Sends `queue.unbind`.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, or without permission; 405 where the queue is exclusive to another
    /// connection. Each closes the channel. And [those of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: what was unbound stays gone.
    ///
    /// Source: AMQP 0-9-1 section 1.7 (`queue.unbind`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(queue: actix_pika::Queue) -> actix_pika::Result<()> {
    /// queue.unbind("amq.topic", "weather.at.vienna").await
    /// # }
    /// ```
    pub async fn unbind(&self, exchange: &str, routing_key: &str) -> Result<()> {
        self.unbind_with(UnbindQueue::new(self.name(), exchange, routing_key)).await
    }

    /// Removes a binding as the options say, which name both ends; the arguments must be those of the binding.
    ///
    /// Sends `queue.unbind`.
    ///
    /// # Errors
    /// Those of [`unbind`](Self::unbind).
    ///
    /// **Over a reconnect**: what was unbound stays gone.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(queue: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use actix_pika::message::UnbindQueue;
    ///
    /// let urgent = UnbindQueue::new(queue.name(), "amq.headers", "");
    /// queue.unbind_with(urgent.argument("x-match", "all").argument("urgent", true)).await
    /// # }
    /// ```
    pub async fn unbind_with(&self, unbind: UnbindQueue) -> Result<()> {
        self.channel.call(unbind).await
    }

    /// Sends deliveries to an actor, 250 unsettled at most unless the channel's prefetch says else.
    ///
    /// Sends `basic.qos` and `basic.consume`. The actor is a handler of [`Delivery`]; when it is gone, the consumer
    /// ends with [`TargetGone`](crate::ConsumerEnd::TargetGone) and what it had goes back into the queue.
    ///
    /// # Errors
    /// `Refused`: 403 where another consumer is exclusive, or without permission; 404 where the queue does not exist;
    /// 405 where it is exclusive to another connection; 406 for arguments that make no sense. Each closes the
    /// channel. And [those of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: the queue is consumed again, with the same tag, target, prefetch and arguments.
    /// Deliveries of the earlier life cannot be settled any more (`StaleDelivery`), and come again. The consumer of a
    /// stream goes on behind the last offset up to which everything was settled.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.consume`); <https://www.rabbitmq.com/docs/consumers>.
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
    /// let consumer = jobs.consume(Worker.start()).await?;
    /// consumer.cancel().await
    /// # }
    /// ```
    pub async fn consume(&self, to: impl Into<Recipient<Delivery>>) -> Result<Consumer> {
        self.consume_with(Consume::new(), to).await
    }

    /// Sends deliveries to an actor as the options say.
    ///
    /// Sends `basic.consume`, and `basic.qos` before it unless the options say `no_ack`. The Consumer actor between
    /// channel and target lives on the calling thread, if that has an arbiter. The queue is that of the handle,
    /// whatever the options say.
    ///
    /// # Errors
    /// Those of [`consume`](Self::consume). `Refused` without a code for a tag in use on this channel, for a stream
    /// without a prefetch or with `no_ack`, and for a stream or a quorum queue on a channel whose prefetch is
    /// [shared](crate::message::Qos::global). Where this handle does not know what the queue was declared as, that is the
    /// broker's to refuse: 406 without a prefetch, else 540, which closes the *connection*.
    ///
    /// **Over a reconnect**: as for [`consume`](Self::consume).
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.consume`); <https://www.rabbitmq.com/docs/consumer-prefetch>.
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
    /// use actix_pika::Consume;
    ///
    /// let options = Consume::new().prefetch(32).tag("resizer").exclusive(true);
    /// let consumer = channel.queue("jobs").consume_with(options, Worker.start()).await?;
    /// assert_eq!(consumer.tag(), "resizer");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn consume_with(
        &self,
        options: Consume,
        to: impl Into<Recipient<Delivery>>,
    ) -> Result<Consumer> {
        let options = facade::deliver_to(self.options(options), to.into(), runtime::here().as_ref());
        let consumed = self.channel.call(options).await?;
        Ok(Consumer::new(self.channel.clone(), consumed))
    }

    /// Sends deliveries to an actor that `factory` makes, and makes another one when that has panicked or stopped.
    ///
    /// Sends `basic.qos` and `basic.consume`. The actors live on the calling thread, if that has an arbiter. Before
    /// each new one there is a wait, of 100 ms at most to begin with and twice as long each time up to 10 s, short
    /// again after one that lived 30 s; up to half of it is left to chance. Meanwhile deliveries wait, no more than
    /// the prefetch. What an actor had begun when it panicked is settled as its [`process`](Delivery::process) guard
    /// says; what it had not begun goes back into the queue. A factory that panics ends the consumer.
    ///
    /// # Errors
    /// Those of [`consume_with`](Self::consume_with).
    ///
    /// **Over a reconnect**: as for [`consume`](Self::consume); the actor that lives then goes on to be fed.
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
        let options = facade::deliver_by(self.options(options), build, runtime::here().as_ref());
        let consumed = self.channel.call(options).await?;
        Ok(Consumer::new(self.channel.clone(), consumed))
    }

    /// Hands out deliveries as a stream: the way with the least between channel and application.
    ///
    /// Sends `basic.qos` and `basic.consume`. 250 are unsettled at most, unless the channel's prefetch says else.
    ///
    /// # Errors
    /// Those of [`consume`](Self::consume).
    ///
    /// **Over a reconnect**: the stream goes on, and skips what it had not handed out of the earlier life: that comes
    /// again.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.consume`); <https://www.rabbitmq.com/docs/consumers>.
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
    /// Sends `basic.consume`, and `basic.qos` before it unless the options say `no_ack`. The queue is that of the
    /// handle, whatever the options say.
    ///
    /// # Errors
    /// Those of [`consume_with`](Self::consume_with).
    ///
    /// **Over a reconnect**: as for [`deliveries`](Self::deliveries).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::{Consume, DeclareQueue, options::StreamOffset};
    /// use futures_util::StreamExt;
    ///
    /// let log = channel.declare_queue(DeclareQueue::new("log").stream()).await?;
    /// let from_the_start = Consume::new().prefetch(100).stream_offset(StreamOffset::First);
    /// let mut entries = log.deliveries_with(from_the_start).await?;
    /// while let Some(entry) = entries.next().await {
    ///     println!("{:?}", entry.stream_offset());
    ///     entry.ack()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn deliveries_with(&self, options: Consume) -> Result<DeliveryStream> {
        DeliveryStream::open(self.channel.clone(), self.options(options)).await
    }

    /// Takes one message, if there is one.
    ///
    /// Sends `basic.get`. It is to be settled like any delivery, and counts for no prefetch. To take all that comes,
    /// consume: that is much cheaper.
    ///
    /// # Errors
    /// `Refused`: 403 without permission, 404 where the queue does not exist, 405 where it is exclusive to another
    /// connection. Each closes the channel. `Refused` without a code for a queue that was declared here as a stream;
    /// on one that is not known as a stream it closes the *connection* (540). And [those of every
    /// call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: what was taken and not settled is stale (`StaleDelivery`), and comes again.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.get`); <https://www.rabbitmq.com/docs/consumers>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// if let Some(job) = channel.queue("jobs").get().await? {
    ///     println!("{:?}, and {:?} more", job.body(), job.message_count());
    ///     job.ack()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get(&self) -> Result<Option<Delivery>> {
        self.get_with(Get::new(self.name())).await
    }

    /// Takes one message as the options say; the queue is that of the options.
    ///
    /// Sends `basic.get`.
    ///
    /// # Errors
    /// Those of [`get`](Self::get). Where the options name another queue, nothing is known of its type here.
    ///
    /// **Over a reconnect**: as for [`get`](Self::get). Taken with `no_ack`, it needs no settling, and does not come
    /// again.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use actix_pika::message::Get;
    ///
    /// let job = jobs.get_with(Get::new(jobs.name()).no_ack(true)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_with(&self, get: Get) -> Result<Option<Delivery>> {
        self.refuse(
            QueueType::Stream,
            facade::queue_of_get(&get),
            "nothing can be taken from a stream (basic.get); consume it",
        )?;
        self.channel.call(get).await
    }

    /// Removes all ready messages, and tells how many there were. What is delivered and not settled stays.
    ///
    /// Sends `queue.purge`.
    ///
    /// # Errors
    /// `Refused`: 403 without permission, 404 where the queue does not exist, 405 where it is exclusive to another
    /// connection. Each closes the channel. `Refused` without a code for a queue that was declared here as a stream;
    /// on one that is not known as a stream it closes the *connection* (540). And [those of every
    /// call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: it is not made again; one whose answer was outstanding fails with `ConnectionClosed`,
    /// and may have been done.
    ///
    /// Source: AMQP 0-9-1 section 1.7 (`queue.purge`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// println!("{} removed", channel.queue("jobs").purge().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn purge(&self) -> Result<u32> {
        self.refuse(QueueType::Stream, self.name(), "a stream cannot be purged (queue.purge)")?;
        self.channel.call(PurgeQueue::new(self.name())).await
    }

    /// Deletes the queue with its messages, and tells how many were ready in it; a missing one is no error.
    ///
    /// Sends `queue.delete`. Its consumers end, with [`CancelledByBroker`](crate::ConsumerEnd::CancelledByBroker).
    /// [`delete_with`](Self::delete_with) does it on conditions.
    ///
    /// # Errors
    /// `Refused`: 403 without permission, 405 where it is exclusive to another connection. Each closes the channel.
    /// And [those of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: it stays gone, and so do its bindings.
    ///
    /// Source: AMQP 0-9-1 section 1.7 (`queue.delete`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// println!("{} messages were lost", channel.queue("jobs").delete().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete(&self) -> Result<u32> {
        self.channel.call(DeleteQueue::new(self.name())).await
    }

    /// Deletes the queue as the options say, if it is unused or empty; the queue is that of the options.
    ///
    /// Sends `queue.delete`, and tells how many messages were ready. Its consumers end, with
    /// [`CancelledByBroker`](crate::ConsumerEnd::CancelledByBroker).
    ///
    /// # Errors
    /// Those of [`delete`](Self::delete), and `Refused` with 406 for [`if_unused`](DeleteQueue::if_unused) or
    /// [`if_empty`](DeleteQueue::if_empty) where that does not hold, which closes the channel. `Refused` without a code
    /// for a condition on a queue that was declared here as a quorum queue or as a stream; where the type is not known
    /// here, the former closes the *connection* (540), and the latter is deleted nevertheless.
    ///
    /// **Over a reconnect**: as for [`delete`](Self::delete).
    ///
    /// Source: AMQP 0-9-1 section 1.7 (`queue.delete`); <https://www.rabbitmq.com/docs/queues>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::message::DeleteQueue;
    ///
    /// let jobs = channel.declare_queue("jobs").await?;
    /// jobs.delete_with(DeleteQueue::new(jobs.name()).if_unused(true).if_empty(true)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_with(&self, delete: DeleteQueue) -> Result<u32> {
        if facade::is_conditional(&delete) {
            for queue_type in [QueueType::Quorum, QueueType::Stream] {
                self.refuse(
                    queue_type,
                    facade::deleted_queue(&delete),
                    "only a classic queue is deleted on conditions",
                )?;
            }
        }
        self.channel.call(delete).await
    }

    /// Hands out the channel of the handle.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
    /// jobs.channel().default_exchange().publish("resize 7.png", jobs.name()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name()).field("channel", &self.channel.number()).finish()
    }
}
