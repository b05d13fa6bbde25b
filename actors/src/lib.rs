//! The engine of `actix-pika`: the AMQP 0-9-1 wire, the actors that speak it, and the messages that they exchange.
//!
//! Applications use the crate `actix-pika`, which has the handles; this crate is for those who speak to the actors.
//!
//! | room | what lives there |
//! |---|---|
//! | [`wire`] | bytes to meaning and back; no I/O, no clock |
//! | `transport` | sockets |
//! | `connection` | one life of one socket |
//! | `supervisor` | the connection that the user holds |
//! | `outbox` | the byte mailbox of a channel: its only way out |
//! | `channel` | a logical channel |
//! | `consumer` | feeds one user actor, or a stream |
//! | `message` | the vocabulary |

#![forbid(unsafe_code)]

mod channel;
mod connection;
mod consumer;
mod credentials;
mod error;
mod message;
mod mismatch;
mod options;
mod outbox;
mod returned;
mod secret;
mod supervisor;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
pub mod uri;
pub mod wire;

pub use self::{
    channel::{Channel, OpenedChannel, Reply},
    connection::Connection,
    consumer::{Consumer, ConsumerLife, Feed},
    credentials::{Credentials, CredentialsFuture, CredentialsProvider, SharedProvider},
    error::{CloseReason, Error, ErrorKind, Result},
    message::{
        BindExchange, BindQueue, CancelConsumer, ChannelEvent, CloseChannel, CloseConnection, CommitTx,
        Confirmation, ConnectionEvent, ConnectionState, Consume, Consumed, ConsumerEnd, DeadLetterStrategy,
        Death, DeathReason, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue, Delivery,
        ExchangeKind, FollowChannel, FollowConnection, Get, GetState, IntoBody, LeaderLocator, OpenChannel,
        Opened, Overflow, PauseConsumer, Processing, Publish, Publishing, PurgeQueue, Qos, QueueDeclared,
        QueueType, Recover, ReleaseChannel, ReleaseConnection, Requeue, RollbackTx, SelectTx, Settle,
        StreamOffset, UnbindExchange, UnbindQueue, UpdateSecret, WatchChannel, WatchConnection, settle_all,
    },
    mismatch::Mismatch,
    options::{Address, AddressOrder, ConnectionOptions, HappyEyeballs, Recovery, TcpOptions},
    outbox::{Flush, Load, Outbox, Outgoing, Place, Terms, Tick},
    returned::Return,
    secret::Secret,
    supervisor::ConnectionSupervisor,
    wire::{DeliveryMode, Mechanism, Properties, Table, Value},
};
