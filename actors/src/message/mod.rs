//! The vocabulary: what people and actors say to one another. Builders and accessors only.
//!
//! The options of a call are its message: `DeclareQueue::new("jobs")` is both the argument of
//! `Channel::declare_queue` and what is sent to the Channel actor.

mod arguments;
mod channel;
mod connection;
mod consume;
mod delivery;
mod exchange;
pub(crate) mod internal;
mod processing;
mod publish;
mod publishing;
mod queue;
mod transaction;

pub use self::{
    arguments::{DeadLetterStrategy, LeaderLocator, Overflow, QueueType},
    channel::{CloseChannel, Qos, ReleaseChannel},
    connection::{
        CloseConnection, ConnectionEvent, FollowConnection, OpenChannel, ReleaseConnection, WatchConnection,
    },
    consume::{CancelConsumer, Consume, Consumed, ConsumerEnd, Get},
    delivery::{Delivery, Settle},
    exchange::{BindExchange, DeclareExchange, DeleteExchange, ExchangeKind, UnbindExchange},
    processing::{Processing, Requeue},
    publish::{Confirmation, Publish},
    publishing::{IntoBody, Publishing},
    queue::{BindQueue, DeclareQueue, DeleteQueue, PurgeQueue, QueueDeclared, UnbindQueue},
    transaction::{CommitTx, Recover, RollbackTx, SelectTx},
};
pub(crate) use self::{
    consume::Target,
    delivery::{Binding, Inlet, Layout, Lost, Parts, Settler},
};
