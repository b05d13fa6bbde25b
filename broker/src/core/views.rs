//! What [`Core`](super::Core) shows of queues, messages, consumers, exchanges and bindings.

use std::sync::Arc;

use actix_pika_actors::Table;

use super::{
    keys::ConnectionId,
    message::{Message, Name},
    queue::Stored,
    settings::QueueSettings,
    time::Time,
};

/// A queue as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueueView {
    /// The name.
    pub name: Name,
    /// Whether it outlives a restart.
    pub durable: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// The connection that it belongs to.
    pub owner: Option<ConnectionId>,
    /// The arguments that it was declared with.
    pub arguments: Table,
    /// The policy that applies to it.
    pub policy: Option<Name>,
    /// The operator policy that applies to it.
    pub operator_policy: Option<Name>,
    /// What arguments and policies say.
    pub settings: QueueSettings,
    /// How many messages are ready.
    pub ready: usize,
    /// The size of the ready messages, as it counts for a limit in bytes.
    pub ready_bytes: u64,
    /// How many messages are delivered and not acked.
    pub unacked: usize,
    /// How many consumers there are.
    pub consumers: usize,
}

/// A message in a queue, or on its way.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MessageView {
    /// The message.
    pub message: Arc<Message>,
    /// Where it is.
    pub state: StoredState,
    /// Whether its next delivery says so, or its last one did.
    pub redelivered: bool,
    /// How many deliveries of a quorum queue failed.
    pub delivery_count: u32,
}

impl MessageView {
    pub(super) fn new(stored: &Stored, state: StoredState) -> Self {
        let message = Arc::clone(&stored.message);
        let Stored { redelivered, delivery_count, .. } = *stored;
        Self { message, state, redelivered, delivery_count }
    }
}

/// Where a message of a queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredState {
    /// In the queue.
    Ready,
    /// Delivered and not acked.
    Unacked {
        /// The connection that has it.
        connection: ConnectionId,
        /// The channel that has it.
        channel: u16,
        /// The delivery tag.
        delivery_tag: u64,
    },
    /// Returned to a quorum queue that delays it, and not ready before this time.
    Delayed(Time),
    /// Dead, and kept until its dead letters are taken.
    Dead,
}

/// A consumer as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerView {
    /// The connection.
    pub connection: ConnectionId,
    /// The channel.
    pub channel: u16,
    /// The tag.
    pub tag: Name,
    /// The queue.
    pub queue: Name,
    /// Its limit of unacked deliveries, 0 for none.
    pub prefetch: u16,
    /// How many deliveries it has not acked.
    pub unacked: u32,
    /// Whether it acks nothing.
    pub no_ack: bool,
    /// Whether it allows no others.
    pub exclusive: bool,
    /// Its priority.
    pub priority: i64,
    /// Whether it gets messages: not one that waits behind a single active consumer.
    pub active: bool,
    /// The arguments that it was started with.
    pub arguments: Table,
}

/// An exchange as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExchangeView {
    /// The name; that of the default exchange is empty.
    pub name: Name,
    /// The type.
    pub kind: Name,
    /// Whether it outlives a restart.
    pub durable: bool,
    /// Whether it goes with its last binding.
    pub auto_delete: bool,
    /// Whether only other exchanges publish to it.
    pub internal: bool,
    /// The arguments that it was declared with.
    pub arguments: Table,
}

/// A binding as it is now, those of the default exchange included.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BindingView {
    /// The exchange.
    pub source: Name,
    /// The queue or exchange that it leads to.
    pub destination: Name,
    /// Whether that is a queue.
    pub to_queue: bool,
    /// The routing key.
    pub key: Name,
    /// The arguments.
    pub arguments: Table,
}
