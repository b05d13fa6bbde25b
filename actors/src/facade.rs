//! What the handles of the crate `actix-pika` need of the engine, and applications do not. Not covered by
//! semantic versioning.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
};

use actix::{Addr, Recipient};
use actix_rt::ArbiterHandle;
use bytes::BytesMut;
use tokio::sync::watch;

#[cfg(feature = "actix-web")]
pub use crate::error::respond;
use crate::{
    consumer::Consumer,
    error::{Error, ErrorKind},
    message::{
        BindExchange, BindQueue, CancelConsumer, ConnectionState, Consume, Content, DeclareExchange,
        DeclareQueue, DeleteQueue, Delivery, DeliveryTarget, Get, OpenChannel, Publishing, QueueType,
    },
    options::ConnectionOptions,
    outbox::Outbox,
    supervisor::ConnectionSupervisor,
    wire::{self, Properties, Table, Value},
};
pub use crate::{
    consumer::{StreamSink, WorkerBackoff},
    log_schedule::{LogSchedule, SoFar},
    message::{
        EventReceiver, EventSender, FollowChannel, FollowConnection, ReleaseChannel, ReleaseConnection,
        event_queue,
    },
    outbox::{
        ConnectionTally, Destination, PublishAllFuture, PublishDeferredFuture, PublishFuture, Sample,
        Standing, WaitForConfirmsFuture,
    },
    watchers::{Event, Watchers},
};

/// Starts a connection, and returns its counters too.
pub fn launch(
    options: ConnectionOptions,
    arbiter: Option<&ArbiterHandle>,
) -> (Addr<ConnectionSupervisor>, watch::Receiver<ConnectionState>, Arc<ConnectionTally>) {
    let name = options.client_properties.get("connection_name").and_then(Value::as_str);
    let tally = Arc::new(ConnectionTally::named(name));
    let (supervisor, state) = ConnectionSupervisor::launch_with(options, arbiter, tally.clone(), |_| ());
    (supervisor, state, tally)
}

/// Returns an error of kind `Stopped`.
pub fn stopped(what: impl Into<String>) -> Error {
    Error::stopped(what.into())
}

/// Returns an error of kind `Database`.
pub fn database(what: impl Into<String>, retryable: bool) -> Error {
    Error::database(what.into(), retryable)
}

/// Returns an error of kind `Timeout`.
pub fn timed_out(what: impl Into<String>) -> Error {
    Error::timeout(what.into())
}

/// Returns an error of kind `ConnectionClosed`, which is retryable.
pub fn connection_closed(what: &'static str) -> Error {
    Error::connection_closed(what, None)
}

/// Returns why a channel is not open at present, if its connection is lost or it waits to be opened again.
pub fn unavailable(outbox: &Outbox) -> Option<Error> {
    outbox.unavailable()
}

/// Returns whether an actor has ended before it could do what was asked: with its arbiter, or by a panic.
pub fn is_stopped(error: &Error) -> bool {
    let source = || std::error::Error::source(error).and_then(|source| source.downcast_ref());
    error.kind() == ErrorKind::Stopped || source().is_some_and(is_stopped)
}

/// Returns an error of the kind `Refused` that explains another one, which has the reply code.
pub fn refused_because(what: impl Into<Cow<'static, str>>, error: Error) -> Error {
    Error::refused_here(what).because(error)
}

/// Returns an error of the kind `Limit`.
pub fn limit(what: impl Into<String>) -> Error {
    Error::limit(what.into())
}

/// Returns an error of kind `Refused` without a reply code, for a call that is refused before anything is
/// sent.
pub fn refused(what: impl Into<Cow<'static, str>>) -> Error {
    Error::refused_here(what)
}

/// Returns the same for a queue.
pub fn queue_refused(what: impl Into<Cow<'static, str>>, queue: &str) -> Error {
    Error::refused_here(what).on(queue)
}

/// Gives up a consumer that is missing because its stream was too slow; cancels none with this tag.
pub fn give_up(tag: &str) -> CancelConsumer {
    let mut cancel = CancelConsumer::new(tag);
    cancel.only_lost = true;
    cancel
}

/// Returns the type that a queue is declared with, if it is among the arguments.
pub fn queue_type(declare: &DeclareQueue) -> Option<QueueType> {
    declare.declared_type()
}

/// Returns the arguments of a declare.
pub fn queue_arguments(declare: &DeclareQueue) -> &Table {
    &declare.arguments
}

/// Returns whether a declare only checks that a queue exists.
pub fn is_passive(declare: &DeclareQueue) -> bool {
    declare.passive
}

/// Returns whether a queue ends with its connection or its last consumer.
pub fn is_temporary(declare: &DeclareQueue) -> bool {
    declare.exclusive || declare.auto_delete
}

/// Returns whether a queue is deleted with its last consumer.
pub fn is_auto_delete(declare: &DeclareQueue) -> bool {
    declare.auto_delete
}

/// Returns whether a queue is redeclared after a reconnect.
pub fn is_queue_robust(declare: &DeclareQueue) -> bool {
    declare.robust
}

/// Returns whether an exchange is redeclared after a reconnect.
pub fn is_exchange_robust(declare: &DeclareExchange) -> bool {
    declare.robust
}

/// Returns the queue of a binding.
pub fn bound_queue(bind: &BindQueue) -> &str {
    &bind.queue
}

/// Returns the exchange that a binding of exchanges delivers to.
pub fn bound_exchange(bind: &BindExchange) -> &str {
    &bind.destination
}

/// Returns the queue to delete.
pub fn deleted_queue(delete: &DeleteQueue) -> &str {
    &delete.queue
}

/// Returns whether a queue is deleted only if it is unused or empty.
pub fn is_conditional(delete: &DeleteQueue) -> bool {
    delete.if_unused || delete.if_empty
}

/// Returns the queue to take a message from.
pub fn queue_of_get(get: &Get) -> &str {
    &get.queue
}

/// Returns whether every publish of a channel gets a message id.
pub fn has_message_ids(options: &OpenChannel) -> bool {
    options.message_ids
}

/// Sets what is known of the queue to consume from: its type, and whether it is deleted with its last consumer.
pub fn consume_from(mut consume: Consume, queue_type: Option<QueueType>, auto_delete: bool) -> Consume {
    consume.auto_delete = auto_delete;
    consume.of_type(queue_type)
}

/// Appends to the consumer tag, if one is set.
pub fn append_to_tag(consume: Consume, suffix: &str) -> Consume {
    match consume.tag.as_ref().map(|tag| format!("{tag}{suffix}")) {
        Some(tag) => consume.tag(tag),
        None => consume,
    }
}

/// Delivers to an actor, by a Consumer actor on `arbiter`, or else on the arbiter of the channel.
pub fn deliver_to(consume: Consume, target: Recipient<Delivery>, arbiter: Option<&ArbiterHandle>) -> Consume {
    match arbiter {
        Some(arbiter) => consume.sink(Consumer::start(target, Some(arbiter))),
        None => consume.deliver_to(target),
    }
}

/// Delivers to actors that `factory` makes, on `arbiter`, or else on the arbiter of the channel.
pub fn deliver_by(
    consume: Consume,
    factory: impl FnMut() -> Recipient<Delivery> + Send + 'static,
    arbiter: Option<&ArbiterHandle>,
) -> Consume {
    match arbiter {
        Some(arbiter) => consume.sink(Consumer::start_supervised(Box::new(factory), Some(arbiter))),
        None => consume.target(DeliveryTarget::Supervised(Arc::new(Mutex::new(Some(Box::new(factory)))))),
    }
}

/// Delivers to a stream.
pub fn deliver_into(consume: Consume, stream: Arc<StreamSink>) -> Consume {
    consume.sink(stream)
}

/// Returns what was delivered, apart from the delivery, which can still be settled. The body is shared.
pub fn content_of(delivery: &Delivery) -> Content {
    delivery.content()
}

/// Returns the properties of a message that is about to be published, to change them.
pub fn properties_of_mut(message: &mut Publishing) -> &mut Properties {
    &mut message.properties
}

/// Returns a delivery that was not begun to its queue; if its consumer is being cancelled, after that.
pub fn hand_back(delivery: Delivery) {
    delivery.hand_back();
}

/// Drops a delivery without settling it, because the broker delivers it again.
pub fn discard(delivery: Delivery) {
    delivery.discard();
}

/// Returns the sequence number of the next publish, for tests of the engine.
pub fn published(outbox: &Outbox) -> u64 {
    outbox.published()
}

/// Encodes properties as a content header has them.
///
/// # Errors
/// `Codec` for what cannot be encoded.
pub fn encode_properties(properties: &Properties) -> Result<Vec<u8>, Error> {
    wire::check_properties(properties)?;
    let mut bytes = BytesMut::with_capacity(wire::properties_len(properties));
    wire::put_properties(&mut bytes, properties);
    Ok(bytes.into())
}

/// Decodes what [`encode_properties`] returns, or any other content header.
///
/// # Errors
/// `Codec` for bytes that end too early, or headers that cannot be decoded.
pub fn decode_properties(bytes: &[u8]) -> Result<Properties, Error> {
    let properties = wire::decode_properties(bytes).map_err(|fault| Error::codec(fault.to_string()))?;
    match properties.headers_error() {
        Some(error) => Err(error.clone().into()),
        None => Ok(properties),
    }
}
