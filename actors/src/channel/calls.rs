//! The calls of the application, and those that are one AMQP method with one reply.
//!
//! A call waits while the channel recovers. Calls that do more than send a method are in the files of what
//! they do: `consume.rs`, `transaction.rs`. The methods are built in `message/methods.rs`.

use actix::Message;
use tokio::time::Instant;

use super::{ChannelMachine, PendingReply, Reply, Responder, machine::Request};
use crate::{
    broker_rules::Permission,
    error::Result,
    internal::{Change, Entity, Removal, SupervisorMessage},
    message::{
        BindExchange, BindQueue, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue, Delivery,
        EntityKind, Get, PurgeQueue, Qos, QueueDeclared, UnbindExchange, UnbindQueue, methods::Method,
    },
};

/// A call that waits while the channel recovers, or until a commit has its reply.
pub(super) trait Call: Message<Result = Result<Self::Answer>> + 'static {
    type Answer: 'static;

    /// Whether a call that waited is made although its caller gave up.
    const OUTLIVES_CALLER: bool = false;

    /// Makes the call. Its deadline runs since `now`.
    fn make(self, channel: &mut ChannelMachine, now: Instant) -> Reply<Self::Answer>;
}

/// What a call concerns; errors name it.
pub(super) enum Concerns<'a> {
    Exchange(&'a str),
    /// Replaced by its present name where the broker has renamed it.
    Queue(&'a mut String),
}

/// A call that is one method.
pub(super) trait MethodCall: Method + Message<Result = Result<Self::Answer>> + 'static {
    type Answer: 'static;

    fn concerns(&mut self) -> Concerns<'_>;

    /// Returns what expects the reply.
    fn reply(&self, responder: Responder<Self::Answer>) -> PendingReply;

    /// Returns what the reply does to the recorded topology.
    fn change(&self) -> Option<Change> {
        None
    }

    /// Warns of what the broker may refuse because of its configuration.
    fn warn(&self, _: &ChannelMachine) {}

    /// Returns what the supervisor gets before the method is sent.
    fn notice(&self) -> Option<SupervisorMessage> {
        None
    }
}

impl<C: MethodCall> Call for C {
    type Answer = C::Answer;

    fn make(mut self, channel: &mut ChannelMachine, now: Instant) -> Reply<Self::Answer> {
        let entity = match self.concerns() {
            Concerns::Exchange(name) => name.to_owned(),
            Concerns::Queue(name) => {
                channel.rename(name);
                name.clone()
            }
        };
        let method = match channel.state.usable().and_then(|()| self.method()) {
            Ok(method) => method,
            Err(error) => return Reply::now(Err(error)),
        };
        self.warn(channel);
        if let Some(notice) = self.notice().filter(|_| channel.recovers) {
            channel.report(notice);
        }
        let (reply, responder) = Reply::later();
        let request = Request::new(method, self.reply(responder)).on(entity).changing(self.change());
        if !channel.ask(request, now) {
            channel.report_changes();
        }
        reply
    }
}

impl MethodCall for DeclareExchange {
    type Answer = ();

    fn concerns(&mut self) -> Concerns<'_> {
        Concerns::Exchange(&self.name)
    }

    fn reply(&self, responder: Responder<()>) -> PendingReply {
        PendingReply::Done(responder)
    }

    fn change(&self) -> Option<Change> {
        self.robust.then(|| Change::Record(Entity::Exchange(self.clone())))
    }
}

impl MethodCall for DeleteExchange {
    type Answer = ();

    fn concerns(&mut self) -> Concerns<'_> {
        Concerns::Exchange(&self.name)
    }

    fn reply(&self, responder: Responder<()>) -> PendingReply {
        PendingReply::Done(responder)
    }

    fn change(&self) -> Option<Change> {
        Some(Change::Forget(Removal::Exchange(self.name.clone())))
    }

    fn notice(&self) -> Option<SupervisorMessage> {
        // Before another channel has a 404 for it, after which it would be declared again.
        let (kind, name) = (EntityKind::Exchange, self.name.clone());
        Some(SupervisorMessage::Deleting { kind, name, is_deleting: true })
    }
}

impl MethodCall for BindExchange {
    type Answer = ();

    fn concerns(&mut self) -> Concerns<'_> {
        Concerns::Exchange(&self.destination)
    }

    fn reply(&self, responder: Responder<()>) -> PendingReply {
        PendingReply::Done(responder)
    }

    fn change(&self) -> Option<Change> {
        self.robust.then(|| Change::Record(Entity::ExchangeBinding(self.clone())))
    }
}

impl MethodCall for UnbindExchange {
    type Answer = ();

    fn concerns(&mut self) -> Concerns<'_> {
        Concerns::Exchange(&self.destination)
    }

    fn reply(&self, responder: Responder<()>) -> PendingReply {
        PendingReply::Done(responder)
    }

    fn change(&self) -> Option<Change> {
        self.robust.then(|| Change::Forget(Removal::ExchangeBinding(self.clone())))
    }
}

impl MethodCall for DeclareQueue {
    type Answer = QueueDeclared;

    fn concerns(&mut self) -> Concerns<'_> {
        Concerns::Queue(&mut self.name)
    }

    fn reply(&self, responder: Responder<QueueDeclared>) -> PendingReply {
        // Recorded with the name that the reply has.
        PendingReply::Declared { record: self.robust.then(|| Box::new(self.clone())), responder }
    }

    fn warn(&self, channel: &ChannelMachine) {
        if !self.passive && !self.durable && !self.exclusive {
            channel.warn_of_transient_queue(&self.name);
        }
    }
}

impl MethodCall for BindQueue {
    type Answer = ();

    fn concerns(&mut self) -> Concerns<'_> {
        Concerns::Queue(&mut self.queue)
    }

    fn reply(&self, responder: Responder<()>) -> PendingReply {
        PendingReply::Done(responder)
    }

    fn change(&self) -> Option<Change> {
        self.robust.then(|| Change::Record(Entity::QueueBinding(self.clone())))
    }
}

impl MethodCall for UnbindQueue {
    type Answer = ();

    fn concerns(&mut self) -> Concerns<'_> {
        Concerns::Queue(&mut self.queue)
    }

    fn reply(&self, responder: Responder<()>) -> PendingReply {
        PendingReply::Done(responder)
    }

    fn change(&self) -> Option<Change> {
        self.robust.then(|| Change::Forget(Removal::QueueBinding(self.clone())))
    }
}

impl MethodCall for PurgeQueue {
    type Answer = u32;

    fn concerns(&mut self) -> Concerns<'_> {
        Concerns::Queue(&mut self.queue)
    }

    fn reply(&self, responder: Responder<u32>) -> PendingReply {
        PendingReply::Count(responder)
    }
}

impl MethodCall for DeleteQueue {
    type Answer = u32;

    fn concerns(&mut self) -> Concerns<'_> {
        Concerns::Queue(&mut self.queue)
    }

    fn reply(&self, responder: Responder<u32>) -> PendingReply {
        PendingReply::Count(responder)
    }

    fn change(&self) -> Option<Change> {
        Some(Change::Forget(Removal::Queue(self.queue.clone())))
    }

    fn notice(&self) -> Option<SupervisorMessage> {
        // Before the broker cancels its consumers, whose repair would declare it again.
        let (kind, name) = (EntityKind::Queue, self.queue.clone());
        Some(SupervisorMessage::Deleting { kind, name, is_deleting: true })
    }
}

impl MethodCall for Get {
    type Answer = Option<Delivery>;

    fn concerns(&mut self) -> Concerns<'_> {
        Concerns::Queue(&mut self.queue)
    }

    fn reply(&self, responder: Responder<Option<Delivery>>) -> PendingReply {
        PendingReply::Got { no_ack: self.no_ack, queue: self.queue.clone(), responder }
    }
}

impl Call for Qos {
    type Answer = ();

    fn make(self, channel: &mut ChannelMachine, now: Instant) -> Reply<()> {
        let is_kept = match channel.state.usable().and_then(|()| channel.prefetch.is_kept(self)) {
            Ok(is_kept) => is_kept,
            Err(error) => return Reply::now(Err(error)),
        };
        let reply = match self.method().map(|method| is_kept.then_some(method)) {
            Ok(Some(method)) => {
                let (reply, responder) = Reply::later();
                channel.ask(Request::new(method, PendingReply::Done(responder)), now);
                reply
            }
            Ok(None) => Reply::now(Ok(())),
            Err(error) => Reply::now(Err(error)),
        };
        if let Some(shared) = channel.prefetch.set(self) {
            channel.send_qos(shared, now);
        }
        if self.global {
            channel.report_prefetch();
            // The bound that they share may be what the broker refuses.
            channel.report_waiting_again();
        }
        reply
    }
}

impl ChannelMachine {
    /// Warns once for each connection if the operator of the broker may have denied such queues.
    fn warn_of_transient_queue(&self, name: &str) {
        let Some(broker) = self.connection.as_ref().map(|connection| &connection.broker) else { return };
        let may_be_denied = broker.rules.is_some_and(|rules| rules.transient_queues != Permission::Always);
        if may_be_denied && broker.note_transient_queue() {
            log::warn!(
                "channel {}: queue {name:?} is neither durable nor exclusive: RabbitMQ has deprecated such queues, \
                 and closes the connection (541) if its operator does not permit them",
                self.number()
            );
        }
    }

    /// Sends `basic.qos` of the channel's own accord.
    pub(super) fn send_qos(&mut self, qos: Qos, now: Instant) {
        if let Ok(method) = qos.method() {
            self.ask(Request::new(method, PendingReply::Internal), now);
        }
    }
}
