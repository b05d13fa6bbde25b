//! The client: sends requests, and awaits their replies.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot, watch};

use super::{
    RpcClientBuilder, RpcError, RpcRequest,
    call::{PendingCall, Request},
    calls::{Calls, Fate},
    request::key_of,
    wire::{self, Reply},
};
use crate::{Channel, Error, Exchange, message::Content};

/// A client of methods that other processes serve. Clones share it.
///
/// It has a channel of its own, on which it publishes requests and consumes their replies. Every call has a deadline,
/// 30 seconds unless set, and always ends: with the reply, or with a [`RpcError`]. Thousands of calls can be in
/// flight; dropping the future of a call ends it, and its reply is dropped when it comes. The client ends with its last
/// clone, or by [`close`](Self::close).
///
/// **Over a reconnect**: it continues. [What becomes of a call](super#what-becomes-of-a-call) is told there.
///
/// Source: <https://www.rabbitmq.com/docs/direct-reply-to>
///
/// # Examples
/// ```no_run
/// # use actix_pika::{Connection, rpc::{Answer, Rpc, RpcError, RpcRequest}};
/// # #[derive(actix::Message, serde::Serialize, serde::Deserialize)]
/// # #[rtype(result = "Answer<i64>")]
/// # struct Add { a: i64, b: i64 }
/// # impl RpcRequest for Add { type Reply = i64; const NAME: &'static str = "add"; }
/// # async fn run(connection: Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let client = Rpc::client(&connection).await?;
/// let sum: i64 = client.send(Add { a: 1, b: 2 }).await?;
/// assert_eq!(sum, 3);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RpcClient {
    inner: Arc<Inner>,
    deadline: Duration,
}

struct Inner {
    shared: Arc<Shared>,
    channel: Channel,
    exchange: Exchange,
    /// Set when the reader of the replies has ended.
    ended: watch::Receiver<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
    }
}

/// What the handles, the calls and the reader of the replies share.
pub(super) struct Shared {
    pub(super) reply_to: Box<str>,
    /// Requests are repeated, and survive the broker, where replies do.
    pub(super) is_durable: bool,
    /// The correlation id of a call is this and its number.
    pub(super) prefix: Box<str>,
    /// Tells the reader to end.
    pub(super) stop: Notify,
    calls: Mutex<Calls<oneshot::Sender<Signal>>>,
    counters: Mutex<Counted>,
    /// Why the client is closed.
    closed: Mutex<Option<Error>>,
}

/// What the reader of the replies has seen, beside the replies of calls.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) replies: u64,
    pub(super) unexpected: u64,
}

/// What a call awaits.
#[derive(Debug)]
pub(super) enum Signal {
    Reply(Content),
    /// The request has expired in its queue, which has sent it here as a dead letter.
    Expired,
    Ended(Fate, Option<Error>),
}

/// What a client has counted. See [`RpcClient::counters`].
///
/// # Examples
/// ```
/// # use actix_pika::rpc::RpcCounters;
/// fn print(counters: &RpcCounters) {
///     println!("{} calls in flight, {} replies came too late", counters.pending, counters.late);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RpcCounters {
    /// Calls that await their reply.
    pub pending: usize,
    /// Replies that came in time.
    pub replies: u64,
    /// Replies of calls that had ended, and second replies. They are dropped.
    pub late: u64,
    /// Messages that are no reply of this client: without a correlation id, or with another one. They are dropped, and
    /// a warning is logged.
    pub unexpected: u64,
}

impl RpcClient {
    pub(super) fn new(
        shared: Arc<Shared>,
        exchange: Exchange,
        deadline: Duration,
        ended: watch::Receiver<()>,
    ) -> Self {
        let channel = exchange.channel().clone();
        Self { inner: Arc::new(Inner { shared, channel, exchange, ended }), deadline }
    }

    /// Sends a request to the servers of its method, and returns the reply of one of them.
    ///
    /// Publishes with `mandatory`, so that a method without servers fails at once. The request expires with the deadline, so
    /// that no server begins it later.
    ///
    /// # Errors
    /// See [`RpcError`].
    ///
    /// **Over a reconnect**: see [what becomes of a call](super#what-becomes-of-a-call).
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::rpc::{Answer, RpcClient, RpcError, RpcRequest};
    /// # #[derive(actix::Message, serde::Serialize, serde::Deserialize)]
    /// # #[rtype(result = "Answer<i64>")]
    /// # struct Add { a: i64, b: i64 }
    /// # impl RpcRequest for Add { type Reply = i64; const NAME: &'static str = "add"; }
    /// async fn add(client: &RpcClient, a: i64, b: i64) -> Result<i64, RpcError> {
    ///     client.send(Add { a, b }).await
    /// }
    /// ```
    pub async fn send<M: RpcRequest>(&self, request: M) -> Result<M::Reply, RpcError> {
        let key = key_of(self.inner.exchange.name(), M::NAME);
        self.request(&self.inner.exchange, &key, request).await
    }

    /// Sends a request to the server that takes it from this queue, through the default exchange.
    ///
    /// # Errors
    /// As of [`send`](Self::send).
    ///
    /// **Over a reconnect**: as [`send`](Self::send).
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::rpc::{Answer, RpcClient, RpcError, RpcRequest};
    /// # #[derive(actix::Message, serde::Serialize, serde::Deserialize)]
    /// # #[rtype(result = "Answer<i64>")]
    /// # struct Add { a: i64, b: i64 }
    /// # impl RpcRequest for Add { type Reply = i64; const NAME: &'static str = "add"; }
    /// async fn add(client: &RpcClient, site: &str) -> Result<i64, RpcError> {
    ///     client.send_to(&format!("calculator.{site}"), Add { a: 1, b: 2 }).await
    /// }
    /// ```
    pub async fn send_to<M: RpcRequest>(&self, queue: &str, request: M) -> Result<M::Reply, RpcError> {
        self.request(&self.inner.channel.default_exchange(), queue, request).await
    }

    async fn request<M: RpcRequest>(
        &self,
        exchange: &Exchange,
        key: &str,
        request: M,
    ) -> Result<M::Reply, RpcError> {
        let body = wire::encode(&request).map_err(|cause| RpcError::Codec { may_have_run: false, cause })?;
        let request = Request { exchange, key, body, name: M::NAME, repeats: M::IDEMPOTENT };
        self.call(request).await?.into_reply()
    }

    /// Makes a call to a queue.
    pub(super) async fn call_queue(&self, queue: &str, body: Bytes) -> Result<Reply, RpcError> {
        let exchange = self.inner.channel.default_exchange();
        self.call(Request { exchange: &exchange, key: queue, body, name: "", repeats: false }).await
    }

    async fn call(&self, request: Request<'_>) -> Result<Reply, RpcError> {
        PendingCall::run(&self.inner.shared, request, self.deadline).await
    }

    /// Returns a handle of the same client whose calls have another deadline; at most 49 days.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn run(client: actix_pika::rpc::RpcClient) {
    /// let patient = client.deadline(Duration::from_secs(300));
    /// # }
    /// ```
    pub fn deadline(&self, deadline: Duration) -> Self {
        Self { inner: self.inner.clone(), deadline: RpcClientBuilder::limited(deadline) }
    }

    /// Returns what the client has counted.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(client: actix_pika::rpc::RpcClient) {
    /// println!("{} calls in flight", client.counters().pending);
    /// # }
    /// ```
    pub fn counters(&self) -> RpcCounters {
        let (pending, late) = self.inner.shared.with_calls(|calls| (calls.pending(), calls.late()));
        let Counted { replies, unexpected } = *self.inner.shared.counted();
        RpcCounters { pending, replies, late, unexpected }
    }

    /// Closes the client and its channel. Its calls end with [`RpcError::Closed`]; their servers are not told. Closing a
    /// client twice does no harm.
    ///
    /// **Over a reconnect**: it stays closed.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(client: actix_pika::rpc::RpcClient) {
    /// client.close().await;
    /// # }
    /// ```
    pub async fn close(&self) {
        self.inner.shared.close(closed_here());
        self.inner.shared.stop.notify_one();
        let mut ended = self.inner.ended.clone();
        // An error, when the reader has ended.
        while ended.changed().await.is_ok() {}
    }

    /// Returns whether the client is closed, by [`close`](Self::close) or with its channel.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(client: actix_pika::rpc::RpcClient) {
    /// if client.is_closed() {
    ///     println!("make another one");
    /// }
    /// # }
    /// ```
    pub fn is_closed(&self) -> bool {
        self.inner.shared.cause().is_some()
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.inner.channel
    }
}

/// The application has closed the client.
pub(super) fn closed_here() -> Error {
    actix_pika_actors::facade::stopped("the client was closed by the application")
}

impl Shared {
    pub(super) fn new(
        calls: Calls<oneshot::Sender<Signal>>,
        reply_to: Box<str>,
        is_durable: bool,
        prefix: Box<str>,
    ) -> Self {
        let (calls, stop) = (Mutex::new(calls), Notify::new());
        Self {
            reply_to,
            is_durable,
            prefix,
            stop,
            calls,
            counters: Default::default(),
            closed: Default::default(),
        }
    }

    pub(super) fn with_calls<T>(&self, f: impl FnOnce(&mut Calls<oneshot::Sender<Signal>>) -> T) -> T {
        f(&mut lock(&self.calls))
    }

    pub(super) fn counted(&self) -> MutexGuard<'_, Counted> {
        lock(&self.counters)
    }

    /// Ends all calls, and takes no more. The first cause counts.
    pub(super) fn close(&self, cause: Error) {
        lock(&self.closed).get_or_insert(cause);
        let calls = self.with_calls(Calls::close);
        drop(calls); // each call sees that its sender is gone
    }

    /// Returns why the client is closed.
    pub(super) fn cause(&self) -> Option<Error> {
        lock(&self.closed).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcClient")
            .field("channel", &self.inner.channel.number())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}
