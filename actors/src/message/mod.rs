//! The vocabulary: what people and actors say to one another. Builders and accessors only.
//!
//! The options of a call are its message: `DeclareQueue::new("jobs")` is both the argument of
//! `Channel::declare_queue` and what is sent to the Channel actor.

mod acker;
mod arguments;
mod binding;
mod channel;
mod closing;
mod connection;
mod consume;
mod consume_options;
mod consumer_state;
mod delivery;
mod delivery_parts;
mod delivery_sink;
mod events;
mod exchange;
mod health;
mod history;
mod ids;
pub(crate) mod internal;
pub(crate) mod methods;
mod processing;
mod publish;
mod publishing;
mod queue;
mod queue_name;
mod settle;
mod settle_many;
mod state;
mod transaction;

pub(crate) use self::{
    acker::Acker,
    consume::{DeliveryTarget, WorkerFactory},
    delivery_parts::{ContentLayout, DeliveryParts},
    delivery_sink::{DeliverySink, SinkRegistration, TargetLost},
};
pub use self::{
    arguments::{DeadLetterStrategy, DelayedRetry, LeaderLocator, Overflow, QueueType},
    channel::{CloseChannel, Qos, ReleaseChannel},
    connection::{
        CloseConnection, ConnectionEvent, FollowConnection, GetHealth, GetState, OnOutage, OpenChannel,
        ReleaseConnection, UpdateSecret, WatchConnection,
    },
    consume::{CancelConsumer, Consume, Consumed, ConsumerEnd, Get, PauseConsumer},
    consume_options::StreamOffset,
    consumer_state::ConsumerState,
    delivery::Delivery,
    events::{ChannelEvent, FollowChannel, WatchChannel},
    exchange::{BindExchange, DeclareExchange, DeleteExchange, ExchangeKind, UnbindExchange},
    health::{Degradation, EntityKind, Health, Skipped},
    history::{Death, DeathReason},
    processing::{Processing, Requeue},
    publish::{Confirmation, Publish},
    publishing::{IntoBody, Publishing},
    queue::{BindQueue, DeclareQueue, DeleteQueue, PurgeQueue, QueueDeclared, UnbindQueue},
    queue_name::QueueName,
    settle::Settle,
    state::{ConnectionState, Opened},
    transaction::{CommitTx, Recover, RollbackTx, SelectTx},
};
