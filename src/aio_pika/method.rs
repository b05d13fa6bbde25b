//! Methods that are served.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::FutureExt;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    JsonRpc,
    json_rpc::{DEAD_LETTERS, Inner},
    wire::{self, ERROR, RESULT},
};
use crate::{
    DeclareQueue, Error, Publishing, Result,
    caught::caught,
    codec::Raw,
    hook::PublishKind,
    message::{Content, DeliveryMode},
    rpc::RemoteError,
    tasks::{Done, DrainReport, Failure, Task, TaskConsumer},
};

/// Builds the server of a method ([`JsonRpc::method`]).
///
/// # Examples
/// ```no_run
/// # async fn run(rpc: actix_pika::aio_pika::JsonRpc) -> actix_pika::Result<()> {
/// #[derive(serde::Deserialize)]
/// struct Factors { x: i64, y: i64 }
///
/// let multiply = rpc.method("multiply").at_once(4).queue(|queue| queue.durable(true));
/// multiply.serve(|f: Factors| async move { Ok(f.x * f.y) }).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it serves"]
pub struct MethodBuilder {
    rpc: JsonRpc,
    key: String,
    at_once: usize,
    queue: DeclareQueue,
}

impl MethodBuilder {
    pub(super) fn new(rpc: &JsonRpc, method: &str) -> Self {
        let key = rpc.inner.key(method);
        let queue = DeclareQueue::new(&*key)
            .durable(!rpc.inner.has_transient_queues())
            .dead_letter_exchange(DEAD_LETTERS);
        Self { rpc: rpc.clone(), key, at_once: 16, queue }
    }

    /// Sets how many calls are handled side by side; 16 unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(rpc: actix_pika::aio_pika::JsonRpc) {
    /// let one_by_one = rpc.method("multiply").at_once(1);
    /// # }
    /// ```
    pub fn at_once(mut self, calls: usize) -> Self {
        self.at_once = calls;
        self
    }

    /// Changes the declaration of the method's queue, as the further arguments of aio-pika's `register` do. All servers of
    /// a method must declare it alike.
    ///
    /// Unless changed it is that of aio-pika's `register(name, function)`: not durable, not exclusive, not
    /// auto-delete, with the dead-letter exchange `rpc.dlx`. Where the broker takes no such queue (RabbitMQ 4.3), it
    /// is durable, which aio-pika needs `durable=True` for.
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(rpc: actix_pika::aio_pika::JsonRpc) {
    /// let passing = rpc.method("multiply").queue(|queue| queue.auto_delete(true));
    /// # }
    /// ```
    pub fn queue(mut self, change: impl FnOnce(DeclareQueue) -> DeclareQueue) -> Self {
        self.queue = change(self.queue);
        self
    }

    /// Declares the queue of the method and serves the calls that come to it, on the arbiter of the caller.
    ///
    /// | the handler | the caller gets | the call |
    /// |---|---|---|
    /// | returns `Ok` | the result | is acknowledged when the broker has the reply |
    /// | returns a [`RemoteError`], which `?` makes of every error | an exception: `type` is its code, `message` its text, `args` its data, or else its text | the same |
    /// | panics | the same, with type `panic` | the same |
    /// | is not asked, because the arguments are not those of the method | the same, with type `undecodable` | the same |
    ///
    /// A reply that cannot be sent rejects the call, which returns to its client as a dead letter. A call without a reply
    /// queue is handled, and its result is dropped.
    ///
    /// # Errors
    /// `Refused` without a code if the method is served already by this [`JsonRpc`], or there is no arbiter. Those of
    /// [`Channel::declare_queue`](crate::Channel::declare_queue), such as 406 if another server has declared the queue in
    /// another way, and of [`Tasks::for_each`](crate::tasks::Tasks::for_each).
    ///
    /// **Over a reconnect**: the method is served on. A call whose handler was running is delivered again; see
    /// [`Tasks`](crate::tasks::Tasks).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(rpc: actix_pika::aio_pika::JsonRpc) -> actix_pika::Result<()> {
    /// use std::collections::HashMap;
    /// use actix_pika::rpc::RemoteError;
    ///
    /// let stock = rpc.method("stock").serve(|args: HashMap<String, String>| async move {
    ///     let article = args.get("article").ok_or_else(|| RemoteError::new("KeyError", "article"))?;
    ///     Ok(article.parse::<u32>()?)
    /// });
    /// let stock = stock.await?;
    /// stock.unregister().await;
    /// # Ok(()) }
    /// ```
    pub async fn serve<P, R, F, Fut>(self, handler: F) -> Result<Registration>
    where
        P: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: FnMut(P) -> Fut + 'static,
        Fut: Future<Output = Result<R, RemoteError>> + 'static,
    {
        let claim = Claim::new(&self.rpc.inner, self.key)?;
        let queue = self.rpc.inner.exchange.channel().declare_queue(self.queue).await?;
        if !self.rpc.inner.exchange.name().is_empty() {
            queue.bind(self.rpc.inner.exchange.name(), &claim.key).await?;
        }
        let inner = self.rpc.inner.clone();
        let mut server = Server { inner: inner.clone(), handler, arguments: PhantomData };
        let tasks = queue.tasks::<Bytes>().codec(Raw).at_once(self.at_once);
        let consumer = tasks.for_each(move |call| server.handle(call)).await?;
        Ok(Registration { consumer, key: claim.keep(), inner })
    }
}

/// A method that is served by this process.
///
/// Dropping it serves the method on, until the channel closes.
///
/// # Examples
/// ```no_run
/// # async fn run(rpc: actix_pika::aio_pika::JsonRpc) -> actix_pika::Result<()> {
/// use actix_pika::aio_pika::Registration;
///
/// let ping: Registration = rpc.register("ping", |(): ()| async { Ok("pong") }).await?;
/// ping.unregister().await;
/// # Ok(()) }
/// ```
pub struct Registration {
    consumer: TaskConsumer,
    key: String,
    inner: Arc<Inner>,
}

/// The key of a method that is about to be served. Dropping it makes the key free again.
struct Claim {
    key: String,
    inner: Option<Arc<Inner>>,
}

impl Claim {
    fn new(inner: &Arc<Inner>, key: String) -> Result<Self> {
        inner.add_method(&key)?;
        Ok(Self { key, inner: Some(inner.clone()) })
    }

    /// Returns the key, which stays taken.
    fn keep(mut self) -> String {
        self.inner = None;
        std::mem::take(&mut self.key)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(inner) = &self.inner {
            inner.remove_method(&self.key);
        }
    }
}

impl Registration {
    /// Stops serving the method (`basic.cancel`), and waits up to 30 seconds for calls that are being handled. Its queue
    /// stays, unless it is auto-delete: calls that no other server takes wait there until they expire.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(ping: actix_pika::aio_pika::Registration) {
    /// ping.unregister().await;
    /// # }
    /// ```
    pub async fn unregister(self) -> DrainReport {
        let report = self.consumer.drain(Duration::from_secs(30)).await;
        self.inner.remove_method(&self.key);
        report
    }

    /// Returns the consumer of the calls.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(ping: actix_pika::aio_pika::Registration) {
    /// println!("{:?}", ping.consumer().ended().await);
    /// # }
    /// ```
    pub fn consumer(&self) -> &TaskConsumer {
        &self.consumer
    }
}

struct Server<P, F> {
    inner: Arc<Inner>,
    handler: F,
    arguments: PhantomData<fn(P)>,
}

impl<P: DeserializeOwned, F> Server<P, F> {
    /// Handles a call, and sends its reply.
    fn handle<R, Fut>(&mut self, call: Task<Bytes>) -> impl Future<Output = Done> + use<P, F, R, Fut>
    where
        R: Serialize,
        F: FnMut(P) -> Fut,
        Fut: Future<Output = Result<R, RemoteError>>,
    {
        let (_, content, token) = call.into_parts();
        let handler = &mut self.handler;
        let arguments = caught(|| wire::read_arguments(&content));
        let started = match arguments.unwrap_or_else(|| Err(Error::codec("the decoder has panicked"))) {
            Ok(arguments) => catch_unwind(AssertUnwindSafe(|| handler(arguments))).map_err(|_| panicked()),
            Err(error) => Err(RemoteError::new("undecodable", error.to_string())),
        };
        let inner = self.inner.clone();
        async move {
            let outcome = match started {
                Ok(run) => AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| Err(panicked())),
                Err(error) => Err(error),
            };
            let done = inner.reply(&content, outcome).await;
            drop(token);
            done
        }
    }
}

fn panicked() -> RemoteError {
    RemoteError::new("panic", "the handler has panicked")
}

impl Inner {
    /// Sends the reply of a call.
    async fn reply<R: Serialize>(&self, call: &Content, outcome: Result<R, RemoteError>) -> Done {
        let Some(reply_to) = call.properties()?.reply_to() else {
            log::info!("json rpc: a call of {} has no reply queue, and its result is dropped", call.queue());
            return Ok(());
        };
        let encoded = outcome.and_then(|value| {
            let encoded = caught(|| wire::result(self.format, &value));
            caught(|| drop(value));
            encoded
                .unwrap_or_else(|| Err(Error::codec("the encoder has panicked")))
                .map_err(|error| RemoteError::new("unserialisable", error.to_string()))
        });
        let (kind, body) = match encoded {
            Ok(body) => (RESULT, body),
            Err(error) => (ERROR, wire::error(self.format, &error)?),
        };
        let mut reply = Publishing::new(body)
            .content_type(self.format.content_type())
            .message_type(kind)
            .timestamp(SystemTime::now())
            .persistent(call.properties()?.delivery_mode() == Some(DeliveryMode::Persistent))
            // The client may have gone.
            .mandatory(false);
        if let Some(id) = call.properties()?.correlation_id_bytes() {
            reply = reply.correlation_id_bytes(id);
        }
        let exchange = self.exchange.channel().default_exchange();
        let sent = exchange.publish_hooked(PublishKind::Reply, reply, reply_to).await;
        sent.map(drop).map_err(Failure::reject)
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("key", &self.key).field("consumer", &self.consumer).finish()
    }
}
