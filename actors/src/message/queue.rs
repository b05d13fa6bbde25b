//! What is said about queues.

use actix::Message;

use super::QueueType;
use super::binding::binding;
use crate::{
    error::Result,
    wire::{Table, Value},
};

/// Declares a queue (`queue.declare`), durable unless said otherwise.
///
/// # Errors
/// `Refused`: 403 for `amq.*` names or missing permission, 404 for a passive declare of what does not exist, 405 for a
/// queue that is exclusive to another connection, 406 where it exists otherwise. Each closes the channel.
///
/// ```
/// use actix_pika_actors::DeclareQueue;
///
/// let jobs = DeclareQueue::new("jobs").quorum();
/// let replies = DeclareQueue::exclusive();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeclareQueue {
    pub(crate) name: String,
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: Table,
}

impl DeclareQueue {
    /// Declares a durable queue; an empty name lets the broker choose one.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Table::default(),
        }
    }

    /// Declares a queue named by the broker, for this connection only, that goes with its last consumer.
    pub fn exclusive() -> Self {
        Self { durable: false, exclusive: true, auto_delete: true, ..Self::new("") }
    }

    /// Only asks whether it exists; nothing but the name counts.
    pub fn passive(mut self) -> Self {
        self.passive = true;
        self
    }

    /// Sets whether it survives a restart of the broker. RabbitMQ 4.3 refuses queues that neither do nor are exclusive.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets whether only this connection may use it; it goes with the connection.
    pub fn set_exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Lets it go with its last consumer.
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// Makes it a quorum queue (`x-queue-type`), which must be durable.
    pub fn quorum(self) -> Self {
        self.queue_type(QueueType::Quorum)
    }

    /// Adds an argument, such as `x-message-ttl`.
    pub fn argument(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(key, value);
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

/// What the broker answered to a declare.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueDeclared {
    /// The name, which the broker may have chosen or changed (it strips line ends).
    pub name: String,
    /// Messages that are ready for delivery.
    pub message_count: u32,
    /// Consumers that it has.
    pub consumer_count: u32,
}

binding! {
    /// Binds a queue to an exchange (`queue.bind`).
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, 404 where either is missing, 405 for a queue that is exclusive to another
    /// connection. Each closes the channel.
    BindQueue { queue, exchange },
    "Names the queue, the exchange that it receives from, and the routing key."
}

binding! {
    /// Removes the binding of a queue (`queue.unbind`). One that does not exist is no error.
    UnbindQueue { queue, exchange },
    "Names the queue, the exchange that it receives from, and the routing key."
}

/// Removes the ready messages of a queue (`queue.purge`) and answers how many there were.
///
/// # Errors
/// `Refused`: 404 where it is missing, 405 where it is exclusive to another connection. Each closes the channel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PurgeQueue {
    pub(crate) queue: String,
}

impl PurgeQueue {
    /// Purges the queue of this name.
    pub fn new(queue: impl Into<String>) -> Self {
        Self { queue: queue.into() }
    }
}

impl Message for PurgeQueue {
    type Result = Result<u32>;
}

/// Deletes a queue (`queue.delete`) and answers how many messages were ready in it. A missing one is no error.
///
/// # Errors
/// `Refused`: 405 where it is exclusive to another connection, 406 where `if_unused` or `if_empty` does not hold. Each
/// closes the channel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeleteQueue {
    pub(crate) queue: String,
    pub(crate) if_unused: bool,
    pub(crate) if_empty: bool,
}

impl DeleteQueue {
    /// Deletes the queue of this name.
    pub fn new(queue: impl Into<String>) -> Self {
        Self { queue: queue.into(), if_unused: false, if_empty: false }
    }

    /// Deletes it only if it has no consumers.
    pub fn if_unused(mut self) -> Self {
        self.if_unused = true;
        self
    }

    /// Deletes it only if it has no messages.
    pub fn if_empty(mut self) -> Self {
        self.if_empty = true;
        self
    }
}

impl Message for DeleteQueue {
    type Result = Result<u32>;
}
