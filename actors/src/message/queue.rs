//! Declaring, binding, purging and deleting queues.

use actix::Message;

use super::binding::binding;
use super::{QueueName, QueueType};
use crate::{
    error::Result,
    wire::{Table, Value},
};

/// Declares a queue (`queue.declare`), durable unless set otherwise. A queue that exists with the same
/// attributes is left unchanged.
///
/// A name has at most 255 bytes, and no CR or LF: RabbitMQ would remove them, and the queue would have another
/// name.
///
/// # Errors
/// - `Refused` with 403 for a name that begins with `amq.`, or if permission is missing; 404 for a passive
///   declare of a queue that does not exist; 405 if the queue is exclusive to another connection, or exists
///   with another `exclusive` flag; 406 if it exists with different attributes
///   ([`Error::mismatch`](crate::Error::mismatch) returns the first one that differs), or for an invalid
///   argument. Each closes the channel.
/// - `Limit` for a name that is too long, `Refused` without a code for one with CR or LF, `Codec` for arguments that cannot be encoded.
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: the queue is redeclared with its bindings, unless `robust(false)`. A passive
/// declare is repeated as a passive one. A queue with a name that the broker chose gets a new name, which its
/// handles, bindings and consumers then use.
///
/// Source: AMQP 0-9-1 section 1.7.2.1 (`queue.declare`); <https://www.rabbitmq.com/docs/queues>
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
    /// Creates the declare of a durable queue. With an empty name the broker chooses one.
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

    /// Creates the declare of an exclusive, auto-delete queue with a name that the broker chooses
    /// (`amq.gen-...`).
    ///
    /// **Over a reconnect**: the queue is redeclared under a new name. The broker deleted the old one
    /// with its messages.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let replies = DeclareQueue::server_named();
    /// ```
    pub fn server_named() -> Self {
        Self { durable: false, exclusive: true, auto_delete: true, ..Self::new("") }
    }

    /// Creates a passive declare (`queue.declare`): it checks that the queue exists, and returns how many
    /// messages and consumers it has.
    ///
    /// A missing queue fails with `Refused` (404), which closes the channel.
    ///
    /// **Over a reconnect**: the check is repeated; the queue is never declared.
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

    /// Sets whether the declare only checks that the queue exists (passive `queue.declare`). Options other
    /// than the name are then ignored. [`existing`](Self::existing) is the short form.
    ///
    /// A missing queue fails with `Refused` (404), which closes the channel.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let check = DeclareQueue::new("jobs").passive(true);
    /// ```
    pub fn passive(mut self, passive: bool) -> Self {
        self.passive = passive;
        self
    }

    /// Sets whether the queue survives a restart of the broker; it does unless set.
    ///
    /// RabbitMQ closes the connection (541) for a queue that is neither durable nor exclusive if its operator
    /// does not permit them (`deprecated_features.permit.transient_nonexcl_queues`). Some versions from 4.3 on
    /// permit none by default. From 3.13 on, the first such queue of a connection is logged as a warning.
    /// Quorum queues and streams must be durable, and [`queue_type`](Self::queue_type) makes them so.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let ticks = DeclareQueue::new("ticks").durable(false).exclusive(true);
    /// ```
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets whether only this connection may use the queue. The broker deletes it when the connection closes.
    ///
    /// Calls of other connections fail with `Refused` (405), which closes their channel.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let basket = DeclareQueue::new("basket.7").exclusive(true);
    /// ```
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Sets whether the broker deletes the queue when its last consumer ends. A queue that never had a
    /// consumer stays.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let ticks = DeclareQueue::new("ticks").auto_delete(true);
    /// ```
    pub fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    /// Sets the type to quorum (`x-queue-type`), and makes the queue durable, which it must be.
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

    /// Sets whether the queue is redeclared after a reconnect; it is unless set. It has no effect on a
    /// connection that does not recover.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareQueue;
    /// let temporary = DeclareQueue::new("migration").robust(false);
    /// ```
    pub fn robust(mut self, robust: bool) -> Self {
        self.robust = robust;
        self
    }

    /// Adds an argument, such as `x-message-ttl`. A further value of the same key replaces the first.
    ///
    /// A key has at most 255 bytes; a longer one fails with `Codec` when the call is sent. The arguments of
    /// RabbitMQ have methods of their own, which convert units.
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

    /// Adds all arguments of a table, replacing those with the same key.
    ///
    /// A key has at most 255 bytes; a longer one fails with `Codec` when the call is sent.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeclareQueue, Table};
    /// let arguments = Table::new().with("x-max-length", 10_000).with("x-overflow", "reject-publish");
    /// let jobs = DeclareQueue::new("jobs").arguments(arguments.clone());
    /// let mails = DeclareQueue::new("mails").arguments(arguments).quorum();
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

/// Holds the broker's reply to a declare (`queue.declare-ok`).
///
/// The counts are those at the time of the declare. Other clients may use the queue, too.
///
/// Source: AMQP 0-9-1 section 1.7.2.2 (`queue.declare-ok`)
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
    /// Name of the queue. The broker may have chosen or changed it (it removes line ends).
    pub name: String,
    /// Number of messages that are ready for delivery.
    pub message_count: u32,
    /// Number of consumers.
    pub consumer_count: u32,
    /// The same name, which changes if the broker chooses another one after a reconnect.
    pub current_name: QueueName,
}

binding! {
    /// Binds a queue to an exchange (`queue.bind`). An existing binding is left unchanged.
    ///
    /// # Errors
    /// - `Refused` with 403 for the default exchange, or if permission is missing; 404 if the queue or the
    ///   exchange does not exist; 405 if the queue is exclusive to another connection. Each closes the
    ///   channel.
    /// - `Limit` for a name that is too long, `Codec` for arguments that cannot be encoded.
    /// - Those of every call ([`Channel`](crate::Channel)).
    ///
    /// **Over a reconnect**: the binding is redeclared after its queue, under the queue's new name if it
    /// has one.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.3 (`queue.bind`)
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
    "Creates the message with the queue, the exchange and the routing key."
}

binding! {
    /// Removes a binding of a queue (`queue.unbind`). A missing binding is no error.
    ///
    /// # Errors
    /// - `Refused` with 403 for the default exchange, or if permission is missing; 405 if the queue is
    ///   exclusive to another connection. Each closes the channel.
    /// - `Limit` for a name that is too long, `Codec` for arguments that cannot be encoded.
    /// - Those of every call ([`Channel`](crate::Channel)).
    ///
    /// **Over a reconnect**: a removed binding is not redeclared.
    ///
    /// Source: AMQP 0-9-1 section 1.7.2.5 (`queue.unbind`)
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
    "Creates the message with the queue, the exchange and the routing key."
}

/// Removes the ready messages of a queue (`queue.purge`), and returns their number. Unsettled deliveries
/// stay.
///
/// # Errors
/// - `Refused` with 403 if permission is missing, 404 if the queue does not exist, 405 if it is exclusive to
///   another connection. Each closes the channel.
/// - `ConnectionClosed` with 540 if the queue is a stream.
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// Source: AMQP 0-9-1 section 1.7.2.7 (`queue.purge`)
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
    /// Creates the purge of the queue with this name.
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

/// Deletes a queue with its bindings (`queue.delete`), and returns the number of its ready messages. A
/// missing queue is no error.
///
/// Its consumers end with [`CancelledByBroker`](crate::ConsumerEnd::CancelledByBroker).
///
/// The conditions are for classic queues. With a condition, the broker closes the *connection* (540) for a
/// quorum queue, and deletes a stream regardless.
///
/// # Errors
/// - `Refused` with 403 if permission is missing, 405 if the queue is exclusive to another connection, 406 if
///   `if_unused` or `if_empty` does not hold. Each closes the channel.
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: neither a deleted queue nor its bindings are redeclared.
///
/// Source: AMQP 0-9-1 section 1.7.2.9 (`queue.delete`)
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, DeleteQueue, Result};
/// # async fn delete(channel: Addr<Channel>) -> Result<u32> {
/// let message_count = channel.send(DeleteQueue::new("jobs").if_unused(true).if_empty(true)).await??;
/// # Ok(message_count) }
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
    /// Creates the deletion of the queue with this name.
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
    /// For classic queues only: for a quorum queue the broker closes the connection (540), and it deletes a
    /// stream regardless.
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
    /// For classic queues only: for a quorum queue the broker closes the connection (540), and it deletes a
    /// stream regardless.
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
}

impl Message for DeleteQueue {
    type Result = Result<u32>;
}
