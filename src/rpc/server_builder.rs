//! How a server is made.

use std::{
    cell::OnceCell,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use actix::Message;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    RpcRequest, RpcServer,
    handler::Handler,
    request::queue_of,
    server::Claim,
    service::{Encoded, Service},
    wire,
};
use crate::{Channel, Consume, DeclareQueue, Queue, Result, codec::Raw, message::Content, tasks::Task};

/// How long the queue of a method stays without a server.
const QUEUE_EXPIRES: Duration = Duration::from_secs(600);

/// Options of a server of the method `M`. It starts when it is awaited.
///
/// # Examples
/// ```no_run
/// # use actix_pika::{Channel, rpc::{Answer, Rpc, RpcRequest}};
/// # #[derive(actix::Message, serde::Serialize, serde::Deserialize)]
/// # #[rtype(result = "Answer<i64>")]
/// # struct Add { a: i64, b: i64 }
/// # impl RpcRequest for Add { type Reply = i64; const NAME: &'static str = "add"; }
/// # async fn run(channel: Channel, calculator: actix::Recipient<Add>) -> actix_pika::Result<()> {
/// let server = Rpc::serve::<Add>(&channel, calculator).exchange("services").at_once(64).await?;
/// # Ok(()) }
/// ```
#[must_use = "a server starts when it is awaited"]
pub struct RpcServerBuilder<M: Message> {
    channel: Channel,
    handler: Handler<M>,
    decode: fn(&Content) -> Result<M>,
    encode: fn(M::Result) -> Encoded,
    source: Source,
    at_once: usize,
}

/// Where requests come from.
enum Source {
    /// The queue of a method, which the server declares.
    Method { name: &'static str, exchange: String },
    /// A queue with another name, which the server declares.
    Named(String),
    /// A queue of the application.
    Queue(Queue),
}

impl<M: Message + 'static> RpcServerBuilder<M> {
    pub(super) fn of_method(channel: &Channel, handler: Handler<M>) -> Self
    where
        M: RpcRequest,
    {
        let encode = |answer: M::Result| match answer {
            Ok(reply) => Encoded::result(&reply),
            Err(error) => Encoded::error(&error),
        };
        let source = Source::Method { name: M::NAME, exchange: String::new() };
        Self { channel: channel.clone(), handler, decode: wire::decode, encode, source, at_once: 16 }
    }

    pub(super) fn of_queue(queue: &Queue, handler: Handler<M>) -> Self
    where
        M: DeserializeOwned,
        M::Result: Serialize,
    {
        let (channel, source) = (queue.channel().clone(), Source::Queue(queue.clone()));
        let encode = |result: M::Result| Encoded::result(&result);
        Self { channel, handler, decode: wire::decode, encode, source, at_once: 16 }
    }

    /// Sets the exchange to whose requests the method belongs; the default exchange unless set. It must exist. The queue is
    /// `rpc.EXCHANGE.NAME` then, bound with the name of the method.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::rpc::{RpcRequest, RpcServerBuilder};
    /// # fn options<M: RpcRequest>(server: RpcServerBuilder<M>) {
    /// let server = server.exchange("services");
    /// # }
    /// ```
    pub fn exchange(mut self, exchange: impl Into<String>) -> Self {
        if let Source::Method { exchange: of_method, .. } = &mut self.source {
            *of_method = exchange.into();
        }
        self
    }

    /// Sets the name of the queue, for [`RpcClient::send_to`](super::RpcClient::send_to); `rpc.NAME` unless set. It is not
    /// bound to an exchange then.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::rpc::{RpcRequest, RpcServerBuilder};
    /// # fn options<M: RpcRequest>(server: RpcServerBuilder<M>) {
    /// let server = server.queue("calculator.west");
    /// # }
    /// ```
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.source = Source::Named(name.into());
        self
    }

    /// Sets how many requests run side by side; 16 unless set, and at least 1. Twice as many are prefetched.
    ///
    /// An actor that answers at once, and not by a future, runs one at a time nevertheless.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::rpc::{RpcRequest, RpcServerBuilder};
    /// # fn options<M: RpcRequest>(server: RpcServerBuilder<M>) {
    /// let server = server.at_once(1);
    /// # }
    /// ```
    pub fn at_once(mut self, requests: usize) -> Self {
        self.at_once = requests.max(1);
        self
    }

    async fn start(self) -> Result<RpcServer> {
        let (queue, claim) = claim(&self.channel, &self.source).await?;
        let service = Rc::new(Service {
            name: queue.name().into(),
            channel: self.channel,
            handler: self.handler,
            decode: self.decode,
            encode: self.encode,
            state: Default::default(),
            consumer: OnceCell::new(),
        });
        let serving = service.clone();
        let tasks = queue.tasks::<Bytes>().codec(Raw).at_once(self.at_once).consume(Consume::new());
        let consumer = tasks.for_each(move |request: Task<Bytes>| serving.clone().serve(request)).await?;
        service.consumer.set(consumer.clone()).ok();
        Ok(RpcServer::new(claim, consumer))
    }
}

/// Takes the queue of a server, and declares it if it is not one of the application.
async fn claim(channel: &Channel, source: &Source) -> Result<(Queue, Claim)> {
    let (name, exchange, key) = match source {
        Source::Queue(queue) => return Ok((queue.clone(), Claim::new(channel, queue.name(), false)?)),
        Source::Named(name) => (name.clone(), "", ""),
        Source::Method { name, exchange } => (queue_of(exchange, name), &**exchange, *name),
    };
    let claim = Claim::new(channel, &name, true)?;
    let queue = channel.declare_queue(DeclareQueue::new(name).expires(QUEUE_EXPIRES)).await?;
    if !exchange.is_empty() {
        queue.bind(exchange, key).await?;
    }
    Ok((queue, claim))
}

impl<M: Message + 'static> IntoFuture for RpcServerBuilder<M> {
    type Output = Result<RpcServer>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl<M: Message> fmt::Debug for RpcServerBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcServerBuilder")
            .field("channel", &self.channel)
            .field("at_once", &self.at_once)
            .finish_non_exhaustive()
    }
}
