//! What a server does with a request: decode, run, reply. The runner of tasks settles it afterwards.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
};

use actix::Message;
use actix_pika_actors::facade::LogSchedule;
use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{
    RemoteError,
    handler::{Handler, Ran},
    outcomes::{Arrival, Begin, Outcomes, RequestId},
    wire::{DIRECT, ERROR, IDEMPOTENT, JSON, RESULT, encode},
};
use crate::{
    Channel, Error, Publishing, Result,
    caught::caught,
    hook::{HookedPublish, PublishKind},
    message::{Content, DeliveryMode, Properties, Value},
    tasks::{Done, Failure, Task, TaskConsumer},
};

/// From this size on, the confirm of a reply is awaited: the broker may refuse it, and would deliver its request for ever.
const LARGE: usize = 64 << 10;

/// A reply that is ready to be published. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    kind: &'static str,
    body: Bytes,
}

/// Where a reply goes. Only this module reads it, and it is not kept beyond the request: after a reconnect of the client,
/// an address that was kept leads nowhere.
struct ReplyTo<'a> {
    address: &'a str,
    correlation_id: Option<&'a [u8]>,
    persistent: bool,
}

/// A server's part on its channel.
pub(super) struct Service<M: Message> {
    pub(super) name: Box<str>,
    pub(super) channel: Channel,
    pub(super) handler: Handler<M>,
    pub(super) decode: fn(&Content) -> Result<M>,
    pub(super) encode: fn(M::Result) -> Encoded,
    pub(super) state: RefCell<State>,
    /// Set when the consumer has started.
    pub(super) consumer: OnceCell<TaskConsumer>,
}

pub(super) struct State {
    outcomes: Outcomes<Encoded, oneshot::Sender<Encoded>>,
    log: LogSchedule,
}

impl Default for State {
    fn default() -> Self {
        Self { outcomes: Outcomes::new(), log: LogSchedule::default() }
    }
}

impl Encoded {
    pub(super) fn result(value: &impl serde::Serialize) -> Self {
        match encode(value) {
            Ok(body) => Self { kind: RESULT, body },
            Err(error) => Self::error(&RemoteError::new("unserialisable", error.to_string())),
        }
    }

    pub(super) fn error(error: &RemoteError) -> Self {
        // The details are JSON already.
        Self { kind: ERROR, body: encode(error).unwrap_or_default() }
    }
}

impl<'a> ReplyTo<'a> {
    fn of(properties: &'a Properties) -> Option<Self> {
        let address = properties.reply_to().filter(|address| !address.is_empty())?;
        let is_direct = address.starts_with(DIRECT);
        let persistent = !is_direct && properties.delivery_mode() == Some(DeliveryMode::Persistent);
        Some(Self { address, correlation_id: properties.correlation_id_bytes(), persistent })
    }

    fn publishing(&self, reply: &Encoded) -> Publishing {
        let publishing = Publishing::new(reply.body.clone())
            .content_type(JSON)
            .message_type(reply.kind)
            .persistent(self.persistent)
            // A direct reply would be delivered and returned as well.
            .mandatory(false);
        match self.correlation_id {
            Some(id) => publishing.correlation_id_bytes(id),
            None => publishing,
        }
    }
}

impl<M: Message + 'static> Service<M> {
    /// Serves a request.
    pub(super) async fn serve(self: Rc<Self>, task: Task<Bytes>) -> Done {
        let content = task.content();
        let properties = content.properties().ok();
        let to = properties.and_then(ReplyTo::of);
        let Some(id) = properties.and_then(Properties::correlation_id_bytes) else {
            // It cannot be recognised, and nobody could match a second reply.
            return self.run(content, to.as_ref()).await.map(drop);
        };
        let id = RequestId::new(id, content.body());
        let arrival = Arrival { redelivered: content.redelivered(), idempotent: is_idempotent(properties) };
        loop {
            let (copy, reply) = oneshot::channel();
            let address = to.as_ref().map(|to| to.address);
            let begin = self.state.borrow_mut().outcomes.begin(&id, address, arrival, copy);
            match begin {
                Begin::Run(run) => {
                    let run = Run { service: &self, id: &id, run };
                    let reply = self.run(content, to.as_ref()).await?;
                    run.end(reply);
                    return Ok(());
                }
                Begin::Known(reply) => {
                    self.reply(to.as_ref(), &reply).await;
                    return Ok(());
                }
                Begin::Wait => {
                    if let Ok(reply) = reply.await {
                        self.reply(to.as_ref(), &reply).await;
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Runs a request, and hands its reply over.
    async fn run(&self, content: &Content, to: Option<&ReplyTo<'_>>) -> Result<Encoded, Failure> {
        let decoded = caught(|| (self.decode)(content));
        let reply = match decoded.unwrap_or_else(|| Err(Error::codec("the decoder has panicked"))) {
            Ok(request) => match (self.handler)(request).await {
                Ran::Done(result) => caught(|| (self.encode)(result)).unwrap_or_else(|| {
                    Encoded::error(&RemoteError::new("unserialisable", "the encoder has panicked"))
                }),
                Ran::Panicked => Encoded::error(&RemoteError::new("panic", "the handler has panicked")),
                Ran::Gone => Encoded::error(&RemoteError::new("gone", "the actor has stopped")),
                Ran::NotBegun => {
                    self.stop();
                    return Err(Failure::requeue("the actor has stopped"));
                }
            },
            // Nobody is told, so that it is kept as a dead letter.
            Err(error) if to.is_none() => return Err(Failure::reject(error)),
            Err(error) => {
                self.warn(|| format!("a request cannot be decoded: {error}"));
                Encoded::error(&RemoteError::new("undecodable", error.to_string()))
            }
        };
        Ok(self.first_reply(to, reply).await)
    }

    /// Replies, and returns what was replied: that the reply is too large, if the broker refuses it.
    async fn first_reply(&self, to: Option<&ReplyTo<'_>>, reply: Encoded) -> Encoded {
        let Some(address) = to.filter(|_| reply.body.len() >= LARGE) else {
            self.reply(to, &reply).await;
            return reply;
        };
        let exchange = self.channel.default_exchange();
        let publish =
            exchange.publish_hooked(PublishKind::Reply, address.publishing(&reply), address.address);
        let Err(error) = publish.await else { return reply };
        self.warn(|| format!("a reply was not sent: {error}"));
        // The refusal closes the channel: others that were on their way fail with the same code.
        let size = reply.body.len();
        let is_refused = error
            .close_reason()
            .is_some_and(|reason| reason.code == 406 && reason.text.contains(&size.to_string()));
        if !is_refused {
            return reply;
        }
        let text = format!("the broker has refused the reply, which has {size} bytes");
        let reply = Encoded::error(&RemoteError::new("unsendable", text));
        self.reply(to, &reply).await;
        reply
    }

    /// Hands a reply over to the channel. The acknowledgement of the request follows it there, so that the broker has the
    /// reply when it has the acknowledgement: no confirm is awaited.
    async fn reply(&self, to: Option<&ReplyTo<'_>>, reply: &Encoded) {
        match to {
            Some(to) => {
                let exchange = self.channel.default_exchange();
                let (message, hooked) = self.message(to, reply);
                match exchange.publish_deferred(message, to.address).await {
                    Ok(confirm) => drop(confirm),
                    Err(error) => {
                        if let Some(hooked) = hooked {
                            hooked.fail(&error);
                        }
                        self.warn(|| format!("a reply was not sent: {error}"));
                    }
                }
            }
            None if reply.kind == ERROR => {
                self.warn(|| "a request without a reply address has failed".to_owned())
            }
            None => log::debug!("rpc server {}: a request has no reply address", self.name),
        }
    }

    /// Returns the message of a reply, as the hooks have left it, and what they are told of its end.
    fn message(&self, to: &ReplyTo<'_>, reply: &Encoded) -> (Publishing, Option<HookedPublish>) {
        let mut message = to.publishing(reply);
        let hooks = self.channel.connection().hooks();
        let hooked = hooks.publishing(PublishKind::Reply, "", to.address, &mut message);
        (message, hooked)
    }

    /// Takes no more requests.
    fn stop(&self) {
        if let Some(consumer) = self.consumer.get().cloned() {
            self.warn(|| "the actor has stopped, and the server with it".to_owned());
            actix_rt::spawn(async move { consumer.stop().await });
        }
    }

    fn warn(&self, what: impl FnOnce() -> String) {
        if let Some(so_far) = self.state.borrow_mut().log.count(Instant::now()) {
            log::warn!("rpc server {}: {}{so_far}", self.name, what());
        }
    }
}

/// A run, which is over when this is dropped, also if its end was not reported.
struct Run<'a, M: Message> {
    service: &'a Service<M>,
    id: &'a RequestId,
    run: u64,
}

impl<M: Message> Run<'_, M> {
    fn end(self, reply: Encoded) {
        let bytes = reply.body.len();
        let copies = self.service.state.borrow_mut().outcomes.end(self.id, self.run, reply.clone(), bytes);
        for copy in copies {
            copy.send(reply.clone()).ok();
        }
    }
}

impl<M: Message> Drop for Run<'_, M> {
    fn drop(&mut self) {
        self.service.state.borrow_mut().outcomes.abandon(self.id, self.run);
    }
}

fn is_idempotent(properties: Option<&Properties>) -> bool {
    let header = properties.and_then(Properties::headers).and_then(|headers| headers.get(IDEMPOTENT));
    matches!(header, Some(Value::Boolean(true)))
}
