//! RabbitMQ (AMQP 0-9-1) for actix: connections, channels and consumers are actors, and deliveries are messages to
//! yours.
//!
//! ```no_run
//! use actix::prelude::*;
//! use actix_pika::{Consume, Delivery, connect};
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
//!         println!("{:?}", delivery.body());
//!         delivery.ack().ok();
//!     }
//! }
//!
//! # async fn run() -> actix_pika::Result<()> {
//! let connection = connect("amqp://guest:guest@localhost/").await?;
//! let channel = connection.channel().await?;
//! let jobs = channel.declare_queue("jobs").await?;
//! jobs.consume_with(Consume::new().prefetch(32), Worker.start().recipient()).await?;
//! channel.default_exchange().publish("resize 7.png", "jobs").await?; // confirmed by the broker
//! connection.close().await
//! # }
//! ```
//!
//! # Layout
//!
//! | module of the source | what it has |
//! |---|---|
//! | `connect` | [`connect`], [`Connector`]: from a URI to a connection |
//! | `connection` | [`Connection`]: channels, state, closing; [`Events`] |
//! | `channel` | [`Channel`]: declaring, prefetch, closing |
//! | `events` | [`ChannelEvents`]: what happens to a channel |
//! | `exchange` | [`Exchange`]: publishing, binding, deleting |
//! | `publisher` | [`Confirm`]: what comes of a publish |
//! | `batch_publish` | many publishes and one await: [`Exchange::publish_all`], [`Channel::wait_for_confirms`] |
//! | `queue` | [`Queue`]: consuming, getting, binding, purging, deleting |
//! | `consumer` | [`Consumer`]: cancelling, pausing, draining |
//! | `stream` | [`DeliveryStream`]: deliveries as a stream |
//! | `batches` | [`Batches`]: deliveries many at a time |
//! | `transaction` | [`Transaction`] |
//! | `runtime` | where actors live |
//! | [`actors`] | the engine: actors and their messages, for those who speak to them |
//!
//! What is declared, published, consumed and told is described by the messages that these take and give:
//! [`DeclareQueue`], [`Publishing`], [`Consume`], [`Delivery`], [`ConnectionEvent`] and the others of this page.
//!
//! # What is promised
//!
//! - A publish that `?` lets through is safe with the broker: confirmed, and routed to a queue unless
//!   [`Publishing::mandatory`], or the confirms of the channel, were turned off. Publishes are persistent and queues
//!   durable by default.
//! - Every publish and every call has a deadline (30 seconds unless set) and always resolves.
//! - Settling takes the delivery, so nothing is acknowledged twice; what is dropped unsettled goes back into its queue.
//! - What an application holds is bounded: publishes by a window, deliveries by the prefetch (250 per consumer).
//!
//! What takes promises away: `panic = "abort"` (a panicking handler ends the process), blocking the arbiter that the
//! connection lives on for longer than half a heartbeat, and acknowledging a delivery before the publish that it led
//! to is confirmed.
//!
//! # Errors
//!
//! There is one [`Error`]. Its [`kind`](Error::kind) says what it is, [`close_reason`](Error::close_reason) has the
//! broker's code and text, [`is_retryable`](Error::is_retryable) and [`may_have_arrived`](Error::may_have_arrived) say
//! what to do about it. A call that the broker refuses costs its channel; the few that cost the connection say so. What
//! every call on a channel may answer is told [there](Channel#errors-of-every-call).
//!
//! # Over a reconnect
//!
//! A connection made with [`connect`] ends when it is lost, and all that is on it ends with `ConnectionClosed`. One made
//! with [`connect_robust`], or with [`Connector::recovery`], comes back; of these the items speak in a paragraph that
//! begins with "Over a reconnect".
//!
//! | | what becomes of it |
//! |---|---|
//! | handles, watchers | stay the same |
//! | exchanges, queues, bindings | declared again where they were declared over this connection, in this order; not what was deleted, refused, or declared with `robust(false)` |
//! | a queue that the broker named | has a new name, which handles, bindings, consumers and kept publishes follow ([`ChannelEvent::QueueRenamed`]); what was in it is lost |
//! | channels | opened again with prefetch, consumers and confirm mode; one that the broker closed for an error opens again, too ([`ChannelEvent::Reopened`]), but for the sixth time within ten seconds it stays closed |
//! | consumers | start again with tag, prefetch and target; one with `robust(false)` ends |
//! | publishes that were not confirmed | sent again, in order and before newer ones, within their deadline |
//! | publishes on a channel without confirms | those that had left are lost or not, and nobody knows |
//! | calls | one that is made meanwhile waits within its deadline; one whose answer was outstanding fails with `ConnectionClosed` and may be made again |
//! | deliveries | cannot be settled any more (`StaleDelivery`); the broker delivers them again, as redelivered |
//! | a transaction | ends with its channel (`ChannelClosed`); nothing took effect, unless its commit was under way |
//!
//! So publishing with confirms is *at least once*: a message may come twice. [`OpenChannel::message_ids`] or
//! [`Publishing::generate_message_id`] give each a message id, by which a consumer knows it again. Where once too often is worse than
//! not at all, [`Publishing::resend`] set to `false` has that publish fail instead of being sent again; and
//! [`OpenChannel::on_outage`] set to [`OnOutage::Fail`] has all publishes of a channel fail at once while the connection
//! is down. The publish window bounds what is kept; what is in it does not outlive the process.
//!
//! [`Connection::watch`] and [`Connection::events`] tell of it in this order: [`Lost`](ConnectionEvent::Lost),
//! [`Retrying`](ConnectionEvent::Retrying) before each try, [`Connected`](ConnectionEvent::Connected),
//! [`Restored`](ConnectionEvent::Recovered). What is refused with 403 or 405, mostly for a lock of the dead connection,
//! is tried again for a minute at least; what is refused otherwise is skipped and named in `Restored`, and stays in
//! [`Connection::health`] while it is missing.
//!
//! The recovery ends, and the connection with [`Closed`](ConnectionEvent::Closed), by [`Connection::close`], by the limits
//! of its [`Recovery`], or when login or virtual host were refused for a minute: a broker that restarts does that for a
//! while. The first connect is not recovery: it fails at once, unless [`Connector::fail_fast`] says otherwise.
//!
//! # Where it runs
//!
//! Under `#[actix::main]` and `#[actix_web::main]` a connection lives on the arbiter that opens it, or on the one that
//! [`Connector::arbiter`] names; under `#[tokio::main]` on a thread of the library's own. Handles can be used from any
//! thread.
//!
//! # Shutting down
//!
//! The end of a process flushes nothing. [`Connection::close`] awaits the confirms that are under way and then closes;
//! call it before the actix `System` ends.

#![forbid(unsafe_code)]

/// Names the actors behind the handles, for those who speak to them in messages.
///
/// [`Connection::actor`] and [`Channel::actor`] hand out their addresses. The messages are those that the handles take:
/// [`DeclareQueue`], [`Publish`], [`Settle`] and the others.
///
/// # Examples
/// ```no_run
/// use actix::{Addr, Recipient};
/// use actix_pika::{BindQueue, Publish, actors::Channel};
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
    pub use actix_pika_actors::{Channel, Connection, ConnectionSupervisor, Consumer, OpenedChannel};
}

mod batch_publish;
mod batches;
mod channel;
mod connect;
mod connection;
mod consumer;
mod events;
mod exchange;
mod publisher;
mod queue;
mod runtime;
mod stream;
mod transaction;

#[cfg(feature = "testing")]
pub use actix_pika_actors::testing;
pub use actix_pika_actors::{
    Address, AddressOrder, Backoff, BindExchange, BindQueue, CancelConsumer, ChannelEvent, CloseChannel,
    CloseConnection, CloseReason, CommitTx, Confirmation, ConnectionEvent, ConnectionState, Consume,
    Consumed, ConsumerEnd, Credentials, CredentialsFuture, CredentialsProvider, DeadLetterStrategy, Death,
    DeathReason, DeclareExchange, DeclareQueue, Degradation, DelayedRetry, DeleteExchange, DeleteQueue,
    Delivery, DeliveryMode, EntityKind, Error, ErrorKind, ExchangeKind, Get, GetHealth, GetState, Health,
    IntoBody, LeaderLocator, Load, Mechanism, Mismatch, OnOutage, OpenChannel, Opened, Overflow,
    PauseConsumer, Processing, Properties, Publish, Publishing, PurgeQueue, Qos, QueueDeclared, QueueType,
    Recover, Recovery, Requeue, Result, Return, RollbackTx, Secret, SelectTx, Settle, Skipped, StreamOffset,
    Table, TcpOptions, UnbindExchange, UnbindQueue, UpdateSecret, Value, WatchChannel, WatchConnection,
};

pub use self::{
    batches::{Batches, DeliveryBatch},
    channel::Channel,
    connect::{Connector, IntoConnector, connect, connect_robust},
    connection::{Connection, Events},
    consumer::Consumer,
    events::ChannelEvents,
    exchange::Exchange,
    publisher::Confirm,
    queue::Queue,
    stream::DeliveryStream,
    transaction::Transaction,
};

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
