//! What people ask of a channel: each call is one method, its answer comes later, in order.

use actix::{Context, Handler, ResponseFuture};
use std::{future::poll_fn, sync::Arc};

use super::{Channel, Phase, Reply, Responder, replies::On};
use crate::{
    error::{Error, Result},
    message::{
        BindExchange, BindQueue, Confirmation, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue,
        Publish, PurgeQueue, Qos, Settle, UnbindExchange, UnbindQueue,
    },
    outbox::Place,
    wire::{AMQPClass, basic, check_short, exchange, ids, queue, short},
};

impl Channel {
    /// Sends a method whose answer is for `on`.
    pub(super) fn ask(&mut self, method: AMQPClass, what: &'static str, entity: Option<String>, on: On) {
        if let Phase::Closed(error) = &self.phase {
            on.fail(error.clone());
            return;
        }
        let entity = entity.filter(|name| !name.is_empty());
        let sent = self.frame(&method).map_err(Error::from).and_then(|frame| self.outbox.method(frame));
        match sent {
            Ok(()) => self.replies.expect(what, entity, ids(&method), on),
            Err(error) => {
                if let On::Consumed { tag, .. } = &on {
                    self.unregister(tag, &error);
                }
                on.fail(match entity {
                    Some(entity) => error.on(entity),
                    None => error,
                });
            }
        }
    }

    /// Tells whether people may ask anything now.
    pub(super) fn usable(&self) -> Result<()> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Closed(error) | Phase::Closing { error, .. } => Err(error.clone()),
            Phase::Opening => Err(Error::channel_closed("the channel is not open yet", None)),
            Phase::Draining { .. } => Err(Error::channel_closed("the channel is being closed", None)),
        }
    }

    fn call<T>(
        &mut self,
        ctx: &mut Context<Self>,
        what: &'static str,
        entity: &str,
        method: Result<AMQPClass>,
        on: impl FnOnce(Responder<T>) -> On,
    ) -> Reply<T> {
        match self.usable().and(method) {
            Ok(method) => {
                let (reply, responder) = Reply::later();
                self.ask(method, what, Some(entity.to_owned()), on(responder));
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
        let count = qos.prefetch_count;
        let reply = self.call(ctx, "basic.qos", "", Ok(bound(count, qos.global)), On::Done);
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
        self.ask(bound(prefetch, false), "basic.qos", None, On::Internal);
        self.prefetch_said = Some(prefetch);
        self.share_again();
    }

    /// RabbitMQ forgets the shared bound when it is told one for each consumer.
    fn share_again(&mut self) {
        if let Some(shared) = self.prefetch_shared {
            self.ask(bound(shared, true), "basic.qos", None, On::Internal);
        }
    }
}

impl Handler<DeclareExchange> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, declare: DeclareExchange, ctx: &mut Context<Self>) -> Reply<()> {
        let method = || {
            Ok(AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
                exchange: short("exchange name", &declare.name)?,
                kind: short("exchange type", declare.kind.as_str())?,
                passive: declare.passive,
                durable: declare.durable,
                auto_delete: declare.auto_delete,
                internal: declare.internal,
                nowait: false,
                arguments: declare.arguments.to_field_table()?,
            })))
        };
        self.call(ctx, "exchange.declare", &declare.name, method(), On::Done)
    }
}

impl Handler<DeleteExchange> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, delete: DeleteExchange, ctx: &mut Context<Self>) -> Reply<()> {
        let method = || {
            Ok(AMQPClass::Exchange(exchange::AMQPMethod::Delete(exchange::Delete {
                exchange: short("exchange name", &delete.name)?,
                if_unused: delete.if_unused,
                nowait: false,
            })))
        };
        self.call(ctx, "exchange.delete", &delete.name, method(), On::Done)
    }
}

impl Handler<BindExchange> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, bind: BindExchange, ctx: &mut Context<Self>) -> Reply<()> {
        let method = || {
            Ok(AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
                destination: short("exchange name", &bind.destination)?,
                source: short("exchange name", &bind.source)?,
                routing_key: short("routing key", &bind.routing_key)?,
                nowait: false,
                arguments: bind.arguments.to_field_table()?,
            })))
        };
        self.call(ctx, "exchange.bind", &bind.destination, method(), On::Done)
    }
}

impl Handler<UnbindExchange> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, unbind: UnbindExchange, ctx: &mut Context<Self>) -> Reply<()> {
        let method = || {
            Ok(AMQPClass::Exchange(exchange::AMQPMethod::Unbind(exchange::Unbind {
                destination: short("exchange name", &unbind.destination)?,
                source: short("exchange name", &unbind.source)?,
                routing_key: short("routing key", &unbind.routing_key)?,
                nowait: false,
                arguments: unbind.arguments.to_field_table()?,
            })))
        };
        self.call(ctx, "exchange.unbind", &unbind.destination, method(), On::Done)
    }
}

impl Handler<DeclareQueue> for Channel {
    type Result = Reply<crate::message::QueueDeclared>;

    fn handle(&mut self, declare: DeclareQueue, ctx: &mut Context<Self>) -> Self::Result {
        let method = || {
            Ok(AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
                queue: short("queue name", &declare.name)?,
                passive: declare.passive,
                durable: declare.durable,
                exclusive: declare.exclusive,
                auto_delete: declare.auto_delete,
                nowait: false,
                arguments: declare.arguments.to_field_table()?,
            })))
        };
        self.call(ctx, "queue.declare", &declare.name, method(), On::Declared)
    }
}

impl Handler<BindQueue> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, bind: BindQueue, ctx: &mut Context<Self>) -> Reply<()> {
        let method = || {
            Ok(AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
                queue: short("queue name", &bind.queue)?,
                exchange: short("exchange name", &bind.exchange)?,
                routing_key: short("routing key", &bind.routing_key)?,
                nowait: false,
                arguments: bind.arguments.to_field_table()?,
            })))
        };
        self.call(ctx, "queue.bind", &bind.queue, method(), On::Done)
    }
}

impl Handler<UnbindQueue> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, unbind: UnbindQueue, ctx: &mut Context<Self>) -> Reply<()> {
        let method = || {
            Ok(AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
                queue: short("queue name", &unbind.queue)?,
                exchange: short("exchange name", &unbind.exchange)?,
                routing_key: short("routing key", &unbind.routing_key)?,
                arguments: unbind.arguments.to_field_table()?,
            })))
        };
        self.call(ctx, "queue.unbind", &unbind.queue, method(), On::Done)
    }
}

impl Handler<PurgeQueue> for Channel {
    type Result = Reply<u32>;

    fn handle(&mut self, purge: PurgeQueue, ctx: &mut Context<Self>) -> Reply<u32> {
        let method = || {
            Ok(AMQPClass::Queue(queue::AMQPMethod::Purge(queue::Purge {
                queue: short("queue name", &purge.queue)?,
                nowait: false,
            })))
        };
        self.call(ctx, "queue.purge", &purge.queue, method(), On::Count)
    }
}

impl Handler<DeleteQueue> for Channel {
    type Result = Reply<u32>;

    fn handle(&mut self, delete: DeleteQueue, ctx: &mut Context<Self>) -> Reply<u32> {
        let method = || {
            Ok(AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
                queue: short("queue name", &delete.queue)?,
                if_unused: delete.if_unused,
                if_empty: delete.if_empty,
                nowait: false,
            })))
        };
        self.call(ctx, "queue.delete", &delete.queue, method(), On::Count)
    }
}

impl Handler<Publish> for Channel {
    type Result = ResponseFuture<Result<Confirmation>>;

    fn handle(&mut self, mut publish: Publish, _: &mut Context<Self>) -> Self::Result {
        if self.ids {
            publish.content = publish.content.with_id();
        }
        let outbox = Arc::clone(&self.outbox);
        Box::pin(async move {
            check_short("exchange name", &publish.exchange)?;
            check_short("routing key", &publish.routing_key)?;
            publish.content.check()?;
            let mut place = Place::default();
            let sequence = poll_fn(|cx| {
                let outgoing = publish.content.outgoing(&publish.exchange, &publish.routing_key);
                outbox.poll_publish(&mut place, cx, outgoing)
            })
            .await?;
            if sequence > 0 {
                poll_fn(|cx| outbox.poll_confirm(sequence, cx)).await?;
            }
            Ok(Confirmation::new(sequence))
        })
    }
}

impl Handler<Settle> for Channel {
    type Result = Result<()>;

    fn handle(&mut self, settle: Settle, _: &mut Context<Self>) -> Result<()> {
        settle.run()
    }
}
