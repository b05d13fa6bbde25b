//! What is said about queues.

use actix::Message;

use super::binding::binding;
use super::{QueueName, QueueType};
use crate::{
    error::Result,
    wire::{Table, Value},
};

/// Declares a queue, durable unless said otherwise. One that exists in the same way already is left as it is.
///
/// Sends `queue.declare`. A name has 255 bytes at most.
///
/// # Errors
/// `Refused`: 403 for `amq.*` names or missing permission, 404 for a passive declare of what does not exist, 405 for a
/// queue that is exclusive to another connection or not as exclusive as declared, 406 where it exists otherwise
/// ([`Error::mismatch`](crate::Error::mismatch) tells what differs) or an argument makes no sense. Each closes the
/// channel. `Limit` and `Codec` for what cannot be sent, and those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: it is declared again with its bindings, unless `robust(false)`; a passive one is
/// asked for again. A queue that the broker named gets a new name, which handles, bindings and consumers
/// follow.
///
/// Source: AMQP 0-9-1 section 1.7.2.1; <https://www.rabbitmq.com/docs/queues>
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, DeclareQueue, Result};
/// # async fn declare(channel: Addr<Channel>) -> Result<()> {
/// let jobs = channel.send(DeclareQueue::new("jobs").quorum()).await??;
/// println!("{} ready, {} consumers", jobs.message_count, jobs.consumer_count);
/// let replies = channel.send(DeclareQueue::server_named()).await??;
/// println!("the broker named it {}", replies.name);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct DeclareQueue {
    pub(crate) name: String,
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: Table,
    pub(crate) robust: bool,
}

impl DeclareQueue {
    /// Declares a durable queue; an empty name lets the broker choose one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// assert_eq!(DeclareQueue::new("jobs").name(), "jobs");
    /// ```
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Table::default(),
            robust: true,
        }
    }

    /// Declares an exclusive, auto-delete queue that the broker names (`amq.gen-...`).
    ///
    /// **Over a reconnect**: it is declared again under a new name; what was in it is lost with the old
    /// connection.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let replies = DeclareQueue::server_named();
    /// ```
    pub fn server_named() -> Self {
        Self { durable: false, exclusive: true, auto_delete: true, ..Self::new("") }
    }

    /// Only asks whether a queue of this name exists, and how many messages and consumers it has (passive
    /// `queue.declare`).
    ///
    /// What does not exist is refused with 404, which closes the channel.
    ///
    /// **Over a reconnect**: it is asked for again, and never declared.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::Addr;
    /// # use actix_pika_actors::{Channel, DeclareQueue, Result};
    /// # async fn backlog(channel: Addr<Channel>) -> Result<u32> {
    /// let jobs = channel.send(DeclareQueue::existing("jobs")).await??;
    /// # Ok(jobs.message_count) }
    /// ```
    #[doc(alias = "passive")]
    pub fn existing(name: impl Into<String>) -> Self {
        Self::new(name).passive(true)
    }

    /// Sets whether the declare only checks that the queue exists (passive `queue.declare`). Options other than the name
    /// are ignored then. [`existing`](Self::existing) is the short form.
    ///
    /// What does not exist is refused with 404, which closes the channel.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let is_there = DeclareQueue::new("jobs").passive(true);
    /// ```
    pub fn passive(mut self, passive: bool) -> Self {
        self.passive = passive;
        self
    }

    /// Sets whether it survives a restart of the broker. RabbitMQ 4.3 refuses queues that neither do nor are exclusive.
    ///
    /// Quorum queues and streams have to be durable, and become so again with
    /// [`queue_type`](Self::queue_type).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let passing = DeclareQueue::new("ticks").durable(false).exclusive(true);
    /// ```
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets whether only this connection may use the queue. The broker deletes it when the connection closes.
    ///
    /// Other connections are refused with 405 (`Refused`), which closes their channel.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let mine = DeclareQueue::new("basket.7").exclusive(true);
    /// ```
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Sets whether the broker deletes the queue when its last consumer ends. A queue that never had a consumer stays.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let passing = DeclareQueue::new("ticks").auto_delete(true);
    /// ```
    pub fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    /// Makes it a quorum queue (`x-queue-type`), which must be durable.
    ///
    /// Source: <https://www.rabbitmq.com/docs/quorum-queues>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let jobs = DeclareQueue::new("jobs").quorum();
    /// ```
    pub fn quorum(self) -> Self {
        self.queue_type(QueueType::Quorum)
    }

    /// Sets whether it is declared again after a reconnect, which is so by default on a connection that recovers.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let once = DeclareQueue::new("migration").robust(false);
    /// ```
    pub fn robust(mut self, robust: bool) -> Self {
        self.robust = robust;
        self
    }

    /// Tells whether it is declared again.
    #[doc(hidden)]
    pub fn is_robust(&self) -> bool {
        self.robust
    }

    /// Adds an argument, such as `x-message-ttl`.
    ///
    /// A key that is there already gets the new value; of keys, 255 bytes at most (`Codec` when it is sent).
    /// Arguments of RabbitMQ have methods of their own, with their units.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let jobs = DeclareQueue::new("jobs").argument("x-message-ttl", 60_000);
    /// ```
    pub fn argument(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Adds all arguments of a table; of two of the same name the later one counts.
    ///
    /// Keys have 255 bytes at most (`Codec` when it is sent).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeclareQueue, Table};
    /// let ours = Table::new().with("x-max-length", 10_000).with("x-overflow", "reject-publish");
    /// let jobs = DeclareQueue::new("jobs").arguments(ours.clone());
    /// let mails = DeclareQueue::new("mails").arguments(ours).quorum();
    /// ```
    pub fn arguments(mut self, arguments: Table) -> Self {
        self.arguments.extend(arguments);
        self
    }
}

impl From<&str> for DeclareQueue {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for DeclareQueue {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl Message for DeclareQueue {
    type Result = Result<QueueDeclared>;
}

/// Holds what the broker answered to a declare.
///
/// The counts are those of the moment, and of a queue that others use, too.
///
/// Source: AMQP 0-9-1 section 1.7.2.2
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, DeclareQueue, Result};
/// # async fn count(channel: Addr<Channel>) -> Result<u32> {
/// let declared = channel.send(DeclareQueue::new("jobs").passive(true)).await??;
/// # Ok(declared.message_count) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueDeclared {
    /// The name, which the broker may have chosen or changed (it strips line ends).
    pub name: String,
    /// Messages that are ready for delivery.
    pub message_count: u32,
    /// Consumers that it has.
    pub consumer_count: u32,
    /// What it is called, now and later.
    #[doc(hidden)]
    pub current_name: QueueName,
}

binding! {
    /// Binds a queue to an exchange. A binding that exists is left as it is.
    ///
    /// Sends `queue.bind`.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange or missing permission, 404 where either is missing, 405 for a
    /// queue that is exclusive to another connection.
    /// Each closes the channel. `Limit` and `Codec` for what cannot be sent, and those of every call
    /// ([`Channel`](crate::Channel)).
    ///
    /// **Over a reconnect**: the binding is made again with its queue, under the new name of a queue that the broker
    /// names.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.3
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::Addr;
    /// # use actix_pika_actors::{Channel, BindQueue, Result};
    /// # async fn run(channel: Addr<Channel>) -> Result<()> {
    /// channel.send(BindQueue::new("billing", "orders", "order.*")).await??;
    /// # Ok(()) }
    /// ```
    BindQueue { queue, exchange },
    "Names the queue, the exchange that it receives from, and the routing key."
}

binding! {
    /// Removes the binding of a queue. One that does not exist is no error.
    ///
    /// Sends `queue.unbind`.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange or missing permission, 405 for a queue that is exclusive to another
    /// connection. Each closes the channel. `Limit` and `Codec` for what cannot be sent, and those of every call
    /// ([`Channel`](crate::Channel)).
    ///
    /// **Over a reconnect**: what was unbound is not bound again.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.5
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::Addr;
    /// # use actix_pika_actors::{Channel, UnbindQueue, Result};
    /// # async fn run(channel: Addr<Channel>) -> Result<()> {
    /// channel.send(UnbindQueue::new("billing", "orders", "order.*")).await??;
    /// # Ok(()) }
    /// ```
    UnbindQueue { queue, exchange },
    "Names the queue, the exchange that it receives from, and the routing key."
}

/// Removes the messages of a queue that are ready, and answers how many there were. What is delivered and not
/// settled stays.
///
/// Sends `queue.purge`.
///
/// # Errors
/// `Refused`: 403 without permission, 404 where it is missing, 405 where it is exclusive to another connection. Each
/// closes the channel. A stream refuses it for the whole connection: `ConnectionClosed` with 540. Otherwise those of
/// every call ([`Channel`](crate::Channel)).
///
/// Source: AMQP 0-9-1 section 1.7.2.7
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, PurgeQueue, Result};
/// # async fn purge(channel: Addr<Channel>) -> Result<u32> {
/// let removed = channel.send(PurgeQueue::new("jobs")).await??;
/// # Ok(removed) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct PurgeQueue {
    pub(crate) queue: String,
}

impl PurgeQueue {
    /// Purges the queue of this name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::PurgeQueue;
    /// let purge = PurgeQueue::new("jobs");
    /// ```
    pub fn new(queue: impl Into<String>) -> Self {
        Self { queue: queue.into() }
    }
}

impl Message for PurgeQueue {
    type Result = Result<u32>;
}

/// Deletes a queue with its bindings, and answers how many messages were ready in it. A missing one is no
/// error.
///
/// Sends `queue.delete`. Its consumers end ([`CancelledByBroker`](crate::ConsumerEnd::CancelledByBroker)).
///
/// Conditions are for classic queues: the broker closes the *connection* (540) where one is given for a quorum queue, and
/// deletes a stream whatever they say.
///
/// # Errors
/// `Refused`: 403 without permission, 405 where it is exclusive to another connection, 406 where `if_unused`
/// or `if_empty` does not hold. Each closes the channel. Otherwise those of every call
/// ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: what was deleted is not declared again, and its bindings neither.
///
/// Source: AMQP 0-9-1 section 1.7.2.9
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, DeleteQueue, Result};
/// # async fn delete(channel: Addr<Channel>) -> Result<u32> {
/// let dropped = channel.send(DeleteQueue::new("jobs").if_unused(true).if_empty(true)).await??;
/// # Ok(dropped) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct DeleteQueue {
    pub(crate) queue: String,
    pub(crate) if_unused: bool,
    pub(crate) if_empty: bool,
}

impl DeleteQueue {
    /// Deletes the queue of this name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeleteQueue;
    /// let delete = DeleteQueue::new("jobs");
    /// ```
    pub fn new(queue: impl Into<String>) -> Self {
        Self { queue: queue.into(), if_unused: false, if_empty: false }
    }

    /// Sets whether the queue is deleted only if it has no consumers.
    ///
    /// Of classic queues: for a quorum queue the broker closes the connection (540), for a stream it deletes all the
    /// same.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeleteQueue;
    /// let delete = DeleteQueue::new("jobs").if_unused(true);
    /// ```
    pub fn if_unused(mut self, if_unused: bool) -> Self {
        self.if_unused = if_unused;
        self
    }

    /// Sets whether the queue is deleted only if it has no messages.
    ///
    /// Of classic queues: for a quorum queue the broker closes the connection (540), for a stream it deletes all the
    /// same.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeleteQueue;
    /// let delete = DeleteQueue::new("jobs").if_empty(true);
    /// ```
    pub fn if_empty(mut self, if_empty: bool) -> Self {
        self.if_empty = if_empty;
        self
    }

    /// Names the queue.
    #[doc(hidden)]
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Tells whether there are conditions.
    #[doc(hidden)]
    pub fn is_conditional(&self) -> bool {
        self.if_unused || self.if_empty
    }
}

impl Message for DeleteQueue {
    type Result = Result<u32>;
}
