//! The server: takes requests, and replies.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_pika_actors::facade;

use crate::{
    Channel, ConsumerEnd, ErrorKind, Result,
    message::DeleteQueue,
    tasks::{DrainReport, TaskConsumer},
};

/// Handle of a server of one method ([`Rpc::serve`](super::Rpc::serve)).
///
/// Dropping it does not stop the server. Clones are the same server. It runs on the arbiter where it was made, and ends with
/// that, with its channel, or with its actor.
///
/// **Over a reconnect**: it continues; see [what becomes of a call](super#what-becomes-of-a-call).
///
/// # Examples
/// ```no_run
/// # use actix_pika::{Channel, rpc::{Answer, Rpc, RpcRequest}};
/// # #[derive(actix::Message, serde::Serialize, serde::Deserialize)]
/// # #[rtype(result = "Answer<i64>")]
/// # struct Add { a: i64, b: i64 }
/// # impl RpcRequest for Add { type Reply = i64; const NAME: &'static str = "add"; }
/// # async fn run(channel: Channel) -> actix_pika::Result<()> {
/// let server = Rpc::serve_fn(&channel, |add: Add| async move { Ok(add.a + add.b) }).await?;
/// // ... until the method is served no more:
/// server.unregister().await
/// # }
/// ```
#[derive(Clone)]
pub struct RpcServer {
    inner: Arc<Claim>,
    consumer: TaskConsumer,
}

/// The queue that a server has to itself on its channel.
pub(super) struct Claim {
    channel: Channel,
    queue: String,
    /// Whether the queue belongs to the method, and is deleted with it.
    owned: bool,
    /// Another server may have the queue since.
    released: AtomicBool,
}

impl Claim {
    /// Takes a queue.
    ///
    /// # Errors
    /// `Refused`, if a server of this channel has it.
    pub(super) fn new(channel: &Channel, queue: &str, owned: bool) -> Result<Self> {
        if !channel.claim_service(queue) {
            return Err(facade::queue_refused("the channel serves this method already", queue));
        }
        Ok(Self {
            channel: channel.clone(),
            queue: queue.to_owned(),
            owned,
            released: AtomicBool::new(false),
        })
    }

    fn release(&self) {
        if !self.released.swap(true, Ordering::AcqRel) {
            self.channel.release_service(&self.queue);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
    }
}

impl RpcServer {
    /// The claim lasts until the consumer has ended, whether or not the handle is kept.
    pub(super) fn new(claim: Claim, consumer: TaskConsumer) -> Self {
        let inner = Arc::new(claim);
        let (claim, ended) = (inner.clone(), consumer.clone());
        actix_rt::spawn(async move {
            ended.ended().await;
            claim.release();
        });
        Self { inner, consumer }
    }

    pub(crate) fn consumer(&self) -> &TaskConsumer {
        &self.consumer
    }

    /// Returns the queue that requests are taken from.
    ///
    /// # Examples
    /// ```no_run
    /// # fn print(server: actix_pika::rpc::RpcServer) {
    /// println!("requests are taken from {}", server.queue());
    /// # }
    /// ```
    pub fn queue(&self) -> &str {
        &self.inner.queue
    }

    /// Takes the method back: no more requests are begun, and the queue is deleted unless other servers take requests from
    /// it (`queue.delete` with `if-unused`). Handlers that run still reply.
    ///
    /// Later calls are unroutable then. Requests that wait in the queue are deleted with it: their calls time out. A queue
    /// that was not made by [`Rpc::serve`](super::Rpc::serve) stays. Unregistering twice does no harm.
    ///
    /// # Errors
    /// Those of [`Connection::channel`](crate::Connection::channel) and of a call on it.
    ///
    /// **Over a reconnect**: it stays unregistered.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(server: actix_pika::rpc::RpcServer) -> actix_pika::Result<()> {
    /// server.unregister().await?;
    /// server.unregister().await
    /// # }
    /// ```
    pub async fn unregister(&self) -> Result<()> {
        self.consumer.stop().await;
        self.inner.release();
        let Claim { channel, queue, owned, .. } = &*self.inner;
        if !owned || channel.connection().is_closed() {
            return Ok(());
        }
        // A refusal closes the channel, which is none that others use.
        let own = channel.connection().channel().await?;
        let deleted = own.delete_queue(DeleteQueue::new(queue.as_str()).if_unused(true)).await;
        match deleted {
            Err(error) if error.kind() == ErrorKind::Refused => Ok(()),
            Err(error) => Err(error),
            Ok(_) => own.close().await,
        }
    }

    /// Stops taking requests, and waits up to `limit` for those that have begun. The queue stays: another process takes
    /// what comes. For restarts.
    ///
    /// **Over a reconnect**: it stays drained.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(server: actix_pika::rpc::RpcServer) {
    /// let report = server.drain(std::time::Duration::from_secs(20)).await;
    /// println!("{} requests were cut off", report.abandoned);
    /// # }
    /// ```
    pub async fn drain(&self, limit: Duration) -> DrainReport {
        let report = self.consumer.drain(limit).await;
        self.inner.release();
        report
    }

    /// Waits until the server has ended, and returns why.
    ///
    /// **Over a reconnect**: a reconnect does not end it.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(server: actix_pika::rpc::RpcServer) {
    /// println!("the server has ended: {:?}", server.ended().await);
    /// # }
    /// ```
    pub async fn ended(&self) -> ConsumerEnd {
        self.consumer.ended().await
    }
}

impl fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcServer").field("queue", &self.queue()).field("consumer", &self.consumer).finish()
    }
}
