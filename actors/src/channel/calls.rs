//! What people ask of a channel: each call is one method, its answer comes later, in order.

use actix::{Context, Handler, ResponseFuture};
use std::sync::Arc;

use super::{Channel, ChannelState, Reply, Responder, replies::PendingReply};
use crate::{
    error::{Error, Result},
    message::{
        BindExchange, BindQueue, Confirmation, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue,
        Publish, PurgeQueue, Qos, QueueDeclared, Settle, UnbindExchange, UnbindQueue,
        internal::{Change, Entity, Removal, SupervisorMessage},
    },
    outbox::{Destination, Outbox, PublishFuture},
    wire::{AMQPClass, basic, exchange, ids, queue, short},
};

impl Channel {
    /// Sends a method whose answer is for `on`; tells whether it could be sent.
    pub(super) fn ask(
        &mut self,
        method: AMQPClass,
        what: &'static str,
        entity: Option<String>,
        on: PendingReply,
    ) -> bool {
        if let ChannelState::Closed(error) = &self.phase {
            on.fail(error.clone());
            return false;
        }
        let entity = entity.filter(|name| !name.is_empty());
        let sent = self.frame(&method).map_err(Error::from).and_then(|frame| self.outbox.method(frame));
        match sent {
            Ok(()) => {
                self.replies.expect(what, entity, ids(&method), on);
                true
            }
            Err(error) => {
                if let PendingReply::Consumed { tag, .. } = &on {
                    self.unregister(tag, &error);
                }
                on.fail(match entity {
                    Some(entity) => error.on(entity),
                    None => error,
                });
                false
            }
        }
    }

    /// Tells whether people may ask anything now.
    pub(super) fn usable(&self) -> Result<()> {
        match &self.phase {
            ChannelState::Open => Ok(()),
            ChannelState::Closed(error) | ChannelState::Closing { error, .. } => Err(error.clone()),
            ChannelState::Opening => Err(Error::channel_closed("the channel is not open yet", None)),
            ChannelState::Draining { .. } => Err(Error::channel_closed("the channel is being closed", None)),
            // Calls wait.
            ChannelState::Lost | ChannelState::Restoring => Err(self.cause()),
        }
    }

    fn call<T>(
        &mut self,
        ctx: &mut Context<Self>,
        what: &'static str,
        entity: &str,
        method: Result<AMQPClass>,
        change: Option<Change>,
        on: impl FnOnce(Responder<T>) -> PendingReply,
    ) -> Reply<T> {
        match self.usable().and(method) {
            Ok(method) => {
                let (reply, responder) = Reply::later();
                if self.ask(method, what, Some(entity.to_owned()), on(responder)) && self.robust {
                    self.replies.which_will(change);
                } else if let Some(Change::Forget(Removal::Queue(queue))) = change.filter(|_| self.robust) {
                    self.supervisor.do_send(SupervisorMessage::QueueDeleting { queue, is: false });
                }
                self.keep_ticking(ctx);
                reply
            }
            Err(error) => Reply::now(Err(error)),
        }
    }
}

impl Handler<Qos> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, qos: Qos, ctx: &mut Context<Self>) -> Reply<()> {
        if self.waits() {
            return self.later(qos, ctx);
        }
        let count = qos.prefetch_count;
        let reply = self.call(ctx, "basic.qos", "", Ok(bound(count, qos.global)), None, PendingReply::Done);
        if qos.global {
            self.prefetch_shared = (count > 0).then_some(count);
        } else {
            self.prefetch = count;
            self.prefetch_said = Some(count);
            self.share_again();
        }
        reply
    }
}

fn bound(prefetch_count: u16, global: bool) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos { prefetch_count, global }))
}

impl Channel {
    /// Bounds the consumer that starts next.
    pub(super) fn bound_next(&mut self, prefetch: u16) {
        // To say it again would lift the shared bound for a moment.
        if self.prefetch_shared.is_some() && self.prefetch_said == Some(prefetch) {
            return;
        }
        self.ask(bound(prefetch, false), "basic.qos", None, PendingReply::Internal);
        self.prefetch_said = Some(prefetch);
        self.share_again();
    }

    /// RabbitMQ forgets the shared bound when it is told one for each consumer.
    pub(super) fn share_again(&mut self) {
        if let Some(shared) = self.prefetch_shared {
            self.ask(bound(shared, true), "basic.qos", None, PendingReply::Internal);
        }
    }
}

impl Handler<DeclareExchange> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, declare: DeclareExchange, ctx: &mut Context<Self>) -> Reply<()> {
        if self.waits() {
            return self.later(declare, ctx);
        }
        let change = declare.robust.then(|| Change::Record(Entity::Exchange(declare.clone())));
        self.call(ctx, "exchange.declare", &declare.name, declare.method(), change, PendingReply::Done)
    }
}

impl Handler<DeleteExchange> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, delete: DeleteExchange, ctx: &mut Context<Self>) -> Reply<()> {
        if self.waits() {
            return self.later(delete, ctx);
        }
        let method = || {
            Ok(AMQPClass::Exchange(exchange::AMQPMethod::Delete(exchange::Delete {
                exchange: short("exchange name", &delete.name)?,
                if_unused: delete.if_unused,
                nowait: false,
            })))
        };
        let change = Some(Change::Forget(Removal::Exchange(delete.name.clone())));
        self.call(ctx, "exchange.delete", &delete.name, method(), change, PendingReply::Done)
    }
}

impl Handler<BindExchange> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, bind: BindExchange, ctx: &mut Context<Self>) -> Reply<()> {
        if self.waits() {
            return self.later(bind, ctx);
        }
        let change = bind.robust.then(|| Change::Record(Entity::ExchangeBinding(bind.clone())));
        self.call(ctx, "exchange.bind", &bind.destination, bind.method(), change, PendingReply::Done)
    }
}

impl Handler<UnbindExchange> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, unbind: UnbindExchange, ctx: &mut Context<Self>) -> Reply<()> {
        if self.waits() {
            return self.later(unbind, ctx);
        }
        let change = unbind.robust.then(|| Change::Forget(Removal::ExchangeBinding(unbind.clone())));
        self.call(ctx, "exchange.unbind", &unbind.destination, unbind.method(), change, PendingReply::Done)
    }
}

impl Handler<DeclareQueue> for Channel {
    type Result = Reply<QueueDeclared>;

    fn handle(&mut self, mut declare: DeclareQueue, ctx: &mut Context<Self>) -> Self::Result {
        if self.waits() {
            return self.later(declare, ctx);
        }
        self.rename(&mut declare.name);
        let record = (self.robust && declare.robust).then(|| Box::new(declare.clone()));
        let on = |responder| PendingReply::Declared { record, responder };
        self.call(ctx, "queue.declare", &declare.name, declare.method(), None, on)
    }
}

impl Handler<BindQueue> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, mut bind: BindQueue, ctx: &mut Context<Self>) -> Reply<()> {
        if self.waits() {
            return self.later(bind, ctx);
        }
        self.rename(&mut bind.queue);
        let change = bind.robust.then(|| Change::Record(Entity::QueueBinding(bind.clone())));
        self.call(ctx, "queue.bind", &bind.queue, bind.method(), change, PendingReply::Done)
    }
}

impl Handler<UnbindQueue> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, mut unbind: UnbindQueue, ctx: &mut Context<Self>) -> Reply<()> {
        if self.waits() {
            return self.later(unbind, ctx);
        }
        self.rename(&mut unbind.queue);
        let change = unbind.robust.then(|| Change::Forget(Removal::QueueBinding(unbind.clone())));
        self.call(ctx, "queue.unbind", &unbind.queue, unbind.method(), change, PendingReply::Done)
    }
}

impl Handler<PurgeQueue> for Channel {
    type Result = Reply<u32>;

    fn handle(&mut self, mut purge: PurgeQueue, ctx: &mut Context<Self>) -> Reply<u32> {
        if self.waits() {
            return self.later(purge, ctx);
        }
        self.rename(&mut purge.queue);
        let method = || {
            Ok(AMQPClass::Queue(queue::AMQPMethod::Purge(queue::Purge {
                queue: short("queue name", &purge.queue)?,
                nowait: false,
            })))
        };
        self.call(ctx, "queue.purge", &purge.queue, method(), None, PendingReply::Count)
    }
}

impl Handler<DeleteQueue> for Channel {
    type Result = Reply<u32>;

    fn handle(&mut self, mut delete: DeleteQueue, ctx: &mut Context<Self>) -> Reply<u32> {
        if self.waits() {
            return self.later(delete, ctx);
        }
        self.rename(&mut delete.queue);
        let method = || {
            Ok(AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
                queue: short("queue name", &delete.queue)?,
                if_unused: delete.if_unused,
                if_empty: delete.if_empty,
                nowait: false,
            })))
        };
        if self.robust && self.usable().is_ok() {
            // Before the broker tells its consumers, which must not bring it back.
            self.supervisor
                .do_send(SupervisorMessage::QueueDeleting { queue: delete.queue.clone(), is: true });
        }
        let change = Some(Change::Forget(Removal::Queue(delete.queue.clone())));
        self.call(ctx, "queue.delete", &delete.queue, method(), change, PendingReply::Count)
    }
}

impl Handler<Publish> for Channel {
    type Result = ResponseFuture<Result<Confirmation>>;

    fn handle(&mut self, mut publish: Publish, _: &mut Context<Self>) -> Self::Result {
        if self.ids {
            publish.content = publish.content.generate_message_id();
        }
        let Publish { exchange, routing_key, content } = publish;
        let route = Route { outbox: self.outbox.clone(), exchange, routing_key };
        Box::pin(PublishFuture::new(route, content))
    }
}

/// Where a [`Publish`] message goes.
struct Route {
    outbox: Arc<Outbox>,
    exchange: String,
    routing_key: String,
}

impl Destination for Route {
    fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    fn exchange(&self) -> &str {
        &self.exchange
    }

    fn routing_key(&self) -> &str {
        &self.routing_key
    }
}

impl Handler<Settle> for Channel {
    type Result = Result<()>;

    fn handle(&mut self, settle: Settle, _: &mut Context<Self>) -> Result<()> {
        settle.run()
    }
}
