//! Calls over RabbitMQ (RPC).

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
