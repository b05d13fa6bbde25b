//! A `Recipient` whose actor is across RabbitMQ.

use std::{
    fmt,
    marker::PhantomData,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use actix::{
    Actor, AsyncContext, Context, Handler, Message, Recipient,
    dev::{MessageResponse, OneshotSender},
    fut,
};
use actix_pika_actors::facade::LogSchedule;
use actix_rt::System;
use bytes::Bytes;
use futures_util::future::{Either, select};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{
    RpcClient, RpcError,
    wire::{self, JSON},
};
use crate::{Confirm, Publishing, Result, caught::caught};

/// Sends the messages `M` to an actor across RabbitMQ. [`recipient`](Self::recipient) returns a `Recipient<M>` that code
/// can use like that of any other actor.
///
/// [`Rpc::expose`](super::Rpc::expose) serves such messages from a queue; so does a server of a
/// [`RpcRequest`](super::RpcRequest), whose errors are inside of the [`Answer`](super::Answer).
///
/// | the code that sends | what happens | a failure |
/// |---|---|---|
/// | `recipient.send(m).await` | a call with the deadline of the client | `MailboxError::Closed`, logged and counted; `.timeout(d)` works |
/// | `recipient.do_send(m)` | a persistent, mandatory publish without a reply address | logged and counted |
/// | `recipient.try_send(m)` | the same | `SendError::Full` while the publish window and the mailbox are full |
/// | [`remote.send(m).await`](Self::send) | a call | a [`RpcError`] |
///
/// A message that is sent by `do_send` is stored by the broker; whether it is handled is not known. `send` and `do_send` of
/// actix never wait for room: who sends faster than the broker takes uses `try_send`.
///
/// **Over a reconnect**: a call ends as [its client has it](super#what-becomes-of-a-call), never by a second request.
/// Publishes wait in the publish window and are resent.
///
/// # Examples
/// ```no_run
/// use actix_pika::rpc::{RemoteRecipient, RpcClient};
///
/// #[derive(actix::Message, serde::Serialize, serde::Deserialize)]
/// #[rtype(result = "usize")]
/// struct CountWords(String);
///
/// async fn run(client: &RpcClient) -> Result<(), Box<dyn std::error::Error>> {
///     let remote = RemoteRecipient::<CountWords>::new(client, "words");
///     let counter: actix::Recipient<CountWords> = remote.recipient();
///     assert_eq!(counter.send(CountWords("one two".into())).await?, 2);
///     Ok(())
/// }
/// ```
pub struct RemoteRecipient<M> {
    remote: Arc<Remote>,
    messages: PhantomData<fn(M)>,
}

struct Remote {
    client: RpcClient,
    queue: String,
    failures: AtomicU64,
    log: Mutex<LogSchedule>,
}

impl<M> RemoteRecipient<M>
where
    M: Message + Serialize + Send + 'static,
    M::Result: DeserializeOwned + Send,
{
    /// Creates it for the actor that handles the messages of a queue.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::rpc::{RemoteRecipient, RpcClient};
    /// # #[derive(actix::Message, serde::Serialize)] #[rtype(result = "usize")] struct CountWords(String);
    /// # fn run(client: RpcClient) {
    /// let remote = RemoteRecipient::<CountWords>::new(&client, "words");
    /// # }
    /// ```
    pub fn new(client: &RpcClient, queue: impl Into<String>) -> Self {
        let (failures, log) = (AtomicU64::new(0), Mutex::default());
        let remote = Remote { client: client.clone(), queue: queue.into(), failures, log };
        Self { remote: Arc::new(remote), messages: PhantomData }
    }

    /// Starts an actor that passes messages on, on the first arbiter of the `System`, and returns its recipient. It ends with
    /// the last clone of that.
    ///
    /// # Panics
    /// Outside of a `System`, as every start of an actor.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::rpc::{RemoteRecipient, RpcClient};
    /// # #[derive(actix::Message, serde::Serialize)] #[rtype(result = "usize")] struct CountWords(String);
    /// # fn run(client: RpcClient) {
    /// let counter = RemoteRecipient::<CountWords>::new(&client, "words").recipient();
    /// counter.do_send(CountWords("one two".into()));
    /// # }
    /// ```
    pub fn recipient(&self) -> Recipient<M> {
        let remote = self.remote.clone();
        let arbiter = System::current().arbiter().clone();
        Messenger::start_in_arbiter(&arbiter, move |_| Messenger { remote, messages: PhantomData })
            .recipient()
    }

    /// Makes a call, and returns the result of the message.
    ///
    /// # Errors
    /// See [`RpcError`].
    ///
    /// **Over a reconnect**: see [what becomes of a call](super#what-becomes-of-a-call).
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::rpc::{RemoteRecipient, RpcError};
    /// # #[derive(actix::Message, serde::Serialize)] #[rtype(result = "usize")] struct CountWords(String);
    /// async fn count(remote: &RemoteRecipient<CountWords>, text: String) -> Result<usize, RpcError> {
    ///     remote.send(CountWords(text)).await
    /// }
    /// ```
    pub async fn send(&self, message: M) -> Result<M::Result, RpcError> {
        self.remote.call(encode(&message)?).await
    }

    /// Returns how many messages of its recipients have failed: calls without a result, and publishes that the broker did
    /// not confirm.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::rpc::RemoteRecipient;
    /// # #[derive(actix::Message, serde::Serialize)] #[rtype(result = "usize")] struct CountWords(String);
    /// # fn run(remote: RemoteRecipient<CountWords>) {
    /// println!("{} messages have failed", remote.failures());
    /// # }
    /// ```
    pub fn failures(&self) -> u64 {
        self.remote.failures.load(Ordering::Relaxed)
    }
}

fn encode(message: &impl Serialize) -> Result<Bytes, RpcError> {
    wire::encode(message).map_err(|cause| RpcError::Codec { may_have_run: false, cause })
}

impl Remote {
    async fn call<T: DeserializeOwned>(&self, body: Bytes) -> Result<T, RpcError> {
        self.client.call_queue(&self.queue, body).await?.into_result()
    }

    fn failed(&self, error: &RpcError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let so_far = self.log.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now());
        if let Some(so_far) = so_far {
            log::warn!("remote recipient {:?}: {}{so_far}", self.queue, with_causes(error));
        }
    }

    fn not_published(&self, error: crate::Error) {
        let is_closed = self.client.is_closed();
        self.failed(&RpcError::of_publish(error, is_closed));
    }
}

fn with_causes(error: &RpcError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// The local actor, which passes messages on.
struct Messenger<M> {
    remote: Arc<Remote>,
    messages: PhantomData<fn(M)>,
}

impl<M: 'static> Actor for Messenger<M> {
    type Context = Context<Self>;
}

/// An encoded message. Whether it becomes a call depends on whether its sender awaits a result.
struct Outgoing {
    remote: Arc<Remote>,
    body: Result<Bytes, RpcError>,
}

impl<M> Handler<M> for Messenger<M>
where
    M: Message + Serialize + Send + 'static,
    M::Result: DeserializeOwned + Send,
{
    type Result = Outgoing;

    fn handle(&mut self, message: M, _: &mut Self::Context) -> Outgoing {
        let body = caught(|| encode(&message)).unwrap_or_else(|| {
            let cause = crate::Error::codec("the encoder has panicked");
            Err(RpcError::Codec { may_have_run: false, cause })
        });
        caught(|| drop(message));
        Outgoing { remote: self.remote.clone(), body }
    }
}

impl<M> MessageResponse<Messenger<M>, M> for Outgoing
where
    M: Message + Serialize + Send + 'static,
    M::Result: DeserializeOwned + Send,
{
    fn handle(self, ctx: &mut Context<Messenger<M>>, sender: Option<OneshotSender<M::Result>>) {
        let Self { remote, body } = self;
        match (body, sender) {
            (Err(error), _) => remote.failed(&error),
            // A task, since the context polls all of its futures whenever one is woken.
            (Ok(body), Some(sender)) => drop(actix_rt::spawn(call(remote, body, sender))),
            (Ok(body), None) => publish(remote, body, ctx),
        }
    }
}

/// Makes a call, unless the sender gives up earlier. Dropping `sender` tells it that there is no result.
async fn call<T: DeserializeOwned>(remote: Arc<Remote>, body: Bytes, mut sender: OneshotSender<T>) {
    let outcome = match select(pin!(remote.call(body)), pin!(sender.closed())).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => return,
    };
    match outcome {
        Ok(result) => drop(sender.send(result)),
        Err(error) => remote.failed(&error),
    }
}

/// Publishes a message. While the publish window is full, the actor takes no other.
fn publish<M: 'static>(remote: Arc<Remote>, body: Bytes, ctx: &mut Context<Messenger<M>>) {
    let exchange = remote.client.channel().default_exchange();
    let message = Publishing::new(body).content_type(JSON).mandatory(true);
    match exchange.try_publish(message.clone(), &remote.queue) {
        Ok(Some(confirm)) => drop(actix_rt::spawn(confirmed(remote, confirm))),
        Err(error) => remote.not_published(error),
        Ok(None) => ctx.wait(fut::wrap_future(async move {
            match exchange.publish_deferred(message, &remote.queue).await {
                Ok(confirm) => drop(actix_rt::spawn(confirmed(remote.clone(), confirm))),
                Err(error) => remote.not_published(error),
            }
        })),
    }
}

async fn confirmed(remote: Arc<Remote>, confirm: Confirm) {
    if let Err(error) = confirm.await {
        remote.not_published(error);
    }
}

impl<M> Clone for RemoteRecipient<M> {
    fn clone(&self) -> Self {
        Self { remote: self.remote.clone(), messages: PhantomData }
    }
}

impl<M> fmt::Debug for RemoteRecipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRecipient")
            .field("queue", &self.remote.queue)
            .field("failures", &self.remote.failures)
            .finish_non_exhaustive()
    }
}
