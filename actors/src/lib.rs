//! The engine of `actix-pika`: the AMQP 0-9-1 wire format, the actors of connections, channels and consumers,
//! and the messages that they receive.
//!
//! Applications use the crate `actix-pika`, which has handles. This crate is for applications that send
//! messages to the actors. Both have the same types: the options of a handle's method are the message that
//! its actor receives.
//!
//! | module | contents |
//! |---|---|
//! | `wire` | encodes and decodes AMQP 0-9-1; no I/O, no clock: [`Properties`], [`Table`], [`Value`] |
//! | [`uri`] | connection URIs and their parameters |
//! | `options` | addresses, limits and recovery of a connection: [`ConnectionOptions`] |
//! | `credentials`, `secret` | the login: [`Credentials`], [`CredentialsProvider`], [`Secret`] |
//! | `tls` | TLS by rustls: [`TlsOptions`], with one of the features `tls-ring` (default), `tls-aws-lc` and `tls` |
//! | `transport` | sockets |
//! | `connection` | one socket, from the handshake to its end: [`Connection`] |
//! | `supervisor` | the connection that an application holds, over all reconnects: [`ConnectionSupervisor`] |
//! | `outbox` | everything that a channel sends: [`Outbox`] |
//! | `channel` | a channel: [`Channel`], which lists its messages and the errors of every call |
//! | `consumer` | passes deliveries to an actor of the application, or to a stream: [`Consumer`] |
//! | `message` | messages and their types: [`DeclareQueue`], [`Publishing`], [`Consume`], [`Delivery`] and others |
//! | `internal` | the messages between the actors of a connection |
//! | `watchers` | the recipients of the events of a channel or a connection |
//! | `error` | the error type: [`Error`], [`ErrorKind`] |
//! | `testing` | with the feature `testing`: a scripted peer, probes, deliveries made by hand, a connection without a socket |
//!
//! # Examples
//! ```no_run
//! use actix::prelude::*;
//! use actix_pika_actors::{
//!     CloseConnection, ConnectionOptions, ConnectionState, ConnectionSupervisor, DeclareQueue, OpenChannel, Publish,
//! };
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let (connection, mut state) = ConnectionSupervisor::launch(ConnectionOptions::default(), None);
//! state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await?;
//! let channel = connection.send(OpenChannel::new()).await??;
//! channel.actor.send(DeclareQueue::new("jobs")).await??;
//! channel.actor.send(Publish::new("", "jobs", "resize 7.png")).await??; // confirmed by the broker
//! connection.send(CloseConnection::new()).await??;
//! # Ok(()) }
//! ```
//!
//! [`Reply`] is public because it is the result type of messages.

#![forbid(unsafe_code)]

mod broker_rules;
mod channel;
mod connection;
mod consumer;
mod credentials;
mod error;
#[doc(hidden)]
pub mod facade;
mod internal;
mod log_schedule;
mod message;
mod mismatch;
mod options;
mod outbox;
mod returned;
#[cfg(feature = "testing")]
mod script;
mod secret;
mod supervisor;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
mod tls;
mod transport;
pub mod uri;
mod watchers;
#[cfg(feature = "unstable-wire")]
#[doc(hidden)]
pub mod wire;
#[cfg(not(feature = "unstable-wire"))]
mod wire;

/// The version of rustls whose [`ClientConfig`](rustls::ClientConfig) a [`TlsOptions`] takes.
#[cfg(feature = "tls")]
#[doc(no_inline)]
pub use tokio_rustls::rustls;

#[cfg(feature = "tls")]
pub use self::tls::TlsOptions;
pub use self::{
    broker_rules::{BrokerRules, Permission},
    channel::{Channel, OpenedChannel, Reply},
    connection::Connection,
    consumer::Consumer,
    credentials::{Credentials, CredentialsFuture, CredentialsProvider, SharedProvider},
    error::{CloseReason, Error, ErrorKind, Result, TlsFailure},
    message::{
        AwaitReady, BindExchange, BindQueue, CancelConsumer, ChannelEvent, CloseChannel, CloseConnection,
        CommitTx, Confirmation, ConnectionEvent, ConnectionState, Consume, Consumed, ConsumerEnd,
        ConsumerState, Content, DeadLetterStrategy, Death, DeathReason, DeclareExchange, DeclareQueue,
        Degradation, DelayedRetry, DeleteExchange, DeleteQueue, Delivery, EntityKind, ExchangeKind, Forget,
        Get, GetHealth, GetMissing, GetState, Health, IntoBody, LeaderLocator, MissingEntity, NextTry,
        OnOutage, OpenChannel, Opened, Overflow, OversizedDelivery, PauseConsumer, Processing, Publish,
        Publishing, PurgeQueue, Qos, QueueDeclared, QueueName, QueueType, Recover, Requeue, RollbackTx,
        SelectTx, Settle, Skipped, SkippedDelivery, StreamOffset, Token, UnbindExchange, UnbindQueue,
        Unhandled, UpdateSecret, WatchChannel, WatchConnection,
    },
    mismatch::Mismatch,
    options::{Address, AddressOrder, Backoff, ConnectionOptions, HappyEyeballs, Recovery, TcpOptions},
    outbox::{ChannelCounters, Confirm, ConnectionCounters, Load, Outbox},
    returned::Return,
    secret::Secret,
    supervisor::ConnectionSupervisor,
    wire::{DecodeError, DeliveryMode, Mechanism, PeerText, Properties, Table, Text, Value},
};
