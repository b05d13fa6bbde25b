//! A client and server of JsonRPC: its queues, its replies, and its calls.

use std::{
    collections::HashSet,
    fmt,
    future::ready,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_pika_actors::facade;
use bytes::Bytes;
use futures_util::future::{Either, select};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Notify, watch};

use super::{
    JsonRpcBuilder, MethodBuilder, Registration,
    call::{self, Request},
    options::CallOptions,
    replies::Replies,
    wire::{self, FROM, Format},
};
use crate::{
    Channel, ConsumerEnd, DeclareExchange, DeclareQueue, Exchange, Queue, Result,
    codec::Raw,
    events::Permission,
    message::{BindQueue, DeleteQueue},
    rpc::{RemoteError, RpcError, random_id},
    runtime,
    tasks::{ClosureFront, Task},
};

/// The exchange that returns calls which nobody has taken to their clients.
pub(super) const DEAD_LETTERS: &str = "rpc.dlx";

/// How many replies are read before they reach their calls.
const REPLY_PREFETCH: u16 = 250;

/// How long a reply queue stays without its client.
const REPLY_QUEUE_EXPIRES: Duration = Duration::from_secs(600);

/// aio-pika's `JsonRPC`: calls methods that Python or Rust serves, and serves methods. Clones share it.
///
/// Awaiting [`new`](Self::new) declares the exchange of dead letters and a reply queue, and consumes from it. Every call
/// has a deadline, and always ends. It ends with its last clone and its last [`Registration`], or by
/// [`close`](Self::close).
///
/// **Over a reconnect**: calls that were sent wait on, and their replies come to the same queue. The methods are served on.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> Result<(), Box<dyn std::error::Error>> {
/// use actix_pika::aio_pika::JsonRpc;
///
/// let rpc = JsonRpc::new(&channel).await?;
/// let product: i64 = rpc.call("multiply", &serde_json::json!({"x": 2, "y": 3})).await?;
/// assert_eq!(product, 6);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct JsonRpc {
    pub(super) inner: Arc<Inner>,
    options: CallOptions,
}

pub(super) struct Inner {
    pub(super) exchange: Exchange,
    pub(super) format: Format,
    replies: Arc<Replies>,
    /// Tells the reader of the replies to end.
    stop: Arc<Notify>,
    /// The keys of the methods that are served here.
    methods: Mutex<HashSet<String>>,
    /// Closed when the reader has ended.
    ended: watch::Receiver<()>,
}

impl JsonRpc {
    /// Returns a builder of a client and server on this channel. Awaiting it declares what aio-pika's `RPC.create`
    /// declares, and consumes replies.
    ///
    /// # Errors
    /// Those of [`Channel::declare_exchange`], [`Channel::declare_queue`], [`Queue::bind_with`] and
    /// [`Consume`](crate::Consume). `Stopped` if there is neither a `System` nor a runtime.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::aio_pika::JsonRpc;
    ///
    /// let rpc = JsonRpc::new(&channel).await?;
    /// # Ok(()) }
    /// ```
    #[allow(clippy::new_ret_no_self, reason = "the builder becomes one when it is awaited")]
    pub fn new(channel: &Channel) -> JsonRpcBuilder {
        JsonRpcBuilder::new(channel)
    }

    pub(super) async fn open(builder: JsonRpcBuilder) -> Result<Self> {
        let JsonRpcBuilder { channel, exchange, durable, format, prefix, call } = builder;
        let prefix = prefix.unwrap_or_else(random_id);
        let exchange = match &*exchange {
            "" => channel.default_exchange(),
            name => {
                let declare = DeclareExchange::direct(name).durable(durable).auto_delete(true);
                channel.declare_exchange(declare).await?
            }
        };
        let queue = reply_queue(&channel).await?;
        let replies = Arc::new(Replies::new(queue.name().to_owned(), prefix));
        let taken = replies.clone();
        let tasks = queue.tasks::<Bytes>().codec(Raw).prefetch(REPLY_PREFETCH);
        let front = ClosureFront(move |reply: Task<Bytes>| {
            taken.take(reply.into_parts().1);
            ready(Ok(()))
        });
        let (consumer, _) = tasks.start(front).await?;
        let (stop, (running, ended)) = (Arc::new(Notify::new()), watch::channel(()));
        runtime::spawn(read(replies.clone(), queue, consumer, stop.clone(), running))?;
        let inner = Inner { exchange, format, replies, stop, methods: Default::default(), ended };
        Ok(Self { inner: Arc::new(inner), options: call })
    }

    /// Calls a method with named arguments, and returns its result.
    ///
    /// `arguments` is what serialises to a JSON object: a struct, a map, `serde_json::json!({..})`; or `()`. Publishes with
    /// `mandatory`, so that a method that no server has ever registered fails at once. Dropping the future ends the
    /// call; its reply is dropped when it comes.
    ///
    /// # Errors
    ///
    /// | | |
    /// |---|---|
    /// | [`Unroutable`](RpcError::Unroutable) | the method has no queue: aio-pika's `MessageProcessError` |
    /// | [`Timeout`](RpcError::Timeout) | no reply within the deadline; `may_have_run` is false if no server has taken the call, which came back as a dead letter: aio-pika's `TimeoutError` |
    /// | [`Remote`](RpcError::Remote) | the method has raised an exception: its class is the code, its `repr` the text, its arguments the data: aio-pika's `JsonRPCError` |
    /// | [`Lost`](RpcError::Lost) | the server has rejected the call; or the connection was lost before the broker had confirmed it, and no reply came within the deadline |
    /// | [`Refused`](RpcError::Refused) | the queue of the method is full, or the broker refuses the call |
    /// | [`Codec`](RpcError::Codec) | the arguments are no object, or the result is not an `R` |
    /// | [`Closed`](RpcError::Closed) | the client or its channel is closed |
    ///
    /// **Over a reconnect**: a call that was sent waits on for its reply. One that is made meanwhile is sent afterwards, within
    /// its deadline.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(rpc: actix_pika::aio_pika::JsonRpc) -> Result<(), Box<dyn std::error::Error>> {
    /// use actix_pika::rpc::RpcError;
    ///
    /// #[derive(serde::Serialize)]
    /// struct Factors { x: i64, y: i64 }
    ///
    /// match rpc.call::<i64>("multiply", &Factors { x: 2, y: 3 }).await {
    ///     Err(RpcError::Remote(error)) => println!("{} was raised: {}", error.code(), error.text()),
    ///     product => println!("{}", product?),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn call<R: DeserializeOwned>(
        &self,
        method: &str,
        arguments: &impl Serialize,
    ) -> Result<R, RpcError> {
        let Inner { exchange, format, replies, .. } = &*self.inner;
        let body = wire::arguments(*format, arguments);
        let body = body.map_err(|cause| RpcError::Codec { may_have_run: false, cause })?;
        let key = self.inner.key(method);
        let request = Request { exchange, key: &key, body, format: *format, options: self.options };
        let result = call::call(replies, request).await?;
        wire::read_result(&result).map_err(|cause| RpcError::Codec { may_have_run: true, cause })
    }

    /// Returns a handle of the same client whose calls have another deadline.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn run(rpc: actix_pika::aio_pika::JsonRpc) {
    /// let patient = rpc.deadline(Duration::from_secs(300));
    /// # }
    /// ```
    pub fn deadline(&self, deadline: Duration) -> Self {
        Self { inner: self.inner.clone(), options: self.options.deadline(deadline) }
    }

    /// Serves a method: [`method(name).serve(handler)`](MethodBuilder::serve).
    ///
    /// # Errors
    /// Those of [`MethodBuilder::serve`].
    ///
    /// **Over a reconnect**: see [`MethodBuilder::serve`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(rpc: actix_pika::aio_pika::JsonRpc) -> actix_pika::Result<()> {
    /// #[derive(serde::Deserialize)]
    /// struct Factors { x: i64, y: i64 }
    ///
    /// rpc.register("multiply", |f: Factors| async move { Ok(f.x * f.y) }).await?;
    /// # Ok(()) }
    /// ```
    pub async fn register<P, R, F, Fut>(&self, method: &str, handler: F) -> Result<Registration>
    where
        P: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: FnMut(P) -> Fut + 'static,
        Fut: Future<Output = Result<R, RemoteError>> + 'static,
    {
        self.method(method).serve(handler).await
    }

    /// Returns a builder of the server of a method.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(rpc: actix_pika::aio_pika::JsonRpc) -> actix_pika::Result<()> {
    /// rpc.method("ping").at_once(1).serve(|(): ()| async { Ok("pong") }).await?;
    /// # Ok(()) }
    /// ```
    pub fn method(&self, name: &str) -> MethodBuilder {
        MethodBuilder::new(self, name)
    }

    /// Returns how many calls await their reply.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(rpc: actix_pika::aio_pika::JsonRpc) {
    /// println!("{} calls in flight", rpc.pending());
    /// # }
    /// ```
    pub fn pending(&self) -> usize {
        self.inner.replies.pending()
    }

    /// Ends the client: its calls end with [`RpcError::Closed`], and its reply queue is deleted. The channel stays open, and
    /// methods are served on until they are [unregistered](Registration::unregister). Closing it twice does no harm.
    ///
    /// **Over a reconnect**: it stays closed.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(rpc: actix_pika::aio_pika::JsonRpc) {
    /// rpc.close().await;
    /// # }
    /// ```
    pub async fn close(&self) {
        self.inner.replies.close(super::closed_here());
        self.inner.stop.notify_one();
        let mut ended = self.inner.ended.clone();
        // An error, when the reader has ended.
        while ended.changed().await.is_ok() {}
    }

    /// Returns whether the client is closed, by [`close`](Self::close) or with its channel.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(rpc: actix_pika::aio_pika::JsonRpc) {
    /// assert!(!rpc.is_closed());
    /// # }
    /// ```
    pub fn is_closed(&self) -> bool {
        self.inner.replies.is_closed()
    }
}

/// Declares a reply queue that the exchange of dead letters finds by its name.
///
/// aio-pika's is named by the broker, and auto-delete. This one outlives a reconnect, with the replies that come meanwhile.
async fn reply_queue(channel: &Channel) -> Result<Queue> {
    let name = format!("rpc.reply.{}", random_id());
    let queue = channel.declare_queue(DeclareQueue::new(name).expires(REPLY_QUEUE_EXPIRES)).await?;
    let dead_letters = DeclareExchange::headers(DEAD_LETTERS).durable(false).auto_delete(true);
    channel.declare_exchange(dead_letters).await?;
    let bind = BindQueue::new(queue.name(), DEAD_LETTERS, "");
    queue.bind_with(bind.argument(FROM, queue.name()).argument("x-match", "any")).await?;
    Ok(queue)
}

/// Reads replies until the client is closed or dropped, or the channel ends.
async fn read(
    replies: Arc<Replies>,
    queue: Queue,
    consumer: impl Future<Output = ConsumerEnd>,
    stop: Arc<Notify>,
    _running: watch::Sender<()>,
) {
    // The arbiter may end before the client.
    let closing = Closing(&replies);
    let cause = {
        let (stopped, consumer) = (pin!(stop.notified()), pin!(consumer));
        match select(stopped, consumer).await {
            Either::Right((ConsumerEnd::Closed(cause), _)) => cause,
            Either::Right(_) => facade::stopped("the consumer of the replies has ended"),
            Either::Left(_) => super::closed_here(),
        }
    };
    replies.close(cause);
    drop(closing);
    // Otherwise it expires.
    queue.channel().delete_queue(DeleteQueue::new(queue.name())).await.ok();
}

struct Closing<'a>(&'a Replies);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close(facade::stopped("the arbiter of the client has ended"));
    }
}

impl Inner {
    /// Returns the routing key of a method, which is the name of its queue too.
    pub(super) fn key(&self, method: &str) -> String {
        match self.exchange.name() {
            "" => method.to_owned(),
            exchange => format!("{exchange}::{method}"),
        }
    }

    /// Returns whether the broker takes the queues that aio-pika declares unless told otherwise.
    pub(super) fn has_transient_queues(&self) -> bool {
        let rules = self.exchange.channel().connection().rules();
        rules.is_none_or(|rules| rules.transient_queues != Permission::IfPermitted)
    }

    pub(super) fn add_method(&self, key: &str) -> Result<()> {
        if self.methods().insert(key.to_owned()) {
            Ok(())
        } else {
            Err(facade::queue_refused("the method is served already", key))
        }
    }

    pub(super) fn remove_method(&self, key: &str) {
        self.methods().remove(key);
    }

    fn methods(&self) -> MutexGuard<'_, HashSet<String>> {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

impl fmt::Debug for JsonRpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonRpc")
            .field("exchange", &self.inner.exchange.name())
            .field("reply_queue", &self.inner.replies.queue)
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
