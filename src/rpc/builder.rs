//! How a client is made.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use actix_pika_actors::facade::LogSchedule;
use tokio::sync::watch;

use super::{
    RpcClient,
    calls::{Calls, ReplyLifetime},
    client::Shared,
    random_id,
    replies::Reader,
    wire::DIRECT,
};
use crate::{Channel, Connection, Consume, DeclareQueue, Result, runtime};

/// How long a reply queue stays when its client is gone.
const REPLY_QUEUE_EXPIRES: Duration = Duration::from_secs(600);

/// Selects where the replies of a client come; see [`RpcClientBuilder::replies`].
///
/// # Examples
/// ```
/// use actix_pika::rpc::Replies;
///
/// assert_eq!(Replies::default(), Replies::Direct);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replies {
    /// Directly to the channel of the client (`amq.rabbitmq.reply-to`). Nothing is declared or stored, and it is fast.
    /// Replies are lost with the connection.
    #[default]
    Direct,
    /// To a queue of the client, `rpc.reply.ID`: durable, and deleted 10 minutes after the client has gone. Requests are
    /// persistent then, and so are the replies of the servers of this library.
    Queue,
}

/// Options of a client. It connects when it is awaited.
///
/// # Examples
/// ```no_run
/// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
/// use std::time::Duration;
/// use actix_pika::rpc::{Replies, Rpc};
///
/// let client = Rpc::client(&connection).replies(Replies::Queue).deadline(Duration::from_secs(5)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a client is made when it is awaited"]
pub struct RpcClientBuilder {
    connection: Connection,
    replies: Replies,
    deadline: Duration,
    exchange: String,
    prefix: Option<String>,
}

impl RpcClientBuilder {
    pub(super) fn new(connection: &Connection) -> Self {
        let (connection, deadline) = (connection.clone(), Duration::from_secs(30));
        Self { connection, replies: Replies::Direct, deadline, exchange: String::new(), prefix: None }
    }

    /// Expirations on the wire have 32 bits of milliseconds.
    pub(super) fn limited(deadline: Duration) -> Duration {
        deadline.clamp(Duration::from_millis(1), Duration::from_millis(u32::MAX.into()))
    }

    /// Sets where replies come; directly unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(connection: actix_pika::Connection) {
    /// # use actix_pika::rpc::{Replies, Rpc};
    /// let client = Rpc::client(&connection).replies(Replies::Queue);
    /// # }
    /// ```
    pub fn replies(mut self, replies: Replies) -> Self {
        self.replies = replies;
        self
    }

    /// Sets how long a call may take; 30 seconds unless set, at most 49 days. Requests expire with it.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(connection: actix_pika::Connection) {
    /// # use actix_pika::rpc::Rpc;
    /// let client = Rpc::client(&connection).deadline(std::time::Duration::from_secs(5));
    /// # }
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Self::limited(deadline);
        self
    }

    /// Sets the exchange that requests are published to, with the name of their method as routing key; the default exchange
    /// unless set. It must exist. Servers on it are apart from those on others.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(connection: actix_pika::Connection) {
    /// # use actix_pika::rpc::Rpc;
    /// let client = Rpc::client(&connection).exchange("services");
    /// # }
    /// ```
    pub fn exchange(mut self, name: impl Into<String>) -> Self {
        self.exchange = name.into();
        self
    }

    /// Sets how correlation ids begin, instead of with random digits: `myPrefix` leads to `myPrefix-1`, `myPrefix-2`. With
    /// [`Replies::Queue`] it also names the queue. No two clients may have the same.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(connection: actix_pika::Connection) {
    /// # use actix_pika::rpc::Rpc;
    /// let client = Rpc::client(&connection).correlation_prefix("billing-7");
    /// # }
    /// ```
    pub fn correlation_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    async fn open(self) -> Result<RpcClient> {
        let channel = self.connection.channel().await?;
        let prefix = self.prefix.unwrap_or_else(random_id).into_boxed_str();
        let exchange = match &*self.exchange {
            "" => channel.default_exchange(),
            // A missing one is found now, and not by the first call.
            name => channel.get_exchange(name).await?,
        };
        let (lifetime, queue) = match self.replies {
            Replies::Direct => (ReplyLifetime::Epoch, None),
            Replies::Queue => (ReplyLifetime::Queue, Some(declare_reply_queue(&channel, &prefix).await?)),
        };
        let reply_to = queue.clone().unwrap_or_else(|| DIRECT.to_owned());
        let consume = Consume::new().no_ack(queue.is_none());
        let events = channel.events();
        let replies = channel.queue(reply_to.clone()).deliveries_with(consume).await?;
        let calls = Calls::new(lifetime);
        let shared = Arc::new(Shared::new(calls, reply_to.into(), queue.is_some(), prefix));
        let (ended, has_ended) = watch::channel(());
        let log = LogSchedule::default();
        let reader = Reader { shared: shared.clone(), channel, replies, events, queue, log, ended };
        runtime::spawn(reader.run())?;
        Ok(RpcClient::new(shared, exchange, self.deadline, has_ended))
    }
}

async fn declare_reply_queue(channel: &Channel, prefix: &str) -> Result<String> {
    let queue = DeclareQueue::new(format!("rpc.reply.{prefix}")).expires(REPLY_QUEUE_EXPIRES);
    Ok(channel.declare_queue(queue).await?.name().to_owned())
}

impl IntoFuture for RpcClientBuilder {
    type Output = Result<RpcClient>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}
