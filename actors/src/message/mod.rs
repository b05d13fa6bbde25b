//! The messages that actors receive, and the types in them. Builders and accessors only, no logic of actors.
//!
//! The options of a call are its message: `DeclareQueue::new("jobs")` is both the argument of
//! `Channel::declare_queue` and the message that is sent to the Channel actor.

mod acker;
mod arguments;
mod binding;
mod cancel;
mod channel;
mod channel_events;
mod closing;
mod connection;
mod connection_events;
mod consume;
mod consume_options;
mod consumer_state;
mod content;
mod delivery;
mod delivery_parts;
mod delivery_sink;
mod event_queue;
mod exchange;
mod get;
mod health;
mod history;
mod ids;
pub(crate) mod methods;
mod missing;
mod open_channel;
mod oversized;
mod processing;
mod publish;
mod publishing;
mod queue;
mod queue_name;
mod ready;
mod settle;
mod settle_many;
mod state;
mod token;
mod transaction;
mod unacceptable;

pub(crate) use self::{
    acker::{Acker, Failures, Outcome, Unsettled},
    consume::{DeliveryTarget, WorkerFactory},
    delivery_parts::{ContentLayout, DeliveryParts, SeparateContent},
    delivery_sink::{DeliverySink, Leave, SinkRegistration, TargetEnd, TargetLost},
    event_queue::{Backlog, Place},
    publishing::Outgoing,
    unacceptable::{copies_of_other_type, is_expiration},
};
pub use self::{
    arguments::{DeadLetterStrategy, DelayedRetry, LeaderLocator, Overflow, QueueType},
    cancel::{CancelConsumer, PauseConsumer, Unhandled},
    channel::{CloseChannel, Qos, ReleaseChannel},
    channel_events::{ChannelEvent, FollowChannel, WatchChannel},
    connection::{CloseConnection, GetHealth, GetState, ReleaseConnection, UpdateSecret},
    connection_events::{ConnectionEvent, FollowConnection, WatchConnection},
    consume::{Consume, Consumed},
    consume_options::StreamOffset,
    consumer_state::{ConsumerEnd, ConsumerState},
    content::Content,
    delivery::Delivery,
    event_queue::{EventReceiver, EventSender, event_queue},
    exchange::{BindExchange, DeclareExchange, DeleteExchange, ExchangeKind, UnbindExchange},
    get::Get,
    health::{Degradation, EntityKind, Health, Skipped},
    history::{Death, DeathReason},
    missing::{Forget, GetMissing, MissingEntity, NextTry},
    open_channel::{OnOutage, OpenChannel},
    oversized::{OversizedDelivery, SkippedDelivery},
    processing::{Processing, Requeue},
    publish::{Confirmation, Publish},
    publishing::{IntoBody, Publishing},
    queue::{BindQueue, DeclareQueue, DeleteQueue, PurgeQueue, QueueDeclared, UnbindQueue},
    queue_name::QueueName,
    ready::AwaitReady,
    settle::Settle,
    state::{ConnectionState, Opened},
    token::Token,
    transaction::{CommitTx, Recover, RollbackTx, SelectTx},
};
