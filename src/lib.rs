//! RabbitMQ (AMQP 0-9-1) client for actix. Connections, channels and consumers are actors, and a delivery is
//! a message to your actor.
//!
//! ```no_run
//! use actix::prelude::*;
//! use actix_pika::prelude::*;
//!
//! struct Worker;
//!
//! impl Actor for Worker {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Delivery> for Worker {
//!     type Result = ();
//!
//!     fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
//!         println!("{}", String::from_utf8_lossy(delivery.body()));
//!         delivery.ack().ok();
//!     }
//! }
//!
//! # async fn run() -> actix_pika::Result<()> {
//! let connection = connect("amqp://guest:guest@localhost/").await?;
//! let channel = connection.channel().await?;
//! let jobs = channel.declare_queue("jobs").await?;
//! jobs.consume_supervised(Consume::new().prefetch(32), || Worker).await?;
//! channel.default_exchange().publish("resize 7.png", "jobs").await?; // confirmed by the broker
//! connection.close().await
//! # }
//! ```
//!
//! # Where to find what
//!
//! | module | contents |
//! |---|---|
//! | the crate root | the names that most programs use: the handles, their most used options, [`Error`] |
//! | [`prelude`] | the names that a short program needs |
//! | [`options`] | connection options, and the enumerations that options take |
//! | [`message`] | the messages that actors take and reply with, which are also the options of the handles; properties, tables |
//! | [`events`] | events, state and health of connections and channels |
//! | [`futures`] | the futures of the publish methods |
//! | [`stream`] | deliveries as a stream, one at a time or in batches |
//! | [`tasks`] | typed consumers: a handler gets a decoded value, and what it returns settles the message |
//! | [`publisher`] | typed publishers: a value is encoded and published, now or later |
//! | [`retry`] | retries with delays, and dead letters |
//! | [`redrive`] | moving messages from one queue to another, such as dead letters back to their jobs |
//! | [`rpc`] | calls: requests and replies as actix messages, and a `Recipient` whose actor is elsewhere |
//! | [`worker`] | supervised workers: an actor for the tasks of several queues, built again after a panic |
//! | [`shutdown`] | the end of a process: work is stopped and waited for in the right order, under one deadline, with a report |
//! | [`bridge`] | one consumer for many local subscribers, such as web sockets and server-sent events |
//! | [`codec`] | how the value of a typed message becomes a body, and back |
//! | [`master`] | a master creates tasks by the name of their queue, and workers take them: aio-pika's `Master` |
//! | `aio_pika` | with the feature `aio-pika`: the formats of aio-pika's `JsonRPC` and `JsonMaster` |
//! | [`hook`] | code that sees what is published and handled: headers, spans, traces |
//! | `metrics` | with the feature `metrics`: counters, gauges and histograms for the recorder of the application |
//! | [`pool`] | a pool of channels or connections |
//! | `inbox` | with the feature `sqlx` or `sqlx-postgres`: a message takes effect once, by its id in a database |
//! | `actix_web` | with the feature `actix-web`: extractors, errors as responses, health routes, a server that ends with everything else |
//! | [`error`] | the error type and its parts |
//! | [`actors`] | the actors behind the handles |
//! | [`limits`] | every buffer, table and queue, how large it can become, and how to change that |
//! | `testing` | with the feature `testing`: tests of applications without a broker |
//!
//! | feature, off by default | what it adds | dependency |
//! |---|---|---|
//! | `messagepack` | `codec::MessagePack` | rmp-serde |
//! | `gzip` | `codec::GzipJson` | flate2, in Rust without C |
//! | `aio-pika` | the module `aio_pika`, and `gzip` | - |
//! | `metrics` | the module `metrics` | metrics |
//! | `tracing` | `hook::TracingSpans` | tracing |
//! | `opentelemetry` | `hook` knows the active span of OpenTelemetry | opentelemetry, its API only |
//! | `actix-web` | the module `actix_web`; errors are responses | actix-web |
//! | `testing` | the module `testing` | - |
//!
//! Those of TLS are listed [below](#tls).
//!
//! A handle and its actor take the same options: [`DeclareQueue`] is the argument of
//! [`Channel::declare_queue`] and the message that the channel's actor handles.
//!
//! # Guarantees
//!
//! - A publish that returns `Ok` is confirmed by the broker and was routed to a queue, unless
//!   [`Publishing::mandatory`] or the confirms of the channel were turned off. Publishes are persistent and
//!   queues durable by default.
//! - Every publish and every call has a deadline (30 seconds unless set) and always completes.
//! - Settling consumes the [`Delivery`], so no delivery is settled twice. A delivery that is dropped
//!   unsettled goes back into its queue: at once, or later if its processing failed before.
//! - Memory is bounded: unconfirmed publishes by a window, deliveries by the prefetch (250 per consumer).
//!   [`limits`] lists every bound.
//!
//! The guarantees do not hold with `panic = "abort"` (a panicking handler ends the process), when the arbiter
//! of the connection is blocked for longer than half a heartbeat interval ([`Connector::own_thread`] prevents
//! that), or when a delivery is acknowledged before the publish that results from it is confirmed.
//!
//! # Errors
//!
//! There is one [`Error`] type. [`kind`](Error::kind) returns its class, [`code`](Error::code) the broker's
//! reply code, [`close_reason`](Error::close_reason) code and text. [`is_retryable`](Error::is_retryable) and
//! [`may_have_arrived`](Error::may_have_arrived) help to decide what to do next. A call that the broker
//! refuses closes its channel. A few close the connection; their documentation names the case. The errors
//! that every call on a channel can return are listed at [`Channel`](Channel#errors-of-every-call).
//!
//! # TLS
//!
//! An `amqps` URI uses TLS 1.2 or 1.3. The server's certificate and name are verified, with the authorities that
//! the system trusts, or those of `cacertfile` or [`TlsOptions`](options::TlsOptions), which also have the
//! client's certificate. Nothing of AMQP is sent before.
//!
//! ```no_run
//! # #[cfg(feature = "tls")]
//! # async fn run() -> actix_pika::Result<()> {
//! use actix_pika::{Connector, options::{Mechanism, TlsOptions}};
//!
//! let simple = actix_pika::connect("amqps://app:secret@rabbit.example/orders").await?;
//!
//! let tls = TlsOptions::new()
//!     .ca_file("/etc/rabbit/ca.pem")
//!     .client_certificate("/etc/rabbit/client.pem", "/etc/rabbit/client-key.pem");
//! let by_certificate = Connector::new("amqps://rabbit.example/orders")?
//!     .tls(tls)
//!     .mechanisms([Mechanism::External])
//!     .connect()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! | feature | what it does |
//! |---|---|
//! | `tls-ring` (default) | rustls with the cryptography of ring |
//! | `tls-aws-lc` | rustls with the cryptography of aws-lc-rs; with both, that of the process's default provider, or else ring |
//! | `tls` | rustls without cryptography: the application installs a provider, or passes a `ClientConfig` |
//! | none of them | plain TCP only: an `amqps` URI is an error |
//!
//! # Over a reconnect
//!
//! A connection made with [`connect`] ends when it is lost, and everything on it ends with
//! `ConnectionClosed`. A connection made with [`connect_robust`], or with [`Connector::recovery`], is
//! recovered. Items document what happens to them in a paragraph that begins with "Over a reconnect".
//!
//! | | what happens |
//! |---|---|
//! | handles, watchers | stay valid |
//! | exchanges, queues, bindings | redeclared, in this order, if they were declared over this connection; not those that were deleted, refused, or declared with `robust(false)` |
//! | queues named by the broker | get a new name, which handles, bindings, consumers and queued publishes follow ([`ChannelEvent::QueueRenamed`]); their messages are lost |
//! | channels | reopened with prefetch, consumers and confirm mode; a channel that the broker closed for an error is reopened too ([`ChannelEvent::Reopened`]), ten times in a second at most |
//! | consumers | start again with their tag, prefetch and target; one with `robust(false)` ends |
//! | unconfirmed publishes | resent, in order and before newer ones, within their deadline |
//! | publishes on a channel without confirms | those already written may be lost |
//! | calls | a call made meanwhile waits within its deadline; a call whose reply was outstanding fails with `ConnectionClosed` and can be repeated |
//! | deliveries | can no longer be settled (`StaleDelivery`); the broker delivers them again, marked as redelivered |
//! | a transaction | ends with its channel (`ChannelClosed`); nothing took effect, unless its commit was outstanding |
//!
//! Publishing with confirms is therefore *at least once*: a message may arrive twice.
//! [`OpenChannel::message_ids`] or [`Publishing::generate_message_id`] give each message an id, by which a
//! consumer recognises a duplicate. Where a duplicate is worse than a loss, [`Publishing::resend`] set to
//! `false` makes the publish fail instead of being resent. [`OpenChannel::on_outage`] set to
//! [`OnOutage::Fail`](options::OnOutage::Fail) makes all publishes of a channel fail at once while the
//! connection is down. The publish window bounds the queued publishes. They are kept in memory only.
//!
//! [`Connection::watch`] and [`Connection::events`] report [`Lost`](ConnectionEvent::Lost),
//! [`Retrying`](ConnectionEvent::Retrying) before each attempt, [`Connected`](ConnectionEvent::Connected) and
//! [`Recovered`](ConnectionEvent::Recovered), in this order.
//!
//! What was declared or consumed **stays wanted** until the application gives it up: by a delete, an unbind, a
//! cancel, the close of its channel, or [`Connection::forget`]. What is missing, because the broker refused
//! it or somebody deleted it, is tried again by a back-off of its own: after 50 milliseconds, then after
//! pauses that double up to 5 seconds, without end or until the limits of the [`Recovery`]. What another
//! client has declared with other properties (406) is tried every 5 seconds. What was declared passively is
//! awaited, and never made. As long as something is missing, [`Connection::health`] is `Degraded` and
//! [`Connection::missing`] lists it with its cause and next try. A declaration or consumer that costs the
//! connection (540, 541) is left out from then on, and tried on a short-lived connection of its own until the
//! broker accepts it; see [`Skipped`](events::Skipped).
//!
//! Recovery ends, and the connection with [`Closed`](ConnectionEvent::Closed), by [`Connection::close`], by
//! the limits of its [`Recovery`], or when every address has refused login, virtual host or TLS for a minute (a
//! broker that restarts refuses them for a while; [`TlsFailure`](error::TlsFailure) lists what is a refusal). A limit of connections is waited out. The first connect is
//! not part of recovery: it fails at once, unless [`Connector::fail_fast`] is `false`.
//!
//! # Where a connection runs
//!
//! | | the connection runs on | it ends with | what it costs |
//! |---|---|---|---|
//! | by default, in an actix `System` (`#[actix::main]`, `#[actix_web::main]`) | the first arbiter of the `System`, whatever arbiter opens it | the `System` | nothing; what blocks that arbiter blocks the connection |
//! | [`Connector::arbiter`] | the given arbiter | that arbiter | a hop between threads for each call and each batch of deliveries from another arbiter |
//! | [`Connector::own_thread`] | a thread of its own, with a `System` of its own | its last handle | a thread for each connection, and the hop between threads; nothing of the application can block it |
//! | by default, without a `System` (`#[tokio::main]`) | as with [`Connector::own_thread`] | its last handle | the same |
//!
//! Publishes and acknowledgements are written into the channel by the calling thread, and only wake the
//! connection. Handles can be used from any thread.
//!
//! A consumer passes deliveries to its actor on the arbiter where [`Queue::consume`] is called, and ends with
//! that arbiter. Without an arbiter it runs on the thread of the connection: there `Actor::start` panics, but
//! [`Queue::consume_supervised`] starts the actor on that thread, which it must not block, and
//! [`Queue::deliveries`] needs no actor.
//!
//! # Shutting down
//!
//! A process that exits flushes nothing. [`shutdown`] ends consumers, workers and connections in the right order when the
//! process gets a signal. Step by step: [`Connection::close`] waits for outstanding confirms and then
//! closes. Call it before the actix `System` ends. [`Consumer::drain`] before it waits for the deliveries
//! that an actor has begun, and returns the others to their queue.

#![forbid(unsafe_code)]

#[cfg(feature = "actix-web")]
pub mod actix_web;
#[cfg(feature = "aio-pika")]
pub mod aio_pika;
mod batch_publish;
mod batches;
pub mod bridge;
mod caught;
mod channel;
pub mod codec;
mod connect;
mod connection;
mod connector;
mod consumer;
#[cfg(any(feature = "sqlx", feature = "sqlx-postgres"))]
pub mod database;
mod delivery_stream;
mod drops_warning;
mod event_stream;
mod exchange;
pub mod hook;
#[cfg(any(feature = "sqlx", feature = "sqlx-postgres"))]
pub mod inbox;
pub mod limits;
pub mod master;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(any(feature = "sqlx", feature = "sqlx-postgres"))]
pub mod outbox;
pub mod pool;
mod publish_future;
pub mod publisher;
mod queue;
pub mod redrive;
pub mod retry;
pub mod rpc;
mod runtime;
pub mod shutdown;
pub mod tasks;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
pub mod worker;

/// The version of rustls whose [`ClientConfig`](rustls::ClientConfig) a [`TlsOptions`](options::TlsOptions)
/// takes.
#[cfg(feature = "tls")]
#[doc(no_inline)]
pub use actix_pika_actors::rustls;
pub use actix_pika_actors::{
    ChannelEvent, Confirm, ConnectionEvent, Consume, ConsumerEnd, Credentials, DeclareExchange, DeclareQueue,
    Delivery, Error, ErrorKind, OpenChannel, Publishing, Recovery, Requeue, Result,
};

pub use self::{
    channel::Channel,
    connect::{connect, connect_robust},
    connection::Connection,
    connector::Connector,
    consumer::Consumer,
    delivery_stream::DeliveryStream,
    exchange::Exchange,
    queue::Queue,
    transaction::Transaction,
};

/// The names that a short program needs, for a glob import beside `actix::prelude::*` and `actix_web::*`.
///
/// `Error` and `Result` are not part of it: `actix_pika::Result` would replace the one of `std`.
///
/// # Examples
/// ```no_run
/// use actix_pika::prelude::*;
///
/// # async fn run() -> actix_pika::Result<()> {
/// let connection = connect_robust("amqp://guest:guest@localhost/").await?;
/// let channel = connection.channel().await?;
/// channel.declare_queue(DeclareQueue::new("jobs").quorum()).await?;
/// channel.default_exchange().publish(Publishing::new("resize 7.png").priority(3), "jobs").await?;
/// # Ok(()) }
/// ```
pub mod prelude {
    #[doc(no_inline)]
    pub use crate::{
        Channel, Connection, Connector, Consume, Consumer, DeclareExchange, DeclareQueue, Delivery, Exchange,
        OpenChannel, Publishing, Queue, Requeue, connect, connect_robust,
        publisher::Publisher,
        retry::Retry,
        rpc::{RemoteError, RemoteRecipient, Rpc, RpcRequest},
        tasks::{Done, Failure, OrReject, Task, TaskConsumer, Tasks},
        worker::{SupervisedWorker, WorkerEvent},
    };
}

/// Options of a connection, and the enumerations that options of queues, exchanges, consumers and channels
/// take.
///
/// # Examples
/// ```
/// use actix_pika::{DeclareQueue, options::{Overflow, QueueType}};
///
/// let orders = DeclareQueue::new("orders").queue_type(QueueType::Quorum).overflow(Overflow::RejectPublish);
/// ```
pub mod options {
    pub use actix_pika_actors::{
        Address, AddressOrder, Backoff, ConnectionOptions, CredentialsFuture, CredentialsProvider,
        DeadLetterStrategy, DelayedRetry, ExchangeKind, HappyEyeballs, LeaderLocator, Mechanism, OnOutage,
        Overflow, OversizedDelivery, QueueType, Secret, SharedProvider, StreamOffset, TcpOptions, Unhandled,
    };

    #[cfg(feature = "tls")]
    pub use actix_pika_actors::TlsOptions;

    pub use crate::connect::IntoConnector;
    #[doc(no_inline)]
    pub use crate::{Connector, Credentials, Recovery, Requeue};
}

/// The messages that the actors take, what they reply, and what both are made of.
///
/// A message that takes options is also the argument of the corresponding method of a handle.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// use actix_pika::message::{BindQueue, DeleteQueue};
///
/// channel.actor().send(BindQueue::new("jobs", "amq.topic", "job.*")).await??; // to the actor
/// let removed = channel.delete_queue(DeleteQueue::new("jobs").if_unused(true)).await?; // by the handle
/// # Ok(())
/// # }
/// ```
pub mod message {
    pub use actix_pika_actors::{
        AwaitReady, BindExchange, BindQueue, CancelConsumer, CloseChannel, CloseConnection, CommitTx,
        Confirmation, Consumed, ConsumerState, Content, Death, DeathReason, DecodeError, DeleteExchange,
        DeleteQueue, DeliveryMode, Forget, Get, GetHealth, GetMissing, GetState, IntoBody, PauseConsumer,
        Processing, Properties, Publish, PurgeQueue, Qos, QueueDeclared, QueueName, Recover, Return,
        RollbackTx, SelectTx, Settle, Table, Text, Token, UnbindExchange, UnbindQueue, UpdateSecret, Value,
        WatchChannel, WatchConnection,
    };

    #[doc(no_inline)]
    pub use crate::{Consume, DeclareExchange, DeclareQueue, Delivery, OpenChannel, Publishing};
}

/// Events, state and health of connections and channels.
///
/// # Examples
/// ```no_run
/// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
/// use actix_pika::events::{Degradation, Health};
///
/// if let Health::Degraded(why) = connection.health().await? {
///     let missing = why.iter().filter(|one| matches!(one, Degradation::Missing(_)));
///     println!("{} entities are missing", missing.count());
/// }
/// # Ok(())
/// # }
/// ```
pub mod events {
    pub use actix_pika_actors::{
        BrokerRules, ChannelCounters, ConnectionCounters, ConnectionState, Degradation, EntityKind, Health,
        Load, MissingEntity, NextTry, Opened, Permission, Skipped, SkippedDelivery,
    };

    pub use crate::event_stream::Events;
    #[doc(no_inline)]
    pub use crate::{ChannelEvent, ConnectionEvent, ConsumerEnd};
}

/// The futures of the publish methods. They own a handle, which keeps the channel open.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// use actix_pika::futures::PublishFuture;
///
/// let sent: PublishFuture<'_> = channel.default_exchange().publish("resize 7.png", "jobs");
/// assert!(sent.await?.is_confirmed());
/// # Ok(())
/// # }
/// ```
pub mod futures {
    #[doc(no_inline)]
    pub use crate::Confirm;
    pub use crate::{
        batch_publish::{PublishAllFuture, WaitForConfirmsFuture},
        publish_future::{PublishDeferredFuture, PublishFuture},
    };
}

/// Deliveries as a stream, one at a time or in batches.
///
/// # Examples
/// ```no_run
/// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
/// use std::time::Duration;
/// use futures_util::StreamExt;
///
/// let mut batches = jobs.deliveries().await?.batches(100, Duration::from_millis(50));
/// while let Some(batch) = batches.next().await {
///     batch.ack_all()?;
/// }
/// # Ok(())
/// # }
/// ```
pub mod stream {
    #[doc(no_inline)]
    pub use crate::DeliveryStream;
    pub use crate::batches::{Batches, DeliveryBatch};
}

/// The error type and its parts.
///
/// # Examples
/// ```
/// use actix_pika::error::{CloseReason, Error};
///
/// fn log(error: &Error) {
///     if let Some(CloseReason { code, text, .. }) = error.close_reason() {
///         eprintln!("{code}: {text}");
///     }
/// }
/// ```
pub mod error {
    pub use actix_pika_actors::{CloseReason, Mismatch, PeerText, TlsFailure};

    #[doc(no_inline)]
    pub use crate::{Error, ErrorKind, Result};
}

/// The actors behind the handles, for applications that send messages to them.
///
/// [`Connection::actor`] and [`Channel::actor`] return their addresses. They take the messages of
/// [`message`].
///
/// # Examples
/// ```no_run
/// use actix::{Addr, Recipient};
/// use actix_pika::{actors::Channel, message::{BindQueue, Publish}};
///
/// async fn remember(channel: Addr<Channel>) -> actix_pika::Result<()> {
///     channel.send(BindQueue::new("memory", "amq.fanout", "")).await??;
///     let publish: Recipient<Publish> = channel.recipient();
///     let confirmation = publish.send(Publish::new("amq.fanout", "", "hello")).await??;
///     assert!(confirmation.is_confirmed());
///     Ok(())
/// }
/// ```
pub mod actors {
    pub use actix_pika_actors::{Channel, Connection, ConnectionSupervisor, Consumer, OpenedChannel, Reply};
}

/// The examples of the README compile, with the features that they use.
#[cfg(all(doctest, feature = "actix-web", feature = "sqlx", feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;
