//! The handle of a channel.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use actix_pika_actors::{Channel as Actor, Load, OpenedChannel, Outbox, QueueName, facade};

use crate::{
    Connection, DeclareExchange, DeclareQueue, Error, Exchange, Publishing, Queue, Result, Transaction,
    message::{CloseChannel, DeleteExchange, DeleteQueue, Qos, Recover},
};

/// A channel: declares, publishes and consumes, beside others on one connection. Clones are the same channel.
///
/// It closes when the last handle of it is gone (a [`Queue`], an [`Exchange`], a [`Consumer`](crate::Consumer) and a
/// stream are handles, too) and nothing is under way: no publish without its confirm, no delivery that is not
/// settled, no consumer that goes on.
///
/// What is published leaves at once; every other call goes by way of the Channel actor. Calls are made in the order
/// in which they are awaited, and one that nobody has awaited yet may be overtaken by a later publish.
///
/// # Errors of every call
/// What the methods say of their errors comes on top of these:
///
/// | kind | when | then |
/// |---|---|---|
/// | `Refused` with a code | the broker refuses this very call (403 to 406) | the broker has closed the channel; every later call gets `ChannelClosed` with the same code, and the connection goes on |
/// | `Refused` without a code | the library refuses it, since the broker would | nothing was sent |
/// | `ChannelClosed` | the channel is closed, or being closed | [`close_cause`](Self::close_cause) tells why |
/// | `ConnectionClosed` | the connection is lost or closed; with a code of 500 and above, this call or another one cost it | another connection is needed |
/// | `Timeout` | no answer within the [deadline](crate::OpenChannel::deadline) of the channel, 30 seconds unless set | the channel goes on, and a late answer answers nobody else; a broker that is silent for one more deadline costs the channel |
/// | `Blocked` | the same, while the broker [blocks](Connection::is_blocked) the connection | the channel goes on |
/// | `Limit` | a name, key or tag of more than 255 bytes; arguments or headers that do not fit a frame of the connection | nothing was sent |
/// | `Codec` | arguments that cannot be encoded | nothing was sent |
/// | `Stopped` | the arbiter of the connection has ended | nothing works any more |
///
/// **Over a reconnect**: it stays the same handle with the same number. It is opened again with its prefetch, its
/// consumers and its confirm mode, in this order; publishes that were not confirmed are sent again, in their order
/// and in front of newer ones. A call that is made while the connection is down waits for it within its deadline; one
/// whose answer was outstanding when the connection broke fails with `ConnectionClosed`, and may be made again.
/// Deliveries of the earlier life cannot be settled any more (`StaleDelivery`): the broker delivers them again. A
/// channel in transaction mode is not restored, it ends with `ChannelClosed`.
///
/// Source: AMQP 0-9-1 section 1.5 (class channel); <https://www.rabbitmq.com/docs/channels>.
///
/// # Examples
/// ```no_run
/// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
/// use actix_pika::ErrorKind;
///
/// let channel = connection.channel().await?;
/// let refused = channel.get_queue("no such queue").await.unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Refused);
/// assert_eq!(refused.close_reason().map(|reason| reason.code), Some(404));
///
/// // The refusal has closed the channel, and nothing else.
/// let later = channel.set_qos(10).await.unwrap_err();
/// assert_eq!(later.kind(), ErrorKind::ChannelClosed);
/// let channel = connection.channel().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

struct Inner {
    // Before the connection, so that it is released first.
    opened: OpenedChannel,
    connection: Connection,
    /// A [`Transaction`] is alive.
    in_transaction: AtomicBool,
    ids: bool,
}

impl Channel {
    pub(crate) fn new(connection: Connection, opened: OpenedChannel, ids: bool) -> Self {
        let in_transaction = AtomicBool::new(false);
        Self { inner: Arc::new(Inner { opened, connection, in_transaction, ids }) }
    }

    /// Declares an exchange: makes it, or checks that it is there as described.
    ///
    /// Sends `exchange.declare`. Exchanges are durable unless told otherwise.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, for a new name that begins with `amq.`, or without permission; 404
    /// for a passive declare of what does not exist; 406 where it exists with another type, durability or argument.
    /// Each closes the channel. A type that the broker does not know closes the *connection*: `ConnectionClosed` with
    /// 503. And [those of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: what was declared is recorded and declared again, unless its declaration says
    /// `robust(false)`; a passive declare is asked again passively. What was refused is not recorded, and what was
    /// deleted stays gone.
    ///
    /// Source: AMQP 0-9-1 section 1.6 (`exchange.declare`); <https://www.rabbitmq.com/docs/exchanges>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::DeclareExchange;
    ///
    /// let orders = channel.declare_exchange(DeclareExchange::topic("orders")).await?;
    /// orders.publish("{}", "orders.new.at").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn declare_exchange(&self, declare: impl Into<DeclareExchange>) -> Result<Exchange> {
        let declare = declare.into();
        let exchange = Exchange::new(self.clone(), declare.name(), facade::is_exchange_robust(&declare));
        self.call(declare).await?;
        Ok(exchange)
    }

    /// Declares a queue: makes it, or checks that it is there as described. A `&str` declares a durable one of that
    /// name.
    ///
    /// Sends `queue.declare`. An empty name lets the broker choose one, which [`Queue::name`] tells.
    ///
    /// # Errors
    /// `Refused`: 403 for a new name that begins with `amq.`, or without permission; 404 for a passive declare of
    /// what does not exist; 405 where it is exclusive to another connection, or its exclusiveness differs; 406 where
    /// it exists otherwise, or for arguments that make no sense. Each closes the channel. And [those of every
    /// call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: what was declared is recorded and declared again, unless its declaration says
    /// `robust(false)`; a passive declare is asked again passively. A queue that the broker named gets a new name,
    /// which its handles, bindings and consumers follow. What was refused is not recorded, and what was deleted stays
    /// gone.
    ///
    /// Source: AMQP 0-9-1 section 1.7 (`queue.declare`); <https://www.rabbitmq.com/docs/queues>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::DeclareQueue;
    ///
    /// let jobs = channel.declare_queue("jobs").await?;
    /// let votes = channel.declare_queue(DeclareQueue::new("votes").quorum()).await?;
    /// let mine = channel.declare_queue(DeclareQueue::server_named()).await?;
    /// println!("the broker calls it {}", mine.name()); // amq.gen-...
    /// # Ok(())
    /// # }
    /// ```
    pub async fn declare_queue(&self, declare: impl Into<DeclareQueue>) -> Result<Queue> {
        let declare = declare.into();
        let (queue_type, robust) = (facade::queue_type(&declare), facade::is_queue_robust(&declare));
        let declared = self.call(declare).await?;
        let queue = Queue::new(self.clone(), declared.current_name.clone(), Some(declared));
        Ok(queue.of_type(queue_type).robust(robust))
    }

    /// Hands out the default exchange, which routes to the queue that the routing key names. Nothing is sent.
    ///
    /// It takes publishes only: declaring, binding and deleting it is refused (403).
    ///
    /// Source: <https://www.rabbitmq.com/docs/exchanges>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// channel.default_exchange().publish("resize 7.png", "jobs").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn default_exchange(&self) -> Exchange {
        Exchange::new(self.clone(), "", true)
    }

    /// Hands out an exchange by name, without asking the broker. A missing one shows when it is used (404).
    ///
    /// **Over a reconnect**: the handle stays good, but an exchange that was not declared on this connection is not
    /// declared again.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// channel.exchange("amq.topic").publish("18 C", "weather.at.vienna").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn exchange(&self, name: &str) -> Exchange {
        Exchange::new(self.clone(), name, true)
    }

    /// Hands out a queue by name, without asking the broker. A missing one shows when it is used (404).
    ///
    /// It has no counts ([`Queue::declared`]), and is not known to be a stream or a quorum queue: what these cannot do is
    /// refused by the broker only, which may cost the *connection* (540).
    ///
    /// **Over a reconnect**: the handle stays good, but a queue that was not declared on this connection is not
    /// declared again.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let oldest = channel.queue("jobs").get().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn queue(&self, name: impl Into<String>) -> Queue {
        Queue::new(self.clone(), QueueName::from(name), None)
    }

    /// Hands out an exchange that exists, whatever its kind.
    ///
    /// Sends a passive `exchange.declare`, in which nothing but the name counts.
    ///
    /// # Errors
    /// `Refused`: 404 where it does not exist, and 403 for the default exchange. Each closes the channel. And [those
    /// of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: it is asked for again, passively; that it is missing then is reported, and no more.
    ///
    /// Source: AMQP 0-9-1 section 1.6 (`exchange.declare`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let logs = channel.get_exchange("logs").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_exchange(&self, name: &str) -> Result<Exchange> {
        self.declare_exchange(DeclareExchange::existing(name)).await
    }

    /// Hands out a queue that exists, with its counts.
    ///
    /// Sends a passive `queue.declare`, in which nothing but the name counts.
    ///
    /// # Errors
    /// `Refused`: 404 where it does not exist, and for an empty name; 405 where it is exclusive to another
    /// connection. Each closes the channel. And [those of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: it is asked for again, passively; that it is missing then is reported, and no more.
    ///
    /// Source: AMQP 0-9-1 section 1.7 (`queue.declare`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let jobs = channel.get_queue("jobs").await?;
    /// println!("{:?} are ready", jobs.declared().map(|d| d.message_count));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_queue(&self, name: &str) -> Result<Queue> {
        self.declare_queue(DeclareQueue::existing(name)).await
    }

    /// Deletes an exchange with its bindings; one that does not exist is no error.
    ///
    /// Sends `exchange.delete`. [`Exchange::delete`] does it from a handle.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, for names that begin with `amq.`, or without permission; 406 for
    /// [`if_unused`](DeleteExchange::if_unused) where something is bound to it. Each closes the channel. And [those
    /// of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: it stays gone; its record and those of its bindings go with it.
    ///
    /// Source: AMQP 0-9-1 section 1.6 (`exchange.delete`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::message::DeleteExchange;
    ///
    /// channel.delete_exchange(DeleteExchange::new("orders").if_unused(true)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_exchange(&self, delete: DeleteExchange) -> Result<()> {
        self.call(delete).await
    }

    /// Deletes a queue with its messages, and tells how many were ready in it; one that does not exist is no error.
    ///
    /// Sends `queue.delete`. [`Queue::delete`] does it from a handle. Its consumers end, with
    /// [`CancelledByBroker`](crate::ConsumerEnd::CancelledByBroker).
    ///
    /// # Errors
    /// `Refused`: 403 without permission; 405 where it is exclusive to another connection; 406 for
    /// [`if_unused`](DeleteQueue::if_unused) or [`if_empty`](DeleteQueue::if_empty) where that does not hold. Each
    /// closes the channel. Conditions are for classic queues: on a quorum queue they close the *connection* (540),
    /// and a stream is deleted nevertheless. And [those of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: it stays gone; its record and those of its bindings go with it.
    ///
    /// Source: AMQP 0-9-1 section 1.7 (`queue.delete`); <https://www.rabbitmq.com/docs/queues>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::message::DeleteQueue;
    ///
    /// let lost = channel.delete_queue(DeleteQueue::new("jobs").if_unused(true)).await?;
    /// println!("{lost} messages were ready");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_queue(&self, delete: DeleteQueue) -> Result<u32> {
        self.call(delete).await
    }

    /// Bounds the unsettled deliveries of each consumer that starts from now on.
    ///
    /// Sends `basic.qos`. A channel begins with 250; 0 means no bound. Consumers that run already keep theirs, and
    /// [`Consume::prefetch`](crate::Consume::prefetch) sets one for a single consumer.
    ///
    /// # Errors
    /// [Those of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: it is set again, before the consumers; each of these gets the bound that it had.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.qos`); <https://www.rabbitmq.com/docs/consumer-prefetch>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// channel.set_qos(10).await?;
    /// let mut deliveries = channel.queue("jobs").deliveries().await?; // 10 unsettled at most
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_qos(&self, prefetch_count: u16) -> Result<()> {
        self.call(Qos::new(prefetch_count)).await
    }

    /// Bounds unsettled deliveries as the options say: for each consumer, or for all of the channel together.
    ///
    /// Sends `basic.qos`.
    ///
    /// # Errors
    /// [Those of every call](Self#errors-of-every-call). With a bound that is shared, consumers of quorum queues and
    /// streams are refused: without a code by a handle that was declared with the type, else by the broker, which closes
    /// the *connection* (540).
    ///
    /// **Over a reconnect**: it is set again, before the consumers.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.qos`); <https://www.rabbitmq.com/docs/consumer-prefetch>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::message::Qos;
    ///
    /// channel.set_qos_with(Qos::new(20)).await?; // each consumer
    /// channel.set_qos_with(Qos::new(100).global(true)).await?; // and all of them together
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_qos_with(&self, qos: Qos) -> Result<()> {
        self.call(qos).await
    }

    /// Begins a transaction, one at a time; the channel must have been opened without confirms.
    ///
    /// Sends `tx.select`, which leaves the channel in transaction mode for good: see [`Transaction`].
    ///
    /// # Errors
    /// `Refused` without a code on a channel with confirms (the broker would close it, 406), or while another
    /// transaction of the channel is alive; the channel goes on. And [those of every
    /// call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: a channel in transaction mode is not restored: it ends with `ChannelClosed`.
    ///
    /// Source: AMQP 0-9-1 section 1.9 (`tx.select`); <https://www.rabbitmq.com/docs/semantics>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// use actix_pika::OpenChannel;
    ///
    /// let channel = connection.channel_with(OpenChannel::new().confirms(false)).await?;
    /// let transaction = channel.transaction().await?;
    /// channel.default_exchange().publish("debit 7", "ledger").await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn transaction(&self) -> Result<Transaction> {
        Transaction::begin(self.clone()).await
    }

    pub(crate) fn claim_transaction(&self) -> Result<()> {
        if self.inner.in_transaction.swap(true, Ordering::AcqRel) {
            return Err(facade::refused("the channel has a transaction already"));
        }
        Ok(())
    }

    pub(crate) fn release_transaction(&self) {
        self.inner.in_transaction.store(false, Ordering::Release);
    }

    /// Puts all unsettled deliveries of the channel back into their queues; they come again, here or elsewhere,
    /// marked as redelivered.
    ///
    /// Sends `basic.recover` with `requeue`, the only form that RabbitMQ has. Deliveries that were handed out before
    /// can no longer be settled: `StaleDelivery`, and no frame. Those of `no_ack` consumers are not touched.
    ///
    /// # Errors
    /// [Those of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: there is nothing to repeat, the broker has put everything back by itself.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.recover`); <https://www.rabbitmq.com/docs/specification>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::ErrorKind;
    ///
    /// if let Some(job) = channel.queue("jobs").get().await? {
    ///     channel.recover().await?;
    ///     assert!(job.is_stale());
    ///     assert_eq!(job.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recover(&self) -> Result<()> {
        self.call(Recover).await
    }

    /// Closes the channel once the publishes under way are confirmed, or its deadline has passed.
    ///
    /// Sends `channel.close` with 200. New publishes and calls are refused from then on (`ChannelClosed`); what its
    /// consumers have not settled goes back into its queues. Closing twice is fine.
    ///
    /// # Errors
    /// `Timeout` when publishes were still unconfirmed at the deadline, or the broker did not answer; `Blocked` when
    /// it blocks the connection. The channel is closed all the same.
    ///
    /// **Over a reconnect**: it stays closed. While the connection is down there is nobody to confirm anything, and
    /// it closes at once.
    ///
    /// Source: AMQP 0-9-1 section 1.5 (`channel.close`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// let channel = connection.channel().await?;
    /// let confirm = channel.default_exchange().publish_deferred("resize 7.png", "jobs").await?;
    /// channel.close().await?;
    /// confirm.await?; // the close has waited for it
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self) -> Result<()> {
        self.close_with(CloseChannel::new()).await
    }

    /// Closes the channel with a code and a text for the broker's log.
    ///
    /// Sends `channel.close`. A text of more than 255 bytes is cut between two characters.
    ///
    /// # Errors
    /// Those of [`close`](Self::close).
    ///
    /// **Over a reconnect**: as for [`close`](Self::close).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::message::CloseChannel;
    ///
    /// channel.close_with(CloseChannel::new().reason(200, "the shift is over")).await
    /// # }
    /// ```
    pub async fn close_with(&self, close: CloseChannel) -> Result<()> {
        match self.inner.opened.actor.send(close).await {
            Ok(answer) => answer,
            Err(_) if self.is_closed() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells whether the channel, or its connection, is closed.
    ///
    /// **Over a reconnect**: a channel that is to be opened again is not closed.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// channel.close().await?;
    /// assert!(channel.is_closed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_closed(&self) -> bool {
        self.inner.opened.outbox.closed().is_some() || self.inner.connection.is_closed()
    }

    /// Tells why the channel is closed, if it is: an error of kind `ChannelClosed` or `ConnectionClosed`, with the
    /// broker's code where it closed the channel, or `Stopped` where the arbiter has ended.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// channel.get_queue("no such queue").await.unwrap_err();
    /// let cause = channel.close_cause().and_then(|cause| cause.close_reason().cloned());
    /// assert_eq!(cause.map(|reason| reason.code), Some(404));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_cause(&self) -> Option<Error> {
        self.inner.opened.outbox.closed()
    }

    /// Tells the channel's number, from 1 on: the lowest free one, unless
    /// [`OpenChannel::number`](crate::OpenChannel::number) asked for another.
    ///
    /// **Over a reconnect**: it keeps its number.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) {
    /// println!("channel {}", channel.number());
    /// # }
    /// ```
    pub fn number(&self) -> u16 {
        self.inner.opened.outbox.channel()
    }

    /// Counts what is under way: publishes, deliveries, bytes, callers that wait.
    ///
    /// **Over a reconnect**: publishes that are kept still count; deliveries of the earlier life do not.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) {
    /// let load = channel.load();
    /// println!("{} publishes unconfirmed, {} deliveries unsettled", load.unconfirmed, load.unsettled);
    /// # }
    /// ```
    pub fn load(&self) -> Load {
        self.inner.opened.outbox.load()
    }

    /// Hands out the connection of the channel.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let another = channel.connection().channel().await?;
    /// assert_ne!(another.number(), channel.number());
    /// # Ok(())
    /// # }
    /// ```
    pub fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// Hands out the address of the actor behind the handle, for those who speak to it in messages.
    ///
    /// An address does not keep the channel open as a handle does.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::DeclareQueue;
    ///
    /// let declared = channel.actor().send(DeclareQueue::new("jobs")).await??;
    /// println!("{} messages are ready", declared.message_count);
    /// # Ok(())
    /// # }
    /// ```
    pub fn actor(&self) -> &Addr<Actor> {
        &self.inner.opened.actor
    }

    /// Gives content what the channel gives to all.
    pub(crate) fn finish(&self, content: Publishing) -> Publishing {
        if self.inner.ids { content.generate_message_id() } else { content }
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.inner.opened.outbox
    }

    /// Sends a call to the actor; if that is gone, the cause of its end is the answer.
    pub(crate) async fn call<M, T>(&self, message: M) -> Result<T>
    where
        M: Message<Result = Result<T>> + Send + 'static,
        T: Send + 'static,
        Actor: Handler<M>,
        <Actor as actix::Actor>::Context: ToEnvelope<Actor, M>,
    {
        match self.inner.opened.actor.send(message).await {
            Ok(answer) => answer,
            Err(error) => Err(self.inner.opened.outbox.closed().unwrap_or_else(|| error.into())),
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("number", &self.number()).field("closed", &self.is_closed()).finish()
    }
}
