//! The handle of a channel.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use actix_pika_actors::{Channel as Actor, ChannelCounters, Load, OpenedChannel, Outbox, QueueName, facade};

use crate::{
    Connection, DeclareExchange, DeclareQueue, Error, Exchange, Publishing, Queue, Result, Transaction,
    drops_warning,
    message::{CloseChannel, DeleteExchange, DeleteQueue, Qos, Recover},
};

/// A channel, on which exchanges and queues are declared, and messages published and consumed. Clones are the
/// same channel.
///
/// The channel closes when its last handle is dropped and nothing is outstanding: no unconfirmed publish, no
/// unsettled delivery, no consumer. A [`Queue`], an [`Exchange`], a [`Consumer`](crate::Consumer) and a
/// stream are handles, too.
///
/// Publishes are written directly. Every other call is a message to the Channel actor. Calls are sent in the
/// order in which they are first polled; a publish may overtake a call that was not polled yet.
///
/// # Errors of every call
/// Methods list further errors of their own.
///
/// | kind | when | then |
/// |---|---|---|
/// | `Refused` with a code | the broker refuses this call (403 to 406) | the broker has closed the channel; a robust one [is reopened](#a-channel-that-the-broker-closes), on any other every later call returns `ChannelClosed` with the same code; the connection stays open |
/// | `Refused` without a code | the library refuses the call, because the broker would | nothing was sent |
/// | `ChannelClosed` | the channel is closed or closing | [`close_cause`](Self::close_cause) returns the reason |
/// | `ConnectionClosed` | the connection is lost or closed; a code of 500 or above means that a call closed it | a new connection is needed |
/// | `Timeout` | no reply within the [deadline](crate::OpenChannel::deadline) of the channel, 30 seconds unless set | the channel stays open, and a late reply is discarded; if the broker does not reply for one more deadline, the channel closes |
/// | `Blocked` | the same, while the broker [blocks](Connection::is_blocked) the connection | the channel stays open |
/// | `Refused` without a code | a name of a queue or exchange with CR or LF, which RabbitMQ would remove; what the type of the queue cannot do | nothing was sent |
/// | `Limit` | a name, key or tag of more than 255 bytes; arguments or headers that do not fit a frame of the connection | nothing was sent |
/// | `Codec` | arguments that cannot be encoded | nothing was sent |
/// | `Stopped` | the arbiter of the connection has ended | every call fails |
///
/// # A channel that the broker closes
/// On a connection that does not recover, the channel stays closed. On a robust one it is reopened with its
/// prefetch, its consumers and its confirm mode, without end. The pauses before that depend on the cause:
///
/// | cause | pauses |
/// |---|---|
/// | a call or a publish that is known, and does not close the channel again | none for the first 8 times, then 100 milliseconds: at most 10 reopenings in a second |
/// | any other | none the first time, then 50 milliseconds, doubling to 5 seconds |
///
/// A channel that stood open for 3 seconds begins anew. A pause is in [`Connection::health`] as a missing channel,
/// except for one of 100 milliseconds.
/// Meanwhile calls wait within their deadlines, and publishes are queued; with `OnOutage::Fail` they fail where
/// the cause is any other. A channel in transaction mode is not reopened: see [`transaction`](Self::transaction).
///
/// The call or publish that the broker refused fails with its code. The others did nothing wrong: calls
/// without a reply fail with `ChannelClosed`, which is retryable; unconfirmed publishes are sent again in
/// order, and only those with `resend(false)` that may have arrived fail, with a retryable error. Newer ones
/// follow once these are confirmed, or after a second, so that repeated refusals do not hold them up. Where the
/// broker does not tell which publish it refused, one that was unconfirmed at two such closes fails, with a
/// retryable error. Without confirms, publishes that were written behind the refused one are lost.
///
/// After a 404 for an exchange, publishes to it on any channel of a robust connection fail at once with that
/// 404, and are not sent, until the exchange is found or declared. For at most 64 exchanges.
///
/// **Over a reconnect**: the handle stays valid, with the same number. The channel is reopened with its
/// prefetch, its consumers and its confirm mode, in this order. Unconfirmed publishes are resent in order,
/// before newer ones. A call that is made while the connection is down waits within its deadline. A call
/// whose reply was outstanding fails with `ConnectionClosed`, and may be repeated. Earlier deliveries can no
/// longer be settled (`StaleDelivery`); the broker delivers them again. A channel in transaction mode is not
/// recovered: it ends with `ChannelClosed`.
///
/// Source: AMQP 0-9-1 section 1.5 (class channel); <https://www.rabbitmq.com/docs/channels>
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
    /// A [`Transaction`] exists.
    in_transaction: AtomicBool,
    message_ids: bool,
    /// The queues that RPC servers of this channel take requests from.
    served: Mutex<HashSet<Box<str>>>,
}

impl Channel {
    pub(crate) fn new(connection: Connection, opened: OpenedChannel, message_ids: bool) -> Self {
        let in_transaction = AtomicBool::new(false);
        let served = Mutex::default();
        Self { inner: Arc::new(Inner { opened, connection, in_transaction, message_ids, served }) }
    }

    /// Declares an exchange: creates it, or checks that it exists with the same attributes.
    ///
    /// Sends `exchange.declare`. Exchanges are durable by default.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, for a new name that begins with `amq.`, or without
    /// permission; 404 for a passive declare of an exchange that does not exist; 406 if it exists with
    /// another type, durability or argument. Each closes the channel. A type that the broker does not know
    /// closes the *connection*: `ConnectionClosed` with 503. And [those of every
    /// call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: the exchange is redeclared, unless it was declared with `robust(false)`. A
    /// passive declare is repeated passively. Declarations that were refused, and exchanges that were
    /// deleted, are not repeated.
    ///
    /// Source: AMQP 0-9-1 section 1.6.2.1 (`exchange.declare`); <https://www.rabbitmq.com/docs/exchanges>
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

    /// Declares a queue: creates it, or checks that it exists with the same attributes. A `&str` declares a
    /// durable queue of that name.
    ///
    /// Sends `queue.declare`. With an empty name the broker chooses one, which [`Queue::name`] returns.
    ///
    /// # Errors
    /// `Refused`: 403 for a new name that begins with `amq.`, or without permission; 404 for a passive
    /// declare of a queue that does not exist; 405 if it is exclusive to another connection, or exists with
    /// another exclusiveness; 406 if it exists with other attributes, or for invalid arguments. Each closes
    /// the channel. And [those of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: the queue is redeclared, unless it was declared with `robust(false)`. A passive
    /// declare is repeated passively. A queue that the broker named gets a new name, which its handles,
    /// bindings and consumers follow. Declarations that were refused, and queues that were deleted, are not
    /// repeated.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.1 (`queue.declare`); <https://www.rabbitmq.com/docs/queues>
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
        let auto_delete = facade::is_auto_delete(&declare);
        let arguments = (!facade::is_passive(&declare)).then(|| facade::queue_arguments(&declare).clone());
        drops_warning::warn_of_drops(self, &declare);
        let declared = self.call(declare).await?;
        let queue = Queue::new(self.clone(), declared.current_name.clone(), Some(declared));
        Ok(queue.of_type(queue_type).auto_delete(auto_delete).robust(robust).with_arguments(arguments))
    }

    /// Returns the default exchange, which routes to the queue whose name is the routing key. Sends nothing.
    ///
    /// It accepts publishes only: declaring, binding and deleting it is refused (403).
    ///
    /// Source: <https://www.rabbitmq.com/docs/exchanges>
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

    /// Returns a handle of an exchange by name. Sends nothing. If the exchange does not exist, its use fails
    /// (404).
    ///
    /// **Over a reconnect**: the handle stays valid. An exchange that was not declared on this connection is
    /// not redeclared.
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

    /// Returns a handle of a queue by name. Sends nothing. If the queue does not exist, its use fails (404).
    ///
    /// The handle has no counts ([`Queue::declared`]) and does not have the type of the queue: what streams
    /// and quorum queues do not support is then refused by the broker only, which may close the *connection*
    /// (540).
    ///
    /// **Over a reconnect**: the handle stays valid. A queue that was not declared on this connection is not
    /// redeclared.
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

    /// Returns an exchange of any kind, after checking that it exists.
    ///
    /// Sends a passive `exchange.declare` with the name only.
    ///
    /// # Errors
    /// `Refused`: 404 if it does not exist, 403 for the default exchange. Each closes the channel. And [those
    /// of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: the passive declare is repeated. If it fails then, that is reported, and nothing
    /// else happens.
    ///
    /// Source: AMQP 0-9-1 section 1.6.2.1 (`exchange.declare`)
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

    /// Returns a queue with its counts, after checking that it exists.
    ///
    /// Sends a passive `queue.declare` with the name only.
    ///
    /// # Errors
    /// `Refused`: 404 if it does not exist, or for an empty name; 405 if it is exclusive to another
    /// connection. Each closes the channel. And [those of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: the passive declare is repeated. If it fails then, that is reported, and nothing
    /// else happens.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.1 (`queue.declare`)
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

    /// Deletes an exchange with its bindings. Deleting one that does not exist succeeds.
    ///
    /// Sends `exchange.delete`, like [`Exchange::delete`].
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, for names that begin with `amq.`, or without permission; 406
    /// with [`if_unused`](DeleteExchange::if_unused) if something is bound to it. Each closes the channel.
    /// And [those of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: it is not redeclared, and neither are its bindings.
    ///
    /// Source: AMQP 0-9-1 section 1.6.2.3 (`exchange.delete`)
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

    /// Deletes a queue with its messages, and returns how many of them were ready. Deleting one that does not
    /// exist succeeds and returns 0.
    ///
    /// Sends `queue.delete`, like [`Queue::delete`]. Its consumers end with
    /// [`CancelledByBroker`](crate::ConsumerEnd::CancelledByBroker).
    ///
    /// # Errors
    /// `Refused`: 403 without permission; 405 if it is exclusive to another connection; 406 with
    /// [`if_unused`](DeleteQueue::if_unused) or [`if_empty`](DeleteQueue::if_empty) if the condition does not
    /// hold. Each closes the channel. Conditions are for classic queues: with a quorum queue they close the
    /// *connection* (540), and a stream is deleted regardless. And [those of every
    /// call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: it is not redeclared, and neither are its bindings.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.9 (`queue.delete`); <https://www.rabbitmq.com/docs/queues>
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

    /// Sets the prefetch of each consumer that starts from now on: the most deliveries that it may have
    /// unsettled.
    ///
    /// Sends `basic.qos`. The default is 250; 0 means no limit. Running consumers keep their prefetch.
    /// [`Consume::prefetch`](crate::Consume::prefetch) sets one for a single consumer.
    ///
    /// # Errors
    /// [Those of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: it is set again before the consumers start; each consumer gets its own prefetch.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.1 (`basic.qos`); <https://www.rabbitmq.com/docs/consumer-prefetch>
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

    /// Sets the prefetch with options: of each consumer, or of all consumers of the channel together.
    ///
    /// Sends `basic.qos`.
    ///
    /// # Errors
    /// [Those of every call](Self#errors-of-every-call). `Refused` without a code for a shared prefetch with
    /// RabbitMQ 4.3 and later, which ignore it unless their operator permits it; see
    /// [`Qos::permitted`](crate::message::Qos::permitted). With a shared prefetch, consumers of quorum queues
    /// and streams are refused: without a code if the handle was declared with the type, or else by the
    /// broker, which closes the *connection* (540).
    ///
    /// **Over a reconnect**: it is set again before the consumers start. On a broker that would ignore a
    /// shared prefetch, a warning is logged, and each consumer has that prefetch instead.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.1 (`basic.qos`); <https://www.rabbitmq.com/docs/consumer-prefetch>
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

    /// Starts a transaction. A channel has one at a time, and must have been opened without confirms.
    ///
    /// Sends `tx.select`, which puts the channel into transaction mode permanently: see [`Transaction`].
    ///
    /// # Errors
    /// `Refused` without a code on a channel with confirms (the broker would close it, 406), or while another
    /// transaction of the channel exists; the channel stays open. And [those of every
    /// call](Self#errors-of-every-call).
    ///
    /// When the broker closes a channel in transaction mode, as with 404 for a publish to an exchange that does not
    /// exist, it is not reopened: it ends with its consumers ([`ConsumerEnd::Closed`](crate::ConsumerEnd::Closed)). On a
    /// connection that recovers, these consumers and the channel are missing in [`Connection::health`], with
    /// [`NextTry::ByApplication`](crate::events::NextTry::ByApplication), until the application consumes with the same tags on
    /// another channel or gives them up: by [`Consumer::cancel`](crate::Consumer::cancel),
    /// [`Connection::forget`](crate::Connection::forget), [`close`](Self::close), or dropping the last handle of the
    /// channel, or the stream, after its end.
    ///
    /// **Over a reconnect**: a channel in transaction mode is not recovered: it ends with `ChannelClosed`, and its
    /// consumers are missing as above.
    ///
    /// Source: AMQP 0-9-1 section 1.9.2.1 (`tx.select`); <https://www.rabbitmq.com/docs/semantics>
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

    /// Takes the queue of an RPC server. Returns false if one has it.
    pub(crate) fn claim_service(&self, queue: &str) -> bool {
        let mut served = self.inner.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.insert(queue.into())
    }

    /// Gives back the queue of an RPC server.
    pub(crate) fn release_service(&self, queue: &str) {
        self.inner.served.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }

    pub(crate) fn release_transaction(&self) {
        self.inner.in_transaction.store(false, Ordering::Release);
    }

    /// Requeues all unsettled deliveries of the channel. The broker delivers them again, marked as
    /// redelivered, to this or another consumer.
    ///
    /// Sends `basic.recover` with `requeue`, the only form that RabbitMQ supports. Earlier deliveries can no
    /// longer be settled: that returns `StaleDelivery`, and sends nothing. Deliveries of `no_ack` consumers
    /// are not affected.
    ///
    /// # Errors
    /// [Those of every call](Self#errors-of-every-call).
    ///
    /// **Over a reconnect**: it is not repeated; the broker has requeued the deliveries.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.16 (`basic.recover`); <https://www.rabbitmq.com/docs/specification>
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

    /// Closes the channel when its outstanding publishes are confirmed and a commit or rollback has its reply, or its
    /// deadline has passed.
    ///
    /// Sends `channel.close` with 200. New publishes and calls are refused from then on (`ChannelClosed`),
    /// and unsettled deliveries return to their queues. Other calls are not awaited: one without a reply fails with
    /// `ChannelClosed`, and so does a commit at the deadline; both may have taken effect. Closing twice succeeds.
    ///
    /// # Errors
    /// `Timeout` if publishes were unconfirmed at the deadline, or the broker did not reply; `Blocked` if it
    /// blocks the connection. The channel is closed nevertheless.
    ///
    /// **Over a reconnect**: it stays closed. While the connection is down nothing can be confirmed, and it
    /// closes at once.
    ///
    /// Source: AMQP 0-9-1 section 1.5.2.5 (`channel.close`)
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
    /// Sends `channel.close`. A text of more than 255 bytes is cut at a character boundary.
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
            Ok(result) => result,
            Err(error) => match self.inner.opened.outbox.closed() {
                // The arbiter has ended, and the channel with it.
                Some(cause) if facade::is_stopped(&cause) => Err(cause),
                // The actor stops with its channel.
                Some(_) => Ok(()),
                None => Err(error.into()),
            },
        }
    }

    /// Returns whether the channel, or its connection, is closed.
    ///
    /// **Over a reconnect**: a channel that is being recovered is not closed.
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

    /// Returns why the channel is closed, or `None` if it is open: an error of kind `ChannelClosed` or
    /// `ConnectionClosed`, with the broker's code if it closed the channel, or `Stopped` if the arbiter has
    /// ended.
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

    /// Returns the channel number, from 1 on: the lowest free one, unless
    /// [`OpenChannel::number`](crate::OpenChannel::number) was set.
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

    /// Returns the channel epoch: how often the broker has opened the channel, 1 for a new one.
    ///
    /// It counts up with each `channel.open-ok`: after a reconnect, after the broker has closed the channel, and
    /// when the library reopens it. A delivery of an earlier epoch is stale.
    /// [`Confirmation::epoch`](crate::message::Confirmation::epoch) is the epoch of a confirm.
    ///
    /// **Over a reconnect**: it is higher once the channel is open again. While the channel is not open, it is
    /// that of the last opening.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let epoch = channel.epoch();
    /// let confirmation = channel.default_exchange().publish("resize 7.png", "jobs").await?;
    /// if confirmation.epoch() != Some(epoch) {
    ///     println!("the channel was opened again meanwhile");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn epoch(&self) -> u32 {
        self.inner.opened.outbox.epoch()
    }

    /// Returns what the channel has done so far: publishes by outcome, deliveries by outcome.
    ///
    /// It can be called at any time, from any thread, and waits for nothing. [`load`](Self::load) returns what
    /// is outstanding, [`Connection::counters`] the sum of all channels.
    ///
    /// **Over a reconnect**: the counters continue. Publishes that are resent are not counted again; deliveries
    /// that come again are.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// channel.default_exchange().publish("resize 7.png", "jobs").await?;
    /// let counters = channel.counters();
    /// assert_eq!((counters.published, counters.confirmed), (1, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn counters(&self) -> ChannelCounters {
        self.inner.opened.outbox.counters()
    }

    /// Returns counts of what is outstanding: publishes, deliveries, bytes, waiting callers.
    ///
    /// **Over a reconnect**: unconfirmed publishes still count, earlier deliveries do not.
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

    /// Returns the connection of the channel.
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

    /// Returns the address of the Channel actor, for applications that send it messages.
    ///
    /// Unlike a handle, an address does not keep the channel open.
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

    /// Applies the options of the channel to a publish.
    #[inline]
    pub(crate) fn finish(&self, content: Publishing) -> Publishing {
        if self.inner.message_ids { content.generate_message_id() } else { content }
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.inner.opened.outbox
    }

    /// Sends a call to the actor. If the actor has stopped, returns the cause.
    pub(crate) async fn call<M, T>(&self, message: M) -> Result<T>
    where
        M: Message<Result = Result<T>> + Send + 'static,
        T: Send + 'static,
        Actor: Handler<M>,
        <Actor as actix::Actor>::Context: ToEnvelope<Actor, M>,
    {
        match self.inner.opened.actor.send(message).await {
            Ok(result) => result,
            Err(error) => Err(self.inner.opened.outbox.closed().unwrap_or_else(|| error.into())),
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("number", &self.number()).field("closed", &self.is_closed()).finish()
    }
}
