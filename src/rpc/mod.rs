//! Calls over RabbitMQ (RPC): requests and replies are actix messages.
//!
//! A method is an actix message that can be serialised ([`RpcRequest`]). Any actor that handles it can serve it, or a
//! closure; a client sends it, and gets its reply or a typed error.
//!
//! ```no_run
//! use actix::prelude::*;
//! use actix_pika::rpc::{Answer, RemoteError, Rpc, RpcError, RpcRequest};
//!
//! #[derive(Message, serde::Serialize, serde::Deserialize)]
//! #[rtype(result = "Answer<i64>")]
//! struct Divide { a: i64, b: i64 }
//!
//! impl RpcRequest for Divide {
//!     type Reply = i64;
//!     const NAME: &'static str = "divide";
//!     const IDEMPOTENT: bool = true; // it may run twice
//! }
//!
//! struct Calculator;
//!
//! impl Actor for Calculator {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Divide> for Calculator {
//!     type Result = ResponseFuture<Answer<i64>>;
//!
//!     fn handle(&mut self, Divide { a, b }: Divide, _: &mut Self::Context) -> Self::Result {
//!         Box::pin(async move { a.checked_div(b).ok_or_else(|| RemoteError::new("division", "by zero").with(a)) })
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let connection = actix_pika::connect_robust("amqp://guest:guest@localhost/").await?;
//! let channel = connection.channel().await?;
//! let server = Rpc::serve::<Divide>(&channel, Calculator.start()).at_once(64).await?;
//!
//! let client = Rpc::client(&connection).await?; // here, or in another process
//! assert_eq!(client.send(Divide { a: 6, b: 3 }).await?, 2);
//! match client.send(Divide { a: 6, b: 0 }).await {
//!     Err(RpcError::Remote(error)) => assert_eq!(error.code(), "division"),
//!     other => println!("{other:?}"),
//! }
//!
//! client.close().await; // ends calls that are in flight
//! server.unregister().await?; // or `drain`, for a restart
//! connection.close().await?;
//! # Ok(()) }
//! ```
//!
//! A [`RemoteRecipient`] goes further: code that has a `Recipient<M>` sends messages to an actor across RabbitMQ, and does
//! not know.
//!
//! # What becomes of a call
//!
//! Every call ends, at the latest by its deadline. The columns are: direct replies ([`Replies::Direct`], the default);
//! the same for a method that is [idempotent](RpcRequest::IDEMPOTENT); and a reply queue ([`Replies::Queue`]).
//!
//! | what happens | direct | direct, idempotent | reply queue |
//! |---|---|---|---|
//! | nobody has served the method, or it is unregistered | `Unroutable`, at once | the same | the same |
//! | its servers are busy, hang or are down | `Timeout`; the request expires in its queue | the same | the same |
//! | the handler fails, panics, or cannot read the request | `Remote` | the same | the same |
//! | the reply is larger than the broker accepts | `Remote` with the code `unsendable`, on a connection that recovers | the same | the same |
//! | the client loses its connection while the call runs | `Lost { may_have_run: true }`, at once | sent again; answered | answered |
//! | the server loses its connection while the call runs | answered | answered | answered |
//! | both lose it | as the first | as the first | answered |
//! | a connection is lost before the broker has confirmed the request | `Lost { may_have_run: true }` | sent again | `Lost { may_have_run: true }` |
//! | a call is made while the connection of the client is down | waits for it, within its deadline | the same | the same |
//! | the process of the server ends while the call runs | another server runs it again | the same | the same |
//! | the broker stops and starts again | `Lost { may_have_run: true }` | sent again | answered, also by a server that is started later |
//! | the client is closed | `Closed { may_have_run: true }`, at once | the same | the same |
//! | the reply comes after the call has ended | dropped and counted ([`RpcCounters::late`]) | the same | the same |
//!
//! Of ten calls that ran at each of these cuts, and ten that were made during the outage, none ran twice on a server that
//! was alive: RabbitMQ delivers a request again when its connection was lost before the acknowledgement, and an idempotent
//! one is sent again by its client under the same correlation id. A server recognises either and sends the first reply
//! again. It remembers the last 1,024 replies, of 4 MiB at most; a process that is started again remembers none.
//!
//! On a connection that does not recover, a loss closes the client.
//!
//! # Servers
//!
//! A server takes requests from the queue `rpc.NAME`, which is durable and is deleted after 10 minutes without a server; on
//! an exchange, from `rpc.EXCHANGE.NAME`. Several servers share the requests of a method. A reply is handed over before the
//! request is acknowledged, on the same channel. Nothing is tried again: the caller decides. A request without a reply address
//! runs, and its result is dropped.
//!
//! A panic of serde's code of a request or a result is `undecodable` or `unserialisable`. A reply of 64 KiB or more waits for
//! its confirm, since RabbitMQ closes the channel when a message exceeds `max_message_size`.
//!
//! A server that hangs holds its place ([`at_once`](RpcServerBuilder::at_once)): handlers set limits for what they await.
//!
//! An actor that ends, by a stop or a panic, ends its server. The requests that it had are answered with `gone` or `panic`,
//! others return to the queue. A handler never sees the reply address: after a reconnect of the client, one that was kept
//! would lead nowhere.
//!
//! # On the wire
//!
//! For clients and servers in other languages:
//!
//! | | request | reply |
//! |---|---|---|
//! | exchange, routing key | the default one and `rpc.NAME`; or the exchange and `NAME` | the default one and `reply_to` |
//! | body | JSON | JSON: the result, or a [`RemoteError`] |
//! | `content_type` | `application/json`, or none | the same |
//! | `type` | `NAME` (it is not checked) | `result`, which may be left out, or `error` |
//! | `correlation_id` | any | that of the request |
//! | `reply_to` | `amq.rabbitmq.reply-to`, or a queue | |
//! | `expiration` | what is left until the deadline | |
//! | header `rpc-idempotent` | `true`, if it may come twice under its correlation id, which is unique then | |
//!
//! The formats of aio-pika are those of the module `aio_pika`.

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
};

use actix::{Message, Recipient};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Channel, Connection, Queue};

pub use self::{
    builder::{Replies, RpcClientBuilder},
    client::{RpcClient, RpcCounters},
    error::RpcError,
    remote_error::RemoteError,
    remote_recipient::RemoteRecipient,
    request::{Answer, RpcRequest},
    server::RpcServer,
    server_builder::RpcServerBuilder,
};

mod builder;
mod call;
pub(crate) mod calls;
mod client;
mod error;
mod handler;
mod outcomes;
mod remote_error;
mod remote_recipient;
mod replies;
mod request;
mod server;
mod server_builder;
mod service;
mod wire;

/// Makes clients and servers of calls. See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Rpc;

impl Rpc {
    /// Creates a client, when the builder is awaited.
    ///
    /// Opens a channel for it, and consumes its replies. The client reads them on the first arbiter of the `System`; without
    /// a `System`, on the calling runtime. When that ends, the client is closed.
    ///
    /// # Errors
    /// Those of [`Connection::channel`] and of a consume; 404 if the exchange does not exist.
    ///
    /// **Over a reconnect**: a connection that is lost meanwhile is waited for.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// use actix_pika::rpc::Rpc;
    ///
    /// let client = Rpc::client(&connection).await?;
    /// # Ok(()) }
    /// ```
    pub fn client(connection: &Connection) -> RpcClientBuilder {
        RpcClientBuilder::new(connection)
    }

    /// Creates a server of a method whose requests an actor handles, when the builder is awaited.
    ///
    /// Declares the queue `rpc.NAME`: durable, and deleted after 10 minutes without a server. Several servers of a method, in
    /// one process or many, share its requests. Any response type of actix will do: a
    /// [`ResponseFuture`](actix::ResponseFuture) lets requests run side by side.
    ///
    /// The server runs on the arbiter of the caller, the actor where it is. When the actor ends, so does the server, and what
    /// it has not begun returns to the queue.
    ///
    /// # Errors
    /// `Refused` without a code, if the channel serves the method already, or if there is no arbiter here. Otherwise those
    /// of a declaration and of a consume; 404 if the exchange does not exist.
    ///
    /// **Over a reconnect**: see [what becomes of a call](self#what-becomes-of-a-call).
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::{Channel, rpc::{Answer, Rpc, RpcRequest}};
    /// # #[derive(actix::Message, serde::Serialize, serde::Deserialize)]
    /// # #[rtype(result = "Answer<i64>")]
    /// # struct Add { a: i64, b: i64 }
    /// # impl RpcRequest for Add { type Reply = i64; const NAME: &'static str = "add"; }
    /// # async fn run(channel: Channel, calculator: actix::Recipient<Add>) -> actix_pika::Result<()> {
    /// let server = Rpc::serve::<Add>(&channel, calculator).await?;
    /// # Ok(()) }
    /// ```
    pub fn serve<M: RpcRequest>(channel: &Channel, actor: impl Into<Recipient<M>>) -> RpcServerBuilder<M> {
        RpcServerBuilder::of_method(channel, handler::by_actor(actor.into()))
    }

    /// Creates a server of a method whose requests a closure handles, when the builder is awaited.
    ///
    /// A panic in the closure or its future ends that request only. A closure that blocks stops everything else on the
    /// arbiter.
    ///
    /// # Errors
    /// As of [`serve`](Self::serve).
    ///
    /// **Over a reconnect**: as [`serve`](Self::serve).
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::{Channel, rpc::{Answer, RemoteError, Rpc, RpcRequest}};
    /// # #[derive(actix::Message, serde::Serialize, serde::Deserialize)]
    /// # #[rtype(result = "Answer<i64>")]
    /// # struct Add { a: i64, b: i64 }
    /// # impl RpcRequest for Add { type Reply = i64; const NAME: &'static str = "add"; }
    /// # async fn run(channel: Channel) -> actix_pika::Result<()> {
    /// let overflow = || RemoteError::new("overflow", "the sum has more than 64 bits");
    /// let add = move |add: Add| async move { add.a.checked_add(add.b).ok_or_else(overflow) };
    /// let server = Rpc::serve_fn(&channel, add).await?;
    /// # Ok(()) }
    /// ```
    pub fn serve_fn<M, F, Fut>(channel: &Channel, closure: F) -> RpcServerBuilder<M>
    where
        M: RpcRequest,
        F: Fn(M) -> Fut + 'static,
        Fut: Future<Output = Answer<M::Reply>> + 'static,
    {
        RpcServerBuilder::of_method(channel, handler::by_closure(closure))
    }

    /// Creates a server for a [`RemoteRecipient`], when the builder is awaited: an actor handles the messages of a queue,
    /// which may be any actix messages.
    ///
    /// The queue is one of the application, and stays. Messages without a reply address, as `do_send` publishes them, are
    /// handled, and acknowledged when their handler has ended, however it has: nothing is tried again. Jobs that must be
    /// done are [`tasks`](crate::tasks). What cannot be decoded is dead-lettered.
    ///
    /// # Errors
    /// `Refused` without a code, if the channel exposes an actor at this queue already, or if there is no arbiter here.
    /// Otherwise those of a consume.
    ///
    /// **Over a reconnect**: as [`serve`](Self::serve).
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::{Queue, rpc::Rpc};
    /// #[derive(actix::Message, serde::Serialize, serde::Deserialize)]
    /// #[rtype(result = "usize")]
    /// struct CountWords(String);
    ///
    /// # async fn run(queue: Queue, counter: actix::Recipient<CountWords>) -> actix_pika::Result<()> {
    /// let server = Rpc::expose(&queue, counter).await?;
    /// # Ok(()) }
    /// ```
    pub fn expose<M>(queue: &Queue, actor: impl Into<Recipient<M>>) -> RpcServerBuilder<M>
    where
        M: Message + DeserializeOwned + Send + 'static,
        M::Result: Serialize + Send,
    {
        RpcServerBuilder::of_queue(queue, handler::by_actor(actor.into()))
    }
}

/// Returns 32 random hexadecimal digits. They are unique, but not unpredictable.
pub(crate) fn random_id() -> String {
    let part = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", part(), part())
}
