//! The handle of a queue.

use std::{fmt, sync::Arc};

use actix::{Actor, Context, Handler, Recipient};
use actix_pika_actors::{QueueName, facade};

use crate::{
    Channel, Consume, Consumer, Delivery, DeliveryStream, Result,
    message::{BindQueue, DeleteQueue, Get, PurgeQueue, QueueDeclared, Table, UnbindQueue},
    options::QueueType,
    runtime,
};

/// Handle of a queue: consumes, gets, binds, purges and deletes.
///
/// [`Channel::declare_queue`] declares the queue and returns its handle; [`Channel::queue`] returns a handle
/// and sends nothing. Clones are the same handle. Each keeps the channel open.
///
/// **Over a reconnect**: the handle stays valid, and follows a queue that the broker names again. Queues that
/// were declared, bindings and consumers are recovered.
///
/// Source: AMQP 0-9-1 section 1.7 (class queue); <https://www.rabbitmq.com/docs/queues>
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
    /// The type that it was declared with, if that is known.
    queue_type: Option<QueueType>,
    /// Whether it is deleted with its last consumer; false if unknown.
    auto_delete: bool,
    /// Whether it is redeclared after a reconnect; true if unknown.
    robust: bool,
    /// The arguments that it was declared with, if this handle has declared it.
    arguments: Option<Arc<Table>>,
}

impl Queue {
    pub(crate) fn new(channel: Channel, name: QueueName, declared: Option<QueueDeclared>) -> Self {
        Self { channel, name, declared, queue_type: None, auto_delete: false, robust: true, arguments: None }
    }

    pub(crate) fn robust(mut self, robust: bool) -> Self {
        self.robust = robust;
        self
    }

    pub(crate) fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    pub(crate) fn of_type(mut self, queue_type: Option<QueueType>) -> Self {
        self.queue_type = queue_type;
        self
    }

    pub(crate) fn with_arguments(mut self, arguments: Option<Table>) -> Self {
        self.arguments = arguments.map(Arc::new);
        self
    }

    /// Returns the arguments that the queue was declared with, if that is known.
    pub(crate) fn arguments(&self) -> Option<&Table> {
        self.arguments.as_deref()
    }

    /// Returns the name, which follows a queue that the broker renames.
    pub(crate) fn current_name(&self) -> &QueueName {
        &self.name
    }

    /// Returns whether the handle knows a dead-letter exchange of its queue.
    pub(crate) fn has_dead_letters(&self) -> bool {
        self.arguments.as_ref().is_some_and(|arguments| arguments.contains_key("x-dead-letter-exchange"))
    }

    fn options(&self, options: Consume) -> Consume {
        facade::consume_from(options.queue(self.name()), self.queue_type, self.auto_delete)
    }

    /// Refuses a call that would close the connection, if `named` is this queue.
    fn refuse(&self, queue_type: QueueType, named: &str, why: &'static str) -> Result<()> {
        if self.queue_type == Some(queue_type) && named == self.name() {
            return Err(facade::queue_refused(why, named));
        }
        Ok(())
    }

    /// Returns the name of the queue. If it was declared with an empty name, that is the one that the broker
    /// chose.
    ///
    /// **Over a reconnect**: a name that the broker chose changes, and the new one is returned.
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

    /// Returns the broker's reply to the declare, with the counts of that moment; `None` if nothing was
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
    /// Sends `queue.bind`. Repeating a binding changes nothing. Another key or other arguments make a further
    /// binding.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, or without permission; 404 if queue or exchange do not exist;
    /// 405 if the queue is exclusive to another connection. Each closes the channel. And [those of every
    /// call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: the binding is redeclared after the queues, unless its queue was declared with
    /// `robust(false)`.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.3 (`queue.bind`)
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

    /// Binds with options, which have both names, and may have arguments.
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
        let transient = !self.robust && facade::bound_queue(&bind) == self.name();
        let bind = if transient { bind.robust(false) } else { bind };
        self.channel.call(bind).await
    }

    /// Removes a binding. If binding, queue or exchange do not exist, it succeeds.
    ///
    /// Sends `queue.unbind`.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, or without permission; 405 if the queue is exclusive to
    /// another connection. Each closes the channel. And [those of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: the binding is not redeclared.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.5 (`queue.unbind`)
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

    /// Removes a binding with options, which have both names. The arguments must be those of the binding.
    ///
    /// Sends `queue.unbind`.
    ///
    /// # Errors
    /// Those of [`unbind`](Self::unbind).
    ///
    /// **Over a reconnect**: the binding is not redeclared.
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

    /// Sends deliveries to an actor. 250 may be unsettled, unless the prefetch of the channel is set.
    ///
    /// Sends `basic.qos` and `basic.consume`. The actor handles [`Delivery`]. When it stops, the consumer
    /// ends with [`TargetGone`](crate::ConsumerEnd::TargetGone), and its unsettled deliveries return to the
    /// queue. On a connection that recovers it is then missing in [`Health`](crate::events::Health) until
    /// [`Consumer::cancel`] gives it up, or another consumer takes its tag.
    ///
    /// # Errors
    /// `Refused`: 403 if another consumer is exclusive, or without permission; 404 if the queue does not
    /// exist; 405 if it is exclusive to another connection; 406 for invalid arguments. Each closes the
    /// channel. And [those of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: the consumer starts again, with the same tag, target, prefetch and arguments.
    /// Earlier deliveries can no longer be settled (`StaleDelivery`), and are delivered again. The consumer
    /// of a stream continues after the last offset up to which all deliveries were settled.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.3 (`basic.consume`); <https://www.rabbitmq.com/docs/consumers>
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

    /// Sends deliveries to an actor, with options.
    ///
    /// Sends `basic.consume`, and `basic.qos` before it unless `no_ack` is set. The Consumer actor between
    /// channel and target runs on the calling thread, if that has an arbiter. The queue is that of the
    /// handle; a queue in the options is ignored.
    ///
    /// # Errors
    /// Those of [`consume`](Self::consume). `Refused` without a code for a tag in use on this channel, for a
    /// stream without a prefetch or with `no_ack`, and for a stream or a quorum queue on a channel with a
    /// [shared prefetch](crate::message::Qos::global). If the handle does not have the type of the queue, the
    /// broker refuses: with 406 for a missing prefetch, otherwise with 540, which closes the *connection*.
    ///
    /// **Over a reconnect**: as for [`consume`](Self::consume).
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.3 (`basic.consume`);
    /// <https://www.rabbitmq.com/docs/consumer-prefetch>
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

    /// Sends deliveries to an actor that `factory` creates. When the actor panics or stops, another one is
    /// created.
    ///
    /// Sends `basic.qos` and `basic.consume`. The actors run on the calling thread if it has an arbiter,
    /// otherwise on that of the connection. Before each further actor there is a pause: 100 ms at most,
    /// doubled each time up to 10 s. It is 100 ms again after an actor that ran for 30 s. Up to half of it is
    /// random. Meanwhile deliveries wait, within the prefetch. A delivery that an actor was handling when it
    /// panicked is settled by its [`process`](Delivery::process) guard; those not handled yet return to the
    /// queue. A factory that panics ends the consumer.
    ///
    /// # Errors
    /// Those of [`consume_with`](Self::consume_with).
    ///
    /// **Over a reconnect**: as for [`consume`](Self::consume); the running actor is kept.
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

    /// Returns deliveries as a stream. It has the least overhead of all ways to consume.
    ///
    /// Sends `basic.qos` and `basic.consume`. 250 deliveries may be unsettled, unless the prefetch of the
    /// channel is set.
    ///
    /// # Errors
    /// Those of [`consume`](Self::consume).
    ///
    /// **Over a reconnect**: the stream continues. Deliveries of the lost connection that it has not yielded
    /// are skipped; the broker delivers them again.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.3 (`basic.consume`); <https://www.rabbitmq.com/docs/consumers>
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

    /// Returns deliveries as a stream, with options.
    ///
    /// Sends `basic.consume`, and `basic.qos` before it unless `no_ack` is set. The queue is that of the
    /// handle; a queue in the options is ignored.
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

    /// Takes one message from the queue, or returns `None` if it is empty.
    ///
    /// Sends `basic.get`. The delivery must be settled like any other, and does not count towards a prefetch.
    /// To take many messages, consume: that is much faster.
    ///
    /// # Errors
    /// `Refused`: 403 without permission, 404 if the queue does not exist, 405 if it is exclusive to another
    /// connection. Each closes the channel. `Refused` without a code if the handle was declared as a stream;
    /// with other handles of a stream, the broker closes the *connection* (540). And [those of every
    /// call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: an unsettled delivery is stale (`StaleDelivery`), and delivered again.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.10 (`basic.get`); <https://www.rabbitmq.com/docs/consumers>
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// if let Some(job) = channel.queue("jobs").get().await? {
    ///     println!("{}, and {:?} more", String::from_utf8_lossy(job.body()), job.message_count());
    ///     job.ack()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get(&self) -> Result<Option<Delivery>> {
        self.get_with(Get::new(self.name())).await
    }

    /// Takes one message with options, which have the queue.
    ///
    /// Sends `basic.get`.
    ///
    /// # Errors
    /// Those of [`get`](Self::get). If the options name another queue than that of the handle, the type of
    /// that queue is not checked.
    ///
    /// **Over a reconnect**: as for [`get`](Self::get). With `no_ack` it needs no settling, and is not
    /// delivered again.
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

    /// Removes all ready messages, and returns their number. Unsettled deliveries are not removed.
    ///
    /// Sends `queue.purge`.
    ///
    /// # Errors
    /// `Refused`: 403 without permission, 404 if the queue does not exist, 405 if it is exclusive to another
    /// connection. Each closes the channel. `Refused` without a code if the handle was declared as a stream;
    /// with other handles of a stream, the broker closes the *connection* (540). And [those of every
    /// call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: a purge whose reply was outstanding fails with `ConnectionClosed`, and may have
    /// happened.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.7 (`queue.purge`)
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

    /// Deletes the queue with its messages, and returns how many of them were ready. Deleting one that does
    /// not exist succeeds and returns 0.
    ///
    /// Sends `queue.delete`. Its consumers end with
    /// [`CancelledByBroker`](crate::ConsumerEnd::CancelledByBroker). For conditions, see
    /// [`delete_with`](Self::delete_with).
    ///
    /// # Errors
    /// `Refused`: 403 without permission, 405 if it is exclusive to another connection. Each closes the
    /// channel. And [those of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: it is not redeclared, and neither are its bindings.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.9 (`queue.delete`)
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

    /// Deletes a queue with options, which have its name, and conditions: only if it is unused or empty.
    ///
    /// Sends `queue.delete`, and returns how many messages were ready. Its consumers end with
    /// [`CancelledByBroker`](crate::ConsumerEnd::CancelledByBroker).
    ///
    /// # Errors
    /// Those of [`delete`](Self::delete), and `Refused` with 406 if the condition
    /// [`if_unused`](DeleteQueue::if_unused) or [`if_empty`](DeleteQueue::if_empty) does not hold, which
    /// closes the channel. `Refused` without a code for a condition if the handle was declared as a quorum
    /// queue or a stream. With other handles, a condition closes the *connection* (540) for a quorum queue,
    /// and a stream is deleted regardless.
    ///
    /// **Over a reconnect**: as for [`delete`](Self::delete).
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.9 (`queue.delete`); <https://www.rabbitmq.com/docs/queues>
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

    /// Returns the channel of the handle.
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
