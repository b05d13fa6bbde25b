//! The methods of a client: how they are recorded, and the reply. All of them succeed.

use super::{
    channel::{RecordedChannel, RecordedConsumer},
    world::World,
};
use crate::{
    testing::Settlement,
    wire::{AMQPClass, basic, channel, confirm, exchange, queue, short_truncated, tx},
};

/// Takes a method; returns the reply.
pub(super) fn handle(at: &mut RecordedChannel, world: &mut World, method: AMQPClass) -> Option<AMQPClass> {
    match method {
        AMQPClass::Channel(method) => channel_method(at, world, method),
        AMQPClass::Confirm(confirm::AMQPMethod::Select(select)) => {
            at.confirms = true;
            let reply = AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {}));
            (!select.nowait).then_some(reply)
        }
        AMQPClass::Exchange(method) => exchange_method(world, method).map(AMQPClass::Exchange),
        AMQPClass::Queue(method) => queue_method(world, method).map(AMQPClass::Queue),
        AMQPClass::Basic(method) => basic_method(at, world, method).map(AMQPClass::Basic),
        AMQPClass::Tx(method) => tx_method(world, method).map(AMQPClass::Tx),
        _ => None,
    }
}

fn channel_method(
    at: &mut RecordedChannel,
    world: &mut World,
    method: channel::AMQPMethod,
) -> Option<AMQPClass> {
    use channel::AMQPMethod as Method;
    match method {
        Method::Open(_) => {
            at.open(world.next_opening());
            Some(AMQPClass::Channel(Method::OpenOk(channel::OpenOk {})))
        }
        Method::Close(_) => {
            at.reset();
            Some(AMQPClass::Channel(Method::CloseOk(channel::CloseOk {})))
        }
        _ => {
            at.reset();
            None
        }
    }
}

fn exchange_method(world: &mut World, method: exchange::AMQPMethod) -> Option<exchange::AMQPMethod> {
    use exchange::AMQPMethod as Method;
    let (call, reply, nowait) = match method {
        Method::Declare(call) => (
            format!("exchange.declare {} {}", call.exchange, call.kind),
            Method::DeclareOk(exchange::DeclareOk {}),
            call.nowait,
        ),
        Method::Delete(call) => {
            let reply = Method::DeleteOk(exchange::DeleteOk {});
            (format!("exchange.delete {}", call.exchange), reply, call.nowait)
        }
        Method::Bind(call) => (
            format!("exchange.bind {} {} {}", call.destination, call.source, call.routing_key),
            Method::BindOk(exchange::BindOk {}),
            call.nowait,
        ),
        Method::Unbind(call) => (
            format!("exchange.unbind {} {} {}", call.destination, call.source, call.routing_key),
            Method::UnbindOk(exchange::UnbindOk {}),
            call.nowait,
        ),
        _ => return None,
    };
    world.calls.push(call);
    (!nowait).then_some(reply)
}

fn queue_method(world: &mut World, method: queue::AMQPMethod) -> Option<queue::AMQPMethod> {
    use queue::AMQPMethod as Method;
    let (call, reply, nowait) = match method {
        Method::Declare(call) => {
            let name = world.name(call.queue.as_str(), "amq.gen-");
            let declared = queue::DeclareOk {
                queue: short_truncated(&name),
                message_count: world.waiting(&name),
                consumer_count: 0,
            };
            (format!("queue.declare {name}"), Method::DeclareOk(declared), call.nowait)
        }
        Method::Bind(call) => (
            format!("queue.bind {} {} {}", call.queue, call.exchange, call.routing_key),
            Method::BindOk(queue::BindOk {}),
            call.nowait,
        ),
        Method::Unbind(call) => (
            format!("queue.unbind {} {} {}", call.queue, call.exchange, call.routing_key),
            Method::UnbindOk(queue::UnbindOk {}),
            false,
        ),
        Method::Purge(call) => {
            let message_count = world.waiting(call.queue.as_str());
            world.queues.remove(call.queue.as_str());
            let reply = Method::PurgeOk(queue::PurgeOk { message_count });
            (format!("queue.purge {}", call.queue), reply, call.nowait)
        }
        Method::Delete(call) => {
            let message_count = world.waiting(call.queue.as_str());
            world.queues.remove(call.queue.as_str());
            let reply = Method::DeleteOk(queue::DeleteOk { message_count });
            (format!("queue.delete {}", call.queue), reply, call.nowait)
        }
        _ => return None,
    };
    world.calls.push(call);
    (!nowait).then_some(reply)
}

fn basic_method(
    at: &mut RecordedChannel,
    world: &mut World,
    method: basic::AMQPMethod,
) -> Option<basic::AMQPMethod> {
    use basic::AMQPMethod as Method;
    match method {
        Method::Ack(ack) => {
            at.settle(ack.delivery_tag, ack.multiple, Settlement::Acked);
            None
        }
        Method::Nack(nack) => {
            at.settle(nack.delivery_tag, nack.multiple, Settlement::Nacked { requeue: nack.requeue });
            None
        }
        Method::Reject(reject) => {
            at.settle(reject.delivery_tag, false, Settlement::Rejected { requeue: reject.requeue });
            None
        }
        Method::Qos(qos) => {
            world.calls.push(format!("basic.qos {}", qos.prefetch_count));
            at.prefetch = qos.prefetch_count;
            Some(Method::QosOk(basic::QosOk {}))
        }
        Method::Consume(consume) => {
            let tag = world.name(consume.consumer_tag.as_str(), "amq.ctag-");
            let consumer_tag = short_truncated(&tag);
            world.calls.push(format!("basic.consume {}", consume.queue));
            at.consumers.push(RecordedConsumer {
                tag,
                queue: consume.queue.to_string(),
                no_ack: consume.no_ack,
                prefetch: at.prefetch,
                unsettled: 0,
            });
            (!consume.nowait).then_some(Method::ConsumeOk(basic::ConsumeOk { consumer_tag }))
        }
        Method::Cancel(cancel) => {
            let found = at.consumers.iter().position(|consumer| consumer.tag == cancel.consumer_tag.as_str());
            if let Some(consumer) = found.map(|index| at.consumers.remove(index)) {
                world.calls.push(format!("basic.cancel {}", consumer.queue));
            }
            let consumer_tag = cancel.consumer_tag;
            (!cancel.nowait).then_some(Method::CancelOk(basic::CancelOk { consumer_tag }))
        }
        Method::Get(get) => {
            world.calls.push(format!("basic.get {}", get.queue));
            match world.queues.get_mut(get.queue.as_str()).and_then(|waiting| waiting.pop_front()) {
                Some(queued) => {
                    at.get_ok(queued, get.no_ack, world.waiting(get.queue.as_str()));
                    None
                }
                None => Some(Method::GetEmpty(basic::GetEmpty {})),
            }
        }
        Method::Recover(_) => {
            world.calls.push("basic.recover".to_owned());
            at.give_up_unsettled();
            Some(Method::RecoverOk(basic::RecoverOk {}))
        }
        _ => None,
    }
}

fn tx_method(world: &mut World, method: tx::AMQPMethod) -> Option<tx::AMQPMethod> {
    use tx::AMQPMethod as Method;
    let (call, reply) = match method {
        Method::Select(_) => ("tx.select", Method::SelectOk(tx::SelectOk {})),
        Method::Commit(_) => ("tx.commit", Method::CommitOk(tx::CommitOk {})),
        Method::Rollback(_) => ("tx.rollback", Method::RollbackOk(tx::RollbackOk {})),
        _ => return None,
    };
    world.calls.push(call.to_owned());
    Some(reply)
}
